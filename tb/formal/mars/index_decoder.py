"""The index decoder finds a group-set's features, and never points out of a feature memory."""

from amaranth.hdl import Const, Mux

from hw.mars.index_decoder import IndexDecoder
from tb.formal.harness import ARITHMETIC, Harness, Proof

MEMORY_WORDS = 1024
"""As in mars-tiny; larger ones take the solver minutes."""
ADDR = 11


def state(h: Harness) -> None:
    """The offset by its definition, with the multiplications written as choices."""
    decoder = h.block(IndexDecoder())
    code, kernel3, two = decoder.code, decoder.kernel3, decoder.two_planes
    dy = h.define("dy", Mux(kernel3, code[7:9], 0))
    dx = h.define("dx", Mux(kernel3, code[5:7], 0))
    block = h.define("block", Mux(kernel3, code[:5], code))
    h.assume("tap_of_3x3", (dy < 3) & (dx < 3))
    rows = h.define("rows", dy * decoder.row_pitch)
    cols = h.define("cols", dx * decoder.col_pitch)
    offset = h.define("offset", rows + cols + block * Mux(two, 2, 1))
    h.always("dy_right", decoder.index.dy == h.past(dy))
    h.always("dx_right", decoder.index.dx == h.past(dx))
    h.always("offset_right", decoder.index.offset == h.past(offset)[:16])
    h.reached("last_tap", h.past((dy == 2) & (dx == 2)))
    h.reached("last_block", h.past(~kernel3 & (block == 511)))


def bounds(h: Harness) -> None:
    """The address of an input pixel, as a lane adds it up, from what a compiler guarantees.

    `row` and `col` are words from the start of the map to the pixel's row and from there to the
    pixel. The walker stands at the first tap of the kernel, so many rows and pixels before it.
    """
    decoder = h.block(IndexDecoder())
    kernel3, two = decoder.kernel3, decoder.two_planes
    row_pitch, col_pitch, code = decoder.row_pitch, decoder.col_pitch, decoder.code
    dy, dx = Mux(kernel3, code[7:9], 0), Mux(kernel3, code[5:7], 0)
    h.assume("tap_of_3x3", (dy < 3) & (dx < 3))
    channel = h.define("channel", Mux(kernel3, code[:5], code) << two)
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
    taps = h.define("taps", (dy * row_pitch + dx * col_pitch)[:16])
    word = h.define("word", pixel + channel)
    h.always("word_in_map", (word >= base) & (word < base + map_words))
    first_tap = h.past(h.define("first_tap", (pixel - taps)[:16]))
    address = h.define("address", (first_tap + decoder.index.offset)[:16])
    known = h.past(Const(1))
    h.always("address_is_the_word's", address == h.past(word), known)
    h.reached("last_word", known & (address == h.past(memory_words) - 1) & h.past(dy == 2))
    h.reached("first_word", known & (address == h.past(base)) & h.past((dy == 2) & (base != 0)))


PROOFS = (
    Proof(
        name="index_decoder",
        says="offset and tap are their definition, for every code and pitch",
        state=state,
        depth=2,
        reach=3,
        engine=ARITHMETIC,
    ),
    Proof(
        name="index_decoder_bounds",
        says=f"in memories of up to {MEMORY_WORDS} words every input pixel's address is a word of "
        "its map, for every code, if the map is laid out as a compiler must",
        state=bounds,
        depth=2,
        reach=3,
        bounded=True,
        engine=ARITHMETIC,
    ),
)
