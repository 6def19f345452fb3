"""Loads a map out of the feature memories into the macros, where it stands for weights."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import Component, In, Out
from amaranth.utils import exact_log2

from hw.delay import delayed
from hw.mars.index_decoder import times
from hw.mars.layout import ADDR_WIDTH, DESCRIPTOR, ENTRIES_WIDTH
from model.mars.clocks import OPERAND_AFTER
from model.mars.config import ADDRESSES, KERNELS, NIBBLE, WORD_BITS, WORD_LINES
from model.mars.layout import FUNCTION_FIELDS, MAX_MACROS, OPERAND

WORD_AFTER = 3
"""From a step of the map loader until its word is there."""
WRITE_AFTER = 4
"""From a step until the row that it has, or that is 16 words behind it, is written."""
PLACE_WIDTH = exact_log2(KERNELS)
BLOCK_WIDTH = FUNCTION_FIELDS[OPERAND]["op_tokens"][1] - PLACE_WIDTH
"""Of the number of 16 pixels or channels beside each other."""

FILL = StructLayout(
    {
        "read": 1,
        "offset": ADDR_WIDTH,
        "place": range(WORD_LINES),
        "row_block": BLOCK_WIDTH,
        "kernel_block": BLOCK_WIDTH,
        "shift": 1,
        "turned": 1,
        "write": 1,
        "addr": range(ADDRESSES),
        "word_line": range(WORD_LINES),
    }
)
"""What all macros do to be filled.

