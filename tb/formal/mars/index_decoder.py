"""The index decoder finds a group-set's features, and never points out of a feature memory."""

from amaranth.hdl import Const, Mux

from hw.mars.index_decoder import IndexDecoder
from tb.formal.harness import ARITHMETIC, Harness, Proof

MEMORY_WORDS = 1024
"""As in mars-tiny; larger ones take the solver minutes."""
ADDR = 11
LATENCY = 2


def product(factor, value):
    """A product of a few bits, bit by bit, of which 16 bits count."""
    return sum(Mux(bit, value << k, 0) for k, bit in enumerate(factor))[:16]


def fields(h: Harness, decoder: IndexDecoder):
    """Row and column of the tap and channel block of the code, whose split is that of a pass."""
    block_width, dx_width, code = decoder.block_width, decoder.dx_width, decoder.code
    taps = h.define("code_taps", code >> block_width)
    rows_of_taps = h.define("rows_of_taps", taps >> dx_width)
    dy = h.define("dy", rows_of_taps[:4])
    dx = h.define("dx", (taps & ((1 << dx_width) - 1)[: len(code)])[:4])
    block = h.define("block", code & ((1 << block_width) - 1)[: len(code)])
    h.assume("widths_legal", (block_width <= 16) & (dx_width <= 4))
    h.assume("row_of_4_bits", rows_of_taps < 16)
    h.assume("dilations_legal", (decoder.row_dilation <= 4) & (decoder.col_dilation <= 4))
    return dy, dx, block


def stays(h: Harness, decoder: IndexDecoder, *names: str) -> None:
    """What is the same for all codes of a pass."""
    for name in names:
        port = getattr(decoder, name)
        h.assume(f"{name}_stays", port == h.past(port), h.past(Const(1)))


def taps(h: Harness) -> None:
    """Tap and block, however a code is split; words of a tap are counted in the other proof."""
    decoder = h.block(IndexDecoder(), row_pitch=Const(0), col_pitch=Const(0))
    dy, dx, block = fields(h, decoder)
    stays(h, decoder, "two_planes", "row_dilation", "col_dilation")
    known = h.past(Const(1), LATENCY)
    row = h.define("row", product(decoder.row_dilation, dy)[:6])
    col = h.define("col", product(decoder.col_dilation, dx)[:6])
    words = h.define("words", (block << decoder.two_planes)[:16])
    h.always("dy_right", decoder.index.dy == h.past(row, LATENCY), known)
    h.always("dx_right", decoder.index.dx == h.past(col, LATENCY), known)
    h.always("block_right", decoder.index.offset == h.past(words, LATENCY), known)
    h.reached("last_tap", known & h.past((dy == 15) & (dx == 15), LATENCY))
    h.reached("last_block", known & h.past(block == 65535, LATENCY))


def words(h: Harness) -> None:
    """Words of a tap; of larger taps the solver takes hours, they are the bench's."""
    decoder = h.block(IndexDecoder(), block_width=Const(8), dx_width=Const(4))
    code = decoder.code
    dy, dx, block = code[12:], code[8:12], code[:8]
    stays(h, decoder, "two_planes", "row_pitch", "col_pitch")
    h.assume("small_tap", (dy < 3) & (dx < 3))
    rows = h.define("rows", product(dy[:2], decoder.row_pitch))
    cols = h.define("cols", product(dx[:2], decoder.col_pitch))
    offset = h.define("offset", (rows + cols + (block << decoder.two_planes))[:16])
    known = h.past(Const(1), LATENCY)
    h.always("offset_right", decoder.index.offset == h.past(offset, LATENCY), known)
    h.reached("last_tap", known & h.past((dy == 2) & (dx == 2), LATENCY))
    h.reached("wraps", known & h.past(rows < decoder.row_pitch, LATENCY) & h.past(dy != 0, LATENCY))


def bounds(h: Harness) -> None:
    """The address of an input pixel, as a lane adds it up, from what a compiler guarantees.

    `row` and `col` are words from the start of the map to the pixel's row and from there to the
    pixel. The walker stands at the first tap of the kernel, so many rows and pixels before it.
    """
    decoder = h.block(IndexDecoder(), block_width=Const(5), dx_width=Const(2))
    code = decoder.code
    dy, dx, block = code[7:9], code[5:7], code[:5]
    two, row_pitch, col_pitch = decoder.two_planes, decoder.row_pitch, decoder.col_pitch
    stays(h, decoder, "two_planes", "row_pitch", "col_pitch")
    h.assume("tap_of_3x3", (dy < 3) & (dx < 3))
    h.assume("short_code", code[9:] == 0)
    channel = h.define("channel", block << two)
    base, map_words, memory_words = (
        h.free(name, range(MEMORY_WORDS + 1)) for name in ("base", "map_words", "memory_words")
    )
    row, col, upper = h.free("row", ADDR), h.free("col", ADDR), h.free("upper", 1)
    row_step, col_step = (
        h.define("row_step", row_pitch[:ADDR]),
        h.define("col_step", col_pitch[:ADDR]),
    )
    h.assume("pitches_in_memory", (row_pitch == row_step) & (col_pitch == col_step))
    h.assume("map_in_memory", base + map_words <= memory_words)
    h.assume("memory_size", memory_words <= MEMORY_WORDS)
    h.assume("row_in_map", row + row_step <= map_words)
    h.assume("pixel_in_row", col + col_step <= row_step)
    h.assume("channels_in_pixel", channel + 1 + two <= col_step)
    h.assume("nibble_exists", upper <= two)

    pixel = h.define("pixel", (base + row + col + upper)[:16])
    rows, cols = product(dy, row_pitch), product(dx, col_pitch)
    taps = h.define("taps", (rows + cols)[:16])
    word = h.define("word", pixel + channel)
    h.always("word_in_map", (word >= base) & (word < base + map_words))
    first_tap = h.past(h.define("first_tap", (pixel - taps)[:16]), LATENCY)
    address = h.define("address", (first_tap + decoder.index.offset)[:16])
    known = h.past(Const(1), LATENCY)
    h.always("address_is_the_word's", address == h.past(word, LATENCY), known)
    last = address == h.past(memory_words, LATENCY) - 1
    h.reached("last_word", known & last & h.past(dy == 2, LATENCY))
    first = h.past((dy == 2) & (base != 0), LATENCY)
    h.reached("first_word", known & (address == h.past(base, LATENCY)) & first)


PROOFS = (
    Proof(
        name="index_decoder",
        says="tap and channel block are their definition, for every code, split of it and dilation",
        state=taps,
        depth=3,
        reach=4,
        engine=ARITHMETIC,
    ),
    Proof(
        name="index_decoder_words",
        says="the offset is its definition, for every pitch and block of the taps of 3x3 kernels",
        state=words,
        depth=3,
        reach=4,
        engine=ARITHMETIC,
    ),
    Proof(
        name="index_decoder_bounds",
        says=f"in memories of up to {MEMORY_WORDS} words every input pixel's address is a word of "
        "its map, for every code, if the map is laid out as a compiler must",
        state=bounds,
        depth=3,
        reach=4,
        bounded=True,
        engine=ARITHMETIC,
    ),
)
