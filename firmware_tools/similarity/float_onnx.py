"""ONNX networks of real numbers, as onnxruntime computes them."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_tools.errors import UserError
from firmware_tools.similarity.features import Subject

Array = NDArray[Any]
SUFFIX = ".onnx"


def is_float(path: Path) -> bool:
    """Whether a file is an ONNX model in which nothing is quantised."""
    if path.suffix != SUFFIX or not path.is_file():
        return False
    try:
        import onnx
        from google.protobuf.message import DecodeError

        nodes = onnx.load(path, load_external_data=False).graph.node
    except (ImportError, DecodeError):
        return False  # whoever imports quantised models says so
    return not any("Quantize" in node.op_type or "QLinear" in node.op_type for node in nodes)


ACTIVATIONS = {"Relu", "Clip", "BatchNormalization", "LeakyRelu", "PRelu", "HardSwish", "Sigmoid"}
"""Behind a layer they belong to it, as in a quantised network."""
MOVES = {"Constant", "Dropout", "Flatten", "Identity", "Reshape", "Shape", "Squeeze", "Transpose"}
"""Have the features of what they read, or none."""


def tensors_of(graph: Any) -> dict[str, str]:
    """By layer, named by its node: the tensor that has its results, activations included."""
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    taken: set[str] = set()
    result: dict[str, str] = {}
    for number, node in enumerate(graph.node):
        if node.op_type in MOVES or node.output[0] in taken:
            continue
        tensor = node.output[0]
        while len(after := readers.get(tensor, [])) == 1 and after[0].op_type in ACTIVATIONS:
            tensor = after[0].output[0]
            taken.add(tensor)
        result[node.name or f"{node.op_type}_{number}"] = tensor
    return result


def load(path: Path, images: Path) -> Subject:
    """A network of real numbers with its inputs.

    Parameters
    ----------
    path : Path
        An ONNX model of one input.
    images : Path
        An .npy file of inputs as the model takes them, (N, ...).

    Raises
    ------
    UserError
        onnxruntime is not there, or does not take the model or the inputs.
    """
    try:
        import onnx
        import onnxruntime
    except ImportError:
        raise UserError(
            f"{path}: the package onnxruntime must be installed for a network that is not "
            "quantised: pip install onnxruntime"
        ) from None
    from model.mars import network_file

    if images.suffix != ".npy":
        raise UserError(f"{images}: input must end in .npy")
    model = onnx.load(path)
    tensors = tensors_of(model.graph)
    known = {entry.name for entry in model.graph.output}
    wanted = [name for name in tensors.values() if name not in known]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except (RuntimeError, ValueError, NotImplementedError) as error:
        raise UserError(
            f"{path}: must be a model that onnxruntime takes ({_line(error)})"
        ) from None
    (entry, *others) = session.get_inputs()
    batch, *shape = entry.shape
    if others or not all(isinstance(size, int) for size in shape):
        raise UserError(f"{path}: model must have one input of a fixed shape")
    inputs = network_file.load_array(images)
    if inputs.shape[1:] != tuple(shape):
        text = ", ".join(map(str, shape))
        raise UserError(f"{images}: shape must be (N, {text}), not {inputs.shape}")

    def run(some: Array) -> dict[str, Array]:
        n = len(some)
        size = batch if isinstance(batch, int) else n
        # The model's batch may not divide ours: the last image fills it up.
        filled = some[np.arange(-(-n // size) * size).clip(max=n - 1)]
        parts = [
            session.run(list(tensors.values()), {entry.name: filled[k : k + size]})
            for k in range(0, len(filled), size)
        ]
        values = [np.concatenate(found) for found in zip(*parts, strict=True)]
        return {
            name: value[:n]
            for name, value in zip(tensors, values, strict=True)
            if value.ndim > 1 and len(value) == len(filled) and value.dtype.kind == "f"
        }

    return Subject(inputs.astype(np.float32), lambda some, _first: run(some), {})


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
