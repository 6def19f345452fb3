"""Softmax of scores, and layer normalisation of the features of tokens."""

import math
from dataclasses import dataclass, replace

import numpy as np

from firmware_tools.onnx_import import moving
from firmware_tools.onnx_import.builder import Builder
from firmware_tools.onnx_import.grids import PASSING
from firmware_tools.onnx_import.layers import Made, build, checked
from firmware_tools.onnx_import.nodes import Graph, Node, OnnxError
from firmware_tools.onnx_import.scaling import post
from firmware_tools.onnx_import.values import (
    Dropped,
    Feature,
    Grid,
    Late,
    Unary,
)
from firmware_tools.onnx_import.views import normal_axis, pixels
from firmware_tools.requantization import Reals
from model.mars.network import (
    LayerNorm,
    Softmax,
)
from model.mars.rows import (
    EPSILON_MAX,
    NORMAL_BITS,
    OCTAVE_BITS,
    OCTAVES_MAX,
    PROBABILITY_BITS,
)

ROW_ERROR = 0.5
"""Steps of 8 bits by which softmax and normalisation are off before rounding, at most."""
BIAS_MAX = 1 << 24
"""Largest bias, in units of what is normalised: a channel's factor is at least so much smaller."""


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
            turned = self._layer(builder, self.node.part("mirrored"), mirror, -self.added)
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
