"""Views of the bits of a program, as `model.mars.layout` lays them out."""

from amaranth.hdl import Cat, Mux, signed, unsigned
from amaranth.lib.data import Field, FlexibleLayout, StructLayout

from model.mars.config import LINE_BITS, WORD_BITS, WORDS_PER_WRITE
from model.mars.layout import (
    DESCRIPTOR_FIELDS,
    DESCRIPTOR_LINES,
    HEADER_FIELDS,
    MACRO_FIELDS,
    MAX_MACROS,
    SIGNED_FIELDS,
    TAP_WIDTH,
    WIDE_HEADER_FIELDS,
    header_lines,
)

ADDR_WIDTH = 16
"""Of a feature memory; memories use as many of the lower bits as they need."""
ROW_WIDTH = 8
ENTRIES_WIDTH = 7
"""0..64 entries of a kernel block."""
HEADER_SLOT_WIDTH = 9
"""Of the number of a header; few configurations have so many."""


def _descriptor_fields():
    for name, (low, width) in DESCRIPTOR_FIELDS.items():
        yield name, Field(signed(width) if name in SIGNED_FIELDS else unsigned(width), low)
    for name, (low, width, distance) in MACRO_FIELDS.items():
        for macro in range(MAX_MACROS):
            yield f"{name}_{macro}", Field(unsigned(width), low + macro * distance)


DESCRIPTOR = FlexibleLayout(DESCRIPTOR_LINES * LINE_BITS, dict(_descriptor_fields()))
"""A field that each macro has is called `in_base_0` and so on."""
HEADER_WORD = FlexibleLayout(
    WORD_BITS, {name: Field(unsigned(width), low) for name, (low, width) in HEADER_FIELDS.items()}
)
WIDE_HEADER_WORD = FlexibleLayout(
    WORD_BITS,
    {name: Field(unsigned(width), low) for name, (low, width) in WIDE_HEADER_FIELDS.items()},
)
TAP_OFFSET_WIDTH = TAP_WIDTH + 2
"""A tap's row or column times the dilation."""
INDEX = StructLayout({"offset": ADDR_WIDTH, "dy": TAP_OFFSET_WIDTH, "dx": TAP_OFFSET_WIDTH})
"""A decoded index code: words from the first tap of the pixel, and rows and columns."""


def slots_log2(descriptor):
    """Clocks in which a pixel is drained, as a power of two: two words of it in each."""
    low, high = descriptor.out_planes_log2
    return Cat(high & ~low, high & low)


def input_words(descriptor):
    """Words of an input that are written per clock: two if every row has pairs of them."""
    return Mux(descriptor.out_row_pitch[0], 1, WORDS_PER_WRITE)


def header_bits(wide_multiplier):
    """Bits of a header."""
    return header_lines(wide_multiplier) * LINE_BITS
