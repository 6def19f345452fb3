"""Arrays in files: round trips, and files that say something else than they hold."""

import io
import re
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.archive import PIECE, Archive, ArchiveError, TooLargeError, read_array

Array = np.ndarray[Any, Any]
MiB = 1 << 20

ARRAYS: dict[str, Array] = {
    "numbers": np.arange(6).reshape(2, 3),
    "columns": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "other order": np.arange(5, dtype=">i2"),
    "scalar": np.array(7, np.uint8),
    "text": np.array("größer"),
    "bytes": np.array(b"abc"),
    "nothing": np.zeros((0, 3)),
    "pieces": np.arange(2 * PIECE + 3, dtype=np.uint8),
}


def packed(array: Array) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file


def headed(header: str, values: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    """An array with this header."""
    length = struct.pack("<H" if version == b"\x01\x00" else "<I", len(header))
    return b"\x93NUMPY" + version + length + header.encode("latin1") + values


def with_shape(shape: str, dtype: str = "|i1") -> str:
    return f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}}}\n"


@pytest.mark.parametrize("name", ARRAYS)
def test_npy(name: str) -> None:
    array = read_array(io.BytesIO(packed(ARRAYS[name])))
    np.testing.assert_array_equal(array, ARRAYS[name], strict=True)
    assert array.flags.writeable


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(save: Callable[..., None]) -> None:
    file = io.BytesIO()
    save(file, **ARRAYS)
    archive = Archive(file)
    assert archive.names == tuple(ARRAYS)
    for name, expected in ARRAYS.items():
        np.testing.assert_array_equal(archive.read(name), expected, strict=True)
        header = archive.header(name)
        assert (header.shape, header.dtype) == (expected.shape, expected.dtype)
        assert header.n_bytes == expected.nbytes


def test_header_of_python_2() -> None:
    array = read_array(io.BytesIO(headed(with_shape("(3L,)"), b"abc")))
    assert array.tolist() == [97, 98, 99]


def test_long_header() -> None:
    version = b"\x02\x00"
    array = read_array(io.BytesIO(headed(with_shape("(3,)").ljust(9000), b"abc", version)))
    assert array.tolist() == [97, 98, 99]


def test_size_of_some_arrays() -> None:
    archive = Archive(zipped({"a.npy": bytes(10), "b.npy": bytes(5)}))
    archive.check_size(["a", "b", "unknown"], 15)
    with pytest.raises(TooLargeError, match=r"^arrays must be at most 14 bytes, not 15$"):
        archive.check_size(["a", "b"], 14)
    with pytest.raises(TooLargeError, match=r"^array 'a' must be at most 9 bytes, not 10$"):
        archive.check_size(["a"], 9)
    with pytest.raises(TooLargeError, match=r"^arrays must be at most 1,000 bytes, not 1,010$"):
        archive.check_size(["a"] * 101, 1000)


DAMAGED = "must be in numpy's .npy format, cut or damaged? ("
WRONG_ARRAYS: list[tuple[bytes, str]] = [
    (b"", DAMAGED),
    (b"{}", DAMAGED),
    (b"\x93NUMPY" * 9, DAMAGED),
    (headed("}"), DAMAGED),
    (headed("[" * 9000), DAMAGED),
    (headed(with_shape("(3,)").ljust(10001), b"abc", b"\x02\x00"), DAMAGED),
    (
        headed(with_shape("(3,)"), b"abc", b"\x03\x00"),
        f"{DAMAGED}version must be 1.0 or 2.0, not 3.0",
    ),
    (headed(with_shape("(3,)", "nothing"), b"abc"), DAMAGED),
    (headed(with_shape("(0, 1" + "0" * 30 + ")")), DAMAGED),
    (headed(with_shape(f"({'1, ' * 70})"), b"a"), DAMAGED),
    (
        headed(with_shape("(2,)", "|O"), bytes(16)),
        "must be in numpy's .npy format, numbers or text, not Python objects",
    ),
    (
        zipped({"a": b""}).getvalue(),
        "must be in numpy's .npy format, one array, not an archive",
    ),
    (
        headed(with_shape("(3,)"), b"ab"),
        "must be 3 bytes behind its header, (3,) of int8, not 2",
    ),
    (
        headed(with_shape("(3,)"), b"abcd"),
        "must be 3 bytes behind its header, (3,) of int8, not 4",
    ),
    (
        headed(with_shape("(-1, -3)"), b"abc"),
        "must be 3 bytes behind its header, (-1, -3) of int8, not 3",
    ),
    (
        headed(with_shape("(1000000000, 1000000000, 1000000)", "<i8")),
        "must be 8,000,000,000,000,000,000,000,000 bytes behind its header, "
        "(1000000000, 1000000000, 1000000) of int64, not 0",
    ),
    (
        headed(with_shape(f"({'9, ' * 20})")),
        f"must be {9**20:,} bytes behind its header, 20 dimensions of int8, not 0",
    ),
]


