"""How many clocks a time step takes on the chip, exactly."""

import numpy as np
from numpy.typing import NDArray

from model.npu.config import NPUConfig
from model.npu.network import Network

WALK_LATENCY = 3
"""Clocks from the start of a step to its first slot: load, fetch, first row."""
PIPELINE_LATENCY = 5
"""Clocks from the slot that closes a group to the write of its neurons' state."""
COMMIT = 1
"""The clock that ends the step."""
STEP_OVERHEAD = WALK_LATENCY + PIPELINE_LATENCY + COMMIT


def used_groups(network: Network, config: NPUConfig) -> NDArray[np.int64]:
    """Groups of lanes that each population of the network works on, (P,).

    At least one per population of the network: the spike stream carries one event per clock, and a
    population that fired S spikes keeps the next step busy for at least S clocks per group, so the
    spikes of all populations always leave behind the work and never make a step longer.
    """
    n = network.populations
    return np.array([max(-(-size // config.n_lanes), len(n)) for size in n])


def step_clocks(network: Network, config: NPUConfig, rows: NDArray[np.int32]) -> NDArray[np.int64]:
    """Clocks of every step: each group takes one slot per row and one to close it.

    Populations run side by side, so the slowest decides. Waiting for the spike stream, for events
    or for the timer is not part of it.

    Parameters
    ----------
    rows : (steps, P) int
        Rows that each population of the network walked.

    Returns
    -------
    (steps,) int
    """
    slots: NDArray[np.int64] = (rows.astype(np.int64) + 1) * used_groups(network, config)
    slowest: NDArray[np.int64] = slots.max(axis=1)
    return slowest + STEP_OVERHEAD
