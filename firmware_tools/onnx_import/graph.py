"""Reads ONNX files."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from firmware_tools.onnx_import.nodes import Array, Graph, Node, OnnxError

if TYPE_CHECKING:
    import onnx

FIRST_OPSET, LAST_OPSET = 10, 28
"""The first with QuantizeLinear, and the newest whose definitions the importer follows."""
CHANNELS_OPSET = 13
"""The first whose integers may have a scale per channel."""
DOMAINS = {"", "ai.onnx", "com.microsoft"}
"""Of the operators that onnxruntime's quantiser writes."""
FORM = "QuantizeLinear and DequantizeLinear (QDQ; of Brevitas QCDQ), before any optimisation"
INPUT_TYPES = ("float32", "int8", "uint8")
MAX_SIZE = 1 << 26
"""Values of an input."""
DAMAGED = "must be an ONNX model, cut or damaged?"


def load(path: Path) -> Graph:
    """Read an ONNX file.

    Raises
    ------
    OnnxError
        It is damaged, or its graph has not one input and one output of fixed shapes.
    OSError
        It cannot be read.
    """
    model = _model(path)
    graph = model.graph
    constants = _constants(graph)
    inputs = [entry for entry in graph.input if entry.name not in constants]
    for what, entries in (("input", inputs), ("output", list(graph.output))):
        if len(entries) != 1:
            names = ", ".join(repr(entry.name) for entry in entries) or "none"
            raise OnnxError(f"the model must have one {what}, not {len(entries)}: {names}")
    batch, *shape = _shape(inputs[0])
    return Graph(
        name=path.stem,
        opset=_opset(model),
        nodes=_nodes(graph),
        constants=constants,
        input=inputs[0].name,
        output=graph.output[0].name,
        input_type=_input_type(inputs[0]),
        input_shape=tuple(shape),
        batch=batch,
    )


def _model(path: Path) -> "onnx.ModelProto":
    try:
        import onnx
        from google.protobuf.message import DecodeError
        from onnx import inliner
    except ImportError:
        raise OnnxError("the package onnx must be installed: pip install 'kenyon[onnx]'") from None
    if path.is_dir():
        raise OnnxError("must be a file, not a folder")
    data = path.read_bytes()
    try:
        model = onnx.load_model_from_string(data)
        _check_axes(model)
        if model.functions:
            model = inliner.inline_local_functions(model)
        for tensor in _tensors(model.graph):
            _take_external_data(tensor, path.parent)
        for entry in model.graph.output:  # onnxruntime wants no shapes there, the checker does
            entry.type.tensor_type.shape.SetInParent()
        onnx.checker.check_model(model)
        _check_words(model.graph)
    except (DecodeError, onnx.checker.ValidationError) as error:
        raise OnnxError(f"{DAMAGED} ({_line(error)})") from None
    except (ValueError, RuntimeError) as error:  # what protobuf and the checker raise besides
        raise OnnxError(f"{DAMAGED} ({_line(error)})") from None
    return model


def _check_axes(model: "onnx.ModelProto") -> None:
    """Refuse scales per channel in opsets that have none, of which quantisers only warn."""
    opset = _opset(model)
    for node in model.graph.node if opset < CHANNELS_OPSET else ():
        if node.op_type in {"QuantizeLinear", "DequantizeLinear"} and node.attribute:
            raise OnnxError(
                f"node {node.name!r} ({node.op_type}): {node.attribute[0].name} must be left out "
                f"in opset {opset}: scales per channel need {CHANNELS_OPSET} or more"
            )


def _check_words(graph: "onnx.GraphProto") -> None:
    """Refuse names that are no text, which protobuf hands over as bytes."""
    for node in graph.node:
        for word in (node.name, node.op_type, node.domain, *node.input, *node.output):
            if not isinstance(word, str):
                raise OnnxError(f"{DAMAGED} (a name is no text: {word!r})")


