"""Rows: reads the pixels of a map for the row unit, and sends its results to post-processing."""

import itertools

from amaranth.hdl import Array, Cat, EnableInserter, Module, Mux, Signal
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import Component, In, Out
from amaranth.utils import exact_log2

from hw.delay import delayed
from hw.mars.drain import PIXEL
from hw.mars.layout import ADDR_WIDTH, DESCRIPTOR, HEADER_SLOT_WIDTH, ROW_WIDTH, is_row
from hw.mars.row_unit import RowUnit, row_results
from hw.mars.turns import Turns
from model.mars.clocks import LANES_PER_DIVIDER, ROW_DRAIN_AFTER, ROW_WAITS
from model.mars.config import KERNELS, NIBBLE, WORD_BITS
from model.mars.layout import MAX_MACROS, NORMALISATION, ROW_PHASES, SOFTMAX

BLOCKS_WIDTH = 7
"""1..64 blocks of 16 channels."""
_LOG2_KERNELS = KERNELS.bit_length() - 1
_READ_AFTER = 3
"""From a step until its words are there."""

PLACE = StructLayout(
    {"valid": 1, "last": 1, "macro": range(MAX_MACROS), "addr": ADDR_WIDTH},
)
"""A pixel that is under way: whether there is one, whether it is the last one of the pass, and
where its first word is."""


class PixelWalk(Component):
    """Goes through the pixels of a map row by row, band by band.

    **Latency**: the next pixel in the clock after `advance`; behind the last one comes the first.
    **Throughput**: one pixel per clock. **Reset**: at the first pixel.

    Members
    -------
    descriptor : In(DESCRIPTOR)
    advance : In(1)
    row_pitch, col_pitch, team_pitch : In(16)
        Words from one row, pixel, or team's band to the next.
    row, team, offset : Out(8), Out(3), Out(16)
        Row of the map, whose band it is in, and words from the first pixel.
    last : Out(1)
        Of the last pixel.
    """

    descriptor: In(DESCRIPTOR)
    advance: In(1)
    row_pitch: In(ADDR_WIDTH)
    col_pitch: In(ADDR_WIDTH)
    team_pitch: In(ADDR_WIDTH)
    row: Out(ROW_WIDTH)
    team: Out(range(MAX_MACROS))
    offset: Out(ADDR_WIDTH)
    last: Out(1)

    def elaborate(self, platform):
        m = Module()
        d = self.descriptor
        col, band_row = Signal(ROW_WIDTH), Signal(ROW_WIDTH)
        of_col, of_row, of_team = (
            Signal(ADDR_WIDTH, name=f"offset_of_{name}") for name in ("col", "row", "team")
        )
        last_col, last_of_band = Signal(), Signal()
        m.d.comb += [
            last_col.eq(col + 1 == d.n_cols),
            last_of_band.eq(band_row + 1 == d.rows_per_team),
            self.last.eq(last_col & (self.row + 1 == d.n_rows)),
            self.offset.eq(of_team + of_row + of_col),
        ]
        with m.If(self.advance):
            m.d.sync += [col.eq(col + 1), of_col.eq(of_col + self.col_pitch)]
        with m.If(self.advance & last_col):
            m.d.sync += [
                col.eq(0),
                of_col.eq(0),
                self.row.eq(self.row + 1),
                band_row.eq(band_row + 1),
                of_row.eq(of_row + self.row_pitch),
            ]
        with m.If(self.advance & last_col & last_of_band):
            m.d.sync += [
                band_row.eq(0),
                of_row.eq(0),
                self.team.eq(self.team + 1),
                of_team.eq(of_team + self.team_pitch),
            ]
        with m.If(self.advance & self.last):
            m.d.sync += [sig.eq(0) for sig in (self.row, self.team, band_row, of_row, of_team)]
        return m


