"""`kenyon zoo`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from firmware_tools.console import Json, Seed, Terminal, examples
from firmware_tools.errors import UserError
from model.mars.zoo import ZOO

EXAMPLES = examples(
    "kenyon zoo",
    "kenyon zoo resnet18-imagenet -o resnet18.npz",
    "kenyon zoo mobilenetv2 -o net.npz --weight-bits 8 --act-bits 8 --sparsity 0.5 --seed 1",
)
MILLION = 1_000_000


def command(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help=f"Network to write: {', '.join(ZOO)}.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="NET.npz", help="Network file.")
    ] = None,
    weight_bits: Annotated[int, typer.Option(min=2, max=8, help="Bits of weights.")] = 4,
    act_bits: Annotated[int, typer.Option(min=1, max=8, help="Bits of activations.")] = 4,
    sparsity: Annotated[
        float, typer.Option(min=0, max=1, help="Share of group-sets that are all zero.")
    ] = 0.0,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """List networks of the field, or write one of them with generated weights.

    Weights are random and say nothing of accuracy; shapes are the published ones, and the results
    of every layer spread over their range like those of a trained network. What is listed counts
    multiply-accumulates of a frame, zeros included; the first layer, the last one and depthwise
    ones are never sparse.
    """
    terminal = Terminal(json=json)
    if name is None:
        if output is not None:
            raise UserError("NAME must be given with --output")
        terminal.result({"networks": [asdict(entry) for entry in ZOO.values()]})
        terminal.print(_table())
        return
    if name not in ZOO:
        raise UserError(f"NAME must be one of {', '.join(ZOO)}, not {name}")
    if output is None:
        raise UserError("--output must be given: the file to which the network is written")
    if output.suffix != ".npz":
        raise UserError(f"{output}: quantised network must end in .npz")
    from model.mars import network_file

    with terminal.busy(f"making {name}"):
        network = ZOO[name].make(sparsity, weight_bits, act_bits, seed)
        network_file.dump(network, output)
    terminal.result({"network": name, "file": str(output), "size": asdict(ZOO[name].size)})
    terminal.print(f"{output}: {name}, {ZOO[name].size.weights:,} weights of {weight_bits} bit")


def _table() -> Table:
    table = Table()
    table.add_column("name", no_wrap=True)
    table.add_column("input")
    for title in ("layers", "weights (M)", "MAC (M)"):
        table.add_column(title, justify="right")
    table.add_column("for")
    for entry in ZOO.values():
        channels, rows, columns = entry.shape
        table.add_row(
            entry.name,
            f"{rows}x{columns}x{channels}",
            str(entry.size.layers),
            f"{entry.size.weights / MILLION:.3f}",
            f"{entry.size.macs / MILLION:,.1f}",
            entry.purpose,
        )
    return table
