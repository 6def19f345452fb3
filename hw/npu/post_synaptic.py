"""The post-synaptic unit: accumulate weights, saturate, decay."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib.wiring import Component, In, Out

from model.npu.config import I_MAX, I_MIN, I_WIDTH, WEIGHT_WIDTH


class PostSynapticUnit(Component):
    """One lane's current, golden functions in `model.npu.post_synaptic`.

    Between two `close` pulses it adds up the weights of the rows; `close` adds the neuron's old
    current, saturates to 16 bit and subtracts ``I >> tau_log2``, or 1 if that is 0 and I positive.

    **Latency**: `i_syn` is valid 3 clocks after `close`, `i_next` 4 clocks, `saturated` 1 clock.
    **Throughput**: one weight or one close per clock. **Reset**: sum 0.

    Parameters
    ----------
    n_rows : int
        Most rows between two closes; the sum is wide enough that it never overflows.

    Members
    -------
    add, weight : In(1), In(signed(8))
        A row's weight for this lane's neuron.
    close : In(1)
        All rows were added (never together with `add`).
    i_old, tau_log2, no_decay : In
        The neuron's current and decay, with `close`.
    saturated : Out(1)
        The sum with the old current did not fit.
    i_syn : Out(signed(16))
        The decayed current.
    i_next : Out(signed(16))
        What the next step finds: 0 for a neuron without decay unit.
    """

    def __init__(self, n_rows):
        self.n_rows = n_rows
        super().__init__(
            {
                "add": In(1),
                "weight": In(signed(WEIGHT_WIDTH)),
                "close": In(1),
                "i_old": In(signed(I_WIDTH)),
                "tau_log2": In(4),
                "no_decay": In(1),
                "saturated": Out(1),
                "i_syn": Out(signed(I_WIDTH)),
                "i_next": Out(signed(I_WIDTH)),
            }
        )

    def elaborate(self, platform):
        m = Module()

        # The sum in two digits: 256 * high + low, low signed. Small weights seldom move `high`.
        low = Signal(signed(WEIGHT_WIDTH))
        high = Signal(range(-(self.n_rows // 2) - 1, self.n_rows // 2 + 2))
        low_sum = Signal(signed(WEIGHT_WIDTH + 1))
        m.d.comb += low_sum.eq(low + self.weight)
        with m.If(self.close):
            m.d.sync += [low.eq(0), high.eq(0)]
        with m.Elif(self.add):
            m.d.sync += low.eq(low_sum)
            with m.If(low_sum[-1] != low_sum[-2]):
                m.d.sync += high.eq(high + Mux(low_sum[-1], -1, 1))

        # Until `close` nothing from here on toggles.
        closed_low = Signal.like(low)
        closed_high = Signal.like(high)
        total = Signal(signed(max(WEIGHT_WIDTH + len(high), I_WIDTH) + 1))
        m.d.comb += [
            closed_low.eq(Mux(self.close, low, 0)),
            closed_high.eq(Mux(self.close, high, 0)),
            total.eq(self.i_old + (closed_high << WEIGHT_WIDTH) + closed_low),
        ]
        total_1 = Signal(signed(I_WIDTH), reset_less=True)
        tau_log2_1 = Signal(4, reset_less=True)
        no_decay_1 = Signal(reset_less=True)
        with m.If(self.close):
            m.d.sync += [
                self.saturated.eq((total > I_MAX) | (total < I_MIN)),
                total_1.eq(Mux(total > I_MAX, I_MAX, Mux(total < I_MIN, I_MIN, total))),
                tau_log2_1.eq(self.tau_log2),
                no_decay_1.eq(self.no_decay),
            ]

        close_1 = Signal()
        shifted = Signal(signed(I_WIDTH))
        leak = Signal(signed(I_WIDTH))
        decayed_2 = Signal(signed(I_WIDTH), reset_less=True)
        no_decay_2 = Signal(reset_less=True)
        m.d.sync += close_1.eq(self.close)
        m.d.comb += [
            shifted.eq(total_1 >> tau_log2_1),
            leak.eq(Mux(shifted.any(), shifted, total_1 > 0)),
        ]
        with m.If(close_1):
            m.d.sync += [
                decayed_2.eq(total_1 - Mux(no_decay_1, 0, leak)),
                no_decay_2.eq(no_decay_1),
            ]

        close_2 = Signal()
        no_decay_3 = Signal(reset_less=True)
        m.d.sync += close_2.eq(close_1)
        with m.If(close_2):
            m.d.sync += [self.i_syn.eq(decayed_2), no_decay_3.eq(no_decay_2)]

        close_3 = Signal()
        m.d.sync += close_3.eq(close_2)
        with m.If(close_3):
            m.d.sync += self.i_next.eq(Mux(no_decay_3, 0, self.i_syn))
        return m
