"""`kenyon demo`."""

from dataclasses import asdict
from pathlib import Path

import typer
from rich.markup import escape

from firmware_tools.commands.compare import print_agreement
from firmware_tools.commands.generate import BUILD, default_path
from firmware_tools.console import DIFFERENCE, Json, Terminal, examples
from model.config import ChipConfig
from model.npu.config import CONFIGS

EXAMPLES = examples("kenyon demo")
NETWORK = Path(__file__).parents[2] / "examples" / "decision.json"
PICTURE = BUILD / "decision.png"
CONFIG = CONFIGS["poppins"]


def command(json: Json = False) -> None:
    """Show everything at once: generate a chip, run a decision on model and RTL, draw it.

    Population 0 sees something loom and decides by winner-take-all on which side; population 1
    turns away from it. Files go to the folder build.
    """
    from firmware_tools.generator import generate
    from firmware_tools.npu import plot, rtl
    from firmware_tools.npu.lockstep import Agreement, lockstep
    from firmware_tools.npu.trace_file import Recording
    from model.npu import network_file
    from model.npu.trace import Trace

    terminal = Terminal(json=json)
    with terminal.busy(f"generating {CONFIG.name}"):
        files = generate(ChipConfig.alone(CONFIG), default_path(CONFIG.name))
    terminal.print(f"chip: {files[0]}, its registers: {files[-1]}")

    network = network_file.load(NETWORK)
    terminal.print(f"network: {NETWORK.name}. {escape(network.description)}")
    rtl.build(CONFIG, terminal)
    traces = rtl.simulate(network, CONFIG)
    compared: list[Trace] = []
    with terminal.busy("model and RTL, time step by time step"):
        result = lockstep(network, CONFIG, traces, on_equal=compared.append)
    if not isinstance(result, Agreement):
        terminal.result({"equal": False, "difference": asdict(result)})
        terminal.print(f"[red]model and RTL of {CONFIG.name} differ[/red]: {escape(str(result))}")
        raise typer.Exit(DIFFERENCE)
    print_agreement(terminal, network.name, CONFIG.name, result)

    plot.draw(Recording.of(network, Trace.join(compared)), PICTURE)
    terminal.print(f"picture: {PICTURE}")
    written = [str(file) for file in (*files, PICTURE)]
    terminal.result({"equal": True, **result.as_json(), "files": written})
