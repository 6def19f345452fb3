"""Multipliers, shifts and biases from real ratios, with a bound of what they are off by."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.mars.network import MULT_MAX, SHIFT_MAX, Ints

Reals = NDArray[np.float64]


@dataclass(frozen=True)
class Post:
    """What follows a layer's accumulators, and how far it is from the real numbers.

    Parameters
    ----------
    bias, mult, shift : (Cout,) int
    skip_mult : int
        0 without a residual.
    error : float
        Steps of the output type by which a value before its rounding differs at most from
        ``(acc + bias)*ratio + skip*skip_ratio`` in real numbers.
    """

    bias: Ints
    mult: Ints
    shift: Ints
    skip_mult: int
    error: float


def post(
    ratio: Reals,
    bias: Reals,
    largest: Reals,
    span: float,
    *,
    skip_ratio: float = 0.0,
    skip_largest: float = 0.0,
) -> Post | None:
    """The nearest multipliers and biases, or None if a ratio is too large for 16 bits.

    A channel has the largest shift with which its multiplier fits into 16 bits: the multiplier is
    then at least 2^15 (if the shift is not at its end, 40), and off by a 2^-16th part or less.
    With a residual, whose only multiplier serves all channels, they all have one shift.

    Parameters
    ----------
    ratio : (Cout,) float
        Output steps per accumulator step.
    bias : (Cout,) float
        In accumulator steps.
    largest : (Cout,) float
        Bound of the absolute accumulator, bias included.
    span : float
        Bound of the absolute output before the offset of its zero: what is beyond is clamped.
    skip_ratio, skip_largest : float
        Output steps per step of the residual, and bound of its absolute value.
    """
    shift = _shifts(ratio)
    if skip_ratio:
        shift = np.full_like(shift, min(shift.min(), _shifts(np.array([skip_ratio]))[0]))
    if shift.min() < 1:
        return None
    unit = np.exp2(-shift.astype(np.float64))
    mult, skip_mult = np.rint(ratio / unit), np.rint(skip_ratio / unit[0])
    whole = np.rint(bias)
    skip = skip_ratio * skip_largest
    reach = np.minimum(largest, (span + skip + 1) / ratio)
    error = (
        np.abs(mult * unit - ratio) * reach
        + np.abs(whole - bias) * ratio
        + abs(skip_mult * unit[0] - skip_ratio) * skip_largest
    )
    return Post(
        bias=whole.astype(np.int64),
        mult=mult.astype(np.int64),
        shift=shift,
        skip_mult=int(skip_mult),
        error=float(error.max()),
    )


def _shifts(ratio: Reals) -> Ints:
    """The largest shifts with which rounded multipliers have 16 bits; below 1: there is none."""
    shift = np.clip(np.floor(np.log2((MULT_MAX + 0.5) / ratio)), 0, SHIFT_MAX).astype(np.int64)
    return shift - (np.rint(ratio * np.exp2(shift.astype(np.float64))) > MULT_MAX)
