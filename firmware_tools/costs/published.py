"""A macro whose figures are published, priced by our formulas: how far off they are.

NeuRRAM, a core of 256x256 RRAM cells in 130 nm (Wan et al., Nature 2022), as CiMLoop has its
figures: github.com/mit-emze/cimloop, workspace/models/arch/1_macro/wan_nature_2022/_tests.py,
commit 2bac57f, `EXPECTED`. There 48 cores make the throughput, and energies count once for each of
the 2*256*128 operations of an access.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table

from firmware_tools.console import Terminal
from firmware_tools.costs.constants import constants
from firmware_tools.costs.layers import COLUMNS, Layers
from firmware_tools.costs.options import options_of
from firmware_tools.costs.pricing import price
from model.mars.devices.device import parse

NAME = "neurram"
DEVICE = "rram:rows=256,columns=256,adc_bits={}"
NODE = 130.0
ROWS, KERNELS, CORES = 256, 128, 48
OPERATIONS = 2 * ROWS * KERNELS
MEAN_WEIGHT = 0.25
"""Ours: nothing is said of the weights with which the figures were taken."""


@dataclass(frozen=True)
class Figures:
    """Of a core.

    Attributes
    ----------
    lines, converters, cells : float
        fJ an operation: of driving lines, of converting, of pulses through cells.
    tops_per_watt, tops : float
        Of a core; of all cores.
    """

    lines: float
    converters: float
    cells: float
    tops_per_watt: float
    tops: float


PUBLISHED = {
    (4, 2): Figures(8.270951256, 12.38674172, 3.955661604, 40.33412834, 1.793083771),
    (6, 4): Figures(21.75617998, 29.1084171, 11.50740478, 15.95409517, 0.7438677864),
    (8, 6): Figures(37.2192395, 52.48282041, 19.23892768, 8.257196816, 0.4177183338),
    (10, 8): Figures(50.52466791, 75.85721686, 27.50986693, 6.437388185, 0.2638743409),
}
"""By bits of results and of inputs, weights of 4 bits; two phases."""
CORE = 1270 * 256 / 0.28 * 1e-6
AREAS = {"cells": 0.12 * CORE, "converters": 0.28 * CORE, "drivers": 0.21 * CORE}
"""mm2; the rest of a core is something else."""


def ours(out_bits: int, in_bits: int) -> tuple[Figures, dict[str, float]]:
    """What the formulas say of the same core in its process, and mm2 of its parts."""
    known = constants().having("process.node", NODE)
    # The core ends at its converters.
    for name in ("digital.accumulate", "digital.result"):
        known = known.having(name, 0.0)
    figures = (1, ROWS, KERNELS, 1, in_bits, 4, 0, 0, MEAN_WEIGHT, ROWS * KERNELS)
    columns: dict[str, Any] = {
        name: np.array([float(one)]) for name, one in zip(COLUMNS, figures, strict=True)
    }
    layers = Layers(names=(NAME,), links=(), **columns)
    options = options_of([parse(DEVICE.format(out_bits))], known)
    costs = price(layers, options, known)
    femto = 1000 / OPERATIONS
    cells = float(costs.array_energy[0]) * femto
    converters = float(costs.conversions[0] * options.adc_energy[0]) * femto
    total = float(costs.energy[0]) * femto
    tops = CORES * OPERATIONS / float(costs.time[0]) / 1000
    own = Figures(total - cells - converters, converters, cells, 1000 / total, tops)
    area = {"cells": float(costs.array_area[0])}
    area["converters"] = float(costs.converters[0] * options.adc_area[0]) * 1e-6
    area["drivers"] = float(costs.area[0]) - sum(area.values())
    return own, area


def bench(terminal: Terminal) -> None:
    """`kenyon bench devices --network neurram`."""
    table = Table()
    for title in ("results, inputs", "", "lines", "converters", "cells", "TOPS/W", "TOPS"):
        table.add_column(title, justify="right")
    rows: list[dict[str, Any]] = []
    for bits, stated in PUBLISHED.items():
        own, area = ours(*bits)
        rows.append(
            {"out_bits": bits[0], "in_bits": bits[1]}
            | {"published": vars(stated), "ours": vars(own)}
            | {"published_mm2": AREAS, "ours_mm2": area}
        )
        for name, one in (("published", stated), ("ours", own)):
            first = "{}, {} bits".format(*bits) if one is stated else ""
            table.add_row(first, name, *(f"{value:.3g}" for value in vars(one).values()))
    terminal.result({"network": NAME, "source": __doc__, "figures": rows})
    terminal.print(table)
    terminal.print("lines, converters, cells: fJ an operation; TOPS of 48 cores")
    for key, stated_area in AREAS.items():
        own_areas = ", ".join(f"{row['ours_mm2'][key]:.3g}" for row in rows)
        terminal.print(f"mm2 of {key}: {stated_area:.3g} published, {own_areas} ours")
