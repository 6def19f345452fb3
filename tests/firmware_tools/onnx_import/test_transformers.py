"""Transformers as torch exports them and onnxruntime quantises them, and what is refused."""

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import nn

from firmware_tools.onnx_import import OnnxError, load
from firmware_tools.onnx_import.check import compare, run_onnxruntime
from model.mars.network import INPUT, LayerNorm, MatMul, Softmax, Tokens

N_INPUTS = 40
SAME = 0.9
"""Share of random inputs with the same largest output: untrained, all outputs are much alike."""
N_TRAINING = 1437
N_EPOCHS, BATCH = 60, 48
SYMMETRIC = {
    "activation_type": QuantType.QInt8,
    "weight_type": QuantType.QInt8,
    "extra_options": {"ActivationSymmetric": True},
}


class _Inputs(CalibrationDataReader):
    def __init__(self, inputs: np.ndarray) -> None:
        self._parts = iter(inputs[:, np.newaxis])

    def get_next(self) -> dict[str, np.ndarray] | None:
        part = next(self._parts, None)
        return None if part is None else {"input": part}


class _Attention(nn.Module):
    """As timm writes it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, tokens, width = x.shape
        both = self.qkv(x).reshape(n, tokens, 3, self.heads, width // self.heads)
        q, k, v = both.permute(2, 0, 3, 1, 4).unbind(0)
        scores = (q * (width // self.heads) ** -0.5) @ k.transpose(-2, -1)
        return self.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(n, tokens, width))


class _Vit(nn.Module):
    """Images of 8x8 in patches of 2x2, a class token, positions."""

    def __init__(self, width: int = 24, heads: int = 2, depth: int = 1) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 2, 2)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, 17, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 * depth + 1))
        with torch.no_grad():
            self.norms[0].weight[::3] *= -1
        self.attentions = nn.ModuleList(_Attention(width, heads) for _ in range(depth))
        self.mlps = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
            for _ in range(depth)
        )
        self.head = nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        for k, (attention, mlp) in enumerate(zip(self.attentions, self.mlps, strict=True)):
            x = x + attention(self.norms[2 * k](x))
            x = x + mlp(self.norms[2 * k + 1](x))
        return self.head(self.norms[-1](x)[:, 0])


class _Encoder(nn.Module):
    """Torch's own layer on a grid of patches with positions, and the mean of all tokens."""

    def __init__(
        self, *, norm_first: bool, width: int = 12, heads: int = 3, depth: int = 1
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 2, 2)
        self.positions = nn.Parameter(torch.randn(1, 16, width))
        self.layers = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(
                    width, heads, 2 * width, 0.0, "gelu", batch_first=True, norm_first=norm_first
                )
                for _ in range(depth)
            )
        )
        self.head = nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        return self.head(self.layers(x).mean(1))


class _Multihead(nn.Module):
    """Attention alone, of tokens as they come."""

    def __init__(self, *, weights: bool) -> None:
        super().__init__()
        self.inner, self.weights = nn.MultiheadAttention(10, 2, batch_first=True), weights

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.inner(x, x, x, need_weights=self.weights)[0]
        return found


def _quantised(
    path: Path,
    model: nn.Module,
    shape: tuple[int, ...],
    opset: int = 17,
    inputs: np.ndarray | None = None,
    **style: Any,
) -> Path:
    """Export and quantise as a user does."""
    first, second = path.with_suffix(".float.onnx"), path.with_suffix(".folded.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model.eval(),
            (torch.randn(1, *shape),),
            first,
            dynamo=False,
            opset_version=opset,
            input_names=["input"],
            output_names=["output"],
            dynamic_axes={"input": {0: "N"}},
        )
    quant_pre_process(first, second, skip_symbolic_shape=True)
    if inputs is None:
        inputs = np.random.default_rng(1).normal(size=(16, *shape)).astype(np.float32)
    quantize_static(second, path, _Inputs(inputs), **style)
    return path


@dataclass(frozen=True)
class _Case:
    model: type[nn.Module]
    options: dict[str, Any]
    shape: tuple[int, ...]
    opset: int = 17
    style: dict[str, Any] | None = None


CASES = {
    "vit": _Case(_Vit, {}, (1, 8, 8)),
    "vit, symmetric, LayerNorm in parts": _Case(_Vit, {}, (1, 8, 8), 14, SYMMETRIC),
    "encoder, norm last, Gelu": _Case(_Encoder, {"norm_first": False}, (1, 8, 8), 20),
    "attention, per channel": _Case(
        _Multihead, {"weights": False}, (9, 10), style={"per_channel": True}
    ),
    "attention with weights": _Case(_Multihead, {"weights": True}, (9, 10)),
}


