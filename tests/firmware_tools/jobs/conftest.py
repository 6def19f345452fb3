"""Jobs that are quick, and say where and how often they ran."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from firmware_tools.jobs.job import JSON


@dataclass(frozen=True)
class Square:
    """Squares a number; each run leaves a line in a file."""

    number: int
    log: Path
    seconds: float = 0.0
    kills: bool = False

    @property
    def key(self) -> str:
        return f"ab{self.number:014x}"

    def keeps(self, result: JSON) -> bool:
        return bool(result["square"] != 9)

    def run(self) -> JSON:
        with self.log.open("a") as file:
            file.write(f"{self.number}\n")
        time.sleep(self.seconds)
        if self.kills:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.number < 0:
            raise ValueError(f"number must be at least 0, not {self.number}")
        return {"square": self.number**2}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log"
    path.touch()
    return path
