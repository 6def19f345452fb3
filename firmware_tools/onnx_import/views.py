"""How the axes of an ONNX tensor lie in a map of the chip, and operators that only move values.

A view is an array of indices into the flattened map (C, H, W). Reshape, Transpose, Slice and their
like do to it what they do to the values, so that any of them costs nothing until an operator
needs a map, which is then a choice of channels.
"""

from dataclasses import dataclass, replace
from math import prod

import numpy as np

from firmware_tools.onnx_import.nodes import Array, Node, OnnxError
from model.mars.network import STRIDE_MAX, Ints, Pair

Shape = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class View:
    """An ONNX tensor in a map.

    Parameters
    ----------
    shape : (int, int, int)
        Of the map.
    dims : tuple of int
        Of the ONNX tensor, without the batch.
    order : array of that shape, optional
        Index of each value in the flattened map; None is one after the other.
    batch : bool
        Whether the batch is the first axis of the ONNX tensor; else it is among `dims`, 1 in size,
        or in one of them.
    """

    shape: Shape
    dims: tuple[int, ...]
    order: Ints | None = None
    batch: bool = True

    @staticmethod
    def map(shape: Shape, n_dims: int, *, is_turned: bool) -> "View":
        """A map as (C, H, W), (C, L) or (C), whose rows are columns of the tensor if turned."""
        indices = np.arange(prod(shape)).reshape(shape)
        indices = indices.swapaxes(1, 2) if is_turned else indices
        return View(shape, ()).moved(indices.reshape(len(indices), *indices.shape[4 - n_dims :]))

    @staticmethod
    def of(shape: Shape, n_dims: int) -> "View":
        """A map as (C, H, W), one of one row as (C, L), or one of one pixel as (C)."""
        return View(shape, (shape[0], *shape[len(shape) - n_dims + 1 :]))

    @property
    def indices(self) -> Ints:
        """The order, in full."""
        if self.order is None:
            return np.arange(prod(self.dims)).reshape(self.dims)
        return self.order

    @property
    def n_axes(self) -> int:
        """Of the ONNX tensor."""
        return len(self.dims) + self.batch

    def moved(self, indices: Ints) -> "View":
        """Another tensor in the same map."""
        flat = indices.ravel()
        is_whole = flat.size == prod(self.shape) and bool((flat == np.arange(flat.size)).all())
        return View(self.shape, indices.shape, None if is_whole else indices, self.batch)

    def with_batch(self, node: Node, *others: Array) -> "View":
        """What a node that only moves values makes of it."""
        first = (1,) if self.batch else ()
        if self.order is None and node.op in {"Flatten", "Reshape", "Squeeze", "Unsqueeze"}:
            shape = target_shape(node, (*first, *self.dims), others)
            batch = shape[:1] == (1,)
            return replace(self, dims=shape[1:] if batch else shape, batch=batch)
        moved = move(node, self.indices.reshape(*first, *self.dims), others)
        if not moved.size:
            raise OnnxError(f"{node}: must leave something of {self.dims}")
        batch = moved.shape[:1] == (1,)
        return replace(self, batch=batch).moved(moved[0] if batch else moved)

    def is_like(self, other: "View") -> bool:
        """Whether both have the same tensor in the same places."""
        if (self.shape, self.dims, self.batch) != (other.shape, other.dims, other.batch):
            return False
        return self.order is other.order or np.array_equal(self.indices, other.indices)

    def rows(self) -> "Rows | None":
        """The tensor (..., C) as pixels of the map, all of the same channels; or None."""
        if not self.dims:
            return None
        indices, pixels = self.indices.reshape(-1, self.dims[-1]), prod(self.shape[1:])
        found = Rows(indices[0] // pixels, indices[:, 0] % pixels)
        wanted = found.channels * pixels + found.pixels[:, np.newaxis]
        return found if (indices == wanted).all() else None

    def channels(self, *, is_pointwise: bool = False) -> list[int] | None:
        """Channels of the map that make the tensor (C, H, W), (C, L) or (C); None if none do.

        Of an operator that takes pixel by pixel these may be in one line.
        """
        if not self.batch:
            return None
        pixels = prod(self.shape[1:])
        sides = [side for side in self.dims[1:] if side != 1]
        is_line = is_pointwise and prod(sides) == pixels
        if not is_line and sides != [side for side in self.shape[1:] if side != 1]:
            return None
        if self.order is None:
            return list(range(self.shape[0]))
        rows = self.order.reshape(self.dims[0], -1)
        if (rows - rows[:, :1] != np.arange(pixels)).any() or (rows[:, 0] % pixels).any():
            return None
        return [int(first) // pixels for first in rows[:, 0]]

    def part(self) -> "Part | None":
        """The tensor (C, H, W), (C, L) or (C) as rows and columns of some channels, or None."""
        if not self.batch or not 1 <= len(self.dims) <= 3:
            return None
        places = self.indices.reshape(-1, *([1, 1, *self.dims[1:]])[-2:])
        for is_turned in (False, True):
            found = _part(self.shape, places.swapaxes(1, 2) if is_turned else places)
            if found is not None:
                return Part(*found, is_turned, len(self.dims))
        return None


@dataclass(frozen=True, eq=False)
class Part:
    """Rows and columns of some channels of a map.

    Parameters
    ----------
    channels : (C,) int
    first : ((C,) int, (C,) int)
        Row and column with which each channel begins.
    size, stride : (int, int)
        How many rows and columns, and the steps from one to the next; `STRIDE_MAX` of a single one.
    is_turned : bool
        Rows of the map are columns of the tensor.
    n_dims : int
        Of the tensor.
    """

    channels: Ints
    first: tuple[Ints, Ints]
    size: Pair
    stride: Pair
    is_turned: bool
    n_dims: int

    def kernel(self, sides: Pair) -> Pair:
        """The least one whose windows begin nowhere else than where the part has pixels."""
        rows, columns = (
            max(int(self.first[k].max()) + 1, sides[k] - self.size[k] * self.stride[k] + 1)
            for k in range(2)
        )
        return rows, columns

    @property
    def view(self) -> View:
        """The same tensor in a map of its own."""
        shape = (len(self.channels), *self.size)
        return View.map(shape, self.n_dims, is_turned=self.is_turned)


def _part(shape: Shape, places: Ints) -> tuple[Ints, tuple[Ints, Ints], Pair, Pair] | None:
    """Channels, where they begin, size and stride of what has indices (C, rows, columns)."""
    channels, inner = np.divmod(places, prod(shape[1:]))
    if (channels != channels[:, :1, :1]).any():
        return None
    first, stride = [], []
    for axis, numbers in enumerate(np.divmod(inner, shape[2]), 1):
        lines = np.moveaxis(numbers, axis, 1).reshape(len(numbers), numbers.shape[axis], -1)
        step = int(lines[0, 1, 0] - lines[0, 0, 0]) if lines.shape[1] > 1 else STRIDE_MAX
        wanted = lines[:, :1, :1] + step * np.arange(lines.shape[1])[:, np.newaxis]
        if step < 1 or (lines != wanted).any():
            return None
        first.append(lines[:, 0, 0])
        stride.append(step)
    rows, columns = places.shape[1:]
    return channels[:, 0, 0], (first[0], first[1]), (rows, columns), (stride[0], stride[1])


@dataclass(frozen=True, eq=False)
class Rows:
    """Channels and pixels of a tensor whose last axis is channels: tokens.

    Parameters
    ----------
    channels : (C,) int
    pixels : (n,) int
    """

    channels: Ints
    pixels: Ints


def pixels(view: View) -> int:
    """How many a channel has."""
    return prod(view.shape[1:])


def target_shape(node: Node, shape: tuple[int, ...], others: tuple[Array, ...]) -> tuple[int, ...]:
    """The shape that a node gives a tensor of a shape, both with the batch."""
    if node.op == "Flatten":
        axis = node.integer("axis", 1)
        axis = axis if axis == len(shape) else normal_axis(node, axis, len(shape))
        return prod(shape[:axis]), prod(shape[axis:])
    if node.op == "Reshape":
        return _reshaped(node, shape, integer_list(node, "shape", others[0] if others else None))
    given = others[0] if others else node.attributes.get("axes")
    if node.op == "Squeeze":
        axes = [k for k, side in enumerate(shape) if side == 1 and k] if given is None else given
        axes = _axes(node, axes, len(shape))
        if any(shape[axis] != 1 for axis in axes):
            raise OnnxError(f"{node}: axes must be of size 1, not {axes} of {shape}")
        return tuple(side for k, side in enumerate(shape) if k not in axes)
    listed = integer_list(node, "axes", given)
    axes = _axes(node, listed, len(shape) + len(listed))
    sides = iter(shape)
    return tuple(1 if k in axes else next(sides) for k in range(len(shape) + len(axes)))


def _reshaped(node: Node, shape: tuple[int, ...], wanted: list[int]) -> tuple[int, ...]:
    size = prod(shape)
    if not node.integer("allowzero", 0):
        wanted = [
            shape[k] if side == 0 and k < len(shape) else side for k, side in enumerate(wanted)
        ]
    if wanted.count(-1) == 1:
        rest = -prod(wanted)
        if rest > 0 and size % rest == 0:
            wanted = [size // rest if side == -1 else side for side in wanted]
    if prod(wanted) != size or min(wanted, default=1) < 0:
        raise OnnxError(f"{node}: shape must be for {size} values, not {wanted}")
    return tuple(wanted)


def shape_part(node: Node, shape: tuple[int, ...]) -> Ints:
    """What a Shape gives of a shape with the batch."""
    start, end = node.integer("start", 0), node.attributes.get("end")
    return np.array(shape[start:end], np.int64)


def move(node: Node, values: Array, others: tuple[Array, ...]) -> Array:
    """What Reshape, Transpose, Slice, Gather and their like make of a tensor with its batch."""
    if node.op in {"Flatten", "Reshape", "Squeeze", "Unsqueeze"}:
        return values.reshape(target_shape(node, values.shape, others))
    if node.op in {"DepthToSpace", "SpaceToDepth"}:
        return _in_blocks(node, values)
    if node.op == "Transpose":
        order = node.attributes.get("perm", list(range(values.ndim))[::-1])
        if not isinstance(order, list) or sorted(order) != list(range(values.ndim)):
            raise OnnxError(f"{node}: perm must be an order of {values.ndim} axes, not {order}")
        return values.transpose(order)
    if node.op == "Gather":
        axis = normal_axis(node, node.integer("axis", 0), values.ndim)
        chosen = integers(node, "indices", others[0] if others else None)
        if ((chosen < -values.shape[axis]) | (chosen >= values.shape[axis])).any():
            raise OnnxError(f"{node}: indices must be in the {values.shape[axis]} of axis {axis}")
        return np.take(values, chosen, axis=axis)
    return _slice(node, values, others)


def _in_blocks(node: Node, values: Array) -> Array:
    """Channels that become pixels of blocks, or the other way round."""
    size = node.integer("blocksize", 1)
    if values.ndim != 4 or size < 1:
        raise OnnxError(
            f"{node}: must be of (N, C, H, W) with a blocksize of at least 1, not {size} of "
            f"{values.shape[1:]}"
        )
    n, channels, rows, columns = values.shape
    if node.op == "SpaceToDepth":
        if rows % size or columns % size:
            raise OnnxError(f"{node}: blocksize must divide {rows}x{columns}, not be {size}")
        blocks = values.reshape(n, channels, rows // size, size, columns // size, size)
        inner = blocks.transpose(0, 3, 5, 1, 2, 4)
        return inner.reshape(n, -1, rows // size, columns // size)
    if channels % size**2:
        raise OnnxError(f"{node}: blocksize must divide {channels} channels twice, not be {size}")
    depth = channels // size**2
    if node.text("mode", "DCR") == "DCR":
        outer = values.reshape(n, size, size, depth, rows, columns).transpose(0, 3, 4, 1, 5, 2)
    else:
        outer = values.reshape(n, depth, size, size, rows, columns).transpose(0, 1, 4, 2, 5, 3)
    return outer.reshape(n, depth, rows * size, columns * size)


def _slice(node: Node, values: Array, others: tuple[Array, ...]) -> Array:
    lists = [integer_list(node, "starts, ends, axes, steps", given) for given in others]
    if not lists:  # opset 9 and older, and 10 of some writers
        names = [name for name in ("starts", "ends", "axes") if name in node.attributes]
        lists = [integer_list(node, name, node.attributes[name]) for name in names]
    if len(lists) < 2:
        raise OnnxError(f"{node}: starts and ends must be given")
    starts, ends = lists[:2]
    axes = lists[2] if len(lists) > 2 else list(range(len(starts)))
    steps = lists[3] if len(lists) > 3 else [1] * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise OnnxError(f"{node}: starts, ends, axes and steps must be as many, and no step 0")
    places: list[slice] = [slice(None)] * values.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        side = values.shape[normal_axis(node, axis, values.ndim)]
        last = None if step < 0 and end < -side else end
        places[normal_axis(node, axis, values.ndim)] = slice(start, last, step)
    found: Array = values[tuple(places)]
    return found


def integers(node: Node, name: str, given: object) -> Ints:
    """What should be constant integers."""
    array = np.asarray(given if given is not None else [], dtype=None)
    if given is None or array.dtype.kind not in "iu" or not array.size:
        raise OnnxError(f"{node}: {name} must be constant integers")
    return array.astype(np.int64)


def integer_list(node: Node, name: str, given: object) -> list[int]:
    """The same as a list, which may be empty."""
    array = np.asarray(given)
    if array.size == 0 and given is not None:
        return []
    return [int(number) for number in integers(node, name, given).ravel()]


def normal_axis(node: Node, axis: int, n_dims: int) -> int:
    """An axis, counted from the end if negative."""
    if not -n_dims <= axis < n_dims:
        raise OnnxError(f"{node}: axis must be {-n_dims}..{n_dims - 1}, not {axis}")
    return axis % n_dims


def _axes(node: Node, given: object, n_dims: int) -> list[int]:
    return [normal_axis(node, axis, n_dims) for axis in integer_list(node, "axes", given)]


def sections(node: Node, side: int, given: Array | None, n_parts: int) -> list[int]:
    """How many of an axis each output of a Split has."""
    listed = given if given is not None else node.attributes.get("split")
    if listed is not None:
        sizes = integer_list(node, "split", listed)
    else:
        each = -(-side // n_parts)
        sizes = [min(each, side - k * each) for k in range(n_parts)]
    if len(sizes) != n_parts or sum(sizes) != side or min(sizes) < 1:
        raise OnnxError(f"{node}: split must be {n_parts} sizes of {side} together, not {sizes}")
    return sizes
