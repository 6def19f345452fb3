"""Lines of a program: positions worked out by hand, and there and back."""

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from model.mars.config import KERNELS, LINE_BITS
from model.mars.layout import (
    AVERAGE_FIELDS,
    CODE_WIDTHS,
    CODES_PER_LINES,
    DESCRIPTOR_FIELDS,
    DESCRIPTOR_LINES,
    FUNCTION_FIELDS,
    HEADER_FIELDS,
    LOAD_FIELDS,
    MACRO_FIELDS,
    MAX_LOADS,
    MAX_MACROS,
    SIGNED_FIELDS,
    STORE_FIELDS,
    TABLE_LINES,
    TABLE_SIZE,
    TIMED_FIELDS,
    TIMED_HEADER_FIELDS,
    UNTIMED_FIELDS,
    WIDE_HEADER_FIELDS,
    Descriptor,
    Header,
    Ints,
    bits_of,
    decode_index,
    encode_index,
    lines_of,
    lines_per_entry,
    pack_codes,
    pack_descriptor,
    pack_entries,
    pack_header,
    pack_table,
    unpack_codes,
    unpack_descriptor,
    unpack_entries,
    unpack_header,
    unpack_table,
)

ZERO = Descriptor(
    n_teams=0,
    rows_per_team=0,
    n_rows=0,
    n_cols=0,
    in_height=0,
    in_width=0,
    row_stride=0,
    col_stride=0,
    row_dilation=0,
    col_dilation=0,
)


def _values(name: str, width: int) -> st.SearchStrategy[int]:
    if name in SIGNED_FIELDS:
        return st.integers(-(1 << (width - 1)), (1 << (width - 1)) - 1)
    return st.integers(0, (1 << width) - 1)


def _descriptors(
    single: dict[str, tuple[int, int]],
    several: dict[str, tuple[int, int, int]],
    *,
    timed: int = 0,
    is_store: int = 0,
    function: int = 0,
) -> st.SearchStrategy[Descriptor]:
    values = {name: _values(name, width) for name, (_, width) in single.items()}
    return st.builds(
        Descriptor,
        **values
        | {
            "timed": st.just(timed),
            "is_store": st.just(is_store),
            "function": st.just(function),
        },
        **{
            name: st.tuples(*[st.integers(0, (1 << width) - 1)] * _n(name))
            for name, (_, width, _) in several.items()
        },
    )


def _n(name: str) -> int:
    """How often there is a field of several."""
    return MAX_LOADS if name in LOAD_FIELDS else MAX_MACROS


OF_BOTH = {name: place for name, place in DESCRIPTOR_FIELDS.items() if name not in UNTIMED_FIELDS}
TIMED = OF_BOTH | {"skip_mult": (256, 16)} | TIMED_FIELDS
STORE = {name: place for name, place in OF_BOTH.items() if name != "skip_mult"} | STORE_FIELDS
FUNCTIONS = {
    function: {k: place for k, place in DESCRIPTOR_FIELDS.items() if k not in AVERAGE_FIELDS}
    | places
    for function, places in FUNCTION_FIELDS.items()
    if places
}
SEVERAL_OF_STORE = LOAD_FIELDS | {"in_base": MACRO_FIELDS["in_base"]}
DESCRIPTORS = st.one_of(
    _descriptors(DESCRIPTOR_FIELDS, MACRO_FIELDS),
    _descriptors(TIMED, MACRO_FIELDS, timed=1),
    _descriptors(STORE, SEVERAL_OF_STORE, is_store=1),
    *(_descriptors(places, MACRO_FIELDS, function=f) for f, places in FUNCTIONS.items()),
)


