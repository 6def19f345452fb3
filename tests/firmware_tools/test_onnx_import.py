"""Imported ONNX models against onnxruntime, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from sklearn.datasets import load_digits
from torch import nn

from firmware_tools import onnx_import
from firmware_tools.onnx_import import OnnxError
from firmware_tools.onnx_import.check import compare, run_onnxruntime
from firmware_tools.onnx_import.scaling import post
from model.mars import network_file, reference
from model.mars.network import AvgPool, Conv, Dense, MaxPool2, QuantizedNetwork

Edit = Callable[[onnx.ModelProto], object]

N_TRAINING = 1437
"""The first digits train and calibrate, the others test."""
BODY = (
    helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], "conv1", pads=[1, 1, 1, 1]),
    helper.make_node("BatchNormalization", ["c1", "gamma", "beta", "mean", "var"], ["n1"], "norm1"),
    helper.make_node("Relu", ["n1"], ["r1"], "relu1"),
    helper.make_node("MaxPool", ["r1"], ["p1"], "pool1", kernel_shape=[2, 2], strides=[2, 2]),
    helper.make_node("Conv", ["p1", "w2", "b2"], ["c2"], "conv2", pads=[1, 1, 1, 1]),
    helper.make_node("Relu", ["c2"], ["r2"], "relu2"),
    helper.make_node("Conv", ["r2", "w3", "b3"], ["c3"], "conv3", pads=[1, 1, 1, 1]),
    helper.make_node("Conv", ["p1", "w4", "b4"], ["c4"], "conv4"),
    helper.make_node("Add", ["c3", "c4"], ["a1"], "add1"),
    helper.make_node("Relu", ["a1"], ["r3"], "relu3"),
    helper.make_node(
        "Conv", ["r3", "w5", "b5"], ["c5"], "conv5", strides=[2, 2], pads=[1, 1, 1, 1]
    ),
    helper.make_node("Relu", ["c5"], ["r5"], "relu5"),
    helper.make_node("Conv", ["r5", "w6", "b6"], ["c6"], "conv6", pads=[1, 1, 1, 1]),
    helper.make_node("Add", ["r5", "c6"], ["a2"], "add2"),
    helper.make_node("Relu", ["a2"], ["r6"], "relu6"),
    helper.make_node("GlobalAveragePool", ["r6"], ["g"], "average"),
    helper.make_node("Flatten", ["g"], ["f"], "flatten"),
)
"""A network with two residuals: of a 1x1 convolution, and of what is there."""
LAST = helper.make_node("Gemm", ["f", "w7", "b7"], ["y"], "last", transB=1)
LAYERS = {
    "1": (1, 16, 3),
    "2": (16, 32, 3),
    "3": (32, 32, 3),
    "4": (16, 32, 1),
    "5": (32, 32, 3),
    "6": (32, 32, 3),
}
"""Channels read and written, and kernels, of the convolutions."""
STYLES: dict[str, dict[str, Any]] = {
    "uint8": {"activation_type": QuantType.QUInt8},
    "int8, per channel": {"activation_type": QuantType.QInt8, "per_channel": True},
    "symmetric": {
        "activation_type": QuantType.QInt8,
        "per_channel": True,
        "extra_options": {"ActivationSymmetric": True},
    },
}


class _Images(CalibrationDataReader):
    def __init__(self, images: np.ndarray) -> None:
        self._parts = iter(np.array_split(images, 4))

    def get_next(self) -> dict[str, np.ndarray] | None:
        part = next(self._parts, None)
        return None if part is None else {"x": part}


def _model(
    nodes: tuple[onnx.NodeProto, ...],
    weights: dict[str, np.ndarray],
    output: tuple[str, tuple[int, ...]],
    shape: tuple[int, ...] = (1, 8, 8),
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape])],
        [helper.make_tensor_value_info(output[0], TensorProto.FLOAT, ["N", *output[1]])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _quantize(float_model: onnx.ModelProto, path: Path, images: np.ndarray, **style: Any) -> Path:
    """Quantise as a user does."""
    first, second = path.with_suffix(".float.onnx"), path.with_suffix(".folded.onnx")
    onnx.save(float_model, first)
    quant_pre_process(first, second, skip_symbolic_shape=True)
    options = {"WeightSymmetric": True, **style.pop("extra_options", {})}
    quantize_static(
        second,
        path,
        _Images(images),
        quant_format=style.pop("quant_format", QuantFormat.QDQ),
        weight_type=style.pop("weight_type", QuantType.QInt8),
        extra_options=options,
        **style,
    )
    return path


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    images, labels = load_digits(return_X_y=True)
    return (images.reshape(-1, 1, 8, 8) / 16).astype(np.float32), labels


class _Net(nn.Module):
    """The same network, to be trained."""

    def __init__(self) -> None:
        super().__init__()
        for k, (n_inputs, n_outputs, size) in LAYERS.items():
            stride = 2 if k == "5" else 1
            conv = nn.Conv2d(n_inputs, n_outputs, size, stride, padding=size // 2)
            setattr(self, f"conv{k}", conv)
        self.norm1 = nn.BatchNorm2d(16)
        self.last = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.max_pool2d(torch.relu(self.norm1(self.conv1(x))), 2)
        x = torch.relu(self.conv3(torch.relu(self.conv2(x))) + self.conv4(x))
        x = torch.relu(self.conv5(x))
        x = torch.relu(self.conv6(x) + x)
        return self.last(x.mean((2, 3)))


@pytest.fixture(scope="module")
def weights(digits) -> dict[str, np.ndarray]:
    """Of a few seconds of training."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images, labels = (torch.tensor(part[:N_TRAINING]) for part in digits)
    net = _Net()
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(15):
        for batch in torch.randperm(N_TRAINING).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(images[batch]), labels[batch]).backward()
            optimizer.step()
    state = {name: value.detach().numpy() for name, value in net.state_dict().items()}
    found = {}
    for k, name in [*((k, f"conv{k}") for k in LAYERS), ("7", "last")]:
        found[f"w{k}"], found[f"b{k}"] = state[f"{name}.weight"], state[f"{name}.bias"]
    names = {"gamma": "weight", "beta": "bias", "mean": "running_mean", "var": "running_var"}
    return found | {own: state[f"norm1.{name}"] for own, name in names.items()}


