"""Waves of a run on the RTL, with views that open where it differs first."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from firmware_tools.errors import UserError
from firmware_tools.inputs import check_folder
from tb import simulator, waves
from tb.simulator import BenchFailure, Design, Waves
from tb.waves import Moment

KINDS = (".fst", ".vcd")


def check(path: Path | None) -> Waves:
    """The format of waves in a file of the user's; nothing if none are wanted.

    Raises
    ------
    UserError
        It can not be written, or not in this format.
    """
    if path is None:
        return ""
    if path.suffix not in KINDS:
        raise UserError(f"{path}: wave file must end in {' or '.join(KINDS)}")
    if path.suffix == ".fst" and not simulator.can_fst():
        raise UserError(
            f"{path}: FST needs the headers of lz4 and zlib (on Debian: apt-get install "
            f"{simulator.FST_PACKAGES}); without them: {path.with_suffix('.vcd')}"
        )
    check_folder(path)
    return waves.kind(path)


def write_views(path: Path | None, design: Design, moment: Moment | None) -> list[str]:
    """Write the views of waves of a design, if there are any; returns how to open them."""
    if path is None:
        return []
    built = simulator.build_dir(design, waves.kind(path))
    return commands(waves.write(path, built, moment))


@contextlib.contextmanager
def views_of_failure(path: Path | None, design: Design) -> Iterator[None]:
    """If a bench fails, views open where it did; its message tells of them."""
    try:
        yield
    except BenchFailure as failure:
        if path is None or not path.exists():
            raise
        at = None if failure.at_ns is None else Moment(failure.at_ns)
        shown = [f"waves: {view}" for view in write_views(path, design, at)]
        raise BenchFailure("\n".join([str(failure), *shown]), failure.at_ns) from failure


def commands(views: list[Path]) -> list[str]:
    """How to open what `tb.waves.write` wrote; Surfer where its mappings are."""
    gtkwave, surfer = views
    folder = os.path.relpath(surfer.parent)
    go = "" if folder == "." else f"cd {folder} && "
    return [f"gtkwave {os.path.relpath(gtkwave)}", f"{go}surfer --command-file {surfer.name}"]
