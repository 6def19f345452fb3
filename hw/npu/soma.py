"""The soma: integrate and fire, one neuron per clock."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib.wiring import Component, In, Out

from model.npu.config import BIAS_WIDTH, I_WIDTH, SLOPE_WIDTH, V_WIDTH

DRIVE_WIDTH = BIAS_WIDTH + 1
"""All terms but the current: bias -2048..2047, membrane potential 0..255, a force of at most 478 to
either side and noise -128..127."""


class Soma(Component):
    """One lane's soma, golden function `model.npu.soma.soma`.

    ``force = a * (rest - v) if v < v_branch else b * (v - threshold)``,
    ``total = v + (force >> 3) + bias + noise + i_syn``; a carry out of 8 bits is the spike.

    **Latency**: `v_next` and `spike` are valid 4 clocks after `v` and the parameters; `noise` is
    taken 2 clocks and `i_syn` 3 clocks after them. **Throughput**: one neuron per clock.
    **Reset**: nothing to reset; what no `enable` preceded is not valid.

    Members
    -------
    enable : In(1)
        A neuron enters. Registers keep their value without it, so that idle lanes do not toggle.
    v, rest, threshold, reset, v_branch, a, b, bias : In
        Membrane potential and parameters, with `enable`.
    noise : In(signed(8))
        The draw, 2 clocks later.
    i_syn : In(signed(16))
        The decayed current, 3 clocks later.
    v_next, spike : Out
        4 clocks later.
    """

    enable: In(1)
    v: In(V_WIDTH)
    rest: In(V_WIDTH)
    threshold: In(V_WIDTH)
    reset: In(V_WIDTH)
    v_branch: In(V_WIDTH)
    a: In(SLOPE_WIDTH)
    b: In(SLOPE_WIDTH)
    bias: In(signed(BIAS_WIDTH))
    noise: In(signed(8))
    i_syn: In(signed(I_WIDTH))
    v_next: Out(V_WIDTH)
    spike: Out(1)

    def elaborate(self, platform):
        m = Module()

        left = Signal()
        distance_1 = Signal(signed(V_WIDTH + 1), reset_less=True)
        slope_1 = Signal(SLOPE_WIDTH, reset_less=True)
        static_1 = Signal(signed(DRIVE_WIDTH), reset_less=True)
        reset_1 = Signal(V_WIDTH, reset_less=True)
        m.d.comb += left.eq(self.v < self.v_branch)
        with m.If(self.enable):
            m.d.sync += [
                distance_1.eq(Mux(left, self.rest - self.v, self.v - self.threshold)),
                slope_1.eq(Mux(left, self.a, self.b)),
                static_1.eq(self.v + self.bias),
                reset_1.eq(self.reset),
            ]

        enable_1 = Signal()
        drive_2 = Signal(signed(DRIVE_WIDTH), reset_less=True)
        reset_2 = Signal(V_WIDTH, reset_less=True)
        m.d.sync += enable_1.eq(self.enable)
        with m.If(enable_1):
            m.d.sync += [
                drive_2.eq(static_1 + ((distance_1 * slope_1) >> 3)),
                reset_2.eq(reset_1),
            ]

        enable_2 = Signal()
        drive_3 = Signal(signed(DRIVE_WIDTH), reset_less=True)
        reset_3 = Signal(V_WIDTH, reset_less=True)
        m.d.sync += enable_2.eq(enable_1)
        with m.If(enable_2):
            m.d.sync += [drive_3.eq(drive_2 + self.noise), reset_3.eq(reset_2)]

        enable_3 = Signal()
        total = Signal(signed(I_WIDTH + 1))
        negative = total[-1]
        fires = Signal()
        m.d.sync += enable_3.eq(enable_2)
        m.d.comb += [
            total.eq(drive_3 + self.i_syn),
            fires.eq(~negative & total[V_WIDTH:-1].any()),
        ]
        with m.If(enable_3):
            m.d.sync += [
                self.spike.eq(fires),
                self.v_next.eq(Mux(fires, reset_3, Mux(negative, 0, total[:V_WIDTH]))),
            ]
        return m
