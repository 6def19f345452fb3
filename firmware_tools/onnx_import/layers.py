"""Results that are quantised now as layers of the accelerator: multipliers, shifts, biases."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from firmware_tools.onnx_import.nodes import Node, OnnxError
from firmware_tools.onnx_import.scaling import Post, Skip, post
from firmware_tools.onnx_import.values import Average, Feature, Grid, Products, Sum
from firmware_tools.requantization import Reals
from model.mars.network import (
    ACC_MAX,
    RAW_BITS,
    AvgPool,
    Conv,
    Dense,
    Ints,
    Layer,
    NetworkError,
)

UNIT_WEIGHTS = range(1, 128)
"""Weights of identity convolutions: with the right one both multipliers of a sum have all bits."""
WEIGHT_LOW, WEIGHT_HIGH = -128, 127


@dataclass(frozen=True)
class Made:
    """A layer, and a bound of its error in steps of the result."""

    layer: Layer
    error: float


def build(node: Node, make: Callable[[], Layer]) -> Layer:
    """A layer; what is wrong with it is said of the node."""
    try:
        return make()
    except NetworkError as error:
        raise OnnxError(f"{node}: {error}") from None


def average_layer(name: str, pending: Average, grid: Grid, *, wide: bool) -> Made:
    """An average, quantised."""
    node, source = pending.node, pending.source
    n_pixels = prod(source.view.shape[1:])
    ratio = np.array([pending.factor * source.grid.scale / grid.scale])
    largest = np.array([float(n_pixels * source.grid.largest)])
    found = checked(node, post(ratio, np.zeros(1), largest, grid.largest, wide=wide))
    layer = build(
        node,
        lambda: AvgPool(
            name=name,
            input=source.layer,
            bias=-source.grid.zero * n_pixels,
            mult=int(found.mult[0]),
            shift=int(found.shift[0]),
            offset=grid.zero,
            out_bits=grid.bits,
            out_signed=grid.signed,
        ),
    )
    return Made(layer, found.error)


def products_layer(name: str, pending: Products, grid: Grid, *, wide: bool) -> Made:
    """A convolution or dense layer, perhaps with a residual, quantised."""
    fitting, lost = _fitting(pending, grid)
    found = checked(pending.node, _post(fitting, grid, wide=wide))
    return Made(_layer(name, fitting, found, grid), found.error + lost)


def rounded_down(pending: Products) -> Products:
    """An average whose ties are less than that by half of a value's share: none are left."""
    return replace(
        pending, weight=2 * pending.weight, bias=2 * pending.bias - 1, scale=pending.scale / 2
    )


def raw_layer(name: str, pending: Products) -> Made:
    """A layer whose accumulators are the results, and the error of its biases."""
    whole = np.rint(pending.bias)
    nothing = np.zeros(len(whole), np.int64)
    found = Post(whole.astype(np.int64), nothing, nothing, 0, 0.0)
    error = float(np.abs(whole - pending.bias).max())
    return Made(_layer(name, pending, found, None), error)


def sum_layer(name: str, pending: Sum, grid: Grid, *, wide: bool) -> Made:
    """A 1x1 convolution with the identity, which adds the other map as its residual."""
    best: tuple[float, Products] | None = None
    for main, other in ((0, 1), (1, 0)):
        if pending.signs[other] < 0:  # the residual's multiplier has no sign
            continue
        for unit in UNIT_WEIGHTS:
            products = _identity(pending, main, other, unit, channels=1)
            found = _post(products, grid, wide=wide)
            if found is not None and (best is None or found.error < best[0]):
                channels = pending.parts[main].view.shape[0]
                best = found.error, _identity(pending, main, other, unit, channels=channels)
    if best is None:
        raise _too_large(pending.node)
    return products_layer(name, best[1], grid, wide=wide)


def diagonal(
    node: Node, source: Feature, factor: Reals, added: Reals, units: Ints | None = None
) -> Products:
    """A map times a factor and something added, per channel: a depthwise 1x1 convolution.

    Its weights are `units`, or those in whose steps what is added is nearest to an integer.
    """
    n = len(factor)
    if units is None:
        size = source.grid.scale * np.where(factor == 0, 1.0, np.abs(factor))
        units = _units(added / size)
    same = Products(
        node,
        source,
        units.reshape(n, 1, 1, 1),
        np.zeros(n),
        source.grid.scale / units,
        source.view,
        groups=n,
    )
    return same.affine(factor, added)


def _units(added: Reals) -> Ints:
    """The weight of each channel for which what is added, in steps of the map, is least off."""
    units = np.array(UNIT_WEIGHTS)[::-1]
    steps = np.multiply.outer(added, units)
    best: Ints = units[(np.abs(np.rint(steps) - steps) / units).argmin(axis=1)]
    return best


