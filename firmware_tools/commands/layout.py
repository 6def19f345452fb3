"""`kenyon layout`."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from firmware_tools.console import CHIP_NAMES, Json, Terminal, examples
from firmware_tools.inputs import named_chip

if TYPE_CHECKING:
    from firmware_tools.silicon.layout.report import Layout

EXAMPLES = examples(
    "kenyon layout -c tiny --block population_0.noise",
    "kenyon layout -c tiny --json",
)


def command(
    config: Annotated[
        str, typer.Option("--config", "-c", metavar="CONFIG", help=f"One of {CHIP_NAMES}.")
    ] = "tiny",
    block: Annotated[
        str, typer.Option("--block", metavar="BLOCK", help="A block alone. Default: the chip.")
    ] = "",
    json: Json = False,
) -> None:
    """Place and route a chip in 180 nm, or a block of it (graywolf, qrouter, Magic, netgen).

    Layout and netlist are compared; lengths and capacitances of the wires stand beside what kenyon
    ppa estimates, and what they do to energy and clock. docs/silicon.md says what is left out.

    Takes minutes for a block of 2,000 cells, hours for a chip; each part is kept by content in
    build, so that Ctrl-C loses only what has just been made.
    """
    terminal = Terminal(json=json)
    chip = named_chip(config)
    from firmware_tools.silicon.layout.report import measure

    with terminal.stages() as begin:
        measured = measure(chip, block, begin)
    terminal.result(measured.as_json())
    terminal.print(_table(measured))
    terminal.print(f"layout and netlist are the same; picture: {escape(str(measured.picture))}")


def _table(measured: "Layout") -> Table:
    name = f"{measured.config} {measured.block}".strip()
    table = Table(
        title=f"{name}: {measured.cells:,} cells, {measured.width:.0f} x {measured.height:.0f} um",
        caption=f"{measured.routed:,} nets routed; of {measured.nets:,} that end here "
        f"{measured.wire / 1000:.1f} mm of wire, "
        f"{measured.wire / measured.inputs:.1f} um for each of {measured.inputs:,} inputs; "
        f"{measured.coupled:.1f} fF each as Magic extracts them",
    )
    table.add_column("")
    for title in ("estimate", "layout"):
        table.add_column(title, justify="right")
    for label, both in (
        ("wire for each input, fF", measured.per_input),
        ("energy of these cells for a synaptic operation, pJ", measured.energy),
        ("energy of the chip for a synaptic operation, pJ", measured.chip_energy),
        ("clock of the chip, MHz", measured.clock),
    ):
        table.add_row(label, f"{both.estimated:.2f}", f"{both.laid_out:.2f}")
    return table
