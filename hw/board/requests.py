"""Requests of the host: from bytes to accesses and events."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out

from hw.board.packet import PACKET, packet
from hw.bus.axi_lite import AXI4LiteSignature
from model.board.protocol import EVENT, PAYLOAD, READ, UNKNOWN, WAS_READ, WRITE, WRITTEN
from model.npu.events import TDATA_WIDTH

BYTE = data.StructLayout({"value": 8, "lost": 1})
"""A byte of the line; `lost`: none, but something before it is missing."""
LONGEST = max(PAYLOAD.values())


class Requests(Component):
    """Collects a request of the host, makes its access and answers (model/board/protocol.py).

    One request is under way at a time. What is no request, or has lost a byte, is answered by
    `UNKNOWN`; whatever comes then may be the rest of anything, and is dropped up to the reset.

    **Latency**: access or event is offered 1 clock after the last byte, the answer 1 clock after
    the access has ended. **Throughput**: a byte per clock, and those waits. **Reset**: no request.

    Members
    -------
    received : In(stream.Signature(BYTE))
    axil : Out(AXI4LiteSignature())
    events : Out(stream.Signature(64))
    answers : Out(stream.Signature(PACKET))
    """

    received: In(stream.Signature(BYTE))
    axil: Out(AXI4LiteSignature())
    events: Out(stream.Signature(TDATA_WIDTH))
    answers: Out(stream.Signature(PACKET))

    def elaborate(self, platform):
        m = Module()
        received, axil = self.received, self.axil
        kind = Signal(8)
        payload = Signal(8 * LONGEST)
        n_left = Signal(range(LONGEST + 1))
        resp = Signal(8)
        word = Signal.like(axil.rdata)
        # Shorter payloads end at the same place.
        m.d.comb += [
            axil.awaddr.eq(payload[:32]),
            axil.wdata.eq(payload[32:]),
            axil.wstrb.eq(~0),
            axil.araddr.eq(payload[32:]),
            self.events.payload.eq(payload),
        ]
        with m.Switch(kind):
            with m.Case(WRITE[0]):
                m.d.comb += self.answers.payload.eq(packet(WRITTEN, resp))
            with m.Case(READ[0]):
                m.d.comb += self.answers.payload.eq(packet(WAS_READ, Cat(resp, word)))
            with m.Default():
                m.d.comb += self.answers.payload.eq(packet(UNKNOWN))

        for valid, ready in (
            (axil.awvalid, axil.awready),
            (axil.wvalid, axil.wready),
            (axil.arvalid, axil.arready),
        ):
            with m.If(ready):
                m.d.sync += valid.eq(0)
        with m.FSM():
            with m.State("BEGIN"):
                m.d.comb += received.ready.eq(1)
                m.d.sync += kind.eq(Mux(received.payload.lost, UNKNOWN[0], received.payload.value))
                with m.If(received.valid):
                    m.next = "ANSWER"
                    with m.If(~received.payload.lost), m.Switch(received.payload.value):
                        for letter, size in PAYLOAD.items():
                            with m.Case(letter[0]):
                                m.d.sync += n_left.eq(size)
                                m.next = "COLLECT"
            with m.State("COLLECT"):
                m.d.comb += received.ready.eq(1)
                with m.If(received.valid):
                    m.d.sync += [
                        payload.eq(Cat(payload[8:], received.payload.value)),
                        n_left.eq(n_left - 1),
                    ]
                    with m.If(received.payload.lost):
                        m.d.sync += kind.eq(UNKNOWN[0])
                        m.next = "ANSWER"
                    with m.Elif(n_left == 1), m.Switch(kind):
                        with m.Case(WRITE[0]):
                            m.d.sync += [axil.awvalid.eq(1), axil.wvalid.eq(1)]
                            m.next = "ACCESS"
                        with m.Case(READ[0]):
                            m.d.sync += axil.arvalid.eq(1)
                            m.next = "ACCESS"
                        with m.Case(EVENT[0]):
                            m.next = "EVENT"
            with m.State("ACCESS"):
                m.d.comb += [axil.bready.eq(1), axil.rready.eq(1)]
                with m.If(axil.bvalid | axil.rvalid):
                    m.d.sync += [
                        resp.eq(Mux(axil.bvalid, axil.bresp, axil.rresp)),
                        word.eq(axil.rdata),
                    ]
                    m.next = "ANSWER"
            with m.State("EVENT"):
                m.d.comb += self.events.valid.eq(1)
                with m.If(self.events.ready):
                    m.next = "BEGIN"
            with m.State("ANSWER"):
                m.d.comb += self.answers.valid.eq(1)
                with m.If(self.answers.ready), m.Switch(kind):
                    with m.Case(WRITE[0], READ[0]):
                        m.next = "BEGIN"
                    with m.Default():
                        m.next = "DEAF"
            with m.State("DEAF"):
                m.d.comb += received.ready.eq(1)
        return m
