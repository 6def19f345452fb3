"""The engine: from lines to features, one frame."""

from amaranth.hdl import Array, Cat, EnableInserter, Module, Mux, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import Component, In, Out
from amaranth.utils import exact_log2

from hw.mars.collector import Collector
from hw.mars.core import Core
from hw.mars.drain import Drain
from hw.mars.layout import (
    ADDR_WIDTH,
    DESCRIPTOR,
    ENTRIES_WIDTH,
    MAX_GROUPS,
    ROW_WIDTH,
    fires,
    has_operand,
    header_bits,
    is_row,
)
from hw.mars.loader import Loader
from hw.mars.map_loader import MapLoader
from hw.mars.map_writer import STORED_WORD
from hw.mars.membranes import MEMBRANES, MembraneStore
from hw.mars.post_processing import PostProcessing
from hw.mars.rows import Rows
from hw.mars.walker import Walker
from hw.mars.weight_sram import Copier
from hw.memory import TwoPortMemory
from model.mars.clocks import BLOCK_SLOTS, CHAIN_AFTER, WRITTEN_AFTER
from model.mars.config import ACC_WIDTH, LINE_BITS, WORD_BITS, WORD_BYTES, WORDS_PER_WRITE


class PassEnd(Component):
    """When the last features or membranes of a pass are being written.

    **Latency**: WRITTEN_AFTER clocks behind `last_word` and, if each step of the neurons has a
    stage, CHAIN_AFTER more for each further group of them; 1 behind `features_done`. **Reset**: no
    pass under way.

    Parameters
    ----------
    n_turns : int
        Of the lanes of post-processing.

    Members
    -------
    descriptor : In(DESCRIPTOR)
        Of the pass under way.
    last_word, features_done : In(1)
        The last clock of the drain's last pixel; the last line of an input is being taken.
    pass_done : Out(1)
    """

    descriptor: In(DESCRIPTOR)
    last_word: In(1)
    features_done: In(1)
    pass_done: Out(1)

    def __init__(self, n_turns=1):
        self.n_turns = n_turns
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        last_written = Signal()
        features_written = Signal()
        max_log2 = exact_log2(MAX_GROUPS) if self.n_turns == 1 else 0
        written = Signal(WRITTEN_AFTER + CHAIN_AFTER * ((1 << max_log2) - 1))
        m.d.sync += [
            written.eq(written << 1 | self.last_word),
            features_written.eq(self.features_done),
        ]
        m.d.comb += last_written.eq(written[WRITTEN_AFTER - 1])
        with m.If(fires(self.descriptor)), m.Switch(self.descriptor.groups_log2):
            for log2 in range(1, max_log2 + 1):
                with m.Case(log2):
                    after = WRITTEN_AFTER + CHAIN_AFTER * ((1 << log2) - 1)
                    m.d.comb += last_written.eq(written[after - 1])
        with m.If(self.pass_done):
            m.d.sync += written.eq(0)
        m.d.comb += self.pass_done.eq(last_written | features_written)
        return m


