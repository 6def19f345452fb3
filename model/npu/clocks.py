"""How many clocks a time step takes on the chip, exactly.

A *block* is the weights of one row onto one group of lanes. Blocks that are all zero are not
walked.
"""

import numpy as np
from numpy.typing import NDArray

from model.npu.config import NPUConfig
from model.npu.network import Connections, Network

Ints = NDArray[np.int64]

WALK_LATENCY = 3
"""Clocks from the start of a step to its first slot: load, fetch, first row."""
PIPELINE_LATENCY = 5
"""Clocks from the slot that closes a group to the write of its neurons' state."""
COMMIT = 1
"""The clock that ends the step."""
STEP_OVERHEAD = WALK_LATENCY + PIPELINE_LATENCY + COMMIT
STREAM_LATENCY = 5
"""Clocks between the ends of two steps that the spike stream takes besides one for each spike."""


def used_groups(network: Network, config: NPUConfig) -> Ints:
    """Groups of lanes that each population of the network works on, (P,).

    At least one per population of the network: the spike stream carries one event per clock, and a
    population without empty blocks that fired S spikes keeps the next step busy for at least S
    clocks per group, so the spikes of all populations leave behind the work.
    """
    n = network.populations
    return np.array([max(-(-size // config.n_lanes), len(n)) for size in n])


def filled_blocks(network: Network, config: NPUConfig, population: int) -> NDArray[np.bool_]:
    """Whether a block of a population is not all zero, (neurons and then axons, groups)."""
    own = network.neuron_slice(population)
    n = network.n_neurons
    shape = n + sum(network.axons), int(used_groups(network, config)[population])
    filled = np.zeros(shape, np.bool_)

    def fill(connections: Connections, first_row: int) -> None:
        post = connections.post
        which = (connections.weight != 0) & (post >= own.start) & (post < own.stop)
        group = (post[which] - own.start) // config.n_lanes
        filled[connections.pre[which] + first_row, group] = True

    fill(network.recurrent, 0)
    fill(network.external, n)
    return filled


class Clocks:
    """Clocks of a network's time steps on a chip.

    Attributes
    ----------
    groups : (P,) int
        Groups in use of each population.
    blocks : (neurons and then axons, P) int
        Blocks of each row in each population that are not all zero.
    """

    def __init__(self, network: Network, config: NPUConfig) -> None:
        populations = range(len(network.populations))
        blocks = [filled_blocks(network, config, p).sum(axis=1) for p in populations]
        self.groups = used_groups(network, config)
        self.blocks = np.stack(blocks, axis=1)

    def of_steps(self, spikes_before: NDArray[np.bool_], events: Ints) -> Ints:
        """Clocks of consecutive steps: a slot for each block walked, and one to close each group.

        Populations run side by side, so the slowest decides. Waiting for the spike stream, for
        external events or for the timer is not part of it.

        Parameters
        ----------
        spikes_before : (steps, n) bool
            Who fired in the step before each of them.
        events : (k, 2) int
            (step, axon); the first of these steps is 0.

        Returns
        -------
        (steps,) int
        """
        n = spikes_before.shape[1]
        # Floats because only they are multiplied fast; the sums are exact below 2**53.
        walked = spikes_before.astype(np.float64) @ self.blocks[:n].astype(np.float64)
        slots: Ints = walked.astype(np.int64) + self.groups
        np.add.at(slots, events[:, 0], self.blocks[n + events[:, 1]])
        slowest: Ints = slots.max(axis=1)
        return slowest + STEP_OVERHEAD


def back_to_back(clocks: Ints, spikes: Ints) -> Ints:
    """Clocks of steps that follow each other at once, waiting for the spike stream included.

    A step ends when the spikes of the one before have left, one per clock. Before the first step
    all have.

    Parameters
    ----------
    clocks : (steps,) int
        Without waiting.
    spikes : (steps,) int
        Of all populations.
    """
    leaving = np.concatenate([[0], spikes[:-1]]) + STREAM_LATENCY
    result: Ints = np.maximum(clocks, leaving)
    return result
