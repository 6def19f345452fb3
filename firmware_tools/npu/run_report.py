"""The figures of a run, gathered from its trace chunk by chunk."""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from model.npu.network import Network
from model.npu.trace import Trace


@dataclass(frozen=True)
class Clocks:
    """Clocks of a run on the chip, and of its shortest and longest time step."""

    total: int
    min: int
    max: int


class RunReport:
    """Figures of the time steps that have been added.

    Attributes
    ----------
    steps : int
    spikes : (n,) int
        How often each neuron fired.
    synaptic_operations : int
        Weights that the chip adds up: every row, for all neurons of the population.
    saturated : (P,) bool
        Whether a current of the population has saturated.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._out_degree = np.bincount(network.recurrent.pre, minlength=network.n_neurons)
        self._axon_out_degree = np.bincount(network.external.pre, minlength=sum(network.axons))
        self._last_spikes: NDArray[np.bool_] = np.zeros(network.n_neurons, np.bool_)
        self._clocks: list[Clocks] = []
        self.steps = 0
        self.spikes = np.zeros(network.n_neurons, np.int64)
        self.synaptic_operations = 0
        self.saturated = np.zeros(len(network.populations), np.bool_)

    def add(self, trace: Trace) -> None:
        """Add the next time steps."""
        self.steps += len(trace)
        self.spikes += trace.spikes.sum(axis=0)
        self._last_spikes = trace.spikes[-1]
        rows = trace.rows.sum(axis=0, dtype=np.int64)
        self.synaptic_operations += int(rows @ np.array(self._network.populations))
        self.saturated |= trace.saturated.any(axis=0)
        clocks = trace.clocks
        if len(clocks):
            self._clocks.append(Clocks(int(clocks.sum()), int(clocks.min()), int(clocks.max())))

    @property
    def effective_synaptic_operations(self) -> int:
        """The same, but only connections that exist; spikes of the last step do not count yet."""
        delivered = self.spikes - self._last_spikes
        axons = self._network.events_at(0, self.steps)[:, 1]
        return int(delivered @ self._out_degree + self._axon_out_degree[axons].sum())

    @property
    def clocks(self) -> Clocks | None:
        """Clocks on the chip; none if the trace has none."""
        if not self._clocks:
            return None
        return Clocks(
            sum(part.total for part in self._clocks),
            min(part.min for part in self._clocks),
            max(part.max for part in self._clocks),
        )

    def values(self) -> dict[str, object]:
        """All figures, ready for JSON."""
        return {
            "steps": self.steps,
            "neurons": self._network.n_neurons,
            "populations": list(self._network.populations),
            "spikes": self.spikes.tolist(),
            "synaptic_operations": self.synaptic_operations,
            "effective_synaptic_operations": self.effective_synaptic_operations,
            "clocks": asdict(self.clocks) if self.clocks else None,
            "saturated": self.saturated.tolist(),
        }
