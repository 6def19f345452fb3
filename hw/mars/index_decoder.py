"""From an index code to where the features of a group-set are."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib.wiring import Component, In, Out

from hw.mars.layout import ADDR_WIDTH, INDEX
from model.mars.layout import CODE_WIDTH, DESCRIPTOR_FIELDS, TAP_WIDTH


def times(factor, value):
    """Product with a small factor, as a sum of shifted values."""
    return sum(Mux(bit, value << k, 0) for k, bit in enumerate(factor))


class IndexDecoder(Component):
    """Decodes an index code once, when its group-set is loaded; see `model.mars.layout`.

    ``offset = dy * row_pitch + dx * col_pitch + block * planes``; dy and dx, 0..15, leave it
    multiplied with the dilation.

    **Latency**: `index` is valid 2 clocks after `code`: fields, products. **Throughput**: one code
    per clock.

    Members
    -------
    code : In(16)
        A short one is filled up with 0.
    block_width, dx_width : In(5), In(3)
        Bits of the channel block and, above it, of the tap's column; the rest is its row.
    two_planes : In(1)
        Features have two words.
    row_pitch, col_pitch, row_dilation, col_dilation : In(16), In(16), In(3), In(3)
        Words and rows or columns from one tap to the next.
    index : Out(INDEX)
    """

    code: In(CODE_WIDTH)
    block_width: In(DESCRIPTOR_FIELDS["block_width"][1])
    dx_width: In(DESCRIPTOR_FIELDS["dx_width"][1])
    two_planes: In(1)
    row_pitch: In(ADDR_WIDTH)
    col_pitch: In(ADDR_WIDTH)
    row_dilation: In(DESCRIPTOR_FIELDS["row_dilation"][1])
    col_dilation: In(DESCRIPTOR_FIELDS["col_dilation"][1])
    index: Out(INDEX)

    def elaborate(self, platform):
        m = Module()
        taps = Signal(CODE_WIDTH)
        block_mask = Signal(CODE_WIDTH)
        dx_mask = Signal(TAP_WIDTH)
        block_1 = Signal(CODE_WIDTH, reset_less=True)
        dy_1, dx_1 = Signal(TAP_WIDTH, reset_less=True), Signal(TAP_WIDTH, reset_less=True)
        m.d.comb += [
            taps.eq(self.code >> self.block_width),
            block_mask.eq((1 << self.block_width) - 1),
            dx_mask.eq((1 << self.dx_width) - 1),
        ]
        m.d.sync += [
            block_1.eq(self.code & block_mask),
            dx_1.eq(taps & dx_mask),
            dy_1.eq(taps >> self.dx_width),
            self.index.dy.eq(times(self.row_dilation, dy_1)),
            self.index.dx.eq(times(self.col_dilation, dx_1)),
            self.index.offset.eq(
                times(dy_1, self.row_pitch)
                + times(dx_1, self.col_pitch)
                + Mux(self.two_planes, block_1 << 1, block_1)
            ),
        ]
        return m
