"""`kenyon compare` for quantised networks: reference = golden machine = RTL."""

import shlex
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.markup import escape

from firmware_tools.console import DIFFERENCE, Terminal
from firmware_tools.mars.bench import measure
from firmware_tools.mars.inference import frames_on_rtl
from firmware_tools.mars.inputs import (
    DEFAULT_MHZ,
    build_rtl,
    compiled,
    load_images,
    load_model,
    mars_config,
)
from firmware_tools.mars.pass_difference import Compared, compare_frame, moment_of
from firmware_tools.report import page
from firmware_tools.waves import check, views_of_failure, write_views
from model.mars.random_network import random_input
from tb.mars.cosim import system

if TYPE_CHECKING:
    from firmware_tools.imported import ModelImport
    from model.mars.image import Image
    from model.mars.layout import Ints


def compare(
    path: Path,
    config: str | None,
    chunk: int | None,
    images: Path | None,
    n_images: int | None,
    seed: int,
    waves: Path | None,
    report: Path | None,
    terminal: Terminal,
) -> None:
    """Compare the images of a file, or random ones, in one simulation; exit code 1 if they differ.

    Parameters
    ----------
    path : Path
        The network.
    config : str, optional
        Name of the configuration; the default one.
    chunk : int, optional
        Time steps for which the program is run at once; what is best.
    images : Path, optional
        Input file; without it images are random.
    n_images : int, optional
        Only the first ones of the file (all), or how many random ones (1).
    seed : int
        Of random images.
    waves : Path, optional
        Waves to write.
    report : Path, optional
        Page to write.
    terminal : Terminal
    """
    chip, kind = mars_config(config), check(waves)
    model = load_model(path, chip)
    network = model.network
    inputs = inputs_of(model, images, n_images, seed)
    image = compiled(network, chip, terminal, chunk)
    build_rtl(image.config, terminal, kind)
    design = system(chip)
    compared = Compared()
    begin = time.perf_counter()
    difference, n_done = None, 0
    running = f"frames on the RTL of {chip.name}: {len(inputs)}"
    with views_of_failure(waves, design), terminal.busy(running):
        traces = frames_on_rtl(image, inputs, recorded=waves)
        for features, trace in zip(inputs, traces, strict=True):
            difference = compare_frame(network, image, features, trace, compared)
            n_done += 1
            if difference:
                break
    seconds = time.perf_counter() - begin
    views = write_views(waves, design, None if difference is None else moment_of(difference))
    about = {
        "network": network.name,
        "configuration": chip.name,
        "input": str(images) if images else None,
        "seed": None if images else seed,
    }
    source = ["--input", str(images)] if images else ["--seed", str(seed)]
    source += ["--chunk", str(chunk)] if chunk else []
    again = shlex.join(
        ["kenyon", "compare", str(path), "-c", chip.name, *source, "--images", str(n_done)]
    )
    if difference is None:
        equal = {"equal": True, "images": len(inputs), **asdict(compared), "seconds": seconds}
        values = {**about, **equal}
    else:
        unequal = {"image": n_done - 1, "difference": asdict(difference), "command": again}
        values = {**about, "equal": False, **unequal}
    terminal.result(values)
    if report is not None:
        _write_report(report, values, image, inputs[n_done - 1], terminal)
    for view in views:
        terminal.print(f"waves: {escape(view)}")
    if difference is None:
        _print(terminal, network.name, chip.name, len(inputs), compared, seconds)
        return
    terminal.print(
        f"[red]{difference.expected_by} and {difference.actual_by} of {chip.name} differ[/red]: "
        f"image {n_done - 1}, {escape(str(difference))}"
    )
    terminal.print(f"again, with waves: {escape(again)} --waves difference.fst")
    raise typer.Exit(DIFFERENCE)


def _write_report(
    path: Path, values: dict[str, object], image: "Image", features: "Ints", terminal: Terminal
) -> None:
    """With the figures of the last image that was compared."""
    from firmware_tools.report import mars
    from firmware_tools.report.compare import verdict

    with terminal.busy("a frame on the golden machine"):
        figures = measure(image, features).as_json(DEFAULT_MHZ)
    sections = [verdict(values), *mars.frame(figures)]
    page.write(path, f"Model and RTL on {values['network']}", sections, terminal, image.config)


def inputs_of(model: "ModelImport", images: Path | None, n_images: int | None, seed: int) -> "Ints":
    """The images of a file, or random ones."""
    if images is None:
        return random_input(model.network, seed, n_images or 1)
    return load_images(images, model)[:n_images]


def _print(
    terminal: Terminal,
    network_name: str,
    config_name: str,
    n_images: int,
    compared: Compared,
    seconds: float,
) -> None:
    images = "1 image" if n_images == 1 else f"{n_images:,} images"
    terminal.print(
        f"[green]reference, model and RTL of {config_name} agree[/green] on "
        f"{escape(network_name)}: {images}"
    )
    terminal.print(
        f"compared: {compared.values:,} results of layers (reference, model), "
        f"{compared.drained:,} drained values and {compared.words:,} stored words (model, RTL), "
        f"and the clocks of {compared.passes:,} passes, {compared.clocks:,} in all"
    )
    terminal.print(
        f"RTL and model: {seconds:.1f} s, {compared.clocks / seconds / 1000:,.1f} k clocks/s"
    )
