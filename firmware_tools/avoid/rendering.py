"""What a camera sees: a picture far away, and discs in front of it.

A picture is continued beyond its edges by its mirror image, so that a camera may move any way it
likes. A pixel is the mean of 2 x 2 samples, each interpolated between four points of the picture.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

SIDE = 32
"""Rows and columns of a frame."""
SAMPLES = 2
"""Per pixel and axis."""
Grey = NDArray[np.uint8]
Picture = NDArray[np.float32]
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Camera:
    """Where it looks, and how.

    Parameters
    ----------
    x, y : float
        Point of the picture in the middle of the view, in pixels of the picture.
    angle : float
        Clockwise, radians.
    extent : float
        Half the side of the view, in pixels of the picture.
    """

    x: float
    y: float
    angle: float
    extent: float


@dataclass(frozen=True)
class Disc:
    """Something round in front of the picture.

    Parameters
    ----------
    x, y, radius : float
        In halves of the view's side, right and down of its centre.
    texture_x, texture_y, texture_extent : float
        The part of the picture that it shows: centre and radius, in pixels.
    light : float
        Added to its grey levels.
    """

    x: float
    y: float
    radius: float
    texture_x: float
    texture_y: float
    texture_extent: float
    light: float


@njit(cache=True)
def _mirrored(k: int, n: int) -> int:
    """Index of a picture that is continued by its mirror image."""
    k %= 2 * n
    return k if k < n else 2 * n - 1 - k


@njit(cache=True)
def _sample(picture: Picture, x: float, y: float) -> float:
    left, top = int(np.floor(x)), int(np.floor(y))
    dx, dy = x - left, y - top
    n_rows, n_cols = picture.shape
    r0, r1 = _mirrored(top, n_rows), _mirrored(top + 1, n_rows)
    c0, c1 = _mirrored(left, n_cols), _mirrored(left + 1, n_cols)
    upper = picture[r0, c0] * (1 - dx) + picture[r0, c1] * dx
    lower = picture[r1, c0] * (1 - dx) + picture[r1, c1] * dx
    return float(upper * (1 - dy) + lower * dy)


@njit(cache=True)
def _render(picture: Picture, camera: Numbers, discs: Numbers, side: int) -> Numbers:
    """Grey levels (side, side); `discs` (n, 7), the nearest one last."""
    x0, y0, angle, extent = camera
    cos, sin = np.cos(angle), np.sin(angle)
    frame = np.zeros((side, side))
    n = side * SAMPLES
    for row in range(n):
        v = (2 * row + 1) / n - 1
        for column in range(n):
            u = (2 * column + 1) / n - 1
            hit = -1
            for k in range(len(discs)):
                du, dv = u - discs[k, 0], v - discs[k, 1]
                if du * du + dv * dv < discs[k, 2] * discs[k, 2]:
                    hit = k
            if hit < 0:
                value = _sample(
                    picture, x0 + extent * (cos * u - sin * v), y0 + extent * (sin * u + cos * v)
                )
            else:
                disc = discs[hit]
                scale = disc[5] / disc[2]
                value = disc[6] + _sample(
                    picture, disc[3] + scale * (u - disc[0]), disc[4] + scale * (v - disc[1])
                )
            frame[row // SAMPLES, column // SAMPLES] += value
    return frame / (SAMPLES * SAMPLES)


def render(
    picture: Picture, camera: Camera, discs: tuple[Disc, ...] = (), side: int = SIDE
) -> Numbers:
    """What the camera sees.

    Parameters
    ----------
    picture : (rows, columns) float32
        Grey levels, 0..255.
    camera : Camera
    discs : tuple of Disc
        The nearest one last.
    side : int
        Rows and columns of the frame.

    Returns
    -------
    (side, side) float64
    """
    numbers = np.array(
        [(d.x, d.y, d.radius, d.texture_x, d.texture_y, d.texture_extent, d.light) for d in discs]
    ).reshape(-1, 7)
    where = np.array([camera.x, camera.y, camera.angle, camera.extent])
    return np.asarray(_render(picture, where, numbers, side))


def exposed(frame: Numbers, gain: float, noise: float, rng: np.random.Generator) -> Grey:
    """Grey levels of a sensor with a gain around mid-grey and normally distributed noise."""
    seen = 128 + gain * (frame - 128) + noise * rng.standard_normal(frame.shape)
    return np.clip(np.rint(seen), 0, 255).astype(np.uint8)
