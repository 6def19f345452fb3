"""Constant tokens before those of a map, and constants that each token has of its own.

Tokens are pixels of a map and features its channels: a tensor (N, T, C) is a view of (C, T, 1).
"""

from dataclasses import dataclass, replace
from math import prod

import numpy as np

from firmware_tools.onnx_import import moving
from firmware_tools.onnx_import.builder import Builder
from firmware_tools.onnx_import.layers import Made, build
from firmware_tools.onnx_import.nodes import Array, Node, OnnxError
from firmware_tools.onnx_import.values import (
    TYPES,
    Feature,
    Grid,
    Late,
    Pending,
    Sum,
    pixel_values,
)
from firmware_tools.onnx_import.views import View, normal_axis, pixels
from firmware_tools.requantization import Reals
from model.mars.network import (
    AvgPool,
    Ints,
    Tokens,
)

LARGEST = 127
"""Steps of a constant that is a map, 8 bits with a sign."""


@dataclass(frozen=True, eq=False)
class Prepended(Late):
    """Constant tokens, and those of a map: a class token, prompts.

    Parameters
    ----------
    node, view
    source : Feature or Pending
    channels : list of int
        Of the source, in the result's order.
    values : (C, n) float
    """

    source: Feature | Pending
    channels: list[int]
    values: Reals

    def make(self, builder: Builder, grid: Grid) -> Feature:
        """A layer that only moves."""
        source = builder.finish(self.source, grid)
        before = builder.select(self.node.part("input"), (source.layer,), self.channels, grid)
        name = builder.name(self.node)
        layer = build(
            self.node, lambda: Tokens(name=name, input=before, values=grid.quantize(self.values))
        )
        return Feature(builder.append(self.node, Made(layer, 0.0), grid), grid, self.view)


def concat(builder: Builder, node: Node) -> None:
    """Of channels of maps, or of constants and of a map, along its tokens."""
    names = node.inputs
    if all(name in builder.values for name in names) or not set(names) & set(builder.values):
        moving.concat(builder, node)
        return
    given = [k for k, name in enumerate(names) if name in builder.values]
    found = builder.operand(node, given[0])
    if isinstance(found, Feature):
        found = builder.feature(node, given[0])
    view = found.view
    axis = normal_axis(node, node.integer("axis", 1), view.n_axes) - view.batch
    rows = view.rows()
    if len(given) != 1 or rows is None or axis < 0 or axis == len(view.dims) - 1:
        raise OnnxError(
            f"{node}: constants must be tokens before or behind those of one map, (N, n, C) and "
            f"(N, T, C), along axis {max(view.n_axes - 2, 1)}, not axis {axis + view.batch} of "
            f"{view.dims}"
        )
    if names[given[0]] in builder.integers:
        raise OnnxError(f"{node}: must join real numbers, not integers")
    arrays = {
        k: _constant_tokens(builder, node, k, view) for k in range(len(names)) if k != given[0]
    }
    n = sum(array.shape[axis] for array in arrays.values())
    n *= prod(side for k, side in enumerate(view.dims[:-1]) if k != axis)
    shape = (len(rows.channels), n + pixels(view), 1)
    columns = np.arange(shape[0]) * shape[1]
    values, parts = np.empty((shape[0], 0)), []
    for k in range(len(names)):
        if k == given[0]:
            place = rows.pixels.reshape(view.dims[:-1]) + n
        else:
            tokens = arrays[k].reshape(-1, shape[0])
            place = np.arange(len(tokens)).reshape(arrays[k].shape[:-1]) + values.shape[1]
            values = np.concatenate([values, tokens.T], axis=1)
        parts.append(place[..., np.newaxis] + columns)
    try:
        joined = np.concatenate(parts, axis=axis)
    except ValueError:
        raise OnnxError(f"{node}: constant tokens must fit those of {view.dims}") from None
    whole = View(shape, (), batch=view.batch).moved(joined)
    builder.values[node.result] = Prepended(node, whole, found, rows.channels.tolist(), values)


