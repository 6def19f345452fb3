"""Whether the layout is the netlist: Magic extracts it, netgen compares.

Cells are black boxes, because the library comes without their insides: what is compared is every
cell's type, every wire between their pins, and supply and ground.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from firmware_tools.errors import UserError
from firmware_tools.silicon.layout import tools
from firmware_tools.silicon.layout.design import Design
from firmware_tools.silicon.layout.lef import UNIT, outlines
from firmware_tools.silicon.layout.placement import ROW, TRACK_X, TRACK_Y, Place
from firmware_tools.silicon.layout.routing import NAME, ROUTED, core
from hw.asic import osu018
from hw.cache import cached, key

SUPPLIES = ("gnd", "vdd")
MATCH = "Circuits match uniquely."
STRAP, GAP = 200, 100
"""Width of what joins the rails of all rows, and its distance from the cells."""
RAIL = 30
"""Half the width of a rail."""
CAPACITANCE = re.compile(r"^C\d+ \S+ \S+ ([\d.]+)fF$", re.MULTILINE)


def compare(design: Design, places: dict[str, Place], routed: Path) -> Path:
    """The folder of the comparison.

    Raises
    ------
    UserError
        Layout and netlist differ; the text says where the comparison is.
    """
    script = "\n".join(_magic(places, routed / ROUTED))
    netlist = "\n".join(_spice(design))

    def work(folder: Path) -> None:
        (folder / "extract.tcl").write_text(script)
        (folder / "netlist.spice").write_text(netlist)
        technology = str(osu018.magic_technology())
        magic = ["magic", "-dnull", "-noconsole", "-T", technology, "extract.tcl"]
        tools.run(magic, folder, "magic.log")
        sides = (f"layout.spice {NAME}", f"netlist.spice {NAME}")
        setup = str(osu018.comparison_setup())
        said = tools.run(
            ["netgen-lvs", "-batch", "lvs", *sides, setup, "lvs.txt"], folder, "lvs.log"
        )
        if MATCH not in said:
            raise UserError(f"layout and netlist must be the same, see {folder / 'lvs.txt'}")

    return cached(tools.CACHE / f"lvs-{key(script, netlist, routed.name)}", work)


def coupled(folder: Path) -> float:
    """pF of all wires as Magic extracts them, each pair of neighbours once."""
    return sum(map(float, CAPACITANCE.findall((folder / "wires.spice").read_text()))) / 1000


def _magic(places: dict[str, Place], routed: Path) -> Iterator[str]:
    yield f"drc off\nlef read {osu018.lef()}\ndef read {routed}"
    size = core(places.values())
    left, right = TRACK_X // 2, TRACK_X // 2 + size.width
    rows = {place.y: place.orientation for place in places.values()}
    heights: dict[str, set[int]] = {supply: set() for supply in SUPPLIES}
    for y, orientation in rows.items():
        # Turned over, supply is below.
        turned = orientation in ("FS", "S")
        heights["gnd"].add(y + ROW * turned)
        heights["vdd"].add(y + ROW * (not turned))
    for supply, side in (("gnd", right), ("vdd", left)):
        own = sorted(y + TRACK_Y // 2 for y in heights[supply])
        outer = side + (GAP if supply == "gnd" else -GAP - STRAP)
        strap = (outer, own[0] - RAIL, outer + STRAP, own[-1] + RAIL)
        ends = sorted((side, outer))
        rails = [(ends[0], y - RAIL, ends[1], y + RAIL) for y in own]
        for box in (strap, *rails):
            yield f"box {' '.join(f'{value / UNIT}um' for value in box)}\npaint m1"
        yield f"label {supply} center m1\nport make"
    yield """\
extract do capacitance
extract do coupling
extract no adjust
extract no resistance
extract no length
extract all
ext2spice lvs
ext2spice blackbox on
ext2spice -o layout.spice block
ext2spice cthresh 0
ext2spice -o wires.spice block
quit -noprompt"""


def _spice(design: Design) -> Iterator[str]:
    """The netlist with an empty subcircuit for each type of cell."""
    for kind in sorted({instance.kind for instance in design.instances}):
        yield f".subckt {kind} {' '.join(outlines()[kind].pins)}\n.ends"
    ports = [*(f"n{bit}" for bit in sorted(design.border)), *SUPPLIES]
    yield f".subckt {NAME} {' '.join(ports)}"
    for instance in design.instances:
        nets = {pin: f"n{bit}" for pin, bit in instance.pins.items()}
        nets |= {supply: supply for supply in SUPPLIES}
        # Pins at constants have no wire.
        own = (
            nets.get(pin, f"open_{instance.name}_{pin}") for pin in outlines()[instance.kind].pins
        )
        yield f"X{instance.name} {' '.join(own)} {instance.kind}"
    yield ".ends"
