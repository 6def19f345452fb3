"""A spiking network and its stimulus, as the engines and the compiler see it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from model.npu.config import BIAS_MAX, BIAS_MIN, TAU_MAX
from model.npu.noise import STRIDE

Ints = NDArray[np.int64]


class NetworkError(ValueError):
    """The network is not one that the neuron model defines; the text says what would be right."""


@dataclass(frozen=True)
class Neurons:
    """Parameters of n neurons, one (n,) integer array each (see docs/neuron.md)."""

    rest: Ints
    threshold: Ints
    reset: Ints
    a: Ints
    b: Ints
    noise: Ints
    tau: Ints

    @property
    def v_branch(self) -> Ints:
        """Where the two lines of the force meet: floor of the slope-weighted mean."""
        v_branch: Ints = (self.a * self.rest + self.b * self.threshold) // np.maximum(
            self.a + self.b, 1
        )
        return v_branch

    def __len__(self) -> int:
        return len(self.rest)

    def __getitem__(self, part: slice) -> "Neurons":
        return Neurons(**{name: getattr(self, name)[part] for name in NEURON_LIMITS})

    @staticmethod
    def join(parts: "list[Neurons]") -> "Neurons":
        """The neurons of all parts, one after the other."""
        return Neurons(
            **{n: np.concatenate([getattr(part, n) for part in parts]) for n in NEURON_LIMITS}
        )


NEURON_LIMITS = {
    "rest": 255,
    "threshold": 255,
    "reset": 255,
    "a": 15,
    "b": 15,
    "noise": 255,
    "tau": TAU_MAX,
}
"""Largest value of every neuron parameter; the smallest is 0."""


@dataclass(frozen=True)
class Connections:
    """Synapses as parallel (n,) arrays: from row `pre` (neuron or axon) to neuron `post`."""

    pre: Ints
    post: Ints
    weight: Ints

    def __len__(self) -> int:
        return len(self.pre)

    @staticmethod
    def none() -> "Connections":
        """No synapse at all."""
        empty = np.zeros(0, np.int64)
        return Connections(empty, empty, empty)

    @staticmethod
    def of(matrix: NDArray[np.int8], first_pre: int, first_post: int) -> "Connections":
        """Those of a matrix W[row, neuron] that are not 0."""
        pre, post = np.nonzero(matrix)
        weight = matrix[pre, post].astype(np.int64)
        return Connections(pre + first_pre, post + first_post, weight)

    @staticmethod
    def join(parts: "list[Connections]") -> "Connections":
        """The synapses of all parts, in order."""
        columns = [(part.pre, part.post, part.weight) for part in (Connections.none(), *parts)]
        return Connections(*(np.concatenate(column) for column in zip(*columns, strict=True)))


@dataclass(frozen=True)
class Segment:
    """`steps` time steps; `bias` ({neuron: value}) is set before them and stays."""

    steps: int
    bias: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Network:
    """Populations of neurons, their synapses and the stimulus.

    Neurons and axons are numbered through all populations: population 0 has the first
    `populations[0]` neurons and the first `axons[0]` axons.

    Parameters
    ----------
    populations, axons : tuple of int
        Neurons and external axons of every population.
    neurons : Neurons
    recurrent : Connections
        From neurons, of the same population (self connections included) or of another one.
    external : Connections
        From axons to neurons of the same population.
    noise_seeds : tuple of int
        One 32-bit seed per population.
    session : tuple of Segment
    events : (n, 2) int
        (time step, axon), sorted, no pair twice.
    """

    populations: tuple[int, ...]
    neurons: Neurons
    recurrent: Connections
    axons: tuple[int, ...]
    external: Connections
    noise_seeds: tuple[int, ...]
    session: tuple[Segment, ...]
    events: Ints
    name: str = "network"
    description: str = ""

    def __post_init__(self) -> None:
        _check(self)

    @property
    def n_neurons(self) -> int:
        return sum(self.populations)

    @property
    def n_steps(self) -> int:
        return sum(segment.steps for segment in self.session)

    def neuron_slice(self, population: int) -> slice:
        """Where the neurons of a population stand in the arrays of all neurons."""
        start = sum(self.populations[:population])
        return slice(start, start + self.populations[population])

    def axon_slice(self, population: int) -> slice:
        """Where the axons of a population stand in the numbering of all axons."""
        start = sum(self.axons[:population])
        return slice(start, start + self.axons[population])

    def population_of(self, neuron: Ints) -> Ints:
        """Population of each neuron."""
        return np.searchsorted(np.cumsum(self.populations), neuron, side="right")

    def population_of_axon(self, axon: Ints) -> Ints:
        """Population of each external axon."""
        return np.searchsorted(np.cumsum(self.axons), axon, side="right")

    def sources(self, population: int) -> tuple[int, ...]:
        """Whose spikes are rows of `population`: itself, and whoever has a connection into it."""
        into = self.population_of(self.recurrent.post) == population
        others = set(self.population_of(self.recurrent.pre[into]).tolist()) - {population}
        return (population, *sorted(others))

    def events_at(self, first: int, last: int) -> Ints:
        """Events of the time steps first..last-1."""
        low, high = np.searchsorted(self.events[:, 0], [first, last])
        return self.events[low:high]

    def segments(self) -> Iterator[tuple[int, Segment]]:
        """Every segment with the time step at which it begins."""
        step = 0
        for segment in self.session:
            yield step, segment
            step += segment.steps


def check_sizes(populations: Sequence[int], n_neurons: int) -> None:
    """Refuse populations that are none, or that are not of so many neurons.

    Raises
    ------
    NetworkError
    """
    if not populations:
        raise NetworkError("populations must be at least one")
    for p, n in enumerate(populations):
        if not 1 <= n <= STRIDE:
            raise NetworkError(f"populations[{p}] must be 1..{STRIDE}, not {n}")
    if n_neurons != sum(populations):
        raise NetworkError(
            f"neurons must be {sum(populations)}, the sum of populations, not {n_neurons}"
        )


def _check(network: Network) -> None:
    check_sizes(network.populations, len(network.neurons))
    _check_neurons(network.neurons)
    for name, per_population in (("axons", network.axons), ("noise_seeds", network.noise_seeds)):
        if len(per_population) != len(network.populations):
            raise NetworkError(
                f"{name} must be {len(network.populations)} numbers, one per population, "
                f"not {len(per_population)}"
            )
    for name, values, high in (
        ("axons", network.axons, STRIDE),
        ("noise_seeds", network.noise_seeds, (1 << 32) - 1),
    ):
        for p, value in enumerate(values):
            if not 0 <= value <= high:
                raise NetworkError(f"{name}[{p}] must be 0..{high}, not {value}")
    _check_synapses(network)
    _check_stimulus(network)


def _check_synapses(network: Network) -> None:
    _check_connections("connections", network.recurrent, network.n_neurons, network.n_neurons)
    _check_connections("axon_connections", network.external, sum(network.axons), network.n_neurons)
    crossing = network.population_of_axon(network.external.pre) != network.population_of(
        network.external.post
    )
    if crossing.any():
        k = int(np.argmax(crossing))
        raise NetworkError(
            f"axon_connections[{k}]: axon {network.external.pre[k]} must belong to the population "
            f"of neuron {network.external.post[k]}"
        )


def _first(bad: NDArray[np.bool_]) -> int | None:
    """Index of the first mistake."""
    return int(np.argmax(bad)) if bad.any() else None


def _check_neurons(neurons: Neurons) -> None:
    for name, high in NEURON_LIMITS.items():
        values = getattr(neurons, name)
        if (j := _first((values < 0) | (values > high))) is not None:
            raise NetworkError(f"neurons[{j}].{name} must be 0..{high}, not {values[j]}")
    if (j := _first(neurons.a + neurons.b == 0)) is not None:
        raise NetworkError(
            f"neurons[{j}]: a + b must be at least 1, not 0 (the force would have no slope)"
        )


def _check_connections(name: str, c: Connections, n_pre: int, n_post: int) -> None:
    for end, values, n in (("pre", c.pre, n_pre), ("post", c.post, n_post)):
        if (k := _first((values < 0) | (values >= n))) is not None:
            right = (
                f"{end} must be 0..{n - 1}, not {values[k]}"
                if n
                else f"{end} must be an axon, but no population has axons"
            )
            raise NetworkError(f"{name}[{k}]: {right}")
    if (k := _first((c.weight < -128) | (c.weight > 127))) is not None:
        raise NetworkError(f"{name}[{k}]: weight must be -128..127, not {c.weight[k]}")
    order = np.lexsort((c.post, c.pre))
    same = (np.diff(c.pre[order]) == 0) & (np.diff(c.post[order]) == 0)
    if same.any():
        k = int(np.argmax(same))
        first, second = sorted((int(order[k]), int(order[k + 1])))
        raise NetworkError(
            f"{name}[{first}] and {name}[{second}] must be different connections, "
            f"both are {c.pre[first]} -> {c.post[first]}"
        )


def _check_stimulus(network: Network) -> None:
    if not network.session:
        raise NetworkError("session must have at least one segment")
    for k, segment in enumerate(network.session):
        if segment.steps < 1:
            raise NetworkError(f"session[{k}].steps must be at least 1, not {segment.steps}")
        for neuron, bias in segment.bias.items():
            if not 0 <= neuron < network.n_neurons:
                raise NetworkError(
                    f"session[{k}].bias: neuron must be 0..{network.n_neurons - 1}, not {neuron}"
                )
            if not BIAS_MIN <= bias <= BIAS_MAX:
                raise NetworkError(
                    f"session[{k}].bias: bias of neuron {neuron} must be "
                    f"{BIAS_MIN}..{BIAS_MAX}, not {bias}"
                )
    if network.n_steps >= 1 << 32:
        raise NetworkError(f"session must be shorter than 2**32 steps, not {network.n_steps}")
    _check_events(network.events, network.n_steps, sum(network.axons))


def _check_events(events: Ints, n_steps: int, n_axons: int) -> None:
    for column, what, n in ((0, "step", n_steps), (1, "axon", n_axons)):
        values = events[:, column]
        if (k := _first((values < 0) | (values >= n))) is not None:
            right = f"must be 0..{n - 1}" if n else "must be an axon, but no population has axons"
            raise NetworkError(f"events[{k}]: {what} {right}, not {values[k]}")
    if len(events) > 1:
        key = events[:, 0] * max(n_axons, 1) + events[:, 1]
        if (k := _first(np.diff(key) <= 0)) is not None:
            step, axon = events[k + 1]
            raise NetworkError(
                f"events must be sorted and different: axon {axon} at step {step} is not"
            )
