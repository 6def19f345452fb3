"""TensorFlow Lite's requantisation as multipliers, shifts and offsets of the accelerator.

Its reference kernels multiply by a 31-bit integer and round twice; with wide multipliers the
accelerator does the same. With narrow ones the nearest 16-bit multiplier rounds once.
"""

from dataclasses import dataclass

import numpy as np

from firmware_tools.requantization import Reals, multiplier
from model.mars.network import POST_SHIFT_MAX, SHIFT_MAX, Ints

FRACTION = 31
ADD_LEFT_SHIFT = 20


@dataclass(frozen=True)
class Scaling:
    """``away((acc*mult + half) >> shift)``, by channel; `post_shift` is that of `away`."""

    mult: Ints
    shift: Ints
    post_shift: Ints | None

    def fields(self) -> dict[str, Ints | None]:
        """As fields of a layer."""
        return {"mult": self.mult, "shift": self.shift, "post_shift": self.post_shift}


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
    if twice:
        return Scaling(mult, FRACTION - np.maximum(exponent, 0), np.maximum(-exponent, 0))
    places = FRACTION - exponent
    lost = np.maximum(places - SHIFT_MAX, 0)
    return Scaling((mult + ((1 << lost) >> 1)) >> lost, places - lost, None)


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
