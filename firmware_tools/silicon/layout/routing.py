"""Wires between placed cells: qrouter."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from firmware_tools.errors import UserError
from firmware_tools.silicon.layout import tools
from firmware_tools.silicon.layout.design import Bit, Design
from firmware_tools.silicon.layout.lef import UNIT
from firmware_tools.silicon.layout.placement import ROW, TRACK_X, TRACK_Y, Place
from hw.asic import osu018
from hw.cache import cached, key

NAME = "block"
MARGIN_X, MARGIN_Y = 16 * TRACK_X, 8 * TRACK_Y
"""From the cells to the edge of what is laid out."""
TRACKS = (("Y", TRACK_Y), ("X", TRACK_X)) * 2 + (("Y", TRACK_Y), ("X", 2 * TRACK_X))
"""Axis and distance of the wires of each metal layer."""
BORDER_LAYER = "metal2"
ROUTED = "routed.def"
RIP_UP = (
    ("20", 10, 200),
    ("50", 10, 200),
    ("100", 100, 200),
    ("none", 100, 200),
    ("none", 100, 500),
    ("none", 100, 1000),
)
"""Tracks around a net's likeliest way that are searched, how many nets may be in that way, and how
many nets without progress end it.

qrouter's own script has ten of each of the latter, too few for a chip.
"""
FAILED = re.compile(r"^Final: (?:No failed routes!|Failed net routes: (\d+))", re.MULTILINE)
"""What qrouter says last."""
REMAINING = re.compile(r"^(Nets remaining: \d+)$", re.MULTILINE)
"""What it says on the way."""


@dataclass(frozen=True)
class Core:
    """Where cells stand; their corner is half a track off the tracks, as the library wants it."""

    width: int
    height: int

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, low, right and high edge of what is laid out, on tracks."""
        right, high = -(-self.width // TRACK_X) * TRACK_X, -(-self.height // TRACK_Y) * TRACK_Y
        return -MARGIN_X, -MARGIN_Y, right + MARGIN_X, high + MARGIN_Y


def core(places: Iterable[Place]) -> Core:
    """What the cells cover."""
    every = list(places)
    return Core(max(place.right for place in every), max(place.y for place in every) + ROW)


def pins(design: Design, places: dict[str, Place], size: Core) -> dict[Bit, tuple[int, int]]:
    """Where nets leave: below or above, beside what they lead to as far as there is room.

    Memories and what is around the chip would stand there. From side to side there is less room:
    most wires between blocks go that way.
    """
    left, low, right, high = size.box
    middles = {}
    for bit in sorted(design.border):
        own = [places[instance.name] for instance, _ in design.nets[bit]]
        middles[bit] = tuple(
            sum(values) / len(own) for values in zip(*((p.x, p.y) for p in own), strict=True)
        )
    order = sorted(middles, key=lambda bit: middles[bit][1])
    half = len(order) // 2
    found: dict[Bit, tuple[int, int]] = {}
    for y, edge in ((low + TRACK_Y, order[:half]), (high - TRACK_Y, order[half:])):
        wanted = sorted(edge, key=lambda bit: middles[bit][0])
        tracks = spread([middles[bit][0] for bit in wanted], left + TRACK_X, right - TRACK_X)
        found |= {bit: (x, y) for bit, x in zip(wanted, tracks, strict=True)}
    return found


def spread(wanted: list[float], low: int, high: int) -> list[int]:
    """Tracks near the wanted places, which ascend, one for each.

    Raises
    ------
    UserError
        There are too few.
    """
    if len(wanted) > (high - low) // TRACK_X + 1:
        raise UserError(
            f"an edge must have at most {(high - low) // TRACK_X + 1} pins, not {len(wanted)}"
        )
    tracks: list[int] = []
    for place in wanted:
        track = round(place / TRACK_X) * TRACK_X
        tracks.append(max(track, low, tracks[-1] + TRACK_X if tracks else low))
    # What went over the edge comes back.
    for k in range(len(tracks) - 1, -1, -1):
        tracks[k] = min(tracks[k], high - (len(tracks) - 1 - k) * TRACK_X)
    return tracks


def definition(design: Design, places: dict[str, Place]) -> str:
    """The placed design in DEF, without wires."""
    size = core(places.values())
    return "\n".join(
        [*_head(size), *_components(places), *_pins(design, places, size), *_nets(design)]
    )


def _head(size: Core) -> Iterator[str]:
    left, low, right, high = size.box
    yield 'VERSION 5.6 ;\nNAMESCASESENSITIVE ON ;\nDIVIDERCHAR "/" ;\nBUSBITCHARS "<>" ;'
    yield f"DESIGN {NAME} ;\nUNITS DISTANCE MICRONS {UNIT} ;"
    yield f"DIEAREA ( {left} {low} ) ( {right} {high} ) ;"
    for layer, (axis, step) in enumerate(TRACKS, 1):
        first, last = (left, right) if axis == "X" else (low, high)
        count = (last - first) // step + 1
        yield f"TRACKS {axis} {first} DO {count} STEP {step} LAYER metal{layer} ;"


def _components(places: dict[str, Place]) -> Iterator[str]:
    yield f"COMPONENTS {len(places)} ;"
    for name, place in places.items():
        at = f"{place.x + TRACK_X // 2} {place.y + TRACK_Y // 2}"
        yield f"- {name} {place.kind} + PLACED ( {at} ) {place.orientation} ;"
    yield "END COMPONENTS"


def _pins(design: Design, places: dict[str, Place], size: Core) -> Iterator[str]:
    found = pins(design, places, size)
    yield f"PINS {len(found)} ;"
    for bit, (x, y) in found.items():
        yield f"- n{bit} + NET n{bit}"
        yield f"  + LAYER {BORDER_LAYER} ( 0 0 ) ( 1 1 )"
        yield f"  + PLACED ( {x} {y} ) N ;"
    yield "END PINS"


def _nets(design: Design) -> Iterator[str]:
    """qrouter wants every pin on a line of its own."""
    routed = {
        bit: pins for bit, pins in design.nets.items() if len(pins) + (bit in design.border) > 1
    }
    yield f"NETS {len(routed)} ;"
    for bit, pins_of in routed.items():
        yield f"- n{bit}"
        if bit in design.border:
            yield f"  ( PIN n{bit} )"
        yield from (f"  ( {instance.name} {pin} )" for instance, pin in pins_of)
        yield ";"
    yield "END NETS\nEND DESIGN\n"


def _obstructions(size: Core) -> Iterator[str]:
    """No wires on the lowest layer beside the cells, where rails are joined."""
    left, low, right, high = (value / UNIT for value in size.box)
    edge = (size.width + TRACK_X // 2) / UNIT
    yield f"obstruction {left} {low} 0 {high} metal1"
    yield f"obstruction {edge} {low} {right} {high} metal1"


def route(design: Design, places: dict[str, Place], busy: Callable[[str], None]) -> Path:
    """The folder with the routed design.

    Raises
    ------
    UserError
        qrouter failed, or left nets unrouted; the text says how many.
    """
    text = definition(design, places)
    obstructions = "\n".join(_obstructions(core(places.values())))
    tries = " ".join(f"{mask} {limit} {effort}" for mask, limit, effort in RIP_UP)
    # Its third stage, which routes each net once more, takes as long as both and is left out.
    script = f"""\
verbose 1
read_lef {osu018.lef()}
layers {len(TRACKS)}
via stack 1
vdd vdd
gnd gnd
{obstructions}
read_def placed.def
set failed [stage1]
foreach {{mask limit effort}} {{{tries}}} {{
  if {{$failed == 0}} break
  set failed [stage2 mask $mask limit $limit effort $effort]
}}
cleanup all
write_def {ROUTED}
quit
"""

    def hear(end: str) -> None:
        for remaining in REMAINING.findall(end)[-1:]:
            busy(f"routing, {remaining.lower()}")

    def work(folder: Path) -> None:
        (folder / "placed.def").write_text(text)
        (folder / "route.tcl").write_text(script)
        command = ["qrouter", "-nog", "-s", "route.tcl"]
        said = tools.run(command, folder, "qrouter.log", hear)
        last = FAILED.search(said)
        if last is None:
            raise UserError(f"qrouter failed; see {folder / 'qrouter.log'}")
        if last[1]:
            raise UserError(f"qrouter left {last[1]} nets unrouted; see {folder / 'qrouter.log'}")

    return cached(tools.CACHE / f"routing-{key(text, script)}", work)
