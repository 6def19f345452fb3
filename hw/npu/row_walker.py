"""The spike-row walker: which row of the weight memory comes next."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import Component, In, Out
from amaranth.utils import ceil_log2

from hw.one_hot import selected

WORD_WIDTH = 16


def lowest(value):
    """One-hot of the lowest set bit."""
    return value & (~value + 1)[: len(value)]


def encode(one_hot):
    """Index of the set bit."""
    return Cat(
        Cat(one_hot[k] for k in range(len(one_hot)) if k >> b & 1).any()
        for b in range(ceil_log2(len(one_hot)))
    )


class RowWalker(Component):
    """Visits every set bit of `rows` in ascending order, `n_passes` times, without a gap.

    Every pass ends with a slot that has `close` set. The bits stand in words of 16; the next word
    with a set bit is fetched while the current one is walked.

    **Latency**: the first slot comes 3 clocks after `start`. **Throughput**: one slot per clock,
    ``n_passes * (set bits + 1)`` slots. **Reset**: idle.

    Parameters
    ----------
    n_rows : int
    max_passes : int

    Members
    -------
    start, n_passes : In
        Begins unless `n_passes` is 0.
    rows : In(n_rows)
        Must not change while `busy`.
    slot : Out(stream)
        `row`, or the end of pass `index` if `close` is set; `last` marks the last row of a pass.
    busy : Out(1)
    """

    def __init__(self, n_rows, max_passes):
        self.n_rows = n_rows
        self.slot_shape = StructLayout(
            {
                "row": ceil_log2(n_rows),
                "index": max(1, ceil_log2(max_passes)),
                "last": 1,
                "close": 1,
            }
        )
        super().__init__(
            {
                "start": In(1),
                "n_passes": In(range(max_passes + 1)),
                "rows": In(n_rows),
                "slot": Out(stream.Signature(self.slot_shape)),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        n_words = -(-self.n_rows // WORD_WIDTH)
        rows = Cat(self.rows, Const(0, n_words * WORD_WIDTH - self.n_rows))
        words = [rows.word_select(k, WORD_WIDTH) for k in range(n_words)]
        filled = Signal(n_words)
        m.d.comb += filled.eq(Cat(word.any() for word in words))

        # Words come round and round: nothing pending means that the next pass begins.
        pending = Signal(n_words)
        todo = Signal(n_words)
        chosen = Signal(n_words)
        rest = Signal(n_words)
        m.d.comb += [
            todo.eq(Mux(pending.any(), pending, filled)),
            chosen.eq(lowest(todo)),
            rest.eq(todo & ~chosen),
        ]

        begin = Signal()
        fetch = Signal()
        load = Signal()
        next_word = Signal(WORD_WIDTH)
        next_index = Signal(range(n_words))
        next_ends_pass = Signal()
        with m.If(begin | fetch | load):
            m.d.sync += pending.eq(Mux(begin, 0, rest))
        with m.If(fetch | load):
            m.d.sync += [
                next_word.eq(selected(chosen, words)),
                next_index.eq(encode(chosen)),
                next_ends_pass.eq(~rest.any()),
            ]

        word = Signal(WORD_WIDTH)
        word_index = Signal(range(n_words))
        ends_pass = Signal()
        bit = Signal(WORD_WIDTH)
        after = Signal(WORD_WIDTH)
        m.d.comb += [bit.eq(lowest(word)), after.eq(word & ~bit)]
        with m.If(load):
            m.d.sync += [word_index.eq(next_index), ends_pass.eq(next_ends_pass)]
        # Idle, or while the receiver waits, nothing moves.
        with m.If(load | (self.slot.valid & self.slot.ready)):
            m.d.sync += word.eq(Mux(load, next_word, after))

        slot = self.slot.payload
        slot_index = Signal.like(slot.index)
        m.d.comb += [
            slot.index.eq(slot_index),
            slot.row.eq(Cat(encode(bit), word_index)),
            slot.last.eq(ends_pass & ~after.any()),
        ]
        final = Signal.like(slot.index)
        with m.FSM() as fsm:
            with m.State("IDLE"), m.If(self.start & (self.n_passes != 0)):
                m.d.comb += begin.eq(1)
                m.d.sync += [slot_index.eq(0), final.eq(self.n_passes - 1)]
                m.next = "FETCH"
            with m.State("FETCH"):
                m.d.comb += fetch.eq(1)
                m.next = "LOAD"
            with m.State("LOAD"):
                with m.If(filled.any()):
                    m.d.comb += load.eq(1)
                    m.next = "WALK"
                with m.Else():
                    m.next = "CLOSE"
            with m.State("WALK"):
                m.d.comb += self.slot.valid.eq(1)
                with m.If(self.slot.ready):
                    with m.If(~after.any() & ends_pass):
                        m.next = "CLOSE"
                    with m.Elif(~after.any()):
                        m.d.comb += load.eq(1)
            with m.State("CLOSE"):
                m.d.comb += [self.slot.valid.eq(1), slot.close.eq(1)]
                with m.If(self.slot.ready):
                    m.d.sync += slot_index.eq(slot_index + 1)
                    with m.If(slot_index == final):
                        m.next = "IDLE"
                    with m.Elif(filled.any()):
                        m.d.comb += load.eq(1)
                        m.next = "WALK"
        m.d.comb += self.busy.eq(~fsm.ongoing("IDLE"))
        return m