def _identity(pending: Sum, main: int, other: int, unit: int, *, channels: int) -> Products:
    source = pending.parts[main]
    return Products(
        pending.node,
        source,
        np.full((channels, 1, 1, 1), pending.signs[main] * unit, np.int64),
        np.zeros(channels),
        np.full(channels, source.grid.scale / unit),
        pending.view,
        groups=channels,
        skip=pending.parts[other],
        low=pending.low,
        high=pending.high,
    )


def _sums(weight: Ints | Reals) -> Reals:
    sums: Reals = weight.reshape(len(weight), -1).sum(axis=1).astype(np.float64)
    return sums


def _too_large(node: Node) -> OnnxError:
    return OnnxError(f"{node}: a step of what it reads must be at most 2^15 steps of its result")


def checked(node: Node, found: Post | None) -> Post:
    """Multipliers that were found."""
    if found is None:
        raise _too_large(node)
    return found


def _post(pending: Products, grid: Grid, *, wide: bool) -> Post | None:
    skip = None
    if pending.skip is not None:
        skip = Skip(pending.skip.grid.scale / grid.scale, pending.skip.grid.largest)
    return post(
        pending.scale / grid.scale,
        pending.bias,
        _sums(np.abs(pending.weight)) * pending.source.grid.largest + np.abs(pending.bias),
        grid.largest,
        wide=wide,
        skip=skip,
    )


def _fitting(pending: Products, grid: Grid) -> tuple[Products, float]:
    """The same with accumulators of 32 bits, and the steps of the result that this may cost.

    The weights of a channel that hardly contributes are tiny, and its bias in their steps is too
    large: all are divided by a power of two.
    """
    source = pending.source.grid
    bias = np.abs(pending.bias - source.zero * _sums(pending.weight))
    largest = bias + _sums(np.abs(pending.weight)) * max(-source.low, source.high)
    places = np.ceil(np.log2(np.maximum(largest / (ACC_MAX // 2), 1)))
    if not places.any():
        return pending, 0.0
    factor = np.exp2(places)
    along = factor.reshape(-1, *[1] * (pending.weight.ndim - 1))
    weight = np.rint(pending.weight / along).astype(np.int64)
    rest = _sums(np.abs(pending.weight - weight * along))
    lost = rest * source.largest * pending.scale / grid.scale
    scale = pending.scale * factor
    fitting = replace(pending, weight=weight, bias=pending.bias / factor, scale=scale)
    return fitting, float(lost.max())


def wide_weights(pending: Products) -> tuple[Ints, list[int]]:
    """Weights of 8 bits that do what wider ones do, and the channels that they read.

    What of a weight less its zero point is more than 8 bits is a second weight, of the same
    channel once more.
    """
    channels = pending.source.view.shape[0] // pending.groups
    weight = pending.weight.reshape(len(pending.weight), channels, -1)
    least, largest = int(weight.min()), int(weight.max())
    if least < 2 * WEIGHT_LOW or largest > 2 * WEIGHT_HIGH:
        raise OnnxError(
            f"{pending.node}: weights less their zero point must be {2 * WEIGHT_LOW}.."
            f"{2 * WEIGHT_HIGH}, not {least}..{largest}; quantise with "
            "weight_type=QuantType.QInt8"
        )
    first = np.clip(weight, WEIGHT_LOW, WEIGHT_HIGH)
    again = np.flatnonzero((weight != first).any(axis=(0, 2)))
    both = np.concatenate([first, (weight - first)[:, again]], axis=1)
    own = [*range(channels), *again.tolist()]
    read = [group * channels + k for group in range(pending.groups) for k in own]
    if pending.is_dense:
        return both.reshape(len(both), -1), read
    return both.reshape(*both.shape[:2], *pending.weight.shape[2:]), read


def _layer(name: str, pending: Products, found: Post, grid: Grid | None) -> Layer:
    weight, source = pending.weight, pending.source
    ends = max(int(weight.max()), 0), max(~int(weight.min()), 0)
    common: dict[str, Any] = {
        "name": name,
        "input": source.layer,
        "weight": weight,
        "bias": found.bias - source.grid.zero * _sums(weight).astype(np.int64),
        "mult": None if grid is None else found.mult,
        "shift": None if grid is None else found.shift,
        "offset": 0 if grid is None else grid.zero,
        "weight_bits": max(2, *(end.bit_length() + 1 for end in ends)),
        "out_bits": RAW_BITS if grid is None else grid.bits,
        "out_signed": grid is None or grid.signed,
        "low": None if grid is None else grid.end(pending.low),
        "high": None if grid is None else grid.end(pending.high),
    }
    skip = pending.skip
    if pending.is_dense:
        return build(pending.node, lambda: Dense(**common))
    own: dict[str, Any] = {
        "stride": pending.stride,
        "dilation": pending.dilation,
        "padding": pending.padding,
        "pad_value": pending.pad_value if any(pending.padding) else 0,
        "groups": pending.groups,
        "skip": None if skip is None else skip.layer,
        "skip_mult": found.skip_mult,
        "skip_zero": 0 if skip is None else skip.grid.zero,
    }
    return build(pending.node, lambda: Conv(**common, **own))
