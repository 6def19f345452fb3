"""The row unit: softmax and normalisation of the channels of a pixel."""

from operator import add

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib.data import ArrayLayout, StructLayout
from amaranth.lib.wiring import Component, In, Out
from amaranth.utils import exact_log2

from hw.delay import delayed
from model.mars.clocks import LANES_PER_DIVIDER
from model.mars.config import KERNELS
from model.mars.layout import NORMALISATION, SOFTMAX
from model.mars.rows import (
    CENTRED_WIDTH,
    EPSILON_MAX,
    INVERSE_WIDTH,
    NORM_MAX,
    NORMAL_BITS,
    NORMAL_WIDTH,
    OCTAVE_BITS,
    OCTAVES_MAX,
    PART_BITS,
    POWER_SUM_WIDTH,
    POWER_WIDTH,
    POWERS,
    PROBABILITY_BITS,
    QUOTIENT_BITS,
    ROOT_WIDTH,
    SEGMENT_BITS,
    SQUARES_WIDTH,
    SUM_WIDTH,
    VARIANCE_WIDTH,
)

VALUE_WIDTH = 9
"""A value of 8 bit, with a sign."""
DISTANCE_WIDTH = 8
SQUARE_WIDTH = 2 * DISTANCE_WIDTH
SUM = signed(SUM_WIDTH + 1)
"""A sum of values, with a sign or not, or C times a value."""
FACTOR_WIDTH = 20
RESULT_WIDTH = NORMAL_WIDTH
"""Probabilities, up to 65536, have room in it."""
LARGEST, SUMS, RESULTS = range(3)
"""Phases of a row."""
LATENCY = 8
VALUE_AFTER = {SOFTMAX: 8, NORMALISATION: 6}
"""From the last values of a row's sums until what a divider begins with is there."""
DIGITS = 2
"""Of a root or a reciprocal in a clock."""
_FALLS = POWERS[:-1] - POWERS[1:]
LINE = StructLayout({"begin": POWER_WIDTH, "fall": int(_FALLS.max()).bit_length()})
LINES = Array(
    LINE.const({"begin": int(begin), "fall": int(fall)}).as_value()
    for begin, fall in zip(POWERS[:-1], _FALLS, strict=True)
)
"""Segments of an octave: where they begin, and by how much they fall."""
_ROOT_UP = POWER_SUM_WIDTH - ROOT_WIDTH
SHIFT = unsigned((QUOTIENT_BITS - PROBABILITY_BITS).bit_length())


def row_values(n_lanes):
    """Values of a row that come at once."""
    return ArrayLayout(signed(VALUE_WIDTH), n_lanes)


def row_results(n_lanes):
    """What comes of them."""
    return ArrayLayout(signed(RESULT_WIDTH), n_lanes)


