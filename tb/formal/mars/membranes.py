"""Membranes that a round reads are not under way to be written by an earlier one."""

from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib.data import StructLayout, View
from amaranth.lib.wiring import Component, In, Out
from amaranth.utils import exact_log2

from hw.mars.drain import Drain, store_layout
from hw.mars.engine import PassEnd
from hw.mars.layout import (
    ADDR_WIDTH,
    DESCRIPTOR,
    ENTRIES_WIDTH,
    MAX_GROUPS,
    fires,
    parts_log2,
)
from hw.mars.membranes import MembraneStore
from hw.mars.walker import ROUND, STEP, Walker
from model.mars.clocks import BLOCK_SLOTS, CHAIN_AFTER, DRAIN_AFTER, WRITTEN_AFTER
from model.mars.config import WORD_BYTES
from tb.formal.harness import ARITHMETIC, Harness, Proof

N_MACROS = 2
STORE = store_layout(N_MACROS)
STATES = ("DESCRIPTOR", "BEGIN", "FINISH", "WAIT", "STEP", "FILL")
"""Of the walker, in the order in which Amaranth numbers them, that of their first mention."""
IDLE = 0
"""Of the drain."""
LONGEST = WRITTEN_AFTER - 1 + CHAIN_AFTER * (MAX_GROUPS - 1)
"""Clocks that a store waits, with four groups."""


class MembranePath(Component):
    """Walker, drain, store and end of a pass, joined as in `hw.mars.engine.Engine`.

    Sums and contents of membranes are left out: they decide nothing here.
    """

    loading: In(DESCRIPTOR)
    described: In(1)
    later: In(1)
    loaded: In(1)
    entries: In(ENTRIES_WIDTH).array(BLOCK_SLOTS)
    features_done: In(1)
    descriptor: Out(DESCRIPTOR)
    take: Out(1)
    step: Out(STEP)
    round: Out(ROUND)
    store: Out(STORE)
    pass_done: Out(1)
    writes: Out(1)

    def elaborate(self, platform):
        m = Module()
        m.submodules.walker = walker = Walker()
        m.submodules.drain = drain = Drain(N_MACROS)
        m.submodules.membranes = store = MembraneStore(N_MACROS)
        m.submodules.pass_end = pass_end = PassEnd()
        m.d.comb += [
            walker.loading.eq(self.loading),
            walker.described.eq(self.described),
            walker.later.eq(self.later),
            walker.loaded.eq(self.loaded),
            *(own.eq(given) for own, given in zip(walker.entries, self.entries, strict=True)),
            drain.descriptor.eq(walker.descriptor),
            drain.round_done.eq(walker.round_done),
            drain.round.eq(walker.round),
            store.descriptor.eq(walker.descriptor),
            store.store.eq(drain.store),
            pass_end.descriptor.eq(walker.descriptor),
            pass_end.last_word.eq(drain.last_word),
            pass_end.features_done.eq(self.features_done),
            walker.pass_done.eq(pass_end.pass_done),
            self.descriptor.eq(walker.descriptor),
            self.take.eq(walker.take),
            self.step.eq(walker.step),
            self.round.eq(walker.round),
            self.store.eq(drain.store),
            self.pass_done.eq(pass_end.pass_done),
            self.writes.eq(store.write),
        ]
        return m


@dataclass(frozen=True)
class _Chain:
    """What is between a round's last step and the words that it writes, oldest behind.

    `rounds` are in the walker's registers and `drained` in the drain, if `valid` and `draining`;
    `stores` wait for the neurons.
    """

    rounds: list[View]
    valid: Value
    drained: View
    draining: Value
    stores: list[View]

    @property
    def waiting(self) -> Value:
        """Which of the stores are there."""
        return Cat(store.valid for store in self.stores)


def _chain(h: Harness, path: MembranePath) -> _Chain:
    clocks = range(1, DRAIN_AFTER)
    return _Chain(
        [_fields(h, f"walker.round_info_{clock}", ROUND) for clock in clocks],
        Cat(h.probe(f"walker.round_valid_{clock}", 1) for clock in clocks),
        _fields(h, "drain.now", ROUND),
        h.probe("drain.drain_state", 3) != IDLE,
        [path.store, *(_fields(h, f"membranes.store_{k}", STORE) for k in range(1, LONGEST + 1))],
    )


def _fields(h: Harness, path: str, layout: StructLayout) -> View:
    """A structure inside of the block, field by field."""
    parts = [h.probe(f"{path}.{name}", field.width) for name, field in layout]
    whole = Signal(layout, name=path.replace(".", "_"))
    h.m.d.comb += whole.eq(Cat(parts))
    return whole


def state(h: Harness) -> None:
    """A pass begins behind the stores of the one before; in a pass a place has one round."""
    path = h.block(MembranePath())
    h.assume("groups_exist", path.loading.groups_log2 < 3)
    h.assume("split_exists", path.loading.split_log2 <= exact_log2(N_MACROS))
    h.assume("an_input_has_no_time", ~path.loading.timed, path.loading.is_input)
    chain = _chain(h, path)
    _order(h, path, chain)
    _places(h, path, chain)


