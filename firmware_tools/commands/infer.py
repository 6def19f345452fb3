"""`kenyon infer`."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape
from rich.table import Table

from firmware_tools.console import Json, Terminal, examples
from firmware_tools.errors import UserError
from firmware_tools.inputs import check_folder
from firmware_tools.interrupts import uninterrupted
from firmware_tools.mars.inputs import (
    DEFAULT,
    NAMES,
    Chunk,
    ClockMHz,
    Quantised,
    build_rtl,
    compiled,
    load_images,
    load_model,
    mars_config,
)
from model.mars.config import MarsConfig

if TYPE_CHECKING:
    from firmware_tools.imported import ModelImport
    from firmware_tools.mars.inference import Inference
    from model.mars.layout import Ints
    from model.mars.network import QuantizedNetwork

Backend = Literal["reference", "model", "rtl"]

EXAMPLES = examples(
    "kenyon infer net.npz --input digits.npy --output scores.npy",
    "kenyon infer net.npz --input digits.npy --backend model --clock-mhz 200",
    "kenyon infer net.npz --input digit.npy --backend rtl -c mars-tiny --json",
    "kenyon infer spiking.npz --input x.npy --policy policy.npz --backend model --chunk 1",
    "kenyon infer model.tflite --input images.npy --backend rtl -c mars-wide",
)


def command(
    network_file: Quantised,
    images: Annotated[
        Path,
        typer.Option(
            "--input",
            metavar="X.npy",
            help="Images, integers (N, C, H, W) or (C, H, W); for a model as it takes them.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="Y.npy",
            help="Write the results, int32 (N, C, H, W); of a model as it gives them.",
            show_default=False,
        ),
    ] = None,
    backend: Annotated[
        Backend,
        typer.Option(help="Plain integer arithmetic, golden machine, or simulated hardware."),
    ] = "reference",
    config: Annotated[
        str | None,
        typer.Option(
            "--config",
            "-c",
            metavar="CONFIG",
            help=f"For model and rtl: {NAMES}. Default: {DEFAULT}.",
            show_default=False,
        ),
    ] = None,
    chunk: Chunk = None,
    policy: Annotated[
        Path | None,
        typer.Option(
            metavar="POLICY.npz",
            help="Network whose largest result is the number of time steps that a spiking network "
            "takes for an image; it runs before. Default: the exit decides.",
            show_default=False,
        ),
    ] = None,
    clock_mhz: ClockMHz = 100.0,
    json: Json = False,
) -> None:
    """Run images through a quantised network; report classes, clocks and frames per second.

    All backends give the same integers; the reference has no clocks. The class is the channel with
    the largest result, the first of equal ones. After Ctrl-C, Y.npy holds the images that were
    finished.

    Of a spiking network the results are the logits behind the step that its exit takes last; --json
    has those of every step that was computed. With an exit clocks are those of the mean image.
    With a policy they are those of policy and network, and the exit is not asked; steps that are
    not taken are saved if they would have been a chunk of their own (--chunk 1).
    """
    terminal = Terminal(json=json)
    chip = _config(config, backend)
    model = load_model(network_file, chip)
    network = model.network
    inputs = load_images(images, model)
    chooses = None if policy is None else _load_policy(policy, network)
    if output is not None:
        _check_output(output)
    for warning in network.warnings:
        terminal.warn(warning)
    results = _backend(network, chooses, inputs, chip, backend, chunk, terminal)
    begin = time.perf_counter()
    save = None if output is None else partial(_save, output, model)
    done = _collect(results, len(inputs), save, output, terminal, in_process=backend != "rtl")
    seconds = time.perf_counter() - begin
    classes = _classes(done)
    clocks = round(sum(one.clocks or 0 for one in done) / len(done))
    frames_per_s = clock_mhz * 1e6 / clocks if clocks else None
    terminal.result(
        {
            "network": network.name,
            "backend": backend,
            "configuration": chip.name if chip else None,
            "images": len(done),
            "shape": list(network.types[network.output].shape),
            "classes": classes,
            "outputs": None if classes is None else [one.output.ravel().tolist() for one in done],
            **_steps(done),
            **({} if chooses is None else _policy(chooses, done)),
            "clocks": clocks or None,
            "passes": [{"layers": one.layers, "clocks": one.clocks} for one in done[-1].passes],
            "clock_mhz": clock_mhz,
            "frames_per_second": frames_per_s,
            "output": str(output) if output else None,
            "notes": list(model.report),
            "wall_seconds": seconds,
        }
    )
    where = f"backend {backend}" + (f", configuration {chip.name}" if chip else "")
    images_done = "1 image" if len(done) == 1 else f"{len(done):,} images"
    terminal.print(f"[bold]{escape(network.name)}[/bold], {where}: {images_done}")
    if classes is not None:
        terminal.print(_table(classes, done))
    if done[0].steps:
        mean = sum(one.steps for one in done) / len(done)
        terminal.print(f"time steps: {mean:.2f} in the mean, of {network.time_steps}")
    if clocks:
        terminal.print(
            f"{clocks:,} clocks per frame, {frames_per_s:,.1f} frames/s at {clock_mhz:g} MHz"
        )
    for note in model.report:
        terminal.print(f"note: {escape(note)}")
    terminal.print(f"time: {seconds:.2f} s")
    if output is not None:
        terminal.print(f"wrote {escape(str(output))}")


def _config(name: str | None, backend: Backend) -> MarsConfig | None:
    if backend != "reference":
        return mars_config(name)
    if name is not None:
        raise UserError("--config must be left out with --backend reference: it has none")
    return None


def _check_output(path: Path) -> None:
    if path.suffix != ".npy":
        raise UserError(f"{path}: output must end in .npy")
    check_folder(path)


def _load_policy(path: Path, network: "QuantizedNetwork") -> "QuantizedNetwork":
    """A network that chooses steps, checked against the one that takes them."""
    from model.mars import network_file
    from model.mars.network import RAW_BITS

    policy = network_file.load(path)
    shape, wanted = policy.types[policy.output].shape, (network.time_steps, 1, 1)
    if not network.time_steps or network.types[network.output].bits != RAW_BITS:
        raise UserError(
            f"--policy must be left out: {network.name} is no spiking network with logits"
        )
    if policy.time_steps:
        raise UserError(f"{path}: a policy must not be a spiking network")
    if policy.input_type != network.input_type:
        raise UserError(
            f"{path}: a policy must have the input of {network.name}, "
            f"{network.input_type}, not {policy.input_type}"
        )
    if shape != wanted:
        raise UserError(
            f"{path}: a policy must have a result for each of {network.time_steps} time steps, "
            f"{wanted}, not {shape}"
        )
    return policy


def _policy(policy: "QuantizedNetwork", done: "list[Inference]") -> dict[str, object]:
    """What chose the steps, and its clocks, the same for each image."""
    return {"policy": {"network": policy.name, "clocks": done[0].policy_clocks}}


def _backend(
    network: "QuantizedNetwork",
    policy: "QuantizedNetwork | None",
    inputs: "Ints",
    chip: MarsConfig | None,
    backend: Backend,
    chunk: int | None,
    terminal: Terminal,
) -> "Iterator[Inference]":
    from firmware_tools.mars import inference

    if chip is None:
        if chunk is not None:
            raise UserError("--chunk must be left out with --backend reference: it has none")
        if policy is not None:
            return inference.chosen_on_reference(network, policy, inputs)
        return inference.stopped(network, inference.on_reference(network, inputs))
    image = compiled(network, chip, terminal, chunk)
    if policy is not None:
        chooses = compiled(policy, chip, terminal)
        if backend == "model":
            return inference.chosen_on_model(image, chooses, inputs)
        build_rtl(chip, terminal)
        return inference.chosen_on_rtl(image, chooses, inputs)
    if backend == "model":
        return inference.stopped(network, inference.on_model(image, inputs))
    build_rtl(chip, terminal)
    return inference.stopped(network, inference.on_rtl(image, inputs))


def _collect(
    results: "Iterator[Inference]",
    total: int,
    save: "Callable[[list[Inference]], None] | None",
    path: Path | None,
    terminal: Terminal,
    *,
    in_process: bool,
) -> "list[Inference]":
    """All results; on Ctrl-C what is finished is on disk, and the error says how much that is."""
    done: list[Inference] = []
    # An image takes a fraction of a second, so Ctrl-C waits for it; a simulation does not.
    computing = uninterrupted if in_process else contextlib.nullcontext
    try:
        with terminal.progress("images", total) as advance:
            while len(done) < total:
                with computing():
                    done.append(replace(next(results), outputs={}))
                advance(len(done))
    except KeyboardInterrupt:
        where = f"; {path} holds them" if path and done else ""
        raise KeyboardInterrupt(f"interrupted after {len(done)} of {total} images{where}") from None
    finally:
        if save is not None and done:
            save(done)
    return done


def _save(path: Path, model: "ModelImport", done: "list[Inference]") -> None:
    import numpy as np

    results = model.from_network(np.stack([one.output for one in done]))
    with path.open("wb") as file:
        np.save(file, results.astype(np.int32) if results.dtype == np.int64 else results)


def _classes(done: "list[Inference]") -> list[int] | None:
    """The channel with the largest result of each image, if the result is a vector."""
    channels, rows, columns = done[0].output.shape
    if channels == 1 or (rows, columns) != (1, 1):
        return None
    return [int(one.output.argmax()) for one in done]


def _steps(done: "list[Inference]") -> dict[str, object]:
    """Of a spiking network: the steps of each image, and its logits step by step."""
    if not done[0].steps:
        return {}
    logits = [
        one.logits.reshape(len(one.logits), -1).tolist() for one in done if one.logits is not None
    ]
    return {"steps": [one.steps for one in done], "logits": logits}


def _table(classes: list[int], done: "list[Inference]") -> Table:
    table = Table()
    is_spiking = done[0].steps > 0
    for title in ("image", "class", "result", *is_spiking * ("steps",)):
        table.add_column(title, justify="right")
    for k, (label, one) in enumerate(zip(classes, done, strict=True)):
        steps = is_spiking * (str(one.steps),)
        table.add_row(str(k), str(label), f"{int(one.output.max()):,}", *steps)
    return table
