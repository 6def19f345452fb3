"""The reference: what a quantised network computes, without a thought of the hardware."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from model.mars import attention, spiking
from model.mars.early_exit import steps_taken
from model.mars.network import (
    INPUT,
    RAW_BITS,
    AvgPool,
    Conv,
    Dense,
    FeatureType,
    Ints,
    Layer,
    LayerNorm,
    Lookup,
    MatMul,
    MaxPool,
    Pair,
    QuantizedNetwork,
    Select,
    Sides,
    Softmax,
    SumPool,
    Tokens,
    check_features,
    clamp_of,
    memory_of,
    neuron_of,
)

Products = Callable[[Conv | Dense, Ints], Ints]
"""Sums of products of a layer and what it reads, (N, Cout, H, W), the bias not included."""


def run(
    network: QuantizedNetwork, inputs: NDArray[np.integer], products: Products | None = None
) -> dict[str, Ints]:
    """Results of all layers, by name, in order: the last one is the network's output.

    Parameters
    ----------
    network : QuantizedNetwork
    inputs : (N, C, H, W) or (C, H, W) int
        Images, values of the network's input type.
    products : Products or None
        What computes convolutions and dense layers (`model.mars.devices`), step by step of a
        spiking network; None is exact.

    Returns
    -------
    {str: (N, C, H, W) int64}
        Dense layers and averages have H = W = 1. What changes in time is
        (N, time_steps, C, H, W); logits are summed over the steps so far.

    Raises
    ------
    NetworkError
        The images are not as above.
    """
    if network.time_steps:
        return run_steps(network, inputs, products).values
    values = {"input": check_features(network.input_type, inputs)}
    for layer in network.layers:
        values[layer.name] = run_layer(layer, network.types, values, products)
    del values["input"]
    return values


@dataclass(frozen=True)
class SpikingRun:
    """What a spiking network did.

    Parameters
    ----------
    values : {str: int64}
        Results of all layers, as `run` returns them.
    membranes : {str: (N, time_steps, C/groups, H, W) int64}
        By layer with a neuron: what it left in its memory in each step.
    steps : (N,) int64
        How many steps each image takes; what is computed in later ones does not count.
    """

    values: dict[str, Ints]
    membranes: dict[str, Ints]
    steps: Ints


def run_steps(
    network: QuantizedNetwork, inputs: NDArray[np.integer], products: Products | None = None
) -> SpikingRun:
    """A spiking network, step by step, in each step layer by layer; parameters as of `run`."""
    types = network.types
    values = {INPUT: check_features(network.input_type, inputs)}
    in_time = [layer for layer in network.layers if types[layer.name].time_steps]
    for layer in network.layers:
        if layer not in in_time:
            values[layer.name] = run_layer(layer, types, values, products)
    state = _State(network, len(values[INPUT]), products)
    for now in range(network.time_steps):
        of_step = {
            name: maps[:, now] if types[name].time_steps else maps for name, maps in values.items()
        }
        for layer in in_time:
            of_step[layer.name] = state.step(layer, of_step)
    results = {name: np.stack(steps, axis=1) for name, steps in state.values.items()}
    values = {layer.name: (values | results)[layer.name] for layer in network.layers}
    membranes = {name: np.stack(steps, axis=1) for name, steps in state.left.items()}
    logits = values[network.output]
    n_images, n_steps = logits.shape[:2]
    steps = steps_taken(network.exit, logits.reshape(n_images, n_steps, -1))
    return SpikingRun(values, membranes, steps)


class _State:
    """What lasts from step to step, and what came of each."""

    def __init__(self, network: QuantizedNetwork, n_images: int, products: Products | None) -> None:
        self.types = network.types
        self.products = products
        self.memories: dict[str, Ints] = {}
        self.memory_of: dict[str, str] = {}
        self.values: dict[str, list[Ints]] = {}
        self.left: dict[str, list[Ints]] = {}
        for layer in network.layers:
            neuron = neuron_of(layer)
            if neuron is not None:
                memory = self.memory_of[layer.name] = memory_of(layer.name, neuron)
                start = spiking.initial_membranes(neuron, n_images, self.types[layer.name].shape)
                self.memories.setdefault(memory, start)

    def step(self, layer: Layer, values: Mapping[str, Ints]) -> Ints:
        """The layer's results in this step, of which `values` has what it reads."""
        result = self._result(layer, values)
        self.values.setdefault(layer.name, []).append(result)
        return result

    def _result(self, layer: Layer, values: Mapping[str, Ints]) -> Ints:
        if not isinstance(layer, Conv | Dense):
            return run_layer(layer, self.types, values)
        charge = accumulate(layer, values[layer.input], self.products)
        if layer.neuron is None:
            before = self.values.get(layer.name)
            return charge if before is None else before[-1] + charge
        if isinstance(layer, Conv) and layer.skip is not None:
            charge = charge + values[layer.skip] * layer.skip_mult
        memory = self.memory_of[layer.name]
        spikes, membranes = spiking.step(layer.neuron, self.memories[memory], charge)
        self.memories[memory] = membranes
        self.left.setdefault(layer.name, []).append(membranes)
        return spikes


