"""Graphs that other tools write, or people by hand, against onnxruntime."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from firmware_tools import onnx_import
from firmware_tools.onnx_import import OnnxError
from firmware_tools.onnx_import.check import Agreement, compare, load_inputs, run_onnxruntime
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


def cut(net: Net, x: str, *axes: tuple[int, int, int, int]) -> str:
    """A Slice: axis, start, end, step."""
    numbers = zip(*axes, strict=True)
    listed = dict(zip(("axes", "starts", "ends", "steps"), numbers, strict=True))
    names = ("starts", "ends", "axes", "steps")
    return net.op("Slice", x, *(net.constant(listed[name], np.int64) for name in names))


@pytest.mark.parametrize(
    "axes",
    [
        [(2, 1, -1, 1), (3, 2, -3, 1)],
        [(2, 0, 99, 2), (3, 1, 99, 2)],
        [(3, 5, 6, 1)],
        [(1, 2, 6, 3), (2, 0, 3, 1)],
    ],
)
@pytest.mark.parametrize("reader", ["conv", "pool", "sum", "average", "maximum"])
def test_rows_and_columns(path, axes, reader) -> None:
    """A part of a map is one for whatever reads it."""
    net = Net(6, 9, 10)
    x = cut(net, net.q("x"), *axes)
    if reader == "conv":
        channels = 2 if len(axes) == 2 and axes[0][0] == 1 else 6
        x = net.q(net.conv(x, channels, 4, 1, 1))
    elif reader == "pool":
        x = net.op("MaxPool", x, kernel_shape=[2, 1])
    elif reader == "sum":
        x = net.q(net.op("Add", x, cut(net, net.q(net.op("Neg", net.q("x"))), *axes)))
    else:
        x = net.op("GlobalAveragePool" if reader == "average" else "GlobalMaxPool", x)
        x = net.q(x, 0.0471)
    agreement(net.save(x, path))


def test_rows_of_turned_lines(path) -> None:
    """What a causal convolution cuts off, of a line that is rows of the map."""
    net = Net(4, 20)
    x = net.op("Unsqueeze", net.q("x"), net.constant([3], np.int64))
    x = net.q(net.conv(x, 4, 8, 3, 1, pads=[4, 0, 4, 0], dilations=[2, 1]))
    x = cut(net, net.op("Squeeze", x, net.constant([3], np.int64)), (2, 0, -4, 1))
    agreement(net.save(net.q(net.conv(x, 8, 4, 3)), path))


def test_parts_of_the_same_size(path) -> None:
    """A U-Net without padding: a part, beside a map of its size."""
    net = Net(3, 10, 10)
    x = net.q(net.conv(net.q("x"), 3, 8, 3, 3))
    y = net.q(net.conv(x, 8, 8, 3, 3))
    x = net.op("Concat", cut(net, x, (2, 1, -1, 1), (3, 1, -1, 1)), y, axis=1)
    agreement(net.save(net.q(net.conv(net.q(x), 16, 4, 1, 1)), path))


def test_no_part(path) -> None:
    net = Net(3, 8, 40)
    x = cut(net, net.q("x"), (3, 17, 99, 1))
    net.save(net.q(net.conv(x, 3, 4, 3, 3)), path)
    with pytest.raises(OnnxError, match=r"\(Conv\): at most 15 rows or columns of \(8, 40\) can "):
        onnx_import.load(path)
    net = Net(3, 8, 8)
    x = cut(net, net.q("x"), (3, -1, -99, -1))
    net.save(net.q(net.conv(x, 3, 4, 3, 3)), path)
    with pytest.raises(OnnxError, match=r"its input must be channels of a map \(3, 8, 8\)"):
        onnx_import.load(path)


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_channels_and_blocks_of_pixels(path, mode) -> None:
    net = Net(3, 8, 12)
    x = net.op("SpaceToDepth", net.q("x"), blocksize=4)
    x = net.q(net.conv(x, 48, 12, 1, 1))
    agreement(net.save(net.op("DepthToSpace", x, blocksize=2, mode=mode), path))


@pytest.mark.parametrize(
    ("reader", "pads"),
    [
        ("sum", [0, 0, 1, 2, 0, 0, 1, 0]),
        ("average", [0, 0, 1, 2, 0, 0, 1, 0]),
        ("maximum", [0, 0, 1, 2, 0, 0, 1, 0]),
        ("output", [0, 0, 1, 2, 0, 0, 1, 0]),
        ("conv", [0, 1, 0, 0, 0, 2, 0, 0]),
        ("conv", [0, 0, -1, 2, 0, -2, 1, -3]),
    ],
)
def test_pad_before_anything(path, reader, pads) -> None:
    """Around the map, of channels (the shortcut of ResNet for CIFAR-10), less than nothing."""
    net = Net(4, 6, 7)
    x = net.op("Pad", net.q("x"), net.constant(pads, np.int64))
    if reader == "sum":
        x = net.op("Add", x, net.q(net.conv(net.q("x"), 4, 4, 1, 1, pads=[1, 2, 1, 0])))
    elif reader == "average":
        x = net.op("GlobalAveragePool", x)
    elif reader == "maximum":
        x = net.op("MaxPool", x, kernel_shape=[2, 2])
    elif reader == "conv":
        x = net.conv(x, 4 + pads[1] + pads[5], 4, 2, 2)
    agreement(net.save(net.q(x, 0.047), path))


@pytest.mark.parametrize("op", ["Pad", "MaxPool", "Relu", "BatchNormalization", "Log", "Clip"])
def test_operators_before_the_input_is_quantised(path, op) -> None:
    """On the chip if they only move or choose values, else the host's."""
    net = Net(3, 8, 8)
    x = "x"
    if op == "Pad":
        x = net.op("Pad", x, net.constant([0, 0, 1, 0, 0, 0, 1, 2], np.int64))
    elif op == "MaxPool":
        x = net.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    elif op == "Clip":
        x = net.op("Clip", x, net.constant(-1.0), net.constant(2.0))
    elif op == "BatchNormalization":
        x = net.op(op, x, *(net.constant([0.5, 1.0, 1.5]) for _ in range(4)))
    else:
        x = net.op("Abs", x) if op == "Log" else x
        x = net.op(op, net.op("Add", x, net.constant(1.0)) if op == "Log" else x)
    x = net.q(net.conv(net.q(x, 0.04, -128 if op == "Relu" else 3), 3, 8, 3, 3))
    agreement(net.save(x, path))
    n_left = {"BatchNormalization": 1, "Log": 3}.get(op, 0)
    assert len(onnx_import.load(path).report) == n_left


