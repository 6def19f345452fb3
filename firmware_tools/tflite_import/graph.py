"""TensorFlow Lite files as plain Python: operators in order, tensors, one input, one output."""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_tools.errors import UserError

Array = NDArray[Any]

IDENTIFIER = b"TFL3"
VERSION = 3
DAMAGED = (
    struct.error,
    IndexError,
    ValueError,
    TypeError,
    OverflowError,
    AttributeError,
    MemoryError,
    KeyError,
    RecursionError,
)
"""What flatbuffers and numpy raise when offsets lead nowhere."""
DTYPES = {
    "INT8": "i1",
    "UINT8": "u1",
    "BOOL": "u1",
    "INT16": "<i2",
    "FLOAT16": "<f2",
    "INT32": "<i4",
    "FLOAT32": "<f4",
    "INT64": "<i8",
}
"""Of constants of whole bytes."""


class TfliteError(UserError):
    """The model cannot be imported; the text names the operator and what would be right."""


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor.

    Parameters
    ----------
    name : str
    shape : tuple of int
    signature : tuple of int
        The shape with -1 for sizes that may change.
    dtype : str
        As the schema calls it: INT8, FLOAT32 ...
    scale, zero : array
        Empty if it is not quantised; one number, or one for each index of `axis`.
    axis : int
    data : array or None
        A constant.
    """

    name: str
    shape: tuple[int, ...]
    signature: tuple[int, ...]
    dtype: str
    scale: NDArray[np.float64]
    zero: NDArray[np.int64]
    axis: int
    data: Array | None


@dataclass(frozen=True, eq=False)
class Operator:
    """An operator; `inputs` and `outputs` are numbers of tensors, -1 one that is left out."""

    number: int
    op: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    name: str
    options: Any

    def __str__(self) -> str:
        return f"operator {self.number} ({self.op}, {self.name!r})"


@dataclass(frozen=True, eq=False)
class Graph:
    """A model with one subgraph."""

    name: str
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    input: int
    output: int

    def readers(self, tensor: int) -> list[Operator]:
        """The operators that read the values of a tensor."""
        return [one for one in self.operators if tensor in one.inputs and one.op != "SHAPE"]


def load(path: Path) -> Graph:
    """Read a file.

    Raises
    ------
    TfliteError
        It is damaged, or no model that could be read.
    OSError
        It cannot be read.
    """
    try:
        import tflite
    except ImportError:
        raise TfliteError(
            "the package tflite must be installed: pip install 'kenyon[tflite]'"
        ) from None
    if path.is_dir():
        raise TfliteError("must be a file, not a folder")
    data = path.read_bytes()
    if data[4:8] != IDENTIFIER:
        raise TfliteError(
            f"must be a TensorFlow Lite model, whose bytes 4 to 7 are {IDENTIFIER.decode()}, "
            f"not {data[4:8]!r}"
        )
    try:
        return _Reader(tflite, data, path.stem).graph()
    except DAMAGED as error:
        detail = (str(error) or type(error).__name__).splitlines()[0]
        raise TfliteError(f"must be a whole model: cut or damaged? ({detail})") from None


class _Reader:
    def __init__(self, tflite: Any, data: bytes, name: str) -> None:
        self.tflite = tflite
        self.data = data
        self.name = name
        self.types = _names(tflite.TensorType)
        self.operators = _names(tflite.BuiltinOperator)
        self.model = tflite.Model.GetRootAs(data, 0)

    def graph(self) -> Graph:
        if self.model.Version() != VERSION:
            raise TfliteError(f"version must be {VERSION}, not {self.model.Version()}")
        n_graphs = self.model.SubgraphsLength()
        if n_graphs != 1:
            raise TfliteError(f"the model must have one subgraph, not {n_graphs}")
        self._check_buffers()
        graph = self.model.Subgraphs(0)
        tensors = tuple(self._tensor(graph.Tensors(k)) for k in self._range(graph.TensorsLength()))
        operators = tuple(
            self._operator(k, graph.Operators(k), tensors)
            for k in self._range(graph.OperatorsLength())
        )
        ends = _numbers(graph.InputsAsNumpy()), _numbers(graph.OutputsAsNumpy())
        used = [n for one in operators for n in (*one.inputs, *one.outputs)]
        if not all(-1 <= n < len(tensors) for n in (*used, *ends[0], *ends[1])):
            raise IndexError("the number of a tensor is too large")
        for what, numbers in zip(("input", "output"), ends, strict=True):
            if len(numbers) != 1:
                names = ", ".join(repr(tensors[number].name) for number in numbers)
                raise TfliteError(f"the model must have one {what}, not {len(numbers)}: {names}")
        return Graph(self.name, tensors, operators, ends[0][0], ends[1][0])

    def _check_buffers(self) -> None:
        """Data of all buffers are in the file, used or not: a cut file is noticed."""
        for k in self._range(self.model.BuffersLength()):
            self._bytes(k)

    def _bytes(self, k: int) -> Array:
        """Data of a buffer; those of models above 2 GB stand behind the flatbuffer."""
        buffer = self.model.Buffers(k)
        start, size = buffer.Offset(), buffer.Size()
        if start > 1:
            if start + size > len(self.data):
                raise ValueError(f"buffer {k} ends behind the file")
            return np.frombuffer(self.data, np.uint8, size, start)
        if not buffer.DataLength():
            return np.zeros(0, np.uint8)
        return np.asarray(buffer.DataAsNumpy(), np.uint8)

    def _range(self, length: int) -> Iterator[int]:
        """Numbers of parts; a vector cannot be longer than the file."""
        if not 0 <= length <= len(self.data):
            raise ValueError(f"a vector of {length} parts")
        return iter(range(length))

    def _tensor(self, tensor: Any) -> Tensor:
        dtype = self.types.get(tensor.Type(), f"type {tensor.Type()}")
        shape = _numbers(tensor.ShapeAsNumpy())
        signature = _numbers(tensor.ShapeSignatureAsNumpy()) or shape
        name = (tensor.Name() or b"").decode("utf-8", "replace")
        quantization = tensor.Quantization()
        scale, zero, axis = np.zeros(0), np.zeros(0, np.int64), 0
        if quantization is not None and quantization.ScaleLength():
            scale = np.asarray(quantization.ScaleAsNumpy(), np.float64)
            zero = np.zeros(len(scale), np.int64)
            if quantization.ZeroPointLength():
                zero = np.asarray(quantization.ZeroPointAsNumpy(), np.int64)
            axis = quantization.QuantizedDimension()
        constant = self._constant(tensor, dtype, shape)
        return Tensor(name, shape, signature, dtype, scale, zero, axis, constant)

    def _constant(self, tensor: Any, dtype: str, shape: tuple[int, ...]) -> Array | None:
        if not 0 < tensor.Buffer() < self.model.BuffersLength():
            return None
        data = self._bytes(tensor.Buffer())
        if not data.size:
            return None
        if tensor.Sparsity() is not None:
            name = (tensor.Name() or b"").decode("utf-8", "replace")
            raise TfliteError(f"tensor {name!r}: sparse constants must be made dense")
        if dtype == "INT4":
            nibbles = np.stack([data & 0xF, data >> 4], axis=-1).reshape(-1).astype(np.int8)
            nibbles = (nibbles ^ 8) - 8
            return nibbles[: math.prod(shape)].reshape(shape)
        if dtype not in DTYPES:
            return None
        return np.frombuffer(data.tobytes(), DTYPES[dtype]).reshape(shape)

    def _operator(self, number: int, operator: Any, tensors: tuple[Tensor, ...]) -> Operator:
        code = self.model.OperatorCodes(operator.OpcodeIndex())
        builtin = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        op = self.operators.get(builtin, f"operator code {builtin}")
        if op == "CUSTOM":
            op = f"custom {(code.CustomCode() or b'').decode('utf-8', 'replace')}"
        outputs = _numbers(operator.OutputsAsNumpy())
        name = tensors[outputs[0]].name if outputs else ""
        return Operator(
            number,
            op,
            _numbers(operator.InputsAsNumpy()),
            outputs,
            name,
            self._options(op, operator.BuiltinOptions()),
        )

    def _options(self, op: str, table: Any) -> Any:
        """The options of an operator, read as its own kind of table; None if it has none."""
        kind = OPTIONS.get(op)
        if kind is None or table is None:
            return None
        options = getattr(self.tflite, kind)()
        options.Init(table.Bytes, table.Pos)
        return options


OPTIONS = {
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "ADD": "AddOptions",
    "SUB": "SubOptions",
    "GELU": "GeluOptions",
    "MUL": "MulOptions",
    "CONCATENATION": "ConcatenationOptions",
    "DEPTH_TO_SPACE": "DepthToSpaceOptions",
    "SPACE_TO_DEPTH": "SpaceToDepthOptions",
    "GATHER": "GatherOptions",
    "PACK": "PackOptions",
    "LEAKY_RELU": "LeakyReluOptions",
    "MEAN": "ReducerOptions",
    "SUM": "ReducerOptions",
    "REDUCE_MAX": "ReducerOptions",
    "STRIDED_SLICE": "StridedSliceOptions",
}


def _names(kind: Any) -> dict[int, str]:
    return {value: name for name, value in vars(kind).items() if isinstance(value, int)}


def _numbers(values: Any) -> tuple[int, ...]:
    """A vector of numbers; an empty one is 0 in flatbuffers."""
    return () if isinstance(values, int) else tuple(int(value) for value in values)
