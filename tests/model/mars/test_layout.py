"""Lines of a program: positions worked out by hand, and there and back."""

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from model.mars.config import KERNELS, LINE_BITS
from model.mars.layout import (
    CODES_PER_LINE,
    DESCRIPTOR_FIELDS,
    DESCRIPTOR_LINES,
    HEADER_FIELDS,
    MACRO_FIELDS,
    MAX_BLOCKS,
    SIGNED_FIELDS,
    Descriptor,
    bits_of,
    decode_index,
    encode_index,
    lines_of,
    lines_per_entry,
    pack_codes,
    pack_descriptor,
    pack_entries,
    pack_header,
    unpack_codes,
    unpack_descriptor,
    unpack_entries,
    unpack_header,
)

ZERO = Descriptor(n_teams=0, rows_per_team=0, n_rows=0, n_cols=0, in_height=0, in_width=0)


def _values(name: str, width: int) -> st.SearchStrategy[int]:
    if name in SIGNED_FIELDS:
        return st.integers(-(1 << (width - 1)), (1 << (width - 1)) - 1)
    return st.integers(0, (1 << width) - 1)


DESCRIPTORS = st.builds(
    Descriptor,
    **{name: _values(name, width) for name, (_, width) in DESCRIPTOR_FIELDS.items()},
    **{
        name: st.tuples(*[st.integers(0, (1 << width) - 1)] * 8)
        for name, (_, width, _) in MACRO_FIELDS.items()
    },
)


@pytest.mark.parametrize(
    ("values", "line", "word", "expected"),
    [
        ({"is_input": 1}, 0, 0, 1),
        ({"gap": 1, "split_log2": 3, "out_planes_log2": 3}, 0, 0, 1 << 13 | 3 << 14 | 3 << 16),
        ({"n_kernel_blocks": 0xABCD, "n_teams": 8, "rows_per_team": 5}, 0, 0, 0x0508ABCD << 32),
        ({"n_rows": 1, "n_cols": 2, "in_height": 3, "in_width": 4}, 0, 1, 0x04030201),
        ({"low": -8, "high": 7}, 0, 3, 0x0007FFF8 << 32),
        ({"gap_mult": 0x1234, "gap_shift": 40, "gap_low": -1}, 0, 4, 0xFFFF_0028_1234),
        ({"in_base": (1, 2, 0, 0, 5, 0, 0, 0)}, 1, 0, 0x0002_0001),
        ({"in_base": (1, 2, 0, 0, 5, 0, 0, 0)}, 1, 1, 5),
        ({"skip_base": (7, *[0] * 7)}, 1, 2, 7),
        ({"out_base": (*[0] * 7, 9)}, 1, 5, 9 << 48),
        ({"out_first_row": (1, 2, *[0] * 6), "out_end_row": (3, 4, *[0] * 6)}, 1, 6, 0x04020301),
    ],
)
def test_descriptor_by_hand(values: dict[str, int], line: int, word: int, expected: int) -> None:
    lines = pack_descriptor(replace(ZERO, **values))
    assert lines.shape == (DESCRIPTOR_LINES, 8)
    assert int(lines[line, word]) == expected


def test_zero_is_zero() -> None:
    assert not pack_descriptor(ZERO).any()
    assert unpack_descriptor(np.zeros((DESCRIPTOR_LINES, 8), np.uint64)) == ZERO


@settings(deadline=None)
@given(DESCRIPTORS)
def test_descriptor_there_and_back(descriptor: Descriptor) -> None:
    assert unpack_descriptor(pack_descriptor(descriptor)) == descriptor


def test_fields_do_not_overlap() -> None:
    ranges = [(low, width) for low, width in DESCRIPTOR_FIELDS.values()]
    ranges += [
        (low + m * distance, width)
        for low, width, distance in MACRO_FIELDS.values()
        for m in range(8)
    ]
    bits = [low + i for low, width in ranges for i in range(width)]
    assert len(bits) == len(set(bits))
    assert max(bits) < DESCRIPTOR_LINES * LINE_BITS
    bits = [low + i for low, width in HEADER_FIELDS.values() for i in range(width)]
    assert len(bits) == len(set(bits))
    assert max(bits) < 64
    assert {*DESCRIPTOR_FIELDS, *MACRO_FIELDS} == {field.name for field in fields(Descriptor)}


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"n_rows": 256}, "n_rows must be 0..255, not 256"),
        ({"n_rows": -1}, "n_rows must be 0..255, not -1"),
        ({"pool": 2}, "pool must be 0..1, not 2"),
        ({"low": -32769}, "low must be -32768..32767, not -32769"),
        ({"high": 32768}, "high must be -32768..32767, not 32768"),
        ({"in_base": (65536, *[0] * 7)}, "in_base must be 0..65535, not 65536"),
    ],
)
def test_descriptor_refuses(values: dict[str, int], text: str) -> None:
    with pytest.raises(ValueError, match="must be") as error:
        pack_descriptor(replace(ZERO, **values))
    assert str(error.value) == text


