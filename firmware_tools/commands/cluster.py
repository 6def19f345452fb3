"""`kenyon cluster`."""

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table

from firmware_tools.console import INTERRUPTED, Jobs, Json, Terminal, examples
from firmware_tools.errors import UserError
from firmware_tools.jobs.address import DEFAULT, Address

if TYPE_CHECKING:
    from collections.abc import Coroutine

EXAMPLES = examples(
    "kenyon cluster start -j 2",
    "kenyon regress --on tcp://127.0.0.1:8786",
    "kenyon cluster status",
    "kenyon cluster start tls://10.0.0.1:8786 -j 8",
    "kenyon cluster join tls://10.0.0.1:8786 -j 8",
)
Action = Literal["start", "join", "status"]


def command(
    action: Annotated[Action, typer.Argument(help="What to do.")],
    address: Annotated[
        str, typer.Argument(metavar="[ADDRESS]", help="tcp://HOST:PORT or tls://HOST:PORT.")
    ] = DEFAULT,
    workers: Jobs = None,
    json: Json = False,
) -> None:
    """Workers for the --on of regress, mutate, prove and bench mars --table (docs/cluster.md).

    start runs a scheduler at an address, and -j workers beside it, until Ctrl-C. join adds -j
    workers of another node. status shows who works.

    Each worker is a process with one job at a time; one that dies is replaced, and its job begins
    again. All need the same Kenyon, Python and dask. Whoever reaches a cluster can have it run
    anything: tcp is for this machine alone. For others it is tls, with the certificate in the
    folder that KENYON_CERTIFICATES names.
    """
    terminal = Terminal(json=json)
    where = Address.parse(address)
    try:
        from firmware_tools.jobs import cluster, crew
    except ImportError:
        raise UserError("dask.distributed is missing: pip install 'kenyon[cluster]'") from None
    n_workers = workers or os.cpu_count() or 1
    if action == "status":
        if workers is not None:
            raise UserError("-j must be left out: it is not for cluster status")
        found = cluster.status(address)
        terminal.result(found)
        _show(found, terminal)
    elif action == "start":

        def begun(listens: Address) -> None:
            terminal.result({"address": str(listens), "workers": n_workers})
            sys.stdout.flush()  # whoever has started us may wait for it
            terminal.print(f"cluster at {listens}, {n_workers} workers; Ctrl-C ends it")

        _until_interrupted(crew.serve(where, n_workers, begun, terminal.warn))
    else:
        terminal.print(f"{n_workers} workers for {where}; Ctrl-C ends them")
        _until_interrupted(crew.join(where, n_workers, terminal.warn))
        terminal.print(f"{where} has ended")


def _until_interrupted(work: "Coroutine[Any, Any, None]") -> None:
    try:
        asyncio.run(work)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def _show(found: dict[str, Any], terminal: Terminal) -> None:
    table = Table("worker")
    table.add_column("jobs", justify="right")
    for one in found["workers"]:
        table.add_row(one["worker"], str(one["busy"]))
    terminal.print(table)
    terminal.print(f"{found['address']}: {found['waiting']} jobs wait")
    terminal.print(", ".join(f"{what} {which}" for what, which in found["versions"].items()))
