"""Collects a result out of the feature memories, word by word."""

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import Component, In, Out

from hw.mars.layout import ADDR_WIDTH, DESCRIPTOR
from hw.mars.map_writer import STORED_WORD
from model.mars.config import WORD_BITS


class Collector(Component):
    """Reads the words of a pass that stores, golden: `model.mars.machine.Machine`.

    Team by team: its first macro has `team_words` of them one behind the other.

    **Latency**: the first word is valid 2 clocks after `start`. **Throughput**: one word per clock.
    **Reset**: nothing to read.

    Parameters
    ----------
    n_macros : int

    Members
    -------
    descriptor : In(DESCRIPTOR)
    start : In(1)
        The pass begins.
    read, addr, data : Out of every macro, Out(16), In of every macro
        Reads a feature word, which is there 1 clock later and stays.
    words : Out(stream.Signature(STORED_WORD))
    """

    def __init__(self, n_macros):
        self.n_macros = n_macros
        super().__init__(
            {
                "descriptor": In(DESCRIPTOR),
                "start": In(1),
                "read": Out(1).array(n_macros),
                "addr": Out(ADDR_WIDTH),
                "data": In(WORD_BITS).array(n_macros),
                "words": Out(stream.Signature(STORED_WORD)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        d, words = self.descriptor, self.words
        bases = Array(d[f"in_base_{macro}"] for macro in range(self.n_macros))
        words_left = Signal.like(d.n_words)
        team_left = Signal.like(d.team_words)
        macro, next_macro = Signal(range(self.n_macros)), Signal(range(self.n_macros))
        place = Signal.like(d.pixel_words)
        read = Signal()
        m.d.comb += [
            read.eq((words_left != 0) & (~words.valid | words.ready)),
            next_macro.eq(macro + (1 << d.split_log2)),
        ]
        for k, reads in enumerate(self.read):
            m.d.comb += reads.eq(read & (macro == k))
        macro_1 = Signal.like(macro)
        with m.If(read):
            m.d.sync += [
                words.valid.eq(1),
                words.payload.kept.eq((place >= d.kept_word) & (place < d.kept_end)),
                macro_1.eq(macro),
                words_left.eq(words_left - 1),
                team_left.eq(team_left - 1),
                self.addr.eq(self.addr + 1),
                place.eq(Mux(place + 1 == d.pixel_words, 0, place + 1)),
            ]
            with m.If(team_left == 1):
                m.d.sync += [
                    team_left.eq(d.team_words),
                    macro.eq(next_macro),
                    self.addr.eq(bases[next_macro]),
                ]
        with m.Elif(words.ready):
            m.d.sync += words.valid.eq(0)
        m.d.comb += words.payload.data.eq(Array(self.data)[macro_1])
        with m.If(self.start):
            m.d.sync += [
                words_left.eq(d.n_words),
                team_left.eq(d.team_words),
                macro.eq(0),
                place.eq(0),
                self.addr.eq(bases[0]),
            ]
        return m
