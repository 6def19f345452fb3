"""Drains a round: one team after the other, its macros' partial sums added."""

import functools
import itertools
import operator

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import Component, In, Out
from amaranth.utils import exact_log2

from hw.mars.lane import RESIDUAL_WORDS, SUMS
from hw.mars.layout import (
    ADDR_WIDTH,
    DESCRIPTOR,
    HEADER_SLOT_WIDTH,
    MAX_PARTS,
    MEMBRANE_WORDS,
    ROW_WIDTH,
    STEP_SUMS,
    drained_teams,
    in_steps,
    logit_slots_log2,
    slots_log2,
    store_slots,
)
from hw.mars.walker import ROUND
from model.mars.clocks import AVERAGE_AFTER
from model.mars.config import ACC_WIDTH, KERNELS, WORD_BITS
from model.mars.layout import STEPS_PER_WORD

PIXEL = StructLayout(
    {
        "valid": 1,
        "average": 1,
        "part": range(MAX_PARTS),
        "pool_first": 1,
        "pool_last": 1,
        "first_of_block": 1,
        "team": range(8),
        "sub": 1,
        "step": range(STEPS_PER_WORD),
        "row": ROW_WIDTH,
        "offset": ADDR_WIDTH,
    }
)
"""A pixel in post-processing: where its result goes, or that it is the average of a block, and
which part of a word its kernel block's results and membranes are.

In time: which four steps it has, of logits which of these it is."""


def store_layout(n_macros):
    """Two words of membranes of a round: which ones, where, and the macros that keep them."""
    return StructLayout(
        {
            "valid": 1,
            "pair": 1,
            "part": range(MAX_PARTS),
            "offset": ADDR_WIDTH,
            "macros": n_macros,
        }
    )


STEP_WIDTH = ACC_WIDTH // 2 + 3
"""Of a step's sum over eight macros, with 4-bit weights."""


