"""Decisions about what a camera sees: what was right, and the frames with what spiked at each."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_tools.avoid import CELLS, DIRECTIONS, MODES, film
from firmware_tools.avoid.decision import Decision
from firmware_tools.avoid.environment import LARGE
from firmware_tools.avoid.flying import Moment
from firmware_tools.avoid.populations import STEPS
from firmware_tools.avoid.rendering import SIDE, Grey
from firmware_tools.avoid.report import Judged
from firmware_tools.report.charts import axes, bars, heat_map, lines
from firmware_tools.report.page import Chart, Facts, Frames, Section, Table

MODE_NAMES = (*MODES, "none")
CELL_NAMES = (*CELLS, "nothing")
DIRECTION_NAMES = (*DIRECTIONS, "nothing")
MOST_FRAMES = 120
"""Of a film on a page: some 1.5 MB."""
SHOWN = (
    "In each frame: what is seen; the spikes of the 13 cells, where they are in the view; "
    "the spikes of the modes."
)
NOT_FACTS = ("modes", "directions")


def of_clips(values: Mapping[str, Any], judged: Sequence[Judged]) -> list[Section]:
    """What `kenyon avoid --json` says, and one clip frame by frame: the first wrong one, if any.

    Parameters
    ----------
    values : mapping
    judged : sequence of Judged
    """
    wrong = [k for k, one in enumerate(judged) if not _is_right(one)]
    number = wrong[0] if wrong else 0
    chosen = judged[number]
    return [
        Section("Summary", [Facts("All clips", _facts(values))]),
        Section(
            "What was decided",
            [
                Chart("Motion, clips.", _confusion(MODE_NAMES, values["modes"])),
                Chart("What looms, clips.", _confusion(DIRECTION_NAMES, values["directions"])),
            ],
        ),
        *_frame_by_frame(
            f"Clip {number}, {'the first wrong one' if wrong else 'right'}",
            chosen.clip.frames,
            chosen.decisions,
        ),
        Section(
            "Every clip",
            [
                Table(
                    "Clips, and frames until the motion was right for good.",
                    ["clip", "motion", "decided", "looms", "decided so", "right", "frames"],
                    [_row(k, one) for k, one in enumerate(judged)],
                    ["motion", "looms", "right"],
                )
            ],
        ),
    ]


def of_pictures(
    values: Mapping[str, Any], frames: Grey, decisions: Sequence[Decision]
) -> list[Section]:
    """Frames of which nobody knows what is right."""
    facts = {name: value for name, value in values.items() if name != "decisions"}
    rows = [
        [
            k + 1,
            MODE_NAMES[one.mode],
            int(one.mode_counts.max()),
            CELL_NAMES[one.cell],
            int(one.cell_counts.max()),
            one.clocks,
        ]
        for k, one in enumerate(decisions)
    ]
    columns = ["frame", "motion", "spikes", "looms", "spikes there", "clocks"]
    return [
        Section("Summary", [Facts("The input", facts | {"frames": len(frames)})]),
        *_frame_by_frame("Frame by frame", frames, decisions),
        Section("Every frame", [Table("Decisions.", columns, rows, ["motion", "looms"])]),
    ]


def of_worlds(
    values: Mapping[str, Any],
    steered: Sequence[int],
    straight: Sequence[int],
    flight: Sequence[Moment],
) -> list[Section]:
    """Collisions in every world, and the first flight as a film.

    Parameters
    ----------
    values : mapping
    steered, straight : sequence of int
        Collisions in each world.
    flight : sequence of Moment
        With views.
    """
    first = int(values["seed"])
    names = [f"world {first + k}" for k in range(len(steered))]
    labels = [
        f"frame {k}"
        if one.decision is None
        else f"frame {k}: looms {CELL_NAMES[one.decision.cell]}"
        for k, one in enumerate(flight)
    ]
    images = [_png(film.of_moment(one)) for one in flight]
    counts = {"straight on": straight, str(values["source"]): steered}
    rows = [list(row) for row in zip(names, straight, steered, strict=True)]
    hit = [k for k, pair in enumerate(zip(steered, straight, strict=True)) if any(pair)]
    parts: list[Any] = [Table("The same as numbers", ["world", *counts], rows)]
    if hit:
        chart = bars(
            [names[k] for k in hit],
            {name: [one[k] for k in hit] for name, one in counts.items()},
            "collisions",
            stacked=False,
        )
        parts.insert(0, Chart("Balls that were hit; worlds without any are left out.", chart))
    return [
        Section("Summary", [Facts("All worlds", _facts(values))]),
        Section("The first flight", [Frames(SHOWN, images, labels)]),
        Section("Collisions", parts),
    ]


def _facts(values: Mapping[str, Any]) -> dict[str, object]:
    return {
        name.replace("_", " "): str(value) if name == "seed" else value
        for name, value in values.items()
        if name not in NOT_FACTS
    }


def _is_right(one: Judged) -> bool:
    return one.mode == one.clip.mode and one.direction == one.clip.direction


def _row(number: int, one: Judged) -> list[object]:
    return [
        number,
        MODE_NAMES[one.clip.mode],
        MODE_NAMES[one.mode],
        DIRECTION_NAMES[one.clip.direction],
        DIRECTION_NAMES[one.direction],
        _is_right(one),
        one.mode_latency,
    ]


def _frame_by_frame(title: str, frames: Grey, decisions: Sequence[Decision]) -> list[Section]:
    """Frames with decisions over them, and the spikes of each frame."""
    every = -(-len(decisions) // MOST_FRAMES)
    shown = range(0, len(decisions), every)
    caption = SHOWN if every == 1 else f"{SHOWN} One frame in {every}."
    labels = [_label(k + 1, decisions[k]) for k in shown]
    images = [_seen(frames[k + 1], decisions[k], k + 1) for k in shown]
    numbers = np.arange(1, len(decisions) + 1)
    return [
        Section(
            title,
            [
                Frames(caption, images, labels),
                Chart("Spikes of the modes in each frame.", _spikes(numbers, decisions, "mode")),
                Chart("Spikes of the cells in each frame.", _spikes(numbers, decisions, "cell")),
            ],
        )
    ]


def _label(number: int, one: Decision) -> str:
    return f"frame {number}: motion {MODE_NAMES[one.mode]}, looms {CELL_NAMES[one.cell]}"


def _seen(frame: NDArray[np.uint8], decision: Decision, number: int) -> bytes:
    view = np.kron(frame, np.ones((LARGE // SIDE, LARGE // SIDE), np.uint8))
    return _png(film.picture(np.stack([view] * 3, axis=-1), decision, f"frame {number}", 0))


def _png(picture: Any) -> bytes:
    data = io.BytesIO()
    picture.quantize(64).save(data, "PNG", optimize=True)
    return data.getvalue()


def _spikes(numbers: Any, decisions: Sequence[Decision], kind: str) -> Any:
    """Those that spike at all."""
    names = {"mode": MODES, "cell": CELLS}[kind]
    counts = np.stack([getattr(one, f"{kind}_counts") for one in decisions])
    chart = axes("frame", f"spikes in {STEPS} time steps")
    lines(
        chart,
        numbers,
        {name: counts[:, k] for k, name in enumerate(names) if counts[:, k].any()},
        points=True,
    )
    return chart


def _confusion(names: Sequence[str], counts: Sequence[Sequence[int]]) -> Any:
    """Rows: what is right; columns: what was decided."""
    flat = [n for row in counts for n in row]
    high = max(1, *flat)
    chart, source, _ = heat_map(
        names,
        names,
        {
            "row": [name for name in names for _ in names],
            "column": [*names] * len(names),
            "value": flat,
            "text": [str(n) if n else "" for n in flat],
            "ink": ["white" if 2 * n > high else "black" for n in flat],
        },
        ("decided", "right"),
        [("right", "@row"), ("decided", "@column"), ("clips", "@value")],
    )
    chart.text(
        "column",
        "row",
        "text",
        source=source,
        text_color="ink",
        text_align="center",
        text_baseline="middle",
    )
    return chart
