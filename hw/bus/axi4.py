"""AXI4: reading and writing memory in bursts."""

from amaranth.lib.wiring import In, Out, Signature

ADDR_WIDTH = 32
OKAY = 0b00
INCR = 0b01
NORMAL_MEMORY = 0b0011
"""ARCACHE and AWCACHE: may be buffered and joined, is not cached."""


def _request(prefix):
    """An address channel."""
    return {
        f"{prefix}id": Out(1),
        f"{prefix}addr": Out(ADDR_WIDTH),
        f"{prefix}len": Out(8),
        f"{prefix}size": Out(3),
        f"{prefix}burst": Out(2),
        f"{prefix}cache": Out(4),
        f"{prefix}prot": Out(3),
        f"{prefix}valid": Out(1),
        f"{prefix}ready": In(1),
    }


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
                **_request("ar"),
                "rid": In(1),
                "rdata": In(data_width),
                "rresp": In(2),
                "rlast": In(1),
                "rvalid": In(1),
                "rready": Out(1),
            }
        )


class AXI4WriteSignature(Signature):
    """The three write channels of AXI4, seen from the master.

    Parameters
    ----------
    data_width : int
        Bits of a beat.
    """

    def __init__(self, data_width):
        super().__init__(
            {
                **_request("aw"),
                "wdata": Out(data_width),
                "wstrb": Out(data_width // 8),
                "wlast": Out(1),
                "wvalid": Out(1),
                "wready": In(1),
                "bid": In(1),
                "bresp": In(2),
                "bvalid": In(1),
                "bready": Out(1),
            }
        )


class AXI4Signature(Signature):
    """All five channels.

    Parameters
    ----------
    data_width : int
        Bits of a beat.
    """

    def __init__(self, data_width):
        super().__init__(
            {**AXI4ReadSignature(data_width).members, **AXI4WriteSignature(data_width).members}
        )
