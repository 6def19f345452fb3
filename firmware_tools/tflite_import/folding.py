"""Operators on constants, which exporters leave for shapes that depend on the batch only."""

from collections.abc import Callable, Sequence

import numpy as np

from firmware_tools.tflite_import.graph import Array, Graph, Operator

LARGEST = 64
"""Values of a folded constant; shapes are shorter."""


def fold(graph: Graph) -> tuple[dict[int, Array], set[int]]:
    """Constants by tensor, with those that operators make of constants and shapes.

    Returns
    -------
    constants : {int: array}
    done : set of int
        Numbers of the operators that are folded.
    """
    constants = {k: one.data for k, one in enumerate(graph.tensors) if one.data is not None}
    done = set()
    for one in graph.operators:
        if one.op == "SHAPE":
            constants[one.outputs[0]] = np.array(graph.tensors[one.inputs[0]].shape)
        elif one.op in FOLDED and one.inputs and all(k in constants for k in one.inputs):
            values = [constants[k] for k in one.inputs]
            if not all(_is_short(value) for value in values):
                continue
            constants[one.outputs[0]] = FOLDED[one.op](one, values)
        else:
            continue
        done.add(one.number)
    return constants, done


def _is_short(value: Array) -> bool:
    return value.dtype in (np.int32, np.int64) and value.size <= LARGEST


def slices(one: Operator, values: Sequence[Array], shape: Sequence[int]) -> tuple[slice | int, ...]:
    """What a STRIDED_SLICE takes of each axis; `values` are its begin, end and strides."""
    options = one.options
    begin, end, step = (value.reshape(-1).tolist() for value in values)
    if options is None or options.EllipsisMask() or options.NewAxisMask():
        raise ValueError("a slice must have neither an ellipsis nor new axes")
    taken: list[slice | int] = []
    for k in range(min(len(begin), len(shape))):
        if options.ShrinkAxisMask() >> k & 1:
            taken.append(begin[k])
            continue
        low = None if options.BeginMask() >> k & 1 else begin[k]
        high = None if options.EndMask() >> k & 1 else end[k]
        if getattr(options, "Offset", lambda: False)() and low is not None and high is not None:
            high += low
        taken.append(slice(low, high, step[k]))
    return tuple(taken)


def _strided_slice(one: Operator, values: list[Array]) -> Array:
    return np.asarray(values[0][slices(one, values[1:], values[0].shape)])


def _slice(_: Operator, values: list[Array]) -> Array:
    begin, size = (value.reshape(-1).tolist() for value in values[1:])
    ends = [b + n if n >= 0 else None for b, n in zip(begin, size, strict=True)]
    return values[0][tuple(slice(b, e) for b, e in zip(begin, ends, strict=True))]


def _pack(one: Operator, values: list[Array]) -> Array:
    return np.stack(values, axis=one.options.Axis())


def _concatenation(one: Operator, values: list[Array]) -> Array:
    return np.concatenate(values, axis=one.options.Axis())


def _gather(one: Operator, values: list[Array]) -> Array:
    return np.take(values[0], values[1], axis=one.options.Axis())


def _product(_: Operator, values: list[Array]) -> Array:
    return np.asarray(np.prod(values[0], axis=tuple(values[1].reshape(-1).tolist())))


FOLDED: dict[str, Callable[[Operator, list[Array]], Array]] = {
    "STRIDED_SLICE": _strided_slice,
    "SLICE": _slice,
    "PACK": _pack,
    "CONCATENATION": _concatenation,
    "GATHER": _gather,
    "REDUCE_PROD": _product,
    "CAST": lambda _, values: values[0],
    "MUL": lambda _, values: values[0] * values[1],
    "ADD": lambda _, values: values[0] + values[1],
    "SUB": lambda _, values: values[0] - values[1],
    "RESHAPE": lambda _, values: values[0].reshape(values[1].reshape(-1).tolist()),
    "EXPAND_DIMS": lambda _, values: np.expand_dims(values[0], int(values[1].reshape(-1)[0])),
    "SQUEEZE": lambda _, values: np.squeeze(values[0]),
}
