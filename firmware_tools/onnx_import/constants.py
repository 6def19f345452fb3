"""Constants: scales and zero points, quantised weights."""

from collections.abc import Mapping

import numpy as np

from firmware_tools.onnx_import import views
from firmware_tools.onnx_import.nodes import Array, Node, OnnxError
from firmware_tools.onnx_import.values import TYPES, Grid, Tensor
from firmware_tools.requantization import Reals
from model.mars.network import Ints

FLOAT = 1
"""ONNX' number of float32."""
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
    found: Array = whole.astype(dtype)
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
    said = _said_type(node)
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
        return scale, np.zeros(scale.size, np.int64), said
    zero = constants[node.input(2)]
    dtype = str(zero.dtype)
    if dtype not in TYPES and zero.dtype.kind not in "iu":
        raise OnnxError(f"{node}: zero point must be an integer, not {dtype}")
    if said not in {"", dtype}:
        raise OnnxError(f"{node}: output_dtype must be that of the zero point, {dtype}, not {said}")
    if zero.size not in {1, scale.size} or not zero.size:
        raise OnnxError(f"{node}: zero points must be {scale.size}, not {zero.size}")
    return scale, np.broadcast_to(zero.astype(np.int64).ravel(), (scale.size,)), dtype


def _said_type(node: Node) -> str:
    """The type of a QuantizeLinear's results by its attribute, "" if that is left out."""
    from onnx import helper

    number = node.integer("output_dtype", 0) if node.op == "QuantizeLinear" else 0
    if not number:
        return ""
    try:
        return str(helper.tensor_dtype_to_np_dtype(number))
    except KeyError:
        raise OnnxError(f"{node}: output_dtype must be a type of ONNX, not {number}") from None


def _check_precision(node: Node, scale: Array) -> None:
    """Refuse arithmetic that is not in float32."""
    if scale.dtype != np.float32:
        raise OnnxError(f"{node}: scale must be float32, not {scale.dtype}")
    name = "precision" if node.op == "QuantizeLinear" else "output_dtype"
    if node.attributes.get(name, 0) and (node.op == "DequantizeLinear" or name == "precision"):
        node.require(name, FLOAT, default=0, text=f"{FLOAT} (float32)")