@pytest.mark.parametrize(
    ("values", "line", "word", "expected"),
    [
        ({"is_input": 1}, 0, 0, 1),
        ({"gap": 1, "split_log2": 3, "out_planes_log2": 3}, 0, 0, 1 << 13 | 3 << 14 | 3 << 16),
        ({"n_kernel_blocks": 0xABCD, "n_teams": 8, "rows_per_team": 5}, 0, 0, 0x0508ABCD << 32),
        ({"n_rows": 1, "n_cols": 2, "in_height": 3, "in_width": 4}, 0, 1, 0x04030201),
        ({"low": -8, "high": 7, "offset": -2}, 0, 3, 0xFFFE_0007_FFF8 << 16),
        ({"skip_mult": 0x7FFF_1234, "gap_mult": 5}, 0, 4, 5 << 32 | 0x7FFF_1234),
        ({"gap_bias": -2, "gap_shift": 40, "gap_post_shift": 31}, 0, 5, 0x1F28_FFFF_FFFE),
        ({"gap_low": -1}, 0, 5, 0xFFFF << 48),
        ({"gap_high": 3, "gap_offset": -1, "tap_row_pitch": 9}, 0, 6, 9 << 32 | 0xFFFF_0003),
        ({"tap_col_pitch": 1}, 0, 6, 1 << 48),
        (
            {"row_stride": 15, "col_stride": 1, "row_dilation": 4, "col_dilation": 3},
            0,
            7,
            15 | 1 << 4 | 4 << 8 | 3 << 11,
        ),
        (
            {"pad_left": 15, "pad_value": 0x80, "team_in_rows": 5},
            0,
            7,
            5 << 32 | 0x80 << 24 | 15 << 16,
        ),
        ({"pad_top": -1, "skip_zero": -2}, 0, 7, 0x3FE << 54 | 0x3FF << 44),
        (
            {"block_width": 16, "dx_width": 4, "lookup_signed": 1},
            0,
            0,
            4 << 25 | 16 << 20 | 1 << 18,
        ),
        ({"long_codes": 1, "maximum": 1, "lookup": 1}, 0, 0, 0b111000),
        ({"in_base": (1, 2, 0, 0, 5, 0, 0, 0)}, 1, 0, 0x0002_0001),
        ({"in_base": (1, 2, 0, 0, 5, 0, 0, 0)}, 1, 1, 5),
        ({"skip_base": (7, *[0] * 7)}, 1, 2, 7),
        ({"out_base": (*[0] * 7, 9)}, 1, 5, 9 << 48),
        ({"timed": 1, "direct": 1, "soft": 1}, 0, 3, 3 << 16),
        ({"timed": 1, "pixel_sum": 1, "u_load": 1, "u_store": 1}, 0, 3, 0b11100 << 16),
        ({"timed": 1, "groups_log2": 2, "leak": 15, "n_steps": 8}, 0, 3, 0x08F4_0 << 12 << 4),
        ({"timed": 1, "initial_shift": 6, "limit": 0x7FFF}, 0, 3, 6 << 33 | 0x7FFF << 36),
        ({"timed": 1, "u_planes_log2": 2, "out_block_log2": 6}, 0, 3, 2 << 51 | 6 << 53),
        ({"timed": 1, "u_col_pitch": 255}, 0, 3, 255 << 56),
        ({"timed": 1, "skip_mult": 0x1234, "u_row_pitch": 5}, 0, 4, 0x0005_1234),
        ({"timed": 1, "u_base": 9, "u_again": 1}, 0, 4, 9 << 32),
        ({"timed": 1, "u_again": 1}, 0, 3, 1 << 23),
        ({"is_store": 1, "first_word": 7}, 0, 0, 7 << 52 | 1 << 29),
        ({"is_store": 1, "map_word": 0xABCD_1234}, 0, 3, 0xABCD_1234 << 16),
        ({"is_store": 1, "n_words": 0x123456}, 0, 3, 0x3456 << 48),
        ({"is_store": 1, "n_words": 0x120000, "team_words": 9}, 0, 4, 9 << 8 | 0x12),
        ({"is_store": 1, "pixel_words": 5, "kept_word": 6}, 0, 4, 6 << 40 | 5 << 24),
        ({"is_store": 1, "kept_end": 0x1FF, "next_lines": 3}, 0, 5, 3 << 8 | 1),
        ({"is_store": 1, "load_line": (5, 0), "load_input": (1, 0)}, 1, 2, 1 << 26 | 5),
        ({"is_store": 1, "load_lines": (0, 8)}, 1, 3, 8 << 32),
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
    for single, of_macros in (
        (DESCRIPTOR_FIELDS, MACRO_FIELDS),
        (TIMED, MACRO_FIELDS),
        (STORE, SEVERAL_OF_STORE),
        *((places, MACRO_FIELDS) for places in FUNCTIONS.values()),
    ):
        ranges = [(low, width) for low, width in single.values()]
        ranges += [
            (low + m * distance, width)
            for name, (low, width, distance) in of_macros.items()
            for m in range(_n(name))
        ]
        bits = [low + i for low, width in ranges for i in range(width)]
        assert len(bits) == len(set(bits))
        assert max(bits) < DESCRIPTOR_LINES * LINE_BITS
    timed_header = TIMED_HEADER_FIELDS | {"n_entries": HEADER_FIELDS["n_entries"]}
    for words in (HEADER_FIELDS, WIDE_HEADER_FIELDS, timed_header):
        bits = [low + i for low, width in words.values() for i in range(width)]
        assert len(bits) == len(set(bits))
        assert max(bits) < 64
    every = {*DESCRIPTOR_FIELDS, *MACRO_FIELDS, *TIMED_FIELDS, *STORE_FIELDS, *LOAD_FIELDS}
    every |= {name for places in FUNCTIONS.values() for name in places}
    assert every == {field.name for field in fields(Descriptor)}


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"n_rows": 256}, "n_rows must be 0..255, not 256"),
        ({"n_rows": -1}, "n_rows must be 0..255, not -1"),
        ({"pad_top": -513}, "pad_top must be -512..511, not -513"),
        ({"skip_zero": 512}, "skip_zero must be -512..511, not 512"),
        ({"pool": 2}, "pool must be 0..1, not 2"),
        ({"low": -32769}, "low must be -32768..32767, not -32769"),
        ({"high": 32768}, "high must be -32768..32767, not 32768"),
        ({"timed": 1, "low": 1}, "low must be 0..0, not 1"),
        ({"timed": 1, "gap_bias": -1}, "gap_bias must be 0..0, not -1"),
        ({"timed": 1, "skip_mult": 65536}, "skip_mult must be 0..65535, not 65536"),
        ({"n_steps": 1}, "n_steps must be 0..0, not 1"),
        ({"u_base": 1}, "u_base must be 0..0, not 1"),
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
    assert (d.accesses, d.fires, d.n_sub_rounds, d.groups) == (2, False, 1, 1)
    t = replace(d, timed=1, n_steps=5, groups_log2=2, has_skip=1, skip_two=1)
    assert (t.accesses, t.fires, t.n_sub_rounds, t.groups, t.skip_planes) == (1, True, 2, 4, 1)
    assert replace(t, direct=1).accesses == 2
    assert not replace(t, raw=1).fires
    assert [replace(t, n_steps=n).n_sub_rounds for n in (1, 4, 8)] == [1, 1, 2]


