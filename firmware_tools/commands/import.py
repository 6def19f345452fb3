"""`kenyon import`."""  # noqa: N999  (the name of the verb)

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape
from rich.table import Table

from firmware_tools.console import DIFFERENCE, Json, Terminal, examples
from firmware_tools.errors import UserError
from firmware_tools.inputs import check_folder
from firmware_tools.mars.inputs import refuse_others

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from firmware_tools.imported import ModelImport
    from firmware_tools.onnx_import.check import Agreement
    from model.mars.network import Ints

EXAMPLES = examples(
    "kenyon import model.tflite",
    "kenyon import model.tflite --wide -o network.npz",
    "kenyon import model.onnx -o network.npz",
    "kenyon import model.onnx -o network.npz --check images.npy",
    "kenyon import network.nir --time-steps 16",
    "kenyon import network.nir --dt 0.001 --calibrate events.npy --bits 4 --reset soft",
)

SUFFIX = ".npz"


def command(
    model: Annotated[
        Path,
        typer.Argument(metavar="MODEL", help="Model: TensorFlow Lite or ONNX, quantised, or NIR."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="NET.npz",
            help="Network file to write. Default: the model's name, in this folder.",
        ),
    ] = None,
    wide: Annotated[
        bool,
        typer.Option(
            "--wide", help="For mars-wide, whose multipliers have 31 bits: TensorFlow Lite exactly."
        ),
    ] = False,
    check: Annotated[
        Path | None,
        typer.Option(
            metavar="IMAGES.npy",
            help="Inputs of the model, on which to compare the network with its own kernels.",
        ),
    ] = None,
    time_steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=64,
            help="NIR: time steps of an input. Default: those of EVENTS.npy or of the file.",
        ),
    ] = None,
    dt: Annotated[
        float | None, typer.Option(help="NIR: seconds of a step, which LIF needs.")
    ] = None,
    bits: Annotated[
        Literal["4", "8"] | None, typer.Option(help="NIR: bits of weights. Default: 8.")
    ] = None,
    reset: Annotated[
        Literal["hard", "soft"] | None,
        typer.Option(
            help="NIR: to v_reset, or by subtracting the threshold, which the format cannot say. "
            "Default: hard."
        ),
    ] = None,
    nearest_leak: Annotated[
        bool,
        typer.Option("--nearest-leak", help="NIR: take the nearest leak that the hardware has."),
    ] = False,
    calibrate: Annotated[
        Path | None,
        typer.Option(
            metavar="EVENTS.npy",
            help="NIR: inputs, (N, steps, ...) integers, that show how large membranes get.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Import a TensorFlow Lite or ONNX model in integers, or a spiking network in NIR.

    Which it is its content tells. What the accelerator cannot do is refused. docs/import.md says
    what is accepted and how exact the result is; of NIR graphs, whose real numbers are quantised
    here, docs/nir.md does.

    --check also writes the images as the network takes them (NET-images.npy). Exit code 1 if a
    largest output is another one than that of the model, or more than one in 1000 outputs differ by
    more than one step.
    """
    terminal = Terminal(json=json)
    output = Path(model.stem + SUFFIX) if output is None else output
    if output.suffix != SUFFIX:
        raise UserError(f"{output}: network file must end in {SUFFIX}")
    check_folder(output)
    from firmware_tools import imported as models
    from model.mars import network_file

    choices = None
    options: dict[str, Any] = {
        "--time-steps": time_steps,
        "--dt": dt,
        "--bits": bits,
        "--reset": reset,
        "--nearest-leak": nearest_leak or None,
        "--calibrate": calibrate,
    }
    if models.is_nir(model):
        refuse_others("NIR graphs", {"--wide": wide or None, "--check": check})
        from firmware_tools.nir_import import Choices

        choices = Choices(
            time_steps=time_steps,
            dt=dt,
            bits=None if bits is None else int(bits),
            reset=reset or "hard",
            nearest_leak=nearest_leak,
            events=None if calibrate is None else network_file.load_array(calibrate),
        )
    else:
        refuse_others("models other than NIR graphs", options)
    imported = models.load(model, wide=wide, choices=choices)
    agreement = None
    if check is not None:
        with terminal.busy(f"{_kernels(imported)} and the network"):
            inputs, agreement = _compare(model, imported, check)
        _save(imported.to_network(inputs), output.with_name(f"{output.stem}-images.npy"))
    network_file.dump(imported.network, output)
    rows = _rows(imported)
    notes = list(imported.report)
    result = {"network": str(output), "input": rows[0], "layers": rows[1:], "notes": notes}
    terminal.result(result if agreement is None else {**result, "agreement": asdict(agreement)})
    terminal.print(_table(rows))
    for note in notes:
        terminal.print(f"note: {escape(note)}")
    also = "" if check is None else f", {escape(str(output.with_suffix('')))}-images.npy"
    terminal.print(f"wrote {escape(str(output))}: {len(rows) - 1} layers{also}")
    if agreement is not None:
        terminal.print(
            f"against {_kernels(imported)}, {agreement.images:,} images: largest output the same "
            f"{agreement.top1_equal:.2%}, outputs equal {agreement.equal:.2%}, within one step "
            f"{agreement.within_one:.2%}, two {agreement.within_two:.2%}, largest difference "
            f"{agreement.largest}"
        )
        if not agreement.is_good:
            raise typer.Exit(DIFFERENCE)


def _kernels(imported: "ModelImport") -> str:
    """What runs the model that was imported."""
    from firmware_tools.onnx_import import Imported

    is_onnx = isinstance(imported, Imported)
    return "onnxruntime" if is_onnx else "TensorFlow Lite's reference kernels"


def _compare(
    model: Path, imported: "ModelImport", images: Path
) -> "tuple[NDArray[Any], Agreement]":
    """The inputs in a file, and how the network and the model's own kernels agree on them."""
    from firmware_tools.onnx_import import Imported
    from firmware_tools.onnx_import import check as onnx_check
    from model.mars import network_file

    if isinstance(imported, Imported):
        inputs = onnx_check.load_inputs(images, imported)
        return inputs, onnx_check.compare(model, imported, inputs)
    inputs = network_file.load_array(images)
    try:
        imported.to_network(inputs)
    except ValueError as error:
        raise UserError(f"{images}: {error}") from None
    from firmware_tools.tflite_import.check import compare

    return inputs, compare(model, imported, inputs)


def _save(images: "Ints", path: Path) -> None:
    import numpy as np

    np.save(path, images.astype(np.int16))


def _rows(imported: "ModelImport") -> list[dict[str, Any]]:
    """The input and the layers; zero points and bounds of errors where the importer has them."""
    network = imported.network
    zeros, errors = (getattr(imported, name, {}) for name in ("zeros", "errors"))
    ops = {layer.name: type(layer).__name__ for layer in network.layers}
    return [
        {
            "name": name,
            "op": ops.get(name, ""),
            "shape": list(kind.shape),
            "bits": kind.bits,
            "signed": kind.signed,
            "scale": network.scales[name],
            "zero": zeros.get(name),
            "max_error": errors.get(name),
        }
        for name, kind in network.types.items()
    ]


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="Layers: value = scale * (integer - zero)", title_justify="left")
    for column in ("name", "op", "shape", "type", "scale", "zero", "largest error in steps"):
        table.add_column(column, justify="left" if column in {"name", "op"} else "right")
    for row in rows:
        table.add_row(
            escape(row["name"]),
            row["op"],
            "x".join(map(str, row["shape"])),
            f"{'signed' if row['signed'] else 'unsigned'} {row['bits']}",
            f"{row['scale']:.6g}",
            "" if row["zero"] is None else f"{row['zero']}",
            "" if row["max_error"] is None else f"{row['max_error']:.2g}",
        )
    return table
