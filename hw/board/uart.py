"""A serial line: 8 data bits, lowest first, no parity, one stop bit."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import Component, In, Out

BITS = 8


class UartReceiver(Component):
    """Bytes from a line.

    A start bit is looked at again in its middle, so a shorter pulse is none; every further bit
    is looked at `divider` clocks later. After a wrong stop bit the line must be high before
    another byte begins.

    **Latency**: `valid` or `wrong` comes in the middle of the stop bit, 3 clocks later.
    **Throughput**: bytes may follow each other without a gap. **Reset**: waits for a start bit.

    Parameters
    ----------
    divider : int
        Clocks of a bit, at least 4.

    Members
    -------
    rx : In(1)
        The line; may change at any time.
    data : Out(8)
    valid : Out(1)
        A byte has come, for one clock.
    wrong : Out(1)
        Its stop bit was low: a byte was lost, for one clock.
    """

    def __init__(self, divider):
        self.divider = divider
        super().__init__(
            {
                "rx": In(1, init=1),
                "data": Out(BITS),
                "valid": Out(1),
                "wrong": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        first, line = Signal(init=1), Signal(init=1)
        m.d.sync += [first.eq(self.rx), line.eq(first)]
        wait = Signal(range(self.divider))
        n_bits = Signal(range(BITS + 1))
        m.d.sync += [self.valid.eq(0), self.wrong.eq(0), wait.eq(wait - 1)]
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += wait.eq(self.divider // 2 - 1)
                with m.If(~line):
                    m.next = "START"
            with m.State("START"), m.If(wait == 0):
                m.d.sync += [wait.eq(self.divider - 1), n_bits.eq(0)]
                with m.If(line):
                    m.next = "IDLE"
                with m.Else():
                    m.next = "DATA"
            with m.State("DATA"), m.If(wait == 0):
                m.d.sync += wait.eq(self.divider - 1)
                with m.If(n_bits != BITS):
                    m.d.sync += [self.data.eq(Cat(self.data[1:], line)), n_bits.eq(n_bits + 1)]
                with m.Else():
                    m.d.sync += [self.valid.eq(line), self.wrong.eq(~line)]
                    with m.If(line):
                        m.next = "IDLE"
                    with m.Else():
                        m.next = "LOW"
            with m.State("LOW"), m.If(line):
                m.next = "IDLE"
        return m


class UartTransmitter(Component):
    """Bytes to a line.

    **Latency**: the start bit begins 1 clock after a byte was taken. **Throughput**: a byte every
    10 x `divider` + 1 clocks. **Reset**: the line is high.

    Parameters
    ----------
    divider : int
        Clocks of a bit.

    Members
    -------
    bytes : In(stream.Signature(8))
    tx : Out(1)
    """

    def __init__(self, divider):
        self.divider = divider
        super().__init__({"bytes": In(stream.Signature(BITS)), "tx": Out(1, init=1)})

    def elaborate(self, platform):
        m = Module()
        bits = Signal(1 + BITS, init=-1)
        wait = Signal(range(self.divider))
        n_left = Signal(range(BITS + 3))
        m.d.comb += [self.tx.eq(bits[0]), self.bytes.ready.eq(n_left == 0)]
        m.d.sync += wait.eq(wait - 1)
        with m.If(self.bytes.ready & self.bytes.valid):
            m.d.sync += [
                bits.eq(Cat(0, self.bytes.payload)),
                n_left.eq(BITS + 2),
                wait.eq(self.divider - 1),
            ]
        with m.Elif((n_left != 0) & (wait == 0)):
            m.d.sync += [
                bits.eq(Cat(bits[1:], 1)),
                n_left.eq(n_left - 1),
                wait.eq(self.divider - 1),
            ]
        return m
