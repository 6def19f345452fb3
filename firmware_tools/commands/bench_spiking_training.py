"""`kenyon bench spiking-training`."""

from firmware_tools.console import Json, Quick, Report, Seeds, Terminal, examples
from firmware_tools.report import page

EXAMPLES = examples(
    "kenyon bench spiking-training --seeds 5",
    "kenyon bench spiking-training --seeds 1 --report spiking.html",
)


def command(
    quick: Quick = False, seeds: Seeds = 5, report: Report = None, json: Json = False
) -> None:
    """Accuracy of spiking networks, and where an exit stops.

    Four time steps, membranes of 4 and 2 bits, and shared ones, on scikit-learn's digits. With
    --quick trainings have one epoch. What has been measured is kept in build/quantizers, so after
    Ctrl-C the same command goes on.
    """
    page.check(report)
    from firmware_tools.quantize import spiking_study

    spiking_study.bench(Terminal(json=json), n_seeds=seeds, quick=quick, report=report)
