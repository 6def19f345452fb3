"""Sizes and pins of the library's cells."""

import re
from dataclasses import dataclass
from functools import cache

from hw.asic import osu018

UNIT = 100
"""All lengths of a layout are integers: so many make a um."""
MACRO = re.compile(r"^MACRO (\S+)\n(.*?)^END \1", re.MULTILINE | re.DOTALL)
PIN = re.compile(r"^  PIN (\S+)\n(.*?)^  END \1", re.MULTILINE | re.DOTALL)
SIZE = re.compile(r"SIZE\s+([\d.]+) BY ([\d.]+)")
RECTANGLE = re.compile(r"RECT ([-\d.]+) ([-\d.]+) ([-\d.]+) ([-\d.]+)")
FILL = "FILL"
"""The cell that fills the ends of rows."""


@dataclass(frozen=True)
class Outline:
    """A cell: its size, and a point on each pin."""

    width: int
    height: int
    pins: dict[str, tuple[int, int]]


@cache
def outlines() -> dict[str, Outline]:
    """Those of the library."""
    return read(osu018.lef().read_text())


def read(text: str) -> dict[str, Outline]:
    """The cells of a LEF file; a point is the middle of the last rectangle of its pin."""
    found = {}
    for name, body in MACRO.findall(text):
        size = SIZE.search(body)
        if size is None:
            raise ValueError(f"cell {name} of a LEF file must have a size")
        pins = {pin: _middle(RECTANGLE.findall(own)[-1]) for pin, own in PIN.findall(body)}
        found[name] = Outline(_units(size[1]), _units(size[2]), pins)
    return found


def _middle(rectangle: tuple[str, str, str, str]) -> tuple[int, int]:
    left, low, right, high = map(_units, rectangle)
    return (left + right) // 2, (low + high) // 2


def _units(um: str) -> int:
    return round(float(um) * UNIT)


LAYER = re.compile(r"^LAYER (metal\d)\n(.*?)^END \1", re.MULTILINE | re.DOTALL)
WIDTH, AREA, EDGE = (
    re.compile(rf"{word}\s+([\d.e+-]+)")
    for word in ("WIDTH", r"CAPACITANCE\s+CPERSQDIST", "EDGECAPACITANCE")
)


@cache
def wire_capacitances() -> dict[str, float]:
    """pF of a um of wire on each layer: its area and both edges, as the library states them."""
    return read_layers(osu018.lef().read_text())


def read_layers(text: str) -> dict[str, float]:
    """The same of the text of a LEF file."""
    found = {}
    for name, body in LAYER.findall(text):
        width, area, edge = (float(word.findall(body)[0]) for word in (WIDTH, AREA, EDGE))
        found[name] = width * area + 2 * edge
    return found
