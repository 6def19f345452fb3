"""A TensorFlow Lite graph as a network of the accelerator."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from firmware_tools.imported import Array, ModelImport
from firmware_tools.tflite_import import ends, moving
from firmware_tools.tflite_import.folding import fold
from firmware_tools.tflite_import.functions import rescaled
from firmware_tools.tflite_import.graph import Graph, Operator, Tensor, TfliteError
from firmware_tools.tflite_import.values import (
    Grid,
    Shape,
    Value,
    View,
    check_size,
    cut_of,
    grid_of,
    three_axes,
)
from model.mars.network import (
    INPUT,
    Conv,
    FeatureType,
    Ints,
    Layer,
    Lookup,
    NetworkError,
    QuantizedNetwork,
    Select,
    output_type,
    references,
)

UNIT = 14
"""A multiplier of 2^14 and this shift change nothing."""
Handler = Callable[["Lowering", Operator], None]


class Lowering:
    """A graph on its way to a network; handlers of operators append layers and set values.

    Parameters
    ----------
    graph : Graph
    wide : bool
        31-bit multipliers.

    Members
    -------
    values : {int: Value}
        What tensors are.
    constants : {int: array}
        Tensors that do not depend on the input.
    ended : Operator or None
        The softmax that is left to the host.
    """

    def __init__(self, graph: Graph, *, wide: bool) -> None:
        self.graph = graph
        self.wide = wide
        self.layers: list[Layer] = []
        self.scales: dict[str, float] = {}
        self.values: dict[int, Value] = {}
        self.report: list[str] = []
        self.constants, self.folded = fold(graph)
        self.ended: Operator | None = None

    def run(self, handlers: dict[str, Handler]) -> ModelImport:
        """Translate operator by operator."""
        ends.check_kind(self.graph)
        source = ends.input_of(self.graph)
        self.scales[INPUT] = source.grid.scale
        self.values[source.tensor] = source.value
        for one in self.graph.operators:
            if one.number in self.folded or (one.outputs and one.outputs[0] in self.values):
                continue
            if one.op not in handlers:
                known = ", ".join(sorted(handlers))
                raise TfliteError(f"{one} is not supported: operators must be among {known}")
            if self.ended is not None and one.op not in ends.HANDLERS:
                raise TfliteError(f"{one} must not follow {self.ended}, which is left to the host")
            handlers[one.op](self, one)
        if self.graph.output not in self.values:
            name = self.graph.tensors[self.graph.output].name
            raise TfliteError(f"output {name!r} must depend on the input")
        result = self.values[self.graph.output]
        if result.margins:
            result = moving.padded(self, self.graph.operators[-1], result)
        network = self._network(source, result)
        return ModelImport(network, source.to_network, ends.giver(result), tuple(self.report))

    def _network(self, source: ends.Source, result: Value) -> QuantizedNetwork:
        needed = {result.layer}
        for layer in reversed(self.layers):
            if layer.name in needed:
                needed.update(references(layer).values())
        layers = [layer for layer in self.layers if layer.name in needed]
        if not layers:
            raise TfliteError("the model must have a layer between input and output")
        kind = FeatureType(source.value.shape, 8, source.grid.signed)
        scales = {name: scale for name, scale in self.scales.items() if name in needed}
        try:
            return QuantizedNetwork(kind, tuple(layers), self.graph.name, scales)
        except NetworkError as error:
            raise TfliteError(str(error)) from None

    # What operators read

    def tensor(self, one: Operator, k: int) -> Tensor | None:
        """An input tensor, or None if it is left out."""
        if k >= len(one.inputs) or one.inputs[k] < 0:
            return None
        return self.graph.tensors[one.inputs[k]]

    def out_tensor(self, one: Operator) -> Tensor:
        """The first output."""
        return self.graph.tensors[one.outputs[0]]

    def out_grid(self, one: Operator) -> Grid:
        """Scale and zero point of the first output."""
        return grid_of(one, self.out_tensor(one))

    def constant(self, one: Operator, k: int) -> Array:
        """A constant input."""
        if k >= len(one.inputs) or one.inputs[k] not in self.constants:
            raise TfliteError(f"{one}: input {k} must be constant")
        return self.constants[one.inputs[k]]

    def is_value(self, one: Operator, k: int) -> bool:
        """Whether an input depends on the model's."""
        return k < len(one.inputs) and one.inputs[k] in self.values

    def raw(self, one: Operator, k: int = 0) -> Value:
        """What an operator reads, with what a PAD or SPACE_TO_BATCH_ND has left to do."""
        if not self.is_value(one, k):
            raise TfliteError(f"{one}: input {k} must depend on the model's input, not be constant")
        return self.values[one.inputs[k]]

    def resolved(self, one: Operator, k: int = 0) -> Value:
        """What an operator reads, nothing left to do."""
        value = self.raw(one, k)
        if value.blocks:
            raise TfliteError(
                f"{one}: a SPACE_TO_BATCH_ND must be followed by a convolution and "
                "BATCH_TO_SPACE_ND, which are a dilated convolution"
            )
        return moving.padded(self, one, value) if value.margins else value

    def value(self, one: Operator, k: int = 0) -> Value:
        """What an operator reads: integers, nothing left to do."""
        value = self.resolved(one, k)
        if value.meaning is not None:
            raise TfliteError(
                f"{one}: input {k} must be integers, not what a DEQUANTIZE made of them"
            )
        return value

    def map(self, one: Operator, k: int = 0, *, padded: bool = False) -> View:
        """A map that an operator reads; what is only a part of one is cut out first.

        With `padded` the operator does what a PAD has left to do, and the blocks.
        """
        value = self.raw(one, k)
        if not padded or value.meaning is not None:
            value = self.value(one, k)
        return self.view(one, value)

    def view(self, one: Operator, value: Value) -> View:
        """A value as a map; raises if it is none."""
        found = three_axes(value)
        for turned in (False, True):
            cut = None if found is None else cut_of(found, turned=turned)
            if found is None or cut is None:
                continue
            if not cut.is_whole(value.shape):
                found = moving.cut_out(self, one, found, cut, turned=turned)
            if found.margins and any(found.margins[2]):
                return self.view(one, moving.padded(self, one, found))
            (top, bottom), (left, right), _ = found.margins or ((0, 0),) * 3
            rows, columns, _ = found.blocks or (1, 1, 1)
            sides = (top, left, bottom, right)
            return View(found.layer, found.shape, found.grid, turned, sides, (rows, columns))
        raise TfliteError(
            f"{one}: its input must be a map (1, rows, columns, channels) or a part of one, not "
            f"values in another order, of shape {(1, *value.index.shape)}"
        )

    # What operators write

    def name(self, one: Operator) -> str:
        """A name for a layer: that of its tensor without folders, or its operator."""
        short = one.name.split(";")[-1].split("/")[-1]
        base = short if short.isprintable() and short not in {"", INPUT} else one.op.lower()
        taken = {layer.name for layer in self.layers}
        names = [base, *(f"{base}_{k}" for k in range(2, len(taken) + 3))]
        return next(name for name in names if name not in taken)

    def append(self, one: Operator, make: Callable[..., Layer], grid: Grid, **fields: Any) -> Layer:
        """A new layer; what the network refuses is said with the operator."""
        try:
            layer = make(name=self.name(one), **fields)
        except NetworkError as error:
            raise TfliteError(f"{one}: {error}") from None
        self.layers.append(layer)
        self.scales[layer.name] = grid.scale
        return layer

    def set(self, one: Operator, value: Value) -> None:
        """The first output is this value, in the shape that the file gives it.

        Where sizes depend on that of the batch the file's are not to be relied on.
        """
        tensor = self.out_tensor(one)
        is_free = -1 in tensor.signature and math.prod(tensor.shape) != value.index.size
        shape = (1, *value.index.shape) if is_free else tensor.shape
        self.values[one.outputs[0]] = self.shaped(one, value, shape)

    def set_map(self, one: Operator, layer: Layer, view: View, shape: Shape, grid: Grid) -> None:
        """The first output is the map that a layer writes."""
        self.set(one, Value(layer.name, shape, view.index(shape), grid))

    def shaped(self, one: Operator, value: Value, shape: tuple[int, ...]) -> Value:
        """A value in another shape, with a batch in front or without."""
        own = shape[1:] if shape[:1] == self.graph.tensors[self.graph.input].shape[:1] else shape
        if math.prod(own) != value.index.size and math.prod(shape[1:]) == value.index.size:
            own = shape[1:]
        if math.prod(own) != value.index.size or min(own, default=1) < 1:
            raise TfliteError(
                f"{one}: shape must keep the batch and have the {value.index.size} values of one "
                f"image, not be {shape}"
            )
        return replace(value, index=value.index.reshape(own))

    def shape_of(self, one: Operator, layer: Layer, view: View) -> Shape:
        """Channels, rows, columns that a layer writes."""
        kind = FeatureType(view.shape, 8, view.grid.signed)
        try:
            shape = output_type(layer, dict.fromkeys(references(layer).values(), kind)).shape
        except NetworkError as error:
            raise TfliteError(f"{one}: {error}") from None
        check_size(one, shape)
        return shape

    def note(self, one: Operator, n_different: int, n: int, what: str) -> None:
        """Say what is not exact although it should be."""
        if self.wide and n_different:
            self.report.append(
                f"{one}: {n_different} of {n} {what} differ by a step from TensorFlow Lite's"
            )

    # Layers that only move

    def copied(self, one: Operator, view: View, weight: Ints, **fields: Any) -> Layer:
        """A convolution that copies values."""
        n = len(weight)
        return self.append(
            one,
            Conv,
            view.grid,
            input=view.layer,
            weight=weight,
            **{"bias": np.zeros(n, np.int64), **fields},
            mult=np.full(n, 1 << UNIT),
            shift=np.full(n, UNIT),
            weight_bits=2,
            out_bits=8,
            out_signed=view.grid.signed,
        )

    def table(self, one: Operator, value: Value, table: Ints, grid: Grid) -> Value:
        """A value through a table, whose integers are those of its grid."""
        layer = self.append(
            one, Lookup, grid, input=value.layer, table=table, out_bits=8, out_signed=grid.signed
        )
        return value.like(layer.name, grid)

    def rescaled(self, one: Operator, value: Value, grid: Grid) -> Value:
        """The same real numbers with another scale and zero point."""
        if value.grid == grid:
            return value
        return self.table(one, value, rescaled(value.grid, grid), grid)

    def select(self, one: Operator, names: list[str], channels: tuple[int, ...], grid: Grid) -> str:
        """A layer that takes channels."""
        return self.append(one, Select, grid, inputs=tuple(names), channels=channels).name
