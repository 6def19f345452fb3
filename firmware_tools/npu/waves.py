"""Waves of a run on the RTL, with views that open where it differs first."""

import os
from pathlib import Path

from firmware_tools.errors import UserError
from firmware_tools.inputs import check_folder
from firmware_tools.npu.difference import Difference
from firmware_tools.npu.lockstep import Agreement
from model.config import ChipConfig
from model.npu.config import NPUConfig
from tb import cosim, simulator, waves
from tb.cosim import Recording

KINDS = (".fst", ".vcd")


def recording_to(path: Path) -> Recording:
    """Waves in a file of the user's.

    Raises
    ------
    UserError
        It can not be written, or not in this format.
    """
    if path.suffix not in KINDS:
        raise UserError(f"{path}: wave file must end in {' or '.join(KINDS)}")
    if path.suffix == ".fst" and not simulator.can_fst():
        raise UserError(
            f"{path}: FST needs the headers of lz4 and zlib (on Debian: apt-get install "
            f"{simulator.FST_PACKAGES}); without them: {path.with_suffix('.vcd')}"
        )
    check_folder(path)
    return Recording(path)


def write_views(
    recording: Recording, config: NPUConfig, result: Agreement | Difference
) -> list[str]:
    """Write the views; returns how to open them."""
    at, first = None, ""
    if isinstance(result, Difference):
        group = (result.neuron or 0) // config.n_lanes
        at = recording.clock_of(result.step, result.population, group)
        first = "trace" if result.population is None else f"trace_{result.population}"
    built = simulator.build_dir(cosim.chip(ChipConfig.alone(config)), recording.kind)
    return commands(waves.write(recording.path, built, at, first))


def commands(views: list[Path]) -> list[str]:
    """How to open what `tb.waves.write` wrote; Surfer where its mappings are."""
    gtkwave, surfer = views
    folder = os.path.relpath(surfer.parent)
    go = "" if folder == "." else f"cd {folder} && "
    return [f"gtkwave {os.path.relpath(gtkwave)}", f"{go}surfer --command-file {surfer.name}"]
