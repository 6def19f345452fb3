"""The study of samplers: the same clients, images and seeds for all of them.

A run has all rounds, or half of them with the same course of the learning rate. Accuracy is the
mean over sixteen networks that no sampler chose, on test images that nothing was chosen with.
"""

import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from rich.table import Table

from firmware_tools.console import Terminal
from firmware_tools.federation.evaluation import accuracies, probes
from firmware_tools.federation.partition import load
from firmware_tools.federation.rounds import Federation, Settings
from firmware_tools.federation.sampling import Sampler
from firmware_tools.federation.space import LARGEST
from firmware_tools.jobs.code import digest
from firmware_tools.jobs.job import Executor
from firmware_tools.jobs.store import Store
from hw.cache import key

ROUNDS, QUICK_ROUNDS = 16, 2
SAMPLERS: tuple[Sampler, ...] = ("uniform", "diverse", "hadamard", "full")
SHARE = 0.5
"""Of uniform sampling's work that is to be enough."""


@dataclass(frozen=True)
class Run:
    """A federation that has been.

    Attributes
    ----------
    sampler : str
    rounds, seed : int
    accuracy, largest : float
        Mean of the probes, and the largest network's; of the test images.
    macs, bytes : int
        Work of the clients.
    """

    sampler: Sampler
    rounds: int
    seed: int
    accuracy: float
    largest: float
    macs: int
    bytes: int

    @property
    def work(self) -> int:
        """Both."""
        return self.macs + self.bytes


def plan(n_seeds: int, rounds: int = ROUNDS) -> list[Settings]:
    """What is run: uniform sampling with all rounds, and every sampler with half of them."""
    kinds: list[tuple[Sampler, int]] = [("uniform", rounds)]
    kinds += [(sampler, rounds // 2) for sampler in SAMPLERS]
    return [
        Settings(sampler=sampler, rounds=n, seed=seed)
        for sampler, n in kinds
        for seed in range(n_seeds)
    ]


def study(
    settings: list[Settings], executor: Executor, store: Store | None = None
) -> Iterator[Run]:
    """Run all of them; what is known already is not run again."""
    store = store or Store()
    for one in settings:
        name = key(digest((__name__,)), one.fingerprint())
        known = store.get(name)
        if known is None:
            known = asdict(_run(one, executor))
            store.put(name, known)
        yield Run(**known)


def _run(settings: Settings, executor: Executor) -> Run:
    federation = Federation(settings, executor)
    for _ in federation.run():
        pass
    images = load(settings.data)
    shares = accuracies(
        [*probes(), LARGEST], federation.weights, images.training.images, images.test
    )
    return Run(
        settings.sampler,
        settings.rounds,
        settings.seed,
        statistics.mean(shares[:-1]),
        shares[-1],
        federation.work.macs,
        federation.work.bytes,
    )


@dataclass(frozen=True)
class Pair:
    """Half of the rounds of a sampler against all of uniform sampling, seed by seed.

    Attributes
    ----------
    sampler : str
    work : tuple of float
        Share of uniform sampling's work.
    points : tuple of float
        Accuracy minus that of uniform sampling.
    """

    sampler: Sampler
    work: tuple[float, ...]
    points: tuple[float, ...]

    @property
    def confirmed(self) -> bool:
        """At least as accurate in the mean, with at most `SHARE` of the work in the mean."""
        return statistics.mean(self.points) >= 0 and statistics.mean(self.work) <= SHARE


def pairs(runs: list[Run]) -> list[Pair]:
    """Each sampler's half against uniform sampling's whole."""
    whole = max(run.rounds for run in runs)
    base = {run.seed: run for run in runs if run.sampler == "uniform" and run.rounds == whole}
    found = []
    for sampler in SAMPLERS:
        halves = [run for run in runs if run.sampler == sampler and run.rounds < whole]
        work = tuple(run.work / base[run.seed].work for run in halves)
        points = tuple(100 * (run.accuracy - base[run.seed].accuracy) for run in halves)
        found.append(Pair(sampler, work, points))
    return found


def bench(terminal: Terminal, executor: Executor, *, n_seeds: int, quick: bool) -> None:
    """Run the study and show it; Ctrl-C keeps the runs that are done.

    Parameters
    ----------
    terminal : Terminal
    executor : Executor
        Of the clients.
    n_seeds : int
    quick : bool
        Two rounds, which say nothing.
    """
    todo = plan(n_seeds, QUICK_ROUNDS if quick else ROUNDS)
    runs = []
    with terminal.progress("federations", len(todo)) as advance:
        for run in study(todo, executor):
            runs.append(run)
            advance(len(runs))
    found = pairs(runs)
    terminal.result(
        {
            "runs": [asdict(run) for run in runs],
            "pairs": [{**asdict(pair), "confirmed": pair.confirmed} for pair in found],
        }
    )
    terminal.print(_table(runs, found))


def _table(runs: list[Run], found: list[Pair]) -> Table:
    table = Table("sampler, half of the rounds")
    for title in ("accuracy", "largest", "work", "points", "by seed", "enough"):
        table.add_column(title, justify="right")
    whole = max(run.rounds for run in runs)
    for pair in found:
        own = [run for run in runs if run.sampler == pair.sampler and run.rounds < whole]
        table.add_row(pair.sampler, *_means(own), *_compared(pair))
    own = [run for run in runs if run.rounds == whole]
    table.add_row("uniform, all rounds", *_means(own), "1.00", "", "", "")
    return table


def _means(runs: list[Run]) -> tuple[str, str]:
    accuracy, largest = (
        statistics.mean(shares)
        for shares in ([run.accuracy for run in runs], [run.largest for run in runs])
    )
    return f"{accuracy:.2%}", f"{largest:.2%}"


def _compared(pair: Pair) -> tuple[str, str, str, str]:
    seeds = " ".join(f"{points:+.1f}" for points in pair.points)
    enough = "yes" if pair.confirmed else "no"
    work, points = statistics.mean(pair.work), statistics.mean(pair.points)
    return f"{work:.2f}", f"{points:+.2f}", seeds, enough