def run_layer(
    layer: Layer,
    types: Mapping[str, FeatureType],
    values: Mapping[str, Ints],
    products: Products | None = None,
) -> Ints:
    """Results of one layer without a neuron, (N, C, H, W) int64.

    Parameters
    ----------
    layer : Layer
    types : {str: FeatureType}
        Of the results and of what the layer reads.
    values : {str: (N, C, H, W) int64}
        At least what the layer reads.
    products : Products or None
        As of `run`.
    """
    kind = types[layer.name]
    if isinstance(layer, Select | Tokens):
        return _moved(layer, values)
    source = values[layer.input]
    match layer:
        case Conv() | Dense():
            acc = accumulate(layer, source, products)
            skip: ArrayLike = 0
            if isinstance(layer, Conv) and layer.skip is not None:
                skip = values[layer.skip] - layer.skip_zero
            return _finish(layer, acc, kind, skip)
        case SumPool():
            return sum_pool(source, layer.kernel, layer.steps)
        case Lookup():
            return np.asarray(layer.table[source - types[layer.input].low])
        case MaxPool():
            return max_pool(source, layer.kernel, layer.steps, layer.padding)
        case _:
            return _requantized(layer, kind, source, values)


def _requantized(
    layer: AvgPool | MatMul | Softmax | LayerNorm,
    kind: FeatureType,
    source: Ints,
    values: Mapping[str, Ints],
) -> Ints:
    """Results of a layer without weights that are requantised."""
    mult: ArrayLike = layer.mult
    shift: ArrayLike = layer.shift
    post_shift = 0 if isinstance(layer, LayerNorm) else layer.post_shift
    match layer:
        case AvgPool():
            acc = source.sum(axis=(2, 3), keepdims=True) + layer.bias
        case MatMul():
            acc = multiply(layer, source, values[layer.operand])
        case Softmax():
            heads = np.moveaxis(_split_channels(source, layer.heads), 2, -1)
            acc = np.moveaxis(attention.softmax(heads, layer.octaves), -1, 2).reshape(source.shape)
        case LayerNorm():
            by_token = attention.normalise(np.moveaxis(source, 1, -1), layer.epsilon)
            acc = np.moveaxis(by_token, -1, 1) + _per_channel(layer.bias)
            mult, shift = _per_channel(layer.mult), _per_channel(layer.shift)
    return requantize(acc, mult, shift, kind, post_shift=post_shift, offset=layer.offset)


def _moved(layer: Select | Tokens, values: Mapping[str, Ints]) -> Ints:
    """Results that are values of others: channels of maps, or pixels behind constant ones."""
    if isinstance(layer, Select):
        return np.concatenate([values[name] for name in layer.inputs], axis=1)[:, layer.channels]
    source = values[layer.input]
    n_images, channels, *_ = source.shape
    constant = np.broadcast_to(layer.values, (n_images, *layer.values.shape))
    moved = source.reshape(n_images, channels, -1)[..., layer.first :]
    pixels = np.concatenate([constant, moved], axis=2)
    return pixels[..., np.newaxis]


