"""Where each cell stands: graywolf places block by block, each a strip of rows across the core.

All of them at once take graywolf hours: the time of its annealing grows faster than the square of
the cells. The strips are stacked with channels between them, and routed as one.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from firmware_tools.silicon.layout import tools
from firmware_tools.silicon.layout.design import Design, Instance
from firmware_tools.silicon.layout.lef import FILL, outlines
from hw.asic import osu018
from hw.cache import cached, key

NAME = "block"
TRACK_X, TRACK_Y = 80, 100
"""Distance of vertical and of horizontal wires."""
ROW = 1000
"""Height of a row of cells."""
ORIENTATIONS = ("N", "FS", "FN", "S")
"""By graywolf's number."""
CHANNEL = 5 * ROW
"""Between blocks: room for wires, which crowd there, and rails that would meet are apart."""
N_ROWS = re.compile(r"^# GENR\*numrows.*$", re.MULTILINE)
GLOBAL_ROUTING = re.compile(r"^(TWSC\*do\.global\.route *:) on$", re.MULTILINE)
"""Left to qrouter: graywolf's own moves no cell, and ends in a fault on some blocks."""


@dataclass(frozen=True)
class Place:
    """Lower left corner of a cell, and how it is turned."""

    kind: str
    x: int
    y: int
    orientation: str

    @property
    def right(self) -> int:
        """Where it ends."""
        return self.x + outlines()[self.kind].width


def place(blocks: dict[str, Design], busy: Callable[[str], None]) -> dict[str, Place]:
    """Every cell, and what fills the ends of rows, by name; rows begin at 0."""
    area = sum(instance.outline.width for b in blocks.values() for instance in b.instances) * ROW
    found: dict[str, Place] = {}
    base = 0
    for name, block in blocks.items():
        busy(f"placement, {name}")
        strip = _strip(block, math.sqrt(area))
        found |= {own: replace(place, y=place.y + base) for own, place in strip.items()}
        base = max(place.y for place in found.values()) + ROW + CHANNEL
    return found | dict(fill(found.values()))


def fill(places: Iterable[Place]) -> Iterator[tuple[str, Place]]:
    """Cells without contents from where a row ends to where the longest does."""
    ends: dict[int, Place] = {}
    for place in places:
        if place.y not in ends or place.right > ends[place.y].right:
            ends[place.y] = place
    width = outlines()[FILL].width
    longest = max(place.right for place in ends.values())
    for y, last in ends.items():
        for x in range(last.right, longest, width):
            yield f"fill_{x}_{y}", Place(FILL, x, y, last.orientation)


def _strip(block: Design, width: float) -> dict[str, Place]:
    """A block in rows of about this width."""
    cells = "\n".join(_cel(block))
    total = sum(instance.outline.width for instance in block.instances)
    rows = f"GENR*numrows : {max(1, round(total / width))}"
    given = osu018.placement_parameters().read_text()
    parameters = GLOBAL_ROUTING.sub(r"\1 off", N_ROWS.sub(rows, given))

    def work(folder: Path) -> None:
        (folder / f"{NAME}.cel").write_text(cells)
        (folder / f"{NAME}.par").write_text(parameters)
        tools.run(["graywolf", "-n", NAME], folder, "graywolf.log")

    folder = cached(tools.CACHE / f"placement-{key(cells, parameters)}", work)
    return read(block, (folder / f"{NAME}.pl1").read_text())


def read(block: Design, text: str) -> dict[str, Place]:
    """The cells of a block where graywolf put them, from (0, 0)."""
    kinds = {instance.name: instance.kind for instance in block.instances}
    found = {}
    for line in text.splitlines():
        name, x, y, _, _, orientation, _ = line.split()
        if name in kinds:
            found[name] = Place(kinds[name], int(x), int(y), ORIENTATIONS[int(orientation)])
    if len(found) != len(kinds):
        raise ValueError(f"a placement must have {len(kinds)} cells, not {len(found)}")
    left = min(place.x for place in found.values())
    low = min(place.y for place in found.values())
    return {n: replace(place, x=place.x - left, y=place.y - low) for n, place in found.items()}


def _cel(block: Design) -> Iterator[str]:
    """graywolf's form of a block: cells around their middle, and a pad for each net that leaves."""
    for number, instance in enumerate(block.instances):
        yield from _cell(number, instance)
    for number, bit in enumerate(sorted(block.border), 1):
        x, y = TRACK_X // 2, TRACK_Y // 2
        yield f"pad {number} name twpin_n{bit}"
        yield f"corners 4 {-x} {-y} {-x} {y} {x} {y} {x} {-y}"
        yield f"pin name n{bit} signal n{bit} layer 1 0 0\n"


def _cell(number: int, instance: Instance) -> Iterator[str]:
    outline = instance.outline
    left, low = -(outline.width // 2), -(outline.height // 2)
    right, high = left + outline.width, low + outline.height
    yield f"cell {number} {instance.name}"
    yield f"left {left} right {right} bottom {low} top {high}"
    # Wires may pass everywhere.
    for k, x in enumerate(range(left + TRACK_X // 2, right, TRACK_X), 1):
        yield f"pin name twfeed{k} signal TW_PASS_THRU layer 1 {x} {low}"
        yield f"   equiv name twfeed{k} layer 1 {x} {high}"
    for pin, bit in instance.pins.items():
        x, y = outline.pins[pin]
        yield f"pin name {pin} signal n{bit} layer 1 {x + left} {y + low}"
