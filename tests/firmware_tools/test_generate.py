"""`kenyon generate`."""

import json
import re
import subprocess
from dataclasses import asdict
from pathlib import Path

import pytest

from firmware_tools.generator import configuration, fingerprints, generate
from model.config import CHIPS, ChipConfig
from model.npu.config import CONFIGS
from model.registers import register_map

ENDS = ("v", "json", "h", "md")
LARGE = ("mars", "mars-wide", "kenyon")
"""Whose Verilog takes a minute."""


@pytest.fixture
def chip(kenyon) -> Path:
    """The files of the smallest chip, in a folder of their own."""
    Path("out").mkdir()
    result = kenyon("generate", "-c", "tiny", "-o", "out/chip.v")
    assert result.exit_code == 0
    names = [f"out/chip.{end}" for end in ENDS]
    assert [line.partition(":")[0] for line in result.stdout.splitlines()] == [
        f"wrote {name}" for name in names
    ]
    assert sorted(map(str, Path("out").iterdir())) == sorted(names)
    return Path("out")


def test_board(kenyon) -> None:
    """Every bit of every port of the top is at one pin; the constraints say the board's clock."""
    result = kenyon("generate", "-c", "tiny", "--board", "ulx3s", "-o", "board.v", "--json")
    assert result.exit_code == 0, result.stderr
    files = json.loads(result.stdout)["files"]
    assert files == [f"board.{end}" for end in (*ENDS, "lpf")]
    description = json.loads(Path("board.json").read_text())
    assert description["board"]["baud"] == 1_000_000
    bits = {
        f"{port['name']}[{k}]" if port["width"] > 1 else port["name"]
        for port in description["ports"]
        for k in range(port["width"])
    }
    constraints = Path("board.lpf").read_text()
    assert 'FREQUENCY PORT "clk" 25 MHZ;' in constraints
    located = re.findall(r'^LOCATE COMP "(\S+)" SITE "\w+";$', constraints, re.MULTILINE)
    assert sorted(located) == sorted(bits)
    assert {"clk", "rx", "tx", "button", "led[0]"} <= bits
    assert "module kenyon(" in Path("board.v").read_text()


def test_files(chip: Path) -> None:
    assert "module kenyon(" in (chip / "chip.v").read_text()
    assert "kenyon address map" in (chip / "chip.md").read_text()
    description = json.loads((chip / "chip.json").read_text())
    assert description["configuration"] == {
        "name": "tiny",
        "n_populations": 2,
        "n_neurons": 16,
        "n_lanes": 4,
        "n_axons": 8,
        "links": [[0, 1]],
        "fingerprint": f"{CONFIGS['tiny'].fingerprint:08x}",
    }
    assert description["top"] == "kenyon"
    assert description["versions"]["amaranth"] == "0.5.10"


def test_description_has_all_ports_and_registers(chip: Path) -> None:
    description = json.loads((chip / "chip.json").read_text())
    ports = {port["name"]: (port["direction"], port["width"]) for port in description["ports"]}
    assert ports["clk"] == ports["rst"] == ("input", 1)
    assert ports["s_axil_awaddr"] == ("input", 32)
    assert ports["m_axis_spikes_tdata"] == ("output", 64)
    header = (chip / "chip.v").read_text().partition("module kenyon(")[2].partition(")")[0]
    assert set(ports) == {name.strip() for name in header.split(",")}
    registers = register_map(CHIPS["tiny"])
    assert {r["name"]: r["address"] for r in description["registers"]} == {
        name: register.address for name, register in registers.registers.items()
    }
    assert {m["name"] for m in description["memories"]} == set(registers.memories)


def test_header_compiles_and_agrees_with_the_map(chip: Path) -> None:
    """The compiler checks addresses and sizes: the structure is the whole address map."""
    registers = register_map(CHIPS["tiny"])
    checks = "".join(
        f'static_assert(offsetof(kenyon_t, {name}) == {registers[name]}, "{name}");\n'
        for name in ("STATUS", "population[1].LINKS", "neurons[1]", "weights[0]", "weights[1]")
    )
    source = chip / "check.cpp"
    source.write_text(
        f'#include <cstddef>\n#include "chip.h"\n{checks}'
        "unsigned mask = KENYON__CONTROL__FREE_RUN_bm;\n"
    )
    subprocess.run(["g++", "-Wno-invalid-offsetof", "-fsyntax-only", source], check=True)


