"""TensorFlow Lite's requantisation as multipliers, shifts and offsets of the accelerator.

Its reference kernels multiply by a 31-bit integer and round twice; with wide multipliers the
accelerator does the same. With narrow ones the nearest 16-bit multiplier rounds once.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from firmware_tools.requantization import Reals, multiplier, shared_multiplier
from model.mars.network import MULT_MAX, POST_SHIFT_MAX, SHIFT_MAX, WIDE_MULT_MAX, Ints

FRACTION = 31
ADD_LEFT_SHIFT = 20
SEARCH = 64
"""Neighbours of a multiplier that are tried."""


@dataclass(frozen=True)
class Scaling:
    """``away((acc*mult + half) >> shift)``, by channel; `post_shift` is that of `away`."""

    mult: Ints
    shift: Ints
    post_shift: Ints | None


def quantized_multiplier(real: float) -> tuple[int, int]:
    """TensorFlow Lite's multiplier, 31 bit, and exponent of a real factor."""
    if real == 0:
        return 0, 0
    mantissa, exponent = np.frexp(real)
    mult = int(np.floor(mantissa * (1 << FRACTION) + 0.5))
    if mult == 1 << FRACTION:
        mult, exponent = mult // 2, exponent + 1
    return (0, 0) if exponent < -FRACTION else (mult, int(exponent))


def scaling(real: Reals, *, wide: bool, twice: bool = True) -> Scaling:
    """The multipliers of real factors; wide ones round twice, or once."""
    if not wide:
        mult, shift = multiplier(real)
        return Scaling(mult, shift, None)
    pairs = [quantized_multiplier(float(factor)) for factor in real]
    mult = np.array([pair[0] for pair in pairs])
    exponent = np.array([pair[1] for pair in pairs])
    if not twice:
        places = FRACTION - exponent
        lost = np.maximum(places - SHIFT_MAX, 0)
        return Scaling((mult + ((1 << lost) >> 1)) >> lost, places - lost, None)
    return Scaling(mult, FRACTION - np.maximum(exponent, 0), np.maximum(-exponent, 0))


def multiplied(values: Ints, real: float) -> Ints:
    """What TensorFlow Lite's MultiplyByQuantizedMultiplier makes of integers."""
    mult, exponent = quantized_multiplier(real)
    high = ((values << max(exponent, 0)) * mult + (1 << (FRACTION - 1))) >> FRACTION
    return away(high, max(-exponent, 0))


def away(values: Ints, places: int) -> Ints:
    """Divided by a power of two and rounded, ties away from zero."""
    half = (1 << places) >> 1
    result: Ints = np.sign(values) * ((np.abs(values) + half) >> places)
    return result


def divided(values: Ints, divisor: int) -> Ints:
    """Divided and rounded, ties away from zero."""
    result: Ints = np.sign(values) * ((np.abs(values) + divisor // 2) // divisor)
    return result


@dataclass(frozen=True)
class SumScaling:
    """Of two addends: ``away((x1*mult + x2*skip_mult + half) >> shift)``, and pairs that differ."""

    mult: int
    skip_mult: int
    shift: int
    post_shift: int
    n_different: int


def tflite_sum(first: Ints, second: Ints, scales: tuple[float, float, float]) -> Ints:
    """TensorFlow Lite's Add of distances from the zero points, before offset and clamp."""
    one, two, out = scales
    twice = 2 * max(one, two)
    total = multiplied(first << ADD_LEFT_SHIFT, one / twice)
    total = total + multiplied(second << ADD_LEFT_SHIFT, two / twice)
    return multiplied(total, twice / ((1 << ADD_LEFT_SHIFT) * out))


@cache
def sum_scaling(
    scales: tuple[float, float, float],
    ranges: tuple[tuple[int, int], tuple[int, int]],
    *,
    wide: bool,
) -> SumScaling:
    """Multipliers that add as TensorFlow Lite does for all pairs of values, or nearly all.

    Parameters
    ----------
    scales : (float, float, float)
        Of both addends and the sum.
    ranges : ((int, int), (int, int))
        Least and largest distance from the zero point of both.
    wide : bool
        31-bit multipliers, tried for all pairs and their neighbours; else 16 bits.
    """
    ratios = np.array([scales[0] / scales[2], scales[1] / scales[2]])
    first = np.arange(ranges[0][0], ranges[0][1] + 1)[:, np.newaxis]
    second = np.arange(ranges[1][0], ranges[1][1] + 1)[np.newaxis]
    wanted = np.clip(tflite_sum(first, second, scales), -512, 511)

    def different(mult: int, skip_mult: int, shift: int, post_shift: int) -> int:
        half = 1 << (shift - 1)
        made = away((first * mult + second * skip_mult + half) >> shift, post_shift)
        return int((np.clip(made, -512, 511) != wanted).sum())

    if not wide:
        mults, shifts, skip = shared_multiplier(ratios[:1], float(ratios[1]))
        found = int(mults[0]), skip, int(shifts[0]), 0
        return SumScaling(*found, different(*found))
    places = FRACTION - int(np.frexp(ratios.max())[1])
    while round(float(ratios.max()) * 2.0**places) > WIDE_MULT_MAX:
        places -= 1
    post_shift = min(places - 1, 20)
    shift = places - post_shift
    base = [round(float(ratio) * 2.0**places) for ratio in ratios]
    best: SumScaling | None = None
    for step in sorted(range(-SEARCH, SEARCH + 1), key=abs):
        for delta in ((step, 0), (0, step), (step, step)):
            pair = base[0] + delta[0], base[1] + delta[1]
            if not 0 <= min(pair) <= max(pair) <= WIDE_MULT_MAX:
                continue
            n = different(*pair, shift, post_shift)
            if best is None or n < best.n_different:
                best = SumScaling(*pair, shift, post_shift, n)
            if not n:
                return best
    assert best is not None
    return best


@dataclass(frozen=True)
class MeanScaling:
    """``away(((sum + bias)*mult + half) >> shift)`` for all sums, and sums that differ."""

    mult: int
    shift: int
    post_shift: int
    n_different: int


def mean_scaling(sums: Ints, wanted: Ints, real: float, *, wide: bool) -> MeanScaling:
    """The multiplier that gives what is wanted for all sums, or nearly all."""

    def different(mult: int, shift: int, post_shift: int) -> int:
        made = away((sums * mult + (1 << (shift - 1))) >> shift, post_shift)
        return int((made != wanted).sum())

    best: MeanScaling | None = None
    if not wide:
        mults, shifts = multiplier(np.array([real]))
        # A little more than the factor has ties round away from zero.
        for step in (0, 1, -1, 2, -2):
            narrow = min(int(mults[0]) + step, MULT_MAX), int(shifts[0]), 0
            n = different(*narrow)
            if best is None or n < best.n_different:
                best = MeanScaling(*narrow, n)
        assert best is not None
        return best
    places = FRACTION - 1 - int(np.frexp(real)[1])
    base = round(real * 2.0**places)
    for post_shift in range(min(places - 1, POST_SHIFT_MAX), -1, -1):
        shift = places - post_shift
        if shift > SHIFT_MAX:
            break
        for step in (0, 1, -1, 2, -2):
            n = different(base + step, shift, post_shift)
            if best is None or n < best.n_different:
                best = MeanScaling(base + step, shift, post_shift, n)
        if best is not None and not best.n_different:
            break
    assert best is not None
    return best
