"""What a run leaves behind: every state of every time step, the same from every engine."""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from model.npu.network import Network


@dataclass(frozen=True)
class Trace:
    """Consecutive time steps of a network with n neurons in P populations.

    Parameters
    ----------
    first_step : int
        Time step of the first line.
    v : (steps, n) uint8
        Membrane potential after the step.
    spikes : (steps, n) bool
        Whether the neuron fired in the step.
    i_syn : (steps, n) int16
        The decayed current that the step used.
    noise : (steps, n) int8
        The draw that the step used.
    rows : (steps, P) int32
        Rows of the weight memory that each population walked.
    saturated : (steps, P) bool
        Whether a current of the population saturated in the step.
    clocks : (steps,) int64
        Clocks of the step on the chip, without waiting for spikes to leave; empty where no
        configuration was given.
    """

    first_step: int
    v: NDArray[np.uint8]
    spikes: NDArray[np.bool_]
    i_syn: NDArray[np.int16]
    noise: NDArray[np.int8]
    rows: NDArray[np.int32]
    saturated: NDArray[np.bool_]
    clocks: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.v)

    def part(self, first: int, last: int) -> "Trace":
        """Lines first..last-1."""
        arrays = {
            f.name: getattr(self, f.name)[first:last]
            for f in fields(Trace)
            if f.name != "first_step"
        }
        return Trace(first_step=self.first_step + first, **arrays)

    @staticmethod
    def join(parts: "list[Trace]") -> "Trace":
        """One trace out of consecutive ones."""
        arrays = {
            f.name: np.concatenate([getattr(part, f.name) for part in parts])
            for f in fields(Trace)
            if f.name != "first_step"
        }
        return Trace(first_step=parts[0].first_step, **arrays)


def count_rows(
    network: Network, first_step: int, spikes_before: NDArray[np.bool_]
) -> NDArray[np.int32]:
    """Rows that every population walks in consecutive steps.

    Parameters
    ----------
    first_step : int
        The first of the steps.
    spikes_before : (steps, n) bool
        Who fired in the step before each of them.

    Returns
    -------
    (steps, P) int32
        Spikes of the population itself and of those with connections into it, plus its events.
    """
    n_steps, n_populations = len(spikes_before), len(network.populations)
    fired = np.zeros((n_steps, n_populations), np.int32)
    for p in range(n_populations):
        fired[:, p] = spikes_before[:, network.neuron_slice(p)].sum(axis=1)
    rows = np.zeros((n_steps, n_populations), np.int32)
    for p in range(n_populations):
        rows[:, p] = fired[:, list(network.sources(p))].sum(axis=1)
    events = network.events_at(first_step, first_step + n_steps)
    population = network.population_of_axon(events[:, 1])
    np.add.at(rows, (events[:, 0] - first_step, population), 1)
    return rows
