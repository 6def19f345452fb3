"""Requantisation is its definition, for every input of reduced width.

Multiplications of full width are out of reach of the solver, so each proof narrows other operands.
"""

from collections.abc import Callable
from functools import partial

from amaranth.hdl import Const, Mux, signed

from hw.mars.requantiser import Requantiser
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
    clamped = Mux(rounded < low, low, Mux(rounded > high, high, rounded)) + inputs["offset"]
    y = h.define("expected", Mux(unit.raw, total, clamped), signed(32))
    entered = h.past(unit.enable, LATENCY)
    h.always("y_right", unit.y == h.past(y, LATENCY), entered)

    used = h.define("used", h.past(~unit.raw, LATENCY) & entered)
    h.reached("clamped_low", used & h.past(rounded < low, LATENCY))
    h.reached("clamped_high", used & h.past(rounded > high, LATENCY))
    h.reached("tie_below_zero", used & h.past((exact + half == 0) & (low < 0), LATENCY))
    h.reached("raw", h.past(unit.raw, LATENCY) & entered)

    if post_shift:
        tie = h.past((places != 0) & (once < 0) & (rounded << places != once), LATENCY)
        h.reached("rounded_away_below_zero", used & tie)


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
)