SLOW = {"encoder, norm last, Gelu", "attention, per channel"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.full] * (name in SLOW)) for name in CASES]
)
def test_a_model_computes_what_onnxruntime_computes(name, tmp_path):
    case = CASES[name]
    torch.manual_seed(3)
    path = _quantised(
        tmp_path / "m.onnx",
        case.model(**case.options),
        case.shape,
        case.opset,
        **(case.style or {}),
    )
    imported = load(path)
    inputs = np.random.default_rng(5).normal(size=(N_INPUTS, *case.shape)).astype(np.float32)
    found = compare(path, imported, inputs, optimize=False)
    kinds = {type(layer) for layer in imported.network.layers}
    assert {MatMul, Softmax} <= kinds
    assert (LayerNorm in kinds, Tokens in kinds) == (case.model is not _Multihead,) * 2
    assert found.top1_equal >= SAME
    assert found.within_one > 0.85


def _train(model: nn.Module, images: np.ndarray, labels: np.ndarray) -> None:
    """Some minutes, with noise on the images."""
    torch.set_num_threads(1)
    x, y = torch.tensor(images), torch.tensor(labels)
    n_steps = N_EPOCHS * len(x) // BATCH
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, n_steps)
    for _ in range(n_steps):
        chosen = torch.randint(len(x), (BATCH,))
        noisy = x[chosen] + 0.15 * torch.randn(BATCH, 1, 8, 8)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(noisy), y[chosen]).backward()
        optimizer.step()
        schedule.step()


TRAINED = {
    "vit": _Case(_Vit, {"depth": 2}, (1, 8, 8)),
    "vit, symmetric, per channel": _Case(
        _Vit, {"depth": 2}, (1, 8, 8), style={**SYMMETRIC, "per_channel": True}
    ),
    "encoder, norm first": _Case(
        _Encoder, {"norm_first": True, "width": 24, "heads": 2, "depth": 2}, (1, 8, 8)
    ),
    "encoder, norm last": _Case(
        _Encoder, {"norm_first": False, "width": 32, "heads": 4, "depth": 2}, (1, 8, 8)
    ),
}


@pytest.mark.full
@pytest.mark.parametrize("name", TRAINED)
def test_a_trained_model_decides_as_onnxruntime_does(name, digits, tmp_path) -> None:
    """What docs/import.md states; `--log-cli-level=info` prints it."""
    case = TRAINED[name]
    torch.manual_seed(3)
    model = case.model(**case.options)
    images, labels = digits
    _train(model, images[:N_TRAINING], labels[:N_TRAINING])
    rng = np.random.default_rng(5)
    inputs = images[rng.integers(N_TRAINING, len(images), 1000)]
    inputs = (inputs + rng.normal(0, 0.15, inputs.shape)).astype(np.float32)
    style = case.style or {}
    path = _quantised(tmp_path / "m.onnx", model, case.shape, inputs=images[:200], **style)
    imported = load(path)
    found = compare(path, imported, inputs, optimize=False)
    fused, plain = (run_onnxruntime(path, inputs[:500], optimize=flag) for flag in (True, False))
    steps = np.abs(fused - plain) / imported.network.scales[imported.network.output]
    log = logging.getLogger(__name__).info
    log("%s: %s", name, found)
    log(
        "onnxruntime with and without optimisation: same %.3f, equal %.3f, within two %.3f",
        (fused.argmax(axis=1) == plain.argmax(axis=1)).mean(),
        (steps < 0.5).mean(),
        (steps < 2.5).mean(),
    )
    assert found.top1_equal >= 0.98
    assert found.within_two >= 0.98


# Written by hand: what is refused


