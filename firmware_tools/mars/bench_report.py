"""`kenyon bench mars`: measures a network or the whole table, and says what came out."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from firmware_tools.console import DIFFERENCE, Terminal
from firmware_tools.errors import UserError
from firmware_tools.jobs import code
from firmware_tools.jobs.campaign import results
from firmware_tools.jobs.job import JSON, Executor
from firmware_tools.jobs.store import Store
from firmware_tools.mars.bench import NOTE, FrameFigures, Order, measure, measure_order
from firmware_tools.mars.inference import frames_on_rtl
from firmware_tools.mars.inputs import (
    DEFAULT_NETWORK,
    build_rtl,
    compiled,
    is_quantised,
    load_network,
)
from firmware_tools.mars.inspect import share
from firmware_tools.mars.pass_difference import Compared, compare_frame
from firmware_tools.report import page
from hw.cache import key
from model.mars.config import WORD_BITS, MarsConfig
from model.mars.image import Image
from model.mars.layout import STEPS_PER_WORD, Ints
from model.mars.mapper import compile_network
from model.mars.network import QuantizedNetwork
from model.mars.random_network import random_input
from model.mars.zoo import ZOO
from model.mars.zoo.spiking import as_spiking

TABLE_NETWORKS = ("vgg16", "resnet18")
SPARSITIES = (0.0, 0.5, 0.75)
"""Rows of the table, for each network."""
TABLE_CODE = (
    "firmware_tools.mars.bench",
    "model.mars.mapper",
    "model.mars.random_network",
    "model.mars.zoo",
    "model.mars.zoo.spiking",
)
DEFAULT_SPARSITY, DEFAULT_BITS, DEFAULT_STEPS = 0.5, 4, 4


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What is measured; None is the default.

    Parameters
    ----------
    config : MarsConfig
    network : str, optional
        A name, or the path of a network file.
    sparsity : float, optional
    weight_bits, act_bits : int, optional
    time_steps : int
        Of a network with neurons instead of activations; 0 is one without.
    seed : int
        Of weights and input.
    clock_mhz : float
    """

    config: MarsConfig
    network: str | None
    sparsity: float | None
    weight_bits: int | None
    act_bits: int | None
    time_steps: int
    seed: int
    clock_mhz: float

    def load(self) -> QuantizedNetwork:
        """The network: made, or out of a file."""
        name = DEFAULT_NETWORK if self.network is None else self.network
        if name in ZOO:
            sparsity = DEFAULT_SPARSITY if self.sparsity is None else self.sparsity
            return self.make(name, sparsity)
        if not is_quantised(Path(name)):
            known = ", ".join(ZOO)
            raise UserError(
                f"--network must be one of {known}, or a file NET.npz, MODEL.tflite or MODEL.onnx, "
                f"not {name}"
            )
        given = {
            "--sparsity": self.sparsity,
            "--weight-bits": self.weight_bits,
            "--act-bits": self.act_bits,
            "--spiking": self.time_steps or None,
        }
        for option, value in given.items():
            if value is not None:
                raise UserError(f"{option} must be left out: {name} has its own")
        return load_network(Path(name), self.config)

    def make(self, name: str, sparsity: float) -> QuantizedNetwork:
        """A named network with seeded weights."""
        weight_bits, act_bits = self.weight_bits or DEFAULT_BITS, self.act_bits or DEFAULT_BITS
        network = ZOO[name].make(sparsity, weight_bits, act_bits, self.seed)
        return as_spiking(network, self.time_steps) if self.time_steps else network


def bench(
    choice: Choice,
    *,
    on_rtl: bool,
    exit_mean: float | None = None,
    report: Path | None = None,
    terminal: Terminal,
) -> None:
    """Measure a frame of one network; on the RTL, too, it must be equal, or the exit code is 1.

    With `exit_mean` steps in the mean also what orders with an exit take.
    """
    if exit_mean is not None and exit_mean > choice.time_steps:
        raise UserError(
            f"--exit-mean must be at most --steps {choice.time_steps}, not {exit_mean:g}"
        )
    with terminal.busy("preparing the network"):
        network = choice.load()
    image = compiled(network, choice.config, terminal)
    features = random_input(network, choice.seed)[0]
    with terminal.busy("a frame on the golden machine"):
        figures = measure(image, features)
    result = {"backend": "rtl" if on_rtl else "model", **figures.as_json(choice.clock_mhz)}
    orders = [] if exit_mean is None else _orders(network, choice, features, exit_mean, terminal)
    if orders:
        result |= {"exit_mean": exit_mean, "orders": [asdict(one) for one in orders]}
    text = ""
    if on_rtl:
        seconds = _check_on_rtl(network, image, features, terminal)
        speed = figures.clocks / seconds
        result |= {"rtl_seconds": seconds, "rtl_clocks_per_second": speed}
        text = (
            f"; RTL equal in every value and clock, {seconds:.1f} s, {speed / 1000:,.1f} k clocks/s"
        )
    terminal.result(result)
    terminal.print(
        f"[bold]{escape(network.name)}[/bold] on {choice.config.name}, weight bus "
        f"{choice.config.weight_bus} bit: {NOTE}{text}"
    )
    terminal.print(_layers(figures))
    _print_totals(figures, choice.clock_mhz, terminal)
    if exit_mean is not None:
        terminal.print(_order_table(figures, orders, exit_mean))
    if report is not None:
        from firmware_tools.report import mars

        sections = [*mars.frame(result), *mars.orders(result)]
        page.write(report, f"A frame of {network.name}", sections, terminal, choice.config)


