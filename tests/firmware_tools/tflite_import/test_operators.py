"""Single operators, of graphs that are made here, by hand."""

from types import SimpleNamespace
from typing import Any

import flatbuffers
import numpy as np
import pytest
import tflite

from firmware_tools.imported import ModelImport
from firmware_tools.tflite_import import HANDLERS, TfliteError, load
from firmware_tools.tflite_import.graph import Graph, Operator, Tensor
from firmware_tools.tflite_import.lowering import Lowering
from model.mars import reference


def tensor(name: str, shape: tuple[int, ...], dtype: str = "INT8", data: Any = None) -> Tensor:
    return Tensor(name, shape, shape, dtype, np.array([0.05]), np.array([3]), 0, data)


def options(**values: int) -> Any:
    """Fields of an operator, which flatbuffers has as methods."""
    return SimpleNamespace(**{name: lambda value=value: value for name, value in values.items()})


def graph(op: str, fields: Any, *tensors: Tensor) -> Graph:
    """An operator that reads all tensors but the last, and writes that."""
    n = len(tensors) - 1
    one = Operator(0, op, tuple(range(n)), (n,), tensors[-1].name, fields)
    return Graph("one", tensors, (one,), 0, n)


def lowered(op: str, fields: Any, *tensors: Tensor) -> ModelImport:
    return Lowering(graph(op, fields, *tensors), wide=True).run(HANDLERS)


def results(model: ModelImport, inputs: Any) -> Any:
    values = reference.run(model.network, model.to_network(inputs))
    return model.from_network(values[model.network.output])


def test_blocks() -> None:
    """Four pixels as channels of one, and back."""
    size = options(BlockSize=2)
    flat = tensor("x", (1, 4, 6, 3)), tensor("y", (1, 2, 3, 12))
    x = np.random.default_rng(0).integers(-128, 128, (2, 4, 6, 3)).astype(np.int8)
    y = results(lowered("SPACE_TO_DEPTH", size, *flat), x)
    expected = x.reshape(2, 2, 2, 3, 2, 3).transpose(0, 1, 3, 2, 4, 5).reshape(2, 2, 3, 12)
    assert np.array_equal(y, expected)
    deep = tensor("z", (1, 2, 3, 12)), tensor("a", (1, 2, 3, 12)), tensor("b", (1, 4, 6, 3))
    relu = Operator(0, "RELU", (0,), (1,), "a", None)
    back = Operator(1, "DEPTH_TO_SPACE", (1,), (2,), "b", size)
    model = Lowering(Graph("two", deep, (relu, back), 0, 2), wide=True).run(HANDLERS)
    assert np.array_equal(results(model, expected), np.maximum(x, 3))


@pytest.mark.parametrize(
    ("op", "size", "text"),
    [
        ("SPACE_TO_DEPTH", 5, r"block size must divide \(4, 6\), not be 5"),
        ("SPACE_TO_DEPTH", 0, "block size must be at least 1, not 0"),
        ("DEPTH_TO_SPACE", 2, r"must divide the channels of \(1, 4, 6, 3\) twice, not be 2"),
    ],
)
def test_blocks_that_do_not_fit(op: str, size: int, text: str) -> None:
    with pytest.raises(TfliteError, match=rf"^operator 0 \({op}, 'y'\): .*{text}"):
        lowered(op, options(BlockSize=size), tensor("x", (1, 4, 6, 3)), tensor("y", (1, 1, 1, 1)))


def test_shuffled_weights() -> None:
    """A format of old converters in which the numbers are in another order."""
    fields = options(FusedActivationFunction=0, WeightsFormat=1)
    weight = tensor("w", (4, 16), data=np.ones((4, 16), np.int8))
    with pytest.raises(
        TfliteError, match=r"format of the weights must be 0 \(not shuffled\), not 1"
    ):
        lowered("FULLY_CONNECTED", fields, tensor("x", (1, 16)), weight, tensor("y", (1, 4)))


def test_weights_of_the_old_converter() -> None:
    fields = options(FusedActivationFunction=0, WeightsFormat=0)
    weight = tensor("w", (4, 16), "UINT8", np.ones((4, 16), np.uint8))
    with pytest.raises(TfliteError, match=r"not UINT8 \(the converter of TensorFlow 1; that of"):
        lowered("FULLY_CONNECTED", fields, tensor("x", (1, 16)), weight, tensor("y", (1, 4)))


def test_logarithm_of_nothing() -> None:
    """The least result, as the kernel has it."""
    x = np.arange(-128, 128, dtype=np.int8).reshape(1, 16, 16, 1)
    shape = (1, 16, 16, 1)
    y = results(lowered("LOG", None, tensor("x", shape), tensor("y", shape)), x).ravel()
    assert set(y[: 128 + 4].tolist()) == {-128}
    assert y[128 + 4] == round(np.log(0.05) / 0.05) + 3 == -57
    assert y[128 + 23] == 3


@pytest.mark.parametrize("shape", [(2, 3, 4, 6), (72,), (2, 72)])
def test_inputs_in_another_order(shape: tuple[int, ...]) -> None:
    """As many values are not enough."""
    model = lowered("RELU", None, tensor("x", (1, 4, 6, 3)), tensor("y", (1, 4, 6, 3)))
    with pytest.raises(ValueError, match=r"shape must be \(N, 4, 6, 3\), not \("):
        model.to_network(np.zeros(shape, np.int8))


def test_sparse_constants(tmp_path) -> None:
    builder = flatbuffers.Builder()
    name = builder.CreateString("w")
    data = builder.CreateByteVector(bytes(4))
    shape = builder.CreateNumpyVector(np.array([4], np.int32))
    tflite.SparsityParametersStart(builder)
    sparsity = tflite.SparsityParametersEnd(builder)
    tflite.TensorStart(builder)
    tflite.TensorAddName(builder, name)
    tflite.TensorAddShape(builder, shape)
    tflite.TensorAddType(builder, tflite.TensorType.INT8)
    tflite.TensorAddBuffer(builder, 1)
    tflite.TensorAddSparsity(builder, sparsity)
    tensors = _vector(builder, tflite.SubGraphStartTensorsVector, tflite.TensorEnd(builder))
    tflite.SubGraphStart(builder)
    tflite.SubGraphAddTensors(builder, tensors)
    graphs = _vector(builder, tflite.ModelStartSubgraphsVector, tflite.SubGraphEnd(builder))
    buffers = []
    for content in (None, data):
        tflite.BufferStart(builder)
        if content is not None:
            tflite.BufferAddData(builder, content)
        buffers.append(tflite.BufferEnd(builder))
    contents = _vector(builder, tflite.ModelStartBuffersVector, *buffers)
    tflite.ModelStart(builder)
    tflite.ModelAddVersion(builder, 3)
    tflite.ModelAddSubgraphs(builder, graphs)
    tflite.ModelAddBuffers(builder, contents)
    builder.Finish(tflite.ModelEnd(builder), file_identifier=b"TFL3")
    path = tmp_path / "sparse.tflite"
    path.write_bytes(bytes(builder.Output()))
    with pytest.raises(TfliteError, match="tensor 'w': sparse constants must be made dense"):
        load(path)


def _vector(builder: Any, start: Any, *parts: int) -> int:
    start(builder, len(parts))
    for part in reversed(parts):
        builder.PrependUOffsetTRelative(part)
    return int(builder.EndVector())
