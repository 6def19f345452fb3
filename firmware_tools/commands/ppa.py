"""`kenyon ppa`."""

import re
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from firmware_tools.console import CHIP_NAMES, Json, Report, Terminal, examples
from firmware_tools.errors import UserError
from firmware_tools.inputs import named_chip
from firmware_tools.report import page

if TYPE_CHECKING:
    from firmware_tools.silicon.report import Area, Frame, Measurement, Spiking, SpikingFrame
    from firmware_tools.silicon.report import Report as Measured

EXAMPLES = examples(
    "kenyon ppa -c tiny --glitches",
    "kenyon ppa -c poppins --json > poppins.json",
    "kenyon ppa -c poppins --report poppins.html",
)
NUMBER = re.compile(r"_\d+$")
"""Of an instance."""


def command(
    config: Annotated[
        str, typer.Option("--config", "-c", metavar="CONFIG", help=f"One of {CHIP_NAMES}.")
    ] = "poppins",
    glitches: Annotated[
        bool,
        typer.Option("--glitches", help="Simulate populations with delays, too: minutes (tiny)."),
    ] = False,
    report: Report = None,
    json: Json = False,
) -> None:
    """Area, clock and energy of a chip in 180 nm (Yosys, OpenSTA, Verilator).

    The RTL becomes standard cells; timing analysis finds the fastest clock; the cells are simulated
    while a network runs, and what toggles is what takes energy. Memories are counted by a model.
    docs/silicon.md says what this leaves out. Glitches need Icarus Verilog.

    Takes minutes (tiny) to a quarter of an hour (poppins, mars-tiny); netlists and simulators are
    kept by content in build, so that the next time takes a minute.
    """
    terminal = Terminal(json=json)
    page.check(report)
    chip = named_chip(config)
    if glitches and (chip.npu is None or chip.mars is not None):
        raise UserError(f"--glitches must go with a chip of populations alone, not {config}")
    from firmware_tools.silicon.macros import LAID_OUT_PER_FANOUT, WIRE_PER_FANOUT
    from firmware_tools.silicon.report import LOWER_SUPPLY, measure
    from hw.asic.osu018 import VDD

    with terminal.stages() as begin:
        measured = measure(chip, begin, glitches=glitches)
    values = measured.as_json()
    terminal.result(values)
    terminal.print(areas(measured.config, measured.areas))
    timing = measured.timing
    terminal.print(
        f"clock {timing.clock_mhz:.0f} MHz, from {escape(timing.start)} to {escape(timing.end)} in "
        f"{timing.steps[-1].time:.2f} ns, {len(timing.steps)} pins"
    )
    named = dict.fromkeys(step.net for step in timing.steps if not step.net.endswith("_"))
    terminal.print(f"  by {escape(', '.join(named))}")
    for measurement in measured.measurements:
        terminal.print(_energies(measurement))
    if measured.quiet:
        terminal.print(_powers(measured))
    if measured.delayed is not None:
        terminal.print(_glitches(measured.measurements[0], measured.delayed))
    laid_out = (f"{one.laid_out / one.total:.3f} of {one.name}" for one in measured.measurements)
    terminal.print(
        f"with wires of {1000 * LAID_OUT_PER_FANOUT:.1f} fF an input, as laid out, instead of "
        f"{1000 * WIRE_PER_FANOUT:.0f}: {escape(', '.join(laid_out))}"
    )
    factor = (LOWER_SUPPLY / VDD) ** 2
    terminal.print(f"at {LOWER_SUPPLY} V {factor:.3f} of each energy, if all goes with V squared")
    terminal.print(
        f"static {measured.leakage:.0f} uW; typical corner, 1.8 V, before layout: see "
        "docs/silicon.md"
    )
    if report is not None:
        from firmware_tools.report.ppa import sections

        page.write(report, f"{chip.name} in 180 nm", sections(values), terminal, chip)


def areas(config: str, modules: "list[Area]") -> Table:
    """Modules below those that hold them; instances that came out alike are one row."""
    total = sum(area.logic + area.memory for area in modules)
    table = Table(caption=f"{total / 1e6:.2f} mm2")
    table.add_column(config, overflow="fold")
    for title in ("cells", "logic, um2", "gates (NAND2)", "memory, um2"):
        table.add_column(title, justify="right")
    from hw.asic.osu018 import GATE_EQUIVALENT

    shown: list[str] = []
    for _, (area, *others) in groupby(modules, key=_kind):
        label = _label(area.module, shown)
        table.add_row(
            f"{NUMBER.sub('', label)} x{1 + len(others)}" if others else label,
            f"{area.cells:,}",
            f"{area.logic:,.0f}",
            f"{area.logic / GATE_EQUIVALENT:,.0f}",
            f"{area.memory:,.0f}" if area.memory else "",
        )
    return table


