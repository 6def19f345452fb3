"""Results that are quantised now as layers of the accelerator: multipliers, shifts, biases."""

from dataclasses import replace

import numpy as np

from firmware_tools.onnx_import.graph import Node, OnnxError
from firmware_tools.onnx_import.scaling import Post, Skip, post
from firmware_tools.onnx_import.values import Average, Feature, Grid, Products, Storage, Sum
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

SYMMETRIC = "extra_options={'ActivationSymmetric': True}"
UNIT_WEIGHTS = range(1, 128)
"""Weights of identity convolutions: a larger one has finer steps for the bias, coarser ones for the
multiplier."""


def average_layer(name: str, pending: Average, grid: Grid, storage: Storage) -> tuple[Layer, float]:
    """An average, and its error in steps of the result."""
    node, source = pending.node, pending.source
    if storage.zero:
        raise OnnxError(
            f"{node}: zero point of the result must be {grid.low} or {grid.low + 128}, not "
            f"{grid.zero_point} (averages have no bias); quantise with {SYMMETRIC}"
        )
    n_pixels = source.shape[1] * source.shape[2]
    ratio = np.array([source.grid.scale / (n_pixels * grid.scale)])
    largest = np.array([float(n_pixels * source.largest)])
    found = _checked(node, post(ratio, np.zeros(1), largest, _span(storage)))
    layer = AvgPool(
        name=name,
        input=source.layer,
        mult=int(found.mult[0]),
        shift=int(found.shift[0]),
        out_bits=storage.bits,
        out_signed=storage.signed,
    )
    return layer, found.error


def products_layer(
    name: str, pending: Products, grid: Grid, storage: Storage, skip: Feature | None
) -> tuple[Layer, float]:
    """A convolution or dense layer, perhaps with a residual, and its error as above."""
    fitting, lost = _fitting(pending, grid, storage)
    found = _checked(pending.node, _post(fitting, grid, storage, skip))
    return _layer(name, fitting, found, storage, skip), found.error + lost


def raw_layer(name: str, pending: Products, storage: Storage) -> tuple[Layer, float]:
    """A layer whose accumulators are the results, and the error of its biases."""
    bias = pending.bias - pending.source.storage.zero * _sums(pending.weight)
    whole = np.rint(bias)
    nothing = np.zeros(len(whole), np.int64)
    found = Post(whole.astype(np.int64), nothing, nothing, 0, 0.0)
    error = float(np.abs(whole - bias).max())
    return _layer(name, pending, found, storage, None), error


def sum_as_products(pending: Sum, grid: Grid, storage: Storage) -> tuple[Products, Feature | None]:
    """A 1x1 convolution with the identity, which adds the other map as its residual."""
    main, skip, unit = _best_unit(pending, grid, storage)
    return _identity(pending, main, unit), skip


def _sums(weight: Ints | Reals) -> Reals:
    sums: Reals = weight.reshape(len(weight), -1).sum(axis=1).astype(np.float64)
    return sums


def _span(storage: Storage) -> float:
    """Largest distance from the value that stands for 0, and one more for what is rounded."""
    values = 1 << (storage.bits - storage.signed)
    return float(max(storage.zero, values - storage.zero))


def _checked(node: Node, found: Post | None) -> Post:
    if found is None:
        raise OnnxError(f"{node}: a step of what it reads must be at most 2^15 steps of its result")
    return found


def _post(pending: Products, grid: Grid, storage: Storage, skip: Feature | None) -> Post | None:
    """Bias, multipliers and shifts of a layer; the bias has all zero points in it."""
    source = pending.source
    residual = None
    if skip is not None:
        residual = Skip(skip.grid.scale / grid.scale, skip.storage.zero, skip.largest)
    return post(
        pending.scale / grid.scale,
        pending.bias - source.storage.zero * _sums(pending.weight),
        _sums(np.abs(pending.weight)) * source.largest + np.abs(pending.bias),
        _span(storage),
        offset=storage.zero,
        skip=residual,
    )


