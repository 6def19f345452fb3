"""AXI4: reading memory in bursts."""

from amaranth.lib.wiring import In, Out, Signature

ADDR_WIDTH = 32
OKAY = 0b00
INCR = 0b01
NORMAL_MEMORY = 0b0011
"""ARCACHE: may be buffered and joined, is not cached."""


class AXI4ReadSignature(Signature):
    """The two read channels of AXI4, seen from the master (ARM IHI 0022).

    Parameters
    ----------
    data_width : int
        Bits of a beat.
    """

    def __init__(self, data_width):
        super().__init__(
            {
                "arid": Out(1),
                "araddr": Out(ADDR_WIDTH),
                "arlen": Out(8),
                "arsize": Out(3),
                "arburst": Out(2),
                "arcache": Out(4),
                "arprot": Out(3),
                "arvalid": Out(1),
                "arready": In(1),
                "rid": In(1),
                "rdata": In(data_width),
                "rresp": In(2),
                "rlast": In(1),
                "rvalid": In(1),
                "rready": Out(1),
            }
        )