def test_input_taken_apart(path) -> None:
    net = Net(4, 8, 8)
    head, tail = net.op("Split", "x", n_outputs=2, axis=1, num_outputs=2)
    x = net.op("Concat", net.q(head, 0.05), net.q(tail, 0.06), axis=1)
    net.save(net.q(net.conv(net.q(x), 4, 4, 3, 3)), path)
    with pytest.raises(
        OnnxError,
        match=r"input 'x' must be quantised in one way, before it is taken apart, not with scale "
        r"0\.05 and zero point 11 \(int8\) and with scale 0\.06 and zero point 11 \(int8\)",
    ):
        onnx_import.load(path)


@pytest.mark.parametrize("is_given", [True, False])
def test_type_that_an_attribute_tells(path, is_given) -> None:
    """A QuantizeLinear without zero point, of weights and of activations."""
    net = Net(3, 8, 8)
    kind = {"output_dtype": TensorProto.INT8} if is_given else {}
    scales = net.constant(0.04), net.constant(0.01)
    weight = net.rng.uniform(0, 1, (4, 3, 3, 3)) - (0.5 if is_given else 0)
    x, weight = (
        net.op("DequantizeLinear", net.op("QuantizeLinear", name, scale, **kind), scale)
        for name, scale in zip(("x", net.constant(weight)), scales, strict=True)
    )
    agreement(net.save(net.q(net.op("Conv", x, weight), 0.1), path))
    assert onnx_import.load(path).network.input_type.signed == is_given


