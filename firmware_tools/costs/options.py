"""Devices as columns of numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from firmware_tools.costs.constants import Constants
from firmware_tools.costs.errors import CostError
from model.mars.devices.device import COSTS, Device

Numbers = NDArray[np.float64]
DIGITAL = "sram"
"""The preset whose figures are those of our own macro."""


@dataclass(frozen=True)
class Options:
    """What layers can be made of; arrays broadcast with those of layers.

    Attributes
    ----------
    kind : int64
        Number of the device's kind: what shares a chiplet.
    is_digital : bool
    rows, columns, cell_bits, dac_bits, adc_bits : float64
    g_min, g_max : float64
        uS.
    cell_area : float64
        um2 in our process.
    read_volts, read_time : float64
        V and ns.
    write_energy, write_time, pulses : float64
        pJ and ns of a pulse, and how many a cell takes.
    adc_energy, adc_area, adc_time : float64
        pJ and ns of a conversion, um2, in our process.
    """

    kind: NDArray[np.int64]
    is_digital: NDArray[np.bool_]
    rows: Numbers
    columns: Numbers
    cell_bits: Numbers
    dac_bits: Numbers
    adc_bits: Numbers
    g_min: Numbers
    g_max: Numbers
    cell_area: Numbers
    read_volts: Numbers
    read_time: Numbers
    write_energy: Numbers
    write_time: Numbers
    pulses: Numbers
    adc_energy: Numbers
    adc_area: Numbers
    adc_time: Numbers

    def take(self, chosen: NDArray[np.integer]) -> "Options":
        """Those of these numbers, in the shape of `chosen`."""
        return Options(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))


def options_of(devices: Sequence[Device], known: Constants) -> Options:
    """Columns (options,).

    Raises
    ------
    CostError
        There are no figures of a device, or of a converter with so many bits.
    """
    kinds = list(dict.fromkeys(one.name for one in devices))
    rows = [_figures(one, kinds.index(one.name), known) for one in devices]
    kind, digital, *others = zip(*rows, strict=True)
    return Options(
        np.array(kind, np.int64),
        np.array(digital, np.bool_),
        *(np.array(one, np.float64) for one in others),
    )


def _figures(device: Device, kind: int, known: Constants) -> tuple[float, ...]:
    is_digital = device.name == DIGITAL
    own = [device.rows, device.columns, device.cell_bits, device.dac_bits]
    if is_digital:
        return (kind, True, *own, device.adc_bits, 1.0, 1.0, *[0.0] * 9)
    cell = device.costs or known.cell(device.name)
    if not cell:
        raise CostError(
            f"device {device.name}: device must be one of {', '.join([DIGITAL, *known.devices])}, "
            "or a file with a table [costs], to have a price"
        )
    levels = known.values("adc.bits")
    if device.adc_bits not in levels:
        raise CostError(
            f"device {device.name}: adc_bits must be {levels[0]:g}..{levels[-1]:g} to have a "
            f"price, not {device.adc_bits}"
        )
    at = levels.index(device.adc_bits)
    um = (known["process.node"] / 1000) ** 2
    return (
        kind,
        False,
        *own,
        device.adc_bits,
        device.g_min,
        device.g_max,
        cell["area"] * um,
        *(cell[key] for key in COSTS[1:-1]),
        cell.get("pulses", known["cells.verify"]),
        known.values("adc.energy")[at] * known["adc.energy_factor"] * known.energy_scale("adc"),
        known.values("adc.area")[at] * known["adc.area_factor"] * known.area_scale("adc"),
        known.delay_scale("adc") / known["adc.rate"],
    )
