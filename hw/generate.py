"""Verilog of a chip or of one of its blocks."""

import contextlib
import os
import re
from collections.abc import Iterator

from amaranth.back import rtlil as rtlil_backend
from amaranth.back import verilog as backend
from amaranth.hdl import Elaboratable, Fragment, Signal, Value, ValueCastable
from amaranth.lib.wiring import Component

from hw.board.top import Board
from hw.top import Kenyon

os.environ["AMARANTH_USE_YOSYS"] = "builtin"

TOP = "kenyon"
WITHOUT_BITS = re.compile(r"^  wire (?:signed )?\[-1:0\] \S+ ?;\n", re.MULTILINE)
"""Signals of no bits, which nothing uses; in Verilog they would have two."""


def ports(component: Component) -> dict[str, tuple[Value, None]]:
    """Ports by the names that bus models expect: path parts joined by one underscore."""
    result = {}
    for path, _, value in component.signature.flatten(component):
        port = value.as_value() if isinstance(value, ValueCastable) else value
        result["_".join(map(str, path))] = (port, None)
    return result


States = dict[str, dict[int, str]]
"""Names of the values of signals, by their paths: `kenyon.npu.scheduler.fsm_state`."""


def convert(component: Component, name: str) -> str:
    """Verilog of a component, with ports `clk` and `rst` (synchronous, active high)."""
    return convert_with_states(component, name)[0]


def convert_with_states(component: Elaboratable, name: str, ports_of=ports) -> tuple[str, States]:
    """The same, and what the values of its state machines are called."""
    fragment = Fragment.get(component, None)
    text, paths = backend.convert_fragment(fragment, ports_of(component), name, emit_src=False)
    text = WITHOUT_BITS.sub("", text)
    states = {}
    for signal, path in paths.items():
        if signal.decoder is not None:
            states[".".join(path)] = dict(enumerate(_state_names(signal)))
    return text, states


def _state_names(signal: Signal) -> Iterator[str]:
    """Amaranth decodes value n of a state machine as NAME/n."""
    with contextlib.suppress(KeyError):
        for n in range(1 << len(signal)):
            yield signal.decoder(n).rpartition("/")[0]


def top(chip, board=None) -> Component:
    """A chip, or everything between the pins of a board (model/board/config.py)."""
    return Kenyon(chip) if board is None else Board(chip, board.name, board.divider)


def verilog(chip, board=None) -> str:
    """Verilog of a chip, or of a board with it; the module is called `kenyon`."""
    return convert(top(chip, board), TOP)


def traced(chip) -> tuple[str, States]:
    """Verilog of a chip with trace ports, and what its states are called."""
    return convert_with_states(Kenyon(chip, trace=True), TOP)


def rtlil(component: Component, name: str) -> str:
    """The same as `convert`, as Yosys' own text: what synthesis, proofs and mutants start from."""
    return rtlil_backend.convert(component, name=name, ports=ports(component), emit_src=False)
