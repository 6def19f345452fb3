"""Activation functions, sums, factors."""

import math
from collections.abc import Callable
from dataclasses import replace
from math import prod

import numpy as np

from firmware_tools.onnx_import.builder import Builder
from firmware_tools.onnx_import.layers import diagonal
from firmware_tools.onnx_import.nodes import Array, Node, OnnxError
from firmware_tools.onnx_import.products import Product, refuse_scores
from firmware_tools.onnx_import.tokens import is_per_token, positions
from firmware_tools.onnx_import.values import (
    Average,
    Feature,
    Pending,
    Products,
    Source,
    Sum,
    Unary,
    channel_values,
    unary_of,
)

Function = Callable[[Array], Array]

_erf = np.vectorize(math.erf, otypes=[np.float32])


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _gelu(node: Node) -> Function:
    if node.text("approximate", "none") == "tanh" or node.op == "FastGelu":
        return lambda x: 0.5 * x * (1 + np.tanh(0.7978845608 * (x + 0.044715 * x**3)))
    return lambda x: 0.5 * x * (1 + _erf(x / math.sqrt(2)))


def _elu(node: Node, default: float = 1.0) -> Function:
    alpha = node.number("alpha", default)
    return lambda x: np.where(x < 0, alpha * np.expm1(x), x)


def _selu(node: Node) -> Function:
    gamma = node.number("gamma", 1.0507009873554805)
    inner = _elu(node, 1.6732632423543772)
    return lambda x: gamma * inner(x)


def _celu(node: Node) -> Function:
    alpha = node.number("alpha", 1.0)
    return lambda x: np.maximum(x, 0) + np.minimum(0, alpha * np.expm1(x / alpha))


def _hard_sigmoid(node: Node) -> Function:
    alpha, beta = node.number("alpha", 0.2), node.number("beta", 0.5)
    return lambda x: np.clip(alpha * x + beta, 0, 1)


def _leaky_relu(node: Node) -> Function:
    alpha = node.number("alpha", 0.01)
    return lambda x: np.where(x < 0, alpha * x, x)


def _swish(node: Node) -> Function:
    alpha = node.number("alpha", 1.702 if node.op == "QuickGelu" else 1.0)
    return lambda x: x * _sigmoid(alpha * x)


def _shrink(node: Node) -> Function:
    end, bias = node.number("lambd", 0.5), node.number("bias", 0.0)
    return lambda x: np.where(np.abs(x) > end, x - np.sign(x) * bias, 0)


def _thresholded(node: Node) -> Function:
    alpha = node.number("alpha", 1.0)
    return lambda x: np.where(x > alpha, x, 0)


FUNCTIONS: dict[str, Callable[[Node], Function]] = {
    "Abs": lambda _: np.abs,
    "Ceil": lambda _: np.ceil,
    "Celu": _celu,
    "Cos": lambda _: np.cos,
    "Elu": _elu,
    "Erf": lambda _: _erf,
    "Exp": lambda _: np.exp,
    "FastGelu": _gelu,
    "Floor": lambda _: np.floor,
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda _: lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "LeakyRelu": _leaky_relu,
    "Log": lambda _: np.log,
    "Mish": lambda _: lambda x: x * np.tanh(np.logaddexp(0, x)),
    "Neg": lambda _: np.negative,
    "QuickGelu": _swish,
    "Reciprocal": lambda _: np.reciprocal,
    "Round": lambda _: np.rint,
    "Selu": _selu,
    "Shrink": _shrink,
    "Sigmoid": lambda _: _sigmoid,
    "Sign": lambda _: np.sign,
    "Sin": lambda _: np.sin,
    "Softplus": lambda _: lambda x: np.logaddexp(0, x),
    "Softsign": lambda _: lambda x: x / (1 + np.abs(x)),
    "Sqrt": lambda _: np.sqrt,
    "Swish": _swish,
    "Tanh": lambda _: np.tanh,
    "ThresholdedRelu": _thresholded,
}
"""Operators of one map that become a table."""
BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Pow": np.power,
    "Max": np.maximum,
    "Min": np.minimum,
}