def _kind(area: "Area") -> tuple[object, ...]:
    """The same for instances of a module that came out alike."""
    return NUMBER.sub("", area.module), replace(area, module="")


def _label(module: str, shown: list[str]) -> str:
    """A path below the nearest module that stands above it, indented; it is shown from now on."""
    if not module:
        return "(top)"
    parents = [path for path in shown if module.startswith(f"{path}.")]
    shown.append(module)
    return "  " * len(parents) + module.removeprefix(f"{max(parents, key=len, default='')}.")


def _energies(measurement: "Spiking | Frame | SpikingFrame") -> Table:
    table = Table(title=_title(measurement), caption=_caption(measurement))
    table.add_column("energy of")
    for title in ("logic, pJ", "memory, pJ", "of each, pJ"):
        table.add_column(title, justify="right")
    for part, count in measurement.counts.items():
        logic, memory = measurement.parts(part)
        each = f"{(logic + memory) / count:.2f}" if count else ""
        table.add_row(part, f"{logic:,.0f}", f"{memory:,.0f}", each)
    return table


def _powers(measured: "Measured") -> Table:
    """uW of every block with nothing to do, with less to do, and busy."""
    runs = [*measured.quiet, measured.measurements[0]]
    clock = measured.timing.clock_mhz
    table = Table(title=f"Power at {clock:.0f} MHz, without the static", caption="uW")
    table.add_column("block")
    for run in runs:
        table.add_column(run.name, justify="right")
    by_block = [{share.module: share.logic + share.memory for share in run.shares} for run in runs]
    shown: list[str] = []
    for block in by_block[-1]:
        values = (own[block] / run.clocks * clock for own, run in zip(by_block, runs, strict=True))
        label = _label(block, shown) if block else "(top), the clock's net"
        table.add_row(label, *(f"{value:,.0f}" for value in values))
    table.add_section()
    table.add_row("all", *(f"{run.pj_per_clock * clock:,.0f}" for run in runs))
    return table


def _glitches(without: "Measurement", with_delays: "Spiking") -> Table:
    """The same run without and with the delays of the cells."""
    from firmware_tools.silicon.report import Spiking

    assert isinstance(without, Spiking)
    table = Table(title=f"{without.name} with delays: the same spikes")
    table.add_column("")
    for title in ("without delays", "with delays", "glitches"):
        table.add_column(title, justify="right")
    for label, one, other in (
        ("transitions", without.toggles, with_delays.toggles),
        ("pJ per synaptic operation", without.pj_per_sop, with_delays.pj_per_sop),
        ("pJ per neuron update", without.pj_per_update, with_delays.pj_per_update),
    ):
        shown = (
            f"{value:,.0f}" if isinstance(value, int) else f"{value:.1f}" for value in (one, other)
        )
        table.add_row(label, *shown, f"{other / one - 1:+.1%}")
    return table


def _title(measurement: "Spiking | Frame | SpikingFrame") -> str:
    from firmware_tools.silicon.report import Frame, SpikingFrame

    if isinstance(measurement, Frame):
        done = f"{measurement.work.macs:,} multiply-accumulates of 4 x 4 bit"
    elif isinstance(measurement, SpikingFrame):
        work = measurement.work
        done = f"{work.effective:,} synaptic operations, {work.dense:,} with zeros"
    else:
        steps = measurement.work
        done = (
            f"{steps.steps} time steps, {steps.synaptic_operations:,} synaptic operations, "
            f"{steps.firing:.1%} firing"
        )
    return f"{measurement.name}: {measurement.clocks:,} clocks, {done}"


def _caption(measurement: "Spiking | Frame | SpikingFrame") -> str:
    from firmware_tools.silicon.report import Frame, SpikingFrame

    if isinstance(measurement, Frame):
        return (
            f"{measurement.pj_per_mac:.2f} pJ per multiply-accumulate, everything included: "
            f"{measurement.tops_per_watt:.2f} TOPS/W, or {measurement.layer_tops_per_watt:.2f} "
            "with the layer's zeros (2 operations each)"
        )
    if isinstance(measurement, SpikingFrame):
        return (
            f"{measurement.pj_per_sop:.1f} pJ per synaptic operation, everything included; "
            f"{measurement.pj_per_dense_sop:.2f} with zeros counted"
        )
    return (
        f"{measurement.pj_per_sop:.1f} pJ per synaptic operation, everything included; "
        f"{measurement.pj_per_existing:.1f} for those whose weight is not 0"
    )
