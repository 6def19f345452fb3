"""Synthesis of a chip for ECP5, and what became of its memories."""

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from firmware_tools.errors import UserError

NAME = "synthesis"
NETLIST = "kenyon.json"
SOURCE = "kenyon.il"
CONSTRAINTS = "board.lpf"
TARGET_PS = 20_000
"""Faster paths take fewer LUTs instead: 50 MHz, which `kenyon fpga` aims at."""
WIRE_PS = 800
"""A wire between cells in a full FPGA. With 300, as Yosys has it, every path looks fast."""
ABC_SCRIPT = f"+&if -D {TARGET_PS} -W {WIRE_PS} {{R}} -v"
"""Mapping alone: what else ABC9 does takes minutes of the noise generator's parities."""
LUT_RAM_WORDS = 16
"""Of a LUT RAM of the ECP5: a deeper memory needs multiplexers."""
WIDE = 512
"""Bits of a word from which on a memory takes LUTs that are better spent on logic."""
SCRIPT = f"""\
read_rtlil {SOURCE}
scratchpad -set abc9.script "{ABC_SCRIPT}"
synth_ecp5 -top kenyon -run begin:map_ram
setattr -set ram_style "block" t:$mem_v2 r:SIZE>{LUT_RAM_WORDS} %i
setattr -set ram_style "block" t:$mem_v2 r:WIDTH>={WIDE} %i
synth_ecp5 -top kenyon -run map_ram: -json {NETLIST}
"""
KINDS = {
    "DP16KD": "block RAM",
    "TRELLIS_DPR16X4": "distributed RAM",
}
"""What a memory is made of, by the cells that Yosys gave it."""
FLIP_FLOPS = "flip-flops"
MODULE = re.compile(r"^module \\(\S+)$")
MEMORY = re.compile(r"^  memory (.*)\\(\S+)$")
UNIQUE = re.compile(r"\$\d+")
"""What Amaranth adds to the names of modules."""


@dataclass(frozen=True)
class Memory:
    """A memory of the chip, as synthesised.

    Parameters
    ----------
    name : str
        Path in the hierarchy.
    depth, width : int
        Words and bits per word.
    kind : str
        "block RAM", "distributed RAM" or "flip-flops".
    cells : int
        Cells of that kind; 0 of flip-flops, which Yosys no longer tells apart.
    """

    name: str
    depth: int
    width: int
    kind: str
    cells: int


def check_installed() -> None:
    """Refuse to begin without Yosys."""
    from hw import yosys

    if not yosys.PROGRAM.exists():
        raise UserError("Yosys is missing: pip install 'kenyon[silicon]'")


def synthesise(folder: Path, rtlil: str, constraints: str = "") -> None:
    """Leave the netlist, the log and the constraints in the folder."""
    from hw import yosys

    (folder / CONSTRAINTS).write_text(constraints)
    (folder / SOURCE).write_text(rtlil)
    try:
        yosys.run(SCRIPT, folder, NAME)
    except yosys.YosysError as error:
        raise UserError(str(error)) from error


def memories(folder: Path) -> list[Memory]:
    """All memories of the RTL, by name, with the cells that the netlist has for them."""
    netlist = json.loads((folder / NETLIST).read_text())
    (top,) = (m for m in netlist["modules"].values() if "top" in m["attributes"])
    cells: dict[str, Counter[str]] = {}
    for name, cell in top["cells"].items():
        if cell["type"] in KINDS:
            # The mapping of memories appends two numbers: port and part.
            cells.setdefault(name.rsplit(".", 2)[0], Counter())[cell["type"]] += 1
    found = [
        _memory(path, depth, width, cells.get(path.partition(".")[2], Counter()))
        for path, depth, width in declared((folder / SOURCE).read_text())
    ]
    return sorted(found, key=lambda memory: memory.name)


def declared(rtlil: str) -> list[tuple[str, int, int]]:
    """Path, depth and width of every memory."""
    result = []
    module = ""
    for line in rtlil.splitlines():
        if match := MODULE.match(line):
            module = match[1]
        elif match := MEMORY.match(line):
            options = match[1].split()
            sizes = dict(zip(options[::2], map(int, options[1::2]), strict=True))
            result.append((f"{module}.{match[2]}", sizes["size"], sizes["width"]))
    return result


def _memory(path: str, depth: int, width: int, cells: "Counter[str]") -> Memory:
    name = UNIQUE.sub("", path).partition(".")[2].removesuffix(".array")
    if not cells:
        return Memory(name, depth, width, FLIP_FLOPS, 0)
    ((cell, count),) = cells.items()
    return Memory(name, depth, width, KINDS[cell], count)
