"""The baseline: classical dense optical flow on the host, in place of the network on MARS.

Farneback's flow between two frames is explained, by robust least squares, by four motions of the
camera:

    flow(u, v) = (x + zoom u - turn v,  y + zoom v + turn u)

u and v in pixels, right and down of the view's centre. Each of them, as the mean speed that it
brings into the view, speaks for one mode or for its opponent. What looms diverges more than the
camera's motion explains: the divergence of the rest of the flow, smoothed, speaks for the cell in
which it is largest. Its constants were chosen on clips of the training pictures.
"""

from functools import cache
from typing import Any

import numpy as np

from firmware_tools.avoid import N_CELLS, cell_of
from firmware_tools.avoid.rendering import SIDE, Grey, Numbers
from firmware_tools.errors import UserError

ENLARGED = 2
"""Farneback sees frames so many times larger: it was made for more pixels."""
LEVELS, WINDOW, ITERATIONS, NEIGHBOURHOOD, SIGMA = 2, 11, 5, 5, 1.1
ROUNDS = 8
"""Of the robust fit: pixels count less the farther they are from the last one."""
TOLERANCE = 0.5
"""Pixels that a motion may be off until it counts half."""
SMOOTHING = 3.0
"""Standard deviation, in pixels, of what smooths the divergence."""
LEAST_DIVERGENCE = 0.08
"""Per frame; less is taken for none."""
MOTION_GAIN, LOOMING_GAIN = 4.0, 20.0
"""Make scores of speeds (pixels per frame) and divergences, like the network's results."""


@cache
def opencv() -> Any:
    """OpenCV, on one core; UserError if it is not installed."""
    try:
        import cv2
    except ImportError:
        raise UserError("optical flow needs OpenCV: pip install 'kenyon[vision]'") from None
    cv2.setNumThreads(1)
    return cv2


@cache
def _places() -> Numbers:
    """Right and down of the centre for each pixel, (2, SIDE, SIDE)."""
    along = np.arange(SIDE) - (SIDE - 1) / 2
    return np.stack(np.meshgrid(along, along))


@cache
def _motions() -> Numbers:
    """Flow of a unit of x, y, zoom and turn: (2 SIDE SIDE, 4)."""
    u, v = _places()
    one, zero = np.ones_like(u), np.zeros_like(u)
    right = np.stack([one, zero, u, -v])
    down = np.stack([zero, one, v, u])
    return np.stack([right, down], 1).reshape(4, -1).T


@cache
def _cells() -> Numbers:
    """The cell of each pixel, (SIDE, SIDE)."""
    u, v = _places() / (SIDE / 2)
    return np.array(
        [[cell_of(x, y) for x, y in zip(*row, strict=True)] for row in zip(u, v, strict=True)]
    )


def flow(before: Grey, after: Grey) -> Numbers:
    """Motion of each pixel, right and down: (2, SIDE, SIDE), pixels."""
    cv2 = opencv()
    size = (SIDE * ENLARGED, SIDE * ENLARGED)
    first, second = (
        cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC) for frame in (before, after)
    )
    large = cv2.calcOpticalFlowFarneback(
        first, second, None, 0.5, LEVELS, WINDOW, ITERATIONS, NEIGHBOURHOOD, SIGMA, 0
    )
    small = cv2.resize(large, (SIDE, SIDE), interpolation=cv2.INTER_AREA) / ENLARGED
    return np.asarray(small.transpose(2, 0, 1), np.float64)


def fit(seen: Numbers, texture: Numbers) -> Numbers:
    """x, y, zoom and turn that explain a flow, (4,).

    Parameters
    ----------
    seen : (2, SIDE, SIDE)
    texture : (SIDE, SIDE)
        How much each pixel counts at first.
    """
    motions, target = _motions(), seen.reshape(-1)
    weight = texture
    found: Numbers = np.zeros(4)
    for _ in range(ROUNDS):
        both = np.tile(weight.reshape(-1), 2)
        scaled = motions * both[:, None]
        found = np.asarray(
            np.linalg.solve(motions.T @ scaled + 1e-6 * np.eye(4), scaled.T @ target), np.float64
        )
        off = (target - motions @ found).reshape(2, SIDE, SIDE)
        weight = texture / (1 + (off**2).sum(0) / TOLERANCE**2)
    return found


def scores(before: Grey, after: Grey) -> Numbers:
    """What speaks for each mode and each cell, (21,), like the network's results."""
    cv2 = opencv()
    seen = flow(before, after)
    rows, columns = np.gradient(before.astype(np.float64))
    texture = np.sqrt(rows**2 + columns**2)
    texture = np.minimum(texture / max(float(texture.mean()), 1e-6), 3) + 1e-3
    x, y, zoom, turn = fit(seen, texture)
    spread = float(np.sqrt((_places() ** 2).sum(0).mean()))
    modes = MOTION_GAIN * np.array(
        [y, -y, x, -x, zoom * spread, -zoom * spread, -turn * spread, turn * spread]
    )
    rest = seen - (_motions() @ np.array([x, y, zoom, turn])).reshape(2, SIDE, SIDE)
    divergence = np.gradient(rest[0], axis=1) + np.gradient(rest[1], axis=0)
    smooth = cv2.GaussianBlur(divergence, (0, 0), SMOOTHING)
    most = np.array([smooth[_cells() == cell].max() for cell in range(N_CELLS)])
    return np.concatenate([modes, LOOMING_GAIN * (most - LEAST_DIVERGENCE)])
