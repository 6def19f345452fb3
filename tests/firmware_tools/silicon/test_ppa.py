"""What needs the 180 nm library: run by `make test-silicon`."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from amaranth.hdl import Module
from amaranth.lib.wiring import Component, In, Out

from firmware_tools.errors import UserError
from firmware_tools.silicon import power, timing
from firmware_tools.silicon.activity import Activity
from firmware_tools.silicon.cells import library
from firmware_tools.silicon.report import (
    MULTIPLY,
    POST,
    REST,
    SYNAPTIC,
    UPDATE,
    Frame,
    Measurement,
    Share,
    part_of,
)
from firmware_tools.silicon.workload import ConvolutionWork
from hw.asic import osu018, synthesis
from hw.asic.synthesis import Netlist
from hw.generate import TOP

pytestmark = pytest.mark.silicon


def test_library() -> None:
    cells = library()
    assert len(cells) == 32
    nand = cells["NAND2X1"]
    assert nand.area == osu018.GATE_EQUIVALENT
    assert set(nand.capacitance) == {"A", "B"}
    assert set(nand.outputs) == {"Y"}
    # The clock pin of a register takes energy though its output rests.
    assert cells["DFFPOSX1"].inputs["CLK"] > 0.05


class _Constants(Component):
    """A table of constants, which a synthesiser may take for a memory."""

    which: In(4)
    value: Out(33)

    def elaborate(self, platform):  # noqa: ARG002
        m = Module()
        with m.Switch(self.which):
            for k in range(16):
                with m.Case(k):
                    m.d.sync += self.value.eq((k + 1) * 0x123456789 % (1 << 33))
        return m


class _Adders(Component):
    """A sum of 8 bit, which number is less, and a sum of 20 bit."""

    a: In(20)
    b: In(20)
    total: Out(9)
    less: Out(1)
    long: Out(21)

    def elaborate(self, platform):  # noqa: ARG002
        m = Module()
        m.d.sync += [
            self.total.eq(self.a[:8] + self.b[:8]),
            self.less.eq(self.a[8:16] < self.b[8:16]),
            self.long.eq(self.a + self.b),
        ]
        return m


def test_full_adders_are_cells() -> None:
    """Those of short sums; a comparison needs no sums, and a long adder looks ahead."""
    netlist = synthesis.plan(_Adders(), "adders").done()
    kinds = Counter(cell["type"] for cell in netlist.cells["cells"].values())
    assert kinds["FAX1"] == 7  # the lowest bits have no carry


def test_constants_are_gates() -> None:
    """They have an area, and timing analysis reads them."""
    netlist = synthesis.plan(_Constants(), "constants").done()
    kinds = {cell["type"] for cell in netlist.cells["cells"].values()}
    assert kinds <= library().keys()
    assert timing.fastest(netlist).clock_mhz > 100


def test_what_timing_cannot_read(tmp_path: Path) -> None:
    """Where OpenSTA reports an error nothing is said of the clock."""
    good = synthesis.plan(_Constants(), "constants").done()
    folder = shutil.copytree(good.folder, tmp_path / "netlist")
    file = folder / "netlist.v"
    file.write_text(file.read_text().replace("endmodule", "reg [1:0] a [3:0];\nendmodule"))
    with pytest.raises(UserError, match=r"OpenSTA failed; see .*timing\.log"):
        timing.fastest(Netlist(folder, good.top))


def test_energy_by_hand(tmp_path: Path) -> None:
    """A memory that drives an inverter, that drives a register, that drives the memory's pin."""
    cell = {"port_directions": {"A": "input", "Y": "output"}, "connections": {"A": [3], "Y": [4]}}
    register = {
        "port_directions": {"CLK": "input", "D": "input", "Q": "output"},
        "connections": {"CLK": [2], "D": [4], "Q": [5]},
    }
    memory = {
        "port_directions": {"x": "input", "y": "output"},
        "connections": {"x": [5], "y": [3]},
    }
    module = {
        "ports": {"clk": {"bits": [2]}},
        "netnames": {
            name: {"bits": [bit], "hide_name": 0}
            for name, bit in (("clk", 2), ("a", 3), ("b.y", 4), ("b.q", 5))
        },
        "cells": {
            "b.u1_": {"type": "INVX1", **cell},
            "b.u2_": {"type": "DFFPOSX1", **register},
            "b.m": {"type": "sram", **memory},
        },
    }
    (tmp_path / "netlist.json").write_text(json.dumps({"modules": {TOP: module}}))
    netlist = Netlist(tmp_path, TOP)
    toggles = {"clk": 200, "a": 30, "b.u1_.Y": 30, "b.q": 10}
    found = power.energy(netlist, Activity(100, toggles))

    cells, wire, square = library(), 0.012, 1.8**2
    inverter, flop = cells["INVX1"], cells["DFFPOSX1"]
    load = flop.capacitance["D"] + wire
    assert found["b.u1_"] == pytest.approx(
        0.3 * (inverter.inputs["A"] + inverter.outputs["Y"].at(load) + load * square / 2)
    )
    load = 0.03 + wire
    assert found["b.u2_"] == pytest.approx(
        2 * flop.inputs["CLK"]
        + 0.3 * flop.inputs["D"]
        + 0.1 * (flop.outputs["Q"].at(load) + load * square / 2)
    )
    assert found["b.m"] == pytest.approx(0.3 * (inverter.capacitance["A"] + wire) * square / 2)
    assert found[power.CLOCK_NET] == pytest.approx((flop.capacitance["CLK"] + wire) * square)
    # A wire that is known takes the place of the estimate, however many inputs it has.
    known = power.energy(netlist, Activity(100, toggles), {4: 0.05})
    load = flop.capacitance["D"] + 0.05
    assert known["b.u1_"] == pytest.approx(
        0.3 * (inverter.inputs["A"] + inverter.outputs["Y"].at(load) + load * square / 2)
    )
    assert {**known, "b.u1_": 0} == {**found, "b.u1_": 0}
    # Another estimate is of every input.
    longer = power.energy(netlist, Activity(100, toggles), per_fanout=wire + 0.01)
    assert longer[power.CLOCK_NET] - found[power.CLOCK_NET] == pytest.approx(0.01 * square)
    assert longer["b.m"] - found["b.m"] == pytest.approx(0.3 * 0.01 * square / 2)
    assert power.leakage(netlist) == pytest.approx((inverter.leakage + flop.leakage) / 1000)
    assert netlist.register("b.u2_") == "b.q"


