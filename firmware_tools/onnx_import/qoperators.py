"""QOperator form as QDQ form: every quantised operator becomes one of real numbers between both."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from firmware_tools.onnx_import.nodes import Array, Graph, Node, OnnxError


def to_qdq(graph: Graph) -> Graph:
    """The same graph without quantised operators.

    Raises
    ------
    OnnxError
        Parameters of a quantised operator are not constant.
    """
    rewriting = _Rewriting(dict(graph.constants), dict(graph.real_of))
    for node in graph.nodes:
        rewrite = _REWRITERS.get(node.op)
        if rewrite is None:
            rewriting.nodes.append(node)
        else:
            rewrite(rewriting, node)
    return replace(
        graph,
        nodes=tuple(rewriting.nodes),
        constants=rewriting.constants,
        real_of=rewriting.real_of,
    )


@dataclass
class _Rewriting:
    constants: dict[str, Array]
    real_of: dict[str, str]
    nodes: list[Node] = field(default_factory=list)

    def real(self, node: Node, k: int, *, axis: int = 0) -> str:
        """An input with its scale and zero point, which follow it, as real numbers."""
        name = node.input(k)
        real = f"{node.name}:{k}"
        self.real_of[real] = name
        inputs = (name, node.input(k + 1), node.input(k + 2))
        self.nodes.append(Node(node.name, "DequantizeLinear", inputs, (real,), {"axis": axis}))
        return real

    def bias(self, node: Node, k: int, first: int, second: int) -> str:
        """A bias of 32 bits, whose scale is the product of those of two inputs."""
        name = node.input(k)
        if not name:
            return ""
        scales = [self._scale(node, which) for which in (first, second)]
        scale = f"{node.name}:{k}:scale"
        alpha = np.float32(self._alpha(node))
        with np.errstate(all="ignore"):
            try:
                self.constants[scale] = np.asarray(scales[0] * scales[1] * alpha)
            except ValueError:
                raise OnnxError(f"{node}: scales must be one, or one per channel") from None
        real = f"{node.name}:{k}"
        inputs = (name, scale, "")
        self.nodes.append(Node(node.name, "DequantizeLinear", inputs, (real,), {"axis": 0}))
        return real

    def finish(
        self, node: Node, op: str, inputs: tuple[str, ...], scale: int, **attributes: Any
    ) -> None:
        """The operator and, if there is a scale, what quantises its result."""
        kept = {name: value for name, value in node.attributes.items() if name not in _DROPPED}
        is_real = not node.input(scale)
        result = node.result if is_real else f"{node.name}:result"
        self.nodes.append(Node(node.name, op, inputs, (result,), kept | attributes))
        if not is_real:
            quantising = (result, node.input(scale), node.input(scale + 1))
            self.nodes.append(Node(node.name, "QuantizeLinear", quantising, (node.result,)))

    def _scale(self, node: Node, k: int) -> Array:
        name = node.input(k)
        if name not in self.constants:
            raise OnnxError(f"{node}: scale {name!r} must be constant")
        scale = self.constants[name]
        if scale.dtype != np.float32:
            raise OnnxError(f"{node}: scale {name!r} must be float32, not {scale.dtype}")
        return scale.reshape(()) if scale.size == 1 else scale.ravel()

    @staticmethod
    def _alpha(node: Node) -> float:
        return node.number("alpha", 1.0) if node.op == "QGemm" else 1.0


_DROPPED = {"channels_last", "opset"}
"""Attributes that operators of real numbers have not."""


def _conv(rewriting: _Rewriting, node: Node) -> None:
    node.require("channels_last", 0, default=0)
    inputs = (rewriting.real(node, 0), rewriting.real(node, 3), rewriting.bias(node, 8, 1, 4))
    rewriting.finish(node, "Conv", inputs, 6)


def _matmul(rewriting: _Rewriting, node: Node) -> None:
    inputs = (rewriting.real(node, 0, axis=-2), rewriting.real(node, 3, axis=-1))
    rewriting.finish(node, "MatMul", inputs, 6)


def _gemm(rewriting: _Rewriting, node: Node) -> None:
    axis = 0 if node.integer("transB", 0) else 1
    inputs = (
        rewriting.real(node, 0),
        rewriting.real(node, 3, axis=axis),
        rewriting.bias(node, 6, 1, 4),
    )
    rewriting.finish(node, "Gemm", inputs, 7)


def _binary(op: str) -> Callable[[_Rewriting, Node], None]:
    def rewrite(rewriting: _Rewriting, node: Node) -> None:
        rewriting.finish(node, op, (rewriting.real(node, 0), rewriting.real(node, 3)), 6)

    return rewrite


def _unary(op: str) -> Callable[[_Rewriting, Node], None]:
    def rewrite(rewriting: _Rewriting, node: Node) -> None:
        node.require("channels_last", 0, default=0)
        rewriting.finish(node, op, (rewriting.real(node, 0),), 3)

    return rewrite


def _concat(rewriting: _Rewriting, node: Node) -> None:
    inputs = tuple(rewriting.real(node, k) for k in range(2, len(node.inputs) - 2, 3))
    rewriting.finish(node, "Concat", inputs, 0)


_REWRITERS: dict[str, Callable[[_Rewriting, Node], None]] = {
    "QLinearConv": _conv,
    "QLinearMatMul": _matmul,
    "QGemm": _gemm,
    "QLinearAdd": _binary("Add"),
    "QLinearMul": _binary("Mul"),
    "QLinearConcat": _concat,
    "QLinearAveragePool": _unary("AveragePool"),
    "QLinearGlobalAveragePool": _unary("GlobalAveragePool"),
    "QLinearLeakyRelu": _unary("LeakyRelu"),
    "QLinearReduceMean": _unary("ReduceMean"),
    "QLinearSigmoid": _unary("Sigmoid"),
    "QLinearSoftmax": _unary("Softmax"),
}
