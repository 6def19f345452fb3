"""The study of quantisers: the same network, data and seeds for all of them, on the digits.

A float network is trained once for each seed and is where every quantiser starts. What has been
measured is kept in a folder, so that a study goes on where it was interrupted.
"""

import json
import statistics
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from firmware_tools.interrupts import uninterrupted
from firmware_tools.quantize import digits
from firmware_tools.quantize.errors import QuantizationError
from firmware_tools.quantize.training import Settings, Training, accuracy, load, save, train

BITS = (2, 3, 4)
QUICK_EPOCHS = 1
Options = tuple[tuple[str, bool], ...]


@dataclass(frozen=True)
class Method:
    """A quantiser with its parts switched.

    Attributes
    ----------
    name : str
        For people.
    quantizer : str
    options : (str, bool) pairs
    """

    name: str
    quantizer: str
    options: Options = ()


METHODS = (
    Method("LG-LSQ", "lg-lsq"),
    Method("LG-LSQ without SSG", "lg-lsq", (("ssg", False),)),
    Method("LG-LSQ without ASR", "lg-lsq", (("asr", False),)),
    Method("LG-LSQ without MDE", "lg-lsq", (("mde", False),)),
    Method("LSQ", "lsq"),
    Method("EWGS", "ewgs"),
    Method("PACT", "pact"),
    Method("straight-through", "ste"),
)


@dataclass(frozen=True)
class Run:
    """A network that has been trained; bits of 0 are the float network."""

    method: str
    bits: int
    seed: int
    accuracy: float


@dataclass(frozen=True)
class Row:
    """A method at a width.

    Attributes
    ----------
    method : str
    bits : int
    mean, spread : float
        Of the accuracies, in percent; the spread is the standard deviation of the sample.
    drop : float
        Float accuracy minus this one, mean over the seeds, in points.
    n_seeds : int
    """

    method: str
    bits: int
    mean: float
    spread: float
    drop: float
    n_seeds: int