One clock behind a step: read a word of the map, where it is in the memory of a team's first macro
and which of 16; of what word lines and kernels that macro's entry has the word, in blocks of 16.
WORD_AFTER clocks behind: the word comes, in which direction it goes through the transposer.
WRITE_AFTER clocks behind: a row is written."""


def in_turn(descriptor, first, second):
    """Two things, the second one first if the map is transposed.

    Those of word lines and of kernels are those of pixels and of channels, or the other way round.
    """
    transposed = descriptor.op_transposed
    return Mux(transposed, second, first), Mux(transposed, first, second)


def block_pitches(descriptor):
    """Words from a block of word lines to the next one, and from one of kernels."""
    sixteen_pixels = (descriptor.op_col_pitch << PLACE_WIDTH)[:ADDR_WIDTH]
    return in_turn(descriptor, sixteen_pixels, 1 << descriptor.stacked)


class MapLoader(Component):
    """Leads a map word by word into the macros, golden: `model.mars.machine.Machine`.

    While the walker waits for a kernel block, 16 words are read for each of its entries, the blocks
    of word lines one after the other, of each all planes. Rows are written as they come or, of a
    map that is transposed, 16 words later, while those of the next entry are read.

    **Latency**: `filled` is OPERAND_AFTER clocks behind the last word, TRANSPOSED_AFTER more if the
    map is transposed; the rows are there when an access of the next clock needs them.
    **Throughput**: one word per clock. **Reset**: nothing to fill.

    Members
    -------
    descriptor : In(DESCRIPTOR)
        Of the pass under way.
    begins : In(1)
        Another pass becomes that in the next clock.
    fill, n_entries, head, kernel_block : In
        A kernel block is to be filled, up to `filled`; its entries, the address of the first one,
        and its number.
    reading : Out(1)
        A word is read in this clock.
    filled : Out(1)
        The last clock.
    step : Out(FILL)
    """

    descriptor: In(DESCRIPTOR)
    begins: In(1)
    fill: In(1)
    n_entries: In(ENTRIES_WIDTH)
    head: In(range(ADDRESSES))
    kernel_block: In(BLOCK_WIDTH)
    reading: Out(1)
    filled: Out(1)
    step: Out(FILL)

    def elaborate(self, platform):
        m = Module()
        d, step = self.descriptor, self.step
        entry = Signal(ENTRIES_WIDTH)
        place = Signal(range(WORD_LINES))
        shifting, writing = Signal(), Signal()
        last_place, last_plane = Signal(), Signal()
        m.d.comb += [
            shifting.eq(self.fill & (entry != self.n_entries + d.op_transposed)),
            self.reading.eq(shifting & (entry < self.n_entries)),
            writing.eq(shifting & (entry >= d.op_transposed)),
            last_place.eq(place == WORD_LINES - 1),
            last_plane.eq(entry[0] | ~d.stacked),
            self.filled.eq(self.fill & ~shifting & (place == OPERAND_AFTER - 1)),
        ]

        # Where the words are: of the kernel block, of the entry's block of word lines, of the row.
        of_kernels, of_rows, of_place = (Signal(ADDR_WIDTH) for _ in range(3))
        row_block = Signal(BLOCK_WIDTH)
        by_rows, by_kernels = block_pitches(d)
        with m.If(self.fill):
            m.d.sync += [place.eq(place + 1), of_place.eq(of_place + d.op_col_pitch)]
            with m.If(last_place):
                m.d.sync += [entry.eq(entry + 1), of_place.eq(0)]
            with m.If(last_place & last_plane):
                m.d.sync += [
                    of_rows.eq(of_rows + (by_rows << d.split_log2)),
                    row_block.eq(row_block + (1 << d.split_log2)),
                ]
        with m.If(self.filled):
            m.d.sync += [entry.eq(0), place.eq(0), of_place.eq(0), of_rows.eq(0), row_block.eq(0)]
            m.d.sync += of_kernels.eq(of_kernels + by_kernels)
        with m.If(self.begins):
            m.d.sync += of_kernels.eq(0)

        m.d.sync += [
            step.read.eq(self.reading),
            step.offset.eq(of_kernels + of_rows + of_place + (d.stacked & entry[0])),
            step.place.eq(place),
            step.row_block.eq(row_block),
            step.kernel_block.eq(self.kernel_block),
        ]
        row = Cat(writing, place, (self.head + entry - d.op_transposed)[: len(step.addr)])
        word = Cat(shifting, entry[0])
        m.d.comb += [
            Cat(step.shift, step.turned).eq(delayed(m, "word", 2, word, WORD_AFTER)[-1]),
            Cat(step.write, step.word_line, step.addr).eq(
                delayed(m, "row", len(row), row, WRITE_AFTER)[-1]
            ),
        ]
        return m


class Transposer(Component):
    """A square of 16 x 16 nibbles that words go through, 16 rows in and 16 columns out.

    It moves to the left and upwards in turn, 16 words each: those that come are its last column, or
    row, while those before leave it as its first one.

    **Latency**: row k comes 16 words behind word k. **Throughput**: one word per clock. **Reset**:
    contents are not reset.

    Members
    -------
    shift, turned : In(1)
        A word comes; it is one of 16 that are rows.
    word : In(64)
    row : Out(64)
        Nibble j is nibble k of the j-th of the 16 words before, k counts those that came since.
    """

    shift: In(1)
    turned: In(1)
    word: In(WORD_BITS)
    row: Out(WORD_BITS)

    def elaborate(self, platform):
        m = Module()
        rows = [Signal(WORD_BITS, name=f"nibbles_{i}", reset_less=True) for i in range(WORD_LINES)]
        first_column = Cat(row[:NIBBLE] for row in rows)
        m.d.comb += self.row.eq(Mux(self.turned, rows[0], first_column))
        with m.If(self.shift):
            for i, row in enumerate(rows):
                below = rows[i + 1] if i + 1 < WORD_LINES else self.word
                moved = Cat(row[NIBBLE:], self.word.word_select(i, NIBBLE))
                m.d.sync += row.eq(Mux(self.turned, below, moved))
        return m


class MapRows(Component):
    """Rows of one macro's group-sets out of the words that its feature memory gives.

    The macros of a team have the blocks of word lines in turn. Nibbles of pixels and channels that
    the map does not have are 0.

    **Latency**, **Throughput**: as `FILL` says. **Reset**: contents are not reset.

    Parameters
    ----------
    rows_per_write : int
        Rows that a macro takes at once, the last one of them with the `write` that it counts.

    Members
    -------
    descriptor, step : In(DESCRIPTOR), In(FILL)
    number : In(3)
        Which macro of its team this is.
    addr : Out(16)
        Where the word is that `step` reads.
    word : In(64)
        That word, two clocks later.
    write : Out(1)
    rows : Out(rows_per_write * 64)
    """

    def __init__(self, rows_per_write=1):
        self.rows_per_write = rows_per_write
        super().__init__(
            {
                "descriptor": In(DESCRIPTOR),
                "step": In(FILL),
                "number": In(range(MAX_MACROS)),
                "addr": Out(ADDR_WIDTH),
                "word": In(WORD_BITS),
                "write": Out(1),
                "rows": Out(rows_per_write * WORD_BITS),
            }
        )

    def elaborate(self, platform):
        m = Module()
        d, step = self.descriptor, self.step
        own_offset = Signal(ADDR_WIDTH)
        m.d.sync += own_offset.eq(times(self.number, block_pitches(d)[0]))
        m.d.comb += self.addr.eq(d.op_base + step.offset + own_offset)

        row_block = Signal(BLOCK_WIDTH)
        m.d.comb += row_block.eq(step.row_block + self.number)
        pixels, channels = in_turn(d, row_block, step.kernel_block)
        place = Signal.like(step.place)
        m.d.sync += place.eq(step.place)

        def places(name, block, limit):
            """Of a block, one clock later: its places that are below a limit."""
            whole, part = Signal(name=f"{name}_whole"), Signal(name=f"{name}_part")
            m.d.sync += [
                whole.eq(block < limit[PLACE_WIDTH:]),
                part.eq(block == limit[PLACE_WIDTH:]),
            ]
            below = (1 << limit[:PLACE_WIDTH]) - 1
            return Mux(whole, (1 << KERNELS) - 1, Mux(part, below, 0))[:KERNELS]

        has_pixel = places("pixels", pixels, d.op_tokens).bit_select(place, 1)
        has_channel = places("channels", channels, d.op_channels)
        kept = Signal(KERNELS)
        m.d.sync += kept.eq(Mux(has_pixel, has_channel, 0))

        m.submodules.transposer = transposer = Transposer()
        word = Signal(WORD_BITS)
        m.d.comb += [
            word.eq(self.word & Cat(bit.replicate(NIBBLE) for bit in kept)),
            transposer.word.eq(word),
            transposer.turned.eq(step.turned),
            transposer.shift.eq(step.shift & d.op_transposed),
            self.write.eq(
                step.write & (step.word_line % self.rows_per_write == self.rows_per_write - 1)
            ),
        ]
        with m.If(step.shift):
            row = Mux(d.op_transposed, transposer.row, word)
            m.d.sync += self.rows.eq(Cat(self.rows, row)[WORD_BITS:])
        return m