class Root(Component):
    """Square root, rounded down; golden: `root` in `model.mars.rows`.

    **Latency**: `done` and `root` come ``width / 4 + 1`` clocks after `start`, and `root` stays
    until the next one. **Throughput**: the same. **Reset**: nothing under way.

    Parameters
    ----------
    width : int
        Of a value; a multiple of 4.

    Members
    -------
    start, value : In(1), In(width)
    done, root : Out(1), Out(width / 2)
    """

    def __init__(self, width=VARIANCE_WIDTH):
        self.width = width
        super().__init__(
            {
                "start": In(1),
                "value": In(width),
                "done": Out(1),
                "root": Out(width // 2),
            }
        )

    def elaborate(self, platform):
        m = Module()
        n_clocks = self.width // (2 * DIGITS)
        left = Signal(range(n_clocks + 1))
        value = Signal(self.width, reset_less=True)
        # At most twice the root.
        rest = Signal(self.width // 2 + 1, reset_less=True)
        root, next_rest = self.root, rest
        for digit in range(DIGITS):
            end = self.width - 2 * digit
            seen = Cat(value[end - 2 : end], next_rest)
            trial = Cat(Const(1, 2), root)
            fits = seen >= trial
            next_rest = Mux(fits, seen - trial, seen)[: len(rest)]
            root = Cat(fits, root)[: self.width // 2]
        m.d.sync += self.done.eq((left == 1) & ~self.start)
        with m.If(self.start):
            m.d.sync += [left.eq(n_clocks), value.eq(self.value), rest.eq(0), self.root.eq(0)]
        with m.Elif(left != 0):
            m.d.sync += [
                left.eq(left - 1),
                value.eq(value << 2 * DIGITS),
                rest.eq(next_rest),
                self.root.eq(root),
            ]
        return m


class Reciprocal(Component):
    """``floor((2^n - 1) / divisor)``, golden: `reciprocal` in `model.mars.rows`.

    n is ``divisor_width - 1 + width``: of a divisor whose uppermost bit is set, `width` bits.

    **Latency**: `quotient` is valid ``(width + 1) / 2 + 1`` clocks after `start`, and stays until
    the next one. **Throughput**: the same. **Reset**: nothing under way.

    Parameters
    ----------
    divisor_width, width : int
        Of the divisor and of the quotient, which is odd.

    Members
    -------
    start, divisor : In(1), In(divisor_width)
    quotient : Out(width)
    """

    def __init__(self, divisor_width=POWER_SUM_WIDTH, width=INVERSE_WIDTH):
        self.divisor_width = divisor_width
        self.width = width
        super().__init__(
            {
                "start": In(1),
                "divisor": In(divisor_width),
                "quotient": Out(width),
            }
        )

    def elaborate(self, platform):
        m = Module()
        n_clocks = (self.width + 1) // DIGITS
        left = Signal(range(n_clocks + 1))
        by = Signal(self.divisor_width, reset_less=True)
        # The first digit is 0: so many ones are less than the divisor.
        ones = (1 << (self.divisor_width - 2)) - 1
        rest = Signal(self.divisor_width, reset_less=True)
        quotient, next_rest = self.quotient, rest
        for _ in range(DIGITS):
            seen = Cat(Const(1, 1), next_rest)
            fits = seen >= by
            next_rest = Mux(fits, seen - by, seen)[: self.divisor_width]
            quotient = Cat(fits, quotient)[: self.width]
        with m.If(self.start):
            m.d.sync += [
                left.eq(n_clocks),
                by.eq(self.divisor),
                rest.eq(ones),
                self.quotient.eq(0),
            ]
        with m.Elif(left != 0):
            m.d.sync += [left.eq(left - 1), rest.eq(next_rest), self.quotient.eq(quotient)]
        return m


class Divider(Component):
    """The reciprocal of a number or of its root, and what results are shifted by then.

    **Latency**: `inverse` is valid 10 clocks after `start`, of a root 20, and stays until the next
    one is. **Throughput**: the same. **Reset**: nothing under way.

    Members
    -------
    is_softmax : In(1)
        No root is taken.
    start : In(1)
    value, shift : In(36), In
        Its uppermost bit is set, or one of the upper two of what a root is taken of.
    inverse, its_shift : Out
    """

    is_softmax: In(1)
    start: In(1)
    value: In(VARIANCE_WIDTH)
    shift: In(SHIFT)
    inverse: Out(INVERSE_WIDTH)
    its_shift: Out(SHIFT)

    def elaborate(self, platform):
        m = Module()
        m.submodules.root = root = Root()
        m.submodules.reciprocal = reciprocal = Reciprocal()
        m.d.comb += [
            root.start.eq(self.start & ~self.is_softmax),
            root.value.eq(self.value),
            reciprocal.start.eq(Mux(self.is_softmax, self.start, root.done)),
            reciprocal.divisor.eq(
                Mux(
                    self.is_softmax,
                    self.value[VARIANCE_WIDTH - POWER_SUM_WIDTH :],
                    root.root << _ROOT_UP,
                )
            ),
            self.inverse.eq(reciprocal.quotient),
        ]
        root_shift = Signal(SHIFT)
        with m.If(root.start):
            m.d.sync += root_shift.eq(self.shift)
        with m.If(reciprocal.start):
            m.d.sync += self.its_shift.eq(Mux(self.is_softmax, self.shift, root_shift))
        return m


class RowUnit(Component):
    """Softmax and normalisation of rows; golden: `softmax` and `normalise` in `model.mars.rows`.

    A row comes some values at a time, once in each phase: its largest value is found (softmax
    alone), its sums, its results. In a slot there are these phases in this order, without a gap,
    each of another row: sums come a slot behind the largest value, results `apart` slots behind
    the sums. So many rows wait for their dividers, of which there is one for every four lanes.

    **Latency**: results are valid 8 clocks after their values. **Throughput**: a value per lane and
    clock; `apart` slots take at least 11 clocks, 19 for normalisation. **Reset**: nothing is under
    way.

    Parameters
    ----------
    n_lanes : int
        A power of two.

    Members
    -------
    is_softmax, octaves, epsilon, n_channels : In
        Of all rows that are under way.
    apart : In
        1..n_lanes / 4, if that is more than 1.
    enable, phase, first, last : In(1), In(2), In(1), In(1)
        Values of a row come: of which phase, and whether they are its first or last ones. A
        slot has all phases, also those of rows that there are not.
    values, mask : In(row_values(n_lanes)), In(n_lanes)
        Channels that there are; the others may be anything.
    results : Out(row_results(n_lanes))
        0 of channels that there are not.
    """

    def __init__(self, n_lanes=KERNELS):
        self.n_lanes = n_lanes
        self.n_dividers = n_lanes // LANES_PER_DIVIDER
        super().__init__(
            {
                "is_softmax": In(1),
                **({"apart": In(range(1, self.n_dividers + 1))} if self.n_dividers > 1 else {}),
                "octaves": In(range(OCTAVES_MAX + 1)),
                "epsilon": In(range(EPSILON_MAX + 1)),
                "n_channels": In(range(NORM_MAX + 1)),
                "enable": In(1),
                "phase": In(2),
                "first": In(1),
                "last": In(1),
                "values": In(row_values(n_lanes)),
                "mask": In(n_lanes),
                "results": Out(row_results(n_lanes)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        in_sums = self.enable & (self.phase == SUMS)
        in_results = self.enable & (self.phase == RESULTS)
        sums = delayed(m, "sums", 1, in_sums, 7)
        first = delayed(m, "first", 1, self.first, 7)
        last_sums = delayed(m, "last_sums", 1, in_sums & self.last, 8)
        first_results = delayed(m, "first_results", 1, in_results & self.first, 6)[6]
        masks = delayed(m, "mask", self.n_lanes, self.mask, 5)
        lanes = range(self.n_lanes)
        values = [Signal(signed(VALUE_WIDTH), name=f"value_{k}") for k in lanes]
        with m.If(self.enable):
            m.d.sync += [mine.eq(value) for mine, value in zip(values, self.values, strict=True)]

        reference = self._reference(m, values, masks[1])
        mean, variance = self._moments(m, values, masks[1], sums[3], first[3])
        factors = []
        for k, value in enumerate(values):
            power = self._power(m, k, reference - value)
            centred = self._centred(m, k, value, mean)
            one = Mux(self.is_softmax, power, centred)
            factors.append(
                _register(m, f"factor_{k}", signed(FACTOR_WIDTH), Mux(masks[5][k], one, 0))
            )
        power_sum = self._power_sum(m, factors, sums[7], first[7])
        inverse, shift = self._inverse(m, power_sum, variance, last_sums, first_results)
        shift_7 = _register(m, "shift", len(shift), shift)
        half = Signal(range(1 << (QUOTIENT_BITS - PROBABILITY_BITS)))
        m.d.comb += half.eq((1 << shift_7) >> 1)
        product_width = FACTOR_WIDTH + INVERSE_WIDTH
        for k, factor in enumerate(factors):
            product_7 = _register(m, f"product_{k}", signed(product_width), factor * inverse)
            m.d.sync += self.results[k].eq((product_7 + half) >> shift_7)
        return m

    @property
    def _log2(self):
        """Bits by which a sum over the lanes is wider."""
        return exact_log2(self.n_lanes)

    def _reference(self, m, values, mask):
        """What values are less than: the largest one of their row, in the clock after theirs."""
        in_sums_1 = _register(m, "in_sums", 1, self.phase == SUMS)
        in_largest = self.enable & (self.phase == LARGEST)
        enable_2 = delayed(m, "in_largest", 1, in_largest, 2)[2]
        first_1, first_2 = delayed(m, "first_of_largest", 1, in_largest & self.first, 2)[1:]
        least = Const(-(1 << (VALUE_WIDTH - 1)), signed(VALUE_WIDTH))
        candidates = [Mux(mask[k], value, least) for k, value in enumerate(values)]
        largest_2 = _register(
            m, "largest", signed(VALUE_WIDTH), _tree(lambda a, b: Mux(a > b, a, b), candidates)
        )
        of_largest, of_sums = (
            Signal(signed(VALUE_WIDTH), name=f"largest_of_{name}", reset_less=True)
            for name in ("largest", "sums")
        )
        with m.If(first_1):
            m.d.sync += of_sums.eq(of_largest)
        with m.If(enable_2 & (first_2 | (largest_2 > of_largest))):
            m.d.sync += of_largest.eq(largest_2)
        return Mux(in_sums_1, of_sums, self._before(m, "largest_of_results", of_sums, first_1))

    def _before(self, m, name, value, next_row):
        """What it was of the row whose results come, while it is that of the row `apart` behind."""
        rows = [value]
        for row in range(self.n_dividers):
            earlier = Signal.like(value, name=f"{name}_{row}", reset_less=True)
            with m.If(next_row):
                m.d.sync += earlier.eq(rows[-1])
            rows.append(earlier)
        return Array(rows)[self._apart]

    @property
    def _apart(self):
        """The input, if there is a choice."""
        return self.apart if self.n_dividers > 1 else Const(1)

    def _power(self, m, k, distance):
        """The power of 2 of a distance, four clocks later."""
        width = DISTANCE_WIDTH + OCTAVES_MAX.bit_length()
        distance_2 = _register(m, f"distance_{k}", DISTANCE_WIDTH, distance)
        octaves_3 = _register(m, f"octaves_{k}", width, distance_2 * self.octaves)
        dropped = OCTAVE_BITS - SEGMENT_BITS - PART_BITS
        places = Signal(width - dropped + 1, name=f"places_{k}")
        m.d.comb += places.eq((octaves_3 + (1 << (dropped - 1))) >> dropped)
        part, segment, whole = (
            places[:PART_BITS],
            places[PART_BITS:][:SEGMENT_BITS],
            places[PART_BITS + SEGMENT_BITS :],
        )
        line = Signal(LINE, name=f"segment_{k}", reset_less=True)
        m.d.sync += line.eq(LINES[segment])
        part_4 = _register(m, f"part_{k}", PART_BITS, part)
        most = POWER_WIDTH + 1
        shift = Mux(whole > most, most, whole)
        shift_5 = delayed(m, f"shift_{k}", range(most + 1), shift, 2, reset_less=True)[2]
        below = (line.fall * part_4 + (1 << (PART_BITS - 1))) >> PART_BITS
        line_5 = _register(m, f"line_{k}", POWER_WIDTH, line.begin - below)
        power = Signal(POWER_WIDTH, name=f"power_{k}")
        m.d.comb += power.eq((((line_5 << 1) >> shift_5) + 1) >> 1)
        return power

    def _centred(self, m, k, value, mean):
        """C times the difference from the mean, four clocks later."""
        value_3 = delayed(m, f"value_{k}", signed(VALUE_WIDTH), value, 2, reset_less=True)[2]
        scaled_4 = _register(m, f"scaled_{k}", SUM, self.n_channels * value_3)
        return _register(m, f"centred_{k}", signed(CENTRED_WIDTH), scaled_4 - mean)

    def _power_sum(self, m, factors, enable, first):
        """The sum of a row's powers, 8 clocks after its last values."""
        powers = [factor[:POWER_WIDTH] for factor in factors]
        sum_7 = _register(m, "sum_of_powers", POWER_WIDTH + self._log2, _tree(add, powers))
        total = Signal(POWER_SUM_WIDTH, name="power_sum", reset_less=True)
        with m.If(enable):
            m.d.sync += total.eq(Mux(first, 0, total) + sum_7)
        return total

    def _moments(self, m, values, mask, enable, first):
        """The sum of the row whose results come, and a row's variance 6 clocks after its values.

        The variance of equal values may be 0, where the model's is 1: their differences are 0.
        """
        own = [Mux(mask[k], value, 0) for k, value in enumerate(values)]
        sum_width = VALUE_WIDTH + self._log2
        sum_3 = delayed(m, "sum", signed(sum_width), _tree(add, own), 2, reset_less=True)[2]
        squares_2 = [
            _register(m, f"square_{k}", SQUARE_WIDTH, value * value) for k, value in enumerate(own)
        ]
        squares_3 = _register(m, "sum_of_squares", SQUARE_WIDTH + self._log2, _tree(add, squares_2))
        total = Signal(SUM, reset_less=True)
        squares = Signal(SQUARES_WIDTH, reset_less=True)
        mean = self._before(m, "mean", total, enable & first)
        with m.If(enable):
            m.d.sync += [
                total.eq(Mux(first, 0, total) + sum_3),
                squares.eq(Mux(first, 0, squares) + squares_3),
            ]
        squares_5 = _register(m, "scaled_squares", VARIANCE_WIDTH, self.n_channels * squares)
        square_5 = _register(m, "squared_sum", VARIANCE_WIDTH, total * total)
        variance_6 = _register(m, "variance", VARIANCE_WIDTH, squares_5 - square_5 + self.epsilon)
        return mean, variance_6

    def _inverse(self, m, power_sum, variance, last_sums, first_results):
        """The reciprocal of what results are divided by, and by how much they are shifted then."""
        # Shifted up until the uppermost bit is set, or of a square one of the upper two.
        value = Mux(
            self.is_softmax, Cat(Const(0, VARIANCE_WIDTH - POWER_SUM_WIDTH), power_sum), variance
        )
        places = []
        for log2 in reversed(range(VARIANCE_WIDTH.bit_length())):
            step = 1 << log2
            small = value[-step:] == 0
            if log2 == 0:
                small &= self.is_softmax
            value = Mux(small, value << step, value)[:VARIANCE_WIDTH]
            places.insert(0, small)
        up = Cat(places)
        shift = Signal(SHIFT)
        m.d.comb += shift.eq(
            Mux(
                self.is_softmax,
                QUOTIENT_BITS - PROBABILITY_BITS - up,
                QUOTIENT_BITS - _ROOT_UP - NORMAL_BITS - (up >> 1),
            )
        )
        start = Mux(
            self.is_softmax, last_sums[VALUE_AFTER[SOFTMAX]], last_sums[VALUE_AFTER[NORMALISATION]]
        )
        # The dividers have rows in turn; a row's results begin before the divider's next row.
        now = Signal(range(self.n_dividers))
        with m.If(last_sums[max(VALUE_AFTER.values())]):
            m.d.sync += now.eq(now + 1)
        dividers = []
        for number in range(self.n_dividers):
            m.submodules[f"divider_{number}"] = divider = Divider()
            dividers.append(Cat(divider.inverse, divider.its_shift))
            m.d.comb += [
                divider.is_softmax.eq(self.is_softmax),
                divider.start.eq(start & (now == number)),
                divider.value.eq(value),
                divider.shift.eq(shift),
            ]
        divided = Signal(INVERSE_WIDTH + len(shift))
        kept = Signal.like(divided)
        its = (now - self._apart)[: len(now)]
        m.d.comb += divided.eq(Mux(first_results, Array(dividers)[its], kept))
        m.d.sync += kept.eq(divided)
        return divided[:INVERSE_WIDTH], divided[INVERSE_WIDTH:]


def _register(m, name, shape, value):
    """A value one clock later."""
    return delayed(m, name, shape, value, 1, reset_less=True)[1]


def _tree(join, parts):
    """Values joined in pairs, then those, until one is left."""
    while len(parts) > 1:
        parts = [join(a, b) for a, b in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]
