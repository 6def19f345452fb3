"""Heat map of the CKA of two networks."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from firmware_tools.npu.plot import STYLE, WIDTH
from firmware_tools.similarity.compare import Similarity
from firmware_tools.similarity.features import Place

CELL, MARGIN = 0.28, 2.2
"""Inches of a place, and of the names beside them."""
NUMBERS_MAX = 16
"""Most places of a network up to which cells have their numbers."""
NOTHING = "#bbbbbb"
"""Colour of a pair without CKA."""
SIZE_MAX = 30.0


def draw(similarity: Similarity, names: tuple[str, str], path: Path) -> None:
    """Draw as PNG or SVG, which the name's ending says."""
    with mpl.rc_context(STYLE):
        figure = _figure(similarity, names)
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)


def _figure(similarity: Similarity, names: tuple[str, str]) -> Figure:
    rows, columns = similarity.cka.shape
    size = [min(max(CELL * n + MARGIN, WIDTH / 2), SIZE_MAX) for n in (columns, rows)]
    figure = Figure(figsize=(size[0], size[1]), layout="constrained")
    axes = figure.subplots()
    shades = mpl.colormaps["viridis"].with_extremes(bad=NOTHING)
    shown = axes.imshow(np.ma.masked_invalid(similarity.cka), cmap=shades, vmin=0, vmax=1)
    axes.set_xticks(range(columns), _labels(similarity.second), rotation=90)
    axes.set_yticks(range(rows), _labels(similarity.first))
    axes.set_xlabel(names[1])
    axes.set_ylabel(names[0])
    if max(rows, columns) <= NUMBERS_MAX:
        for (row, column), value in np.ndenumerate(similarity.cka):
            text = "-" if np.isnan(value) else f"{value:.2f}"
            colour = "black" if value > 0.6 else "white"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=6)
    figure.colorbar(shown, label="CKA (grey: the same for all images)", shrink=0.8)
    return figure


def _labels(places: tuple[Place, ...]) -> list[str]:
    return [str(place) for place in places]
