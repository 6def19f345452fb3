"""A small world: a craft flies through balls towards a wall, and may move aside.

Lengths are in units of a ball's diameter, times in video frames, directions right, down and ahead.
The camera looks ahead, always. `firmware_tools.avoid.environment` is Gymnasium's interface to it.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from firmware_tools.avoid import N_CELLS, cell_of
from firmware_tools.avoid.clips import GAINS, NOISE, SOON, first_camera, texture
from firmware_tools.avoid.rendering import (
    Camera,
    Disc,
    Grey,
    Numbers,
    Picture,
    exposed,
    render,
)

N_FRAMES = 60
"""Of a flight."""
WALL = 90
"""Frames from the start to the wall, which is the picture."""
SPEED = 0.5
"""Ahead, units per frame."""
SIDE_SPEED = 0.28
"""Up, down, left or right."""
INERTIA = 0.5
"""Of the speed aside, what is left of it from frame to frame."""
RADIUS, CRAFT = 0.5, 0.15
"""Of a ball and of the craft; they collide where their distance is less than the sum."""
DENSITY = 0.02
"""Balls in a cubic unit."""
REACH = 12.0
"""How far from the first line of flight balls are, up, down, left and right."""
CLEAR = 5.0
"""Ahead of the start there are none."""
VIEW = 0.6
"""Tangent of half the view's angle."""
FAR = 8.0
"""Balls farther than that are too small to be seen."""
NEAR = 0.15
"""A ball nearer than that is beside the camera."""
WALL_EXTENT = 54.0
"""Half the side of what is seen of the wall at first, in pixels of the picture."""
MOTIONS = ((0.0, 0.0), (0.0, -1.0), (0.0, 1.0), (-1.0, 0.0), (1.0, 0.0))
"""Right and down, for each action: straight on, up, down, left, right."""


@dataclass(frozen=True)
class Balls:
    """All balls of a world.

    Parameters
    ----------
    centres : (n, 3) float64
        Right, down, ahead.
    textures : (n, 4) float64
        Centre and radius of the part of the picture that it shows, and what is added to it.
    """

    centres: Numbers
    textures: Numbers


class World:
    """The state of a flight.

    Parameters
    ----------
    picture : Picture
    rng : Generator
        For the balls, and for the sensor's noise.

    Attributes
    ----------
    place, velocity : (2,) float64
        Of the craft: right and down, units and units per frame.
    frame : int
        How many have passed.
    collisions : int
        Balls that have been hit.
    """

    def __init__(self, picture: Picture, rng: np.random.Generator) -> None:
        self._picture, self._rng = picture, rng
        self.place, self.velocity = np.zeros(2), np.zeros(2)
        self.frame = self.collisions = 0
        self._looks_at = first_camera(rng, picture, WALL_EXTENT * (1 - N_FRAMES / WALL))
        self.put(_balls(picture, float(render(picture, self._camera()).mean()), rng))
        self._gain, self._noise = rng.uniform(*GAINS), rng.uniform(*NOISE)

    def put(self, balls: Balls) -> None:
        """Have these balls in the world, and no others."""
        self.balls = balls
        self._was_hit = np.zeros(len(balls.centres), np.bool_)

    @property
    def is_over(self) -> bool:
        """Whether the flight has ended."""
        return self.frame >= N_FRAMES

    def move(self, action: int) -> int:
        """Fly one frame; the number of balls that were hit on the way."""
        aim = np.array(MOTIONS[action]) * SIDE_SPEED
        self.velocity = INERTIA * self.velocity + (1 - INERTIA) * aim
        step = np.array([*self.velocity, SPEED])
        hit = self._distances(step) < RADIUS + CRAFT
        new = int((hit & ~self._was_hit).sum())
        self._was_hit |= hit
        self.place = self.place + self.velocity
        self.frame += 1
        self.collisions += new
        return new

    def _distances(self, step: Numbers) -> Numbers:
        """Least distance of each ball's centre from the craft while it makes a step."""
        ahead = self.relative()
        along = np.clip(ahead @ step / (step @ step), 0, 1)
        return np.asarray(np.linalg.norm(ahead - along[:, None] * step, axis=1))

    def relative(self) -> Numbers:
        """Balls as the craft sees them, (n, 3)."""
        here = np.array([*self.place, self.frame * SPEED])
        return np.asarray(self.balls.centres - here, np.float64)

    def visible(self) -> NDArray[np.intp]:
        """Numbers of the balls before the camera, the nearest one last, (n,)."""
        x, y, z = self.relative().T
        reach = VIEW * z + RADIUS
        seen = (z > NEAR) & (z < FAR) & (np.abs(x) < reach) & (np.abs(y) < reach)
        numbers = np.flatnonzero(seen)
        return np.asarray(numbers[np.argsort(-z[numbers])])

    def discs(self) -> tuple[Disc, ...]:
        """The balls in the view, the nearest one last."""
        return tuple(self._disc(int(k)) for k in self.visible())

    def _disc(self, ball: int) -> Disc:
        x, y, z = self.relative()[ball].tolist()
        reach = VIEW * z
        texture_x, texture_y, extent, light = self.balls.textures[ball].tolist()
        return Disc(x / reach, y / reach, RADIUS / reach, texture_x, texture_y, extent, light)

    def _camera(self) -> Camera:
        scale = WALL_EXTENT / (VIEW * SPEED * WALL)  # pixels of the picture per unit of the wall
        return replace(
            self._looks_at,
            x=self._looks_at.x + float(self.place[0]) * scale,
            y=self._looks_at.y + float(self.place[1]) * scale,
            extent=WALL_EXTENT * (WALL - self.frame) / WALL,
        )

    def threat(self) -> int:
        """The cell in which something looms most; N_CELLS: in none."""
        cell = N_CELLS
        for k in self.visible():  # the nearest one last, which grows most
            disc, frames_left = self._disc(int(k)), self.relative()[k, 2] / SPEED
            if max(abs(disc.x), abs(disc.y)) < 1 and frames_left <= SOON:
                cell = cell_of(disc.x, disc.y)
        return cell

    def look(self, side: int | None = None) -> Grey:
        """What the camera sees."""
        camera = self._camera()
        if side is not None:
            return exposed(render(self._picture, camera, self.discs(), side), 1.0, 0.0, self._rng)
        return exposed(
            render(self._picture, camera, self.discs()), self._gain, self._noise, self._rng
        )


def _balls(picture: Picture, behind: float, rng: np.random.Generator) -> Balls:
    length = (N_FRAMES * SPEED) + FAR - CLEAR
    n = rng.poisson(DENSITY * (2 * REACH) ** 2 * length)
    centres = rng.uniform((-REACH, -REACH, CLEAR), (REACH, REACH, CLEAR + length), (n, 3))
    return Balls(centres, np.array([texture(picture, behind, rng) for _ in range(n)]))