class Engine(Component):
    """Loader, walker, cores, drain and post-processing; golden: `model.mars.machine.Machine`.

    **Latency**, **Throughput**: `model.mars.clocks`. **Reset**: waits for the first line of an
    input packet; contents of memories are not reset.

    Parameters
    ----------
    config : MarsConfig

    Members
    -------
    lines : In(stream.Signature(512))
    later : In(1)
        The frame goes on where the one before stopped: neurons find their membranes.
    done : Out(1)
        With the last write of a segment.
    descriptor : Out(DESCRIPTOR)
        Of the pass under way.
    store, stored : Out(1), In(1)
        It is one that stores a result, and begins; everything is written.
    words : Out(stream.Signature(STORED_WORD))
        What is written.
    weight_stall, drain_stall, layer_stall : Out(1)
        Why the macros do not work in this clock.
    host_read, host_addr, host_data : In of every macro, In(16), Out of every macro
        Reads a feature word, between frames.
    value_valid, values : Out
        As in `hw.mars.post_processing.PostProcessing`.
    membranes, write, write_row, write_offset, write_halves, write_data : Out
    store_macros, store_addr, store_mask, store_data, pass_done : Out
        As in `hw.mars.accelerator.TraceSignature`.
    """

    def __init__(self, config):
        self.config = config
        super().__init__(
            {
                "lines": In(stream.Signature(LINE_BITS)),
                "later": In(1),
                "done": Out(1),
                "descriptor": Out(DESCRIPTOR),
                "store": Out(1),
                "stored": In(1),
                "words": Out(stream.Signature(STORED_WORD)),
                "weight_stall": Out(1),
                "drain_stall": Out(1),
                "layer_stall": Out(1),
                "host_read": In(1).array(config.n_macros),
                "host_addr": In(ADDR_WIDTH),
                "host_data": Out(WORD_BITS).array(config.n_macros),
                "value_valid": Out(1),
                "values": Out(config.post_lanes * ACC_WIDTH),
                "membranes": Out(MEMBRANES.size),
                "write": Out(1),
                "write_row": Out(ROW_WIDTH),
                "write_offset": Out(ADDR_WIDTH),
                "write_halves": Out(2 * WORDS_PER_WRITE),
                "write_data": Out(WORDS_PER_WRITE * WORD_BITS),
                "store_macros": Out(config.n_macros),
                "store_addr": Out(ADDR_WIDTH),
                "store_mask": Out(WORDS_PER_WRITE * WORD_BYTES),
                "store_data": Out(WORDS_PER_WRITE * WORD_BITS * config.n_macros),
                "pass_done": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        n_macros, wide = self.config.n_macros, self.config.wide_multiplier
        ahead = self.config.ahead
        m.submodules.loader = loader = Loader(n_macros, wide_multiplier=wide, ahead=ahead)
        n_lanes, n_turns = self.config.post_lanes, self.config.turns
        m.submodules.walker = walker = Walker(ahead.headers, n_turns)
        m.submodules.drain = drain = Drain(n_macros, n_turns)
        m.submodules.post_processing = post = PostProcessing(
            wide_multiplier=wide, n_teams=n_macros, n_lanes=n_lanes
        )
        m.submodules.store = store = MembraneStore(n_macros, n_turns)
        m.submodules.rows = rows = Rows(n_macros, n_lanes)
        m.d.comb += [
            walker.later.eq(self.later),
            post.later.eq(self.later),
            post.stored.eq(drain.stored),
            store.descriptor.eq(walker.descriptor),
            store.store.eq(drain.store),
            *(own.eq(left) for own, left in zip(store.waiting, post.waiting, strict=True)),
            loader.lines.payload.eq(self.lines.payload),
            loader.lines.valid.eq(self.lines.valid),
            self.lines.ready.eq(loader.lines.ready),
            loader.take.eq(walker.take),
            loader.headers_freed.eq(drain.header_freed | rows.headers_freed),
            walker.loading.eq(loader.descriptor),
            walker.described.eq(loader.described),
            drain.descriptor.eq(walker.descriptor),
            drain.round_done.eq(walker.round_done),
            drain.round.eq(walker.round),
            post.descriptor.eq(walker.descriptor),
            post.pass_begins.eq(walker.take),
            post.residual.eq(drain.residual),
            post.feature_valid.eq(loader.feature_valid),
            post.feature_words.eq(loader.feature_words),
            post.table_enable.eq(loader.table_enable),
            post.table_addr.eq(loader.table_addr),
        ]
        self._rows(m, walker, drain, rows, post)
        self._headers(m, loader, drain, rows, post)
        copier = self._blocks(m, loader, walker)
        map_loader = self._map_loader(m, loader, copier, walker)
        collector = self._collector(m, walker)
        self._cores(m, loader, copier, walker, map_loader, drain, post, store, collector, rows)

        m.submodules.pass_end = pass_end = PassEnd(n_turns)
        m.d.comb += [
            pass_end.descriptor.eq(walker.descriptor),
            pass_end.last_word.eq(drain.last_word | rows.last_word),
            pass_end.features_done.eq(loader.features_done),
            self.pass_done.eq(pass_end.pass_done | self.stored),
            walker.pass_done.eq(self.pass_done),
            self.done.eq(walker.frame_done),
            self.weight_stall.eq(walker.weight_stall),
            self.drain_stall.eq(walker.drain_stall),
            self.layer_stall.eq(~(walker.stepping | walker.weight_stall | walker.drain_stall)),
            self.value_valid.eq(post.value_valid),
            self.values.eq(post.values),
            self.membranes.eq(post.membranes),
            self.write.eq(post.write),
            self.write_row.eq(post.write_row),
            self.write_offset.eq(post.write_offset),
            self.write_halves.eq(post.write_halves),
            self.write_data.eq(post.write_data),
            self.store_macros.eq(Mux(store.write, store.macros, 0)),
            self.store_addr.eq(store.addr),
            self.store_mask.eq(store.mask),
            self.store_data.eq(Cat(store.data)),
        ]
        return m

    def _map_loader(self, m, loader, copier, walker):
        """Writes maps into the macros, between the walker and who writes weights there."""
        map_loader = MapLoader()
        awake = walker.take | has_operand(walker.descriptor)
        m.submodules.map_loader = EnableInserter(awake)(map_loader)
        m.d.comb += [
            map_loader.descriptor.eq(walker.descriptor),
            map_loader.begins.eq(walker.take),
            map_loader.fill.eq(walker.fill),
            map_loader.n_entries.eq(walker.n_entries),
            map_loader.head.eq(walker.head),
            map_loader.kernel_block.eq(walker.block),
            walker.reading.eq(map_loader.reading),
            walker.filled.eq(map_loader.filled),
            (loader if copier is None else copier).filled.eq(map_loader.filled),
        ]
        return map_loader

    def _collector(self, m, walker):
        """Reads what is stored."""
        m.submodules.collector = collector = Collector(self.config.n_macros)
        m.d.sync += self.store.eq(walker.take & walker.loading.is_store)
        m.d.comb += [
            self.descriptor.eq(walker.descriptor),
            collector.descriptor.eq(walker.descriptor),
            collector.start.eq(self.store),
            self.words.valid.eq(collector.words.valid),
            self.words.payload.eq(collector.words.payload),
            collector.words.ready.eq(self.words.ready),
        ]
        return collector

    def _rows(self, m, walker, drain, rows, post):
        """What post-processing gets: results of rows, or sums."""
        rows_now = is_row(walker.descriptor)
        m.d.comb += [
            rows.descriptor.eq(walker.descriptor),
            rows.stepping.eq(walker.row_stepping),
            rows.slot.eq(walker.slot),
            walker.last_row_step.eq(rows.last_step),
            post.pixel.eq(Mux(rows_now, rows.pixel.as_value(), drain.pixel.as_value())),
            post.acc.eq(drain.acc),
        ]
        with m.If(rows_now):
            n_lanes = self.config.post_lanes
            m.d.comb += [acc[0].eq(rows.results[k % n_lanes]) for k, acc in enumerate(post.acc)]

    def _headers(self, m, loader, drain, rows, post):
        """Bias, multipliers and shifts of the kernel blocks that are loaded or under way."""
        width = header_bits(self.config.wide_multiplier)
        m.submodules.headers = headers = TwoPortMemory(
            depth=self.config.ahead.headers, width=width, granularity=LINE_BITS
        )
        pixel_comes = Signal()
        m.d.sync += pixel_comes.eq(post.pixel.valid)
        m.d.comb += [
            headers.w_mask.eq(loader.header_enable << loader.header_part),
            headers.w_addr.eq(loader.header_slot),
            headers.w_data.eq(loader.header_line.replicate(width // LINE_BITS)),
            headers.r_enable.eq(pixel_comes),
            headers.r_addr.eq(Mux(is_row(rows.descriptor), rows.header_slot, drain.header_slot)),
            post.header.eq(headers.r_data),
        ]

    def _blocks(self, m, loader, walker):
        """What of kernel blocks goes from the loader to the walker; returns the copier, if any."""
        if not self.config.weight_sram:
            entries = Array(
                Signal(ENTRIES_WIDTH, name=f"entries_{slot}") for slot in range(BLOCK_SLOTS)
            )
            with m.If(loader.header_enable & (loader.header_part == 0)):
                m.d.sync += entries[loader.header_slot].eq(loader.n_entries)
            m.d.comb += [
                walker.loaded.eq(loader.loaded),
                loader.entries_freed.eq(walker.entries_freed),
                *(w.eq(n) for w, n in zip(walker.entries, entries, strict=True)),
            ]
            return None
        m.submodules.copier = copier = Copier(self.config.weight_sram, self.config.ahead.headers)
        m.d.comb += [
            copier.header_begun.eq(loader.header_enable & (loader.header_part == 0)),
            copier.header_slot.eq(loader.header_slot),
            copier.n_entries.eq(loader.n_entries),
            copier.is_map.eq(loader.is_map),
            copier.header_done.eq(loader.header_done),
            copier.entry_done.eq(loader.entry_done),
            copier.begun.eq(walker.begun),
            copier.entries_freed.eq(walker.entries_freed),
            walker.loaded.eq(copier.loaded),
            loader.entries_freed.eq(copier.copied),
            *(w.eq(n) for w, n in zip(walker.entries, copier.entries, strict=True)),
        ]
        return copier

    def _cores(self, m, loader, copier, walker, map_loader, drain, post, store, collector, rows):
        """The cores, and the choice of each bank which features it stores."""
        config, d = self.config, walker.descriptor
        per_core = config.macros_per_core
        collects, reads_rows = Signal(), Signal()
        m.d.comb += [
            collects.eq(Cat(collector.read).any()),
            reads_rows.eq(Cat(rows.read).any()),
        ]
        in_bytes = Cat(half.replicate(WORD_BYTES // 2) for half in post.write_halves)
        for c in range(config.n_cores):
            core = Core(c * per_core, per_core, config.feature_words, config.weight_sram)
            m.submodules[f"core_{c}"] = core
            m.d.comb += [
                core.walk.descriptor.eq(d),
                core.walk.index_read.eq(walker.index_enable),
                core.walk.index_read_addr.eq(walker.index_addr),
                core.walk.step.eq(walker.step),
                core.walk.row_enable.eq(loader.row_enable),
                core.walk.row_addr.eq(loader.row_addr),
                core.walk.row_word_line.eq(loader.row_word_line),
                core.walk.index_write_addr.eq(loader.index_addr),
                core.walk.index_data.eq(loader.index_data),
                core.walk.fill.eq(map_loader.step),
                core.walk.host_addr.eq(
                    Mux(collects, collector.addr, Mux(reads_rows, rows.addr, self.host_addr))
                ),
            ]
            if copier is not None:
                m.d.comb += [
                    getattr(core.walk, name).eq(getattr(copier, name))
                    for name in ("copy", "copy_addr", "copy_part", "macro_addr")
                ]
            for k in range(per_core):
                macro = c * per_core + k
                stores = Signal(name=f"stores_{macro}")
                m.d.comb += [
                    stores.eq(
                        (post.write_row >= d[f"out_first_row_{macro}"])
                        & (post.write_row < d[f"out_end_row_{macro}"])
                    ),
                    core.feature_mask[k].eq(Mux(post.write & stores, in_bytes, 0)),
                    core.feature_addr[k].eq(d[f"out_base_{macro}"] + post.write_offset),
                    core.feature_data[k].eq(post.write_data),
                    core.row_data[k].eq(loader.row_data[macro]),
                    core.index_write[k].eq(loader.index_enable[macro]),
                    core.host_read[k].eq(
                        self.host_read[macro] | collector.read[macro] | rows.read[macro]
                    ),
                    collector.data[macro].eq(core.host_data[k]),
                    rows.data[macro].eq(core.host_data[k]),
                    rows.upper[macro].eq(core.host_upper[k]),
                    drain.sums[macro].eq(core.sums[k]),
                    drain.highs[macro].eq(core.highs[k]),
                    drain.residuals[macro].eq(core.residuals[k]),
                    drain.membranes[macro].eq(core.membranes[k]),
                    self.host_data[macro].eq(core.host_data[k]),
                ]
                # A clock writes results or membranes.
                with m.If(store.write):
                    m.d.comb += [
                        core.feature_mask[k].eq(Mux(store.macros[macro], store.mask, 0)),
                        core.feature_addr[k].eq(store.addr),
                        core.feature_data[k].eq(store.data[macro]),
                    ]
