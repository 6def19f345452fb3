"""From two frames to a decision: on the host quickly, on the golden model, or on the RTL.

The perception's results become the bias of the populations, which run 50 time steps; the spikes of
modes and cells are counted, and the most spikes win, the lowest number of equal ones. The bridge
counts the obstacle population; the motion population's spikes come over the spike stream.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from firmware_tools.avoid import N_CELLS, N_MODES, direction_of, populations
from firmware_tools.avoid.clips import NOTHING
from firmware_tools.avoid.energy import Work
from firmware_tools.avoid.populations import CELL_POPULATION, MODE_POPULATION, STEPS
from firmware_tools.avoid.rendering import SIDE, Grey
from firmware_tools.errors import UserError
from model import bridge as bridging
from model.bridge import Bridge, Kind
from model.bridge_registers import kind_of
from model.chip import BEGINS_AFTER, Chip
from model.config import ChipConfig
from model.mars import frame as mars_frame
from model.mars import network_file
from model.mars.image import Image
from model.mars.mapper import compile_network
from model.mars.network import QuantizedNetwork
from model.npu.network import Network
from model.npu.trace import Trace

Ints = NDArray[np.int64]
PERCEPTION = Path(__file__).with_name("avoid.npz")
"""What `kenyon train avoid` made."""


BLANK: Ints = np.zeros((2, SIDE, SIDE), np.int64)
"""A black input."""


@dataclass(frozen=True)
class Decision:
    """What became of two frames.

    Parameters
    ----------
    outputs : (21,) int64
        Of the perception.
    mode_counts, cell_counts : (8,) and (13,) int64
        Spikes in the frame's time steps.
    spikes : (50, 22) bool
        Of all neurons.
    frame_clocks, bridge_clocks : int or None
        Of MARS, and from there to the decision; None for what the host saw.
    """

    outputs: Ints
    mode_counts: Ints
    cell_counts: Ints
    spikes: NDArray[np.bool_]
    frame_clocks: int | None
    bridge_clocks: int | None

    @property
    def mode(self) -> int:
        """Of `MODES`; `len(MODES)` if none spiked."""
        return winner(self.mode_counts)

    @property
    def cell(self) -> int:
        """Of `CELLS`; `N_CELLS` if none spiked: nothing looms."""
        return winner(self.cell_counts)

    @property
    def direction(self) -> int:
        """Of `DIRECTIONS`, or `NOTHING`."""
        return looming_direction(self.cell_counts)

    @property
    def clocks(self) -> int | None:
        """From the start of the frame to the decision."""
        if self.frame_clocks is None or self.bridge_clocks is None:
            return None
        return self.frame_clocks + BEGINS_AFTER + self.bridge_clocks


def winner(counts: Ints) -> int:
    """The lowest number with the most spikes; how many there are if none spiked."""
    return int(counts.argmax()) if counts.any() else len(counts)


def looming_direction(cell_counts: Ints) -> int:
    """The direction of the cell with the most spikes, of `DIRECTIONS`, or `NOTHING`."""
    cell = winner(cell_counts)
    return NOTHING if cell == N_CELLS else direction_of(cell)


@dataclass(frozen=True)
class Mind:
    """Perception, populations and the bridge between them.

    Parameters
    ----------
    perception : QuantizedNetwork
    network : Network
    bridge : Bridge
    """

    perception: QuantizedNetwork
    network: Network
    bridge: Bridge


@cache
def mind(path: Path = PERCEPTION) -> Mind:
    """The trained perception with the avoidance network behind it."""
    perception = network_file.load(path)
    kind = perception.input_type
    if (kind.shape, kind.bits, kind.signed) != (BLANK.shape, 8, False):
        raise UserError(
            f"{path}: perception must take two frames, {BLANK.shape} of 8 bits without a sign, "
            f"not {kind.shape} of {kind.bits}{' with one' if kind.signed else ''}"
        )
    return Mind(perception, populations.builder().build(), populations.bridge(perception))


def inputs_of(frames: Grey) -> Ints:
    """What MARS takes: each frame with the one before it, (n - 1, 2, SIDE, SIDE)."""
    return np.stack([frames[:-1], frames[1:]], axis=1).astype(np.int64)


class Eye(Protocol):
    """What sees something in pairs of frames."""

    def __call__(self, images: NDArray[np.integer[Any]], /) -> Ints:
        """Results (n, 21) of pairs of frames (n, 2, SIDE, SIDE)."""


@dataclass(frozen=True)
class Timing:
    """What a chip's clocks depend on before the populations run.

    Parameters
    ----------
    kind : Kind
        Of the perception's results.
    frame_clocks : int
        Of a frame on MARS.
    """

    kind: Kind
    frame_clocks: int


def timing(image: Image) -> Timing:
    """The perception's timing, from the golden machine: it does not depend on what is seen."""
    return Timing(kind_of(image), mars_frame.run_frame(image, BLANK).clocks)


