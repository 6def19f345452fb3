"""`kenyon bench npu`."""

from typing import TYPE_CHECKING

import typer
from rich.table import Column, Table

from firmware_tools.console import DIFFERENCE, Json, Quick, Report, Terminal, examples
from firmware_tools.report import page

if TYPE_CHECKING:
    from firmware_tools.npu.figures import Figure

EXAMPLES = examples(
    "kenyon bench",
    "kenyon bench --quick --json",
    "kenyon bench npu --report npu.html",
)


def command(quick: Quick = False, report: Report = None, json: Json = False) -> None:
    """Speed, clocks and equality of the spiking processor.

    Exit code 1 if something is not equal or takes too many clocks; a slow machine is no failure.
    How long make test and make demo take is for the clock on the wall. With --quick the RTL runs no
    vectors. Needs a checkout.
    """
    terminal = Terminal(json=json)
    page.check(report)
    from firmware_tools.npu.figures import measurements

    figures: list[Figure] = []
    for name, measure in measurements(quick=quick).items():
        with terminal.busy(f"measuring: {name}"):
            figures += measure()
    values = {"figures": [figure.as_json() for figure in figures]}
    terminal.result(values)
    terminal.print(_table(figures))
    if report is not None:
        from firmware_tools.report.bench import npu

        page.write(report, "Figures of the processor", npu(values), terminal)
    if any(figure.exact and not figure.good for figure in figures):
        raise typer.Exit(DIFFERENCE)


def _table(figures: "list[Figure]") -> Table:
    right = (Column(title, justify="right") for title in ("measured", "bound"))
    table = Table("figure", *right, "good")
    for f in figures:
        sign = ">=" if f.at_least else "<="
        bound = f"{sign} {f.bound:g}" if f.bound else ""
        good = "[green]yes[/green]" if f.good else "[red]no[/red]"
        table.add_row(f.name, f"{f.measured:.4g} {f.unit}", bound, good)
    return table
