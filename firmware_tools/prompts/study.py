"""The study of condensed prompts: six tasks, some seeds, against what else one could do."""

import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache

import torch
from rich.table import Table
from torch.nn import functional

from firmware_tools.console import Terminal
from firmware_tools.jobs import code
from firmware_tools.jobs.campaign import results
from firmware_tools.jobs.job import JSON, Executor
from firmware_tools.jobs.store import Store
from firmware_tools.prompts import condensation, tasks
from firmware_tools.prompts.condensation import Adapted
from firmware_tools.prompts.tasks import Task
from firmware_tools.quantize.digits import augmented
from firmware_tools.quantize.training import SMOOTHING
from firmware_tools.quantize.vit import DEPTH, FLOAT_DECAY, FLOAT_RATE, VisionTransformer
from hw.cache import key

N_PROMPTS = 100
"""Of all blocks together."""
SHARE = 0.3
BACKBONE_EPOCHS, EPOCHS, MORE_EPOCHS = 60, 10, 10
"""Of the transformer; of prompts; of what is left of them."""
METHODS = ("head", "all", "condensed", "random", "fresh")
"""No prompts; all; the best of them; a random share of them; as few from the start."""


@dataclass(frozen=True)
class Condensing:
    """A job: one task and seed, every method.

    Attributes
    ----------
    task : str
    seed : int
        Of transformer, prompts and order.
    quick : bool
        One epoch each: whether everything works.
    """

    task: str
    seed: int
    quick: bool = False

    @property
    def key(self) -> str:
        own = code.digest((__name__,), without=("hw", "tb"))
        return key("prompts", own, torch.__version__, repr(asdict(self)))

    def keeps(self, _result: JSON) -> bool:
        """All are decided by the key."""
        return True

    def run(self) -> JSON:
        """Share of the test images that each method gets right, and how many prompts are left."""
        torch.set_num_threads(1)  # sums depend on the number of threads
        task = tasks.target(self.task)
        backbone = transformer(self.seed, 1 if self.quick else BACKBONE_EPOCHS)
        epochs, more = (1, 1) if self.quick else (EPOCHS, MORE_EPOCHS)
        adapted, chosen = adaptations(backbone, task, self.seed, epochs, more)
        test = task.data.test
        found = {name: condensation.accuracy(adapted[name], test) for name in METHODS}
        return {"accuracy": found, "kept": [len(one) for one in chosen]}


@lru_cache(maxsize=8)
def transformer(seed: int, epochs: int) -> VisionTransformer:
    """A transformer that has learned the digits and stands still."""
    part = tasks.source().data.training
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = VisionTransformer()
    generator = torch.Generator().manual_seed(seed)

    def loss_of(batch: torch.Tensor) -> torch.Tensor:
        logits = model(augmented(part.images[batch], generator))
        return functional.cross_entropy(logits, part.labels[batch], label_smoothing=SMOOTHING)

    rates = FLOAT_RATE, FLOAT_DECAY
    condensation.descend(model.parameters(), loss_of, len(part), epochs, generator, rates)
    return model.requires_grad_(False).eval()


def adaptations(
    backbone: VisionTransformer, task: Task, seed: int, epochs: int, more: int
) -> tuple[dict[str, Adapted], tuple[torch.Tensor, ...]]:
    """Every method's prompts and head, and which prompts are kept.

    All methods are trained for `epochs` and `more`: those that take prompts away do it between.
    """
    part = task.data.training

    def trained(adapted: Adapted, n_epochs: int) -> Adapted:
        condensation.train(adapted, part, n_epochs, seed)
        return adapted

    def started(n_prompts: int, n_epochs: int) -> Adapted:
        counts = condensation.spread(n_prompts)
        return trained(condensation.fresh(backbone, counts, task.classes, seed), n_epochs)

    everything = started(N_PROMPTS, epochs)
    chosen = condensation.kept(condensation.scores(everything, part), SHARE)
    generator = torch.Generator().manual_seed(seed)
    ranks = torch.rand(N_PROMPTS, generator=generator).split(N_PROMPTS // DEPTH)
    selections = {
        "all": condensation.kept(ranks, 1.0),
        "condensed": chosen,
        "random": condensation.kept(ranks, SHARE),
    }
    return {
        "head": started(0, epochs + more),
        "fresh": started(sum(map(len, chosen)), epochs + more),
        **{
            name: trained(condensation.of(everything, own), more)
            for name, own in selections.items()
        },
    }, chosen


@dataclass(frozen=True)
class Run:
    """A task and seed.

    Attributes
    ----------
    task : str
    seed : int
    accuracy : {str: float}
        By method.
    kept : list of int
        Prompts of each block that are left.
    """

    task: str
    seed: int
    accuracy: dict[str, float]
    kept: list[int]


def study(n_seeds: int, executor: Executor, store: Store, *, quick: bool = False) -> Iterator[Run]:
    """All tasks and seeds as they are done; what is known already is not run again."""
    jobs = [Condensing(name, seed, quick) for seed in range(n_seeds) for name in tasks.NAMES]
    for done in results(jobs, executor, store):
        accuracy = {name: done.result["accuracy"][name] for name in METHODS}
        yield Run(done.job.task, done.job.seed, accuracy, done.result["kept"])


def bench(terminal: Terminal, executor: Executor, *, n_seeds: int, quick: bool) -> None:
    """`kenyon bench prompts`."""
    runs: list[Run] = []
    with terminal.progress("tasks", n_seeds * len(tasks.NAMES)) as advance:
        for run in study(n_seeds, executor, Store(), quick=quick):
            runs.append(run)
            advance(len(runs))
    runs.sort(key=lambda run: (run.seed, tasks.NAMES.index(run.task)))
    below = [run.accuracy["all"] - run.accuracy["condensed"] for run in runs]
    terminal.result(
        {
            "prompts": N_PROMPTS,
            "share": SHARE,
            "points_below_all": 100 * statistics.mean(below),
            "runs": [asdict(run) for run in runs],
        }
    )
    terminal.print(_table(runs))


def _table(runs: list[Run]) -> Table:
    table = Table("accuracy, %")
    for title in (*METHODS, "prompts kept by block"):
        table.add_column(title, justify="right")
    for name in dict.fromkeys(run.task for run in runs):
        own = [run for run in runs if run.task == name]
        kept = [statistics.mean(counts) for counts in zip(*(run.kept for run in own), strict=True)]
        table.add_row(name, *_cells(own), " ".join(f"{count:.1f}" for count in kept))
    table.add_row("mean", *_cells(runs), "")
    return table


def _cells(runs: list[Run]) -> list[str]:
    """Mean of each method, and its standard deviation over the seeds of a task."""
    cells = []
    for name in METHODS:
        shares = [100 * run.accuracy[name] for run in runs]
        several = len({run.task for run in runs}) == 1 and len(runs) > 1
        spread = f" ± {statistics.stdev(shares):.2f}" if several else ""
        cells.append(f"{statistics.mean(shares):.2f}{spread}")
    return cells
