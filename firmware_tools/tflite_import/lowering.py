"""A TensorFlow Lite graph as a network of the accelerator."""

from collections.abc import Callable
from typing import Any

import numpy as np

from firmware_tools.imported import Array, ModelImport, quantized
from firmware_tools.tflite_import.functions import TABLES
from firmware_tools.tflite_import.graph import Graph, Operator, Tensor, TfliteError
from firmware_tools.tflite_import.scaling import (
    Scaling,
    divided,
    mean_scaling,
    multiplied,
    scaling,
    sum_scaling,
)
from firmware_tools.tflite_import.values import (
    Grid,
    Value,
    fused_clamp,
    grid_of,
    map_index,
    same_padding,
    weight_scales,
)
from model.mars.network import (
    INPUT,
    AvgPool,
    Conv,
    Dense,
    FeatureType,
    Ints,
    Layer,
    Lookup,
    MaxPool,
    NetworkError,
    QuantizedNetwork,
    Select,
    Sides,
    references,
)

VALID = 1
SHAPING = {"RESHAPE", "SQUEEZE", "EXPAND_DIMS"}
AT_THE_END = {"SOFTMAX", "LOG_SOFTMAX", "ARG_MAX"}
"""They do not change which result is the largest, and are left to the host."""
Shape = tuple[int, int, int]


def lower(graph: Graph, *, wide: bool) -> ModelImport:
    """Translate a graph.

    Raises
    ------
    TfliteError
        The graph has something that the accelerator or this importer has not.
    """
    return _Lowering(graph, wide).run()


