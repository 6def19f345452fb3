"""Bit layouts of a program: descriptors, headers, index codes and group-sets in lines of 512 bit.

The RTL takes the field positions from here, nothing else: arithmetic is written twice.
A line is eight words of 64 bit, the lowest first; everything is little-endian.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.mars.config import KERNELS, WORD_LINES, WORDS_PER_LINE, WORDS_PER_WRITE

Lines = NDArray[np.uint64]
"""(n, 8)."""
Ints = NDArray[np.int64]

MAX_MACROS = 8
DESCRIPTOR_LINES = 2
DESCRIPTOR_FIELDS = {
    "is_input": (0, 1),
    "is_last": (1, 1),
    "wide": (2, 1),
    "long_codes": (3, 1),
    "maximum": (4, 1),
    "lookup": (5, 1),
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
    "lookup_signed": (18, 1),
    "timed": (19, 1),
    "block_width": (20, 5),
    "dx_width": (25, 3),
    "stacked": (28, 1),
    "is_store": (29, 1),
    "n_kernel_blocks": (32, 16),
    "n_teams": (48, 4),
    "first_word": (52, 3),
    "rows_per_team": (56, 8),
    "n_rows": (64, 8),
    "n_cols": (72, 8),
    "in_height": (80, 8),
    "in_width": (88, 8),
    "in_row_step": (96, 16),
    "in_col_step": (112, 16),
    "skip_row_pitch": (128, 16),
    "skip_col_pitch": (144, 16),
    "out_row_pitch": (160, 16),
    "out_col_pitch": (176, 16),
    "team_out_pitch": (192, 16),
    "low": (208, 16),
    "high": (224, 16),
    "offset": (240, 16),
    "skip_mult": (256, 32),
    "gap_mult": (288, 32),
    "gap_bias": (320, 32),
    "gap_shift": (352, 6),
    "gap_post_shift": (360, 5),
    "gap_low": (368, 16),
    "gap_high": (384, 16),
    "gap_offset": (400, 16),
    "tap_row_pitch": (416, 16),
    "tap_col_pitch": (432, 16),
    "row_stride": (448, 4),
    "col_stride": (452, 4),
    "row_dilation": (456, 3),
    "col_dilation": (459, 3),
    "pad_left": (464, 4),
    "pad_value": (472, 8),
    "team_in_rows": (480, 12),
    "pad_top": (492, 10),
    "skip_zero": (502, 10),
}
"""Field: (lowest bit, width)."""
SIGNED_FIELDS = frozenset(
    {
        "low",
        "high",
        "offset",
        "gap_bias",
        "gap_low",
        "gap_high",
        "gap_offset",
        "pad_top",
        "skip_zero",
    }
)
TIMED_FIELDS = {
    "direct": (208, 1),
    "soft": (209, 1),
    "pixel_sum": (210, 1),
    "u_load": (211, 1),
    "u_store": (212, 1),
    "groups_log2": (213, 2),
    "u_again": (215, 1),
    "leak": (216, 4),
    "n_steps": (220, 5),
    "initial_shift": (225, 3),
    "limit": (228, 15),
    "u_planes_log2": (243, 2),
    "out_block_log2": (245, 3),
    "u_col_pitch": (248, 8),
    "u_row_pitch": (272, 16),
    "u_base": (288, 16),
}
"""Of a pass that works in time, where others have what is in `UNTIMED_FIELDS`."""
UNTIMED_FIELDS = frozenset(
    {
        "low",
        "high",
        "offset",
        "gap_mult",
        "gap_bias",
        "gap_shift",
        "gap_post_shift",
        "gap_low",
        "gap_high",
        "gap_offset",
    }
)
"""0 in a pass that works in time; its `skip_mult` has 16 bits."""
TIMED_SKIP_MULT_WIDTH = 16
PRODUCTS, SOFTMAX, NORMALISATION, OPERAND = range(4)
"""What `function` says a pass computes: products with the program's weights; probabilities, or
normalised values of the channels of a pixel; products with a map."""
ROW_PHASES = {SOFTMAX: 3, NORMALISATION: 2}
"""Times that a pixel is walked, a clock per block of channels."""
AVERAGE_FIELDS = frozenset(name for name in UNTIMED_FIELDS if name.startswith("gap_"))
FUNCTION_PLACE = (30, 2)
FUNCTION_FIELDS: dict[int, dict[str, tuple[int, int]]] = {
    PRODUCTS: {},
    SOFTMAX: {"function": FUNCTION_PLACE, "row_channels": (288, 11), "octaves": (320, 20)},
    NORMALISATION: {"function": FUNCTION_PLACE, "row_channels": (288, 11), "epsilon": (320, 32)},
    OPERAND: {
        "function": FUNCTION_PLACE,
        "op_base": (288, 16),
        "op_col_pitch": (304, 16),
        "op_tokens": (320, 16),
        "op_channels": (336, 16),
        "op_transposed": (352, 1),
    },
}
"""Of a pass with a function, where others have `AVERAGE_FIELDS`."""
UNSTORED_FIELDS = frozenset({"skip_mult"})
"""Also 0 in a pass that stores a result."""
STORE_FIELDS = {
    "map_word": (208, 32),
    "n_words": (240, 24),
    "team_words": (264, 16),
    "pixel_words": (280, 16),
    "kept_word": (296, 16),
    "kept_end": (312, 16),
    "next_lines": (328, 24),
}
"""Of a pass that stores a result in memory, where others have what is in `UNTIMED_FIELDS`."""
MAX_LOADS = 2
"""Maps that a segment reads from memory at most."""
LOAD_FIELDS = {
    "load_line": (640, 26, 64),
    "load_input": (666, 1, 64),
    "load_lines": (672, 24, 64),
}
"""Of every map that the next segment reads: (lowest bit of the first, width, distance)."""
MACRO_FIELDS = {
    "in_base": (512, 16, 16),
    "skip_base": (640, 16, 16),
    "out_base": (768, 16, 16),
    "out_first_row": (896, 8, 16),
    "out_end_row": (904, 8, 16),
}
"""Field of every macro: (lowest bit of the first, width, distance)."""

HEADER_LINES = KERNELS // WORDS_PER_LINE
"""Of narrow multipliers; wide ones have twice as many."""
HEADER_FIELDS = {"bias": (0, 32), "mult": (32, 16), "shift": (48, 6), "n_entries": (54, 7)}
"""One word per output channel; `n_entries` counts only in that of the first."""
TIMED_HEADER_FIELDS = {"bias": (0, 22), "initial": (22, 10), "threshold": (32, 22)}
"""All signed; of a pass with neurons, whose `n_entries` is where it is in others."""
WIDE_HEADER_FIELDS = {"mult_high": (0, 15), "post_shift": (16, 5)}
"""Another word per output channel behind those, with wide multipliers."""
STEPS_PER_WORD = 4
"""Time steps in a nibble."""
MAX_STEPS = 2 * STEPS_PER_WORD
"""Of a frame at once: a pixel's spikes have two words at most."""

