"""`kenyon compare` and what it says; the model stands in for the RTL."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from firmware_tools.npu import backends


@pytest.fixture
def rtl(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """The model instead of the RTL, wrong from step 20 on if the seed is 3; lists its calls."""
    calls: list[dict[str, object]] = []

    def simulate(network, config, **options):
        calls.append({"config": config.name, **options})
        for trace in backends.simulate(network, "model", config, 10):
            wrong = options["seed"] == 3 and trace.first_step >= 20
            yield replace(trace, v=trace.v ^ wrong)

    monkeypatch.setattr("firmware_tools.npu.rtl.simulate", simulate)
    monkeypatch.setattr("firmware_tools.npu.rtl.build", lambda *_, **__: None)
    return calls


def test_agreement(kenyon, tonic, rtl) -> None:
    result = kenyon("compare", tonic())
    assert result.exit_code == 0
    first, second, third = result.stdout.splitlines()
    assert first == "model and RTL of tiny agree on tonic: 400 time steps of 1 neuron"
    assert second == (
        "compared: 2,000 values (potentials, currents, spikes, noise, saturation), "
        "and the clocks of every time step, 4,000 in all"
    )
    assert third.startswith("RTL: ")
    assert rtl == [{"config": "tiny", "seed": 0, "pause": 0.0, "recording": None}]


def test_agreement_json(kenyon, tonic, rtl) -> None:
    result = kenyon("compare", tonic(), "-c", "odin", "--pause", "0.5", "--seed", "8", "--json")
    values = json.loads(result.stdout)
    assert values.pop("seconds") > 0
    assert values.pop("clocks_per_second") > 0
    assert values == {
        "network": "tonic",
        "configuration": "odin",
        "pause": 0.5,
        "seed": 8,
        "equal": True,
        "steps": 400,
        "neurons": 1,
        "values": 2000,
        "clocks": 4000,
    }
    assert rtl == [{"config": "odin", "seed": 8, "pause": 0.5, "recording": None}]


@pytest.mark.usefixtures("rtl")
def test_difference(kenyon, tonic) -> None:
    path = tonic()
    result = kenyon("compare", path, "--seed", "3")
    assert result.exit_code == 1
    command = f"kenyon compare {path} -c tiny --pause 0.0 --seed 3"
    assert result.stdout.splitlines() == [
        "model and RTL of tiny differ: step 20, population 0, neuron 0: v must be 170, not 171",
        f"again, with waves: {command} --waves difference.fst",
    ]


@pytest.mark.usefixtures("rtl")
@pytest.mark.parametrize(("columns", "shown"), [("slopes", "1 1"), ("shifts", "3 3")])
def test_difference_in_text_files(kenyon, in_empty_folder: Path, columns: str, shown: str) -> None:
    (in_empty_folder / "n.txt").write_text(f"0 128 200 128 {shown} 0\n")
    (in_empty_folder / "c.txt").write_text("")
    (in_empty_folder / "s.txt").write_text("400 0 10 -1 -1\n")
    files = ("--iqif", "n.txt", "c.txt", "s.txt", "--iqif-columns", columns)
    result = kenyon("compare", *files, "--seed", "3", "--json")
    assert result.exit_code == 1
    command = f"kenyon compare {' '.join(files)} -c tiny --pause 0.0 --seed 3"
    assert json.loads(result.stdout)["command"] == command


@pytest.mark.usefixtures("rtl")
def test_difference_json(kenyon, tonic) -> None:
    path = tonic()
    result = kenyon("compare", path, "--seed", "3", "--json")
    assert result.exit_code == 1
    values = json.loads(result.stdout)
    assert values["equal"] is False
    assert values["difference"] == {
        "step": 20,
        "population": 0,
        "neuron": 0,
        "field": "v",
        "expected": 170,
        "actual": 171,
    }
    assert values["command"] == f"kenyon compare {path} -c tiny --pause 0.0 --seed 3"


@pytest.mark.parametrize(
    ("waves", "error"),
    [
        ("none/out.vcd", "none/out.vcd: folder must exist: none"),
        ("out.lxt", "out.lxt: wave file must end in .fst or .vcd"),
        (
            "out.fst",
            "out.fst: FST needs the headers of lz4 and zlib (on Debian: apt-get install liblz4-dev "
            "zlib1g-dev); without them: out.vcd",
        ),
    ],
)
def test_waves_must_be_writable(
    kenyon, tonic, rtl, monkeypatch: pytest.MonkeyPatch, waves: str, error: str
) -> None:
    monkeypatch.setattr("tb.simulator.can_fst", lambda: False)
    result = kenyon("compare", tonic(), "--waves", waves)
    assert result.exit_code == 2
    assert result.stderr == f"error: {error}\n"
    assert rtl == []
