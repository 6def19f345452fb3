"""Area, energy and time of layers on devices: one formula for any number of pairs at once.

An analogue array of R word lines and C bit lines holds C/(2s) kernels of s slices, a pair of cells
for each. A layer has ``groups * ceil(rows/R) * ceil(kernels/(C/2s))`` of them, all of which work
at the same time; pixels come one after the other, each in as many accesses as a converter of word
lines needs for an activation. Converters are shared by pairs of columns, which take turns.

Digital SRAM is MARS: macros that keep 64 group-sets and compute one in a clock, so that a layer of
G kept group-sets takes ``G*P*c/M`` clocks (docs/accelerator.md) on ``M = ceil(G/64)`` macros.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from firmware_tools.costs.constants import Constants
from firmware_tools.costs.layers import Layers
from firmware_tools.costs.options import Options
from firmware_tools.silicon.sram import Sram
from model.mars.config import ADDRESSES, COLUMNS, KERNELS, WORD_LINES

Numbers = NDArray[np.float64]
UM2 = 1e-6
"""mm2."""
MACRO = Sram(ADDRESSES, WORD_LINES * COLUMNS, two_port=True)
"""The memory of a macro: a group-set in each word."""


@dataclass(frozen=True)
class Costs:
    """Of layers, or of whole networks.

    Attributes
    ----------
    array_area, area : float64
        mm2 of cells alone, and with converters, drivers and adders.
    array_energy, energy : float64
        pJ of a frame, of reading the cells alone, and with all that follows.
    array_time, time : float64
        ns of a frame.
    program_energy, program_time : float64
        pJ and ns of writing all weights once.
    arrays, converters : float64
        How many there are.
    conversions : float64
        Of a frame.
    """

    array_area: Numbers
    area: Numbers
    array_energy: Numbers
    energy: Numbers
    array_time: Numbers
    time: Numbers
    program_energy: Numbers
    program_time: Numbers
    arrays: Numbers
    converters: Numbers
    conversions: Numbers

    def summed(self, axis: int = -1) -> "Costs":
        """Of all layers: arrays of different layers are there at once, and work in turns."""
        return Costs(*(np.asarray(getattr(self, one.name)).sum(axis) for one in fields(self)))


def price(layers: Layers, options: Options, known: Constants) -> Costs:
    """Costs in the shape to which layers and options broadcast."""
    digital, analogue = _digital(layers, known), _analogue(layers, options, known)
    return Costs(
        *(
            np.where(options.is_digital, getattr(digital, one.name), getattr(analogue, one.name))
            for one in fields(Costs)
        )
    )


def _digital(layers: Layers, known: Constants) -> Costs:
    accesses = layers.sets * layers.pixels * layers.planes
    macros = np.ceil(layers.sets / ADDRESSES)
    ns = 1000 / known["digital.clock"]
    time = np.divide(accesses, macros, out=np.zeros_like(accesses), where=macros > 0) * ns
    each = known["digital.access"] + KERNELS * known["digital.accumulate"]
    results = layers.pixels * layers.groups * layers.kernels * known["digital.result"]
    zero = np.zeros_like(accesses)
    return Costs(
        macros * known["digital.memory"],
        macros * (known["digital.memory"] + known["digital.logic"]),
        accesses * MACRO.read_energy,
        accesses * each + results,
        time,
        time,
        layers.sets * MACRO.write_energy(WORD_LINES * COLUMNS),
        np.minimum(layers.sets, ADDRESSES) * WORD_LINES * ns,
        macros,
        zero,
        zero,
    )


def _analogue(layers: Layers, options: Options, known: Constants) -> Costs:
    slices = np.ceil(layers.weight_bits / options.cell_bits)
    across = np.maximum(1, options.columns // (2 * slices))
    down = np.ceil(layers.rows / options.rows)
    arrays = layers.groups * down * np.ceil(layers.kernels / across)
    pairs = options.columns / 2
    converters = arrays * np.ceil(pairs / known["adc.shared"])
    accesses = layers.pixels * np.ceil(layers.in_bits / options.dac_bits)
    conversions = accesses * layers.groups * down * layers.kernels * slices
    turns = np.minimum(known["adc.shared"], slices * layers.kernels)

    cells = layers.groups * layers.rows * layers.kernels * slices * 2
    siemens = options.g_min + (options.g_max - options.g_min) * layers.mean_weight / 2
    # V * V * uS * ns is 1e-15 J.
    read = options.read_volts**2 * siemens * options.read_time * known["cells.activity"] * 1e-3
    array_energy = accesses * cells * read
    levels = np.exp2(np.minimum(options.dac_bits, layers.in_bits) - 1)
    drive = known["dac.energy"] * known.energy_scale("dac") * levels
    driven = accesses * layers.groups * layers.rows * np.ceil(layers.kernels / across)
    results = layers.pixels * layers.groups * layers.kernels * known["digital.result"]
    energy = (
        array_energy
        + driven * drive
        + conversions * (options.adc_energy + known["digital.accumulate"])
        + results
    )

    array_area = arrays * options.rows * options.columns * options.cell_area * UM2
    driver = known["dac.area"] * known.area_scale("dac") * np.exp2(options.dac_bits - 1)
    area = array_area + UM2 * (arrays * options.rows * driver + converters * options.adc_area)
    return Costs(
        array_area,
        area,
        array_energy,
        energy,
        accesses * options.read_time,
        accesses * (options.read_time + turns * options.adc_time),
        cells * options.write_energy * options.pulses,
        options.rows * options.write_time * options.pulses,
        arrays,
        converters,
        conversions,
    )
