"""Graphs that other tools write, or people by hand, against onnxruntime."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from firmware_tools import onnx_import
from firmware_tools.onnx_import import OnnxError
from firmware_tools.onnx_import.check import Agreement, compare
from model.mars.network import Conv, Lookup, Select


class Net:
    """A quantised model that grows; methods return the names of their results."""

    def __init__(self, *shape: int, kind: int = TensorProto.FLOAT, opset: int = 21) -> None:
        self.rng = np.random.default_rng(0)
        self.shape, self.kind, self.opset = shape, kind, opset
        self.nodes: list[onnx.NodeProto] = []
        self.arrays: list[onnx.TensorProto] = []

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"k{len(self.arrays)}"
        self.arrays.append(numpy_helper.from_array(np.asarray(value).astype(dtype), name))
        return name

    def op(self, op: str, *inputs: str, n_outputs: int = 1, **attributes: Any) -> Any:
        name = f"n{len(self.nodes)}"
        outputs = [f"{name}_{k}" for k in range(n_outputs)]
        self.nodes.append(helper.make_node(op, inputs, outputs, f"{name}_{op}", **attributes))
        return outputs[0] if n_outputs == 1 else outputs

    def grid(self, scale: float, zero: int, dtype: Any) -> tuple[str, str]:
        return self.constant(scale), self.constant(zero, dtype)

    def q(self, x: str, scale: float = 0.05, zero: int = 11, dtype: Any = np.int8) -> str:
        """Quantised and real again."""
        grid = self.grid(scale, zero, dtype)
        return self.op("DequantizeLinear", self.op("QuantizeLinear", x, *grid), *grid)

    def weight(self, *shape: int, dtype: Any = np.int8, zero: int = 0, high: int = 127) -> str:
        """One scale per output channel."""
        values = self.rng.integers(-high, high + 1, shape) + zero
        fan = high * np.sqrt(np.prod(shape[1:]) / 3)
        scales = self.rng.uniform(0.7, 1.4, shape[0]) / fan
        inputs = (
            self.constant(values, dtype),
            self.constant(scales),
            self.constant([zero] * shape[0], dtype),
        )
        return self.op("DequantizeLinear", *inputs, axis=0)

    def conv(self, x: str, n_in: int, n_out: int, *kernel: int, group: int = 1, **kw: Any) -> str:
        weight = self.weight(n_out, n_in // group, *kernel)
        bias = self.constant(self.rng.standard_normal(n_out) * 0.3)
        return self.op("Conv", x, weight, bias, group=group, **kw)

    def save(self, output: str, path: Path, kind: int = TensorProto.FLOAT) -> Path:
        graph = helper.make_graph(
            self.nodes,
            "graph",
            [helper.make_tensor_value_info("x", self.kind, ["N", *self.shape])],
            [helper.make_tensor_value_info(output, kind, None)],
            self.arrays,
        )
        opset = helper.make_opsetid("", self.opset)
        onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=10), path)
        return path


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "own.onnx"


def agreement(path: Path, *, wide: bool = True, n: int = 30) -> Agreement:
    imported = onnx_import.load(path, wide=wide)
    entry = onnx.load(path).graph.input[0].type.tensor_type
    dims = [dim.dim_value for dim in entry.shape.dim][1:]
    rng = np.random.default_rng(1)
    images = rng.uniform(-4, 4, (n, *dims)).astype(np.float32)
    if entry.elem_type != TensorProto.FLOAT:
        low = -128 if entry.elem_type == TensorProto.INT8 else 0
        images = rng.integers(low, low + 256, (n, *dims)).astype(np.float32)
    found = compare(path, imported, images, optimize=False)
    assert found.within_one >= 0.999
    assert found.equal >= 0.97
    return found


@pytest.mark.parametrize("kind", [TensorProto.INT8, TensorProto.UINT8])
def test_integers_in_and_out(path, kind) -> None:
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    net = Net(3, 8, 8, kind=kind)
    x = net.op("DequantizeLinear", "x", *net.grid(0.03, 100, dtype))
    x = net.conv(x, 3, 16, 3, 3, pads=[1, 0, 2, 1])
    x = net.op("QuantizeLinear", x, *net.grid(0.05, 90, dtype))
    agreement(net.save(x, path, kind))
    imported = onnx_import.load(path)
    assert imported.is_integer
    images = np.zeros((2, 3, 8, 8), dtype)
    assert imported.quantize(images).shape == (2, 3, 8, 8)


def test_cast_input(path) -> None:
    net = Net(8, 8, 3, kind=TensorProto.UINT8)
    x = net.op("Cast", "x", to=TensorProto.FLOAT)
    x = net.op("Div", net.op("Sub", x, net.constant(127.5)), net.constant(127.5))
    x = net.op("Transpose", net.q(x, 2 / 255, 0), perm=[0, 3, 1, 2])
    x = net.q(net.conv(x, 3, 16, 3, 3, strides=[2, 2], auto_pad="SAME_LOWER"))
    agreement(net.save(x, path))
    assert onnx_import.load(path).network.input_type.shape == (3, 8, 8)


@pytest.mark.parametrize(
    ("dtype", "zero", "high"), [("int4", 0, 7), ("uint4", 8, 7), (np.uint8, 128, 127)]
)
def test_weights(path, dtype, zero, high) -> None:
    if isinstance(dtype, str):
        dtype = helper.tensor_dtype_to_np_dtype(getattr(TensorProto, dtype.upper()))
    net = Net(3, 8, 8)
    weight = net.weight(16, 3, 3, 3, dtype=dtype, zero=zero, high=high)
    agreement(net.save(net.q(net.op("Conv", net.q("x"), weight)), path))
    assert onnx_import.load(path).network.layers[0].weight_bits == (4 if high == 7 else 8)


def test_four_bit_activations(path) -> None:
    int4 = helper.tensor_dtype_to_np_dtype(TensorProto.INT4)
    uint4 = helper.tensor_dtype_to_np_dtype(TensorProto.UINT4)
    net = Net(3, 8, 8)
    x = net.conv(net.q("x", 0.5, 1, int4), 3, 16, 3, 3)
    x = net.op("Sigmoid", net.q(x, 0.3, 1, int4))
    x = net.conv(net.q(x, 1 / 15, 0, uint4), 16, 4, 3, 3)
    imported = onnx_import.load(net.save(net.q(x, 0.4, 2, int4), path))
    assert {kind.bits for kind in imported.network.types.values()} == {4}
    agreement(path)


def test_only_inputs_are_quantised(path) -> None:
    """As TensorRT's tools do: results are quantised where a convolution reads them."""
    net = Net(3, 16, 16)
    x = net.op("Relu", net.conv(net.q("x", 0.04), 3, 16, 3, 3, pads=[1] * 4))
    x = net.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    x = net.q(x)
    y = net.q(net.op("Relu", net.conv(x, 16, 16, 3, 3, pads=[1] * 4)))
    y = net.op("Relu", net.op("Add", net.conv(y, 16, 16, 3, 3, pads=[1] * 4), x))
    y = net.q(net.op("GlobalAveragePool", net.q(y)), 0.02)
    scale = net.constant(0.002)
    weight = net.op(
        "DequantizeLinear", net.constant(net.rng.integers(-99, 99, (10, 16)), np.int8), scale
    )
    x = net.op("Gemm", net.op("Flatten", y), weight, net.constant(np.ones(10)), transB=1)
    imported = onnx_import.load(net.save(x, path))
    assert imported.network.types[imported.network.output].bits == 32
    convolutions = [layer for layer in imported.network.layers if isinstance(layer, Conv)]
    assert [layer.skip is None for layer in convolutions] == [True, True, False]
    agreement(path)


