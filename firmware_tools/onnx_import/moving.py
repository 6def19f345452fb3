"""Quantising and back, and operators that only move values."""

from dataclasses import replace

import numpy as np

from firmware_tools.onnx_import import constants, views
from firmware_tools.onnx_import.builder import Builder
from firmware_tools.onnx_import.nodes import Array, Node, OnnxError
from firmware_tools.onnx_import.values import (
    NO_PADS,
    TYPES,
    Dropped,
    Feature,
    Grid,
    Joined,
    Pending,
    Source,
    Value,
)
from firmware_tools.onnx_import.views import View
from firmware_tools.onnx_import.windows import oriented
from model.mars.network import PADDING_MAX


def quantize(builder: Builder, node: Node) -> None:
    """QuantizeLinear."""
    name = node.input(0)
    if name in builder.constants:
        builder.constants[node.result] = constants.quantized(
            node, builder.constants, builder.constants[name]
        )
        return
    found = builder.value(node)
    grid = constants.grid_of(node, builder.constants)
    if name in builder.integers or (isinstance(found, Source) and found.is_integer):
        raise OnnxError(f"{node}: input {name!r} must be real numbers, not integers")
    builder.integers.add(node.result)
    if isinstance(found, Source):
        builder.values[node.result] = builder.start(grid, found)
    elif isinstance(found, Dropped):
        builder.values[node.result] = found
    else:
        builder.values[node.result] = builder.finish(found, grid)


def dequantize(builder: Builder, node: Node) -> None:
    """DequantizeLinear."""
    name = node.input(0)
    if name in builder.constants:
        builder.tensors[node.result] = constants.dequantized(
            node, builder.constants, builder.constants[name]
        )
        return
    found = builder.value(node)
    if isinstance(found, Dropped):
        builder.values[node.result] = found
    elif isinstance(found, Source):
        own = builder.graph.input_type
        grid = constants.grid_of(node, builder.constants, own)
        if own not in TYPES or TYPES[own] != (grid.bits, grid.signed):
            raise OnnxError(f"{node}: zero point must have the type of the input, {own}")
        builder.values[node.result] = builder.start(grid, found)
    elif not isinstance(found, Feature) or name not in builder.integers:
        raise OnnxError(f"{node}: input {name!r} must be the result of a QuantizeLinear")
    else:
        kind = (found.grid.bits, found.grid.signed)
        dtype = next(k for k, v in TYPES.items() if v == kind)
        grid = constants.grid_of(node, builder.constants, dtype)
        if (grid.bits, grid.signed) != kind:
            raise OnnxError(f"{node}: zero point must have the type of the input, {dtype}")
        builder.values[node.result] = replace(found, grid=grid)


def cast(builder: Builder, node: Node) -> None:
    """From real numbers to real numbers; from the input's integers; what comes last."""
    found = builder.value(node)
    number = node.integer("to", 1)
    if isinstance(found, Dropped):
        builder.values[node.result] = found
        return
    if number not in {1, 11}:
        raise OnnxError(f"{node}: to must be 1 (float32), not {number}")
    if isinstance(found, Source) and builder.graph.input_type in TYPES:
        grid = Grid(1.0, 0, *TYPES[builder.graph.input_type])
        builder.values[node.result] = builder.start(grid, found)
    elif isinstance(found, Feature) and node.input(0) in builder.integers:
        builder.values[node.result] = replace(found, grid=replace(found.grid, scale=1.0, zero=0))
    else:
        builder.values[node.result] = found


def identity(builder: Builder, node: Node) -> None:
    """Identity, Dropout."""
    if node.input(0) in builder.tensors:
        builder.tensors[node.result] = builder.tensors[node.input(0)]
        return
    if node.op == "Dropout" and node.input(2):
        training = builder.constants.get(node.input(2))
        if training is None or training.any():
            raise OnnxError(f"{node}: training_mode must be false")
    _set(builder, node, node.result, builder.value(node))


def shape(builder: Builder, node: Node) -> None:
    """Shape; the batch counts as it is in the model, or 1."""
    found = builder.value(node)
    if isinstance(found, Dropped):
        raise OnnxError(f"{node}: must not follow {found.node}, which must be last")
    first = [builder.graph.batch] if found.view.batch else []
    builder.constants[node.result] = views.shape_part(node, (*first, *found.view.dims))


