"""When a board begins anew: power, a button, a break on the line."""

from amaranth.hdl import Module, Signal
from amaranth.lib.wiring import Component, In, Out

SETTLE = 1024
"""Clocks that the reset lasts after whatever caused it."""


class ResetUnit(Component):
    """Makes the reset.

    **Latency**: 4 clocks from the button, `break_clocks` + 3 from the beginning of a break, to
    `reset`; it ends `SETTLE` clocks after both are over. **Reset**: it has none; registers
    begin as the FPGA's configuration sets them, with `reset` high.

    Parameters
    ----------
    break_clocks : int
        So long is the line low in a break.

    Members
    -------
    button : In(1)
        Pressed; may change at any time.
    rx : In(1)
        The line; may change at any time.
    reset : Out(1)
    """

    def __init__(self, break_clocks):
        self.break_clocks = break_clocks
        super().__init__({"button": In(1), "rx": In(1, init=1), "reset": Out(1, init=1)})

    def elaborate(self, platform):
        m = Module()

        def register(shape, init=0):
            return Signal(shape, init=init, reset_less=True)

        button_1, button_2 = register(1), register(1)
        line_1, line_2 = register(1, 1), register(1, 1)
        low = register(range(self.break_clocks + 1))
        settled = register(range(SETTLE + 1))
        wanted = Signal()
        reset = register(1, 1)
        m.d.comb += [
            wanted.eq(button_2 | (low == self.break_clocks)),
            self.reset.eq(reset),
        ]
        m.d.sync += [
            button_1.eq(self.button),
            button_2.eq(button_1),
            line_1.eq(self.rx),
            line_2.eq(line_1),
            reset.eq(wanted | (settled != SETTLE)),
        ]
        with m.If(line_2):
            m.d.sync += low.eq(0)
        with m.Elif(low != self.break_clocks):
            m.d.sync += low.eq(low + 1)
        with m.If(wanted):
            m.d.sync += settled.eq(0)
        with m.Elif(settled != SETTLE):
            m.d.sync += settled.eq(settled + 1)
        return m
