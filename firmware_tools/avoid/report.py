"""What `kenyon avoid` says about clips: what was right, how soon, with how many clocks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from firmware_tools.avoid import CELLS, DIRECTIONS, MODES, N_MODES
from firmware_tools.avoid.clips import NOTHING, Clip
from firmware_tools.avoid.decision import Decision, looming_direction, winner
from firmware_tools.avoid.energy import CLOCK_MHZ, Work
from firmware_tools.avoid.populations import STEPS

Ints = NDArray[np.int64]
FRAME_US = 31_000
"""Of a video of 32 frames per second."""
LOOMING_FRAMES = 3
"""Of whose spikes is said what looms. Chosen on clips of the training pictures."""


@dataclass(frozen=True)
class Judged:
    """A clip and its decisions, one for each frame but the first.

    What a clip's motion was taken for has most spikes in all its frames; where something looms
    is the cell with most spikes in its last `LOOMING_FRAMES`.
    """

    clip: Clip
    decisions: Sequence[Decision]

    @property
    def mode(self) -> int:
        """Of `MODES`; `N_MODES` if none spiked."""
        return winner(sum((one.mode_counts for one in self.decisions), np.zeros(N_MODES, np.int64)))

    @property
    def direction(self) -> int:
        """Of `DIRECTIONS`, or `NOTHING`."""
        return self._directions[-1]

    @property
    def _directions(self) -> list[int]:
        """What looms, as known in each frame."""
        total = np.cumsum([one.cell_counts for one in self.decisions], axis=0)
        total[LOOMING_FRAMES:] -= total[:-LOOMING_FRAMES].copy()
        return [looming_direction(counts) for counts in total]

    @property
    def mode_latency(self) -> int | None:
        """Frames, from 2 on, until the mode with most spikes so far is right for good."""
        total = np.cumsum([one.mode_counts for one in self.decisions], axis=0)
        return _latency([winner(counts) == self.clip.mode for counts in total])

    @property
    def direction_latency(self) -> int | None:
        """Frames before the clip's end, in which the direction has been right for good."""
        latency = _latency([one == self.clip.direction for one in self._directions])
        return None if latency is None else len(self.decisions) + 1 - latency


def _latency(right: list[bool]) -> int | None:
    if not right[-1]:
        return None
    wrong = [k for k, one in enumerate(right) if not one]
    return (wrong[-1] + 1 if wrong else 0) + 2


@dataclass(frozen=True)
class Figures:
    """Of all clips.

    Parameters
    ----------
    modes, directions : (n + 1, n + 1) int
        Rows: what is right; columns: what was decided. The last one is none.
    mode_latency, direction_lead : float or None
        Means over the clips that were judged rightly: frames until the mode is right, frames before
        the end of the clip since which the direction is.
    frame_mode_accuracy, last_direction_accuracy : float
        Of single frames, and of the clips' last frames alone.
    clocks : (n,) int64
        Of each decision; empty for what the host saw.
    """

    modes: Ints
    directions: Ints
    mode_latency: float | None
    direction_lead: float | None
    frame_mode_accuracy: float
    last_direction_accuracy: float
    clocks: Ints

    @property
    def mode_accuracy(self) -> float:
        return float(np.trace(self.modes) / self.modes.sum())

    @property
    def direction_accuracy(self) -> float:
        return float(np.trace(self.directions) / self.directions.sum())

    def as_json(self) -> dict[str, object]:
        """For programs."""
        slowest = int(self.clocks.max()) if len(self.clocks) else None
        return {
            "mode_accuracy": self.mode_accuracy,
            "direction_accuracy": self.direction_accuracy,
            "frame_mode_accuracy": self.frame_mode_accuracy,
            "last_direction_accuracy": self.last_direction_accuracy,
            "modes": self.modes.tolist(),
            "directions": self.directions.tolist(),
            "mode_latency_frames": self.mode_latency,
            "direction_lead_frames": self.direction_lead,
            "time_steps": STEPS,
            "clocks_mean": float(self.clocks.mean()) if slowest else None,
            "clocks_max": slowest,
            "clock_mhz": CLOCK_MHZ,
            "latency_us": slowest / CLOCK_MHZ if slowest else None,
            "frame_us": FRAME_US,
        }