class Study:
    """Every method at every width for some seeds.

    Parameters
    ----------
    folder : Path
        For float networks and figures that have been measured.
    n_seeds : int
    quick : bool
        One epoch each: whether everything works, not how well.
    """

    def __init__(self, folder: Path, n_seeds: int, *, quick: bool = False) -> None:
        self._folder = folder
        self._n_seeds = n_seeds
        self._settings = Settings()
        if quick:
            self._settings = replace(self._settings, float_epochs=QUICK_EPOCHS, epochs=QUICK_EPOCHS)
        self._data = digits.load()
        self._done: dict[str, float] = {}

    def __len__(self) -> int:
        """Networks to be trained."""
        return self._n_seeds * (1 + len(METHODS) * len(BITS))

    def run(self) -> Iterator[Run]:
        """All runs, seed by seed, those that have been measured at once."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._done = read_figures(self._file)
        for seed in range(self._n_seeds):
            own = replace(self._settings, seed=seed)
            yield self._run("float", 0, own, partial(self._float_accuracy, own))
            for bits in BITS:
                for method in METHODS:
                    settings = replace(
                        own,
                        weight_bits=bits,
                        act_bits=bits,
                        quantizer=method.quantizer,
                        options=method.options,
                    )
                    yield self._run(method.name, bits, settings, partial(self._accuracy, settings))

    def _run(self, name: str, bits: int, settings: Settings, measure: Callable[[], float]) -> Run:
        key = settings.fingerprint() if bits else f"float {settings.fingerprint()}"
        if key not in self._done:
            measured = measure()
            with uninterrupted():
                self._done[key] = measured
                self._file.write_text(json.dumps(self._done, indent=1))
        return Run(name, bits, settings.seed, self._done[key])

    @property
    def _file(self) -> Path:
        return self._folder / "accuracies.json"

    def _float_accuracy(self, settings: Settings) -> float:
        return accuracy(float_network(self._folder, settings, self._data), self._data.test)

    def _accuracy(self, settings: Settings) -> float:
        model = float_network(self._folder, settings, self._data)
        return train(Training(settings, self._data, model=model)).accuracy


def float_network(folder: Path, settings: Settings, data: digits.Data) -> torch.nn.Module:
    """The float network of a seed, out of a folder where it is kept once it has been trained."""
    path = folder / f"float-{settings.float_epochs}-{settings.seed}.pt"
    if not path.exists():
        only = replace(settings, options=(), sparsity=0.0)
        training = Training(only, data)
        for _stage, done in training.run():
            if done == only.float_epochs:
                break
        save({"settings": only.fingerprint(), "model": training.model.state_dict()}, path)
    model = Training(settings, data).model
    model.load_state_dict(load(path)["model"])
    return model


def read_figures(file: Path) -> dict[str, Any]:
    """What an earlier study has measured, by fingerprint."""
    if not file.exists():
        return {}
    try:
        return dict(json.loads(file.read_text()))
    except ValueError as error:
        raise QuantizationError(
            f"{file}: must be what an earlier study wrote; remove it ({error})"
        ) from None


def rows(runs: list[Run]) -> list[Row]:
    """Mean and spread over the seeds, in the order of the runs."""
    floats = {run.seed: run.accuracy for run in runs if not run.bits}
    result = []
    for method, bits in dict.fromkeys((run.method, run.bits) for run in runs):
        own = [run for run in runs if (run.method, run.bits) == (method, bits)]
        percent = [100 * run.accuracy for run in own]
        result.append(
            Row(
                method,
                bits,
                statistics.mean(percent),
                statistics.stdev(percent) if len(percent) > 1 else 0.0,
                statistics.mean(100 * (floats[run.seed] - run.accuracy) for run in own),
                len(own),
            )
        )
    return result


def as_json(runs: list[Run]) -> dict[str, object]:
    """Rows and runs, ready for JSON."""
    return {
        "data": f"scikit-learn digits, {digits.N_TEST} test images",
        "rows": [asdict(row) for row in rows(runs)],
        "runs": [asdict(run) for run in runs],
    }


def markdown(runs: list[Run]) -> str:
    """A table: methods down, widths across, mean and spread."""
    by_key = {(row.method, row.bits): row for row in rows(runs)}
    exact = by_key["float", 0]
    lines = [
        "| accuracy on the digits, % | " + " | ".join(f"{bits} bits" for bits in BITS) + " |",
        "|---|" + "---|" * len(BITS),
    ]
    for method in METHODS:
        cells = [by_key[method.name, bits] for bits in BITS]
        lines.append(
            f"| {method.name} | "
            + " | ".join(f"{row.mean:.2f} ± {row.spread:.2f}" for row in cells)
            + " |"
        )
    note = f"float: {exact.mean:.2f} ± {exact.spread:.2f}; mean and standard deviation of "
    return "\n".join([*lines, "", f"{note}{exact.n_seeds} seeds.", ""])


def draw(runs: list[Run], path: Path) -> None:
    """Draw mean and spread of all methods."""
    table = rows(runs)
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    axes = figure.subplots()
    exact = next(row for row in table if not row.bits)
    axes.axhline(exact.mean, color="#808080", linestyle="--", label=f"float ({exact.mean:.2f} %)")
    for k, method in enumerate(METHODS):
        own = [row for row in table if row.method == method.name]
        axes.errorbar(
            [row.bits + 0.07 * (k - (len(METHODS) - 1) / 2) for row in own],
            [row.mean for row in own],
            [row.spread for row in own],
            fmt="os^v"[k] if k < 4 else "DP*X"[k - 4],
            capsize=3,
            label=method.name,
        )
    axes.set_xticks(BITS)
    axes.set_xlabel("bits of weights and activations, first and last layer included")
    axes.set_ylabel("test accuracy, %")
    axes.set_title(f"scikit-learn's digits (not ImageNet), {exact.n_seeds} seeds: mean and spread")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    figure.savefig(path, dpi=120)
