"""Bridge files: what they say, and what is wrong with them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.bridge import SHIFT_MAX, Bridge, Entry, scaled
from model.bridge_file import BridgeFileError, dumps, load, loads

FIELDS: dict[str, Any] = {
    "steps": 50,
    "population": 1,
    "entries": [
        {"output": 0, "population": 0, "neuron": 3, "scale": 12.5},
        {"output": 1, "population": 0, "axon": 2, "scale": -1},
    ],
}


def test_loads() -> None:
    right = Bridge((Entry(0, 0, 3, 25, 1), Entry(1, 0, 2, -1, 0, is_axon=True)), 50, 1)
    assert loads(json.dumps(FIELDS), "b.json") == right
    assert loads(dumps(right), "b.json") == right


def test_what_was_dumped_does_the_same() -> None:
    rng = np.random.default_rng(1)
    mults, shifts = rng.integers(-32768, 32768, 200), rng.integers(0, SHIFT_MAX + 1, 200)
    entries = tuple(
        Entry(k, 0, k, int(mult), int(shift))
        for k, (mult, shift) in enumerate(zip(mults, shifts, strict=True))
    )
    again = loads(dumps(Bridge(entries, 0, 0)), "b.json")
    for one, other in zip(entries, again.entries, strict=True):
        for value in (-(1 << 31), -7, -1, 0, 1, 100, (1 << 31) - 1):
            assert scaled(value, one.mult, one.shift) == scaled(value, other.mult, other.shift)


def changed(**fields: Any) -> dict[str, Any]:
    return {**FIELDS, **fields}


def entry(**fields: Any) -> dict[str, Any]:
    return changed(entries=[{**FIELDS["entries"][0], **fields}])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (3, "the bridge must be an object, not 3"),
        ({}, "missing field 'steps' in the bridge; fields are steps, population, entries"),
        (changed(steps="x"), 'steps must be an integer, not "x"'),
        (changed(steps=70000), "steps must be 0..65535, not 70000"),
        (changed(colour=1), "unknown field 'colour' in the bridge; fields are steps, .*entries"),
        (changed(entries=3), "entries must be a list, not 3"),
        (changed(entries=[]), "entries must be 1..256, not 0"),
        (changed(entries=[5]), r"entries\[0\] must be an object, not 5"),
        (entry(scal=1), r"unknown field 'scal' in entries\[0\]; fields are output, .*, scale"),
        (entry(scale="a"), r'entries\[0\]\.scale must be a number, not "a"'),
        (entry(scale=1e6), r"entries\[0\]\.scale must be -32768\.\.32767, not 1e\+06"),
        (entry(scale=1e-12), r"entries\[0\]\.scale must be 0 or at least .*, not 1e-12"),
        (entry(axon=1), r"entries\[0\] must have either a neuron or an axon"),
        (entry(neuron=None), r"entries\[0\] must have either a neuron or an axon"),
        (entry(output=True), r"entries\[0\]\.output must be an integer, not true"),
        (
            changed(
                entries=[
                    {"output": k, "population": 0, "neuron": k, "scale": 1} for k in range(257)
                ]
            ),
            "entries must be 1..256, not 257: a network has too many outputs for the bridge",
        ),
    ],
)
def test_bad_file(fields: object, message: str) -> None:
    with pytest.raises(BridgeFileError, match=f"^b.json: {message}"):
        loads(json.dumps(fields), "b.json")


def test_unreadable(tmp_path: Path) -> None:
    with pytest.raises(BridgeFileError, match="no such file"):
        load(tmp_path / "none.json")
    with pytest.raises(BridgeFileError, match="must be JSON"):
        loads("{", "b.json")
    with pytest.raises(BridgeFileError, match="finite number"):
        loads(json.dumps(entry(scale=float("nan"))), "b.json")
