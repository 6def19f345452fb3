"""`kenyon bench prompts`."""

from firmware_tools.console import Jobs, Json, On, Quick, Seeds, Terminal, examples
from firmware_tools.jobs.choice import executor

EXAMPLES = examples("kenyon bench prompts --seeds 5 -j 2")


def command(
    quick: Quick = False, seeds: Seeds = 5, jobs: Jobs = None, on: On = None, json: Json = False
) -> None:
    """Accuracy of few prompts of a transformer against all.

    A small vision transformer that stands still learns six tasks by prompts, of which 30 % are
    kept, against all, a random share, and as few from the start (docs/prompts.md). With --quick
    trainings have one epoch. What has been measured is kept in build/jobs, so after Ctrl-C the same
    command goes on.
    """
    run = executor(jobs, on)
    from firmware_tools.prompts import study

    study.bench(Terminal(json=json), run, n_seeds=seeds, quick=quick)
