"""Layers with fewer bits and more zero group-sets, without training.

Weights of b' instead of b bits are the integers that the quantiser of the training gives them, with
the scale s of the least error: ``w = s*w'`` nearly. Activations of b' bits are the results of the
layer before, times ``r = (largest of b' bits)/(largest of b bits)``. Sparsity clears the share of a
layer's group-sets with the smallest norms. What follows is scaled back by factors and biases:

    ``f' = f*s/r_in*r_out``,  ``b' = b*r_in/s``

so the result is an ordinary network for reference, golden machine and RTL.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from firmware_tools.adaptation.moments import Affine, factors, with_affine
from firmware_tools.search.errors import SearchError
from model.mars.group_sets import by_tap, set_norms, spread
from model.mars.network import MAX_BITS, Conv, Dense, Ints, MaxPool, QuantizedNetwork

MIN_BITS = 2


@dataclass(frozen=True)
class Reduction:
    """What a layer is left with.

    Parameters
    ----------
    weight_bits, activation_bits : int or None
        2..8, of its weights and of what it reads; None leaves them, as does a width that is not
        less than its own.
    sparsity : float
        Share of its group-sets that are zero at least, 0 to below 1; one always stays.

    Raises
    ------
    SearchError
        A parameter is not as above.
    """

    weight_bits: int | None = None
    activation_bits: int | None = None
    sparsity: float = 0.0

    def __post_init__(self) -> None:
        for name, bits in (
            ("--weight-bits", self.weight_bits),
            ("--activation-bits", self.activation_bits),
        ):
            if bits is not None and not MIN_BITS <= bits <= MAX_BITS:
                raise SearchError(f"{name} must be {MIN_BITS}..{MAX_BITS}, not {bits}")
        if not 0 <= self.sparsity < 1:
            raise SearchError(f"--sparsity must be 0 to below 1, not {self.sparsity:g}")

    def __str__(self) -> str:
        weights = "" if self.weight_bits is None else f"weights {self.weight_bits}"
        activations = "" if self.activation_bits is None else f"activations {self.activation_bits}"
        sparsity = f"sparsity {self.sparsity:g}" if self.sparsity else ""
        return ", ".join(part for part in (weights, activations, sparsity) if part)


AS_IT_IS = Reduction()


def check(network: QuantizedNetwork, wanted: Reduction) -> None:
    """Refuse bits for a network whose neurons have thresholds of their own."""
    if network.time_steps and (wanted.weight_bits or wanted.activation_bits):
        raise SearchError(
            f"--weight-bits and --activation-bits must be left out: {network.name} has neurons"
        )


def effective(network: QuantizedNetwork, name: str, wanted: Reduction) -> Reduction:
    """What of a reduction changes a layer.

    Activations are only of the layer if nothing else reads them and they are results of a
    convolution or dense layer, perhaps pooled, that are not offset or clamped within their type.
    Layers in groups keep their group-sets.
    """
    layer = _weighted(network, name)
    own = wanted.activation_bits
    if own is not None and (
        own >= network.types[layer.input].bits or producer(network, layer) is None
    ):
        own = None
    few = wanted.weight_bits
    if few is not None and few >= layer.weight_bits:
        few = None
    share = 0.0 if isinstance(layer, Conv) and layer.groups > 1 else wanted.sparsity
    return Reduction(few, own, share)


def producer(network: QuantizedNetwork, layer: Conv | Dense) -> Conv | Dense | None:
    """Whose results a layer reads alone, behind pools or not."""
    if isinstance(layer, Conv) and (layer.pad_value or layer.skip == layer.input):
        return None
    by_name = {one.name: one for one in network.layers}
    name = layer.input
    while name in by_name and len(network.consumers(name)) == 1:
        source = by_name[name]
        if isinstance(source, Conv | Dense):
            is_plain = (source.offset, source.low, source.high) == (0, None, None)
            return source if is_plain and source.mult is not None else None
        if not isinstance(source, MaxPool):
            return None
        name = source.input
    return None


def reduced(network: QuantizedNetwork, wanted: Mapping[str, Reduction]) -> QuantizedNetwork:
    """The network with some of its layers reduced, those that are named.

    Raises
    ------
    AdaptationError
        The hardware has no such factor.
    """
    own = {name: effective(network, name, one) for name, one in wanted.items()}
    if all(one == AS_IT_IS for one in own.values()):
        return network
    bits: dict[str, int] = {}
    for name, one in own.items():
        source = producer(network, _weighted(network, name))
        if one.activation_bits is not None and source is not None:
            bits[source.name] = one.activation_bits
    scales = dict(network.scales)
    ratio: dict[str, float] = {}
    layers = []
    for layer in network.layers:
        new = layer
        if isinstance(layer, MaxPool):
            ratio[layer.name] = ratio.get(layer.input, 1.0)
        elif isinstance(layer, Conv | Dense):
            out_bits = bits.get(layer.name, layer.out_bits)
            gain = ratio.get(layer.input, 1.0)
            new, step = _layer(network, layer, own.get(layer.name, AS_IT_IS), out_bits, gain)
            ratio[layer.name] = gain / step if new.mult is None else _ratio(network, new)
        if layer.name in scales:
            scales[layer.name] /= ratio.get(layer.name, 1.0)
        layers.append(new)
    return replace(network, layers=tuple(layers), scales=scales)


def _layer(
    network: QuantizedNetwork, layer: Conv | Dense, own: Reduction, out_bits: int, gain: float
) -> tuple[Conv | Dense, float]:
    """A layer whose input is smaller by a gain, and the scale of its weights."""
    weight_bits = own.weight_bits or layer.weight_bits
    weight, step = layer.weight, 1.0
    if own.sparsity:
        weight = _cleared(network, layer, weight_bits, own.sparsity)
    if weight_bits < layer.weight_bits:
        weight, step = requantised(weight, weight_bits)
    if weight is layer.weight and gain == 1 and out_bits == layer.out_bits:
        return layer, 1.0
    changed = replace(layer, weight=weight, weight_bits=weight_bits, out_bits=out_bits)
    out = _ratio(network, changed)
    if gain == step == out == 1:
        return changed, 1.0
    factor = factors(layer) * (step / gain * out)
    affine = Affine(factor, layer.bias.astype(np.float64) * (gain / step))
    return with_affine(changed, network.types[layer.input], affine, skip_ratio=out), step


def _ratio(network: QuantizedNetwork, layer: Conv | Dense) -> float:
    """Of the largest results of a layer as it is now and as it was."""
    before = network.types[layer.name]
    return float((1 << (layer.out_bits - layer.out_signed)) - 1) / before.high


def _cleared(
    network: QuantizedNetwork, layer: Conv | Dense, weight_bits: int, share: float
) -> Ints:
    """Weights without the smallest group-sets, those of a layer with so many bits."""
    weight = by_tap(layer, network.types[layer.input])
    norms = set_norms(weight, weight_bits)
    n_zero = min(int(np.ceil(share * norms.size - 1e-9)), norms.size - 1)
    flags = np.zeros(norms.size, np.bool_)
    flags[norms.ravel().argsort(kind="stable")[:n_zero]] = True
    mask = spread(flags.reshape(norms.shape), weight_bits, weight.shape)
    return np.where(mask, 0, weight).reshape(layer.weight.shape)


def requantised(weight: Ints, bits: int) -> tuple[Ints, float]:
    """Weights of fewer bits, and the scale that makes them the old ones again."""
    import torch

    from firmware_tools.quantize.quantizers import LSQ

    values, places, counts = np.unique(weight, return_inverse=True, return_counts=True)
    shares = torch.from_numpy(counts / counts.sum())

    class OfValues(LSQ):
        """Each value once, with the share of the weights that have it."""

        def mean(self, values: torch.Tensor) -> torch.Tensor:
            return (values * shares).sum()

        def largest_scale(self, x: torch.Tensor) -> torch.Tensor:
            return x.abs().max() / self.q_max

    quantizer = OfValues(bits, signed=True, is_weight=True)
    real = torch.from_numpy(values.astype(np.float64))
    step = quantizer.first_scale(real)
    fewer = quantizer.discretised(real, step).numpy().astype(np.int64)
    return fewer[places].reshape(weight.shape), float(step)


def _weighted(network: QuantizedNetwork, name: str) -> Conv | Dense:
    layer = network.layer(name)
    assert isinstance(layer, Conv | Dense)
    return layer