def test_header_with_neurons() -> None:
    """What only neurons have stands where others have their multipliers."""
    n = np.zeros(KERNELS, np.int64)
    bias, initial, threshold = n - 1, n - 512, n + 5
    bias[3], initial[3], threshold[3] = 2097151, 511, -2097152
    header = Header(bias, n, n, n, threshold, initial)
    for wide in (False, True):
        lines = pack_header(header, 64, wide_multiplier=wide)
        words = [int(word) for word in lines.reshape(-1)]
        assert words[0] == 64 << 54 | 5 << 32 | 0x200 << 22 | 0x3FFFFF
        assert words[3] == 0x200000 << 32 | 0x1FF << 22 | 0x1FFFFF
        assert len(words) == (32 if wide else 16)
        again, n_entries = unpack_header(lines, fires=True)
        assert n_entries == 64
        for field in fields(Header):
            np.testing.assert_array_equal(getattr(again, field.name), getattr(header, field.name))


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
    mult, shift, post = (np.full(KERNELS, x) for x in (0x1234, 40, 0))
    lines = pack_header(Header(bias, mult, shift, post), 64, wide_multiplier=False)
    assert lines.shape == (2, 8)
    assert int(lines[0, 0]) == 64 << 54 | 40 << 48 | 0x1234 << 32 | 0xFFFF_FFFF
    assert int(lines[0, 1]) == 40 << 48 | 0x1234 << 32
    assert int(lines[1, 7]) == 40 << 48 | 0x1234 << 32 | 14


