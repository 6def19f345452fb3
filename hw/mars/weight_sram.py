"""Weight SRAM: group-sets wait beside the macros until they are needed."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib.wiring import Component, In, Out
from amaranth.utils import exact_log2

from hw.mars.layout import ENTRIES_WIDTH, INDEX
from hw.memory import TwoPortMemory
from model.mars.clocks import BLOCK_SLOTS, COPY_CLOCKS
from model.mars.config import ADDRESSES, ROWS_PER_COPY, WORD_BITS, WORD_LINES


class WeightSram(Component):
    """Group-sets and their indices of one macro.

    **Latency**: what is read comes 1 clock later. **Throughput**: one row, one index and
    `ROWS_PER_COPY` rows to be copied per clock. **Reset**: contents are not reset.

    Parameters
    ----------
    depth : int
        Group-sets.

    Members
    -------
    row_enable, row_addr, row_word_line, row_data, index_write, index_write_addr, index_data : In
        Write a row, and an index.
    copy, copy_addr, copy_part : In(1), In, In(2)
        Read a quarter of a group-set, and with the first one its index.
    rows, index : Out(256), Out(INDEX)
    """

    def __init__(self, depth):
        self.depth = depth
        super().__init__(
            {
                "row_enable": In(1),
                "row_addr": In(range(depth)),
                "row_word_line": In(range(WORD_LINES)),
                "row_data": In(WORD_BITS),
                "index_write": In(1),
                "index_write_addr": In(range(depth)),
                "index_data": In(INDEX),
                "copy": In(1),
                "copy_addr": In(range(depth)),
                "copy_part": In(range(COPY_CLOCKS)),
                "rows": Out(ROWS_PER_COPY * WORD_BITS),
                "index": Out(INDEX),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.sets = sets = TwoPortMemory(
            depth=self.depth * COPY_CLOCKS, width=ROWS_PER_COPY * WORD_BITS, granularity=WORD_BITS
        )
        m.submodules.indices = indices = TwoPortMemory(
            depth=self.depth, width=INDEX.size, granularity=INDEX.size
        )
        within = exact_log2(ROWS_PER_COPY)
        m.d.comb += [
            sets.w_mask.eq(self.row_enable << self.row_word_line[:within]),
            sets.w_addr.eq(Cat(self.row_word_line[within:], self.row_addr)),
            sets.w_data.eq(self.row_data.replicate(ROWS_PER_COPY)),
            sets.r_enable.eq(self.copy),
            sets.r_addr.eq(Cat(self.copy_part, self.copy_addr)),
            self.rows.eq(sets.r_data),
            indices.w_mask.eq(self.index_write),
            indices.w_addr.eq(self.index_write_addr),
            indices.w_data.eq(self.index_data),
            indices.r_enable.eq(self.copy & (self.copy_part == 0)),
            indices.r_addr.eq(self.copy_addr),
            self.index.eq(indices.r_data),
        ]
        return m


class Copier(Component):
    """Has group-sets copied into the macros, kernel block by kernel block, as there is room.

    Golden: `model.mars.clocks`. It turns to a kernel block whose header is there while at most
    `BLOCK_SLOTS` are not begun, and copies its group-sets in order. Behind one for which a map
    stands it waits until that is in the macros.

    **Latency**: a group-set is begun in the clock after it is complete at the earliest.
    **Throughput**: a group-set in `COPY_CLOCKS`, without a pause from one kernel block to the next.
    **Reset**: nothing to copy.

    Parameters
    ----------
    depth, n_headers : int
        Group-sets in a weight SRAM, and headers.

    Members
    -------
    header_begun, header_slot, n_entries, is_map : In
        The first line of a header: which one, the group-sets of its kernel block, whether a map
        stands for them.
    header_done, entry_done : In(1)
        A header is complete; a group-set is.
    begun, filled : In(1)
        The walker begins a kernel block; a map is in the macros.
    entries_freed : In(7)
        So many of the oldest group-sets in the macros are not needed any more.
    copy, copy_addr, copy_part : Out
        As `WeightSram`.
    macro_addr : Out
        Where it goes in the macros.
    copied : Out(1)
        Last clock of a group-set: its place is free.
    loaded : Out(1)
        Another kernel block is complete.
    entries : Out(7) for each block slot
        Its group-sets.
    """

    def __init__(self, depth, n_headers):
        self.depth = depth
        self.n_headers = n_headers
        super().__init__(
            {
                "header_begun": In(1),
                "header_slot": In(range(n_headers)),
                "n_entries": In(ENTRIES_WIDTH),
                "is_map": In(1),
                "header_done": In(1),
                "entry_done": In(1),
                "begun": In(1),
                "filled": In(1),
                "entries_freed": In(ENTRIES_WIDTH),
                "copy": Out(1),
                "copy_addr": Out(range(depth)),
                "copy_part": Out(range(COPY_CLOCKS)),
                "macro_addr": Out(range(ADDRESSES)),
                "copied": Out(1),
                "loaded": Out(1),
                "entries": Out(ENTRIES_WIDTH).array(BLOCK_SLOTS),
            }
        )

    def elaborate(self, platform):
        m = Module()
        pick, start, is_free = Signal(), Signal(), Signal()

        # What there is: headers and group-sets that came, and room in the macros.
        headers = Signal(range(self.n_headers + 1))
        ready = Signal(range(self.depth + 1))
        in_macros = Signal(range(ADDRESSES + 1))
        blocks = Signal(range(BLOCK_SLOTS + 1))
        m.d.sync += [
            headers.eq(headers + self.header_done - pick),
            ready.eq(ready + self.entry_done - start),
            in_macros.eq(in_macros + start - self.entries_freed),
            blocks.eq(blocks + pick - self.begun),
        ]

        m.submodules.sizes = sizes = TwoPortMemory(
            depth=self.n_headers, width=ENTRIES_WIDTH + 1, granularity=ENTRIES_WIDTH + 1
        )
        next_header = Signal(range(self.n_headers))
        m.d.comb += [
            sizes.w_mask.eq(self.header_begun),
            sizes.w_addr.eq(self.header_slot),
            sizes.w_data.eq(Cat(self.n_entries, self.is_map)),
            sizes.r_enable.eq(pick),
            sizes.r_addr.eq(next_header),
        ]

        busy, fresh, held = Signal(), Signal(), Signal()
        # What was read of a kernel block stays at the port until the next one is picked.
        is_map = sizes.r_data[ENTRIES_WIDTH]
        slot = Signal(range(BLOCK_SLOTS))
        kept, left = Signal(ENTRIES_WIDTH), Signal(ENTRIES_WIDTH)
        m.d.comb += [
            left.eq(Mux(fresh, sizes.r_data[:ENTRIES_WIDTH], kept)),
            start.eq(
                busy & (self.copy_part == 0) & (left != 0) & (ready != 0) & (in_macros != ADDRESSES)
            ),
            self.copy.eq(start | (self.copy_part != 0)),
            self.copied.eq(self.copy_part == COPY_CLOCKS - 1),
            self.loaded.eq(busy & (left == self.copied)),
            is_free.eq(Mux(busy, self.loaded & ~is_map, ~held)),
            pick.eq(is_free & (headers != 0) & (blocks != BLOCK_SLOTS)),
        ]
        with m.If(self.filled):
            m.d.sync += held.eq(0)
        with m.If(self.loaded & is_map):
            m.d.sync += held.eq(1)
        with m.If(self.copy):
            m.d.sync += self.copy_part.eq(self.copy_part + 1)
        with m.If(self.copied):
            m.d.sync += [
                self.copy_addr.eq(self.copy_addr + 1),
                self.macro_addr.eq(self.macro_addr + 1),
            ]
        m.d.sync += [fresh.eq(pick), kept.eq(left - self.copied)]
        with m.If(fresh):
            m.d.sync += [Array(self.entries)[slot].eq(left), slot.eq(slot + 1)]
        with m.If(self.loaded):
            m.d.sync += busy.eq(0)
        with m.If(pick):
            m.d.sync += [busy.eq(1), next_header.eq(next_header + 1)]
        return m
