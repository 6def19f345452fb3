"""Bit layouts of a program: descriptors, headers, index codes and group-sets in lines of 512 bit.

The RTL takes the field positions from here, nothing else: arithmetic is written twice.
A line is eight words of 64 bit, the lowest first; everything is little-endian.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.mars.config import KERNELS, WORD_LINES, WORDS_PER_LINE

Lines = NDArray[np.uint64]
"""(n, 8)."""
Ints = NDArray[np.int64]

MAX_MACROS = 8
DESCRIPTOR_LINES = 2
DESCRIPTOR_FIELDS = {
    "is_input": (0, 1),
    "is_last": (1, 1),
    "wide": (2, 1),
    "kernel3": (3, 1),
    "stride2": (4, 1),
    "pad": (5, 1),
    "in_signed": (6, 1),
    "in_two": (7, 1),
    "has_skip": (8, 1),
    "skip_two": (9, 1),
    "skip_signed": (10, 1),
    "raw": (11, 1),
    "pool": (12, 1),
    "gap": (13, 1),
    "split_log2": (14, 2),
    "out_planes_log2": (16, 2),
    "n_kernel_blocks": (32, 16),
    "n_teams": (48, 4),
    "rows_per_team": (56, 8),
    "n_rows": (64, 8),
    "n_cols": (72, 8),
    "in_height": (80, 8),
    "in_width": (88, 8),
    "in_row_pitch": (96, 16),
    "in_col_pitch": (112, 16),
    "skip_row_pitch": (128, 16),
    "skip_col_pitch": (144, 16),
    "out_row_pitch": (160, 16),
    "out_col_pitch": (176, 16),
    "team_out_pitch": (192, 16),
    "skip_mult": (208, 16),
    "low": (224, 16),
    "high": (240, 16),
    "gap_mult": (256, 16),
    "gap_shift": (272, 6),
    "gap_low": (288, 16),
    "gap_high": (304, 16),
}
"""Field: (lowest bit, width)."""
SIGNED_FIELDS = frozenset({"low", "high", "gap_low", "gap_high"})
MACRO_FIELDS = {
    "in_base": (512, 16, 16),
    "skip_base": (640, 16, 16),
    "out_base": (768, 16, 16),
    "out_first_row": (896, 8, 16),
    "out_end_row": (904, 8, 16),
}
"""Field of every macro: (lowest bit of the first, width, distance)."""

HEADER_LINES = KERNELS // WORDS_PER_LINE
HEADER_FIELDS = {"bias": (0, 32), "mult": (32, 16), "shift": (48, 6), "n_entries": (54, 7)}
"""One word per output channel; `n_entries` counts only in that of the first."""
HEADER_SLOTS = 4

CODE_WIDTH = 9
CODES_PER_LINE = 56
"""A multiple of every split; 504 of the 512 bits."""
TAP_BLOCK_WIDTH = 5
"""3x3 kernels: code = (dy, dx, channel block) of 2, 2 and 5 bit; 1x1: all 9 bit are the block."""
MAX_BLOCKS = {3: 1 << TAP_BLOCK_WIDTH, 1: 1 << CODE_WIDTH}
"""Kernel size: most blocks of 16 input channels."""


@dataclass(frozen=True, kw_only=True)
class Descriptor:
    """What the hardware knows of a pass: one convolution with the pools behind it, or the input.

    Parameters
    ----------
    is_input, is_last : int
        Feature words follow instead of kernel blocks; the frame ends with this pass.
    wide : int
        8-bit weights: a kernel block has 8 kernels, not 16.
    kernel3, stride2, pad : int
        3x3 instead of 1x1, stride 2 instead of 1, padding 1 instead of 0.
    in_signed, in_two : int
        Activations are signed; they have two nibbles.
    has_skip, skip_two, skip_signed, skip_mult : int
        The residual that is added before the shift.
    raw : int
        The accumulators are the results.
    pool, gap : int
        2x2 max pooling and global average pooling of the results.
    split_log2 : int
        Macros that share the group-sets of a kernel block.
    out_planes_log2 : int
        Nibbles of a stored result: 0, 1 or 3.
    n_kernel_blocks, n_teams, rows_per_team, n_rows, n_cols : int
        Work: teams of macros have bands of `rows_per_team` rows, together `n_rows` x `n_cols`
        pixels (before pooling). Input: `n_rows` rows of `out_row_pitch` words.
    in_height, in_width : int
        Size of the input map.
    *_row_pitch, *_col_pitch, team_out_pitch : int
        Words from one row, pixel, or team's band to the next.
    low, high, gap_mult, gap_shift, gap_low, gap_high : int
        Clamps, and the requantisation of the average.
    in_base, skip_base, out_base : tuple of int
        Per macro: address of the first pixel's first tap, of the first pixel of the residual, and
        of pixel (0, 0) of the result, modulo 65536.
    out_first_row, out_end_row : tuple of int
        Per macro: the rows of the result that its memory stores.
    """

    is_input: int = 0
    is_last: int = 0
    wide: int = 0
    kernel3: int = 0
    stride2: int = 0
    pad: int = 0
    in_signed: int = 0
    in_two: int = 0
    has_skip: int = 0
    skip_two: int = 0
    skip_signed: int = 0
    raw: int = 0
    pool: int = 0
    gap: int = 0
    split_log2: int = 0
    out_planes_log2: int = 0
    n_kernel_blocks: int = 0
    n_teams: int = 1
    rows_per_team: int = 1
    n_rows: int = 1
    n_cols: int = 1
    in_height: int = 1
    in_width: int = 1
    in_row_pitch: int = 0
    in_col_pitch: int = 0
    skip_row_pitch: int = 0
    skip_col_pitch: int = 0
    out_row_pitch: int = 0
    out_col_pitch: int = 0
    team_out_pitch: int = 0
    skip_mult: int = 0
    low: int = 0
    high: int = 0
    gap_mult: int = 0
    gap_shift: int = 0
    gap_low: int = 0
    gap_high: int = 0
    in_base: tuple[int, ...] = (0,) * MAX_MACROS
    skip_base: tuple[int, ...] = (0,) * MAX_MACROS
    out_base: tuple[int, ...] = (0,) * MAX_MACROS
    out_first_row: tuple[int, ...] = (0,) * MAX_MACROS
    out_end_row: tuple[int, ...] = (0,) * MAX_MACROS

    @property
    def split(self) -> int:
        """Macros that share a kernel block."""
        return 1 << self.split_log2

    @property
    def out_planes(self) -> int:
        """Words per stored pixel and kernel block."""
        return 1 << self.out_planes_log2

    @property
    def in_planes(self) -> int:
        """Accesses per group-set."""
        return 1 + self.in_two

    @property
    def skip_planes(self) -> int:
        """Words of the residual per pixel and kernel block."""
        return self.has_skip * (1 + self.skip_two)

    @property
    def n_rounds(self) -> int:
        """Pixels that each team computes per kernel block."""
        return self.rows_per_team * self.n_cols


def pack_descriptor(descriptor: Descriptor) -> Lines:
    """Two lines, (2, 8)."""
    bits = 0
    for name, (low, width) in DESCRIPTOR_FIELDS.items():
        bits |= _field(name, getattr(descriptor, name), width, name in SIGNED_FIELDS) << low
    for name, (low, width, distance) in MACRO_FIELDS.items():
        values = getattr(descriptor, name)
        for m, value in enumerate(values):
            bits |= _field(name, value, width, signed=False) << (low + m * distance)
    return lines_of(bits, DESCRIPTOR_LINES)


def unpack_descriptor(lines: Lines) -> Descriptor:
    """The descriptor in two lines."""
    bits = bits_of(lines)
    values: dict[str, Any] = {}
    for name, (low, width) in DESCRIPTOR_FIELDS.items():
        value = bits >> low & ((1 << width) - 1)
        is_negative = name in SIGNED_FIELDS and value >> (width - 1)
        values[name] = value - (1 << width) if is_negative else value
    for name, (low, width, distance) in MACRO_FIELDS.items():
        values[name] = tuple(
            bits >> (low + m * distance) & ((1 << width) - 1) for m in range(MAX_MACROS)
        )
    return Descriptor(**values)


def _field(name: str, value: int, width: int, signed: bool) -> int:
    low, high = (-(1 << (width - 1)), 1 << (width - 1)) if signed else (0, 1 << width)
    if not low <= value < high:
        raise ValueError(f"{name} must be {low}..{high - 1}, not {value}")
    return value & ((1 << width) - 1)


def lines_of(bits: int, n_lines: int) -> Lines:
    """The lines that hold an integer."""
    data = bits.to_bytes(n_lines * WORDS_PER_LINE * 8, "little")
    words: Lines = np.frombuffer(data, "<u8").astype(np.uint64)
    return words.reshape(n_lines, WORDS_PER_LINE)


def bits_of(lines: Lines) -> int:
    """The integer that lines hold."""
    return int.from_bytes(lines.astype("<u8").tobytes(), "little")


def pack_header(bias: Ints, mult: Ints, shift: Ints, n_entries: int) -> Lines:
    """Requantisation of a kernel block's channels, each (16,), and its entries: (2, 8)."""
    words = (
        (bias & 0xFFFFFFFF).astype(np.uint64)
        | (mult.astype(np.uint64) << np.uint64(32))
        | (shift.astype(np.uint64) << np.uint64(48))
    )
    words[0] |= np.uint64(n_entries << 54)
    lines: Lines = words.reshape(HEADER_LINES, WORDS_PER_LINE)
    return lines


