"""The soma is one step of the neuron, for every neuron."""

from amaranth.hdl import Mux, signed

from hw.npu.soma import Soma
from tb.formal.harness import ARITHMETIC, Harness, Proof

LATENCY = 4
NOISE_LATENCY = 2
I_SYN_LATENCY = 1


def state(h: Harness) -> None:
    """The recurrence, from a neuron's parameters when it entered."""
    soma = h.block(Soma())
    enable = h.past(soma.enable, LATENCY)
    v, rest, threshold, reset, v_branch, a, b, bias = (
        h.past(getattr(soma, name), LATENCY)
        for name in ("v", "rest", "threshold", "reset", "v_branch", "a", "b", "bias")
    )
    left = h.define("left", v < v_branch)
    slope = h.define("slope", Mux(left, a, b))
    distance = h.define("distance", Mux(left, rest - v, v - threshold), signed(9))
    force = h.define("force", distance * slope, signed(13))
    noise = h.past(soma.noise, NOISE_LATENCY)
    i_syn = h.past(soma.i_syn, I_SYN_LATENCY)
    sum_ = h.define("sum", v + bias + (force >> 3) + noise + i_syn, signed(20))
    spike = h.define("spikes", sum_ > 255)
    v_next = Mux(spike, reset, Mux(sum_ < 0, 0, sum_))

    h.always("neuron_right", (soma.spike == spike) & (soma.v_next == v_next), enable)
    h.reached("fires", enable & soma.spike)
    h.reached("stops_at_zero", enable & (sum_ < 0))
    h.reached("left_branch", enable & left & (force < 0))
    h.reached("just_below", enable & (sum_ == 255))


PROOFS = (
    Proof(
        name="soma",
        says="v and spike are the recurrence's, for all parameters, v, currents and draws",
        state=state,
        depth=5,
        reach=6,
        engine=ARITHMETIC,
    ),
)
