"""`kenyon export`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from firmware_tools.console import Json, Terminal, examples
from firmware_tools.errors import UserError
from firmware_tools.inputs import check_folder
from firmware_tools.mars.inputs import Quantised, load_network

EXAMPLES = examples(
    "kenyon export net.npz -o net.nir",
    "kenyon export net.npz -o net.nir --dt 0.0001 --json",
)
SUFFIX = ".nir"


def command(
    network_file: Quantised,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE.nir", help="NIR file to write.")
    ],
    dt: Annotated[
        float, typer.Option(min=1e-12, max=1e6, help="Seconds of a step, in the file's tau.")
    ] = 0.001,
    json: Json = False,
) -> None:
    """Write a spiking network as a NIR graph in real units.

    What NIR cannot express is refused with the layer's name; notes say what the file leaves open.
    docs/nir.md has both.
    """
    terminal = Terminal(json=json)
    if output.suffix != SUFFIX:
        raise UserError(f"{output}: NIR file must end in {SUFFIX}")
    check_folder(output)
    from firmware_tools import nir_export

    network = load_network(network_file)
    try:
        notes = nir_export.dump(network, output, dt=dt)
    except nir_export.ExportError as error:
        raise UserError(f"{network_file}: {error}") from None
    terminal.result({"network": network.name, "file": str(output), "dt": dt, "notes": list(notes)})
    for note in notes:
        terminal.print(f"note: {escape(note)}")
    terminal.print(f"wrote {escape(str(output))}: {len(network.layers)} layers")
