"""What the tensors of a TensorFlow Lite graph are on the accelerator."""

import math
from dataclasses import dataclass, replace

import numpy as np

from firmware_tools.requantization import Reals
from firmware_tools.tflite_import.graph import Array, Operator, Tensor, TfliteError
from model.mars.network import Ints, Pair, Sides

Shape = tuple[int, int, int]

LARGEST = 1 << 25
"""Values of a map: more are a damaged file, and would take all memory."""
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
        steps = np.float32(value) / np.float32(self.scale)
        return int(np.copysign(np.floor(np.abs(steps) + 0.5), steps)) + self.zero

    @property
    def all(self) -> Ints:
        """All integers, the least first."""
        return np.arange(self.low, self.high + 1)

    def clip(self, values: Ints) -> Ints:
        """Integers brought into the range."""
        result: Ints = np.clip(values, self.low, self.high)
        return result


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
    margins : tuple of (int, int)
        By axis, what a PAD has put before and behind and a layer has still to do; () is none.
    blocks : tuple of int
        By axis, the blocks of a SPACE_TO_BATCH_ND that no BATCH_TO_SPACE_ND has undone; () is none.
    meaning : array or None
        What each integer of the grid stands for, if the tensor has other values than integers of
        the grid: real numbers, or those of another type at the output.
    """

    layer: str
    shape: Shape
    index: Ints
    grid: Grid
    margins: tuple[tuple[int, int], ...] = ()
    blocks: tuple[int, ...] = ()
    meaning: Array | None = None

    def like(self, layer: str, grid: Grid) -> "Value":
        """Results of a layer that keeps every value's place."""
        return replace(self, layer=layer, grid=grid, meaning=None)


@dataclass(frozen=True)
class View:
    """A tensor as a map.

    Parameters
    ----------
    layer : str
    shape : (int, int, int)
        Channels, rows, columns of the layer's result.
    grid : Grid
    turned : bool
        The tensor's rows are the layer's columns.
    padding : (int, int, int, int)
        What has still to be put around the tensor: top, left, bottom, right.
    blocks : (int, int)
    """

    layer: str
    shape: Shape
    grid: Grid
    turned: bool
    padding: Sides = (0, 0, 0, 0)
    blocks: Pair = (1, 1)

    @property
    def size(self) -> Pair:
        """Rows and columns of the tensor, without padding."""
        return self.pair(self.shape[1:])

    def pair(self, numbers: Pair) -> Pair:
        """Rows and columns of the tensor for those of the layer, or the other way."""
        return (numbers[1], numbers[0]) if self.turned else numbers

    def sides(self, sides: Sides) -> Sides:
        """Sides of the layer for those of the tensor."""
        top, left, bottom, right = sides
        return (left, top, right, bottom) if self.turned else sides

    def kernels(self, weight: Ints) -> Ints:
        """Kernels for the layer, of those for the tensor."""
        return weight.transpose(0, 1, 3, 2) if self.turned else weight

    def index(self, shape: Shape) -> Ints:
        """The index of a layer's result that is turned likewise."""
        index = map_index(shape)
        return index.transpose(1, 0, 2) if self.turned else index


def check_size(place: object, shape: tuple[int, ...]) -> None:
    """Refuse maps that are too large before memory is taken."""
    if math.prod(shape) > LARGEST:
        raise TfliteError(
            f"{place}: a map must have at most {LARGEST} values, not {math.prod(shape)}, of shape "
            f"{shape}"
        )


def map_index(shape: Shape) -> Ints:
    """The index of a map (C, H, W) as a tensor (H, W, C)."""
    return np.arange(math.prod(shape)).reshape(shape).transpose(1, 2, 0)


@dataclass(frozen=True)
class Cut:
    """Which rows, columns and channels of a layer's result a tensor has."""

    rows: range
    columns: range
    channels: tuple[int, ...]

    def is_whole(self, shape: Shape) -> bool:
        """Whether that is all of it."""
        return (self.channels, self.rows, self.columns) == (
            tuple(range(shape[0])),
            range(shape[1]),
            range(shape[2]),
        )


def three_axes(value: Value) -> Value | None:
    """A tensor with axes for rows, columns, channels: (L, C) is a column, (C,) a single pixel."""
    places = value.index.ndim - 1
    if not 0 <= places <= 2:
        return None
    extra = (1,) * (2 - places)
    index = value.index.reshape(*value.index.shape[:places], *extra, value.index.shape[-1])
    margins, blocks = value.margins, value.blocks
    if margins:
        margins = (*margins[:places], *((0, 0) for _ in extra), margins[-1])
    if blocks:
        blocks = (*blocks[:places], *extra, blocks[-1])
    return replace(value, index=index, margins=margins, blocks=blocks)


def cut_of(value: Value, *, turned: bool) -> Cut | None:
    """The part of its layer's map that a tensor of three axes is; None if it is no such part."""
    channels, rows, columns = value.shape
    index = value.index.transpose(1, 0, 2) if turned else value.index
    where = np.unravel_index(index, (channels, rows, columns))
    own = (where[1][:, 0, 0], where[2][0, :, 0], where[0][0, 0, :])
    if not np.array_equal(index, map_index(value.shape)[np.ix_(*own)]):
        return None
    ranges = [_as_range(numbers) for numbers in own[:2]]
    if ranges[0] is None or ranges[1] is None:
        return None
    return Cut(ranges[0], ranges[1], tuple(int(k) for k in own[2]))


def _as_range(numbers: Ints) -> range | None:
    first, step = int(numbers[0]), int(numbers[1] - numbers[0]) if len(numbers) > 1 else 1
    found = range(first, first + step * len(numbers), step) if step > 0 else None
    return found if found is not None and list(found) == numbers.tolist() else None


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


def weight_scales(one: Operator, tensor: Tensor, n_channels: int, axis: int) -> Reals:
    """One scale for each output channel."""
    if tensor.data is None or tensor.dtype not in {"INT8", "INT4"}:
        wanted = "constant and INT8 or INT4"
        is_what = tensor.dtype if tensor.data is not None else "computed"
        if is_what == "UINT8":
            is_what += " (the converter of TensorFlow 1; that of TensorFlow 2 writes INT8)"
        raise TfliteError(f"{one}: weights {tensor.name!r} must be {wanted}, not {is_what}")
    if tensor.zero.any():
        wrong = tensor.zero[tensor.zero != 0][0]
        raise TfliteError(f"{one}: zero points of weights must be 0, not {wrong}")
    if len(tensor.scale) != 1 and (len(tensor.scale) != n_channels or tensor.axis != axis):
        raise TfliteError(
            f"{one}: weights must have one scale, or {n_channels} along axis {axis}, "
            f"not {len(tensor.scale)} along {tensor.axis}"
        )
    if not (np.isfinite(tensor.scale).all() and (tensor.scale > 0).all()):
        raise TfliteError(f"{one}: scales of weights must be positive")
    return np.broadcast_to(tensor.scale, (n_channels,))
