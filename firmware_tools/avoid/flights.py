"""Pairs of frames of flights through the world, to learn from."""

from collections.abc import Iterator

import numpy as np

from firmware_tools.avoid import MODES
from firmware_tools.avoid.clips import UNSURE
from firmware_tools.avoid.pictures import Part, photographs
from firmware_tools.avoid.rendering import Grey
from firmware_tools.avoid.world import MOTIONS, World

FORWARD = MODES.index("forward")
PAIRS_PER_FLIGHT = 12
KEPT = 0.7
"""Probability that an action is kept for another frame."""


def flight_pairs(n: int, seed: int, part: Part = "training") -> Iterator[tuple[Grey, int, int]]:
    """Two frames, the mode and the cell in which something looms most.

    The craft moves at random. While it moves aside its mode is UNSURE: the wall goes one way, balls
    another.
    """
    pictures = photographs(part)
    for k in range(-(-n // PAIRS_PER_FLIGHT)):
        rng = np.random.default_rng([seed, k, n])
        world = World(pictures[k % len(pictures)], rng)
        yield from list(_pairs(world, rng))[: n - k * PAIRS_PER_FLIGHT]


def _pairs(world: World, rng: np.random.Generator) -> Iterator[tuple[Grey, int, int]]:
    action = 0
    for _ in range(PAIRS_PER_FLIGHT):
        for _ in range(4):
            if rng.uniform() > KEPT:
                action = int(rng.choice(len(MOTIONS), p=[0.6, 0.1, 0.1, 0.1, 0.1]))
            before = world.look() if _ == 3 else None
            world.move(action)
        is_straight = np.abs(world.velocity).max() < 0.05
        assert before is not None
        frames = np.stack([before, world.look()])
        yield frames, FORWARD if is_straight else UNSURE, world.threat()
