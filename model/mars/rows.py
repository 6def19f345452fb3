"""Softmax and layer normalisation of the channels of a pixel, in integers: the row unit.

A row is what one pixel has: the scores of a token, or its features. The unit walks a row in phases,
16 channels per clock, and hands on a value per channel that is requantised as a sum of products is;
meanwhile the rows before and behind are in their other phases (`model.mars.clocks`).

```
softmax        largest value, sum of exponentials; reciprocal; each exponential times that
normalisation  sum and sum of squares; root, reciprocal; each difference from the mean times that
```
Both share the reciprocal and a multiplier of 20 x 17 bits per channel. No intermediate is wider
than its constant `*_WIDTH`, whatever the row.
"""

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

SOFTMAX_MAX = 512
"""Channels of a row of softmax."""
NORM_MAX = 1024
"""Channels of a row that is normalised."""
OCTAVE_BITS = 16
"""Fractional bits of `octaves`, the halvings per step of a score."""
OCTAVES_MAX = (1 << 20) - 1
EPSILON_MAX = (1 << 32) - 1

POWER_BITS = 18
"""An exponential is in units of 2^-18; the largest of a row is 1."""
POWER_WIDTH = POWER_BITS + 1
SEGMENT_BITS = 4
"""An octave has 16 segments, straight lines."""
PART_BITS = 8
"""Places in a segment."""
POWERS = np.array(
    [round((1 << POWER_BITS) * 2 ** (-k / (1 << SEGMENT_BITS))) for k in range(17)], np.int64
)
"""2^-x at the ends of the segments."""
POWER_SUM_WIDTH = 28
"""Of at most 512 exponentials, at least 2^18."""
SUM_WIDTH = 18
"""Of at most 1024 values of 8 bit, with a sign."""
SQUARES_WIDTH = 26
VARIANCE_WIDTH = 36
"""Of C^2 times the variance, `epsilon` added."""
ROOT_WIDTH = VARIANCE_WIDTH // 2
CENTRED_WIDTH = 19
"""Of C times a difference from the mean, with a sign."""
INVERSE_WIDTH = 17
PROBABILITY_BITS = 16
"""Fractional bits of what softmax hands on, 0..65536."""
NORMAL_BITS = 14
"""Fractional bits of what normalisation hands on."""
NORMAL_WIDTH = 20

QUOTIENT_BITS = POWER_SUM_WIDTH - 1 + INVERSE_WIDTH
_ROOT_UP = POWER_SUM_WIDTH - ROOT_WIDTH


def power(octaves: Ints) -> Ints:
    """About 2^-x in units of 2^-18, of x in units of 2^-16: at most 0.034 % and half a unit off.

    Twelve fractional bits count: four choose a segment, eight a place on its line.
    """
    dropped = OCTAVE_BITS - SEGMENT_BITS - PART_BITS
    places = (octaves + (1 << (dropped - 1))) >> dropped
    part = places & ((1 << PART_BITS) - 1)
    segment = places >> PART_BITS & ((1 << SEGMENT_BITS) - 1)
    shift = np.minimum(places >> (PART_BITS + SEGMENT_BITS), POWER_WIDTH + 1)
    begin, end = POWERS[segment], POWERS[segment + 1]
    value = begin - (((begin - end) * part + (1 << (PART_BITS - 1))) >> PART_BITS)
    rounded: Ints = ((value << 1 >> shift) + 1) >> 1
    return rounded


def reciprocal(divisor: Ints) -> Ints:
    """``floor((2^44 - 1) / divisor)``, 17 bits, of 28 bits whose uppermost one is set."""
    quotient: Ints = ((1 << QUOTIENT_BITS) - 1) // divisor
    return quotient


def root(value: Ints) -> Ints:
    """Square root of numbers of 36 bits, rounded down, a bit after the other."""
    result, rest = np.zeros_like(value), value.copy()
    for place in reversed(range(ROOT_WIDTH)):
        trial = ((result << 1) + (1 << place)) << place
        fits = rest >= trial
        rest = np.where(fits, rest - trial, rest)
        result = np.where(fits, result + (1 << place), result)
    return result


def _missing(value: Ints, width: int) -> Ints:
    """Places by which positive numbers of up to so many bits can be shifted up within them."""
    length = np.zeros_like(value)
    for place in range(width):
        length += value >> place > 0
    return width - length


def _product(value: Ints, inverse: Ints, shift: Ints) -> Ints:
    """``value * inverse >> shift``, ties towards +infinity."""
    product: Ints = (value * inverse + (np.int64(1) << (shift - 1))) >> shift
    return product


def softmax(rows: Ints, octaves: int) -> Ints:
    """Probabilities of scores.

    Parameters
    ----------
    rows : (..., channels) int
        Up to 512 scores of 8 bit, signed or not.
    octaves : int
        By how many halvings a score of one step less is less probable, in units of 2^-16: the
        scores' scale divided by ln 2.

    Returns
    -------
    (..., channels) int64
        In units of 2^-16.
    """
    largest = rows.max(axis=-1, keepdims=True)
    powers = power((largest - rows) * octaves)
    total = powers.sum(axis=-1, keepdims=True)
    up = _missing(total, POWER_SUM_WIDTH)
    inverse = reciprocal(total << up)
    return _product(powers, inverse, QUOTIENT_BITS - PROBABILITY_BITS - up)


def normalise(rows: Ints, epsilon: int) -> Ints:
    """Differences from the mean, in standard deviations.

    Parameters
    ----------
    rows : (..., channels) int
        Up to 1024 values of 8 bit, signed or not.
    epsilon : int
        Added to the variance times the square of the number of channels, 32 bit.

    Returns
    -------
    (..., channels) int64
        In units of 2^-14, within +-524287; all 0 of a row of equal values.
    """
    n = rows.shape[-1]
    total = rows.sum(axis=-1, keepdims=True)
    squares = (rows * rows).sum(axis=-1, keepdims=True)
    variance = np.maximum(n * squares - total * total + epsilon, 1)
    up = _missing(variance, VARIANCE_WIDTH) >> 1
    inverse = reciprocal(root(variance << 2 * up) << _ROOT_UP)
    shift = QUOTIENT_BITS - _ROOT_UP - NORMAL_BITS - up
    return _product(n * rows - total, inverse, shift)
