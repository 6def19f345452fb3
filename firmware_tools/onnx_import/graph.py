"""ONNX files as plain Python: nodes in order, constants, one input, one output."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from firmware_tools.errors import UserError

if TYPE_CHECKING:
    import onnx

Array = NDArray[Any]

FIRST_OPSET, LAST_OPSET = 10, 28
"""The first with QuantizeLinear, and the newest whose definitions the importer follows."""
DOMAINS = {"", "ai.onnx", "com.microsoft"}
"""Of the operators that onnxruntime's quantiser writes."""


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
        Integers, floats, bytes, or lists of them.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    def __str__(self) -> str:
        return f"node {self.name!r} ({self.op})"

    def input(self, k: int) -> str:
        """Name of an input, "" if it is left out."""
        return self.inputs[k] if k < len(self.inputs) else ""

    def require(self, name: str, wanted: Any, *, default: Any, text: str = "") -> None:
        """Refuse an attribute that has another value."""
        value = self.attributes.get(name, default)
        if value != wanted:
            raise OnnxError(f"{self}: {name} must be {text or wanted}, not {value}")


@dataclass(frozen=True, eq=False)
class Graph:
    """A model.

    Parameters
    ----------
    name : str
    nodes : tuple of Node
        Each follows those that it reads.
    constants : {str: array}
        Initializers and Constant nodes.
    input, output : str
        Names of tensors.
    input_shape : tuple of int
        Without the batch.
    """

    name: str
    nodes: tuple[Node, ...]
    constants: Mapping[str, Array]
    input: str
    output: str
    input_shape: tuple[int, ...]

    def readers(self, tensor: str) -> tuple[Node, ...]:
        """The nodes that read a tensor, once for each time that they do."""
        return tuple(node for node in self.nodes for name in node.inputs if name == tensor)


def load(path: Path) -> Graph:
    """Read an ONNX file.

    Raises
    ------
    OnnxError
        It is damaged, or its graph has not one input and one output of fixed shapes.
    OSError
        It cannot be read.
    """
    graph = _model(path).graph
    constants = _constants(graph)
    inputs = [entry for entry in graph.input if entry.name not in constants]
    for what, entries in (("input", inputs), ("output", list(graph.output))):
        if len(entries) != 1:
            names = ", ".join(repr(entry.name) for entry in entries)
            raise OnnxError(f"the model must have one {what}, not {len(entries)}: {names}")
    return Graph(
        name=path.stem,
        nodes=_nodes(graph),
        constants=constants,
        input=inputs[0].name,
        output=graph.output[0].name,
        input_shape=_shape(inputs[0]),
    )


def _model(path: Path) -> "onnx.ModelProto":
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError:
        raise OnnxError("the package onnx must be installed: pip install 'kenyon[onnx]'") from None
    if path.is_dir():
        raise OnnxError("must be a file, not a folder")
    data = path.read_bytes()
    damaged = "must be an ONNX model, cut or damaged?"
    try:
        model = onnx.load_model_from_string(data)
        _check_opset(model)
        onnx.load_external_data_for_model(model, str(path.parent))
        onnx.checker.check_model(model)
    except DecodeError as error:
        raise OnnxError(f"{damaged} ({_line(error)})") from None
    except onnx.checker.ValidationError as error:
        raise OnnxError(f"{damaged} ({_line(error)})") from None
    except (ValueError, RuntimeError) as error:  # data in a second file that is not there or short
        raise OnnxError(f"{damaged} ({_line(error)})") from None
    return model


def _check_opset(model: "onnx.ModelProto") -> None:
    for opset in model.opset_import:
        is_core = opset.domain in {"", "ai.onnx"}
        if is_core and not FIRST_OPSET <= opset.version <= LAST_OPSET:
            raise OnnxError(f"opset must be {FIRST_OPSET}..{LAST_OPSET}, not {opset.version}")


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _constants(graph: "onnx.GraphProto") -> dict[str, Array]:
    from onnx import numpy_helper

    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            tensors[node.output[0]] = node.attribute[0].t
    found = {}
    for name, tensor in tensors.items():
        try:
            found[name] = np.asarray(numpy_helper.to_array(tensor))
        except (ValueError, TypeError) as error:
            raise OnnxError(f"constant {name!r} is damaged ({_line(error)})") from None
    return found


def _nodes(graph: "onnx.GraphProto") -> tuple[Node, ...]:
    from onnx import helper

    names = [node.name or node.output[0] for node in graph.node]
    times = Counter(names)
    nodes = []
    for node, name in zip(graph.node, names, strict=True):
        if node.op_type == "Constant":
            continue
        own = name if times[name] == 1 else f"{name}:{node.output[0]}"
        nodes.append(
            Node(
                own,
                node.op_type,
                tuple(node.input),
                tuple(node.output),
                {entry.name: helper.get_attribute_value(entry) for entry in node.attribute},
            )
        )
        if node.domain not in DOMAINS:
            raise OnnxError(f"{nodes[-1]}: domain must be that of ONNX, not {node.domain!r}")
    return tuple(nodes)


def _shape(entry: "onnx.ValueInfoProto") -> tuple[int, ...]:
    """The shape of the input without the batch, whose size is free."""
    kind = entry.type.tensor_type
    if not kind.HasField("shape"):
        raise OnnxError(f"input {entry.name!r}: must have a shape")
    dims = [dim.dim_value or dim.dim_param or "?" for dim in kind.shape.dim]
    shown = ", ".join(map(str, dims))
    if len(dims) not in {2, 4}:
        raise OnnxError(
            f"input {entry.name!r}: shape must be (N, C, H, W) or (N, C), not ({shown})"
        )
    if not all(isinstance(dim, int) and dim > 0 for dim in dims[1:]):
        raise OnnxError(
            f"input {entry.name!r}: shape must be fixed but for the batch, not ({shown})"
        )
    return tuple(int(dim) for dim in dims[1:])
