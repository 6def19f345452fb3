"""Clips with known answers: a camera that moves in one mode, and perhaps something that looms."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from firmware_tools.avoid import DIRECTIONS, N_CELLS, N_MODES, RADII, cell_of
from firmware_tools.avoid.pictures import Part, photographs
from firmware_tools.avoid.rendering import (
    SIDE,
    Camera,
    Disc,
    Grey,
    Numbers,
    Picture,
    exposed,
    render,
)

N_FRAMES = 9
NOTHING = len(DIRECTIONS)
"""In place of a direction: nothing looms."""
EXTENTS = (18.0, 30.0)
"""Half the view's side in pixels of the picture, at first."""
TRANSLATION = (0.8, 2.4)
"""Pixels of a frame from frame to frame."""
ROTATION = (math.radians(3), math.radians(8))
ZOOM = (0.05, 0.11)
"""Change of what the view holds, from frame to frame."""
LEAST_CONTRAST = 12.0
"""Standard deviation of grey levels in each quarter of a first view: blank skies do not move."""
GAINS, NOISE = (0.7, 1.2), (0.0, 2.5)
TIME_LEFT = (3.0, 8.0)
"""Frames from the last one of a clip to a collision."""
LAST_RADII = (0.28, 0.6)
"""Of a disc that looms, in a clip's last frame, in halves of the view's side."""
LIGHTS = (30.0, 80.0)
"""Grey levels by which a disc differs from what is behind it, in the mean."""
LEAST_LIGHT = 70
"""Where less is left below or above, a disc is lighter, or darker."""
SOON = 9.0
"""Frames to a collision from which on something counts as looming."""
UNSURE = -100
"""In place of a cell: something comes nearer, but is far away."""
DISTRACTORS = 0.35
"""Share of the clips with a disc that is part of the scene: it moves, but does not loom."""


@dataclass(frozen=True)
class Clip:
    """Frames and what is right.

    Parameters
    ----------
    frames : (n, SIDE, SIDE) uint8
    mode : int
        Of `MODES`.
    direction : int
        Of `DIRECTIONS`, or `NOTHING`.
    cells : (n,) int
        In which cell something looms in each frame; N_CELLS: in none; UNSURE: it is far away.
    """

    frames: Grey
    mode: int
    direction: int
    cells: tuple[int, ...]


def moved(camera: Camera, mode: int, strength: float) -> Camera:
    """The camera one frame later.

    Parameters
    ----------
    camera : Camera
    mode : int
        Of `MODES`.
    strength : float
        0..1, from the least to the largest motion of the mode.
    """
    sign = -1 if mode % 2 == 0 else 1
    if mode < 4:
        low, high = TRANSLATION
        way = sign * (low + (high - low) * strength) * 2 * camera.extent / SIDE
        # The way is one of the view, whatever the camera's angle.
        along = (0.0, way) if mode < 2 else (way, 0.0)
        cos, sin = math.cos(camera.angle), math.sin(camera.angle)
        return replace(
            camera,
            x=camera.x + cos * along[0] - sin * along[1],
            y=camera.y + sin * along[0] + cos * along[1],
        )
    if mode < 6:
        factor = 1 + ZOOM[0] + (ZOOM[1] - ZOOM[0]) * strength
        return replace(camera, extent=camera.extent * factor**sign)
    turn = ROTATION[0] + (ROTATION[1] - ROTATION[0]) * strength
    return replace(camera, angle=camera.angle - sign * turn)


def view_of(x: float, y: float, camera: Camera) -> tuple[float, float]:
    """A point of the picture in the view, in halves of its side."""
    dx, dy = (x - camera.x) / camera.extent, (y - camera.y) / camera.extent
    cos, sin = math.cos(camera.angle), math.sin(camera.angle)
    return cos * dx + sin * dy, -sin * dx + cos * dy


def first_camera(rng: np.random.Generator, picture: Picture, extent: float | None = None) -> Camera:
    """A view with enough contrast; its extent is drawn unless it is given."""
    rows, columns = picture.shape
    while True:
        camera = Camera(
            rng.uniform(0, columns),
            rng.uniform(0, rows),
            rng.uniform(-0.5, 0.5),
            rng.uniform(*EXTENTS) if extent is None else extent,
        )
        if contrast(render(picture, camera)) >= LEAST_CONTRAST:
            return camera


def contrast(frame: Numbers) -> float:
    """Standard deviation of grey levels in the quarter of a frame where it is least."""
    half = frame.shape[0] // 2
    quarters = frame[: 2 * half, : 2 * half].reshape(2, half, 2, half)
    return float(quarters.std(axis=(1, 3)).min())


@dataclass(frozen=True)
class Looming:
    """A disc on its way.

    Parameters
    ----------
    disc : Disc
        As it is in the last frame.
    time_left : float
        Frames from there to a collision.
    bearing : float
        0: it stays at its place while it grows; 1: it moves outward as it grows.
    """

    disc: Disc
    time_left: float
    bearing: float

    def at(self, frames_before: int) -> Disc:
        """The disc as many frames before the last one."""
        size = self.time_left / (self.time_left + frames_before)
        place = size**self.bearing
        disc = self.disc
        return replace(
            disc,
            x=disc.x * place,
            y=disc.y * place,
            radius=disc.radius * size,
        )


