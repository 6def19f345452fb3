"""AXI4-Lite: the host's way to registers and memories."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib.wiring import Component, In, Out, Signature

from hw.bus.host_bus import ADDR_WIDTH, DATA_WIDTH, HostBusSignature

OKAY, SLVERR = 0b00, 0b10
ANSWER = 2
"""Clocks from a request on the bus to its answer."""


class AXI4LiteSignature(Signature):
    """The five channels of AXI4-Lite, 32 bit, seen from the master (ARM IHI 0022)."""

    def __init__(self):
        super().__init__(
            {
                "awaddr": Out(ADDR_WIDTH),
                "awprot": Out(3),
                "awvalid": Out(1),
                "awready": In(1),
                "wdata": Out(DATA_WIDTH),
                "wstrb": Out(DATA_WIDTH // 8),
                "wvalid": Out(1),
                "wready": In(1),
                "bresp": In(2),
                "bvalid": In(1),
                "bready": Out(1),
                "araddr": Out(ADDR_WIDTH),
                "arprot": Out(3),
                "arvalid": Out(1),
                "arready": In(1),
                "rdata": In(DATA_WIDTH),
                "rresp": In(2),
                "rvalid": In(1),
                "rready": Out(1),
            }
        )


class AXI4LiteBridge(Component):
    """Turns AXI4-Lite transfers into accesses of the host bus.

    Reads and writes take turns when both are waiting. `awprot` and `arprot` are ignored, and the
    two lowest address bits, as every access is a whole word with strobes.

    **Latency**: the answer is valid 5 clocks after the request was taken, and the clocks of `hold`
    come on top.
    **Throughput**: a transfer every 5 clocks, or a read and a write every 6, if answers are taken.
    **Reset**: no request and no answer pending.

    Members
    -------
    axi : In(AXI4LiteSignature())
    bus : Out(HostBusSignature())
    hold : In(1)
        The request on `bus` is not made yet; may depend on it (`request`), not on `bus.valid`.
    """

    axi: In(AXI4LiteSignature())
    bus: Out(HostBusSignature())
    hold: In(1)

    def elaborate(self, platform):
        m = Module()
        axi, bus = self.axi, self.bus

        # A request is taken only if its direction has no other one under way and room for the
        # answer, so neither direction ever waits for the other's master.
        held = Signal()
        request = Signal()
        writing = Signal(ANSWER)
        reading = Signal(ANSWER)
        issue = Signal()
        can_write = Signal()
        can_read = Signal()
        m.d.comb += [
            issue.eq(request & ~self.hold),
            can_write.eq(axi.awvalid & axi.wvalid & ~writing.any() & (~axi.bvalid | axi.bready)),
            can_read.eq(axi.arvalid & ~reading.any() & (~axi.rvalid | axi.rready)),
        ]

        read_was_last = Signal()
        take_write = Signal()
        take_read = Signal()
        m.d.comb += [
            take_write.eq(~held & can_write & ~(can_read & ~read_was_last)),
            take_read.eq(~held & can_read & ~take_write),
            axi.awready.eq(take_write),
            axi.wready.eq(take_write),
            axi.arready.eq(take_read),
        ]
        with m.If(take_write | take_read):
            m.d.sync += [
                held.eq(1),
                read_was_last.eq(take_read),
                bus.write.eq(take_write),
                bus.addr.eq(Mux(take_write, axi.awaddr, axi.araddr) & ~0b11),
                bus.w_data.eq(axi.wdata),
                bus.w_strb.eq(axi.wstrb),
            ]
        with m.Elif(issue):
            m.d.sync += held.eq(0)
        m.d.comb += [bus.request.eq(request), bus.valid.eq(issue)]
        m.d.sync += [
            # The clock between is for decoding the address.
            request.eq(held & ~issue),
            writing.eq(Cat(issue & bus.write, writing)),
            reading.eq(Cat(issue & ~bus.write, reading)),
        ]

        with m.If(writing[-1]):
            m.d.sync += [axi.bvalid.eq(1), axi.bresp.eq(Mux(bus.error, SLVERR, OKAY))]
        with m.Elif(axi.bready):
            m.d.sync += axi.bvalid.eq(0)
        with m.If(reading[-1]):
            m.d.sync += [
                axi.rvalid.eq(1),
                axi.rresp.eq(Mux(bus.error, SLVERR, OKAY)),
                axi.rdata.eq(Mux(bus.error, 0, bus.r_data)),
            ]
        with m.Elif(axi.rready):
            m.d.sync += axi.rvalid.eq(0)
        return m
