"""A netlist whose cells take their time, for Icarus: glitches toggle what is behind them.

Each cell is that of the library's Verilog with the delays of its own load. The clock is ideal, as
for timing analysis: clock gates take no time. A pulse shorter than a cell's delay does not pass it.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from firmware_tools.silicon.delays import Arc
from firmware_tools.silicon.macros import Macro, macros
from firmware_tools.silicon.power import clock_gates
from hw.asic import osu018
from hw.asic.synthesis import GATE_CELL, Netlist
from hw.cache import key
from tb.simulator import Design

MODULE = re.compile(r"^module (\w+) (\(.*?\);)(.*?)^\s*specify$", re.MULTILINE | re.DOTALL)
PRIMITIVE = re.compile(r"^primitive .*?^endprimitive", re.MULTILINE | re.DOTALL)
KEPT = "input CLK, D; output Q; reg state; initial state = 0; buf (Q, state);"
REGISTERS = {
    "DFFPOSX1": f"{KEPT} always @(posedge CLK) if (D !== 1'bx) state = D;",
    "LATCH": f"{KEPT} always @* if (CLK && D !== 1'bx) state = D;",
}
"""Cells that keep something, as processes that begin at 0: the library's primitives begin unknown,
and through gates what is unknown goes further than through the RTL."""
READ = re.compile(r"^  reg (?:\[\d+:0\] )?(\w+);$", re.MULTILINE)
"""What a memory keeps of the word that it read."""
SCALE = "`timescale 1ns/1ps\n"


def design(netlist: Netlist, delays: Mapping[str, list[Arc]]) -> Design:
    """The netlist with the delays of its cells, and what dumps its nets."""
    found = macros(netlist)
    memories = (netlist.folder / "memories.v").read_text()
    paths = ["kenyon", "kenyon.activity", *(f"kenyon.\\{macro.instance} " for macro in found)]
    types = {path: cell["type"] for path, cell in netlist.cells["cells"].items()}
    # A cell lacks the arcs of inputs that never change.
    kinds: dict[str, dict[tuple[str, str], Arc]] = {}
    for path, arcs in delays.items():
        kinds.setdefault(types[path], {}).update({(a.source, a.output): a for a in arcs})
    library = osu018.verilog().read_text()
    sources = {
        "cells.v": cells(library, {name: arcs.values() for name, arcs in kinds.items()}),
        "memories.v": SCALE + READ.sub(r"\g<0>\n  initial \1 = 0;", memories),
        "netlist.v": SCALE + "\n".join(_Writer(netlist, delays, found).lines()),
        "activity.sv": f"""{SCALE}
module activity;
  bit dump = 0;
  always @(posedge dump) begin
    $dumpfile("activity.vcd");
    $dumpvars(1, {", ".join(paths)});
  end
endmodule
bind kenyon activity activity();
""",
    }
    return Design(f"timed-{key(json.dumps(sources))}", netlist.top, lambda: sources, dumps=True)


def cells(library: str, kinds: Mapping[str, Iterable[Arc]]) -> str:
    """Verilog of the library's cells, with parameters for the delays of these arcs."""
    texts = [SCALE, *PRIMITIVE.findall(library)]
    for name, ports, body in MODULE.findall(library):
        arcs = kinds.get(name, ())
        parameters = [f"  parameter {p} = 0;" for arc in arcs for p in _parameters(arc)]
        paths = [
            f"    ({arc.source} *> {arc.output}) = ({', '.join(_parameters(arc))});" for arc in arcs
        ]
        specify = ["  specify", *paths, "  endspecify"] if paths else []
        texts += [
            f"module {name} {ports}",
            *parameters,
            REGISTERS.get(name, body),
            *specify,
            "endmodule",
        ]
    return "\n".join(texts)


def _parameters(arc: Arc) -> tuple[str, str]:
    """Names of the delays of a rise and of a fall."""
    return f"{arc.source}_{arc.output}_rise", f"{arc.source}_{arc.output}_fall"


