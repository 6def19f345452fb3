"""Spiking networks of one's own, group by group: `docs/building.md` is the way in.

A `Network` has populations, as a chip has them; a population has groups of neurons that share their
parameters, and groups of axons. `connect` joins two groups by a rule, which says who is joined to
whom, and weights, a number or a distribution. Whatever is random comes from the network's seed, in
the order in which it is built.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from model.npu import network as npu
from model.npu.config import CONFIGS, NPUConfig
from model.npu.image import FitError, check_fit
from model.npu.network import Connections, Ints, NetworkError, Neurons, Segment
from model.npu.network_file import dump

Generator = np.random.Generator
Rule = Callable[[int, int, Generator], NDArray[np.bool_]]
"""Which of n_pre rows is joined to which of n_post neurons, (n_pre, n_post)."""
Distribution = Callable[[int, Generator], NDArray[np.float64]]
"""So many weights; they are rounded, and limited to what a weight can be."""
WEIGHT_MIN, WEIGHT_MAX = -128, 127


@dataclass(frozen=True, kw_only=True)
class Neuron:
    """Parameters of a neuron, as docs/neuron.md defines them; the defaults are a calm one's."""

    rest: int = 60
    threshold: int = 100
    reset: int = 20
    a: int = 2
    b: int = 2
    noise: int = 0
    tau: int = 4


@dataclass(frozen=True)
class Group:
    """Neurons, or axons, of a population that are wired alike.

    Parameters
    ----------
    name : str
    population : str
    kind : str
        "neurons" or "axons".
    first, size : int
        Numbers within the population's neurons or axons: first ... first + size - 1.
    """

    name: str
    population: str
    kind: Literal["neurons", "axons"]
    first: int
    size: int

    def __len__(self) -> int:
        return self.size