def test_clock_gate_pulses_while_its_latch_is_1(tmp_path: Path) -> None:
    """Its output needs no name in the simulation; a buffer behind it toggles as often."""
    gate = {
        "port_directions": {"A": "input", "B": "input", "Y": "output"},
        "connections": {"A": [2], "B": [3], "Y": [4]},
    }
    buffer = {"port_directions": {"A": "input", "Y": "output"}, "connections": {"A": [4], "Y": [5]}}
    module = {
        "ports": {"clk": {"bits": [2]}},
        "netnames": {"clk": {"bits": [2]}, "b.enable": {"bits": [3]}},
        "cells": {
            "b.u1_.gate": {"type": "AND2X2", **gate},
            "b.u2_": {"type": "BUFX2", **buffer},
        },
    }
    (tmp_path / "netlist.json").write_text(json.dumps({"modules": {TOP: module}}))
    netlist = Netlist(tmp_path, TOP)
    assert power.clock_gates(netlist) == {"b.u1_.gate": "b.u1_.gate.B"}
    run = Activity(100, {"clk": 200, "b.enable": 6}, {"b.u1_.gate.B": 25})
    found = power.energy(netlist, run)

    buffer_cell = library()["BUFX2"]
    pulse = 2 * 25 / 100
    assert found["b.u2_"] == pytest.approx(
        pulse * (buffer_cell.inputs["A"] + buffer_cell.outputs["Y"].at(0))
    )


def test_unknown_net_is_refused(tmp_path: Path) -> None:
    cell = {"port_directions": {"Y": "output"}, "connections": {"A": [3], "Y": [4]}}
    cell["port_directions"]["A"] = "input"
    module = {
        "ports": {"clk": {"bits": [2]}},
        "netnames": {},
        "cells": {"u1_": {"type": "INVX1", **cell}},
    }
    (tmp_path / "netlist.json").write_text(json.dumps({"modules": {TOP: module}}))
    with pytest.raises(KeyError):
        power.energy(Netlist(tmp_path, TOP), Activity(100, {}))


