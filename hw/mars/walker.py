"""The walker: leads all macros in step through kernel blocks, pixels and group-sets."""

from dataclasses import dataclass

from amaranth.hdl import Array, Module, Mux, Signal, signed
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import Component, In, Out
from amaranth.utils import exact_log2

from hw.mars.layout import (
    ADDR_WIDTH,
    DESCRIPTOR,
    ENTRIES_WIDTH,
    HEADER_SLOT_WIDTH,
    MAX_PARTS,
    MEMBRANE_WORDS,
    ROW_WIDTH,
    drained_teams,
    has_operand,
    in_steps,
    is_long,
    is_row,
    loads_membranes,
    parts_log2,
    slots_log2,
    store_slots,
)
from model.mars.clocks import (
    AVERAGE_AFTER,
    BLOCK_SLOTS,
    DRAIN_AFTER,
    FREED_AFTER,
    WITHOUT_SRAM,
)
from model.mars.config import ADDRESSES
from model.mars.layout import MAX_MACROS

COORDINATE_WIDTH = 11
"""Signed: rows and columns of the input map, padding included."""

STEP = StructLayout(
    {
        "access": 1,
        "skip": 1,
        "membranes": 1,
        "first": 1,
        "last": 1,
        "upper": 1,
        "high": 1,
        "in_row": signed(COORDINATE_WIDTH),
        "in_col": signed(COORDINATE_WIDTH),
        "in_offset": ADDR_WIDTH,
        "skip_offset": ADDR_WIDTH,
        "u_offset": ADDR_WIDTH,
        "u_plane": range(MEMBRANE_WORDS),
        "u_macro": range(MAX_MACROS),
    }
)
"""What the lanes do in a step, one clock behind `index_enable`: multiply, read the residual, or
membranes; first and last step of a round; the upper nibble; that of weights; the pixel's first tap;
the word of membranes, and which macro of a team has it."""

ROUND = StructLayout(
    {
        "row": ROW_WIDTH,
        "out_row": ROW_WIDTH,
        "out_offset": ADDR_WIDTH,
        "slot": HEADER_SLOT_WIDTH,
        "part": range(MAX_PARTS),
        "u_offset": ADDR_WIDTH,
        "u_macro": range(MAX_MACROS),
        "sub": 1,
        "pool_first": 1,
        "pool_last": 1,
        "first_of_block": 1,
        "last_of_block": 1,
        "last_of_pass": 1,
    }
)
"""A finished pixel of every team: its row in the team's band and, after pooling, where it goes;
which part of a word its kernel block's results and membranes are, and where these go."""


@dataclass(frozen=True)
class _Place:
    """Where the walk is: a pixel's round, its first and last pixel, and whether one is done."""

    sub: Signal
    first: Signal
    last: Signal
    done: Signal


