"""The spike output keeps AXI4-Stream's rules and sends every spike of a step once, in order."""

from amaranth.hdl import Cat, Const, Mux

from hw.npu.row_walker import WORD_WIDTH
from hw.npu.spike_output import SpikeOutput
from tb.formal.harness import Harness, Proof
from tb.formal.npu.row_walker import CLOSE, FETCH, IDLE, LOAD, WALK, fetched_of

N_POPULATIONS, N_NEURONS = 2, 6
"""Six neurons leave room between the populations; both fit one word of the walker."""


def state(h: Harness) -> None:
    """The spikes still to be sent, as a set that the receiver empties from its low end."""
    out = h.block(SpikeOutput(N_POPULATIONS, N_NEURONS))
    axis = out.axis
    h.assume("commits_when_free", ~out.busy, out.commit)
    h.assume("spikes_stay", out.spikes == h.past(out.spikes), out.busy & h.past(out.busy))
    h.holds("spike", axis.tvalid, axis.tready, axis.tdata, axis.tlast)
    taken = h.define("taken", axis.tvalid & axis.tready)
    neuron, population = axis.tdata[32:48], axis.tdata[48:56]
    row = h.define("row", neuron + Mux(population == 1, N_NEURONS, 0))
    here = h.define("here", Cat(row == k for k in range(N_POPULATIONS * N_NEURONS)))
    upper = h.define("upper", Cat(row < k for k in range(N_POPULATIONS * N_NEURONS)))
    # Spikes are those of the clock after `commit`.
    begins = h.past(out.commit)
    sent = h.register("sent", N_POPULATIONS * N_NEURONS)
    h.next(sent, Mux(begins, 0, sent | here), begins | taken)
    left = h.define("left", out.spikes & ~sent)
    step = h.register("of_step", 32)
    h.next(step, out.step, out.commit)

    h.always("exists", (neuron < N_NEURONS) & (population < N_POPULATIONS), axis.tvalid)
    h.always("lowest_one_left", (left & ~upper) == here, axis.tvalid)
    h.always("last_of_step", axis.tlast == ((left & upper) == 0), axis.tvalid)
    h.always("step_right", axis.tdata[:32] == step, out.busy)
    h.always("all_sent", h.past(left) == 0, h.past(out.busy) & ~out.busy)
    invariants(h, out, left, sent, begins)
    h.reached("both_populations", taken & axis.tlast & (population == 1) & h.past(population == 0))
    h.reached("waits", axis.tvalid & h.past(axis.tvalid & ~axis.tready, 2))
    h.reached("second_step", taken & axis.tlast & (step == 7) & (h.past(step, 8) == 5))


def invariants(h: Harness, out: SpikeOutput, left, sent, begins) -> None:
    """What the walker's registers mean: without this an induction could begin anywhere."""

    def word_of(spikes):
        return Cat(spikes[:N_NEURONS], Const(0, 8 - N_NEURONS), spikes[N_NEURONS:])

    fsm, pending = h.probe("walker.fsm_state", 3), h.probe("walker.pending", 1)
    word, ends_pass = h.probe("walker.word", WORD_WIDTH), h.probe("walker.ends_pass", 1)
    fetched = fetched_of(h, "walker.fetched", n_words=1)
    final, index = h.probe("walker.final", 1), h.probe("walker.slot_index", 1)
    is_fetched = (fetched["word"] == word_of(out.spikes)) & fetched["ends_pass"]
    is_fetched &= fetched["empty"] == (out.spikes == 0)
    h.always("busy_until_sent", out.busy == (begins | (fsm != IDLE)))
    h.always("states", (fsm <= CLOSE) & ((fsm == IDLE) | ~begins))
    h.always("fetch_begins", (sent == 0) & ~pending, fsm == FETCH)
    h.always("load_begins", (sent == 0) & is_fetched, fsm == LOAD)
    h.always("word_is_what_is_left", (word == word_of(left)) & word.any() & ends_pass, fsm == WALK)
    h.always("closes_at_the_end", left == 0, fsm == CLOSE)
    h.always("one_pass", ~final & ~index, fsm != IDLE)


PROOFS = (
    Proof(
        name="spike_output",
        says=f"AXI4-Stream rules; with {N_POPULATIONS} x {N_NEURONS} neurons each step's spikes "
        "are sent once, in order, with its number, TLAST on the last one",
        state=state,
        depth=3,
        reach=16,
    ),
)
