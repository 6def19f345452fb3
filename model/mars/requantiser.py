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
    *,
    post_shift: ArrayLike = 0,
    offset: ArrayLike = 0,
) -> Ints:
    """``clamp(away(((acc + bias)*mult + skip*skip_mult + (1 << (shift-1))) >> shift)) + offset``.

    The first shift is arithmetic, so ties round towards +infinity; `away` is a shift by
    `post_shift` whose ties round away from zero.

    Parameters
    ----------
    acc, bias : (...) int
        As in `raw`.
    mult : (...) int
        0..65535, or up to 31 bit with wide multipliers.
    shift : (...) int
        1..40.
    skip, skip_mult : (...) int
        Residual of 10 bit with sign, and its factor, as `mult`; no residual is 0.
    low, high : (...) int
        Ends of the result's type, less `offset`.
    post_shift : (...) int
        0..31; 0 without wide multipliers.
    offset : (...) int
        Added behind the clamp.
    """
    shifts = np.asarray(shift, np.int64)
    product = raw(acc, bias) * np.asarray(mult, np.int64)
    skip_product = np.asarray(skip, np.int64) * np.asarray(skip_mult, np.int64)
    rounded = (product + skip_product + (np.int64(1) << (shifts - 1))) >> shifts
    posts = np.asarray(post_shift, np.int64)
    # Half up, less one unit for negative values, is half away from zero.
    half = (np.int64(1) << posts >> 1) - ((rounded < 0) & (posts > 0))
    clamped = np.minimum(np.maximum((rounded + half) >> posts, low), high)
    return np.asarray(clamped + np.asarray(offset, np.int64), np.int64)