def unary(builder: Builder, node: Node) -> None:
    """A function of a map: a table."""
    if any(node.inputs[1:]):
        raise OnnxError(f"{node}: must have one input, not {len(node.inputs)}")
    function, source = FUNCTIONS[node.op](node), _real_input(builder, node)
    if source is not None:
        _on_the_host(builder, node, source, function)
    else:
        unary = _as_unary(builder, node, 0)
        builder.values[node.result] = unary.then(node, function)


def clamp(builder: Builder, node: Node) -> None:
    """Relu, Clip."""
    low, high = (0.0, math.inf) if node.op == "Relu" else _ends(builder, node)
    if low > high:
        raise OnnxError(f"{node}: min must be at most max, {high:g}, not {low:g}")
    found = builder.operand(node)
    if node.input(0) in builder.integers:
        builder.values[node.result] = _clamped_integers(builder, node, low, high)
        builder.integers.add(node.result)
    elif isinstance(found, Products | Sum | Average):
        least, most = (min(max(end, low), high) for end in (found.low, found.high))
        builder.values[node.result] = replace(found, low=least, high=most)
    else:
        unary = _as_unary(builder, node, 0)
        builder.values[node.result] = unary.then(node, lambda x: np.clip(x, low, high))


def _clamped_integers(builder: Builder, node: Node, low: float, high: float) -> Feature:
    """Of integers that mean real numbers, as onnxruntime's quantiser leaves an operator out."""
    feature = builder.feature(node)
    results = np.clip(np.arange(feature.grid.low, feature.grid.high + 1), low, high)
    values = feature.grid.values[results.astype(np.int64) - feature.grid.low]
    return builder.finish(Unary(node, feature, values, feature.view), feature.grid)


def _ends(builder: Builder, node: Node) -> tuple[float, float]:
    ends = []
    for k, (name, default) in enumerate((("min", -math.inf), ("max", math.inf)), 1):
        if node.input(k):
            constant = builder.constant(node, k)
            if constant is None or constant.size != 1 or np.isnan(constant).any():
                raise OnnxError(f"{node}: {name} must be a constant number")
            ends.append(float(constant.ravel()[0]))
        else:
            ends.append(node.number(name, default) if name in node.attributes else default)
    return ends[0], ends[1]


def binary(builder: Builder, node: Node) -> None:
    """Of two maps, or of a map and a constant."""
    if len(node.inputs) != 2:
        raise OnnxError(f"{node}: must have two inputs, not {len(node.inputs)}")
    for k in (0, 1):
        constant = builder.constant(node, k)
        if constant is not None:
            if constant.dtype.kind not in "fiu" or not constant.size:
                raise OnnxError(f"{node}: constant {node.input(k)!r} must be numbers")
            source = _real_input(builder, node, 1 - k)
            if source is not None:
                _combined_on_the_host(builder, node, 1 - k, source, constant)
            else:
                builder.values[node.result] = _with_constant(builder, node, 1 - k, constant)
            return
    same = _of_the_same(builder, node)
    if same is not None:
        builder.values[node.result] = same
    elif node.op in {"Add", "Sub"}:
        builder.values[node.result] = _sum(builder, node)
    else:
        raise OnnxError(
            f"{node}: must be of a map and a constant, or of two functions of the same map, as "
            "x*sigmoid(x), not of two different maps"
        )


def _of_the_same(builder: Builder, node: Node) -> Unary | None:
    """The result if both inputs are functions of the same map."""
    both = []
    for k in (0, 1):
        found = builder.operand(node, k)
        if isinstance(found, Feature):
            found = unary_of(node, builder.feature(node, k))
        if not isinstance(found, Unary):
            return None
        both.append(found)
    first, second = both
    if first.source.layer != second.source.layer or not first.view.is_like(second.view):
        return None
    return first.then(node, lambda x: BINARY[node.op](x, second.results))


