"""`kenyon generate`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from firmware_tools.console import CHIP_NAMES, Board, Json, Terminal, examples
from firmware_tools.errors import UserError
from firmware_tools.inputs import check_folder, named_board, named_chip

EXAMPLES = examples(
    "kenyon generate",
    "kenyon generate -c kenyon -o kenyon.v",
    "kenyon generate -c tiny --board ulx3s -o board.v",
)
BUILD = Path("build")


def command(
    config: Annotated[
        str, typer.Option("--config", "-c", metavar="CONFIG", help=f"One of {CHIP_NAMES}.")
    ] = "poppins",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE.v", help="Default: build/kenyon_CONFIG.v."),
    ] = None,
    board: Board = None,
    json: Json = False,
) -> None:
    """Write the Verilog of a chip, its description, a C header and a page of its registers.

    Beside FILE.v stand FILE.json (configuration, fingerprint, ports, register map, tool versions),
    FILE.h and FILE.md; with --board also FILE.lpf (where its pins are).
    """
    terminal = Terminal(json=json)
    chip = named_chip(config)
    carrier = named_board(board, chip)
    if output is None:
        output = default_path(chip.name)
    elif output.suffix != ".v":
        raise UserError(f"{output}: Verilog file must end in .v")
    check_folder(output)
    from firmware_tools.generator import fingerprints, generate

    with terminal.busy(f"generating {chip.name}"):
        files = generate(chip, output, carrier)
    terminal.result(
        {
            "configuration": chip.name,
            "board": board,
            **fingerprints(chip),
            "files": [str(file) for file in files],
        }
    )
    for file in files:
        terminal.print(f"wrote {escape(str(file))}: {file.stat().st_size:,} bytes")


def default_path(config_name: str) -> Path:
    """Where the Verilog goes unless the user says otherwise; makes the folder."""
    BUILD.mkdir(exist_ok=True)
    return BUILD / f"kenyon_{config_name}.v"
