"""Files that are no models that can be imported: one line that says why."""

import random
from pathlib import Path

import numpy as np
import pytest

from firmware_tools.tflite_import import TfliteError, load
from firmware_tools.tflite_import.ends import input_of
from firmware_tools.tflite_import.graph import Graph, Operator, Tensor

VECTORS = Path(__file__).parents[2] / "vectors"
MODEL = VECTORS / "tiny" / "kws_ref_model.tflite"
SMALL = sorted((VECTORS / "keras").glob("*.tflite"))
WORDS = (b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", bytes(4), b"\1\0\0\0")
"""What offsets and lengths of vectors must not be."""


def refused(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    with pytest.raises(TfliteError) as error:
        load(path)
    text = str(error.value)
    assert text.startswith(f"{path}: ")
    return text.removeprefix(f"{path}: ")


def test_other_files(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    for data in (b"", b"PK\3\4 and more", bytes(100)):
        assert refused(path, data).startswith("must be a TensorFlow Lite model, whose bytes 4 to 7")


def test_cut_files(tmp_path: Path) -> None:
    data = MODEL.read_bytes()
    for n in (8, 100, 1000, len(data) // 2, len(data) - 1000, len(data) - 100):
        assert "cut or damaged?" in refused(tmp_path / "cut.tflite", data[:n])


def test_folder(tmp_path: Path) -> None:
    with pytest.raises(TfliteError, match="must be a file, not a folder"):
        load(tmp_path)


def test_maps_that_would_take_all_memory() -> None:
    shape = (1, 60_000, 60_000, 3)
    tensor = Tensor("x", shape, shape, "INT8", np.ones(1), np.zeros(1, np.int64), 0, None)
    relu = Operator(0, "RELU", (0,), (0,), "x", None)
    with pytest.raises(TfliteError, match=r"input 'x': a map must have at most 33554432 values"):
        input_of(Graph("large", (tensor,), (relu,), 0, 0))


def damaged(rng: random.Random) -> bytes:
    """A model with flipped bytes and wrong offsets, or random bytes behind the identifier."""
    data = rng.choice(SMALL).read_bytes()
    if rng.random() < 0.1:
        return data[:8] + rng.randbytes(2000)
    bad = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 20))):
        at = rng.randrange(8, len(data))
        word = rng.choice(WORDS) if rng.random() < 0.3 else rng.randbytes(1)
        bad[at : at + len(word)] = word
    return bytes(bad)


def test_damaged_files_never_surprise(tmp_path: Path) -> None:
    rng = random.Random(1)
    path = tmp_path / "damaged.tflite"
    n_refused = 0
    for k in range(300):
        path.write_bytes(damaged(rng))
        try:
            load(path, wide=bool(k % 2))
        except TfliteError as error:
            n_refused += 1
            assert "\n" not in str(error)  # noqa: PT017
            assert len(str(error)) < 2000  # noqa: PT017
    assert n_refused > 100
