"""AXI4-Stream: address events in and out."""

from amaranth.lib.wiring import In, Out, Signature

from model.npu.events import TDATA_WIDTH


class AXI4StreamSignature(Signature):
    """AXI4-Stream with TLAST, seen from the transmitter (ARM IHI 0051)."""

    def __init__(self):
        super().__init__(
            {
                "tdata": Out(TDATA_WIDTH),
                "tvalid": Out(1),
                "tready": In(1),
                "tlast": Out(1),
            }
        )
