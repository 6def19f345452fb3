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
    """Visits the set bits of ``rows & mask`` in ascending order, `n_passes` times, without a gap.

    Every pass has a mask of its own and ends with a slot that has `close` set. The bits stand in
    words of 16; the next word with a set bit is fetched while the current one is walked, and if it
    was the last one of its pass, the next mask is read meanwhile.

    **Latency**: the first slot comes 3 clocks after `start`. **Throughput**: one slot per clock,
    one for each bit and one for each pass. **Reset**: idle.

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
    read, read_pass : Out
        Asks for the mask of a pass.
    mask : In(n_rows)
        Valid 1 clock later; must stay until the next `read`.
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
                "read": Out(1),
                "read_pass": Out(max(1, ceil_log2(max_passes))),
                "mask": In(n_rows),
                "slot": Out(stream.Signature(self.slot_shape)),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        begin = Signal()
        fetch = Signal()
        load = Signal()
        final = Signal.like(self.read_pass)
        with m.If(begin):
            m.d.sync += final.eq(self.n_passes - 1)
        fetched = self._fetch(m, begin, fetch, load, final)

        word = Signal(WORD_WIDTH)
        word_index = Signal.like(fetched.index)
        ends_pass = Signal()
        bit = Signal(WORD_WIDTH)
        after = Signal(WORD_WIDTH)
        m.d.comb += [bit.eq(lowest(word)), after.eq(word & ~bit)]
        with m.If(load):
            m.d.sync += [word_index.eq(fetched.index), ends_pass.eq(fetched.ends_pass)]
        # Idle, or while the receiver waits, nothing moves.
        with m.If(load | (self.slot.valid & self.slot.ready)):
            m.d.sync += word.eq(Mux(load, fetched.word, after))

        slot = self.slot.payload
        slot_index = Signal.like(slot.index)
        m.d.comb += [
            slot.index.eq(slot_index),
            slot.row.eq(Cat(encode(bit), word_index)),
            slot.last.eq(ends_pass & ~after.any()),
        ]
        with m.FSM() as fsm:

            def load_next():
                """Walk the fetched word, or close a pass that has none."""
                m.d.comb += load.eq(1)
                with m.If(~fetched.empty):
                    m.next = "WALK"
                with m.Else():
                    m.next = "CLOSE"

            with m.State("IDLE"), m.If(self.start & (self.n_passes != 0)):
                m.d.comb += begin.eq(1)
                m.d.sync += slot_index.eq(0)
                m.next = "FETCH"
            with m.State("FETCH"):
                m.d.comb += fetch.eq(1)
                m.next = "LOAD"
            with m.State("LOAD"):
                load_next()
            with m.State("WALK"):
                m.d.comb += self.slot.valid.eq(1)
                with m.If(self.slot.ready & ~after.any()):
                    with m.If(ends_pass):
                        m.next = "CLOSE"
                    with m.Else():
                        load_next()
            with m.State("CLOSE"):
                m.d.comb += [self.slot.valid.eq(1), slot.close.eq(1)]
                with m.If(self.slot.ready):
                    m.d.sync += slot_index.eq(slot_index + 1)
                    with m.If(slot_index == final):
                        m.next = "IDLE"
                    with m.Else():
                        load_next()
        m.d.comb += self.busy.eq(~fsm.ongoing("IDLE"))
        return m

    def _fetch(self, m, begin, fetch, load, final):
        """The next word that has a bit of its pass, or word 0 of a pass that has none."""
        n_words = -(-self.n_rows // WORD_WIDTH)
        rows = Cat(self.rows & self.mask, Const(0, n_words * WORD_WIDTH - self.n_rows))
        words = [rows.word_select(k, WORD_WIDTH) for k in range(n_words)]
        filled = Signal(n_words)
        m.d.comb += filled.eq(Cat(word.any() for word in words))

        # Nothing pending means that a pass begins.
        pending = Signal(n_words)
        todo = Signal(n_words)
        chosen = Signal(n_words)
        rest = Signal(n_words)
        m.d.comb += [
            todo.eq(Mux(pending.any(), pending, filled)),
            chosen.eq(lowest(todo)),
            rest.eq(todo & ~chosen),
        ]
        with m.If(begin | fetch | load):
            m.d.sync += pending.eq(Mux(begin, 0, rest))

        # The mask that is there, and the next one as soon as the last word of its pass is taken.
        mask_pass = Signal.like(self.read_pass)
        m.d.comb += [
            self.read.eq(begin | ((fetch | load) & ~rest.any() & (mask_pass != final))),
            self.read_pass.eq(Mux(begin, 0, mask_pass + 1)),
        ]
        with m.If(self.read):
            m.d.sync += mask_pass.eq(self.read_pass)

        fetched = Signal(
            StructLayout({"word": WORD_WIDTH, "index": range(n_words), "ends_pass": 1, "empty": 1})
        )
        with m.If(fetch | load):
            m.d.sync += [
                fetched.word.eq(selected(chosen, words)),
                fetched.index.eq(encode(chosen)),
                fetched.ends_pass.eq(~rest.any()),
                fetched.empty.eq(~todo.any()),
            ]
        return fetched
