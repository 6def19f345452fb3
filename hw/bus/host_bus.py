"""The bus inside the chip: one 32-bit access at a time, answered 2 clocks later."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib.wiring import Component, In, Out, Signature

from hw.one_hot import selected

ADDR_WIDTH = 32
DATA_WIDTH = 32


class HostBusSignature(Signature):
    """A request in one clock, its answer 2 clocks later; at most every second clock has a request.

    Members
    -------
    request : Out(1)
        A request is there; it stays, with all that belongs to it, up to the clock of `valid`.
    valid, write, addr, w_data, w_strb : Out
        The request is made in this clock; `addr` in bytes, `w_strb` one bit per byte. All but
        `valid` stand from the clock before `request` on.
    r_data, error : In
        2 clocks after it, up to the next request: a target needs one register, not one per
        access. An access that ends with `error` has changed nothing.
    """

    def __init__(self):
        super().__init__(
            {
                "request": Out(1),
                "valid": Out(1),
                "write": Out(1),
                "addr": Out(ADDR_WIDTH),
                "w_data": Out(DATA_WIDTH),
                "w_strb": Out(DATA_WIDTH // 8),
                "r_data": In(DATA_WIDTH),
                "error": In(1),
            }
        )


def decoded_regions(regions):
    """The regions with their sizes rounded up, so that comparing the upper bits is enough."""
    rounded = [(base, 1 << (size - 1).bit_length()) for base, size in regions]
    for base, size in rounded:
        if base % size:
            raise ValueError(f"region address must be a multiple of {size:#x}, not {base:#x}")
    return rounded


class HostBusDecoder(Component):
    """Gives each request to the target whose region it falls into, or answers `error`.

    Targets see the address from the start of their region.

    **Latency**: none.

    Parameters
    ----------
    regions : list of (int, int)
        First byte address and size of every region; the addresses are multiples of the next power
        of two. A target itself answers `error` behind its end.

    Members
    -------
    bus : In(HostBusSignature())
    targets : Array of Out(HostBusSignature())
    """

    def __init__(self, regions):
        self.regions = decoded_regions(regions)
        super().__init__(
            {
                "bus": In(HostBusSignature()),
                "targets": Out(HostBusSignature()).array(len(regions)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        hits = Signal(len(self.regions))
        asked = Signal(len(self.regions))
        with m.If(self.bus.valid):
            m.d.sync += asked.eq(hits)
        for k, ((base, size), target) in enumerate(zip(self.regions, self.targets, strict=True)):
            low = size.bit_length() - 1
            m.d.sync += hits[k].eq(self.bus.addr[low:] == base >> low)
            m.d.comb += [
                target.request.eq(self.bus.request & hits[k]),
                target.valid.eq(self.bus.valid & hits[k]),
                target.write.eq(self.bus.write),
                target.addr.eq(self.bus.addr[:low]),
                target.w_data.eq(self.bus.w_data),
                target.w_strb.eq(self.bus.w_strb),
            ]
        errors = Cat(target.error for target in self.targets)
        m.d.comb += [
            self.bus.r_data.eq(selected(asked, (target.r_data for target in self.targets))),
            self.bus.error.eq(~asked.any() | (asked & errors).any()),
        ]
        return m
