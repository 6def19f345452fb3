"""Compares an imported network with TensorFlow Lite's reference kernels."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from firmware_tools.imported import Array, ModelImport
from firmware_tools.onnx_import.check import Agreement
from firmware_tools.tflite_import.ends import HANDLERS, TO_HOST
from firmware_tools.tflite_import.graph import Graph, TfliteError
from firmware_tools.tflite_import.graph import load as load_graph
from model.mars import reference


def compare(path: Path, imported: ModelImport, inputs: Array) -> Agreement:
    """Run both.

    Parameters
    ----------
    path : Path
        The model.
    imported : ModelImport
        What was made of it.
    inputs : (N, ...) array
        As the model takes them.

    Raises
    ------
    TfliteError
        The package ai-edge-litert is not installed, or the kernels refuse the model.
    """
    wanted = run_reference_kernels(path, inputs)
    network = imported.network
    results = reference.run(network, imported.to_network(inputs))[network.output]
    found = imported.from_network(results)
    step = network.scales[network.output] if found.dtype.kind == "f" else 1.0
    pair = [one.reshape(len(results), -1).astype(np.float64) for one in (found, wanted)]
    difference = np.rint(np.abs(pair[0] - pair[1]) / step)
    return Agreement(
        images=len(results),
        outputs=difference.size,
        top1_equal=float((pair[0].argmax(axis=1) == pair[1].argmax(axis=1)).mean()),
        equal=float((difference == 0).mean()),
        within_one=float((difference <= 1).mean()),
        within_two=float((difference <= 2).mean()),
        largest=int(difference.max()),
    )


def run_reference_kernels(path: Path, inputs: Array) -> Array:
    """What TensorFlow Lite's reference kernels compute, before a softmax that ends the model."""
    graph = load_graph(path)
    try:
        litert: Any = importlib.import_module("ai_edge_litert.interpreter")
    except ImportError:
        raise TfliteError(
            "the package ai-edge-litert must be installed: pip install ai-edge-litert"
        ) from None
    try:
        interpreter = litert.Interpreter(
            model_path=str(path),
            num_threads=1,
            experimental_op_resolver_type=litert.OpResolverType.BUILTIN_REF,
            experimental_preserve_all_tensors=True,
        )
        interpreter.allocate_tensors()
        (source,) = interpreter.get_input_details()
        kind, shape = source["dtype"], source["shape"]
        if kind != np.float32 and inputs.dtype.kind == "f":
            scale, zero = source["quantization"]
            ends = np.iinfo(kind)
            inputs = np.clip(np.rint(inputs / np.float32(scale)) + zero, ends.min, ends.max)
        results = []
        for one in inputs.reshape(-1, *shape).astype(kind):
            interpreter.set_tensor(source["index"], one)
            interpreter.invoke()
            results.append(np.array(interpreter.get_tensor(_before_end(graph))))
    except (ValueError, RuntimeError) as error:
        line = " ".join(str(error).split())
        raise TfliteError(f"{path}: the reference kernels cannot run the model: {line}") from None
    return np.concatenate(results)


def _before_end(graph: Graph) -> int:
    """The tensor before a softmax that ends the model, or its output."""
    found = number = graph.output
    makers = {one.outputs[0]: one for one in graph.operators if one.outputs}
    while (one := makers.get(number)) is not None and one.op in HANDLERS:
        number = one.inputs[0]
        if one.op in TO_HOST:
            found = number
    return found