class Drain(Component):
    """Turns a finished round into pixels, golden: the drain of `model.mars.clocks`.

    Every team takes as many clocks as `hw.mars.layout.slots_log2` says, also one whose
    band has no such row. Logits come step by step. Behind the teams come the membranes that are
    stored, those of all of them at once.
    Behind the last round of a kernel block with global average pooling comes one more pixel, the
    average.

    **Latency**: the first team is chosen in the clock after `round_done`; its sums come 2 clocks
    later, and stay for all turns. **Throughput**: two words of results per clock, or a result in
    its turns. **Reset**: nothing to drain.

    Parameters
    ----------
    n_macros : int
    n_turns : int
        Of the lanes of post-processing.

    Members
    -------
    descriptor : In(DESCRIPTOR)
    round_done, round : In(1), In(ROUND)
    sums, highs, residuals, membranes : In, of every macro
        Kept from the clock after `round_done` until the next one.
    pixel : Out(PIXEL)
        The pixel whose sums come 2 clocks later.
    header_slot : Out
        Its header, 1 clock later.
    acc, residual, stored : Out(STEP_SUMS), Out(128), Out(256)
        Its sums, residual and stored membranes, 2 clocks later.
    store : Out(store_layout(n_macros))
        Membranes to be written.
    header_freed : Out(1)
        The last pixel of a kernel block has been chosen.
    last_word : Out(1)
        The last clock of the last pixel of a pass.
    """

    def __init__(self, n_macros, n_turns=1):
        self.n_macros = n_macros
        self.n_turns = n_turns
        super().__init__(
            {
                "descriptor": In(DESCRIPTOR),
                "round_done": In(1),
                "round": In(ROUND),
                "sums": In(SUMS).array(n_macros),
                "highs": In(SUMS).array(n_macros),
                "residuals": In(RESIDUAL_WORDS * WORD_BITS).array(n_macros),
                "membranes": In(MEMBRANE_WORDS * WORD_BITS).array(n_macros),
                "pixel": Out(PIXEL),
                "header_slot": Out(HEADER_SLOT_WIDTH),
                "acc": Out(STEP_SUMS),
                "residual": Out(RESIDUAL_WORDS * WORD_BITS),
                "stored": Out(MEMBRANE_WORDS * WORD_BITS),
                "store": Out(store_layout(n_macros)),
                "header_freed": Out(1),
                "last_word": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        d, pixel = self.descriptor, self.pixel
        now = Signal(ROUND)
        team = Signal(4)
        slot = Signal(logit_slots_log2(self.n_turns))
        row, out_row = Signal(ROW_WIDTH), Signal(ROW_WIDTH)
        offset = Signal(ADDR_WIDTH)
        pause = Signal(range(AVERAGE_AFTER))
        last_slot = Signal()
        ended = Signal()
        logits = d.timed & d.raw
        of_step = len(slot) - exact_log2(STEPS_PER_WORD)
        step = slot[of_step:]
        begins = Signal()
        m.d.comb += [
            begins.eq(slot == 0),
            last_slot.eq(slot + 1 == 1 << slots_log2(d, self.n_turns)),
            self.last_word.eq(ended & now.last_of_pass),
        ]
        with m.If(logits):
            in_time = (now.sub << 2 | step) < d.n_steps
            m.d.comb += begins.eq((slot[:of_step] == 0) & in_time)
        m.d.sync += [
            self.header_freed.eq(ended & now.last_of_block),
            self.header_slot.eq(now.slot),
        ]
        m.d.comb += [
            pixel.part.eq(now.part),
            pixel.pool_first.eq(now.pool_first),
            pixel.pool_last.eq(now.pool_last),
            pixel.first_of_block.eq(now.first_of_block & (team == 0)),
            pixel.team.eq(team),
            pixel.row.eq(out_row),
            pixel.sub.eq(now.sub),
            pixel.step.eq(step),
            pixel.offset.eq(offset + Mux(logits, (now.sub << 2 | step) << 3, now.sub)),
        ]
        with m.FSM(name="drain"):
            # A round comes when nothing is left to drain, or in its last clock.
            with m.State("IDLE"), m.If(self.round_done):
                m.next = "TEAMS"
            with m.State("TEAMS"):
                m.d.comb += pixel.valid.eq(begins & (row < d.n_rows))
                m.d.sync += slot.eq(slot + 1)
                with m.If(last_slot):
                    m.d.sync += [
                        slot.eq(0),
                        team.eq(team + 1),
                        row.eq(row + d.rows_per_team),
                        out_row.eq(out_row + (d.rows_per_team >> d.pool)),
                        offset.eq(offset + d.team_out_pitch),
                    ]
                    with m.If(team + 1 == drained_teams(d, self.n_turns)):
                        m.next = "IDLE"
                        m.d.comb += ended.eq(1)
                        with m.If(d.gap & now.last_of_block):
                            m.d.comb += ended.eq(0)
                            m.d.sync += pause.eq(AVERAGE_AFTER - 1 - slot)
                            m.next = "PAUSE"
                        with m.If(store_slots(d) != 0):
                            m.d.comb += ended.eq(0)
                            m.next = "STORE"
                        with m.If(self.round_done):
                            m.next = "TEAMS"
            with m.State("STORE"):
                m.d.comb += [self.store.valid.eq(1), self.store.pair.eq(slot)]
                m.d.sync += slot.eq(slot + 1)
                with m.If(slot + 1 == store_slots(d)):
                    m.d.comb += ended.eq(1)
                    m.next = "IDLE"
                    with m.If(self.round_done):
                        m.next = "TEAMS"
            with m.State("PAUSE"):
                m.d.sync += pause.eq(pause - 1)
                with m.If(pause == 1):
                    m.d.sync += [out_row.eq(0), offset.eq(now.out_offset), slot.eq(0)]
                    m.next = "AVERAGE"
            with m.State("AVERAGE"):
                m.d.comb += [pixel.valid.eq(slot == 0), pixel.average.eq(1)]
                m.d.sync += slot.eq(slot + 1)
                with m.If(last_slot):
                    m.d.comb += ended.eq(1)
                    m.next = "IDLE"
                    with m.If(self.round_done):
                        m.next = "TEAMS"
        with m.If(self.round_done):
            m.d.sync += [
                now.eq(self.round),
                team.eq(0),
                slot.eq(0),
                row.eq(self.round.row),
                out_row.eq(self.round.out_row),
                offset.eq(self.round.out_offset),
            ]
        self._select(m, team, now)
        return m

    def _select(self, m, team, now):
        """Adds the sums of the team's macros; which ones keep membranes."""
        d = self.descriptor
        mine = Signal(self.n_macros)
        first = Signal(self.n_macros)
        has_membranes = Signal(self.n_macros)
        keepers = Signal(self.n_macros)
        for macro in range(self.n_macros):
            m.d.comb += [
                mine[macro].eq((macro >> d.split_log2) == team),
                first[macro].eq((team << d.split_log2) == macro),
                has_membranes[macro].eq((team << d.split_log2) + now.u_macro == macro),
            ]
        with m.If(self.pixel.valid):
            m.d.sync += keepers.eq(keepers | has_membranes)
        with m.If(self.round_done):
            m.d.sync += keepers.eq(0)
        m.d.comb += [
            self.store.macros.eq(keepers),
            self.store.part.eq(now.part),
            self.store.offset.eq(now.u_offset),
        ]
        valid_1 = Signal()
        m.d.sync += valid_1.eq(self.pixel.valid)
        half = max(1, self.n_macros // 2)
        for k, step in itertools.product(range(KERNELS), range(STEPS_PER_WORD)):
            width = ACC_WIDTH if step == 0 or k < KERNELS // 2 else STEP_WIDTH
            terms = [Mux(mine[i], self._of(i, k, step), 0) for i in range(self.n_macros)]
            partial = [
                Signal(signed(width), name=f"partial_{k}_{step}_{i}", reset_less=True)
                for i in range(half)
            ]
            total = Signal(signed(width), name=f"total_{k}_{step}", reset_less=True)
            m.d.comb += self.acc[k][step].eq(total)
            used = self.pixel.valid & (d.timed if step else 1)
            self._keep(m, used, [one.eq(sum(terms[i::half])) for i, one in enumerate(partial)])
            with m.If(valid_1 & (d.timed if step else 1)):
                m.d.sync += total.eq(sum(partial))
        for name, parts, which, result in (
            ("residual", self.residuals, first, self.residual),
            ("membranes", self.membranes, has_membranes, self.stored),
        ):
            chosen = Signal.like(result, reset_less=True, name=f"{name}_1")
            mine_only = (Mux(which[i], part, 0) for i, part in enumerate(parts))
            self._keep(m, self.pixel.valid, [chosen.eq(functools.reduce(operator.or_, mine_only))])
            with m.If(valid_1):
                m.d.sync += result.eq(chosen)

    def _keep(self, m, used, statements):
        """Registers for what is used; in a slot of several turns it stays where it is."""
        if self.n_turns > 1:
            m.d.comb += statements
            return
        with m.If(used):
            m.d.sync += statements

    def _of(self, macro, k, step):
        """What a macro has of lane k for a step; for all of them if there are no steps."""
        d = self.descriptor
        both = self.sums[macro], self.highs[macro]
        half = ACC_WIDTH // 2
        value = both[step // 2][k].as_unsigned().word_select(step % 2, half).as_signed()
        if k < KERNELS // 2:
            value = Mux(d.wide, both[step % 2][k + step // 2 * (KERNELS // 2)], value)
        return value if step else Mux(in_steps(d), value, self.sums[macro][k])
