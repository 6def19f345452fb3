"""Programs: their lines in order, there and back, and what is no program."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.mars.layout import (
    Descriptor,
    Header,
    pack_codes,
    pack_descriptor,
    pack_entries,
    pack_header,
    pack_table,
)
from model.mars.program import (
    KernelBlock,
    Pass,
    ProgramError,
    decode,
    encode,
    encode_input,
    encode_pass,
    from_bytes,
    to_bytes,
)


def kernel_block(
    rng: np.random.Generator, n_entries: int, split: int, *, wide: bool
) -> KernelBlock:
    header = Header(
        rng.integers(-(1 << 31), 1 << 31, 16),
        rng.integers(0, 1 << 31 if wide else 1 << 16, 16),
        rng.integers(1, 41, 16),
        rng.integers(0, 32 if wide else 1, 16),
    )
    return KernelBlock(
        header,
        rng.integers(0, 512, (n_entries, split)),
        rng.integers(0, 1 << 64, (n_entries, split, 16), np.uint64),
    )


def random_pass(
    seed: int,
    split_log2: int,
    entries: list[int],
    *,
    is_last: bool,
    wide: bool = False,
    **fields: int,
) -> Pass:
    rng = np.random.default_rng(seed)
    descriptor = Descriptor(
        split_log2=split_log2,
        n_kernel_blocks=len(entries),
        is_last=int(is_last),
        in_row_step=int(rng.integers(1 << 16)),
        **fields,
    )
    blocks = tuple(kernel_block(rng, n, 1 << split_log2, wide=wide) for n in entries)
    table = rng.integers(-128, 128, 256) if fields.get("lookup") else None
    return Pass(descriptor, blocks, table)


def assert_equal(expected: Pass, actual: Pass) -> None:
    assert actual.descriptor == expected.descriptor
    np.testing.assert_array_equal(actual.table, expected.table)
    for one, other in zip(expected.blocks, actual.blocks, strict=True):
        for name in ("codes", "words"):
            np.testing.assert_array_equal(getattr(other, name), getattr(one, name), name)
        for name, values in vars(one.header).items():
            np.testing.assert_array_equal(getattr(other.header, name), values, name)


def test_order_of_lines() -> None:
    """An index line comes where its first code is needed, and again after 56 of them."""
    one = random_pass(1, 3, [1, 0, 7], is_last=True)
    first, empty, last = one.blocks
    codes = np.concatenate([first.codes, last.codes]).reshape(-1)

    def header(block: KernelBlock):
        return pack_header(block.header, block.n_entries, wide_multiplier=False)

    expected = [
        pack_descriptor(one.descriptor),
        header(first),
        pack_codes(codes[:56], 9),
        pack_entries(first.words),
        header(empty),
        header(last),
        pack_entries(last.words[:6]),
        pack_codes(codes[56:], 9),
        pack_entries(last.words[6:]),
    ]
    np.testing.assert_array_equal(encode_pass(one, wide_multiplier=False), np.concatenate(expected))
    assert (one.n_sets, one.n_index_lines) == (64, 2)


def test_56_codes_need_one_line() -> None:
    def n_lines(entries: list[int], **fields: int) -> int:
        one = random_pass(1, 0, entries, is_last=True, **fields)
        return len(encode_pass(one, wide_multiplier=bool(fields.get("wide"))))

    assert n_lines([56]) == 2 + 2 + 1 + 56 * 2
    assert n_lines([56, 0]) == 2 + 4 + 1 + 56 * 2
    assert n_lines([56, 1]) == 2 + 4 + 2 + 57 * 2
    assert n_lines([32], long_codes=1) == 2 + 2 + 1 + 32 * 2
    assert n_lines([33], long_codes=1) == 2 + 2 + 2 + 33 * 2
    assert n_lines([1], lookup=1) == 2 + 4 + 2 + 1 + 2
    assert n_lines([1, 0], wide=True) == 2 + 4 + 1 + 2 + 4


def test_table_follows_the_descriptor() -> None:
    one = random_pass(1, 0, [1], is_last=True, lookup=1, lookup_signed=1)
    lines = encode_pass(one, wide_multiplier=False)
    np.testing.assert_array_equal(lines[2:6], pack_table(one.table))


PASSES = st.lists(
    st.tuples(st.integers(0, 3), st.lists(st.integers(0, 64), min_size=1, max_size=3)),
    min_size=1,
    max_size=3,
)


@settings(deadline=None)
@given(PASSES, st.integers(0, 1000), st.booleans(), st.integers(0, 1), st.integers(0, 1))
def test_there_and_back(
    shapes: list[tuple[int, list[int]]], seed: int, wide: bool, long_codes: int, lookup: int
) -> None:
    fields = {"long_codes": long_codes, "lookup": lookup, "lookup_signed": lookup}
    passes = tuple(
        random_pass(seed + k, split, entries, is_last=k == len(shapes) - 1, wide=wide, **fields)
        for k, (split, entries) in enumerate(shapes)
    )
    lines = encode(passes, wide_multiplier=wide)
    again = decode(from_bytes(to_bytes(lines)), wide_multiplier=wide)
    for expected, actual in zip(passes, again, strict=True):
        assert_equal(expected, actual)


def test_every_cut_is_refused() -> None:
    passes = (random_pass(1, 1, [2, 0], is_last=False), random_pass(2, 0, [1], is_last=True))
    lines = encode(passes, wide_multiplier=False)
    for n in range(len(lines)):
        with pytest.raises(ProgramError, match="program must go on for"):
            decode(lines[:n], wide_multiplier=False)


def test_constants_are_in_the_program() -> None:
    """Words of an input follow its descriptor, but for maps with which a segment begins."""
    words = np.arange(1, 13, dtype=np.uint64)
    fields = {"is_input": 1, "n_rows": 3, "out_row_pitch": 4}
    constants = Pass(replace(Descriptor(), **fields), (), words=words)
    last = random_pass(1, 0, [1], is_last=True)
    loads = {"next_lines": 9, "load_line": (0, 5), "load_lines": (0, 2)}
    onward = Pass(replace(Descriptor(), is_store=1, is_last=1, **loads), ())
    load = Pass(constants.descriptor, ())
    passes = (constants, onward, load, constants, last)
    lines = encode(passes, wide_multiplier=False)
    assert constants.n_lines(wide_multiplier=False) == 4
    assert lines[2:4].reshape(-1).tolist() == [*words.tolist(), 0, 0, 0, 0]
    again = decode(lines, wide_multiplier=False)
    assert [one.descriptor for one in again] == [one.descriptor for one in passes]
    for expected, actual in zip(passes, again, strict=True):
        np.testing.assert_array_equal(actual.words, expected.words)
    with pytest.raises(ProgramError, match="program must go on for 2 lines, not 1"):
        decode(lines[:3], wide_multiplier=False)


def test_text_of_a_cut() -> None:
    lines = encode((random_pass(1, 3, [1], is_last=True),), wide_multiplier=False)
    with pytest.raises(ProgramError) as error:
        decode(lines[:-1], wide_multiplier=False)
    assert str(error.value) == "program must go on for 16 lines, not 15"


def test_lines_behind_the_end() -> None:
    lines = encode((random_pass(1, 0, [1], is_last=True),), wide_multiplier=False)
    with pytest.raises(ProgramError) as error:
        decode(np.concatenate([lines, lines[:3]]), wide_multiplier=False)
    assert str(error.value) == "program must end with its last pass, not go on for 3 lines"


def test_bytes() -> None:
    lines = encode((random_pass(1, 0, [], is_last=True),), wide_multiplier=False)
    assert to_bytes(lines)[:8] == int(lines[0, 0]).to_bytes(8, "little")
    with pytest.raises(ProgramError) as error:
        from_bytes(bytes(65))
    assert str(error.value) == "program must be whole lines of 64 bytes"


@pytest.mark.parametrize(("n_words", "n_lines"), [(1, 3), (8, 3), (9, 4)])
def test_input_packet(n_words: int, n_lines: int) -> None:
    descriptor = replace(Descriptor(), is_input=1, out_row_pitch=n_words)
    words = np.arange(1, n_words + 1, dtype=np.uint64)
    packet = encode_input(descriptor, words)
    assert packet.shape == (n_lines, 8)
    np.testing.assert_array_equal(packet[:2], pack_descriptor(descriptor))
    stored = packet[2:].reshape(-1)
    np.testing.assert_array_equal(stored[:n_words], words)
    assert not stored[n_words:].any()