def test_gelu_of_parts(path) -> None:
    net = Net(3, 8, 8)
    x = net.q(net.conv(net.q("x"), 3, 16, 1, 1))
    inner = net.op("Add", net.op("Erf", net.op("Div", x, net.constant(2**0.5))), net.constant(1.0))
    x = net.op("Mul", net.op("Mul", x, inner), net.constant([0.5]))
    imported = onnx_import.load(net.save(net.q(x), path))
    assert [type(layer) for layer in imported.network.layers] == [Conv, Lookup]
    agreement(path)


@pytest.mark.parametrize(
    "op", ["Abs", "Celu", "Elu", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "Neg",
           "Selu", "Sigmoid", "Softplus", "Softsign", "Tanh", "ThresholdedRelu", "Exp"]
)  # fmt: skip
def test_functions(path, op) -> None:
    net = Net(2, 9, 9)
    assert agreement(net.save(net.q(net.op(op, net.q("x", 0.03, -7))), path)).outputs > 4000


def test_matrices(path) -> None:
    """Of the last axis, of the first one, of flattened maps in another order."""
    net = Net(20, 8)  # (L, C)
    weight = net.op("Transpose", net.weight(16, 8), perm=[1, 0])
    x = net.q(net.op("Add", net.op("MatMul", net.q("x"), weight), net.constant(np.arange(16) / 8)))
    x = net.op("Transpose", x, perm=[0, 2, 1])
    x = net.q(net.op("Relu", net.op("MatMul", net.weight(12, 16), x)))
    x = net.op("Transpose", x, perm=[0, 2, 1])
    x = net.op("Reshape", x, net.constant([0, -1], np.int64))
    x = net.op("Gemm", x, net.weight(10, 240), transB=1, alpha=0.5)
    agreement(net.save(net.q(x), path))


