"""Verilog of a chip or of one of its blocks."""

import os

from amaranth.back import rtlil as rtlil_backend
from amaranth.back import verilog as backend
from amaranth.hdl import Value, ValueCastable
from amaranth.lib.wiring import Component

from hw.top import Kenyon

os.environ["AMARANTH_USE_YOSYS"] = "builtin"

TOP = "kenyon"


def ports(component: Component) -> dict[str, tuple[Value, None]]:
    """Ports by the names that bus models expect: path parts joined by one underscore."""
    result = {}
    for path, _, value in component.signature.flatten(component):
        port = value.as_value() if isinstance(value, ValueCastable) else value
        result["_".join(map(str, path))] = (port, None)
    return result


def convert(component: Component, name: str) -> str:
    """Verilog of a component, with ports `clk` and `rst` (synchronous, active high)."""
    return backend.convert(component, name=name, ports=ports(component), emit_src=False)


def verilog(chip, trace: bool = False) -> str:
    """Verilog of a chip; the module is called `kenyon`."""
    return convert(Kenyon(chip, trace=trace), TOP)


def rtlil(component: Component, name: str) -> str:
    """The same as `convert`, as Yosys' own text: what synthesis, proofs and mutants start from."""
    return rtlil_backend.convert(component, name=name, ports=ports(component), emit_src=False)
