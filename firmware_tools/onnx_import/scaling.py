"""Multipliers, shifts and biases from real ratios, with a bound of what they are off by."""

from dataclasses import dataclass

import numpy as np

from firmware_tools.requantization import FactorError, Reals, multiplier, shared_multiplier
from model.mars.network import Ints


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
    try:
        if skip_ratio:
            mult, shift, skip_mult = shared_multiplier(ratio, skip_ratio)
        else:
            (mult, shift), skip_mult = multiplier(ratio), 0
    except FactorError:
        return None
    unit = np.ldexp(1.0, -shift)
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
        mult=mult,
        shift=shift,
        skip_mult=skip_mult,
        error=float(error.max()),
    )
