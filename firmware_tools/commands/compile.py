"""`kenyon compile`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from firmware_tools.console import Iqif, IqifColumns, Json, Terminal, examples
from firmware_tools.inputs import check_folder, fitting_config, load_network
from firmware_tools.mars.inputs import AnyConfig, AnyNetwork, Chunk, is_quantised, refuse_others
from model.mars.config import MarsConfig
from model.npu.config import NPUConfig

if TYPE_CHECKING:
    from model.npu.network import Network

EXAMPLES = examples(
    "kenyon compile examples/decision.json -o decision.img",
    "kenyon compile --iqif neurons.txt connections.txt session.txt --iqif-columns slopes -o n.img",
    "kenyon compile net.npz -o net.img",
)


def command(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="IMAGE", help="Image file to write.")
    ],
    network_file: AnyNetwork = None,
    iqif: Iqif = None,
    iqif_columns: IqifColumns = None,
    config: AnyConfig = None,
    chunk: Chunk = None,
    json: Json = False,
) -> None:
    """Compile a network to the binary image that a chip takes.

    NETWORK.json is for the loader of the NPU: without -c for the smallest configuration that fits;
    the stimulus (session and events) is not part of an image. NET.npz is for MARS: without -c for
    mars. Maps that do not fit its feature memories are written to memory and read again; what that
    takes is shown.
    """
    terminal = Terminal(json=json)
    check_folder(output)
    if is_quantised(network_file) and iqif is None:
        assert network_file is not None
        refuse_others("NET.npz", {"--iqif-columns": iqif_columns})
        image, chip, memory = _for_mars(network_file, config, chunk, terminal)
    else:
        refuse_others("NPU networks", {"--chunk": chunk})
        network = load_network(network_file, iqif, iqif_columns, terminal)
        image, chip = _for_npu(network, config)
        memory = {}
    output.write_bytes(image)
    terminal.result(
        {
            "image": str(output),
            "bytes": len(image),
            "configuration": chip.name,
            "fingerprint": f"{chip.fingerprint:08x}",
            **memory,
        }
    )
    terminal.print(
        f"wrote {escape(str(output))}: {len(image):,} bytes for configuration {chip.name} "
        f"({chip.fingerprint:08x})"
    )
    if memory:
        from firmware_tools.mars.inspect import memory_text

        if text := memory_text(memory):
            terminal.print(text)


def _for_mars(
    path: Path, config: str | None, chunk: int | None, terminal: Terminal
) -> tuple[bytes, NPUConfig | MarsConfig, dict[str, int]]:
    from firmware_tools.mars.inputs import compiled, load_network, mars_config
    from firmware_tools.mars.inspect import memory_use
    from model.mars.image import write_image

    chip = mars_config(config)
    image = compiled(load_network(path, chip), chip, terminal, chunk)
    return write_image(image), chip, memory_use(image)


def _for_npu(network: "Network", config: str | None) -> tuple[bytes, NPUConfig | MarsConfig]:
    from model.npu.image import compile_image

    chip = fitting_config(config, network)
    return compile_image(network, chip), chip
