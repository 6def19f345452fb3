"""Real factors as multipliers and shifts of the hardware.

A factor f becomes ``mult / 2^shift``. Each channel has the largest shift with which the rounded
multiplier has 16 bits, so ``|mult/2^shift - f| <= 2^-(shift+1)``, which is at most ``f * 2^-16`` as
long as the shift is below 40; no other choice is nearer. A result before rounding is then off by
no more than ``|acc| * 2^-(shift+1)``, and an integer differs from the rounded real product only if
that lies so close to a tie.
"""

import numpy as np
from numpy.typing import NDArray

from firmware_tools.errors import UserError
from model.mars.network import MULT_MAX, SHIFT_MAX, Ints

Reals = NDArray[np.float64]


class FactorError(UserError):
    """A factor has no multiplier and shift; the text says what would be right."""


def multiplier(factor: Reals, mult_max: int = MULT_MAX) -> tuple[Ints, Ints]:
    """The nearest multiplier (16 bit, or up to 2^n - 1) and shift (1..40) for each factor.

    Raises
    ------
    FactorError
        A factor is not a positive number, or too large.
    """
    shift = _largest_shift(factor, mult_max)
    return _scaled(factor, shift), shift


def shared_multiplier(
    factor: Reals, skip_factor: float, mult_max: int = MULT_MAX
) -> tuple[Ints, Ints, int]:
    """Multipliers and the one shift of a layer with a residual, and the residual's multiplier.

    The residual has one multiplier for all channels, so all have its shift: the largest with
    which all multipliers have 16 bits. The error is still at most 2^-(shift+1) each. Raises as
    `multiplier`.
    """
    factors = np.append(factor, skip_factor)
    shift = np.full_like(factors, _largest_shift(factors, mult_max).min(), dtype=np.int64)
    mult = _scaled(factors, shift)
    return mult[:-1], shift[:-1], int(mult[-1])


def _largest_shift(factor: Reals, mult_max: int) -> Ints:
    good = np.isfinite(factor) & (factor > 0)
    if not good.all():
        raise FactorError(f"a requantisation factor must be positive, not {factor[~good][0]:g}")
    mantissa, exponent = np.frexp(factor)
    bits = mult_max.bit_length()
    shift = bits - exponent.astype(np.int64)
    shift -= np.rint(np.ldexp(mantissa, bits)) > mult_max  # 0.99999 becomes 2^16
    if shift.min() < 1:
        raise FactorError(
            f"a requantisation factor must be at most {mult_max / 2}, not {factor.max():g}"
        )
    return np.minimum(shift, SHIFT_MAX)


def _scaled(factor: Reals, shift: Ints) -> Ints:
    return np.rint(np.ldexp(factor, shift)).astype(np.int64)
