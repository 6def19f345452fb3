"""The line with all that has come on it and is not worked on yet."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import Component, In, Out, connect, flipped

from hw.board.requests import BYTE
from hw.board.uart import UartReceiver, UartTransmitter
from model.board.protocol import WINDOW


class Line(Component):
    """A serial line as two streams of bytes.

    A byte with a wrong stop bit or without room is dropped; `lost` stands in its place as soon as
    there is room again.

    **Latency**: 2 clocks behind `UartReceiver`; that of `UartTransmitter`. **Reset**: empty.

    Parameters
    ----------
    divider : int
        Clocks of a bit.
    depth : int
        Bytes that wait.

    Members
    -------
    rx, tx : In(1), Out(1)
    received : Out(stream.Signature(BYTE))
    sent : In(stream.Signature(8))
    damaged : Out(1)
        Something was dropped since the reset.
    """

    def __init__(self, divider, depth=WINDOW):
        self.divider = divider
        self.depth = depth
        super().__init__(
            {
                "rx": In(1, init=1),
                "tx": Out(1, init=1),
                "received": Out(stream.Signature(BYTE)),
                "sent": In(stream.Signature(8)),
                "damaged": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.receiver = receiver = UartReceiver(self.divider)
        m.submodules.transmitter = transmitter = UartTransmitter(self.divider)
        m.submodules.queue = queue = SyncFIFOBuffered(width=BYTE.size, depth=self.depth)
        connect(m, flipped(self.sent), transmitter.bytes)
        lost = Signal()
        # Bytes are many clocks apart: what is lost can take the clock after them.
        m.d.comb += [
            receiver.rx.eq(self.rx),
            self.tx.eq(transmitter.tx),
            queue.w_data.eq(Cat(receiver.data, lost)),
            queue.w_en.eq(receiver.valid | lost),
            self.received.payload.eq(queue.r_data),
            self.received.valid.eq(queue.r_rdy),
            queue.r_en.eq(self.received.ready),
        ]
        with m.If(receiver.wrong | (receiver.valid & ~queue.w_rdy)):
            m.d.sync += [lost.eq(1), self.damaged.eq(1)]
        with m.Elif(queue.w_rdy):
            m.d.sync += lost.eq(0)
        return m