@pytest.fixture(scope="module")
def float_model(weights) -> onnx.ModelProto:
    return _model((*BODY, LAST), weights, ("y", (10,)))


@pytest.fixture(scope="module")
def models(float_model, digits, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("onnx")
    return {
        name: _quantize(float_model, folder / f"{k}.onnx", digits[0][:N_TRAINING:4], **style)
        for k, (name, style) in enumerate(STYLES.items())
    }


@pytest.fixture
def model(models) -> Path:
    return models["int8, per channel"]


@pytest.mark.parametrize("style", STYLES)
def test_agrees_with_onnxruntime(models, digits, style) -> None:
    imported = onnx_import.load(models[style])
    assert max(imported.errors.values()) < 0.02
    # In float32: integer kernels of processors without VNNI saturate sums of two products.
    agreement = compare(models[style], imported, digits[0][N_TRAINING:], optimize=False)
    assert agreement.images == 360
    assert agreement.top1_equal == 1
    assert agreement.within_one >= 0.999
    assert agreement.equal >= 0.9


def test_whole_data_set_with_integer_kernels(models, digits) -> None:
    path = models["uint8"]
    agreement = compare(path, onnx_import.load(path), digits[0])
    assert (agreement.images, agreement.top1_equal) == (1797, 1)
    assert agreement.within_one >= 0.999


def test_layers(models) -> None:
    network = onnx_import.load(models["uint8"]).network
    kinds = {layer.name: type(layer) for layer in network.layers}
    names = {"conv1", "pool1", "conv2", "conv3", "conv4", "add1", "conv5", "conv6", "add2"}
    assert set(kinds) == names | {"average", "last"}
    assert kinds["pool1"] is MaxPool2
    assert kinds["average"] is AvgPool
    assert kinds["last"] is Dense
    assert (network.input_type.shape, network.input_type.bits) == ((1, 8, 8), 8)
    assert not network.input_type.signed
    add = network.layer("add2")
    assert isinstance(add, Conv)
    assert {add.input, add.skip} == {"conv5", "conv6"}
    assert np.count_nonzero(add.weight) == len(add.weight)


def test_relu_of_symmetric_activations_has_7_bits(models) -> None:
    imported = onnx_import.load(models["symmetric"])
    types = imported.network.types
    assert types["input"].signed
    assert (types["conv1"].bits, types["conv1"].signed) == (7, False)
    assert (types["conv3"].bits, types["conv3"].signed) == (8, True)
    assert set(imported.zeros.values()) == {0}


def test_int8_and_uint8_are_one(float_model, digits, tmp_path, models) -> None:
    """They differ by 128 in all zero points, and the chip has neither."""
    path = _quantize(
        float_model,
        tmp_path / "int8.onnx",
        digits[0][:N_TRAINING:4],
        activation_type=QuantType.QInt8,
    )
    images = digits[0][:10]
    results = []
    for file in (path, models["uint8"]):
        imported = onnx_import.load(file)
        results.append(reference.run(imported.network, imported.quantize(images)))
    for name, values in results[0].items():
        assert np.array_equal(values, results[1][name])


def test_fused_residuals(models, digits) -> None:
    imported = onnx_import.load(models["uint8"], fuse_residuals=True)
    skips = {
        layer.name: (layer.skip, len(set(layer.shift)))
        for layer in imported.network.layers
        if isinstance(layer, Conv) and layer.skip is not None
    }
    assert skips == {"conv3": ("conv4", 1), "conv6": ("conv5", 1)}
    agreement = compare(models["uint8"], imported, digits[0][N_TRAINING:], optimize=False)
    assert agreement.within_one >= 0.99


def test_multipliers_are_as_near_as_16_bits_allow() -> None:
    ratio = np.array([0.7, 1 / 3, 2.0**-20, 1.0, 65535.4 / 65536, 65535.6 / 65536, 1e-9])
    n = len(ratio)
    found = post(ratio, np.zeros(n), np.full(n, 1e9), 255.0)
    assert found is not None
    assert list(found.shift) == [16, 17, 35, 15, 16, 15, 40]
    assert found.mult.max() <= 65535
    error = np.abs(found.mult * np.exp2(-found.shift.astype(float)) - ratio)
    assert (error[:-1] <= ratio[:-1] * 2.0**-16).all()
    assert error[-1] <= 2.0**-41
    assert found.error == pytest.approx((error * np.minimum(1e9, 256 / ratio)).max())


def test_multiplier_too_large() -> None:
    assert post(np.array([32767.4]), np.zeros(1), np.ones(1), 255.0) is not None
    assert post(np.array([32768.0]), np.zeros(1), np.ones(1), 255.0) is None


def test_channel_that_is_all_but_gone(weights, digits, tmp_path) -> None:
    """Its zero point is more than 32 bits of its accumulator's steps."""
    w3 = weights["w3"].copy()
    w3[5] *= 1e-8
    b3 = weights["b3"].copy()
    b3[5] = 0
    model = _model((*BODY, LAST), {**weights, "w3": w3, "b3": b3}, ("y", (10,)))
    path = _quantize(
        model, tmp_path / "small.onnx", digits[0][:N_TRAINING:4], **STYLES["int8, per channel"]
    )
    imported = onnx_import.load(path)
    assert not imported.network.layer("conv3").weight[5].any()
    assert max(imported.errors.values()) < 0.02
    agreement = compare(path, imported, digits[0][N_TRAINING:], optimize=False)
    assert agreement.within_one >= 0.999


def test_raw_output(float_model, digits, tmp_path) -> None:
    path = _quantize(
        float_model,
        tmp_path / "raw.onnx",
        digits[0][:N_TRAINING:4],
        extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm"]},
    )
    imported = onnx_import.load(path)
    assert imported.network.types["last"].bits == 32
    results = reference.run(imported.network, imported.quantize(digits[0][:50]))["last"]
    expected = run_onnxruntime(path, digits[0][:50], optimize=False)
    real = imported.dequantize(results).reshape(expected.shape)
    assert np.abs(real - expected).max() < 0.05 * np.abs(expected).max()


def test_command(kenyon, model, digits, tmp_path) -> None:
    np.save("images.npy", digits[0][:20])
    result = kenyon("import", model, "-o", "net.npz", "--check", "images.npy", "--json")
    assert result.exit_code == 0
    values = json.loads(result.stdout)
    assert values["network"] == "net.npz"
    assert values["input"]["shape"] == [1, 8, 8]
    assert values["agreement"]["top1_equal"] == 1
    assert [row["name"] for row in values["layers"]][-1] == "last"
    loaded = network_file.load(tmp_path / "net.npz")
    assert isinstance(loaded, QuantizedNetwork)
    assert loaded.scales["last"] == values["layers"][-1]["scale"]
    result = kenyon("import", model, "-o", "net.npz")
    assert result.exit_code == 0
    assert "wrote net.npz: 11 layers" in result.stdout


def test_command_refuses(kenyon, model) -> None:
    result = kenyon("import", "none.onnx", "-o", "net.npz")
    assert (result.exit_code, result.stderr) == (
        2,
        "error: none.onnx: no such file or directory\n",
    )
    result = kenyon("import", model, "-o", "none/net.npz")
    assert (result.exit_code, result.stderr) == (
        2,
        "error: none/net.npz: folder must exist: none\n",
    )
    np.save("images.npy", np.zeros((2, 3, 8, 8)))
    result = kenyon("import", model, "-o", "net.npz", "--check", "images.npy")
    assert result.exit_code == 2
    assert "images.npy: shape must be (N, 1, 8, 8), not (2, 3, 8, 8)" in result.stderr
    assert not Path("net.npz").exists()


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


WEIGHT = "w2_quantized"
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
def test_refuses_other_styles(float_model, digits, tmp_path, style, text) -> None:
    path = _quantize(float_model, tmp_path / "model.onnx", digits[0][:40], **style)
    with pytest.raises(OnnxError, match=text):
        onnx_import.load(path)


def test_refuses_normalisation_that_is_not_folded(float_model, digits, tmp_path) -> None:
    onnx.save(float_model, tmp_path / "float.onnx")
    path = tmp_path / "model.onnx"
    quantize_static(
        tmp_path / "float.onnx", path, _Images(digits[0][:40]), weight_type=QuantType.QInt8
    )
    with pytest.raises(OnnxError, match=r"node 'norm1' \(BatchNormalization\) is not supported: "):
        onnx_import.load(path)
