"""Neurons behind the sums of a pixel: 16 channels, four time steps one after the other."""

import itertools

from amaranth.hdl import Array, Cat, Const, EnableInserter, Module, Mux, Signal, signed
from amaranth.lib.data import ArrayLayout, StructLayout
from amaranth.lib.wiring import Component, In, Out

from hw.mars.drain import PIXEL
from hw.mars.layout import (
    DESCRIPTOR,
    MAX_GROUPS,
    MEMBRANE_WORDS,
    STEP_SUMS,
    TIMED_HEADER_WORD,
    fires,
    loads_membranes,
)
from hw.mars.membranes import MEMBRANE_WIDTH, MEMBRANES, first_lanes, from_nibbles, own_nibbles
from hw.mars.turns import Turns
from model.mars.clocks import LANE_CHANNELS
from model.mars.config import KERNELS, WORD_BITS
from model.mars.layout import STEPS_PER_WORD

CHARGE_WIDTH = 22
"""Of a charged membrane, whatever the activations, and so of thresholds."""
THRESHOLDS = ArrayLayout(signed(CHARGE_WIDTH), KERNELS)
CHARGES = ArrayLayout(ArrayLayout(signed(CHARGE_WIDTH), STEPS_PER_WORD), KERNELS)
SPIKES = ArrayLayout(STEPS_PER_WORD, KERNELS)
"""The steps of each lane, the first one lowest."""
WALK_LANES = KERNELS // LANE_CHANNELS
"""Of a stage that walks the steps. A group of four channels is in two of them."""
TURN = StructLayout({"channel": 1, "odd": 1, "step": range(STEPS_PER_WORD)})
"""What such a stage does in a clock: a channel of each lane, or of each odd or even one, and a step
of its neurons."""


def channels_of(lane):
    """The channels that a lane of such a stage walks."""
    return range(lane * LANE_CHANNELS, (lane + 1) * LANE_CHANNELS)


class _Neurons(Component):
    """Neurons of a clock, one in each lane; who has them has a `descriptor`."""

    def _neuron(self, m, k, membrane, charges, in_time):
        """The neuron of lane k: whether it fires, and the membrane that it leaves.

        Of a step's charge there are three registers: itself, what it is above the threshold, and
        with what rounds it up.
        """
        charge, above_threshold, charge_up = charges
        charged = Signal(signed(CHARGE_WIDTH), name=f"charged_{k}")
        # So that a shift rounds it towards 0, as it must if it is negative.
        charged_up = Signal(signed(CHARGE_WIDTH), name=f"charged_up_{k}")
        above = Signal(signed(CHARGE_WIDTH + 1), name=f"above_{k}")
        fires = Signal(name=f"fires_{k}")
        left = Signal(signed(MEMBRANE_WIDTH), name=f"left_{k}")
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
        ]
        return fires, left

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


class LifStage(_Neurons):
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
            self._lane(m, k, self._turn(m, k, active, group, self.before), in_time)
        return m

    def _turn(self, m, k, active, group, before):
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
                        membrane.eq(before[k + n_groups - 1] if is_first else beside),
                    ]
        return mine, membrane

    def _lane(self, m, k, turn, in_time):
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

        charges = charge, above_threshold, charge_up
        mine, membrane = turn
        fires, left = self._neuron(m, k, membrane, charges, in_time)
        m.d.comb += self.after[k].eq(Mux(mine, left, self.membranes[k]))
        with m.If(mine):
            m.d.sync += self.membranes[k].eq(left)
        fired = Signal(name=f"fired_{k}")
        m.d.comb += self.all_spikes[k].eq(done_before | Mux(mine, fires, fired) << self.step)
        with m.If(mine):
            m.d.sync += fired.eq(fires)


