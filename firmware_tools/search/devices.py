"""The search: what each device does to each layer, a front of what is expected, what is measured.

1. Each layer alone on each option, the others exact: its noise (`measuring.noise`), a table.
2. Phase 1: a method fills the front of cost and expected noise (`methods`).
3. Phase 2: along that front, where the measured drop of accuracy reaches what is allowed is found
   by halving; from the cheapest network that is allowed, changes of one or two layers that cost
   less are measured, the least noisy first, until none is allowed. If there are no more networks
   than may be measured, all are.
4. What was chosen is measured again on other chips and other images, once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_tools.costs.constants import Constants, constants
from firmware_tools.costs.layers import Layers, layers_of, side_by_side
from firmware_tools.costs.options import options_of as prices_of
from firmware_tools.costs.system import Choices, Objective
from firmware_tools.jobs.campaign import results
from firmware_tools.jobs.job import Executor
from firmware_tools.jobs.store import Store
from firmware_tools.search.errors import SearchError
from firmware_tools.search.front import nondominated
from firmware_tools.search.measuring import Measurement, Part, Task, measurement, model_of
from firmware_tools.search.methods import Method, fill
from firmware_tools.search.reduction import AS_IT_IS, Reduction, check, effective, reduced
from firmware_tools.search.space import Archive, Option, Space
from model.mars import network_file
from model.mars.devices import faults
from model.mars.network import QuantizedNetwork

Numbers = NDArray[np.float64]
BATCH = 8
"""Networks that are measured before it is decided how to go on: the same on any executor."""
OTHER_CHIPS = 1 << 16
"""Number of the first chip that is reported with: none that was chosen with."""
Say = Callable[[str, int, int], None]
"""Takes what goes on, how much is done, and of how much."""


@dataclass(frozen=True)
class Settings:
    """A search.

    Attributes
    ----------
    task : Task
    options : tuple of Option
    objective : str
    allowed : float
        Points of accuracy that may be lost.
    method : str
    seed : int
        Of the method, and of the chips.
    trials : int
        Chips that a measurement is the mean of.
    measurements : int
        Networks that phase 2 measures, at most.
    """

    task: Task
    options: tuple[Option, ...]
    objective: Objective = "tops-per-mm2"
    allowed: float = 1.0
    method: Method = "gradient"
    seed: int = 0
    trials: int = 2
    measurements: int = 64


@dataclass(frozen=True)
class Measured:
    """A network that was measured.

    Attributes
    ----------
    choice : tuple of int
        Option of each layer.
    cost, expected, noise, drop : float
        Drop is noise in percent of results that are no logits.
    """

    choice: tuple[int, ...]
    cost: float
    expected: float
    noise: float
    drop: float


@dataclass
class Found:
    """What a search has found so far.

    Attributes
    ----------
    layers : Layers
    space : Space or None
    archive : Archive or None
    measured : {choice: Measured}
    best : Measured or None
        The cheapest that is allowed.
    reported : (float, float) or None
        Noise and drop of the best one on other chips and images.
    """

    layers: Layers
    space: Space | None = None
    archive: Archive | None = None
    measured: dict[tuple[int, ...], Measured] = field(default_factory=dict)
    best: Measured | None = None
    reported: tuple[float, float] | None = None

    def front(self) -> list[Measured]:
        """Of the measured networks, by cost."""
        all_of_them = list(self.measured.values())
        cost = np.array([one.cost for one in all_of_them])
        drop = np.array([one.drop for one in all_of_them])
        return [all_of_them[k] for k in nondominated(cost, drop)] if all_of_them else []


class Search:
    """A search that can be looked at while it runs.

    Parameters
    ----------
    settings : Settings
    executor : Executor
    store : Store or None
    say : callable
    known : Constants
    """

    def __init__(
        self,
        settings: Settings,
        executor: Executor,
        store: Store | None = None,
        say: Say = lambda _what, _done, _of: None,
        known: Constants | None = None,
    ) -> None:
        self.settings = settings
        self._executor = executor
        self._store = store
        self._say = say
        self._known = known or constants()
        network = model_of(settings.task).network
        if len(set(settings.options)) < len(settings.options):
            raise SearchError("--device must be different each time: a device is named twice")
        for one in settings.options:
            check(network, one.reduction)
        prices_of([one.device for one in settings.options], self._known)
        self.found = Found(layers_of(network))

    def run(self) -> Found:
        """All of it; `found` holds what there is at any time."""
        found, settings = self.found, self.settings
        layers = layers_on(model_of(settings.task).network, settings.options)
        space = found.space = Space(
            layers, settings.options, self.noise_table(), settings.objective, self._known
        )
        archive = found.archive = Archive(space)
        for n_priced in fill(archive, settings.method, settings.seed):
            self._say("networks priced", n_priced, 0)
        self._measure(space.homogeneous())
        if space.size <= settings.measurements:
            self._measure_all(space)
        else:
            self._halve(archive)
            self._climb(space)
        if found.best is not None:
            self._report(found.best)
        return found

    def noise_table(self) -> Numbers:
        """Noise of each layer alone on each option, (layers, options)."""
        names, options = self.found.layers.names, self.settings.options
        network = model_of(self.settings.task).network
        places = [
            (a, b)
            for a, name in enumerate(names)
            for b, one in enumerate(options)
            if not one.is_exact or effective(network, name, one.reduction) != AS_IT_IS
        ]
        alone = [{names[a]: options[b]} for a, b in places]
        figures = self._figures("layers measured alone", alone, "selection")
        table = np.zeros((len(names), len(options)))
        for place, (noise, _drop) in zip(places, figures, strict=True):
            table[place] = noise
        return table

    def _figures(
        self, what: str, choices: Sequence[Mapping[str, Option]], part: Part, first: int = 0
    ) -> list[tuple[float, float]]:
        """Noise and drop of each choice, the means of all chips."""
        settings = self.settings
        jobs = [
            measurement(settings.task, options, settings.seed, first + trial, part)
            for options in choices
            for trial in range(settings.trials)
        ]
        by_job: dict[Measurement, Any] = {}
        self._say(what, 0, len(jobs))
        for done in results(jobs, self._executor, self._store):
            by_job[done.job] = done.result
            self._say(what, len(by_job), len(jobs))
        means = []
        for k in range(0, len(jobs), settings.trials):
            own = [by_job[job] for job in jobs[k : k + settings.trials]]
            noise = sum(one["noise"] for one in own) / len(own)
            drops = [100 * one["noise"] if one["drop"] is None else one["drop"] for one in own]
            means.append((noise, sum(drops) / len(own)))
        return means

    def _chosen(self, choice: Sequence[int]) -> dict[str, Option]:
        options = [self.settings.options[k] for k in choice]
        return dict(zip(self.found.layers.names, options, strict=True))

    def _measure(self, choices: Choices) -> list[Measured]:
        """Measure networks that have not been; the best one may become another."""
        found = self.found
        assert found.space is not None
        keys = [tuple(int(k) for k in one) for one in choices]
        fresh = [k for k, one in enumerate(keys) if one not in found.measured]
        if fresh:
            what = f"networks measured, {len(found.measured)} before"
            figures = self._figures(what, [self._chosen(keys[k]) for k in fresh], "selection")
            cost, expected = found.space.cost(choices), found.space.noise(choices)
            for k, (noise, drop) in zip(fresh, figures, strict=True):
                one = Measured(keys[k], float(cost[k]), float(expected[k]), noise, drop)
                found.measured[keys[k]] = one
                self._consider(one)
        return [found.measured[one] for one in keys]

    def _consider(self, one: Measured) -> None:
        best = self.found.best
        if one.drop <= self.settings.allowed and (best is None or one.cost < best.cost):
            self.found.best = one

    @property
    def _left(self) -> int:
        return self.settings.measurements - len(self.found.measured)

    def _measure_all(self, space: Space) -> None:
        """Know the truth, where there are so few."""
        n_layers, n_options = space.shape
        numbers = np.arange(space.size)[:, np.newaxis]
        every = numbers // n_options ** np.arange(n_layers) % n_options
        for first in range(0, len(every), BATCH):
            self._measure(every[first : first + BATCH])

    def _halve(self, archive: Archive) -> None:
        """Find where along the front, the cheapest first, the drop becomes what is allowed."""
        low, high = 0, len(archive.choices) - 1
        while low <= high and self._left > 0:
            middle = (low + high) // 2
            if self._measure(archive.choices[middle : middle + 1])[0].drop <= self.settings.allowed:
                high = middle - 1
            else:
                low = middle + 1
        nearby = archive.choices[max(0, low - BATCH) : low]
        self._measure(nearby[: max(0, self._left)])

    def _climb(self, space: Space) -> None:
        """Change one or two layers of the best network as long as that pays."""
        while self._left > 0 and self.found.best is not None:
            best = self.found.best
            near = neighbours(np.array(best.choice), space.shape[1])
            cost, expected = space.cost(near), space.noise(near)
            pays = [
                k
                for k in np.lexsort((cost, expected))
                if cost[k] < best.cost and tuple(map(int, near[k])) not in self.found.measured
            ]
            if not pays:
                return
            self._measure(near[pays[: min(BATCH, self._left)]])
            if self.found.best is best and len(pays) <= BATCH:
                return

    def _report(self, best: Measured) -> None:
        figures = self._figures("reporting", [self._chosen(best.choice)], "test", OTHER_CHIPS)
        self.found.reported = figures[0]


def neighbours(choice: Choices, n_options: int) -> Choices:
    """Networks that differ in one layer or two, (N, layers)."""
    n_layers = len(choice)
    single = [(layer, step) for layer in range(n_layers) for step in range(1, n_options)]
    pairs = [(a, b) for a, b in combinations(single, 2) if a[0] != b[0]]
    moves: list[tuple[tuple[int, int], ...]] = [*((one,) for one in single), *pairs]
    found = np.repeat(choice[np.newaxis], len(moves), axis=0)
    for k, move in enumerate(moves):
        for layer, step in move:
            found[k, layer] = (found[k, layer] + step) % n_options
    return found


def layers_on(network: QuantizedNetwork, options: Sequence[Option]) -> Layers:
    """What each option makes of each layer, (layers, options)."""
    names = layers_of(network).names
    by_reduction = {
        one: layers_of(reduced(network, dict.fromkeys(names, one)))
        for one in dict.fromkeys(option.reduction for option in options)
    }
    return side_by_side([by_reduction[option.reduction] for option in options])


def options_of(
    devices: Sequence[str],
    arrays: Sequence[int],
    adc_bits: Sequence[int],
    reductions: Sequence[Reduction] = (AS_IT_IS,),
) -> tuple[Option, ...]:
    """Every device with every array and converter, which SRAM has not, and every reduction.

    Raises
    ------
    DeviceError
        A device is not there, or a value is outside its range.
    """
    found: list[Option] = []
    for text in devices:
        if text.partition(":")[0] == faults.NAME:
            raise SearchError(f"--device must be a device of arrays, not {text}")
        option = Option(text)
        if option.is_exact:
            found.append(option)
            continue
        mark = "," if ":" in text else ":"
        sides = [f"rows={n},columns={n}" for n in arrays]
        bits = [f"adc_bits={n}" for n in adc_bits]
        for side in sides or [""]:
            for one in bits or [""]:
                changes = ",".join(part for part in (side, one) if part)
                found.append(Option(f"{text}{mark}{changes}" if changes else text))
    for option in found:
        option.device  # noqa: B018  (raises)
    return tuple(Option(one.text, each) for one, each in product(found, reductions))


def reductions_of(
    weight_bits: Sequence[int], activation_bits: Sequence[int], sparsity: Sequence[float]
) -> tuple[Reduction, ...]:
    """Every combination; of what is empty a layer's own.

    Raises
    ------
    SearchError
        A value is outside its range.
    """
    own: tuple[None] = (None,)
    axes = product(weight_bits or own, activation_bits or own, sparsity or (0.0,))
    return tuple(Reduction(*one) for one in axes)


def write(found: Found, settings: Settings, folder: Path) -> list[Path]:
    """A file for each network of the front, and for the best one, that `kenyon infer` runs.

    If layers may have fewer bits or weights, the network, too.
    """
    from firmware_tools.search.assignment import dump

    network = model_of(settings.task).network
    is_reduced = any(one.reduction != AS_IT_IS for one in settings.options)
    names = found.layers.names
    chosen = {f"front-{k:02d}": one for k, one in enumerate(found.front())}
    if found.best is not None:
        chosen["best"] = found.best
    paths = []
    for name, one in chosen.items():
        paths.append(folder / f"{name}.json")
        options = [settings.options[k] for k in one.choice]
        texts = [option.text for option in options]
        dump(network.name, dict(zip(names, texts, strict=True)), paths[-1])
        if is_reduced:
            own = zip(names, (option.reduction for option in options), strict=True)
            paths.append(folder / f"{name}.npz")
            network_file.dump(reduced(network, dict(own)), paths[-1])
    return paths
