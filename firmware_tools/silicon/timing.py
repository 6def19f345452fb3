"""Static timing of a netlist: how fast its clock may be, and which path decides."""

import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from firmware_tools.errors import UserError
from firmware_tools.silicon.macros import WIRE_MODEL, liberty, macros
from hw.asic import osu018
from hw.asic.synthesis import Netlist

SLOWEST, FASTEST, RESOLUTION = 50.0, 1.0, 0.02
"""ns of the clock periods that are tried."""
CLOCK_PERIOD = """
proc clock {period} {
  create_clock -name clk -period $period [get_ports clk]
  set_input_delay 0 -clock clk [all_inputs]
  set_output_delay 0 -clock clk [all_outputs]
}
"""
"""Tcl: ports are driven and taken at the edge of an ideal clock."""
STEP = re.compile(r"([\d.]+)\s+([\d.]+) [v^] (\S+)/(\S+) \((\S+)\)")
"""Delay, time, cell, pin and type of a line of a path."""


@dataclass(frozen=True)
class Step:
    """A pin on a path: ns since the clock, type of the cell, and the net that it drives."""

    time: float
    cell: str
    net: str


@dataclass(frozen=True)
class Timing:
    """The shortest period that every path keeps, and the path that decides."""

    period: float
    start: str
    end: str
    steps: list[Step]

    @property
    def clock_mhz(self) -> float:
        """The clock that belongs to the period."""
        return 1000 / self.period


def fastest(netlist: Netlist, wires: Mapping[str, float] | None = None) -> Timing:
    """Find the shortest period, between registers, memories and ports.

    The clock is ideal, ports are driven and taken at its edge, and clock gates may use the whole
    of its low phase.

    Parameters
    ----------
    netlist : Netlist
    wires : dict, optional
        pF of wires that are known, by the pin that drives them; the others are estimated.
    """
    known = "\n".join(
        f"set_load {load:.6f} [get_nets -of_objects [get_pins {{{pin}}}]]"
        for pin, load in (wires or {}).items()
    )
    text = sta(
        netlist,
        "timing" if wires is None else "timing-layout",
        f"""{CLOCK_PERIOD}
{known}
set low {FASTEST}
set high {SLOWEST}
while {{$high - $low > {RESOLUTION}}} {{
  set period [expr {{($low + $high) / 2}}]
  clock $period
  if {{[sta::worst_slack_cmd max] >= 0}} {{ set high $period }} else {{ set low $period }}
}}
puts "PERIOD $high"
# What no longer works: where a clock gate lends time, all that works has a slack of 0.
clock $low
report_checks -path_delay max -path_group clk -fields {{net}} -digits 3
""",
    )
    found = re.search(r"PERIOD ([\d.]+)", text)
    assert found is not None
    return _path(netlist, float(found[1]), text[found.end() :].splitlines())


def _path(netlist: Netlist, period: float, lines: list[str]) -> Timing:
    steps = []
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        if line.startswith("data required"):
            break
        match = STEP.search(line)
        if match:
            net = after.split()[-2] if after.endswith("(net)") else ""
            steps.append(Step(float(match[2]), match[5], net or match[3]))
    ends = [line.split()[1] for line in lines if line.startswith(("Startpoint", "Endpoint"))]
    start, end = (netlist.register(cell) for cell in ends)
    return Timing(period, start, end, steps)


def sta(netlist: Netlist, name: str, commands: str) -> str:
    """What OpenSTA prints when it has read the netlist and obeyed some commands."""
    program = shutil.which("sta")
    if program is None:
        raise UserError(
            f"OpenSTA is missing; on Debian: apt-get install {' '.join(osu018.PACKAGES)}"
        )
    (netlist.folder / "macros.lib").write_text(liberty(macros(netlist)))
    script = netlist.folder / f"{name}.tcl"
    script.write_text(
        f"""\
read_liberty {osu018.liberty()}
read_liberty macros.lib
read_verilog netlist.v
link_design {netlist.top}
set_wire_load_model -name {WIRE_MODEL} -library kenyon
{commands}
"""
    )
    done = subprocess.run(
        [program, "-no_splash", "-exit", script.name],
        check=False,
        cwd=netlist.folder,
        capture_output=True,
        text=True,
    )
    log = netlist.folder / f"{name}.log"
    log.write_text(done.stdout + done.stderr)
    # It goes on behind an error, without what it could not read.
    if done.returncode or "Error:" in done.stdout + done.stderr:
        raise UserError(f"OpenSTA failed; see {log}")
    return done.stdout
