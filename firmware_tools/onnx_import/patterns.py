"""Operators that exporters write in parts, or that stand for many."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from firmware_tools.onnx_import.nodes import Graph, Node
from firmware_tools.onnx_import.views import integer_list

PASSED = {"QuantizeLinear", "DequantizeLinear", "Identity", "Cast"}
"""What may be between the parts."""


PAIRS = {"Sum": "Add", "Max": "Max", "Min": "Min"}
"""Operators of any number of inputs, and those of two."""


def in_pairs(graph: Graph) -> Graph:
    """The same graph with operators of many inputs as some of two."""
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.op not in PAIRS:
            nodes.append(node)
            continue
        name, *others = node.inputs
        if not others:
            nodes.append(replace(node, op="Identity"))
        for k, other in enumerate(others, 1):
            result = node.result if k == len(others) else f"{node.name}:{k}"
            nodes.append(replace(node, op=PAIRS[node.op], inputs=(name, other), outputs=(result,)))
            name = result
    return replace(graph, nodes=tuple(nodes))


def fuse(graph: Graph) -> Graph:
    """The same graph with the parts (x - mean) / sqrt(variance + epsilon) as LayerNormalization.

    What the model rounds in between, the variance say, is not rounded.
    """
    makers = {name: node for node in graph.nodes for name in node.outputs}
    parts = _Parts(graph, makers)
    fused, dead = {}, set()
    for node in graph.nodes:
        found = parts.normalisation(node) if node.op == "Div" else None
        if found is not None:
            fused[node.result], used = found
            dead |= used
    if not fused:
        return graph
    nodes = [fused.get(node.result, node) for node in graph.nodes]
    while True:
        read = {name for node in nodes for name in node.inputs} | {graph.output}
        kept = [node for node in nodes if node.result not in dead or read & set(node.outputs)]
        if len(kept) == len(nodes):
            return replace(graph, nodes=tuple(kept))
        nodes = kept


@dataclass(frozen=True)
class _Parts:
    graph: Graph
    makers: Mapping[str, Node]

    def normalisation(self, last: Node) -> tuple[Node, set[str]] | None:
        """A node for a Div and what it reads, and the results that it does without."""
        used: set[str] = set()
        centred = self._back(last.input(0), "Sub", used)
        root = self._back(last.input(1), "Sqrt", used)
        shifted = root and self._back(root.input(0), "Add", used)
        if centred is None or shifted is None:
            return None
        numbers = [self._number(name) for name in shifted.inputs]
        places = [k for k, number in enumerate(numbers) if number is not None]
        if len(places) != 1:
            return None
        variance = self._back(shifted.input(1 - places[0]), "ReduceMean", used)
        mean = self._back(centred.input(1), "ReduceMean", used)
        if variance is None or mean is None or self._axes(mean) != self._axes(variance):
            return None
        axes = self._axes(mean)
        is_square = self._is_square(variance.input(0), centred, used)
        if len(axes) != 1 or mean.input(0) != centred.input(0) or not is_square:
            return None
        attributes = {"axis": axes[0], "epsilon": numbers[places[0]]}
        return Node(
            last.name, "LayerNormalization", mean.inputs[:1], last.outputs, attributes
        ), used

    def _back(self, name: str, op: str, used: set[str]) -> Node | None:
        """The operator that makes a tensor, whether it is quantised on the way or not."""
        node = self.makers.get(name)
        while node is not None and node.op in PASSED:
            used.add(node.result)
            node = self.makers.get(node.input(0))
        if node is None or node.op != op:
            return None
        used.add(node.result)
        return node

    def _is_square(self, name: str, centred: Node, used: set[str]) -> bool:
        """Whether a tensor is the square of a difference."""
        power = self._back(name, "Pow", used)
        if power is not None:
            is_two = self._number(power.input(1)) == 2
            return is_two and self._back(power.input(0), "Sub", used) == centred
        product = self._back(name, "Mul", used)
        return product is not None and all(
            self._back(factor, "Sub", used) == centred for factor in product.inputs
        )

    def _axes(self, node: Node) -> list[int]:
        given = self.graph.constants.get(node.input(1), node.attributes.get("axes"))
        return [] if given is None else integer_list(node, "axes", given)

    def _number(self, name: str) -> float | None:
        """A constant number, quantised or not."""
        constants = self.graph.constants
        node = self.makers.get(name)
        while node is not None and node.op in PASSED and self.makers.get(node.input(0)):
            node = self.makers[node.input(0)]
        if node is not None and node.op == "QuantizeLinear":
            name = node.input(0)
        if name in constants:
            arrays = [constants[name]]
        elif node is not None and node.op == "DequantizeLinear":
            arrays = [constants[part] for part in node.inputs if part in constants]
            if len(arrays) != len(node.inputs):
                return None
        else:
            return None
        if any(array.size != 1 or array.dtype.kind not in "fiu" for array in arrays):
            return None
        defaults = (np.array(1.0), np.array(0.0))
        value, scale, zero = (
            float(part.item()) for part in (*arrays, *defaults[len(arrays) - 1 :])
        )
        number = (value - zero) * scale
        return number if np.isfinite(number) else None
