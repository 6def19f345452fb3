"""What the sources of a design need for a four-state simulator, that X may show itself.

Registers begin as X, as in silicon: what a chip shows after its reset comes from the reset, not
from initial values. Memories keep theirs: what was never written reads 0 in the model too.
"""

import re

TOP = "kenyon"
BIND = re.compile(r"^bind (\w+) (.*?;)\n?", re.MULTILINE | re.DOTALL)
INITIAL = re.compile(
    r"^(  reg (?:signed )?(?:\[\d+:0\] )?(?!\\\$auto)\S+ ?) = [^;]+;$", re.MULTILINE
)
WAKE = re.compile(r"^  reg (\\\$auto\S+) +(?:= 0)?;$", re.MULTILINE)
"""What Yosys puts into each `always @*`, that its change at the start lets the process run."""
OUTPUT = re.compile(r"^  output (?:signed )?(?:\[\d+:0\] )?(\w+);$", re.MULTILINE)
VALID = re.compile(r"^((?:\w+_axi\w*_)(?:r|b|aw|ar|w|t)|trace_\d+_)(?!valid|ready)")
"""Of an interface's ports: what its `valid` says counts."""
MARS = re.compile(r"trace_mars_(values|write|store)(?:_.*)?$")
MARS_VALID = {"values": "value_valid", "write": "write", "store": "store_macros"}
"""The same of the trace of MARS."""


def adapted(texts: dict[str, str]) -> dict[str, str]:
    """Sources for Icarus Verilog: {file name: text}, as they were given.

    It knows no `bind`; so what is bound to a module is put into it.
    """
    bound: dict[str, list[str]] = {}
    result = {}
    for name, text in texts.items():
        for module, instance in BIND.findall(text):
            bound.setdefault(module, []).append(instance)
        result[name] = BIND.sub("", text)
    for name, text in result.items():
        if name.endswith(".v"):
            begun = INITIAL.sub(r"\1;", text)
            # In SystemVerilog an initial value is no change; so that one comes behind the start.
            begun = WAKE.sub(r"  reg \1 ; initial #0 \1 = 0;", begun)
            result[name] = _with(begun, bound)
    return result


def _with(text: str, bound: dict[str, list[str]]) -> str:
    """Verilog with what is bound to its modules; the chip also with a watch on its ports."""
    for module in {TOP, *bound}:
        begin = re.search(rf"^module {module}\(", text, re.MULTILINE)
        if begin is None:
            continue
        end = text.index("\nendmodule", begin.start())
        lines = bound.get(module, [])
        if module == TOP:
            lines = [*lines, watch(text[begin.start() : end])]
        text = text[:end] + "\n" + "\n".join(lines) + text[end:]
    return text


def _valid(port: str) -> str:
    """The port that says when this one counts; of those that always count nothing."""
    mars = MARS.match(port)
    if mars:
        return f"trace_mars_{MARS_VALID[mars[1]]}"
    interface = VALID.match(port)
    return f"{interface[1]}valid" if interface else ""


def watch(module: str) -> str:
    """Verilog that ends the simulation when a port of this module shows X after a reset.

    What comes with a `valid` counts while that is 1. Of the trace of MARS membranes mean something
    only in passes with neurons, which no port tells; the bench compares them.
    """
    outputs = [port for port in OUTPUT.findall(module) if port != "trace_mars_membranes"]
    lines = [
        "reg x_counts = 0;",
        "always @(posedge clk)",
        "  if (rst) x_counts <= 1;",
        "  else if (x_counts) begin",
    ]
    for port in outputs:
        valid = _valid(port)
        condition = f"|{valid} && " if valid in outputs and valid != port else ""
        lines.append(f'    if ({condition}^{port} === 1\'bx) $fatal(1, "{port} is %b", {port});')
    return "\n".join([*lines, "  end"])
