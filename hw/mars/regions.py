"""What a segment reads, region by region."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import Component, In, Out

from hw.bus.axi4 import ADDR_WIDTH
from hw.mars.layout import DESCRIPTOR
from model.mars.config import LINE_BITS
from model.mars.layout import DESCRIPTOR_LINES, MAX_LOADS

COUNT_WIDTH = 24
LINE_ADDR_WIDTH = ADDR_WIDTH - (LINE_BITS // 8 - 1).bit_length()
REGION = StructLayout({"line": LINE_ADDR_WIDTH, "n_lines": COUNT_WIDTH})
"""Lines of 64 byte, the first one's address and how many."""
LAST = 2 * MAX_LOADS
"""The rest of the program, behind the descriptor and the lines of each map."""
NOTHING = LAST + 1


class Regions(Component):
    """The regions of one segment after the other, golden: `model.mars.image.Image.segments`.

    A segment that the host starts, and one that takes later time steps, reads the input packet and
    the program. The one behind a segment that ended with a store reads for each of its maps a
    descriptor out of the program, then the map; then the rest of its part of the program.

    **Latency**: the first region is valid with `start`, and 1 clock after `again` or `onward`.
    **Throughput**: one region per clock. **Reset**: nothing to read.

    Members
    -------
    input, program, scratch : In(26)
        Addresses of lines, with `start`; the first one also with `again`, that of the other packet.
    input_lines, program_lines : In(24)
    start, again, onward : In(1)
        The host's frame; the same with another input packet; the segment that `descriptor` tells.
    descriptor : In(DESCRIPTOR)
    stop : In(1)
        No more regions.
    regions : Out(stream.Signature(REGION))
    """

    input: In(LINE_ADDR_WIDTH)
    program: In(LINE_ADDR_WIDTH)
    scratch: In(LINE_ADDR_WIDTH)
    input_lines: In(COUNT_WIDTH)
    program_lines: In(COUNT_WIDTH)
    start: In(1)
    again: In(1)
    onward: In(1)
    descriptor: In(DESCRIPTOR)
    stop: In(1)
    regions: Out(stream.Signature(REGION))

    def elaborate(self, platform):
        m = Module()
        d, region = self.descriptor, self.regions.payload
        at = Signal(range(NOTHING + 1), init=NOTHING)
        packet, first, program, scratch = (
            Signal(LINE_ADDR_WIDTH, name=name)
            for name in ("packet", "first", "program_line", "scratch_line")
        )
        rest = Signal(COUNT_WIDTH)
        maps = [Signal(REGION, name=f"map_{k}") for k in range(MAX_LOADS)]

        m.d.comb += self.regions.valid.eq(self.start | (at != NOTHING))
        with m.Switch(at):
            for k, of_map in enumerate(maps):
                with m.Case(2 * k):
                    m.d.comb += [region.line.eq(program), region.n_lines.eq(DESCRIPTOR_LINES)]
                with m.Case(2 * k + 1):
                    m.d.comb += region.eq(of_map)
            with m.Case(LAST):
                m.d.comb += [region.line.eq(program), region.n_lines.eq(rest)]
        with m.If(self.start):
            m.d.comb += [region.line.eq(self.input), region.n_lines.eq(self.input_lines)]

        with m.If(self.regions.valid & self.regions.ready):
            m.d.sync += at.eq(at + 1)
            with m.If(~at[0]):
                m.d.sync += program.eq(program + region.n_lines)
        with m.If(self.stop):
            m.d.sync += at.eq(NOTHING)
        with m.If(self.onward):
            m.d.sync += [at.eq(Mux(d.load_lines_0 == 0, 2, 0)), rest.eq(d.next_lines)]
            for k, of_map in enumerate(maps):
                base = Mux(d[f"load_input_{k}"], packet, scratch)
                m.d.sync += [
                    of_map.line.eq(base + d[f"load_line_{k}"]),
                    of_map.n_lines.eq(d[f"load_lines_{k}"]),
                ]
        with m.If(self.again):
            m.d.sync += [
                at.eq(LAST - 1),
                maps[-1].line.eq(self.input),
                maps[-1].n_lines.eq(self.input_lines),
                program.eq(first),
                rest.eq(self.program_lines),
            ]
        with m.If(self.start):
            m.d.sync += [
                at.eq(LAST),
                packet.eq(self.input),
                first.eq(self.program),
                program.eq(self.program),
                scratch.eq(self.scratch),
                rest.eq(self.program_lines),
            ]
        return m
