"""Programs: their lines in order, there and back, and what is no program."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.mars.layout import Descriptor, pack_codes, pack_descriptor, pack_entries, pack_header
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


def kernel_block(rng: np.random.Generator, n_entries: int, split: int) -> KernelBlock:
    return KernelBlock(
        rng.integers(-(1 << 31), 1 << 31, 16),
        rng.integers(0, 65536, 16),
        rng.integers(1, 41, 16),
        rng.integers(0, 512, (n_entries, split)),
        rng.integers(0, 1 << 64, (n_entries, split, 16), np.uint64),
    )


def random_pass(seed: int, split_log2: int, entries: list[int], *, is_last: bool) -> Pass:
    rng = np.random.default_rng(seed)
    descriptor = Descriptor(
        split_log2=split_log2,
        n_kernel_blocks=len(entries),
        is_last=int(is_last),
        in_row_pitch=int(rng.integers(1 << 16)),
    )
    return Pass(descriptor, tuple(kernel_block(rng, n, 1 << split_log2) for n in entries))


def assert_equal(expected: Pass, actual: Pass) -> None:
    assert actual.descriptor == expected.descriptor
    for one, other in zip(expected.blocks, actual.blocks, strict=True):
        for name in ("bias", "mult", "shift", "codes", "words"):
            np.testing.assert_array_equal(getattr(other, name), getattr(one, name), name)


def test_order_of_lines() -> None:
    """An index line comes where its first code is needed, and again after 56 of them."""
    one = random_pass(1, 3, [1, 0, 7], is_last=True)
    first, empty, last = one.blocks
    codes = np.concatenate([first.codes, last.codes]).reshape(-1)

    def header(block: KernelBlock):
        return pack_header(block.bias, block.mult, block.shift, block.n_entries)

    expected = [
        pack_descriptor(one.descriptor),
        header(first),
        pack_codes(codes[:56]),
        pack_entries(first.words),
        header(empty),
        header(last),
        pack_entries(last.words[:6]),
        pack_codes(codes[56:]),
        pack_entries(last.words[6:]),
    ]
    np.testing.assert_array_equal(encode_pass(one), np.concatenate(expected))
    assert (one.n_sets, one.n_index_lines) == (64, 2)


def test_56_codes_need_one_line() -> None:
    assert len(encode_pass(random_pass(1, 0, [56], is_last=True))) == 2 + 2 + 1 + 56 * 2
    assert len(encode_pass(random_pass(1, 0, [56, 0], is_last=True))) == 2 + 4 + 1 + 56 * 2
    assert len(encode_pass(random_pass(1, 0, [56, 1], is_last=True))) == 2 + 4 + 2 + 57 * 2


PASSES = st.lists(
    st.tuples(st.integers(0, 3), st.lists(st.integers(0, 64), min_size=1, max_size=3)),
    min_size=1,
    max_size=3,
)


@settings(deadline=None)
@given(PASSES, st.integers(0, 1000))
def test_there_and_back(shapes: list[tuple[int, list[int]]], seed: int) -> None:
    passes = tuple(
        random_pass(seed + k, split, entries, is_last=k == len(shapes) - 1)
        for k, (split, entries) in enumerate(shapes)
    )
    lines = encode(passes)
    for expected, actual in zip(passes, decode(from_bytes(to_bytes(lines))), strict=True):
        assert_equal(expected, actual)


def test_every_cut_is_refused() -> None:
    lines = encode((random_pass(1, 1, [2, 0], is_last=False), random_pass(2, 0, [1], is_last=True)))
    for n in range(len(lines)):
        with pytest.raises(ProgramError, match="program must go on for"):
            decode(lines[:n])


def test_text_of_a_cut() -> None:
    lines = encode((random_pass(1, 3, [1], is_last=True),))
    with pytest.raises(ProgramError) as error:
        decode(lines[:-1])
    assert str(error.value) == "program must go on for 16 lines, not 15"


def test_lines_behind_the_end() -> None:
    lines = encode((random_pass(1, 0, [1], is_last=True),))
    with pytest.raises(ProgramError) as error:
        decode(np.concatenate([lines, lines[:3]]))
    assert str(error.value) == "program must end with its last pass, not go on for 3 lines"


def test_bytes() -> None:
    lines = encode((random_pass(1, 0, [], is_last=True),))
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
