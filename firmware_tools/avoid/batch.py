"""Many images at once through a quantised network on the host: the reference's integers, sooner.

Products are summed in float32, which is exact as long as no sum can reach 2^24; a network for which
one could is refused. Only what the perception is made of: plain convolutions and dense layers in a
chain, the last one's results accumulators.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from model.mars.network import (
    INPUT,
    Conv,
    Dense,
    FeatureType,
    Layer,
    NetworkError,
    QuantizedNetwork,
    clamp_of,
)

EXACT = 1 << 24
"""Integers below are exact in float32."""
PLAIN = {"groups", "dilation", "pad_value", "post_shift", "offset", "skip", "neuron"}
"""Fields of a layer that must be as they are by default."""
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class _Step:
    """A layer; `weight` is (taps and channels, kernels), channels running fastest."""

    layer: Conv | Dense
    kind: FeatureType
    weight: Floats


@njit(cache=True)
def _columns(
    maps: Floats,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    corner: tuple[int, int],
    size: tuple[int, int],
) -> Floats:
    """What each result is a sum of: (N rows columns, Kh Kw C), of maps (N, H, W, C)."""
    n, n_rows, n_cols, channels = maps.shape
    result = np.zeros((n * size[0] * size[1], kernel[0] * kernel[1] * channels), np.float32)
    line = 0
    for image in range(n):
        for row in range(size[0]):
            for column in range(size[1]):
                place = 0
                for dy in range(kernel[0]):
                    y = row * stride[0] + dy - corner[0]
                    for dx in range(kernel[1]):
                        x = column * stride[1] + dx - corner[1]
                        if 0 <= y < n_rows and 0 <= x < n_cols:
                            result[line, place : place + channels] = maps[image, y, x]
                        place += channels
                line += 1
    return result


@njit(cache=True)
def _requantise(acc: Floats, bias: Ints, mult: Ints, shift: Ints, low: int, high: int) -> None:
    """Make results of sums (n, channels): clamp(((acc + bias) mult + half) >> shift)."""
    half = np.int64(1) << (shift - 1)
    for line in range(acc.shape[0]):
        for c in range(acc.shape[1]):
            scaled = ((np.int64(acc[line, c]) + bias[c]) * mult[c] + half[c]) >> shift[c]
            acc[line, c] = min(max(scaled, low), high)


class BatchNetwork:
    """A quantised network for many images at once.

    Parameters
    ----------
    network : QuantizedNetwork
        Convolutions without groups, dilation and residuals, and dense layers, in a chain.

    Raises
    ------
    NetworkError
        It has other layers, or sums that float32 does not hold exactly.
    """

    def __init__(self, network: QuantizedNetwork) -> None:
        self._steps = []
        source = INPUT
        for layer in network.layers:
            self._steps.append(_step(layer, source, network.types))
            source = layer.name

    def __call__(self, images: NDArray[np.integer[Any]]) -> Ints:
        """Results of images (N, C, H, W), values of the network's input type: (N, outputs)."""
        maps: Any = np.ascontiguousarray(images.transpose(0, 2, 3, 1), np.float32)
        for step in self._steps:
            maps = _results(step, maps)
        flat: Ints = maps.transpose(0, 3, 1, 2).reshape(len(images), -1).astype(np.int64)
        return flat


def _step(layer: Layer, source: str, types: dict[str, FeatureType]) -> _Step:
    usual = {one.name: one.default for one in fields(layer) if one.name in PLAIN}
    if (
        not isinstance(layer, Conv | Dense)
        or layer.input != source
        or any(getattr(layer, name) != value for name, value in usual.items())
    ):
        raise NetworkError(f"layer {layer.name!r} must be a plain convolution or dense layer")
    before = types[source]
    weight = layer.weight.reshape(len(layer.weight), -1)
    most = int(np.abs(weight).sum(1).max()) * max(-before.low, before.high)
    if most >= EXACT:
        raise NetworkError(f"layer {layer.name!r}: sums must be below 2^24, not {most}")
    taps = layer.weight if isinstance(layer, Conv) else weight.reshape(-1, *before.shape)
    by_tap = taps.transpose(2, 3, 1, 0).reshape(-1, len(weight))
    return _Step(layer, types[layer.name], by_tap.astype(np.float32))


def _results(step: _Step, maps: Floats) -> NDArray[Any]:
    """Results of a layer, (N, H, W, C): float32, or int64 for accumulators."""
    layer, kind = step.layer, step.kind
    if isinstance(layer, Conv):
        kernel, corner = layer.weight.shape[2:], (layer.padding[0], layer.padding[1])
        columns = _columns(maps, kernel, layer.stride, corner, kind.shape[1:])
    else:
        columns = maps.reshape(len(maps), -1)
    acc = columns @ step.weight
    shape = (len(maps), *kind.shape[1:], kind.shape[0])
    if layer.mult is None or layer.shift is None:  # the results are accumulators
        total = acc.astype(np.int64) + layer.bias
        return total.reshape(shape)
    _requantise(acc, layer.bias, layer.mult, layer.shift, *clamp_of(layer, kind))
    return acc.reshape(shape)
