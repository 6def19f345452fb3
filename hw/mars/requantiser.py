"""Requantisation: from an accumulator to the type of a layer's results, one per clock."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib.wiring import Component, In, Out

from model.mars.config import ACC_WIDTH

MULT_WIDTH = 16
SHIFT_WIDTH = 6
SHIFT_MAX = 40
SKIP_WIDTH = 9
LIMIT_WIDTH = 16
PRODUCT_WIDTH = ACC_WIDTH + MULT_WIDTH
SKIP_PRODUCT_WIDTH = SKIP_WIDTH + MULT_WIDTH


class Requantiser(Component):
    """One lane, golden functions `requantise` and `raw` in `model.mars.requantiser`.

    ``y = clamp((total*mult + skip*skip_mult + (1 << (shift-1))) >> shift)``, arithmetic shift, with
    ``total = acc + bias``; or ``y = total`` with `raw`.

    **Latency**: `y` is valid 5 clocks after its inputs: bias, products, sum, shift, clamp.
    **Throughput**: one result per clock, each with parameters of its own. **Reset**: nothing to
    reset; what no `enable` preceded is not valid.

    Members
    -------
    enable : In(1)
        An accumulator enters. Registers keep their value without it, so that nothing toggles.
    acc, bias : In(signed(32))
        Their sum must fit in 32 bit.
    mult, shift : In(16), In(6)
        Factor and shift, 1..40.
    skip, skip_mult : In(signed(9)), In(16)
        Residual and its factor; 0 for none.
    raw : In(1)
        No requantisation.
    low, high : In(signed(16))
        Ends of the result's type, low <= high.
    y : Out(signed(32))
    """

    enable: In(1)
    acc: In(signed(ACC_WIDTH))
    bias: In(signed(ACC_WIDTH))
    mult: In(MULT_WIDTH)
    shift: In(SHIFT_WIDTH)
    skip: In(signed(SKIP_WIDTH))
    skip_mult: In(MULT_WIDTH)
    raw: In(1)
    low: In(signed(LIMIT_WIDTH))
    high: In(signed(LIMIT_WIDTH))
    y: Out(signed(ACC_WIDTH))

    def elaborate(self, platform):
        m = Module()

        def register(name, shape):
            return Signal(shape, name=name, reset_less=True)

        enables = [self.enable]
        for stage in range(1, 5):
            enables.append(Signal(name=f"enable_{stage}"))
            m.d.sync += enables[stage].eq(enables[stage - 1])

        # A raw result is multiplied by 1 and shifted by 0: it needs no registers of its own.
        total_1 = register("total_1", signed(ACC_WIDTH))
        mult_1 = register("mult_1", MULT_WIDTH)
        skip_1 = register("skip_1", signed(SKIP_WIDTH))
        skip_mult_1 = register("skip_mult_1", MULT_WIDTH)
        shift_1 = register("shift_1", SHIFT_WIDTH)
        with m.If(enables[0]):
            m.d.sync += [
                total_1.eq(self.acc + self.bias),
                mult_1.eq(Mux(self.raw, 1, self.mult)),
                skip_1.eq(self.skip),
                skip_mult_1.eq(Mux(self.raw, 0, self.skip_mult)),
                shift_1.eq(Mux(self.raw, 0, self.shift)),
            ]

        product_2 = register("product_2", signed(PRODUCT_WIDTH))
        skip_product_2 = register("skip_product_2", signed(SKIP_PRODUCT_WIDTH))
        shift_2 = register("shift_2", SHIFT_WIDTH)
        with m.If(enables[1]):
            m.d.sync += [
                product_2.eq(total_1 * mult_1),
                skip_product_2.eq(skip_1 * skip_mult_1),
                shift_2.eq(shift_1),
            ]

        half = Signal(SHIFT_MAX)
        # One bit more than the product: half of the largest shift can carry into it.
        sum_3 = register("sum_3", signed(PRODUCT_WIDTH + 1))
        shift_3 = register("shift_3", SHIFT_WIDTH)
        m.d.comb += half.eq((1 << shift_2) >> 1)
        with m.If(enables[2]):
            m.d.sync += [sum_3.eq(product_2 + skip_product_2 + half), shift_3.eq(shift_2)]

        # Shifted by 1 or more, or a raw result.
        shifted_4 = register("shifted_4", signed(PRODUCT_WIDTH - 1))
        with m.If(enables[3]):
            m.d.sync += shifted_4.eq(sum_3 >> shift_3)

        raw_4, low_4, high_4 = self.raw, self.low, self.high
        for stage in range(1, 5):
            raw, low, high = raw_4, low_4, high_4
            raw_4 = register(f"raw_{stage}", 1)
            low_4 = register(f"low_{stage}", signed(LIMIT_WIDTH))
            high_4 = register(f"high_{stage}", signed(LIMIT_WIDTH))
            with m.If(enables[stage - 1]):
                m.d.sync += [raw_4.eq(raw), low_4.eq(low), high_4.eq(high)]

        y_5 = register("y_5", signed(ACC_WIDTH))
        clamped = Mux(shifted_4 < low_4, low_4, Mux(shifted_4 > high_4, high_4, shifted_4))
        with m.If(enables[4]):
            m.d.sync += y_5.eq(Mux(raw_4, shifted_4, clamped))
        m.d.comb += self.y.eq(y_5)
        return m
