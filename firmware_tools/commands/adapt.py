"""`kenyon adapt`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape
from rich.table import Table

from firmware_tools.console import Json, Seed, Terminal, examples
from firmware_tools.errors import UserError
from firmware_tools.inputs import check_folder
from firmware_tools.mars.inputs import NAMES

if TYPE_CHECKING:
    from firmware_tools.adaptation.verb import Adapted, Images
    from model.mars.network import QuantizedNetwork

Method = Literal["statistics", "fine-tune", "gain"]

EXAMPLES = examples(
    "kenyon adapt digits.npz --device rram --method statistics -o adapted.npz",
    "kenyon adapt digits.npz --device rram:rows=128,columns=128 --method fine-tune -o adapted.npz",
    "kenyon adapt net.npz --device pcm:age=1e6 --input x.npy -o adapted.npz "
    "--patch lines.json -c mars-tiny",
)
HELD_WELL = 1e-2
"""PC2 up to which normalisation repairs (third-party notes of 2305.18416)."""


def command(
    network_file: Annotated[Path, typer.Argument(metavar="NET.npz", help="Quantised network.")],
    device: Annotated[
        str,
        typer.Option(
            metavar="NAME[:KEY=VALUE,...]",
            help="The arrays: sram-analog, pcm, fefet, rram or DEVICE.toml.",
        ),
    ],
    method: Annotated[
        Method,
        typer.Option(
            help="Means and spreads anew; scale and shift trained; or one gain for each layer."
        ),
    ] = "statistics",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="OUT.npz", help="Write the adapted network."),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            "--input",
            metavar="X.npy",
            help="Training images. Default: the digits that networks are trained on.",
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="L.npy", help="Their classes, for fine-tune with --input."),
    ] = None,
    patch: Annotated[
        Path | None,
        typer.Option(
            metavar="LINES.json", help="Write which lines of the program in memory become what."
        ),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            "--config", "-c", metavar="CONFIG", help=f"For --patch: {NAMES}. Default: mars."
        ),
    ] = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Adapt a network's normalisation to one chip of a device; its weights stay as they are.

    The seed is the chip: kenyon infer --device with the same one runs the adapted network on it.
    Biases, multipliers and shifts are all that changes, so any backend runs the result, and a host
    needs to rewrite only the lines that hold them.

    PC2 is the share of the second principal component in the cloud of ideal and held weights of a
    layer; normalisation repairs well below 0.01. docs/adaptation.md has formulas and figures.
    """
    terminal = Terminal(json=json)
    _check(output, images, labels, patch, config)
    from firmware_tools.adaptation import verb
    from firmware_tools.mars.devices import analogue, load_device
    from firmware_tools.mars.inputs import load_network

    named = analogue(load_device(device, seed))
    assert named is not None
    network = load_network(network_file)
    data = verb.load_images(network, images, labels)
    with terminal.busy(f"adapting {network.name}"):
        adapted = verb.adapt(network, named[0], seed, method, data)
    values: dict[str, object] = {
        "network": network.name,
        "device": device,
        "seed": seed,
        "method": method,
        "images": len(data.inputs),
        **adapted.as_json(),
        "output": None if output is None else str(output),
    }
    if output is not None:
        from model.mars import network_file as files

        files.dump(adapted.network, output)
    if patch is not None:
        values["patch"] = _write_patch(network, adapted.network, config, patch, terminal)
    terminal.result(values)
    _print(terminal, adapted, data)
    if output is not None:
        terminal.print(f"wrote {escape(str(output))}")


def _check(
    output: Path | None,
    images: Path | None,
    labels: Path | None,
    patch: Path | None,
    config: str | None,
) -> None:
    if labels is not None and images is None:
        raise UserError("--labels must be left out without --input: the digits have their own")
    if config is not None and patch is None:
        raise UserError("--config must be left out without --patch")
    for path, suffix in ((output, ".npz"), (patch, ".json")):
        if path is not None:
            if path.suffix != suffix:
                raise UserError(f"{path}: must end in {suffix}")
            check_folder(path)


def _write_patch(
    before: "QuantizedNetwork",
    after: "QuantizedNetwork",
    config: str | None,
    path: Path,
    terminal: Terminal,
) -> dict[str, object]:
    """Both networks compiled, and the lines in which they differ."""
    import json

    from firmware_tools.mars.inputs import compiled, mars_config
    from model.mars.patch import patch

    chip = mars_config(config)
    images = [compiled(one, chip, terminal) for one in (before, after)]
    found = patch(*images)
    n_lines = len(images[0].lines)
    lines = [
        {"line": number, "words": [f"{word:#018x}" for word in words]}
        for number, words in zip(found.numbers.tolist(), found.lines.tolist(), strict=True)
    ]
    content = {"network": before.name, "configuration": chip.name, "lines": lines}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    terminal.print(f"wrote {escape(str(path))}: {len(found):,} of {n_lines:,} lines of the program")
    return {"file": str(path), "lines": len(found), "program_lines": n_lines}


def _print(terminal: Terminal, adapted: "Adapted", data: "Images") -> None:
    table = Table()
    for title in ("layer", "PC2", "factor"):
        table.add_column(title, justify="left" if title == "layer" else "right")
    for name, pc2 in adapted.pc2.items():
        mark = "" if pc2 < HELD_WELL else " !"
        table.add_row(escape(name), f"{pc2:.5f}{mark}", f"{adapted.factors[name]:.3f}")
    terminal.print(table)
    what = "of the test images" if data.has_test else "of the images"
    terminal.print(
        f"difference to the exact network, relative: {adapted.before.difference[0]:.2%} before, "
        f"{adapted.after.difference[0]:.2%} after"
    )
    if adapted.accuracy is not None:
        exact, before, after = adapted.accuracy
        terminal.print(f"right {what}: exact {exact:.2%}, before {before:.2%}, after {after:.2%}")
