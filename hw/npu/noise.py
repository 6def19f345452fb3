"""Membrane noise: one xorshift32 per population that leaps over the lanes."""

from functools import reduce
from operator import xor

from amaranth.hdl import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib.data import ArrayLayout
from amaranth.lib.wiring import Component, In, Out

STATE_WIDTH = 32
STEP_STRIDE_LOG2 = 16


def xorshift_matrix():
    """T as 32 rows: row `b` is the mask of state bits whose parity is bit `b` of the next state."""
    rows = [1 << b for b in range(STATE_WIDTH)]
    rows = [row ^ (rows[b - 13] if b >= 13 else 0) for b, row in enumerate(rows)]
    rows = [row ^ (rows[b + 17] if b + 17 < STATE_WIDTH else 0) for b, row in enumerate(rows)]
    return [row ^ (rows[b - 5] if b >= 5 else 0) for b, row in enumerate(rows)]


def compose(outer, inner):
    """The matrix that applies `inner` first."""
    return [
        reduce(xor, (inner[k] for k in range(STATE_WIDTH) if row >> k & 1), 0) for row in outer
    ]


def parity(state, mask):
    """One bit of the product of a matrix row with a state."""
    return reduce(xor, (state[k] for k in range(STATE_WIDTH) if mask >> k & 1))


class NoiseGenerator(Component):
    """Draws for `n_lanes` neurons per clock, golden functions in `model.npu.noise`.

    Lane `l` of group `g` in time step `t` gets output number ``65536 t + g n_lanes + l + 1`` of the
    generator: ``((x >> 16) * N >> 16) - (N >> 1)`` with ``N = max(1, strength)``.

    **Latency**: `draw` is valid 2 clocks after `next`. **Throughput**: one group per clock.
    **Reset**: state 1.

    Members
    -------
    start : In(1)
        A time step begins: the lanes start from `state`.
    next : In(1)
        The next group draws, with its `strength`.
    commit : In(1)
        The time step ends: `state` leaps to the next one.
    load, load_state : In(1), In(32)
        The host sets the state.
    state : Out(32)
    draw : Out(n_lanes x signed(8))
    """

    def __init__(self, n_lanes):
        self.n_lanes = n_lanes
        super().__init__(
            {
                "start": In(1),
                "next": In(1),
                "strength": In(ArrayLayout(unsigned(8), n_lanes)),
                "commit": In(1),
                "load": In(1),
                "load_state": In(STATE_WIDTH),
                "state": Out(STATE_WIDTH, init=1),
                "draw": Out(ArrayLayout(signed(8), n_lanes)),
            }
        )

    def elaborate(self, platform):
        m = Module()

        leaps = [xorshift_matrix()]
        for _ in range(self.n_lanes - 1):
            leaps.append(compose(leaps[0], leaps[-1]))
        stride = leaps[0]
        for _ in range(STEP_STRIDE_LOG2):
            stride = compose(stride, stride)

        with m.If(self.load):
            m.d.sync += self.state.eq(self.load_state)
        with m.Elif(self.commit):
            m.d.sync += self.state.eq(Cat(parity(self.state, row) for row in stride))

        walk = Signal(STATE_WIDTH)
        with m.If(self.start):
            m.d.sync += walk.eq(self.state)
        with m.Elif(self.next):
            m.d.sync += walk.eq(Cat(parity(walk, row) for row in leaps[-1]))

        next_1 = Signal()
        m.d.sync += next_1.eq(self.next)
        for lane in range(self.n_lanes):
            uniform_1 = Signal(16, name=f"uniform_1_{lane}")
            strength_1 = Signal(8, name=f"strength_1_{lane}")
            scaled = Signal(24, name=f"scaled_{lane}")
            strength = self.strength[lane]
            with m.If(self.next & (strength > 1)):
                high = leaps[lane][16:]
                m.d.sync += uniform_1.eq(Cat(parity(walk, row) for row in high))
            with m.If(self.next):
                m.d.sync += strength_1.eq(Mux(strength > 1, strength, 0))
            m.d.comb += scaled.eq(uniform_1 * strength_1)
            with m.If(next_1):
                m.d.sync += self.draw[lane].eq(scaled[16:] - (strength_1 >> 1))
        return m
