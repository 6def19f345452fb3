"""Fetches the lines of a segment, region by region."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import Component, In, Out, connect, flipped
from amaranth.utils import exact_log2

from hw.bus.axi4 import ADDR_WIDTH, INCR, NORMAL_MEMORY, OKAY, AXI4ReadSignature
from hw.mars.regions import COUNT_WIDTH, LINE_ADDR_WIDTH, REGION
from hw.memory import TwoPortMemory
from model.mars.config import LINE_BITS
from model.mars.memory import BURST_LINES

BURST_BYTES = BURST_LINES * LINE_BITS // 8


class LineBuffer(Component):
    """First in, first out for lines that arrive in parts.

    **Latency**: a line is valid 2 clocks after the part that completes it. **Throughput**: one
    part and one line per clock. **Reset**: empty.

    Parameters
    ----------
    depth, part_width : int
        Lines, a power of two, and bits per part. One more line is held at the output.

    Members
    -------
    w_mask, w_data : In
        Write the parts of which the bit is set.
    complete : In(1)
        The line is complete with this part. Must not be given when `level` is `depth`.
    clear : In(1)
        Forget all lines.
    level : Out
        Complete lines, without the one at the output.
    lines : Out(stream.Signature(512))
    """

    def __init__(self, depth, part_width):
        self.depth = depth
        self.part_width = part_width
        super().__init__(
            {
                "w_mask": In(LINE_BITS // part_width),
                "w_data": In(part_width),
                "complete": In(1),
                "clear": In(1),
                "level": Out(range(depth + 1)),
                "lines": Out(stream.Signature(LINE_BITS)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        lines = self.lines
        m.submodules.memory = memory = TwoPortMemory(
            depth=self.depth, width=LINE_BITS, granularity=self.part_width
        )
        # One bit more than an address tells full from empty.
        w_line = Signal(exact_log2(self.depth) + 1)
        r_line = Signal.like(w_line)
        fetch = Signal()
        m.d.comb += [
            self.level.eq(w_line - r_line),
            fetch.eq((self.level != 0) & (~lines.valid | lines.ready)),
            memory.w_mask.eq(self.w_mask),
            memory.w_addr.eq(w_line),
            memory.w_data.eq(self.w_data.replicate(len(self.w_mask))),
            memory.r_enable.eq(fetch),
            memory.r_addr.eq(r_line),
            lines.payload.eq(memory.r_data),
        ]
        m.d.sync += [w_line.eq(w_line + self.complete), r_line.eq(r_line + fetch)]
        with m.If(fetch):
            m.d.sync += lines.valid.eq(1)
        with m.Elif(lines.ready):
            m.d.sync += lines.valid.eq(0)
        with m.If(self.clear):
            m.d.sync += [w_line.eq(0), r_line.eq(0), lines.valid.eq(0)]
        return m


class LineReader(Component):
    """Reads regions of memory, one after the other, golden function `model.mars.memory`.

    Bursts are 8 lines and begin at multiples of 512 bytes, so that none ever crosses 4 KB; those at
    the ends of a region are shorter. One is asked for when the buffer has
    room for all of it, so that a beat never waits. `rid` and `rlast` are ignored: everything comes
    in order and in whole lines.

    **Latency**, with the first region in clock 0 and N beats per line: burst b is decided in clock
    ``d[b] = max(d[b-1] + 1, f + 1)``, one later for every region that ended before; d[-1] is
    0, and f is the clock in which the line ``line_buffer`` before its last one was fetched out of
    the buffer. `arvalid` rises in ``d + 1``; until it is taken the next one is not decided. A line
    whose last beat comes in clock r is fetched in ``f = max(r + 1, clock in which the line before
    it was taken)`` and valid in ``f + 1``. `error` comes 1 clock after its beat.
    **Throughput**: one line per N clocks as long as ``line_buffer - 8`` lines cover the latency.
    **Reset**: nothing to read, buffer empty.

    Parameters
    ----------
    config : MarsConfig

    Members
    -------
    axi : Out(AXI4ReadSignature(config.weight_bus))
    start : In(1)
        Regions may follow; given only when not `busy` and all lines are taken or cleared.
    regions : In(stream.Signature(REGION))
        What is read, from the clock of `start` on.
    stop : In(1)
        Ask for no more lines, and drop those that were not complete before; until the next `start`.
    clear : In(1)
        Empty the buffer; given only when not `busy`.
    lines : Out(stream.Signature(512))
        Lowest address in the lowest bits.
    error : Out(1)
        A beat came with an error. As after `stop`, its line and later ones are dropped; one clock
        per `start` at most, and not later than `busy` falls.
    busy : Out(1)
        From the clock after a region's until every line was asked for, or given up, and every beat
        that was asked for has come.
    """

    def __init__(self, config):
        self.config = config
        super().__init__(
            {
                "axi": Out(AXI4ReadSignature(config.weight_bus)),
                "start": In(1),
                "regions": In(stream.Signature(REGION)),
                "stop": In(1),
                "clear": In(1),
                "lines": Out(stream.Signature(LINE_BITS)),
                "error": Out(1),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        axi, config = self.axi, self.config
        n_beats = config.beats_per_line
        m.submodules.buffer = buffer = LineBuffer(config.line_buffer, config.weight_bus)
        connect(m, buffer.lines, flipped(self.lines))

        line = Signal(LINE_ADDR_WIDTH)
        n_left = Signal(COUNT_WIDTH)
        n_outstanding = Signal(range(config.line_buffer + 1))
        halted = Signal()

        n_whole, n_burst = Signal(range(BURST_LINES + 1)), Signal(range(BURST_LINES + 1))
        n_used = Signal(range(config.line_buffer + BURST_LINES + 1))
        request = Signal()
        m.d.comb += [
            n_whole.eq(BURST_LINES - line[: exact_log2(BURST_LINES)]),
            n_burst.eq(Mux(n_left < n_whole, n_left, n_whole)),
            n_used.eq(buffer.level + n_outstanding + n_burst),
            request.eq(
                (n_left != 0)
                & (n_used <= config.line_buffer)
                & (~axi.arvalid | axi.arready)
                & ~self.stop
            ),
            axi.arsize.eq(exact_log2(config.weight_bus // 8)),
            axi.arburst.eq(INCR),
            axi.arcache.eq(NORMAL_MEMORY),
        ]
        with m.If(request):
            m.d.sync += [
                axi.arvalid.eq(1),
                axi.araddr.eq(line << (ADDR_WIDTH - LINE_ADDR_WIDTH)),
                axi.arlen.eq(n_burst * n_beats - 1),
                line.eq(line + n_burst),
                n_left.eq(n_left - n_burst),
            ]
        with m.Elif(axi.arready):
            m.d.sync += axi.arvalid.eq(0)
        regions = self.regions
        m.d.comb += regions.ready.eq((n_left == 0) & (self.start | ~halted & ~self.stop))
        with m.If(regions.valid & regions.ready):
            m.d.sync += [line.eq(regions.payload.line), n_left.eq(regions.payload.n_lines)]

        # One hot: which beat of a line comes next.
        beat = Signal(n_beats, init=1)
        line_ends = Signal()
        bad = Signal()
        keep = Signal()
        m.d.comb += [
            axi.rready.eq(1),
            line_ends.eq(axi.rvalid & beat[-1]),
            bad.eq(axi.rvalid & (axi.rresp != OKAY) & ~halted),
            keep.eq(axi.rvalid & ~halted & ~self.stop & ~bad),
            buffer.w_mask.eq(beat & keep.replicate(n_beats)),
            buffer.w_data.eq(axi.rdata),
            buffer.complete.eq(keep & beat[-1]),
            buffer.clear.eq(self.clear),
            self.busy.eq((n_outstanding != 0) | (n_left != 0)),
        ]
        with m.If(axi.rvalid):
            m.d.sync += beat.eq(beat.rotate_left(1))
        m.d.sync += [
            n_outstanding.eq(n_outstanding + Mux(request, n_burst, 0) - line_ends),
            self.error.eq(bad),
        ]

        with m.If(self.start):
            m.d.sync += halted.eq(0)
        with m.If(self.stop | bad):
            m.d.sync += [n_left.eq(0), halted.eq(1)]
        return m
