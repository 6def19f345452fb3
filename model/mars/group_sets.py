"""Group-sets, what the accelerator stores or skips: 16 input channels x one tap x some kernels."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.mars.config import KERNELS, NIBBLE, WORD_LINES
from model.mars.network import Conv, Dense, FeatureType, Ints

Flags = NDArray[np.bool_]


def kernels_per_set(weight_bits: int) -> int:
    """16 kernels of up to 4 bit, else 8."""
    return KERNELS if weight_bits <= NIBBLE else KERNELS // 2


def n_kept_sets(layer: Conv | Dense, source: FeatureType) -> int:
    """Group-sets of a layer that have to be stored; `source` is the type of what it reads."""
    return int(kept_sets(by_tap(layer, source), layer.weight_bits).sum())


def by_tap(layer: Conv | Dense, source: FeatureType) -> Ints:
    """Weights as (Cout, Cin, taps); a dense layer has the pixels of its input as taps.

    Those of a convolution in groups are 0 for the channels of other groups.
    """
    n_kernels, n_channels = len(layer.weight), source.shape[0]
    if isinstance(layer, Dense) or layer.groups == 1:
        return layer.weight.reshape(n_kernels, n_channels, -1)
    n_taps = layer.kernel[0] * layer.kernel[1]
    weight = np.zeros((layer.groups, n_kernels // layer.groups, n_channels, n_taps), np.int64)
    own = layer.weight.reshape(layer.groups, n_kernels // layer.groups, -1, n_taps)
    for group, channels in enumerate(np.split(np.arange(n_channels), layer.groups)):
        weight[group][:, channels] = own[group]
    return weight.reshape(n_kernels, n_channels, n_taps)


def kept_sets(weight: Ints, weight_bits: int) -> Flags:
    """Which group-sets of (Cout, Cin, taps) weights are not all zero: (blocks, blocks, taps).

    The first axis has the blocks of kernels, the second one those of input channels.
    """
    return np.asarray(_sets(weight != 0, weight_bits).any(axis=(1, 3)))


def set_norms(weight: Ints, weight_bits: int) -> NDArray[np.float64]:
    """Norm of each group-set of (Cout, Cin, taps) weights, in the shape of `kept_sets`."""
    return np.asarray(np.sqrt(_sets(weight**2, weight_bits).sum(axis=(1, 3))))


def spread(flags: Flags, weight_bits: int, shape: tuple[int, ...]) -> Flags:
    """Flags of group-sets as a mask of the weights (Cout, Cin, taps), which have that shape."""
    kernels = kernels_per_set(weight_bits)
    return flags.repeat(kernels, axis=0).repeat(WORD_LINES, axis=1)[: shape[0], : shape[1]]


def clear_sets(weight: Ints, weight_bits: int, cleared: Flags) -> Ints:
    """The weights (Cout, Cin, taps) with 0 in some group-sets, and some weight in each other one.

    Parameters
    ----------
    weight : (Cout, Cin, taps) int
    weight_bits : int
        2..8.
    cleared : (blocks, blocks, taps) bool
        As `kept_sets` counts them.
    """
    kernels = kernels_per_set(weight_bits)
    result = weight.copy()
    # The first weight of a set is in every set, however many channels fill up the others.
    corners = result[::kernels, ::WORD_LINES]
    corners[~kept_sets(weight, weight_bits)] = 1
    result[spread(cleared, weight_bits, weight.shape)] = 0
    return result


def choose_sets(rng: np.random.Generator, weight: Ints, weight_bits: int, share: float) -> Flags:
    """The nearest number to a share of the group-sets of (Cout, Cin, taps) weights, anywhere."""
    shape = kept_sets(weight, weight_bits).shape
    n_sets = int(np.prod(shape))
    chosen = np.zeros(n_sets, bool)
    chosen[rng.permutation(n_sets)[: round(share * n_sets)]] = True
    return chosen.reshape(shape)


def _sets(values: NDArray[Any], weight_bits: int) -> NDArray[Any]:
    """(Cout, Cin, taps) as (blocks, kernels, blocks, channels, taps), filled up with 0."""
    kernels = kernels_per_set(weight_bits)
    n_kernels, n_channels, n_taps = values.shape
    missing = ((0, -n_kernels % kernels), (0, -n_channels % WORD_LINES), (0, 0))
    filled = np.pad(values, missing)
    return filled.reshape(len(filled) // kernels, kernels, -1, WORD_LINES, n_taps)