def _opset(model: "onnx.ModelProto") -> int:
    versions = [entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"}]
    for version in versions:
        if not FIRST_OPSET <= version <= LAST_OPSET:
            raise OnnxError(f"opset must be {FIRST_OPSET}..{LAST_OPSET}, not {version}")
    return versions[0] if versions else LAST_OPSET


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _tensors(graph: "onnx.GraphProto") -> Iterator["onnx.TensorProto"]:
    yield from graph.initializer
    for node in graph.node:
        for entry in node.attribute:
            if entry.HasField("t"):
                yield entry.t
            yield from entry.tensors
            for inner in (entry.g, *entry.graphs):
                yield from _tensors(inner)


def _take_external_data(tensor: "onnx.TensorProto", folder: Path) -> None:
    """Read what a tensor has in another file, which must be in the model's folder."""
    from onnx import TensorProto

    if tensor.data_location != TensorProto.EXTERNAL:
        return
    place = f"constant {tensor.name!r}"
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    home = folder.resolve()
    if not location or "\0" in location or not (home / location).resolve().is_relative_to(home):
        raise OnnxError(
            f"{place}: its data must be in a file in the model's folder, not in {location!r}"
        )
    numbers = [entries.get(key, "0") for key in ("offset", "length")]
    if not all(number.isascii() and number.isdigit() and len(number) < 16 for number in numbers):
        raise OnnxError(f"{place}: offset and length must be numbers, not {', '.join(numbers)}")
    offset, length = map(int, numbers)
    path = home / location
    if not path.is_file():
        raise OnnxError(f"{place}: its data must be in {location!r}, which is no file")
    size = path.stat().st_size
    length = length or max(size - offset, 0)
    if offset + length > size:
        raise OnnxError(
            f"{place}: {location!r} must have {offset + length} bytes, not {size}: cut?"
        )
    with path.open("rb") as file:
        file.seek(offset)
        tensor.raw_data = file.read(length)
    del tensor.external_data[:]
    tensor.data_location = TensorProto.DEFAULT


def _constants(graph: "onnx.GraphProto") -> dict[str, Array]:
    found = {tensor.name: _array(tensor.name, tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type != "Constant":
            continue
        name = node.output[0]
        entry = node.attribute[0]
        if entry.name == "value":
            found[name] = _array(name, entry.t)
        elif entry.name in {"value_float", "value_floats"}:
            value = entry.f if entry.name == "value_float" else list(entry.floats)
            found[name] = np.array(value, np.float32)
        elif entry.name in {"value_int", "value_ints"}:
            found[name] = np.array(entry.i if entry.name == "value_int" else list(entry.ints))
        else:
            raise OnnxError(f"constant {name!r} must be numbers, not {entry.name}")
    return found


def _array(name: str, tensor: "onnx.TensorProto") -> Array:
    from onnx import numpy_helper

    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except (ValueError, TypeError, KeyError, NotImplementedError) as error:
        raise OnnxError(f"constant {name!r} is damaged ({_line(error)})") from None


def _nodes(graph: "onnx.GraphProto") -> tuple[Node, ...]:
    names = [node.name or (node.output[0] if node.output else "") for node in graph.node]
    times = Counter(names)
    nodes = []
    for node, name in zip(graph.node, names, strict=True):
        if node.op_type == "Constant":
            continue
        outputs = tuple(node.output)
        if not outputs or not outputs[0]:
            raise OnnxError(f"node {name!r} ({node.op_type}): must have a first output")
        own = name if times[name] == 1 else f"{name}:{outputs[0]}"
        attributes = {entry.name: _attribute(entry) for entry in node.attribute}
        nodes.append(Node(own, node.op_type, tuple(node.input), outputs, attributes))
        if node.domain not in DOMAINS:
            raise OnnxError(
                f"{nodes[-1]}: domain must be that of ONNX, not {node.domain!r}; the model must be "
                f"exported with {FORM}"
            )
    return tuple(nodes)


def _attribute(entry: "onnx.AttributeProto") -> Any:
    from onnx import helper

    try:
        return helper.get_attribute_value(entry)
    except ValueError as error:
        raise OnnxError(f"{DAMAGED} (attribute {entry.name!r}: {_line(error)})") from None


def _input_type(entry: "onnx.ValueInfoProto") -> str:
    from onnx import helper

    number = entry.type.tensor_type.elem_type
    try:
        name = str(helper.tensor_dtype_to_np_dtype(number))
    except KeyError:
        name = str(number)
    if name not in INPUT_TYPES:
        wanted = ", ".join(INPUT_TYPES)
        raise OnnxError(f"input {entry.name!r}: type must be among {wanted}, not {name}")
    return name


def _shape(entry: "onnx.ValueInfoProto") -> tuple[int, ...]:
    """The shape of the input, batch first; 1 if it is free."""
    kind = entry.type.tensor_type
    if not kind.HasField("shape"):
        raise OnnxError(f"input {entry.name!r}: must have a shape")
    dims = [dim.dim_value or dim.dim_param or "?" for dim in kind.shape.dim]
    shown = ", ".join(map(str, dims))
    if not 2 <= len(dims) <= 5:
        raise OnnxError(
            f"input {entry.name!r}: shape must be (N, C, H, W), (N, C, L) or (N, C), not ({shown})"
        )
    if not all(isinstance(dim, int) and dim > 0 for dim in dims[1:]):
        raise OnnxError(
            f"input {entry.name!r}: shape must be fixed but for the batch, not ({shown})"
        )
    sizes = [int(dim) for dim in dims[1:]]
    size = 1
    for side in sizes:
        size *= side
    if size > MAX_SIZE:
        raise OnnxError(f"input {entry.name!r}: must have at most {MAX_SIZE} values, not {size}")
    batch = dims[0] if isinstance(dims[0], int) and dims[0] > 0 else 1
    return (batch, *sizes)
