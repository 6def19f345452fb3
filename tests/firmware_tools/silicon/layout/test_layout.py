"""What is read and calculated around the layout tools; needs none of them."""

import contextlib
import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from firmware_tools.errors import UserError
from firmware_tools.silicon.layout import (
    design,
    lef,
    lvs,
    placement,
    report,
    routing,
    tools,
    wires,
)
from firmware_tools.silicon.layout.design import Design, Instance
from firmware_tools.silicon.layout.placement import Place
from hw.asic.synthesis import Netlist
from hw.generate import TOP

LEF = """\
LAYER metal1
  TYPE\t\tROUTING ;
  WIDTH\t\t0.5 ;
  RESISTANCE\tRPERSQ 0.08 ;
  CAPACITANCE\tCPERSQDIST 4e-05 ;
  EDGECAPACITANCE 3.000000e-05 ;
END metal1

MACRO GATE
  SIZE 1.600 BY 10.000 ;
  PIN A
    PORT
      LAYER metal1 ;
        RECT 0.200 1.900 0.600 2.700 ;
    END
  END A
  PIN Y
    PORT
      LAYER metal1 ;
        RECT 1.000 0.600 1.400 9.400 ;
        RECT 0.800 2.000 1.200 3.000 ;
    END
  END Y
END GATE

MACRO FILL
  SIZE 0.800 BY 10.000 ;
END FILL
"""
ROUTED = """\
DESIGN block ;
PINS 1 ;
- n5 + NET n5
  + PLACED ( 0 0 ) N ;
END PINS
NETS 2 ;
- n5
  ( u0 A )
  ( u1 Y )

+ ROUTED metal1 ( 5760 6700 ) M2_M1
  NEW metal2 ( 5760 6700 ) ( * 5900 ) M2_M1
  NEW metal3 ( 5520 6800 ) ( * 6700 ) ( 5760 * ) M3_M2 ;
- n6
  ( u1 A )
  ( u0 Y )

+ ROUTED metal1 ( 0 100 ) ( 80 * ) ;
END NETS
SPECIALNETS 1 ;
- n6
+ ROUTED metal1 40 ( 0 0 ) ( 400 * ) ;
END SPECIALNETS
"""


@pytest.fixture
def cells(monkeypatch: pytest.MonkeyPatch) -> dict[str, lef.Outline]:
    """The library of LEF, in place of the installed one."""
    found = lef.read(LEF)
    for module in (lef, placement, lvs):
        monkeypatch.setattr(module, "outlines", lambda: found)
    return found


def test_cells_of_a_lef_file() -> None:
    assert lef.read(LEF) == {
        "GATE": lef.Outline(160, 1000, {"A": (40, 230), "Y": (100, 250)}),
        "FILL": lef.Outline(80, 1000, {}),
    }
    with pytest.raises(ValueError, match="cell X of a LEF file must have a size"):
        lef.read("MACRO X\nEND X\n")


def test_capacitance_of_a_wire() -> None:
    # Half a square um, and two edges.
    assert lef.read_layers(LEF) == {"metal1": pytest.approx(0.5 * 4e-5 + 2 * 3e-5)}


def test_lengths_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    found = wires.lengths(ROUTED)
    assert found == {5: {"metal2": 8.0, "metal3": 1.0 + 2.4}, 6: {"metal1": 0.8}}
    per_um = {"metal1": 1.0, "metal2": 0.1, "metal3": 0.01}
    monkeypatch.setattr(wires, "wire_capacitances", lambda: per_um)
    assert wires.capacitances(found) == {5: pytest.approx(0.834), 6: pytest.approx(0.8)}
    assert len(list(wires.segments(ROUTED))) == 4


def netlist(folder: Path, cells: dict[str, dict[str, object]]) -> Netlist:
    module = {"ports": {"clk": {"bits": [2]}, "y": {"bits": [9, "0"]}}, "cells": cells}
    (folder / "netlist.json").write_text(json.dumps({"modules": {TOP: module}}))
    return Netlist(folder, TOP)


def gate(a: object, y: int) -> dict[str, object]:
    return {"type": "GATE", "connections": {"A": [a], "Y": [y]}}


