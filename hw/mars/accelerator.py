"""The accelerator: reads a frame and computes it."""

from amaranth.hdl import Array, Cat, EnableInserter, Module, Mux, ResetInserter, Signal
from amaranth.lib.wiring import Component, In, Out, Signature, connect
from amaranth.utils import exact_log2

from hw.bus.axi4 import AXI4Signature
from hw.bus.host_bus import DATA_WIDTH, HostBusSignature
from hw.mars.engine import Engine
from hw.mars.exit_unit import SETTINGS, TIME_WIDTH, ExitUnit
from hw.mars.lane import SUMS
from hw.mars.layout import ADDR_WIDTH, ROW_WIDTH
from hw.mars.line_reader import LineReader
from hw.mars.map_writer import MapWriter
from hw.mars.membranes import MEMBRANES
from hw.mars.regions import COUNT_WIDTH, LINE_ADDR_WIDTH, Regions
from hw.mars.turns import Turns
from model.mars.config import ACC_WIDTH, WORD_BITS, WORD_BYTES, WORDS_PER_WRITE
from model.mars.early_exit import MAX_CLASSES, TABLES
from model.mars.layout import MAX_STEPS

FEATURE_STRIDE = 0x20000
"""Bytes from one feature memory to the next, room for the largest (model/mars/registers.rdl)."""


class TraceSignature(Signature):
    """What benches compare with the model.

    Parameters
    ----------
    n_macros : int

    Members
    -------
    value_valid, values : Out
        Requantised pixels, before pools.
    membranes : Out
        With neurons: what the steps left.
    write, write_row, write_offset, write_halves, write_data : Out
        A feature word or two, before the banks choose; a bit for each half that is written.
    store_macros, store_addr, store_mask, store_data : Out
        Two words of membranes: which macros write them, where, which bytes, and what each.
    pass_done : Out(1)
        The last write of a pass.
    clock : Out(32)
        Clocks since the frame was started, or since its later time steps were.
    """

    def __init__(self, n_macros):
        super().__init__(
            {
                "value_valid": Out(1),
                "values": Out(SUMS.size),
                "membranes": Out(MEMBRANES.size),
                "write": Out(1),
                "write_row": Out(ROW_WIDTH),
                "write_offset": Out(ADDR_WIDTH),
                "write_halves": Out(2 * WORDS_PER_WRITE),
                "write_data": Out(WORDS_PER_WRITE * WORD_BITS),
                "store_macros": Out(n_macros),
                "store_addr": Out(ADDR_WIDTH),
                "store_mask": Out(WORDS_PER_WRITE * WORD_BYTES),
                "store_data": Out(WORDS_PER_WRITE * WORD_BITS * n_macros),
                "pass_done": Out(1),
                "clock": Out(32),
            }
        )


class ResultSignature(Signature):
    """The results of frames, as who takes them sees it; that of a chip without such is unused.

    Members
    -------
    ended : In(1)
        One clock: a frame has ended without an error.
    takes : Out(1)
        Its result will be taken.
    waits : Out(1)
        From the clock after `ended` up to `taken` or `dropped`: the frame counts as running.
    abort : In(1)
        The host aborts the frame that waits.
    taken, dropped : Out(1)
        One clock: nothing more is read.
    read, is_logit, addr : Out
        Only while `waits`: a word of the first feature memory, or a logit of the exit unit.
    data, logit : In(64), In(32)
        One clock later.
    """

    def __init__(self):
        super().__init__(
            {
                "ended": In(1),
                "takes": Out(1),
                "waits": Out(1),
                "abort": In(1),
                "taken": Out(1),
                "dropped": Out(1),
                "read": Out(1),
                "is_logit": Out(1),
                "addr": Out(ADDR_WIDTH),
                "data": In(WORD_BITS),
                "logit": In(ACC_WIDTH),
            }
        )


