"""Films and stills of a flight: what is seen, what spikes, where it goes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_tools.avoid import CELLS, CENTRE, MODES, RADII, direction_of
from firmware_tools.avoid.decision import Decision
from firmware_tools.avoid.environment import LARGE
from firmware_tools.avoid.flying import Moment
from firmware_tools.avoid.populations import STEPS
from firmware_tools.errors import UserError

SUFFIXES = (".gif", ".png")
MARGIN, BAR = 12, 110
MILLISECONDS = 62
"""Of a frame; half as fast as it is flown."""
STILLS = 6
"""Frames of a picture."""
DARK, LIGHT, HOT, CALM = "#101418", "#e8e8e8", (255, 96, 32), (44, 52, 60)
ARROWS = {1: (0, -1), 2: (0, 1), 3: (-1, 0), 4: (1, 0)}


def check(path: Path) -> None:
    """Refuse a file that is neither film nor picture."""
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path}: film must end in {' or '.join(SUFFIXES)}")


def write(moments: Sequence[Moment], path: Path) -> None:
    """Write a GIF of all moments, or a PNG of some.

    Parameters
    ----------
    moments : sequence of Moment
        With their views.
    path : Path
    """
    from PIL import Image

    check(path)
    if path.suffix == ".gif":
        first, *rest = [of_moment(moment) for moment in moments]
        first.save(path, save_all=True, append_images=rest, duration=MILLISECONDS, loop=0)
        return
    chosen = _stills(moments)
    pictures = [of_moment(moment) for moment in chosen]
    width, height = pictures[0].size
    columns = 2
    rows = -(-len(pictures) // columns)
    whole = Image.new("RGB", (columns * width, rows * height), DARK)
    for k, picture in enumerate(pictures):
        whole.paste(picture, (k % columns * width, k // columns * height))
    whole.quantize(64).save(path, optimize=True)


def _stills(moments: Sequence[Moment]) -> list[Moment]:
    """Consecutive moments around the one in which most cells spikes were counted."""
    counts = [0 if m.decision is None else int(m.decision.cell_counts.max()) for m in moments]
    most = max(range(len(counts)), key=counts.__getitem__)
    last = min(most + 1 + STILLS // 2, len(moments))
    return list(moments[max(last - STILLS, 0) : last])


def of_moment(moment: Moment) -> Any:
    """A frame of a flight."""
    assert moment.view is not None
    caption = f"collisions: {moment.collisions}"
    return picture(moment.view, moment.decision, caption, moment.action)


def picture(view: NDArray[np.uint8], decision: Decision | None, caption: str, action: int) -> Any:
    """What is seen, what spikes, and where it goes.

    Parameters
    ----------
    view : (LARGE, LARGE, 3) uint8
    decision : Decision or None
    caption : str
        Below the view.
    action : int
        0 if nothing is steered.
    """
    from PIL import Image, ImageDraw

    size = (3 * MARGIN + 2 * LARGE + BAR, LARGE + 2 * MARGIN + 16)
    drawn = Image.new("RGB", size, DARK)
    drawn.paste(Image.fromarray(view), (MARGIN, MARGIN))
    draw = ImageDraw.Draw(drawn)
    draw.text((MARGIN, LARGE + MARGIN + 2), caption, fill=LIGHT)
    if decision is None:
        return drawn
    _draw_cells(draw, decision, action, 2 * MARGIN + LARGE)
    _draw_modes(draw, decision, 3 * MARGIN + 2 * LARGE)
    name = (*CELLS, "nothing")[decision.cell]
    draw.text((2 * MARGIN + LARGE, LARGE + MARGIN + 2), f"looms: {name}", fill=LIGHT)
    return drawn


def _heat(count: int) -> tuple[int, ...]:
    share = min(count / (STEPS / 2), 1)
    return tuple(round(c + (h - c) * share) for c, h in zip(CALM, HOT, strict=True))


def _draw_cells(draw: Any, decision: Decision, action: int, left: int) -> None:
    """Cells where they are in the view, the outermost first, and the way that is taken."""
    half = LARGE / 2
    x, y = left + half, MARGIN + half
    corners = {
        0: ((-1, -1), (1, -1)),
        1: ((-1, 1), (1, 1)),
        2: ((-1, -1), (-1, 1)),
        3: ((1, -1), (1, 1)),
    }
    for cell in reversed(range(CENTRE)):
        reach = half * (*RADII[1:], 1.0)[cell // 4]
        a, b = corners[direction_of(cell)]
        points = [(x, y), *((x + reach * p[0], y + reach * p[1]) for p in (a, b))]
        colour = _heat(int(decision.cell_counts[cell]))
        draw.polygon(points, fill=colour, outline=DARK)
    inner = half * RADII[0]
    colour = _heat(int(decision.cell_counts[CENTRE]))
    draw.rectangle((x - inner, y - inner, x + inner, y + inner), fill=colour, outline=DARK)
    if action:
        dx, dy = (half * 0.8 * part for part in ARROWS[action])
        draw.line((x, y, x + dx, y + dy), fill=LIGHT, width=4)
        draw.ellipse((x + dx - 6, y + dy - 6, x + dx + 6, y + dy + 6), fill=LIGHT)


def _draw_modes(draw: Any, decision: Decision, left: int) -> None:
    height = LARGE // len(MODES)
    for k, name in enumerate(MODES):
        top = MARGIN + k * height
        count = int(decision.mode_counts[k])
        length = min(count / (STEPS / 2), 1) * BAR
        draw.rectangle((left, top + 12, left + length, top + height - 4), fill=_heat(count))
        draw.text((left, top), name, fill=LIGHT)
