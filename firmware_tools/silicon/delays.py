"""Delays of every cell of a netlist, by its load and the slew at its inputs, from OpenSTA."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from firmware_tools.silicon import timing
from hw.asic.synthesis import Netlist

INSTANCE = re.compile(r"\s*\(INSTANCE (\S+)\)")
VALUE = r"\([^:()]*::([\d.]+)\)"
PATH = re.compile(rf"\s*\(IOPATH (\w+) (\w+) {VALUE} {VALUE}\)")


@dataclass(frozen=True)
class Arc:
    """ns from a change of an input to a rise and to a fall of an output."""

    source: str
    output: str
    rise: float
    fall: float


def of_cells(netlist: Netlist) -> dict[str, list[Arc]]:
    """The arcs of every cell, by its path, with wires as `timing` estimates them."""
    timing.sta(netlist, "delays", timing.CLOCK_PERIOD + "clock 10\nwrite_sdf -digits 4 delays.sdf")
    with (netlist.folder / "delays.sdf").open() as file:
        return read_sdf(file)


def read_sdf(lines: Iterable[str]) -> dict[str, list[Arc]]:
    """Arcs of every instance of an SDF file as OpenSTA writes it, the larger of each pair."""
    arcs: dict[str, list[Arc]] = {}
    for line in lines:
        if instance := INSTANCE.match(line):
            own = arcs.setdefault(instance[1].replace("\\", ""), [])
        elif path := PATH.match(line):
            own.append(Arc(path[1], path[2], float(path[3]), float(path[4])))
    return arcs
