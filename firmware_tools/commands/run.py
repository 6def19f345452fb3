"""`kenyon run`."""

import contextlib
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape
from rich.table import Table

from firmware_tools.console import (
    Config,
    Iqif,
    IqifColumns,
    Json,
    Network,
    Report,
    Terminal,
    examples,
)
from firmware_tools.errors import UserError
from firmware_tools.inputs import check_folder, fitting_config, load_network, named_config
from firmware_tools.interrupts import uninterrupted
from firmware_tools.report import page
from model.npu.config import NPUConfig

if TYPE_CHECKING:
    from firmware_tools.board import Chip
    from firmware_tools.npu.run_report import RunReport
    from firmware_tools.report.run import Gathered
    from model.npu import network as npu
    from model.npu.trace import Trace

Backend = Literal["fast", "model", "rtl", "board"]

EXAMPLES = examples(
    "kenyon run examples/decision.json",
    "kenyon run examples/decision.json -c poppins --backend rtl --trace decision.npz",
    "kenyon run examples/decision.json --report decision.html",
    "kenyon run examples/decision.json --device bits:flips=1e-3 --seed 4",
    "kenyon run examples/decision.json --backend board --port /dev/ttyUSB0",
    "kenyon run --iqif neurons.txt connections.txt session.txt --iqif-columns slopes",
)


def command(
    network_file: Network = None,
    iqif: Iqif = None,
    iqif_columns: IqifColumns = None,
    config: Config = None,
    backend: Annotated[
        Backend,
        typer.Option(
            help="Compiled engine, specification engine, simulated hardware, or a chip on a board."
        ),
    ] = "fast",
    port: Annotated[
        str | None,
        typer.Option(
            metavar="PORT", help="Of --backend board: its serial port, /dev/ttyUSB0 for example."
        ),
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write every time step to FILE.csv or FILE.npz."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="bits:KEY=P,...",
            help="Wrong bits of weights, or of neurons' parameters: flips, stuck0, stuck1, memory "
            "(docs/devices.md).",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=(1 << 32) - 1, help="Of --device: another chip. Default: 0."),
    ] = None,
    report: Report = None,
    json: Json = False,
) -> None:
    """Run a network through its session; report spikes, synaptic operations and clocks.

    Without -c the smallest configuration that fits is taken. A network that fits none still runs
    on the software backends, but has no clocks.

    On a board (kenyon fpga --board) every spike, and the state at the end, is compared with the
    model's; exit code 1 if one differs. Without -c its configuration is whatever the board holds.
    """
    terminal = Terminal(json=json)
    page.check(report)
    network = load_network(network_file, iqif, iqif_columns, terminal)
    if (backend == "board") != (port is not None):
        raise UserError("--port must be given with --backend board, and only then")
    board = _open(port, config) if port is not None else None
    chip = board.config if board else _config(config, backend, network)
    if device is not None:
        network = _with_faults(network, chip, device, seed or 0)
    elif seed is not None:
        raise UserError("--seed must be left out: it is for --device")
    if trace is not None:
        _check_trace_path(trace)
    traces = _traces(network, backend, chip, board, terminal)
    gathered = _gathered(network, chip) if report else None
    begin = time.perf_counter()
    figures = _run(traces, network, chip, backend, trace, gathered, terminal)
    seconds = time.perf_counter() - begin
    chip_name = chip.name if chip else None
    values = {
        "network": network.name,
        "backend": backend,
        "configuration": chip_name,
        **figures.values(),
        "wall_seconds": seconds,
    }
    terminal.result(values)
    where = f"{chip_name or 'no configuration (it fits none)'}, backend {backend}"
    _print(terminal, network, figures, where, seconds)
    if board is not None:
        terminal.print("all spikes, and the state at the end, equal the model's")
    if trace is not None:
        terminal.print(f"wrote {escape(str(trace))}")
    if report is not None and gathered is not None:
        from firmware_tools.report.run import summary

        sections = [summary(values, network), *gathered.sections(backend)]
        page.write(report, f"Run of {network.name}", sections, terminal, chip)


def _with_faults(
    network: "npu.Network", chip: NPUConfig | None, device: str, seed: int
) -> "npu.Network":
    from model.mars.devices import faults
    from model.npu.faults import with_faults

    if device.partition(":")[0] != faults.NAME:
        raise UserError(f"--device must be bits here, not {device}: populations are digital")
    if chip is None:
        raise UserError("--device must be left out: the network fits no configuration's memories")
    return with_faults(network, chip, faults.parse(device), seed=seed)


