"""The energy of standard cells, as their library's tables give it."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from liberty.parser import parse_liberty

from hw.asic import osu018

SLEW = 0.2
"""ns from 20 % to 80 % at every input: the middle of what timing analysis shows (ours)."""


@dataclass(frozen=True)
class Table:
    """pJ of a transition against the load in pF."""

    loads: tuple[float, ...]
    energies: tuple[float, ...]

    def at(self, load: float) -> float:
        """pJ; what lies outside the table costs as at its end."""
        return float(np.interp(load, self.loads, self.energies))


@dataclass(frozen=True)
class Cell:
    """A cell of the library.

    Attributes
    ----------
    area : float
        um2.
    leakage : float
        nW.
    capacitance : dict
        pF of each input.
    inputs : dict
        pJ inside the cell for each transition of an input.
    outputs : dict
        The same for each transition of an output, without what its load takes.
    """

    area: float
    leakage: float
    capacitance: dict[str, float]
    inputs: dict[str, float]
    outputs: dict[str, Table]


@cache
def library() -> dict[str, Cell]:
    """All cells of the 180 nm library."""
    text = osu018.liberty().read_text()
    return {group.args[0]: _cell(group) for group in parse_liberty(text).get_groups("cell")}


def _cell(group: Any) -> Cell:
    capacitance, inputs, outputs = {}, {}, {}
    for pin in group.get_groups("pin"):
        name = pin.args[0]
        tables = [
            table
            for power in pin.get_groups("internal_power")
            for table in (*power.get_groups("rise_power"), *power.get_groups("fall_power"))
        ]
        if pin.get_attribute("direction") == "input":
            capacitance[name] = pin.get_attribute("capacitance")
            inputs[name] = float(np.mean([_at_slew(table)[0] for table in tables] or [0]))
        elif tables:
            loads = tuple(tables[0].get_array("index_1")[0].tolist())
            outputs[name] = Table(loads, tuple(np.mean([_at_slew(t) for t in tables], 0).tolist()))
    area, leakage = (group.get_attribute(key) for key in ("area", "cell_leakage_power"))
    return Cell(area, leakage, capacitance, inputs, outputs)


def _at_slew(table: Any) -> list[float]:
    """A table's values at our slew, for each of its loads; it has one load if it names none."""
    indices = [key for key in ("index_1", "index_2") if table.get_attribute(key) is not None]
    slews = table.get_array(indices[-1])[0]
    values = np.atleast_2d(table.get_array("values"))
    return [float(np.interp(SLEW, slews, row)) for row in values]
