"""Products of two maps: scores of tokens, and features weighted by scores.

Tokens are pixels of a map and features its channels: a tensor (N, T, C) is a view of (C, T, 1).
"""

from dataclasses import dataclass, replace

import numpy as np

from firmware_tools.onnx_import.builder import Builder
from firmware_tools.onnx_import.layers import Made, checked
from firmware_tools.onnx_import.nodes import Node, OnnxError
from firmware_tools.onnx_import.scaling import post
from firmware_tools.onnx_import.values import (
    Feature,
    Grid,
    Late,
    Sum,
)
from firmware_tools.onnx_import.views import View, pixels
from model.mars.network import (
    Ints,
    Layer,
    Lookup,
    MatMul,
)

LOW, HIGH = -128, 127
"""Of an operand, which has a sign and no zero point."""


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

    def times(self, factor: float) -> "Product":
        """The same times a positive number."""
        return replace(self, factor=self.factor * factor)

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
        name = builder.select(self.node.part("together"), names, channels, parts[0].grid)
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


def _chosen(builder: Builder, node: Node, what: str, feature: Feature, channels: Ints) -> Feature:
    """Channels of a map, in their order there."""
    listed = channels.ravel().tolist()
    name = builder.select(node.part(what), (feature.layer,), listed, feature.grid)
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
        name = builder.name(node.part(what))
        layer = Lookup(
            name=name, input=feature.layer, table=steps, out_bits=own.bits, out_signed=own.signed
        )
        builder.append(node, Made(layer, 0.0), own)
        parts.append(Feature(name, own, feature.view))
        rest = rest - steps
    return parts


def refuse_scores(builder: Builder, node: Node, feature: Feature, what: str) -> None:
    """Refuse masks: what is added to scores."""
    layer: Layer | None = builder.by_name.get(feature.layer)
    while isinstance(layer, Lookup):
        layer = builder.by_name.get(layer.input)
    if isinstance(layer, MatMul) and layer.transposed:
        raise OnnxError(
            f"{node}: scores must not be masked, as with {what!r}: attention is of all tokens"
        )
