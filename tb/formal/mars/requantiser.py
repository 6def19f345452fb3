"""Requantisation is its definition, for every input of reduced width.

Multiplications of full width are out of reach of the solver, so each proof narrows other operands.
"""

from collections.abc import Callable
from functools import partial

from amaranth.hdl import Const, Mux, signed

from hw.mars.requantiser import LIMITS_AFTER, Requantiser
from tb.formal.harness import ARITHMETIC, Harness, Proof

LATENCY = 5
SHIFT_MAX = 40


def state(
    h: Harness,
    *,
    acc: int,
    mult: int,
    skip: int,
    skip_mult: int,
    shift: int,
    limit: int,
    post_shift: int = 0,
) -> None:
    """The definition on integers; each argument is a width, 0 for an operand that is not used."""

    def operand(name: str, width: int, shape: Callable, otherwise: int):
        return h.free(f"free_{name}", shape(width)) if width else Const(otherwise)

    inputs = {
        "acc": operand("acc", acc, signed, 0),
        "bias": operand("bias", acc, signed, 0),
        "mult": operand("mult", mult, int, 1),
        "skip": operand("skip", skip, signed, 0),
        "skip_mult": operand("skip_mult", skip_mult, int, 0),
        "shift": operand("shift", shift, int, 1),
        "low": operand("low", limit, signed, 0),
        "high": operand("high", limit, signed, 0),
        "offset": operand("offset", limit, signed, 0),
    }
    places = operand("post_shift", post_shift, int, 0)
    if post_shift:
        inputs["post_shift"] = places
    unit = h.block(Requantiser(wide=post_shift > 0), **inputs)
    low, high, by = inputs["low"], inputs["high"], inputs["shift"]
    h.assume("shift_legal", (by >= 1) & (by <= SHIFT_MAX))
    h.assume("ends_ordered", low <= high)
    total = h.define("total", inputs["acc"] + inputs["bias"])
    h.assume("total_fits", total == total[:32].as_signed())

    exact = h.define("exact", total * inputs["mult"] + inputs["skip"] * inputs["skip_mult"])
    half = h.define("half", (Const(1, 1) << by) >> 1)
    once = h.define("once", (exact + half) >> by)
    # Ties away from zero: the magnitude is rounded up.
    second_half = h.define("second_half", (Const(1, 1) << places) >> 1)
    magnitude = h.define("magnitude", (Mux(once < 0, -once, once) + second_half) >> places)
    rounded = h.define("rounded", Mux(once < 0, -magnitude, magnitude))
    entered = h.past(unit.enable, LATENCY)
    # Limits come with what is clamped.
    value = h.define("value", h.past(rounded, LIMITS_AFTER))
    clamped = Mux(value < low, low, Mux(value > high, high, value)) + inputs["offset"]
    same = h.past(total, LIMITS_AFTER)
    y = h.define("expected", Mux(h.past(unit.raw, LIMITS_AFTER), same, clamped), signed(32))
    h.always("y_right", unit.y == h.past(y), entered)

    used = h.define("used", h.past(~unit.raw, LATENCY) & entered)
    h.reached("clamped_low", used & h.past(value < low))
    h.reached("clamped_high", used & h.past(value > high))
    tie = h.define("tie", h.past(exact + half == 0, LIMITS_AFTER))
    h.reached("tie_below_zero", used & h.past(tie & (low < 0)))
    h.reached("raw", h.past(unit.raw, LATENCY) & entered)

    if post_shift:
        tie = h.past((places != 0) & (once < 0) & (rounded << places != once), LATENCY)
        h.reached("rounded_away_below_zero", used & tie)


def shift(h: Harness, *, wide: bool) -> None:
    """Sum and first shift for any products of full width, whatever made them."""
    unit = h.block(Requantiser(wide=wide))
    product_width, skip_width = 32 + unit.mult_width, 10 + unit.mult_width
    for name in ("product_2", "skip_product_2"):
        h.cut(name)
    product = h.probe("product_2", signed(product_width))
    skip_product = h.probe("skip_product_2", signed(skip_width))
    by = h.define("by", h.past(Mux(unit.raw, 0, unit.shift), 2))
    entered = h.past(unit.enable, 4)
    h.assume("shift_legal", (unit.shift >= 1) & (unit.shift <= SHIFT_MAX))
    # A raw result is the total times 1.
    total = product == product[:32].as_signed()
    h.assume("raw_is_the_total", total & (skip_product == 0), h.past(unit.raw, 2))
    exact = h.define("exact", product + skip_product)
    half = h.define("half", (Const(1, 1) << by) >> 1)
    once = h.define("once", (exact + half) >> by)
    shifted = h.probe("shifted_4", signed(product_width))
    h.always("shifted_right", shifted == h.past(once, 2), entered)
    largest = (1 << product_width - 1) - 1
    h.reached("largest_product", entered & h.past((product == largest) & (by == 1), 2))
    h.reached("carries", entered & h.past((exact > largest) & (by == SHIFT_MAX), 2))
    h.reached("result_below_zero", h.past(entered) & (unit.y < 0))


