"""Files that are no models that can be imported: one line that says why."""

import random
from pathlib import Path

import pytest

from firmware_tools.tflite_import import TfliteError, load

MODEL = Path(__file__).parents[2] / "vectors" / "tiny" / "kws_ref_model.tflite"


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
    for n in (8, 100, 1000, len(data) // 2):
        assert "cut or damaged?" in refused(tmp_path / "cut.tflite", data[:n])


def test_folder(tmp_path: Path) -> None:
    with pytest.raises(TfliteError, match="must be a file, not a folder"):
        load(tmp_path)


def test_damaged_files_never_surprise(tmp_path: Path) -> None:
    """Flipped bytes where the structure is, and random ones behind the identifier."""
    data = MODEL.read_bytes()
    rng = random.Random(1)
    path = tmp_path / "damaged.tflite"
    for k in range(300):
        if k % 10 == 0:
            bad = bytearray(data[:8] + rng.randbytes(2000))
        else:
            bad = bytearray(data)
            for _ in range(rng.choice((1, 4, 50))):
                at = rng.choice((rng.randrange(len(data)), rng.randrange(8, 2000)))
                bad[at] = rng.randrange(256)
        path.write_bytes(bad)
        try:
            load(path)
        except TfliteError as error:
            assert "\n" not in str(error)  # noqa: PT017