def unpack_header(lines: Lines) -> tuple[Ints, Ints, Ints, int]:
    """`bias`, `mult`, `shift`, each (16,), and `n_entries`."""
    words = lines.reshape(-1)
    bias = (words & np.uint64(0xFFFFFFFF)).astype(np.uint32).view(np.int32).astype(np.int64)
    mult = (words >> np.uint64(32) & np.uint64(0xFFFF)).astype(np.int64)
    shift = (words >> np.uint64(48) & np.uint64(0x3F)).astype(np.int64)
    return bias, mult, shift, int(words[0]) >> 54 & 0x7F


def encode_index(dy: Ints, dx: Ints, block: Ints, *, kernel3: bool) -> Ints:
    """Index codes of group-sets."""
    if kernel3:
        return dy << (TAP_BLOCK_WIDTH + 2) | dx << TAP_BLOCK_WIDTH | block
    return block


def decode_index(codes: Ints, *, kernel3: bool) -> tuple[Ints, Ints, Ints]:
    """`dy`, `dx` and channel block of index codes."""
    if kernel3:
        return (
            codes >> (TAP_BLOCK_WIDTH + 2),
            codes >> TAP_BLOCK_WIDTH & 3,
            codes & ((1 << TAP_BLOCK_WIDTH) - 1),
        )
    return np.zeros_like(codes), np.zeros_like(codes), codes


