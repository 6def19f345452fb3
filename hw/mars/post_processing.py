"""Post-processing: requantise, pool, average, write features."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib.data import ArrayLayout
from amaranth.lib.wiring import Component, In, Out
from amaranth.utils import exact_log2

from hw.mars.drain import PIXEL
from hw.mars.lane import FEATURE_WIDTH, RESIDUAL_WORDS, SUMS
from hw.mars.layout import (
    ADDR_WIDTH,
    DESCRIPTOR,
    HEADER_WORD,
    MEMBRANE_WORDS,
    STEP_SUMS,
    WIDE_HEADER_WORD,
    fires,
    header_bits,
    in_steps,
    input_words,
    writes_log2,
)
from hw.mars.lif import LifChain
from hw.mars.membranes import MEMBRANES
from hw.mars.requantiser import LIMITS_AFTER, SKIP_WIDTH, Requantiser
from hw.mars.turns import Turns
from hw.memory import TwoPortMemory
from model.mars.config import (
    ACC_WIDTH,
    KERNELS,
    NIBBLE,
    WORD_BITS,
    WORDS_PER_LINE,
    WORDS_PER_WRITE,
)
from model.mars.layout import MAX_MACROS, TABLE_LINES

HALF = KERNELS // 2
TABLE_WORDS = TABLE_LINES * WORDS_PER_LINE
BYTE = 8
SUMS_AFTER = 2
"""Clocks from a pixel until its sums are there."""
LATENCY = 5
"""Of the requantiser."""


class PostProcessing(Component):
    """Lanes from sums to feature words; golden: `model.mars.machine.Machine`.

    The sums of a pass with neurons go through `hw.mars.lif.LifChain` instead of the requantisers,
    and a pool is an or of the steps; logits add up over the steps.

    Requantises the pixels, takes the maximum of the four of a quad if they are pooled, looks up
    what comes out in a table, adds it up if the average is wanted, and writes it two words a clock.
    All of that is done by 16 lanes at once, or in four turns by four (`hw.mars.turns`), after the
    last of which a result is written.

    **Latency**: the first words are written 8 clocks after `pixel`, with four lanes 11.
    **Throughput**: two words per clock; a pixel may come every ``max(1, planes / 2)`` clocks, with
    four lanes 3 later. **Reset**: nothing under way.

    Parameters
    ----------
    wide_multiplier : bool
    n_teams : int
    n_lanes : int
        16 or 4.

    Members
    -------
    descriptor : In(DESCRIPTOR)
    pixel : In(PIXEL)
    acc, residual, stored, header : In(STEP_SUMS), In(128), In(256), In(1024) or In(2048)
        Its sums, residual, stored membranes and kernel block's header, 2 clocks after it, until all
        lanes have had their turns.
    later : In(1)
        The frame goes on where the one before stopped.
    pass_begins : In(1)
        The next pass is taken: words of an input are those of its first row.
    feature_valid, feature_words : In(1), In(128)
        A word of the input, or two if a row of it has an even number, which are written as they
        are 1 clock later.
    table_enable, table_addr : In(1), In(5)
        The first word has eight results of the lookup table instead.
    write : Out(1)
    write_row, write_offset, write_halves, write_data : Out
        A word or two, their row and the first one's address without the bank's base; one bit of
        `write_halves` for each half of them, the second word's 0 if there is none.
    value_valid, values : Out(1), Out(signed(32)) of each lane
        Requantised pixels, before pools, for benches, turn by turn; with neurons the steps' spikes.
    membranes, waiting : Out(MEMBRANES), Out(MEMBRANES) for each team
        With the first turn what the last step left, at the first lane of each group, also of each
        team.
    """

    def __init__(self, *, wide_multiplier=False, n_teams=MAX_MACROS, n_lanes=KERNELS):
        self.wide_multiplier = wide_multiplier
        self.n_teams = n_teams
        self.turns = Turns(n_lanes)
        self.results = ArrayLayout(signed(ACC_WIDTH), n_lanes)
        super().__init__(
            {
                "descriptor": In(DESCRIPTOR),
                "pixel": In(PIXEL),
                "acc": In(STEP_SUMS),
                "residual": In(RESIDUAL_WORDS * WORD_BITS),
                "stored": In(MEMBRANE_WORDS * WORD_BITS),
                "later": In(1),
                "header": In(header_bits(wide_multiplier)),
                "pass_begins": In(1),
                "feature_valid": In(1),
                "feature_words": In(WORDS_PER_WRITE * WORD_BITS),
                "table_enable": In(1),
                "table_addr": In(range(TABLE_WORDS)),
                "write": Out(1),
                "write_row": Out(8),
                "write_offset": Out(ADDR_WIDTH),
                "write_halves": Out(2 * WORDS_PER_WRITE),
                "write_data": Out(WORDS_PER_WRITE * WORD_BITS),
                "value_valid": Out(1),
                "values": Out(self.results),
                "membranes": Out(MEMBRANES),
                "waiting": Out(MEMBRANES).array(n_teams),
            }
        )

    def elaborate(self, platform):
        m = Module()
        d, turns = self.descriptor, self.turns

        pixels, turn_2, turn_7 = self._stages(m)
        sums = Signal(ArrayLayout(signed(ACC_WIDTH), KERNELS))
        clamps_average = pixels[SUMS_AFTER + LIMITS_AFTER].average
        results = self._requantise(m, pixels[SUMS_AFTER], turn_2, sums, clamps_average)
        chain = self._fire(m, pixels[SUMS_AFTER], turn_2)
        if turns.n > 1:
            turn_7 = Mux(fires(d), chain.turn, turn_7)
        self._values(m, pixels[-1], turn_7, results, chain)

        pixel_7 = Signal(PIXEL)
        m.d.comb += pixel_7.eq(Mux(fires(d), chain.fired.as_value(), pixels[-1].as_value()))
        m.d.comb += self.value_valid.eq(pixel_7.valid & ~pixel_7.average)
        pooled = self._pool(m, pixel_7, turn_7)

        pixel_8 = Signal(PIXEL)
        result = Signal(self.results)
        kept = Signal(self.results, reset_less=True)
        m.d.sync += pixel_8.eq(pixel_7)
        m.d.sync += pixel_8.valid.eq(
            pixel_7.valid & (~d.pool | pixel_7.pool_last | pixel_7.average)
        )
        with m.If(pixel_7.valid):
            m.d.sync += kept.eq(Mux(pixel_7.average, self.values.as_value(), pooled.as_value()))
        self._look_up(m, pixel_7, pooled, kept, result)
        turn_8 = turns.register(m, "turn_8", turn_7)
        so_far = turns.of(turn_8, sums)
        with m.If(pixel_8.valid & ~pixel_8.average & d.gap):
            for channels in turns.each(m, turn_8):
                for lane, k in enumerate(channels):
                    before = Mux(pixel_8.first_of_block, 0, so_far[lane])
                    m.d.sync += sums[k].eq(before + Mux(d.gap, result[lane], 0))
        self._write(m, pixel_8, turn_8, self._gather(m, pixel_8, turn_8, result))
        return m

    def _stages(self, m):
        """A pixel on its way to the requantisers' results, and the turns at its sums and there."""
        pixels = [self.pixel]
        turn_2 = turn = Const(0)
        for stage in range(SUMS_AFTER + LATENCY):
            before, after = pixels[-1], Signal(PIXEL, name=f"pixel_{stage + 1}")
            pixels.append(after)
            if stage + 1 == SUMS_AFTER and self.turns.n > 1:
                turn_2 = turn = self.turns.hold(m, before.valid, before, after)
                continue
            with m.If(before.valid | after.valid):
                m.d.sync += after.eq(before)
            if stage >= SUMS_AFTER:
                turn = self.turns.register(m, f"turn_{stage + 1}", turn)
        return pixels, turn_2, turn

    def _requantise(self, m, pixel, turn, sums, clamps_average):
        """One requantiser per lane, for the average as well; returns their results."""
        d, turns = self.descriptor, self.turns
        words = self._header_words(turn)
        step = Mux(in_steps(d), pixel.step, 0)
        accs = turns.of(turn, [self.acc[k][step] for k in range(KERNELS)])
        residuals = turns.of(turn, [self._residual(k, pixel.part[0]) for k in range(KERNELS)])
        so_far = turns.of(turn, sums)
        results = []
        for k in turns.lanes:
            lane = Requantiser(wide=self.wide_multiplier)
            m.submodules[f"requantiser_{k}"] = lane
            word = HEADER_WORD(words[k])
            mult = word.mult
            if self.wide_multiplier:
                upper = WIDE_HEADER_WORD(words[turns.n_lanes + k])
                mult = Cat(word.mult, upper.mult_high)
                m.d.comb += lane.post_shift.eq(
                    Mux(pixel.average, d.gap_post_shift, upper.post_shift)
                )
            raw = d.raw
            skip = Signal(signed(SKIP_WIDTH), name=f"skip_{k}")
            m.d.comb += skip.eq(Mux(d.has_skip, residuals[k].as_signed() - d.skip_zero, 0))
            m.d.comb += [
                lane.enable.eq(pixel.valid & ~fires(d)),
                lane.acc.eq(accs[k]),
                lane.bias.eq(word.bias),
                lane.mult.eq(mult),
                lane.shift.eq(word.shift),
                lane.skip.eq(skip),
                lane.skip_mult.eq(d.skip_mult),
                lane.raw.eq(raw),
                lane.low.eq(Mux(clamps_average, d.gap_low, d.low)),
                lane.high.eq(Mux(clamps_average, d.gap_high, d.high)),
                lane.offset.eq(Mux(clamps_average, d.gap_offset, d.offset)),
            ]
            results.append(lane.y)
            with m.If(pixel.average):
                m.d.comb += [
                    lane.acc.eq(so_far[k]),
                    lane.bias.eq(d.gap_bias),
                    lane.mult.eq(d.gap_mult),
                    lane.shift.eq(d.gap_shift),
                    lane.skip.eq(0),
                ]
        return results

    def _header_words(self, turn):
        """The header's word of each lane, then what belongs to wide multipliers."""
        n_words = len(self.header) // WORD_BITS
        words = [self.header.word_select(k, WORD_BITS) for k in range(n_words)]
        parts = [words[first : first + KERNELS] for first in range(0, n_words, KERNELS)]
        return [word for part in parts for word in self.turns.of(turn, part)]

    def _fire(self, m, pixel, turn):
        """The neurons."""
        d = self.descriptor
        m.submodules.chain = chain = LifChain(self.n_teams, self.turns.n_lanes)
        m.d.comb += [
            chain.descriptor.eq(d),
            chain.pixel.eq(pixel),
            chain.pixel.valid.eq(self.turns.first(pixel.valid, turn) & fires(d)),
            chain.sums.eq(self.acc),
            chain.header.eq(self.header),
            chain.stored.eq(self.stored),
            chain.later.eq(self.later),
            self.membranes.eq(chain.membranes),
            *(out.eq(kept) for out, kept in zip(self.waiting, chain.waiting, strict=True)),
        ]
        for k in range(KERNELS):
            own = self.residual.word_select(k, NIBBLE)
            if k < HALF:
                other = self.residual.word_select(k + HALF, NIBBLE)
                own = Mux(d.wide & pixel.part[0], other, own)
            m.d.comb += chain.residual[k].eq(Mux(d.has_skip, own, 0))
        return chain

    def _values(self, m, pixel, turn, results, chain):
        """What leaves the lanes: results, spikes of the steps, or logits added up."""
        d, turns = self.descriptor, self.turns
        logits = Signal(SUMS, reset_less=True)
        is_first = (pixel.sub == 0) & (pixel.step == 0)
        so_far, spikes = turns.of(turn, logits), turns.of(turn, chain.spikes)
        for k, result in enumerate(results):
            logit = Signal(signed(ACC_WIDTH), name=f"logit_{k}")
            m.d.comb += [
                logit.eq(Mux(d.timed, result, 0) + Mux(is_first, 0, so_far[k])),
                self.values[k].eq(Mux(fires(d), spikes[k], Mux(d.timed, logit, result))),
            ]
            with m.If(pixel.valid & d.timed):
                for channels in turns.each(m, turn):
                    m.d.sync += logits[channels[k]].eq(logit)

    def _residual(self, k, half):
        """Bits of a channel's residual; 8-bit weights have 8 lanes, for half of the channels."""
        d = self.descriptor

        def value(channel):
            lower = self.residual.word_select(channel, NIBBLE)
            upper = self.residual[WORD_BITS:].word_select(channel, NIBBLE)
            top = Mux(d.skip_two, upper, lower)
            sign = top[-1] & d.skip_signed
            upper_or_sign = Mux(d.skip_two, upper, sign.replicate(NIBBLE))
            return Cat(lower, upper_or_sign, sign)

        return value(k) if k >= HALF else Mux(d.wide & half, value(k + HALF), value(k))

    def _pool(self, m, pixel, turn):
        """Maximum of a quad, per team; of spikes their or. Without pooling the value itself."""
        d, turns = self.descriptor, self.turns
        best = [
            Signal(ArrayLayout(signed(FEATURE_WIDTH), KERNELS), name=f"best_{t}", reset_less=True)
            for t in range(self.n_teams)
        ]
        pooled = Signal(self.results)
        of_turn = [turns.of(turn, registers) for registers in best]
        for k in turns.lanes:
            value = self.values[k][:FEATURE_WIDTH].as_signed()
            so_far = Signal(signed(FEATURE_WIDTH), name=f"so_far_{k}")
            with m.Switch(pixel.team):
                for team, registers in enumerate(of_turn):
                    with m.Case(team):
                        m.d.comb += so_far.eq(registers[k])
            larger = Signal(signed(FEATURE_WIDTH), name=f"larger_{k}")
            spikes = Signal(FEATURE_WIDTH, name=f"spikes_{k}")
            kept = Mux(pixel.pool_first, so_far.as_unsigned() & ~(0xF << (pixel.sub << 2)), so_far)
            m.d.comb += [
                larger.eq(Mux(pixel.pool_first | (value > so_far), value, so_far)),
                spikes.eq(kept.as_unsigned() | value.as_unsigned() << (pixel.sub << 2)),
                pooled[k].eq(
                    Mux(
                        d.pool,
                        Mux(fires(d), spikes.word_select(pixel.sub, NIBBLE), larger),
                        self.values[k],
                    )
                ),
            ]
            with m.If(pixel.valid & d.pool), m.Switch(pixel.team):
                for team, registers in enumerate(best):
                    with m.Case(team):
                        for channels in turns.each(m, turn):
                            m.d.sync += registers[channels[k]].eq(Mux(fires(d), spikes, larger))
        return pooled

    def _look_up(self, m, pixel, pooled, kept, result):
        """What the table has for each value, if there is one; averages stay as they are."""
        d = self.descriptor
        looked_up = Signal()
        with m.If(pixel.valid):
            m.d.sync += looked_up.eq(d.lookup & ~pixel.average)
        for k in self.turns.lanes:
            table = TwoPortMemory(depth=TABLE_WORDS, width=WORD_BITS, granularity=WORD_BITS)
            m.submodules[f"table_{k}"] = table
            which = Signal(range(WORD_BITS // BYTE), name=f"which_{k}", reset_less=True)
            found = Signal(BYTE, name=f"found_{k}")
            value = pooled[k].as_unsigned()
            m.d.comb += [
                table.w_mask.eq(self.table_enable),
                table.w_addr.eq(self.table_addr),
                table.w_data.eq(self.feature_words[:WORD_BITS]),
                table.r_enable.eq(pixel.valid & d.lookup),
                table.r_addr.eq(value[exact_log2(WORD_BITS // BYTE) : BYTE]),
                found.eq(table.r_data.word_select(which, BYTE)),
                result[k].eq(
                    Mux(looked_up, Cat(found, found[-1] & d.lookup_signed).as_signed(), kept[k])
                ),
            ]
            with m.If(pixel.valid & d.lookup):
                m.d.sync += which.eq(value)

    def _gather(self, m, pixel, turn, result):
        """The results of all channels, in the last turn and as long as they are written."""
        lanes = [result[k] for k in self.turns.lanes]
        if self.turns.n == 1:
            return lanes
        before = Signal(SUMS, reset_less=True)
        with m.If(pixel.valid):
            for channels in self.turns.each(m, turn):
                m.d.sync += [before[k].eq(value) for k, value in zip(channels, lanes, strict=True)]
        return [*(before[k] for k in range(KERNELS - len(lanes))), *lanes]

    def _write(self, m, pixel, turn, result):
        """Nibble planes of the result, two per clock, or words of the input."""
        d = self.descriptor
        left = Signal(2)
        pair = Signal(2)
        begin = Signal()
        m.d.comb += begin.eq(self.turns.last(pixel.valid, turn) & (~d.gap | pixel.average))
        now = Signal(2)
        m.d.comb += now.eq(Mux(begin, 0, pair))
        m.d.sync += pair.eq(now + 1)
        with m.If(begin):
            m.d.sync += left.eq((1 << writes_log2(d)) - 1)
        with m.Elif(left != 0):
            m.d.sync += left.eq(left - 1)

        kept = Signal(PIXEL)
        with m.If(begin):
            m.d.sync += kept.eq(pixel)
        place = Mux(begin, pixel.as_value(), kept.as_value())
        place = PIXEL(place)
        halves = Mux(d.wide, 1 << place.part[0], 0b11)
        one_word = fires(d) | (d.out_planes_log2 == 0)
        m.d.comb += [
            self.write.eq(begin | (left != 0)),
            self.write_row.eq(place.row),
            self.write_offset.eq(place.offset + (now << 1)),
            self.write_halves.eq(Cat(halves, Mux(one_word, 0, halves))),
            self.write_data.eq(Cat(self._plane(result, now, k) for k in range(WORDS_PER_WRITE))),
        ]

        # The input comes while nothing else is under way.
        words = Signal(WORDS_PER_WRITE * WORD_BITS, reset_less=True)
        valid = Signal()
        row = Signal(8)
        col = Signal(ADDR_WIDTH)
        offset = Signal(ADDR_WIDTH)
        step = input_words(d)
        m.d.sync += valid.eq(self.feature_valid)
        with m.If(self.feature_valid):
            m.d.sync += words.eq(self.feature_words)
        with m.If(valid):
            m.d.comb += [
                self.write.eq(row < d.n_rows),
                self.write_row.eq(row),
                self.write_offset.eq(offset),
                self.write_halves.eq(Mux(step == 1, 0b0011, 0b1111)),
                self.write_data.eq(words),
            ]
            m.d.sync += [offset.eq(offset + step), col.eq(col + step)]
            with m.If(col + step == d.out_row_pitch):
                m.d.sync += [col.eq(0), row.eq(row + 1)]
        with m.If(self.pass_begins):
            m.d.sync += [row.eq(0), col.eq(0), offset.eq(0)]

    def _plane(self, result, pair, which):
        """A word with a nibble of each lane; 8-bit weights have theirs in both halves of it."""
        bytes_ = [lane.as_unsigned().word_select(pair, BYTE) for lane in result]
        nibbles = [both.word_select(which, NIBBLE) for both in bytes_]
        lower = Cat(nibbles[:HALF])
        return Cat(lower, Mux(self.descriptor.wide, lower, Cat(nibbles[HALF:])))
