"""`kenyon regress`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from firmware_tools.console import (
    CONFIG_NAMES,
    DIFFERENCE,
    Json,
    Seed,
    Terminal,
    examples,
)
from firmware_tools.errors import UserError
from firmware_tools.inputs import check_folder, named_config
from model.npu.config import CONFIGS

if TYPE_CHECKING:
    from firmware_tools.regression import Case, Outcome

EXAMPLES = examples(
    "kenyon regress",
    "kenyon regress -c tiny -c poppins --count 200 --seed 1 -j 2 --junit regress.xml",
    "kenyon regress -c tiny --only random --seed 17 --count 1 --waves",
)
FOLDER = Path("build") / "regress"


def command(
    configs: Annotated[
        list[str] | None,
        typer.Option(
            "--config",
            "-c",
            metavar="CONFIG",
            help=f"{CONFIG_NAMES}; may be repeated. Default: all.",
            show_default=False,
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            "-j", metavar="N", min=1, help="Cases at once. Default: cores.", show_default=False
        ),
    ] = None,
    seed: Seed = 1,
    count: Annotated[
        int, typer.Option(min=0, help="Random networks, over all configurations.")
    ] = 20,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Only this directed bench, or only random; may be repeated.",
            show_default=False,
        ),
    ] = None,
    waves: Annotated[bool, typer.Option("--waves", help="Write waves of every case.")] = False,
    junit: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the outcomes as JUnit XML.", show_default=False),
    ] = None,
    json: Json = False,
) -> None:
    """Run the directed benches and random networks on the RTL; exit code 1 if any fails.

    Random networks have random parameters, links, self connections, events, noise and back
    pressure. RTL, fast engine and model must agree in every value and every clock. Logs and waves
    go to the folder build/regress.
    """
    from firmware_tools import regression

    terminal = Terminal(json=json)
    chips = [named_config(name) for name in dict.fromkeys(configs or CONFIGS)]
    if junit is not None:
        check_folder(junit)
    todo = regression.cases(chips, _names(only), seed, count)
    outcomes = _run(todo, jobs or os.cpu_count() or 1, terminal, waves=waves)
    if junit is not None:
        junit.write_text(regression.junit(outcomes))
    failed = sum(bool(outcome.failure) for outcome in outcomes)
    passed = len(outcomes) - failed
    terminal.result(
        {
            "seed": seed,
            "passed": passed,
            "failed": failed,
            "outcomes": [outcome.as_json() for outcome in outcomes],
        }
    )
    terminal.print(_table(outcomes))
    terminal.print(f"{passed} passed, {failed} failed")
    if failed:
        raise typer.Exit(DIFFERENCE)


def _names(only: list[str] | None) -> list[str]:
    from firmware_tools.regression import names

    for name in only or ():
        if name not in names():
            raise UserError(f"--only must be one of {', '.join(names())}, not {name}")
    return only or names()


def _run(todo: "list[Case]", jobs: int, terminal: Terminal, *, waves: bool) -> "list[Outcome]":
    """All outcomes, in the order of the cases; failures are shown as they come."""
    from firmware_tools.regression import Regression, design
    from tb import simulator

    for needed in {d.name: d for d in map(design, todo)}.values():
        if not simulator.is_built(needed, waves):
            with terminal.busy(f"building the simulator of {needed.name}, once, about a minute"):
                simulator.build(needed, waves)
    outcomes = {}
    with terminal.progress("cases", len(todo)) as advance:
        for outcome in Regression(FOLDER, waves=waves).run(todo, jobs):
            outcomes[outcome.case] = outcome
            if outcome.failure:
                terminal.print(f"[red]{escape(str(outcome.case))} failed[/red]")
                terminal.print(escape(outcome.failure))
                terminal.print(f"again: {escape(outcome.case.command)}")
            advance(len(outcomes))
    return [outcomes[case] for case in todo]


def _table(outcomes: "list[Outcome]") -> Table:
    """Figures by configuration and name."""
    table = Table()
    for title in ("configuration", "case"):
        table.add_column(title)
    for title in ("passed", "failed", "steps", "values", "clocks"):
        table.add_column(title, justify="right")
    for group in dict.fromkeys((o.case.config.name, o.case.name) for o in outcomes):
        own = [o for o in outcomes if (o.case.config.name, o.case.name) == group]
        failed = sum(bool(o.failure) for o in own)
        figures = (
            len(own) - failed,
            failed,
            sum(o.steps for o in own),
            sum(o.values for o in own),
            sum(o.clocks for o in own),
        )
        table.add_row(*group, *(f"{figure:,}" if figure else "-" for figure in figures))
    return table
