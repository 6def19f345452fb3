"""A QDQ graph as a network of the accelerator."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from firmware_tools.onnx_import import values
from firmware_tools.onnx_import.graph import Graph, Node, OnnxError
from firmware_tools.onnx_import.layers import (
    SYMMETRIC,
    average_layer,
    products_layer,
    raw_layer,
    sum_as_products,
)
from firmware_tools.onnx_import.values import (
    Average,
    Feature,
    Grid,
    Pending,
    Products,
    Storage,
    Sum,
    Tensor,
)
from firmware_tools.requantization import Reals
from model.mars.network import (
    INPUT,
    RAW_BITS,
    Conv,
    FeatureType,
    Layer,
    MaxPool,
    NetworkError,
    QuantizedNetwork,
    references,
)

Shape = tuple[int, int, int]

PREPROCESS = "onnxruntime.quantization.shape_inference.quant_pre_process"
QUANTIZE = "onnxruntime.quantization.quantize_static"
BIAS_TOLERANCE = 1e-5
"""Relative difference up to which a bias' scale, a float32, is that of the accumulator."""
ADVICE = {
    "BatchNormalization": f"it must be folded into the convolution before quantising: {PREPROCESS}",
    "Softmax": "it must be left out, the largest input is the largest output",
    "QLinearConv": "the model must be in QDQ form: quant_format=QuantFormat.QDQ",
    "QLinearMatMul": "the model must be in QDQ form: quant_format=QuantFormat.QDQ",
    "ConvInteger": f"the model must be quantised with {QUANTIZE}, not quantize_dynamic",
    "MatMulInteger": f"the model must be quantised with {QUANTIZE}, not quantize_dynamic",
    "DynamicQuantizeLinear": f"the model must be quantised with {QUANTIZE}, not quantize_dynamic",
}


@dataclass(frozen=True)
class Lowered:
    """A network and what its integers stand for.

    Parameters
    ----------
    network : QuantizedNetwork
    zeros : {str: int}
        By layer, and "input": the integer that stands for 0; `network.scales` has the steps.
    errors : {str: float}
        By layer: bound of what multipliers and biases change before rounding, in output steps.
    """

    network: QuantizedNetwork
    zeros: dict[str, int]
    errors: dict[str, float]


def lower(graph: Graph, *, fuse_residuals: bool = False) -> Lowered:
    """Translate a graph.

    Raises
    ------
    OnnxError
        The graph has something that the accelerator or this importer has not.
    """
    return _Lowering(graph, fuse_residuals).run()


