"""Convolutions and dense layers."""

from typing import TYPE_CHECKING

import numpy as np

from firmware_tools.tflite_import.graph import Operator, TfliteError
from firmware_tools.tflite_import.moving import crops
from firmware_tools.tflite_import.scaling import scaling
from firmware_tools.tflite_import.values import (
    Grid,
    Value,
    View,
    fused_clamp,
    same_padding,
    weight_scales,
)
from model.mars.network import Conv, Dense, Ints, Pair, Sides

if TYPE_CHECKING:
    from firmware_tools.tflite_import.lowering import Handler, Lowering

VALID = 1


def conv(state: "Lowering", one: Operator) -> None:
    """CONV_2D; fewer channels in the weights than in the map are groups."""
    source = state.map(one, padded=True)
    weight = _weights(state, one, (0, 3, 1, 2))
    groups = source.shape[0] // weight.shape[1]
    if weight.shape[1] * groups != source.shape[0]:
        raise TfliteError(
            f"{one}: weights must be for {source.shape[0]} channels, not {weight.shape[1]}"
        )
    _convolve(state, one, source, weight, groups, axis=0)


def depthwise(state: "Lowering", one: Operator) -> None:
    """DEPTHWISE_CONV_2D with any multiplier of channels."""
    source = state.map(one, padded=True)
    weight = _weights(state, one, (3, 0, 1, 2))
    if weight.shape[1] != 1 or len(weight) % source.shape[0]:
        raise TfliteError(
            f"{one}: weights must be (1, rows, columns, a multiple of the {source.shape[0]} "
            f"channels), not {weight.transpose(1, 2, 3, 0).shape}"
        )
    _convolve(state, one, source, weight, source.shape[0], axis=3)


def dense(state: "Lowering", one: Operator) -> None:
    """FULLY_CONNECTED of one image, or of every pixel."""
    source = state.value(one)
    weight = _weights(state, one, (0, 1))
    order = one.options.WeightsFormat() if one.options is not None else 0
    if order:
        raise TfliteError(f"{one}: format of the weights must be 0 (not shuffled), not {order}")
    places = source.index.reshape(-1)
    grid = state.out_grid(one)
    activation = one.options.FusedActivationFunction() if one.options is not None else 0
    low, high = fused_clamp(one, activation, grid)
    common = {
        **_products(state, one, source.grid, weight, 0),
        "offset": grid.zero,
        "weight_bits": weight_bits(weight),
        "out_bits": 8,
        "out_signed": grid.signed,
        "low": low,
        "high": high,
    }
    if weight.shape[1] == len(places):
        scattered = np.zeros((len(weight), int(np.prod(source.shape))), np.int64)
        scattered[:, places] = weight
        layer = state.append(one, Dense, grid, input=source.layer, weight=scattered, **common)
        n = len(weight)
        state.set(one, Value(layer.name, (n, 1, 1), np.arange(n), grid))
        return
    if weight.shape[1] != source.index.shape[-1]:
        raise TfliteError(
            f"{one}: weights must be for the {len(places)} values of one image, or the "
            f"{source.index.shape[-1]} of a pixel, not for {weight.shape[1]}"
        )
    view = state.view(one, source)
    kernels = weight[:, :, np.newaxis, np.newaxis]
    layer = state.append(one, Conv, grid, input=view.layer, weight=kernels, **common)
    shape = state.shape_of(one, layer, view)
    index = view.index(shape).reshape(*source.index.shape[:-1], len(weight))
    state.set(one, Value(layer.name, shape, index, grid))


def _weights(state: "Lowering", one: Operator, order: tuple[int, ...]) -> Ints:
    tensor = state.tensor(one, 1)
    if tensor is None or tensor.data is None or len(tensor.shape) != len(order):
        is_what = "left out" if tensor is None else f"{tensor.dtype} {tensor.shape}"
        if tensor is not None and tensor.data is None:
            is_what = "computed"
        raise TfliteError(
            f"{one}: weights must be a constant of {len(order)} dimensions, not {is_what}"
        )
    return tensor.data.astype(np.int64).transpose(order)


