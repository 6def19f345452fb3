"""The study of spiking networks: the same float networks, data and seeds for all of them.

What has been measured is kept in a folder, so that a study goes on where it was interrupted. Float
networks are those of `firmware_tools.quantize.study`.
"""

import json
import statistics
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.table import Table
from torch import nn

from firmware_tools.console import Terminal
from firmware_tools.interrupts import uninterrupted
from firmware_tools.quantize import digits
from firmware_tools.quantize.spiking_training import (
    SpikingSettings,
    SpikingTraining,
    one_step_network,
    train,
)
from firmware_tools.quantize.study import QUICK_EPOCHS, float_network, read_figures
from firmware_tools.quantize.study_report import FOLDER, collect
from firmware_tools.quantize.training import Settings, accuracy, load, save
from firmware_tools.report import page

DEFAULT = SpikingSettings(stop=("confidence", 0.8))
VARIANTS = {
    "4 bits": DEFAULT,
    "2 bits": replace(DEFAULT, membrane_bits=2),
    "4 bits, by channel": replace(DEFAULT, share="channel"),
    "4 bits, by layer": replace(DEFAULT, share="layer"),
    "4 bits, by both": replace(DEFAULT, share="both"),
}
"""Membranes, and who shares them; four time steps, weights and images of 4 bits."""


@dataclass(frozen=True)
class SpikingRun:
    """A network that has been trained.

    Attributes
    ----------
    variant : str
    seed : int
    float_accuracy : float
    by_step : (time_steps,) list of float
        Accuracies after each step.
    exit_accuracy, mean_steps : float
        With the exit.
    """

    variant: str
    seed: int
    float_accuracy: float
    by_step: list[float]
    exit_accuracy: float
    mean_steps: float


@dataclass(frozen=True)
class SpikingRow:
    """A variant: means over the seeds, accuracies in percent.

    Attributes
    ----------
    variant : str
    mean, spread : float
        After all steps; the spread is the standard deviation of the sample.
    drop : float
        Float accuracy minus this one, in points.
    exit_mean : float
        Where the exit stops.
    mean_steps : float
    by_step : list of float
    n_seeds : int
    """

    variant: str
    mean: float
    spread: float
    drop: float
    exit_mean: float
    mean_steps: float
    by_step: list[float]
    n_seeds: int


class SpikingStudy:
    """Every variant for some seeds; parameters as of `firmware_tools.quantize.study.Study`."""

    def __init__(self, folder: Path, n_seeds: int, *, quick: bool = False) -> None:
        self._folder = folder
        self._n_seeds = n_seeds
        self._quick = quick
        self._data = digits.load()

    def __len__(self) -> int:
        """Networks to be trained, float ones apart."""
        return self._n_seeds * len(VARIANTS)

    def run(self) -> Iterator[SpikingRun]:
        """All runs, variant by variant, those that have been measured at once."""
        self._folder.mkdir(parents=True, exist_ok=True)
        done = read_figures(self._file)
        for name, variant in VARIANTS.items():
            for seed in range(self._n_seeds):
                settings = self._settings(variant, seed)
                key = f"{settings.stop} {settings.fingerprint()}"
                for what, measure in (
                    (f"float {settings.float_epochs} {seed}", self._float_accuracy),
                    (key, self._measure),
                ):
                    if what not in done:
                        measured = measure(settings)
                        with uninterrupted():
                            done[what] = measured
                            self._file.write_text(json.dumps(done, indent=1))
                exact = done[f"float {settings.float_epochs} {seed}"]
                yield SpikingRun(name, seed, exact, **done[key])

    @property
    def _file(self) -> Path:
        return self._folder / "spiking.json"

    def _settings(self, variant: SpikingSettings, seed: int) -> SpikingSettings:
        own = replace(variant, seed=seed)
        if not self._quick:
            return own
        return replace(
            own, float_epochs=QUICK_EPOCHS, one_step_epochs=QUICK_EPOCHS, epochs=QUICK_EPOCHS
        )

    def _float_accuracy(self, settings: SpikingSettings) -> float:
        own = Settings(seed=settings.seed)
        if self._quick:
            own = replace(own, float_epochs=QUICK_EPOCHS)
        return accuracy(float_network(self._folder, own, self._data), self._data.test)

    def _measure(self, settings: SpikingSettings) -> dict[str, Any]:
        model = self._one_step(settings)
        result = train(SpikingTraining(settings, self._data, model=model))
        return {
            "by_step": list(result.by_step),
            "exit_accuracy": result.exit_accuracy,
            "mean_steps": result.mean_steps,
        }

    def _one_step(self, settings: SpikingSettings) -> nn.Module:
        """The network of one step of a seed, the same for all variants, trained once."""
        epochs = f"{settings.float_epochs}-{settings.one_step_epochs}"
        path = self._folder / f"one-step-{epochs}-{settings.seed}.pt"
        if not path.exists():
            model = one_step_network(settings, self._data)
            save({"settings": settings.fingerprint(), "model": model.state_dict()}, path)
        model = settings.new_model()
        model.load_state_dict(load(path)["model"])
        return model