def test_wide_header_by_hand() -> None:
    bias, post = np.zeros(KERNELS, np.int64), np.arange(KERNELS) + 16
    mult, shift = np.full(KERNELS, 0x7FFE_1234), np.full(KERNELS, 31)
    lines = pack_header(Header(bias, mult, shift, post), 3, wide_multiplier=True)
    assert lines.shape == (4, 8)
    assert int(lines[0, 0]) == 3 << 54 | 31 << 48 | 0x1234 << 32
    assert int(lines[2, 0]) == 16 << 16 | 0x7FFE
    assert int(lines[3, 7]) == 31 << 16 | 0x7FFE


@pytest.mark.parametrize("wide", [False, True])
@settings(deadline=None)
@given(data=st.data())
def test_header_there_and_back(wide: bool, data: st.DataObject) -> None:
    def channels(low: int, high: int) -> Ints:
        return data.draw(hnp.arrays(np.int64, KERNELS, elements=st.integers(low, high)))

    header = Header(
        channels(-(1 << 31), (1 << 31) - 1),
        channels(0, (1 << 31) - 1 if wide else 65535),
        channels(1, 40),
        channels(0, 31 if wide else 0),
    )
    n_entries = data.draw(st.integers(0, 64))
    again, n_again = unpack_header(pack_header(header, n_entries, wide_multiplier=wide))
    for name, expected in vars(header).items():
        np.testing.assert_array_equal(getattr(again, name), expected)
    assert n_again == n_entries


def test_table_by_hand() -> None:
    table = np.arange(TABLE_SIZE) - 128
    lines = pack_table(table)
    assert lines.shape == (TABLE_LINES, 8)
    assert int(lines[0, 0]) == 0x8786_8584_8382_8180
    assert int(lines[3, 7]) == 0x7F7E_7D7C_7B7A_7978
    np.testing.assert_array_equal(unpack_table(lines, signed=True), table)
    np.testing.assert_array_equal(unpack_table(lines, signed=False), table & 0xFF)


def test_index_by_hand() -> None:
    dy, dx, block = (np.array([k]) for k in (2, 1, 3))
    assert encode_index(dy, dx, block, block_width=5, dx_width=2) == 2 << 7 | 1 << 5 | 3
    assert encode_index(dy, dx, block, block_width=8, dx_width=4) == 2 << 12 | 1 << 8 | 3
    zero = np.array([0])
    assert encode_index(zero, zero, np.array([511]), block_width=9, dx_width=0) == 511


@pytest.mark.parametrize(
    ("rows", "cols", "block_width", "dx_width"),
    [(3, 3, 5, 2), (1, 1, 9, 0), (16, 16, 8, 4), (5, 1, 6, 0)],
)
def test_every_index_there_and_back(rows: int, cols: int, block_width: int, dx_width: int) -> None:
    dy, dx, block = np.mgrid[:rows, :cols, : 1 << block_width].reshape(3, -1)
    widths = {"block_width": block_width, "dx_width": dx_width}
    codes = encode_index(dy, dx, block, **widths)
    assert len(set(codes.tolist())) == len(codes)
    assert codes.max() < 1 << CODE_WIDTHS[(rows, cols) == (16, 16)]
    np.testing.assert_array_equal(decode_index(codes, **widths), (dy, dx, block))


def test_codes_by_hand() -> None:
    line = pack_codes(np.array([1, 511, 2]), 9)
    assert int(line[0, 0]) == 1 | 511 << 9 | 2 << 18
    assert not line[0, 1:].any()
    last = pack_codes(np.array([0] * 55 + [0b100000001]), 9)
    assert bits_of(last) == 0b100000001 << 495  # 504 bits are used
    assert unpack_codes(last, 9).tolist() == [0] * 55 + [257]
    assert bits_of(pack_codes(np.array([0] * 31 + [0x8001]), 16)) == 0x8001 << 496


@pytest.mark.parametrize(("width", "n"), list(zip(CODE_WIDTHS, CODES_PER_LINES, strict=True)))
@settings(deadline=None)
@given(data=st.data())
def test_codes_there_and_back(width: int, n: int, data: st.DataObject) -> None:
    codes = data.draw(st.lists(st.integers(0, (1 << width) - 1), max_size=n))
    padded = codes + [0] * (n - len(codes))
    assert unpack_codes(pack_codes(np.array(codes, np.int64), width), width).tolist() == padded


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
