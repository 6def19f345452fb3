"""A folder to work in, and networks whose runs are known."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from firmware_tools.cli import app

TONIC = {"rest": 128, "threshold": 200, "reset": 128, "a": 1, "b": 1}
"""With bias 10 the neuron fires in time step 14 for the first time (docs/neuron.md)."""

Save = Callable[..., Path]
Kenyon = Callable[..., Result]


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test runs in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def kenyon() -> Kenyon:
    """Run the command line in this process."""

    def run(*arguments: str | Path) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return run


@pytest.fixture
def tonic(in_empty_folder: Path) -> Save:
    """Save a network of neurons that fire at a constant rate; fields may be replaced."""

    def save(**fields: Any) -> Path:
        network: dict[str, Any] = {
            "name": "tonic",
            "populations": [1],
            "neurons": [TONIC],
            "connections": [],
            "session": [{"steps": 400, "bias": [[0, 10]]}],
            **fields,
        }
        path = in_empty_folder / f"{network['name']}.json"
        path.write_text(json.dumps(network))
        return path

    return save


@pytest.fixture
def pair(tonic: Save) -> Path:
    """Two populations of two neurons, linked, with one axon each and some noise."""
    neuron = {**TONIC, "tau": 8}
    return tonic(
        name="pair",
        populations=[2, 2],
        neurons=[neuron, neuron, neuron, {**neuron, "noise": 5}],
        connections=[[0, 1, 40, 8], [1, 1, -20, 8], [0, 2, 60, 8], [1, 3, 90, 8]],
        axons=[1, 1],
        axon_connections=[[0, 0, 100, 8], [1, 3, 5, 8]],
        session=[{"steps": 20, "bias": [[0, 10]]}, {"steps": 30, "bias": [[0, 0], [3, 12]]}],
        events=[[3, 0], [4, 0], [40, 1]],
    )
