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
        ``(acc + bias)*ratio + (skip - skip_zero)*skip_ratio + offset`` in real numbers.
    """

    bias: Ints
    mult: Ints
    shift: Ints
    skip_mult: int
    error: float


@dataclass(frozen=True)
class Skip:
    """A residual.

    Parameters
    ----------
    ratio : float
        Output steps per step of the residual.
    zero : int
        The residual's integer that stands for 0.
    largest : int
        Largest distance from it.
    """

    ratio: float
    zero: int
    largest: int


def post(
    ratio: Reals,
    bias: Reals,
    largest: Reals,
    span: float,
    *,
    offset: int = 0,
    skip: Skip | None = None,
) -> Post | None:
    """The nearest multipliers and biases, or None if a ratio is too large for 16 bits.

    What the zero points of result and residual add is divided by the hardware's multiplier rather
    than by the ratio, so that multipliers are off by a part of the distance from 0 and not of the
    distance from the type's least value.

    Parameters
    ----------
    ratio : (Cout,) float
        Output steps per accumulator step.
    bias : (Cout,) float
        In accumulator steps.
    largest : (Cout,) float
        Bound of the absolute accumulator, bias included.
    span : float
        Bound of the absolute output before the offset is added: what is beyond is clamped.
    offset : int
        The output's integer that stands for 0.
    skip : Skip, optional
    """
    try:
        if skip is None:
            (mult, shift), skip_mult = multiplier(ratio), 0
        else:
            mult, shift, skip_mult = shared_multiplier(ratio, skip.ratio)
    except FactorError:
        return None
    unit = np.ldexp(1.0, -shift)
    scale = np.where(mult > 0, mult * unit, ratio)  # below 2^-41 there is no multiplier
    rest, error, reach = float(offset), 0.0, span
    if skip is not None:
        skip_scale = skip_mult * unit[0]
        rest -= skip.zero * skip_scale
        error = abs(skip_scale - skip.ratio) * skip.largest
        reach += skip.ratio * skip.largest
    wanted = bias + rest / scale
    whole = np.rint(wanted)
    errors = (
        np.abs(mult * unit - ratio) * np.minimum(largest, (reach + 1) / ratio)
        + np.abs(whole - wanted) * scale
        + error
    )
    return Post(whole.astype(np.int64), mult, shift, skip_mult, float(errors.max()))
