"""The index decoder finds a group-set's features."""

from amaranth.hdl import Mux

from hw.mars.index_decoder import IndexDecoder
from tb.formal.harness import ARITHMETIC, Harness, Proof


def state(h: Harness) -> None:
    """The offset by its definition, with the multiplications written as choices."""
    decoder = h.block(IndexDecoder())
    code, kernel3, two = decoder.code, decoder.kernel3, decoder.two_planes
    dy = h.define("dy", Mux(kernel3, code[7:9], 0))
    dx = h.define("dx", Mux(kernel3, code[5:7], 0))
    block = h.define("block", Mux(kernel3, code[:5], code))
    h.assume("tap_of_3x3", (dy < 3) & (dx < 3))
    rows = h.define("rows", dy * decoder.row_pitch)
    cols = h.define("cols", dx * decoder.col_pitch)
    offset = h.define("offset", rows + cols + block * Mux(two, 2, 1))
    h.always("dy_right", decoder.index.dy == h.past(dy))
    h.always("dx_right", decoder.index.dx == h.past(dx))
    h.always("offset_right", decoder.index.offset == h.past(offset)[:16])
    h.reached("last_tap", h.past((dy == 2) & (dx == 2)))
    h.reached("last_block", h.past(~kernel3 & (block == 511)))


PROOFS = (
    Proof(
        name="index_decoder",
        says="offset and tap are their definition, for every code and pitch",
        state=state,
        depth=2,
        reach=3,
        engine=ARITHMETIC,
    ),
)
