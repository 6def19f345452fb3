"""How results that the model does not quantise at once may be quantised."""

from firmware_tools.onnx_import.constants import Constants, grid_of
from firmware_tools.onnx_import.folding import MOVING
from firmware_tools.onnx_import.nodes import Array, Graph
from firmware_tools.onnx_import.values import Average, Grid, Late, Pending, Unary
from firmware_tools.onnx_import.views import pixels

MONOTONE = {"Relu", "Clip", "MaxPool", "GlobalMaxPool", "ReduceMax"}
PASSING = MONOTONE | MOVING | {"Split", "Concat", "Identity", "Dropout", "Cast", "Pad"}
"""Operators before which results may be quantised as they are after them, and be the same."""


def next_grid(graph: Graph, constants: Constants, tensor: str) -> Grid | None:
    """How a tensor will be quantised, if that changes nothing in what is between."""
    found: set[Grid] = set()
    names, seen = [tensor], {tensor}
    while names:
        name = names.pop()
        if name == graph.output:
            return None
        for node in graph.readers(name):
            if node.op == "QuantizeLinear":
                found.add(grid_of(node, constants))
            elif node.op in PASSING:
                names += [result for result in node.outputs if result not in seen]
                seen.update(node.outputs)
            else:
                return None
    return found.pop() if len(found) == 1 else None


def own_grid(pending: Pending) -> Grid | None:
    """One that has all results, where their range is known."""
    if isinstance(pending, Unary):
        return _grid_for(pending.results)
    if isinstance(pending, Late):
        return pending.own
    if isinstance(pending, Average) and pending.factor * pixels(pending.source.view) <= 1:
        return pending.source.grid
    return None


def _grid_for(results: Array) -> Grid:
    low, high = min(float(results.min()), 0.0), max(float(results.max()), 0.0)
    scale = max((high - low) / 255, 1e-30)
    return Grid(scale, min(round(-low / scale), 255), 8, signed=False)
