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


def _pool(op: str, **attributes: Any) -> Edit:
    def edit(model: onnx.ModelProto) -> None:
        _op("pool1", op)(model)
        _attribute("pool1", **attributes)(model)

    return edit


WEIGHT = "w2_quantized"
READER = "r2_DequantizeLinear"
"""Of what `relu2` writes."""
REFUSED: dict[str, tuple[Edit, str]] = {
    "group": (
        _attribute("conv2", group=2),
        "node 'conv2' (Conv): weights must be for 16 channels in 2 groups, not have the shape "
        "(32, 16, 3, 3)",
    ),
    "dilation": (
        _attribute("conv2", dilations=[5, 1], pads=[5, 1, 5, 1]),
        "node 'conv2' (Conv): layer 'conv2': dilation must be 2 numbers 1..4",
    ),
    "kernel": (
        _constant(WEIGHT, lambda w: np.zeros((*w.shape[:2], 17, 5), w.dtype)),
        "node 'conv2' (Conv): kernel must be at most 16x16, not [17, 5]",
    ),
    "kernel of a small map": (
        _constant(WEIGHT, lambda w: np.zeros((*w.shape[:2], 7, 5), w.dtype)),
        "node 'conv2' (Conv): kernel must be at most the padded map, [6, 6], not [7, 5]",
    ),
    "stride": (
        _attribute("conv2", strides=[16, 1]),
        "node 'conv2' (Conv): layer 'conv2': stride must be 2 numbers 1..15",
    ),
    "strides": (
        _attribute("conv2", strides=[1, 1, 1]),
        "node 'conv2' (Conv): strides must be 2 integers of at least 1, not [1, 1, 1]",
    ),
    "padding": (
        _attribute("conv2", pads=[0, 0, 16, 1]),
        "node 'conv2' (Conv): layer 'conv2': padding must be 4 numbers 0..15",
    ),
    "automatic padding": (
        _attribute("conv2", auto_pad="SAME"),
        "node 'conv2' (Conv): auto_pad must be NOTSET, VALID, SAME_UPPER or SAME_LOWER, not SAME",
    ),
    "weights' zero point": (
        lambda model: (
            _constant(WEIGHT, lambda w: np.full(w.shape, 255, np.uint8))(model),
            _constant("w2_zero_point", lambda z: z.astype(np.uint8))(model),
        ),
        "node 'conv2' (Conv): weights less their zero point must be -256..254, not 255..255",
    ),
    "pool's ceil mode": (
        _pool("AveragePool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
        "node 'pool1' (AveragePool): ceil_mode must be 0, not 1, where windows would reach over",
    ),
    "pool's padding": (
        _pool("AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        "node 'pool1' (AveragePool): count_include_pad must be 1 with pads [1, 1, 1, 1], not 0",
    ),
    "pool's dilation": (
        _pool("MaxPool", kernel_shape=[2, 2], dilations=[2, 2]),
        "node 'pool1' (MaxPool): dilations must be 1, not [2, 2]",
    ),
    "pad": (
        lambda model: (
            _op("add1", "Pad")(model),
            _attribute("add1", mode="reflect")(model),
            _input("add1", 1, np.zeros(8, np.int64))(model),
        ),
        "node 'add1' (Pad): mode must be constant, not reflect",
    ),
    "operator": (
        _op("pool1", "Hardmax"),
        "node 'pool1' (Hardmax) is not supported: operators must be among Abs, Add, ArgMax,",
    ),
    "operator that says what would do": (
        lambda model: (_op("pool1", "Hardmax")(model), _op("add1", "ConvTranspose")(model)),
        "node 'add1' (ConvTranspose) is not supported: nothing of the chip scatters",
    ),
    "scales per channel of an old opset": (
        _opset(12),
        "node 'ConvBnFusion_BN_B_beta_DequantizeLinear' (DequantizeLinear): axis must be left out "
        "in opset 12: scales per channel need 13 or more",
    ),
    "softmax": (
        _op("flatten", "Softmax"),
        "node 'last' (Gemm): must not follow node 'flatten' (Softmax), which must be last",
    ),
    "product of maps": (
        _op("add1", "Mul"),
        "node 'add1' (Mul): must be of a map and a constant, or of two functions of the same map",
    ),
    "concatenated rows": (
        lambda model: (_op("add1", "Concat")(model), _attribute("add1", axis=2)(model)),
        "node 'conv5' (Conv): its input must be channels of a map (64, 4, 4), in order (N, C, ...)"
        ", not (32, 8, 4) of other axes",
    ),
    "old opset": (_opset(9), "opset must be 10..28, not 9"),
    "new opset": (_opset(29), "opset must be 10..28, not 29"),
    "another type": (
        _input(READER, 2, np.uint8(7)),
        f"node '{READER}' (DequantizeLinear): zero point must have the type of the input, int8",
    ),
    "scale of 16 bits": (
        _constant("r2_scale", lambda s: s.astype(np.float16)),
        "node 'r2_QuantizeLinear' (QuantizeLinear): scale must be float32, not float16",
    ),
    "precision": (
        lambda model: (_opset(23)(model), _attribute("x_QuantizeLinear", precision=10)(model)),
        "node 'x_QuantizeLinear' (QuantizeLinear): precision must be 1 (float32), not 10",
    ),
    "sum with a map": (
        _input("add1", 1, np.arange(512, dtype=np.float32).reshape(1, 32, 4, 4)),
        "node 'add1' (Add): constant 'own' must be one number, or one per channel of (32, 4, 4)",
    ),
    "sum of other shapes": (
        _attribute("conv4", pads=[1, 1, 1, 1]),
        "node 'add1' (Add): both inputs must have the same shape, not (N, 32, 4, 4) and "
        "(N, 32, 6, 6)",
    ),
    "shape": (_dynamic, "input 'x': shape must be fixed but for the batch, not (N, 1, rows, 8)"),
    "outputs": (_output("p1"), "the model must have one output, not 2: 'y', 'p1'"),
    "scale": (
        _constant("x_scale", lambda s: s * np.float32(np.nan)),
        "node 'x_QuantizeLinear' (QuantizeLinear): scale must be a positive number, not nan",
    ),
    "gemm": (_attribute("last", transA=1), "node 'last' (Gemm): transA must be 0, not 1"),
    "gemm's alpha": (
        _attribute("last", alpha=-2.0),
        "node 'last' (Gemm): alpha must be positive, not -2.0",
    ),
    "raw output per channel": (
        _raw,
        "node 'last' (Gemm): with results that are not quantised, weights must have one scale",
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


def test_refuses_16_bits(float_model, quantise) -> None:
    path = quantise(float_model, activation_type=QuantType.QInt16)
    with pytest.raises(OnnxError, match="activations must be int8 or uint8, not int16"):
        onnx_import.load(path)


def test_external_data(model, tmp_path) -> None:
    """It is read if it is beside the model, and from nowhere else."""
    (tmp_path / "models").mkdir()
    path = tmp_path / "models" / "model.onnx"
    loaded = onnx.load(model)
    save = {"save_as_external_data": True, "location": "data.bin", "size_threshold": 0}
    onnx.save(loaded, path, **save)
    assert onnx_import.load(path).network.layers[0].name == "conv1"
    data = path.with_name("data.bin")
    outside = tmp_path / "data.bin"
    outside.write_bytes(data.read_bytes())
    for location in ("../data.bin", str(outside), "", "link.bin", "none.bin"):
        edited = onnx.load(path, load_external_data=False)
        path.with_name("link.bin").unlink(missing_ok=True)
        path.with_name("link.bin").symlink_to(outside)
        for tensor in edited.graph.initializer:
            for entry in tensor.external_data:
                entry.value = location if entry.key == "location" else entry.value
        path.with_name("other.onnx").write_bytes(edited.SerializeToString())
        with pytest.raises(OnnxError, match="its data must be in "):
            onnx_import.load(path.with_name("other.onnx"))
    data.write_bytes(data.read_bytes()[:100])
    with pytest.raises(OnnxError, match=r"'data\.bin' must have \d+ bytes, not 100: cut\?"):
        onnx_import.load(path)


@pytest.mark.parametrize("style", ["qdq", "qoperator"])
def test_damaged_files(float_model, quantise, tmp_path, style) -> None:
    """Whatever the bytes are, there is a network or a text."""
    form = QuantFormat.QDQ if style == "qdq" else QuantFormat.QOperator
    data = np.frombuffer(quantise(float_model, quant_format=form).read_bytes(), np.uint8)
    # The weights are most of the file: what is between them is changed more often.
    places = np.flatnonzero(np.convolve(data < 127, np.ones(8), "same") == 8)
    path = tmp_path / "damaged.onnx"
    texts = []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        damaged = data.copy()
        for place in rng.choice(places, rng.integers(1, 4)):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged.tobytes())
        try:
            onnx_import.load(path)
        except OnnxError as error:
            texts.append(str(error))
    assert len(texts) > 20
    assert not any("\n" in text for text in texts)
