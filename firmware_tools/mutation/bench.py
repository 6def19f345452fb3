"""Runs one bench in a process of its own, with the simulator and the mutant of its environment.

What failed goes to standard output, with exit code 1. Imports are few: mutants are many.
"""

import sys
from pathlib import Path

from model.config import CHIPS
from tb import benches
from tb.simulator import BenchFailure

SEED = 1
N_RANDOM = {"random": 5, "quantised-rtl": 10, "spiking-rtl": 10}
"""Networks of those benches of `kenyon regress` that draw them."""


def main() -> None:
    """Arguments: the bench and the configuration of the chip."""
    name, config = sys.argv[1:]
    failure = _random(name, config) if name in N_RANDOM else _directed(name, config)
    sys.stdout.write(failure)
    sys.exit(bool(failure))


def _directed(name: str, config: str) -> str:
    try:
        benches.run(name, CHIPS[config], Path.cwd(), seed=SEED)
    except BenchFailure as failure:
        return str(failure)
    return ""


def _random(name: str, config: str) -> str:
    from firmware_tools import regression
    from firmware_tools.jobs.local import Local

    (accelerator,) = CHIPS[config].accelerators
    cases = regression.cases([accelerator], [name], SEED, N_RANDOM[name])
    for outcome in regression.Regression(Path.cwd(), waves=False).run(cases, Local(1)):
        if outcome.failure:
            return outcome.failure
    return ""


if __name__ == "__main__":
    main()
