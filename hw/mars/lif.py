"""Neurons behind the sums of a pixel: 16 lanes, four time steps one after the other."""

import itertools

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, signed
from amaranth.lib.data import ArrayLayout
from amaranth.lib.wiring import Component, In, Out

from hw.mars.drain import PIXEL
from hw.mars.layout import (
    DESCRIPTOR,
    MEMBRANE_WORDS,
    STEP_SUMS,
    TIMED_HEADER_WORD,
    loads_membranes,
)
from hw.mars.membranes import MEMBRANE_WIDTH, MEMBRANES, first_lanes, from_words
from model.mars.config import KERNELS, WORD_BITS
from model.mars.layout import STEPS_PER_WORD

CHARGE_WIDTH = 22
"""Of a charged membrane, whatever the activations, and so of thresholds."""
THRESHOLDS = ArrayLayout(signed(CHARGE_WIDTH), KERNELS)
CHARGES = ArrayLayout(ArrayLayout(signed(CHARGE_WIDTH), STEPS_PER_WORD), KERNELS)
SPIKES = ArrayLayout(STEPS_PER_WORD, KERNELS)
"""The steps of each lane, the first one lowest."""


class LifStage(Component):
    """One time step of 16 lanes, group by group; golden: `model.mars.lif.chain`.

    In the clock of group g lane k works if it is the g-th of the lanes that share its membrane:
    from what the lane beside it left, the first one from what the step before left.

    **Latency**: works from the clock after `go` on, `done` in the last one. **Throughput**: a pixel
    in as many clocks as there are groups. **Reset**: nothing to do.

    Parameters
    ----------
    step : int
        Of the four.

    Members
    -------
    descriptor : In(DESCRIPTOR)
    go, pixel, charges, thresholds, spikes : In
        The next pixel: the charges of this step and later ones, spikes of the steps before.
    before : In(MEMBRANES)
        Membranes behind the step before, while this one works.
    done, later_pixel, later_charges, same_thresholds, all_spikes : Out
        What goes into the next stage.
    membranes, after : Out(MEMBRANES)
        As they were left, and as they will be in the next clock.
    """

    def __init__(self, step):
        self.step = step
        super().__init__(
            {
                "descriptor": In(DESCRIPTOR),
                "go": In(1),
                "pixel": In(PIXEL),
                "charges": In(CHARGES),
                "thresholds": In(THRESHOLDS),
                "spikes": In(SPIKES),
                "before": In(MEMBRANES),
                "done": Out(1),
                "later_pixel": Out(PIXEL),
                "later_charges": Out(CHARGES),
                "same_thresholds": Out(THRESHOLDS),
                "all_spikes": Out(SPIKES),
                "membranes": Out(MEMBRANES),
                "after": Out(MEMBRANES),
            }
        )

    def elaborate(self, platform):
        m = Module()
        d, pixel = self.descriptor, self.later_pixel
        active = Signal()
        group = Signal(2)
        m.d.comb += self.done.eq(active & (group == (1 << d.groups_log2) - 1))
        with m.If(active):
            m.d.sync += group.eq(group + 1)
        with m.If(self.done):
            m.d.sync += active.eq(0)
        with m.If(self.go):
            m.d.sync += [active.eq(1), group.eq(0), pixel.eq(self.pixel)]
            m.d.sync += self.same_thresholds.eq(self.thresholds)

        in_time = Signal()
        m.d.comb += in_time.eq((pixel.sub << 2 | self.step) < d.n_steps)
        for k in range(KERNELS):
            mine, membrane = self._turn(m, k, active, group)
            self._lane(m, k, mine, membrane, in_time)
        return m

    def _turn(self, m, k, active, group):
        """Whether lane k works in this clock, and the membrane that it begins with."""
        mine = Signal(name=f"mine_{k}")
        membrane = Signal(signed(MEMBRANE_WIDTH), name=f"membrane_{k}")
        beside = self.membranes[k - 1] if k else Const(0)
        with m.Switch(self.descriptor.groups_log2):
            for log2 in range(3):
                n_groups = 1 << log2
                is_first = k % n_groups == 0
                with m.Case(log2):
                    m.d.comb += [
                        mine.eq(active & (group == k % n_groups)),
                        membrane.eq(self.before[k + n_groups - 1] if is_first else beside),
                    ]
        return mine, membrane

    def _lane(self, m, k, mine, membrane, in_time):
        """The neuron of a lane, and what it keeps for the next stage."""
        above_threshold = Signal(signed(CHARGE_WIDTH + 1), name=f"above_threshold_{k}")
        charge = Signal(signed(CHARGE_WIDTH), name=f"charge_{k}")
        charge_up = Signal(signed(CHARGE_WIDTH), name=f"charge_up_{k}")
        later = self.later_charges[k]
        done_before = Signal(STEPS_PER_WORD, name=f"done_before_{k}", reset_less=True)
        with m.If(self.go):
            m.d.sync += [
                charge.eq(self.charges[k][0]),
                above_threshold.eq(self.charges[k][0] - self.thresholds[k]),
                charge_up.eq(self.charges[k][0] + (1 << self.descriptor.leak) - 1),
                done_before.eq(self.spikes[k]),
            ]
            m.d.sync += [
                later[step].eq(self.charges[k][step + 1]) for step in range(STEPS_PER_WORD - 1)
            ]

        charged = Signal(signed(CHARGE_WIDTH), name=f"charged_{k}")
        # So that a shift rounds it towards 0, as it must if it is negative.
        charged_up = Signal(signed(CHARGE_WIDTH), name=f"charged_up_{k}")
        above = Signal(signed(CHARGE_WIDTH + 1), name=f"above_{k}")
        fires = Signal(name=f"fires_{k}")
        left = Signal(signed(MEMBRANE_WIDTH), name=f"left_{k}")
        fired = Signal(name=f"fired_{k}")
        # What is above the threshold is not negative if the neuron fires.
        rest = Signal(signed(CHARGE_WIDTH + 1), name=f"rest_{k}")
        with m.If(~fires):
            m.d.comb += rest.eq(Mux(charged[-1], charged_up, charged))
        with m.Elif(self.descriptor.soft):
            m.d.comb += rest.eq(above)
        m.d.comb += [
            charged.eq(membrane + charge),
            charged_up.eq(membrane + charge_up),
            above.eq(membrane + above_threshold),
            fires.eq(in_time & ~above[-1]),
            left.eq(Mux(in_time, self._leaked(m, k, rest), membrane)),
            self.after[k].eq(Mux(mine, left, self.membranes[k])),
            self.all_spikes[k].eq(done_before | Mux(mine, fires, fired) << self.step),
        ]
        with m.If(mine):
            m.d.sync += [self.membranes[k].eq(left), fired.eq(fires)]

    def _leaked(self, m, k, rest):
        """The membrane behind leak and saturation; the limit is one less than a power of two."""
        limit = self.descriptor.limit
        shifted = Signal(signed(CHARGE_WIDTH + 1), name=f"shifted_{k}")
        beyond = Signal(CHARGE_WIDTH + 1, name=f"beyond_{k}")
        too_high, too_low = Signal(name=f"too_high_{k}"), Signal(name=f"too_low_{k}")
        negative = shifted[-1]
        above_limit = Cat(~limit, Const(-1, CHARGE_WIDTH + 1 - len(limit)))
        m.d.comb += [
            shifted.eq(rest >> self.descriptor.leak),
            # Bits that must be those of the sign.
            beyond.eq((shifted ^ negative.replicate(CHARGE_WIDTH + 1)) & above_limit),
            too_high.eq(~negative & beyond.any()),
            too_low.eq(negative & (beyond.any() | ~(shifted & limit).any())),
        ]
        return Mux(too_high, limit, Mux(too_low, -limit, shifted))