def _with_constant(builder: Builder, node: Node, k: int, constant: Array) -> Pending:
    """A map and a constant, which is the first operand if k is 1."""
    found = builder.operand(node, k)
    is_linear = node.op in {"Add", "Sub", "Mul"} or (node.op == "Div" and k == 0)
    is_product = isinstance(found, Products) and not found.is_clamped and found.skip is None
    if constant.size == 1 and not (is_linear and is_product):
        return _with_number(builder, node, k, np.asarray(constant.ravel()[0], np.float32))
    if not is_linear:
        raise OnnxError(
            f"{node}: constant {node.input(1 - k)!r} must be one number, not of shape "
            f"{constant.shape}; one per channel may be added or a factor"
        )
    if not is_product:
        found = builder.feature(node, k)
        refuse_scores(builder, node, found, node.input(1 - k))
    assert isinstance(found, Products | Feature)
    if constant.size > 1 and is_per_token(node, found.view, constant, node.input(1 - k)):
        return _with_tokens(builder, node, k)
    each = channel_values(node, found.view, constant, node.input(1 - k))
    factor, added = np.ones(len(each)), np.zeros(len(each))
    match node.op:
        case "Add":
            added = each
        case "Sub" if k == 0:
            added = -each
        case "Sub":
            factor, added = -factor, each
        case "Mul":
            factor = each
        case _:
            if not each.all():
                raise OnnxError(f"{node}: must not divide by 0")
            factor = 1 / each
    return _affine(node, found, factor, added)


def _with_number(builder: Builder, node: Node, k: int, number: Array) -> Pending:
    """A map and one number: a table, or the scale of a product that is not quantised yet."""
    found, function = builder.operand(node, k), BINARY[node.op]
    if isinstance(found, Product) and k == 0 and node.op in {"Mul", "Div"} and number > 0:
        return found.times(float(function(np.ones_like(number), number)))
    unary = _as_unary(builder, node, k)
    order = (lambda x: function(x, number)) if k == 0 else (lambda x: function(number, x))
    return unary.then(node, order)


def _with_tokens(builder: Builder, node: Node, k: int) -> Sum:
    """A map and a constant that has other numbers for each pixel."""
    if node.op == "Add" or (node.op == "Sub" and k == 0):
        return positions(builder, node, builder.feature(node, k), 1 - k)
    raise OnnxError(
        f"{node}: constant {node.input(1 - k)!r} must be one number, or one per channel, not one "
        "per token (rotary embeddings); only what is added may be"
    )


def _real_input(builder: Builder, node: Node, k: int = 0) -> Source | None:
    """The network's input, if that is what a node reads, as real numbers not yet quantised."""
    found = builder.value(node, k)
    return found if isinstance(found, Source) and not found.is_integer else None


def _on_the_host(builder: Builder, node: Node, source: Source, function: Function) -> None:
    """The input in real numbers, before it is quantised."""
    builder.notes.append(f"{node} is left to the host: it comes before the input is quantised")
    builder.values[node.result] = replace(source, steps=(*source.steps, function))


def _combined_on_the_host(
    builder: Builder, node: Node, k: int, source: Source, constant: Array
) -> None:
    """The input and a constant, which is the first operand if k is 1."""
    flat, function = _placed(node, source, constant, node.input(1 - k)), BINARY[node.op]
    order = (lambda x: function(x, flat)) if k == 0 else (lambda x: function(flat, x))
    _on_the_host(builder, node, source, order)


def _placed(node: Node, source: Source, constant: Array, what: str) -> Array:
    """A constant for each value of the input's flattened map."""
    view = source.view
    single = constant[0] if constant.ndim == len(view.dims) + 1 and len(constant) == 1 else constant
    try:
        full = np.broadcast_to(single, view.dims)
    except ValueError:
        raise OnnxError(
            f"{node}: constant {what!r} must fit the input, {view.dims}, "
            f"not have the shape {constant.shape}"
        ) from None
    flat = np.zeros(prod(view.shape), np.float32)
    flat[view.indices.ravel()] = full.ravel()
    return flat