def test_derived_figures() -> None:
    d = Descriptor(split_log2=3, out_planes_log2=3, in_two=1, rows_per_team=3, n_cols=5)
    assert (d.split, d.out_planes, d.in_planes, d.skip_planes, d.n_rounds) == (8, 8, 2, 0, 15)
    assert replace(d, has_skip=1).skip_planes == 1
    assert replace(d, has_skip=1, skip_two=1).skip_planes == 2
    assert replace(d, skip_two=1).skip_planes == 0


@settings(deadline=None)
@given(st.integers(1, 4), st.data())
def test_lines_there_and_back(n_lines: int, data: st.DataObject) -> None:
    bits = data.draw(st.integers(0, (1 << n_lines * LINE_BITS) - 1))
    lines = lines_of(bits, n_lines)
    assert lines.shape == (n_lines, 8)
    assert bits_of(lines) == bits
    assert int(lines[0, 0]) == bits & (1 << 64) - 1
    assert int(lines[-1, -1]) == bits >> n_lines * LINE_BITS - 64


def test_header_by_hand() -> None:
    bias = np.arange(KERNELS) - 1
    mult, shift = np.full(KERNELS, 0x1234), np.full(KERNELS, 40)
    lines = pack_header(bias, mult, shift, 64)
    assert lines.shape == (2, 8)
    assert int(lines[0, 0]) == 64 << 54 | 40 << 48 | 0x1234 << 32 | 0xFFFF_FFFF
    assert int(lines[0, 1]) == 40 << 48 | 0x1234 << 32
    assert int(lines[1, 7]) == 40 << 48 | 0x1234 << 32 | 14


@settings(deadline=None)
@given(
    hnp.arrays(np.int64, KERNELS, elements=st.integers(-(1 << 31), (1 << 31) - 1)),
    hnp.arrays(np.int64, KERNELS, elements=st.integers(0, 65535)),
    hnp.arrays(np.int64, KERNELS, elements=st.integers(1, 40)),
    st.integers(0, 64),
)
def test_header_there_and_back(bias, mult, shift, n_entries) -> None:
    again = unpack_header(pack_header(bias, mult, shift, n_entries))
    for expected, actual in zip((bias, mult, shift), again[:3], strict=True):
        np.testing.assert_array_equal(actual, expected)
    assert again[3] == n_entries


def test_index_by_hand() -> None:
    three = np.array([3])
    assert encode_index(np.array([2]), np.array([1]), three, kernel3=True) == 2 << 7 | 1 << 5 | 3
    assert encode_index(np.array([0]), np.array([0]), np.array([511]), kernel3=False) == 511


def test_every_index_there_and_back() -> None:
    dy, dx, block = np.mgrid[:3, :3, : MAX_BLOCKS[3]].reshape(3, -1)
    codes = encode_index(dy, dx, block, kernel3=True)
    assert len(set(codes.tolist())) == len(codes)
    assert codes.max() < 512
    np.testing.assert_array_equal(decode_index(codes, kernel3=True), (dy, dx, block))
    block = np.arange(MAX_BLOCKS[1])
    zero = np.zeros_like(block)
    codes = encode_index(zero, zero, block, kernel3=False)
    np.testing.assert_array_equal(decode_index(codes, kernel3=False), (zero, zero, block))


def test_codes_by_hand() -> None:
    line = pack_codes(np.array([1, 511, 2]))
    assert int(line[0, 0]) == 1 | 511 << 9 | 2 << 18
    assert not line[0, 1:].any()
    last = pack_codes(np.array([0] * 55 + [0b100000001]))
    assert bits_of(last) == 0b100000001 << 495  # 504 bits are used
    assert unpack_codes(last).tolist() == [0] * 55 + [257]


@settings(deadline=None)
@given(st.lists(st.integers(0, 511), max_size=CODES_PER_LINE))
def test_codes_there_and_back(codes: list[int]) -> None:
    padded = codes + [0] * (CODES_PER_LINE - len(codes))
    assert unpack_codes(pack_codes(np.array(codes, np.int64))).tolist() == padded


def test_entries_by_hand() -> None:
    """Row by row, in it macro by macro: the macros of a team are written side by side."""
    words = np.arange(2 * 4 * 16, dtype=np.uint64).reshape(2, 4, 16)
    lines = pack_entries(words)
    assert lines[0].tolist() == [0, 16, 32, 48, 1, 17, 33, 49]
    assert lines[7].tolist() == [14, 30, 46, 62, 15, 31, 47, 63]
    assert lines[8].tolist() == [64, 80, 96, 112, 65, 81, 97, 113]


@settings(deadline=None)
@given(st.integers(0, 3), st.integers(0, 5), st.integers(0, 2**32 - 1))
def test_entries_there_and_back(split_log2: int, n_entries: int, seed: int) -> None:
    split = 1 << split_log2
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 1 << 64, (n_entries, split, 16), np.uint64)
    lines = pack_entries(words)
    assert lines.shape == (n_entries * lines_per_entry(split), 8)
    np.testing.assert_array_equal(unpack_entries(lines, split), words)


def test_lines_per_entry() -> None:
    assert [lines_per_entry(split) for split in (1, 2, 4, 8)] == [2, 4, 8, 16]
