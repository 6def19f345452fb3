"""A program: what the accelerator reads in one frame, as lines and as what they mean."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from model.mars.config import LINE_BITS, WORD_LINES, WORDS_PER_LINE
from model.mars.layout import (
    DESCRIPTOR_LINES,
    OPERAND,
    TABLE_LINES,
    Descriptor,
    Header,
    Ints,
    Lines,
    header_lines,
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


class ProgramError(ValueError):
    """The lines are no program."""


@dataclass(frozen=True)
class KernelBlock:
    """Up to 16 output channels of a pass.

    Parameters
    ----------
    header : Header
        Requantisation per channel.
    codes : (entries, split)
        Index codes, one group-set of each entry for every macro of a team.
    words : (entries, split, 16)
        Their rows; 0 where a map stands for them.
    """

    header: Header
    codes: Ints
    words: NDArray[np.uint64]

    @property
    def n_entries(self) -> int:
        """Group-sets per macro."""
        return len(self.codes)


@dataclass(frozen=True)
class Pass:
    """A descriptor, its lookup table, (256,) or None, and its kernel blocks.

    An input whose feature words are in the program, as constants are, has them in `words`.
    """

    descriptor: Descriptor
    blocks: tuple[KernelBlock, ...]
    table: Ints | None = None
    words: NDArray[np.uint64] | None = None

    @property
    def n_kept_words(self) -> int:
        """Words of a result that a store writes: not those of other results in the same map."""
        d = self.descriptor
        return d.n_words // d.pixel_words * (d.kept_end - d.kept_word) if d.is_store else 0

    @property
    def n_sets(self) -> int:
        """Stored group-sets, those that fill up entries included."""
        return sum(block.codes.size for block in self.blocks)

    @property
    def entry_lines(self) -> int:
        """Lines of an entry; those of a map are in the feature memories."""
        d = self.descriptor
        return 0 if d.function == OPERAND else lines_per_entry(d.split)

    @property
    def n_word_lines(self) -> int:
        """Lines with feature words."""
        return 0 if self.words is None else -(-len(self.words) // WORDS_PER_LINE)

    @property
    def n_index_lines(self) -> int:
        """Lines with index codes."""
        return -(-self.n_sets // self.descriptor.codes_per_line)

    def n_lines(self, *, wide_multiplier: bool) -> int:
        """Lines of the program."""
        n_entries = sum(block.n_entries for block in self.blocks)
        return (
            DESCRIPTOR_LINES
            + (0 if self.table is None else TABLE_LINES)
            + header_lines(wide_multiplier) * len(self.blocks)
            + self.n_index_lines
            + n_entries * self.entry_lines
            + self.n_word_lines
        )


def encode_pass(one: Pass, *, wide_multiplier: bool) -> Lines:
    """The lines of a pass in the order in which the loader wants them."""
    d = one.descriptor
    parts = [pack_descriptor(d)]
    if one.table is not None:
        parts.append(pack_table(one.table))
    codes = np.concatenate([block.codes.reshape(-1) for block in one.blocks] or [np.zeros(0, int)])
    done = 0
    for block in one.blocks:
        parts.append(pack_header(block.header, block.n_entries, wide_multiplier=wide_multiplier))
        for entry in block.words:
            if done % d.codes_per_line == 0:
                parts.append(pack_codes(codes[done : done + d.codes_per_line], d.code_width))
            if one.entry_lines:
                parts.append(pack_entries(entry[np.newaxis]))
            done += len(entry)
    if one.words is not None:
        padded = np.zeros(one.n_word_lines * WORDS_PER_LINE, np.uint64)
        padded[: len(one.words)] = one.words
        parts.append(padded.reshape(-1, WORDS_PER_LINE))
    return np.concatenate(parts)


def encode(passes: tuple[Pass, ...], *, wide_multiplier: bool) -> Lines:
    """The lines of a program."""
    return np.concatenate([encode_pass(one, wide_multiplier=wide_multiplier) for one in passes])


def encode_input(descriptor: Descriptor, words: NDArray[np.uint64]) -> Lines:
    """The lines of an input packet: the descriptor, then its feature words."""
    return encode_pass(Pass(descriptor, (), words=words), wide_multiplier=False)


def decode(lines: Lines, *, wide_multiplier: bool) -> tuple[Pass, ...]:
    """What a program means, decoded in the order in which the loader does it.

    A segment begins with the maps that the one before it says, whose words are elsewhere; those of
    other inputs follow their descriptor.

    Raises
    ------
    ProgramError
        The lines end within a pass, or go on behind the last one.
    """
    passes: list[Pass] = []
    rest, n_loads = lines, 0
    while not passes or not ends_frame(passes[-1]):
        one, rest = _decode_pass(rest, header_lines(wide_multiplier))
        d = one.descriptor
        if d.is_input and not n_loads:
            n_words = d.n_rows * d.out_row_pitch
            own, rest = _take(rest, -(-n_words // WORDS_PER_LINE))
            one = replace(one, words=own.reshape(-1)[:n_words])
        n_loads = sum(map(bool, d.load_lines)) if d.is_last else max(n_loads - 1, 0)
        passes.append(one)
    if len(rest):
        raise ProgramError(f"program must end with its last pass, not go on for {len(rest)} lines")
    return tuple(passes)


def ends_frame(one: Pass) -> bool:
    """Whether nothing follows a pass."""
    return bool(one.descriptor.is_last and not one.descriptor.next_lines)


def segments_of(passes: Sequence[Pass]) -> list[tuple[Pass, ...]]:
    """The passes of a program, segment by segment."""
    ends = [k + 1 for k, one in enumerate(passes) if one.descriptor.is_last]
    return [tuple(passes[a:b]) for a, b in zip([0, *ends[:-1]], ends, strict=True)]


def _take(lines: Lines, n: int) -> tuple[Lines, Lines]:
    if len(lines) < n:
        raise ProgramError(f"program must go on for {n} lines, not {len(lines)}")
    return lines[:n], lines[n:]


def _decode_pass(lines: Lines, n_header: int) -> tuple[Pass, Lines]:
    first, rest = _take(lines, DESCRIPTOR_LINES)
    descriptor = unpack_descriptor(first)
    split, is_operand = descriptor.split, descriptor.function == OPERAND
    table = None
    if descriptor.lookup:
        first, rest = _take(rest, TABLE_LINES)
        table = unpack_table(first, signed=bool(descriptor.lookup_signed))
    blocks = []
    pending = np.zeros(0, np.int64)
    for _ in range(descriptor.n_kernel_blocks):
        first, rest = _take(rest, n_header)
        header, n_entries = unpack_header(first, fires=descriptor.fires)
        codes, parts = [], []
        for _ in range(n_entries):
            if not len(pending):
                line, rest = _take(rest, 1)
                pending = unpack_codes(line, descriptor.code_width)
            codes.append(pending[:split])
            pending = pending[split:]
            if is_operand:
                parts.append(np.zeros((lines_per_entry(split), WORDS_PER_LINE), np.uint64))
                continue
            entry, rest = _take(rest, lines_per_entry(split))
            parts.append(entry)
        words = np.concatenate(parts) if parts else np.zeros((0, WORDS_PER_LINE), np.uint64)
        blocks.append(
            KernelBlock(
                header,
                np.array(codes, np.int64).reshape(n_entries, split),
                unpack_entries(words, split).reshape(n_entries, split, WORD_LINES),
            )
        )
    return Pass(descriptor, tuple(blocks), table), rest


def to_bytes(lines: Lines) -> bytes:
    """Lines as they lie in memory."""
    return lines.astype("<u8").tobytes()


def from_bytes(data: bytes) -> Lines:
    """Lines out of memory."""
    if len(data) % (LINE_BITS // 8):
        raise ProgramError(f"program must be whole lines of {LINE_BITS // 8} bytes")
    return np.frombuffer(data, "<u8").astype(np.uint64).reshape(-1, WORDS_PER_LINE)
