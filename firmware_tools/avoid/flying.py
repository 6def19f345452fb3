"""Flights through worlds: straight on, or as decisions steer."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from firmware_tools.avoid import CENTRE, DIRECTIONS, direction_of
from firmware_tools.avoid.clips import NOTHING
from firmware_tools.avoid.decision import Decision, Eye, HostPopulations
from firmware_tools.avoid.environment import AvoidEnv

STRAIGHT = 0
OPPOSITE = (1, 0, 3, 2)
"""Of up, down, left, right."""


def action_of(decision: Decision) -> int:
    """Where to fly: away from what looms.

    If that is in the centre, towards the side whose cells spiked least, the first of equal ones.
    """
    if decision.direction == NOTHING:
        return STRAIGHT
    if decision.direction == DIRECTIONS.index("centre"):
        sides = [direction_of(cell) for cell in range(CENTRE)]
        spikes = np.bincount(sides, decision.cell_counts[:CENTRE], minlength=4)
        return 1 + int(spikes.argmin())
    return 1 + OPPOSITE[decision.direction]


@dataclass(frozen=True)
class Moment:
    """A frame of a flight.

    Parameters
    ----------
    view : (LARGE, LARGE, 3) uint8 or None
        What `AvoidEnv.render` shows.
    decision : Decision or None
        What steers; None straight on.
    action, collisions : int
        Towards the next frame; how many there have been.
    """

    view: np.ndarray | None
    decision: Decision | None
    action: int
    collisions: int


Pilot = Callable[[np.ndarray], Decision]
"""Decides about the last two frames."""


def pilot(eye: Eye, populations: HostPopulations) -> Pilot:
    """Perception and populations as a pilot; the populations remember, so one for each flight."""
    return lambda seen: populations.decide(eye(seen[None].astype(np.int64))[0])


def fly(env: AvoidEnv, seed: int, steers: Pilot | None) -> Iterator[Moment]:
    """A flight through the world of a seed, frame by frame."""
    seen, info = env.reset(seed=seed)
    is_over = False
    while not is_over:
        decision = None if steers is None else steers(seen)
        action = STRAIGHT if decision is None else action_of(decision)
        yield Moment(env.render(), decision, action, info["collisions"])
        seen, _, is_over, _, info = env.step(action)
    yield Moment(env.render(), None, STRAIGHT, info["collisions"])


def collisions(env: AvoidEnv, seed: int, steers: Pilot | None) -> int:
    """Balls that a flight hits."""
    last = 0
    for moment in fly(env, seed, steers):
        last = moment.collisions
    return last
