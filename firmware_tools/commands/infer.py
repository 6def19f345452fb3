"""`kenyon infer`."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape
from rich.table import Table

from firmware_tools.console import Json, Report, Seed, Terminal, examples
from firmware_tools.errors import UserError
from firmware_tools.inputs import check_folder
from firmware_tools.interrupts import uninterrupted
from firmware_tools.mars.inputs import (
    DEFAULT,
    NAMES,
    Chunk,
    ClockMHz,
    DeviceName,
    Quantised,
    Trials,
    build_rtl,
    compiled,
    load_images,
    load_model,
    mars_config,
)
from firmware_tools.report import page
from model.mars.config import MarsConfig

if TYPE_CHECKING:
    from firmware_tools.imported import ModelImport
    from firmware_tools.mars.bench import FrameFigures
    from firmware_tools.mars.inference import Floats, Inference
    from model.mars.image import Image
    from model.mars.layout import Ints
    from model.mars.network import QuantizedNetwork

Backend = Literal["reference", "model", "rtl"]

EXAMPLES = examples(
    "kenyon infer net.npz --input digits.npy --output scores.npy",
    "kenyon infer net.npz --input digits.npy --backend model --clock-mhz 200",
    "kenyon infer net.npz --input digit.npy --backend rtl -c mars-tiny --json",
    "kenyon infer spiking.npz --input x.npy --policy policy.npz --backend model --chunk 1",
    "kenyon infer net.npz --input digits.npy --backend model --report digits.html",
    "kenyon infer net.npz --input digits.npy --device rram:rows=128,columns=128 --trials 20",
    "kenyon infer net.npz --input digits.npy --device bits:flips=1e-4 --backend rtl -c mars-tiny",
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
        ),
    ] = None,
    chunk: Chunk = None,
    policy: Annotated[
        Path | None,
        typer.Option(
            metavar="POLICY.npz",
            help="Network whose largest result is the number of time steps that a spiking network "
            "takes for an image; it runs before. Default: the exit decides.",
        ),
    ] = None,
    device: DeviceName = None,
    seed: Seed = 0,
    trials: Trials = 1,
    clock_mhz: ClockMHz = 100.0,
    report: Report = None,
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

    On a device results and Y.npy are those of its first chip; --trials tells how far each chip is
    from the exact network.
    """
    terminal = Terminal(json=json)
    page.check(report)
    named = None
    if device is not None or trials != 1:
        from firmware_tools.mars import devices

        named = devices.named(device, seed, trials, backend)
        if policy is not None:
            raise UserError("--policy must be left out with --device")
    chip = _config(config, backend)
    model = load_model(network_file, chip)
    network = model.network
    inputs = load_images(images, model)
    chooses = None if policy is None else _load_policy(policy, network)
    if output is not None:
        _check_output(output)
    for warning in network.warnings:
        terminal.warn(warning)
    image = _image(network, chip, chunk, terminal)
    if named is None:
        results = _backend(network, chooses, inputs, image, backend, terminal)
    else:
        results = devices.on_first_chip(named, network, image, inputs, backend, terminal)
    firing: list[dict[str, Floats]] = []
    if report is not None:
        results = _watched(network, results, firing)
    begin = time.perf_counter()
    save = None if output is None else partial(_save, output, model)
    done = _collect(results, len(inputs), save, output, terminal, in_process=backend != "rtl")
    chips = None
    if named is not None:
        first = [one.output for one in done]
        chips = devices.chips(named, network, image, inputs, backend, trials, first, terminal)
    seconds = time.perf_counter() - begin
    classes = _classes(done)
    clocks = round(sum(one.clocks or 0 for one in done) / len(done))
    frames_per_s = clock_mhz * 1e6 / clocks if clocks else None
    values: dict[str, object] = {
        "network": network.name,
        "backend": backend,
        "configuration": chip.name if chip else None,
        "images": len(done),
        "shape": list(network.types[network.output].shape),
        "classes": classes,
        "outputs": None if classes is None else [one.output.ravel().tolist() for one in done],
        **_steps(done),
        **({} if chooses is None else _policy(chooses, done)),
        **({} if chips is None else {"device": chips}),
        "clocks": clocks or None,
        "passes": [{"layers": one.layers, "clocks": one.clocks} for one in done[-1].passes],
        "clock_mhz": clock_mhz,
        "frames_per_second": frames_per_s,
        "output": str(output) if output else None,
        "notes": list(model.report),
        "wall_seconds": seconds,
    }
    terminal.result(values)
    _print(terminal, network, values, done)
    if report is not None:
        from firmware_tools.report import mars

        sections = [*mars.results(values), *mars.spikes(_means(firing))]
        if image is not None:
            sections += mars.frame(_figures(image, inputs, terminal).as_json(clock_mhz))
        page.write(report, f"Inference of {network.name}", sections, terminal, chip)


