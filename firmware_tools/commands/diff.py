"""`kenyon diff`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from firmware_tools.console import DIFFERENCE, Json, Seed, Terminal, examples
from firmware_tools.mars.inputs import DeviceName

if TYPE_CHECKING:
    from firmware_tools.quantize.difference import LayerDifference

EXAMPLES = examples(
    "kenyon diff digits.npz",
    "kenyon diff digits.npz --device rram",
    "kenyon diff digits.npz --training other.pt --count 10 --json",
)

IN_TIME = 5
"""Axes of what changes in time."""


def command(
    network_file: Annotated[
        Path, typer.Argument(metavar="NET.npz", help="What kenyon train wrote.")
    ],
    training: Annotated[
        Path | None,
        typer.Option(metavar="NET.pt", help="Float network and twin. Default: beside NET.npz."),
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=500, help="Test images.")] = 500,
    device: DeviceName = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Compare float network, quantised twin and exported integers, layer by layer.

    Difference and cosine are those of twin and float network, in real numbers; of a spiking twin
    the mean of the time steps. Unequal counts the
    integers that differ between twin and exported network; exit code 1 if there is one. With
    --device the exported network is computed on it, and integers may differ.
    """
    terminal = Terminal(json=json)
    from firmware_tools.mars.devices import analogue, load_device

    named = analogue(load_device(device, seed))
    from firmware_tools.quantize import digits
    from firmware_tools.quantize.difference import differences, first_difference
    from firmware_tools.quantize.errors import QuantizationError
    from firmware_tools.quantize.spiking import SpikingTwin
    from firmware_tools.quantize.spiking_training import load_result
    from model.mars import network_file as files
    from model.mars.devices.execution import NetworkArrays
    from model.mars.network import NetworkError

    try:
        network = files.load(network_file)
    except NetworkError as error:
        raise QuantizationError(str(error)) from None
    model, twin = load_result(network_file.with_suffix(".pt") if training is None else training)
    if isinstance(twin, SpikingTwin) and twin.coding == "spikes":
        raise QuantizationError(
            f"{network_file}: must take images: a network of spikes has no float network beside it"
        )
    try:
        products = None
        if named is not None:
            products = NetworkArrays(network, named[0], seed=seed).products()
        rows = differences(model, twin, network, digits.load().test.images[:count], products)
    except KeyError as error:
        raise QuantizationError(
            f"{network_file}: must have the training's layers, but there is no {error}"
        ) from None
    first = first_difference(rows)
    terminal.result(
        {
            "images": count,
            **({} if device is None else {"device": device, "seed": seed}),
            "equal": first is None,
            "first": None if first is None else first.as_json(),
            "layers": [row.as_json() for row in rows],
        }
    )
    terminal.print(_table(rows))
    if first is None:
        terminal.print("twin and exported integers are equal in every layer")
        return
    place = first.first or ()
    where = ", ".join(map(str, place))
    in_time = "step, " if len(place) == IN_TIME else ""
    terminal.print(
        f"[red]twin and exported integers part[/red] in layer {escape(first.name)} at "
        f"{escape(f'[{where}]')} (image, {in_time}channel, row, column)"
    )
    if named is not None:
        return
    raise typer.Exit(DIFFERENCE)


def _table(rows: "list[LayerDifference]") -> Table:
    table = Table()
    table.add_column("layer")
    for title in ("max difference", "mean", "cosine", "values", "unequal"):
        table.add_column(title, justify="right")
    for row in rows:
        table.add_row(
            escape(row.name),
            f"{row.largest:.4g}",
            f"{row.mean:.4g}",
            f"{row.cosine:.5f}",
            f"{row.values:,}",
            f"{row.unequal:,}",
        )
    return table