def _split_channels(values: Ints, heads: int) -> Ints:
    """(N, C, H, W) as (N, heads, C / heads, H, W)."""
    n_images, channels, *size = values.shape
    return values.reshape(n_images, heads, channels // heads, *size)


def multiply(layer: MatMul, source: Ints, operand: Ints) -> Ints:
    """Sums of products (N, C, H, W) of two maps, head by head; exact, as `convolve`."""
    n_images, _, *size = source.shape
    left, right = (
        values.reshape(n_images, layer.heads, -1, prod(values.shape[2:])).astype(np.float64)
        for values in (source, operand)
    )
    products = right.swapaxes(2, 3) @ left if layer.transposed else right @ left
    return products.astype(np.int64).reshape(n_images, -1, *size)


def accumulate(layer: Conv | Dense, source: Ints, products: Products | None = None) -> Ints:
    """Accumulators (N, C, H, W), the bias included."""
    acc = (products or exact_products)(layer, source)
    total: Ints = acc + _per_channel(layer.bias)
    return total


def exact_products(layer: Conv | Dense, source: Ints) -> Ints:
    """Sums of products (N, C, H, W), the bias not included."""
    if isinstance(layer, Dense):
        return convolve(source.reshape(len(source), -1, 1, 1), layer.weight[..., None, None])
    return convolve(
        source,
        layer.weight,
        layer.stride,
        layer.padding,
        pad_value=layer.pad_value,
        dilation=layer.dilation,
        groups=layer.groups,
    )


def _finish(layer: Conv | Dense, total: Ints, kind: FeatureType, skip: ArrayLike = 0) -> Ints:
    """Results from accumulators (N, C, H, W)."""
    if layer.out_bits == RAW_BITS or layer.mult is None or layer.shift is None:
        return total
    mult, shift = _per_channel(layer.mult), _per_channel(layer.shift)
    post_shift = 0 if layer.post_shift is None else _per_channel(layer.post_shift)
    skip_mult = layer.skip_mult if isinstance(layer, Conv) else 0
    result = requantize(
        total, mult, shift, kind, skip, skip_mult, post_shift=post_shift, offset=layer.offset
    )
    return np.clip(result, *clamp_of(layer, kind))


def _per_channel(values: Ints) -> Ints:
    return values[:, np.newaxis, np.newaxis]


def convolve(
    source: Ints,
    weight: Ints,
    stride: Pair = (1, 1),
    padding: Sides = (0, 0, 0, 0),
    *,
    pad_value: int = 0,
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Ints:
    """Integer convolution, or rather correlation: kernels are not turned over.

    Products are summed in float64, which is exact in every order: `QuantizedNetwork` warrants
    that the absolute values of a channel's products sum to less than 2^31, so every partial sum
    is an integer far below 2^53.

    Parameters
    ----------
    source : (N, Cin, H, W) int
    weight : (Cout, Cin/groups, Kh, Kw) int
    stride, padding, pad_value, dilation, groups
        As in `model.mars.network.Conv`.

    Returns
    -------
    (N, Cout, rows, columns) int64
    """
    n_images = len(source)
    n_kernels, n_channels, *size = weight.shape
    filled = padded(source.astype(np.float64), padding, pad_value)
    reach = [(size[k] - 1) * dilation[k] + 1 for k in range(2)]
    rows, columns = ((filled.shape[k + 2] - reach[k]) // stride[k] + 1 for k in range(2))
    by_group = filled.reshape(n_images, groups, n_channels, *filled.shape[2:])
    taps = weight.reshape(groups, n_kernels // groups, n_channels, *size)
    taps = taps.transpose(3, 4, 0, 1, 2).astype(np.float64, order="C")
    acc = np.zeros((n_images, groups, n_kernels // groups, rows * columns))
    for dy, dx in np.ndindex(*size):
        top, left = dy * dilation[0], dx * dilation[1]
        seen = by_group[
            ...,
            top : top + (rows - 1) * stride[0] + 1 : stride[0],
            left : left + (columns - 1) * stride[1] + 1 : stride[1],
        ]
        acc += taps[dy, dx] @ seen.reshape(n_images, groups, n_channels, rows * columns)
    return acc.astype(np.int64).reshape(n_images, n_kernels, rows, columns)


def requantize(
    acc: Ints,
    mult: ArrayLike,
    shift: ArrayLike,
    kind: FeatureType,
    skip: ArrayLike = 0,
    skip_mult: int = 0,
    *,
    post_shift: ArrayLike = 0,
    offset: int = 0,
) -> Ints:
    """``clamp(away((acc*mult + skip*skip_mult + (1 << (shift-1))) >> shift) + offset)``.

    The first shift is arithmetic: ties round towards +infinity. `away` divides by 2^post_shift and
    rounds to the nearest, ties away from zero. int64 is enough: the sum of products and half has
    fewer than 64 bits.

    Parameters
    ----------
    acc : (...) int
        32 bit, the bias included.
    mult, shift, post_shift : int, or as `acc`
        0..2^31 - 1, 1..40, 0..31.
    kind : FeatureType
        Its range clamps the result; unsigned types so do what ReLU does.
    skip : int, or as `acc`
        Residual of up to 8 bit, its zero subtracted.
    skip_mult : int
        0..2^31 - 1.
    offset : int
    """
    places = np.asarray(shift, np.int64)
    half = np.int64(1) << (places - 1)
    scaled = acc * np.asarray(mult, np.int64) + np.asarray(skip, np.int64) * np.int64(skip_mult)
    once = (scaled + half) >> places
    divisor = np.int64(1) << np.asarray(post_shift, np.int64)
    twice = np.sign(once) * ((np.abs(once) + (divisor >> 1)) // divisor)
    result: Ints = np.clip(twice + offset, kind.low, kind.high)
    return result


def max_pool(
    source: Ints, kernel: Pair = (2, 2), stride: Pair = (2, 2), padding: Sides = (0, 0, 0, 0)
) -> Ints:
    """The largest value in every window of (N, C, H, W); parameters as in `MaxPool`."""
    filled = padded(source, padding, int(np.iinfo(np.int64).min))
    windows = np.lib.stride_tricks.sliding_window_view(filled, kernel, axis=(2, 3))
    largest: Ints = windows[:, :, :: stride[0], :: stride[1]].max(axis=(4, 5))
    return largest


def sum_pool(source: Ints, kernel: Pair, stride: Pair) -> Ints:
    """The sum of every window of (N, C, H, W)."""
    windows = np.lib.stride_tricks.sliding_window_view(source, kernel, axis=(2, 3))
    total: Ints = windows[:, :, :: stride[0], :: stride[1]].sum(axis=(4, 5))
    return total


def padded(source: NDArray[Any], padding: Sides, value: int) -> NDArray[Any]:
    """A map with a value around it."""
    top, left, bottom, right = padding
    around = ((0, 0), (0, 0), (top, bottom), (left, right))
    return np.pad(source, around, constant_values=value)
