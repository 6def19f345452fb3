"""NSGA-II and TPE, as Optuna has them, for comparison."""

from collections.abc import Iterator
from typing import Literal

import numpy as np

from firmware_tools.search.errors import SearchError
from firmware_tools.search.space import Archive

MISSING = "the package optuna must be installed for --method {}: pip install 'kenyon[search]'"
TRIALS = {"nsga2": 5000, "tpe": 500}
"""Networks that are priced; TPE thinks longer about each."""
POPULATION = 100


def search(archive: Archive, seed: int, method: Literal["nsga2", "tpe"]) -> Iterator[int]:
    """Fill an archive; yields what has been priced.

    Raises
    ------
    SearchError
        Optuna is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise SearchError(MISSING.format(method)) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler: optuna.samplers.BaseSampler
    if method == "nsga2":
        sampler = optuna.samplers.NSGAIISampler(population_size=POPULATION, seed=seed)
    else:
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=POPULATION)
    study = optuna.create_study(directions=["minimize"] * 2, sampler=sampler)
    n_layers, n_options = archive.space.shape
    one_of = optuna.distributions.CategoricalDistribution(list(range(n_options)))
    names = [str(k) for k in range(n_layers)]
    for known in archive.space.homogeneous():
        study.enqueue_trial({name: int(one) for name, one in zip(names, known, strict=True)})
    for _ in range(TRIALS[method]):
        trial = study.ask(dict.fromkeys(names, one_of))
        choice = np.array([[trial.params[name] for name in names]], np.int64)
        cost, noise = archive.add(choice)
        study.tell(trial, [float(np.log(cost[0])), float(noise[0])])
        yield archive.n_priced
