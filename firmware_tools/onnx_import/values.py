"""What the tensors of a QDQ graph are: constants, feature maps, results not yet quantised."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_tools.onnx_import.graph import Array, Graph, Node, OnnxError
from firmware_tools.requantization import Reals
from model.mars.network import Ints

TYPES: dict[str, tuple[int, int]] = {"int8": (-128, 127), "uint8": (0, 255)}
"""Ranges of the types that activations may have."""

FLOAT = 1
"""ONNX' number of float32."""


@dataclass(frozen=True)
class Storage:
    """How the chip holds a tensor: value = scale * (stored - zero)."""

    bits: int
    signed: bool
    zero: int


@dataclass(frozen=True)
class Grid:
    """Scale and zero point of an activation, and the range of its type."""

    scale: float
    zero_point: int
    low: int
    high: int

    def storage(self, *, relu: bool = False) -> Storage | None:
        """The type of the chip that has the same values, or None if there is none.

        Its least value stands for that of the ONNX type, or for 0 after a ReLU; so the clamp is the
        same. A zero point in the middle makes a signed type, one at the lower end (or a ReLU) an
        unsigned one; with another one `zero` is left to whoever reads the tensor.
        """
        if relu:
            n_steps = self.high - self.zero_point
            is_whole = n_steps & (n_steps + 1) == 0 and n_steps > 0
            return Storage(n_steps.bit_length(), False, 0) if is_whole else None
        if self.zero_point == self.low + 128:
            return Storage(8, True, 0)
        return Storage(8, False, self.zero_point - self.low)


@dataclass(frozen=True)
class Feature:
    """Results of a layer (or the input) that stand for real numbers.

    Parameters
    ----------
    layer : str
    grid : Grid
        Of the ONNX tensor.
    storage : Storage
        Of the layer's results.
    shape : (int, int, int)
    is_flat : bool
        The ONNX tensor has the shape (N, C*H*W).
    readers : int
        How often the graph reads it.
    """

    layer: str
    grid: Grid
    storage: Storage
    shape: tuple[int, int, int]
    is_flat: bool
    readers: int

    @property
    def low(self) -> int:
        """The least value above the one that stands for 0."""
        return (-128 if self.storage.signed else 0) - self.storage.zero

    @property
    def largest(self) -> int:
        """Largest distance from the value that stands for 0."""
        high = (1 << (self.storage.bits - self.storage.signed)) - 1
        return max(-self.low, high - self.storage.zero)


@dataclass(frozen=True, eq=False)
class Tensor:
    """A quantised constant; `axis` is that of the scales, None if there is one for all."""

    values: Ints
    scale: Reals
    zero_point: Ints
    axis: int | None
    dtype: str

    @property
    def real(self) -> Reals:
        """What it stands for."""
        shape = [1] * self.values.ndim
        if self.axis is not None:
            shape[self.axis] = -1
        centred = self.values - self.zero_point.reshape(shape)
        result: Reals = centred * self.scale.reshape(shape)
        return result


@dataclass(frozen=True, eq=False)
class Products:
    """Results of a convolution or dense layer, in steps of `scale` (Cout,) per accumulator step."""

    node: Node
    source: Feature
    weight: Ints
    bias: Reals
    scale: Reals
    shape: tuple[int, int, int]
    stride: int = 1
    padding: int = 0
    relu: bool = False

    @property
    def is_dense(self) -> bool:
        """Whether it is no convolution."""
        return self.weight.ndim == 2


@dataclass(frozen=True, eq=False)
class Sum:
    """A feature map as it is, or two of them added."""

    node: Node
    parts: tuple[Feature, ...]
    relu: bool = False


@dataclass(frozen=True, eq=False)
class Average:
    """The means of a map's channels."""

    node: Node
    source: Feature
    relu: bool = False


Pending = Products | Sum | Average


def grid_of(graph: Graph, node: Node) -> Grid:
    """Scale and zero point of a QuantizeLinear or DequantizeLinear of activations."""
    scale, zero_point, dtype = _parameters(graph, node)
    if not node.input(2):
        raise OnnxError(f"{node}: zero point must be given, 0 too: it tells int8 from uint8")
    if dtype not in TYPES:
        raise OnnxError(f"{node}: activations must be int8 or uint8, not {dtype}")
    if scale.size != 1 or zero_point.size != 1:
        raise OnnxError(
            f"{node}: activations must have one scale for the whole tensor, not {scale.size} "
            "(only weights may have one per channel)"
        )
    return Grid(float(scale.item()), int(zero_point.item()), *TYPES[dtype])


