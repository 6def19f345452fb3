"""Synaptic weights of a population."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib.data import ArrayLayout
from amaranth.lib.wiring import Component, In, Out
from amaranth.utils import ceil_log2

from hw.bus.host_bus import HostBusSignature
from hw.memory import SinglePortMemory
from hw.one_hot import selected
from model.npu.config import WEIGHT_WIDTH

BYTES_PER_WORD = 4


class WeightMemory(Component):
    """One word holds the weights of a row onto a group of `n_lanes` neurons.

    **Latency**: weights are valid 1 clock after `read`. **Throughput**: one word per clock.
    **Reset**: contents are not reset.

    Parameters
    ----------
    depth : int
        Words: groups x rows.
    n_lanes : int

    Members
    -------
    read, addr : In
    weights : Out(n_lanes x signed(8))
    bus : In(HostBusSignature())
        Bytes in the order of the words; must not be used together with `read`.
    """

    def __init__(self, depth, n_lanes):
        self.depth = depth
        self.n_lanes = n_lanes
        super().__init__(
            {
                "read": In(1),
                "addr": In(ceil_log2(depth)),
                "weights": Out(ArrayLayout(signed(WEIGHT_WIDTH), n_lanes)),
                "bus": In(HostBusSignature()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        bus = self.bus
        m.submodules.memory = memory = SinglePortMemory(
            depth=self.depth, width=WEIGHT_WIDTH * self.n_lanes, granularity=WEIGHT_WIDTH
        )

        n_columns = self.n_lanes // BYTES_PER_WORD
        column_width = ceil_log2(n_columns)
        column = bus.addr[2 : 2 + column_width]
        word = bus.addr[2 + column_width :]
        legal = Signal()
        asked = Signal(n_columns)
        weights = self.weights.as_value()
        columns = [weights.word_select(k, 8 * BYTES_PER_WORD) for k in range(n_columns)]
        m.d.comb += [
            legal.eq(bus.valid & (word < self.depth)),
            memory.enable.eq(self.read | legal),
            memory.addr.eq(Mux(self.read, self.addr, word)),
            memory.w_data.eq(bus.w_data.replicate(n_columns)),
            self.weights.as_value().eq(memory.r_data),
        ]
        with m.If(legal & bus.write):
            m.d.comb += memory.w_mask.eq(bus.w_strb << (column * BYTES_PER_WORD))
        m.d.sync += asked.eq(bus.valid << column)
        with m.If(bus.valid):
            m.d.sync += bus.error.eq(~legal)
        with m.If(asked.any()):
            m.d.sync += bus.r_data.eq(selected(asked, columns))
        return m
