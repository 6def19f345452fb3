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
    "kenyon bench mars --json > vgg16.json && kenyon plot vgg16.json",
)


def command(
    trace: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Trace of kenyon run, .npz or .csv, or .json of kenyon bench mars.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="FILE.png or FILE.svg. Default: the file's name with .png.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Draw a run: spikes and membrane potentials, or what the macros of MARS did.

    A CSV trace does not know the populations; an NPZ trace does. Of kenyon bench mars --json:
    utilisation of each layer, and when each kernel block was loaded and computed.
    """
    terminal = Terminal(json=json)
    if output is None:
        output = trace.with_suffix(".png")
    if output.suffix not in (".png", ".svg"):
        raise UserError(f"{output}: picture must end in .png or .svg")
    check_folder(output)
    with terminal.busy("drawing"):
        about = _draw_mars(trace, output) if trace.suffix == ".json" else _draw_run(trace, output)
    terminal.result({"picture": str(output), **about})
    terminal.print(f"wrote {escape(str(output))}")


def _draw_run(trace: Path, output: Path) -> dict[str, int]:
    from firmware_tools.npu import plot, trace_file

    recording = trace_file.read(trace)
    plot.draw(recording, output)
    return {"steps": len(recording.v)}


def _draw_mars(figures: Path, output: Path) -> dict[str, int]:
    from firmware_tools.mars import plot as mars_plot

    values = mars_plot.read(figures)
    mars_plot.draw(values, output)
    return {"passes": len(values["passes"])}
