"""What the importer refuses, and how it says so."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantFormat, QuantType

from firmware_tools import onnx_import
from firmware_tools.onnx_import import OnnxError

Edit = Callable[[onnx.ModelProto], object]


def test_cut_file(model, tmp_path) -> None:
    data = model.read_bytes()
    path = tmp_path / "cut.onnx"
    for size in (0, 1, 10, 1000, len(data) // 2, len(data) - 200, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(OnnxError, match=r"cut\.onnx: must be an ONNX model, cut or damaged"):
            onnx_import.load(path)
    path.write_bytes(b"no model at all" * 10)
    with pytest.raises(OnnxError, match="must be an ONNX model"):
        onnx_import.load(path)


def test_not_quantised(float_model, tmp_path) -> None:
    path = tmp_path / "float.onnx"
    onnx.save(float_model, path)
    with pytest.raises(OnnxError, match=r"node 'conv1' \(Conv\): input 'x' must be a quantised"):
        onnx_import.load(path)


def _attribute(node: str, **values: Any) -> Edit:
    def edit(model: onnx.ModelProto) -> None:
        found = next(entry for entry in model.graph.node if entry.name == node)
        kept = [entry for entry in found.attribute if entry.name not in values]
        del found.attribute[:]
        found.attribute.extend(kept)
        found.attribute.extend(helper.make_attribute(k, v) for k, v in values.items())

    return edit


def _constant(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Edit:
    def edit(model: onnx.ModelProto) -> None:
        entry = next(entry for entry in model.graph.initializer if entry.name == name)
        entry.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(entry)), name))

    return edit


def _op(node: str, op: str) -> Edit:
    def edit(model: onnx.ModelProto) -> None:
        found = next(entry for entry in model.graph.node if entry.name == node)
        found.op_type = op
        del found.attribute[:]

    return edit


def _dynamic(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "rows"


def _output(name: str) -> Edit:
    return lambda model: model.graph.output.append(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 16, 4, 4])
    )


def _raw(model: onnx.ModelProto) -> None:
    gemm = next(entry for entry in model.graph.node if entry.name == "last")
    model.graph.output[0].name = gemm.output[0]


def _opset(version: int) -> Edit:
    def edit(model: onnx.ModelProto) -> None:
        next(entry for entry in model.opset_import if not entry.domain).version = version

    return edit


def _input(node: str, k: int, value: np.ndarray | None) -> Edit:
    """An input of a node, which others read too, is another constant, or left out."""

    def edit(model: onnx.ModelProto) -> None:
        found = next(entry for entry in model.graph.node if entry.name == node)
        if value is None:
            del found.input[k:]
            return
        found.input[k] = "own"
        model.graph.initializer.append(numpy_helper.from_array(value, "own"))

    return edit


def _add_quantised_constant(model: onnx.ModelProto) -> None:
    _input("add1", 1, np.zeros((1, 32, 4, 4), np.int8))(model)
    add = next(k for k, entry in enumerate(model.graph.node) if entry.name == "add1")
    model.graph.node[add].input[1] = "real"
    inputs = ["own", "x_scale", "x_zero_point"]
    model.graph.node.insert(add, helper.make_node("DequantizeLinear", inputs, ["real"], "own"))


WEIGHT = "w2_quantized"
READER = "r2_DequantizeLinear"
"""Of what `relu2` writes."""
REFUSED: dict[str, tuple[Edit, str]] = {
    "group": (_attribute("conv2", group=2), "node 'conv2' (Conv): group must be 1, not 2"),
    "dilation": (
        _attribute("conv2", dilations=[2, 2]),
        "node 'conv2' (Conv): dilations must be [1, 1], not [2, 2]",
    ),
    "kernel": (
        _constant(WEIGHT, lambda w: np.zeros((*w.shape[:2], 5, 5), w.dtype)),
        "node 'conv2' (Conv): kernel must be 3x3 or 1x1, not 5x5",
    ),
    "stride": (
        _attribute("conv2", strides=[3, 3]),
        "node 'conv2' (Conv): strides must be [1, 1] or [2, 2], not [3, 3]",
    ),
    "padding": (
        _attribute("conv2", pads=[0, 0, 1, 1]),
        "node 'conv2' (Conv): pads must be [0, 0, 0, 0] or [1, 1, 1, 1] around 3x3 kernels, "
        "not [0, 0, 1, 1]",
    ),
    "padding of 1x1": (
        _attribute("conv4", pads=[1, 1, 1, 1]),
        "node 'conv4' (Conv): pads must be [0, 0, 0, 0] around 1x1 kernels, not [1, 1, 1, 1]",
    ),
    "padding with a zero point": (
        _constant("x_zero_point", lambda z: z + 100),
        "node 'conv1' (Conv): with padding, the zero point of input 'x_DequantizeLinear_Output' "
        "must be -128 or 0, not -28",
    ),
    "weights' zero point": (
        _constant("w2_zero_point", lambda z: z + 3),
        "node 'conv2' (Conv): weights 'w2_DequantizeLinear_Output' must be int8 with zero point 0, "
        "not int8 with 3",
    ),
    "pool": (
        _attribute("pool1", kernel_shape=[3, 3]),
        "node 'pool1' (MaxPool): kernel_shape must be [2, 2], not [3, 3]",
    ),
    "pool's padding": (
        _attribute("pool1", pads=[1, 1, 1, 1]),
        "node 'pool1' (MaxPool): pads must be [0, 0, 0, 0], not [1, 1, 1, 1]",
    ),
    "operator": (
        _op("pool1", "Sigmoid"),
        "node 'pool1' (Sigmoid) is not supported: operators must be among Add, Conv,",
    ),
    "softmax": (
        _op("flatten", "Softmax"),
        "node 'flatten' (Softmax) is not supported: it must be left out",
    ),
    "old opset": (_opset(9), "opset must be 10..28, not 9"),
    "new opset": (_opset(29), "opset must be 10..28, not 29"),
    "another scale": (
        _input(READER, 1, np.float32(0.5)),
        f"node '{READER}' (DequantizeLinear): scale and zero point must be those of the "
        "QuantizeLinear, ",
    ),
    "another zero point": (
        _input(READER, 2, np.int8(7)),
        f"node '{READER}' (DequantizeLinear): scale and zero point must be those of the "
        "QuantizeLinear, ",
    ),
    "no zero point": (
        _input(READER, 2, None),
        f"node '{READER}' (DequantizeLinear): zero point must be given, 0 too: it tells int8 "
        "from uint8",
    ),
    "scale of 16 bits": (
        _constant("r2_scale", lambda s: s.astype(np.float16)),
        "node 'r2_QuantizeLinear' (QuantizeLinear): scale must be float32, not float16",
    ),
    "precision": (
        lambda model: (_opset(23)(model), _attribute("x_QuantizeLinear", precision=10)(model)),
        "node 'x_QuantizeLinear' (QuantizeLinear): precision must be 1 (float32), not 10",
    ),
    "sum with a constant": (
        _input("add1", 1, np.zeros((1, 32, 4, 4), np.float32)),
        "node 'add1' (Add): both inputs must be maps, but 'own' is constant; it must be in the "
        "bias of the convolution before",
    ),
    "sum with a quantised constant": (
        _add_quantised_constant,
        "node 'add1' (Add): both inputs must be maps, but 'real' is constant; it must be in the ",
    ),
    "shape": (_dynamic, "input 'x': shape must be fixed but for the batch, not (N, 1, rows, 8)"),
    "outputs": (_output("p1"), "the model must have one output, not 2: 'y', 'p1'"),
    "scale": (
        _constant("x_scale", lambda s: s * np.float32(np.nan)),
        "node 'x_QuantizeLinear' (QuantizeLinear): scale must be a positive number, not nan",
    ),
    "gemm": (_attribute("last", alpha=2.0), "node 'last' (Gemm): alpha must be 1.0, not 2.0"),
    "raw output per channel": (
        _raw,
        "node 'last' (Gemm): with results that are not quantised, weights must have one scale",
    ),
    "average with a zero point": (
        _constant("r6_zero_point", lambda z: z + 10),
        "node 'average' (GlobalAveragePool): zero point of input 'r6_DequantizeLinear_Output' "
        "must be -128 or 0, not -118",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refuses(model, tmp_path, what) -> None:
    edit, text = REFUSED[what]
    edited = onnx.load(model)
    edit(edited)
    path = tmp_path / "edited.onnx"
    onnx.save(edited, path)
    with pytest.raises(OnnxError) as caught:
        onnx_import.load(path)
    assert str(caught.value).startswith(f"{path}: {text}")


def test_refuses_activation_scales_per_channel(model, tmp_path) -> None:
    edited = onnx.load(model)
    for name in ("r2_scale", "r2_zero_point"):
        _constant(name, lambda value: np.full(32, value))(edited)
    onnx.save(edited, tmp_path / "edited.onnx")
    with pytest.raises(OnnxError, match=r"activations must have one scale .* not 32") as caught:
        onnx_import.load(tmp_path / "edited.onnx")
    assert "node 'r2_QuantizeLinear' (QuantizeLinear)" in str(caught.value)


@pytest.mark.parametrize(
    ("style", "text"),
    [
        (
            {"weight_type": QuantType.QUInt8, "activation_type": QuantType.QUInt8},
            r"\(Conv\): weights .* must be int8 with zero point 0",
        ),
        ({"quant_format": QuantFormat.QOperator}, r"must be in QDQ form"),
        ({"activation_type": QuantType.QInt16}, "activations must be int8 or uint8, not int16"),
    ],
)
def test_refuses_other_styles(float_model, quantise, style, text) -> None:
    path = quantise(float_model, **style)
    with pytest.raises(OnnxError, match=text):
        onnx_import.load(path)


def test_refuses_normalisation_that_is_not_folded(float_model, quantise) -> None:
    path = quantise(float_model, fold=False)
    with pytest.raises(OnnxError, match=r"node 'norm1' \(BatchNormalization\) is not supported: "):
        onnx_import.load(path)
