"""Pictures of traces: spike raster and membrane potentials."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from firmware_tools.npu.trace_file import Recording
from model.npu.network import Ints

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
"""One per population, over and over; told apart by colour-blind readers too (Okabe and Ito)."""
GREY = "#808080"
MAX_LINES = 6
"""Neurons up to which each potential is a line; more are shown as a map."""
MANY_POINTS = 20_000
"""Spikes from which on they are drawn as pixels in a vector picture as well."""
POINTS = 72
"""Of an inch."""
WIDTH, EVENTS_HEIGHT, POTENTIALS_HEIGHT = 11.0, 1.1, 3.2
"""Inches."""
MIN_BAR, MAX_BAR, MIN_DOT = 4, 14, 1.5
"""Points: rows from which on a spike is a bar, and the size of the marks."""
STYLE: dict[Any, object] = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "svg.hashsalt": "kenyon",  # the same picture is the same file
}


def draw(recording: Recording, path: Path) -> None:
    """Draw a run as PNG or SVG, which the name's ending says."""
    with mpl.rc_context(STYLE):
        figure = _figure(recording)
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)


def _figure(recording: Recording) -> Figure:
    n = recording.v.shape[1]
    events = _events(recording)
    heights = [_raster_height(n), POTENTIALS_HEIGHT]
    if len(events):
        heights.insert(0, EVENTS_HEIGHT)
    figure = Figure(figsize=(WIDTH, sum(heights) + 1), layout="constrained")
    panels = figure.subplots(len(heights), sharex=True, height_ratios=heights, squeeze=False)[:, 0]
    if len(events):
        _draw_events(panels[0], events)
    _draw_raster(panels[-2], recording)
    if n <= MAX_LINES:
        _draw_lines(panels[-1], recording)
    else:
        _draw_map(figure, panels[-1], recording)
    steps = len(recording.v)
    panels[-1].set_xlim(recording.first_step - 0.5, recording.first_step + steps - 0.5)
    panels[-1].set_xlabel("time step")
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    noun = "neuron" if n == 1 else "neurons"
    figure.suptitle(f"{recording.name}: {n:,} {noun}, {steps:,} time steps", fontweight="bold")
    return figure


def _raster_height(n_neurons: int) -> float:
    return 1 + 2.5 * min(n_neurons / 60, 1)


def _populations(recording: Recording) -> list[tuple[str, slice, str]]:
    """Name, neurons and colour of each population."""
    if recording.populations is None:
        return [("", slice(0, recording.v.shape[1]), COLOURS[0])]
    ends = np.cumsum(recording.populations).tolist()
    starts = [0, *ends[:-1]]
    return [
        (f"population {p}", slice(start, end), COLOURS[p % len(COLOURS)])
        for p, (start, end) in enumerate(zip(starts, ends, strict=True))
    ]


def _events(recording: Recording) -> Ints:
    """External events in the time steps of the recording."""
    step = recording.events[:, 0] - recording.first_step
    return recording.events[(step >= 0) & (step < len(recording.v))]


def _points(axes: Axes, x: Ints, y: Ints, height: float, colour: str) -> None:
    """A mark per spike in rows that are `height` points high."""
    as_bars = height > MIN_BAR
    axes.plot(
        x,
        y,
        linestyle="none",
        marker="|" if as_bars else "o",
        markersize=min(0.8 * height, MAX_BAR) if as_bars else max(height, MIN_DOT),
        markeredgewidth=1 if as_bars else 0,
        color=colour,
        rasterized=len(x) > MANY_POINTS,
    )


def _draw_events(axes: Axes, events: Ints) -> None:
    n_axons = int(events[:, 1].max()) + 1
    _points(axes, events[:, 0], events[:, 1], POINTS * EVENTS_HEIGHT / n_axons, GREY)
    axes.set_ylim(n_axons - 0.5, -0.5)
    axes.set_ylabel("axon")
    axes.set_title("external events")
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))


def _draw_raster(axes: Axes, recording: Recording) -> None:
    n = recording.v.shape[1]
    for name, part, colour in _populations(recording):
        step, neuron = np.nonzero(recording.spikes[:, part])
        row = POINTS * _raster_height(n) / n
        _points(axes, step + recording.first_step, neuron + part.start, row, colour)
        axes.axhspan(part.start - 0.5, part.stop - 0.5, color=colour, alpha=0.06, linewidth=0)
        _name(axes, name, part, colour)
    axes.set_ylim(n - 0.5, -0.5)
    axes.set_ylabel("neuron")
    axes.set_title("spikes")
    axes.yaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))


def _name(axes: Axes, name: str, part: slice, colour: str) -> None:
    axes.annotate(
        name,
        xy=(1, (part.start + part.stop - 1) / 2),
        xycoords=("axes fraction", "data"),
        xytext=(6, 0),
        textcoords="offset points",
        rotation=270,
        va="center",
        color=colour,
    )


def _draw_lines(axes: Axes, recording: Recording) -> None:
    steps = np.arange(len(recording.v)) + recording.first_step
    for k in range(recording.v.shape[1]):
        axes.plot(steps, recording.v[:, k], linewidth=1.1, label=f"neuron {k}")
    axes.set_ylim(-5, 260)
    axes.set_yticks([0, 64, 128, 192, 255])
    axes.set_ylabel("level")
    axes.set_title("membrane potentials")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)


def _draw_map(figure: Figure, axes: Axes, recording: Recording) -> None:
    n_steps, n = recording.v.shape
    left = recording.first_step - 0.5
    image = axes.imshow(
        recording.v.T,
        aspect="auto",
        cmap="viridis",
        vmin=0,
        vmax=255,
        extent=(left, left + n_steps, n - 0.5, -0.5),
        interpolation_stage="data",
    )
    for _, part, _ in _populations(recording)[1:]:
        axes.axhline(part.start - 0.5, color="white", linewidth=1.2)
    for name, part, colour in _populations(recording):
        _name(axes, name, part, colour)
    axes.set_ylabel("neuron")
    axes.set_title("membrane potentials")
    axes.yaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    figure.colorbar(image, ax=axes, label="level", ticks=[0, 64, 128, 192, 255], pad=0.03)
