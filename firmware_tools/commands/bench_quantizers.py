"""`kenyon bench-quantizers`."""

from pathlib import Path
from typing import Annotated

import typer

from firmware_tools.console import Json, Terminal, examples

EXAMPLES = examples(
    "kenyon bench-quantizers --seeds 5 -o docs/quantizers.png",
    "kenyon bench-quantizers --seeds 1 --quick --json",
)


def command(
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of each.")] = 5,
    quick: Annotated[bool, typer.Option("--quick", help="One epoch each: a trial.")] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE.png",
            help="Figure; table and JSON are written beside it.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Train every quantiser at 2, 3 and 4 bits, and LG-LSQ without each of its parts.

    Measured on scikit-learn's digits, not on ImageNet. What has been measured is kept in
    build/quantizers, so after Ctrl-C the same command goes on.
    """
    from firmware_tools.quantize.study_report import bench

    bench(Terminal(json=json), n_seeds=seeds, quick=quick, output=output)