def pack_codes(codes: Ints) -> Lines:
    """One line with up to 56 codes, (1, 8)."""
    bits = sum(int(code) << (CODE_WIDTH * i) for i, code in enumerate(codes))
    return lines_of(bits, 1)


def unpack_codes(line: Lines) -> Ints:
    """The 56 codes of a line."""
    bits = bits_of(line)
    mask = (1 << CODE_WIDTH) - 1
    return np.array([bits >> (CODE_WIDTH * i) & mask for i in range(CODES_PER_LINE)], np.int64)


def pack_entries(words: NDArray[np.uint64]) -> Lines:
    """Group-sets (entries, split, 16 rows) as lines: row by row, in it split by split."""
    lines: Lines = words.swapaxes(1, 2).reshape(-1, WORDS_PER_LINE)
    return lines


def unpack_entries(lines: Lines, split: int) -> NDArray[np.uint64]:
    """The inverse of `pack_entries`: (entries, split, 16)."""
    words: Lines = lines.reshape(-1, WORD_LINES, split).swapaxes(1, 2)
    return words


def lines_per_entry(split: int) -> int:
    """Lines of one entry: a group-set for each macro of a team."""
    return split * WORD_LINES // WORDS_PER_LINE


_DESCRIBED = {*DESCRIPTOR_FIELDS, *MACRO_FIELDS}
if {field.name for field in fields(Descriptor)} != _DESCRIBED:  # pragma: no cover
    raise AssertionError("Descriptor and its layout must have the same fields")
