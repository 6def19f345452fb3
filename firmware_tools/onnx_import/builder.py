"""A network that grows while a graph is read: layers, and what tensors stand for."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from firmware_tools.onnx_import.constants import STATIC
from firmware_tools.onnx_import.grids import next_grid, own_grid
from firmware_tools.onnx_import.layers import (
    Made,
    average_layer,
    build,
    products_layer,
    raw_layer,
    rounded_down,
    sum_layer,
    wide_weights,
)
from firmware_tools.onnx_import.nodes import Array, Graph, Node, OnnxError
from firmware_tools.onnx_import.values import (
    NO_PADS,
    Average,
    Dropped,
    Feature,
    Grid,
    Joined,
    Late,
    Pending,
    Products,
    Source,
    Step,
    Sum,
    Tensor,
    Unary,
    Value,
)
from firmware_tools.onnx_import.views import View
from firmware_tools.onnx_import.windows import pad_steps
from model.mars.network import (
    INPUT,
    KERNEL_MAX,
    Conv,
    FeatureType,
    Ints,
    Layer,
    Lookup,
    NetworkError,
    Select,
    output_type,
)


@dataclass(eq=False)
class Builder:
    """What has been read of a graph.

    Parameters
    ----------
    graph : Graph
        In QDQ form.
    wide : bool
        Multipliers have 31 bits.
    view : View
        Of the input.
    """

    graph: Graph
    wide: bool
    view: View
    layers: list[Layer] = field(default_factory=list)
    types: dict[str, FeatureType] = field(default_factory=dict)
    grids: dict[str, Grid] = field(default_factory=dict)
    """By layer; of results with 32 bits only the scale matters."""
    errors: dict[str, float] = field(default_factory=dict)
    constants: dict[str, Array] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    values: dict[str, Value] = field(default_factory=dict)
    integers: set[str] = field(default_factory=set)
    """Names of the values that are integers, not real numbers."""
    notes: list[str] = field(default_factory=list)
    steps: tuple[Step, ...] | None = None
    """What the host does with the input before it is quantised."""
    by_name: dict[str, Layer] = field(default_factory=dict)
    whole: dict[Feature, Feature] = field(default_factory=dict)
    """By maps that a Pad has put something around: with it."""
    finished: dict[tuple[Feature | Pending, Grid], Feature] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.constants = dict(self.graph.constants)
        is_integer = self.graph.input_type != "float32"
        self.values[self.graph.input] = Source(self.view, is_integer=is_integer)

    # What a node reads

    def value(self, node: Node, k: int = 0) -> Value:
        """An input that depends on the network's."""
        name = node.input(k)
        if name in self.values:
            return self.values[name]
        if self.is_constant(name):
            raise OnnxError(
                f"{node}: input {name!r} must depend on the model's input, not be constant; what "
                "is worked out from constants must be folded, as quant_pre_process of onnxruntime "
                "does"
            )
        what = "computed otherwise" if name else "left out"
        raise OnnxError(
            f"{node}: input {name!r} must be a quantised activation (QuantizeLinear and "
            f"DequantizeLinear), not {what}; the model must be quantised with {STATIC}"
        )

    def operand(self, node: Node, k: int = 0) -> Feature | Pending:
        """The same in real numbers."""
        found, name = self.value(node, k), node.input(k)
        if isinstance(found, Dropped):
            raise OnnxError(f"{node}: must not follow {found.node}, which must be last")
        if isinstance(found, Source):
            grid = None if found.is_integer else next_grid(self.graph, self.constants, name)
            if grid is not None:
                self.values[name] = started = self.start(grid, found)
                return started
            raise OnnxError(
                f"{node}: input {name!r} must be a quantised activation (QuantizeLinear and "
                f"DequantizeLinear), not float; the model must be quantised with {STATIC}"
            )
        return found

    def feature(self, node: Node, k: int = 0, *, padded: bool = False) -> Feature:
        """The same as a map; what is not quantised yet is quantised as it will be."""
        found = self.operand(node, k)
        if not isinstance(found, Feature):
            grid = next_grid(self.graph, self.constants, node.input(k))
            grid = grid or self._own_grid(found)
            if grid is None:
                raise OnnxError(
                    f"{node}: what it reads, the result of {found.node}, must be quantised before"
                )
            found = self.finish(found, grid)
            self.values[node.input(k)] = found
        return found if padded else self.padded(node, found)

    def as_map(self, node: Node, feature: Feature, *, is_pointwise: bool = False) -> Feature:
        """The map whose channels are those of a tensor (C, H, W), (C, L) or (C)."""
        channels = feature.view.channels(is_pointwise=is_pointwise)
        if channels is None and (part := self.cut(node, feature)) is not feature:
            return part
        if channels is None:
            raise OnnxError(
                f"{node}: its input must be channels of a map {feature.view.shape}, in order "
                f"(N, C, ...), not {feature.view.dims} of other axes"
            )
        if channels == list(range(feature.view.shape[0])):
            return replace(feature, view=View(feature.view.shape, feature.view.dims))
        name = self.select(node, (feature.layer,), channels, feature.grid)
        shape = (len(channels), *feature.view.shape[1:])
        return replace(feature, layer=name, view=View(shape, feature.view.dims), base=None)

    def cut(self, node: Node, feature: Feature) -> Feature:
        """A part of a map as a map of its own; what is no part as it is."""
        view = feature.view
        part = None if view.order is None else view.part()
        if part is None or part.size == view.shape[1:]:
            return feature
        feature = self.padded(node, feature)
        kernel = part.kernel(view.shape[1:])
        if max(kernel) > KERNEL_MAX:
            raise OnnxError(
                f"{node}: at most {KERNEL_MAX - 1} rows or columns of {view.shape[1:]} can be cut "
                f"off, not {max(kernel) - 1}"
            )
        channels = part.channels.tolist()
        name = self.select(node.part("channels"), (feature.layer,), channels, feature.grid)
        weight = np.zeros((len(channels), 1, *kernel), np.int64)
        weight[np.arange(len(channels)), 0, *part.first] = 1
        layer = self.copied(node.part("part"), name, weight, feature.grid, stride=part.stride)
        return Feature(layer, feature.grid, part.view)

    def padded(self, node: Node, feature: Feature) -> Feature:
        """A map with what a Pad has put around it as a map of its own."""
        if feature.pads == NO_PADS:
            return feature
        if feature not in self.whole:
            view, (top, left, bottom, right) = feature.view, feature.pads
            channels, rows, columns = view.shape
            name = self.copied(
                node.part("pad"),
                feature.layer,
                np.ones((channels, 1, 1, 1), np.int64),
                feature.grid,
                padding=feature.pads,
                pad_value=pad_steps(node, feature.grid, feature.pad_value),
            )
            is_turned = view.dims[1:] not in {view.shape[1:], view.shape[2:]}
            shape = (channels, top + rows + bottom, left + columns + right)
            own = View.map(shape, len(view.dims), is_turned=is_turned)
            self.whole[feature] = Feature(name, feature.grid, own)
        return self.whole[feature]

    def widened(self, node: Node, feature: Feature, before: int, behind: int) -> Feature:
        """A map with constant channels before and behind its own, as the pad value is."""
        channels, *sides = feature.view.shape
        value = pad_steps(node, feature.grid, feature.pad_value)
        around = ((before, behind), (0, 0), (0, 0), (0, 0))
        name = self.copied(
            node.part("channels"),
            feature.layer,
            np.pad(np.eye(channels, dtype=np.int64)[:, :, np.newaxis, np.newaxis], around),
            feature.grid,
            bias=np.pad(np.zeros(channels, np.int64), around[0], constant_values=value),
            groups=1,
        )
        whole = before + channels + behind
        view = View((whole, sides[0], sides[1]), (whole, *feature.view.dims[1:]))
        return replace(feature, layer=name, view=view, base=None)

    def copied(
        self, node: Node, source: str, weight: Ints, grid: Grid, *, groups: int = 0, **fields: Any
    ) -> str:
        """A convolution, depthwise by default, whose sums are its results."""
        n = len(weight)
        layer = build(
            node,
            lambda: Conv(
                name=self.name(node),
                input=source,
                weight=weight,
                **{"bias": np.zeros(n, np.int64), **fields},
                mult=np.full(n, 2),
                shift=np.full(n, 1),
                weight_bits=2,
                groups=groups or n,
                out_bits=grid.bits,
                out_signed=grid.signed,
            ),
        )
        return self.append(node, Made(layer, 0.0), grid)

    def constant(self, node: Node, k: int) -> Array | None:
        """An input's real numbers if it is constant."""
        name = node.input(k)
        if name in self.tensors:
            return self.tensors[name].real
        found = self.constants.get(name)
        if found is not None and found.dtype.kind not in "fiub":
            raise OnnxError(f"{node}: constant {name!r} must be numbers, not {found.dtype}")
        return found

    def is_constant(self, name: str) -> bool:
        """Whether it has been worked out."""
        return name in self.tensors or name in self.constants

    # Layers

    def name(self, node: Node) -> str:
        """A layer's name: the node's, as far as a network file takes it."""
        own = node.name if node.name.isprintable() and node.name != INPUT else f"{node.op}_"
        name, k = own or node.op, 1
        while name in self.by_name:
            k += 1
            name = f"{own}_{k}"
        return name

    def append(self, node: Node, made: Made, grid: Grid) -> str:
        """Add a layer; its name."""
        layer = made.layer
        try:
            self.types[layer.name] = output_type(layer, self.types)
        except NetworkError as error:
            raise OnnxError(f"{node}: {error}") from None
        self.layers.append(layer)
        self.by_name[layer.name] = layer
        self.grids[layer.name] = grid
        self.errors[layer.name] = made.error
        return layer.name

    def select(self, node: Node, names: tuple[str, ...], channels: list[int], grid: Grid) -> str:
        """Channels of some maps one after the other, without the selections between."""
        sources = [(name, k) for name in names for k in range(self.types[name].shape[0])]
        places = []
        for channel in channels:
            name, k = sources[channel]
            layer = self.by_name.get(name)
            if isinstance(layer, Select):
                k = layer.channels[k]
                inner = iter(layer.inputs)
                name = next(inner)
                while k >= self.types[name].shape[0]:
                    k -= self.types[name].shape[0]
                    name = next(inner)
            places.append((name, k))
        used = tuple(dict.fromkeys(name for name, _ in places))
        if len(used) == 1 and [k for _, k in places] == list(range(self.types[used[0]].shape[0])):
            return used[0]
        starts = np.cumsum([0, *(self.types[name].shape[0] for name in used)])
        first = dict(zip(used, starts.tolist(), strict=False))
        chosen = tuple(first[name] + k for name, k in places)
        own = self.name(node)
        layer = build(node, lambda: Select(name=own, inputs=used, channels=chosen))
        return self.append(node, Made(layer, 0.0), grid)

    def start(self, grid: Grid, source: Source) -> Feature:
        """The input, now that its integers are known."""
        kind = FeatureType(self.view.shape, grid.bits, grid.signed)
        self.steps = source.steps if self.steps is None else self.steps
        first = self.grids.setdefault(INPUT, grid)
        if first != grid:
            raise OnnxError(
                f"input {self.graph.input!r} must be quantised in one way, before it is taken "
                f"apart, not with {first} and with {grid}"
            )
        if self.steps is not source.steps:
            raise OnnxError(
                f"input {self.graph.input!r} must be quantised in one way, not after other "
                "operators once more"
            )
        self.types[INPUT] = kind
        return Feature(INPUT, grid, source.view)

    def finish(self, pending: Feature | Pending, grid: Grid) -> Feature:
        """The layer whose results are quantised so, however many read it."""
        key = pending, grid
        if key not in self.finished:
            self.finished[key] = self._finished(pending, grid)
        return self.finished[key]

    def _finished(self, pending: Feature | Pending, grid: Grid) -> Feature:
        match pending:
            case Feature() if grid == pending.grid:
                return pending.rounded
            case Late():
                return pending.make(self, grid)
            case Feature():
                unary = Unary(_no_node(pending), pending, pending.grid.values, pending.view)
                return self._looked_up(unary, grid).rounded
            case Unary():
                return self._looked_up(pending, grid)
            case Joined():
                return self._joined(pending, grid)
            case _:
                return self._calculated(pending, grid)

    def _calculated(self, pending: Products | Sum | Average, grid: Grid) -> Feature:
        node = pending.node
        match pending:
            case Products() if pending.is_even and pending.source.grid.scale == grid.scale:
                return self._to_even(pending, grid)
            case Products():
                narrow = self._narrow(pending)
                made = products_layer(self.name(node), narrow, grid, wide=self.wide)
            case Sum():
                made = sum_layer(self.name(node), pending, grid, wide=self.wide)
            case Average():
                made = average_layer(self.name(node), pending, grid, wide=self.wide)
        layer = self.append(pending.node, made, grid)
        feature = Feature(layer, grid, pending.view)
        if isinstance(pending, Average) and (pending.low > -np.inf or pending.high < np.inf):
            clipped = np.clip(grid.values, pending.low, pending.high)
            return self._looked_up(Unary(pending.node, feature, clipped, pending.view), grid)
        return feature

    def _to_even(self, pending: Products, grid: Grid) -> Feature:
        """An average of an even number, whose ties are many and are to be rounded to even.

        Rounded down, it tells whether the integer below a tie is odd; then it needs a little more.
        """
        below = replace(rounded_down(pending), is_even=False)
        steps = np.arange(grid.low, grid.high + 1) - grid.zero
        down = self.finish(below, grid)
        odd = self.finish(
            Unary(pending.node, down, (steps % 2 * 2 * below.scale[0]), pending.view),
            Grid(2 * float(below.scale[0]), 0, 1, signed=False),
        )
        return self.finish(replace(below, skip=odd), grid)

    def _narrow(self, pending: Products) -> Products:
        """The same with weights of 8 bits."""
        weight, channels = wide_weights(pending)
        source = pending.source
        if len(channels) == source.view.shape[0]:
            return pending
        name = self.select(pending.node, (source.layer,), channels, source.grid)
        return replace(pending, weight=weight, source=replace(source, layer=name))

    def _looked_up(self, pending: Unary, grid: Grid) -> Feature:
        source = pending.source
        table = grid.quantize(pending.results)
        own = np.arange(source.grid.low, source.grid.high + 1)
        is_same_type = (grid.bits, grid.signed) == (source.grid.bits, source.grid.signed)
        if is_same_type and np.array_equal(table, own):
            return replace(source, grid=grid, view=pending.view)
        node = pending.node
        name = self.name(node)
        layer = build(
            node,
            lambda: Lookup(
                name=name,
                input=source.layer,
                table=table,
                out_bits=grid.bits,
                out_signed=grid.signed,
            ),
        )
        self.append(node, Made(layer, 0.0), grid)
        return Feature(name, grid, pending.view, (source, table), source.pads, source.pad_value)

    def _joined(self, pending: Joined, grid: Grid) -> Feature:
        names = tuple(self.finish(part, grid).layer for part in pending.parts)
        channels = list(range(sum(self.types[name].shape[0] for name in names)))
        return Feature(self.select(pending.node, names, channels, grid), grid, pending.view)

    def raw(self, pending: Pending) -> Feature:
        """The layer whose accumulators are the network's results."""
        node = pending.node
        own = self._own_grid(pending)
        if own is not None:
            return self.finish(pending, own)
        if not isinstance(pending, Products) or pending.is_clamped or pending.skip is not None:
            raise OnnxError(
                f"output {self.graph.output!r} must be quantised, or be that of a Conv, Gemm or "
                f"MatMul alone, without a clamp or residual, not of {node}"
            )
        if np.ptp(pending.scale) > 1e-6 * pending.scale.max():
            raise OnnxError(
                f"{node}: with results that are not quantised, weights must have one scale, not "
                "one per channel (accumulators of different scales cannot be compared)"
            )
        grid = Grid(float(pending.scale[0]), 0, 32, signed=True)
        narrow = self._narrow(pending)
        name = self.append(node, raw_layer(self.name(node), narrow), grid)
        return Feature(name, grid, pending.view)

    def _own_grid(self, pending: Pending) -> Grid | None:
        """A grid for results that the model does not quantise but whose range is known."""
        grid = own_grid(pending)
        if grid is not None:
            self.notes.append(
                f"the result of {pending.node} is not quantised in the model: rounded to steps of "
                f"{grid.scale:.3g}"
            )
        return grid


def _no_node(feature: Feature) -> Node:
    return Node(f"{feature.layer}_rescaled", "QuantizeLinear", (), ())