def _orders(
    network: QuantizedNetwork,
    choice: Choice,
    features: Ints,
    exit_mean: float,
    terminal: Terminal,
) -> list[Order]:
    """Step by step, and four steps at a time if there are more."""
    chunks = [chunk for chunk in (1, STEPS_PER_WORD) if chunk < network.time_steps]
    with terminal.busy("chunks of time steps on the golden machine"):
        return [
            measure_order(compile_network(network, choice.config, chunk), features, exit_mean)
            for chunk in chunks
        ]


def _order_table(figures: FrameFigures, orders: list[Order], exit_mean: float) -> Table:
    table = Table(caption=f"{exit_mean:g} time steps in the mean, at least one chunk")
    table.add_column("order")
    for title in ("first chunk", "each later one", "clocks in the mean"):
        table.add_column(title, justify="right")
    table.add_row("all steps, no exit", "", "", f"{figures.clocks:,}")
    for one in orders:
        label = "step by step" if one.chunk == 1 else f"{one.chunk} steps at a time"
        table.add_row(label, f"{one.first:,}", f"{one.later:,}", f"{one.mean:,.0f}")
    return table


@dataclass(frozen=True)
class Row:
    """A job: a line of the table.

    Attributes
    ----------
    choice : Choice
    network : str
    sparsity : float
    """

    choice: Choice
    network: str
    sparsity: float

    @property
    def key(self) -> str:
        """The choice, and the code of mapper and golden machine."""
        content = code.digest(TABLE_CODE, alone=(__name__,), without=("hw", "tb"))
        return key("bench mars", content, repr(self.choice), self.network, repr(self.sparsity))

    def keeps(self, _result: JSON) -> bool:
        """All are measured in clocks, not in seconds."""
        return True

    def run(self) -> JSON:
        """Clocks of a frame on the golden machine, and their bounds."""
        network = self.choice.make(self.network, self.sparsity)
        image = compile_network(network, self.choice.config)
        figures = measure(image, random_input(network, self.choice.seed)[0])
        return {
            "network": self.network,
            "sparsity": self.sparsity,
            "bound": figures.total("bound"),
            "clocks": figures.program_clocks,
            "ratio": figures.program_clocks / figures.total("bound"),
            "frame_bound": figures.frame_bound,
            "frame_ratio": figures.program_clocks / figures.frame_bound,
            "bus_bound": figures.total("bus_bound"),
            "bus_ratio": figures.program_clocks / figures.total("bus_bound"),
            "frames_per_second": figures.frames_per_s(self.choice.clock_mhz),
        }


def bench_table(
    choice: Choice, executor: Executor, report: Path | None, terminal: Terminal
) -> None:
    """Measure both networks at three sparsities on the golden machine."""
    jobs = [Row(choice, name, sparsity) for name in TABLE_NETWORKS for sparsity in SPARSITIES]
    found: dict[str, dict[str, Any]] = {}
    with terminal.progress("networks", len(jobs)) as advance:
        for done in results(jobs, executor, Store()):
            found[done.job.key] = done.result
            advance(len(found))
    rows = [found[job.key] for job in jobs]
    config, clock_mhz = choice.config, choice.clock_mhz
    values = {
        "note": NOTE,
        "configuration": config.name,
        "weight_bus": config.weight_bus,
        "weight_bits": choice.weight_bits or DEFAULT_BITS,
        "act_bits": choice.act_bits or DEFAULT_BITS,
        "time_steps": choice.time_steps,
        "clock_mhz": clock_mhz,
        "rows": rows,
    }
    terminal.result(values)
    terminal.print(
        f"{config.name}, weight bus {config.weight_bus} bit, {clock_mhz:g} MHz, "
        f"{choice.weight_bits or DEFAULT_BITS}-bit weights, "
        f"{choice.act_bits or DEFAULT_BITS}-bit activations{_spiking(choice)}: {NOTE}"
    )
    terminal.print(_rows(rows, with_bus=config.weight_bus < config.n_macros * WORD_BITS))
    if report is not None:
        from firmware_tools.report import mars

        title = f"Frames on {config.name}"
        page.write(report, title, mars.table(values), terminal, config)


