"""What transformers have: products of two maps, softmax, layer normalisation, tokens, positions.

Tokens are pixels of a map and features its channels: a tensor (N, T, C) is a view of (C, T, 1).
"""

import math
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from firmware_tools.onnx_import import moving
from firmware_tools.onnx_import.builder import Builder
from firmware_tools.onnx_import.grids import PASSING
from firmware_tools.onnx_import.layers import Made, build, checked
from firmware_tools.onnx_import.nodes import Array, Graph, Node, OnnxError
from firmware_tools.onnx_import.scaling import post
from firmware_tools.onnx_import.values import (
    TYPES,
    Dropped,
    Feature,
    Grid,
    Late,
    Pending,
    Sum,
    Unary,
    pixel_values,
)
from firmware_tools.onnx_import.views import View, normal_axis, pixels
from firmware_tools.requantization import Reals
from model.mars.network import (
    AvgPool,
    Conv,
    Ints,
    Layer,
    LayerNorm,
    Lookup,
    MatMul,
    Softmax,
    Tokens,
)
from model.mars.rows import EPSILON_MAX, NORMAL_BITS, OCTAVE_BITS, OCTAVES_MAX, PROBABILITY_BITS

LOW, HIGH = -128, 127
"""Of an operand, which has a sign and no zero point."""
ROW_ERROR = 0.5
"""Steps of 8 bits by which softmax and normalisation are off before rounding, at most."""
BIAS_MAX = 1 << 20
"""Largest bias, in units of what is normalised: a channel's factor is at least so much smaller."""


# Products of two maps


@dataclass(frozen=True, eq=False)
class Heads:
    """A tensor (..., T, K) whose tokens are pixels and whose other axis is channels.

    Parameters
    ----------
    channels : (H, K) int
        Of each head.
    pixels : (T,) int
        Of each token.
    """

    channels: Ints
    pixels: Ints

    @staticmethod
    def of(indices: Ints, n_pixels: int) -> "Heads | None":
        """Of indices (H, T, K) into a map; None if they are not so."""
        channels, places = np.divmod(indices, n_pixels)
        found = Heads(channels[:, 0], places[0, :, 0])
        wanted = found.channels[:, np.newaxis] * n_pixels + found.pixels[:, np.newaxis]
        return found if (indices == wanted).all() else None


@dataclass(frozen=True, eq=False)
class Product(Late):
    """Scores of tokens for tokens, or features of tokens weighted by scores.

    Parameters
    ----------
    node, view
    source, operand : Feature
        Of the channels that are used, head by head.
    heads : int
    transposed : bool
        As in `model.mars.network.MatMul`.
    factor : float
    """

    source: Feature
    operand: Feature
    heads: int
    transposed: bool
    factor: float = 1.0

    def make(self, builder: Builder, grid: Grid) -> Feature:
        """One layer, or one for each pair of maps that the operands are sums of."""
        sources = _centred(builder, self.node, "input", self.source, signed=False)
        operands = _centred(builder, self.node, "operand", self.operand, signed=True)
        pairs = [(first, second) for first in sources for second in operands]
        if self.transposed:
            first, second = ([pair[k] for pair in pairs] for k in (0, 1))
            pairs = [(self._together(builder, first), self._together(builder, second))]
        found, *others = [self._layer(builder, *pair, grid) for pair in pairs]
        for other in others:
            both = Sum(self.node, (found, other), (1, 1), self.view)
            found = builder.finish(both, grid)
        return found

    def _together(self, builder: Builder, parts: list[Feature]) -> Feature:
        """Channels of all parts, head by head, so that their products are summed."""
        n_channels = parts[0].view.shape[0]
        each = np.arange(len(parts) * n_channels).reshape(len(parts), self.heads, -1)
        names = tuple(dict.fromkeys(part.layer for part in parts))
        starts = np.array([names.index(part.layer) for part in parts]) * n_channels
        own = each[0] + starts[:, np.newaxis, np.newaxis]
        channels = own.swapaxes(0, 1).ravel().tolist()
        name = builder.select(_part(self.node, "together"), names, channels, parts[0].grid)
        return replace(parts[0], layer=name, base=None)

    def _layer(self, builder: Builder, source: Feature, operand: Feature, grid: Grid) -> Feature:
        ratio = self.factor * source.grid.scale * operand.grid.scale / grid.scale
        n_products = (
            builder.types[source.layer].shape[0] // self.heads
            if self.transposed
            else pixels(operand.view)
        )
        largest = np.array([float(n_products * source.grid.largest * operand.grid.largest)])
        scaling = post(np.array([ratio]), np.zeros(1), largest, grid.largest, wide=builder.wide)
        found = checked(self.node, scaling)
        layer = MatMul(
            name=builder.name(self.node),
            input=source.layer,
            operand=operand.layer,
            transposed=self.transposed,
            heads=self.heads,
            mult=int(found.mult[0]),
            shift=int(found.shift[0]),
            offset=grid.zero,
            out_bits=grid.bits,
            out_signed=grid.signed,
        )
        return Feature(builder.append(self.node, Made(layer, found.error), grid), grid, self.view)


