"""The world behind Gymnasium's interface, for whoever wants to steer."""

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from firmware_tools.avoid.pictures import Part, photographs
from firmware_tools.avoid.rendering import SIDE, Grey
from firmware_tools.avoid.world import MOTIONS, World

LARGE = 192
"""Side of what `render` shows, pixels."""


class AvoidEnv(gymnasium.Env[Grey, np.int64]):
    """A flight of 60 frames through balls (`firmware_tools.avoid.world`).

    Observations are the last two frames, (2, 32, 32) uint8. Actions: 0 straight on, 1 up, 2 down,
    3 left, 4 right. The reward is -1 for each ball that is hit; a flight goes on afterwards.

    Parameters
    ----------
    part : str
        Of the photographs, "training" or "test".
    render_mode : str, optional
        "rgb_array".
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 32}  # noqa: RUF012

    def __init__(self, part: Part = "test", render_mode: str | None = None) -> None:
        self.observation_space = gymnasium.spaces.Box(0, 255, (2, SIDE, SIDE), np.uint8)
        self.action_space = gymnasium.spaces.Discrete(len(MOTIONS))
        self.render_mode = render_mode
        self._pictures = photographs(part)
        self.world: World | None = None
        self._seen: Grey = np.zeros((2, SIDE, SIDE), np.uint8)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Grey, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        rng = self.np_random
        self.world = World(self._pictures[int(rng.integers(len(self._pictures)))], rng)
        # A first frame without a past: the craft has flown straight on.
        before = self.world.look()
        self.world.move(0)
        self._seen = np.stack([before, self.world.look()])
        return self._seen, {"collisions": self.world.collisions}

    def step(self, action: Any) -> tuple[Grey, float, bool, bool, dict[str, Any]]:
        if self.world is None:
            raise gymnasium.error.ResetNeeded("reset must be called before step")
        hit = self.world.move(int(action))
        self._seen = np.stack([self._seen[1], self.world.look()])
        return (
            self._seen,
            -float(hit),
            self.world.is_over,
            False,
            {"collisions": self.world.collisions},
        )

    def render(self) -> NDArray[np.uint8] | None:
        if self.render_mode != "rgb_array" or self.world is None:
            return None
        return np.repeat(self.world.look(LARGE)[:, :, None], 3, axis=2)
