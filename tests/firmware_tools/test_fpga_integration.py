"""The guide's top fits the generated Verilog."""

import re
import subprocess
from pathlib import Path

import pytest

from hw.generate import verilog
from model.config import CHIPS
from tb import simulator

GUIDE = Path(__file__).parents[2] / "docs" / "integration.md"


@pytest.fixture(scope="module")
def chip() -> str:
    """The Verilog of the guide's chip, without the warnings that Yosys' Verilog always gives."""
    codes = "".join(f"/* verilator lint_off {code} */\n" for code in simulator.HARMLESS)
    return codes + verilog(CHIPS["kenyon-tiny"]) + codes.replace("lint_off", "lint_on")


@pytest.fixture
def top() -> str:
    (text,) = re.findall(r"```systemverilog\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    return text


def lint(chip: str, top: str) -> str:
    """What Verilator has against them; every warning counts."""
    Path("kenyon.v").write_text(chip)
    Path("soc.sv").write_text(top)
    root = simulator.verilator_root()
    done = subprocess.run(
        [root / "bin" / "verilator_bin", "--lint-only", "--top", "soc", "kenyon.v", "soc.sv"],
        check=False,
        env={"VERILATOR_ROOT": str(root)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode == 0) == ("%" not in done.stderr)
    return done.stderr


def test_top_fits(chip: str, top: str) -> None:
    """No port is missing, unknown or of another width."""
    assert "%" not in lint(chip, top)


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("        .irq(chip_irq),\n", "", "PINMISSING"),
        (".irq(", ".interrupt(", "PINNOTFOUND"),
        ("[63:0]  mem_rdata", "[31:0]  mem_rdata", "WIDTHEXPAND"),
    ],
)
def test_misfits_are_noticed(chip: str, top: str, old: str, new: str, error: str) -> None:
    assert old in top
    assert error in lint(chip, top.replace(old, new))