def test_shapes_that_are_worked_out(path) -> None:
    net = Net(3, 8, 8)
    x = net.q(net.conv(net.q("x"), 3, 16, 3, 3))
    batch = net.op("Gather", net.op("Shape", x), net.constant(0, np.int64), axis=0)
    batch = net.op("Unsqueeze", batch, net.constant([0], np.int64))
    shape = net.op("Concat", batch, net.constant([-1], np.int64), axis=0)
    x = net.op("Gemm", net.op("Reshape", x, shape), net.weight(10, 576), transB=1)
    x = net.op("ArgMax", net.op("Softmax", net.q(x)), axis=1)
    imported = onnx_import.load(net.save(x, path, TensorProto.INT64))
    assert [note.split("(")[1].split(")")[0] for note in imported.report] == ["ArgMax", "Softmax"]
    agreement(path)


def test_selections(path) -> None:
    net = Net(8, 6, 6)
    x = net.q("x")
    ints = [net.constant(value, np.int64) for value in ([1], [8], [1], [2], [5, 0], [0, 2, 1])]
    odd = net.op("Slice", x, *ints[:4])
    two = net.op("Gather", x, ints[4], axis=1)
    head, tail = net.op("Split", x, net.constant([3, 5], np.int64), n_outputs=2, axis=1)
    x = net.op("Concat", odd, two, net.op("Gather", head, ints[5], axis=1), tail, axis=1)
    x = net.q(net.conv(net.q(x), 14, 16, 3, 3))
    imported = onnx_import.load(net.save(x, path))
    assert [type(layer) for layer in imported.network.layers] == [Select, Conv]
    agreement(path)


