"""`kenyon plot`."""

import json
import tracemalloc
import zipfile
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from firmware_tools.errors import UserError
from firmware_tools.npu import trace_file


@pytest.mark.parametrize("kind", ["csv", "npz"])
def test_png(kenyon, pair, kind: str) -> None:
    kenyon("run", pair, "--trace", f"run.{kind}")
    result = kenyon("plot", f"run.{kind}")
    assert result.exit_code == 0
    assert result.stdout == "wrote run.png\n"
    assert Path("run.png").read_bytes().startswith(b"\x89PNG")


def test_svg_names_axes_and_populations(kenyon, pair) -> None:
    kenyon("run", pair, "--trace", "run.npz")
    result = kenyon("plot", "run.npz", "-o", "run.svg", "--json")
    assert json.loads(result.stdout) == {"picture": "run.svg", "steps": 50}
    ET.parse("run.svg")
    comments = Path("run.svg").read_text()
    for text in ("time step", "neuron", "axon", "population 0", "population 1", "pair: 4 neurons"):
        assert f"<!-- {text}" in comments


def test_same_picture_same_file(kenyon, pair) -> None:
    kenyon("run", pair, "--trace", "run.npz")
    kenyon("plot", "run.npz", "-o", "a.svg")
    kenyon("plot", "run.npz", "-o", "b.svg")
    assert Path("a.svg").read_bytes() == Path("b.svg").read_bytes()


def test_many_neurons_are_a_map(kenyon, tonic) -> None:
    neuron = {"rest": 128, "threshold": 200, "reset": 128, "a": 1, "b": 1}
    path = tonic(populations=[40, 30], neurons=[neuron] * 70)
    kenyon("run", path, "--trace", "run.npz")
    assert kenyon("plot", "run.npz", "-o", "run.svg").exit_code == 0
    assert "<!-- level" in Path("run.svg").read_text()


def test_silent_network(kenyon, tonic) -> None:
    kenyon("run", tonic(session=[{"steps": 1}]), "--trace", "run.npz")
    assert kenyon("plot", "run.npz").exit_code == 0


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("run.txt", b"", "run.txt: trace file must end in .csv or .npz"),
        ("run.csv", b"", "run.csv:1: header must be step,v0,v1,..."),
        ("run.csv", b"step,v1\n", "run.csv:1: header must be step,v0,v1,..."),
        ("run.csv", b"step,v0\n", "run.csv: trace must have at least one time step"),
        (
            "run.csv",
            b"step,v0\n0,12\n1,256\n",
            "run.csv:3: line must be a time step and 1 potentials 0..255, "
            "each with a * behind it if the neuron fired",
        ),
        ("run.csv", b"step,v0\n7,12\n9,12\n", "run.csv:3: step must be 8, not 9"),
        ("run.npz", b"PK", "run.npz: must be a trace that `kenyon run` wrote"),
        ("run.npz", b"", "run.npz: must be a trace that `kenyon run` wrote"),
    ],
)
def test_faulty_trace(kenyon, name: str, content: bytes, error: str) -> None:
    Path(name).write_bytes(content)
    result = kenyon("plot", name)
    assert result.exit_code == 2
    assert result.stderr == f"error: {error}\n"


READ = ("name", "populations", "first_step", "events", "v", "spikes")
NO_TRACE = "run.npz: must be a trace that `kenyon run` wrote"


def bomb(name: str, shape: tuple[int, ...], dtype: str) -> None:
    """In a trace, put an array of zeros of another size in the place of one."""
    with np.load("run.npz") as archive:
        arrays = dict(archive)
    del arrays[name]
    np.savez("run.npz", **arrays)
    piece = bytes(1 << 20)
    with (
        zipfile.ZipFile("run.npz", "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(f"{name}.npy", "w", force_zip64=True) as member,
    ):
        header = {"descr": dtype, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(member, header)
        left = int(np.prod(shape)) * np.dtype(dtype).itemsize
        while left > 0:
            member.write(piece[:left])
            left -= len(piece)


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "error"),
    [
        ("v", (1 << 26, 1), "|u1", NO_TRACE),
        ("v", (50, 1 << 20), "|u1", NO_TRACE),
        ("v", (1 << 26,), "|u1", NO_TRACE),
        ("v", (50, 4), "<u8", NO_TRACE),
        ("v", (50, 4), "|b1", NO_TRACE),
        ("spikes", (1 << 26, 4), "|b1", NO_TRACE),
        ("events", (1 << 23,), "<i8", NO_TRACE),
        ("events", (50, 3), "<i8", NO_TRACE),
        ("first_step", (1,), "<i8", NO_TRACE),
        ("populations", (4,), "<i8", NO_TRACE),
        ("populations", (1 << 23,), "<i8", "run.npz: arrays must be at most 1,048,576 bytes, not "),
        ("name", (), "<U16777216", "run.npz: arrays must be at most 1,048,576 bytes, not "),
    ],
)
def test_arrays_that_are_no_trace_take_no_memory(
    kenyon, pair, name: str, shape: tuple[int, ...], dtype: str, error: str
) -> None:
    kenyon("run", pair, "--trace", "run.npz")
    assert len(trace_file.read(Path("run.npz")).v) == 50
    bomb(name, shape, dtype)
    tracemalloc.start()
    try:
        with pytest.raises(UserError) as caught:
            trace_file.read(Path("run.npz"))
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert str(caught.value).startswith(error)


@pytest.mark.parametrize("name", READ)
def test_missing_array(kenyon, pair, name: str) -> None:
    kenyon("run", pair, "--trace", "run.npz")
    with np.load("run.npz") as archive:
        arrays = {key: archive[key] for key in archive if key != name}
    np.savez("run.npz", **arrays)
    result = kenyon("plot", "run.npz")
    assert result.exit_code == 2
    assert result.stderr == f"error: {NO_TRACE}\n"


def test_large_trace(kenyon, pair, monkeypatch) -> None:
    kenyon("run", pair, "--trace", "run.npz")
    monkeypatch.setattr(trace_file, "LARGEST", 1000)
    result = kenyon("plot", "run.npz")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: run.npz: arrays must be at most 1,000 bytes, not ")


def test_missing_trace(kenyon) -> None:
    result = kenyon("plot", "nothing.npz")
    assert result.exit_code == 2
    assert result.stderr == "error: nothing.npz: no such file or directory\n"


@pytest.mark.parametrize(
    ("output", "error"),
    [
        ("run.jpg", "run.jpg: picture must end in .png or .svg"),
        ("none/run.png", "none/run.png: folder must exist: none"),
    ],
)
def test_output_must_be_writable(kenyon, output: str, error: str) -> None:
    result = kenyon("plot", "run.npz", "-o", output)
    assert result.exit_code == 2
    assert result.stderr == f"error: {error}\n"