def _model(nodes: list[Any], arrays: dict[str, np.ndarray], shape=(4, 6), out=(4, 6)) -> Any:
    """Nodes of `x_r` that make `y`, every result quantised; scales are 1/16."""

    def quantised(name: str) -> list[Any]:
        return [
            helper.make_node("QuantizeLinear", [name, "scale", "zero"], [f"{name}_q"]),
            helper.make_node("DequantizeLinear", [f"{name}_q", "scale", "zero"], [f"{name}_r"]),
        ]

    body = quantised("x")
    for node in nodes:
        body += [node, *quantised(node.output[0])]
    arrays = {"scale": np.float32(1 / 16), "zero": np.int8(0), **arrays}
    graph = helper.make_graph(
        body,
        "graph",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", *shape])],
        [helper.make_tensor_value_info("y_r", onnx.TensorProto.FLOAT, ["N", *out])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _transposed(name: str) -> Any:
    return helper.make_node("Transpose", [name], ["t"], "turn", perm=[0, 2, 1])


SCORES = [_transposed("x_r"), helper.make_node("MatMul", ["x_r", "t_r"], ["s"], "scores")]


def _attend(probabilities: str) -> list[Any]:
    return [
        helper.make_node("Softmax", [probabilities], ["p"], "softmax", axis=-1),
        helper.make_node("MatMul", ["p_r", "x_r"], ["a"], "attend"),
        helper.make_node("Relu", ["a_r"], ["y"], "last"),
    ]


REFUSED: dict[str, tuple[list[Any], dict[str, np.ndarray], str]] = {
    "mask": (
        [*SCORES, helper.make_node("Add", ["s_r", "mask"], ["m"], "masked"), *_attend("m_r")],
        {"mask": np.triu(np.full((4, 4), -9, np.float32), 1)},
        "node 'masked' (Add): scores must not be masked, as with 'mask': attention is of all",
    ),
    "where": (
        [
            *SCORES,
            helper.make_node("Where", ["which", "s_r", "least"], ["m"], "masked"),
            *_attend("m_r"),
        ],
        {"which": np.tri(4) > 0, "least": np.float32(-9)},
        "node 'masked' (Where) is not supported: scores must not be masked",
    ),
    "cross attention": (
        [
            helper.make_node("Slice", ["x_r", "one", "end", "one"], ["k"], "fewer"),
            helper.make_node("Transpose", ["k_r"], ["t"], "turn", perm=[0, 2, 1]),
            SCORES[1],
            helper.make_node("Softmax", ["s_r"], ["p"], "softmax", axis=-1),
            helper.make_node("MatMul", ["p_r", "k_r"], ["y"], "attend"),
        ],
        {"one": np.array([1]), "end": np.array([3])},
        "node 'scores' (MatMul): must multiply features of tokens, (..., T, C) and (..., C, T), or "
        "scores and features, (..., T, T) and (..., T, C), of the same T (no cross attention), not "
        "(4, 6) and (6, 2)",
    ),
    "rotary embedding": (
        [helper.make_node("Mul", ["x_r", "cosine"], ["c"], "rotate"), *SCORES, *_attend("s_r")],
        {"cosine": np.cos(np.arange(24.0)).reshape(4, 6).astype(np.float32)},
        "node 'rotate' (Mul): constant 'cosine' must be one number, or one per channel, not one "
        "per token (rotary embeddings)",
    ),
    "heads that do not divide": (
        [
            helper.make_node("Reshape", ["x_r", "heads"], ["h"], "heads"),
            helper.make_node("Relu", ["h_r"], ["y"], "last"),
        ],
        {"heads": np.array([0, 4, 4, -1])},
        "node 'heads' (Reshape): shape must be for 24 values, not [1, 4, 4, -1]",
    ),
    "another axis": (
        [
            *SCORES,
            helper.make_node("Softmax", ["s_r"], ["p"], "softmax", axis=1),
            _attend("s")[1],
            _attend("s")[2],
        ],
        {},
        "node 'softmax' (Softmax): axis must be the last, 2, not 1 of (4, 4)",
    ),
    "normalised over tokens": (
        [
            helper.make_node("LayerNormalization", ["t_r", "ones"], ["n"], "norm", axis=-1)
            if node is None
            else node
            for node in (SCORES[0], None, helper.make_node("MatMul", ["x_r", "n_r"], ["y"], "m"))
        ],
        {"ones": np.ones(4, np.float32)},
        "node 'norm' (LayerNormalization): axis must be the last, 2, the features of tokens",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_chip_has_not_is_refused(name, tmp_path):
    nodes, arrays, text = REFUSED[name]
    out = (4, 4, 1) if name == "heads that do not divide" else (4, 6)
    onnx.save(_model(nodes, arrays, out=out), tmp_path / "m.onnx")
    with pytest.raises(OnnxError) as caught:
        load(tmp_path / "m.onnx")
    assert text in str(caught.value)


def test_a_float_node_between_is_refused(tmp_path):
    nodes = [*SCORES, *_attend("s_r")]
    model = _model(nodes, {})
    for node in model.graph.node:
        node.input[:] = ["s" if name == "s_r" else name for name in node.input]
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(OnnxError, match=r"node 'softmax' \(Softmax\): what it reads, .*quantised"):
        load(tmp_path / "m.onnx")


def test_small_integers_are_those_of_onnxruntime(tmp_path):
    """Scores that no rounding reaches: they are equal, whatever the order of the tokens."""
    order = helper.make_node("Gather", ["x_r", "order"], ["g"], "order", axis=1)
    nodes = [
        order,
        helper.make_node("Transpose", ["g_r"], ["t"], "turn", perm=[0, 2, 1]),
        SCORES[1],
        helper.make_node("MatMul", ["s_r", "g_r"], ["a"], "attend"),
        helper.make_node("Relu", ["a_r"], ["y"], "last"),
    ]
    path = tmp_path / "m.onnx"
    onnx.save(_model(nodes, {"order": np.array([2, 0, 3, 1])}), path)
    inputs = np.random.default_rng(0).integers(-1, 2, (30, 4, 6))
    found = compare(path, load(path), inputs.astype(np.float32), optimize=False)
    assert found.equal == 1
    assert load(path).network.types[INPUT].shape == (6, 1, 4)
