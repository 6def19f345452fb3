"""The AXI4-Lite bridge keeps the protocol, and every transfer has one access and one answer."""

from amaranth.hdl import Const, Mux

from hw.bus.axi_lite import OKAY, SLVERR, AXI4LiteBridge
from tb.formal.harness import Harness, Proof

PATIENCE = 8
"""Clocks within which a transfer is taken if nothing holds it up, its turn included."""


def master(h: Harness, axi) -> None:
    """Assume what AXI asks of a master: an offer stays until it is taken."""
    for valid, ready, *payload in (
        (axi.awvalid, axi.awready, axi.awaddr),
        (axi.wvalid, axi.wready, axi.wdata, axi.wstrb),
        (axi.arvalid, axi.arready, axi.araddr),
    ):
        waits = h.past(h.define(f"{valid.name}_waits", valid & ~ready))
        h.assume(f"{valid.name}_stays", valid, waits)
        for part in payload:
            h.assume(f"{part.name}_stays", part == h.past(part), waits)


def state(h: Harness) -> None:
    """From transfers taken to accesses, and from their answers to responses."""
    bridge = h.block(AXI4LiteBridge())
    axi, bus = bridge.axi, bridge.bus
    master(h, axi)
    h.holds("b", axi.bvalid, axi.bready, axi.bresp)
    h.holds("r", axi.rvalid, axi.rready, axi.rresp, axi.rdata)

    write = h.define("write_taken", axi.awvalid & axi.awready)
    read = h.define("read_taken", axi.arvalid & axi.arready)
    h.always("address_and_data_together", write == (axi.wvalid & axi.wready))
    h.always("one_at_a_time", ~(write & read))
    pending = h.register("pending", 1)
    h.next(pending, write | read, write | read | bus.valid)
    h.always("taken_when_free", ~(write | read), pending)
    decoded = h.define("decoded", pending & h.past(pending))
    h.always("request_until_access", bus.request == decoded)
    h.always("access_unless_held", bus.valid == (decoded & ~bridge.hold))
    h.always("accesses_apart", ~bus.valid, h.past(bus.valid))
    for name, value, given in (
        ("write", bus.write, write),
        ("addr", bus.addr, Mux(write, axi.awaddr, axi.araddr) & ~3),
        ("w_data", bus.w_data, axi.wdata),
        ("w_strb", bus.w_strb, axi.wstrb),
    ):
        kept = h.register(f"{name}_taken", value.shape())
        h.next(kept, given, write | read)
        h.always(f"{name}_is_the_transfer's", value == kept, pending)

    for name, mine, valid, ready in (
        ("write", bus.write, axi.bvalid, axi.bready),
        ("read", ~bus.write, axi.rvalid, axi.rready),
    ):
        taken = write if name == "write" else read
        made = h.define(f"{name}_made", bus.valid & mine)
        owed = h.register(f"{name}_owed", 2)
        h.next(owed, owed + taken - (valid & ready))
        waits = h.past(made) + h.past(made, 2)
        h.always(f"{name}_answered_once", owed == (pending & mine) + waits + valid)
        h.always(f"{name}_one_under_way", owed <= 1)
        h.always(f"{name}_answer_in_time", valid, h.past(made, 3))
        resp = axi.bresp if name == "write" else axi.rresp
        error = h.past(bus.error)
        h.always(f"{name}_resp_right", resp == Mux(error, SLVERR, OKAY), h.past(made, 3))
        if name == "read":
            data = Mux(error, 0, h.past(bus.r_data))
            h.always("data_right", axi.rdata == data, h.past(made, 3))
        h.reached(f"{name}_answered_twice", h.past(valid & ready, 5) & valid)
        h.reached(f"{name}_waits", h.past(valid & ~ready) & error & valid)


def progress(h: Harness) -> None:
    """With a bus that does not hold and answers that are taken, nobody waits for long."""
    bridge = h.block(AXI4LiteBridge(), hold=Const(0), axi_bready=Const(1), axi_rready=Const(1))
    axi = bridge.axi
    master(h, axi)
    for name, waiting in (
        ("write", axi.awvalid & axi.wvalid & ~axi.awready),
        ("read", axi.arvalid & ~axi.arready),
    ):
        clocks = h.register(f"{name}_clocks", range(PATIENCE + 2))
        h.next(clocks, Mux(waiting, clocks + 1, 0))
        h.always(f"{name}_taken_in_time", clocks < PATIENCE)
        h.reached(f"{name}_waited_for_its_turn", clocks == 3)


PROOFS = (
    Proof(
        name="axi_lite",
        says="AXI4-Lite rules; every transfer becomes exactly one access, and its answer is that "
        "access's",
        state=state,
        depth=4,
        reach=14,
    ),
    Proof(
        name="axi_lite_progress",
        says=f"reads and writes take turns: taken in {PATIENCE} clocks if nothing holds them up",
        state=progress,
        depth=12,
        reach=14,
    ),
)
