"""Multipliers, shifts and biases from real ratios, with a bound of what they are off by."""

from dataclasses import dataclass

import numpy as np

from firmware_tools.requantization import FactorError, Reals, multiplier, shared_multiplier
from model.mars.network import MULT_MAX, WIDE_MULT_MAX, Ints


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


@dataclass(frozen=True)
class Skip:
    """A residual, its zero subtracted.

    Parameters
    ----------
    ratio : float
        Output steps per step of the residual.
    largest : int
        Largest absolute value.
    """

    ratio: float
    largest: int


def post(
    ratio: Reals,
    bias: Reals,
    largest: Reals,
    span: float,
    *,
    wide: bool = False,
    skip: Skip | None = None,
) -> Post | None:
    """The nearest multipliers and biases, or None if a ratio is too large.

    Parameters
    ----------
    ratio : (Cout,) float
        Output steps per accumulator step.
    bias : (Cout,) float
        In accumulator steps.
    largest : (Cout,) float
        Bound of the absolute accumulator, bias included.
    span : float
        Bound of the absolute output: what is beyond is clamped.
    wide : bool
        Multipliers of 31 bits rather than 16.
    skip : Skip, optional
    """
    mult_max = WIDE_MULT_MAX if wide else MULT_MAX
    try:
        if skip is None:
            (mult, shift), skip_mult = multiplier(ratio, mult_max), 0
        else:
            mult, shift, skip_mult = shared_multiplier(ratio, skip.ratio, mult_max)
    except FactorError:
        return None
    unit = np.ldexp(1.0, -shift)
    error, reach = 0.0, span
    if skip is not None:
        error = abs(skip_mult * unit[0] - skip.ratio) * skip.largest
        reach += skip.ratio * skip.largest
    whole = np.rint(bias)
    errors = (
        np.abs(mult * unit - ratio) * np.minimum(largest, (reach + 1) / ratio)
        + np.abs(whole - bias) * ratio
        + error
    )
    return Post(whole.astype(np.int64), mult, shift, skip_mult, float(errors.max()))
