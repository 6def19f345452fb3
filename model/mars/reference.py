"""The reference: what a quantised network computes, without a thought of the hardware."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from model.mars.network import (
    RAW_BITS,
    AvgPool,
    Conv,
    Dense,
    FeatureType,
    Ints,
    Layer,
    MaxPool2,
    QuantizedNetwork,
    check_features,
)


def run(network: QuantizedNetwork, inputs: NDArray[np.integer]) -> dict[str, Ints]:
    """Results of all layers, by name, in order: the last one is the network's output.

    Parameters
    ----------
    network : QuantizedNetwork
    inputs : (N, C, H, W) or (C, H, W) int
        Images, values of the network's input type.

    Returns
    -------
    {str: (N, C, H, W) int64}
        Dense layers and averages have H = W = 1.

    Raises
    ------
    NetworkError
        The images are not as above.
    """
    values = {"input": check_features(network.input_type, inputs)}
    for layer in network.layers:
        values[layer.name] = run_layer(layer, network.types[layer.name], values)
    del values["input"]
    return values


def run_layer(layer: Layer, kind: FeatureType, values: Mapping[str, Ints]) -> Ints:
    """Results of one layer, (N, C, H, W) int64.

    Parameters
    ----------
    layer : Layer
    kind : FeatureType
        Of the results.
    values : {str: (N, C, H, W) int64}
        At least what the layer reads.
    """
    source = values[layer.input]
    match layer:
        case Conv():
            acc = convolve(source, layer.weight, layer.stride, layer.padding)
            skip = 0 if layer.skip is None else values[layer.skip]
            return _finish(layer, acc, kind, skip, layer.skip_mult)
        case Dense():
            flat = source.reshape(len(source), -1, 1, 1)
            weight = layer.weight[:, :, np.newaxis, np.newaxis]
            return _finish(layer, convolve(flat, weight, stride=1, padding=0), kind)
        case MaxPool2():
            return max_pool(source)
        case AvgPool():
            total = source.sum(axis=(2, 3), keepdims=True)
            return requantize(total, layer.mult, layer.shift, kind)


def _finish(
    layer: Conv | Dense, acc: Ints, kind: FeatureType, skip: ArrayLike = 0, skip_mult: int = 0
) -> Ints:
    """Results from accumulators (N, C, H, W) that still lack the bias."""
    total: Ints = acc + _per_channel(layer.bias)
    if layer.out_bits == RAW_BITS or layer.mult is None or layer.shift is None:
        return total
    mult, shift = _per_channel(layer.mult), _per_channel(layer.shift)
    return requantize(total, mult, shift, kind, skip, skip_mult)


def _per_channel(values: Ints) -> Ints:
    return values[:, np.newaxis, np.newaxis]


def convolve(source: Ints, weight: Ints, stride: int, padding: int) -> Ints:
    """Integer convolution, or rather correlation: kernels are not turned over.

    Products are summed in float64, which is exact in every order: `QuantizedNetwork` warrants
    that the absolute values of a channel's products sum to less than 2^31, so every partial sum
    is an integer far below 2^53.

    Parameters
    ----------
    source : (N, Cin, H, W) int
    weight : (Cout, Cin, K, K) int
    stride, padding : int
        Pixels; what is around the map is 0.

    Returns
    -------
    (N, Cout, (H + 2*padding - K)//stride + 1, likewise for W) int64
    """
    n_images, n_channels = source.shape[:2]
    n_kernels, _, size, _ = weight.shape
    around = ((0, 0), (0, 0), (padding, padding), (padding, padding))
    padded = np.pad(source.astype(np.float64), around)
    rows, columns = ((side - size) // stride + 1 for side in padded.shape[2:])
    taps = weight.transpose(2, 3, 0, 1).astype(np.float64, order="C")
    acc = np.zeros((n_images, n_kernels, rows * columns))
    for dy in range(size):
        for dx in range(size):
            seen = padded[
                :,
                :,
                dy : dy + (rows - 1) * stride + 1 : stride,
                dx : dx + (columns - 1) * stride + 1 : stride,
            ]
            acc += taps[dy, dx] @ seen.reshape(n_images, n_channels, rows * columns)
    return acc.astype(np.int64).reshape(n_images, n_kernels, rows, columns)


def requantize(
    acc: Ints,
    mult: ArrayLike,
    shift: ArrayLike,
    kind: FeatureType,
    skip: ArrayLike = 0,
    skip_mult: int = 0,
) -> Ints:
    """``clamp((acc*mult + skip*skip_mult + (1 << (shift-1))) >> shift)``.

    The shift is arithmetic: ties round towards +infinity. int64 is enough: the products have
    fewer than 49 bits.

    Parameters
    ----------
    acc : (...) int
        32 bit, the bias included.
    mult, shift : int, or as `acc`
        0..65535 and 1..40.
    kind : FeatureType
        Its range clamps the result; unsigned types so do what ReLU does.
    skip : int, or as `acc`
        Residual of up to 8 bit.
    skip_mult : int
        0..65535.
    """
    places = np.asarray(shift, np.int64)
    half = np.int64(1) << (places - 1)
    scaled = acc * np.asarray(mult, np.int64) + np.asarray(skip, np.int64) * np.int64(skip_mult)
    result: Ints = np.clip((scaled + half) >> places, kind.low, kind.high)
    return result


def max_pool(source: Ints) -> Ints:
    """The largest of every 2x2 pixels, (N, C, H//2, W//2) of (N, C, H, W)."""
    rows, columns = (side // 2 for side in source.shape[2:])
    quads = source[:, :, : 2 * rows, : 2 * columns].reshape(*source.shape[:2], rows, 2, columns, 2)
    largest: Ints = quads.max(axis=(3, 5))
    return largest