def move(builder: Builder, node: Node) -> None:
    """Flatten, Reshape, Squeeze, Unsqueeze, Transpose, Gather, Slice."""
    others = tuple(_moving_constants(builder, node))
    if node.input(0) in builder.tensors:
        tensor = builder.tensors[node.input(0)]
        elsewhere = tensor.moved(lambda values: views.move(node, values, others))
        if elsewhere is None:
            builder.constants[node.result] = views.move(node, tensor.real, others)
        else:
            builder.tensors[node.result] = elsewhere
        return
    found = builder.value(node)
    if isinstance(found, Dropped):
        _set(builder, node, node.result, found)
        return
    if isinstance(found, Feature):
        found = builder.feature(node)
    if node.op == "Reshape" and others and builder.graph.batch > 1:
        others = (_of_one_image(builder, others[0]),)
    moved = found.view.with_batch(node, *others)
    if not moved.batch and builder.graph.batch > 1:
        raise OnnxError(
            f"{node}: the first dimension must stay the batch of {builder.graph.batch}, not "
            f"become one of {moved.dims}; the model must be exported with a batch of 1 or any"
        )
    _set(builder, node, node.result, _viewed(found, moved))


def _of_one_image(builder: Builder, given: Array) -> Array:
    """A shape for one image, from one for a batch."""
    if given.size and given.ravel()[0] == builder.graph.batch:
        return np.array([1, *given.ravel()[1:]])
    return given


def _viewed(found: Feature | Pending | Source, view: View) -> Feature | Pending | Source:
    return replace(found, view=view)


def _moving_constants(builder: Builder, node: Node) -> list[Array]:
    found = []
    for name in node.inputs[1:]:
        if name not in builder.constants:
            if not name:
                break
            raise OnnxError(f"{node}: {name!r} must be constant")
        found.append(builder.constants[name])
    return found


def split(builder: Builder, node: Node) -> None:
    """Parts along an axis."""
    found = builder.value(node)
    if isinstance(found, Dropped):
        found = builder.operand(node)  # refuses it
    if isinstance(found, Feature):
        found = builder.feature(node)
    others = _moving_constants(builder, node)
    axis = views.normal_axis(node, node.integer("axis", 0), found.view.n_axes) - found.view.batch
    if axis < 0:
        raise OnnxError(f"{node}: axis must not be 0, the batch")
    indices = found.view.indices
    sizes = views.sections(
        node, indices.shape[axis], others[0] if others else None, len(node.outputs)
    )
    parts = np.split(indices, np.cumsum(sizes)[:-1].tolist(), axis=axis)
    for name, part in zip(node.outputs, parts, strict=True):
        if name:
            _set(builder, node, name, _viewed(found, found.view.moved(part)))


def concat(builder: Builder, node: Node) -> None:
    """Maps one after the other along their channels, or along what these have become."""
    names = node.inputs
    are_integers = {name in builder.integers for name in names}
    if len(are_integers) != 1 or not names:
        raise OnnxError(f"{node}: must have inputs, all quantised or all real numbers")
    parts = [
        builder.feature(node, k) if isinstance(part, Feature) else part
        for k, part in enumerate([builder.operand(node, k) for k in range(len(names))])
    ]
    if len({part.view.shape[1:] for part in parts}) > 1:
        parts = [builder.cut(node, part) if isinstance(part, Feature) else part for part in parts]
    n_dims = len(parts[0].view.dims) + 1
    axis = views.normal_axis(node, node.integer("axis", 1), n_dims) - 1
    indices, start = [], 0
    first = parts[0].view
    for part in parts:
        if part.view.shape[1:] != first.shape[1:] or len(part.view.dims) != len(first.dims):
            raise OnnxError(
                f"{node}: maps must have the same rows and columns, not {part.view.shape} and "
                f"{first.shape}"
            )
        indices.append(part.view.indices + start)
        start += int(np.prod(part.view.shape))
    sides = {tuple(np.delete(part.shape, axis)) for part in indices}
    if axis < 0 or len(sides) != 1:
        raise OnnxError(f"{node}: must join channels (axis 1) of maps of the same size")
    whole = (sum(part.view.shape[0] for part in parts), *parts[0].view.shape[1:])
    joined = Joined(node, tuple(parts), View(whole, ()).moved(np.concatenate(indices, axis=axis)))
    grids = {part.grid if isinstance(part, Feature) else None for part in parts}
    grid = grids.pop()
    found = builder.finish(joined, grid) if grid is not None and not grids else joined
    if True in are_integers and not isinstance(found, Feature):
        raise OnnxError(f"{node}: quantised inputs must have the same scale and zero point")
    builder.values[node.result] = found
    if True in are_integers:
        builder.integers.add(node.result)


