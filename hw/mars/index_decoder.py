"""From an index code to where the features of a group-set are."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib.wiring import Component, In, Out

from hw.mars.layout import ADDR_WIDTH, INDEX
from model.mars.layout import CODE_WIDTH, TAP_BLOCK_WIDTH


class IndexDecoder(Component):
    """Decodes an index code once, when its group-set is loaded; see `model.mars.layout`.

    ``offset = dy * row_pitch + dx * col_pitch + block * planes``, with dy and dx 0..2.

    **Latency**: `index` is valid 1 clock after `code`. **Throughput**: one code per clock.

    Members
    -------
    code : In(9)
    kernel3 : In(1)
        The code holds a tap of a 3x3 kernel and 5 bits of channel block, not 9.
    two_planes : In(1)
        Features have two words.
    row_pitch, col_pitch : In(16)
    index : Out(INDEX)
    """

    code: In(CODE_WIDTH)
    kernel3: In(1)
    two_planes: In(1)
    row_pitch: In(ADDR_WIDTH)
    col_pitch: In(ADDR_WIDTH)
    index: Out(INDEX)

    def elaborate(self, platform):
        m = Module()
        dy, dx = Signal(2), Signal(2)
        block = Signal(CODE_WIDTH)
        m.d.comb += block.eq(self.code)
        with m.If(self.kernel3):
            m.d.comb += [
                block.eq(self.code[:TAP_BLOCK_WIDTH]),
                dx.eq(self.code[TAP_BLOCK_WIDTH:]),
                dy.eq(self.code[TAP_BLOCK_WIDTH + 2 :]),
            ]

        def times(tap, pitch):
            return Mux(tap[0], pitch, 0) + Mux(tap[1], pitch << 1, 0)

        block_offset = Mux(self.two_planes, block << 1, block)
        m.d.sync += [
            self.index.dy.eq(dy),
            self.index.dx.eq(dx),
            self.index.offset.eq(
                times(dy, self.row_pitch) + times(dx, self.col_pitch) + block_offset
            ),
        ]
        return m
