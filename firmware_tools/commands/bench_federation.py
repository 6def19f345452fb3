"""`kenyon bench federation`."""

from firmware_tools.console import Jobs, Json, On, Quick, Seeds, Terminal, examples
from firmware_tools.jobs.choice import executor

EXAMPLES = examples("kenyon bench federation --seeds 5")


def command(
    quick: Quick = False, seeds: Seeds = 5, jobs: Jobs = None, on: On = None, json: Json = False
) -> None:
    """Samplers of kenyon search architecture, compared.

    They have half of the rounds, uniform sampling all of them, seed by seed (docs/dc-nas.md); with
    --quick two rounds. What has been measured is kept in build/jobs, so after Ctrl-C the same
    command goes on.
    """
    run = executor(jobs, on)
    from firmware_tools.federation import study

    study.bench(Terminal(json=json), run, n_seeds=seeds, quick=quick)