def place_in(direction: int, rng: np.random.Generator) -> tuple[float, float]:
    """Where something is that looms in a direction."""
    if direction == 4:
        return rng.uniform(-0.13, 0.13), rng.uniform(-0.13, 0.13)
    far = rng.uniform(RADII[0] + 0.12, 0.85)
    aside = rng.uniform(-0.6, 0.6) * far
    return {0: (aside, -far), 1: (aside, far), 2: (-far, aside), 3: (far, aside)}[direction]


def texture(
    picture: Picture, behind: float, rng: np.random.Generator
) -> tuple[float, float, float, float]:
    """What a disc shows, as in `Disc`: visibly lighter or darker than what is behind it."""
    rows, columns = picture.shape
    x, y, extent = rng.uniform(0, columns), rng.uniform(0, rows), rng.uniform(8, 16)
    mean = float(render(picture, Camera(x, y, 0.0, extent), side=4).mean())
    away = rng.uniform(*LIGHTS)
    is_lighter = (
        behind < 128 if not LEAST_LIGHT < behind < 255 - LEAST_LIGHT else rng.uniform() < 0.5
    )
    return x, y, extent, behind + (away if is_lighter else -away) - mean


def looming(direction: int, picture: Picture, behind: float, rng: np.random.Generator) -> Looming:
    """A disc that looms in a direction."""
    x, y = place_in(direction, rng)
    disc = Disc(x, y, rng.uniform(*LAST_RADII), *texture(picture, behind, rng))
    return Looming(disc, rng.uniform(*TIME_LEFT), rng.uniform(0, 1))


def distractor(camera: Camera, picture: Picture, behind: float, rng: np.random.Generator) -> Disc:
    """A disc at a place of the picture: x, y and radius are in pixels of it."""
    x, y = rng.uniform(-0.8, 0.8, 2) * camera.extent
    radius = rng.uniform(0.15, 0.45) * camera.extent
    return Disc(camera.x + x, camera.y + y, radius, *texture(picture, behind, rng))


def in_view(disc: Disc, camera: Camera) -> Disc:
    """A disc of the picture as the camera sees it."""
    x, y = view_of(disc.x, disc.y, camera)
    return replace(disc, x=x, y=y, radius=disc.radius / camera.extent)


def make(
    picture: Picture,
    mode: int,
    direction: int,
    rng: np.random.Generator,
    frames_before: range = range(N_FRAMES - 1, -1, -1),
) -> Clip:
    """A clip of a mode in which something looms in a direction, or nothing does.

    `frames_before` the last frame of a whole clip are those that are rendered.
    """
    cameras = [first_camera(rng, picture)]
    strength = rng.uniform()
    while len(cameras) < len(frames_before):
        cameras.append(moved(cameras[-1], mode, strength))
    behind = float(render(picture, cameras[-1]).mean())
    still = distractor(cameras[0], picture, behind, rng) if rng.uniform() < DISTRACTORS else None
    approach = looming(direction, picture, behind, rng) if direction != NOTHING else None
    gain, noise = rng.uniform(*GAINS), rng.uniform(*NOISE)
    frames, cells = [], []
    for before, camera in zip(frames_before, cameras, strict=True):
        discs = [] if still is None else [in_view(still, camera)]
        cells.append(N_CELLS)
        if approach is not None:
            disc = approach.at(before)
            discs.append(disc)
            is_soon = approach.time_left + before <= SOON
            cells[-1] = cell_of(disc.x, disc.y) if is_soon else UNSURE
        frames.append(exposed(render(picture, camera, tuple(discs)), gain, noise, rng))
    return Clip(np.stack(frames), mode, direction, tuple(cells))


def generate(n: int, seed: int, part: Part = "test", only: int | None = None) -> Iterator[Clip]:
    """Clips of all modes and directions in turn, each from its own numbers.

    Parameters
    ----------
    n, seed : int
    part : str
        Of the photographs.
    only : int or None
        The mode of all clips.
    """
    pictures = photographs(part)
    for k in range(n):
        rng = np.random.default_rng([seed, k])
        picture = pictures[int(rng.integers(len(pictures)))]
        # 8 modes and 5 directions have no common divisor: every pair comes in 40 clips.
        mode = k % N_MODES if only is None else only
        yield make(picture, mode, k % len(DIRECTIONS), rng)


def pairs(n: int, seed: int, part: Part = "training") -> Iterator[Clip]:
    """Clips of two frames, somewhere in a whole one: what the perception learns from."""
    pictures = photographs(part)
    rng = np.random.default_rng([seed, n])
    for k in range(n):
        picture = pictures[int(rng.integers(len(pictures)))]
        before = int(rng.integers(N_FRAMES - 1))
        direction = int(rng.integers(NOTHING + 1))
        yield make(picture, k % N_MODES, direction, rng, range(before + 1, before - 1, -1))
