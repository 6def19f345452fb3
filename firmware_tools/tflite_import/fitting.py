"""Multipliers that are searched until they give TensorFlow Lite's integer for every input."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from firmware_tools.requantization import multiplier, shared_multiplier
from firmware_tools.tflite_import.scaling import FRACTION, away, divided, tflite_sum
from model.mars.network import MULT_MAX, POST_SHIFT_MAX, SHIFT_MAX, WIDE_MULT_MAX, Ints

SEARCH = 64
"""Neighbours of a multiplier that are tried."""
BEYOND = 512
"""Results are clamped to less; what is beyond needs not be equal."""
POST_SHIFT = 20
"""A second shift that leaves enough places for ties."""
WEIGHT_MAX = 127
BIAS_MAX = 1 << 24
"""A bias that needs more belongs to a slope that changes nothing."""
STEPS = (0, *(sign << places for places in range(0, 18, 3) for sign in (1, -1)))
"""Added to the multiplier of an affine function."""


@dataclass(frozen=True)
class Fit:
    """``away((x1*mult + x2*skip_mult + half) >> shift)``, and how many inputs differ."""

    mult: int
    shift: int
    post_shift: int
    n_different: int
    skip_mult: int = 0
    weight: int = 1
    bias: int = 0


def _best(tries: Iterator[Fit]) -> Fit:
    """The first that is equal, or the one that differs least."""
    best: Fit | None = None
    for one in tries:
        if best is None or one.n_different < best.n_different:
            best = one
        if not best.n_different:
            break
    assert best is not None
    return best


def _places(factor: float, mult_max: int) -> int:
    """The largest shift with which a factor's multiplier is not too large."""
    places = mult_max.bit_length() - int(np.frexp(factor)[1])
    return places - (round(factor * 2.0**places) > mult_max)


def _split(places: int, wanted: int) -> tuple[int, int]:
    """Both shifts; the second one is as wanted if it can be."""
    post_shift = min(places - 1, wanted)
    return min(places - post_shift, SHIFT_MAX), post_shift


@cache
def sum_fit(
    scales: tuple[float, float, float],
    ranges: tuple[tuple[int, int], tuple[int, int]],
    signs: tuple[int, int],
    *,
    wide: bool,
) -> Fit:
    """Multipliers that add, or subtract, as TensorFlow Lite does for all pairs of values.

    Parameters
    ----------
    scales : (float, float, float)
        Of both addends and the sum.
    ranges : ((int, int), (int, int))
        Least and largest distance from the zero point of both.
    signs : (int, int)
        1, or -1 for what is subtracted.
    wide : bool
        31-bit multipliers and their neighbours; else 16 bits.
    """
    first, second = (
        np.arange(least, largest + 1) * sign
        for (least, largest), sign in zip(ranges, signs, strict=True)
    )
    first, second = first[:, np.newaxis], second[np.newaxis]
    wanted = np.clip(tflite_sum(first, second, scales), -BEYOND, BEYOND - 1)

    def made(mult: int, skip_mult: int, shift: int, post_shift: int) -> Fit:
        result = away((first * mult + second * skip_mult + (1 << (shift - 1))) >> shift, post_shift)
        n = int((np.clip(result, -BEYOND, BEYOND - 1) != wanted).sum())
        return Fit(mult, shift, post_shift, n, skip_mult)

    ratios = np.array([scales[0] / scales[2], scales[1] / scales[2]])
    if not wide:
        mults, shifts, skip = shared_multiplier(ratios[:1], float(ratios[1]))
        return made(int(mults[0]), skip, int(shifts[0]), 0)
    places = _places(float(ratios.max()), WIDE_MULT_MAX)
    shift, post_shift = _split(places, POST_SHIFT)
    base = [round(float(ratio) * 2.0 ** (shift + post_shift)) for ratio in ratios]

    def tries() -> Iterator[Fit]:
        for step in sorted(range(-SEARCH, SEARCH + 1), key=abs):
            for delta in ((step, 0), (0, step), (step, step)):
                pair = base[0] + delta[0], base[1] + delta[1]
                if 0 <= min(pair) <= max(pair) <= WIDE_MULT_MAX:
                    yield made(*pair, shift, post_shift)

    return _best(tries())


@cache
def average_fit(low: int, high: int, count: int, *, wide: bool) -> Fit:
    """The multiplier that divides sums of `count` values low..high, ties away from zero."""
    sums = np.arange(low * count, high * count + 1)
    wanted = divided(sums, count)

    def made(mult: int, shift: int, post_shift: int) -> Fit:
        result = away((sums * mult + (1 << (shift - 1))) >> shift, post_shift)
        return Fit(mult, shift, post_shift, int((result != wanted).sum()))

    def tries() -> Iterator[Fit]:
        # A little more than the factor has ties round away from zero.
        steps = (0, 1, -1, 2, -2)
        if not wide:
            mults, shifts = multiplier(np.array([1 / count]))
            for step in steps:
                yield made(min(int(mults[0]) + step, MULT_MAX), int(shifts[0]), 0)
            return
        places = FRACTION - 1 - int(np.frexp(1 / count)[1])
        for post_shift in range(min(places - 1, POST_SHIFT_MAX), -1, -1):
            if places - post_shift > SHIFT_MAX:
                return
            for step in steps:
                yield made(round(2.0**places / count) + step, places - post_shift, post_shift)

    return _best(tries())


def affine_fit(
    inputs: Ints,
    wanted: Ints,
    slope: float,
    intercept: float,
    *,
    ends: tuple[int, int],
    post_shift: int,
    wide: bool,
) -> Fit:
    """Weight, bias and multiplier of ``slope*x + intercept`` as TensorFlow Lite rounds it.

    Parameters
    ----------
    inputs, wanted : (...) int
        All inputs, and results before offset and clamp.
    slope, intercept : float
    ends : (int, int)
        To which results are clamped, before the offset.
    post_shift : int
        The second shift of TensorFlow Lite's kernel.
    wide : bool
    """
    target = np.clip(wanted, *ends)

    def made(weight: int, bias: int, mult: int, shift: int, post_shift: int) -> Fit:
        total = (inputs * weight + bias) * mult
        result = away((total + (1 << (shift - 1))) >> shift, post_shift)
        n = int((np.clip(result, *ends) != target).sum())
        return Fit(mult, shift, post_shift, n, weight=weight, bias=bias)

    if abs(slope) * BIAS_MAX <= abs(intercept) or slope == 0:  # nothing but what is added
        return made(0, round(intercept), 1 << 8, 8, 0)
    mult_max = WIDE_MULT_MAX if wide else MULT_MAX
    sign = 1 if slope > 0 else -1
    weights = np.arange(WEIGHT_MAX, 0, -1)
    exact = intercept * weights / abs(slope)
    order = np.argsort(np.abs(np.rint(exact) - exact) / weights, kind="stable")

    def tries() -> Iterator[Fit]:
        for weight, bias in zip(weights[order].tolist(), exact[order].tolist(), strict=True):
            factor = abs(slope) / weight
            shift, post = _split(_places(factor, mult_max), post_shift if wide else 0)
            base = round(factor * 2.0 ** (shift + post))
            for step in STEPS:
                if 0 <= base + step <= mult_max:
                    yield made(sign * weight, round(bias), base + step, shift, post)

    return _best(tries())