def test_toggles_without_the_clock(tmp_path: Path) -> None:
    gate = {
        "port_directions": {"A": "input", "B": "input", "Y": "output"},
        "connections": {"A": [2], "B": [3], "Y": [4]},
    }
    module = {
        "ports": {"clk": {"bits": [2]}},
        "netnames": {"clk": {"bits": [2]}, "enable": {"bits": [3]}, "data": {"bits": [5]}},
        "cells": {"b.u1_.gate": {"type": "AND2X2", **gate}},
    }
    (tmp_path / "netlist.json").write_text(json.dumps({"modules": {TOP: module}}))
    run = Activity(100, {"clk": 200, "enable": 6, "data": 31}, {"b.u1_.gate.B": 25})
    assert power.toggles(Netlist(tmp_path, TOP), run) == 37


def test_lower_supply() -> None:
    # The square of two thirds is 4 ninths.
    assert Measurement("x", 1, 1, [Share("a", 6, 3)], 7).total_at_lower_supply == pytest.approx(4)


def test_tiny(kenyon) -> None:
    result = kenyon("ppa", "-c", "tiny", "--glitches", "--json")
    assert result.exit_code == 0, result.stderr
    values = json.loads(result.stdout)
    assert values["clock_mhz"] > 100
    assert values["area_um2"] == pytest.approx(
        sum(area["logic"] + area["memory"] for area in values["areas"])
    )
    (dense,) = values["measurements"]
    assert dense["pj"] == pytest.approx(
        sum(share["logic"] + share["memory"] for share in dense["shares"])
    )
    assert values["pj_per_sop"] == dense["pj"] / dense["synaptic_operations"]
    somas = {area["module"] for area in values["areas"] if area["module"].endswith("somas")}
    assert somas == {"npu.population_0.somas", "npu.population_1.somas"}
    delayed = values["with_delays"]
    assert delayed["clocks"] == dense["clocks"]
    assert delayed["toggles"] > 1.2 * dense["toggles"]
    # Memories do the same; glitches are of the logic.
    assert [s["memory"] for s in delayed["shares"]] == [s["memory"] for s in dense["shares"]]
    assert dense["pj"] < delayed["pj"] < 2 * dense["pj"]
    idle, alone = values["quiet"]
    # Nothing but the clock and the inverters of its gates: two transitions a clock each.
    assert idle["toggles"] % (2 * idle["clocks"]) == 0
    assert not any(share["memory"] for share in idle["shares"])
    by_block = [{s["module"]: s["logic"] / m["clocks"] for s in m["shares"]} for m in (idle, alone)]
    silent = "npu.population_1.somas"
    assert by_block[0][silent] == pytest.approx(by_block[1][silent], rel=0.01)
    power = values["power_uw"]
    assert power["idle"] < power["first population alone"] < power["dense"]
    assert power["idle"] == pytest.approx(idle["pj"] / idle["clocks"] * values["clock_mhz"])
    shown = kenyon("ppa", "-c", "tiny", "--glitches").stdout
    assert "the clock's net" in shown
    assert "clock" in shown
    assert "the same spikes" in shown


@pytest.mark.parametrize(
    ("module", "part"),
    [
        ("", REST),
        ("npu.population_1.somas", UPDATE),
        ("npu.population_0.walker", SYNAPTIC),
        ("npu.spike_output.walker", REST),
        ("mars.accelerator.engine.core_0.lane_1.macro", MULTIPLY),
        ("mars.accelerator.engine.post_processing.requantiser_3", POST),
        ("mars.accelerator.engine.walker", REST),
    ],
)
def test_parts(module: str, part: str) -> None:
    assert part_of(module) == part


def test_energy_of_a_frame() -> None:
    work = ConvolutionWork(macs=1000, layer_macs=1800)
    frame = Frame(
        "convolution", 10, 0, [Share("mars.accelerator.engine.core_0", 1500, 500)], 1800, work
    )
    assert frame.pj_per_mac == 2
    # Two operations in 2 pJ are 1e12 in a joule.
    assert frame.tops_per_watt == 1
    assert frame.layer_tops_per_watt == pytest.approx(1.8)
    assert frame.parts(MULTIPLY) == (1500, 500)


def test_netlist_of_tiny_passes_the_regression(kenyon) -> None:
    result = kenyon("regress", "-c", "tiny", "--gates", "--count", "20", "--seed", "1", "--json")
    assert result.exit_code == 0, result.stderr
    outcomes = json.loads(result.stdout)["outcomes"]
    assert [outcome["name"] for outcome in outcomes] == ["chip", *["random"] * 20]
    assert all(outcome["clocks"] for outcome in outcomes[1:])


def test_gates_need_one_configuration(kenyon) -> None:
    result = kenyon("regress", "--gates")
    assert result.exit_code == 2
    assert "--gates must go with one -c of tiny, poppins" in result.stderr