def _fitting(pending: Products, grid: Grid, storage: Storage) -> tuple[Products, float]:
    """The same with accumulators of 32 bits, and the steps of the result that this may cost.

    The weights of a channel that hardly contributes are tiny, and its bias and zero point in their
    steps too large: all are divided by a power of two.
    """
    zero = pending.source.storage.zero
    offset = storage.zero / (pending.scale / grid.scale)
    bias = pending.bias - zero * _sums(pending.weight) + offset
    high = _high(pending.source)
    largest = np.abs(bias) + _sums(np.abs(pending.weight)) * high
    places = np.ceil(np.log2(np.maximum(largest / (ACC_MAX // 2), 1)))
    if not places.any():
        return pending, 0.0
    factor = np.exp2(places)
    wide = factor.reshape(-1, *[1] * (pending.weight.ndim - 1))
    weight = np.rint(pending.weight / wide).astype(np.int64)
    lost = _sums(np.abs(pending.weight - weight * wide)) * high * pending.scale / grid.scale
    fitting = replace(
        pending, weight=weight, bias=pending.bias / factor, scale=pending.scale * factor
    )
    return fitting, float(lost.max())


def _high(source: Feature) -> int:
    """Largest absolute value that the chip holds."""
    return source.largest + source.storage.zero


def _best_unit(pending: Sum, grid: Grid, storage: Storage) -> tuple[Feature, Feature | None, int]:
    """Which map goes through the identity convolution, which is its residual, and the weight."""
    parts = pending.parts
    pairs: list[tuple[Feature, Feature | None]] = [(parts[0], None)]
    if len(parts) == 2:
        pairs = [(parts[0], parts[1]), (parts[1], parts[0])]
    best: tuple[float, Feature, Feature | None, int] | None = None
    for main, skip in pairs:
        pixel = replace(main, shape=(1, 1, 1))  # all channels are alike
        for unit in UNIT_WEIGHTS:
            found = _post(_identity(pending, pixel, unit), grid, storage, skip)
            if found is not None and (best is None or found.error < best[0]):
                best = found.error, main, skip, unit
    if best is None:
        _checked(pending.node, None)
    assert best is not None
    return best[1:]


def _identity(pending: Sum, source: Feature, unit: int) -> Products:
    """A convolution that multiplies each channel by a number."""
    n = source.shape[0]
    return Products(
        pending.node,
        source,
        (unit * np.eye(n, dtype=np.int64))[:, :, np.newaxis, np.newaxis],
        np.zeros(n),
        np.full(n, source.grid.scale / unit),
        source.shape,
        relu=pending.relu,
    )


def _layer(
    name: str, pending: Products, found: Post, storage: Storage, skip: Feature | None
) -> Layer:
    weight = pending.weight
    weight_bits = max(2, *(int(end).bit_length() + 1 for end in (weight.max(), ~weight.min())))
    is_raw = storage.bits == RAW_BITS
    try:
        if pending.is_dense:
            return Dense(
                name=name,
                input=pending.source.layer,
                weight=weight,
                bias=found.bias,
                mult=None if is_raw else found.mult,
                shift=None if is_raw else found.shift,
                weight_bits=weight_bits,
                out_bits=storage.bits,
                out_signed=storage.signed,
            )
        return Conv(
            name=name,
            input=pending.source.layer,
            weight=weight,
            bias=found.bias,
            mult=None if is_raw else found.mult,
            shift=None if is_raw else found.shift,
            stride=pending.stride,
            padding=pending.padding,
            weight_bits=weight_bits,
            out_bits=storage.bits,
            out_signed=storage.signed,
            skip=None if skip is None else skip.layer,
            skip_mult=found.skip_mult,
        )
    except NetworkError as error:
        raise OnnxError(str(error)) from None