def _constant_tokens(builder: Builder, node: Node, k: int, view: View) -> Array:
    array = builder.constant(node, k)
    if array is None:
        raise OnnxError(f"{node}: input {node.input(k)!r} must be constant or quantised")
    if view.batch and array.shape[:1] == (1,):
        array = array[0]
    if array.ndim != len(view.dims) or array.shape[-1] != view.dims[-1]:
        raise OnnxError(
            f"{node}: constant {node.input(k)!r} must be tokens of {view.dims[-1]} features, "
            f"(1, n, {view.dims[-1]}), not {array.shape}"
        )
    if not np.isfinite(array).all():
        raise OnnxError(f"{node}: constant {node.input(k)!r} must be finite")
    return array.astype(np.float64)


def is_per_token(node: Node, view: View, constant: Array, what: str) -> bool:
    """Whether a constant has other numbers for other tokens of (N, T, C)."""
    return view.rows() is not None and bool(
        np.ptp(pixel_values(node, view, constant, what), axis=1).any()
    )


def positions(builder: Builder, node: Node, feature: Feature, k: int) -> Sum:
    """A map and a constant, input `k`, that has other numbers for each token.

    The constant is a map, too: constant tokens before one that is a layer of weights 0.
    """
    name = node.input(k)
    tensor, real = builder.tensors.get(name), builder.constant(node, k)
    assert real is not None
    values = pixel_values(node, feature.view, real, name)
    if tensor is not None and tensor.axis is None and tensor.dtype in TYPES:
        grid = Grid(float(tensor.scale[0]), int(tensor.zero[0]), *TYPES[tensor.dtype])
    else:
        grid = Grid(max(float(np.abs(values).max()) / LARGEST, 1e-30), 0, 8, signed=True)
    column = _column(builder, node, feature)
    added = _constant_map(builder, node, column.layer, grid.quantize(values), grid)
    sign = -1 if node.op == "Sub" else 1
    return Sum(node, (column, Feature(added, grid, column.view)), (1, sign), column.view)


def _column(builder: Builder, node: Node, feature: Feature) -> Feature:
    """The same with one pixel a row: one constant pixel before, which is taken away again."""
    channels, rows, columns = feature.view.shape
    if columns == 1:
        return feature
    n_tokens = rows * columns
    kind = builder.types[feature.layer]
    before, own = builder.name(node.part("line")), node.part("column")
    least = max(kind.low, min(0, kind.high))
    tokens = Tokens(name=before, input=feature.layer, values=np.full((channels, 1), least))
    builder.append(node, Made(tokens, 0.0), feature.grid)
    weight = np.tile(np.array([0, 1]).reshape(1, 1, 2, 1), (channels, 1, 1, 1))
    name = builder.copied(own, before, weight, feature.grid)
    return replace(
        feature,
        layer=name,
        view=replace(feature.view, shape=(channels, n_tokens, 1)),
        base=None,
    )


def _constant_map(builder: Builder, node: Node, layer: str, values: Ints, grid: Grid) -> str:
    """A map (C, T, 1) of constants, which needs another map to begin with."""
    channels = len(values)
    mean = AvgPool(
        name=builder.name(node.part("pixel")),
        input=layer,
        mult=0,
        shift=1,
        out_bits=grid.bits,
        out_signed=grid.signed,
    )
    pixel = builder.append(node, Made(mean, 0.0), grid)
    weight = np.zeros((channels, 1, 1, 1), np.int64)
    last = builder.copied(node.part("last"), pixel, weight, grid, bias=values[:, -1])
    name = builder.name(node.part("constant"))
    tokens = build(node, lambda: Tokens(name=name, input=last, values=values[:, :-1]))
    return builder.append(node, Made(tokens, 0.0), grid)
