"""Pools and reductions of rows and columns."""

from typing import TYPE_CHECKING

import numpy as np

from firmware_tools.tflite_import.fitting import average_fit
from firmware_tools.tflite_import.graph import Operator, TfliteError
from firmware_tools.tflite_import.products import window_padding
from firmware_tools.tflite_import.scaling import mean_scaling
from firmware_tools.tflite_import.values import Grid, Value, View, fused_clamp
from model.mars.network import AvgPool, Conv, MaxPool, Pair

if TYPE_CHECKING:
    from firmware_tools.tflite_import.lowering import Handler, Lowering


def average_pool(state: "Lowering", one: Operator) -> None:
    """AVERAGE_POOL_2D whose windows stay in the map."""
    source, kernel, stride = _window(state, one)
    padding = window_padding(one, source, kernel, stride)
    if any(padding):
        raise TfliteError(
            f"{one}: padding must be VALID, or SAME where it adds nothing, not {padding} (at "
            "the edges the average would be over fewer pixels)"
        )
    grid = _same_grid(state, one, source)
    low, high = fused_clamp(one, one.options.FusedActivationFunction(), grid)
    count = kernel[0] * kernel[1]
    found = average_fit(grid.low, grid.high, count, wide=state.wide)
    state.note(one, found.n_different, (grid.high - grid.low) * count + 1, "sums")
    scale = (found.mult, found.shift, found.post_shift)
    if kernel == source.size and low is None and high is None:
        _global(state, one, source, grid, scale, bias=0, offset=0)
    else:
        _windows(state, one, source, grid, scale, kernel, stride=stride, ends=(low, high))


def max_pool(state: "Lowering", one: Operator) -> None:
    """MAX_POOL_2D."""
    source, kernel, stride = _window(state, one)
    grid = _same_grid(state, one, source)
    ends = fused_clamp(one, one.options.FusedActivationFunction(), grid)
    padding = source.sides(window_padding(one, source, kernel, stride))
    layer = state.append(
        one,
        MaxPool,
        grid,
        input=source.layer,
        kernel=source.pair(kernel),
        stride=source.pair(stride),
        padding=padding,
    )
    shape = state.shape_of(one, layer, source)
    value = Value(layer.name, shape, source.index(shape), grid)
    if ends != (None, None):
        low, high = (grid.low if ends[0] is None else ends[0]), ends[1]
        value = state.table(one, value, np.clip(grid.all, low, high), grid)
    state.set(one, value)


def _window(state: "Lowering", one: Operator) -> tuple[View, Pair, Pair]:
    if one.options is None:
        raise TfliteError(f"{one}: options must be given")
    kernel = one.options.FilterHeight(), one.options.FilterWidth()
    return state.map(one), kernel, (one.options.StrideH(), one.options.StrideW())


def _same_grid(state: "Lowering", one: Operator, source: View) -> Grid:
    grid = state.out_grid(one)
    if grid != source.grid:
        raise TfliteError(f"{one}: input and output must have the same scale and zero point")
    return grid


def mean(state: "Lowering", one: Operator) -> None:
    """MEAN and SUM over rows, columns or both."""
    source, kernel = _reduced(state, one)
    grid = state.out_grid(one)
    count = kernel[0] * kernel[1]
    real = source.grid.scale / grid.scale
    scale = mean_scaling(real, count if one.op == "MEAN" else 1, wide=state.wide)
    bias = -count * source.grid.zero
    if kernel == source.size:
        _global(state, one, source, grid, scale, bias=bias, offset=grid.zero)
    else:
        _windows(state, one, source, grid, scale, kernel, bias=bias, offset=grid.zero)


def reduce_max(state: "Lowering", one: Operator) -> None:
    """REDUCE_MAX over rows, columns or both."""
    source, kernel = _reduced(state, one)
    grid = _same_grid(state, one, source)
    layer = state.append(
        one, MaxPool, grid, input=source.layer, kernel=source.pair(kernel), stride=(1, 1)
    )
    state.set_map(one, layer, source, state.shape_of(one, layer, source), grid)


def _reduced(state: "Lowering", one: Operator) -> tuple[View, Pair]:
    """The map and the window that a reduction makes one of."""
    value = state.value(one)
    ndim = value.index.ndim
    axes = sorted({int(axis) % (ndim + 1) for axis in state.constant(one, 1).reshape(-1)})
    if not axes or not set(axes) <= set(range(1, ndim)) or ndim > 3:
        wanted = {3: "[1], [2] or [1, 2]", 2: "[1]"}.get(ndim, "those of rows and columns")
        raise TfliteError(f"{one}: axes must be rows and columns, {wanted}, not {axes}")
    view = state.view(one, value)
    return view, (view.size[0] if 1 in axes else 1, view.size[1] if 2 in axes else 1)


def _global(
    state: "Lowering",
    one: Operator,
    source: View,
    grid: Grid,
    scale: tuple[int, int, int],
    *,
    bias: int,
    offset: int,
) -> None:
    layer = state.append(
        one,
        AvgPool,
        grid,
        input=source.layer,
        bias=bias,
        mult=scale[0],
        shift=scale[1],
        post_shift=scale[2],
        offset=offset,
        out_bits=8,
        out_signed=grid.signed,
    )
    state.set_map(one, layer, source, (source.shape[0], 1, 1), grid)


def _windows(
    state: "Lowering",
    one: Operator,
    source: View,
    grid: Grid,
    scale: tuple[int, int, int],
    kernel: Pair,
    *,
    bias: int = 0,
    offset: int = 0,
    stride: Pair = (1, 1),
    ends: tuple[int | None, int | None] = (None, None),
) -> None:
    """Sums of windows by a depthwise convolution with weights of 1."""
    n = source.shape[0]
    layer = state.append(
        one,
        Conv,
        grid,
        input=source.layer,
        weight=np.ones((n, 1, *source.pair(kernel)), np.int64),
        bias=np.full(n, bias),
        mult=np.full(n, scale[0]),
        shift=np.full(n, scale[1]),
        post_shift=np.full(n, scale[2]) if state.wide else None,
        offset=offset,
        stride=source.pair(stride),
        groups=n,
        weight_bits=2,
        out_bits=8,
        out_signed=grid.signed,
        low=ends[0],
        high=ends[1],
    )
    state.set_map(one, layer, source, state.shape_of(one, layer, source), grid)


HANDLERS: "dict[str, Handler]" = {
    "AVERAGE_POOL_2D": average_pool,
    "MAX_POOL_2D": max_pool,
    "MEAN": mean,
    "SUM": mean,
    "REDUCE_MAX": reduce_max,
}
