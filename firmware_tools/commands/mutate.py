"""`kenyon mutate`."""

import contextlib
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer
from rich.markup import escape
from rich.table import Table

from firmware_tools.console import (
    DIFFERENCE,
    INTERRUPTED,
    Jobs,
    Json,
    On,
    Report,
    Seed,
    Terminal,
    examples,
)
from firmware_tools.errors import UserError
from firmware_tools.jobs.choice import executor
from firmware_tools.report import page

if TYPE_CHECKING:
    from firmware_tools.jobs.job import Executor
    from firmware_tools.mutation.mutants import Mutant
    from firmware_tools.mutation.score import Campaign, Outcome

EXAMPLES = examples(
    "kenyon mutate",
    "kenyon mutate --design blocks -j 1",
    "kenyon mutate --only soma --only hw/npu/noise.py",
    "kenyon mutate --mutant blocks-17",
    "kenyon mutate --again",
    "kenyon mutate --report mutants.html",
)
DESIGNS = ("blocks", "tiny", "mars-tiny")
FOLDER = Path("build") / "mutation"


def command(
    count: Annotated[
        int, typer.Option(metavar="N", min=1, help="Mutants, of which every RTL file gets some.")
    ] = 300,
    seed: Seed = 1,
    design: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DESIGN", help=f"Only mutants of {', '.join(DESIGNS)}; may be repeated."
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODULE",
            help="Only mutants of this RTL file, as soma or hw/npu/soma.py; may be repeated.",
        ),
    ] = None,
    mutant: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Run this one again, as blocks-17; may be repeated."),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Run those again that survived.")] = False,
    jobs: Jobs = None,
    on: On = None,
    report: Report = None,
    json: Json = False,
) -> None:
    """Break the RTL in many ways and count how many of them a bench notices.

    Yosys draws the mutants: a bit of a port of a cell is inverted, stuck, or disturbed by another
    one. All mutants of a design are in one simulator, asleep but for one. Of survivors Yosys tries
    to prove that they change nothing; reasons for others are in
    firmware_tools/mutation/survivors.json.

    Outcomes are kept in build/jobs until RTL or benches change: after Ctrl-C the same command goes
    on. Exit code 1 if a mutant survived that nobody explained.
    """
    from firmware_tools.mutation.score import Score

    terminal = Terminal(json=json)
    page.check(report)
    with terminal.busy("drawing mutants"):
        mutants = _drawn(count, seed)
    chosen = _chosen(mutants, design, only, mutant)
    fresh = bool(mutant) or again
    found = _run(
        (count, seed),
        chosen,
        executor(jobs, on, fresh=fresh),
        terminal,
        _Again(bool(mutant), again),
        here=on is None,
    )
    outcomes = [found[one.label] for one in chosen if one.label in found]
    not_run = len(chosen) - len(outcomes)
    score = Score.of(outcomes)
    values = {
        "seed": seed,
        "not_run": not_run,
        **score.as_json(),
        "outcomes": [outcome.as_json() for outcome in outcomes],
    }
    terminal.result(values)
    terminal.print(_table(outcomes))
    for line in _survivors(outcomes, f"kenyon mutate --count {count} --seed {seed} --mutant"):
        terminal.print(escape(line))
    if mutant:
        for outcome in outcomes:
            terminal.print(escape(f"{outcome.mutant.label}: {_fate(outcome)}"))
    if report is not None:
        from firmware_tools.report.mutate import sections

        timed = [{**one.as_json(), "seconds": one.seconds} for one in outcomes]
        values = {**values, "outcomes": timed}
        page.write(report, "Mutants of the RTL", sections(values), terminal)
    if not_run:
        terminal.print(f"interrupted, {not_run} not run")
        raise typer.Exit(INTERRUPTED)
    if score.survived:
        raise typer.Exit(DIFFERENCE)


class _Again(NamedTuple):
    """What runs although its outcome is known."""

    all: bool
    survivors: bool


@lru_cache
def _drawn(count: int, seed: int) -> "list[Mutant]":
    """All mutants, whichever are run."""
    from firmware_tools.mutation.mutants import draw
    from firmware_tools.mutation.targets import TARGETS

    return draw(list(TARGETS.values()), count, seed, FOLDER)


