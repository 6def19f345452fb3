"""ONNX graphs as plain Python: nodes in order, constants, one input, one output."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_tools.errors import UserError

Array = NDArray[Any]


class OnnxError(UserError):
    """The model cannot be imported; the text names the node and what would be right."""


@dataclass(frozen=True, eq=False)
class Node:
    """An operator.

    Parameters
    ----------
    name, op : str
        A node without a name is called like its first output.
    inputs, outputs : tuple of str
        Names of tensors; an optional one that is left out is "".
    attributes : {str: value}
        Integers, floats, bytes, arrays, or lists of them.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"node {self.name!r} ({self.op})"

    def part(self, what: str) -> "Node":
        """A node for a layer before its own."""
        return replace(self, name=f"{self.name}.{what}")

    @property
    def result(self) -> str:
        """Name of the first output."""
        return self.outputs[0]

    def input(self, k: int) -> str:
        """Name of an input, "" if it is left out."""
        return self.inputs[k] if k < len(self.inputs) else ""

    def integer(self, name: str, default: int) -> int:
        """An attribute that is an integer."""
        value = self.attributes.get(name, default)
        if not isinstance(value, int):
            raise OnnxError(f"{self}: {name} must be an integer, not {value!r}")
        return value

    def number(self, name: str, default: float) -> float:
        """An attribute that is a finite number."""
        value = self.attributes.get(name, default)
        if not isinstance(value, int | float) or not np.isfinite(value):
            raise OnnxError(f"{self}: {name} must be a finite number, not {value!r}")
        return float(value)

    def integers(self, name: str, default: Sequence[int], *, least: int = 0) -> list[int]:
        """An attribute that is a list of as many integers as the default has."""
        value = self.attributes.get(name, list(default))
        good = isinstance(value, list) and all(isinstance(entry, int) for entry in value)
        if not good or len(value) != len(default) or min(value, default=least) < least:
            raise OnnxError(
                f"{self}: {name} must be {len(default)} integers of at least {least}, not {value!r}"
            )
        return list(value)

    def text(self, name: str, default: str) -> str:
        """An attribute that is a word."""
        value = self.attributes.get(name, default.encode())
        return value.decode(errors="replace") if isinstance(value, bytes) else repr(value)

    def require(self, name: str, wanted: Any, *, default: Any, text: str = "") -> None:
        """Refuse an attribute that has another value."""
        value = self.attributes.get(name, default)
        if value != wanted:
            shown = value.decode(errors="replace") if isinstance(value, bytes) else value
            raise OnnxError(f"{self}: {name} must be {text or wanted}, not {shown}")


@dataclass(frozen=True, eq=False)
class Graph:
    """A model.

    Parameters
    ----------
    name : str
    opset : int
    nodes : tuple of Node
        Each follows those that it reads.
    constants : {str: array}
        Initializers and Constant nodes.
    input, output : str
        Names of tensors.
    input_type : str
        "float32", or that of integers.
    input_shape : tuple of int
        Without the batch.
    batch : int
        1 if it is free.
    real_of : {str: str}
        Tensors that are not in the file: what they are the real numbers of.
    """

    name: str
    opset: int
    nodes: tuple[Node, ...]
    constants: Mapping[str, Array]
    input: str
    output: str
    input_type: str
    input_shape: tuple[int, ...]
    batch: int = 1
    real_of: Mapping[str, str] = field(default_factory=dict)

    def readers(self, tensor: str) -> tuple[Node, ...]:
        """The nodes that read a tensor, once for each time that they do."""
        return tuple(node for node in self.nodes for name in node.inputs if name == tensor)
