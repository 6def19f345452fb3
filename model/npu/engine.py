"""The specification engine: one time step at a time, every state visible.

This is the text that the RTL and the fast engine are measured against. It is written to be read;
`model.npu.fast` is the one to use for long runs.
"""

import numpy as np
from numpy.typing import NDArray

from model.npu import noise, post_synaptic
from model.npu.clocks import Clocks
from model.npu.config import NPUConfig
from model.npu.network import Connections, Network
from model.npu.soma import soma
from model.npu.trace import Trace

Ints = NDArray[np.int64]
NO_CLOCKS = np.zeros(0, np.int64)


class Engine:
    """A network's state and its `step()`.

    Parameters
    ----------
    network : Network
    config : NPUConfig, optional
        The chip whose clocks the traces carry; without it they carry none.

    Attributes
    ----------
    v, i_syn, bias : (n,) int
        Membrane potential, current left by the last step, external stimulus.
    spikes : (n,) bool
        Who fired in the last step.
    noise_states : list of int
        Generator state of every population.
    step_index : int
        The time step that `step()` will run.
    """

    def __init__(self, network: Network, config: NPUConfig | None = None) -> None:
        self.network = network
        self._clocks = Clocks(network, config) if config else None
        self.v = network.neurons.rest.copy()
        self.i_syn = np.zeros(network.n_neurons, np.int64)
        self.bias = np.zeros(network.n_neurons, np.int64)
        self.spikes = np.zeros(network.n_neurons, np.bool_)
        self.noise_states = [noise.seed_state(seed) for seed in network.noise_seeds]
        self.step_index = 0
        self._weights = _matrix(network.recurrent, network.n_neurons, network.n_neurons)
        self._axon_weights = _matrix(network.external, sum(network.axons), network.n_neurons)
        self._sources = [network.sources(p) for p in range(len(network.populations))]

    def set_bias(self, bias: dict[int, int]) -> None:
        """Change the external stimulus of some neurons; it stays until it is changed again."""
        for neuron, value in bias.items():
            self.bias[neuron] = value

    def step(self, axons: Ints) -> Trace:
        """Run one time step in which the given external axons fire."""
        neurons = self.network.neurons
        rows = self._count_rows(axons)
        clocks = self._count_clocks(axons)

        weights = np.concatenate([self._weights[self.spikes], self._axon_weights[axons]])
        current, saturated = post_synaptic.accumulate(self.i_syn, weights)
        current = post_synaptic.decay(current, neurons.tau)
        draws = self._draw_noise()
        self.v, self.spikes = soma(self.v, current, self.bias, draws, neurons)
        self.i_syn = post_synaptic.clear(current, neurons.tau)

        self.step_index += 1
        return Trace(
            first_step=self.step_index - 1,
            v=self.v[None].astype(np.uint8),
            spikes=self.spikes[None].copy(),
            i_syn=current[None].astype(np.int16),
            noise=draws[None].astype(np.int8),
            rows=rows[None],
            saturated=self._per_population(saturated).astype(np.bool_)[None],
            clocks=clocks,
        )

    def _draw_noise(self) -> Ints:
        draws = np.zeros(self.network.n_neurons, np.int64)
        for p, state in enumerate(self.noise_states):
            part = self.network.neuron_slice(p)
            draws[part] = noise.draws(state, self.network.neurons.noise[part])
            self.noise_states[p] = noise.jump(state)
        return draws

    def _count_rows(self, axons: Ints) -> NDArray[np.int32]:
        """Rows that each population walks: spikes of its sources, and its axons' events."""
        fired = self._per_population(self.spikes)
        rows = np.zeros(len(self._sources), np.int32)
        for p, sources in enumerate(self._sources):
            own = self.network.axon_slice(p)
            rows[p] = fired[list(sources)].sum() + ((axons >= own.start) & (axons < own.stop)).sum()
        return rows

    def _count_clocks(self, axons: Ints) -> Ints:
        if self._clocks is None:
            return NO_CLOCKS
        events = np.stack([np.zeros_like(axons), axons], axis=1)
        return self._clocks.of_steps(self.spikes[None], events)

    def _per_population(self, flags: NDArray[np.bool_]) -> Ints:
        """How many of the flags are set in each population."""
        slices = [self.network.neuron_slice(p) for p in range(len(self.network.populations))]
        return np.array([flags[part].sum() for part in slices])


def _matrix(connections: Connections, n_pre: int, n_post: int) -> Ints:
    """Weights as W[pre, post]."""
    matrix = np.zeros((n_pre, n_post), np.int64)
    matrix[connections.pre, connections.post] = connections.weight
    return matrix
