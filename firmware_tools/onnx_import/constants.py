"""Constants: scales and zero points, quantised weights, and what is worked out while importing."""

from collections.abc import Callable, Mapping

import numpy as np

from firmware_tools.onnx_import import views
from firmware_tools.onnx_import.nodes import Array, Node, OnnxError
from firmware_tools.onnx_import.values import TYPES, Grid, Tensor
from firmware_tools.requantization import Reals
from model.mars.network import Ints

FLOAT = 1
"""ONNX' number of float32."""
FLOATS = (1, 10, 11)
"""Those of float32, float16 and float64."""
STATIC = "onnxruntime.quantization.quantize_static"

Constants = Mapping[str, Array]


def grid_of(node: Node, constants: Constants, dtype: str | None = None) -> Grid:
    """Scale, zero point and type of a QuantizeLinear or DequantizeLinear of activations.

    Parameters
    ----------
    node : Node
    constants : {str: array}
    dtype : str, optional
        The type, where the zero point does not tell.
    """
    scale, zero, own = _parameters(node, constants)
    dtype = own or dtype or "uint8"
    if dtype not in TYPES:
        raise OnnxError(f"{node}: activations must be int8 or uint8, not {dtype}")
    if scale.size != 1:
        raise OnnxError(
            f"{node}: activations must have one scale for the whole tensor, not {scale.size} "
            "(only weights may have one per channel)"
        )
    return Grid(float(scale.item()), int(zero.item()), *TYPES[dtype])


def quantized(node: Node, constants: Constants, values: Array) -> Array:
    """What a QuantizeLinear makes of a constant."""
    tensor = dequantized(node, constants, np.zeros(values.shape, np.int8))
    dtype = _parameters(node, constants)[2] or "uint8"
    if dtype not in TYPES:
        raise OnnxError(f"{node}: must quantise to int8 or uint8, not {dtype}")
    if values.dtype.kind != "f" or not np.isfinite(values).all():
        raise OnnxError(f"{node}: {node.input(0)!r} must be finite real numbers")
    shape = [1] * values.ndim
    if tensor.axis is not None:
        shape[tensor.axis] = -1
    scale = tensor.scale.astype(np.float32).reshape(shape)
    with np.errstate(over="ignore"):
        steps = np.rint(values.astype(np.float32) / scale) + tensor.zero.reshape(shape)
    bits, signed = TYPES[dtype]
    low = -(1 << (bits - 1)) if signed else 0
    whole = np.clip(steps, low, low + (1 << bits) - 1)
    found: Array = whole.astype(constants[node.input(2)].dtype if node.input(2) else np.uint8)
    return found


def dequantized(node: Node, constants: Constants, values: Array) -> Tensor:
    """A quantised constant, as a DequantizeLinear says what it stands for."""
    scale, zero, _ = _parameters(node, constants)
    node.require("block_size", 0, default=0, text="0 (no blocks)")
    dtype = str(values.dtype)
    if dtype not in TYPES and dtype not in {"int16", "uint16", "int32"}:
        raise OnnxError(f"{node}: constant {node.input(0)!r} must be integers, not {dtype}")
    if scale.size == 1:
        return Tensor(values.astype(np.int64), scale.ravel(), zero, None, dtype)
    axis = views.normal_axis(node, node.integer("axis", 1), max(values.ndim, 1))
    if values.ndim == 0 or scale.shape != (values.shape[axis],):
        raise OnnxError(
            f"{node}: scales must be one, or one per channel of axis {axis} of {values.shape}, "
            f"not {scale.shape}"
        )
    return Tensor(values.astype(np.int64), scale, zero, axis, dtype)


