"""`kenyon fpga`."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from firmware_tools.console import CHIP_NAMES, DIFFERENCE, Board, Json, Terminal, examples
from firmware_tools.errors import UserError
from firmware_tools.inputs import named_board, named_chip

if TYPE_CHECKING:
    from firmware_tools.fpga.build import Result
    from firmware_tools.fpga.routing import Clock

EXAMPLES = examples(
    "kenyon fpga -c tiny",
    "kenyon fpga -c poppins --clock-mhz 50 --seed 1",
    "kenyon fpga -c poppins --json > poppins.json",
    "kenyon fpga -c tiny --board ulx3s",
)
CLOCK_MHZ = 50.0


def command(
    config: Annotated[
        str, typer.Option("--config", "-c", metavar="CONFIG", help=f"One of {CHIP_NAMES}.")
    ] = "poppins",
    clock_mhz: Annotated[
        float | None,
        typer.Option(
            min=1, max=400, help="Clock to be reached, in MHz. Default: 50, or that of the board."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=(1 << 31) - 1, help="Seed of the placement.")] = 2,
    board: Board = None,
    json: Json = False,
) -> None:
    """Synthesise, place and route a chip for the ECP5 with 85k LUTs (Yosys, nextpnr).

    Shows what it uses, what every memory became, the clock from register to register after routing
    and the path that limits it. With --board it has that board's pins and clock, and a bitstream is
    written. Exit code 1 if the chip does not fit or is slower than it should be.

    Takes minutes; netlists, logs and results are kept by content in build/fpga, so the same chip
    takes seconds.
    """
    terminal = Terminal(json=json)
    chip = named_chip(config)
    carrier = named_board(board, chip)
    if carrier is not None:
        if clock_mhz is not None:
            raise UserError(f"--clock-mhz must be left out: {carrier.name} has an oscillator")
        clock_mhz = carrier.clock_hz / 1e6
    target = clock_mhz or CLOCK_MHZ
    from firmware_tools.fpga.build import route, synthesise

    with terminal.busy(f"synthesising {chip.name}, a minute or more"):
        synthesised = synthesise(chip, carrier)
    with terminal.busy(f"placing and routing {chip.name}, minutes"):
        result = route(synthesised, seed=seed, clock_mhz=target)
    reached = result.clock is not None and result.clock.mhz >= target
    terminal.result({**result.as_json(), "seed": seed, "target_mhz": target, "reached": reached})
    terminal.print(_utilisation(result))
    terminal.print(_memories(result))
    if result.clock is None:
        terminal.print(f"not placed and routed: {escape(str(result.failure))}")
    else:
        _print_clock(terminal, result.clock, target)
    if not result.in_context:
        terminal.print("more ports than pins: routed without buffers, as part of a larger design")
    if result.bitstream is not None:
        terminal.print(f"bitstream: {escape(result.bitstream.as_posix())}")
    terminal.print(f"netlist and logs: {escape(result.folder.as_posix())}")
    if not reached:
        raise typer.Exit(DIFFERENCE)


def _utilisation(result: "Result") -> Table:
    table = Table()
    table.add_column(result.config)
    for title in ("used", "available", "share"):
        table.add_column(title, justify="right")
    for name, (used, available) in result.utilisation.items():
        table.add_row(name, f"{used:,}", f"{available:,}", f"{used / available:.1%}")
    return table


def _memories(result: "Result") -> Table:
    table = Table()
    table.add_column("memory")
    table.add_column("words x bits", justify="right")
    table.add_column("made of")
    table.add_column("cells", justify="right")
    for memory in result.memories:
        cells = str(memory.cells) if memory.cells else ""
        size = f"{memory.depth:,} x {memory.width}"
        table.add_row(memory.name, size, memory.kind, cells)
    return table


def _print_clock(terminal: Terminal, clock: "Clock", target: float) -> None:
    source, end = clock.ends
    terminal.print(
        f"clock {clock.mhz:.1f} MHz after routing "
        f"({'reaches' if clock.mhz >= target else 'misses'} {target:g})"
    )
    terminal.print(
        f"critical path {escape(source)} to {escape(end)}: {clock.levels} levels of logic, "
        f"{clock.ns('clk-to-q', 'logic', 'setup'):.1f} ns in cells, "
        f"{clock.ns('routing'):.1f} ns in wires"
    )
    between = list(dict.fromkeys(step.at for step in clock.path))[1:-1]
    if between:
        terminal.print(f"  near {escape(', '.join(between))}")
