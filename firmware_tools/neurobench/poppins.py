"""Figures of a network of populations, from the trace of its session."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from firmware_tools.neurobench.costs import IQIF_DECAY, IQIF_SOMA
from firmware_tools.neurobench.counts import Counts
from firmware_tools.neurobench.figures import Chip, Figures, Footprint
from model.npu.clocks import back_to_back
from model.npu.config import NPUConfig
from model.npu.layout import WORD_FIELDS
from model.npu.network import Connections, Ints, Network
from model.npu.trace import Trace

NEURON_BYTES = {"rest": 1, "threshold": 1, "reset": 1, "noise": 1, "a": 1, "b": 1, "tau": 2}
"""Parameters of a neuron, in whole bytes."""
STATE_BYTES = {"v": 1, "i_syn": 2, "bias": 2}
NEURON_BITS = sum(width for word in WORD_FIELDS for _, width in word.values())
"""Parameters and state of a neuron on the chip."""


@dataclass(frozen=True)
class Projection:
    """All weights from some rows to the neurons of a population, as the chip has memory for them.

    Parameters
    ----------
    population : int
    from_axons : bool
    weight : (rows, n) int
        0 without a connection.
    rows : slice
        Which neurons or axons the rows are.
    """

    population: int
    from_axons: bool
    weight: Ints
    rows: slice


def projections(network: Network) -> Iterator[Projection]:
    """A population's own axons, itself, and the others that have a connection into it."""
    for p in range(len(network.populations)):
        columns = network.neuron_slice(p)
        axons = network.axon_slice(p)
        if axons.stop > axons.start:
            yield Projection(p, True, _weights(network.external, axons, columns), axons)
        for source in network.sources(p):
            rows = network.neuron_slice(source)
            yield Projection(p, False, _weights(network.recurrent, rows, columns), rows)


def _weights(connections: Connections, rows: slice, columns: slice) -> Ints:
    pre, post = connections.pre, connections.post
    inside = (pre >= rows.start) & (pre < rows.stop)
    inside &= (post >= columns.start) & (post < columns.stop)
    result = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.int64)
    result[pre[inside] - rows.start, post[inside] - columns.start] = connections.weight[inside]
    return result


class Activity:
    """What a session's trace adds up to, chunk by chunk.

    Attributes
    ----------
    steps : int
    spikes, delivered, updates : (n,) int64
        Spikes of each neuron, those but for the last step's, and membrane potentials that a step
        changed, the first step included.
    rows : (P,) int64
        Rows that each population walked.
    clocks, fired : list of int
        Of every time step: clocks, empty without a configuration; spikes.
    """

    def __init__(self, network: Network) -> None:
        n = network.n_neurons
        self.steps = 0
        self.spikes = np.zeros(n, np.int64)
        self.delivered = np.zeros(n, np.int64)
        self.updates = np.zeros(n, np.int64)
        self.rows = np.zeros(len(network.populations), np.int64)
        self.clocks: list[int] = []
        self.fired: list[int] = []
        self._last: Trace | None = None

    def add(self, trace: Trace) -> None:
        """Add the next time steps."""
        fired, v = trace.spikes, trace.v
        if self._last is None:
            self.updates += 1
        else:
            self.delivered += self._last.spikes[-1]
            self.updates += v[0] != self._last.v[-1]
        self.updates += (v[1:] != v[:-1]).sum(axis=0)
        self.delivered += fired[:-1].sum(axis=0)
        self.spikes += fired.sum(axis=0)
        self.rows += trace.rows.sum(axis=0, dtype=np.int64)
        self.clocks += trace.clocks.tolist()
        self.fired += fired.sum(axis=1).tolist()
        self.steps += len(trace)
        self._last = trace


def measure(network: Network, traces: Iterable[Trace], config: NPUConfig | None) -> Figures:
    """All figures of a session, which is one sample.

    Parameters
    ----------
    network : Network
    traces : iterable of Trace
        The whole session; its clocks are those of the configuration.
    config : NPUConfig or None
        None for a network that fits no chip.
    """
    activity = Activity(network)
    for trace in traces:
        activity.add(trace)
    found = list(projections(network))
    events = np.bincount(network.events[:, 1], minlength=sum(network.axons))
    layers = {
        f"population {p}": _neurons(network, p, activity) for p in range(len(network.populations))
    }
    for one in found:
        fired = (events if one.from_axons else activity.delivered)[one.rows]
        layers[f"population {one.population}"] += _synapses(one.weight, fired, activity.steps)
    return Figures(
        network=network.name,
        samples=1,
        footprint=footprint(network, found),
        layers=layers,
        mean_steps=float(activity.steps),
        chip=_chip(network, config, activity),
    )


def _synapses(weight: Ints, fired: NDArray[np.int64], steps: int) -> Counts:
    """Counts of a projection whose rows fired so often in so many steps."""
    present = weight != 0
    return Counts(
        weights=weight.size,
        zero_weights=int(weight.size - present.sum()),
        acs=int(fired @ present.sum(axis=1)),
        dense=weight.size * steps,
    )


def _neurons(network: Network, population: int, activity: Activity) -> Counts:
    """Counts of a population's neurons."""
    mine = network.neuron_slice(population)
    cost = IQIF_SOMA + IQIF_DECAY * (network.neurons.tau[mine] > 0)
    n_steps = len(cost) * activity.steps
    return Counts(
        activations=n_steps,
        zero_activations=n_steps - int(activity.spikes[mine].sum()),
        membrane_updates=int(activity.updates[mine].sum()),
        neuron_steps=n_steps,
        neuron_ops=int(activity.updates[mine] @ cost),
        dense_neuron_ops=int(cost.sum()) * activity.steps,
    )


def footprint(network: Network, found: Iterable[Projection]) -> Footprint:
    """Bytes of weights, with their zeros, of neurons and of their states."""
    n = network.n_neurons
    n_weights = sum(one.weight.size for one in found)
    return Footprint(
        parameters=n_weights + n * sum(NEURON_BYTES.values()),
        buffers=n * sum(STATE_BYTES.values()),
        packed=n_weights + -(-n * NEURON_BITS // 8),
    )


def _chip(network: Network, config: NPUConfig | None, activity: Activity) -> Chip | None:
    if config is None:
        return None
    clocks = back_to_back(np.array(activity.clocks), np.array(activity.fired))
    return Chip(
        configuration=config.name,
        clocks=int(clocks.sum()),
        latency=int(clocks.max()),
        results=activity.steps,
        counters={
            "rows": int(activity.rows.sum()),
            "synaptic_operations": int(activity.rows @ np.array(network.populations)),
            "neuron_steps": network.n_neurons * activity.steps,
        },
    )