def refusal(read: Callable[[], object], most: int = 4 * MiB) -> str:
    """The text of the error, which must come before memory is taken."""
    tracemalloc.start()
    try:
        with pytest.raises(ArchiveError) as caught:
            read()
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()
    return str(caught.value)


@pytest.mark.parametrize(("content", "text"), WRONG_ARRAYS, ids=range(len(WRONG_ARRAYS)))
def test_wrong_arrays(content: bytes, text: str) -> None:
    assert refusal(lambda: read_array(io.BytesIO(content))).startswith(text)
    archive = Archive(zipped({"x.npy": content}))
    assert refusal(lambda: archive.read("x")).startswith(f"array 'x' {text}")


def test_many_values_of_no_size_take_no_memory() -> None:
    content = headed(with_shape("(1000000000000,)", "<U0"))
    tracemalloc.start()
    try:
        assert read_array(io.BytesIO(content)).shape == (10**12,)
        assert tracemalloc.get_traced_memory()[1] < MiB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\x05\x06" + bytes(10), packed(ARRAYS["text"])])
def test_no_archive(content: bytes) -> None:
    text = "must be an .npz file, cut or damaged? ("
    assert refusal(lambda: Archive(io.BytesIO(content))).startswith(text)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("second", ["a", "a.npy"])
def test_names_twice(second: str) -> None:
    file = zipped({"a.npy": b""})
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(second, b"")
    assert refusal(lambda: Archive(file)) == "array 'a' must be there once, not twice"


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_methods_of_compression_take_no_memory(method: int) -> None:
    content = headed(with_shape("(100,)"), bytes(100)) + bytes(64 * MiB)
    file = zipped({"x.npy": content}, method)
    archive = Archive(declared(file, 1000))
    assert refusal(lambda: archive.read("x")) == (
        f"array 'x' must be stored or deflated, not compressed by method {method}"
    )


def declared(file: io.BytesIO, size: int) -> io.BytesIO:
    """The archive of one member, whose directory states another size."""
    content = bytearray(file.getvalue())
    place = content.rindex(b"PK\x01\x02")
    content[place + 24 : place + 28] = struct.pack("<I", size)
    content[22:26] = struct.pack("<I", size)
    return io.BytesIO(content)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_content_that_is_longer_than_declared_takes_no_memory(method: int) -> None:
    start = headed(with_shape("(100000,)"), bytes(100000))
    archive = Archive(declared(zipped({"x.npy": start + bytes(64 * MiB)}, method), len(start)))
    text = refusal(lambda: archive.read("x"))
    assert re.fullmatch(r"array 'x' is damaged \(Bad CRC-32 for file .*\)", text)


def test_content_that_is_shorter_than_declared() -> None:
    content = headed(with_shape("(9000000,)"), bytes(1000))
    archive = Archive(declared(zipped({"x.npy": content}), len(content) + 9000000 - 1000))
    with pytest.raises(ArchiveError, match=r"^array 'x' "):
        archive.read("x")


def test_encrypted_member() -> None:
    content = bytearray(zipped({"x.npy": packed(ARRAYS["numbers"])}).getvalue())
    content[6] |= 1
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    archive = Archive(io.BytesIO(content))
    assert refusal(lambda: archive.read("x")).startswith("array 'x' is damaged (")


@given(st.data())
def test_flipped_bytes_are_refused_or_mean_nothing(data: st.DataObject) -> None:
    content = bytearray(zipped({"x.npy": packed(ARRAYS["numbers"])}).getvalue())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        archive = Archive(io.BytesIO(content))
        found = {name: archive.read(name) for name in archive.names}
    except ArchiveError:
        return
    for array in found.values():
        np.testing.assert_array_equal(array, ARRAYS["numbers"])