def clamp(h: Harness, *, wide: bool) -> None:
    """Second shift, clamp and offset at full width for any value that is shifted once."""
    unit = h.block(Requantiser(wide=wide))
    h.cut("shifted_4")
    once = h.probe("shifted_4", signed(32 + unit.mult_width))
    low, high, offset = unit.low, unit.high, unit.offset
    raw = h.past(unit.raw, LIMITS_AFTER)
    places = h.past(unit.post_shift, LIMITS_AFTER) if wide else Const(0)
    entered = h.past(unit.enable, LATENCY)
    h.assume("ends_ordered", unit.low <= unit.high)
    second_half = h.define("second_half", (Const(1, 1) << places) >> 1)
    magnitude = h.define("magnitude", (Mux(once < 0, -once, once) + second_half) >> places)
    rounded = h.define("rounded", Mux(once < 0, -magnitude, magnitude))
    clamped = Mux(rounded < low, low, Mux(rounded > high, high, rounded)) + offset
    y = h.define("expected", Mux(raw, once, clamped), signed(32))
    h.always("y_right", unit.y == h.past(y), entered)
    used = h.define("used", entered & h.past(~raw))
    h.reached("clamped_low", used & h.past(rounded < low))
    h.reached("clamped_high", used & h.past(rounded > high))
    h.reached("offset_beyond_16_bit", used & (unit.y > (1 << 15) - 1))
    h.reached("raw", entered & h.past(raw) & (unit.y < 0))
    if wide:
        halves = (places == 31) & (low < -1) & (high > 1)
        for name, value in (("minus_half", -1), ("half", 1)):
            tie = halves & (once == value << 30)
            h.reached(f"{name}_goes_away_from_zero", used & h.past(tie) & h.past(rounded == value))


def proof(name: str, says: str, **widths: int) -> Proof:
    """The same statement with other operands at full width."""
    return Proof(
        name=name,
        says=says,
        state=partial(state, **widths),
        depth=6,
        reach=7,
        engine=ARITHMETIC,
    )


PROOFS = (
    proof(
        "requantiser",
        "results are the definition's, for all 6-bit accumulators and biases, 3-bit factors and "
        "residuals and 4-bit shifts at once",
        acc=6,
        mult=3,
        skip=3,
        skip_mult=3,
        shift=4,
        limit=8,
    ),
    proof(
        "requantiser_sums",
        "the same for all 32-bit accumulators and biases, shifts 1..40 and 16-bit clamps, factor 1",
        acc=32,
        mult=0,
        skip=0,
        skip_mult=0,
        shift=6,
        limit=16,
    ),
    proof(
        "requantiser_factors",
        "the same for all 16-bit factors, accumulators and biases of 1 bit, 4-bit shifts",
        acc=1,
        mult=16,
        skip=0,
        skip_mult=0,
        shift=4,
        limit=8,
    ),
    proof(
        "requantiser_residuals",
        "the same for all 16-bit factors of residuals of 2 bit, 4-bit shifts",
        acc=0,
        mult=0,
        skip=2,
        skip_mult=16,
        shift=4,
        limit=8,
    ),
    proof(
        "requantiser_twice",
        "with wide multipliers the same and the second shift, ties away from zero, for all 8-bit "
        "accumulators and biases, 3-bit first and second shifts, factor 1",
        acc=8,
        mult=0,
        skip=0,
        skip_mult=0,
        shift=3,
        limit=8,
        post_shift=3,
    ),
    *(
        Proof(
            name=f"requantiser_{'wide_' * wide}{name}",
            says=f"with {'wide' if wide else 'narrow'} multipliers {says}",
            state=partial(statement, wide=wide),
            depth=6,
            reach=7,
            engine=ARITHMETIC,
            broken=" ".join(f"proof.dut/w:{wire} %ci2" for wire in broken),
        )
        for wide in (False, True)
        for name, statement, broken, says in (
            (
                "shift",
                shift,
                ("sum_3", "shifted_4", "shift_2"),
                "sum, rounding and shift 1..40 are the definition's, for any products of full "
                "width",
            ),
            (
                "clamp",
                clamp,
                ("y_5", "clamped"),
                "what follows the first shift is the definition's, for any value of full width, "
                "clamps and offsets of 16 bit" + ", second shifts 0..31" * wide,
            ),
        )
    ),
)