def test_ends_in_another_order(path) -> None:
    net = Net(6, 10, 3)
    x = net.op("Transpose", net.q("x"), perm=[0, 3, 1, 2])
    zero = net.constant(0.0)
    x = net.op("Pad", x, net.constant([0, 0, 1, 0, 0, 0, 0, 2], np.int64), zero)
    x = net.q(net.op("Relu", net.conv(net.q(x), 3, 16, 3, 3, strides=[1, 2])), 0.05, -128)
    x = net.op("Pad", x, net.constant([0, 0, 0, 0, 0, 0, 1, 1], np.int64), zero)
    x = net.op("MaxPool", x, kernel_shape=[3, 2], strides=[2, 2])
    agreement(net.save(net.op("Transpose", net.q(x, 0.05, -128), perm=[0, 2, 3, 1]), path))
    imported = onnx_import.load(path)
    assert imported.input_shape == (6, 10, 3)
    assert imported.dequantize(np.zeros((2, 16, 2, 3), int)).shape == (2, 2, 3, 16)


def test_turned_lines(path) -> None:
    """A line as rows rather than columns."""
    net = Net(4, 30)
    x = net.op("Unsqueeze", net.q("x"), net.constant([3], np.int64))
    x = net.q(net.conv(x, 4, 16, 5, 1, strides=[2, 1], pads=[2, 0, 1, 0]))
    x = net.op("AveragePool", x, kernel_shape=[3, 1], strides=[1, 1])
    x = net.op("Squeeze", net.q(x), net.constant([3], np.int64))
    x = net.q(net.conv(x, 16, 16, 3))
    agreement(net.save(net.op("GlobalMaxPool", x), path))


def test_sums_and_factors(path) -> None:
    net = Net(16, 6, 6)
    x = net.q("x", 0.0317, 3)
    y = net.q(net.conv(x, 16, 16, 1, 1), 0.0223, -50)
    each = net.constant(np.linspace(-1, 1, 16).reshape(16, 1, 1))
    x = net.q(net.op("Mul", x, each))
    x = net.q(net.op("Sub", x, y), 0.0411)
    x = net.q(net.op("Clip", net.op("Sub", y, x), net.constant(-1.0), net.constant(2.0)))
    x = net.q(net.op("Sub", each, x))
    x = net.q(net.op("ReduceSum", x, net.constant([2, 3], np.int64)), 0.537)
    agreement(net.save(net.op("Clip", x, net.constant(-9.0)), path))


def test_many_values(path) -> None:
    """Shapes of ImageNet are read in no time."""
    net = Net(3, 224, 224)
    x = net.q(net.op("Relu", net.conv(net.q("x"), 3, 64, 7, 7, strides=[2, 2], pads=[3] * 4)))
    x = net.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    x = net.q(net.conv(x, 64, 64, 3, 3, group=64, pads=[1] * 4))
    agreement(net.save(net.q(net.op("GlobalAveragePool", x), 0.01), path), n=1)


@pytest.mark.parametrize("is_quantised", [True, False])
def test_pad_that_the_map_before_does_not_hold(path, is_quantised) -> None:
    """What is quantised together with the map, in larger steps, is not clipped to smaller ones."""
    net = Net(3, 6, 6)
    x = net.q("x", 0.01)
    pads = net.constant([0, 0, 1, 1, 0, 0, 1, 1], np.int64)
    x = net.op("Pad", x, pads, net.constant(5.0))
    x = net.conv(net.q(x, 0.05) if is_quantised else x, 3, 8, 3, 3)
    net.save(net.q(x, 0.1), path)
    if is_quantised:
        agreement(path)
    else:
        with pytest.raises(
            OnnxError,
            match=r"'n4_Conv' \(Conv\): what a Pad before it puts around the map must be "
            r"-1\.39\.\.1\.16, which the map's type holds, not 5",
        ):
            onnx_import.load(path)


