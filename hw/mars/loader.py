"""Takes lines apart: descriptors, headers, index codes, rows of group-sets, input features."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import Component, In, Out

from hw.mars.index_decoder import IndexDecoder
from hw.mars.layout import (
    DESCRIPTOR,
    ENTRIES_WIDTH,
    HEADER_WORD,
    INDEX,
    has_operand,
    input_words,
)
from model.mars.clocks import WITHOUT_SRAM
from model.mars.config import (
    LINE_BITS,
    WORD_BITS,
    WORD_LINES,
    WORDS_PER_LINE,
    WORDS_PER_WRITE,
)
from model.mars.layout import (
    CODE_WIDTHS,
    CODES_PER_LINES,
    TABLE_LINES,
    header_lines,
)


class Loader(Component):
    """Runs ahead of the walker as far as there is room, golden: `model.mars.clocks`.

    A pass that stores a result has a descriptor alone. An input may begin in the middle of a line.

    A line with rows or features is kept and handed on word by word, one row of the S macros that
    share a kernel block per clock; the next line is taken in the last of these clocks. Every other
    line is used in the clock in which it is taken.
    Where a map stands for weights an entry has codes alone, and takes as long. Rows are written
    then by others: without a weight SRAM the loader waits behind a kernel block until it is filled.

    **Throughput**: one line per clock, or one in 8 / S clocks for rows, 4 or 8 clocks for features.
    **Reset**: waits for a descriptor, everything free.

    Parameters
    ----------
    n_macros : int
    wide_multiplier : bool
        Headers have four lines.
    ahead : Ahead
        How far it may run ahead.

    Members
    -------
    lines : In(stream.Signature(512))
    descriptor : Out(DESCRIPTOR)
        Of the oldest pass that was not taken.
    described : Out(1)
        It is complete.
    take : In(1)
        The walker takes it.
    header_enable, header_slot, header_part, header_line : Out
        Writes a line of a header.
    n_entries, is_map : Out(7), Out(1)
        Entries of its kernel block, with the first line, and whether a map stands for them.
    header_done, entry_done : Out(1)
        One clock: a header is complete; an entry is.
    headers_freed : In
        So many of the oldest headers are not needed any more.
    entries_freed : In(7)
        So many of the oldest entries are not needed any more.
    loaded : Out(1)
        One clock: another kernel block is complete.
    filled : In(1)
        And one of a map has its rows.
    row_enable, row_addr, row_word_line, row_data : Out
        Writes a row of each macro that is used.
    index_enable, index_addr, index_data : Out
        Writes a decoded index code; one enable per macro.
    feature_valid, feature_words : Out
        The next word of the input, or two if a row of it has an even number.
    table_enable, table_addr : Out
        The first word is one of the lookup table.
    features_done : Out(1)
        In the last clock of the last line of features.
    """

    def __init__(self, n_macros, *, wide_multiplier=False, ahead=WITHOUT_SRAM):
        self.n_macros = n_macros
        self.ahead = ahead
        self.n_header_lines = header_lines(wide_multiplier)
        super().__init__(
            {
                "lines": In(stream.Signature(LINE_BITS)),
                "descriptor": Out(DESCRIPTOR),
                "described": Out(1),
                "take": In(1),
                "header_enable": Out(1),
                "header_slot": Out(range(ahead.headers)),
                "header_part": Out(range(self.n_header_lines)),
                "header_line": Out(LINE_BITS),
                "n_entries": Out(ENTRIES_WIDTH),
                "is_map": Out(1),
                "header_done": Out(1),
                "entry_done": Out(1),
                "headers_freed": In(range(ahead.headers + 1)),
                "entries_freed": In(ENTRIES_WIDTH),
                "loaded": Out(1),
                "filled": In(1),
                "row_enable": Out(1),
                "row_addr": Out(range(ahead.entries)),
                "row_word_line": Out(range(WORD_LINES)),
                "row_data": Out(WORD_BITS).array(n_macros),
                "index_enable": Out(n_macros),
                "index_addr": Out(range(ahead.entries)),
                "index_data": Out(INDEX),
                "feature_valid": Out(1),
                "feature_words": Out(WORDS_PER_WRITE * WORD_BITS),
                "table_enable": Out(1),
                "table_addr": Out(range(TABLE_LINES * WORDS_PER_LINE)),
                "features_done": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        lines = self.lines
        d = Signal(DESCRIPTOR)  # of the pass that is being loaded
        ahead = self.ahead

        # What is known of the kept line.
        kept = Signal(LINE_BITS, reset_less=True)
        keeping = Signal()
        is_row = Signal()
        is_table = Signal()
        last_of_entry = Signal()
        last_of_block = Signal()
        last_of_input = Signal()
        word = Signal(range(WORDS_PER_LINE))
        step = Signal(4)
        last_word = Signal()
        can_take = Signal()
        held = Signal()  # until a map is in the macros
        m.d.comb += [
            step.eq(Mux(is_row, 1 << d.split_log2, Mux(is_table, 1, input_words(d)))),
            last_word.eq(keeping & (word + step == WORDS_PER_LINE)),
            can_take.eq((~keeping | last_word) & ~held),
        ]
        with m.If(keeping):
            m.d.sync += word.eq(word + step)
        with m.If(last_word):
            m.d.sync += keeping.eq(0)

        entries_in_use = Signal(range(ahead.entries + 1))
        headers_in_use = Signal(range(ahead.headers + 1))
        begin_entry = Signal()
        begin_header = Signal()
        m.d.sync += [
            entries_in_use.eq(entries_in_use + begin_entry - self.entries_freed),
            headers_in_use.eq(headers_in_use + begin_header - self.headers_freed),
        ]

        blocks_left = Signal(16)
        entries_left = Signal(ENTRIES_WIDTH)
        lines_left = Signal(range(2 * WORDS_PER_LINE))
        words_left = Signal(24)
        codes = Signal(LINE_BITS, reset_less=True)
        codes_left = Signal(range(max(CODES_PER_LINES) + 1))
        table_lines_left = Signal(range(TABLE_LINES + 1), init=TABLE_LINES)
        empty_block = Signal()
        more_parts = Signal(range(self.n_header_lines - 1))
        first_line = Signal(init=1)
        first_word = Signal(range(WORDS_PER_LINE))
        transfer = Signal()
        row_line = Signal()
        m.d.comb += [
            transfer.eq(lines.valid & lines.ready),
            self.header_line.eq(lines.payload),
            self.n_entries.eq(HEADER_WORD(lines.payload[:WORD_BITS]).n_entries),
            self.is_map.eq(has_operand(d)),
        ]
        descriptor_done = Signal()
        not_taken = self._descriptors(m, d, descriptor_done)

        with m.FSM(name="loader") as fsm:
            with m.State("DESCRIPTOR_0"):
                m.d.comb += lines.ready.eq(can_take & (not_taken != ahead.descriptors))
                with m.If(transfer):
                    m.d.sync += d.as_value()[:LINE_BITS].eq(lines.payload)
                    m.next = "DESCRIPTOR_1"
            with m.State("DESCRIPTOR_1"):
                m.d.comb += [lines.ready.eq(1), descriptor_done.eq(transfer)]
                with m.If(transfer):
                    m.d.sync += [
                        d.as_value()[LINE_BITS:].eq(lines.payload),
                        blocks_left.eq(d.n_kernel_blocks),
                        words_left.eq(d.n_rows * d.out_row_pitch + d.first_word),
                        first_word.eq(d.first_word),
                        codes_left.eq(0),
                    ]
                    m.next = "HEADER_0"
                    with m.If(d.lookup):
                        m.next = "TABLE"
                    with m.If(d.is_input):
                        m.next = "FEATURES"
                    with m.If(d.is_store):
                        m.next = "DESCRIPTOR_0"
            with m.State("TABLE"):
                # The table of the pass before is in use until this pass is taken.
                m.d.comb += lines.ready.eq(can_take & (not_taken == 0))
                with m.If(transfer):
                    m.d.sync += table_lines_left.eq(table_lines_left - 1)
                    with m.If(table_lines_left == 1):
                        m.d.sync += table_lines_left.eq(TABLE_LINES)
                        m.next = "HEADER_0"
            with m.State("FEATURES"):
                m.d.comb += lines.ready.eq(can_take & (not_taken == 0))
                with m.If(transfer):
                    m.d.sync += [words_left.eq(words_left - WORDS_PER_LINE), first_word.eq(0)]
                    with m.If(words_left <= WORDS_PER_LINE):
                        m.next = "DESCRIPTOR_0"
            with m.State("HEADER_0"):
                m.d.comb += [
                    lines.ready.eq(can_take & (headers_in_use != ahead.headers)),
                    begin_header.eq(transfer),
                    self.header_enable.eq(transfer),
                ]
                with m.If(transfer):
                    m.d.sync += entries_left.eq(self.n_entries)
                    m.next = "HEADER_1"
            with m.State("HEADER_1"):
                last_part = more_parts == self.n_header_lines - 2
                m.d.comb += [
                    self.header_part.eq(more_parts + 1),
                    lines.ready.eq(1),
                    self.header_enable.eq(transfer),
                    self.header_done.eq(transfer & last_part),
                    empty_block.eq(self.header_done & (entries_left == 0)),
                ]
                with m.If(transfer):
                    m.d.sync += more_parts.eq(more_parts + 1)
                with m.If(transfer & last_part):
                    m.d.sync += [
                        more_parts.eq(0),
                        self.header_slot.eq(self.header_slot + 1),
                        blocks_left.eq(blocks_left - 1),
                    ]
                    with m.If(entries_left != 0):
                        m.next = "ROWS"
                        with m.If(codes_left == 0):
                            m.next = "CODES"
                    with m.Elif(blocks_left != 1):
                        m.next = "HEADER_0"
                    with m.Else():
                        m.next = "DESCRIPTOR_0"
            with m.State("CODES"):
                m.d.comb += lines.ready.eq(can_take)
                with m.If(transfer):
                    m.d.sync += codes_left.eq(
                        Mux(d.long_codes, CODES_PER_LINES[1], CODES_PER_LINES[0])
                    )
                    m.next = "ROWS"
            with m.State("ROWS"):
                room = ~first_line | (entries_in_use != ahead.entries)
                m.d.comb += [
                    lines.ready.eq(can_take & room & ~self.is_map),
                    row_line.eq(Mux(self.is_map, can_take & room, transfer)),
                    begin_entry.eq(row_line & first_line),
                ]
                last_line = Mux(first_line, 2 << d.split_log2, lines_left) == 1
                with m.If(row_line):
                    m.d.sync += [
                        first_line.eq(last_line),
                        lines_left.eq(Mux(first_line, 2 << d.split_log2, lines_left) - 1),
                    ]
                    with m.If(first_line):
                        m.d.sync += codes_left.eq(codes_left - (1 << d.split_log2))
                    with m.If(last_line):
                        m.d.sync += entries_left.eq(entries_left - 1)
                        with m.If(entries_left != 1), m.If(codes_left == 0):
                            m.next = "CODES"
                        with m.Elif(blocks_left != 0):
                            m.next = "HEADER_0"
                        with m.Else():
                            m.next = "DESCRIPTOR_0"
        in_rows, in_features = fsm.ongoing("ROWS"), fsm.ongoing("FEATURES")
        in_table = fsm.ongoing("TABLE")
        with m.If(row_line | transfer & (in_features | in_table)):
            m.d.sync += [
                kept.eq(lines.payload),
                keeping.eq(1),
                word.eq(Mux(in_features, first_word, 0)),
                is_row.eq(in_rows),
                is_table.eq(in_table),
                last_of_entry.eq(in_rows & last_line),
                last_of_block.eq(in_rows & last_line & (entries_left == 1)),
                last_of_input.eq(in_features & (words_left <= WORDS_PER_LINE)),
            ]

        if not ahead.copied:
            with m.If(self.filled):
                m.d.sync += held.eq(0)
            with m.If(row_line & last_line & (entries_left == 1) & self.is_map):
                m.d.sync += held.eq(1)

        with m.If(self.table_enable):
            m.d.sync += self.table_addr.eq(self.table_addr + 1)
        self._rows(m, d, kept, keeping & is_row, word)
        self._codes(m, d, codes, begin_entry, fsm.ongoing("CODES") & transfer)
        m.d.comb += [
            self.entry_done.eq(last_word & last_of_entry),
            self.loaded.eq(empty_block | (last_word & last_of_block)),
            self.feature_valid.eq(keeping & ~is_row & ~is_table),
            self.table_enable.eq(keeping & is_table),
            self.feature_words.eq(
                Cat(kept.word_select(word, WORD_BITS), kept.word_select(word | 1, WORD_BITS))
            ),
            self.features_done.eq(last_word & last_of_input),
        ]
        return m

    def _descriptors(self, m, d, done):
        """Hands descriptors on; returns how many were not taken."""
        not_taken = Signal(range(self.ahead.descriptors + 1))
        m.d.sync += not_taken.eq(not_taken + done - self.take)
        if self.ahead.descriptors == 1:
            m.d.comb += [self.descriptor.eq(d), self.described.eq(not_taken != 0)]
            return not_taken
        m.submodules.queue = queue = SyncFIFOBuffered(
            width=DESCRIPTOR.size, depth=self.ahead.descriptors
        )
        m.d.comb += [
            queue.w_data.eq(Cat(d.as_value()[:LINE_BITS], self.lines.payload)),
            queue.w_en.eq(done),
            queue.r_en.eq(self.take),
            self.descriptor.eq(queue.r_data),
            self.described.eq(queue.r_rdy),
        ]
        return not_taken

    def _rows(self, m, d, kept, enable, word):
        """Rows out of the kept line, `split` words of it at a time."""
        m.d.comb += self.row_enable.eq(enable & ~self.is_map)
        with m.If(enable):
            m.d.sync += self.row_word_line.eq(self.row_word_line + 1)
        with m.If(self.entry_done):
            m.d.sync += self.row_addr.eq(self.row_addr + 1)
        for macro, data in enumerate(self.row_data):
            part = Signal(range(WORDS_PER_LINE), name=f"part_{macro}")
            with m.Switch(d.split_log2):
                for log2 in range(4):
                    with m.Case(log2):
                        m.d.comb += part.eq(word + macro % (1 << log2))
            m.d.comb += data.eq(kept.word_select(part, WORD_BITS))

    def _codes(self, m, d, codes, begin_entry, fill):
        """Decodes the index codes of an entry, one per clock, while its rows are written."""
        m.submodules.decoder = decoder = IndexDecoder()
        left = Signal(range(9))
        which = Signal(3)
        which_1, which_2 = Signal.like(which), Signal.like(which)
        decoding_1, decoding_2 = Signal(), Signal()
        short, long = CODE_WIDTHS
        m.d.comb += [
            decoder.code.eq(Mux(d.long_codes, codes[:long], codes[:short])),
            decoder.block_width.eq(d.block_width),
            decoder.dx_width.eq(d.dx_width),
            decoder.two_planes.eq(d.in_two),
            decoder.row_pitch.eq(d.tap_row_pitch),
            decoder.col_pitch.eq(d.tap_col_pitch),
            decoder.row_dilation.eq(d.row_dilation),
            decoder.col_dilation.eq(d.col_dilation),
            self.index_addr.eq(self.row_addr),
            self.index_data.eq(decoder.index),
        ]
        m.d.sync += [
            decoding_1.eq(left != 0),
            which_1.eq(which),
            decoding_2.eq(decoding_1),
            which_2.eq(which_1),
        ]
        with m.If(fill):
            m.d.sync += codes.eq(self.lines.payload)
        with m.Elif(left != 0):
            m.d.sync += [
                codes.eq(Mux(d.long_codes, codes >> long, codes >> short)),
                left.eq(left - 1),
                which.eq(which + 1),
            ]
        with m.If(begin_entry):
            m.d.sync += [left.eq(1 << d.split_log2), which.eq(0)]
        with m.Switch(d.split_log2):
            for log2 in range(4):
                with m.Case(log2):
                    for macro in range(self.n_macros):
                        mine = which_2 == macro % (1 << log2)
                        m.d.comb += self.index_enable[macro].eq(decoding_2 & mine)
