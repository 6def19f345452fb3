"""What all verbs share on the terminal: where text goes, progress, options, errors."""

import contextlib
import json
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from model.board.config import BOARDS
from model.config import CHIPS
from model.npu.config import CONFIGS

DIFFERENCE = 1
"""Exit code: a difference was found, or a test failed."""
BAD_INPUT = 2
"""Exit code: the user's input is at fault."""
INTERRUPTED = 130
"""Exit code: Ctrl-C."""

CONFIG_NAMES = ", ".join(CONFIGS)
CHIP_NAMES = ", ".join(CHIPS)

Config = Annotated[
    str | None,
    typer.Option("--config", "-c", metavar="CONFIG", help=f"Configuration: {CONFIG_NAMES}."),
]
Board = Annotated[
    str | None,
    typer.Option(
        metavar="BOARD",
        help=f"Together with what a board needs around it, one of {', '.join(BOARDS)}.",
    ),
]
Network = Annotated[Path | None, typer.Argument(metavar="NETWORK.json", help="Network file.")]
Iqif = Annotated[
    tuple[Path, Path, Path] | None,
    typer.Option(
        metavar="NEURONS CONNECTIONS SESSION",
        help="The three text files of the IQIF simulator, instead of a network file.",
    ),
]
IqifColumns = Annotated[
    Literal["slopes", "shifts"] | None,
    typer.Option(
        "--iqif-columns",
        help="What NEURONS has behind reset: slopes a b (until 2025), or shift_a shift_b.",
    ),
]
Jobs = Annotated[
    int | None, typer.Option("-j", metavar="N", min=1, help="Jobs at once. Default: cores.")
]
On = Annotated[
    str | None,
    typer.Option(
        "--on",
        metavar="ADDRESS",
        help="Run jobs on the cluster at tcp://HOST:PORT instead (kenyon cluster).",
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Write JSON to standard output, all else to standard error.")
]
Report = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.html",
        help="Write a page of charts and tables that needs no network (docs/reports.md).",
    ),
]
Seed = Annotated[int, typer.Option(min=0, max=(1 << 32) - 1, help="Seed of what is random.")]
Seeds = Annotated[int, typer.Option(min=1, help="Seeds, from 0, that everything is trained with.")]
Quick = Annotated[bool, typer.Option("--quick", help="Fewer and shorter runs.")]


def examples(*commands: str) -> str:
    """The end of a verb's help text."""
    return "\n".join(["[bold]Examples:[/bold]", *(f"  {command}" for command in commands)])


@dataclass(frozen=True)
class Invocation:
    """How a verb was called.

    Attributes
    ----------
    words : tuple of str
        Of the command line.
    options : {str: object}
        Its options and arguments with their values, those that were not given included.
    """

    words: tuple[str, ...] = ("kenyon",)
    options: Mapping[str, object] = field(default_factory=dict)

    @property
    def command(self) -> str:
        """The command line."""
        return shlex.join(self.words)


_INVOCATION: ContextVar[Invocation] = ContextVar("_INVOCATION", default=Invocation())  # noqa: B039


def invoked(called: Invocation) -> None:
    """Remember how the verb was called that runs from now on."""
    _INVOCATION.set(called)


def invocation() -> Invocation:
    """How the verb that runs was called."""
    return _INVOCATION.get()


class Terminal:
    """Where a verb writes: results to standard output, everything else to standard error.

    Parameters
    ----------
    json : bool
        Standard output carries JSON only, and nothing moves on standard error.
    """

    def __init__(self, *, json: bool) -> None:
        self.json = json
        self.out = Console(stderr=json, highlight=False)
        self.err = Console(stderr=True, highlight=False)

    def print(self, content: str | Table) -> None:
        """Print for people: a line with rich's markup, or a table."""
        self.out.print(content, soft_wrap=isinstance(content, str))

    def warn(self, text: str) -> None:
        """Print a warning."""
        self.err.print(f"warning: {text}", style="yellow", markup=False, soft_wrap=True)

    def result(self, values: Mapping[str, object]) -> None:
        """Print for programs, if they listen."""
        if self.json:
            sys.stdout.write(f"{json.dumps(values)}\n")

    @contextlib.contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """Show that something of unknown length goes on."""
        with self.stages() as begin:
            begin(what)
            yield

    @contextlib.contextmanager
    def stages(self) -> Iterator[Callable[[str], None]]:
        """Show one after the other what goes on; yields what says that something begins."""
        progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=self.err,
            transient=True,
            disable=not self._moves,
        )
        with progress:
            task = progress.add_task("", total=None)
            yield lambda what: progress.update(task, description=what)

    @contextlib.contextmanager
    def progress(self, what: str, total: int) -> Iterator["Advance"]:
        """Show how far something of known length is."""
        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self.err,
            transient=True,
            disable=not self._moves,
        )
        with bar:
            task = bar.add_task(what, total=total)
            yield Advance(bar, task)

    @property
    def _moves(self) -> bool:
        return self.err.is_terminal and not self.json


class Advance:
    """Moves a progress bar: calls say how much has been done in all."""

    def __init__(self, bar: Progress, task: Any) -> None:
        self._bar = bar
        self._task = task

    def __call__(self, done: int) -> None:
        self._bar.update(self._task, completed=done)
