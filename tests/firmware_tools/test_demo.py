"""`kenyon demo`; the fast engine stands in for the RTL, whose benches are in `tests/tb`."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from firmware_tools.npu import backends


@pytest.fixture
def rtl(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """What the stand-ins do wrong: `flip` is what they change in every potential."""
    mistake = {"flip": 0}

    def simulate(network, config):
        for trace in backends.simulate(network, "fast", config):
            yield replace(trace, v=trace.v ^ mistake["flip"])

    monkeypatch.setattr("firmware_tools.npu.rtl.simulate", simulate)
    monkeypatch.setattr("firmware_tools.npu.rtl.build", lambda *_, **__: None)
    monkeypatch.setattr("firmware_tools.generator.generate", lambda _, path: [path])
    return mistake


@pytest.mark.usefixtures("rtl")
def test_demo(kenyon) -> None:
    result = kenyon("demo")
    assert result.exit_code == 0
    assert "model and RTL of poppins agree on decision: 1,000 time steps" in result.stdout
    assert "RTL: " in result.stdout
    assert "picture: build/decision.png" in result.stdout
    assert Path("build/decision.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("rtl")
def test_demo_json(kenyon) -> None:
    values = json.loads(kenyon("demo", "--json").stdout)
    assert values["equal"] is True
    assert values["steps"] == 1000
    assert values["files"] == ["build/kenyon_poppins.v", "build/decision.png"]


def test_demo_finds_a_difference(kenyon, rtl) -> None:
    rtl["flip"] = 1
    result = kenyon("demo", "--json")
    assert result.exit_code == 1
    values = json.loads(result.stdout)
    assert values["equal"] is False
    assert values["difference"]["step"] == 0
