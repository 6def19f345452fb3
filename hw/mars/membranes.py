"""Membranes that wait in the feature memories for later time steps."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib.data import ArrayLayout
from amaranth.lib.wiring import Component, In, Out
from amaranth.utils import exact_log2

from hw.mars.drain import store_layout
from hw.mars.layout import ADDR_WIDTH, DESCRIPTOR, MAX_GROUPS, MEMBRANE_WORDS, parts_log2
from model.mars.clocks import CHAIN_AFTER, STORED_AFTER, WRITTEN_AFTER
from model.mars.config import KERNELS, NIBBLE, WORD_BITS, WORD_BYTES, WORDS_PER_WRITE

MEMBRANE_WIDTH = 16
MEMBRANES = ArrayLayout(signed(MEMBRANE_WIDTH), KERNELS)
PLANES = MEMBRANE_WIDTH // NIBBLE


def _places(descriptor, part):
    """Where in a word the membranes of a kernel block begin, in pairs of them."""
    n_log2 = exact_log2(KERNELS // 2)
    own_log2 = (n_log2 - parts_log2(descriptor))[:2]  # 0..3, never negative
    return (part << own_log2)[:n_log2]


def own_nibbles(descriptor, words, part):
    """Membranes of a kernel block, the first ones of what is returned, out of a pixel's words.

    Of each plane, their nibbles.
    """
    nibbles = [words.word_select(plane, WORD_BITS) for plane in range(MEMBRANE_WORDS)]
    moved = [(word >> (_places(descriptor, part) << 3))[:WORD_BITS] for word in nibbles]
    return [[word.word_select(k, NIBBLE) for k in range(KERNELS)] for word in moved]


def from_nibbles(descriptor, nibbles):
    """A membrane, of its nibbles; above the highest plane that there is comes its sign."""
    parts = list(nibbles)
    for log2 in range(exact_log2(PLANES)):
        n_planes = 1 << log2
        sign = parts[n_planes - 1][-1].replicate(NIBBLE)
        for plane in range(n_planes, 2 * n_planes):
            parts[plane] = Mux(descriptor.u_planes_log2 > log2, parts[plane], sign)
    return Cat(parts)


def first_lanes(descriptor, membranes, k):
    """For lane k, the first of its group, its membrane of those that lie one behind the other."""
    two, four = (membranes[k // n] for n in (2, MAX_GROUPS))
    return Mux(
        descriptor.groups_log2 == 2, four, Mux(descriptor.groups_log2 == 1, two, membranes[k])
    )


class MembraneStore(Component):
    """Words of membranes for the feature memories; golden: `model.mars.machine.Machine`.

    **Latency**: written WRITTEN_AFTER clocks after `store`, and CHAIN_AFTER more for each further
    group; with several turns STORED_AFTER. **Throughput**: two words per macro and clock.
    **Reset**: nothing under way.

    Parameters
    ----------
    n_macros : int
    n_turns : int
        Of the lanes of post-processing.

    Members
    -------
    descriptor : In(DESCRIPTOR)
    store : In(store_layout(n_macros))
    waiting : In(MEMBRANES) for each team
        What the neurons of its last pixel left.
    write, macros, addr : Out
        Words are written, by which macros, and where.
    mask : Out(16)
        Bytes of two words that are written.
    data : Out(128) for each macro
    """

    def __init__(self, n_macros, n_turns=1):
        self.n_macros = n_macros
        self.n_turns = n_turns
        super().__init__(
            {
                "descriptor": In(DESCRIPTOR),
                "store": In(store_layout(n_macros)),
                "waiting": In(MEMBRANES).array(n_macros),
                "write": Out(1),
                "macros": Out(n_macros),
                "addr": Out(ADDR_WIDTH),
                "mask": Out(WORDS_PER_WRITE * WORD_BYTES),
                "data": Out(WORDS_PER_WRITE * WORD_BITS).array(n_macros),
            }
        )

    def elaborate(self, platform):
        m = Module()
        d = self.descriptor
        now = self._when(m)

        # The membranes of a kernel block: E = 16, 8, 4 or 2 of them.
        parts = parts_log2(d)
        n_bytes = (KERNELS // 2) >> parts
        bytes_ = Signal(WORD_BYTES)
        two = d.u_planes_log2 != 0
        m.d.comb += bytes_.eq(((1 << n_bytes) - 1) << _places(d, now.part))
        m.d.sync += self.write.eq(now.valid)
        with m.If(now.valid):
            m.d.sync += [
                self.macros.eq(now.macros),
                self.addr.eq(d.u_base + now.offset + (now.pair << 1)),
                self.mask.eq(Cat(bytes_, Mux(two, bytes_, 0))),
            ]
        by_team = [self._words(m, now, team) for team in range(self.n_macros)]
        for macro, data in enumerate(self.data):
            with m.If(now.valid), m.Switch(d.split_log2):
                for log2 in range(exact_log2(self.n_macros) + 1):
                    with m.Case(log2):
                        m.d.sync += data.eq(by_team[macro >> log2])
        return m

    def _when(self, m):
        """The words whose membranes are there in this clock."""
        layout = store_layout(self.n_macros)
        now = Signal(layout)
        if self.n_turns > 1:
            before = self.store
            for clock in range(1, STORED_AFTER):
                before = self._later(m, clock, before)
            m.d.comb += now.eq(before)
            return now
        at = {
            WRITTEN_AFTER - 1 + CHAIN_AFTER * ((1 << log2) - 1): log2
            for log2 in range(exact_log2(MAX_GROUPS) + 1)
        }
        before = self.store
        for clock in range(1, max(at) + 1):
            before = store = self._later(m, clock, before)
            if clock in at:
                # Nothing goes on from where it is used: the next pass may look further behind.
                before = Signal(layout, name=f"unused_{clock}")
                m.d.comb += before.eq(store)
                with m.If(self.descriptor.groups_log2 == at[clock]):
                    m.d.comb += [now.eq(store), before.valid.eq(0)]
        return now

    def _later(self, m, clock, before):
        """What is stored one clock later; only what is valid moves."""
        store = Signal.like(before, name=f"store_{clock}")
        m.d.sync += store.valid.eq(before.valid)
        with m.If(before.valid):
            m.d.sync += store.eq(before)
        return store

    def _words(self, m, now, team):
        """Two words with the membranes of a team in their places."""
        d = self.descriptor
        words = []
        for word in range(WORDS_PER_WRITE):
            nibbles = Signal(WORD_BITS, name=f"nibbles_{team}_{word}")
            placed = Signal(WORD_BITS, name=f"placed_{team}_{word}")
            own = [
                Mux(now.pair, kept[8:], kept[:8]).word_select(word, NIBBLE)
                for kept in (lane.as_unsigned() for lane in self.waiting[team])
            ]
            with m.Switch(d.groups_log2):
                for log2 in range(exact_log2(MAX_GROUPS) + 1):
                    with m.Case(log2):
                        m.d.comb += nibbles.eq(Cat(own[:: 1 << log2]))
            m.d.comb += placed.eq(nibbles << (_places(d, now.part) << 3))
            words.append(placed)
        return Cat(words)