class _Lowering:
    def __init__(self, graph: Graph, wide: bool) -> None:
        self.graph = graph
        self.wide = wide
        self.layers: list[Layer] = []
        self.scales: dict[str, float] = {}
        self.values: dict[int, Value] = {}
        self.report: list[str] = []
        self.input_shape: tuple[int, ...] = ()
        self.input_grid: Grid
        self.is_over = False

    def run(self) -> ModelImport:
        if not self.graph.operators:
            raise TfliteError("the model must have at least one operator")
        self._input()
        output = self.graph.output
        for one in self.graph.operators:
            handler = _HANDLERS.get(one.op)
            if handler is None:
                known = ", ".join(sorted(_HANDLERS))
                raise TfliteError(f"{one} is not supported: operators must be among {known}")
            handler(self, one)
        return self._result(self._value_of(output))

    def _result(self, value: Value) -> ModelImport:
        if not self.layers or value.layer != self.layers[-1].name:
            self.layers = self._needed(value.layer)
        if not self.layers:
            raise TfliteError("the model must have a layer between input and output")
        network = self._network(self._needed(value.layer))
        grid, index = value.grid, value.index

        def from_network(results: Ints) -> Array:
            flat = results.reshape(len(results), -1)[:, index.reshape(-1)]
            dtype = np.int8 if grid.signed else np.uint8
            return flat.reshape(-1, *index.shape).astype(dtype)

        return ModelImport(network, self._to_network, from_network, tuple(self.report))

    def _needed(self, output: str) -> list[Layer]:
        """The layers that the output depends on."""
        needed = {output}
        for layer in reversed(self.layers):
            if layer.name in needed:
                needed.update(references(layer).values())
        return [layer for layer in self.layers if layer.name in needed]

    def _network(self, layers: list[Layer]) -> QuantizedNetwork:
        grid = self.input_grid
        kind = FeatureType(self._map_shape(), 8, grid.signed)
        names = {INPUT, *(layer.name for layer in layers)}
        scales = {name: scale for name, scale in self.scales.items() if name in names}
        try:
            return QuantizedNetwork(kind, tuple(layers), self.graph.name, scales)
        except NetworkError as error:
            raise TfliteError(str(error)) from None

    # Input

    def _input(self) -> None:
        """The input, whose shape is that which the first operator that is not a reshape sees."""
        number = self.graph.input
        readers = self.graph.readers(number)
        first = readers[0] if readers else self.graph.operators[0]
        if first.op == "QUANTIZE":
            number = first.outputs[0]
        self.input_grid = grid_of(first, self.graph.tensors[number])
        shape = self._shape_behind(number)
        if len(shape) not in {2, 3, 4} or min(shape[1:]) < 1:
            raise TfliteError(
                f"input {self.graph.tensors[number].name!r}: shape must be (1, ...) of 2 to 4 "
                f"fixed sizes, not {shape} (dynamic shapes cannot be mapped)"
            )
        self.input_shape = shape[1:]
        self.scales[INPUT] = self.input_grid.scale
        chw = self._map_shape()
        value = Value(INPUT, chw, map_index(chw).reshape(self.input_shape), self.input_grid)
        own = self.graph.tensors[number].shape[1:]
        self.values[number] = Value(INPUT, chw, value.index.reshape(own), self.input_grid)

    def _shape_behind(self, number: int) -> tuple[int, ...]:
        """Shape of a tensor behind reshapes that alone read it."""
        while True:
            readers = self.graph.readers(number)
            if len(readers) != 1 or readers[0].op not in SHAPING:
                return self.graph.tensors[number].shape
            behind = self.graph.tensors[readers[0].outputs[0]].shape
            size = int(np.prod(self.graph.tensors[number].shape))
            if int(np.prod(behind)) != size or len(behind) not in {2, 3, 4}:
                return self.graph.tensors[number].shape
            number = readers[0].outputs[0]

    def _map_shape(self) -> Shape:
        """Channels, rows and columns of the input."""
        shape = self.input_shape
        if len(shape) == 1:
            return shape[0], 1, 1
        if len(shape) == 2:
            return shape[1], shape[0], 1
        return shape[2], shape[0], shape[1]

    def _to_network(self, inputs: Array) -> Ints:
        grid = self.input_grid
        integers = quantized(np.asarray(inputs), grid.scale, grid.zero, grid.low, grid.high)
        chw = self._map_shape()
        tensors = integers.reshape(-1, int(np.prod(chw)))
        images = np.empty_like(tensors)
        images[:, map_index(chw).reshape(-1)] = tensors
        return images.reshape(-1, *chw)

    # What operators read and write

    def _tensor(self, one: Operator, k: int) -> Tensor | None:
        """An input tensor, or None if it is left out."""
        if k >= len(one.inputs) or one.inputs[k] < 0:
            return None
        return self.graph.tensors[one.inputs[k]]

    def _value_of(self, number: int) -> Value:
        if number not in self.values:
            name = self.graph.tensors[number].name
            raise TfliteError(f"output {name!r} must depend on the input")
        return self.values[number]

    def _value(self, one: Operator, k: int = 0) -> Value:
        """The activation that an operator reads."""
        if self.is_over:
            raise TfliteError(f"{one} must not follow a softmax")
        if k >= len(one.inputs) or one.inputs[k] not in self.values:
            raise TfliteError(f"{one}: input {k} must depend on the model's input, not be constant")
        return self.values[one.inputs[k]]

    def _map(self, one: Operator, k: int = 0, *, padded: bool = False) -> Value:
        """A map that an operator reads."""
        value = self._value(one, k)
        if not value.is_map:
            raise TfliteError(
                f"{one}: input must be a map (1, rows, columns, channels) as a layer wrote it, not "
                "a reshaped or transposed one"
            )
        if any(value.padding) and not padded:
            raise TfliteError(f"{one}: a PAD must be followed by a convolution")
        return value

    def _out_grid(self, one: Operator) -> Grid:
        return grid_of(one, self.graph.tensors[one.outputs[0]])

    def _name(self, one: Operator) -> str:
        """A name for a layer: that of its tensor without folders, or its operator."""
        short = one.name.split(";")[-1].split("/")[-1]
        base = short if short.isprintable() and short not in {"", INPUT} else one.op.lower()
        taken = {layer.name for layer in self.layers}
        names = [base, *(f"{base}_{k}" for k in range(2, len(taken) + 3))]
        return next(name for name in names if name not in taken)

    def _add(
        self, one: Operator, layer: Layer, shape: Shape, grid: Grid, index: Ints | None = None
    ) -> Value:
        """Append a layer; what it writes is a map, or has an index."""
        self.layers.append(layer)
        self.scales[layer.name] = grid.scale
        value = Value(layer.name, shape, map_index(shape) if index is None else index, grid)
        self.values[one.outputs[0]] = value
        return value

    def _made(self, one: Operator, make: Callable[..., Any], **fields: Any) -> Any:
        """A layer; what the network refuses is said with the operator."""
        try:
            return make(name=self._name(one), **fields)
        except NetworkError as error:
            raise TfliteError(f"{one}: {error}") from None

    # Convolutions

    def conv(self, one: Operator) -> None:
        source = self._map(one, padded=True)
        weights = self._weights(one, (0, 3, 1, 2))
        groups = source.shape[0] // max(weights.shape[1], 1)
        if weights.shape[1] * groups != source.shape[0]:
            raise TfliteError(
                f"{one}: weights must be for {source.shape[0]} channels, not {weights.shape[1]}"
            )
        self._convolve(one, source, weights, groups, axis=0)

    def depthwise(self, one: Operator) -> None:
        source = self._map(one, padded=True)
        weights = self._weights(one, (3, 0, 1, 2))
        self._convolve(one, source, weights, source.shape[0], axis=3)

    def _weights(self, one: Operator, order: tuple[int, ...]) -> Ints:
        tensor = self._tensor(one, 1)
        if tensor is None or tensor.data is None or len(tensor.shape) != len(order):
            raise TfliteError(f"{one}: weights must be a constant of {len(order)} dimensions")
        return tensor.data.astype(np.int64).transpose(order)

    def _convolve(
        self, one: Operator, source: Value, weight: Ints, groups: int, *, axis: int
    ) -> None:
        options = one.options
        if options is None:
            raise TfliteError(f"{one}: options must be given")
        stride = options.StrideH(), options.StrideW()
        dilation = options.DilationHFactor(), options.DilationWFactor()
        kernel = weight.shape[2], weight.shape[3]
        grid = self._out_grid(one)
        low, high = fused_clamp(one, options.FusedActivationFunction(), grid)
        bias, scale = self._products(one, source, weight, axis)
        layer = self._made(
            one,
            Conv,
            input=source.layer,
            weight=weight,
            bias=bias,
            **self._fields(scale),
            offset=grid.zero,
            stride=stride,
            dilation=dilation,
            padding=self._padding(one, source, kernel, stride, dilation),
            pad_value=source.grid.zero,
            groups=groups,
            weight_bits=_weight_bits(weight),
            out_bits=8,
            out_signed=grid.signed,
            low=low,
            high=high,
        )
        self._add(one, layer, self._shape_of(one, layer, source), grid)

    def _shape_of(self, one: Operator, layer: Layer, source: Value) -> Shape:
        kind = FeatureType(source.shape, 8, source.grid.signed)
        try:
            return layer.output_type(kind).shape
        except NetworkError as error:
            raise TfliteError(f"{one}: {error}") from None

    def _padding(
        self,
        one: Operator,
        source: Value,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        dilation: tuple[int, int] = (1, 1),
    ) -> Sides:
        top, left, bottom, right = source.padding
        if one.options.Padding() != VALID:
            if min(stride) < 1:
                raise TfliteError(f"{one}: strides must be at least 1, not {stride}")
            sizes = source.shape[1] + top + bottom, source.shape[2] + left + right
            rows, cols = (
                same_padding(sizes[k], kernel[k], stride[k], dilation[k]) for k in range(2)
            )
            top, left = top + rows[0], left + cols[0]
            bottom, right = bottom + rows[1], right + cols[1]
        return top, left, bottom, right

    def dense(self, one: Operator) -> None:
        source = self._value(one)
        if any(source.padding):
            raise TfliteError(f"{one}: a PAD must be followed by a convolution")
        weight = self._weights(one, (0, 1))
        index = source.index.reshape(-1)
        if weight.shape[1] != len(index):
            raise TfliteError(
                f"{one}: weights must be for the {len(index)} values of one image, not "
                f"{weight.shape[1]}"
            )
        scattered = np.zeros((len(weight), int(np.prod(source.shape))), np.int64)
        scattered[:, index] = weight
        grid = self._out_grid(one)
        activation = one.options.FusedActivationFunction() if one.options is not None else 0
        low, high = fused_clamp(one, activation, grid)
        bias, scale = self._products(one, source, weight, 0)
        layer = self._made(
            one,
            Dense,
            input=source.layer,
            weight=scattered,
            bias=bias,
            **self._fields(scale),
            offset=grid.zero,
            weight_bits=_weight_bits(weight),
            out_bits=8,
            out_signed=grid.signed,
            low=low,
            high=high,
        )
        shape = (len(weight), 1, 1)
        own = self.graph.tensors[one.outputs[0]].shape[1:]
        index = np.arange(len(weight))
        is_whole = int(np.prod(own)) == len(weight)
        self._add(one, layer, shape, grid, index.reshape(own) if is_whole else index)

    def _products(
        self, one: Operator, source: Value, weight: Ints, axis: int
    ) -> tuple[Ints, Scaling]:
        """The bias with the zero point in it, and the multipliers."""
        tensor, bias = self._tensor(one, 1), self._tensor(one, 2)
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
        values = values - source.grid.zero * weight.reshape(n, -1).sum(axis=1)
        real = source.grid.scale * scales / self._out_grid(one).scale
        # The kernel of dense layers rounds once (found with its results, not documented).
        return values, scaling(real, wide=self.wide, twice=one.op != "FULLY_CONNECTED")

    def _fields(self, found: Scaling) -> dict[str, Ints | None]:
        return {"mult": found.mult, "shift": found.shift, "post_shift": found.post_shift}

    # Pools

    def average_pool(self, one: Operator) -> None:
        source = self._map(one)
        kernel = one.options.FilterHeight(), one.options.FilterWidth()
        stride = one.options.StrideH(), one.options.StrideW()
        padding = self._padding(one, source, kernel, stride)
        if any(padding):
            raise TfliteError(
                f"{one}: padding must be VALID, or SAME where it adds nothing, not {padding} (at "
                "the edges the average would be over fewer pixels)"
            )
        grid = self._out_grid(one)
        low, high = fused_clamp(one, one.options.FusedActivationFunction(), grid)
        count = kernel[0] * kernel[1]
        sums = np.arange(grid.low * count, grid.high * count + 1)
        found = mean_scaling(sums, divided(sums, count), 1 / count, wide=self.wide)
        self._note(one, found.n_different, len(sums), "sums")
        if kernel == source.shape[1:] and low is None and high is None:
            layer = self._made(
                one,
                AvgPool,
                input=source.layer,
                mult=found.mult,
                shift=found.shift,
                post_shift=found.post_shift,
                out_bits=8,
                out_signed=grid.signed,
            )
            self._add(one, layer, (source.shape[0], 1, 1), grid)
            return
        n = source.shape[0]
        layer = self._made(
            one,
            Conv,
            input=source.layer,
            weight=np.ones((n, 1, *kernel), np.int64),
            bias=np.zeros(n, np.int64),
            mult=np.full(n, found.mult),
            shift=np.full(n, found.shift),
            post_shift=np.full(n, found.post_shift) if self.wide else None,
            stride=stride,
            groups=n,
            weight_bits=4,
            out_bits=8,
            out_signed=grid.signed,
            low=low,
            high=high,
        )
        self._add(one, layer, self._shape_of(one, layer, source), grid)

    def max_pool(self, one: Operator) -> None:
        source = self._map(one)
        grid = self._out_grid(one)
        if fused_clamp(one, one.options.FusedActivationFunction(), grid) != (None, None):
            raise TfliteError(f"{one}: fused activation must be one that changes nothing")
        kernel = one.options.FilterHeight(), one.options.FilterWidth()
        stride = one.options.StrideH(), one.options.StrideW()
        padding = self._padding(one, source, kernel, stride)
        layer = self._made(
            one, MaxPool, input=source.layer, kernel=kernel, stride=stride, padding=padding
        )
        self._add(one, layer, self._shape_of(one, layer, source), grid)

    def mean(self, one: Operator) -> None:
        source = self._map(one)
        self._check_axes(one)
        grid = self._out_grid(one)
        count = source.shape[1] * source.shape[2]
        bias = -count * source.grid.zero
        sums = np.arange(source.grid.low * count + bias, source.grid.high * count + bias + 1)
        real = source.grid.scale / grid.scale
        wanted = divided(multiplied(sums, real), count)
        found = mean_scaling(sums, wanted, real / count, wide=self.wide)
        self._note(one, found.n_different, len(sums), "sums")
        layer = self._made(
            one,
            AvgPool,
            input=source.layer,
            bias=bias,
            mult=found.mult,
            shift=found.shift,
            post_shift=found.post_shift,
            offset=grid.zero,
            out_bits=8,
            out_signed=grid.signed,
        )
        self._add_reduced(one, layer, source, grid)

    def reduce_max(self, one: Operator) -> None:
        source = self._map(one)
        self._check_axes(one)
        layer = self._made(one, MaxPool, input=source.layer, kernel=source.shape[1:], stride=(1, 1))
        self._add_reduced(one, layer, source, source.grid)

    def _add_reduced(self, one: Operator, layer: Layer, source: Value, grid: Grid) -> None:
        shape = (source.shape[0], 1, 1)
        own = self.graph.tensors[one.outputs[0]].shape[1:]
        self._add(one, layer, shape, grid, map_index(shape).reshape(own))

    def _check_axes(self, one: Operator) -> None:
        axes = self._constant(one, 1)
        places = sorted(int(axis) % 4 for axis in axes.reshape(-1))
        if places != [1, 2]:
            raise TfliteError(f"{one}: axes must be rows and columns, [1, 2], not {places}")

    def _constant(self, one: Operator, k: int) -> Array:
        tensor = self._tensor(one, k)
        if tensor is None or tensor.data is None:
            raise TfliteError(f"{one}: input {k} must be constant")
        return tensor.data

    def _note(self, one: Operator, n_different: int, n: int, what: str) -> None:
        if self.wide and n_different:
            self.report.append(
                f"{one}: {n_different} of {n} {what} differ by a step from TensorFlow Lite's"
            )

    # Two maps, and constants

    def add(self, one: Operator) -> None:
        numbers = [number for number in one.inputs if number in self.values]
        if len(numbers) != 2:
            self.by_constant(one)
            return
        first, second = self._value(one, 0), self._value(one, 1)
        if first.shape != second.shape or not np.array_equal(first.index, second.index):
            raise TfliteError(
                f"{one}: both inputs must have the same shape, not {first.index.shape} and "
                f"{second.index.shape}"
            )
        if any(first.padding) or any(second.padding):
            raise TfliteError(f"{one}: a PAD must be followed by a convolution")
        grid = self._out_grid(one)
        low, high = fused_clamp(one, one.options.FusedActivationFunction(), grid)
        scales = (first.grid.scale, second.grid.scale, grid.scale)
        found = sum_scaling(scales, (_span(first.grid), _span(second.grid)), wide=self.wide)
        self._note(one, found.n_different, 1 << 16, "pairs of values")
        n = first.shape[0]
        layer = self._made(
            one,
            Conv,
            input=first.layer,
            weight=np.ones((n, 1, 1, 1), np.int64),
            bias=np.full(n, -first.grid.zero),
            mult=np.full(n, found.mult),
            shift=np.full(n, found.shift),
            post_shift=np.full(n, found.post_shift) if self.wide else None,
            offset=grid.zero,
            groups=n,
            weight_bits=4,
            out_bits=8,
            out_signed=grid.signed,
            low=low,
            high=high,
            skip=second.layer,
            skip_mult=found.skip_mult,
            skip_zero=second.grid.zero,
        )
        self._add(one, layer, first.shape, grid, first.index)

    def by_constant(self, one: Operator) -> None:
        """A map times, plus or minus a constant, one or one per channel."""
        k = next((k for k in range(2) if one.inputs[k] in self.values), 0)
        source, other = self._map(one, k), self._tensor(one, 1 - k)
        if other is None or other.data is None or other.dtype not in {"INT8", "UINT8"}:
            raise TfliteError(f"{one}: the other input must be a map or a constant INT8 tensor")
        n = source.shape[0]
        if other.data.size not in {1, n} or (one.op == "SUB" and k == 1):
            raise TfliteError(
                f"{one}: the constant must be subtrahend, addend or factor with 1 or {n} values, "
                f"not {other.data.size}"
            )
        own = grid_of(one, other)
        steps = np.broadcast_to(other.data.reshape(-1).astype(np.int64) - own.zero, (n,))
        grid = self._out_grid(one)
        low, high = fused_clamp(one, one.options.FusedActivationFunction(), grid)
        ratio = source.grid.scale / grid.scale
        if one.op == "MUL":
            real = np.full(n, ratio * own.scale)
            weight, bias = steps, -source.grid.zero * steps
        else:
            sign = -1 if one.op == "SUB" else 1
            unit = 64
            real = np.full(n, ratio / unit)
            weight = np.full(n, unit)
            added = sign * steps * own.scale / source.grid.scale * unit
            bias = np.rint(added).astype(np.int64) - source.grid.zero * unit
        if weight.min() < -128 or weight.max() > 127:
            raise TfliteError(f"{one}: the constant less its zero point must be -128..127")
        layer = self._made(
            one,
            Conv,
            input=source.layer,
            weight=weight.reshape(n, 1, 1, 1),
            bias=bias,
            **self._fields(scaling(real, wide=self.wide)),
            offset=grid.zero,
            groups=n,
            weight_bits=8,
            out_bits=8,
            out_signed=grid.signed,
            low=low,
            high=high,
        )
        self._add(one, layer, source.shape, grid)

    def _rescaled(self, one: Operator, source: Value, grid: Grid) -> Value:
        """The same values with another scale and zero point."""
        if source.grid == grid:
            return source
        table = _rescale_table(source.grid, grid)
        layer = self._made(
            one, Lookup, input=source.layer, table=table, out_bits=8, out_signed=grid.signed
        )
        self.layers.append(layer)
        self.scales[layer.name] = grid.scale
        return Value(layer.name, source.shape, source.index, grid)

    def lookup(self, one: Operator) -> None:
        source = self._value(one)
        grid = self._out_grid(one)
        try:
            table = TABLES[one.op](source.grid, grid, one.options)
        except ValueError as error:
            raise TfliteError(f"{one}: {error}") from None
        layer = self._made(
            one, Lookup, input=source.layer, table=table, out_bits=8, out_signed=grid.signed
        )
        self._add(one, layer, source.shape, grid, source.index)

    def quantize(self, one: Operator) -> None:
        if one.inputs[0] == self.graph.input and one.outputs[0] in self.values:
            return
        source = self._value(one)
        self.values[one.outputs[0]] = self._rescaled(one, source, self._out_grid(one))

    def dequantize(self, one: Operator) -> None:
        self.values[one.outputs[0]] = self._value(one)

    # Shapes

    def reshape(self, one: Operator) -> None:
        source = self._value(one)
        shape = self.graph.tensors[one.outputs[0]].shape
        if int(np.prod(shape[1:])) != source.index.size or any(source.padding):
            raise TfliteError(
                f"{one}: shape must keep the batch and the {source.index.size} values of one "
                f"image, not be {shape}"
            )
        self._renamed(one, source, source.index.reshape(shape[1:]))

    def transpose(self, one: Operator) -> None:
        source = self._value(one)
        order = [int(axis) for axis in self._constant(one, 1).reshape(-1)]
        if sorted(order) != list(range(source.index.ndim + 1)) or order[0]:
            raise TfliteError(f"{one}: the batch must stay in front, not the order {order}")
        self._renamed(one, source, source.index.transpose([axis - 1 for axis in order[1:]]))

    def _renamed(self, one: Operator, source: Value, index: Ints) -> None:
        self.values[one.outputs[0]] = Value(source.layer, source.shape, index, source.grid)

    def pad(self, one: Operator) -> None:
        source = self._map(one, padded=True)
        sizes = self._constant(one, 1).reshape(-1, 2).astype(int)
        value = self._tensor(one, 2)
        if (
            value is not None
            and value.data is not None
            and int(value.data.reshape(-1)[0]) != (source.grid.zero)
        ):
            raise TfliteError(f"{one}: the constant must be the zero point, {source.grid.zero}")
        if sizes.shape != (4, 2) or sizes[0].any() or sizes[3].any() or sizes.min() < 0:
            raise TfliteError(f"{one}: only rows and columns can be padded, not {sizes.tolist()}")
        top, left, bottom, right = source.padding
        padding = (
            top + int(sizes[1, 0]),
            left + int(sizes[2, 0]),
            bottom + int(sizes[1, 1]),
            right + int(sizes[2, 1]),
        )
        self.values[one.outputs[0]] = Value(
            source.layer, source.shape, source.index, source.grid, padding
        )

    def concatenate(self, one: Operator) -> None:
        grid = self._out_grid(one)
        maps = [self._map(one, k) for k in range(len(one.inputs))]
        axis = one.options.Axis() % 4
        if axis != 3:
            raise TfliteError(f"{one}: axis must be that of the channels, 3, not {axis}")
        parts = [self._rescaled(one, source, grid) for source in maps]
        n = sum(part.shape[0] for part in parts)
        self._select(one, [part.layer for part in parts], range(n), parts[0].shape, grid)

    def split(self, one: Operator) -> None:
        source = self._map(one, 1)
        axis = int(self._constant(one, 0).reshape(-1)[0]) % 4
        if axis != 3:
            raise TfliteError(f"{one}: axis must be that of the channels, 3, not {axis}")
        first = 0
        for number in one.outputs:
            n = self.graph.tensors[number].shape[-1]
            self._part(one, number, source, range(first, first + n))
            first += n

    def strided_slice(self, one: Operator) -> None:
        source = self._map(one)
        begin, end, step = (self._constant(one, k).reshape(-1).astype(int) for k in (1, 2, 3))
        shape = (1, *source.index.shape)
        parts = []
        for k, size in enumerate(shape):
            low = None if one.options.BeginMask() >> k & 1 else int(begin[k])
            high = None if one.options.EndMask() >> k & 1 else int(end[k])
            parts.append(range(size)[low : high : int(step[k])])
        if any(part != range(size) for part, size in zip(parts[:3], shape[:3], strict=True)):
            raise TfliteError(f"{one}: only channels can be sliced")
        self._part(one, one.outputs[0], source, parts[3])

    def slice(self, one: Operator) -> None:
        source = self._map(one)
        begin, size = (self._constant(one, k).reshape(-1).astype(int) for k in (1, 2))
        shape = (1, *source.index.shape)
        ends = [begin[k] + (size[k] if size[k] >= 0 else shape[k] - begin[k]) for k in range(4)]
        if any(begin[:3]) or any(ends[k] != shape[k] for k in range(3)):
            raise TfliteError(f"{one}: only channels can be sliced")
        self._part(one, one.outputs[0], source, range(int(begin[3]), int(ends[3])))

    def _part(self, one: Operator, number: int, source: Value, channels: range) -> None:
        layer = self._made(one, Select, inputs=(source.layer,), channels=tuple(channels))
        self.layers.append(layer)
        shape = (len(channels), *source.shape[1:])
        self.scales[layer.name] = source.grid.scale
        self.values[number] = Value(layer.name, shape, map_index(shape), source.grid)

    def _select(
        self, one: Operator, names: list[str], channels: range, shape: Shape, grid: Grid
    ) -> None:
        layer = self._made(one, Select, inputs=tuple(names), channels=tuple(channels))
        self._add(one, layer, (len(channels), *shape[1:]), grid)

    def end(self, one: Operator) -> None:
        """Left to the host: what comes before has the same largest result."""
        source = self._value(one)
        self.values[one.outputs[0]] = source
        self.is_over = True
        self.report.append(f"{one} is left to the host: results are those before it")