def _parameters(node: Node, constants: Constants) -> tuple[Reals, Ints, str]:
    """Scales, as many zero points, and the type of the integers, "" if it is not told."""
    for name in node.inputs[1:]:
        if name and name not in constants:
            raise OnnxError(
                f"{node}: scale and zero point must be constants, but {name!r} is computed "
                "(quantise with quantize_static, not quantize_dynamic)"
            )
    if not node.input(1):
        raise OnnxError(f"{node}: scale must be given")
    _check_precision(node, constants[node.input(1)])
    with np.errstate(invalid="ignore"):  # a signalling NaN
        scale: Reals = np.asarray(constants[node.input(1)], np.float64)
    bad = ~(np.isfinite(scale) & (scale > 0))
    if bad.any() or not scale.size:
        wrong = scale[bad].ravel()[0] if scale.size else "none"
        raise OnnxError(f"{node}: scale must be a positive number, not {wrong}")
    if not node.input(2):
        return scale, np.zeros(scale.size, np.int64), ""
    zero = constants[node.input(2)]
    dtype = str(zero.dtype)
    if dtype not in TYPES and zero.dtype.kind not in "iu":
        raise OnnxError(f"{node}: zero point must be an integer, not {dtype}")
    if zero.size not in {1, scale.size} or not zero.size:
        raise OnnxError(f"{node}: zero points must be {scale.size}, not {zero.size}")
    return scale, np.broadcast_to(zero.astype(np.int64).ravel(), (scale.size,)), dtype


def _check_precision(node: Node, scale: Array) -> None:
    """Refuse arithmetic that is not in float32."""
    if scale.dtype != np.float32:
        raise OnnxError(f"{node}: scale must be float32, not {scale.dtype}")
    name = "precision" if node.op == "QuantizeLinear" else "output_dtype"
    if node.attributes.get(name, 0) and (node.op == "DequantizeLinear" or name == "precision"):
        node.require(name, FLOAT, default=0, text=f"{FLOAT} (float32)")


_ARITHMETIC: dict[str, Callable[..., Array]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Neg": np.negative,
    "Sqrt": np.sqrt,
    "Reciprocal": np.reciprocal,
    "Pow": np.power,
    "Exp": np.exp,
}
_FILLING: dict[str, Callable[..., Array]] = {
    "ConstantOfShape": lambda node, shape: np.full(
        shape.tolist(), _filling(node).ravel()[0], _filling(node).dtype
    ),
    "Equal": lambda _, first, second: np.equal(first, second),
    "Expand": lambda _, first, shape: np.broadcast_to(
        first, np.broadcast_shapes(first.shape, tuple(shape.tolist()))
    ),
    "Where": lambda _, condition, first, second: np.asarray(np.where(condition, first, second)),
}
"""Operators with which exporters work out shapes."""
MOVING = {"Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Gather", "Slice"}
FOLDED = {
    *_ARITHMETIC,
    *MOVING,
    "Div",
    "Cast",
    "Concat",
    "Identity",
    *_FILLING,
}
"""Operators of constants that the importer works out."""
_CASTS = {1: np.float32, 2: np.uint8, 3: np.int8, 6: np.int32, 7: np.int64, 11: np.float64}


def fold(node: Node, inputs: tuple[Array, ...]) -> Array:
    """What an operator makes of constants."""
    if not inputs:
        raise OnnxError(f"{node}: must have an input")
    first, others = inputs[0], inputs[1:]
    if node.op in MOVING:
        return views.move(node, first, others)
    try:
        if node.op in _FILLING:
            return _FILLING[node.op](node, *inputs)
        return _computed(node, first, others, inputs)
    except (ValueError, TypeError) as error:
        raise OnnxError(f"{node}: its constants do not fit each other ({error})") from None


def _filling(node: Node) -> Array:
    """What a ConstantOfShape fills with."""
    import onnx.numpy_helper

    value = node.attributes.get("value")
    return np.zeros(1, np.float32) if value is None else onnx.numpy_helper.to_array(value)


def _computed(
    node: Node, first: Array, others: tuple[Array, ...], inputs: tuple[Array, ...]
) -> Array:
    if node.op == "Identity":
        return first
    if node.op == "Concat":
        return np.concatenate(inputs, axis=node.integer("axis", 0))
    if node.op == "Cast":
        number = node.integer("to", FLOAT)
        if number not in _CASTS:
            raise OnnxError(f"{node}: to must be among {sorted(_CASTS)}, not {number}")
        with np.errstate(all="ignore"):
            return first.astype(_CASTS[number])
    with np.errstate(all="ignore"):
        if node.op == "Div":
            if first.dtype.kind in "iu":
                if not others[0].all():
                    raise OnnxError(f"{node}: must not divide by 0")
                return np.asarray(first // others[0])
            return np.asarray(first / others[0], first.dtype)
        return np.asarray(_ARITHMETIC[node.op](*inputs[:2]), first.dtype)
