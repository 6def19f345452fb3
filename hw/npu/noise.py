"""Membrane noise: one xorshift32 per population that leaps over the lanes."""

from functools import reduce
from operator import xor

from amaranth.hdl import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib.data import ArrayLayout
from amaranth.lib.wiring import Component, In, Out

STATE_WIDTH = 32
STEP_STRIDE = 1 << 16
CHAIN = 4
"""Lanes that follow each other by single steps before one leaps again: nine levels of XOR deep, and
smaller than leaping to every lane."""


def xorshift_matrix():
    """T as 32 rows: row `b` is the mask of state bits whose parity is bit `b` of the next state."""
    rows = [1 << b for b in range(STATE_WIDTH)]
    rows = [row ^ (rows[b - 13] if b >= 13 else 0) for b, row in enumerate(rows)]
    rows = [row ^ (rows[b + 17] if b + 17 < STATE_WIDTH else 0) for b, row in enumerate(rows)]
    return [row ^ (rows[b - 5] if b >= 5 else 0) for b, row in enumerate(rows)]


def power(n):
    """T**n, in the form of `xorshift_matrix`."""
    result, base = [1 << b for b in range(STATE_WIDTH)], xorshift_matrix()
    while n:
        if n & 1:
            result = compose(base, result)
        base, n = compose(base, base), n >> 1
    return result


def compose(outer, inner):
    """The matrix that applies `inner` first."""
    return [reduce(xor, (inner[k] for k in range(STATE_WIDTH) if row >> k & 1), 0) for row in outer]


def leap(state, n):
    """T**n applied to a signal at once: one parity per bit."""
    return Cat((state & row).xor() for row in power(n)) if n else state


def xorshift(m, state, name):
    """T applied to a signal."""
    left = Signal(STATE_WIDTH, name=f"{name}_left")
    right = Signal(STATE_WIDTH, name=f"{name}_right")
    result = Signal(STATE_WIDTH, name=name)
    m.d.comb += [
        left.eq(state ^ (state << 13)),
        right.eq(left ^ (left >> 17)),
        result.eq(right ^ (right << 5)),
    ]
    return result


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
    next, more : In(1)
        The next group draws, with its `strength`; another one follows it in this time step.
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
                "more": In(1),
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

        with m.If(self.load):
            m.d.sync += self.state.eq(self.load_state)
        with m.Elif(self.commit):
            m.d.sync += self.state.eq(leap(self.state, STEP_STRIDE))

        walk = Signal(STATE_WIDTH, reset_less=True)
        with m.If(self.start):
            m.d.sync += walk.eq(self.state)
        with m.Elif(self.next & self.more):
            m.d.sync += walk.eq(leap(walk, self.n_lanes))

        next_1 = Signal()
        m.d.sync += next_1.eq(self.next)
        for lane, strength in enumerate(self.strength):
            if lane % CHAIN == 0:
                state = Signal(STATE_WIDTH, name=f"leap_{lane}")
                m.d.comb += state.eq(leap(walk, lane))
            state = xorshift(m, state, f"state_{lane}")
            uniform_1 = Signal(16, name=f"uniform_1_{lane}", reset_less=True)
            strength_1 = Signal(8, name=f"strength_1_{lane}", reset_less=True)
            scaled = Signal(24, name=f"scaled_{lane}")
            noisy = strength > 1
            m.d.comb += scaled.eq(uniform_1 * strength_1)
            with m.If(self.next):
                m.d.sync += [strength_1.eq(Mux(noisy, strength, 0)), uniform_1.eq(state[16:])]
            with m.If(next_1):
                m.d.sync += self.draw[lane].eq(scaled[16:] - (strength_1 >> 1))
        return m