def _print(
    terminal: Terminal,
    network: "QuantizedNetwork",
    values: "Mapping[str, Any]",
    done: "list[Inference]",
) -> None:
    chip, classes = values["configuration"], values["classes"]
    where = f"backend {values['backend']}" + (f", configuration {chip}" if chip else "")
    images_done = "1 image" if len(done) == 1 else f"{len(done):,} images"
    terminal.print(f"[bold]{escape(network.name)}[/bold], {where}: {images_done}")
    if classes is not None:
        terminal.print(_table(classes, done))
    if done[0].steps:
        mean = sum(one.steps for one in done) / len(done)
        terminal.print(f"time steps: {mean:.2f} in the mean, of {network.time_steps}")
    if values["clocks"]:
        terminal.print(
            f"{values['clocks']:,} clocks per frame, {values['frames_per_second']:,.1f} frames/s "
            f"at {values['clock_mhz']:g} MHz"
        )
    if "device" in values:
        from firmware_tools.mars import devices

        devices.show(values["device"], terminal)
    for note in values["notes"]:
        terminal.print(f"note: {escape(note)}")
    terminal.print(f"time: {values['wall_seconds']:.2f} s")
    if values["output"]:
        terminal.print(f"wrote {escape(values['output'])}")


def _figures(image: "Image", inputs: "Ints", terminal: Terminal) -> "FrameFigures":
    """Those of the first image."""
    from firmware_tools.mars.bench import measure

    with terminal.busy("a frame on the golden machine"):
        return measure(image, inputs[0])


def _watched(
    network: "QuantizedNetwork", results: "Iterator[Inference]", firing: "list[dict[str, Floats]]"
) -> "Iterator[Inference]":
    """The same results; what fires is kept of each."""
    from firmware_tools.mars.inference import firing_by_step

    for one in results:
        firing.append(firing_by_step(network, one))
        yield one


def _means(firing: "list[dict[str, Floats]]") -> dict[str, list[float]]:
    """Mean of the images."""
    import numpy as np

    return {name: np.mean([one[name] for one in firing], axis=0).tolist() for name in firing[0]}


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


def _image(
    network: "QuantizedNetwork", chip: MarsConfig | None, chunk: int | None, terminal: Terminal
) -> "Image | None":
    if chip is not None:
        return compiled(network, chip, terminal, chunk)
    if chunk is not None:
        raise UserError("--chunk must be left out with --backend reference: it has none")
    return None


def _backend(
    network: "QuantizedNetwork",
    policy: "QuantizedNetwork | None",
    inputs: "Ints",
    image: "Image | None",
    backend: Backend,
    terminal: Terminal,
) -> "Iterator[Inference]":
    from firmware_tools.mars import inference

    if image is None:
        if policy is not None:
            return inference.chosen_on_reference(network, policy, inputs)
        return inference.stopped(network, inference.on_reference(network, inputs))
    if policy is not None:
        chooses = compiled(policy, image.config, terminal)
        if backend == "model":
            return inference.chosen_on_model(image, chooses, inputs)
        build_rtl(image.config, terminal)
        return inference.chosen_on_rtl(image, chooses, inputs)
    if backend == "model":
        return inference.stopped(network, inference.on_model(image, inputs))
    build_rtl(image.config, terminal)
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
