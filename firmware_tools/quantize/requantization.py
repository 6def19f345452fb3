"""Multiplier and shift of the hardware, and what it does with them, in exact float64.

A factor f becomes ``mult / 2^shift``. Without a residual each channel has the largest shift with
which the multiplier has 16 bits, so ``|mult/2^shift - f| <= 2^-(shift+1)``, which is at most
``f * 2^-16`` as long as the shift is below 40. A result before rounding is then off by no more
than ``|acc| * 2^-(shift+1)``, and an integer differs from the rounded real product only if that
lies so close to a tie.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from firmware_tools.quantize.errors import QuantizationError
from model.mars.network import MULT_MAX, SHIFT_MAX

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
MULT_BITS = 16


def multiplier(factor: Floats) -> tuple[Ints, Ints]:
    """The closest multiplier (16 bit) and shift (1..40) for each factor.

    Raises
    ------
    QuantizationError
        A factor is not a positive number, or too large.
    """
    shift = _largest_shift(factor)
    return _scaled(factor, shift), shift


def shared_multiplier(factor: Floats, skip_factor: float) -> tuple[Ints, Ints, int]:
    """Multipliers and the one shift of a layer with a residual, and the residual's multiplier.

    The residual has one multiplier for all channels, so all have its shift: the largest with
    which all multipliers have 16 bits. The error is still at most 2^-(shift+1) each.
    """
    all_factors = np.append(factor, skip_factor)
    shift = np.full(len(all_factors), _largest_shift(all_factors).min())
    mult = _scaled(all_factors, shift)
    return mult[:-1], shift[:-1], int(mult[-1])


def _largest_shift(factor: Floats) -> Ints:
    if not (np.isfinite(factor) & (factor > 0)).all():
        bad = factor[~(np.isfinite(factor) & (factor > 0))][0]
        raise QuantizationError(f"a requantisation factor must be positive, not {bad:g}")
    mantissa, exponent = np.frexp(factor)
    shift = MULT_BITS - exponent.astype(np.int64)
    shift -= np.rint(np.ldexp(mantissa, MULT_BITS)) > MULT_MAX  # 0.99999 becomes 2^16
    if shift.min() < 1:
        raise QuantizationError(
            f"a requantisation factor must be below {1 << (MULT_BITS - 1)}, not {factor.max():g}"
        )
    return np.minimum(shift, SHIFT_MAX)


def _scaled(factor: Floats, shift: Ints) -> Ints:
    return np.rint(np.ldexp(factor, shift)).astype(np.int64)


def requantise(
    total: Tensor,
    mult: Tensor,
    power: Tensor,
    limits: tuple[int, int],
    skip: Tensor | None = None,
    skip_mult: int = 0,
) -> Tensor:
    """``clamp((total*mult + skip*skip_mult + (1 << (shift-1))) >> shift)`` in float64.

    All numbers are integers below 2^50, and division by a power of two, `power`, is exact.
    """
    scaled = total * mult
    if skip is not None:
        scaled = scaled + skip.double() * skip_mult
    return torch.floor((scaled + power / 2) / power).clamp(*limits)
