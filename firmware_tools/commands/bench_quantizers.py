"""`kenyon bench quantizers`."""

from pathlib import Path
from typing import Annotated

import typer

from firmware_tools.console import Json, Quick, Report, Seeds, Terminal, examples
from firmware_tools.report import page

EXAMPLES = examples(
    "kenyon bench quantizers --seeds 5 -o docs/quantizers.png",
    "kenyon bench quantizers --seeds 1 --report quantizers.html",
)


def command(
    quick: Quick = False,
    seeds: Seeds = 5,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE.png", help="Figure; beside it table and JSON."
        ),
    ] = None,
    report: Report = None,
    json: Json = False,
) -> None:
    """Accuracy of every quantiser at 2, 3 and 4 bits.

    And of LG-LSQ without each of its parts; on scikit-learn's digits, not on ImageNet. With --quick
    trainings have one epoch. What has been measured is kept in build/quantizers, so after Ctrl-C
    the same command goes on.
    """
    page.check(report)
    from firmware_tools.quantize import study_report

    terminal = Terminal(json=json)
    study_report.bench(terminal, n_seeds=seeds, quick=quick, output=output, report=report)
