"""Requantisation: from an accumulator to the type of a layer's results."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ints = NDArray[np.int64]


def raw(acc: ArrayLike, bias: ArrayLike) -> Ints:
    """Results without requantisation, those of a last layer.

    Parameters
    ----------
    acc, bias : (...) int
        32 bit each; that their sum has no more is the compiler's duty.
    """
    return np.asarray(acc, np.int64) + np.asarray(bias, np.int64)


def requantise(
    acc: ArrayLike,
    bias: ArrayLike,
    mult: ArrayLike,
    shift: ArrayLike,
    skip: ArrayLike,
    skip_mult: ArrayLike,
    low: ArrayLike,
    high: ArrayLike,
) -> Ints:
    """``clamp(((acc + bias)*mult + skip*skip_mult + (1 << (shift-1))) >> shift)``.

    The shift is arithmetic, so ties round towards +infinity.

    Parameters
    ----------
    acc, bias : (...) int
        As in `raw`.
    mult : (...) int
        0..65535.
    shift : (...) int
        1..40.
    skip, skip_mult : (...) int
        Residual of 9 bit with sign, and its factor, 0..65535; no residual is 0.
    low, high : (...) int
        Ends of the result's type.
    """
    shifts = np.asarray(shift, np.int64)
    product = raw(acc, bias) * np.asarray(mult, np.int64)
    skip_product = np.asarray(skip, np.int64) * np.asarray(skip_mult, np.int64)
    rounded = (product + skip_product + (np.int64(1) << (shifts - 1))) >> shifts
    clamped: Ints = np.minimum(np.maximum(rounded, low), high)
    return clamped