def _spiking(choice: Choice) -> str:
    return f" of the input, spikes of {choice.time_steps} steps" if choice.time_steps else ""


def _rows(rows: list[dict[str, Any]], *, with_bus: bool) -> Table:
    """The table; a weight bus that does not feed all macros at once has a bound of its own."""
    table = Table()
    table.add_column("network")
    titles = ["sparsity", "clocks", "layer bound", "ratio", "frame bound", "ratio", "frames/s"]
    for title in titles + with_bus * ["bus bound", "ratio"]:
        table.add_column(title, justify="right")
    for row in rows:
        cells = [
            f"{row['sparsity']:g}",
            f"{row['clocks']:,}",
            f"{row['bound']:,.0f}",
            f"{row['ratio']:.3f}",
            f"{row['frame_bound']:,.0f}",
            f"{row['frame_ratio']:.3f}",
            f"{row['frames_per_second']:,.0f}",
        ]
        bus = [f"{row['bus_bound']:,.0f}", f"{row['bus_ratio']:.3f}"]
        table.add_row(row["network"], *cells, *with_bus * bus)
    return table


def _check_on_rtl(
    network: QuantizedNetwork, image: Image, features: Ints, terminal: Terminal
) -> float:
    """Seconds of a frame on the RTL; exit code 1 if it is not the golden machine's."""
    build_rtl(image.config, terminal)
    begin = time.perf_counter()
    with terminal.busy(f"a frame on the RTL of {image.config.name}"):
        (trace,) = frames_on_rtl(image, features[np.newaxis])
    seconds = time.perf_counter() - begin
    difference = compare_frame(network, image, features, trace, Compared())
    if difference:
        terminal.result({"equal": False, "difference": asdict(difference)})
        terminal.print(f"[red]not equal[/red]: {escape(str(difference))}")
        raise typer.Exit(DIFFERENCE)
    return seconds


def _layers(figures: FrameFigures) -> Table:
    """Clocks of each pass."""
    table = Table(box=SIMPLE_HEAD, padding=0)
    table.add_column("layers", overflow="fold")
    titles = (
        "clocks",
        "bound",
        "ratio",
        "busy %",
        "weight stalls",
        "drain stalls",
        "layer stalls",
        "sets kept",
    )
    for title in titles:
        table.add_column(title, justify="right")
    n_macros = figures.config.n_macros
    for one in figures.passes:
        table.add_row(
            escape("\n".join([*bool(one.move) * [f"({one.move})"], *one.layers])) or "(input)",
            f"{one.clocks:,}",
            f"{one.bound:,.0f}",
            f"{one.clocks / one.bound:.2f}" if one.bound else "",
            f"{100 * one.accesses / (n_macros * one.clocks):.1f}",
            f"{one.weight_stalls:,}",
            f"{one.drain_stalls:,}",
            f"{one.layer_stalls:,}",
            f"{one.sets_kept}/{one.sets_total}" if one.sets_total else "",
        )
    return table


def _print_totals(figures: FrameFigures, clock_mhz: float, terminal: Terminal) -> None:
    total = figures.total
    clocks, bound = figures.program_clocks, total("bound")
    frame = figures.frame_bound
    ratio = (
        f", {clocks / bound:.3f} x bound of the layers ({bound:,.0f}), "
        f"{clocks / frame:.3f} x bound of the frame ({frame:,.0f})"
        if bound
        else ""
    )
    weight_bits, index_bits = total("weight_bits"), total("index_bits")
    busy = share(total("accesses"), figures.config.n_macros * clocks)
    terminal.print(
        f"{clocks:,} clocks{ratio}: {figures.frames_per_s(clock_mhz):,.1f} frames/s at "
        f"{clock_mhz:g} MHz; macros busy {100 * busy:.1f} %"
    )
    if figures.chunks > 1:
        terminal.print(
            f"that is the first of {figures.chunks} runs of the program; the frame takes "
            f"{figures.clocks:,} clocks"
        )
    terminal.print(
        f"stalls: weights {total('weight_stalls'):,}, drain {total('drain_stalls'):,}, "
        f"layers {total('layer_stalls'):,}"
    )
    terminal.print(
        f"stored: {weight_bits:,} weight bits, {index_bits:,} index bits "
        f"({100 * share(index_bits, weight_bits):.2f} %), {total('table_bits'):,} table bits; "
        f"written into macros: {total('loaded_bits'):,} weight bits"
    )
    terminal.print(
        f"events: {total('accesses'):,} accesses, {total('feature_reads'):,} feature reads, "
        f"{total('feature_writes'):,} feature writes, {total('requantisations'):,} "
        f"requantisations; {total('sets_total') - total('sets_kept'):,} group-sets skipped"
    )
