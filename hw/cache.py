"""Results of long work, kept by the content of what they were made from."""

import fcntl
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

DONE = "done"


def key(*parts: str | bytes) -> str:
    """A name for everything that decides a result."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        digest.update(b"%d:%b" % (len(content), content))
    return digest.hexdigest()[:16]


def is_kept(folder: Path) -> bool:
    """Whether `cached` has nothing to do."""
    return (folder / DONE).exists()


def cached(folder: Path, work: Callable[[Path], None]) -> Path:
    """The folder, after `work` has filled it unless that was done before.

    Whoever wants the same meanwhile waits. What fails or is interrupted stays for a look, and is
    made anew by the next call.
    """
    if is_kept(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_kept(folder):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            work(folder)
            (folder / DONE).touch()
    return folder
