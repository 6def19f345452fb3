"""The first place in which two traces of a network differ."""

from dataclasses import dataclass

import numpy as np

from model.npu.network import Network
from model.npu.trace import Trace

NEURON_FIELDS = {"noise": "noise", "i_syn": "i_syn", "v": "v", "spikes": "spike"}
"""Arrays of a trace by neuron, and what one value of each is called: causes before effects."""


@dataclass(frozen=True)
class Difference:
    """What differs first.

    Attributes
    ----------
    step : int
        Time step.
    population, neuron : int, optional
        Where in the network, the neuron counted within its population; none for what belongs to
        the whole step or to the whole population.
    field : str
        `clocks`, `noise`, `i_syn`, `v`, `spike`, `saturated`; or `steps` if one trace is shorter.
    expected, actual : int
    """

    step: int
    population: int | None
    neuron: int | None
    field: str
    expected: int
    actual: int

    def __str__(self) -> str:
        parts = [f"step {self.step}"]
        if self.population is not None:
            parts.append(f"population {self.population}")
        if self.neuron is not None:
            parts.append(f"neuron {self.neuron}")
        return f"{', '.join(parts)}: {self.field} must be {self.expected}, not {self.actual}"

    @property
    def ports(self) -> str:
        """How the trace ports begin that show it."""
        return "trace" if self.population is None else f"trace_{self.population}"


def first_difference(network: Network, expected: Trace, actual: Trace) -> Difference | None:
    """The earliest difference of two traces that begin at the same time step.

    Within a step the clocks come first, then each population: its neurons in order, and whether
    a current saturated. Clocks are compared if both traces have them.
    """
    if expected.first_step != actual.first_step:
        raise ValueError(
            f"traces must begin at the same step, not {expected.first_step} and {actual.first_step}"
        )
    n_steps = min(len(expected), len(actual))
    with_clocks = len(expected.clocks) > 0 and len(actual.clocks) > 0
    arrays = [*NEURON_FIELDS, "saturated", *(["clocks"] if with_clocks else [])]
    differs = np.zeros(n_steps, np.bool_)
    for name in arrays:
        wrong = getattr(expected, name)[:n_steps] != getattr(actual, name)[:n_steps]
        differs |= wrong.reshape(n_steps, -1).any(axis=1)
    if differs.any():
        return _in_step(network, expected, actual, int(np.argmax(differs)), with_clocks)
    if len(expected) != len(actual):
        at = expected.first_step + n_steps
        return Difference(at, None, None, "steps", len(expected), len(actual))
    return None


def _in_step(
    network: Network, expected: Trace, actual: Trace, t: int, with_clocks: bool
) -> Difference:
    """The first difference in line `t`, in which there is one."""

    def values(name: str, column: int) -> tuple[int, int]:
        return int(getattr(expected, name)[t, column]), int(getattr(actual, name)[t, column])

    step = expected.first_step + t
    if with_clocks and expected.clocks[t] != actual.clocks[t]:
        return Difference(
            step, None, None, "clocks", int(expected.clocks[t]), int(actual.clocks[t])
        )
    for population in range(len(network.populations)):
        part = network.neuron_slice(population)
        for neuron in range(part.start, part.stop):
            for name, field in NEURON_FIELDS.items():
                right, wrong = values(name, neuron)
                if right != wrong:
                    return Difference(step, population, neuron - part.start, field, right, wrong)
        right, wrong = values("saturated", population)
        if right != wrong:
            return Difference(step, population, None, "saturated", right, wrong)
    raise AssertionError(f"step {step} must differ")