@pytest.mark.usefixtures("cells")
def test_blocks(tmp_path: Path) -> None:
    chip = netlist(
        tmp_path,
        {
            "npu.population_1.somas.u1_": gate(3, 4),
            "npu.population_1.noise_generator.u1_": gate(4, 5),
            "npu.population_0.walker.u1_": gate(5, 6),
            "npu.population_0.u2_": gate("0", 7),
            "npu.population_0.noise_generator.u1_": gate(7, 8),
            "npu.scheduler.u1_": gate(8, 9),
            "npu.population_0.memory": {"type": "sram", "connections": {"x": [6, 3, "1"]}},
        },
    )
    everything = design.read(chip)
    assert [one.name for one in everything.instances] == ["u0", "u1", "u2", "u3", "u4", "u5"]
    # Memories and ports stand outside; the constant is no net.
    assert everything.border == {3, 6, 9}
    assert everything.nets.keys() == {3, 4, 5, 6, 7, 8, 9}
    found = design.blocks(chip, everything)
    assert {name: block.border for name, block in found.items()} == {
        "population_0.noise": {7, 8},
        "population_0": {5, 6, 7},
        "rest": {8, 9},
        "population_1": {3, 4},
        "population_1.noise": {4, 5},
    }
    # From one edge to the other.
    assert list(found) == [
        "population_0.noise",
        "population_0",
        "rest",
        "population_1",
        "population_1.noise",
    ]
    assert sum(len(block.instances) for block in found.values()) == 6


TWO = Design(
    [Instance("u0", "a.u1_", "GATE", {"A": 5, "Y": 6}), Instance("u1", "a.u2_", "GATE", {"A": 6})],
    {5},
)


def test_placement_is_read() -> None:
    text = "u0 -239 -200 -79 800 3 1\nu1 -79 800 81 1800 0 2\ntwpin_n5 -500 0 -420 80 7 -1\n"
    assert placement.read(TWO, text) == {
        "u0": Place("GATE", 0, 0, "S"),
        "u1": Place("GATE", 160, 1000, "N"),
    }
    with pytest.raises(ValueError, match="a placement must have 2 cells, not 1"):
        placement.read(TWO, text.splitlines()[0])


@pytest.mark.usefixtures("cells")
def test_channels_between_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    def strip_of(block: Design, _width: float) -> dict[str, Place]:
        name = block.instances[0].name
        return {f"{name}{k}": Place("GATE", 0, 1000 * k, row) for k, row in enumerate(("S", "FN"))}

    monkeypatch.setattr(placement, "_strip", strip_of)
    blocks = {name: Design([replace(TWO.instances[0], name=name)], set()) for name in "ab"}
    found = placement.place(blocks, lambda _what: None)
    heights = {name: place.y for name, place in found.items()}
    assert heights == {"a0": 0, "a1": 1000, "b0": 7000, "b1": 8000}


@pytest.mark.usefixtures("cells")
def test_rows_are_filled_to_the_longest() -> None:
    rows = [Place("GATE", 0, 0, "N"), Place("GATE", 160, 0, "N"), Place("GATE", 0, 1000, "FS")]
    assert dict(placement.fill(rows)) == {
        "fill_160_1000": Place("FILL", 160, 1000, "FS"),
        "fill_240_1000": Place("FILL", 240, 1000, "FS"),
    }


def test_form_for_graywolf(cells: dict[str, lef.Outline]) -> None:
    lines = list(placement._cel(TWO))  # noqa: SLF001
    assert lines[:2] == ["cell 0 u0", "left -80 right 80 bottom -500 top 500"]
    assert "pin name A signal n5 layer 1 -40 -270" in lines
    assert sum(line.startswith("pin name twfeed") for line in lines) == 4
    assert [line for line in lines if line.startswith("pad")] == ["pad 1 name twpin_n5"]
    assert cells


@pytest.mark.parametrize(
    ("wanted", "tracks"),
    [
        ([90.0, 380.0], [80, 400]),
        ([160.0, 160.0, 170.0], [160, 240, 320]),
        ([-900.0, -800.0], [0, 80]),
        ([900.0, 950.0, 1000.0], [240, 320, 400]),
    ],
)
def test_pins_keep_their_distance(wanted: list[float], tracks: list[int]) -> None:
    assert routing.spread(wanted, 0, 400) == tracks


def test_too_many_pins() -> None:
    assert len(routing.spread([0.0] * 6, 0, 400)) == 6
    with pytest.raises(UserError, match="an edge must have at most 6 pins, not 7"):
        routing.spread([0.0] * 7, 0, 400)


@pytest.mark.usefixtures("cells")
def test_definition() -> None:
    places = {"u0": Place("GATE", 0, 0, "N"), "u1": Place("GATE", 160, 0, "N")}
    text = routing.definition(TWO, places)
    # Half a track off the tracks.
    assert "- u1 GATE + PLACED ( 200 50 ) N ;" in text
    assert "- n5\n  ( PIN n5 )\n  ( u0 A )\n;" in text
    assert "- n6\n  ( u0 Y )\n  ( u1 A )\n;" in text
    assert "NETS 2 ;" in text
    assert "DIEAREA ( -1280 -800 ) ( 1600 1800 ) ;" in text