class LifChain(Component):
    """Leaky integrate-and-fire neurons; golden: `model.mars.lif.chain`.

    A stage for each of four steps. Channels beside each other may share a membrane (groups). What
    a pixel leaves is in registers of its team, where its next four steps go on; later chunks of
    steps find it in the feature memories, from where it comes with the pixel (`stored`).

    **Latency**: with G groups, `fired` comes 4*G + 1 clocks after `pixel`. **Throughput**: a pixel
    in G clocks; the next four steps of a team 4*G clocks behind its last ones. **Reset**: no pixel
    under way.

    Parameters
    ----------
    n_teams : int

    Members
    -------
    descriptor : In(DESCRIPTOR)
    pixel : In(PIXEL)
    sums : In(STEP_SUMS)
        Of each lane and step, with `pixel`; of a source that is the same in all steps the first.
    residual : In(SPIKES)
        Spikes that add `skip_mult`.
    header : In(1024)
        Bias, initial membrane and threshold of each lane.
    later, stored : In(1), In(256)
        The chunk goes on where the one before stopped; words of membranes, with `pixel`.
    fired : Out(PIXEL)
        The pixel whose `spikes` these are.
    membranes : Out(MEMBRANES)
        What its last step left, at the first lane of each group.
    waiting : Out(MEMBRANES) for each team
        The same of its last pixel.
    """

    def __init__(self, n_teams):
        self.n_teams = n_teams
        super().__init__(
            {
                "descriptor": In(DESCRIPTOR),
                "pixel": In(PIXEL),
                "sums": In(STEP_SUMS),
                "residual": In(SPIKES),
                "header": In(KERNELS * WORD_BITS),
                "later": In(1),
                "stored": In(MEMBRANE_WORDS * WORD_BITS),
                "fired": Out(PIXEL),
                "spikes": Out(SPIKES),
                "membranes": Out(MEMBRANES),
                "waiting": Out(MEMBRANES).array(n_teams),
            }
        )

    def elaborate(self, platform):
        m = Module()
        stages = [LifStage(step) for step in range(STEPS_PER_WORD)]
        for step, stage in enumerate(stages):
            m.submodules[f"stage_{step}"] = stage
            m.d.comb += stage.descriptor.eq(self.descriptor)
        self._enter(m, stages[0])
        for stage, then in itertools.pairwise(stages):
            m.d.comb += [
                then.go.eq(stage.done),
                then.pixel.eq(stage.later_pixel),
                then.charges.eq(stage.later_charges),
                then.thresholds.eq(stage.same_thresholds),
                then.spikes.eq(stage.all_spikes),
                then.before.eq(stage.membranes),
            ]
        last = stages[-1]
        m.d.sync += self.fired.valid.eq(last.done)
        with m.If(last.done):
            m.d.sync += [
                self.fired.eq(last.later_pixel),
                self.fired.valid.eq(1),
                self.spikes.eq(last.all_spikes),
            ]
        self._wait(m, stages[0], last)
        return m

    def _enter(self, m, first):
        """Charges of a pixel: sums, bias, and the residual's spikes."""
        d = self.descriptor
        m.d.comb += [first.go.eq(self.pixel.valid), first.pixel.eq(self.pixel)]
        for k in range(KERNELS):
            word = TIMED_HEADER_WORD(self.header.word_select(k, WORD_BITS))
            m.d.comb += first.thresholds[k].eq(word.threshold)
            for step in range(STEPS_PER_WORD):
                added = Mux(self.residual[k][step], d.skip_mult[:16], 0)
                total = Mux(d.direct, self.sums[k][0], self.sums[k][step])
                m.d.comb += first.charges[k][step].eq(total + word.bias + added)

    def _wait(self, m, first, last):
        """Membranes of the teams between four steps and the next four; initial ones."""
        d = self.descriptor
        waiting = Array(
            Signal(MEMBRANES, name=f"waiting_{team}", reset_less=True)
            for team in range(self.n_teams)
        )
        m.d.comb += [out.eq(kept) for out, kept in zip(self.waiting, waiting, strict=True)]
        initial = Signal(MEMBRANES, reset_less=True)
        stored = Signal(MEMBRANES)
        m.d.comb += stored.eq(from_words(d, self.stored, self.pixel.part))
        for k in range(KERNELS):
            word = TIMED_HEADER_WORD(self.header.word_select(k, WORD_BITS))
            with m.If(self.pixel.valid):
                m.d.sync += initial[k].eq(word.initial << d.initial_shift)
                with m.If(loads_membranes(d, self.later)):
                    m.d.sync += initial[k].eq(first_lanes(d, stored, k))
        begin = Signal(MEMBRANES)
        m.d.comb += begin.eq(
            Mux(
                first.later_pixel.sub,
                waiting[first.later_pixel.team].as_value(),
                initial.as_value(),
            )
        )
        kept = Signal(MEMBRANES)
        for k in range(KERNELS):
            # The first lane of a group begins with what its last one left.
            with m.Switch(d.groups_log2):
                for log2 in range(3):
                    n_groups = 1 << log2
                    with m.Case(log2):
                        first_lane = k // n_groups * n_groups
                        m.d.comb += [
                            first.before[k].eq(begin[first_lane]),
                            kept[k].eq(last.after[first_lane + n_groups - 1]),
                        ]
        with m.If(last.done):
            m.d.sync += waiting[last.later_pixel.team].eq(kept)
        m.d.comb += self.membranes.eq(waiting[self.fired.team])
