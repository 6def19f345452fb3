"""Results of long runs, kept by the content of what they were made from."""

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path


def key(parts: Sequence[str]) -> str:
    """A name for everything that decides a result."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{len(part)}:{part}".encode())
    return digest.hexdigest()[:16]


def cached(folder: Path, work: Callable[[Path], None]) -> Path:
    """The folder, after `work` has filled it unless that was done before.

    It is filled under another name and renamed when it is complete: what is interrupted leaves
    nothing behind.
    """
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{folder.name}-", dir=folder.parent) as temporary:
        filled = Path(temporary) / "filled"
        filled.mkdir()
        work(filled)
        try:
            filled.rename(folder)
        except OSError:
            # Another process was quicker with the same content.
            if not folder.is_dir():
                raise
            shutil.rmtree(filled)
    return folder