def test_quantised_for_each_reader(path) -> None:
    """As DedicatedQDQPair has it: one layer, and a function of it, not of two."""
    net = Net(3, 8, 8)
    x = net.conv(net.q("x"), 3, 16, 3, 3)
    x = net.q(net.op("Mul", net.q(x), net.op("Sigmoid", net.q(x))))
    imported = onnx_import.load(net.save(x, path))
    assert [type(layer) for layer in imported.network.layers] == [Conv, Lookup]
    agreement(path)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pad"),
    [(10, 3, 2, 0), (11, 3, 2, 0), (11, 2, 3, 0), (12, 3, 4, 1), (9, 2, 2, 1), (10, 5, 3, 2)],
)
def test_ceiling_of_max_pool(path, size, kernel, stride, pad) -> None:
    """Windows that reach over the map count, but not those that begin behind it."""
    net = Net(3, size, size + 1)
    x = net.op(
        "MaxPool", net.q("x"), kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4,
        ceil_mode=1,
    )  # fmt: skip
    assert agreement(net.save(net.q(x), path)).equal == 1


@pytest.mark.parametrize("op", ["ReduceMean", "ReduceMax", "ReduceSum"])
@pytest.mark.parametrize(("axis", "is_kept"), [(2, True), (-1, False)])
def test_lines_of_a_map(path, op, axis, is_kept) -> None:
    net = Net(6, 7, 9, opset=18)
    x = net.op(op, net.q("x"), net.constant([axis], np.int64), keepdims=int(is_kept))
    scale = 0.23 if op == "ReduceSum" else 0.031
    x = net.conv(net.q(x, scale), 6, 4, *[1] * (1 + is_kept))
    agreement(net.save(net.q(x, 2 * scale), path))


def test_pixels_in_a_line(path) -> None:
    """Patches as tokens: (N, C, H, W) as (N, H*W, C), through dense layers, and their mean."""
    net = Net(3, 12, 12)
    x = net.q(net.conv(net.q("x"), 3, 8, 4, 4, strides=[4, 4]))
    x = net.op("Reshape", x, net.constant([0, 8, -1], np.int64))
    x = net.op("Transpose", x, perm=[0, 2, 1])
    for n_in, n_out in ((8, 16), (16, 8)):
        weight = net.op("Transpose", net.weight(n_out, n_in), perm=[1, 0])
        x = net.q(net.op("Relu", net.op("MatMul", x, weight)))
    agreement(net.save(net.q(net.op("ReduceMean", x, net.constant([1], np.int64))), path))


def test_axis_from_the_end(path) -> None:
    net = Net(3, 4, 5)
    x = net.op("Gemm", net.op("Flatten", net.q("x"), axis=-3), net.weight(8, 60), transB=1)
    agreement(net.save(net.q(x), path))


def test_matrix_before_the_input(path) -> None:
    net = Net(6, 10)
    agreement(net.save(net.q(net.op("MatMul", net.weight(4, 6), net.q("x"))), path))


def test_shapes_of_nothing(path) -> None:
    """Unflatten of torch's exporter joins the dimensions before, new ones, and those behind."""
    net = Net(3, 8, 8)
    x = net.q(net.conv(net.q("x"), 3, 16, 1, 1))
    x = net.op("Flatten", x)
    shape = net.op("Shape", x)
    ends = [net.constant([k], np.int64) for k in (0, 1, 2, 9)]
    before = net.op("Slice", shape, ends[0], ends[1])
    behind = net.op("Slice", shape, ends[2], ends[3])
    new = net.constant([16, 8, 8], np.int64)
    x = net.op("Reshape", x, net.op("Concat", before, new, behind, axis=0))
    agreement(net.save(net.q(net.conv(x, 16, 4, 3, 3)), path))


def test_check_of_what_onnxruntime_cannot_run(path) -> None:
    net = Net(3, 8, 8)
    x = net.q(net.conv(net.q("x"), 3, 4, 3, 3))
    imported = onnx_import.load(net.save(x, path))
    net.nodes[-1].op_type = "Unknown"
    net.save(x, path)
    with pytest.raises(OnnxError, match=r"own\.onnx: must be a model that onnxruntime runs: "):
        compare(path, imported, np.zeros((1, 3, 8, 8), np.float32))
