"""Synaptic weights of a population, and which blocks of them are not all zero."""

from amaranth.hdl import Const, Module, Mux, Signal, signed
from amaranth.lib.data import ArrayLayout
from amaranth.lib.wiring import Component, In, Out
from amaranth.utils import ceil_log2

from hw.bus.host_bus import HostBusSignature
from hw.memory import SinglePortMemory
from hw.one_hot import selected
from model.npu.config import WEIGHT_WIDTH

BYTES_PER_WORD = 4


class WeightMemory(Component):
    """One word holds a block: the weights of a row onto a group of `n_lanes` neurons.

    A second memory has one bit for each block, one word for each group: it is set if the block is
    not all zero. It follows every write of the host by itself: the block is read back in the clock
    after the write, in which the host bus is free, and its bit is written in the one after that.

    **Latency**: weights and bits are valid 1 clock after they were asked for. **Throughput**: one
    word per clock. **Reset**: contents are not reset; the bit of a block is right from its first
    write on.

    Parameters
    ----------
    n_rows, n_groups, n_lanes : int

    Members
    -------
    read, addr : In
    weights : Out(n_lanes x signed(8))
    read_filled, filled_group : In
        Asks for the bits of a group; not while `updating`.
    filled : Out(n_rows)
    bus : In(HostBusSignature())
        Bytes in the order of the words; must not be used together with `read` or `read_filled`.
    updating : Out(1)
        The bit of the block written last is not there yet.
    """

    def __init__(self, n_rows, n_groups, n_lanes):
        self.n_rows = n_rows
        self.n_groups = n_groups
        self.n_lanes = n_lanes
        self.depth = n_rows * n_groups
        super().__init__(
            {
                "read": In(1),
                "addr": In(ceil_log2(self.depth)),
                "weights": Out(ArrayLayout(signed(WEIGHT_WIDTH), n_lanes)),
                "read_filled": In(1),
                "filled_group": In(ceil_log2(n_groups)),
                "filled": Out(n_rows),
                "bus": In(HostBusSignature()),
                "updating": Out(1),
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
        read_back = Signal()
        written = Signal.like(self.addr)
        asked = Signal(n_columns)
        weights = self.weights.as_value()
        columns = [weights.word_select(k, 8 * BYTES_PER_WORD) for k in range(n_columns)]
        # One column for the host; all of them, one over the other, for the bit of the block.
        answer = selected(asked, columns)
        m.d.comb += [
            legal.eq(bus.valid & (word < self.depth)),
            memory.enable.eq(self.read | legal | read_back),
            memory.addr.eq(Mux(self.read, self.addr, Mux(read_back, written, word))),
            memory.w_data.eq(bus.w_data.replicate(n_columns)),
            self.weights.as_value().eq(memory.r_data),
        ]
        with m.If(legal & bus.write):
            m.d.comb += memory.w_mask.eq(bus.w_strb << (column * BYTES_PER_WORD))
            m.d.sync += written.eq(word)
        m.d.sync += [
            read_back.eq(legal & bus.write),
            asked.eq(Mux(read_back, ~0, bus.valid << column)),
        ]
        with m.If(bus.valid):
            m.d.sync += bus.error.eq(~legal)
        with m.If(asked.any()):
            m.d.sync += bus.r_data.eq(answer)
        self._filled(m, read_back, written, answer.any())
        return m

    def _filled(self, m, read_back, written, is_filled):
        """The bits of the blocks: a group's word is read with the block, then written again."""
        m.submodules.filled_memory = memory = SinglePortMemory(
            depth=self.n_groups, width=self.n_rows, granularity=self.n_rows
        )
        update = Signal()
        group = Signal.like(self.filled_group)
        row = Signal(range(self.n_rows))
        m.d.sync += update.eq(read_back)
        m.d.comb += row.eq(written)
        for k in range(1, self.n_groups):
            with m.If(written >= k * self.n_rows):
                m.d.comb += [group.eq(k), row.eq(written - k * self.n_rows)]
        bit = Const(1, 1) << row
        m.d.comb += [
            memory.enable.eq(self.read_filled | read_back | update),
            memory.addr.eq(Mux(self.read_filled, self.filled_group, group)),
            memory.w_data.eq((memory.r_data & ~bit) | Mux(is_filled, bit, 0)),
            memory.w_mask.eq(update),
            self.filled.eq(memory.r_data),
            self.updating.eq(read_back | update),
        ]
