"""Operators that move values: shapes, padding, parts and sequences of channels."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from firmware_tools.tflite_import.folding import slices
from firmware_tools.tflite_import.graph import Operator, TfliteError
from firmware_tools.tflite_import.values import NONE, Cut, Value, map_index
from model.mars.network import KERNEL_MAX, Ints, Sides

if TYPE_CHECKING:
    from firmware_tools.tflite_import.lowering import Handler, Lowering

SHAPING = {"RESHAPE", "SQUEEZE", "EXPAND_DIMS"}


# What convolutions do for them


def padded(state: "Lowering", one: Operator, value: Value) -> Value:
    """A value whose padding a convolution that copies has done."""
    margins = value.margins
    view = state.view(one, replace(value, margins=()))
    (top, bottom), (left, right) = (*margins[:-1], (0, 0), (0, 0))[:2]
    before, behind = margins[-1]
    n = view.shape[0]
    weight = np.ones((n, 1, 1, 1), np.int64)
    bias = np.zeros(n, np.int64)
    if before or behind:
        weight = np.eye(n, dtype=np.int64)[:, :, np.newaxis, np.newaxis]
        weight = np.pad(weight, ((before, behind), (0, 0), (0, 0), (0, 0)))
        bias = np.pad(bias, (before, behind), constant_values=view.grid.zero)
    layer = state.copied(
        one,
        view,
        weight,
        bias=bias,
        padding=view.sides((top, left, bottom, right)),
        pad_value=view.grid.zero,
        groups=1 if before or behind else n,
    )
    shape = state.shape_of(one, layer, view)
    own = [size + sum(pair) for size, pair in zip(value.index.shape, margins, strict=True)]
    return Value(layer.name, shape, view.index(shape).reshape(own), view.grid)


def cut_out(state: "Lowering", one: Operator, value: Value, cut: Cut, *, turned: bool) -> Value:
    """A tensor of three axes that is a part of a map as a map of its own."""
    channels, rows, columns = value.shape
    layer, shape = value.layer, value.shape
    if cut.channels != tuple(range(channels)):
        layer = state.select(one, [layer], cut.channels, value.grid)
        shape = (len(cut.channels), rows, columns)
    if (cut.rows, cut.columns) != (range(rows), range(columns)):
        view = state.view(one, Value(layer, shape, map_index(shape), value.grid))
        kernel = [
            _reach(part, side)
            for part, side in zip((cut.rows, cut.columns), shape[1:], strict=True)
        ]
        if max(kernel) > KERNEL_MAX:
            raise TfliteError(
                f"{one}: at most {KERNEL_MAX - 1} rows or columns can be cut off in front, "
                f"not {max(kernel) - 1}"
            )
        weight = np.zeros((shape[0], 1, *kernel), np.int64)
        weight[:, :, cut.rows[0], cut.columns[0]] = 1
        stride = cut.rows.step, cut.columns.step
        made = state.copied(one, view, weight, groups=shape[0], stride=stride)
        layer, shape = made.name, (shape[0], len(cut.rows), len(cut.columns))
    index = map_index(shape)
    return replace(
        value, layer=layer, shape=shape, index=index.transpose(1, 0, 2) if turned else index
    )


def _reach(part: range, side: int) -> int:
    """Rows of the least kernel whose windows begin nowhere else than where the part has rows."""
    return max(part[0] + 1, side - len(part) * part.step + 1)


# Shapes


def _wanted(state: "Lowering", one: Operator, source: Value) -> tuple[int, ...] | None:
    """The shape that a RESHAPE is told, which is exact where that of its output may not be."""
    if one.op != "RESHAPE" or len(one.inputs) < 2 or one.inputs[1] not in state.constants:
        return None
    sizes = [int(size) for size in state.constant(one, 1).reshape(-1)]
    known = math.prod(size for size in sizes if size > 0)
    if min(sizes, default=0) > 0:
        return tuple(sizes)
    if sorted(sizes)[:2].count(-1) == 1 and 0 not in sizes:
        return tuple(source.index.size // known if size < 0 else size for size in sizes)
    return None


def reshape(state: "Lowering", one: Operator) -> None:
    """RESHAPE, SQUEEZE, EXPAND_DIMS."""
    source = state.raw(one)
    shape = state.out_tensor(one).shape
    if not source.margins and not source.blocks:
        shape = _wanted(state, one, source) or shape
        state.values[one.outputs[0]] = state.shaped(one, source, shape)
        return
    # Sizes are not those of the file before padding is done; axes of size 1 come and go.
    own = state.graph.tensors[one.inputs[0]].shape[1:]
    left = [k for k, size in enumerate(own) if size != 1]
    axes = [left.pop(0) if size != 1 and left else None for size in shape[1:]]
    if left or [own[k] for k in axes if k is not None] != [n for n in shape[1:] if n != 1]:
        value = state.resolved(one)
        state.set(one, value)
        return
    sizes = [1 if k is None else source.index.shape[k] for k in axes]
    if math.prod(sizes) != source.index.size:
        raise TfliteError(f"{one}: axes that are padded must stay, not become {shape}")
    state.values[one.outputs[0]] = replace(
        source,
        index=source.index.reshape(sizes),
        margins=tuple((0, 0) if k is None else source.margins[k] for k in axes)
        if source.margins
        else (),
        blocks=tuple(1 if k is None else source.blocks[k] for k in axes) if source.blocks else (),
    )


def transpose(state: "Lowering", one: Operator) -> None:
    """TRANSPOSE."""
    source = state.resolved(one)
    order = [int(axis) for axis in state.constant(one, 1).reshape(-1)]
    if sorted(order) != list(range(source.index.ndim + 1)) or order[0]:
        raise TfliteError(f"{one}: the batch must stay in front, not the order {order}")
    index = source.index.transpose([axis - 1 for axis in order[1:]])
    state.set(one, replace(source, index=index))


def pad(state: "Lowering", one: Operator) -> None:
    """PAD and PADV2: left to what reads it."""
    source = state.raw(one)
    if source.blocks or source.meaning is not None:
        state.value(one)
    sizes = state.constant(one, 1).astype(int).reshape(-1, 2)
    grid = source.grid
    if len(one.inputs) > 2 and one.inputs[2] >= 0:
        value = int(state.constant(one, 2).reshape(-1)[0])
        if value != grid.zero:
            raise TfliteError(
                f"{one}: the value around must be the zero point, {grid.zero}, not {value}"
            )
    if len(sizes) != source.index.ndim + 1 or sizes[0].any() or sizes.min() < 0:
        raise TfliteError(
            f"{one}: paddings must be at least 0, and 0 for the batch, not {sizes.tolist()}"
        )
    if state.out_grid(one) != grid:
        raise TfliteError(f"{one}: input and output must have the same scale and zero point")
    before = source.margins or ((0, 0),) * source.index.ndim
    margins = tuple(
        (old[0] + int(new[0]), old[1] + int(new[1]))
        for old, new in zip(before, sizes[1:], strict=True)
    )
    state.values[one.outputs[0]] = replace(source, margins=margins)


# Parts and sequences


def _taken(
    state: "Lowering", one: Operator, source: Value, number: int, take: Callable[[Ints], Ints]
) -> None:
    """An output that is a part of a value."""
    try:
        index = take(source.index)
    except (IndexError, ValueError) as error:
        raise TfliteError(f"{one}: {error}") from None
    if not index.size:
        raise TfliteError(f"{one}: a part must have at least one value")
    shape = state.graph.tensors[number].shape
    state.values[number] = state.shaped(one, replace(source, index=index), shape)


def _part(index: Ints, part: tuple[slice | int, ...]) -> Ints:
    return index[part]


def split(state: "Lowering", one: Operator) -> None:
    """SPLIT and SPLIT_V."""
    first, second = (0, 1) if one.op == "SPLIT" else (2, 0)
    source = state.resolved(one, second)
    axis = _axis(one, int(state.constant(one, first).reshape(-1)[0]), source)
    begin = 0
    for number in one.outputs:
        shape = state.graph.tensors[number].shape
        if len(shape) <= axis + 1:
            raise TfliteError(f"{one}: outputs must have as many axes as the input, not {shape}")
        part = (*((slice(None),) * axis), slice(begin, begin + shape[axis + 1]))
        _taken(state, one, source, number, partial(_part, part=part))
        begin += shape[axis + 1]


def _axis(one: Operator, axis: int, source: Value) -> int:
    """An axis, counted without the batch."""
    found = axis + source.index.ndim + 1 if axis < 0 else axis
    if not 1 <= found <= source.index.ndim:
        raise TfliteError(f"{one}: axis must be 1..{source.index.ndim}, not {axis}")
    return found - 1


def strided_slice(state: "Lowering", one: Operator) -> None:
    """STRIDED_SLICE."""
    source = state.resolved(one)
    values = [state.constant(one, k) for k in (1, 2, 3)]
    try:
        taken = slices(one, values, (1, *source.index.shape))
    except ValueError as error:
        raise TfliteError(f"{one}: {error}") from None
    if not taken or not isinstance(taken[0], slice) or range(1)[taken[0]] != range(1):
        raise TfliteError(f"{one}: the batch must stay whole")
    _taken(state, one, source, one.outputs[0], partial(_part, part=taken[1:]))


def slice_(state: "Lowering", one: Operator) -> None:
    """SLICE."""
    source = state.resolved(one)
    begin, size = (state.constant(one, k).reshape(-1).astype(int).tolist() for k in (1, 2))
    taken = tuple(
        slice(b, b + n if n >= 0 else None) for b, n in zip(begin[1:], size[1:], strict=True)
    )
    _taken(state, one, source, one.outputs[0], partial(_part, part=taken))


def gather(state: "Lowering", one: Operator) -> None:
    """GATHER by constants."""
    source = state.resolved(one)
    axis = _axis(one, one.options.Axis() if one.options is not None else 0, source)
    numbers = state.constant(one, 1)
    _taken(state, one, source, one.outputs[0], lambda index: np.take(index, numbers, axis=axis))


def concatenate(state: "Lowering", one: Operator) -> None:
    """CONCATENATION of channels."""
    grid = state.out_grid(one)
    if one.options is None or one.options.FusedActivationFunction() != NONE:
        raise TfliteError(f"{one}: fused activation must be NONE")
    sources = [state.value(one, k) for k in range(len(one.inputs))]
    ndim = sources[0].index.ndim
    axis = one.options.Axis()
    if axis not in {-1, ndim}:
        raise TfliteError(f"{one}: axis must be that of the channels, {ndim}, not {axis}")
    sources = [state.rescaled(one, source, grid) for source in sources]
    views = [state.view(one, source) for source in sources]
    if len({(view.shape[1:], view.turned) for view in views}) != 1:
        raise TfliteError(f"{one}: maps must have the same rows and columns")
    n = sum(view.shape[0] for view in views)
    name = state.select(one, [view.layer for view in views], tuple(range(n)), grid)
    shape = (n, *views[0].shape[1:])
    state.set(one, Value(name, shape, views[0].index(shape), grid))


def to_depth(state: "Lowering", one: Operator) -> None:
    """SPACE_TO_DEPTH: a convolution that copies."""
    source, size = state.map(one), _block(one)
    if any(side % size for side in source.size):
        raise TfliteError(f"{one}: block size must divide {source.size}, not be {size}")
    channels = source.shape[0]
    weight = np.zeros((size, size, channels, channels, size, size), np.int64)
    for row, column in np.ndindex(size, size):
        weight[row, column, :, :, row, column] = np.eye(channels)
    kernels = source.kernels(weight.reshape(-1, channels, size, size))
    layer = state.copied(one, source, kernels, stride=(size, size))
    state.set_map(one, layer, source, state.shape_of(one, layer, source), source.grid)


def to_space(state: "Lowering", one: Operator) -> None:
    """DEPTH_TO_SPACE, of what the host reads."""
    source, size = state.resolved(one), _block(one)
    if source.index.ndim != 3 or source.index.shape[2] % size**2:
        raise TfliteError(
            f"{one}: block size must divide the channels of {(1, *source.index.shape)} twice, not "
            f"be {size}"
        )
    rows, columns, channels = source.index.shape
    depth = channels // size**2
    blocks = source.index.reshape(rows, columns, size, size, depth).transpose(0, 2, 1, 3, 4)
    state.set(one, replace(source, index=blocks.reshape(rows * size, columns * size, depth)))


def _block(one: Operator) -> int:
    size = 0 if one.options is None else int(one.options.BlockSize())
    if size < 1:
        raise TfliteError(f"{one}: block size must be at least 1, not {size}")
    return size


# Blocks of a batch: dilated convolutions


def to_blocks(state: "Lowering", one: Operator) -> None:
    """SPACE_TO_BATCH_ND: left to the convolution that follows."""
    source = state.raw(one)
    if source.blocks or source.meaning is not None:
        state.value(one)
    blocks = tuple(int(n) for n in state.constant(one, 1).reshape(-1))
    sizes = state.constant(one, 2).astype(int).reshape(-1, 2)
    ndim = source.index.ndim
    if len(blocks) != len(sizes) or not 1 <= len(blocks) < ndim or min(blocks) < 1:
        raise TfliteError(f"{one}: blocks must be of rows and columns, not {blocks}")
    if sizes.min() < 0:
        raise TfliteError(f"{one}: paddings must be at least 0, not {sizes.tolist()}")
    rest = ndim - len(blocks)
    old = source.margins or ((0, 0),) * ndim
    new = [*sizes.tolist(), *([0, 0] for _ in range(rest))]
    margins = tuple((a[0] + b[0], a[1] + b[1]) for a, b in zip(old, new, strict=True))
    state.values[one.outputs[0]] = replace(source, margins=margins, blocks=(*blocks, *(1,) * rest))


def from_blocks(state: "Lowering", one: Operator) -> None:
    """BATCH_TO_SPACE_ND, which the convolution before has done."""
    source = state.raw(one)
    if not source.blocks:
        raise TfliteError(f"{one} must follow a SPACE_TO_BATCH_ND and a convolution")
    state.set(one, replace(source, blocks=()))


def crops(state: "Lowering", one: Operator, blocks: tuple[int, int]) -> Sides:
    """What the BATCH_TO_SPACE_ND behind a convolution cuts off: top, left, bottom, right."""
    after = one
    while True:
        readers = state.graph.readers(after.outputs[0])
        if len(readers) == 1 and readers[0].op in SHAPING:
            after = readers[0]
            continue
        break
    if len(readers) != 1 or readers[0].op != "BATCH_TO_SPACE_ND":
        raise TfliteError(f"{one}: blocks must be undone by a BATCH_TO_SPACE_ND behind it")
    after = readers[0]
    sizes = tuple(int(n) for n in state.constant(after, 1).reshape(-1))
    cut = state.constant(after, 2).astype(int).reshape(-1, 2).tolist()
    if [n for n in sizes if n != 1] != [n for n in blocks if n != 1]:
        raise TfliteError(f"{after}: blocks must be those before, {blocks}, not {sizes}")
    if len(cut) == 1:
        place = 0 if blocks[0] != 1 else 1
        cut = [cut[0], [0, 0]] if place == 0 else [[0, 0], cut[0]]
    (top, bottom), (left, right) = cut
    return top, left, bottom, right


HANDLERS: "dict[str, Handler]" = {
    **dict.fromkeys(SHAPING, reshape),
    "TRANSPOSE": transpose,
    "PAD": pad,
    "PADV2": pad,
    "SPLIT": split,
    "SPLIT_V": split,
    "STRIDED_SLICE": strided_slice,
    "SLICE": slice_,
    "GATHER": gather,
    "CONCATENATION": concatenate,
    "DEPTH_TO_SPACE": to_space,
    "SPACE_TO_DEPTH": to_depth,
    "SPACE_TO_BATCH_ND": to_blocks,
    "BATCH_TO_SPACE_ND": from_blocks,
}
