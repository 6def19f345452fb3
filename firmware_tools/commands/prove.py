"""`kenyon prove`."""

import contextlib
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from firmware_tools.console import DIFFERENCE, INTERRUPTED, Jobs, Json, On, Terminal, examples
from firmware_tools.errors import UserError
from firmware_tools.jobs.choice import executor

if TYPE_CHECKING:
    from firmware_tools.jobs.job import Executor
    from tb.formal.harness import Proof
    from tb.formal.prover import Mutant, Outcome

EXAMPLES = examples(
    "kenyon prove",
    "kenyon prove soma row_walker -j 2",
    "kenyon prove --list",
    "kenyon prove soma --mutants 10",
)


def command(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[PROOF]...", help="Default: all.")
    ] = None,
    show: Annotated[bool, typer.Option("--list", help="Only say what there is to prove.")] = False,
    mutants: Annotated[
        int,
        typer.Option(metavar="N", min=0, help="Break each block in N ways: the proof must fail."),
    ] = 0,
    jobs: Jobs = None,
    on: On = None,
    json: Json = False,
) -> None:
    """Prove properties of the RTL for all inputs; exit code 1 if one does not hold.

    Each proof also reaches its covers: situations that show that it does not hold for nothing.
    Results are kept by content in build/proofs and build/jobs, so a proof runs again only after its
    block or its text has changed. A proof that fails names the statement and the trace (VCD).
    --list says what each one states.

    With --mutants, random bits of the block are broken, one at a time. The proof should fail on
    each; a survivor is shown, and may be one that changes nothing.
    """
    from tb.formal.prover import stop

    terminal = Terminal(json=json)
    proofs = _proofs(names)
    if show:
        terminal.result({"proofs": [_described(proof) for proof in proofs]})
        terminal.print(_list(proofs))
        return
    outcomes, broken = _run(proofs, executor(jobs, on, stop=stop), mutants, terminal)
    failed = [outcome for outcome in outcomes if not outcome.passed]
    not_run = len(proofs) - len(outcomes)
    terminal.result(
        {
            "passed": len(outcomes) - len(failed),
            "failed": len(failed),
            "not_run": not_run,
            "proofs": [_as_json(outcome, broken[outcome.proof.name]) for outcome in outcomes],
        }
    )
    terminal.print(_table(outcomes, broken, mutants))
    for outcome in failed:
        terminal.print(f"[red]{outcome.proof.name}[/red] {escape(outcome.reason)}")
    for name, survivors in broken.items():
        for mutant in survivors:
            if not mutant.refuted:
                terminal.print(f"{name} {mutant.run.status}: {escape(mutant.command)}")
    interrupted = f"; interrupted, {not_run} not run" if not_run else ""
    terminal.print(f"{len(outcomes) - len(failed)} proved, {len(failed)} failed{interrupted}")
    if not_run:
        raise typer.Exit(INTERRUPTED)
    if failed:
        raise typer.Exit(DIFFERENCE)


def _proofs(names: list[str] | None) -> "list[Proof]":
    from tb.formal.proofs import PROOFS

    for name in names or ():
        if name not in PROOFS:
            raise UserError(f"proof must be one of {', '.join(PROOFS)}, not {name}")
    return [PROOFS[name] for name in dict.fromkeys(names or PROOFS)]


def _run(
    proofs: "list[Proof]", executor: "Executor", n_mutants: int, terminal: Terminal
) -> "tuple[list[Outcome], dict[str, list[Mutant]]]":
    """Outcomes and mutants in the order of the proofs, up to Ctrl-C."""
    from firmware_tools.jobs.campaign import results
    from firmware_tools.jobs.store import Store
    from firmware_tools.proofs import Proving
    from tb.formal.prover import ProverError

    done = {}
    jobs = [Proving(proof.name, n_mutants) for proof in proofs]
    with contextlib.suppress(KeyboardInterrupt), terminal.progress("proofs", len(proofs)) as step:
        try:
            for one in results(jobs, executor, Store()):
                done[one.job.name] = one.job.found(one.result, one.seconds)
                step(len(done))
        except ProverError as error:
            raise UserError(str(error)) from error
    known = [proof.name for proof in proofs if proof.name in done]
    return [done[name][0] for name in known], {name: done[name][1] for name in known}


def _described(proof: "Proof") -> dict[str, object]:
    return {"name": proof.name, "says": proof.says, "kind": proof.kind}


def _as_json(outcome: "Outcome", mutants: "list[Mutant]") -> dict[str, object]:
    return {
        **_described(outcome.proof),
        "passed": outcome.passed,
        "reason": outcome.reason,
        "engine": outcome.proof.engine,
        "covers": outcome.cover.properties,
        "mutants": [
            {"command": mutant.command, "status": mutant.run.status, "refuted": mutant.refuted}
            for mutant in mutants
        ],
    }


def _list(proofs: "list[Proof]") -> Table:
    table = Table("proof", "says", "kind")
    for proof in proofs:
        table.add_row(proof.name, proof.says, proof.kind)
    return table


def _table(outcomes: "list[Outcome]", mutants: "dict[str, list[Mutant]]", n_mutants: int) -> Table:
    """A line for each proof."""
    table = Table("proof", "kind", "result")
    for title in ("covers", "seconds", *(["refuted"] if n_mutants else [])):
        table.add_column(title, justify="right")
    for outcome in outcomes:
        own = mutants[outcome.proof.name]
        refuted = f"{sum(mutant.refuted for mutant in own)} of {len(own)}"
        table.add_row(
            outcome.proof.name,
            outcome.proof.kind,
            "holds" if outcome.passed else "[red]fails[/red]",
            f"{len(outcome.covers) - len(outcome.missed)} of {len(outcome.covers)}",
            f"{outcome.seconds:.1f}",
            *([refuted] if n_mutants else []),
        )
    return table