def _span(grid: Grid) -> tuple[int, int]:
    """Least and largest distance from the zero point."""
    return grid.low - grid.zero, grid.high - grid.zero


def _weight_bits(weight: Ints) -> int:
    return max(2, *(int(end).bit_length() + 1 for end in (weight.max(), ~weight.min())))


def _rescale_table(source: Grid, grid: Grid) -> Ints:
    steps = np.arange(source.low, source.high + 1) - source.zero
    values = multiplied(steps, source.scale / grid.scale) + grid.zero
    return np.clip(values, grid.low, grid.high)


_HANDLERS: dict[str, Callable[[_Lowering, Operator], None]] = {
    "CONV_2D": _Lowering.conv,
    "DEPTHWISE_CONV_2D": _Lowering.depthwise,
    "FULLY_CONNECTED": _Lowering.dense,
    "AVERAGE_POOL_2D": _Lowering.average_pool,
    "MAX_POOL_2D": _Lowering.max_pool,
    "MEAN": _Lowering.mean,
    "REDUCE_MAX": _Lowering.reduce_max,
    "ADD": _Lowering.add,
    "SUB": _Lowering.by_constant,
    "MUL": _Lowering.by_constant,
    "QUANTIZE": _Lowering.quantize,
    "DEQUANTIZE": _Lowering.dequantize,
    "TRANSPOSE": _Lowering.transpose,
    "PAD": _Lowering.pad,
    "PADV2": _Lowering.pad,
    "CONCATENATION": _Lowering.concatenate,
    "SPLIT": _Lowering.split,
    "STRIDED_SLICE": _Lowering.strided_slice,
    "SLICE": _Lowering.slice,
    **dict.fromkeys(SHAPING, _Lowering.reshape),
    **dict.fromkeys(AT_THE_END, _Lowering.end),
    **dict.fromkeys(TABLES, _Lowering.lookup),
}