class Accelerator(Component):
    """Computes one frame after `start`: input packet and program, each read once.

    A spiking network may take its time steps in chunks: the program is read again for each of
    them, until all steps are taken or the exit unit stops. A network whose maps do not fit is a
    chain of segments: a pass that stores a result tells what the next one reads.

    **Reset**: not running; contents of memories are not reset.

    Parameters
    ----------
    config : MarsConfig
    trace : bool
        Add the trace ports.
    bridged : bool
        Add the port at which results are read inside of the chip.

    Members
    -------
    axi : Out(AXI4Signature(config.weight_bus))
    start : In(1)
        Given only while not running; `running` is set in the next clock.
    abort : In(1)
        Given only while running: ends the frame when all that was requested has arrived or is
        written.
    input_base, program_base, scratch_base : In(32)
        Byte addresses, multiples of 512; latched with `start`, as the numbers of lines are.
    input_lines, program_lines : In(24)
        Of the first segment.
    first_step, n_steps, chunk : In(7), In(7), In(4)
        Of a frame that takes its time steps in chunks: those of the frames before, all of them
        with these, and how many a chunk has; else 0.
    input_stride : In(32)
        Bytes from the input packet of a chunk to that of the next one, a multiple of 512; 0 if they
        all have the same.
    exits, exit_settings : In(1), In(SETTINGS)
        The exit unit decides, and by what.
    steps : Out(7)
        Time steps that were taken, of the last frame.
    running : Out(1)
    done : Out(1)
        One clock: the frame has ended, whichever way; `running` is reset in the next clock at
        the latest.
    bus_error, aborted : Out(1)
        Together with `done`: the memory answered with an error; `abort` ended the frame.
    frame_clocks, weight_stalls, drain_stalls, layer_stalls : Out(32)
        Of the last frame, as the registers of the same names.
    table_bus : In(HostBusSignature())
        The exit unit: words of its tables to be written, logits to be read. Not used while running.
    feature_bus : In(HostBusSignature())
        The feature memories, `FEATURE_STRIDE` bytes apart, 32 bit at a time, low half first. Not
        used while running. Answers `error` to writes and behind the end of each memory.
    result_read, result_is_logit, result_addr, result_data, result_logit :
        As in `ResultSignature`. Not used while running or together with the two buses.
    trace : Out(TraceSignature())
    """

    def __init__(self, config, *, trace=False, bridged=False):
        self.config = config
        self.trace_enabled = trace
        self.bridged = bridged
        members = {
            "axi": Out(AXI4Signature(config.weight_bus)),
            "start": In(1),
            "abort": In(1),
            "input_base": In(32),
            "program_base": In(32),
            "scratch_base": In(32),
            "input_lines": In(COUNT_WIDTH),
            "program_lines": In(COUNT_WIDTH),
            "first_step": In(TIME_WIDTH),
            "n_steps": In(TIME_WIDTH),
            "chunk": In(range(MAX_STEPS + 1)),
            "input_stride": In(32),
            "exits": In(1),
            "exit_settings": In(SETTINGS),
            "steps": Out(TIME_WIDTH),
            "running": Out(1),
            "done": Out(1),
            "bus_error": Out(1),
            "aborted": Out(1),
            "frame_clocks": Out(32),
            "weight_stalls": Out(32),
            "drain_stalls": Out(32),
            "layer_stalls": Out(32),
            "table_bus": In(HostBusSignature()),
            "feature_bus": In(HostBusSignature()),
        }
        if bridged:
            members |= {
                "result_read": In(1),
                "result_is_logit": In(1),
                "result_addr": In(ADDR_WIDTH),
                "result_data": Out(WORD_BITS),
                "result_logit": Out(ACC_WIDTH),
            }
        if trace:
            members["trace"] = Out(TraceSignature(config.n_macros))
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.reader = reader = LineReader(config)
        m.submodules.writer = writer = MapWriter(config.weight_bus)
        m.submodules.regions = regions = Regions()
        self._bus(m, reader, writer)
        connect(m, regions.regions, reader.regions)
        input_base, scratch_base = Signal(32), Signal(32)
        first_step = Signal(TIME_WIDTH)
        again = Signal()
        below = 32 - LINE_ADDR_WIDTH
        m.d.comb += [
            reader.start.eq(self.start | again),
            regions.start.eq(self.start),
            regions.input.eq(
                Mux(self.start, self.input_base, input_base + self.input_stride) >> below
            ),
            regions.input_lines.eq(self.input_lines),
            regions.program.eq(self.program_base >> below),
            regions.program_lines.eq(self.program_lines),
            regions.scratch.eq(self.scratch_base >> below),
        ]

        # Behind a frame everything that it moves is reset: each begins alike, whatever became of
        # the one before. Then nothing moves but what reads features.
        computing, in_reset = Signal(), Signal()
        engine = Engine(config)
        m.d.sync += in_reset.eq(~computing)
        awake = computing | ~in_reset | Cat(engine.host_read).any()
        m.submodules.engine = EnableInserter(awake)(ResetInserter(~computing)(engine))
        connect(m, reader.lines, engine.lines)
        connect(m, engine.words, writer.words)
        m.d.comb += [
            writer.start.eq(engine.store),
            writer.addr.eq(scratch_base + (engine.descriptor.map_word << exact_log2(WORD_BYTES))),
            writer.n_words.eq(engine.descriptor.n_words),
            engine.stored.eq(writer.done),
            regions.descriptor.eq(engine.descriptor),
        ]
        m.d.comb += engine.later.eq(first_step != 0)
        exit_unit = self._exit_unit(m, engine, first_step)

        failed, stopped = Signal(), Signal()
        # A frame in chunks of time steps: what the end of one is followed by.
        goes_on, decides, between = Signal(), Signal(), Signal()
        # It ended with a store behind which another segment comes.
        has_next, next_segment = Signal(), Signal()
        in_chunks = (self.chunk != 0) & (self.n_steps != 0) & ~failed & ~stopped
        m.d.comb += [
            goes_on.eq(in_chunks & (first_step + self.chunk < self.n_steps)),
            decides.eq(in_chunks & self.exits),
            next_segment.eq(has_next & ~failed & ~stopped),
        ]
        onward = [
            first_step.eq(first_step + self.chunk),
            input_base.eq(input_base + self.input_stride),
        ]
        with m.If(between & self.abort):
            m.d.sync += stopped.eq(1)
        with m.FSM(name="frame") as fsm:
            with m.State("IDLE"), m.If(self.start):
                m.d.sync += [
                    failed.eq(0),
                    stopped.eq(0),
                    first_step.eq(self.first_step),
                    input_base.eq(self.input_base),
                    scratch_base.eq(self.scratch_base),
                    has_next.eq(0),
                    self.steps.eq(self.n_steps),
                ]
                m.next = "COMPUTE"
            with m.State("COMPUTE"):
                m.d.comb += computing.eq(1)
                with m.If(engine.done):
                    last = engine.descriptor
                    m.d.sync += has_next.eq(last.is_store & (last.next_lines != 0))
                    m.d.comb += regions.onward.eq(last.is_store)
                    m.next = "END"
                with m.If(reader.error | writer.error):
                    m.d.sync += failed.eq(1)
                    m.next = "END"
                with m.If(self.abort | stopped):
                    m.d.sync += stopped.eq(1)
                    m.next = "END"
            with m.State("END"):
                m.d.comb += [
                    reader.stop.eq(1),
                    writer.stop.eq(1),
                    regions.stop.eq(~next_segment),
                ]
                with m.If(~reader.busy & ~writer.busy):
                    m.d.comb += reader.clear.eq(1)
                    with m.If(next_segment):
                        m.d.comb += between.eq(1)
                        m.d.sync += has_next.eq(0)
                        m.next = "AGAIN"
                    with m.Elif(decides):
                        m.d.comb += [between.eq(1), exit_unit.go.eq(1)]
                        m.next = "EXIT"
                    with m.Elif(goes_on):
                        m.d.comb += [between.eq(1), regions.again.eq(1)]
                        m.d.sync += onward
                        m.next = "AGAIN"
                    with m.Else():
                        m.d.comb += self.done.eq(1)
                        m.next = "IDLE"
            with m.State("EXIT"):
                m.d.comb += between.eq(1)
                with m.If(exit_unit.done):
                    m.d.sync += [self.steps.eq(exit_unit.taken), *onward]
                    m.next = "AGAIN"
                    with m.If(exit_unit.stops | stopped):
                        m.next = "DONE"
                    with m.Else():
                        m.d.comb += regions.again.eq(1)
            with m.State("AGAIN"):
                m.d.comb += [between.eq(1), again.eq(1)]
                m.next = "COMPUTE"
            with m.State("DONE"):
                m.d.comb += self.done.eq(1)
                m.next = "IDLE"
        m.d.comb += [
            self.running.eq(~fsm.ongoing("IDLE")),
            self.bus_error.eq(self.done & failed),
            self.aborted.eq(self.done & stopped),
        ]

        for counter, counts in (
            (self.frame_clocks, computing | between),
            (self.weight_stalls, computing & engine.weight_stall),
            (self.drain_stalls, computing & engine.drain_stall),
            (self.layer_stalls, computing & engine.layer_stall),
        ):
            with m.If(self.start):
                m.d.sync += counter.eq(0)
            with m.Elif(counts):
                m.d.sync += counter.eq(counter + 1)
        self._host(m, engine, exit_unit)
        if self.bridged:
            self._results(m, engine, exit_unit)
        if self.trace_enabled:
            turns = Turns(config.post_lanes)
            value_valid, values = turns.whole(m, engine.value_valid, engine.values)
            m.d.comb += [
                self.trace.value_valid.eq(value_valid),
                self.trace.values.eq(values),
                self.trace.membranes.eq(turns.until_last(m, engine.membranes)),
            ]
            names = ("write", "write_row", "write_offset")
            names += ("write_halves", "write_data", "pass_done")
            names += ("store_macros", "store_addr", "store_mask", "store_data")
            m.d.comb += [getattr(self.trace, name).eq(getattr(engine, name)) for name in names]
            m.d.sync += self.trace.clock.eq(Mux(computing, self.trace.clock + 1, 1))
        return m

    def _bus(self, m, reader, writer):
        """Channels for reading and for writing."""
        for part in (reader.axi, writer.axi):
            for name, member in part.signature.members.items():
                ours, its = getattr(self.axi, name), getattr(part, name)
                m.d.comb += ours.eq(its) if member.flow == Out else its.eq(ours)

    def _exit_unit(self, m, engine, first_step):
        """The exit unit, for the host one memory: tables are written, logits are read."""
        unit = ExitUnit()
        bus = self.table_bus
        word = bus.addr[2:]
        writes = bus.valid & bus.write & bus.w_strb.all() & (word < TABLES)
        reads = bus.valid & ~bus.write & (word < MAX_CLASSES)
        m.d.comb += [
            unit.settings.eq(self.exit_settings),
            unit.first_step.eq(first_step),
            unit.n_steps.eq(self.chunk),
            unit.last_step.eq(self.n_steps),
            unit.read_data.eq(engine.host_data[0]),
            unit.table_write.eq(writes),
            unit.table_addr.eq(word),
            unit.table_data.eq(bus.w_data),
            unit.sum_read.eq(reads),
            unit.sum_addr.eq(word),
        ]
        asked = Signal()
        m.d.sync += asked.eq(reads)
        with m.If(bus.valid):
            m.d.sync += bus.error.eq(~writes & ~reads)
        with m.If(asked):
            m.d.sync += bus.r_data.eq(unit.sum_data)
        awake = unit.busy | unit.go | unit.table_write | unit.sum_read
        m.submodules.exit_unit = EnableInserter(awake)(unit)
        return unit

    def _host(self, m, engine, exit_unit):
        """Halves of feature words for the host; between chunks the exit unit reads."""
        bus = self.feature_bus
        word_bits = exact_log2(self.config.feature_words)
        macro = bus.addr[exact_log2(FEATURE_STRIDE) :]
        exists = (macro < self.config.n_macros) & (
            bus.addr[3 : exact_log2(FEATURE_STRIDE)] < self.config.feature_words
        )
        asked = Signal()
        upper = Signal()
        macro_1 = Signal(range(self.config.n_macros))
        m.d.comb += engine.host_addr.eq(bus.addr[3 : 3 + word_bits])
        for k, read in enumerate(engine.host_read):
            m.d.comb += read.eq(bus.valid & ~bus.write & exists & (macro == k))
        with m.If(exit_unit.read):
            m.d.comb += [
                engine.host_addr.eq(exit_unit.read_addr),
                engine.host_read[0].eq(1),
            ]
        m.d.sync += asked.eq(bus.valid)
        with m.If(bus.valid):
            m.d.sync += [
                bus.error.eq(bus.write | ~exists),
                upper.eq(bus.addr[2]),
                macro_1.eq(macro),
            ]
        word = Array(engine.host_data)[macro_1]
        with m.If(asked):
            m.d.sync += bus.r_data.eq(word.word_select(upper, DATA_WIDTH))

    def _results(self, m, engine, exit_unit):
        """Feature words and logits for the bridge."""
        with m.If(self.result_read & self.result_is_logit):
            m.d.comb += [
                exit_unit.sum_read.eq(1),
                exit_unit.sum_addr.eq(self.result_addr),
            ]
        with m.Elif(self.result_read):
            m.d.comb += [
                engine.host_addr.eq(self.result_addr),
                engine.host_read[0].eq(1),
            ]
        m.d.comb += [
            self.result_data.eq(engine.host_data[0]),
            self.result_logit.eq(exit_unit.sum_data),
        ]