def _order(h: Harness, path: MembranePath, chain: _Chain) -> None:
    """The end of a pass comes when its last store is being written."""
    d = path.descriptor
    walker = h.probe("walker.walker_state", 3)
    finishing = walker == STATES.index("FINISH")
    describing = walker == STATES.index("DESCRIPTOR")
    # The loader's first line of features comes behind the descriptor's, and has one end.
    once = d.is_input & finishing & ~h.past(path.features_done)
    h.assume("features_end_once_behind_their_descriptor", once, path.features_done)

    valid, draining, waiting = chain.valid, chain.draining, chain.waiting
    written = h.probe("pass_end.written", WRITTEN_AFTER + CHAIN_AFTER * (MAX_GROUPS - 1))
    features_written = h.probe("pass_end.features_written", 1)
    under_way = h.define("under_way", valid.any() | draining | waiting.any())
    ends = h.define("ends", written.any())
    h.always("nothing_waits_when_a_pass_is_taken", ~under_way, path.take)
    h.always("nothing_is_written_behind_the_end", ~waiting.any(), h.past(path.pass_done))
    h.always("nothing_is_read_behind_the_last_word", ~path.step.membranes, ends)

    # Why: nothing comes behind the last round of a pass.
    h.always("state_exists", walker < len(STATES))
    h.always("groups_there_are", d.groups_log2 < 3)
    h.always("input_has_no_time", ~d.timed, d.is_input)
    idle = ~under_way & ~ends
    h.always("input_has_no_rounds", idle & finishing, d.is_input & ~describing)
    h.always("features_are_of_an_input", d.is_input & finishing, features_written)
    h.always("nothing_before_a_pass", idle, describing)
    lasts = [valid[k] & one.last_of_pass for k, one in enumerate(chain.rounds)]
    for k, last in enumerate(lasts):
        h.always(f"last_round_{k}", finishing & ~valid[:k].any() & ~ends, last)
    last_drained = draining & chain.drained.last_of_pass
    h.always("last_drained", finishing & ~valid.any() & ~ends, last_drained)
    h.always("last_written", finishing & ~valid.any() & ~draining, ends)
    comes = Cat(lasts).any() | last_drained | ends
    h.always("an_end_comes", comes | d.is_input | d.is_store, finishing)
    longest = WRITTEN_AFTER - 1 + CHAIN_AFTER * ((1 << d.groups_log2) - 1)
    for k in range(1, LONGEST + 1):
        h.always(f"store_waits_no_longer_{k}", fires(d) & (k <= longest), waiting[k])
        h.always(f"no_store_behind_the_last_{k}", ~waiting[: k + 1].any(), written[k])
    h.always("one_end", (written & (written - 1)) == 0)
    until = Mux(fires(d), longest, WRITTEN_AFTER - 1)
    for k in range(len(written)):
        h.always(f"end_comes_in_time_{k}", k <= until, written[k])
    h.reached("ends_with_a_store", path.pass_done & path.writes)


def _places(h: Harness, path: MembranePath, chain: _Chain) -> None:
    """Any byte of any word: what waits to be written there is of a round that read it before."""
    d = path.descriptor
    offset, byte = h.fixed("offset", ADDR_WIDTH), h.fixed("byte", exact_log2(WORD_BYTES))
    macro = h.fixed("macro", exact_log2(N_MACROS))

    def in_word(part):
        """The place is among the bytes of this part of the word."""
        own = (byte << parts_log2(d))[exact_log2(WORD_BYTES) :]
        return own == part & ((1 << parts_log2(d)) - 1)

    def of_round(one):
        inside = (offset - one.u_offset)[:ADDR_WIDTH] < 1 << d.u_planes_log2
        return inside & (one.u_macro == macro) & in_word(one.part)

    def of_store(one):
        word = (offset - one.offset - (one.pair << 1))[:ADDR_WIDTH]
        place = (1 << d.split_log2) - 1
        mine = Cat(one.macros[k] & (k & place == macro) for k in range(N_MACROS)).any()
        return one.valid & mine & in_word(one.part) & (word < Mux(d.u_planes_log2 == 0, 1, 2))

    block = h.past(h.probe("walker.block", 16))
    word = (path.step.u_offset + path.step.u_plane)[:ADDR_WIDTH]
    is_here = (word == offset) & (path.step.u_macro == macro) & in_word(block)
    reads = h.define("reads", path.step.membranes & is_here)
    had = h.register("had", 1)
    h.next(had, 1, chain.valid[0] & of_round(chain.rounds[0]))
    h.next(had, 0, path.take)
    # The compiler's contract; what the walker's offsets are is seen in its bench.
    h.assume("a_place_has_one_round_of_a_pass", ~had, reads)

    older = [chain.valid[k] & of_round(one) for k, one in enumerate(chain.rounds) if k]
    drained = chain.draining & of_round(chain.drained)
    stores = [of_store(one) for one in chain.stores]
    for k, there in enumerate([*older, drained, *stores]):
        h.always(f"nothing_waits_for_what_is_read_{k}", ~there, reads)
        h.always(f"what_waits_was_a_round_{k}", had, there)
    # Why: the drain stores where its round's words are.
    keepers = h.probe("drain.keepers", N_MACROS)
    place = (1 << d.split_log2) - 1
    h.always("split_there_is", d.split_log2 <= exact_log2(N_MACROS))
    for k in range(N_MACROS):
        h.always(f"keeper_{k}", chain.drained.u_macro == (k & place), chain.draining & keepers[k])
    for k, one in enumerate((*chain.rounds, chain.drained)):
        there = chain.draining if k == len(chain.rounds) else chain.valid[k]
        h.always(f"place_{k}", one.u_macro <= place, there)
    h.reached("reads_and_stores", path.writes & h.past(path.step.membranes))


PROOFS = (
    Proof(
        name="membranes",
        says="membranes that a round reads are not under way to be written by an earlier one, of "
        "its pass or the one before",
        state=state,
        depth=2,
        reach=18,
        engine=ARITHMETIC,
        broken="proof.dut.pass_end proof.dut.walker/w:walker_state %ci2 "
        "proof.dut.walker/w:blocks_left %ci2 proof.dut.drain/w:keepers %ci2",
    ),
)
