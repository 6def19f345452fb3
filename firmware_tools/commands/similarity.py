"""`kenyon similarity`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape
from rich.table import Table

from firmware_tools.console import Json, Seed, Terminal, examples
from firmware_tools.errors import UserError
from firmware_tools.inputs import check_folder
from firmware_tools.mars.inputs import DeviceName

if TYPE_CHECKING:
    from firmware_tools.similarity.compare import Pair, Similarity
    from firmware_tools.similarity.features import Subject
    from model.mars.devices.device import Device

By = Literal["layer", "step"]

EXAMPLES = examples(
    "kenyon similarity cnn.npz spiking.npz --input images.npy",
    "kenyon similarity cnn.npz spiking.npz --input images.npy --by step --plot cka.png",
    "kenyon similarity cnn.npz cnn.npz --input images.npy --device pcm:age=1e6",
    "kenyon similarity float.onnx cnn.npz --input real.npy --input-b images.npy --json",
)
SAMPLES_MIN = 4


def command(
    first: Annotated[
        Path,
        typer.Argument(metavar="A", help="Network, as kenyon infer takes it; or a float ONNX one."),
    ],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another one.")],
    images: Annotated[
        Path, typer.Option("--input", metavar="X.npy", help="Images, at least 4, for both.")
    ],
    images_b: Annotated[
        Path | None,
        typer.Option(
            "--input-b",
            metavar="Y.npy",
            help="The same images as B takes them, if it does not take A's.",
        ),
    ] = None,
    by: Annotated[By, typer.Option(help="Layers whole, or time step by time step.")] = "layer",
    batch: Annotated[
        int, typer.Option(metavar="N", help="Images of a minibatch, at least 4.")
    ] = 64,
    below: Annotated[
        float, typer.Option(min=0, max=1, help="CKA below which networks have parted.")
    ] = 0.9,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Heat map, FILE.png or FILE.svg.")
    ] = None,
    device: DeviceName = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """How alike two networks are inside, layer by layer: minibatch unbiased CKA.

    1 is the same up to rotation and scale, 0 is unrelated. Layers of the same name are compared,
    and every layer with every other in JSON and picture. A spiking network counts as all of its
    time steps, one after the other, or with --by step as each of them.

    With --device B is computed on it. CKA is blind to a gain: kenyon infer shows differences.

    Says which layer, or step, is the first one below a value. docs/similarity.md has the formula.
    """
    terminal = Terminal(json=json)
    if batch < SAMPLES_MIN:
        raise UserError(f"--batch must be at least {SAMPLES_MIN}, not {batch}")
    if plot is not None:
        if plot.suffix not in (".png", ".svg"):
            raise UserError(f"{plot}: picture must end in .png or .svg")
        check_folder(plot)
    from firmware_tools.mars.devices import analogue, load_device

    named = analogue(load_device(device, seed))
    one = _subject(first, images)
    other = _subject(second, images if images_b is None else images_b, named)
    _check(one, other, images, by)
    from firmware_tools.similarity.compare import compare

    with terminal.progress("images", len(one.inputs)) as advance:
        found = compare(one, other, by, batch, advance)
    parts = found.parting(below)
    if plot is not None:
        from firmware_tools.similarity.plot import draw

        with terminal.busy("drawing"):
            draw(found, (first.name, second.name), plot)
    terminal.result(
        {
            "networks": [str(first), str(second)],
            **({} if device is None else {"device": device, "seed": seed}),
            "by": by,
            "images": found.images,
            "batch": batch,
            "batches": found.batches,
            "rows": [asdict(place) for place in found.first],
            "columns": [asdict(place) for place in found.second],
            "cka": [
                [found.at(k, n).cka for n in range(len(row))] for k, row in enumerate(found.cka)
            ],
            "same_names": found.is_by_name,
            "pairs": [asdict(pair) for pair in found.pairs],
            "below": below,
            "parts_at": None if parts is None else asdict(parts),
            "picture": None if plot is None else str(plot),
        }
    )
    _print(terminal, first.name, second.name, found, len(one.inputs))
    terminal.print(_parting(parts, below))
    if plot is not None:
        terminal.print(f"wrote {escape(str(plot))}")


def _subject(path: Path, images: Path, named: "tuple[Device, int] | None" = None) -> "Subject":
    from firmware_tools.mars.inputs import load_images, load_model
    from firmware_tools.similarity import features, float_onnx

    if float_onnx.is_float(path):
        if named is not None:
            raise UserError(f"{path}: must be a quantised network with --device")
        return float_onnx.load(path, images)
    model = load_model(path)
    inputs = load_images(images, model)
    if named is None:
        return features.quantised(model.network, inputs)
    return features.on_device(model.network, inputs, *named)


def _check(one: "Subject", other: "Subject", images: Path, by: By) -> None:
    n = len(one.inputs)
    if n < SAMPLES_MIN:
        raise UserError(f"{images}: images must be at least {SAMPLES_MIN}, not {n}")
    if len(other.inputs) != n:
        raise UserError(f"--input-b must have {n} images, as --input has, not {len(other.inputs)}")
    if by == "step" and not one.time_steps and not other.time_steps:
        raise UserError("--by must be layer: neither network has time steps")


def _print(terminal: Terminal, one: str, other: str, found: "Similarity", n_images: int) -> None:
    left_out = n_images - found.images
    note = f", {left_out} left out" if left_out else ""
    batches = "1 minibatch" if found.batches == 1 else f"{found.batches:,} minibatches"
    terminal.print(
        f"CKA of [bold]{escape(one)}[/bold] and [bold]{escape(other)}[/bold]: "
        f"{found.images:,} images in {batches}{note}"
    )
    if not found.is_by_name:
        terminal.print("no layer has a name of the other network: each with the one most like it")
    terminal.print(_table(found))


def _table(found: "Similarity") -> Table:
    """Pairs one below the other; of layers with steps a row each."""
    pairs = found.pairs
    steps = sorted({max(pair.first.step, pair.second.step) for pair in pairs})
    table = Table()
    if not found.is_by_name or len(steps) < 2:
        table.add_column("A", no_wrap=True)
        table.add_column("B", no_wrap=True)
        table.add_column("CKA", justify="right")
        for pair in pairs:
            table.add_row(escape(str(pair.first)), escape(str(pair.second)), _value(pair))
        return table
    table.title = "by time step"
    table.add_column("layer", no_wrap=True)
    for step in steps:
        table.add_column(f"{step}" if step else "no steps", justify="right")
    rows: dict[str, dict[int, str]] = {}
    for pair in pairs:
        step = max(pair.first.step, pair.second.step)
        rows.setdefault(pair.first.layer, {})[step] = _value(pair, 3)
    for layer, values in rows.items():
        table.add_row(escape(layer), *(values.get(step, "") for step in steps))
    return table


def _value(pair: "Pair", digits: int = 4) -> str:
    return "const" if pair.cka is None else f"{pair.cka:.{digits}f}"


def _parting(pair: "Pair | None", below: float) -> str:
    if pair is None:
        return f"they do not part: no pair is below {below:g}"
    first, second = str(pair.first), str(pair.second)
    where = first if pair.first == pair.second else f"{first} and {second}"
    return f"they part at {escape(where)}: {pair.cka:.4f} is the first below {below:g}"
