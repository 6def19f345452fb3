"""Pictures of `kenyon bench mars --json`: utilisation of each layer, and a macro timeline."""

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import StrMethodFormatter

from firmware_tools.errors import UserError
from firmware_tools.npu.plot import STYLE, WIDTH

PARTS = {
    "steps": ("working", "#009e73"),
    "weight_stalls": ("waiting for weights", "#d55e00"),
    "drain_stalls": ("waiting for post-processing", "#cc79a7"),
    "layer_stalls": ("waiting for the layer before", "#808080"),
}
"""Field of a pass: name and colour of its bar."""
LOADED, COMPUTING, WHOLE = "#e69f00", "#0072b2", "#e8e8e8"
MANY_BLOCKS = 16
"""Kernel blocks from which on no line is drawn between them."""
ROW_HEIGHT = 0.24
"""Inches of a pass in each panel."""
FIELDS = ("layers", "clocks", "end", "blocks", "accesses", *PARTS)


def read(path: Path) -> dict[str, Any]:
    """The JSON of `kenyon bench mars`."""
    what = f"{path}: must be what `kenyon bench mars --json` wrote"
    try:
        values: object = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{what} ({error})") from None
    passes = values.get("passes") if isinstance(values, dict) else None
    if not isinstance(values, dict) or not isinstance(passes, list) or not passes:
        raise UserError(f"{what}; it has no passes")
    for name in ("network", "configuration", "macros"):
        if name not in values:
            raise UserError(f"{what}; it has no {name!r}")
    for k, one in enumerate(passes):
        for name in FIELDS:
            if not isinstance(one, dict) or name not in one:
                raise UserError(f"{what}; passes[{k}] has no {name!r}")
    return values


def draw(values: dict[str, Any], path: Path) -> None:
    """Draw as PNG or SVG, which the name's ending says."""
    with mpl.rc_context(STYLE):
        figure = _figure(values)
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)


def _figure(values: dict[str, Any]) -> Figure:
    passes = values["passes"]
    height = 2 + 2 * ROW_HEIGHT * (len(passes) + 2)
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    shares, timeline = figure.subplots(2)
    names = ["+".join(one["layers"]) or "input" for one in passes]
    for axes in (shares, timeline):
        axes.set_yticks(range(len(passes)), names)
        axes.set_ylim(len(passes) - 0.5, -0.5)
    _draw_shares(shares, passes, values["macros"])
    _draw_timeline(timeline, passes)
    clocks = passes[-1]["end"]
    figure.suptitle(
        f"{values['network']} on {values['configuration']}: {clocks:,} clocks", fontweight="bold"
    )
    return figure


def _draw_shares(axes: Axes, passes: list[dict[str, Any]], n_macros: int) -> None:
    left = [0.0] * len(passes)
    for name, (label, colour) in PARTS.items():
        widths = [100 * one[name] / one["clocks"] for one in passes]
        axes.barh(range(len(passes)), widths, left=left, color=colour, label=label, height=0.75)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    busy = [100 * one["accesses"] / (n_macros * one["clocks"]) for one in passes]
    axes.plot(
        busy, range(len(passes)), linestyle="none", marker="|", color="black", label="macros busy"
    )
    axes.set_xlim(0, 100)
    axes.set_xlabel("% of the pass's clocks")
    axes.set_title("utilisation")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)


def _draw_timeline(axes: Axes, passes: list[dict[str, Any]]) -> None:
    """Kernel blocks: from complete weights to their first step, and their steps."""
    for row, one in enumerate(passes):
        begin = one["end"] - one["clocks"]
        axes.barh(row, one["clocks"], left=begin, color=WHOLE, height=0.85)
        waiting = [(loaded, max(first - loaded, 0)) for loaded, first, _ in one["blocks"]]
        steps = [(first, last - first + 1) for _, first, last in one["blocks"]]
        edge = 0.2 if len(steps) <= MANY_BLOCKS else 0
        axes.broken_barh(waiting, (row - 0.38, 0.2), color=LOADED)
        axes.broken_barh(
            steps, (row - 0.12, 0.5), color=COMPUTING, edgecolor="white", linewidth=edge
        )
    handles = [
        Patch(color=colour, label=label)
        for colour, label in (
            (LOADED, "kernel block loaded, waits"),
            (COMPUTING, "kernel block computes"),
            (WHOLE, "pass"),
        )
    ]
    axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    axes.set_xlim(0, passes[-1]["end"])
    axes.set_xlabel("clock")
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_title("macros")