@pytest.mark.usefixtures("cells")
def test_netlist_for_the_comparison() -> None:
    lines = list(lvs._spice(TWO))  # noqa: SLF001
    assert ".subckt block n5 gnd vdd" in lines
    assert "Xu0 n5 n6 GATE" in lines
    assert "Xu1 n6 open_u1_Y GATE" in lines


@pytest.mark.usefixtures("cells")
def test_supply_goes_left_and_ground_right() -> None:
    places = {"u0": Place("GATE", 0, 0, "N"), "u1": Place("GATE", 0, 1000, "FS")}
    text = "\n".join(lvs._magic(places, Path("routed.def")))  # noqa: SLF001
    boxes = [
        tuple(map(float, re.findall(r"[-\d.]+", line)))
        for line in text.splitlines()
        if "um" in line
    ]
    ground, supply = boxes[:3], boxes[3:]
    # A row upright and one turned over share a rail of supply, at 10 um.
    assert [box[1] for box in ground[1:]] == [pytest.approx(0.2), pytest.approx(20.2)]
    assert [box[1] for box in supply[1:]] == [pytest.approx(10.2)]
    assert all(box[0] >= 2.0 for box in ground)
    assert all(box[2] <= 0.4 for box in supply)


def test_capacitances_are_summed(tmp_path: Path) -> None:
    (tmp_path / "wires.spice").write_text("Xu0 a b GATE\nC0 a b 0.25fF\nC1 a w# 1.50fF\n")
    assert lvs.coupled(tmp_path) == pytest.approx(0.00175)


def test_tools_fail_with_their_log(tmp_path: Path) -> None:
    said = tools.run([sys.executable, "-c", "print('done')"], tmp_path, "a.log")
    assert said == "done\n"
    with pytest.raises(UserError, match=r"failed; see .*b\.log"):
        tools.run([sys.executable, "-c", "raise SystemExit(3)"], tmp_path, "b.log")


def test_tools_are_heard(tmp_path: Path) -> None:
    """It says something, and ends when what it said has been heard."""
    heard = tmp_path / "heard"
    code = f"""\
import pathlib
print("Nets remaining: 7", flush=True)
while not pathlib.Path({str(heard)!r}).exists():
    pass
"""

    def hear(end: str) -> None:
        if end == "Nets remaining: 7\n":
            heard.touch()

    tools.run([sys.executable, "-c", code], tmp_path, "a.log", hear)
    assert heard.exists()


def test_ctrl_c_ends_a_tool(tmp_path: Path) -> None:
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(3600)"
    started = []

    def hear(end: str) -> None:
        if end:
            started.append(int(end))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tools.run([sys.executable, "-c", code], tmp_path, "a.log", hear)
    with pytest.raises(ProcessLookupError):
        os.kill(started[0], 0)


@pytest.mark.usefixtures("cells")
@pytest.mark.parametrize(
    ("last", "error"),
    [
        ("Final: No failed routes!", None),
        ("Final: Failed net routes: 3", r"qrouter left 3 nets unrouted; see .*qrouter\.log"),
        ("", r"qrouter failed; see .*qrouter\.log"),
    ],
)
def test_routing_is_heard_and_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str, error: str | None
) -> None:
    def run(_command: list[str], folder: Path, _log: str, hear: Callable[[str], None]) -> str:
        assert "- n6\n" in (folder / "placed.def").read_text()
        hear("12\nNets remaining: 9\nFinished routing net n5\nNets remaining: 8\nFinish")
        hear("*** Running")
        return f"Reading\n{last}\n"

    monkeypatch.setattr(tools, "CACHE", tmp_path)
    monkeypatch.setattr(tools, "run", run)
    places = {"u0": Place("GATE", 0, 0, "N"), "u1": Place("GATE", 160, 0, "N")}
    said: list[str] = []
    with contextlib.nullcontext() if error is None else pytest.raises(UserError, match=error):
        routing.route(TWO, places, said.append)
    assert said == ["routing, nets remaining: 8"]


def test_inputs_of_nets() -> None:
    # n5 leads out, and what is there drives it or is driven; n6 stays.
    assert report._inputs(TWO, [5]) == 1  # noqa: SLF001
    assert report._inputs(TWO, [5, 6]) == 2  # noqa: SLF001


def test_missing_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools.shutil, "which", lambda _name: None)
    with pytest.raises(UserError, match="graywolf is missing; on Debian: apt-get install qflow"):
        tools.check_installed()


def test_only_chips_of_populations(kenyon) -> None:
    result = kenyon("layout", "-c", "mars-tiny")
    assert result.exit_code == 2
    assert "must have populations alone, not be mars-tiny" in result.stderr