class LifWalk(_Neurons):
    """The time steps of 16 channels one after the other on eight lanes; golden as of `LifStage`.

    Lane j has channels 2j and 2j + 1, in each step one after the other, so that the second finds
    what the first left if they share a membrane. Of four that do, those of the even lane come
    first; then those of the odd one, which has no membrane then.

    **Latency**: works from the clock after `go` on, `done` in the last one. **Throughput**: a pixel
    in 8 clocks, in 16 if four channels share a membrane. **Reset**: nothing to do.

    Parameters
    ----------
    n_teams : int

    Members
    -------
    descriptor : In(DESCRIPTOR)
    go, pixel : In
        The next pixel; all but `go` stays until the next one.
    turn : Out(TURN)
        What the lanes do in the next clock.
    charges, thresholds, initial : In
        Of that step, and of that channel of each lane; membranes before the first step.
    done, later_pixel, all_spikes : Out
        The pixel and all that its channels made.
    waiting : Out(MEMBRANES) for each team
        What its neurons left, at the first channel of each group.
    """

    def __init__(self, n_teams):
        self.n_teams = n_teams
        super().__init__(
            {
                "descriptor": In(DESCRIPTOR),
                "go": In(1),
                "pixel": In(PIXEL),
                "turn": Out(TURN),
                "charges": In(ArrayLayout(signed(CHARGE_WIDTH), WALK_LANES)),
                "thresholds": In(ArrayLayout(signed(CHARGE_WIDTH), WALK_LANES)),
                "initial": In(ArrayLayout(signed(MEMBRANE_WIDTH), WALK_LANES)),
                "done": Out(1),
                "later_pixel": Out(PIXEL),
                "all_spikes": Out(SPIKES),
                "waiting": Out(MEMBRANES).array(n_teams),
            }
        )

    def elaborate(self, platform):
        m = Module()
        d, pixel, then = self.descriptor, self.later_pixel, self.turn
        now = Signal(TURN)
        in_four, active, advances, in_time = Signal(), Signal(), Signal(), Signal()
        last_step = now.step == STEPS_PER_WORD - 1
        m.d.comb += [
            in_four.eq(1 << d.groups_log2 == MAX_GROUPS),
            advances.eq(self.go | then.as_value().any()),
            self.done.eq(active & last_step & now.channel & (now.odd | ~in_four)),
            in_time.eq((pixel.sub << 2 | now.step) < d.n_steps),
        ]
        m.d.sync += active.eq(advances)
        with m.If(advances):
            # Behind the second channel comes the odd lane, or the next step.
            m.d.sync += now.eq(then)
            m.d.sync += then.eq(then.as_value() + Mux(then.channel & ~in_four, 0b11, 0b01))
        with m.If(self.go):
            m.d.sync += pixel.eq(self.pixel)

        alone = d.groups_log2 == 0
        place, next_place = now.channel & alone, then.channel & alone
        begins, stays = Signal(), Signal()
        m.d.comb += [
            begins.eq(
                ~self.pixel.sub & (then.step == 0) & (next_place == then.channel) & ~then.odd
            ),
            # The membrane is not among those that wait yet.
            stays.eq(active & (next_place == place) & (self.pixel.team == pixel.team)),
        ]
        lefts = [Signal(signed(MEMBRANE_WIDTH), name=f"left_{k}") for k in range(WALK_LANES)]
        kept = self._kept(lefts, in_four, now.odd)
        for k in range(WALK_LANES):
            # Of four channels the odd lane has no membrane, and always takes what was just left.
            waiting = self._waiting(m, k, active & ~(in_four & k % 2), place, kept[k])
            before = waiting[self.pixel.team][next_place]
            works, next_works = (~in_four | (turn.odd == k % 2) for turn in (now, then))
            membrane = Signal(signed(MEMBRANE_WIDTH), name=f"membrane_{k}", reset_less=True)
            with m.If(advances & next_works):
                m.d.sync += membrane.eq(Mux(begins, self.initial[k], Mux(stays, kept[k], before)))
            charges = self._charges(m, k, advances & next_works)
            fires, left = self._neuron(m, k, membrane, charges, in_time)
            m.d.comb += lefts[k].eq(left)
            self._spikes(m, k, active & works, fires)
        return m

    def _kept(self, lefts, in_four, is_odd):
        """What is left in the membrane of each lane; two have one if four channels share it."""
        kept = []
        for even, odd in zip(lefts[::2], lefts[1::2], strict=True):
            of_four = Mux(is_odd, odd, even)
            kept += [Mux(in_four, of_four, even), Mux(in_four, of_four, odd)]
        return kept

    def _charges(self, m, k, advances):
        """What the step adds to a membrane, and what its comparison and its leak need."""
        charge = Signal(signed(CHARGE_WIDTH), name=f"charge_{k}", reset_less=True)
        above_threshold = Signal(
            signed(CHARGE_WIDTH + 1), name=f"above_threshold_{k}", reset_less=True
        )
        charge_up = Signal(signed(CHARGE_WIDTH), name=f"charge_up_{k}", reset_less=True)
        with m.If(advances):
            m.d.sync += [
                charge.eq(self.charges[k]),
                above_threshold.eq(self.charges[k] - self.thresholds[k]),
                charge_up.eq(self.charges[k] + (1 << self.descriptor.leak) - 1),
            ]
        return charge, above_threshold, charge_up

    def _waiting(self, m, k, active, place, left):
        """The membranes of a lane, of each team; that of the neuron at work becomes another."""
        waiting = Array(
            Array(
                Signal(signed(MEMBRANE_WIDTH), name=f"waiting_{team}_{channel}", reset_less=True)
                for channel in channels_of(k)
            )
            for team in range(self.n_teams)
        )
        with m.If(active):
            m.d.sync += waiting[self.later_pixel.team][place].eq(left)
        for out, kept in zip(self.waiting, waiting, strict=True):
            m.d.comb += [out[k].eq(one) for k, one in zip(channels_of(k), kept, strict=True)]
        return waiting

    def _spikes(self, m, k, active, fires):
        """The spikes of a lane move on by a place when it works, the first one ends up lowest."""
        before = Signal(LANE_CHANNELS * STEPS_PER_WORD, name=f"before_{k}", reset_less=True)
        everything = Signal.like(before, name=f"everything_{k}")
        m.d.comb += everything.eq(Mux(active, Cat(before[1:], fires), before))
        with m.If(active):
            m.d.sync += before.eq(everything)
        for number, channel in enumerate(channels_of(k)):
            m.d.comb += self.all_spikes[channel].eq(Cat(everything[number::LANE_CHANNELS]))


