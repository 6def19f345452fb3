"""A chip on a board: everything between the pins."""

from amaranth.hdl import Cat, ClockDomain, Module
from amaranth.lib.wiring import Component, In, Out, connect

from hw.board.line import Line
from hw.board.reset import ResetUnit
from hw.board.serial_host import SerialHost
from hw.top import Kenyon
from model.board.config import check_chip
from model.board.protocol import BREAK_BITS


class Board(Component):
    """A chip with populations whose ports a host reaches over a serial line.

    **Reset**: after power-on, by the button, and by a break on the line; memories keep what
    they hold.

    Parameters
    ----------
    chip : ChipConfig
        Without MARS.
    name : str
        Of the board.
    divider : int
        Clocks of a bit of the line.

    Members
    -------
    clk : In(1)
        The only clock.
    rx, tx : In(1), Out(1)
        The line, 8N1.
    button : In(1)
        High while pressed.
    led : Out(3)
        Works; interrupt; a byte of the line was dropped since the reset.
    wifi_gpio0 : Out(1)
        High, or the radio module restarts the board.
    """

    def __init__(self, chip, name, divider):
        check_chip(chip, name)
        self.chip = chip
        self.divider = divider
        super().__init__(
            {
                "clk": In(1),
                "rx": In(1, init=1),
                "tx": Out(1, init=1),
                "button": In(1),
                "led": Out(3),
                "wifi_gpio0": Out(1, init=1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.domains.sync = domain = ClockDomain("sync")
        m.submodules.reset_unit = reset_unit = ResetUnit(BREAK_BITS * self.divider)
        m.submodules.line = line = Line(self.divider)
        m.submodules.host = host = SerialHost()
        m.submodules.chip = chip = Kenyon(self.chip)
        connect(m, line.received, host.received)
        connect(m, host.sent, line.sent)
        connect(m, host.axil, chip.s_axil)
        connect(m, host.events, chip.s_axis_events)
        connect(m, chip.m_axis_spikes, host.spikes)
        m.d.comb += [
            domain.clk.eq(self.clk),
            domain.rst.eq(reset_unit.reset),
            reset_unit.button.eq(self.button),
            reset_unit.rx.eq(self.rx),
            line.rx.eq(self.rx),
            self.tx.eq(line.tx),
            host.irq.eq(chip.irq),
            self.led.eq(Cat(~reset_unit.reset, chip.irq, line.damaged)),
            self.wifi_gpio0.eq(1),
        ]
        return m