@lru_cache
def campaign(count: int, seed: int) -> "Campaign":
    """The campaign of a draw, the same in all processes."""
    from firmware_tools.mutation.score import Campaign

    return Campaign(FOLDER, _drawn(count, seed))


def _chosen(
    mutants: "list[Mutant]",
    designs: list[str] | None,
    only: list[str] | None,
    labels: list[str] | None,
) -> "list[Mutant]":
    """The mutants that the options leave."""
    for what, words, names in (
        ("--design", designs or (), [{m.design} for m in mutants]),
        ("--only", only or (), [{m.file, Path(m.file).stem} for m in mutants]),
        ("--mutant", labels or (), [{m.label} for m in mutants]),
    ):
        known = list(dict.fromkeys(max(one, key=len) for one in names))
        for word in words:
            if not any(word in one for one in names):
                raise UserError(f"{what} must be one of {_list(known)}, not {word}")
        if words:
            mutants = [m for m, one in zip(mutants, names, strict=True) if one & set(words)]
            break
    return mutants


def _list(names: list[str]) -> str:
    """Names, if there are not too many."""
    return ", ".join(names) if len(names) < 50 else f"{names[0]} to {names[-1]}"


def _run(
    draw: tuple[int, int],
    chosen: "list[Mutant]",
    executor: "Executor",
    terminal: Terminal,
    again: _Again,
    *,
    here: bool,
) -> "dict[str, Outcome]":
    """Outcomes by label, up to Ctrl-C."""
    from firmware_tools.jobs.store import Store
    from firmware_tools.mutation.score import SURVIVED, outcomes

    store = Store()
    own = campaign(*draw)
    trials = own.trials(chosen, partial(campaign, *draw))
    known = {trial.key: store.get(trial.key) for trial in trials}
    for key, result in known.items():
        if result and (again.all or (again.survivors and result["outcome"] == SURVIVED)):
            store.forget(key)
    todo = [trial.mutant for trial in trials if store.get(trial.key) is None]
    found = {}
    with contextlib.suppress(KeyboardInterrupt):
        for design, bench in own.needed(todo) if here else ():
            with terminal.busy(f"{design}: building for {bench}"):
                own.build(design, bench)
        with terminal.progress("mutants", len(chosen)) as advance:
            for outcome in outcomes(trials, executor, store):
                found[outcome.mutant.label] = outcome
                advance(len(found))
    return found


def _table(outcomes: "list[Outcome]") -> Table:
    """Figures by RTL file."""
    from firmware_tools.mutation.score import Score

    table = Table()
    table.add_column("RTL")
    for title in ("mutants", "caught", "of them hung", "equivalent", "explained", "survived"):
        table.add_column(title, justify="right")
    table.add_column("score", justify="right")
    files = list(dict.fromkeys(outcome.mutant.file for outcome in outcomes))
    rows = [(file, Score.of([o for o in outcomes if o.mutant.file == file])) for file in files]
    for name, score in [*rows, ("all", Score.of(outcomes))]:
        figures = (
            score.mutants,
            score.caught,
            score.hung,
            score.equivalent,
            score.explained,
            score.survived,
        )
        cells = (str(figure) if figure else "-" for figure in figures)
        table.add_row(name, *cells, f"{100 * score.share:.1f} %")
    return table


def _survivors(outcomes: "list[Outcome]", repeat: str) -> list[str]:
    """What they change, and why nobody catches them or how to run them again."""
    from firmware_tools.mutation.score import SURVIVED

    lines = []
    for outcome in outcomes:
        if outcome.outcome == SURVIVED:
            mutant = outcome.mutant
            end = outcome.reason or f"{repeat} {mutant.label}"
            lines.append(f"{mutant.label}: {mutant.name} ({mutant.where}): {end}")
    return lines


def _fate(outcome: "Outcome") -> str:
    """One outcome in words."""
    found = f" by {outcome.bench}: {outcome.failure}" if outcome.bench else ""
    return f"{outcome.outcome}{found}, {outcome.seconds:.0f} s"