def _products(
    state: "Lowering", one: Operator, grid: Grid, weight: Ints, axis: int
) -> dict[str, Ints | None]:
    """The bias with the zero point in it, and the multipliers, as fields of a layer."""
    tensor, bias = state.tensor(one, 1), state.tensor(one, 2)
    assert tensor is not None
    n = len(weight)
    scales = weight_scales(one, tensor, n, axis)
    values = np.zeros(n, np.int64)
    if bias is not None:
        if bias.data is None or bias.dtype not in {"INT32", "INT64"} or bias.data.size != n:
            raise TfliteError(
                f"{one}: bias must be {n} constant INT32, not {bias.dtype} {bias.shape}"
            )
        values = bias.data.reshape(-1).astype(np.int64)
    values = values - grid.zero * weight.reshape(n, -1).sum(axis=1)
    out = state.out_grid(one)
    # The kernel of dense layers rounds once (found with its results, not documented).
    found = scaling(
        grid.scale * scales / out.scale,
        ends_of(one, out),
        wide=state.wide,
        twice=one.op != "FULLY_CONNECTED",
    )
    return found.fields(values)


def ends_of(one: Operator, grid: Grid) -> tuple[int, int]:
    """Ends of the results, before the offset."""
    activation = 0 if one.options is None else one.options.FusedActivationFunction()
    low, high = fused_clamp(one, activation, grid)
    return (
        (grid.low if low is None else low) - grid.zero,
        (grid.high if high is None else high) - grid.zero,
    )


def _convolve(
    state: "Lowering", one: Operator, source: View, weight: Ints, groups: int, *, axis: int
) -> None:
    options = one.options
    if options is None:
        raise TfliteError(f"{one}: options must be given")
    stride = options.StrideH(), options.StrideW()
    dilation = options.DilationHFactor(), options.DilationWFactor()
    padding = window_padding(one, source, weight.shape[2:], stride, dilation)
    if source.blocks != (1, 1):
        if stride != (1, 1) or dilation != (1, 1) or options.Padding() != VALID:
            raise TfliteError(
                f"{one}: behind a SPACE_TO_BATCH_ND, strides and dilations must be 1 and padding "
                f"VALID, not {stride}, {dilation}"
            )
        dilation = source.blocks
        cut = crops(state, one, source.blocks)
        top, left, bottom, right = (padding[k] - cut[k] for k in range(4))
        padding = top, left, bottom, right
    grid = state.out_grid(one)
    low, high = fused_clamp(one, options.FusedActivationFunction(), grid)
    layer = state.append(
        one,
        Conv,
        grid,
        input=source.layer,
        weight=source.kernels(weight),
        **_products(state, one, source.grid, weight, axis),
        offset=grid.zero,
        stride=source.pair(stride),
        dilation=source.pair(dilation),
        padding=source.sides(padding),
        pad_value=source.grid.zero,
        groups=groups,
        weight_bits=weight_bits(weight),
        out_bits=8,
        out_signed=grid.signed,
        low=low,
        high=high,
    )
    shape = state.shape_of(one, layer, source)
    if source.blocks == (1, 1):
        state.set_map(one, layer, source, shape, grid)
    else:
        index = source.index(shape)
        blocks = (*source.blocks, 1)
        state.values[one.outputs[0]] = Value(layer.name, shape, index, grid, blocks=blocks)


def window_padding(
    one: Operator, source: View, kernel: tuple[int, ...], stride: Pair, dilation: Pair = (1, 1)
) -> Sides:
    """What is around the tensor: what a PAD has left, and that of SAME."""
    top, left, bottom, right = source.padding
    if min(stride) < 1 or min(kernel) < 1:
        raise TfliteError(f"{one}: strides and kernels must be at least 1, not {stride}, {kernel}")
    if one.options.Padding() != VALID:
        sizes = source.size[0] + top + bottom, source.size[1] + left + right
        rows, columns = (
            same_padding(sizes[k], kernel[k], stride[k], dilation[k]) for k in range(2)
        )
        top, left = top + rows[0], left + columns[0]
        bottom, right = bottom + rows[1], right + columns[1]
    return top, left, bottom, right


def weight_bits(weight: Ints) -> int:
    """The fewest bits that hold all weights."""
    ends = max(int(weight.max()), 0), ~min(int(weight.min()), -1)
    return max(2, *(end.bit_length() + 1 for end in ends))


HANDLERS: "dict[str, Handler]" = {
    "CONV_2D": conv,
    "DEPTHWISE_CONV_2D": depthwise,
    "FULLY_CONNECTED": dense,
}
