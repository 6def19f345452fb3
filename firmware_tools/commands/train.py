"""`kenyon train`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape

from firmware_tools.console import DIFFERENCE, Json, Seed, Terminal, examples
from firmware_tools.errors import UserError
from firmware_tools.inputs import check_folder

if TYPE_CHECKING:
    from firmware_tools.quantize.training import Result, Training

Data = Literal["digits"]
QuantizerName = Literal["lg-lsq", "lsq", "ste", "pact", "ewgs"]
EXAMPLES = examples(
    "kenyon train digits --bits 3",
    "kenyon train digits --bits 4 --sparsity 0.75 -o sparse.npz",
    "kenyon train digits --weight-bits 2 --act-bits 4 --quantizer lsq --seed 1 --json",
)
SUFFIX = ".npz"


def _bits(what: str) -> Any:
    return typer.Option(min=2, max=8, help=f"Bits of {what}. Default: --bits.", show_default=False)


def command(
    data: Annotated[Data, typer.Argument(help="What is learned: scikit-learn's digits.")],
    bits: Annotated[
        int, typer.Option(min=2, max=8, help="Bits of weights, activations and images.")
    ] = 3,
    weight_bits: Annotated[int | None, _bits("weights")] = None,
    act_bits: Annotated[int | None, _bits("activations and images")] = None,
    quantizer: Annotated[
        QuantizerName, typer.Option(help="LG-LSQ (reconstructed), or one of the baselines.")
    ] = "lg-lsq",
    sparsity: Annotated[
        float, typer.Option(min=0, max=0.99, help="Share of the group-sets that shall be zero.")
    ] = 0.0,
    seed: Seed = 0,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Quantised epochs.", show_default=False)
    ] = None,
    float_epochs: Annotated[
        int | None, typer.Option(min=1, help="Float epochs before.", show_default=False)
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="NET.npz", help="The quantised network.")
    ] = Path("digits.npz"),
    json: Json = False,
) -> None:
    """Train a network with quantised weights and activations, and export its integers.

    Beside NET.npz it writes the test images as the network takes them (NET-images.npy), their
    classes (NET-labels.npy), and float network and quantised twin (NET.pt, for kenyon diff).

    After Ctrl-C the same command goes on from the last epoch and ends with the same weights. Exit
    code 1 if a layer's integers are not those of the training on all test images.
    """
    terminal = Terminal(json=json)
    if output.suffix != SUFFIX:
        raise UserError(f"{output}: network file must end in {SUFFIX}")
    check_folder(output)
    from firmware_tools.quantize import digits
    from firmware_tools.quantize.training import Settings, Training

    default = Settings()
    settings = Settings(
        weight_bits=bits if weight_bits is None else weight_bits,
        act_bits=bits if act_bits is None else act_bits,
        quantizer=quantizer,
        sparsity=sparsity,
        seed=seed,
        epochs=default.epochs if epochs is None else epochs,
        float_epochs=default.float_epochs if float_epochs is None else float_epochs,
    )
    loaded = digits.load()
    training = Training(settings, loaded, output.with_name(f"{output.name}.checkpoint"))
    if training.done:
        terminal.err.print(f"going on after epoch {training.done} of {len(training)}")
    result = _run(training, terminal)
    n_unequal = _write(training, result, loaded.test, output)
    training.discard_checkpoint()
    terminal.result(
        {
            "data": data,
            **result.as_json(),
            "weight_bits": settings.weight_bits,
            "act_bits": settings.act_bits,
            "quantizer": quantizer,
            "seed": seed,
            "n_test": len(loaded.test),
            "equal": not n_unequal,
            "output": str(output),
        }
    )
    _report(terminal, result, output, n_unequal, len(loaded.test))
    if n_unequal:
        raise typer.Exit(DIFFERENCE)


def _run(training: "Training", terminal: Terminal) -> "Result":
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
    return training.finish()


def _write(training: "Training", result: "Result", test: Any, output: Path) -> int:
    """Write everything; the number of integers in which the exported network differs."""
    import numpy as np

    from firmware_tools.quantize.difference import differences
    from firmware_tools.quantize.training import save_result
    from model.mars import network_file

    network_file.dump(result.network, output)
    save_result(training.settings, result, output.with_suffix(".pt"))
    images = result.twin.image_ints(test.images).astype(np.int16)
    np.save(output.with_name(f"{output.stem}-images.npy"), images)
    np.save(output.with_name(f"{output.stem}-labels.npy"), test.labels.numpy())
    written = network_file.load(output)
    rows = differences(result.model, result.twin, written, test.images)
    return sum(row.unequal for row in rows)


def _report(
    terminal: Terminal, result: "Result", output: Path, n_unequal: int, n_test: int
) -> None:
    terminal.print(f"float accuracy      {result.float_accuracy:8.2%}")
    terminal.print(f"quantised accuracy  {result.accuracy:8.2%}")
    terminal.print(f"zero group-sets     {result.group_sparsity:8.2%}")
    if n_unequal:
        terminal.print(f"[red]{n_unequal:,} integers differ[/red]: kenyon diff {output}")
    else:
        terminal.print(f"every layer's integers equal on {n_test} test images")
    stem = output.with_suffix("")
    terminal.print(escape(f"wrote {output}, {stem}.pt, {stem}-images.npy, {stem}-labels.npy"))
