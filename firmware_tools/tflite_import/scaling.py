"""TensorFlow Lite's requantisation as multipliers, shifts and offsets of the accelerator.

Its reference kernels multiply by a 31-bit integer and round twice; with wide multipliers the
accelerator does the same. With narrow ones the nearest 16-bit multiplier rounds once.
"""

from dataclasses import dataclass

import numpy as np

from firmware_tools.requantization import Reals, multiplier
from model.mars.network import MULT_MAX, POST_SHIFT_MAX, SHIFT_MAX, Ints

FRACTION = 31
ADD_LEFT_SHIFT = 20


NEAR = 8
"""Neighbours of a 16-bit multiplier that are tried, and"""
BIASES = (0, 1, -1, 2, -2)
"""what may be added to the accumulator with it."""
SMALL = 20
"""Factors of less than 2^-20 are left as they are: they make nearly all results 0."""
USUAL = 40.0
"""Distance from the zero point, in steps, at which results have become rarer by e."""


@dataclass(frozen=True)
class Scaling:
    """``away(((acc + bias)*mult + half) >> shift)``, by channel; `post_shift` is that of `away`."""

    mult: Ints
    shift: Ints
    post_shift: Ints | None
    bias: Ints

    def fields(self, bias: Ints) -> dict[str, Ints | None]:
        """As fields of a layer with this bias."""
        return {
            "bias": bias + self.bias,
            "mult": self.mult,
            "shift": self.shift,
            "post_shift": self.post_shift,
        }


def quantized_multiplier(real: float) -> tuple[int, int]:
    """TensorFlow Lite's multiplier, 31 bit, and exponent of a real factor."""
    if real == 0:
        return 0, 0
    mantissa, exponent = np.frexp(real)
    mult = int(np.floor(mantissa * (1 << FRACTION) + 0.5))
    if mult == 1 << FRACTION:
        mult, exponent = mult // 2, exponent + 1
    return (0, 0) if exponent < -FRACTION else (mult, int(exponent))


def scaling(real: Reals, ends: tuple[int, int], *, wide: bool, twice: bool = True) -> Scaling:
    """The multipliers of real factors.

    Parameters
    ----------
    real : (Cout,) float
    ends : (int, int)
        To which results are clamped, before the offset.
    wide : bool
        TensorFlow Lite's own multipliers; else 16 bits that come near.
    twice : bool
        Whether its kernel rounds twice.
    """
    bias = np.zeros(len(real), np.int64)
    pairs = [quantized_multiplier(float(factor)) for factor in real]
    own, exponent = np.array(pairs).T
    if not wide:
        mult, shift = multiplier(real)
        if twice:
            mult, bias = _near(own, exponent, mult, shift, ends)
        return Scaling(mult, shift, None, bias)
    mult = own
    if twice:
        post_shift = np.maximum(-exponent, 0)
        return Scaling(mult, FRACTION - np.maximum(exponent, 0), post_shift, bias)
    places = FRACTION - exponent
    lost = np.maximum(places - SHIFT_MAX, 0)
    return Scaling((mult + ((1 << lost) >> 1)) >> lost, places - lost, None, bias)


def _near(
    own: Ints, exponent: Ints, mult: Ints, shift: Ints, ends: tuple[int, int]
) -> tuple[Ints, Ints]:
    """Multipliers and biases that round once, but as often as can be like two roundings.

    What is compared are the least accumulators that give each result. Two roundings move those of
    positive results by up to one accumulator step towards 0: after a ReLU a bias does the same.
    """
    results = np.arange(ends[0] + 1, ends[1] + 1)
    weight = np.exp(-np.abs(results) / USUAL)
    is_used = (own > 0) & (exponent > -SMALL)
    wanted = _least(own, np.maximum(exponent, -SMALL), results)
    best_mult, best_bias = mult.copy(), np.zeros_like(mult)
    least_cost = np.full(len(mult), np.inf)
    for step in sorted(range(-NEAR, NEAR + 1), key=abs):
        near = np.clip(mult + step, 1, MULT_MAX)
        half = (1 << (shift - 1))[:, np.newaxis]
        least = -((half - (results << shift[:, np.newaxis])) // near[:, np.newaxis])
        for bias in BIASES:
            cost = np.abs(least - bias - wanted) @ weight
            is_better = (cost < least_cost) & is_used
            least_cost[is_better] = cost[is_better]
            best_mult[is_better], best_bias[is_better] = near[is_better], bias
    return best_mult, best_bias


def _least(own: Ints, exponent: Ints, results: Ints) -> Ints:
    """The least accumulators for which TensorFlow Lite's kernels give at least these results."""
    places = np.maximum(-exponent, 0)[:, np.newaxis]
    half = (1 << places) >> 1
    above = (results << places) - half
    below = half - ((1 - results) << places) + 1
    once = (np.where(results > 0, above, below) << FRACTION) - (1 << (FRACTION - 1))
    factor = np.maximum(own << np.maximum(exponent, 0), 1)[:, np.newaxis]
    least: Ints = -(-once // factor)
    return least


def mean_scaling(real: float, count: int, *, wide: bool) -> tuple[int, int, int]:
    """Multiplier, shift, second shift of a MEAN: its kernel divides the multiplier, not the sum."""
    mult, exponent = quantized_multiplier(real)
    places = min(count.bit_length() - 1, 32, FRACTION + exponent)
    mult, exponent = (mult << places) // count, exponent - places
    if wide:
        return mult, FRACTION - max(exponent, 0), min(max(-exponent, 0), POST_SHIFT_MAX)
    mults, shifts = multiplier(np.array([np.ldexp(float(mult), exponent - FRACTION)]))
    return int(mults[0]), int(shifts[0]), 0


def multiplied(values: Ints, real: float) -> Ints:
    """What TensorFlow Lite's MultiplyByQuantizedMultiplier makes of integers."""
    mult, exponent = quantized_multiplier(real)
    high = ((values << max(exponent, 0)) * mult + (1 << (FRACTION - 1))) >> FRACTION
    return away(high, max(-exponent, 0))


def single(*factors: float, over: float) -> float:
    """A ratio in float32, in which some kernels compute it."""
    product = np.float32(1)
    for factor in factors:
        product = np.float32(product * np.float32(factor))
    return float(np.float32(product / np.float32(over)))


def away(values: Ints, places: int) -> Ints:
    """Divided by a power of two and rounded, ties away from zero."""
    half = (1 << places) >> 1
    result: Ints = np.sign(values) * ((np.abs(values) + half) >> places)
    return result


def divided(values: Ints, divisor: int) -> Ints:
    """Divided and rounded, ties away from zero."""
    result: Ints = np.sign(values) * ((np.abs(values) + divisor // 2) // divisor)
    return result


def tflite_sum(first: Ints, second: Ints, scales: tuple[float, float, float]) -> Ints:
    """TensorFlow Lite's ADD of distances from the zero points, before offset and clamp."""
    one, two, out = scales
    twice = 2 * max(one, two)
    total = multiplied(first << ADD_LEFT_SHIFT, one / twice)
    total = total + multiplied(second << ADD_LEFT_SHIFT, two / twice)
    return multiplied(total, twice / ((1 << ADD_LEFT_SHIFT) * out))