class Rows(Component):
    """A pass of softmax or normalisation; golden: `model.mars.clocks` and `model.mars.machine`.

    In a slot pixels are read in the order of their phases, the oldest one last; between its sums
    and its results a pixel waits for its divider while others are read. What has no pixel, in the
    first and last slots, is not read. With four lanes each block of 16 channels takes four steps,
    one for each turn of its channels.

    **Latency**: a step is drained 9 clocks later. **Throughput**: a channel of a pixel per lane and
    clock, as `model.mars.clocks.Work.row_clocks` says. **Reset**: no pass under way.

    Parameters
    ----------
    n_macros : int
    n_lanes : int
        16 or 4.

    Members
    -------
    descriptor : In(DESCRIPTOR)
    stepping : In(1)
        The walker is in such a pass, all of whose headers are there.
    slot : In
        The last one of them.
    last_step : Out(1)
        The pass ends with this step.
    read, addr : Out of every macro, Out(16)
        Reads a feature word, and, at an even address, the next one.
    data, upper : In of every macro
        That word 1 clock later, and the word at the odd address; they stay until the next read.
    pixel : Out(PIXEL)
        16 channels of a pixel, whose results come from 2 clocks later on, turn by turn.
    header_slot : Out
        Their header, 1 clock later, for all turns.
    results : Out(row_results(n_lanes))
    headers_freed : Out
        So many headers are not needed any more: those of the pass.
    last_word : Out(1)
        The last clock of the last pixel of a pass.
    """

    def __init__(self, n_macros, n_lanes=KERNELS):
        self.n_macros = n_macros
        self.turns = Turns(n_lanes)
        super().__init__(
            {
                "descriptor": In(DESCRIPTOR),
                "stepping": In(1),
                "slot": In(HEADER_SLOT_WIDTH),
                "last_step": Out(1),
                "read": Out(1).array(n_macros),
                "addr": Out(ADDR_WIDTH),
                "data": In(WORD_BITS).array(n_macros),
                "upper": In(WORD_BITS).array(n_macros),
                "pixel": Out(PIXEL),
                "header_slot": Out(HEADER_SLOT_WIDTH),
                "results": Out(row_results(n_lanes)),
                "headers_freed": Out(HEADER_SLOT_WIDTH),
                "last_word": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        d = self.descriptor
        is_softmax = d.function == SOFTMAX
        unit = RowUnit(self.turns.n_lanes)
        m.submodules.unit = EnableInserter(is_row(d))(unit)
        # What a pass has is there a clock after its descriptor, before its first step.
        width = BLOCKS_WIDTH + self._turn_width
        n_blocks, n_idle = Signal(width), Signal(range(max(ROW_WAITS.values()) + 1))
        apart = Signal(range(1, unit.n_dividers + 1), init=1)
        blocks = Signal(width)
        m.d.comb += blocks.eq((d.row_channels + KERNELS - 1) >> _LOG2_KERNELS << self._turn_width)
        m.d.sync += n_blocks.eq(blocks)
        for function, is_this in ((SOFTMAX, is_softmax), (NORMALISATION, ~is_softmax)):
            steps = ROW_PHASES[function] * blocks
            waits = [-(-ROW_WAITS[function] // n) for n in range(1, unit.n_dividers + 1)]
            with m.If(is_this):
                m.d.sync += n_idle.eq(Mux(steps < waits[-1], waits[-1] - steps, 0))
                m.d.sync += apart.eq(1 + sum(steps < least for least in waits[:-1]))

        # Steps: first the idle ones of a slot, then phase by phase the blocks of a pixel; the
        # lowest bits of their numbers are the turn.
        idle = Signal.like(n_idle)
        age = Signal(2)
        block = Signal(width)
        working, last_block, oldest, end_of_slot = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            working.eq(self.stepping & (idle == n_idle)),
            last_block.eq(block + 1 == n_blocks),
            oldest.eq(age == Mux(is_softmax, 2, 1)),
            end_of_slot.eq(working & last_block & oldest),
        ]
        with m.If(self.stepping & ~working):
            m.d.sync += idle.eq(idle + 1)
        with m.If(working):
            m.d.sync += block.eq(block + 1)
            with m.If(last_block):
                m.d.sync += [block.eq(0), age.eq(age + 1)]
        with m.If(end_of_slot):
            m.d.sync += [idle.eq(0), age.eq(0)]

        place = self._place(m, age, oldest, apart + is_softmax, end_of_slot)
        m.d.comb += self.last_step.eq(end_of_slot & place.valid & place.last)
        is_last = delayed(m, "last_block", 1, last_block, _READ_AFTER)[-1]
        m.d.comb += [
            unit.is_softmax.eq(is_softmax),
            unit.octaves.eq(d.octaves),
            unit.epsilon.eq(d.epsilon),
            unit.n_channels.eq(d.row_channels),
            *([unit.apart.eq(apart)] if unit.n_dividers > 1 else []),
            unit.enable.eq(delayed(m, "working", 1, working, _READ_AFTER)[-1]),
            unit.phase.eq(delayed(m, "phase", 2, age + ~is_softmax, _READ_AFTER)[-1]),
            unit.first.eq(delayed(m, "first", 1, block == 0, _READ_AFTER)[-1]),
            unit.last.eq(is_last),
            self.results.eq(unit.results),
        ]
        turn, number = self._split(block)
        reads = self.turns.first(working, turn)
        if self.turns.n > 1:
            turn = delayed(m, "turn", len(turn), turn, _READ_AFTER)[-1]
            in_last_block = number + 1 == self._split(n_blocks)[1]
            is_last = delayed(m, "in_last_block", 1, in_last_block, _READ_AFTER)[-1]
        left = d.row_channels[:_LOG2_KERNELS]
        mask = Mux(is_last & (left != 0), (1 << left) - 1, ~0)
        if self.turns.n > 1:
            mask = Cat(self.turns.of(turn, mask))
        m.d.comb += unit.mask.eq(mask)
        self._read(m, place, number, turn, reads, unit.values)
        drained = working & oldest & place.valid
        self._drain(m, delayed(m, "drained", 1, drained, ROW_DRAIN_AFTER)[-1], n_blocks)
        return m

    @property
    def _turn_width(self):
        """Bits of a turn's number."""
        return exact_log2(self.turns.n)

    def _split(self, block):
        """The turn, if there are several, and the number of the block of 16 channels."""
        if self.turns.n == 1:
            return None, block
        return block[: self._turn_width], block[self._turn_width :]

    def _place(self, m, age, oldest, n_younger, end_of_slot):
        """The pixels that are under way; returns the one that is read."""
        d = self.descriptor
        m.submodules.walk = walk = PixelWalk()
        done = Signal()
        n_places = max(ROW_PHASES.values()) - 1 + self.turns.n_lanes // LANES_PER_DIVIDER
        now, *before = places = [Signal(PLACE, name=f"place_{k}") for k in range(n_places)]
        macro = Signal(range(MAX_MACROS))
        bases = Array(d[f"in_base_{k}"] for k in range(self.n_macros))
        m.d.comb += [
            walk.descriptor.eq(d),
            walk.row_pitch.eq(d.in_row_step),
            walk.col_pitch.eq(d.in_col_step),
            walk.advance.eq(end_of_slot & ~done),
            macro.eq(walk.team << d.split_log2),
            now.valid.eq(~done),
            now.last.eq(walk.last),
            now.macro.eq(macro),
            now.addr.eq(bases[macro] + walk.offset),
        ]
        with m.If(end_of_slot):
            m.d.sync += [earlier.eq(one) for one, earlier in itertools.pairwise(places)]
            m.d.sync += done.eq(done | now.last)
        with m.If(self.last_step):
            m.d.sync += [done.eq(0), *(earlier.valid.eq(0) for earlier in before)]
        values = Array(one.as_value() for one in places)
        return PLACE(values[Mux(oldest, n_younger, age)])

    def _read(self, m, place, block, turn, reads, values):
        """The words of a block, read once, and the values in them whose turn it is."""
        d = self.descriptor
        place_1, block_1, working_1 = Signal(PLACE), Signal.like(block), Signal()
        macro_2, macro_3 = Signal(range(MAX_MACROS)), Signal(range(MAX_MACROS))
        reads_2 = Signal()
        m.d.sync += [
            place_1.eq(place),
            block_1.eq(block),
            working_1.eq(reads),
            reads_2.eq(working_1 & place_1.valid),
            macro_2.eq(place_1.macro),
            macro_3.eq(macro_2),
            self.addr.eq(place_1.addr + (block_1 << d.in_two)),
        ]
        for k, read in enumerate(self.read):
            m.d.comb += read.eq(reads_2 & (macro_2 == k))
        lower, upper = Array(self.data)[macro_3], Array(self.upper)[macro_3]
        lows, highs = (
            self.turns.of(turn, [word.word_select(k, NIBBLE) for k in range(KERNELS)])
            for word in (lower, upper)
        )
        for k, (low, high) in enumerate(zip(lows, highs, strict=True)):
            sign = Mux(d.in_two, high[-1], low[-1]) & d.in_signed
            value = Cat(low, Mux(d.in_two, high, sign.replicate(NIBBLE)), sign)
            m.d.comb += values[k].eq(value.as_signed())

    def _drain(self, m, valid, n_blocks):
        """Where the results go."""
        d = self.descriptor
        m.submodules.out = out = PixelWalk()
        block = Signal.like(n_blocks)
        turn, number = self._split(block)
        last_block = Signal()
        first_slot = self.slot + 1 - d.n_kernel_blocks
        m.d.comb += [
            last_block.eq(block + 1 == n_blocks),
            out.descriptor.eq(d),
            out.row_pitch.eq(d.out_row_pitch),
            out.col_pitch.eq(d.out_col_pitch),
            out.team_pitch.eq(d.team_out_pitch),
            out.advance.eq(valid & last_block),
            self.pixel.valid.eq(self.turns.first(valid, turn)),
            self.pixel.row.eq(out.row),
            self.pixel.offset.eq(out.offset + (number << d.out_planes_log2)),
            self.last_word.eq(out.advance & out.last),
        ]
        with m.If(valid):
            m.d.sync += block.eq(Mux(last_block, 0, block + 1))
        m.d.sync += [
            # Softmax has one header for all blocks.
            self.header_slot.eq(first_slot + Mux(d.function == SOFTMAX, 0, number)),
            self.headers_freed.eq(Mux(self.last_word, d.n_kernel_blocks, 0)),
        ]
