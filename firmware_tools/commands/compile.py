"""`kenyon compile`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from firmware_tools.console import Config, Iqif, Json, Network, Terminal, examples
from firmware_tools.inputs import check_folder, fitting_config, load_network

EXAMPLES = examples(
    "kenyon compile examples/decision.json -o decision.img",
    "kenyon compile --iqif neurons.txt connections.txt session.txt -c odin -o network.img",
)


def command(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="IMAGE", help="Image file to write.")
    ],
    network_file: Network = None,
    iqif: Iqif = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Compile a network to the binary image that a chip's loader takes.

    Without -c the image is for the smallest configuration that fits. The stimulus (session and
    events) is not part of an image.
    """
    from model.npu.image import compile_image

    terminal = Terminal(json=json)
    network = load_network(network_file, iqif, terminal)
    chip = fitting_config(config, network)
    check_folder(output)
    image = compile_image(network, chip)
    output.write_bytes(image)
    terminal.result(
        {
            "image": str(output),
            "bytes": len(image),
            "configuration": chip.name,
            "fingerprint": f"{chip.fingerprint:08x}",
        }
    )
    terminal.print(
        f"wrote {escape(str(output))}: {len(image):,} bytes for configuration {chip.name} "
        f"({chip.fingerprint:08x})"
    )