def test_weights_in_another_shape(path) -> None:
    """What a DequantizeLinear, of one scale or one per channel, is brought into."""
    net = Net(3, 8, 8)
    weight = net.op("Reshape", net.weight(8, 27), net.constant([8, 3, 3, 3], np.int64))
    x = net.q(net.op("Conv", net.q("x"), weight))
    weight = net.op("Unsqueeze", net.weight(8, 4), net.constant([2, 3], np.int64))
    x = net.q(net.op("Conv", x, cut(net, weight, (0, 2, 6, 1)), group=2))
    agreement(net.save(x, path))


def test_clipped_weights(path) -> None:
    """As Brevitas' QCDQ has them: quantised, clipped to fewer bits, real again."""
    net = Net(3, 8, 8)
    grid = net.grid(0.05, 0, np.int8)
    ends = (net.constant(-7, np.int8), net.constant(7, np.int8))
    weight = net.op("QuantizeLinear", net.constant(net.rng.normal(0, 0.5, (8, 3, 3, 3))), *grid)
    weight = net.op("DequantizeLinear", net.op("Clip", weight, *ends), *grid)
    agreement(net.save(net.q(net.op("Conv", net.q("x"), weight), 0.1), path))
    assert onnx_import.load(path).network.layers[0].weight_bits == 4


@pytest.mark.parametrize("op", ["Max", "Min", "Sum"])
def test_operators_of_many(path, op) -> None:
    net = Net(3, 8, 8)
    x = net.q("x")
    numbers = (net.constant(0.5), net.constant(-0.25))
    x = net.op(op, net.op("Relu", x), *(numbers[:1] if op == "Sum" else numbers), x)
    agreement(net.save(net.q(net.op(op, x)), path))


@pytest.mark.parametrize("op", ["Ceil", "Cos", "Floor", "Round", "Shrink", "Sign", "Sin"])
def test_functions_with_steps(path, op) -> None:
    net = Net(2, 9, 9)
    agreement(net.save(net.q(net.op(op, net.q("x", 0.03, -7))), path))


@pytest.mark.parametrize("op", ["Log", "Reciprocal"])
def test_functions_that_are_not_defined_everywhere(path, op) -> None:
    net = Net(2, 9, 9)
    x = net.op(op, net.op("Add", net.op("Abs", net.q("x")), net.constant(0.5)))
    agreement(net.save(net.q(x), path))
    net = Net(2, 9, 9)
    net.save(net.q(net.op(op, net.q("x"))), path)
    with pytest.raises(OnnxError, match=r"must be defined for all values of 'input'"):
        onnx_import.load(path)


def test_normalisation_with_quantised_constants(path) -> None:
    """Its parts with the epsilon as a number that is quantised in the graph."""
    net = Net(12, 8)
    x, axis = net.q("x"), net.constant([-1], np.int64)
    centred = net.op("Sub", x, net.op("ReduceMean", x, axis))
    variance = net.op("ReduceMean", net.op("Mul", centred, centred), axis)
    epsilon = net.q(net.constant(1e-5), 1e-7, 0, np.uint8)
    x = net.op("Div", centred, net.op("Sqrt", net.op("Add", variance, epsilon)))
    imported = onnx_import.load(net.save(net.q(x, 0.03), path), wide=True)
    assert [type(layer).__name__ for layer in imported.network.layers] == ["LayerNorm"]
    agreement(path)


def test_inputs_in_another_order(path) -> None:
    """As many values are not enough."""
    net = Net(3, 8, 8)
    imported = onnx_import.load(net.save(net.q(net.conv(net.q("x"), 3, 4, 3, 3)), path))
    images = np.zeros((2, 3, 8, 8), np.float32)
    assert imported.quantize(images).shape == (2, 3, 8, 8)
    assert imported.quantize(images[0]).shape == (1, 3, 8, 8)
    for shape in ((2, 8, 8, 3), (2, 192), (6, 8, 8), (192,)):
        with pytest.raises(ValueError, match=r"shape must be \(N, 3, 8, 8\), not \("):
            imported.quantize(images.ravel()[: np.prod(shape)].reshape(shape))


