"""Pools and means: largest values, sums."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from firmware_tools.onnx_import.builder import Builder
from firmware_tools.onnx_import.layers import Made, build
from firmware_tools.onnx_import.nodes import Node, OnnxError
from firmware_tools.onnx_import.values import NO_PADS, Average, Feature, Products
from firmware_tools.onnx_import.views import View, integer_list, normal_axis, pixels
from firmware_tools.onnx_import.windows import padding_of, window
from model.mars.network import KERNEL_MAX, MaxPool, Pair, Sides


def max_pool(builder: Builder, node: Node) -> None:
    """Windows of any size."""
    source = builder.as_map(node, builder.feature(node, padded=True))
    if source.grid.quantize(np.array(source.pad_value)) != source.grid.low:
        source = builder.padded(node, source)  # a maximum leaves out what is around
    if len(node.outputs) > 1 and node.outputs[1] and builder.graph.readers(node.outputs[1]):
        raise OnnxError(f"{node}: must have no second output (indices)")
    _max_pool(builder, node, source, _kernel(node, source))


def _max_pool(builder: Builder, node: Node, source: Feature, kernel: list[int]) -> None:
    around = window(node, source, kernel)
    if around.dilation != (1, 1):
        raise OnnxError(f"{node}: dilations must be 1, not {list(around.dilation)}")
    padding, _ = padding_of(node, source, around.padding, source.grid.low)
    view = around.view(source.view.shape[0])
    found = _maximum(builder, node, source, around.kernel, around.stride, padding, view)
    _set(builder, node, found)


def average_pool(builder: Builder, node: Node) -> None:
    """Sums of windows that lie in the map, or in its padding, and their number."""
    source = builder.as_map(node, builder.feature(node, padded=True))
    _average_pool(builder, node, source, _kernel(node, source))


def _average_pool(builder: Builder, node: Node, source: Feature, kernel: list[int]) -> None:
    around = window(node, source, kernel)
    if any(around.padding) and not node.integer("count_include_pad", 0):
        raise OnnxError(
            f"{node}: count_include_pad must be 1 with pads {list(around.padding)}, not 0 "
            "(averages of different counts)"
        )
    padding, pad_value = padding_of(node, source, around.padding, source.grid.zero)
    n_taps = int(np.prod(around.kernel))
    channels = source.view.shape[0]
    view = around.view(channels)
    if around.kernel == source.view.shape[1:] and not any(padding) and around.size == (1, 1):
        builder.values[node.result] = Average(node, source, 1 / n_taps, view)
    elif max(around.kernel) > KERNEL_MAX:
        raise OnnxError(
            f"{node}: kernel must be at most {KERNEL_MAX}x{KERNEL_MAX}, or the whole map, "
            f"not {kernel}"
        )
    else:
        builder.values[node.result] = Products(
            node,
            source,
            np.ones((channels, 1, *around.kernel), np.int64),
            np.zeros(channels),
            np.full(channels, source.grid.scale / n_taps),
            view,
            stride=around.stride,
            dilation=around.dilation,
            padding=padding,
            pad_value=pad_value,
            groups=channels,
            is_even=n_taps % 2 == 0,
        )
    _round_integers(builder, node, source)


def global_pool(builder: Builder, node: Node) -> None:
    """GlobalAveragePool, GlobalMaxPool."""
    source = builder.cut(node, builder.feature(node))
    axes = list(range(2, len(source.view.dims) + 1))
    if not axes:
        raise OnnxError(f"{node}: must read a map (N, C, H, W)")
    _reduce(builder, node, source, axes, is_kept=True)


def reduce(builder: Builder, node: Node) -> None:
    """ReduceMean, ReduceSum, ReduceMax over rows, columns or both."""
    source = builder.cut(node, builder.feature(node))
    n_dims = len(source.view.dims) + 1
    given = builder.constants.get(node.input(1)) if node.input(1) else node.attributes.get("axes")
    if given is None:
        raise OnnxError(f"{node}: axes must be constant, those of rows and columns")
    axes = [normal_axis(node, axis, n_dims) for axis in integer_list(node, "axes", given)]
    is_kept = bool(node.integer("keepdims", 1))
    if n_dims == 4 and axes in ([2], [3]) and source.view.dims[4 - axes[0]] > 1:
        _reduce_lines(builder, node, source, axes[0], is_kept=is_kept)
    else:
        _reduce(builder, node, source, axes, is_kept=is_kept)


def _reduce_lines(
    builder: Builder, node: Node, source: Feature, axis: int, *, is_kept: bool
) -> None:
    """Over rows or columns: a pool whose window is a line of the map."""
    source = builder.as_map(node, source)
    kernel = [1, 1]
    kernel[axis - 2] = source.view.dims[axis - 1]
    (_max_pool if node.op == "ReduceMax" else _average_pool)(builder, node, source, kernel)
    found = builder.values[node.result]
    assert isinstance(found, Feature | Products)
    if isinstance(found, Products) and node.op == "ReduceSum":
        found = replace(found, scale=found.scale * max(kernel), is_even=False)
    if not is_kept:
        found = replace(found, view=found.view.moved(found.view.indices.squeeze(axis - 1)))
    builder.values[node.result] = found


def _reduce(
    builder: Builder, node: Node, source: Feature, axes: list[int], *, is_kept: bool
) -> None:
    n_pixels = pixels(source.view)
    indices = source.view.indices
    places = [axis - 1 for axis in axes]
    channels = None
    if -1 not in places and len(set(places)) == len(places):
        last = np.moveaxis(indices, places, range(indices.ndim - len(places), indices.ndim))
        rows = last.reshape(*last.shape[: indices.ndim - len(places)], -1)
        if rows.shape[-1] == n_pixels:
            channels = rows.min(axis=-1) // n_pixels
            wanted = channels[..., np.newaxis] * n_pixels + np.arange(n_pixels)
            channels = channels if (np.sort(rows, axis=-1) == wanted).all() else None
    if channels is None:
        sides = ", ".join(map(str, source.view.dims))
        raise OnnxError(
            f"{node}: axes must be those of rows, columns or both of (N, {sides}), not {axes}"
        )
    if is_kept:
        channels = np.expand_dims(channels, tuple(places))
    view = View((source.view.shape[0], 1, 1), ()).moved(channels)
    if node.op in {"GlobalMaxPool", "ReduceMax"}:
        size: Pair = source.view.shape[1:]
        _set(builder, node, _maximum(builder, node, source, size, (1, 1), NO_PADS, view))
        return
    factor = 1.0 if node.op == "ReduceSum" else 1 / n_pixels
    builder.values[node.result] = Average(node, source, factor, view)
    _round_integers(builder, node, source)


def _kernel(node: Node, source: Feature) -> list[int]:
    n_dims = len(source.view.dims) - 1
    if n_dims not in {1, 2}:
        raise OnnxError(f"{node}: must read (N, C, H, W) or (N, C, L), not {source.view.dims}")
    return node.integers("kernel_shape", [1] * n_dims, least=1)


def _maximum(
    builder: Builder,
    node: Node,
    source: Feature,
    kernel: Pair,
    stride: Pair,
    padding: Sides,
    view: View,
) -> Feature:
    if kernel == stride == (1, 1) and not any(padding):
        return Feature(source.layer, source.grid, view)
    name = builder.name(node)
    make: Callable[[], MaxPool] = lambda: MaxPool(  # noqa: E731  (it is called at once)
        name=name, input=source.layer, kernel=kernel, stride=stride, padding=padding
    )
    layer = builder.append(node, Made(build(node, make), 0.0), source.grid)
    return Feature(layer, source.grid, view)


def _set(builder: Builder, node: Node, found: Feature) -> None:
    builder.values[node.result] = found
    if node.input(0) in builder.integers:
        builder.integers.add(node.result)


def _round_integers(builder: Builder, node: Node, source: Feature) -> None:
    """An average of integers, which no operator of ONNX makes."""
    if node.input(0) in builder.integers:
        raise OnnxError(f"{node}: must average real numbers, not the integers of {source.layer!r}")
