"""Operators of constants, with which exporters work out shapes, and tools weights."""

from collections.abc import Callable
from functools import reduce
from math import prod
from typing import Any

import numpy as np

from firmware_tools.onnx_import import views
from firmware_tools.onnx_import.constants import FLOAT
from firmware_tools.onnx_import.nodes import Array, Node, OnnxError

LARGEST = 1 << 26
"""Values of a constant."""
MOVING = {
    "DepthToSpace",
    "Flatten",
    "Gather",
    "Reshape",
    "Slice",
    "SpaceToDepth",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
}
_CASTS = {
    1: np.float32,
    2: np.uint8,
    3: np.int8,
    6: np.int32,
    7: np.int64,
    9: np.bool_,
    11: np.float64,
}


def fold(node: Node, inputs: tuple[Array, ...]) -> Array:
    """What an operator makes of constants.

    Raises
    ------
    OnnxError
        They do not fit each other, or what it makes is too large.
    """
    if not inputs:
        raise OnnxError(f"{node}: must have an input")
    if node.op in MOVING:
        return views.move(node, inputs[0], inputs[1:])
    try:
        size = _SIZES.get(node.op, _together)(*inputs)
        if size > LARGEST:
            raise OnnxError(f"{node}: constants must have at most {LARGEST} values, not {size}")
        with np.errstate(all="ignore"):
            if node.op in _ARITHMETIC:
                return np.asarray(_ARITHMETIC[node.op](*inputs[:2]), inputs[0].dtype)
            return np.asarray(_OTHERS[node.op](node, *inputs))
    except (ArithmeticError, IndexError, TypeError, ValueError) as error:
        raise OnnxError(f"{node}: its constants do not fit each other ({error})") from None


def _together(*arrays: Array) -> int:
    """Values of what is worked out one by one."""
    return prod(np.broadcast_shapes(*(array.shape for array in arrays)))


def _steps(start: Array, end: Array, step: Array) -> float:
    return float((end.item() - start.item()) / step.item()) if step.item() else 0.0


_SIZES: dict[str, Callable[..., float]] = {
    "Clip": lambda first, *_: first.size,
    "Concat": lambda *arrays: sum(array.size for array in arrays),
    "ConstantOfShape": lambda shape: prod(shape.tolist()),
    "Expand": lambda first, shape: prod(np.broadcast_shapes(first.shape, tuple(shape.tolist()))),
    "Range": _steps,
    "ReduceProd": lambda first, *_: first.size,
    "Tile": lambda first, times: first.size * prod(times.tolist()),
}
"""Values of what is made, where it is not one for each of the inputs together."""


def _cast(node: Node, first: Array) -> Array:
    number = node.integer("to", FLOAT)
    if number not in _CASTS:
        raise OnnxError(f"{node}: to must be among {sorted(_CASTS)}, not {number}")
    return first.astype(_CASTS[number])


def _clip(node: Node, first: Array, *ends: Array) -> Array:
    """Between ends that are inputs, or attributes as before opset 11."""
    given = {name: end for name, end in zip(("min", "max"), node.inputs[1:], strict=False) if end}
    low, high = (
        dict(zip(given, ends, strict=True)).get(name, node.attributes.get(name))
        for name in ("min", "max")
    )
    return np.asarray(np.clip(first, low, high), first.dtype)


def _filled(node: Node, shape: Array) -> Array:
    import onnx.numpy_helper

    value = node.attributes.get("value")
    filling = np.zeros(1, np.float32) if value is None else onnx.numpy_helper.to_array(value)
    return np.full(shape.tolist(), filling.ravel()[0], filling.dtype)


def _divide(node: Node, first: Array, second: Array) -> Array:
    if first.dtype.kind not in "iu":
        return np.asarray(first / second, first.dtype)
    if not second.all():
        raise OnnxError(f"{node}: must not divide by 0")
    return np.asarray(first // second)


def _product(node: Node, first: Array, *axes: Array) -> Array:
    given = axes[0] if axes else node.attributes.get("axes")
    listed = None if given is None else tuple(views.integer_list(node, "axes", given))
    kept = bool(node.integer("keepdims", 1))
    return np.asarray(np.prod(first, axis=listed or None, keepdims=kept), first.dtype)


def _range(_: Node, start: Array, end: Array, step: Array) -> Array:
    numbers: Array = np.arange(start.item(), end.item(), step.item())
    return numbers.astype(start.dtype)


_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "Abs": np.abs,
    "Add": np.add,
    "Ceil": np.ceil,
    "Exp": np.exp,
    "Floor": np.floor,
    "Mod": np.mod,
    "Mul": np.multiply,
    "Neg": np.negative,
    "Pow": np.power,
    "Reciprocal": np.reciprocal,
    "Sqrt": np.sqrt,
    "Sub": np.subtract,
}
"""Operators whose results have the type of the first input."""
_OTHERS: dict[str, Callable[..., Any]] = {
    "Cast": _cast,
    "Clip": _clip,
    "Concat": lambda node, *arrays: np.concatenate(arrays, axis=node.integer("axis", 0)),
    "ConstantOfShape": _filled,
    "Div": _divide,
    "Equal": lambda _, first, second: np.equal(first, second),
    "Expand": lambda _, first, shape: np.broadcast_to(
        first, np.broadcast_shapes(first.shape, tuple(shape.tolist()))
    ),
    "Identity": lambda _, first: first,
    "Max": lambda _, *arrays: reduce(np.maximum, arrays),
    "Min": lambda _, *arrays: reduce(np.minimum, arrays),
    "Range": _range,
    "ReduceProd": _product,
    "Shape": lambda node, first: views.shape_part(node, first.shape),
    "Tile": lambda _, first, times: np.tile(first, times.tolist()),
    "Where": lambda _, condition, first, second: np.where(condition, first, second),
}
FOLDED = {*_ARITHMETIC, *_OTHERS, *MOVING}
"""Operators of constants that the importer works out."""