def _affine(node: Node, found: Products | Feature, factor: Array, added: Array) -> Products:
    if isinstance(found, Feature):
        return diagonal(node, found, factor, added)
    return found.affine(factor, added)


def _as_unary(builder: Builder, node: Node, k: int) -> Unary:
    found = builder.operand(node, k)
    return found if isinstance(found, Unary) else unary_of(node, builder.feature(node, k))


def _sum(builder: Builder, node: Node) -> Pending:
    signs = (1, 1 if node.op == "Add" else -1)
    operands = [builder.operand(node, k) for k in (0, 1)]
    for k in (0, 1):
        products = operands[k]
        if isinstance(products, Products) and isinstance(operands[1 - k], Feature):
            other = builder.as_map(node, builder.feature(node, 1 - k))
            is_free = products.skip is None and not products.is_clamped and not products.is_dense
            if is_free and signs[1 - k] > 0 and products.view.is_like(other.view):
                factor = np.full(len(products.scale), float(signs[k]))
                return replace(products.affine(factor, 0 * factor), node=node, skip=other)
    first, second = builder.feature(node, 0), builder.feature(node, 1)
    if not first.view.is_like(second.view):
        first, second = builder.as_map(node, first), builder.as_map(node, second)
    if not first.view.is_like(second.view):
        raise OnnxError(
            f"{node}: both inputs must have the same shape, not {_shown(first)} and "
            f"{_shown(second)}"
        )
    return Sum(node, (first, second), signs, first.view)


def prelu(builder: Builder, node: Node) -> None:
    """One slope: a table; one per channel: the negative part times it, and the other one."""
    slope = builder.constant(node, 1)
    if slope is None:
        raise OnnxError(f"{node}: slope {node.input(1)!r} must be constant")
    if slope.size == 1:
        alpha = float(slope.ravel()[0])
        unary = _as_unary(builder, node, 0)
        builder.values[node.result] = unary.then(node, lambda x: np.where(x < 0, alpha * x, x))
        return
    source = builder.feature(node)
    each = channel_values(node, source.view, slope, node.input(1))
    values = source.grid.values
    parts = [
        builder.finish(Unary(node, source, part, source.view), source.grid)
        for part in (np.minimum(values, 0), np.maximum(values, 0))
    ]
    ones = np.ones(len(each), np.int64)
    scaled = diagonal(node, parts[0], each, np.zeros(len(each)), ones)
    builder.values[node.result] = replace(scaled, skip=parts[1])


def normalise(builder: Builder, node: Node) -> None:
    """BatchNormalization with constant moments: a factor and something added per channel."""
    node.require("training_mode", 0, default=0)
    source = _real_input(builder, node)
    found = source or builder.operand(node)
    if not isinstance(found, Source | Products) or (
        isinstance(found, Products) and (found.is_clamped or found.skip is not None)
    ):
        found = builder.feature(node)
    dims = found.view.dims
    moments = []
    for k in range(1, 5):
        array = builder.constant(node, k)
        if array is None or array.shape != dims[:1]:
            raise OnnxError(
                f"{node}: {node.input(k)!r} must be constant, one number for each of {dims[0]} "
                "channels"
            )
        moments.append(array.astype(np.float64).reshape(-1, *[1] * (len(dims) - 1)))
    scale, bias, mean, variance = moments
    variance = variance + node.number("epsilon", 1e-5)
    if not (variance > 0).all():
        raise OnnxError(f"{node}: variances must be positive")
    factor = scale / np.sqrt(variance)
    added = bias - mean * factor
    name = node.input(1)
    if isinstance(found, Source):
        times, plus = (_placed(node, found, each, name) for each in (factor, added))
        _on_the_host(builder, node, found, lambda x: x * times + plus)
        return
    each = [channel_values(node, found.view, part, name) for part in (factor, added)]
    builder.values[node.result] = _affine(node, found, *each)


def _shown(feature: Feature) -> str:
    return f"(N, {', '.join(map(str, feature.view.dims))})"