class HostPopulations:
    """The populations on the fast engine, frame by frame, with the chip's clocks.

    Parameters
    ----------
    network : Network
    bridge : Bridge
    config : ChipConfig
    timing : Timing or None
        Of the perception; None for what the host saw, which has no clocks.
    """

    def __init__(
        self, network: Network, bridge: Bridge, config: ChipConfig, timing: Timing | None
    ) -> None:
        from model.npu.fast import FastEngine  # takes long to import

        assert config.npu is not None
        self._network, self._bridge, self._npu = network, bridge, config.npu
        self._timing = timing
        self._engine = FastEngine(network, config=config.npu)

    def decide(self, outputs: Ints) -> Decision:
        """A frame's decision from the perception's results, (21,)."""
        self._engine.set_bias(bridging.stimuli(self._bridge, outputs, self._network).bias)
        trace = self._engine.run(STEPS)
        frame, behind = self._clocks(trace)
        modes, cells = _counts(self._network, trace.spikes.sum(0, dtype=np.int64))
        return Decision(outputs, modes, cells, trace.spikes, frame, behind)

    def _clocks(self, trace: Trace) -> tuple[int | None, int | None]:
        if self._timing is None:
            return None, None
        n_entries = len(self._bridge.entries)
        taken = bridging.take_clocks(self._timing.kind, n_entries, STEPS, self._npu.n_neurons)
        burst = bridging.burst_clocks(trace.clocks, trace.spikes.sum(axis=1))
        behind = taken + bridging.BEGIN + bridging.SETTLE + burst
        return self._timing.frame_clocks, behind


def _counts(network: Network, counts: Ints) -> tuple[Ints, Ints]:
    modes = counts[network.neuron_slice(MODE_POPULATION)][:N_MODES]
    return modes, counts[network.neuron_slice(CELL_POPULATION)][:N_CELLS]


def work(network: Network, decisions: Sequence[Decision], macs: int) -> Work:
    """What was counted for a decision, in the mean.

    Parameters
    ----------
    network : Network
    decisions : sequence of Decision
        With their clocks.
    macs : int
        Of the perception.
    """
    targets = np.zeros(network.n_neurons, np.int64)  # weights that a neuron's spike adds
    for p, size in enumerate(network.populations):
        for source in network.sources(p):
            targets[network.neuron_slice(source)] += size
    clocks = [one.bridge_clocks for one in decisions if one.bridge_clocks is not None]
    return Work(
        macs,
        float(np.mean([(one.spikes @ targets).sum() for one in decisions])),
        float(STEPS * network.n_neurons),
        float(np.mean(clocks)),
    )


def on_host(eye: Eye, deciding: HostPopulations, frames: Grey) -> list[Decision]:
    """A clip's decisions."""
    return [deciding.decide(outputs) for outputs in eye(inputs_of(frames))]


def on_model(chosen: Mind, config: ChipConfig, image: Image, frames: Grey) -> Iterator[Decision]:
    """A clip's decisions by the golden model of the whole chip."""
    chip = Chip(config, image, chosen.network, chosen.bridge)
    for features in inputs_of(frames):
        done = chip.frame(features)
        assert done.trace is not None
        counts = done.trace.spikes.sum(0, dtype=np.int64)
        modes, cells = _counts(chosen.network, counts)
        yield Decision(
            done.outputs, modes, cells, done.trace.spikes, done.frame.clocks, done.clocks
        )


def on_rtl(
    chosen: Mind, config: ChipConfig, image: Image, clips: Sequence[Grey]
) -> Iterator[list[Decision]]:
    """The decisions of clips by the RTL of the whole chip; the simulator must be built.

    Raises
    ------
    BenchFailure
        A frame did not end.
    """
    from tb.joint import cosim

    pairs = [
        cosim.Pair(image, chosen.network, chosen.bridge, inputs_of(frames)) for frames in clips
    ]
    for traces in cosim.run(config, pairs):
        yield [_of_rtl(chosen.network, one) for one in traces]


def _of_rtl(network: Network, done: Any) -> Decision:
    spikes = done.trace.spikes
    modes, _ = _counts(network, spikes.sum(0, dtype=np.int64))
    cells = np.array(done.result.counts[:N_CELLS])
    outputs = np.asarray(done.frame.output, np.int64).reshape(-1)
    clocks = done.frame.result.frame_clocks
    return Decision(outputs, modes, cells, spikes, clocks, done.result.clocks)


def compiled(chosen: Mind, config: ChipConfig) -> Image:
    """The perception for a chip."""
    assert config.mars is not None
    return compile_network(chosen.perception, config.mars)