@dataclass(eq=False)
class _Lowering:
    graph: Graph
    fuse_residuals: bool
    layers: list[Layer] = field(default_factory=list)
    scales: dict[str, float] = field(default_factory=dict)
    zeros: dict[str, int] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    features: dict[str, Feature] = field(default_factory=dict)
    """Tensors that layers hold, quantised or dequantised again."""
    quantized: set[str] = field(default_factory=set)
    """Those of them that are integers."""
    tensors: dict[str, Tensor] = field(default_factory=dict)
    pending: dict[str, Pending] = field(default_factory=dict)
    products: dict[str, Products] = field(default_factory=dict)
    """What layers were made of, by name."""
    input_type: FeatureType | None = None

    def run(self) -> Lowered:
        for node in self.graph.nodes:
            if node.op not in _HANDLERS:
                known = ", ".join(sorted(_HANDLERS))
                advice = ADVICE.get(node.op, f"operators must be among {known}")
                raise OnnxError(f"{node} is not supported: {advice}")
            _HANDLERS[node.op](self, node)
        output = self._output()
        return Lowered(self._network(output), self.zeros, self.errors)

    def _output(self) -> str:
        name = self.graph.output
        if name in self.pending:
            return self._raw(self.pending[name]).layer
        if name not in self.features:
            raise OnnxError(f"output {name!r} must depend on the input")
        return self.features[name].layer

    def _network(self, output: str) -> QuantizedNetwork:
        needed = {output}
        for layer in reversed(self.layers):
            if layer.name in needed:
                needed.update(references(layer).values())
        kept = [layer for layer in self.layers if layer.name in needed]
        assert self.input_type is not None
        scales = {name: scale for name, scale in self.scales.items() if name in needed}
        try:
            kept.sort(key=lambda layer: layer.name == output)  # it may be read by nobody else
            return QuantizedNetwork(self.input_type, tuple(kept), self.graph.name, scales)
        except NetworkError as error:
            raise OnnxError(str(error)) from None

    # Quantising and back

    def quantize(self, node: Node) -> None:
        name, result = node.input(0), node.outputs[0]
        if name in self.graph.constants:
            constant = self.graph.constants[name]
            self.tensors[result] = values.quantized_constant(self.graph, node, constant)
            return
        grid = values.grid_of(self.graph, node)
        self.quantized.add(result)
        if name == self.graph.input:
            self.features[result] = self._input(result, grid)
        elif name in self.pending:
            pending = self.pending[name]
            if self._has_relu_next(result, grid):
                pending = replace(pending, relu=True)
            self.features[result] = self._finish(pending, grid, result)
        else:
            source = self._feature(node)
            if grid == source.grid:
                self.features[result] = self._renamed(source, result)
            else:
                self.features[result] = self._finish(Sum(node, (source,)), grid, result)

    def dequantize(self, node: Node) -> None:
        name, result = node.input(0), node.outputs[0]
        if name in self.graph.constants:
            constant = self.graph.constants[name]
            self.tensors[result] = values.dequantized_constant(self.graph, node, constant)
            return
        if name in self.tensors:
            self.tensors[result] = self.tensors[name]
            return
        grid = values.grid_of(self.graph, node)
        if name == self.graph.input:
            self.features[name] = self._input(name, grid)
            self.quantized.add(name)
        if name not in self.quantized:
            raise OnnxError(f"{node}: input {name!r} must be the result of a QuantizeLinear")
        feature = self.features[name]
        if grid != feature.grid:
            raise OnnxError(
                f"{node}: scale and zero point must be those of the QuantizeLinear, "
                f"{feature.grid.scale} and {feature.grid.zero_point}, "
                f"not {grid.scale} and {grid.zero_point}"
            )
        self.features[result] = feature

    def _input(self, result: str, grid: Grid) -> Feature:
        storage = grid.storage()
        assert storage is not None
        given = self.graph.input_shape
        channels, rows, columns = given if len(given) == 3 else (*given, 1, 1)
        shape = (channels, rows, columns)
        kind = FeatureType(shape, storage.bits, storage.signed)
        if self.input_type is not None and self.scales[INPUT] != grid.scale:
            raise OnnxError(f"input {self.graph.input!r} must be quantised in one way, not two")
        self.input_type = kind
        self.scales[INPUT], self.zeros[INPUT] = grid.scale, storage.zero
        return self._renamed(Feature(INPUT, grid, storage, shape, len(given) == 1, 0), result)

    def _renamed(self, feature: Feature, tensor: str) -> Feature:
        """The feature map as a tensor that has its own readers."""
        return replace(feature, readers=feature.readers + self._readers(tensor))

    def _readers(self, tensor: str) -> int:
        """How often a quantised tensor is read, as real numbers or as it is."""
        own = int(tensor == self.graph.output)
        for node in self.graph.readers(tensor):
            if node.op == "DequantizeLinear":
                own += self._readers(node.outputs[0])
            else:
                own += 1
        return own

    def _has_relu_next(self, tensor: str, grid: Grid) -> bool:
        """Whether nothing but a ReLU on the same grid reads a quantised tensor."""
        wanted = ("DequantizeLinear", "Relu", "QuantizeLinear")
        for op in wanted:
            readers = self.graph.readers(tensor)
            if len(readers) != 1 or readers[0].op != op or tensor == self.graph.output:
                return False
            tensor = readers[0].outputs[0]
        return values.grid_of(self.graph, readers[0]) == grid

    def _feature(self, node: Node, k: int = 0) -> Feature:
        """What a node reads as a feature map of real numbers."""
        name = node.input(k)
        if name in self.features and name not in self.quantized:
            return self.features[name]
        what = "constant" if name in self.tensors or name in self.graph.constants else "float"
        raise OnnxError(
            f"{node}: input {name!r} must be a quantised activation (QuantizeLinear and "
            f"DequantizeLinear), not {what}; the model must be quantised with {QUANTIZE}"
        )

    # Operators

    def conv(self, node: Node) -> None:
        source = self._feature(node)
        tensor = self._weight(node)
        if source.is_flat or tensor.values.ndim != 4:
            raise OnnxError(f"{node}: must be a convolution of (N, C, H, W)")
        weight = tensor.values
        size = weight.shape[2:]
        if size not in {(3, 3), (1, 1)}:
            raise OnnxError(f"{node}: kernel must be 3x3 or 1x1, not {size[0]}x{size[1]}")
        node.require("group", 1, default=1)
        node.require("dilations", [1, 1], default=[1, 1])
        strides = node.attributes.get("strides", [1, 1])
        if strides not in ([1, 1], [2, 2]):
            raise OnnxError(f"{node}: strides must be [1, 1] or [2, 2], not {strides}")
        padding = _padding(node, size[0], strides[0], source.shape)
        if padding and source.storage.zero:
            raise OnnxError(
                f"{node}: with padding, the zero point of input {node.input(0)!r} must be "
                f"{source.grid.low} or {source.grid.low + 128}, not {source.grid.zero_point} "
                f"(what is around the map is 0 on the chip); quantise with {SYMMETRIC}"
            )
        if weight.shape[1] != source.shape[0]:
            raise OnnxError(
                f"{node}: weights must be for {source.shape[0]} channels, not {weight.shape[1]}"
            )
        rows, columns = (
            (side + 2 * padding - size[0]) // strides[0] + 1 for side in source.shape[1:]
        )
        scale = self._scales(node, tensor, source, axis=0)
        self.pending[node.outputs[0]] = Products(
            node,
            source,
            weight,
            self._bias(node, scale),
            scale,
            (len(weight), rows, columns),
            strides[0],
            padding,
        )

    def gemm(self, node: Node) -> None:
        for name, wanted in (("alpha", 1.0), ("beta", 1.0), ("transA", 0)):
            node.require(name, wanted, default=wanted)
        self._dense(node, axis=0 if node.attributes.get("transB", 0) else 1)

    def matmul(self, node: Node) -> None:
        self._dense(node, axis=1)

    def _dense(self, node: Node, axis: int) -> None:
        source = self._feature(node)
        tensor = self._weight(node)
        if not source.is_flat or tensor.values.ndim != 2:
            raise OnnxError(
                f"{node}: must multiply (N, C) with a matrix; a map must be flattened before"
            )
        scale = self._scales(node, tensor, source, axis=axis)
        weight = tensor.values if axis == 0 else np.ascontiguousarray(tensor.values.T)
        n_inputs = int(np.prod(source.shape))
        if weight.shape[1] != n_inputs:
            raise OnnxError(f"{node}: weights must be for {n_inputs}, not {weight.shape[1]} inputs")
        bias = self._bias(node, scale)
        shape = (len(weight), 1, 1)
        self.pending[node.outputs[0]] = Products(node, source, weight, bias, scale, shape)

    def _weight(self, node: Node) -> Tensor:
        name = node.input(1)
        if name not in self.tensors:
            what = "float" if name in self.graph.constants else "computed"
            raise OnnxError(
                f"{node}: weights {name!r} must be constants that are quantised to int8, not "
                f"{what}; the model must be quantised with {QUANTIZE}"
            )
        tensor = self.tensors[name]
        if tensor.dtype != "int8" or tensor.zero_point.any():
            wrong = tensor.zero_point[np.argmax(tensor.zero_point != 0)]
            raise OnnxError(
                f"{node}: weights {name!r} must be int8 with zero point 0, not {tensor.dtype} with "
                f"{wrong}; quantise with weight_type=QuantType.QInt8"
            )
        return tensor

    def _scales(self, node: Node, tensor: Tensor, source: Feature, axis: int) -> Reals:
        """What an accumulator step of each channel stands for."""
        if tensor.axis not in {None, axis}:
            raise OnnxError(
                f"{node}: scales of the weights must be one or one per output channel (axis "
                f"{axis}), not of axis {tensor.axis}"
            )
        n_channels = tensor.values.shape[axis]
        return np.broadcast_to(tensor.scale * source.grid.scale, (n_channels,))

    def _bias(self, node: Node, scale: Reals) -> Reals:
        """In accumulator steps; a whole number if its scale is the accumulator's."""
        name = node.input(2)
        if not name:
            return np.zeros(len(scale))
        if name in self.tensors:
            tensor = self.tensors[name]
            whole, real = tensor.values.ravel(), tensor.real.ravel()
            if np.allclose(tensor.scale, scale, BIAS_TOLERANCE, 0) and not tensor.zero_point.any():
                real = whole * scale
        elif name in self.graph.constants:
            real = np.asarray(self.graph.constants[name], np.float64).ravel()
        else:
            raise OnnxError(f"{node}: bias {name!r} must be constant")
        if real.size not in {1, len(scale)} or not np.isfinite(real).all():
            raise OnnxError(f"{node}: bias {name!r} must be {len(scale)} finite numbers")
        steps = real / scale
        nearest = np.rint(steps)
        is_whole = np.isclose(steps, nearest, 1e-12, 0)
        return np.where(is_whole, nearest, steps)

    def relu(self, node: Node) -> None:
        name, result = node.input(0), node.outputs[0]
        if name in self.pending:
            self.pending[result] = replace(self.pending[name], relu=True)
            return
        source = self._feature(node)
        if source.low >= 0:
            self.features[result] = source
        else:
            self.pending[result] = Sum(node, (source,), relu=True)

    def add(self, node: Node) -> None:
        for name in node.inputs:
            if name in self.tensors or name in self.graph.constants:
                raise OnnxError(
                    f"{node}: both inputs must be maps, but {name!r} is constant; it must be in "
                    "the bias of the convolution before"
                )
        parts = self._feature(node, 0), self._feature(node, 1)
        first, second = ((part.shape, part.is_flat) for part in parts)
        if first != second:
            raise OnnxError(
                f"{node}: both inputs must have the same shape, not {_shown(parts[0])} and "
                f"{_shown(parts[1])}"
            )
        self.pending[node.outputs[0]] = Sum(node, parts)

    def max_pool(self, node: Node) -> None:
        source = self._feature(node)
        node.require("kernel_shape", [2, 2], default=None)
        node.require("strides", [2, 2], default=[1, 1])
        node.require("dilations", [1, 1], default=[1, 1])
        node.require("pads", [0, 0, 0, 0], default=[0, 0, 0, 0])
        if node.attributes.get("auto_pad", b"NOTSET") not in {b"NOTSET", b"VALID"}:
            node.require("auto_pad", b"NOTSET", default=b"NOTSET", text="NOTSET")
        channels, rows, columns = source.shape
        if rows % 2 or columns % 2:
            node.require("ceil_mode", 0, default=0)
        if len(node.outputs) > 1 and self.graph.readers(node.outputs[1]):
            raise OnnxError(f"{node}: must have no second output (indices)")
        layer = MaxPool(name=self._name(node), input=source.layer)
        name = self._append((layer, 0.0), source.grid, source.storage)
        shape = (channels, rows // 2, columns // 2)
        self.features[node.outputs[0]] = replace(source, layer=name, shape=shape, readers=0)

    def average(self, node: Node) -> None:
        source = self._feature(node)
        if source.is_flat:
            raise OnnxError(f"{node}: must average a map (N, C, H, W)")
        if source.storage.zero:
            raise OnnxError(
                f"{node}: zero point of input {node.input(0)!r} must be {source.grid.low} or "
                f"{source.grid.low + 128}, not {source.grid.zero_point} (averages have no bias); "
                f"quantise with {SYMMETRIC}"
            )
        self.pending[node.outputs[0]] = Average(node, source)

    def flatten(self, node: Node) -> None:
        source = self._feature(node)
        node.require("axis", 1, default=1)
        self.features[node.outputs[0]] = replace(source, is_flat=True)

    def reshape(self, node: Node) -> None:
        """One that flattens."""
        source = self._feature(node)
        name = node.input(1)
        if name not in self.graph.constants:
            raise OnnxError(f"{node}: shape {name!r} must be constant")
        shape = [int(size) for size in self.graph.constants[name]]
        size = int(np.prod(source.shape))
        is_flattening = len(shape) == 2 and shape[0] in {-1, 0, 1} and shape[1] in {-1, size}
        if not is_flattening or shape == [-1, -1]:
            raise OnnxError(f"{node}: shape must flatten to (N, {size}), not {shape}")
        self.features[node.outputs[0]] = replace(source, is_flat=True)

    # Layers

    def _name(self, node: Node) -> str:
        """A layer's name: the node's, as far as a network file takes it."""
        own = node.name if node.name.isprintable() and node.name != INPUT else f"{node.op}_"
        taken = {layer.name for layer in self.layers}
        k = 1
        name = own
        while name in taken:
            k += 1
            name = f"{own}_{k}"
        return name

    def _append(self, made: tuple[Layer, float], grid: Grid, storage: Storage) -> str:
        layer, error = made
        self.layers.append(layer)
        name = layer.name
        self.scales[name], self.zeros[name] = grid.scale, storage.zero
        self.errors[name] = error
        return name

    def _finish(self, pending: Pending, grid: Grid, tensor: str) -> Feature:
        """The layer whose results are quantised so."""
        storage = grid.storage(relu=pending.relu)
        node = pending.node
        if storage is None:
            raise OnnxError(
                f"{node}: after a ReLU the zero point must be {grid.low}, or {grid.low + 128} for "
                f"7 bits, not {grid.zero_point}"
            )
        if isinstance(pending, Sum):
            first = pending.parts[0]
            shape, is_flat = first.shape, first.is_flat
            name = self._sum(pending, grid, storage)
        elif isinstance(pending, Average):
            shape, is_flat = (pending.source.shape[0], 1, 1), False
            made = average_layer(self._name(node), pending, grid, storage)
            name = self._append(made, grid, storage)
        else:
            shape, is_flat = pending.shape, pending.is_dense
            name = self._products(pending, grid, storage)
        feature = Feature(name, grid, storage, shape, is_flat, 0)
        return self._renamed(feature, tensor)

    def _products(
        self, pending: Products, grid: Grid, storage: Storage, skip: Feature | None = None
    ) -> str:
        made = products_layer(self._name(pending.node), pending, grid, storage, skip)
        name = self._append(made, grid, storage)
        self.products[name] = pending
        return name

    def _sum(self, pending: Sum, grid: Grid, storage: Storage) -> str:
        """A convolution that is there adds the other map, or a new one with the identity."""
        fused = self._fused(pending) if self.fuse_residuals else None
        products, skip = fused or sum_as_products(pending, grid, storage)
        return self._products(products, grid, storage, skip)

    def _fused(self, pending: Sum) -> tuple[Products, Feature] | None:
        """A convolution that nobody else reads and whose own clamp is no ReLU, and the other map.

        It is taken out of the list of layers.
        """
        if len(pending.parts) != 2:
            return None
        for main, skip in (pending.parts, pending.parts[::-1]):
            products = self.products.get(main.layer)
            is_free = products is not None and not products.is_dense and main.low < 0
            if not is_free or main.readers != 1 or main.layer == skip.layer:
                continue
            assert products is not None
            if any(layer.name == main.layer and _has_skip(layer) for layer in self.layers):
                continue
            self.layers = [layer for layer in self.layers if layer.name != main.layer]
            return replace(products, relu=pending.relu), skip
        return None

    def _raw(self, pending: Pending) -> Feature:
        """The layer whose accumulators are the network's results."""
        node = pending.node
        if not isinstance(pending, Products) or pending.relu:
            raise OnnxError(
                f"output {self.graph.output!r} must be quantised, or be that of a Conv, Gemm or "
                f"MatMul, not of {node}"
            )
        if np.ptp(pending.scale):
            raise OnnxError(
                f"{node}: with results that are not quantised, weights must have one scale, not "
                "one per channel (accumulators of different scales cannot be compared)"
            )
        storage = Storage(RAW_BITS, True, 0)
        grid = Grid(float(pending.scale[0]), 0, 0, 0)
        name = self._append(raw_layer(self._name(node), pending, storage), grid, storage)
        return Feature(name, grid, storage, pending.shape, pending.is_dense, 1)


_HANDLERS: dict[str, Callable[[_Lowering, Node], None]] = {
    "QuantizeLinear": _Lowering.quantize,
    "DequantizeLinear": _Lowering.dequantize,
    "Conv": _Lowering.conv,
    "Gemm": _Lowering.gemm,
    "MatMul": _Lowering.matmul,
    "Relu": _Lowering.relu,
    "Add": _Lowering.add,
    "MaxPool": _Lowering.max_pool,
    "GlobalAveragePool": _Lowering.average,
    "Flatten": _Lowering.flatten,
    "Reshape": _Lowering.reshape,
}


def _padding(node: Node, size: int, stride: int, shape: Shape) -> int:
    """Padding at all four sides."""
    auto = node.attributes.get("auto_pad", b"NOTSET")
    if auto == b"NOTSET":
        pads = node.attributes.get("pads", [0, 0, 0, 0])
    elif auto == b"VALID":
        pads = [0, 0, 0, 0]
    else:
        both = [max(0, (-(-side // stride) - 1) * stride + size - side) for side in shape[1:]]
        less, more = [total // 2 for total in both], [total - total // 2 for total in both]
        pads = less + more if auto == b"SAME_UPPER" else more + less
    allowed = (0, 1) if size == 3 else (0,)
    if pads not in [[k] * 4 for k in allowed]:
        wanted = " or ".join(str([k] * 4) for k in allowed)
        raise OnnxError(f"{node}: pads must be {wanted} around {size}x{size} kernels, not {pads}")
    return int(pads[0])


def _shown(feature: Feature) -> str:
    sizes = (int(np.prod(feature.shape)),) if feature.is_flat else feature.shape
    return f"(N, {', '.join(map(str, sizes))})"


def _has_skip(layer: Layer) -> bool:
    return isinstance(layer, Conv) and layer.skip is not None
