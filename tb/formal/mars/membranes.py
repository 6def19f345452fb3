"""Membranes that rounds read are never under way to be written by earlier ones."""

from amaranth.hdl import Cat, Module, Mux
from amaranth.lib.wiring import Component, In, Out

from hw.mars.drain import Drain
from hw.mars.engine import PassEnd
from hw.mars.layout import DESCRIPTOR, ENTRIES_WIDTH, fires
from hw.mars.membranes import MembraneStore
from hw.mars.walker import ROUND, Walker
from model.mars.clocks import BLOCK_SLOTS, CHAIN_AFTER, DRAIN_AFTER, WRITTEN_AFTER
from tb.formal.harness import Harness, Proof

N_MACROS = 2
STATES = ("DESCRIPTOR", "BEGIN", "FINISH", "WAIT", "STEP")
"""Of the walker, in the order in which Amaranth numbers them, that of their first mention."""
IDLE = 0
"""Of the drain."""
LONGEST = WRITTEN_AFTER - 1 + CHAIN_AFTER * 3
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
    reads: Out(1)
    round_done: Out(1)
    round: Out(ROUND)
    stores: Out(1)
    last_word: Out(1)
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
            self.reads.eq(walker.step.membranes),
            self.round_done.eq(walker.round_done),
            self.round.eq(walker.round),
            self.stores.eq(drain.store.valid),
            self.last_word.eq(drain.last_word),
            self.pass_done.eq(pass_end.pass_done),
            self.writes.eq(store.write),
        ]
        return m


def passes(h: Harness) -> None:
    """A pass begins when the stores of the one before have been written."""
    path = h.block(MembranePath())
    d = path.descriptor
    h.assume("groups_exist", path.loading.groups_log2 < 3)
    h.assume("features_of_an_input", d.is_input, path.features_done)
    h.assume("an_input_has_no_time", ~path.loading.timed, path.loading.is_input)
    # The loader's first line of features comes behind the descriptor's.
    walker = h.probe("walker.walker_state", 3)
    finishing = walker == STATES.index("FINISH")
    describing = walker == STATES.index("DESCRIPTOR")
    once = finishing & ~h.past(path.features_done)
    h.assume("features_once_behind_their_descriptor", once, path.features_done)

    rounds, lasts = [], []
    for clock in range(1, DRAIN_AFTER):
        rounds.append(h.probe(f"walker.round_valid_{clock}", 1))
        lasts.append(h.probe(f"walker.round_info_{clock}.last_of_pass", 1))
    draining = h.probe("drain.drain_state", 3) != IDLE
    drains_last = h.probe("drain.now.last_of_pass", 1)
    waiting = Cat(h.probe(f"membranes.store_{k}.valid", 1) for k in range(1, LONGEST + 1))
    written = h.probe("pass_end.written", WRITTEN_AFTER + CHAIN_AFTER * 3)
    features_written = h.probe("pass_end.features_written", 1)

    under_way = Cat(rounds).any() | draining | path.stores | waiting.any()
    h.always("nothing_waits_when_a_pass_is_taken", ~under_way, path.take)
    h.always("nothing_is_written_behind_the_end", ~waiting.any(), h.past(path.pass_done))
    h.always("nothing_is_read_while_one_waits_for_its_end", ~path.reads, written.any())

    # Why: in which order things happen at the end of a pass.
    h.always("state_exists", walker < len(STATES))
    h.always("groups_there_are", d.groups_log2 < 3)
    h.always("input_has_no_time", ~d.timed, d.is_input)
    h.always(
        "input_has_no_rounds", ~under_way & ~written.any() & finishing, d.is_input & ~describing
    )
    h.always("features_are_of_an_input", d.is_input & finishing, features_written)
    h.always("nothing_before_a_pass", ~under_way & ~written.any(), describing)
    for k, (valid, last) in enumerate(zip(rounds, lasts, strict=True)):
        younger = Cat(rounds[:k])
        h.always(f"last_round_{k}", finishing & ~younger.any() & ~written.any(), valid & last)
    h.always(
        "last_drained", finishing & ~Cat(rounds).any() & ~written.any(), draining & drains_last
    )
    h.always("last_written", finishing & ~Cat(rounds).any() & ~draining, written.any())
    any_last = Cat(v & last for v, last in zip(rounds, lasts, strict=True)).any()
    ends = any_last | draining & drains_last | written.any()
    h.always("an_end_comes", ends | d.is_input, finishing)
    tap = WRITTEN_AFTER - 1 + CHAIN_AFTER * ((1 << d.groups_log2) - 1)
    for k in range(1, LONGEST + 1):
        h.always(f"waits_no_longer_{k}", k <= tap, waiting[k - 1])
        h.always(f"waits_of_neurons_{k}", fires(d), waiting[k - 1])
        # Older stores only, by the clocks since the last word.
        h.always(f"none_behind_the_last_{k}", ~waiting[:k].any(), written[k])
    h.always("one_end", (written & (written - 1)) == 0)
    end_tap = Mux(fires(d), tap, WRITTEN_AFTER - 1)
    for k in range(WRITTEN_AFTER + CHAIN_AFTER * 3):
        h.always(f"end_comes_in_time_{k}", k <= end_tap, written[k])

    h.reached("stores", path.writes)
    h.reached("ends_with_a_store", path.pass_done & path.writes)


PROOFS = (
    Proof(
        name="membranes_of_passes",
        says="when a pass begins every membrane that the one before stored has been written",
        state=passes,
        depth=2,
        reach=20,
        broken="proof.dut.pass_end proof.dut.walker/w:walker_state %ci2 "
        "proof.dut.walker/w:blocks_left %ci2",
    ),
)
