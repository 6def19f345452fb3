"""Cells with delays on Icarus; needs the library."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from firmware_tools.silicon import timed
from firmware_tools.silicon.delays import Arc
from hw.asic.synthesis import Netlist
from hw.generate import TOP
from tb import four_state

pytestmark = pytest.mark.silicon

BENCH = """
`timescale 1ns/1ps
module bench;
  reg clk = 0, a = 0;
  wire y, q;
  kenyon chip(.clk(clk), .rst(1'b0), .a(a), .y(y), .q(q));
  always @(y) if ($time > 5) $display("y %0d at %0t", y, $realtime);
  always @(q) if ($time > 5) $display("q %0d at %0t", q, $realtime);
  initial begin
    #10 a = 1;
    #10 clk = 1;
    #10 clk = 0; a = 0;
    #10 $finish;
  end
endmodule
"""


def cell(kind: str, **pins: tuple[str, list[int | str]]) -> dict[str, object]:
    return {
        "type": kind,
        "port_directions": {pin: direction for pin, (direction, _) in pins.items()},
        "connections": {pin: bits for pin, (_, bits) in pins.items()},
    }


def test_a_glitch_by_hand(tmp_path: Path) -> None:
    """y = a XOR (NOT a) is always 1, but for as long as the inverter takes."""
    module = {
        "ports": {
            "clk": {"direction": "input", "bits": [2]},
            "rst": {"direction": "input", "bits": [7]},
            "a": {"direction": "input", "bits": [3]},
            "y": {"direction": "output", "bits": [5]},
            "q": {"direction": "output", "bits": [6]},
        },
        "netnames": {},
        "cells": {
            "b.u1_": cell("INVX1", A=("input", [3]), Y=("output", [4])),
            "b.u2_": cell("XOR2X1", A=("input", [3]), B=("input", [4]), Y=("output", [5])),
            "b.u3_": cell("DFFPOSX1", CLK=("input", [2]), D=("input", [3]), Q=("output", [6])),
            "lane": cell("$scopeinfo"),
        },
    }
    (tmp_path / "netlist.json").write_text(json.dumps({"modules": {TOP: module}}))
    (tmp_path / "memories.json").write_text('{"modules": {}}')
    (tmp_path / "memories.v").write_text("")
    delays = {
        "b.u1_": [Arc("A", "Y", 0.5, 0.7)],
        "b.u2_": [Arc("A", "Y", 0.1, 0.2), Arc("B", "Y", 0.1, 0.2)],
        "b.u3_": [Arc("CLK", "Q", 0.3, 0.4)],
    }
    sources = four_state.adapted(timed.design(Netlist(tmp_path, TOP), delays).sources())
    for name, text in {**sources, "bench.v": BENCH}.items():
        (tmp_path / name).write_text(text)
    assert shutil.which("iverilog")
    built = ["iverilog", "-g2012", "-gspecify", "-o", "bench", "-s", "bench", *sources, "bench.v"]
    subprocess.run(built, cwd=tmp_path, check=True)
    done = subprocess.run(
        ["vvp", "bench"], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    # Both inputs are 1 while the inverter falls, both 0 while it rises.
    assert [line for line in done.stdout.splitlines() if line[1] == " "] == [
        "y 0 at 10200",
        "y 1 at 10800",
        "q 1 at 20300",
        "y 0 at 30200",
        "y 1 at 30600",
    ]


def test_gates_of_the_clock_take_no_time() -> None:
    assert timed._is_clock("b.u1_.gate")  # noqa: SLF001
    assert timed._is_clock("b.u1_.inverter")  # noqa: SLF001
    assert not timed._is_clock("b.u1_.latch")  # noqa: SLF001
    assert not timed._is_clock("b.u1_")  # noqa: SLF001