@pytest.mark.parametrize(
    "chip",
    [
        pytest.param(chip, id=name, marks=[pytest.mark.full] * (name in LARGE))
        for name, chip in CHIPS.items()
    ],
)
def test_every_chip(chip: ChipConfig, tmp_path: Path) -> None:
    """Description, header and page hold what is on the chip; the header is its address map."""
    files = generate(chip, tmp_path / "chip.v")
    verilog, description, header, page = (file.read_text() for file in files)
    assert "module kenyon(" in verilog
    registers = register_map(chip)
    described = json.loads(description)
    assert described["configuration"]["name"] == chip.name
    assert [r["name"] for r in described["registers"]] == list(registers.registers)
    assert [m["name"] for m in described["memories"]] == list(registers.memories)
    for part, register in (
        (chip.npu, "KENYON__RUN_STEPS__VALUE"),
        (chip.mars, "KENYON__MARS__PROGRAM_LINES__VALUE"),
    ):
        assert (f"{register}_bm" in header) == (part is not None)
    assert ("### FRAME_CLOCKS register" in page) == (chip.mars is not None)
    entries = [*registers.registers.values(), *registers.memories.values()]
    source = tmp_path / "check.cpp"
    source.write_text(
        '#include <cstddef>\n#include "chip.h"\n'
        + "".join(f"static_assert(offsetof(kenyon_t, {e.name}) == {e.address});\n" for e in entries)
    )
    command = ["g++", "-std=c++17", "-Wno-invalid-offsetof", "-fsyntax-only", source]
    subprocess.run(command, check=True)


def test_description_of_a_joint_chip() -> None:
    """The neural processing units' parameters stand where they always stood."""
    mars = CHIPS["mars"].mars
    assert mars is not None
    described = configuration(CHIPS["kenyon"])
    own = described.pop("mars")
    assert own == {**asdict(mars), "fingerprint": f"{mars.fingerprint:08x}"}
    assert described == {**configuration(CHIPS["poppins"]), "name": "kenyon"}
    assert configuration(CHIPS["mars"]) == {"name": "mars", "mars": own}
    assert fingerprints(CHIPS["kenyon"]) == {
        "fingerprint": f"{CONFIGS['poppins'].fingerprint:08x}",
        "mars_fingerprint": f"{mars.fingerprint:08x}",
    }


def test_no_machine_in_the_files(chip: Path) -> None:
    for path in chip.iterdir():
        assert str(chip.absolute().parent) not in path.read_text()
        assert str(Path(__file__).parents[2]) not in path.read_text()


def test_json(kenyon) -> None:
    result = kenyon("generate", "-c", "tiny", "--json")
    assert json.loads(result.stdout) == {
        "configuration": "tiny",
        "board": None,
        "fingerprint": f"{CONFIGS['tiny'].fingerprint:08x}",
        "files": [f"build/kenyon_tiny.{end}" for end in ENDS],
    }
    assert Path("build/kenyon_tiny.v").is_file()


@pytest.mark.parametrize(
    ("output", "error"),
    [
        ("none/chip.v", "none/chip.v: folder must exist: none"),
        ("chip.txt", "chip.txt: Verilog file must end in .v"),
    ],
)
def test_output_must_be_writable(kenyon, output: str, error: str) -> None:
    result = kenyon("generate", "-c", "tiny", "-o", output)
    assert result.exit_code == 2
    assert result.stderr == f"error: {error}\n"


def test_unknown_configuration(kenyon) -> None:
    result = kenyon("generate", "-c", "huge")
    assert result.exit_code == 2
    assert result.stderr == (
        "error: configuration must be one of tiny, poppins, odin, large, mars-tiny, mars, "
        "mars-wide, kenyon-tiny, kenyon, not huge\n"
    )
