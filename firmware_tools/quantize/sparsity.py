"""Sparsity that the accelerator can use: whole group-sets of weights that are zero.

A group-set is 16 input channels at one tap for 16 kernels (8 with more than 4 bits), see
`model.mars.group_sets`. A group lasso shrinks them as wholes, ``lambda * sum over group-sets of
sqrt(size) * ||w||_2``, on the weights with the normalisation fused; `prune` sets the smallest ones
to zero, and they stay so.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from firmware_tools.quantize.errors import CalibrationError, QuantizationError
from firmware_tools.quantize.layers import Product
from firmware_tools.quantize.twin import Twin
from model.mars.config import WORD_LINES
from model.mars.group_sets import by_tap, kept_sets, kernels_per_set
from model.mars.network import Conv, Dense, QuantizedNetwork

TINY = 1e-12
"""Below the root of a sum of squares, whose slope at 0 is infinite."""


def group_lasso(twin: Twin) -> Tensor:
    """The penalty, to be multiplied by lambda and added to the loss; spared layers have none."""
    return torch.stack([_penalty(layer) for layer in prunable(twin)]).sum()


def prune(twin: Twin, share: float) -> float:
    """Set the smallest group-sets to zero for good, and return the share of zero ones.

    The first layer is spared, but counted. A group-set's size is its norm relative to that
    of its layer's weights, so layers of few group-sets lose fewer. Every layer keeps at least one.

    Parameters
    ----------
    twin : Twin
        Calibrated.
    share : float
        Of all the network's group-sets, 0..1.

    Raises
    ------
    QuantizationError
        The share is not as above, or too large for the layers that are not spared.
    """
    if not 0 <= share <= 1:
        raise QuantizationError(f"sparsity must be 0..1, not {share:g}")
    layers = prunable(twin)
    sizes = [_relative_sizes(layer) for layer in layers]
    n_sets = sum(_norms(layer)[0].numel() for layer in twin.products())
    n_zero = int(np.ceil(share * n_sets - 1e-9))
    most = sum(size.numel() - 1 for size in sizes)
    if n_zero > most:
        raise QuantizationError(
            f"sparsity must be at most {most / n_sets:.3f} for this network (its first layer is "
            f"spared), not {share:g}"
        )
    for layer, size in zip(layers, _ranked(sizes), strict=True):
        layer.mask.mul_(_spread(size >= n_zero, layer))
    return n_zero / n_sets


def _ranked(sizes: list[Tensor]) -> list[Tensor]:
    """Positions in the order of size over all layers; each layer's largest comes last of all."""
    for size in sizes:
        size.view(-1)[size.argmax()] = torch.inf
    flat = torch.cat([size.flatten() for size in sizes])
    rank = torch.empty_like(flat)
    rank[flat.argsort(stable=True)] = torch.arange(len(flat), dtype=flat.dtype)
    parts = rank.split([size.numel() for size in sizes])
    return [part.view_as(size) for part, size in zip(parts, sizes, strict=True)]


def prunable(twin: Twin) -> list[Product]:
    """The layers with weights but for the first one, which has few and reads the images."""
    return twin.products()[1:]


def group_sparsity(network: QuantizedNetwork) -> float:
    """Share of an exported network's group-sets that are all zero."""
    kept = [
        kept_sets(by_tap(layer, network.types[layer.input]), layer.weight_bits)
        for layer in network.layers
        if isinstance(layer, Conv | Dense)
    ]
    flags: NDArray[np.bool_] = np.concatenate([part.ravel() for part in kept])
    return float((~flags).mean())


def _penalty(layer: Product) -> Tensor:
    norms, sizes = _norms(layer)
    return (norms * torch.sqrt(sizes)).sum()


def _relative_sizes(layer: Product) -> Tensor:
    with torch.no_grad():
        norms = _norms(layer)[0]
        result: Tensor = norms / norms.norm().clamp_min(TINY)
        return result


def _norms(layer: Product) -> tuple[Tensor, Tensor]:
    """Norm and number of weights of each group-set, (kernel blocks, channel blocks, taps)."""
    weight = _tapped(layer.kept, layer)
    squares = _blocks(weight**2, layer).sum((1, 3))
    return torch.sqrt(squares + TINY), _blocks(torch.ones_like(weight), layer).sum((1, 3))


def _tapped(weight: Tensor, layer: Product) -> Tensor:
    """Weights as (Cout, Cin, taps)."""
    channels = int(layer.source_shape[0])
    if not channels:
        raise CalibrationError(f"layer {layer.name!r} must be calibrated first")
    return weight.reshape(len(weight), channels, -1)


def _blocks(weight: Tensor, layer: Product) -> Tensor:
    """(Cout, Cin, taps) as (kernel blocks, kernels, channel blocks, channels, taps), with zeros."""
    kernels = kernels_per_set(layer.weights.bits)
    n_kernels, n_channels, n_taps = weight.shape
    filled = functional.pad(weight, (0, 0, 0, -n_channels % WORD_LINES, 0, -n_kernels % kernels))
    return filled.reshape(len(filled) // kernels, kernels, -1, WORD_LINES, n_taps)


def _spread(flags: Tensor, layer: Product) -> Tensor:
    """Flags of group-sets as a mask of the weights."""
    kernels = kernels_per_set(layer.weights.bits)
    shape = _tapped(layer.weight, layer).shape
    wide = flags.repeat_interleave(kernels, 0).repeat_interleave(WORD_LINES, 1)
    return wide[: shape[0], : shape[1]].reshape(layer.weight.shape).to(layer.weight.dtype)