def _open(port: str, name: str | None) -> "Chip":
    from firmware_tools.board import Chip

    return Chip(port, None if name is None else named_config(name))


def _config(name: str | None, backend: Backend, network: "npu.Network") -> NPUConfig | None:
    from model.npu.image import FitError

    try:
        return fitting_config(name, network)
    except FitError:
        if name is not None or backend == "rtl":
            raise
        return None


def _gathered(network: "npu.Network", chip: NPUConfig | None) -> "Gathered":
    from firmware_tools.report.run import Gathered

    return Gathered(network, chip)


def _check_trace_path(path: Path) -> None:
    from firmware_tools.npu import trace_file

    trace_file.check_name(path)
    check_folder(path)


def _traces(
    network: "npu.Network",
    backend: Backend,
    chip: NPUConfig | None,
    board: "Chip | None",
    terminal: Terminal,
) -> "Generator[Trace, None, None]":
    """The network ready to run; whatever has to be compiled is compiled when this returns."""
    if board is not None:
        from firmware_tools.board import backend as on_board

        return on_board.simulate(network, board)
    assert backend != "board"
    if backend == "rtl":
        from firmware_tools.npu import rtl

        assert chip is not None
        rtl.build(chip, terminal)
        return rtl.simulate(network, chip)
    from firmware_tools.npu import backends

    with terminal.busy("preparing the engine"):
        return backends.simulate(network, backend, chip)


def _run(
    traces: "Generator[Trace, None, None]",
    network: "npu.Network",
    chip: NPUConfig | None,
    backend: Backend,
    path: Path | None,
    gathered: "Gathered | None",
    terminal: Terminal,
) -> "RunReport":
    """Run to the end; on Ctrl-C everything so far is on disk, and the error says how much."""
    from firmware_tools.npu.run_report import RunReport
    from firmware_tools.npu.trace_file import writing

    report = RunReport(network)
    takers: list[Callable[[Trace], None]] = [report.add]
    if gathered is not None:
        takers.append(gathered.add)
    # An engine's chunk takes a fraction of a second, so Ctrl-C waits until it is written as well.
    computing = contextlib.nullcontext if backend in {"rtl", "board"} else uninterrupted
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.closing(traces))
            if path is not None:
                takers.append(stack.enter_context(writing(path, network, chip)))
            advance = stack.enter_context(terminal.progress("time steps", network.n_steps))
            more = True
            while more:
                with computing():
                    more = _advance(traces, takers)
                advance(report.steps)
    except KeyboardInterrupt:
        where = f"; {path} holds them" if path else ""
        raise KeyboardInterrupt(
            f"interrupted after {report.steps} of {network.n_steps} time steps{where}"
        ) from None
    return report


def _advance(
    traces: "Generator[Trace, None, None]", takers: "list[Callable[[Trace], None]]"
) -> bool:
    """Hand one chunk of the run to all who take it; false at its end."""
    trace = next(traces, None)
    if trace is None:
        return False
    with uninterrupted():
        for take in takers:
            take(trace)
    return True


def _print(
    terminal: Terminal, network: "npu.Network", report: "RunReport", where: str, seconds: float
) -> None:
    terminal.print(f"[bold]{escape(network.name)}[/bold] on {where}: {report.steps:,} time steps")
    populations = Table()
    for title in ("population", "neurons", "spikes", "spikes per 1000 neuron steps", "saturated"):
        populations.add_column(title, justify="right")
    for p, n in enumerate(network.populations):
        spikes = int(report.spikes[network.neuron_slice(p)].sum())
        rate = f"{1000 * spikes / (n * report.steps):.1f}"
        saturated = "yes" if report.saturated[p] else "no"
        populations.add_row(str(p), f"{n:,}", f"{spikes:,}", rate, saturated)
    terminal.print(populations)
    terminal.print(
        f"synaptic operations: {report.synaptic_operations:,}, "
        f"{report.effective_synaptic_operations:,} of them on connections that exist"
    )
    if clocks := report.clocks:
        terminal.print(f"clocks: {clocks.total:,} ({clocks.min}..{clocks.max} per time step)")
    terminal.print(f"time: {seconds:.2f} s")
