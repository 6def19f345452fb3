"""Where a model begins and ends: what the user gives and gets, and what is left to the host."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from firmware_tools.imported import Array, images_of
from firmware_tools.tflite_import.functions import reals, rescaled
from firmware_tools.tflite_import.graph import Graph, Operator, Tensor, TfliteError
from firmware_tools.tflite_import.moving import SHAPING
from firmware_tools.tflite_import.values import (
    RANGES,
    Grid,
    Shape,
    Value,
    check_size,
    grid_of,
    map_index,
)
from model.mars.network import INPUT, Ints

if TYPE_CHECKING:
    from firmware_tools.tflite_import.lowering import Handler, Lowering

TO_HOST = {"SOFTMAX", "LOG_SOFTMAX", "ARG_MAX"}
"""They do not change which result is the largest, and are left to the host."""
CONVERT = "convert it with a representative data set and TFLITE_BUILTINS_INT8"
WEIGHTED = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}
REALS = {"FLOAT32", "FLOAT16"}


def check_kind(graph: Graph) -> None:
    """Refuse models that are not quantised, in words."""
    if not graph.operators:
        raise TfliteError("the model must have at least one operator")
    for one in graph.operators:
        if one.op not in WEIGHTED or len(one.inputs) < 2 or min(one.inputs[:2]) < 0:
            continue
        source, weight = (graph.tensors[k] for k in one.inputs[:2])
        if source.dtype not in REALS:
            continue
        if weight.dtype in {"INT8", "UINT8", "INT4"}:
            raise TfliteError(
                f"{one}: the model must be full-integer, not hybrid: activations {source.name!r} "
                f"are {source.dtype}, weights {weight.dtype} (dynamic range); {CONVERT}"
            )
        raise TfliteError(
            f"{one}: the model must be full-integer, not a float model: activations "
            f"{source.name!r} are {source.dtype}; {CONVERT}"
        )


@dataclass(frozen=True, eq=False)
class Source:
    """The input.

    Parameters
    ----------
    tensor : int
        That which the network takes: the model's input, or what a QUANTIZE makes of it.
    value : Value
    grid : Grid
    taken : Tensor
        The model's input.
    """

    tensor: int
    value: Value
    grid: Grid
    taken: Tensor

    def to_network(self, inputs: Array) -> Ints:
        """Inputs as the model takes them, as (N, C, H, W)."""
        values, grid = images_of(np.asarray(inputs), self.taken.shape[1:]), self.grid
        if values.dtype.kind not in "iu" or self.taken.dtype in REALS:
            integers = _quantized(values, grid)
        else:
            integers = values.astype(np.int64)
            if self.taken.dtype != ("INT8" if grid.signed else "UINT8") or self.is_rescaled:
                integers = self._rescaled(integers)
        tensors = integers.reshape(-1, self.value.index.size)
        images = np.empty_like(tensors)
        images[:, self.value.index.reshape(-1)] = tensors
        return images.reshape(-1, *self.value.shape)

    @property
    def is_rescaled(self) -> bool:
        """Whether a QUANTIZE changes scale or zero point."""
        own = (float(self.taken.scale[0]), int(self.taken.zero[0]))
        return own != (self.grid.scale, self.grid.zero)

    def _rescaled(self, integers: Ints) -> Ints:
        low, high = RANGES[self.taken.dtype]
        own = Grid(float(self.taken.scale[0]), int(self.taken.zero[0]), low, high)
        if integers.size and not low <= integers.min() <= integers.max() <= high:
            raise ValueError(f"inputs must be {low}..{high}")
        return rescaled(own, self.grid)[integers - low]


def _quantized(values: Array, grid: Grid) -> Ints:
    """Real numbers on a grid: in float32, ties away from zero."""
    steps = (values.astype(np.float32) / np.float32(grid.scale)).astype(np.float64)
    nearest = np.copysign(np.floor(np.abs(steps) + 0.5), steps) + grid.zero
    result: Ints = np.clip(np.nan_to_num(nearest), grid.low, grid.high).astype(np.int64)
    return result


def input_of(graph: Graph) -> Source:
    """The input, as the map that the first operator sees that does not only shape."""
    number = graph.input
    taken = graph.tensors[number]
    signature = taken.signature
    if not 2 <= len(taken.shape) <= 5 or min(signature[1:], default=0) < 1:
        raise TfliteError(
            f"input {taken.name!r}: shape must be (1, ...) with fixed sizes but for the batch, "
            f"not {signature} (dynamic shapes cannot be mapped)"
        )
    readers = graph.readers(number)
    first = readers[0] if readers else graph.operators[0]
    if first.op == "QUANTIZE" and len(readers) == 1:
        number = first.outputs[0]
    grid = grid_of(first, graph.tensors[number])
    if taken.dtype in RANGES:
        grid_of(first, taken)
    elif taken.dtype not in REALS:
        raise TfliteError(f"input {taken.name!r} must be INT8, UINT8 or FLOAT32, not {taken.dtype}")
    check_size(f"input {taken.name!r}", taken.shape[1:])
    size = math.prod(taken.shape[1:])
    places = _shaped(graph, number, np.arange(size).reshape(taken.shape[1:]))
    shape = _map_shape(places.shape)
    index = np.empty(size, np.int64)
    index[places.reshape(-1)] = map_index(shape).reshape(-1)
    value = Value(INPUT, shape, index.reshape(taken.shape[1:]), grid)
    return Source(number, value, grid, taken)


def _shaped(graph: Graph, number: int, places: Ints) -> Ints:
    """Places of the input in the tensor behind operators that shape and alone read it."""
    while True:
        readers = graph.readers(number)
        if len(readers) != 1 or not readers[0].outputs:
            break
        one = readers[0]
        number = one.outputs[0]
        shape = graph.tensors[number].shape[1:]
        if one.op in SHAPING and math.prod(shape) == places.size and 1 <= len(shape) <= 3:
            places = places.reshape(shape)
        elif one.op == "TRANSPOSE" and len(one.inputs) > 1:
            order = graph.tensors[one.inputs[1]].data
            if order is None or sorted(order.tolist()) != list(range(places.ndim + 1)) or order[0]:
                break
            places = places.transpose([int(axis) - 1 for axis in order[1:]])
        else:
            break
    return places if places.ndim <= 3 else places.reshape(-1)


def _map_shape(shape: tuple[int, ...]) -> Shape:
    """Channels, rows and columns of a tensor (C,), (L, C) or (H, W, C)."""
    rows, columns = (*shape[:-1], 1, 1)[:2]
    return shape[-1], rows, columns


def giver(value: Value) -> Callable[[Ints], Array]:
    """What makes the model's output of the network's results."""
    grid, index = value.grid, value.index
    dtype = np.int8 if grid.signed else np.uint8

    def from_network(results: Ints) -> Array:
        flat = results.reshape(len(results), -1)[:, index.reshape(-1)].reshape(-1, *index.shape)
        return flat.astype(dtype) if value.meaning is None else value.meaning[flat - grid.low]

    return from_network


# Operators


def quantize(state: "Lowering", one: Operator) -> None:
    """QUANTIZE: done by the host at the end, by a table elsewhere."""
    source = state.raw(one)
    if state.ended is not None:
        state.values[one.outputs[0]] = source
        return
    grid = state.out_grid(one)
    if source.meaning is not None:
        table = _quantized(source.meaning, grid)
        state.values[one.outputs[0]] = state.table(one, source, table, grid)
        return
    source = state.value(one)
    if one.outputs[0] == state.graph.output and source.grid != grid:
        meaning = rescaled(source.grid, grid).astype(np.int8 if grid.signed else np.uint8)
        state.values[one.outputs[0]] = replace(source, meaning=meaning)
        return
    state.values[one.outputs[0]] = state.rescaled(one, source, grid)


def dequantize(state: "Lowering", one: Operator) -> None:
    """DEQUANTIZE: its real numbers are the model's output, or between functions."""
    source = state.raw(one)
    if state.ended is None:
        source = state.value(one)
        source = replace(source, meaning=reals(source.grid).astype(np.float32))
    state.values[one.outputs[0]] = source


def to_host(state: "Lowering", one: Operator) -> None:
    """What comes before has the same largest result."""
    state.values[one.outputs[0]] = state.resolved(one)
    state.ended = one
    state.report.append(f"{one} is left to the host: results are those before it")


HANDLERS: "dict[str, Handler]" = {
    "QUANTIZE": quantize,
    "DEQUANTIZE": dequantize,
    **dict.fromkeys(TO_HOST, to_host),
}