class Population:
    """A population; `Network.population` makes it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.groups: list[Group] = []
        self.parameters: list[Neuron] = []
        self.n_axons = 0

    @property
    def n_neurons(self) -> int:
        """Neurons of all its groups."""
        return len(self.parameters)

    def neurons(self, name: str, size: int, neuron: Neuron | None = None) -> Group:
        """Add neurons that are all alike.

        Raises
        ------
        NetworkError
            There are none, or the population has a group of that name.
        """
        group = self._add(Group(name, self.name, "neurons", self.n_neurons, size))
        self.parameters += [neuron or Neuron()] * size
        return group

    def axons(self, name: str, size: int) -> Group:
        """Add external axons; raises as `neurons`."""
        group = self._add(Group(name, self.name, "axons", self.n_axons, size))
        self.n_axons += size
        return group

    def _add(self, group: Group) -> Group:
        if group.size < 1:
            raise NetworkError(f"group {group.name!r} must have at least 1 of {group.kind}")
        if any(other.name == group.name for other in self.groups):
            raise NetworkError(
                f"population {self.name!r} must have groups of different names, "
                f"not two {group.name!r}"
            )
        self.groups.append(group)
        return group


@dataclass(frozen=True)
class Room:
    """What a network takes of a chip.

    Parameters
    ----------
    configuration : str
    problem : str
        What does not fit; empty if all does.
    used : {str: (int, int)}
        Of populations, and of the largest population's neurons and axons: taken, and there.
    """

    configuration: str
    problem: str
    used: dict[str, tuple[int, int]]

    @property
    def fits(self) -> bool:
        """Whether the chip has room for the network."""
        return not self.problem

    def __str__(self) -> str:
        parts = ", ".join(f"{n} of {room} {what}" for what, (n, room) in self.used.items())
        return f"{self.configuration}: {parts}{f'; {self.problem}' if self.problem else ''}"


class Network:
    """A network that grows.

    Parameters
    ----------
    name : str
    description : str
    seed : int
        Of random rules and distributions, and of the neurons' noise: population k has seed + k.
    """

    def __init__(self, name: str, description: str = "", seed: int = 0) -> None:
        self.name, self.description, self.seed = name, description, seed
        self.populations: list[Population] = []
        self._rng = np.random.default_rng(seed)
        self._synapses: dict[str, list[tuple[Group, Group, Connections]]] = {
            "neurons": [],
            "axons": [],
        }

    def population(self, name: str) -> Population:
        """Add a population; the first one is the chip's population 0."""
        if any(other.name == name for other in self.populations):
            raise NetworkError(f"populations must have different names, not two {name!r}")
        self.populations.append(Population(name))
        return self.populations[-1]

    def connect(self, pre: Group, post: Group, rule: Rule, weight: int | Distribution) -> None:
        """Join neurons or axons to neurons.

        Parameters
        ----------
        pre : Group
            Axons reach neurons of their own population only.
        post : Group
            Neurons, of any population: between populations over the chip's links.
        rule : Rule
            `one_to_one`, `all_to_all`, `ring`, `at_random`, `explicit`, or a function of one's own.
        weight : int or Distribution
            -128..127, or `normal`, `uniform`, or a function of one's own.

        Raises
        ------
        NetworkError
            Groups, rule or weight are not as above.
        """
        where = f"{pre.name!r} to {post.name!r}"
        if post.kind != "neurons":
            raise NetworkError(f"connection {where} must end at neurons, not axons")
        if pre.kind == "axons" and pre.population != post.population:
            raise NetworkError(
                f"connection {where} must stay in population {pre.population!r}, as axons do, "
                f"not reach {post.population!r}"
            )
        try:
            joined = rule(pre.size, post.size, self._rng)
        except NetworkError as error:
            raise NetworkError(f"connection {where}: {error}") from None
        rows, columns = np.nonzero(joined)
        synapses = Connections(rows, columns, self._weights(weight, len(rows), where))
        self._synapses[pre.kind].append((pre, post, synapses))

    def _weights(self, weight: int | Distribution, n: int, where: str) -> Ints:
        if isinstance(weight, int):
            if not WEIGHT_MIN <= weight <= WEIGHT_MAX:
                raise NetworkError(
                    f"connection {where}: weight must be {WEIGHT_MIN}..{WEIGHT_MAX}, not {weight}"
                )
            return np.full(n, weight)
        drawn = np.rint(weight(n, self._rng))
        return np.clip(drawn, WEIGHT_MIN, WEIGHT_MAX).astype(np.int64)

    def numbers(self, group: Group) -> range:
        """The group's neurons or axons, numbered through all populations as in network files."""
        first = group.first
        for population in self.populations:
            if population.name == group.population:
                break
            first += population.n_neurons if group.kind == "neurons" else population.n_axons
        return range(first, first + group.size)

    def build(
        self,
        session: Sequence[Segment] = (Segment(1),),
        events: Iterable[tuple[int, int]] = (),
    ) -> npu.Network:
        """The network as engines, compiler and files take it.

        Parameters
        ----------
        session : sequence of Segment
            Time steps, and the bias of neurons, numbered as by `numbers`, before them.
        events : of (int, int)
            Time step, and axon, numbered as by `numbers`.

        Raises
        ------
        NetworkError
            A population has no neurons, or two are joined twice.
        """
        for population in self.populations:
            if not population.parameters:
                raise NetworkError(f"population {population.name!r} must have neurons")
        neurons = [one for population in self.populations for one in population.parameters]
        sizes = tuple(population.n_neurons for population in self.populations)
        sorted_events = np.array(sorted(events), np.int64).reshape(-1, 2)
        return npu.Network(
            populations=sizes,
            neurons=Neurons(
                **{
                    name: np.array([getattr(one, name) for one in neurons])
                    for name in npu.NEURON_LIMITS
                }
            ),
            recurrent=self._joined("neurons"),
            axons=tuple(population.n_axons for population in self.populations),
            external=self._joined("axons"),
            noise_seeds=tuple(self.seed + k for k in range(len(sizes))),
            session=tuple(session),
            events=sorted_events,
            name=self.name,
            description=self.description,
        )

    def _joined(self, kind: Literal["neurons", "axons"]) -> Connections:
        parts = []
        first: dict[tuple[int, int], str] = {}
        for pre, post, synapses in self._synapses[kind]:
            rows = synapses.pre + self.numbers(pre).start
            columns = synapses.post + self.numbers(post).start
            where = f"{pre.name!r} to {post.name!r}"
            for pair in zip(rows.tolist(), columns.tolist(), strict=True):
                if pair in first:
                    raise NetworkError(
                        f"connections {first[pair]} and {where} must be of different neurons, "
                        f"both join {pair[0]} to {pair[1]}"
                    )
                first[pair] = where
            parts.append(Connections(rows, columns, synapses.weight))
        return Connections.join(parts)

    def on_chip(self, config: NPUConfig | str) -> Room:
        """What the network takes of a chip, and what does not fit it."""
        chip = CONFIGS[config] if isinstance(config, str) else config
        network = self.build()
        try:
            check_fit(network, chip)
            problem = ""
        except FitError as error:
            problem = str(error)
        used = {
            "populations": (len(network.populations), chip.n_populations),
            "neurons": (max(network.populations), chip.n_neurons),
            "axons": (max(network.axons), chip.n_axons),
        }
        return Room(chip.name, problem, used)

    def save(
        self,
        path: Path,
        session: Sequence[Segment] = (Segment(1),),
        events: Iterable[tuple[int, int]] = (),
    ) -> None:
        """Write the network file (docs/network-file.md); parameters as of `build`."""
        path.write_text(dump(self.build(session, events)))