def figures(judged: Sequence[Judged]) -> Figures:
    """What came of the clips."""
    modes = np.zeros((N_MODES + 1, N_MODES + 1), np.int64)
    directions = np.zeros((NOTHING + 1, NOTHING + 1), np.int64)
    for one in judged:
        modes[one.clip.mode, one.mode] += 1
        directions[one.clip.direction, one.direction] += 1
    single = [d.mode == one.clip.mode for one in judged for d in one.decisions]
    last = [one.decisions[-1].direction == one.clip.direction for one in judged]
    clocks = [d.clocks for one in judged for d in one.decisions if d.clocks is not None]
    return Figures(
        modes,
        directions,
        _mean([one.mode_latency for one in judged]),
        _mean([one.direction_latency for one in judged]),
        float(np.mean(single)),
        float(np.mean(last)),
        np.array(clocks, np.int64),
    )


def _mean(values: Sequence[int | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def confusion(title: str, names: Sequence[str], counts: Ints) -> Table:
    """Rows: what is right; columns: what was decided; none only if it was."""
    table = Table(title=title)
    shown = [*names, "none"] if counts[:, -1].any() else [*names]
    table.add_column("right \\ decided", no_wrap=True)
    for name in shown:
        table.add_column(_short(name), justify="right")
    for name, row in zip(names, counts, strict=False):
        table.add_row(name, *(str(n) if n else "." for n in row[: len(shown)].tolist()))
    return table


def _short(name: str) -> str:
    return {"counter-clockwise": "ccw", "clockwise": "cw", "backward": "back"}.get(name, name)


def tables(done: Figures) -> list[Table]:
    """The two confusion tables."""
    return [
        confusion("motion, clips", MODES, done.modes),
        confusion("what looms, clips", DIRECTIONS, done.directions),
    ]


def lines(done: Figures, work: Work | None) -> list[str]:
    """What else there is to say."""
    n = done.modes.sum()
    said = [
        f"motion right       {done.mode_accuracy:8.2%} of {n} clips, "
        f"{done.frame_mode_accuracy:.2%} of single frames",
        f"direction right    {done.direction_accuracy:8.2%} of {n} clips, "
        f"{done.last_direction_accuracy:.2%} of last frames alone",
    ]
    if done.mode_latency is not None:
        said.append(f"motion known after {done.mode_latency:8.2f} frames in the mean, 2 at best")
    if done.direction_lead is not None:
        said.append(f"looming known      {done.direction_lead:8.2f} frames before the clip ends")
    said.append(f"time steps         {STEPS:8} a frame")
    if len(done.clocks):
        slowest = int(done.clocks.max())
        us = slowest / CLOCK_MHZ
        said += [
            f"clocks             {done.clocks.mean():8,.0f} a decision in the mean, "
            f"{slowest:,} at most",
            f"latency            {us:8,.1f} us at {CLOCK_MHZ:g} MHz (180 nm), "
            f"1/{FRAME_US / us:,.0f} of a video frame",
        ]
    if work is not None:
        said.append(
            f"energy             {work.perception_nj + work.populations_nj:8,.0f} nJ a decision: "
            f"{work.perception_nj:,.0f} perception, {work.populations_nj:,.0f} populations"
        )
    return said


def frame_table(decisions: Sequence[Decision]) -> Table:
    """Frame by frame, for pictures of which nobody knows what is right."""
    table = Table()
    for title in ("frame", "motion", "spikes", "looms", "spikes"):
        table.add_column(title, justify="right" if title in {"frame", "spikes"} else "left")
    for k, one in enumerate(decisions):
        mode = (*MODES, "none")[one.mode]
        cell = (*CELLS, "nothing")[one.cell]
        mode_spikes, cell_spikes = int(one.mode_counts.max()), int(one.cell_counts.max())
        table.add_row(str(k + 1), mode, str(mode_spikes), cell, str(cell_spikes))
    return table