class Walker(Component):
    """Issues one step per clock, golden: `model.mars.clocks` and `model.mars.machine.walk`.

    For every kernel block, for every pixel (a round): read membranes, then the residual, then
    access every entry, once per nibble. The last step of a round waits until post-processing can
    take the round.
    In time an access has four steps; a pixel of more takes a second round, right behind the first.
    Of a source that is the same in all steps the sums are there then. A sum over all pixels is one
    round. Where a map stands for weights a kernel block is filled (`hw.mars.map_loader`) before its
    first step. Softmax and normalisation are another's steps (`hw.mars.rows`), behind the last
    kernel block.

    **Latency**: a step's address of the index memory is valid in its clock, `step` one clock
    later, the round DRAIN_AFTER - 1 clocks after its last step. **Throughput**: one step per clock,
    also from one kernel block to the next if that is loaded. **Reset**: waits for a descriptor.

    Parameters
    ----------
    n_headers : int
        Headers that there are at once.
    n_turns : int
        Of the lanes of post-processing.

    Members
    -------
    loading, described : In
        The loader's descriptor.
    take : Out(1)
        It becomes `descriptor`.
    later : In(1)
        The frame goes on where the one before stopped: membranes are there.
    descriptor : Out(DESCRIPTOR)
        Of the pass under way.
    loaded : In(1)
        Another kernel block is complete.
    entries : In(7) for each block slot
        Of the kernel blocks that are complete, one after the other.
    begun : Out(1)
        One of them is begun.
    entries_freed : Out(7)
    fill, n_entries, head, block : Out
        A kernel block is to be filled with a map; its entries, where they are, and its number.
    reading, filled : In(1)
        A word of it is being read; the last clock.
    index_enable, index_addr : Out
    step : Out(STEP)
    round_done, round : Out(1), Out(ROUND)
        All sums and residuals of a round are complete in the next clock.
    row_stepping, last_row_step : Out(1), In(1)
        The steps are those of softmax or normalisation; the last one.
    slot : Out
        The header of the last kernel block that was begun.
    pass_done : In(1)
        The last features of the pass are being written.
    frame_done : Out(1)
        And it was the last pass.
    stepping, weight_stall, drain_stall : Out(1)
        What this clock is spent on.
    """

    loading: In(DESCRIPTOR)
    described: In(1)
    take: Out(1)
    later: In(1)
    descriptor: Out(DESCRIPTOR)
    loaded: In(1)
    entries: In(ENTRIES_WIDTH).array(BLOCK_SLOTS)
    begun: Out(1)
    entries_freed: Out(ENTRIES_WIDTH)
    fill: Out(1)
    n_entries: Out(ENTRIES_WIDTH)
    head: Out(range(ADDRESSES))
    block: Out(16)
    reading: In(1)
    filled: In(1)
    index_enable: Out(1)
    index_addr: Out(range(ADDRESSES))
    step: Out(STEP)
    round_done: Out(1)
    round: Out(ROUND)
    row_stepping: Out(1)
    last_row_step: In(1)
    slot: Out(HEADER_SLOT_WIDTH)
    pass_done: In(1)
    frame_done: Out(1)
    stepping: Out(1)
    weight_stall: Out(1)
    drain_stall: Out(1)

    def __init__(self, n_headers=WITHOUT_SRAM.headers, n_turns=1):
        self.n_headers = n_headers
        self.n_turns = n_turns
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        d = self.descriptor

        # Kernel blocks that are loaded and not begun.
        waiting = Signal(range(BLOCK_SLOTS + 1))
        begin = self.begun
        next_slot = Signal(range(self.n_headers))
        blocks_left = Signal(16)
        n_entries, head, block = self.n_entries, self.head, self.block
        m.d.sync += waiting.eq(waiting + self.loaded - begin)
        with m.If(begin):
            m.d.sync += [
                next_slot.eq(next_slot + 1),
                self.slot.eq(next_slot),
                n_entries.eq(Array(self.entries)[next_slot[: exact_log2(BLOCK_SLOTS)]]),
                blocks_left.eq(blocks_left - 1),
            ]

        active = Signal()
        end_of_round = Signal()
        end_of_block = Signal()
        # All kernel blocks of a row are begun before its steps.
        starts = begin & (~is_row(d) | (blocks_left == 1))
        with m.FSM(name="walker") as fsm:
            with m.State("DESCRIPTOR"), m.If(self.described):
                m.d.comb += self.take.eq(1)
                m.d.sync += [
                    d.eq(self.loading),
                    blocks_left.eq(self.loading.n_kernel_blocks),
                    block.eq(0),
                ]
                m.next = "BEGIN"
                with m.If(self.loading.is_input | self.loading.is_store):
                    m.next = "FINISH"
            with m.State("BEGIN"):
                m.d.comb += begin.eq(waiting != 0)
                m.next = "WAIT"
                with m.If(starts):
                    m.next = "STEP"
                with m.If(begin & has_operand(d)):
                    m.next = "FILL"
            with m.State("WAIT"):
                m.d.comb += [begin.eq(waiting != 0), self.weight_stall.eq(1)]
                with m.If(starts):
                    m.next = "STEP"
                with m.If(begin & has_operand(d)):
                    m.next = "FILL"
            with m.State("FILL"):
                m.d.comb += [self.fill.eq(1), self.weight_stall.eq(~self.reading)]
                with m.If(self.filled):
                    m.next = "STEP"
            with m.State("STEP"), m.If(end_of_block | self.last_row_step):
                m.d.sync += [head.eq(head + n_entries), block.eq(block + 1)]
                with m.If(blocks_left == 0):
                    m.next = "FINISH"
                with m.Else():
                    m.d.comb += begin.eq(waiting != 0)
                    with m.If(~begin):
                        m.next = "WAIT"
                    with m.Elif(has_operand(d)):
                        m.next = "FILL"
            with m.State("FINISH"), m.If(self.pass_done):
                m.next = "DESCRIPTOR"
        m.d.comb += [
            active.eq(fsm.ongoing("STEP") & ~is_row(d)),
            self.row_stepping.eq(fsm.ongoing("STEP") & is_row(d)),
            self.frame_done.eq(self.pass_done & d.is_last),
        ]

        at = _Place(
            sub=Signal(name="sub"),
            first=Signal(name="at_first"),
            last=Signal(name="at_last"),
            done=Signal(name="pixel_done"),
        )
        issue, word = self._steps(m, active, n_entries, head, at, end_of_round, end_of_block)
        pixel = self._pixels(m, at, block, issue, word)
        m.d.comb += [
            end_of_block.eq(end_of_round & at.done & at.last),
            pixel.slot.eq(self.slot),
            pixel.sub.eq(at.sub),
            pixel.part.eq(block),
            pixel.last_of_block.eq(end_of_block),
            pixel.last_of_pass.eq(end_of_block & (blocks_left == 0)),
        ]

        valid, round_ = end_of_round, pixel
        for clock in range(1, DRAIN_AFTER):
            valid_before, round_before = valid, round_
            valid = Signal(name=f"round_valid_{clock}")
            round_ = Signal(ROUND, name=f"round_info_{clock}", reset_less=True)
            m.d.sync += valid.eq(valid_before)
            with m.If(valid_before):
                m.d.sync += round_.eq(round_before)
        freed = Mux(end_of_block, n_entries, 0)
        for _ in range(FREED_AFTER - 1):
            freed_before = freed
            freed = Signal(ENTRIES_WIDTH, name="freed")
            m.d.sync += freed.eq(freed_before)
        m.d.comb += [
            self.round_done.eq(valid),
            self.round.eq(round_),
            self.entries_freed.eq(freed),
        ]
        return m

    def _steps(self, m, active, n_entries, head, at, end_of_round, end_of_block):
        """The steps of a round: membranes, residual, entries.

        Returns whether there is one in this clock, and the word of its pixel.
        """
        d, step = self.descriptor, self.step
        # The sums of a source that is the same in all steps are there after the first round.
        repeats = d.timed & d.direct & at.sub
        pixel_sum = d.timed & d.pixel_sum
        nothing = Signal()
        m.d.comb += nothing.eq((n_entries == 0) | repeats)
        reading = Signal(init=1)
        plane = Signal(range(MEMBRANE_WORDS))
        skipping = Signal(init=1)
        entry = Signal(ENTRIES_WIDTH)
        upper = Signal()
        first = Signal(init=1)

        membranes, last_plane = Signal(), Signal()
        skip = Signal()
        access = Signal()
        last_nibble = Signal()
        last = Signal()
        m.d.comb += [
            membranes.eq(reading & loads_membranes(d, self.later)),
            last_plane.eq(plane + 1 == 1 << d.u_planes_log2),
            skip.eq(~membranes & skipping & d.has_skip),
            access.eq(~membranes & ~skip & ~nothing),
            last_nibble.eq(upper == Mux(skip, d.skip_two & ~d.timed, d.in_two & ~in_steps(d))),
            last.eq(last_nibble & (entry + 1 == n_entries)),
        ]

        with m.If(membranes):
            m.d.comb += last.eq(last_plane & nothing & ~d.has_skip)
        with m.Elif(skip):
            m.d.comb += last.eq(last_nibble & nothing)
        with m.Elif(nothing):
            m.d.comb += last.eq(1)

        drain_left = Signal(8)
        ends = Signal()
        stall = Signal()
        issue = Signal()
        last_sub = at.sub == is_long(d)
        m.d.comb += [
            ends.eq(last & (~pixel_sum | at.last)),
            stall.eq(ends & (drain_left != 0)),
            issue.eq(active & ~stall),
            end_of_round.eq(issue & ends),
            at.done.eq(issue & last & last_sub),
            self.stepping.eq(issue | self.reading | self.row_stepping),
            self.drain_stall.eq(active & stall),
        ]
        with m.If(issue & last):
            m.d.sync += at.sub.eq(~last_sub)
        with m.If(end_of_round):
            n_turns = self.n_turns
            slots = (drained_teams(d, n_turns) << slots_log2(d, n_turns)) + store_slots(d)
            average = Mux(d.gap & end_of_block, AVERAGE_AFTER, 0)
            m.d.sync += drain_left.eq(slots + average - 1)
        with m.Elif(drain_left != 0):
            m.d.sync += drain_left.eq(drain_left - 1)

        with m.If(issue):
            m.d.sync += [first.eq(last), upper.eq(~membranes & ~last_nibble)]
            with m.If(membranes):
                m.d.sync += [plane.eq(Mux(last_plane, 0, plane + 1)), reading.eq(~last_plane)]
            with m.If(last):
                m.d.sync += [reading.eq(1), skipping.eq(1), upper.eq(0), entry.eq(0)]
            with m.Elif(membranes):
                pass
            with m.Elif(last_nibble & skip):
                m.d.sync += skipping.eq(0)
            with m.Elif(last_nibble):
                m.d.sync += entry.eq(entry + 1)

        m.d.comb += [
            self.index_enable.eq(issue & access),
            self.index_addr.eq(head + entry),
        ]
        m.d.sync += [
            step.access.eq(issue & access),
            step.skip.eq(issue & skip),
            step.membranes.eq(issue & membranes),
            step.first.eq(issue & first & ~repeats & (~pixel_sum | at.first)),
            step.last.eq(end_of_round),
        ]
        with m.If(issue):
            m.d.sync += [
                step.u_plane.eq(plane),
                step.upper.eq(upper),
                step.high.eq(d.stacked & entry[0]),
            ]
        word = Signal()
        m.d.comb += word.eq(Mux(Mux(skip, d.timed, in_steps(d)), at.sub, upper))
        return issue, word

    def _pixels(self, m, at, block, issue, word):
        """The way through the map: row by row, or quad by quad if 2x2 are pooled.

        Returns the pixel as a round.
        """
        d, step = self.descriptor, self.step
        phase = Signal(2)
        by = Mux(d.pool, 2, 1)
        advance, last_col, last_row = Signal(), Signal(), Signal()
        m.d.comb += advance.eq(at.done & (~d.pool | (phase == 3)))
        with m.If(at.done & d.pool):
            m.d.sync += phase.eq(phase + 1)
        dx, dy = phase[0], phase[1]

        def counter(name, width, row_step, col_step):
            """A row and a column position, counted in the given units."""
            row = Signal(width, name=f"{name}_row")
            col = Signal(width, name=f"{name}_col")
            with m.If(advance):
                m.d.sync += col.eq(col + col_step)
                with m.If(last_col):
                    m.d.sync += [col.eq(0), row.eq(row + row_step)]
                    with m.If(last_row):
                        m.d.sync += row.eq(0)
            return row, col

        def offset(name, row_pitch, col_pitch):
            """Words from the first pixel of a map that is as large as the convolution's result."""
            row, col = counter(name, ADDR_WIDTH, row_pitch << d.pool, col_pitch << d.pool)
            return row + col + Mux(dy, row_pitch, 0) + Mux(dx, col_pitch, 0)

        row, col = counter("pixel", ROW_WIDTH, by, by)
        m.d.comb += [
            last_col.eq(col + by == d.n_cols),
            last_row.eq(row + by == d.rows_per_team),
            at.first.eq((row == 0) & (col == 0)),
            at.last.eq(last_col & last_row & (~d.pool | (phase == 3))),
        ]
        out_row, _ = counter("out", ROW_WIDTH, 1, 1)
        out_row_offset, out_col_offset = counter(
            "out_offset", ADDR_WIDTH, d.out_row_pitch, d.out_col_pitch
        )
        in_row, in_col = counter(
            "in", COORDINATE_WIDTH, d.row_stride << d.pool, d.col_stride << d.pool
        )
        in_offset = offset("in_offset", d.in_row_step, d.in_col_step)
        skip_offset = offset("skip_offset", d.skip_row_pitch, d.skip_col_pitch)
        channel_block = block >> d.wide
        u_word = block >> parts_log2(d)
        is_sum = d.timed & d.pixel_sum
        u_pixel = Mux(is_sum, 0, offset("u_offset", d.u_row_pitch, d.u_col_pitch))
        u_offset, u_macro = Signal(ADDR_WIDTH), Signal(range(MAX_MACROS))
        m.d.comb += [
            u_offset.eq(u_pixel + (u_word >> d.split_log2 << d.u_planes_log2)),
            u_macro.eq(u_word & ((1 << d.split_log2) - 1)),
        ]
        with m.If(issue):
            m.d.sync += [
                step.in_row.eq(in_row + Mux(dy, d.row_stride, 0) - d.pad_top),
                step.in_col.eq(in_col + Mux(dx, d.col_stride, 0) - d.pad_left),
                step.in_offset.eq(in_offset + word),
                step.skip_offset.eq(skip_offset + (channel_block << d.skip_two) + word),
                step.u_offset.eq(u_offset),
                step.u_macro.eq(u_macro),
            ]

        pixel = Signal(ROUND)
        block_log2 = Mux(d.timed, d.out_block_log2, d.out_planes_log2)
        m.d.comb += [
            pixel.row.eq(Mux(is_sum, 0, row + dy)),
            pixel.out_row.eq(Mux(is_sum, 0, out_row)),
            pixel.out_offset.eq(out_row_offset + out_col_offset + (channel_block << block_log2)),
            pixel.pool_first.eq(phase == 0),
            pixel.pool_last.eq(~d.pool | (phase == 3)),
            pixel.first_of_block.eq(at.first),
            pixel.u_offset.eq(u_offset),
            pixel.u_macro.eq(u_macro),
        ]
        return pixel
