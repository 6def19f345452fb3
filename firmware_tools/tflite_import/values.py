"""What the tensors of a TensorFlow Lite graph are on the accelerator."""

from dataclasses import dataclass

import numpy as np

from firmware_tools.tflite_import.graph import Operator, Tensor, TfliteError
from model.mars.network import Ints

RANGES = {"INT8": (-128, 127), "UINT8": (0, 255)}
"""Of the types that activations may have."""
NONE, RELU, RELU_N1_TO_1, RELU6 = range(4)
ACTIVATIONS = {
    NONE: (None, None),
    RELU: (0.0, None),
    RELU_N1_TO_1: (-1.0, 1.0),
    RELU6: (0.0, 6.0),
}
"""Fused activation functions as ends of real numbers."""


@dataclass(frozen=True)
class Grid:
    """Scale, zero point and range of an activation."""

    scale: float
    zero: int
    low: int
    high: int

    @property
    def signed(self) -> bool:
        """Whether the type is signed."""
        return self.low < 0

    def step(self, value: float) -> int:
        """The integer of a real number."""
        return int(np.floor(abs(value) / self.scale + 0.5)) * (1 if value >= 0 else -1) + self.zero


@dataclass(frozen=True, eq=False)
class Value:
    """Results of a layer, or the input, as a tensor.

    Parameters
    ----------
    layer : str
    shape : (int, int, int)
        Channels, rows, columns of the layer's result.
    index : (...) int
        For every place of the tensor, without the batch, which value of (C, H, W) stands there.
    grid : Grid
    padding : (int, int, int, int)
        A Pad that the next convolution has to do: top, left, bottom, right.
    """

    layer: str
    shape: tuple[int, int, int]
    index: Ints
    grid: Grid
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)

    @property
    def is_map(self) -> bool:
        """Whether the tensor is the map as TensorFlow Lite has maps: rows, columns, channels."""
        return np.array_equal(self.index, map_index(self.shape))


def map_index(shape: tuple[int, int, int]) -> Ints:
    """The index of a map (C, H, W) as a tensor (H, W, C)."""
    return np.arange(int(np.prod(shape))).reshape(shape).transpose(1, 2, 0)


def grid_of(one: Operator, tensor: Tensor) -> Grid:
    """Scale and zero point of an activation."""
    if tensor.dtype not in RANGES:
        raise TfliteError(f"{one}: {_about(tensor)}")
    if len(tensor.scale) != 1:
        raise TfliteError(
            f"{one}: tensor {tensor.name!r} must have one scale, not {len(tensor.scale)} "
            "(activations are quantised as a whole)"
        )
    if not (np.isfinite(tensor.scale[0]) and tensor.scale[0] > 0):
        raise TfliteError(
            f"{one}: scale of tensor {tensor.name!r} must be positive, not {tensor.scale[0]}"
        )
    low, high = RANGES[tensor.dtype]
    if not low <= tensor.zero[0] <= high:
        raise TfliteError(
            f"{one}: zero point of tensor {tensor.name!r} must be {low}..{high}, "
            f"not {tensor.zero[0]}"
        )
    return Grid(float(tensor.scale[0]), int(tensor.zero[0]), low, high)


def _about(tensor: Tensor) -> str:
    """What a tensor of another type means."""
    name = f"tensor {tensor.name!r} must be INT8 or UINT8, not {tensor.dtype}"
    if tensor.dtype == "FLOAT32":
        return (
            f"{name}: a float model, or a hybrid one with float activations and int8 weights "
            "(dynamic range); convert it with a representative data set and TFLITE_BUILTINS_INT8"
        )
    if tensor.dtype == "INT16":
        return f"{name}: activations of 16 bit do not fit; quantise them to int8"
    return name


def fused_clamp(one: Operator, activation: int, grid: Grid) -> tuple[int | None, int | None]:
    """Ends of the result for a fused activation function; None is that of the type."""
    if activation not in ACTIVATIONS:
        raise TfliteError(
            f"{one}: fused activation must be NONE, RELU, RELU_N1_TO_1 or RELU6, "
            f"not number {activation}"
        )
    low, high = ACTIVATIONS[activation]
    ends = (
        None if low is None else max(grid.step(low), grid.low),
        None if high is None else min(grid.step(high), grid.high),
    )
    return (
        None if ends[0] == grid.low else ends[0],
        None if ends[1] == grid.high else ends[1],
    )


def same_padding(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """Padding before and behind with SAME."""
    reach = (kernel - 1) * dilation + 1
    total = max((-(-size // stride) - 1) * stride + reach - size, 0)
    return total // 2, total - total // 2


def weight_scales(one: Operator, tensor: Tensor, n_channels: int, axis: int) -> np.ndarray:
    """One scale for each output channel."""
    if tensor.data is None or tensor.dtype not in {"INT8", "INT4"}:
        wanted = "constant and INT8 or INT4"
        is_what = tensor.dtype if tensor.data is not None else "computed"
        raise TfliteError(f"{one}: weights {tensor.name!r} must be {wanted}, not {is_what}")
    if tensor.zero.any():
        wrong = tensor.zero[tensor.zero != 0][0]
        raise TfliteError(f"{one}: zero points of weights must be 0, not {wrong}")
    if len(tensor.scale) == 1:
        return np.full(n_channels, tensor.scale[0])
    if len(tensor.scale) != n_channels or tensor.axis != axis:
        raise TfliteError(
            f"{one}: weights must have one scale, or {n_channels} along axis {axis}, "
            f"not {len(tensor.scale)} along {tensor.axis}"
        )
    if not (np.isfinite(tensor.scale).all() and (tensor.scale > 0).all()):
        raise TfliteError(f"{one}: scales of weights must be positive")
    return tensor.scale
