"""Model and RTL side by side, time step by time step."""

import contextlib
import time
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass

from firmware_tools.npu.backends import Backend, Player
from firmware_tools.npu.difference import NEURON_FIELDS, Difference, first_difference
from model.npu.config import NPUConfig
from model.npu.network import Network
from model.npu.trace import Trace
from tb.cosim import Recording
from tb.waves import Moment


@dataclass(frozen=True)
class Agreement:
    """What was compared and found equal.

    Attributes
    ----------
    steps, neurons : int
    values : int
        Noise draws, currents, potentials, spikes and saturation flags.
    clocks : int
        Clocks of all time steps; each step's were compared.
    seconds : float
        What the RTL took.
    """

    steps: int
    neurons: int
    values: int
    clocks: int
    seconds: float

    @property
    def clocks_per_second(self) -> float:
        """Speed of the RTL simulation."""
        return self.clocks / self.seconds

    def as_json(self) -> dict[str, object]:
        """All figures, ready for JSON."""
        return {**asdict(self), "clocks_per_second": self.clocks_per_second}


def lockstep(
    network: Network,
    config: NPUConfig,
    traces: Generator[Trace, None, None],
    *,
    expected: Backend = "model",
    on_equal: Callable[[Trace], None] = lambda _: None,
) -> Agreement | Difference:
    """Compare a simulation with an engine until it ends or differs; the simulation is then closed.

    Parameters
    ----------
    traces : generator
        Of `tb.cosim.simulate`.
    expected : str
        The engine that is right.
    on_equal : callable
        Given each part of the simulation's trace that has been compared.
    """
    player = Player(network, expected, config)
    seconds = 0.0
    clocks = 0
    with contextlib.closing(traces):
        while True:
            begin = time.perf_counter()
            actual = next(traces, None)
            seconds += time.perf_counter() - begin
            if actual is None:
                break
            steps = min(len(actual), network.n_steps - player.step_index)
            if steps == 0:
                return _wrong_length(network, player.step_index + len(actual))
            difference = first_difference(network, player.play(steps), actual)
            if difference:
                return difference
            clocks += int(actual.clocks.sum())
            on_equal(actual)
    if player.step_index < network.n_steps:
        return _wrong_length(network, player.step_index)
    per_step = len(NEURON_FIELDS) * network.n_neurons + len(network.populations)
    return Agreement(
        network.n_steps, network.n_neurons, per_step * network.n_steps, clocks, seconds
    )


def moment_of(
    recording: Recording | None, config: NPUConfig, result: Agreement | Difference
) -> Moment | None:
    """What a view of a run opens on: where it differs."""
    if recording is None or isinstance(result, Agreement):
        return None
    at = recording.clock_of(result.step, result.population, (result.neuron or 0) // config.n_lanes)
    return None if at is None else Moment(at, result.ports)


def _wrong_length(network: Network, actual: int) -> Difference:
    step = min(actual, network.n_steps)
    return Difference(step, None, None, "steps", network.n_steps, actual)