def save_with_domain(net: Net, output: str, path: Path, domain: str) -> None:
    model = onnx.load(net.save(output, path))
    model.opset_import.append(helper.make_opsetid(domain, 1))
    onnx.save(model, path)


@pytest.mark.parametrize(
    ("op", "attributes", "extra", "text"),
    [
        ("BatchNormalization", {"training_mode": 1}, 4, "training_mode must be 0, not 1"),
        (
            "Conv",
            {"kernel_shape": [5, 5]},
            1,
            r"kernel_shape must be that of the weights, \[3, 3\]",
        ),
        ("FastGelu", {}, 1, "must have one input, not 2"),
        ("Pow", {}, 1, r"constant 'k2' must be one number, not of shape \(3, 3, 3, 3\)"),
    ],
)
def test_what_would_change_results(path, op, attributes, extra, text) -> None:
    """No attribute or input is passed over."""
    net = Net(3, 8, 8)
    x = net.q("x")
    each = np.ones(3) if op == "BatchNormalization" else np.ones((3, 3, 3, 3))
    others = [net.constant(each) for _ in range(extra)]
    if op == "Conv":
        others = [net.op("DequantizeLinear", net.constant(each, np.int8), net.constant(0.1))]
    outputs = 3 if op == "BatchNormalization" else 1
    found = net.op(op, x, *others, n_outputs=outputs, **attributes)
    x = found if outputs == 1 else found[0]
    net.nodes[-1].domain = "com.microsoft" if op == "FastGelu" else ""
    save_with_domain(net, net.q(x), path, "com.microsoft")
    with pytest.raises(OnnxError, match=rf"\({op}\): {text}"):
        onnx_import.load(path)


def test_other_domains(path) -> None:
    net = Net(3, 8, 8)
    x = net.op("Quant", net.q("x"))
    net.nodes[-1].domain = "qonnx.custom_op.general"
    save_with_domain(net, net.q(x), path, "qonnx.custom_op.general")
    with pytest.raises(
        OnnxError,
        match=r"\(Quant\): domain must be that of ONNX, not 'qonnx\.custom_op\.general'; the model "
        r"must be exported with QuantizeLinear and DequantizeLinear \(QDQ; of Brevitas QCDQ\)",
    ):
        onnx_import.load(path)


def test_check_of_a_model_that_fails_as_it_runs(path) -> None:
    """One line, whatever onnxruntime says."""
    net = Net(3, 8, 8)
    x = net.op("DequantizeLinear", net.op("QuantizeLinear", "x", *net.grid(0.1, 0, np.int8)),
               *net.grid(0.1, 0, np.int8))  # fmt: skip
    net.save(net.conv(x, 3, 4, 3, 3, kernel_shape=[3, 3]), path)
    model = onnx.load(path)
    model.graph.node[-1].attribute[-1].CopyFrom(helper.make_attribute("kernel_shape", [5, 5]))
    onnx.save(model, path)
    with pytest.raises(OnnxError, match=r"own\.onnx: must be a model that onnxruntime runs: .*5,5"):
        run_onnxruntime(path, np.zeros((1, 3, 8, 8), np.float32))


def test_inputs_that_are_no_integers_of_the_model(path, tmp_path) -> None:
    net = Net(3, 8, 8, kind=TensorProto.UINT8)
    x = net.op("DequantizeLinear", "x", *net.grid(0.03, 100, np.uint8))
    imported = onnx_import.load(net.save(net.q(net.conv(x, 3, 4, 3, 3)), path))
    np.save(tmp_path / "x.npy", np.full((1, 3, 8, 8), -1))
    with pytest.raises(
        OnnxError,
        match=r"x\.npy: values must be 0\.\.255, integers of the model's input, not -1\.\.",
    ):
        load_inputs(tmp_path / "x.npy", imported)
    np.save(tmp_path / "x.npy", np.zeros((0, 3, 8, 8)))
    with pytest.raises(OnnxError, match=r"x\.npy: must have at least one image"):
        load_inputs(tmp_path / "x.npy", imported)
