"""The world: what collides, what is seen, and Gymnasium's interface to it."""

import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env

from firmware_tools.avoid import CENTRE, MODES, N_CELLS, N_MODES, cell_of
from firmware_tools.avoid.clips import UNSURE
from firmware_tools.avoid.environment import LARGE, AvoidEnv
from firmware_tools.avoid.flights import flight_pairs
from firmware_tools.avoid.pictures import photographs
from firmware_tools.avoid.rendering import SIDE
from firmware_tools.avoid.world import (
    CRAFT,
    INERTIA,
    N_FRAMES,
    RADIUS,
    SIDE_SPEED,
    SPEED,
    VIEW,
    Balls,
    World,
)


def world(*centres, seed=0):
    """A world with these balls only."""
    made = World(photographs("test")[0], np.random.default_rng(seed))
    made.put(Balls(np.array(centres, float).reshape(-1, 3), np.tile([9.0, 9, 8, 0], (9, 1))))
    return made


@pytest.mark.parametrize(
    ("aside", "hits"), [(0.0, 1), (RADIUS + CRAFT - 1e-6, 1), (RADIUS + CRAFT + 1e-6, 0)]
)
def test_collisions(aside, hits) -> None:
    flown = world((aside, 0, 6.1), (0, aside + 9, 6.1))
    new = [flown.move(0) for _ in range(N_FRAMES)]
    assert sum(new) == flown.collisions == hits  # a ball counts once, in however many frames
    assert flown.is_over
    assert (flown.place == 0).all()


def test_between_two_frames() -> None:
    """The whole way of a frame counts, not only its ends."""
    flown = world((0, RADIUS + CRAFT - 0.01, 5 + SPEED / 2))
    for _ in range(20):
        flown.move(0)
    assert flown.collisions == 1


def test_moving_aside() -> None:
    for action, sign in ((1, (0, -1)), (2, (0, 1)), (3, (-1, 0)), (4, (1, 0))):
        flown = world((0, 0, 50))
        flown.move(action)
        assert flown.velocity == pytest.approx(np.array(sign) * (1 - INERTIA) * SIDE_SPEED)
        for _ in range(20):
            flown.move(action)
        assert flown.velocity == pytest.approx(np.array(sign) * SIDE_SPEED, abs=1e-6)
        x, y, _ = flown.relative()[0]
        assert np.sign([x, y]).tolist() == [-s for s in sign]


def test_what_is_seen() -> None:
    flown = world((0, 0, 4), (1, 0, 2), (0, 0, 20), (0, 0, -1), (9, 0, 2))
    assert flown.visible().tolist() == [0, 1]  # the nearest one last
    far, near = flown.discs()
    assert (far.x, far.y, far.radius) == pytest.approx((0, 0, RADIUS / (4 * VIEW)))
    assert near.x == pytest.approx(1 / (2 * VIEW))
    assert flown.look().shape == (SIDE, SIDE)
    before = flown.look().astype(int)
    flown.move(0)
    assert np.abs(flown.look().astype(int) - before).max() > 10


def test_the_threat_is_what_grows_most() -> None:
    assert world((0, 0, 4)).threat() == CENTRE
    assert world((0, 0, 4.6)).threat() == N_CELLS  # more than 9 frames away
    assert world((0.5, 0, 2), (0, 0, 4)).threat() == cell_of(0.5 / (2 * VIEW), 0)
    assert world((2, 0, 2)).threat() == N_CELLS  # beside what is seen


def test_seeds_make_worlds() -> None:
    def balls(seed):
        return World(photographs("test")[0], np.random.default_rng(seed)).balls

    assert (balls(1).centres == balls(1).centres).all()
    assert not np.array_equal(balls(1).centres, balls(2).centres)


def test_gymnasium() -> None:
    env = AvoidEnv(render_mode="rgb_array")
    with pytest.raises(ResetNeeded):
        env.step(0)
    check_env(env, skip_render_check=True)
    seen, info = env.reset(seed=3)
    assert info == {"collisions": 0}
    again, _ = env.reset(seed=3)
    assert (seen == again).all()
    rewards, is_over = 0.0, False
    frames = 1
    while not is_over:
        after, reward, is_over, is_cut, info = env.step(0)
        assert (after[0] == seen[1]).all()
        assert not is_cut
        seen, rewards, frames = after, rewards + reward, frames + 1
    assert frames == N_FRAMES
    assert info["collisions"] == -rewards
    assert env.render().shape == (LARGE, LARGE, 3)


def test_pairs_of_flights() -> None:
    made = list(flight_pairs(30, 2))
    assert len(made) == 30
    assert {frames.shape for frames, _, _ in made} == {(2, SIDE, SIDE)}
    assert {mode for _, mode, _ in made} == {MODES.index("forward"), UNSURE}
    assert len({cell for _, _, cell in made}) > 3
    assert N_MODES == 8
