"""Writes words to memory, one behind the other."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import Component, In, Out
from amaranth.utils import exact_log2

from hw.bus.axi4 import ADDR_WIDTH, INCR, NORMAL_MEMORY, OKAY, AXI4WriteSignature
from hw.mars.line_reader import BURST_BYTES, COUNT_WIDTH
from model.mars.config import WORD_BITS, WORD_BYTES

STORED_WORD = StructLayout({"data": WORD_BITS, "kept": 1})
"""A word of a map; the memory keeps what it has if the word is not `kept`."""


class MapWriter(Component):
    """Packs words into beats and bursts, golden function `model.mars.memory.LineSource.store`.

    Bursts end at multiples of 512 bytes, so that none ever crosses 4 KB. A burst's request comes
    together with its first beat, so that a burst that was asked for can always be ended.

    **Latency**: `awvalid` and `wvalid` rise 1 clock after the word that completes a beat; `done`
    comes 1 clock after the last answer, `error` 1 clock after its answer. **Throughput**: one word
    per clock. **Reset**: nothing to write.

    Parameters
    ----------
    bus : int
        Bits of a beat.

    Members
    -------
    axi : Out(AXI4WriteSignature(bus))
    start : In(1)
        Given only when not `busy`.
    addr, n_words : In(32), In(24)
        Byte address of the first word, a multiple of 8, and how many there are, at least 1; with
        `start`.
    words : In(stream.Signature(STORED_WORD))
    stop : In(1)
        Begin no more bursts, and end the one under way with beats that write nothing; until the
        next `start`.
    done : Out(1)
        One clock: everything is written and answered.
    error : Out(1)
        An answer was an error. As after `stop`; one clock per `start` at most.
    busy : Out(1)
        From the clock after `start` until everything that was asked for is written and answered.
    """

    def __init__(self, bus):
        self.bus = bus
        super().__init__(
            {
                "axi": Out(AXI4WriteSignature(bus)),
                "start": In(1),
                "addr": In(ADDR_WIDTH),
                "n_words": In(COUNT_WIDTH),
                "words": In(stream.Signature(STORED_WORD)),
                "stop": In(1),
                "done": Out(1),
                "error": Out(1),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        axi = self.axi
        per_beat = self.bus // WORD_BITS
        place_bits = exact_log2(per_beat)
        beat_log2 = exact_log2(self.bus // 8)
        per_burst = BURST_BYTES * 8 // self.bus

        words_left = Signal(COUNT_WIDTH)
        beats_left = Signal(COUNT_WIDTH)
        place = Signal(place_bits)
        beat_addr = Signal(ADDR_WIDTH - beat_log2)
        burst_left = Signal(range(per_burst + 1))
        n_waiting = Signal(COUNT_WIDTH)
        active, halted = Signal(), Signal()

        # A beat that is complete goes on at once.
        completes, goes_on = Signal(), Signal()
        begins, sends, fills = Signal(), Signal(), Signal()
        in_burst = Signal(range(per_burst))
        n_burst = Signal(range(per_burst + 1))
        m.d.comb += [
            in_burst.eq(beat_addr),
            n_burst.eq(Mux(beats_left < per_burst - in_burst, beats_left, per_burst - in_burst)),
            completes.eq((place == per_beat - 1) | (words_left == 1)),
            begins.eq(burst_left == 0),
            goes_on.eq((~axi.wvalid | axi.wready) & (~begins | ~axi.awvalid | axi.awready)),
            self.words.ready.eq((words_left != 0) & (~completes | goes_on) & ~halted & ~self.stop),
            sends.eq(self.words.valid & self.words.ready & completes),
            fills.eq(halted & ~begins & goes_on),
        ]
        data = Signal(self.bus, reset_less=True)
        kept = Signal(per_beat)
        all_data, all_kept = Signal(self.bus), Signal(per_beat)
        word = self.words.payload
        m.d.comb += [all_data.eq(data), all_kept.eq(kept)]
        m.d.comb += all_data.word_select(place, WORD_BITS).eq(word.data)
        m.d.comb += all_kept.bit_select(place, 1).eq(word.kept)
        with m.If(self.words.valid & self.words.ready):
            m.d.sync += [
                data.eq(all_data),
                kept.eq(Mux(completes, 0, all_kept)),
                place.eq(place + 1),
                words_left.eq(words_left - 1),
            ]
            with m.If(completes):
                m.d.sync += place.eq(0)

        with m.If(sends | fills):
            m.d.sync += [
                axi.wvalid.eq(1),
                axi.wdata.eq(all_data),
                axi.wstrb.eq(Mux(fills, 0, Cat(k.replicate(WORD_BYTES) for k in all_kept))),
                axi.wlast.eq(Mux(begins, n_burst, burst_left) == 1),
                burst_left.eq(Mux(begins, n_burst, burst_left) - 1),
                beats_left.eq(beats_left - 1),
                beat_addr.eq(beat_addr + 1),
            ]
        with m.Elif(axi.wready):
            m.d.sync += axi.wvalid.eq(0)
        with m.If(sends & begins):
            m.d.sync += [
                axi.awvalid.eq(1),
                axi.awaddr.eq(beat_addr << beat_log2),
                axi.awlen.eq(n_burst - 1),
            ]
        with m.Elif(axi.awready):
            m.d.sync += axi.awvalid.eq(0)

        bad = Signal()
        idle = ~axi.wvalid & ~axi.awvalid & (n_waiting == 0)
        m.d.comb += [
            axi.awsize.eq(beat_log2),
            axi.awburst.eq(INCR),
            axi.awcache.eq(NORMAL_MEMORY),
            axi.bready.eq(1),
            bad.eq(axi.bvalid & (axi.bresp != OKAY) & ~halted),
            self.done.eq(active & (words_left == 0) & idle & ~halted),
            self.busy.eq(~idle | (burst_left != 0) | (active & ~halted)),
        ]
        m.d.sync += [
            n_waiting.eq(n_waiting + (sends & begins) - axi.bvalid),
            self.error.eq(bad),
        ]
        with m.If(self.done):
            m.d.sync += active.eq(0)
        with m.If(self.stop | bad):
            m.d.sync += halted.eq(1)
        with m.If(self.start):
            first = self.addr[exact_log2(WORD_BYTES) : beat_log2]
            m.d.sync += [
                active.eq(1),
                halted.eq(0),
                words_left.eq(self.n_words),
                beats_left.eq((first + self.n_words + per_beat - 1) >> place_bits),
                place.eq(first),
                kept.eq(0),
                beat_addr.eq(self.addr >> beat_log2),
            ]
        return m