def match(builder: Builder, node: Node) -> None:
    """MatMul of two activations."""
    first, second = builder.feature(node, 0), builder.feature(node, 1)
    left, right = (_by_head(node, feature.view) for feature in (first, second))
    if len(left) != len(right) or left.shape[2] != right.shape[1]:
        raise OnnxError(
            f"{node}: operands must be (..., T, K) and (..., K, U) of as many heads, not "
            f"{first.view.dims} and {second.view.dims}"
        )
    found = _product(builder, node, (first, second), (left, right))
    if found is None:
        turned = (right.swapaxes(1, 2), left.swapaxes(1, 2))
        found = _product(builder, node, (second, first), turned)
        if found is not None:
            order = (*range(len(first.view.dims) - 2), -1, -2)
            dims = (*second.view.dims[:-2], second.view.dims[-1], first.view.dims[-2])
            indices = found.view.indices.reshape(dims).transpose(order)
            found = replace(found, view=found.view.moved(indices))
    if found is None:
        raise OnnxError(
            f"{node}: must multiply features of tokens, (..., T, C) and (..., C, T), or scores and "
            f"features, (..., T, T) and (..., T, C), of the same T (no cross attention), not "
            f"{first.view.dims} and {second.view.dims}"
        )
    builder.values[node.result] = found


def _by_head(node: Node, view: View) -> Ints:
    """Indices (H, T, K)."""
    if len(view.dims) < 2:
        raise OnnxError(f"{node}: operands must be (..., T, C), not (N, {view.dims[0]})")
    return view.indices.reshape(-1, *view.dims[-2:])


def _product(
    builder: Builder, node: Node, both: tuple[Feature, Feature], indices: tuple[Ints, Ints]
) -> Product | None:
    """Of (H, X, K) and (H, K, Y) if the chip can multiply them in that order."""
    counts = [pixels(feature.view) for feature in both]
    left = Heads.of(indices[0], counts[0])
    if left is None or counts[0] != counts[1] or not _is_whole(left.pixels, counts[0]):
        return None
    n_heads, n_tokens = len(left.channels), counts[0]
    scores = Heads.of(indices[1].swapaxes(1, 2), n_tokens)
    values = Heads.of(indices[1], n_tokens)
    if scores is not None and _is_whole(scores.pixels, n_tokens):
        right, order = scores.channels, np.arange(left.channels.shape[1])
        rows = np.arange(n_heads)[:, np.newaxis] * n_tokens + scores.pixels
    elif values is not None and _is_whole(values.pixels, n_tokens):
        scores, right, order = None, values.channels, values.pixels.argsort()
        rows = np.arange(right.size).reshape(right.shape)
    else:
        return None
    source = _chosen(builder, node, "input", both[0], left.channels[:, order])
    operand = _chosen(builder, node, "operand", both[1], right)
    whole = rows[:, np.newaxis] * n_tokens + left.pixels[:, np.newaxis]
    view = replace(both[0].view, shape=(rows.size, *both[0].view.shape[1:]))
    dims = (*both[0].view.dims[:-1], rows.shape[1])
    return Product(
        node, view.moved(whole.reshape(dims)), source, operand, n_heads, scores is not None
    )


