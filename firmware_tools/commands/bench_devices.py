"""`kenyon bench devices`."""

from typing import Annotated

import typer

from firmware_tools.console import Json, Seed, Terminal, examples
from firmware_tools.mars.inputs import (
    DEFAULT_NETWORK,
    Benched,
    ZooActBits,
    ZooSparsity,
    ZooWeightBits,
    refuse_others,
)

EXAMPLES = examples(
    "kenyon bench devices --network vgg16 --device pcm:rows=64",
    "kenyon bench devices --network digits.npz --device found/best.json",
    "kenyon bench devices --network neurram",
)


def command(
    network: Benched = None,
    sparsity: ZooSparsity = None,
    weight_bits: ZooWeightBits = None,
    act_bits: ZooActBits = None,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[:KEY=VALUE,...]",
            help="What layers are made of, or DEVICES.json of kenyon search. Default: sram.",
        ),
    ] = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Area, energy and time of the layers on a device.

    Those of a frame, with converters and without, and how quickly design points are priced
    (docs/hyde.md). --network neurram: a macro against its published figures.
    """
    terminal = Terminal(json=json)
    zoo = {"sparsity": sparsity, "weight_bits": weight_bits, "act_bits": act_bits, "seed": seed}
    options = {name: value for name, value in zoo.items() if value}
    from firmware_tools.costs import bench, published

    if network == published.NAME:
        others = {f"--{name.replace('_', '-')}": value for name, value in options.items()}
        refuse_others(f"bench devices --network {network}", {**others, "--device": device})
        published.bench(terminal)
    else:
        bench.bench(network or DEFAULT_NETWORK, device or "sram", terminal, **options)
