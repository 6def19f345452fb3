"""Packets of the board (model/board/protocol.py)."""

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out

from model.board.protocol import SIZE

PACKET_BYTES = max(SIZE.values())
PACKET = data.StructLayout({"bytes": 8 * PACKET_BYTES, "size": range(PACKET_BYTES + 1)})
"""The first byte lowest."""


def packet(kind, payload=b""):
    """The packet of a kind with its payload, a value or bytes."""
    if isinstance(payload, bytes):
        payload = Const(int.from_bytes(payload, "little"), 8 * len(payload))
    bits = Cat(Const(kind[0], 8), payload)
    assert len(bits) == 8 * SIZE[kind]
    size = Const(SIZE[kind], PACKET["size"].shape)
    return Cat(bits, Const(0, 8 * PACKET_BYTES - len(bits)), size)


class PacketSender(Component):
    """Sends packets byte by byte.

    **Latency**: the first byte is offered 1 clock after the packet was taken. **Throughput**: a
    byte per clock, and a clock between packets. **Reset**: no packet.

    Members
    -------
    packets : In(stream.Signature(PACKET))
    bytes : Out(stream.Signature(8))
    """

    packets: In(stream.Signature(PACKET))
    bytes: Out(stream.Signature(8))

    def elaborate(self, platform):
        m = Module()
        held = Signal(PACKET)
        m.d.comb += [
            self.packets.ready.eq(held.size == 0),
            self.bytes.valid.eq(held.size != 0),
            self.bytes.payload.eq(held.bytes[:8]),
        ]
        with m.If(self.packets.ready & self.packets.valid):
            m.d.sync += held.eq(self.packets.payload)
        with m.Elif(self.bytes.ready & self.bytes.valid):
            m.d.sync += [held.bytes.eq(held.bytes >> 8), held.size.eq(held.size - 1)]
        return m