def _is_whole(places: Ints, n_pixels: int) -> bool:
    return np.array_equal(np.sort(places), np.arange(n_pixels))


def _part(node: Node, what: str) -> Node:
    """A node for a layer before its own."""
    return replace(node, name=f"{node.name}.{what}")


def _chosen(builder: Builder, node: Node, what: str, feature: Feature, channels: Ints) -> Feature:
    """Channels of a map, in their order there."""
    listed = channels.ravel().tolist()
    name = builder.select(_part(node, what), (feature.layer,), listed, feature.grid)
    view = View((len(listed), *feature.view.shape[1:]), (len(listed), *feature.view.shape[1:]))
    return replace(feature, layer=name, view=view, base=None)


def _centred(
    builder: Builder, node: Node, what: str, feature: Feature, *, signed: bool
) -> list[Feature]:
    """Maps without a zero point that together are a map; several if it has more than 8 bits."""
    grid = feature.grid
    if not grid.zero and (grid.signed or not signed):
        return [feature]
    rest = np.arange(grid.low, grid.high + 1) - grid.zero
    has_sign = signed or rest[0] < 0
    low, high = (LOW, HIGH) if has_sign else (0, rest[-1])
    own = Grid(grid.scale, 0, 8 if has_sign else grid.bits, signed=bool(has_sign))
    parts: list[Feature] = []
    while rest.any() or not parts:
        steps = np.clip(rest, low, high)
        name = builder.name(_part(node, what))
        layer = Lookup(
            name=name, input=feature.layer, table=steps, out_bits=own.bits, out_signed=own.signed
        )
        builder.append(node, Made(layer, 0.0), own)
        parts.append(Feature(name, own, feature.view))
        rest = rest - steps
    return parts


# Softmax


@dataclass(frozen=True, eq=False)
class Probabilities(Late):
    """Softmax of the channels of each head."""

    source: Feature
    heads: int

    @property
    def own(self) -> Grid:
        """256 steps to 1."""
        return Grid(1 / 256, 0, 8, signed=False)

    def make(self, builder: Builder, grid: Grid) -> Feature:
        """One layer."""
        largest = float(1 << PROBABILITY_BITS)
        ratio = np.array([1 / (largest * grid.scale)])
        scaling = post(ratio, np.zeros(1), np.array([largest]), grid.largest, wide=builder.wide)
        found = checked(self.node, scaling)
        octaves = round(self.source.grid.scale * math.log2(math.e) * (1 << OCTAVE_BITS))
        layer = build(
            self.node,
            lambda: Softmax(
                name=builder.name(self.node),
                input=self.source.layer,
                heads=self.heads,
                octaves=min(max(octaves, 1), OCTAVES_MAX),
                mult=int(found.mult[0]),
                shift=int(found.shift[0]),
                offset=grid.zero,
                out_bits=grid.bits,
                out_signed=grid.signed,
            ),
        )
        made = Made(layer, found.error + ROW_ERROR)
        return Feature(builder.append(self.node, made, grid), grid, self.view)


