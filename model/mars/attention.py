"""What the reference takes softmax and layer normalisation for: their definition, in integers.

`//` rounds down, ``(2*a + b) // (2*b)`` is a/b rounded to the nearest, ties towards +infinity.
"""

import math

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

SEGMENTS = 16
"""Straight lines that stand for 2^-x, x from 0 to 1."""
ENDS = [round(2**18 * 2 ** (-k / SEGMENTS)) for k in range(SEGMENTS + 1)]


def _nearest(numerator: Ints, denominator: Ints | int) -> Ints:
    """The nearest integer to a quotient."""
    quotient: Ints = (2 * numerator + denominator) // (2 * denominator)
    return quotient


def exponentials(octaves: Ints) -> Ints:
    """``2^18 * 2^(-octaves / 2^16)``, nearly.

    x is rounded to 1/4096. Between multiples of 1/16 the power is a straight line whose ends are
    rounded.
    """
    x = _nearest(octaves, 16)
    whole, rest = np.divmod(x, 4096)
    segment, place = np.divmod(rest, 256)
    begin, end = (np.array(ENDS)[segment + k] for k in (0, 1))
    line = begin - _nearest((begin - end) * place, 256)
    return _nearest(line, 1 << np.minimum(whole, 20))


def softmax(scores: Ints, octaves: int) -> Ints:
    """Probabilities (..., n) of scores, in units of 2^-16.

    A score of one step less is less probable by ``2^(-octaves / 2^16)``. The division is a
    multiplication with 17 bits of the reciprocal of the sum.
    """
    powers = exponentials((scores.max(axis=-1, keepdims=True) - scores) * octaves)
    total = powers.sum(axis=-1, keepdims=True)
    scale = _to_reach(total, 1 << 27)
    inverse = ((1 << 44) - 1) // (total * scale)
    return _nearest(powers * inverse * scale, 1 << 28)


def normalise(values: Ints, epsilon: int) -> Ints:
    """``(x - mean) / sqrt(variance + epsilon / n^2)`` of (..., n), in units of 2^-14."""
    n = values.shape[-1]
    mean = values.sum(axis=-1, keepdims=True)  # times n, and the variance times n^2
    variance = (n * values**2).sum(axis=-1, keepdims=True) - mean**2 + epsilon
    variance = np.where(variance == 0, 1, variance)
    scale = np.vectorize(lambda v: 1 << (36 - int(v).bit_length()) // 2, otypes=[np.int64])(
        variance
    )
    deviation = np.vectorize(math.isqrt, otypes=[np.int64])(variance * scale**2)
    inverse = ((1 << 44) - 1) // (deviation << 10)
    return _nearest((n * values - mean) * inverse * scale, 1 << 20)


def _to_reach(total: Ints, least: int) -> Ints:
    """The least power of two that brings positive numbers to at least so much."""
    scale = np.ones_like(total)
    while (total * scale < least).any():
        scale = np.where(total * scale < least, 2 * scale, scale)
    return scale
