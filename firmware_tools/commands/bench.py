"""`kenyon bench`."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from firmware_tools.console import DIFFERENCE, Json, Terminal, examples

if TYPE_CHECKING:
    from firmware_tools.figures import Figure

EXAMPLES = examples("kenyon bench", "kenyon bench --quick --json")


def command(
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer and shorter runs; vectors not on the RTL.")
    ] = False,
    json: Json = False,
) -> None:
    """Measure the figures that the project promises: speed, clocks, equality.

    Exit code 1 if something is not equal or takes too many clocks; a slow machine is no failure.
    How long make test and make demo take is for the clock on the wall. Needs a checkout.
    """
    from firmware_tools.figures import measurements

    terminal = Terminal(json=json)
    figures: list[Figure] = []
    for name, measure in measurements(quick=quick).items():
        with terminal.busy(f"measuring: {name}"):
            figures += measure()
    terminal.result({"figures": [figure.as_json() for figure in figures]})
    terminal.print(_table(figures))
    if any(figure.exact and not figure.good for figure in figures):
        raise typer.Exit(DIFFERENCE)


def _table(figures: "list[Figure]") -> Table:
    table = Table()
    table.add_column("figure")
    table.add_column("measured", justify="right")
    table.add_column("bound", justify="right")
    table.add_column("good")
    for f in figures:
        sign = ">=" if f.at_least else "<="
        bound = f"{sign} {f.bound:g}" if f.bound else ""
        good = "[green]yes[/green]" if f.good else "[red]no[/red]"
        table.add_row(f.name, f"{f.measured:.4g} {f.unit}", bound, good)
    return table
