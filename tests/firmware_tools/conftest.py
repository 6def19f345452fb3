"""A folder to work in, and networks whose runs are known."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from firmware_tools.cli import app
from firmware_tools.mars.inference import DONE, pass_outputs
from model.mars import frame
from model.mars.devices.bit_cells import Cells
from tb.mars.cosim import Frame, FrameTrace, JobResult
from tb.mars.records import PassTrace

TONIC = {"rest": 128, "threshold": 200, "reset": 128, "a": 1, "b": 1}
"""With bias 10 the neuron fires in time step 14 for the first time (docs/neuron.md)."""

Save = Callable[..., Path]
Kenyon = Callable[..., Result]
Change = Callable[[dict[str, Any], dict[str, Any]], None]


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


def layer(spec: dict[str, Any], name: str) -> dict[str, Any]:
    """The layer of that name in the JSON of a network file."""
    return next(part for part in spec["layers"] if part["name"] == name)


@pytest.fixture
def quantised(in_empty_folder: Path) -> Save:
    """Save a network with every kind of layer, as net.npz; its spec and arrays may be changed."""

    def save(change: Change = lambda _spec, _arrays: None, name: str = "net") -> Path:
        rng = np.random.default_rng(5)
        arrays: dict[str, Any] = {}

        def products(key: str, *shape: int) -> dict[str, object]:
            arrays[f"{key}.w"] = rng.integers(-8, 8, shape).astype(np.int8)
            arrays[f"{key}.b"] = rng.integers(-20, 20, shape[0]).astype(np.int32)
            arrays[f"{key}.m"] = rng.integers(1000, 3000, shape[0]).astype(np.uint16)
            arrays[f"{key}.s"] = np.full(shape[0], 14, np.uint8)
            names = {"weight": "w", "bias": "b", "mult": "m", "shift": "s"}
            fields = {field: f"{key}.{end}" for field, end in names.items()}
            return {"weight_bits": 4, "out_bits": 4, "out_signed": False, **fields}

        conv = {"op": "conv", "stride": 1, "padding": 1}
        spec: dict[str, Any] = {
            "name": "small",
            "input": {"shape": [3, 6, 5], "bits": 4, "signed": False},
            "layers": [
                {"name": "a", "input": "input", **conv, **products("a", 17, 3, 3, 3)},
                {"name": "b", "input": "a", **conv, **products("b", 17, 17, 3, 3)},
                {"name": "pool", "op": "maxpool2", "input": "b"},
                {"name": "fc", "op": "dense", "input": "pool", **products("fc", 4, 17 * 3 * 2)},
            ],
        }
        layer(spec, "b").update(skip="a", skip_mult=4096)
        change(spec, arrays)
        path = in_empty_folder / f"{name}.npz"
        np.savez(path, spec=json.dumps(spec), **arrays)
        return path

    return save


@pytest.fixture
def pictures(in_empty_folder: Path) -> Path:
    """Three images for `quantised`, x.npy."""
    path = in_empty_folder / "x.npy"
    np.save(path, np.random.default_rng(6).integers(0, 16, (3, 3, 6, 5)))
    return path


def logits_of(done: frame.FrameRun) -> tuple[int, ...]:
    """As the host reads them."""
    return () if done.logits is None else tuple(done.logits.tolist())


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[FrameTrace], FrameTrace]]:
    """The golden machine instead of the RTL of MARS; what is in the list spoils its frames."""
    spoil: list[Callable[[FrameTrace], FrameTrace]] = []

    def frames(
        _config: object,
        wanted: Sequence[Frame],
        *,
        latency: int,
        recorded: Path | None,
        cells: Cells | None,
    ) -> Iterator[FrameTrace]:
        assert recorded is None
        for one in wanted:
            done = frame.run_frame(one.image, one.features, latency, cells=cells)
            runs = done.passes
            stalls = [
                sum(getattr(part.clocks, name) for part in runs)
                for name in ("weight_stalls", "drain_stalls", "layer_stalls")
            ]
            output = done.result
            if one.image.n_chunks > 1:
                output = list(pass_outputs(one.image, runs).values())[-1]
            trace = FrameTrace(
                [PassTrace(part.values, part.writes, part.clocks.end) for part in runs],
                output,
                JobResult(DONE, done.clocks, *stalls, (), 0.1, done.steps, logits_of(done)),
            )
            for change in spoil:
                trace = change(trace)
            yield trace

    monkeypatch.setattr("tb.mars.cosim.run", frames)
    monkeypatch.setattr("tb.mars.cosim.is_built", lambda *_, **__: True)
    return spoil