class LifChain(Component):
    """Leaky integrate-and-fire neurons; golden: `model.mars.lif.chain`.

    A stage for each of four steps, or eight lanes that walk them. Channels beside each other may
    share a membrane (groups). What a pixel leaves is in registers of its team, where its next four
    steps go on; later chunks of steps find it in the feature memories, from where it comes with the
    pixel (`stored`).

    **Latency**: with G groups, `fired` comes 4*G + 1 clocks after `pixel`. **Throughput**: a pixel
    in G clocks; the next four steps of a team 4*G clocks behind its last ones. With eight lanes
    the same if G is 4; else 9, 8 and 8 clocks. **Reset**: no pixel under way.

    Parameters
    ----------
    n_teams : int
    n_lanes : int
        Of post-processing. If they are fewer than 16 neurons have eight, and what a pixel brings
        stays until the next one.

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
    fired, turn : Out(PIXEL), Out
        The pixel whose `spikes` these are, and which of its channels have their turn.
    membranes : Out(MEMBRANES)
        What its last step left, at the first lane of each group; in the first turn.
    waiting : Out(MEMBRANES) for each team
        The same of its last pixel, until the next one's neurons begin.
    """

    def __init__(self, n_teams, n_lanes=KERNELS):
        self.n_teams = n_teams
        self.turns = Turns(n_lanes)
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
                **({"turn": Out(range(self.turns.n))} if self.turns.n > 1 else {}),
                "spikes": Out(SPIKES),
                "membranes": Out(MEMBRANES),
                "waiting": Out(MEMBRANES).array(n_teams),
            }
        )

    def elaborate(self, platform):
        m = Module()
        if self.turns.n == 1:
            first, last = self._stages(m)
            m.d.sync += self.fired.valid.eq(last.done)
            with m.If(last.done):
                m.d.sync += [self.fired.eq(last.later_pixel), self.fired.valid.eq(1)]
            waiting = self._wait(m, first, last)
        else:
            last = self._walk(m)
            m.d.comb += self.turn.eq(self.turns.hold(m, last.done, last.later_pixel, self.fired))
            waiting = Array(last.waiting)
        with m.If(last.done):
            m.d.sync += self.spikes.eq(last.all_spikes)
        m.d.comb += [out.eq(kept) for out, kept in zip(self.waiting, waiting, strict=True)]
        m.d.comb += self.membranes.eq(waiting[self.fired.team])
        return m

    def _stages(self, m):
        """A stage for each step; returns the first and the last one."""
        stages = [LifStage(step) for step in range(STEPS_PER_WORD)]
        for step, stage in enumerate(stages):
            m.submodules[f"stage_{step}"] = EnableInserter(fires(self.descriptor))(stage)
            m.d.comb += stage.descriptor.eq(self.descriptor)
        m.d.comb += [stages[0].go.eq(self.pixel.valid), stages[0].pixel.eq(self.pixel)]
        for k in range(KERNELS):
            word = self._header_word(k)
            m.d.comb += stages[0].thresholds[k].eq(word.threshold)
            for step in range(STEPS_PER_WORD):
                charge = self._charge(word, self.sums[k], self.residual[k], step)
                m.d.comb += stages[0].charges[k][step].eq(charge)
        for stage, then in itertools.pairwise(stages):
            m.d.comb += [
                then.go.eq(stage.done),
                then.pixel.eq(stage.later_pixel),
                then.charges.eq(stage.later_charges),
                then.thresholds.eq(stage.same_thresholds),
                then.spikes.eq(stage.all_spikes),
                then.before.eq(stage.membranes),
            ]
        return stages[0], stages[-1]

    def _walk(self, m):
        """Eight lanes for all steps; returns what has them."""
        d = self.descriptor
        walk = LifWalk(self.n_teams)
        m.submodules.walk = EnableInserter(fires(d))(walk)
        m.d.comb += [
            walk.descriptor.eq(d),
            walk.go.eq(self.pixel.valid),
            walk.pixel.eq(self.pixel),
        ]
        channel, step = walk.turn.channel, walk.turn.step
        nibbles = own_nibbles(d, self.stored, self.pixel.part)
        for lane in range(WALK_LANES):
            channels = channels_of(lane)
            word = TIMED_HEADER_WORD(
                Array(self._header_word(k).as_value() for k in channels)[channel]
            )
            sums = STEP_SUMS.elem_shape(Array(self.sums[k].as_value() for k in channels)[channel])
            residual = Array(self.residual[k] for k in channels)[channel]
            stored = [
                Array(first_lanes(d, plane, k) for k in channels)[channel] for plane in nibbles
            ]
            initial = Mux(
                loads_membranes(d, self.later),
                from_nibbles(d, stored).as_signed(),
                word.initial << d.initial_shift,
            )
            m.d.comb += [
                walk.charges[lane].eq(self._charge(word, sums, residual, step)),
                walk.thresholds[lane].eq(word.threshold),
                walk.initial[lane].eq(initial),
            ]
        return walk

    def _header_word(self, k):
        """What the header has of a channel."""
        return TIMED_HEADER_WORD(self.header.word_select(k, WORD_BITS))

    def _charge(self, word, sums, residual, step):
        """What a step adds to a membrane: sum, bias, and the residual's spike."""
        d = self.descriptor
        added = Mux(residual.bit_select(step, 1), d.skip_mult[:16], 0)
        # Nothing toggles behind it where there are no neurons.
        total = Mux(d.direct, sums[0], sums[step])
        return Mux(fires(d), total, 0) + word.bias + added

    def _wait(self, m, first, last):
        """Membranes between four steps and the next four, returned by team; initial ones."""
        d = self.descriptor
        waiting = Array(
            Signal(MEMBRANES, name=f"waiting_{team}", reset_less=True)
            for team in range(self.n_teams)
        )
        initial = Signal(MEMBRANES, reset_less=True)
        stored = Signal(MEMBRANES)
        nibbles = own_nibbles(d, self.stored, self.pixel.part)
        m.d.comb += stored.eq(Cat(from_nibbles(d, planes) for planes in zip(*nibbles, strict=True)))
        for k in range(KERNELS):
            with m.If(self.pixel.valid):
                m.d.sync += initial[k].eq(self._header_word(k).initial << d.initial_shift)
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
        return waiting
