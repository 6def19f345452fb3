"""The golden model of a chip with both halves: frame, bridge, burst, decision, exact clocks."""

from dataclasses import dataclass

import numpy as np

from model import bridge as bridging
from model.bridge import Bridge, BridgeError, Decision, Ints, Stimuli
from model.bridge_registers import kind_of, n_outputs
from model.config import ChipConfig
from model.mars import frame as mars
from model.mars.frame import LATENCY, FrameRun
from model.mars.image import Image
from model.npu.engine import Engine
from model.npu.image import check_fit
from model.npu.network import Network
from model.npu.trace import Trace

BEGINS_AFTER = 2
"""Clocks from the end of a frame (FRAME_CLOCKS) to that in which the bridge begins, if it can."""
NO_AXONS: Ints = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Outcome:
    """What became of a frame.

    Parameters
    ----------
    frame : FrameRun
    outputs : (n,) int64
        The numbers of the result, in the order in which entries count them.
    stimuli : Stimuli
    trace : Trace or None
        The burst's time steps with their clocks; None if there are none.
    decision : Decision or None
    clocks : int
        Those of the bridge (CLOCKS): from its beginning to the decision.
    """

    frame: FrameRun
    outputs: Ints
    stimuli: Stimuli
    trace: Trace | None
    decision: Decision | None
    clocks: int

    @property
    def total_clocks(self) -> int:
        """From the start of the frame to the decision, if the bridge need not wait."""
        return self.frame.clocks + BEGINS_AFTER + self.clocks


class Chip:
    """A chip with a network on either side of its bridge.

    Parameters
    ----------
    config : ChipConfig
        With NPU and MARS.
    image : Image
        Compiled for its MARS.
    network : Network
        Its session and events are not used: only the bridge stimulates it.
    bridge : Bridge

    Attributes
    ----------
    engine : Engine
        State of the populations, which outlives frames.

    Raises
    ------
    BridgeError, FitError
        Something does not fit the others.
    """

    def __init__(self, config: ChipConfig, image: Image, network: Network, bridge: Bridge) -> None:
        if config.npu is None or config.mars is None:
            raise BridgeError(f"chip must have NPU and MARS for a bridge, {config.name} has not")
        if image.config.fingerprint != config.mars.fingerprint:
            raise BridgeError(
                f"image must be for {config.mars.name}, as {config.name} has it, "
                f"not for {image.config.name}"
            )
        self.config = config.npu
        check_fit(network, self.config)
        self.kind = kind_of(image)
        bridging.check_fit(bridge, n_outputs(image), network)
        self.image = image
        self.network = network
        self.bridge = bridge
        self.engine = Engine(network, self.config)
        self._axons = NO_AXONS

    def frame(self, features: Ints, latency: int = LATENCY) -> Outcome:
        """Compute a frame and all that follows; parameters as of `model.mars.frame.run_frame`."""
        frame = mars.run_frame(self.image, features, latency)
        outputs = numbers(self.image, frame)
        stimuli = bridging.stimuli(self.bridge, outputs, self.network)
        self.engine.set_bias(stimuli.bias)
        self._axons = np.union1d(self._axons, stimuli.axons)
        n_entries, steps = len(self.bridge.entries), self.bridge.steps
        clocks = bridging.take_clocks(self.kind, n_entries, steps, self.config.n_neurons)
        clocks += bridging.BEGIN + bridging.SETTLE
        if not steps:
            return Outcome(frame, outputs, stimuli, None, None, clocks)
        trace = self.run(steps)
        part = self.network.neuron_slice(self.bridge.population)
        decision = bridging.decide(trace.spikes[:, part])
        clocks += bridging.burst_clocks(trace.clocks, trace.spikes.sum(axis=1))
        return Outcome(frame, outputs, stimuli, trace, decision, clocks)

    def run(self, n_steps: int) -> Trace:
        """Let the populations run, as the bridge does, or the host where it has no burst."""
        parts = []
        for _ in range(n_steps):
            parts.append(self.engine.step(self._axons))
            self._axons = NO_AXONS
        return Trace.join(parts)


def numbers(image: Image, frame: FrameRun) -> Ints:
    """The numbers of a result, as the bridge's entries count them."""
    if frame.logits is not None:
        return frame.logits
    result = frame.result[-1] if image.output.is_logits else frame.result
    return result.reshape(-1)
