"""The compute-in-memory macro: one access multiplies 16 activations with 16 kernels, exactly.

A group-set is 16 words of 64 bit, one per word line (input channel). Word line i holds the weights
of that channel: kernel k in bits 4k..4k+3, or with 8-bit weights kernel k < 8 in bits 8k..8k+7.
16 kernels of 8 bit are two group-sets, their lower nibbles and their upper ones.
An activation word holds the nibble of channel i in bits 4i..4i+3.
"""

import numpy as np
from numpy.typing import NDArray

from model.mars.config import NIBBLE, WORD_BITS

Words = NDArray[np.uint64]
Sums = NDArray[np.int32]


def _fields(words: Words, width: int, *, signed: bool) -> Sums:
    """Fields of `width` bits, the lowest first, along a new last axis."""
    starts = np.arange(0, WORD_BITS, width, dtype=np.uint64)
    fields = (np.asarray(words, np.uint64)[..., None] >> starts) & np.uint64((1 << width) - 1)
    values = fields.astype(np.int32)
    return values - ((values >> (width - 1)) << width) if signed else values


def decode_weights(words: Words, wide: bool) -> Sums:
    """Weights of group-sets.

    Parameters
    ----------
    words : (..., 16) uint64
        Rows as they are stored, by word line.
    wide : bool
        8-bit weights.

    Returns
    -------
    (..., 16, 16) int32
        By word line and kernel; kernels 8..15 of 8-bit weights are 0.
    """
    if not wide:
        return _fields(words, NIBBLE, signed=True)
    weights = _fields(words, 2 * NIBBLE, signed=True)
    return np.concatenate([weights, np.zeros_like(weights)], axis=-1)


def decode_nibbles(words: Words, *, upper: bool) -> Sums:
    """What one nibble of 8-bit weights in two entries adds to them, (..., 16, 16) int32.

    The lower ones have no sign, the upper ones count 16 times.
    """
    nibbles = _fields(words, NIBBLE, signed=upper)
    return nibbles << NIBBLE if upper else nibbles


def decode_activations(words: Words, signed: bool) -> Sums:
    """Activations of words (...) uint64, by word line: (..., 16) int32."""
    return _fields(words, NIBBLE, signed=signed)


def access(
    rows: Words, activations: Words, *, signed_activations: bool, wide: bool, low: bool = False
) -> Sums:
    """One access of every macro.

    Parameters
    ----------
    rows : (..., 16) uint64
        The group-set at the address, by word line.
    activations : (...) uint64
        16 nibbles; leading dimensions are broadcast against those of `rows`.
    signed_activations : bool
        The nibbles are two's complement: the upper ones of signed activations.
    wide, low : bool
        8-bit weights; lower nibbles of them, without a sign.

    Returns
    -------
    (..., 16) int32
        ``sums[k] = sum over i of a[i] * w[i][k]``, within -30720..30480.
    """
    weights = decode_nibbles(rows, upper=False) if low else decode_weights(rows, wide)
    sums = decode_activations(activations, signed_activations)[..., None, :] @ weights
    return sums[..., 0, :]
