"""The Verilog that users get, read by four other tools: no error, no warning without a reason."""

import os
import re
import subprocess
from collections import Counter
from pathlib import Path

import pyslang
import pytest

from hw import yosys
from hw.generate import verilog
from model.config import CHIPS
from tb.simulator import verilator_root

VERILATOR_EXPLAINED = {
    "CASEINCOMPLETE",
    "DECLFILENAME",
    "PROCASSINIT",
    "UNUSEDSIGNAL",
    "VARHIDDEN",
    "WIDTHEXPAND",
    "WIDTHTRUNC",
}
SLANG_EXPLAINED = {"ArithOpMismatch", "CaseDefault", "SignConversion", "WidthTruncate"}
"""What docs/lint.md gives reasons for."""


@pytest.fixture(
    scope="module",
    params=[
        "tiny",
        *(pytest.param(name, marks=pytest.mark.full) for name in CHIPS if name != "tiny"),
    ],
)
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that `kenyon generate` writes."""
    path = tmp_path_factory.mktemp("lint") / "kenyon.v"
    path.write_text(verilog(CHIPS[request.param]))
    return path


def verilator_codes(path: Path) -> Counter[str]:
    """Messages of Verilator with all its warnings on, by their codes; fails on an error."""
    root = verilator_root()
    command = [root / "bin" / "verilator", "--lint-only", "-Wall", "-Wno-fatal", path]
    environment = {**os.environ, "VERILATOR_ROOT": str(root)}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return Counter(re.findall(r"^%Warning-(\w+):", done.stderr, re.MULTILINE))


def slang_codes(text: str) -> Counter[str]:
    """Messages of slang by their codes; fails on an error."""
    compilation = pyslang.ast.Compilation()
    compilation.addSyntaxTree(pyslang.syntax.SyntaxTree.fromText(text))
    found = list(compilation.getAllDiagnostics())
    codes = Counter(re.sub(r"DiagCode\((\w+)\)", r"\1", str(one.code)) for one in found)
    assert not [one for one in found if one.isError()], codes
    return codes


def test_verilator(source: Path) -> None:
    assert set(verilator_codes(source)) <= VERILATOR_EXPLAINED


def test_slang(source: Path) -> None:
    assert set(slang_codes(source.read_text())) <= SLANG_EXPLAINED


ZEROS = re.compile(r"^  initial begin\n(?:    \S+\[\d+\] = \d+'[dh]0+;\n)+  end\n", re.MULTILINE)
"""Initial zeros of memories: for those of `odin` alone Yosys takes more than five minutes."""


def test_yosys(source: Path) -> None:
    """Nothing latched, undriven, driven twice or in a loop."""
    (source.parent / "short.v").write_text(ZEROS.sub("", source.read_text()))
    script = ["read_verilog short.v", "hierarchy -check -top kenyon", "proc"]
    script += ["select -assert-none t:$dlatch t:$dlatchsr", "check -assert"]
    yosys.run("\n".join(script), source.parent, "lint")


@pytest.mark.icarus
def test_icarus(source: Path) -> None:
    """Not a word."""
    command = ["iverilog", "-g2012", "-tnull", "-Wall", source]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_no_signals_without_bits(source: Path) -> None:
    """In Verilog [-1:0] would be two bits that nothing drives."""
    assert "[-1:0]" not in source.read_text()


BROKEN = """module kenyon(input a, output [3:0] y);
  wire [-1:0] none;
  assign y = a;
  %s
endmodule
"""


def test_warnings_are_found(tmp_path: Path) -> None:
    path = tmp_path / "kenyon.v"
    path.write_text(BROKEN % "reg z; always @* if (a) z = 1;")
    assert {"LATCH", "ASCRANGE"} <= set(verilator_codes(path))
    assert not slang_codes(path.read_text()).keys() <= SLANG_EXPLAINED
    path.write_text(BROKEN % "assign y = missing;")
    with pytest.raises(AssertionError):
        verilator_codes(path)
    with pytest.raises(AssertionError):
        slang_codes(BROKEN % "unknown u();")