def softmax(builder: Builder, node: Node) -> None:
    """Of scores, over the last axis; any other one is the host's."""
    if isinstance(builder.value(node), Dropped) or not _is_multiplied(builder.graph, node.result):
        moving.drop(builder, node)
        return
    source = builder.feature(node)
    view = source.view
    default = -1 if builder.graph.opset >= 13 else 1
    axis = normal_axis(node, node.integer("axis", default), view.n_axes)
    if axis != view.n_axes - 1:
        raise OnnxError(
            f"{node}: axis must be the last, {view.n_axes - 1}, not {axis} of {view.dims}"
        )
    n = view.dims[-1]
    channels, places = np.divmod(view.indices.reshape(-1, n), pixels(view))
    ordered = np.sort(channels, axis=1)
    is_head = (ordered == ordered[:, :1] + np.arange(n)).all() and not (ordered[:, 0] % n).any()
    if not is_head or view.shape[0] % n or np.ptp(places, axis=1).any():
        raise OnnxError(
            f"{node}: must be of all scores of a token, heads that divide {view.shape[0]} "
            f"channels, not {view.dims}"
        )
    builder.values[node.result] = Probabilities(node, view, source, view.shape[0] // n)


def _is_multiplied(graph: Graph, tensor: str) -> bool:
    """Whether a MatMul reads it, as attention does."""
    names, seen = [tensor], {tensor}
    while names:
        for node in graph.readers(names.pop()):
            if node.op == "MatMul":
                return True
            if node.op in PASSING | {"QuantizeLinear", "DequantizeLinear"}:
                names += [name for name in node.outputs if name not in seen]
                seen.update(node.outputs)
    return False


# Layer normalisation


@dataclass(frozen=True, eq=False)
class Normalised(Late):
    """Features of each token less their mean, over their deviation, times and plus constants.

    Parameters
    ----------
    node, view
    source : Feature
    epsilon : float
    factor, added : (C,) float
        By channel of the map.
    """

    source: Feature
    epsilon: float
    factor: Reals
    added: Reals

    def make(self, builder: Builder, grid: Grid) -> Feature:
        """A layer; for channels with a negative factor another one, and a table that mirrors."""
        is_negative = self.factor < 0
        both = []
        if not is_negative.all():
            both.append(self._layer(builder, self.node, grid, self.added))
        if is_negative.any():
            mirror = replace(grid, zero=grid.low + grid.high - grid.zero)
            turned = self._layer(builder, _part(self.node, "mirrored"), mirror, -self.added)
            both.append(builder.finish(Unary(self.node, turned, -mirror.values, self.view), grid))
        n = len(self.factor)
        behind = n if len(both) > 1 else 0
        channels = (np.arange(n) + behind * is_negative).tolist()
        names = tuple(feature.layer for feature in both)
        return Feature(builder.select(self.node, names, channels, grid), grid, self.view)

    def _layer(self, builder: Builder, node: Node, grid: Grid, added: Reals) -> Feature:
        unit = 2.0**-NORMAL_BITS
        n = len(added)
        least = np.maximum(np.abs(added) / (unit * BIAS_MAX), grid.scale * 2.0**-10)
        ratio = np.maximum(np.abs(self.factor), least) * unit / grid.scale
        bias = added / grid.scale / ratio
        largest = math.sqrt(n) / unit + np.abs(bias)
        found = checked(node, post(ratio, bias, largest, grid.largest, wide=builder.wide))
        epsilon = round(min(self.epsilon * (n / self.source.grid.scale) ** 2, EPSILON_MAX))
        name = builder.name(node)
        layer = build(
            node,
            lambda: LayerNorm(
                name=name,
                input=self.source.layer,
                epsilon=epsilon,
                bias=found.bias,
                mult=found.mult,
                shift=found.shift,
                offset=grid.zero,
                out_bits=grid.bits,
                out_signed=grid.signed,
            ),
        )
        return Feature(builder.append(node, Made(layer, found.error), grid), grid, self.view)


def normalise(builder: Builder, node: Node) -> None:
    """LayerNormalization of the last axis, the features of tokens."""
    source = builder.feature(node)
    view = source.view
    axis = normal_axis(node, node.integer("axis", -1), view.n_axes)
    rows = view.rows()
    if axis != view.n_axes - 1 or rows is None:
        raise OnnxError(
            f"{node}: axis must be the last, {view.n_axes - 1}, the features of tokens (N, T, C), "
            f"not {axis} of {view.dims}"
        )
    if len(np.unique(rows.channels)) != view.shape[0] or len(rows.channels) != view.shape[0]:
        raise OnnxError(
            f"{node}: must be of all {view.shape[0]} channels of a map, not of {view.dims[-1]}"
        )
    arrays = []
    for k, (what, default) in enumerate((("scale", 1.0), ("bias", 0.0)), 1):
        array = builder.constant(node, k) if node.input(k) else np.array(default)
        if array is None or array.size not in {1, view.shape[0]} or not np.isfinite(array).all():
            raise OnnxError(
                f"{node}: {what} {node.input(k)!r} must be {view.shape[0]} finite constants"
            )
        placed = np.empty(view.shape[0])
        placed[rows.channels] = array.astype(np.float64).ravel()
        arrays.append(placed)
    epsilon = node.number("epsilon", 1e-5)
    if epsilon < 0:
        raise OnnxError(f"{node}: epsilon must be at least 0, not {epsilon:g}")
    factor, added = arrays
    builder.values[node.result] = Normalised(node, view, source, epsilon, factor, added)


# Constant tokens, positions


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
        before = builder.select(_part(self.node, "input"), (source.layer,), self.channels, grid)
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


def refuse_scores(builder: Builder, node: Node, feature: Feature, what: str) -> None:
    """Refuse masks: what is added to scores."""
    layer: Layer | None = builder.by_name.get(feature.layer)
    while isinstance(layer, Lookup):
        layer = builder.by_name.get(layer.input)
    if isinstance(layer, MatMul) and layer.transposed:
        raise OnnxError(
            f"{node}: scores must not be masked, as with {what!r}: attention is of all tokens"
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
        grid = Grid(max(float(np.abs(values).max()) / HIGH, 1e-30), 0, 8, signed=True)
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
    before, own = builder.name(_part(node, "line")), _part(node, "column")
    least = max(kind.low, min(0, kind.high))
    tokens = Tokens(name=before, input=feature.layer, values=np.full((channels, 1), least))
    builder.append(node, Made(tokens, 0.0), feature.grid)
    weight = np.tile(np.array([0, 1]).reshape(1, 1, 2, 1), (channels, 1, 1, 1))
    name = _same(builder, own, before, weight, np.zeros(channels, np.int64), feature.grid)
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
        name=builder.name(_part(node, "pixel")),
        input=layer,
        mult=0,
        shift=1,
        out_bits=grid.bits,
        out_signed=grid.signed,
    )
    pixel = builder.append(node, Made(mean, 0.0), grid)
    weight = np.zeros((channels, 1, 1, 1), np.int64)
    last = _same(builder, _part(node, "last"), pixel, weight, values[:, -1], grid)
    name = builder.name(_part(node, "constant"))
    tokens = build(node, lambda: Tokens(name=name, input=last, values=values[:, :-1]))
    return builder.append(node, Made(tokens, 0.0), grid)


def _same(builder: Builder, node: Node, source: str, weight: Ints, bias: Ints, grid: Grid) -> str:
    """A depthwise convolution whose sums are its results."""
    channels = len(weight)
    ones = np.ones(channels, np.int64)
    layer = Conv(
        name=builder.name(node),
        input=source,
        weight=weight,
        bias=bias,
        mult=2 * ones,
        shift=ones,
        weight_bits=2,
        groups=channels,
        out_bits=grid.bits,
        out_signed=grid.signed,
    )
    return builder.append(node, Made(layer, 0.0), grid)


def scaled(found: Product, factor: float) -> Product:
    """A product times a positive number, before it is quantised."""
    return replace(found, factor=found.factor * factor)
