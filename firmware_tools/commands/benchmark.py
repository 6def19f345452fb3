"""`kenyon benchmark`."""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from firmware_tools.console import Json, Terminal, examples
from firmware_tools.errors import UserError
from firmware_tools.inputs import fitting_config, load_network
from firmware_tools.mars.inputs import (
    AnyConfig,
    ClockMHz,
    compiled,
    is_quantised,
    load_images,
    load_model,
    mars_config,
    refuse_others,
)

if TYPE_CHECKING:
    from firmware_tools.neurobench.counts import Counts
    from firmware_tools.neurobench.energy import Energy
    from firmware_tools.neurobench.figures import Chip, Figures
    from model.mars.layout import Ints
    from model.mars.network import QuantizedNetwork

EXAMPLES = examples(
    "kenyon benchmark net.npz --input digits.npy --labels classes.npy",
    "kenyon benchmark model.tflite --input images.npy -c mars-wide --json",
    "kenyon benchmark examples/decision.json",
)


def command(
    network_file: Annotated[
        Path,
        typer.Argument(
            metavar="NET",
            help="NETWORK.json, for the NPU, or, quantised, NET.npz, MODEL.tflite or MODEL.onnx.",
        ),
    ],
    images: Annotated[
        Path | None,
        typer.Option(
            "--input",
            metavar="X.npy",
            help="Images for a quantised network, as kenyon infer takes them.",
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="Y.npy", help="Their classes, integers (N,): for accuracy."),
    ] = None,
    config: AnyConfig = None,
    clock_mhz: ClockMHz = 100.0,
    ppa: Annotated[
        Path | None,
        typer.Option(
            metavar="PPA.json",
            help="What kenyon ppa --json wrote of the configuration: for energy.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """NeuroBench's figures of a network, from what the golden model computes.

    Footprint, connection and activation sparsity, synaptic operations, membrane updates, neuron
    operations, accuracy; execution rate and latency from the clocks of the golden machine. Counts
    are means over the images, or of the session of a network for the NPU. docs/benchmark.md defines
    them.

    Without -c a quantised network that does not fit the default configuration, or one for the NPU
    that fits none, has no clocks.
    """
    terminal = Terminal(json=json)
    if is_quantised(network_file):
        if images is None:
            raise UserError("--input must be given for a quantised network")
        figures = _quantised(network_file, images, labels, config, terminal)
    else:
        refuse_others("NPU networks", {"--input": images, "--labels": labels})
        figures = _populations(network_file, config, terminal)
    used = None if ppa is None else _energy(ppa, figures)
    terminal.result(
        {**figures.as_json(clock_mhz), "energy": None if used is None else asdict(used)}
    )
    terminal.print(f"[bold]{escape(figures.network)}[/bold]: {_samples(figures)}")
    terminal.print(_totals(figures, clock_mhz, used))
    terminal.print(_layers(figures))
    for note in figures.notes:
        terminal.print(f"note: {escape(note)}")


def _energy(path: Path, figures: "Figures") -> "Energy":
    from firmware_tools.neurobench import energy

    return energy.of(path, figures.chip)


def _quantised(
    path: Path, images: Path, labels: Path | None, config: str | None, terminal: Terminal
) -> "Figures":
    from firmware_tools.neurobench import mars

    chip = mars_config(config)
    model = load_model(path, chip)
    inputs = load_images(images, model)
    classes = None if labels is None else _load_labels(labels, model.network, len(inputs))
    with terminal.busy(f"running {len(inputs):,} images"):
        figures = mars.measure(model.network, inputs, classes)
    notes = model.report
    done: Chip | None = None
    from model.mars.mapper import FitError

    try:
        image = compiled(model.network, chip, terminal)
    except FitError as error:
        if config is not None:
            raise
        notes += (f"no clocks: {error}",)
    else:
        with terminal.busy("a frame on the golden machine"):
            done = mars.on_chip(image, inputs[0])
        if model.network.exit is not None:
            notes += ("clocks are those of the first image, which may stop early",)
    return replace(figures, chip=done, notes=notes)


def _load_labels(path: Path, network: "QuantizedNetwork", n_images: int) -> "Ints":
    """Classes of the images, (n_images,)."""
    import numpy as np

    from model.mars import network_file

    n_classes, *size = network.types[network.output].shape
    if size != [1, 1]:
        raise UserError(f"--labels must be left out: {network.output!r} is a map, not classes")
    if path.suffix != ".npy":
        raise UserError(f"{path}: labels must end in .npy")
    labels = network_file.load_array(path)
    if labels.dtype.kind not in "iu" or labels.shape != (n_images,):
        raise UserError(
            f"{path}: labels must be integers ({n_images},), one for each image, "
            f"not {labels.dtype} {labels.shape}"
        )
    bad = np.flatnonzero((labels < 0) | (labels >= n_classes))
    if len(bad):
        raise UserError(f"{path}: label {bad[0]} must be 0..{n_classes - 1}, not {labels[bad[0]]}")
    return np.asarray(labels, np.int64)


def _populations(path: Path, config: str | None, terminal: Terminal) -> "Figures":
    from firmware_tools.neurobench import poppins
    from firmware_tools.npu import backends
    from model.npu.image import FitError

    network = load_network(path, None, None, terminal)
    notes: tuple[str, ...] = ()
    try:
        chip = fitting_config(config, network)
    except FitError as error:
        if config is not None:
            raise
        chip, notes = None, (f"no clocks: {error}",)
    with terminal.busy(f"running {network.n_steps:,} time steps"):
        figures = poppins.measure(network, backends.simulate(network, "fast", chip), chip)
    return replace(figures, notes=notes)


def _samples(figures: "Figures") -> str:
    if figures.samples == 1:
        return "1 sample"
    return f"means of {figures.samples:,} samples"


def _totals(figures: "Figures", clock_mhz: float, used: "Energy | None") -> Table:
    total, mean = figures.total, figures.per_sample
    rows = {
        "footprint, bytes": f"{figures.footprint.total:,}",
        "footprint packed, bytes": f"{figures.footprint.packed:,}",
        "connection sparsity": _share(total.connection_sparsity),
        "activation sparsity": _share(total.activation_sparsity),
        "effective MACs": f"{mean(total.macs):,.1f}",
        "effective ACs": f"{mean(total.acs):,.1f}",
        "dense synaptic operations": f"{mean(total.dense):,.1f}",
    }
    if total.neuron_steps:
        rows["membrane updates"] = f"{mean(total.membrane_updates):,.1f}"
        rows["neuron operations"] = f"{mean(total.neuron_ops):,.1f}"
        rows["dense neuron operations"] = f"{mean(total.dense_neuron_ops):,.1f}"
    if figures.mean_steps is not None:
        rows["time steps"] = f"{figures.mean_steps:,.2f}"
    if figures.accuracy is not None:
        rows["accuracy"] = f"{figures.accuracy:.2%}"
    if chip := figures.chip:
        rows["configuration"] = chip.configuration
        rows["latency, clocks"] = f"{chip.latency:,}"
        rows[f"latency at {clock_mhz:g} MHz, us"] = f"{chip.latency / clock_mhz:,.2f}"
        rows["execution rate, 1/s"] = f"{chip.rate(clock_mhz):,.1f}"
    if used is not None:
        rows[f"energy, nJ ({used.pj_each:.1f} pJ x {used.operation})"] = f"{used.nj:,.1f}"
    table = Table(show_header=False)
    table.add_column("figure")
    table.add_column("value", justify="right")
    for row in rows.items():
        table.add_row(*row)
    return table


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _layers(figures: "Figures") -> Table:
    """Layers that count anything, with the columns that any of them counts."""
    mean = figures.per_sample
    columns: dict[str, Callable[[Counts], str]] = {
        "connection sparsity": lambda one: _share(one.connection_sparsity),
        "activation sparsity": lambda one: _share(one.activation_sparsity),
        "MACs": lambda one: f"{mean(one.macs):,.0f}",
        "ACs": lambda one: f"{mean(one.acs):,.0f}",
        "dense": lambda one: f"{mean(one.dense):,.0f}",
    }
    if figures.total.neuron_steps:
        columns["membrane updates"] = lambda one: f"{mean(one.membrane_updates):,.0f}"
    table = Table()
    table.add_column("layer", no_wrap=True)
    for title in columns:
        table.add_column(title, justify="right")
    for name, one in figures.layers.items():
        if any(asdict(one).values()):
            table.add_row(escape(name), *(text(one) for text in columns.values()))
    return table
