"""A picture of a layout: cells by their type, wires by their layer."""

from pathlib import Path

from firmware_tools.silicon.layout.design import Design
from firmware_tools.silicon.layout.lef import FILL, UNIT
from firmware_tools.silicon.layout.placement import ROW, TRACK_X, TRACK_Y, Place
from firmware_tools.silicon.layout.wires import segments

INCHES, DPI = (7.0, 6.0), 130
AXIS, WIRE = 360.0, 0.25
"""Points of a side of the axes, and um of a wire's width as it is drawn."""
REGISTERS = ("DFFPOSX1", "LATCH")
KINDS = {"registers": "#b9cbe3", "gates": "#e9e9e9", "fill": "#ffffff"}
LAYERS = ("#3465a4", "#cc3333", "#4e9a06", "#c17d11", "#75507b", "#222222")
"""Colours of the metal layers, the lowest first."""


def draw(design: Design, places: dict[str, Place], routed: str, path: Path) -> Path:
    """Write a PNG; returns its path."""
    from matplotlib.collections import LineCollection, PatchCollection
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    figure = Figure(figsize=INCHES, dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    kinds = {name: _kind(place) for name, place in places.items()}
    width = WIRE * AXIS * UNIT / max(place.right for place in places.values())
    for kind, colour in KINDS.items():
        boxes = [
            Rectangle(
                ((place.x + TRACK_X / 2) / UNIT, (place.y + TRACK_Y / 2) / UNIT),
                (place.right - place.x) / UNIT,
                ROW / UNIT,
            )
            for name, place in places.items()
            if kinds[name] == kind
        ]
        axes.add_collection(
            PatchCollection(boxes, facecolor=colour, edgecolor="#bbbbbb", linewidth=0.1, label=kind)
        )
    for layer, colour in enumerate(LAYERS, 1):
        lines = [
            [(x / UNIT, y / UNIT) for x, y in line]
            for name, line in segments(routed)
            if name == f"metal{layer}"
        ]
        axes.add_collection(
            LineCollection(lines, colors=colour, linewidths=width, label=f"metal{layer}")
        )
    axes.autoscale_view()
    axes.set_aspect("equal")
    axes.set_xlabel("um")
    axes.set_title(f"{len(design.instances):,} cells, {len(design.nets):,} nets", fontsize=9)
    legend = axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=7)
    for line in legend.get_lines():
        line.set_linewidth(1)
    figure.savefig(path)
    return path


def _kind(place: Place) -> str:
    if place.kind == FILL:
        return "fill"
    return "registers" if place.kind in REGISTERS else "gates"