def one_to_one(n_pre: int, n_post: int, _rng: Generator) -> NDArray[np.bool_]:
    """The first to the first, the second to the second, ..."""
    if n_pre != n_post:
        raise NetworkError(f"one_to_one must have groups of one size, not {n_pre} and {n_post}")
    return np.eye(n_pre, dtype=np.bool_)


def all_to_all(n_pre: int, n_post: int, _rng: Generator) -> NDArray[np.bool_]:
    """Everyone to everyone; within a group also to itself."""
    return np.ones((n_pre, n_post), np.bool_)


def all_to_others(n_pre: int, n_post: int, _rng: Generator) -> NDArray[np.bool_]:
    """Everyone to everyone but the one with the same number."""
    return ~np.eye(n_pre, n_post, dtype=np.bool_)


def ring(reach: int, least: int = 1) -> Rule:
    """Neighbours on a ring.

    Parameters
    ----------
    reach, least : int
        The largest and the least distance of those that are joined.
    """

    def rule(n_pre: int, n_post: int, _rng: Generator) -> NDArray[np.bool_]:
        if n_pre != n_post:
            raise NetworkError(f"ring must have groups of one size, not {n_pre} and {n_post}")
        apart = np.abs(np.subtract.outer(np.arange(n_pre), np.arange(n_post)))
        distance = np.minimum(apart, n_pre - apart)
        return np.asarray((distance >= least) & (distance <= reach))

    return rule


def at_random(probability: float) -> Rule:
    """Each pair with a probability."""
    if not 0 <= probability <= 1:
        raise NetworkError(f"probability must be 0..1, not {probability:g}")

    def rule(n_pre: int, n_post: int, rng: Generator) -> NDArray[np.bool_]:
        return np.asarray(rng.random((n_pre, n_post)) < probability)

    return rule


def explicit(pairs: Iterable[tuple[int, int]]) -> Rule:
    """The pairs (pre, post), each counted within its group."""
    chosen = tuple(pairs)

    def rule(n_pre: int, n_post: int, _rng: Generator) -> NDArray[np.bool_]:
        joined = np.zeros((n_pre, n_post), np.bool_)
        for pre, post in chosen:
            if not (0 <= pre < n_pre and 0 <= post < n_post):
                raise NetworkError(
                    f"pair must be 0..{n_pre - 1}, 0..{n_post - 1}, not {pre}, {post}"
                )
            joined[pre, post] = True
        return joined

    return rule


def normal(mean: float, deviation: float) -> Distribution:
    """Normally distributed weights."""
    return lambda n, rng: rng.normal(mean, deviation, n)


def uniform(low: int, high: int) -> Distribution:
    """Weights low..high, all as likely."""
    return lambda n, rng: rng.integers(low, high + 1, n).astype(np.float64)
