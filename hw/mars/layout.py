"""Views of the bits of a program, as `model.mars.layout` lays them out."""

from amaranth.hdl import Cat, Mux, signed, unsigned
from amaranth.lib.data import ArrayLayout, Field, FlexibleLayout, StructLayout
from amaranth.utils import exact_log2

from model.mars.clocks import LANE_CHANNELS
from model.mars.config import ACC_WIDTH, KERNELS, LINE_BITS, NIBBLE, WORD_BITS, WORDS_PER_WRITE
from model.mars.layout import (
    DESCRIPTOR_FIELDS,
    DESCRIPTOR_LINES,
    FUNCTION_FIELDS,
    HEADER_FIELDS,
    LOAD_FIELDS,
    MACRO_FIELDS,
    MAX_LOADS,
    MAX_MACROS,
    NORMALISATION,
    OPERAND,
    SIGNED_FIELDS,
    SOFTMAX,
    STEPS_PER_WORD,
    STORE_FIELDS,
    TAP_WIDTH,
    TIMED_FIELDS,
    TIMED_HEADER_FIELDS,
    WIDE_HEADER_FIELDS,
    header_lines,
)

ADDR_WIDTH = 16
"""Of a feature memory; memories use as many of the lower bits as they need."""
ROW_WIDTH = 8
MAX_GROUPS = 4
"""Channels beside each other that share a membrane."""
ENTRIES_WIDTH = 7
"""0..64 entries of a kernel block."""
MAX_PARTS = 8
"""Kernel blocks whose membranes make a word together."""
MEMBRANE_WORDS = 4
"""Of 16 membranes at most."""
HEADER_SLOT_WIDTH = 9
"""Of the number of a header; few configurations have so many."""


def _descriptor_fields():
    once = DESCRIPTOR_FIELDS | TIMED_FIELDS | STORE_FIELDS
    for fields in FUNCTION_FIELDS.values():
        once |= fields
    for name, (low, width) in once.items():
        yield name, Field(signed(width) if name in SIGNED_FIELDS else unsigned(width), low)
    for several, n in ((MACRO_FIELDS, MAX_MACROS), (LOAD_FIELDS, MAX_LOADS)):
        for name, (low, width, distance) in several.items():
            for k in range(n):
                yield f"{name}_{k}", Field(unsigned(width), low + k * distance)


DESCRIPTOR = FlexibleLayout(DESCRIPTOR_LINES * LINE_BITS, dict(_descriptor_fields()))
"""A field that each macro has is called `in_base_0` and so on; those of passes in time, of
passes that store, and of those with a function overlap those of others."""
HEADER_WORD = FlexibleLayout(
    WORD_BITS, {name: Field(unsigned(width), low) for name, (low, width) in HEADER_FIELDS.items()}
)
WIDE_HEADER_WORD = FlexibleLayout(
    WORD_BITS,
    {name: Field(unsigned(width), low) for name, (low, width) in WIDE_HEADER_FIELDS.items()},
)
TIMED_HEADER_WORD = FlexibleLayout(
    WORD_BITS,
    {name: Field(signed(width), low) for name, (low, width) in TIMED_HEADER_FIELDS.items()},
)
"""Of a pass with neurons."""
STEP_SUMS = ArrayLayout(ArrayLayout(signed(ACC_WIDTH), STEPS_PER_WORD), KERNELS)
"""Sums of each lane for four time steps; of a pass that does not work in time the first one."""
TAP_OFFSET_WIDTH = TAP_WIDTH + 2
"""A tap's row or column times the dilation."""
INDEX = StructLayout({"offset": ADDR_WIDTH, "dy": TAP_OFFSET_WIDTH, "dx": TAP_OFFSET_WIDTH})
"""A decoded index code: words from the first tap of the pixel, and rows and columns."""


def writes_log2(descriptor):
    """Clocks in which a result is written, as a power of two: two words of it in each."""
    low, high = descriptor.out_planes_log2
    return Mux(fires(descriptor), 0, Cat(high & ~low, high & low))


def in_steps(descriptor):
    """A nibble of the source is four time steps."""
    return descriptor.timed & ~descriptor.direct


def fires(descriptor):
    """Neurons follow the sums."""
    return descriptor.timed & ~descriptor.raw


def has_operand(descriptor):
    """A map stands for weights."""
    return descriptor.function == OPERAND


def is_row(descriptor):
    """Softmax or normalisation of the channels of a pixel."""
    return (descriptor.function == SOFTMAX) | (descriptor.function == NORMALISATION)


def loads_membranes(descriptor, later):
    """Membranes are read before a pixel's steps: always, or in later chunks of them."""
    return fires(descriptor) & (descriptor.u_again | descriptor.u_load & later)


def parts_log2(descriptor):
    """Kernel blocks whose membranes make a word together, as a power of two."""
    return descriptor.groups_log2 + descriptor.wide


def store_slots(descriptor):
    """Clocks in which the membranes of a round are written: two words in each."""
    stores = fires(descriptor) & descriptor.u_store
    return Mux(stores, Mux(descriptor.u_planes_log2 == 2, 2, 1), 0)


def is_long(descriptor):
    """The pass has more than four time steps."""
    return descriptor.timed & (descriptor.n_steps > STEPS_PER_WORD)


def slots_log2(descriptor, n_turns):
    """Clocks in which a team's pixel is drained, as a power of two.

    With neurons one for each group; of logits so many as it takes to write them in four steps. In
    four turns a result needs four clocks, one of 32 bits eight, neurons two or four in each step.
    """
    writes, of_neurons = writes_log2(descriptor), descriptor.groups_log2
    if n_turns > 1:
        writes = Mux(writes == 0, 2, 3)
        in_step = Mux(of_neurons == 2, 2, exact_log2(LANE_CHANNELS))
        of_neurons = in_step + exact_log2(STEPS_PER_WORD)
    in_time = Mux(descriptor.raw, logit_slots_log2(n_turns), of_neurons)
    return Mux(descriptor.timed, in_time, writes)


def logit_slots_log2(n_turns):
    """Four steps of eight words."""
    return 4 if n_turns == 1 else 5


def drained_teams(descriptor, n_turns):
    """Teams that have slots: with neurons and more than four steps at least four.

    That is, if each step has a stage of its own: fewer lanes are as long under way with a team.
    """
    if n_turns > 1:
        return descriptor.n_teams
    few = fires(descriptor) & is_long(descriptor) & (descriptor.n_teams < STEPS_PER_WORD)
    return Mux(few, STEPS_PER_WORD, descriptor.n_teams)


def input_words(descriptor):
    """Words of an input that are written per clock: two if every row has pairs of them."""
    return Mux(descriptor.out_row_pitch[0], 1, WORDS_PER_WRITE)


def header_bits(wide_multiplier):
    """Bits of a header."""
    return header_lines(wide_multiplier) * LINE_BITS


def next_nibble(value, word, lane):
    """A value whose nibbles come word by word, lowest first: shifted in from above."""
    return Cat(value[NIBBLE:], word.word_select(lane, NIBBLE))