def pad(builder: Builder, node: Node) -> None:
    """What the Conv or pool that follows puts around its map."""
    source = builder.feature(node, padded=True)
    node.require("mode", b"constant", default=b"constant", text="constant")
    n_dims = len(source.view.dims) + 1
    given = builder.constants.get(node.input(1), node.attributes.get("pads"))
    pads = views.integer_list(node, "pads", given)
    axes = list(range(n_dims))
    if node.input(3):
        listed = views.integer_list(node, "axes", builder.constants.get(node.input(3)))
        axes = [views.normal_axis(node, axis, n_dims) for axis in listed]
    if len(pads) != 2 * len(axes):
        raise OnnxError(f"{node}: pads must be {2 * len(axes)} numbers, not {pads}")
    both = [[0, 0] for _ in range(n_dims)]
    for k, axis in enumerate(axes):
        both[axis] = [pads[k], pads[k + len(axes)]]
    if not any(map(any, both)):
        _set(builder, node, node.result, source)
        return
    wrong = any(side > PADDING_MAX for pair in both[2:] for side in pair)
    if n_dims not in {3, 4} or any(both[0]) or wrong:
        raise OnnxError(
            f"{node}: pads must be 0 for the batch and at most {PADDING_MAX} of rows and columns "
            f"of (N, C, H, W), not {pads}"
        )
    if min(map(min, both)) < 0:
        source = _cropped(node, builder.padded(node, source), both[1:])
        both = [[max(side, 0) for side in pair] for pair in both]
    source = builder.as_map(node, source)
    if any(both[1]):
        source = builder.padded(node, source)
        value = _pad_value(builder, node, source)
        source = builder.widened(node, replace(source, pad_value=value), *both[1])
    rows, columns = both[2:] if n_dims == 4 else ([0, 0], both[2])
    sides = source.view.dims[1:] if n_dims == 4 else (1, *source.view.dims[1:])
    is_turned = sides != source.view.shape[1:]
    before, after = oriented((rows[0], columns[0], rows[1], columns[1]), is_turned=is_turned)
    value = _pad_value(builder, node, source)
    if source.pads != NO_PADS and source.pad_value != value:
        raise OnnxError(f"{node}: must pad with the same value as the Pad before it")
    top, left, bottom, right = (a + b for a, b in zip((*before, *after), source.pads, strict=True))
    _set(
        builder,
        node,
        node.result,
        replace(source, pads=(top, left, bottom, right), pad_value=value),
    )


def _cropped(node: Node, source: Feature, pads: list[list[int]]) -> Feature:
    """Without what negative pads cut off."""
    kept = tuple(
        slice(max(-before, 0), side - max(-behind, 0))
        for side, (before, behind) in zip(source.view.dims, pads, strict=True)
    )
    indices = source.view.indices[kept]
    if not indices.size:
        raise OnnxError(f"{node}: must leave something of {source.view.dims}, not pad with {pads}")
    return replace(source, view=source.view.moved(indices))


def _pad_value(builder: Builder, node: Node, source: Feature) -> float:
    """In real numbers."""
    is_integer = node.input(0) in builder.integers
    constant = builder.constant(node, 2) if node.input(2) else np.zeros(1)
    if constant is None or constant.size != 1 or np.isnan(constant.astype(np.float64)).any():
        raise OnnxError(f"{node}: what it pads with must be a constant number")
    number = float(constant.ravel()[0]) if node.input(2) else node.number("value", 0.0)
    return (number - source.grid.zero) * source.grid.scale if is_integer else number


def drop(builder: Builder, node: Node) -> None:
    """Softmax, LogSoftmax, ArgMax: the host's."""
    if not isinstance(builder.value(node), Dropped):
        builder.operand(node)
    builder.values[node.result] = Dropped(node, node.input(0))


def _set(builder: Builder, node: Node, name: str, value: Value) -> None:
    builder.values[name] = value
    if node.input(0) in builder.integers:
        builder.integers.add(name)
