"""The host at the end of a line of bytes: what it asks for, and what the chip has to say."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import Component, In, Out, connect, flipped

from hw.board.packet import PacketSender, packet
from hw.board.requests import BYTE, Requests
from hw.bus.axi_lite import AXI4LiteSignature
from hw.bus.axi_stream import AXI4StreamSignature
from model.board.protocol import GREETING, IRQ, LAST_BIT, N_EVENTS, SIZE, SPIKE, TAKEN
from model.npu.events import TDATA_WIDTH


class SerialHost(Component):
    """A master of the chip's ports that is told what to do in bytes (model/board/protocol.py).

    Events wait in a FIFO, so that a host can say what to do next before the chip has taken them.
    Packets leave in this order if several wait: greeting, answers, end of a run, events taken,
    spikes.

    **Latency**: none of its own beyond that of its parts; a spike is taken when its packet
    begins. **Reset**: sends the greeting.

    Members
    -------
    received : In(stream.Signature(BYTE))
    sent : Out(stream.Signature(8))
    axil : Out(AXI4LiteSignature())
    events : Out(AXI4StreamSignature())
    spikes : In(AXI4StreamSignature())
    irq : In(1)
    """

    received: In(stream.Signature(BYTE))
    sent: Out(stream.Signature(8))
    axil: Out(AXI4LiteSignature())
    events: Out(AXI4StreamSignature())
    spikes: In(AXI4StreamSignature())
    irq: In(1)

    def elaborate(self, platform):
        m = Module()
        m.submodules.requests = requests = Requests()
        m.submodules.queue = queue = SyncFIFOBuffered(width=TDATA_WIDTH, depth=N_EVENTS)
        m.submodules.sender = sender = PacketSender()
        connect(m, flipped(self.received), requests.received)
        connect(m, flipped(self.axil), requests.axil)
        connect(m, flipped(self.sent), sender.bytes)
        m.d.comb += [
            queue.w_data.eq(requests.events.payload),
            queue.w_en.eq(requests.events.valid),
            requests.events.ready.eq(queue.w_rdy),
            self.events.tdata.eq(queue.r_data),
            self.events.tvalid.eq(queue.r_rdy),
            self.events.tlast.eq(1),
            queue.r_en.eq(self.events.tready),
        ]

        greet = Signal(init=1)
        irq_before = Signal()
        rose = Signal()
        n_taken = Signal(range(N_EVENTS + 2))
        taken = Signal()
        m.d.comb += taken.eq(self.events.tvalid & self.events.tready)
        spike = Cat(self.spikes.tdata[:LAST_BIT], self.spikes.tlast)
        waiting = (
            (greet, packet(GREETING, GREETING * (SIZE[GREETING] - 1))),
            (requests.answers.valid, requests.answers.payload),
            (rose, packet(IRQ)),
            (n_taken != 0, packet(TAKEN)),
            (self.spikes.tvalid, packet(SPIKE, spike)),
        )
        chosen = Signal(len(waiting))
        for k, (wants, content) in enumerate(waiting):
            with (m.If if k == 0 else m.Elif)(wants):
                m.d.comb += [
                    sender.packets.payload.eq(content),
                    sender.packets.valid.eq(1),
                    chosen[k].eq(sender.packets.ready),
                ]
        greeted, answered, told, acknowledged, spiked = chosen
        m.d.comb += [requests.answers.ready.eq(answered), self.spikes.tready.eq(spiked)]
        m.d.sync += [
            greet.eq(greet & ~greeted),
            irq_before.eq(self.irq),
            rose.eq((rose & ~told) | (self.irq & ~irq_before)),
            n_taken.eq(n_taken + taken - acknowledged),
        ]
        return m
