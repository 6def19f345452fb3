"""A small network that has learned digits, quantised as a user does, in three styles."""

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

Quantise = Callable[..., Path]
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


def _model(weights: dict[str, np.ndarray]) -> onnx.ModelProto:
    graph = helper.make_graph(
        (*BODY, LAST),
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 10])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _quantise(float_model: onnx.ModelProto, path: Path, images: np.ndarray, **style: Any) -> Path:
    """Quantise as a user does; `fold` is whether normalisation is folded before."""
    first, second = path.with_suffix(".float.onnx"), path.with_suffix(".folded.onnx")
    onnx.save(float_model, first)
    if style.pop("fold", True):
        quant_pre_process(first, second, skip_symbolic_shape=True)
    else:
        second = first
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


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
def float_model(weights) -> onnx.ModelProto:
    return _model(weights)


@pytest.fixture
def changed(weights) -> Callable[..., onnx.ModelProto]:
    """The same model with other arrays."""
    return lambda **arrays: _model({**weights, **arrays})


@pytest.fixture(scope="session")
def styles() -> dict[str, dict[str, Any]]:
    return STYLES


@pytest.fixture
def quantise(digits, tmp_path) -> Quantise:
    """Quantise a model with images that are no test images."""

    def run(float_model: onnx.ModelProto, **style: Any) -> Path:
        return _quantise(float_model, tmp_path / "own.onnx", digits[0][:N_TRAINING:4], **style)

    return run


@pytest.fixture(scope="session")
def models(float_model, digits, tmp_path_factory) -> dict[str, Path]:
    """By style."""
    folder = tmp_path_factory.mktemp("onnx")
    return {
        name: _quantise(float_model, folder / f"{k}.onnx", digits[0][:N_TRAINING:4], **style)
        for k, (name, style) in enumerate(STYLES.items())
    }


@pytest.fixture
def model(models) -> Path:
    return models["int8, per channel"]


@pytest.fixture
def images(digits) -> np.ndarray:
    """Test images."""
    return digits[0][N_TRAINING:]
