"""The post-synaptic unit is accumulation and decay, for every current and every sum of weights."""

from amaranth.hdl import Mux, signed

from hw.npu.post_synaptic import PostSynapticUnit
from model.npu.config import CONFIGS
from tb.formal.harness import Harness, Proof

N_ROWS = CONFIGS["odin"].max_rows
SUM_WIDTH = 20
LOWEST, HIGHEST = -32768, 32767


def state(h: Harness) -> None:
    """What a neuron's current becomes, from a sum of weights that is wide enough for any."""
    unit = h.block(PostSynapticUnit(N_ROWS))
    add, close = unit.add, unit.close
    h.assume("one_at_a_time", ~(add & close))
    n_rows = h.register("n_rows", range(N_ROWS + 1))
    weights = h.register("weights", signed(SUM_WIDTH))
    h.next(n_rows, Mux(close, 0, n_rows + 1), add | close)
    h.next(weights, Mux(close, 0, weights + unit.weight), add | close)
    h.assume("rows_fit", n_rows < N_ROWS, add)

    # Invariants: n weights sum up to n times the extreme ones at most, and the unit agrees.
    h.always("sum_in_reach", (weights <= n_rows * 127) & (weights >= n_rows * -128))
    h.always("rows_counted", n_rows <= N_ROWS)
    low, high = h.probe("low", signed(8)), h.probe("high", range(-N_ROWS // 2 - 1, N_ROWS // 2 + 2))
    h.always("sum_right", (high << 8) + low == weights)

    total = h.define("total", weights + unit.i_old)
    too_much = h.define("too_much", (total > HIGHEST) | (total < LOWEST))
    ends = Mux(total > HIGHEST, HIGHEST, LOWEST)
    current = h.define("current", Mux(too_much, ends, total), signed(16))
    shifted = h.define("shifted", current >> unit.tau_log2)
    decay = Mux(shifted != 0, shifted, current > 0)
    i_syn = h.define("decayed", current - Mux(unit.no_decay, 0, decay), signed(16))
    i_next = h.define("kept", Mux(unit.no_decay, 0, i_syn), signed(16))
    h.always("saturated_right", unit.saturated == h.past(too_much), h.past(close))
    h.always("i_syn_right", unit.i_syn == h.past(i_syn, 3), h.past(close, 3))
    h.always("i_next_right", unit.i_next == h.past(i_next, 4), h.past(close, 4))
    h.reached("saturates", h.past(close & (total > HIGHEST)) & unit.saturated)
    h.reached("leaks_one", h.past(close & (shifted == 0) & (current > 0), 3))
    h.reached("rests", h.past(close & unit.no_decay, 4) & (unit.i_syn != 0))


PROOFS = (
    Proof(
        name="post_synaptic",
        says="current, decay and saturation are the recurrence's, for every sum of "
        f"up to {N_ROWS} weights and every tau",
        state=state,
        depth=6,
        reach=8,
    ),
)
