"""Requantisation: from an accumulator to the type of a layer's results, one per clock."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib.wiring import Component, In, Out

from model.mars.config import ACC_WIDTH

MULT_WIDTH = 16
WIDE_MULT_WIDTH = 31
SHIFT_WIDTH = 6
SHIFT_MAX = 40
POST_SHIFT_WIDTH = 5
SKIP_WIDTH = 10
LIMIT_WIDTH = 16
LIMITS_AFTER = 4
"""Clocks from an accumulator until its result is clamped."""


class Requantiser(Component):
    """One lane, golden functions `requantise` and `raw` in `model.mars.requantiser`.

    ``y = clamp(away((total*mult + skip*skip_mult + (1 << (shift-1))) >> shift)) + offset``,
    arithmetic shift, with ``total = acc + bias``; or ``y = total`` with `raw`. `away` is a shift by
    `post_shift` that rounds ties away from zero; only wide multipliers have it.

    **Latency**: `y` is valid 5 clocks after its inputs: bias, products, sum, shift, clamp.
    **Throughput**: one result per clock, each with parameters of its own. **Reset**: nothing to
    reset; what no `enable` preceded is not valid.

    Parameters
    ----------
    wide : bool
        Multipliers have 31 bit instead of 16, and there is a second shift.

    Members
    -------
    enable : In(1)
        An accumulator enters. Registers keep their value without it, so that nothing toggles.
    acc, bias : In(signed(32))
        Their sum must fit in 32 bit.
    mult, shift : In(16) or In(31), In(6)
        Factor and shift, 1..40.
    post_shift : In(5)
        With wide multipliers.
    skip, skip_mult : In(signed(10)), as mult
        Residual and its factor; 0 for none.
    raw : In(1)
        No requantisation.
    low, high, offset : In(signed(16))
        Ends of the result's type less the offset, low <= high; what is added then. `LIMITS_AFTER`
        clocks later than the others: they seldom change, and need no registers here.
    y : Out(signed(32))
    """

    def __init__(self, *, wide=False):
        self.wide = wide
        self.mult_width = WIDE_MULT_WIDTH if wide else MULT_WIDTH
        members = {
            "enable": In(1),
            "acc": In(signed(ACC_WIDTH)),
            "bias": In(signed(ACC_WIDTH)),
            "mult": In(self.mult_width),
            "shift": In(SHIFT_WIDTH),
            "skip": In(signed(SKIP_WIDTH)),
            "skip_mult": In(self.mult_width),
            "raw": In(1),
            "low": In(signed(LIMIT_WIDTH)),
            "high": In(signed(LIMIT_WIDTH)),
            "offset": In(signed(LIMIT_WIDTH)),
            "y": Out(signed(ACC_WIDTH)),
        }
        if wide:
            members["post_shift"] = In(POST_SHIFT_WIDTH)
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()

        def register(name, shape):
            return Signal(shape, name=name, reset_less=True)

        enables = [self.enable]
        for stage in range(1, 5):
            enables.append(Signal(name=f"enable_{stage}"))
            m.d.sync += enables[stage].eq(enables[stage - 1])

        def delayed(name, shape, value, clocks):
            """A value in each of so many stages, and before them."""
            stages = [value]
            for stage in range(clocks):
                stages.append(register(f"{name}_{stage + 1}", shape))
                with m.If(enables[stage]):
                    m.d.sync += stages[-1].eq(stages[-2])
            return stages

        # A raw result is multiplied by 1 and shifted by 0: it needs no registers of its own.
        total_1 = register("total_1", signed(ACC_WIDTH))
        mult_1 = register("mult_1", self.mult_width)
        skip_1 = register("skip_1", signed(SKIP_WIDTH))
        skip_mult_1 = register("skip_mult_1", self.mult_width)
        shift = delayed("shift", SHIFT_WIDTH, Mux(self.raw, 0, self.shift), 3)
        with m.If(enables[0]):
            m.d.sync += [
                total_1.eq(self.acc + self.bias),
                mult_1.eq(Mux(self.raw, 1, self.mult)),
                skip_1.eq(self.skip),
                skip_mult_1.eq(Mux(self.raw, 0, self.skip_mult)),
            ]

        product_width = ACC_WIDTH + self.mult_width
        product_2 = register("product_2", signed(product_width))
        skip_product_2 = register("skip_product_2", signed(SKIP_WIDTH + self.mult_width))
        with m.If(enables[1]):
            m.d.sync += [
                product_2.eq(total_1 * mult_1),
                skip_product_2.eq(skip_1 * skip_mult_1),
            ]

        half = Signal(SHIFT_MAX)
        # One bit more than the product: half of the largest shift can carry into it.
        sum_3 = register("sum_3", signed(product_width + 1))
        m.d.comb += half.eq((1 << shift[2]) >> 1)
        with m.If(enables[2]):
            m.d.sync += sum_3.eq(product_2 + skip_product_2 + half)

        # Shifted by 1 or more, or a raw result.
        shifted_4 = register("shifted_4", signed(product_width))
        with m.If(enables[3]):
            m.d.sync += shifted_4.eq(sum_3 >> shift[3])

        raw_4 = delayed("raw", 1, self.raw, LIMITS_AFTER)[-1]
        rounded_4 = shifted_4
        if self.wide:
            post_shift = delayed("post_shift", POST_SHIFT_WIDTH, self.post_shift, LIMITS_AFTER)
            rounded_4 = self._away(m, shifted_4, post_shift[-1])

        y_5 = register("y_5", signed(ACC_WIDTH))
        clamped = Signal(signed(LIMIT_WIDTH))
        low, high = self.low, self.high
        m.d.comb += clamped.eq(Mux(rounded_4 < low, low, Mux(rounded_4 > high, high, rounded_4)))
        with m.If(enables[4]):
            m.d.sync += y_5.eq(Mux(raw_4, shifted_4, clamped + self.offset))
        m.d.comb += self.y.eq(y_5)
        return m

    def _away(self, m, value, places):
        """The value shifted right by some places, ties away from zero."""
        half = Signal(1 << POST_SHIFT_WIDTH)
        tie_down = Signal()
        away = Signal(signed(len(value) + 1))
        m.d.comb += [
            half.eq((1 << places) >> 1),
            tie_down.eq((value < 0) & (places != 0)),
            away.eq((value + half.as_signed() - tie_down) >> places),
        ]
        return away
