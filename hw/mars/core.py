"""A CIM core: macros side by side, led in step."""

from amaranth.hdl import Module
from amaranth.lib.wiring import Component, In, Out, Signature

from hw.mars.lane import RESIDUAL_WORDS, SUMS, Lane, load_members
from hw.mars.layout import ADDR_WIDTH, DESCRIPTOR, MEMBRANE_WORDS
from hw.mars.walker import STEP
from model.mars.config import ADDRESSES, WORD_BITS, WORD_BYTES, WORDS_PER_WRITE


class WalkSignature(Signature):
    """What all lanes get alike: the walk, and what is loaded or copied where.

    Members as in `hw.mars.lane.Lane`.
    """

    def __init__(self, weight_sram=0):
        super().__init__(
            {
                **load_members(weight_sram, Out),
                "descriptor": Out(DESCRIPTOR),
                "index_read": Out(1),
                "index_read_addr": Out(range(ADDRESSES)),
                "step": Out(STEP),
                "host_addr": Out(ADDR_WIDTH),
            }
        )


class Core(Component):
    """The lanes of one core.

    **Latency**, **Throughput**, **Reset**: as `hw.mars.lane.Lane`.

    Parameters
    ----------
    first, n_macros : int
        Number of its first macro, and how many it has.
    feature_words, weight_sram : int
        Of each macro.

    Members
    -------
    walk : In(WalkSignature())
    row_data, index_write, feature_mask, feature_addr, feature_data, host_read : In, of every macro
    sums, highs, residuals, membranes, host_data, host_upper : Out, of every macro
    """

    def __init__(self, first, n_macros, feature_words, weight_sram=0):
        self.first = first
        self.weight_sram = weight_sram
        self.n_macros = n_macros
        self.feature_words = feature_words
        super().__init__(
            {
                "walk": In(WalkSignature(weight_sram)),
                "row_data": In(WORD_BITS).array(n_macros),
                "index_write": In(1).array(n_macros),
                "feature_mask": In(WORDS_PER_WRITE * WORD_BYTES).array(n_macros),
                "feature_addr": In(ADDR_WIDTH).array(n_macros),
                "feature_data": In(WORDS_PER_WRITE * WORD_BITS).array(n_macros),
                "host_read": In(1).array(n_macros),
                "sums": Out(SUMS).array(n_macros),
                "highs": Out(SUMS).array(n_macros),
                "residuals": Out(RESIDUAL_WORDS * WORD_BITS).array(n_macros),
                "membranes": Out(MEMBRANE_WORDS * WORD_BITS).array(n_macros),
                "host_data": Out(WORD_BITS).array(n_macros),
                "host_upper": Out(WORD_BITS).array(n_macros),
            }
        )

    def elaborate(self, platform):
        m = Module()
        for k in range(self.n_macros):
            lane = Lane(self.first + k, self.feature_words, self.weight_sram)
            m.submodules[f"lane_{k}"] = lane
            m.d.comb += [
                getattr(lane, name).eq(getattr(self.walk, name))
                for name in WalkSignature(self.weight_sram).members
            ]
            m.d.comb += [
                lane.row_data.eq(self.row_data[k]),
                lane.index_write.eq(self.index_write[k]),
                lane.feature_mask.eq(self.feature_mask[k]),
                lane.feature_addr.eq(self.feature_addr[k]),
                lane.feature_data.eq(self.feature_data[k]),
                lane.host_read.eq(self.host_read[k]),
                self.sums[k].eq(lane.sums),
                self.highs[k].eq(lane.highs),
                self.residuals[k].eq(lane.residual),
                self.membranes[k].eq(lane.membranes),
                self.host_data[k].eq(lane.host_data),
                self.host_upper[k].eq(lane.host_upper),
            ]
        return m
