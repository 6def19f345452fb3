"""A program: what the accelerator reads in one frame, as lines and as what they mean."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.mars.config import LINE_BITS, WORD_LINES, WORDS_PER_LINE
from model.mars.layout import (
    CODES_PER_LINE,
    DESCRIPTOR_LINES,
    HEADER_LINES,
    Descriptor,
    Ints,
    Lines,
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


class ProgramError(ValueError):
    """The lines are no program."""


@dataclass(frozen=True)
class KernelBlock:
    """Up to 16 output channels of a pass.

    Parameters
    ----------
    bias, mult, shift : (16,)
        Requantisation per channel.
    codes : (entries, split)
        Index codes, one group-set of each entry for every macro of a team.
    words : (entries, split, 16)
        Their rows.
    """

    bias: Ints
    mult: Ints
    shift: Ints
    codes: Ints
    words: NDArray[np.uint64]

    @property
    def n_entries(self) -> int:
        """Group-sets per macro."""
        return len(self.codes)


@dataclass(frozen=True)
class Pass:
    """A descriptor and its kernel blocks."""

    descriptor: Descriptor
    blocks: tuple[KernelBlock, ...]

    @property
    def n_sets(self) -> int:
        """Stored group-sets, those that fill up entries included."""
        return sum(block.codes.size for block in self.blocks)

    @property
    def n_index_lines(self) -> int:
        """Lines with index codes."""
        return -(-self.n_sets // CODES_PER_LINE)


def encode_pass(one: Pass) -> Lines:
    """The lines of a pass in the order in which the loader wants them."""
    parts = [pack_descriptor(one.descriptor)]
    codes = np.concatenate([block.codes.reshape(-1) for block in one.blocks] or [np.zeros(0, int)])
    done = 0
    for block in one.blocks:
        parts.append(pack_header(block.bias, block.mult, block.shift, block.n_entries))
        for entry in block.words:
            if done % CODES_PER_LINE == 0:
                parts.append(pack_codes(codes[done : done + CODES_PER_LINE]))
            parts.append(pack_entries(entry[np.newaxis]))
            done += len(entry)
    return np.concatenate(parts)


def encode(passes: tuple[Pass, ...]) -> Lines:
    """The lines of a program."""
    return np.concatenate([encode_pass(one) for one in passes])


def encode_input(descriptor: Descriptor, words: NDArray[np.uint64]) -> Lines:
    """The lines of an input packet: the descriptor, then its feature words."""
    padded = np.zeros(-(-len(words) // WORDS_PER_LINE) * WORDS_PER_LINE, np.uint64)
    padded[: len(words)] = words
    return np.concatenate([pack_descriptor(descriptor), padded.reshape(-1, WORDS_PER_LINE)])


def decode(lines: Lines) -> tuple[Pass, ...]:
    """What a program means, decoded in the order in which the loader does it.

    Raises
    ------
    ProgramError
        The lines end within a pass, or go on behind the last one.
    """
    passes: list[Pass] = []
    rest = lines
    while not passes or not passes[-1].descriptor.is_last:
        one, rest = _decode_pass(rest)
        passes.append(one)
    if len(rest):
        raise ProgramError(f"program must end with its last pass, not go on for {len(rest)} lines")
    return tuple(passes)


def _take(lines: Lines, n: int) -> tuple[Lines, Lines]:
    if len(lines) < n:
        raise ProgramError(f"program must go on for {n} lines, not {len(lines)}")
    return lines[:n], lines[n:]


def _decode_pass(lines: Lines) -> tuple[Pass, Lines]:
    first, rest = _take(lines, DESCRIPTOR_LINES)
    descriptor = unpack_descriptor(first)
    split = descriptor.split
    blocks = []
    pending = np.zeros(0, np.int64)
    for _ in range(descriptor.n_kernel_blocks):
        header, rest = _take(rest, HEADER_LINES)
        bias, mult, shift, n_entries = unpack_header(header)
        codes, parts = [], []
        for _ in range(n_entries):
            if not len(pending):
                line, rest = _take(rest, 1)
                pending = unpack_codes(line)
            codes.append(pending[:split])
            pending = pending[split:]
            entry, rest = _take(rest, lines_per_entry(split))
            parts.append(entry)
        words = np.concatenate(parts) if parts else np.zeros((0, WORDS_PER_LINE), np.uint64)
        blocks.append(
            KernelBlock(
                bias,
                mult,
                shift,
                np.array(codes, np.int64).reshape(n_entries, split),
                unpack_entries(words, split).reshape(n_entries, split, WORD_LINES),
            )
        )
    return Pass(descriptor, tuple(blocks)), rest


def to_bytes(lines: Lines) -> bytes:
    """Lines as they lie in memory."""
    return lines.astype("<u8").tobytes()


def from_bytes(data: bytes) -> Lines:
    """Lines out of memory."""
    if len(data) % (LINE_BITS // 8):
        raise ProgramError(f"program must be whole lines of {LINE_BITS // 8} bytes")
    return np.frombuffer(data, "<u8").astype(np.uint64).reshape(-1, WORDS_PER_LINE)
