"""A graph as a network of the accelerator: every operator is translated by its handler."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from firmware_tools.onnx_import import elementwise, moving, pools, rows, tokens
from firmware_tools.onnx_import.builder import Builder
from firmware_tools.onnx_import.constants import STATIC
from firmware_tools.onnx_import.convolutions import conv, gemm, matmul
from firmware_tools.onnx_import.folding import FOLDED, MOVING, fold
from firmware_tools.onnx_import.nodes import Array, Graph, Node, OnnxError
from firmware_tools.onnx_import.patterns import fuse, in_pairs
from firmware_tools.onnx_import.qoperators import to_qdq
from firmware_tools.onnx_import.values import Dropped, Feature, Grid, Source, Step
from firmware_tools.onnx_import.views import View
from model.mars.network import INPUT, NetworkError, QuantizedNetwork, references

DYNAMIC = f"the model must be quantised with {STATIC}, not quantize_dynamic"
GROWING = "maps do not grow on the chip; it must be left to the host"
NORMALISING = "the chip takes no statistics of its inputs; it must be a BatchNormalization"
MASKING = "scores must not be masked: attention is of all tokens"
RECURRENT = "nothing is fed back in a network of MARS; it must be a Conv, or left to the host"
ADVICE = {
    "ConvTranspose": "nothing of the chip scatters; it must be a Conv, or left to the host",
    **dict.fromkeys(("ConvInteger", "DynamicQuantizeLinear", "MatMulInteger"), DYNAMIC),
    **dict.fromkeys(("Resize", "Upsample"), GROWING),
    **dict.fromkeys(("GroupNormalization", "InstanceNormalization", "LRN"), NORMALISING),
    **dict.fromkeys(("GRU", "LSTM", "RNN"), RECURRENT),
    "RotaryEmbedding": "features must not be turned by token (rotary embeddings)",
    **dict.fromkeys(("Trilu", "Where"), MASKING),
}


@dataclass(frozen=True, eq=False)
class Lowered:
    """A network, and what its integers and those of the model are.

    Parameters
    ----------
    network : QuantizedNetwork
    grids : {str: Grid}
        By layer, and "input".
    errors : {str: float}
        By layer: bound of what multipliers and biases change before rounding, in output steps.
    input, output : View
        Of the ONNX tensors in the network's maps.
    steps : tuple of Step
        What the host does with the input before it is quantised.
    input_is_integer, output_is_integer : bool
        Whether the ONNX tensors are.
    tensor : str
        The output's ONNX tensor, which is before a final Softmax.
    notes : tuple of str
    """

    network: QuantizedNetwork
    grids: dict[str, Grid]
    errors: dict[str, float]
    input: View
    output: View
    steps: tuple[Step, ...]
    input_is_integer: bool
    output_is_integer: bool
    tensor: str
    notes: tuple[str, ...]


def lower(graph: Graph, *, wide: bool = False) -> Lowered:
    """Translate a graph.

    Raises
    ------
    OnnxError
        The graph has something that the accelerator or this importer has not.
    """
    graph = fuse(in_pairs(to_qdq(graph)))
    _check_operators(graph)
    builder = Builder(graph, wide, _input_view(graph))
    for node in graph.nodes:
        inputs = _constants(builder, node)
        if inputs:
            builder.constants[node.result] = fold(node, inputs)
        elif node.op in HANDLERS:
            HANDLERS[node.op](builder, node)
        else:
            raise _not_supported(node)
    return _finished(builder)


def _constants(builder: Builder, node: Node) -> tuple[Array, ...]:
    """All that a node reads if it can be worked out now, or nothing."""
    if node.op not in FOLDED:
        return ()
    names = [name for name in node.inputs if name]
    if all(name in builder.constants for name in names):
        return tuple(builder.constants[name] for name in names)
    if node.op in {*MOVING, "Identity"} or not all(builder.is_constant(name) for name in names):
        return ()
    return tuple(
        builder.tensors[name].real.astype(np.float32)
        if name in builder.tensors
        else builder.constants[name]
        for name in names
    )


def _check_operators(graph: Graph) -> None:
    """Refuse what no input would make right, before what it stands among."""
    unknown = [node for node in graph.nodes if node.op not in HANDLERS and node.op not in FOLDED]
    if unknown:
        raise _not_supported(min(unknown, key=lambda node: node.op not in ADVICE))


def _not_supported(node: Node) -> OnnxError:
    operators = ", ".join(sorted(HANDLERS))
    advice = ADVICE.get(node.op, f"operators must be among {operators}")
    return OnnxError(f"{node} is not supported: {advice}")


def _finished(builder: Builder) -> Lowered:
    graph, name = builder.graph, builder.graph.output
    found = builder.values.get(name)
    notes = list(builder.notes)
    while isinstance(found, Dropped):
        notes.append(f"{found.node} is left out: the network's results are what it reads")
        name = found.tensor
        found = builder.values[name]
    if found is None or isinstance(found, Source):
        raise OnnxError(f"output {name!r} must depend on the input, quantised")
    output = found if isinstance(found, Feature) else builder.raw(found)
    output = builder.padded(Node(name, "Pad", (), ()), output)
    if not output.view.batch:
        raise OnnxError(
            f"output {name!r} must have the batch as its first axis, not {output.view.dims}"
        )
    builder.grids[output.layer] = output.grid
    return Lowered(
        network=_network(builder, output.layer),
        grids=builder.grids,
        errors=builder.errors,
        input=builder.view,
        output=output.view,
        steps=builder.steps or (),
        input_is_integer=graph.input_type != "float32",
        output_is_integer=name in builder.integers or name in graph.real_of,
        tensor=graph.real_of.get(name, name),
        notes=tuple(notes),
    )


def _network(builder: Builder, output: str) -> QuantizedNetwork:
    """The layers on which the output depends."""
    needed = {output}
    for layer in reversed(builder.layers):
        if layer.name in needed:
            needed.update(references(layer).values())
    kept = [layer for layer in builder.layers if layer.name in needed]
    if not kept or INPUT not in needed:
        raise OnnxError(f"output {builder.graph.output!r} must be that of a layer")
    kept.sort(key=lambda layer: layer.name == output)  # it may be read by nobody else
    scales = {name: grid.scale for name, grid in builder.grids.items() if name in needed}
    try:
        return QuantizedNetwork(builder.types[INPUT], tuple(kept), builder.graph.name, scales)
    except NetworkError as error:
        raise OnnxError(str(error)) from None


def _input_view(graph: Graph) -> View:
    """The input in a map that has the axes of the first operator that does not move them."""
    dims = graph.input_shape
    view, tensor = View((1, 1, 1), dims), graph.input
    indices = view.indices
    while True:
        readers = graph.readers(tensor)
        if len(readers) != 1:
            break
        node = readers[0]
        if node.op in {"Transpose", "Flatten", "Reshape", "Squeeze", "Unsqueeze"}:
            others = node.inputs[1:]
            if any(name not in graph.constants for name in others):
                break
            view = view.with_batch(node, *(graph.constants[name] for name in others))
            if len(view.dims) > 3 or not view.dims:
                break
            indices = view.indices
        elif node.op not in {
            "QuantizeLinear",
            "DequantizeLinear",
            "Identity",
            "Cast",
            "BatchNormalization",
            *elementwise.FUNCTIONS,
            *elementwise.BINARY,
        }:
            break
        tensor = node.result
    is_matmul = all((node.op, node.input(0)) == ("MatMul", tensor) for node in readers)
    if indices.ndim > 1 and (is_matmul or _are_tokens(graph)):
        indices = np.moveaxis(indices, -1, 0)  # it multiplies the last axis: the channels
    if indices.ndim > 3:
        raise OnnxError(
            f"input {graph.input!r}: shape must be (N, C, H, W), (N, C, L) or (N, C), not "
            f"(N, {', '.join(map(str, dims))})"
        )
    channels, *sides = indices.shape
    rows, columns = ([1, 1, *sides])[-2:]
    shape = (channels, rows, columns)
    places = indices.ravel().argsort().reshape(dims)
    return View(shape, ()).moved(places)


def _are_tokens(graph: Graph) -> bool:
    """Whether the input is (N, T, C): the first operators that need channels have the last axis."""
    names, seen = [graph.input], {graph.input}
    passing = MOVING | {"QuantizeLinear", "DequantizeLinear", "Identity", "Cast", "Shape"}
    passing |= {"BatchNormalization", *elementwise.FUNCTIONS, *elementwise.BINARY}
    found = set()
    while names:
        tensor = names.pop()
        for node in graph.readers(tensor):
            if node.op == "MatMul" and node.input(0) != tensor:
                continue
            if node.op in passing:
                names += [name for name in node.outputs if name not in seen]
                seen.update(node.outputs)
            else:
                found.add(node.op)
    return bool(found & {"MatMul", "LayerNormalization"}) and not found & {"Conv", "Gemm"}


Handler = Callable[[Builder, Node], None]
HANDLERS: dict[str, Handler] = {
    "QuantizeLinear": moving.quantize,
    "DequantizeLinear": moving.dequantize,
    "Cast": moving.cast,
    "Conv": conv,
    "Gemm": gemm,
    "MatMul": matmul,
    "BatchNormalization": elementwise.normalise,
    "PRelu": elementwise.prelu,
    "MaxPool": pools.max_pool,
    "AveragePool": pools.average_pool,
    "Concat": tokens.concat,
    "LayerNormalization": rows.normalise,
    "Softmax": rows.softmax,
    "Split": moving.split,
    "Pad": moving.pad,
    "Shape": moving.shape,
    **dict.fromkeys(("Relu", "Clip"), elementwise.clamp),
    **dict.fromkeys(elementwise.FUNCTIONS, elementwise.unary),
    **dict.fromkeys(elementwise.BINARY, elementwise.binary),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool"), pools.global_pool),
    **dict.fromkeys(("ReduceMean", "ReduceSum", "ReduceMax"), pools.reduce),
    **dict.fromkeys(MOVING, moving.move),
    **dict.fromkeys(("Identity", "Dropout"), moving.identity),
    **dict.fromkeys(("LogSoftmax", "ArgMax"), moving.drop),
}
