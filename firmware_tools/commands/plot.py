"""`kenyon plot`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from firmware_tools.console import Json, Terminal, examples
from firmware_tools.errors import UserError
from firmware_tools.inputs import check_folder

EXAMPLES = examples(
    "kenyon run examples/decision.json --trace decision.npz",
    "kenyon plot decision.npz",
    "kenyon plot decision.npz -o decision.svg",
)


def command(
    trace: Annotated[
        Path, typer.Argument(metavar="TRACE", help="Trace of kenyon run, .npz or .csv.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="FILE.png or FILE.svg. Default: the trace's name with .png.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Draw the spikes and the membrane potentials of a run.

    A CSV trace does not know the populations; an NPZ trace does.
    """
    terminal = Terminal(json=json)
    if output is None:
        output = trace.with_suffix(".png")
    if output.suffix not in (".png", ".svg"):
        raise UserError(f"{output}: picture must end in .png or .svg")
    check_folder(output)
    from firmware_tools import plot, trace_file

    with terminal.busy("drawing"):
        recording = trace_file.read(trace)
        plot.draw(recording, output)
    terminal.result({"picture": str(output), "steps": len(recording.v)})
    terminal.print(f"wrote {escape(str(output))}")