class _Writer:
    """Writes a netlist whose nets are called by the pin that drives them, as in `gates.v`."""

    def __init__(
        self, netlist: Netlist, delays: Mapping[str, list[Arc]], memories: list[Macro]
    ) -> None:
        self.netlist = netlist
        self.delays = delays
        self.memories = {macro.instance: macro for macro in memories}
        self.ports = netlist.cells["ports"]
        # Yosys keeps a cell without pins for each module that it dissolved.
        everything = netlist.cells["cells"].items()
        self.cells = {path: cell for path, cell in everything if cell["connections"]}
        self.names: dict[Any, str] = {bit: f"1'b{bit}" for bit in "01x"}
        for name, port in self.ports.items():
            if port["direction"] == "input":
                self.names |= dict(_bits(name, port["bits"]))
        self.driven = [
            (bit, f"\\{name} ")
            for path, cell in self.cells.items()
            for pin, bits in cell["connections"].items()
            if cell["port_directions"][pin] == "output"
            for bit, name in _bits(f"{path}.{pin}", bits)
        ]
        self.names |= dict(self.driven)

    def lines(self) -> Iterator[str]:
        """The module."""
        yield f"module {self.netlist.top}({', '.join(self.ports)});"
        for name, port in self.ports.items():
            width = len(port["bits"])
            yield f"  {port['direction']} {f'[{width - 1}:0] ' if width > 1 else ''}{name};"
        yield from (f"  wire {name};" for _, name in self.driven)
        for name, port in self.ports.items():
            if port["direction"] == "output":
                for bit, own in _bits(name, port["bits"]):
                    yield f"  assign {own} = {self.names[bit]};"
        # What activity asks for by the name of its pin.
        for path in clock_gates(self.netlist):
            (bit,) = self.cells[path]["connections"]["B"]
            yield f"  wire \\{path}.B = {self.names[bit]};"
        for path, cell in self.cells.items():
            yield from (self._memory if path in self.memories else self._cell)(path, cell)
        yield "endmodule"

    def _cell(self, path: str, cell: Mapping[str, Any]) -> Iterator[str]:
        values = [] if _is_clock(path) else self.delays[path]
        delays = ", ".join(
            f".{name}({value})"
            for arc in values
            for name, value in zip(_parameters(arc), (arc.rise, arc.fall), strict=True)
        )
        yield f"  {cell['type']} #({delays}) \\{path} ({self._pins(cell)});"

    def _memory(self, path: str, cell: Mapping[str, Any]) -> Iterator[str]:
        """What it reads comes out after its delay."""
        outputs = {
            pin: f"\\{path}.{pin}.early "
            for pin, direction in cell["port_directions"].items()
            if direction == "output"
        }
        delay = self.memories[path].sram.delay
        for pin, early in outputs.items():
            bits = cell["connections"][pin]
            yield f"  wire [{len(bits) - 1}:0] {early};"
            yield f"  assign #({delay:.3f}) {self._join(bits)} = {early};"
        yield f"  \\{cell['type']} \\{path} ({self._pins(cell, outputs)});"

    def _pins(self, cell: Mapping[str, Any], instead: dict[str, str] | None = None) -> str:
        pins = {pin: self._join(bits) for pin, bits in cell["connections"].items()}
        return ", ".join(f".\\{pin} ({name})" for pin, name in (pins | (instead or {})).items())

    def _join(self, bits: list[Any]) -> str:
        return f"{{{', '.join(self.names[bit] for bit in reversed(bits))}}}"


def _bits(name: str, bits: list[Any]) -> Iterator[tuple[Any, str]]:
    """Each bit with its own name."""
    for k, bit in enumerate(bits):
        yield bit, name if len(bits) == 1 else f"{name}[{k}]"


def _is_clock(path: str) -> bool:
    """Whether a cell carries the clock to what a gate opens, or closes its latch."""
    part = GATE_CELL.search(path)
    return part is not None and part[1] != "latch"
