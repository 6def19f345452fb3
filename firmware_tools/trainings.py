"""What verbs that train have in common: options, the way through the epochs, files at the end."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape

from firmware_tools.console import DIFFERENCE, Terminal
from firmware_tools.errors import UserError
from firmware_tools.inputs import check_folder
from firmware_tools.mars.inputs import SUFFIX
from firmware_tools.report import page

if TYPE_CHECKING:
    from firmware_tools.avoid.training import PerceptionResult
    from firmware_tools.quantize.training import Result, StagedTraining, Training

Bits = Annotated[
    int | None, typer.Option(min=2, max=8, help="Bits of weights, activations and images.")
]
WeightBits = Annotated[
    int | None, typer.Option(min=2, max=8, help="Bits of weights. Default: --bits.")
]
ActBits = Annotated[
    int | None, typer.Option(min=2, max=8, help="Bits of activations and images. Default: --bits.")
]
Quantizer = Annotated[
    Literal["lg-lsq", "lsq", "ste", "pact", "ewgs"] | None,
    typer.Option(help="LG-LSQ (reconstructed), or one of the baselines. Default: lg-lsq."),
]
Epochs = Annotated[int | None, typer.Option(min=1, help="Quantised epochs.")]
FloatEpochs = Annotated[int | None, typer.Option(min=1, help="Float epochs before.")]
OUTPUT = typer.Option(
    "--output",
    "-o",
    metavar="OUT.npz",
    help="The quantised network; beside it test images as it takes them (OUT-images.npy) and their "
    "classes (OUT-labels.npy).",
)


def check(report: Path | None, *outputs: Path | None) -> None:
    """Refuse report or networks that could not be written in the end."""
    page.check(report)
    for path in outputs:
        if path is not None:
            if path.suffix != SUFFIX:
                raise UserError(f"{path}: network file must end in {SUFFIX}")
            check_folder(path)


def given(**options: Any) -> dict[str, Any]:
    """Options that are not None; settings have defaults for the others."""
    return {name: value for name, value in options.items() if value is not None}


def checkpoint_of(output: Path) -> Path:
    """Where a training that writes a network is kept meanwhile."""
    return output.with_name(f"{output.name}.checkpoint")


def run(training: "StagedTraining", terminal: Terminal) -> None:
    """All epochs that are left, with their progress.

    Raises
    ------
    KeyboardInterrupt
        With what has been done and how to go on.
    """
    if training.done:
        terminal.err.print(f"going on after epoch {training.done} of {len(training)}")
    try:
        with terminal.progress("epochs", len(training)) as advance:
            advance(training.done)
            for _stage, done in training.run():
                advance(done)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted after epoch {training.done} of {len(training)}; "
            "the same command goes on from there"
        ) from None


def write_tests(output: Path, images: Any, labels: Any) -> None:
    """Test images as the network takes them, and their classes, beside the network."""
    import numpy as np

    np.save(output.with_name(f"{output.stem}-images.npy"), images)
    np.save(output.with_name(f"{output.stem}-labels.npy"), labels.numpy())


def write_network(result: Any, test: Any, output: Path) -> int:
    """Write network and tests; the number of integers in which the written network differs.

    Parameters
    ----------
    result : Result or PerceptionResult
    test : Part
    output : Path
    """
    import numpy as np

    from firmware_tools.quantize.difference import differences
    from model.mars import network_file

    network_file.dump(result.network, output)
    write_tests(output, result.twin.image_ints(test.images).astype(np.int16), test.labels)
    rows = differences(result.model, result.twin, network_file.load(output), test.images)
    return sum(row.unequal for row in rows)


def quantised(
    training: "Training", test: Any, output: Path, report: Path | None, terminal: Terminal
) -> None:
    """Train a network that tells the digits apart, write it, say how good it is."""
    run(training, terminal)
    result = training.finish()
    lines = [
        f"float accuracy      {result.float_accuracy:8.2%}",
        f"quantised accuracy  {result.accuracy:8.2%}",
        f"zero group-sets     {result.group_sparsity:8.2%}",
    ]
    finish(training.settings.name, training, result, test, lines, output, report, terminal)


def finish(
    data: str,
    training: "Training",
    result: "Result | PerceptionResult",
    test: Any,
    lines: Sequence[str],
    output: Path,
    report: Path | None,
    terminal: Terminal,
) -> None:
    """Write what was trained and say how good it is, for people in `lines`."""
    from firmware_tools.quantize.training import save_result

    settings = training.settings
    save_result(settings, result.model, result.twin, output.with_suffix(".pt"))
    n_unequal = write_network(result, test, output)
    training.discard_checkpoint()
    values = {
        "data": data,
        **result.as_json(),
        "weight_bits": settings.weight_bits,
        "act_bits": settings.act_bits,
        "quantizer": settings.quantizer,
        "seed": settings.seed,
        "n_test": len(test),
        "equal": not n_unequal,
        "output": str(output),
    }
    terminal.result(values)
    for line in lines:
        terminal.print(line)
    if n_unequal:
        terminal.print(f"[red]{n_unequal:,} integers differ[/red]: kenyon diff {output}")
    else:
        terminal.print(f"every layer's integers equal on {len(test)} test images")
    stem = output.with_suffix("")
    terminal.print(escape(f"wrote {output}, {stem}.pt, {stem}-images.npy, {stem}-labels.npy"))
    write_report(report, values, training, terminal)
    if n_unequal:
        raise typer.Exit(DIFFERENCE)


def write_report(
    path: Path | None, values: dict[str, object], training: "StagedTraining", terminal: Terminal
) -> None:
    """Write the page of a training, if it is wanted."""
    if path is None:
        return
    from firmware_tools.report.train import sections

    title = f"Training on {values['data']}"
    page.write(path, title, sections(values, training.losses), terminal)