def quantized_constant(graph: Graph, node: Node, values: Array) -> Tensor:
    """What a QuantizeLinear makes of a constant."""
    tensor = dequantized_constant(graph, node, np.zeros(values.shape, np.int8))
    if tensor.dtype not in TYPES:
        raise OnnxError(f"{node}: must quantise to int8 or uint8, not {tensor.dtype}")
    shape = [1] * values.ndim
    if tensor.axis is not None:
        shape[tensor.axis] = -1
    scale = tensor.scale.astype(np.float32).reshape(shape)
    steps = np.rint(values.astype(np.float32) / scale) + tensor.zero_point.reshape(shape)
    if not np.isfinite(steps).all():
        raise OnnxError(f"{node}: values of {node.input(0)!r} must be finite")
    integers = np.clip(steps, *TYPES[tensor.dtype]).astype(np.int64)
    return Tensor(integers, tensor.scale, tensor.zero_point, tensor.axis, tensor.dtype)


def dequantized_constant(graph: Graph, node: Node, values: Array) -> Tensor:
    """A quantised constant, as a DequantizeLinear says what it stands for."""
    scale, zero_point, dtype = _parameters(graph, node)
    if node.op == "DequantizeLinear":
        dtype = str(values.dtype)
    node.require("block_size", 0, default=0, text="0 (no blocks)")
    if values.dtype.kind not in "iu" or not np.can_cast(values.dtype, np.int64):
        raise OnnxError(f"{node}: constant {node.input(0)!r} must be integers, not {values.dtype}")
    if scale.size == 1:
        return Tensor(values.astype(np.int64), scale.ravel(), zero_point, None, dtype)
    axis = int(node.attributes.get("axis", 1))
    axis = axis + values.ndim if axis < 0 else axis
    if not 0 <= axis < values.ndim or scale.shape != (values.shape[axis],):
        raise OnnxError(
            f"{node}: scales must be one, or one per channel of axis {axis} of {values.shape}, "
            f"not {scale.shape}"
        )
    return Tensor(values.astype(np.int64), scale, zero_point, axis, dtype)


def _parameters(graph: Graph, node: Node) -> tuple[Reals, Ints, str]:
    """Scales, as many zero points, and the type of the integers."""
    for name in node.inputs[1:]:
        if name and name not in graph.constants:
            raise OnnxError(
                f"{node}: scale and zero point must be constants, but {name!r} is computed "
                "(quantise with quantize_static, not quantize_dynamic)"
            )
    _check_precision(node, graph.constants[node.input(1)])
    scale: NDArray[Any] = np.asarray(graph.constants[node.input(1)], np.float64)
    bad = ~(np.isfinite(scale) & (scale > 0))
    if bad.any():
        raise OnnxError(f"{node}: scale must be a positive number, not {scale[bad].ravel()[0]}")
    if not node.input(2):
        return scale, np.zeros(scale.size, np.int64), "uint8"
    zero_point = graph.constants[node.input(2)]
    dtype = str(zero_point.dtype)
    if zero_point.dtype.kind not in "iu":
        raise OnnxError(f"{node}: zero point must be an integer, not {dtype}")
    if zero_point.size not in {1, scale.size}:
        raise OnnxError(f"{node}: zero points must be {scale.size}, not {zero_point.size}")
    whole = np.broadcast_to(zero_point.astype(np.int64).ravel(), (scale.size,))
    return scale, whole, dtype


def _check_precision(node: Node, scale: Array) -> None:
    """Refuse arithmetic that is not in float32."""
    if scale.dtype != np.float32:
        raise OnnxError(f"{node}: scale must be float32, not {scale.dtype}")
    name = "precision" if node.op == "QuantizeLinear" else "output_dtype"
    if node.attributes.get(name, 0):
        node.require(name, FLOAT, default=0, text=f"{FLOAT} (float32)")