def rows(runs: list[SpikingRun]) -> list[SpikingRow]:
    """Means over the seeds, in the order of the runs."""
    return [
        _row(name, [run for run in runs if run.variant == name])
        for name in dict.fromkeys(run.variant for run in runs)
    ]


def _row(name: str, runs: list[SpikingRun]) -> SpikingRow:
    def mean(value: Callable[[SpikingRun], float]) -> float:
        return statistics.mean(map(value, runs))

    percent = [100 * run.by_step[-1] for run in runs]
    steps = zip(*(run.by_step for run in runs), strict=True)
    return SpikingRow(
        name,
        statistics.mean(percent),
        statistics.stdev(percent) if len(percent) > 1 else 0.0,
        mean(lambda run: 100 * (run.float_accuracy - run.by_step[-1])),
        mean(lambda run: 100 * run.exit_accuracy),
        mean(lambda run: run.mean_steps),
        [100 * statistics.mean(step) for step in steps],
        len(runs),
    )


def as_json(runs: list[SpikingRun]) -> dict[str, object]:
    """Rows and runs, ready for JSON."""
    return {
        "data": f"scikit-learn digits, {digits.N_TEST} test images",
        "rows": [asdict(row) for row in rows(runs)],
        "runs": [asdict(run) for run in runs],
    }


def bench(terminal: Terminal, *, n_seeds: int, quick: bool, report: Path | None) -> None:
    """`kenyon bench spiking-training`: run the study and say what came out."""
    runs = collect(SpikingStudy(FOLDER, n_seeds, quick=quick), terminal)
    values = as_json(runs)
    terminal.result(values)
    terminal.print(_table(runs))
    if report is not None:
        from firmware_tools.report.bench import spiking

        page.write(report, "Spiking networks on the digits", spiking(values), terminal)


def _table(runs: list[SpikingRun]) -> Table:
    exact = 100 * statistics.mean({run.seed: run.float_accuracy for run in runs}.values())
    metric, threshold = DEFAULT.stop or ("", 0)
    table = Table(title=f"digits, {DEFAULT.time_steps} time steps; float {exact:.2f} %")
    table.add_column("membranes")
    titles = ("accuracy, %", "points lost", f"{metric} {threshold:g}", "mean steps")
    for title in (*titles, "after each step, %"):
        table.add_column(title, justify="right")
    for row in rows(runs):
        table.add_row(
            row.variant,
            f"{row.mean:.2f} ± {row.spread:.2f}",
            f"{row.drop:.2f}",
            f"{row.exit_mean:.2f}",
            f"{row.mean_steps:.2f}",
            " ".join(f"{step:.2f}" for step in row.by_step),
        )
    return table
