"""Results of jobs by key, in files."""

import contextlib
import json
import os
from pathlib import Path

from firmware_tools.errors import UserError
from firmware_tools.jobs.job import JSON

FOLDER = Path("build") / "jobs"
"""Where the verbs keep what they have found out."""


class Store:
    """A folder of results, which any number of processes may read and write.

    A file appears whole or not at all, so a process may be killed at any time. Its content is
    decided by the job alone; how long jobs took stands apart, in `times.jsonl`.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder = folder
        self._known_times: dict[str, float] | None = None

    def get(self, key: str) -> JSON:
        """The result of this key, or None.

        Raises
        ------
        UserError
            Its file holds something else.
        """
        path = self._path(key)
        try:
            entry = json.loads(path.read_bytes())
            if entry["key"] == key:
                return entry["result"]
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError):
            pass
        raise UserError(f"{path}: must be the result of a job; remove it")

    def put(self, key: str, result: JSON) -> None:
        """Keep a result."""
        path = self._path(key)
        text = json.dumps({"key": key, "result": result}, sort_keys=True, separators=(",", ":"))
        part = path.with_name(f"{key}.{os.getpid()}.part")
        try:
            part.write_text(f"{text}\n")
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(f"{text}\n")
        part.replace(path)

    def forget(self, key: str) -> None:
        """Have the job run again."""
        self._path(key).unlink(missing_ok=True)

    def took(self, key: str, seconds: float) -> None:
        """Remember how long a job ran."""
        self._folder.mkdir(parents=True, exist_ok=True)
        line = json.dumps([key, round(seconds, 3)]) + "\n"
        descriptor = os.open(self._times, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, line.encode())  # one call: lines of several processes stay whole
        finally:
            os.close(descriptor)

    def seconds(self, key: str) -> float:
        """How long the job ran, 0 if nobody knows."""
        if self._known_times is None:
            self._known_times = {}
            lines = self._times.read_text().splitlines() if self._times.exists() else []
            for line in lines:
                with contextlib.suppress(ValueError):  # the disk was full, or the machine died
                    name, seconds = json.loads(line)
                    self._known_times[name] = seconds
        return self._known_times.get(key, 0.0)

    def _path(self, key: str) -> Path:
        return self._folder / "results" / f"{key}.json"

    @property
    def _times(self) -> Path:
        return self._folder / "times.jsonl"
