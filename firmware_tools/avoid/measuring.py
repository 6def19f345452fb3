"""What sees and what decides, put together for a verb."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from firmware_tools.avoid import decision, flow, populations
from firmware_tools.avoid.decision import Decision, Eye, HostPopulations, Mind, Timing
from firmware_tools.avoid.energy import Work
from firmware_tools.avoid.rendering import Grey
from firmware_tools.console import Terminal
from firmware_tools.errors import UserError
from firmware_tools.inputs import named_chip
from model.bridge import Bridge
from model.config import ChipConfig
from model.mars.image import Image
from model.npu.network import Network

if TYPE_CHECKING:
    from firmware_tools.avoid.environment import AvoidEnv
    from firmware_tools.avoid.flying import Pilot

Ints = NDArray[np.int64]
FLOW_UNIT = 256
"""Steps of optical flow's scores in 1."""


def flow_eye(pairs: NDArray[np.integer[Any]]) -> Ints:
    """Optical flow as the populations take it, (n, 21)."""
    seen = [flow.scores(*pair.astype(np.uint8)) for pair in pairs]
    return np.rint(FLOW_UNIT * np.stack(seen)).astype(np.int64)


@dataclass(frozen=True)
class Setup:
    """What sees and what decides.

    Parameters
    ----------
    source : str
        "cnn" or "flow".
    config : ChipConfig
    mind : Mind or None
        None for flow.
    """

    source: Literal["cnn", "flow"]
    config: ChipConfig
    mind: Mind | None

    @cached_property
    def network(self) -> Network:
        """The populations."""
        return self.mind.network if self.mind else populations.builder().build()

    @cached_property
    def bridge(self) -> Bridge:
        """What takes results to them."""
        return self.mind.bridge if self.mind else populations.scaled_bridge(1 / FLOW_UNIT)

    @cached_property
    def image(self) -> Image | None:
        """The perception for the chip."""
        return None if self.mind is None else decision.compiled(self.mind, self.config)

    @cached_property
    def _timing(self) -> Timing | None:
        return None if self.image is None else decision.timing(self.image)

    @cached_property
    def eye(self) -> Eye:
        """What sees."""
        if self.mind is None:
            return flow_eye
        from firmware_tools.avoid.batch import BatchNetwork

        return BatchNetwork(self.mind.perception)

    def decide(self, frames: Grey, backend: Literal["fast", "model"]) -> list[Decision]:
        """Decisions about frames, one for each but the first."""
        if backend == "fast":
            return decision.on_host(self.eye, self._populations(), frames)
        assert self.mind is not None
        assert self.image is not None
        return list(decision.on_model(self.mind, self.config, self.image, frames))

    def build_rtl(self, terminal: Terminal) -> None:
        """Build the simulator unless it is there."""
        from tb import simulator
        from tb.cosim import chip

        design = chip(self.config)
        if not simulator.is_built(design):
            with terminal.busy(f"building the simulator of {self.config.name}, some minutes"):
                simulator.build(design)

    def on_rtl(self, frames: Grey) -> list[Decision]:
        """Decisions of the simulated hardware."""
        assert self.mind is not None
        assert self.image is not None
        (done,) = decision.on_rtl(self.mind, self.config, self.image, [frames])
        return done

    def pilot(self) -> "Pilot":
        """What steers one flight."""
        from firmware_tools.avoid import flying

        return flying.pilot(self.eye, self._populations())

    def collisions(self, seed: int, *, steers: bool) -> int:
        """Balls that are hit in the world of a seed."""
        from firmware_tools.avoid import flying

        return flying.collisions(world(), seed, self.pilot() if steers else None)

    def work(self, decisions: Sequence[Decision]) -> Work | None:
        """What was counted for a decision, in the mean; None for what the host saw."""
        if self.image is None:
            return None
        from firmware_tools.neurobench import mars

        macs = mars.on_chip(self.image, decision.BLANK).counters["macro_macs"]
        return decision.work(self.network, decisions, macs)

    def _populations(self) -> HostPopulations:
        return HostPopulations(self.network, self.bridge, self.config, self._timing)


@cache
def world(render_mode: str | None = None) -> "AvoidEnv":
    """The world of the test pictures."""
    try:
        from firmware_tools.avoid.environment import AvoidEnv
    except ImportError:
        raise UserError("the world needs Gymnasium: pip install 'kenyon[vision]'") from None
    return AvoidEnv(render_mode=render_mode)


def setup(source: Literal["cnn", "flow"], config: str, network: Path | None) -> Setup:
    """What sees and what decides.

    Raises
    ------
    UserError
        The chip has not both halves, or a network is given for optical flow.
    """
    chip = named_chip(config)
    if not chip.has_bridge:
        raise UserError(f"configuration must have both halves, kenyon or kenyon-tiny, not {config}")
    if source == "flow":
        if network is not None:
            raise UserError("--network must be left out with --source flow: it has none")
        return Setup(source, chip, None)
    return Setup(source, chip, decision.mind(network or decision.PERCEPTION))
