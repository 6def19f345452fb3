"""What wires measure, from a routed design."""

import itertools
import re
from collections import defaultdict
from collections.abc import Iterator

from firmware_tools.silicon.layout.design import Bit
from firmware_tools.silicon.layout.lef import UNIT, wire_capacitances

NET = re.compile(r"^- n(\d+)$(.*?);$", re.MULTILINE | re.DOTALL)
WIRE = re.compile(r"(?:ROUTED|NEW) (metal\d)((?:\s+\( \S+ \S+ \))+)")
POINT = re.compile(r"\( (\S+) (\S+) \)")
Line = tuple[tuple[int, int], tuple[int, int]]


def lengths(text: str) -> dict[Bit, dict[str, float]]:
    """um of wire on each layer of every net of a routed DEF file."""
    found: dict[Bit, dict[str, float]] = {}
    for bit, body in NET.findall(_nets(text)):
        own: dict[str, float] = defaultdict(float)
        for layer, ((x, y), (to_x, to_y)) in _segments(body):
            own[layer] += (abs(to_x - x) + abs(to_y - y)) / UNIT
        found[int(bit)] = dict(own)
    return found


def segments(text: str) -> Iterator[tuple[str, Line]]:
    """Layer and ends of every piece of wire of a routed DEF file."""
    return _segments(_nets(text))


def capacitances(measured: dict[Bit, dict[str, float]]) -> dict[Bit, float]:
    """pF of every net's wire."""
    per_um = wire_capacitances()
    return {
        bit: sum(per_um[layer] * um for layer, um in own.items()) for bit, own in measured.items()
    }


def _nets(text: str) -> str:
    return text[text.index("\nNETS ") : text.index("\nEND NETS")]


def _segments(body: str) -> Iterator[tuple[str, Line]]:
    for layer, points in WIRE.findall(body):
        ends: list[tuple[int, int]] = []
        for x, y in POINT.findall(points):
            # A star stands for the coordinate before.
            ends.append((ends[-1][0] if x == "*" else int(x), ends[-1][1] if y == "*" else int(y)))
        yield from ((layer, line) for line in itertools.pairwise(ends))
