"""The accelerator: reads a frame and computes it."""

from amaranth.hdl import Array, Module, ResetInserter, Signal
from amaranth.lib.wiring import Component, In, Out, Signature, connect, flipped
from amaranth.utils import exact_log2

from hw.bus.axi4 import AXI4ReadSignature
from hw.bus.host_bus import DATA_WIDTH, HostBusSignature
from hw.mars.engine import Engine
from hw.mars.lane import SUMS
from hw.mars.layout import ADDR_WIDTH, ROW_WIDTH
from hw.mars.lif import MEMBRANES
from hw.mars.line_reader import LineReader
from model.mars.config import WORD_BITS, WORDS_PER_WRITE

COUNT_WIDTH = 24
FEATURE_STRIDE = 0x20000
"""Bytes from one feature memory to the next, room for the largest (model/mars/registers.rdl)."""


class TraceSignature(Signature):
    """What benches compare with the model.

    Members
    -------
    value_valid, values : Out
        Requantised pixels, before pools.
    membranes : Out
        With neurons: what the steps left.
    write, write_row, write_offset, write_halves, write_data : Out
        A feature word or two, before the banks choose; a bit for each half that is written.
    pass_done : Out(1)
        The last write of a pass.
    clock : Out(32)
        Clocks since the frame was started.
    """

    def __init__(self):
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
                "pass_done": Out(1),
                "clock": Out(32),
            }
        )


class Accelerator(Component):
    """Computes one frame after `start`: input packet and program, each read once.

    **Reset**: not running; contents of memories are not reset.

    Parameters
    ----------
    config : MarsConfig
    trace : bool
        Add the trace ports.

    Members
    -------
    axi : Out(AXI4ReadSignature(config.weight_bus))
    start : In(1)
        Given only while not running; `running` is set in the next clock.
    abort : In(1)
        Given only while running: ends the frame when all that was requested has arrived.
    input_base, program_base : In(32)
        Byte addresses, multiples of 512; latched with `start`, as the numbers of lines are.
    input_lines, program_lines : In(24)
    running : Out(1)
    done : Out(1)
        One clock: the frame has ended, whichever way; `running` is reset in the next clock at
        the latest.
    bus_error, aborted : Out(1)
        Together with `done`: the memory answered with an error; `abort` ended the frame.
    frame_clocks, weight_stalls, drain_stalls, layer_stalls : Out(32)
        Of the last frame, as the registers of the same names.
    feature_bus : In(HostBusSignature())
        The feature memories, `FEATURE_STRIDE` bytes apart, 32 bit at a time, low half first. Not
        used while running. Answers `error` to writes and behind the end of each memory.
    trace : Out(TraceSignature())
    """

    def __init__(self, config, *, trace=False):
        self.config = config
        self.trace_enabled = trace
        members = {
            "axi": Out(AXI4ReadSignature(config.weight_bus)),
            "start": In(1),
            "abort": In(1),
            "input_base": In(32),
            "program_base": In(32),
            "input_lines": In(COUNT_WIDTH),
            "program_lines": In(COUNT_WIDTH),
            "running": Out(1),
            "done": Out(1),
            "bus_error": Out(1),
            "aborted": Out(1),
            "frame_clocks": Out(32),
            "weight_stalls": Out(32),
            "drain_stalls": Out(32),
            "layer_stalls": Out(32),
            "feature_bus": In(HostBusSignature()),
        }
        if trace:
            members["trace"] = Out(TraceSignature())
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.reader = reader = LineReader(config)
        connect(m, flipped(self.axi), reader.axi)
        m.d.comb += [
            reader.start.eq(self.start),
            reader.input_base.eq(self.input_base),
            reader.input_lines.eq(self.input_lines),
            reader.program_base.eq(self.program_base),
            reader.program_lines.eq(self.program_lines),
        ]

        # Between frames everything that a frame moves is held in reset: each begins alike,
        # whatever became of the one before.
        computing = Signal()
        m.submodules.engine = engine = ResetInserter(~computing)(Engine(config))
        connect(m, reader.lines, engine.lines)

        failed, stopped = Signal(), Signal()
        with m.FSM(name="frame") as fsm:
            with m.State("IDLE"), m.If(self.start):
                m.d.sync += [failed.eq(0), stopped.eq(0)]
                m.next = "COMPUTE"
            with m.State("COMPUTE"):
                m.d.comb += computing.eq(1)
                with m.If(engine.done):
                    m.next = "END"
                with m.If(reader.error):
                    m.d.sync += failed.eq(1)
                    m.next = "END"
                with m.If(self.abort):
                    m.d.sync += stopped.eq(1)
                    m.next = "END"
            with m.State("END"):
                m.d.comb += reader.stop.eq(1)
                with m.If(~reader.busy):
                    m.d.comb += [reader.clear.eq(1), self.done.eq(1)]
                    m.next = "IDLE"
        m.d.comb += [
            self.running.eq(~fsm.ongoing("IDLE")),
            self.bus_error.eq(self.done & failed),
            self.aborted.eq(self.done & stopped),
        ]

        for counter, counts in (
            (self.frame_clocks, 1),
            (self.weight_stalls, engine.weight_stall),
            (self.drain_stalls, engine.drain_stall),
            (self.layer_stalls, engine.layer_stall),
        ):
            with m.If(self.start):
                m.d.sync += counter.eq(0)
            with m.Elif(computing & counts):
                m.d.sync += counter.eq(counter + 1)
        self._host(m, engine)
        if self.trace_enabled:
            names = ("value_valid", "values", "membranes", "write", "write_row", "write_offset")
            names += ("write_halves", "write_data", "pass_done")
            m.d.comb += [getattr(self.trace, name).eq(getattr(engine, name)) for name in names]
            m.d.comb += self.trace.clock.eq(self.frame_clocks + 1)
        return m

    def _host(self, m, engine):
        """Halves of feature words for the host."""
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
