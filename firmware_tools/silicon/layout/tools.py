"""Debian's layout tools, run so that Ctrl-C ends all that they started."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from firmware_tools.errors import UserError
from hw.asic import osu018

CACHE = Path(__file__).parents[3] / "build" / "layouts"
END = 1000
"""Bytes of a log that are its end."""


def check_installed() -> None:
    """Raise UserError unless all of them are there."""
    missing = [name for name in osu018.LAYOUT_TOOLS if shutil.which(name) is None]
    if missing:
        packages = " ".join(osu018.LAYOUT_PACKAGES)
        raise UserError(f"{missing[0]} is missing; on Debian: apt-get install {packages}")


def run(
    command: list[str], folder: Path, log: str, hear: Callable[[str], None] = lambda _end: None
) -> str:
    """What a tool says; it also stands in the log, and `hear` gets the end of it every second.

    Raises
    ------
    UserError
        The tool failed.
    """
    path = folder / log
    with path.open("w") as file:
        started = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            while (code := _ended(started)) is None:
                hear(_end(path))
        except BaseException:
            os.killpg(started.pid, signal.SIGKILL)
            started.wait()
            raise
    if code:
        raise UserError(f"{command[0]} failed; see {path}")
    return path.read_text(errors="replace")


def _ended(started: "subprocess.Popen[bytes]") -> int | None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        return started.wait(1)
    return None


def _end(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - END))
        return file.read().decode(errors="replace")