TABLE_LINES = 4
"""Of a lookup table: 256 results of a byte, that of the value whose low byte is 0 first."""
TABLE_SIZE = TABLE_LINES * WORDS_PER_LINE * 8

CODE_WIDTHS = (9, 16)
"""Short and long index codes."""
CODES_PER_LINES = (56, 32)
"""Multiples of every split."""
CODE_WIDTH = CODE_WIDTHS[1]
TAP_WIDTH = 4
"""Bits of a tap's row or column at most."""


def header_lines(wide_multiplier: bool) -> int:
    """Lines of a header."""
    return HEADER_LINES << wide_multiplier


@dataclass(frozen=True, kw_only=True)
class Descriptor:
    """What the hardware knows of a pass: a convolution with the pools behind it, or a map's way.

    Parameters
    ----------
    is_input, is_store, is_last : int
        Feature words follow instead of kernel blocks; a result is stored in memory; the segment
        ends with this pass.
    first_word : int
        Of an input: the word of its first line that is its first one.
    wide : int
        8-bit weights in pairs of columns: a kernel block has 8 kernels, not 16.
    stacked : int
        8-bit weights in pairs of entries, lower nibbles before upper ones.
    function : int
        `PRODUCTS`, `SOFTMAX`, `NORMALISATION` or `OPERAND`.
    long_codes, block_width, dx_width : int
        Index codes have 16 bits instead of 9; bits of their channel block and of their column.
    maximum : int
        The largest access of a round is its result, not their sum.
    lookup, lookup_signed : int
        Results are looked up in a table, whose entries are signed.
    in_signed, in_two : int
        Activations are signed; they have two nibbles.
    has_skip, skip_two, skip_signed, skip_mult, skip_zero : int
        The residual that is added before the shift; `skip_zero` is subtracted from it.
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
    in_row_step, in_col_step, tap_row_pitch, tap_col_pitch : int
        Words of the input from one pixel of the result to the next, and from one tap to the next.
    row_stride, col_stride, row_dilation, col_dilation, pad_top, pad_left, pad_value : int
        Of the convolution; what is around the map has the value `pad_value`, a byte. `pad_top` is
        negative where a band of rows begins within the map.
    team_in_rows : int
        Rows of the input from one team's band to the next.
    timed : int
        The pass works in time: the source has four time steps per nibble (or is `direct`), and
        neurons or, if it is `raw`, sums over the steps follow. The fields from `direct` to
        `u_base` are of such passes only, and low to gap_offset of others only.
    direct : int
        The source is the same in all steps.
    n_steps : int
        Time steps, 1..8: a pixel of four at a time is a sub-round.
    soft, leak, limit, initial_shift, groups_log2 : int
        Of the neurons: reset, shift towards 0, largest membrane, places by which the header's
        `initial` is shifted, and how many channels beside each other share a membrane.
    pixel_sum : int
        The sums of all pixels are one result.
    out_block_log2 : int
        Words of a stored pixel from 16 channels to the next 16.
    u_load, u_again, u_store, u_planes_log2, u_row_pitch, u_col_pitch, u_base : int
        Membranes are read before a pixel's steps but in the first chunk, or also in it, and
        written behind them; words of 16 of them; words from one row or pixel to the next; the
        address of the first pixel of a team. Its macros have the words of a pixel in turn.
    low, high, offset : int
        Clamp, and what is added behind it.
    gap_bias, gap_mult, gap_shift, gap_post_shift, gap_low, gap_high, gap_offset : int
        Requantisation of the average.
    row_channels, octaves, epsilon : int
        Of softmax and normalisation: channels of a pixel, and as in `model.mars.rows`. A kernel
        block has 16 of the channels; of softmax one stands for all.
    op_base, op_col_pitch, op_tokens, op_channels, op_transposed : int
        Of a map that stands for weights: address of its first pixel, the same in all macros, words
        from one pixel to the next, pixels and channels; whether its channels are those of the
        source, and kernels its pixels, or the other way round.
    map_word, n_words, team_words, pixel_words, kept_word, kept_end : int
        Of a store: the word of the memory behind `SCRATCH_BASE` where it begins; words, those of
        every team, which the first macro of a team has from `in_base` on, and of a pixel. Of each
        pixel the words `kept_word` to `kept_end` (exclusive) are written.
    next_lines : int
        Of a store that ends a segment: lines of the program in the next one behind the descriptors
        of the maps that it reads; 0 if the frame ends.
    load_lines, load_line, load_input : tuple of int
        Of a store that ends a segment: what the next one reads behind its first two lines, and
        behind the two that follow: how many lines, and the first one, counted from `SCRATCH_BASE`
        or from the input packet on. Of one map alone the first place is 0.
    in_base, skip_base, out_base : tuple of int
        Per macro: address of the first pixel's first tap, of the first pixel of the residual, and
        of pixel (0, 0) of the result, modulo 65536.
    out_first_row, out_end_row : tuple of int
        Per macro: the rows of the result that its memory stores.
    """

    is_input: int = 0
    is_last: int = 0
    wide: int = 0
    long_codes: int = 0
    maximum: int = 0
    lookup: int = 0
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
    lookup_signed: int = 0
    stacked: int = 0
    function: int = 0
    block_width: int = 0
    dx_width: int = 0
    n_kernel_blocks: int = 0
    n_teams: int = 1
    rows_per_team: int = 1
    n_rows: int = 1
    n_cols: int = 1
    in_height: int = 1
    in_width: int = 1
    in_row_step: int = 0
    in_col_step: int = 0
    skip_row_pitch: int = 0
    skip_col_pitch: int = 0
    out_row_pitch: int = 0
    out_col_pitch: int = 0
    team_out_pitch: int = 0
    low: int = 0
    high: int = 0
    offset: int = 0
    skip_mult: int = 0
    gap_mult: int = 0
    gap_bias: int = 0
    gap_shift: int = 0
    gap_post_shift: int = 0
    gap_low: int = 0
    gap_high: int = 0
    gap_offset: int = 0
    tap_row_pitch: int = 0
    tap_col_pitch: int = 0
    row_stride: int = 1
    col_stride: int = 1
    row_dilation: int = 1
    col_dilation: int = 1
    pad_top: int = 0
    pad_left: int = 0
    pad_value: int = 0
    team_in_rows: int = 0
    skip_zero: int = 0
    timed: int = 0
    direct: int = 0
    soft: int = 0
    pixel_sum: int = 0
    u_load: int = 0
    u_again: int = 0
    u_store: int = 0
    groups_log2: int = 0
    leak: int = 0
    n_steps: int = 0
    initial_shift: int = 0
    limit: int = 0
    u_planes_log2: int = 0
    out_block_log2: int = 0
    u_col_pitch: int = 0
    u_row_pitch: int = 0
    u_base: int = 0
    row_channels: int = 0
    octaves: int = 0
    epsilon: int = 0
    op_base: int = 0
    op_col_pitch: int = 0
    op_tokens: int = 0
    op_channels: int = 0
    op_transposed: int = 0
    is_store: int = 0
    first_word: int = 0
    map_word: int = 0
    n_words: int = 0
    team_words: int = 0
    pixel_words: int = 0
    kept_word: int = 0
    kept_end: int = 0
    next_lines: int = 0
    load_lines: tuple[int, ...] = (0,) * MAX_LOADS
    load_line: tuple[int, ...] = (0,) * MAX_LOADS
    load_input: tuple[int, ...] = (0,) * MAX_LOADS
    in_base: tuple[int, ...] = (0,) * MAX_MACROS
    skip_base: tuple[int, ...] = (0,) * MAX_MACROS
    out_base: tuple[int, ...] = (0,) * MAX_MACROS
    out_first_row: tuple[int, ...] = (0,) * MAX_MACROS
    out_end_row: tuple[int, ...] = (0,) * MAX_MACROS

    @property
    def fires(self) -> bool:
        """Neurons follow the sums."""
        return bool(self.timed and not self.raw)

    @property
    def is_row(self) -> bool:
        """The channels of a pixel are looked at together."""
        return self.function in {SOFTMAX, NORMALISATION}

    @property
    def row_blocks(self) -> int:
        """Blocks of 16 channels of a pixel that are."""
        return -(-self.row_channels // KERNELS)

    @property
    def n_blocks(self) -> int:
        """Blocks of 16 channels of a result."""
        return self.row_blocks if self.is_row else self.n_kernel_blocks

    @property
    def n_sub_rounds(self) -> int:
        """Times that a pixel is walked and drained, each for four steps."""
        return max(1, -(-self.n_steps // STEPS_PER_WORD))

    @property
    def groups(self) -> int:
        """Channels beside each other that share a membrane."""
        return 1 << self.groups_log2

    @property
    def u_planes(self) -> int:
        """Words of up to 16 membranes."""
        return 1 << self.u_planes_log2

    @property
    def u_parts_log2(self) -> int:
        """Kernel blocks whose membranes make a word together: 1, 2, 4 or 8, as a power of two."""
        return self.groups_log2 + self.wide

    def loads(self, *, first_chunk: bool) -> bool:
        """Whether membranes are read."""
        return bool(self.u_again or (self.u_load and not first_chunk))

    @property
    def split(self) -> int:
        """Macros that share a kernel block."""
        return 1 << self.split_log2

    @property
    def out_planes(self) -> int:
        """Words per stored pixel and kernel block."""
        return 1 << self.out_planes_log2

    @property
    def input_words(self) -> int:
        """Words of an input that are written per clock: two if every row has pairs of them."""
        return 1 if self.out_row_pitch % WORDS_PER_WRITE else WORDS_PER_WRITE

    @property
    def in_planes(self) -> int:
        """Words of the source per pixel and 16 channels."""
        return 1 + self.in_two

    @property
    def in_steps(self) -> bool:
        """Whether a nibble of the source is four time steps."""
        return bool(self.timed and not self.direct)

    @property
    def accesses(self) -> int:
        """Accesses per group-set in a round: one for each nibble, of four steps one together."""
        return 1 if self.in_steps else self.in_planes

    @property
    def skip_planes(self) -> int:
        """Words of the residual that a round reads; of one in time each sub-round reads its own."""
        return self.has_skip * (1 if self.timed else 1 + self.skip_two)

    @property
    def code_width(self) -> int:
        """Bits of an index code."""
        return CODE_WIDTHS[self.long_codes]

    @property
    def codes_per_line(self) -> int:
        """Index codes in a line."""
        return CODES_PER_LINES[self.long_codes]

    @property
    def n_rounds(self) -> int:
        """Pixels that each team computes per kernel block."""
        return self.rows_per_team * self.n_cols


_OF_FUNCTIONS = frozenset(name for places in FUNCTION_FIELDS.values() for name in places)


def _fields_of(kind: str, function: int) -> dict[str, tuple[int, int]]:
    """The fields that a descriptor of a kind, or with a function, has once."""
    if function != PRODUCTS:
        shared = {k: place for k, place in DESCRIPTOR_FIELDS.items() if k not in AVERAGE_FIELDS}
        return shared | FUNCTION_FIELDS[function]
    own = {k: place for k, place in DESCRIPTOR_FIELDS.items() if k not in UNTIMED_FIELDS}
    match kind:
        case "timed":
            own["skip_mult"] = (own["skip_mult"][0], TIMED_SKIP_MULT_WIDTH)
            return own | TIMED_FIELDS
        case "store":
            return {k: place for k, place in own.items() if k not in UNSTORED_FIELDS} | STORE_FIELDS
    return DESCRIPTOR_FIELDS


def _several_of(kind: str) -> dict[str, tuple[int, int, int]]:
    """The fields that it has several times."""
    if kind == "store":
        return LOAD_FIELDS | {"in_base": MACRO_FIELDS["in_base"]}
    return MACRO_FIELDS


def pack_descriptor(descriptor: Descriptor) -> Lines:
    """Two lines, (2, 8).

    Raises
    ------
    ValueError
        A field is out of range, or one of those that the pass does not have is not 0.
    """
    bits = 0
    kind = "store" if descriptor.is_store else "timed" if descriptor.timed else ""
    places = _fields_of(kind, descriptor.function)
    for name in (*DESCRIPTOR_FIELDS, *TIMED_FIELDS, *STORE_FIELDS, *_OF_FUNCTIONS):
        low, width = places.get(name, (0, 0))
        signed = name in SIGNED_FIELDS and width > 0
        bits |= _field(name, getattr(descriptor, name), width, signed=signed) << low
    several = _several_of(kind)
    for name in (*MACRO_FIELDS, *LOAD_FIELDS):
        low, width, distance = several.get(name, (0, 0, 0))
        for m, value in enumerate(getattr(descriptor, name)):
            bits |= _field(name, value, width, signed=False) << (low + m * distance)
    return lines_of(bits, DESCRIPTOR_LINES)


def unpack_descriptor(lines: Lines) -> Descriptor:
    """The descriptor in two lines."""
    bits = bits_of(lines)
    is_store, timed = (bits >> DESCRIPTOR_FIELDS[name][0] & 1 for name in ("is_store", "timed"))
    kind = "store" if is_store else "timed" if timed else ""
    low, width = FUNCTION_PLACE
    function = bits >> low & ((1 << width) - 1)
    values: dict[str, Any] = {}
    for name, (low, width) in _fields_of(kind, function).items():
        value = bits >> low & ((1 << width) - 1)
        is_negative = name in SIGNED_FIELDS and value >> (width - 1)
        values[name] = value - (1 << width) if is_negative else value
    for name, (low, width, distance) in _several_of(kind).items():
        n = MAX_LOADS if name in LOAD_FIELDS else MAX_MACROS
        values[name] = tuple(bits >> (low + m * distance) & ((1 << width) - 1) for m in range(n))
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


@dataclass(frozen=True)
class Header:
    """What follows the sums of a kernel block's channels, (16,) each.

    With neurons there are `threshold` and `initial`, and `mult`, `shift` and `post_shift` are 0.
    """

    bias: Ints
    mult: Ints
    shift: Ints
    post_shift: Ints
    threshold: Ints | None = None
    initial: Ints | None = None


def pack_header(header: Header, n_entries: int, *, wide_multiplier: bool) -> Lines:
    """A header and how many entries follow: (2, 8), with wide multipliers (4, 8)."""
    if header.threshold is not None and header.initial is not None:
        parts = {"bias": header.bias, "initial": header.initial, "threshold": header.threshold}
        words = _pack_fields(parts, TIMED_HEADER_FIELDS)
    else:
        parts = {"bias": header.bias, "mult": header.mult & 0xFFFF, "shift": header.shift}
        words = _pack_fields(parts, HEADER_FIELDS)
    words[0] |= np.uint64(n_entries << HEADER_FIELDS["n_entries"][0])
    if wide_multiplier:
        upper = {"mult_high": header.mult >> 16, "post_shift": header.post_shift}
        words = np.concatenate([words, _pack_fields(upper, WIDE_HEADER_FIELDS)])
    lines: Lines = words.reshape(-1, WORDS_PER_LINE)
    return lines


def _pack_fields(values: dict[str, Ints], places: dict[str, tuple[int, int]]) -> Lines:
    """Words (n,) with fields (n,)."""
    words = np.zeros(KERNELS, np.uint64)
    for name, value in values.items():
        low, width = places[name]
        words |= (value & ((1 << width) - 1)).astype(np.uint64) << np.uint64(low)
    return words


def _unpack_field(words: Lines, place: tuple[int, int], *, signed: bool) -> Ints:
    low, width = place
    values = (words >> np.uint64(low)).astype(np.int64) & ((1 << width) - 1)
    return values - ((values >> (width - 1)) << width) if signed else values


def unpack_header(lines: Lines, *, fires: bool = False) -> tuple[Header, int]:
    """The inverse of `pack_header`; `fires` says that it is one with neurons."""
    words = lines.reshape(-1)
    lower, upper = words[:KERNELS], words[KERNELS:]
    nothing = np.zeros(KERNELS, np.int64)
    n_entries = int(_unpack_field(lower[:1], HEADER_FIELDS["n_entries"], signed=False)[0])
    if fires:
        bias, initial, threshold = (
            _unpack_field(lower, place, signed=True) for place in TIMED_HEADER_FIELDS.values()
        )
        return Header(bias, nothing, nothing, nothing, threshold, initial), n_entries
    bias = _unpack_field(lower, HEADER_FIELDS["bias"], signed=True)
    mult, shift = (
        _unpack_field(lower, HEADER_FIELDS[name], signed=False) for name in ("mult", "shift")
    )
    post_shift = nothing
    if len(upper):
        high, post_shift = (
            _unpack_field(upper, place, signed=False) for place in WIDE_HEADER_FIELDS.values()
        )
        mult = mult | high << 16
    return Header(bias, mult, shift, post_shift), n_entries


def pack_table(table: Ints) -> Lines:
    """A lookup table of 256 bytes, signed or not: (4, 8)."""
    words = (table & 0xFF).astype(np.uint8).view("<u8").astype(np.uint64)
    lines: Lines = words.reshape(TABLE_LINES, WORDS_PER_LINE)
    return lines


def unpack_table(lines: Lines, *, signed: bool) -> Ints:
    """The inverse of `pack_table`."""
    data = lines.astype("<u8").tobytes()
    return np.frombuffer(data, np.int8 if signed else np.uint8).astype(np.int64)


def encode_index(dy: Ints, dx: Ints, block: Ints, *, block_width: int, dx_width: int) -> Ints:
    """Index codes of group-sets: row and column of the tap, block of 16 input channels."""
    return dy << (block_width + dx_width) | dx << block_width | block


def decode_index(codes: Ints, *, block_width: int, dx_width: int) -> tuple[Ints, Ints, Ints]:
    """`dy`, `dx` and channel block of index codes."""
    taps = codes >> block_width
    return taps >> dx_width, taps & ((1 << dx_width) - 1), codes & ((1 << block_width) - 1)


def pack_codes(codes: Ints, width: int) -> Lines:
    """One line with up to 56 short or 32 long codes, (1, 8)."""
    bits = sum(int(code) << (width * i) for i, code in enumerate(codes))
    return lines_of(bits, 1)


def unpack_codes(line: Lines, width: int) -> Ints:
    """All codes of a line."""
    bits = bits_of(line)
    n_codes = CODES_PER_LINES[CODE_WIDTHS.index(width)]
    return np.array([bits >> (width * i) & ((1 << width) - 1) for i in range(n_codes)], np.int64)


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


_DESCRIBED = {
    *DESCRIPTOR_FIELDS,
    *MACRO_FIELDS,
    *TIMED_FIELDS,
    *STORE_FIELDS,
    *LOAD_FIELDS,
    *_OF_FUNCTIONS,
}
if {field.name for field in fields(Descriptor)} != _DESCRIBED:  # pragma: no cover
    raise AssertionError("Descriptor and its layout must have the same fields")
