"""Conv, Gemm, MatMul: products with constant weights."""

from dataclasses import replace
from math import prod

import numpy as np

from firmware_tools.onnx_import import products
from firmware_tools.onnx_import.builder import Builder
from firmware_tools.onnx_import.constants import STATIC
from firmware_tools.onnx_import.nodes import Array, Node, OnnxError
from firmware_tools.onnx_import.values import TYPES, Feature, Products, Tensor
from firmware_tools.onnx_import.views import View, pixels
from firmware_tools.onnx_import.windows import padding_of, window
from firmware_tools.requantization import Reals
from model.mars.network import KERNEL_MAX

BIAS_TOLERANCE = 1e-5
"""Relative difference up to which a bias' scale, a float32, is that of the accumulator."""


def conv(builder: Builder, node: Node) -> None:
    """Of (N, C, H, W) or (N, C, L), grouped or not."""
    source = builder.feature(node, padded=True)
    tensor = _weight(builder, node, 1)
    weight = tensor.centred
    n_dims = len(source.view.dims)
    if weight.ndim != n_dims + 1 or weight.ndim not in {3, 4}:
        raise OnnxError(
            f"{node}: must be a convolution of (N, C, H, W) or (N, C, L) with as many dimensions "
            f"of weights, not of {source.view.dims} with {weight.shape}"
        )
    source = builder.as_map(node, source)
    kernel = list(weight.shape[2:])
    node.require("kernel_shape", kernel, default=kernel, text=f"that of the weights, {kernel}")
    if max(kernel) > KERNEL_MAX:
        raise OnnxError(f"{node}: kernel must be at most {KERNEL_MAX}x{KERNEL_MAX}, not {kernel}")
    groups = node.integer("group", 1)
    channels = source.view.shape[0]
    if groups < 1 or len(weight) % groups or weight.shape[1] * groups != channels:
        raise OnnxError(
            f"{node}: weights must be for {channels} channels in {groups} groups, "
            f"not have the shape {weight.shape}"
        )
    around = window(node, source, kernel)
    padding, pad_value = padding_of(node, source, around.padding, source.grid.zero)
    scale = _scales(node, tensor, source, axis=0)
    builder.values[node.result] = Products(
        node,
        source,
        around.weight(weight),
        _bias(builder, node, scale),
        scale,
        around.view(len(weight)),
        stride=around.stride,
        dilation=around.dilation,
        padding=padding,
        pad_value=pad_value,
        groups=groups,
    )


def gemm(builder: Builder, node: Node) -> None:
    """Of (N, C)."""
    node.require("transA", 0, default=0)
    alpha, beta = node.number("alpha", 1.0), node.number("beta", 1.0)
    if alpha <= 0:
        raise OnnxError(f"{node}: alpha must be positive, not {alpha}")
    source = builder.feature(node)
    tensor = _matrix(builder, node, 1)
    if not node.integer("transB", 0):
        tensor = tensor.transposed((1, 0))
    if source.view.n_axes != 2:
        raise OnnxError(f"{node}: must multiply (N, C), not (N, *{source.view.dims})")
    if source.view.batch:
        found = _dense(builder, node, source, tensor, alpha)
    else:
        found = _linear(builder, node, source, tensor, alpha)
    builder.values[node.result] = replace(found, bias=found.bias * beta)


def matmul(builder: Builder, node: Node) -> None:
    """Of (N, ..., C) and a matrix, of a matrix and (N, C, L), or of two activations."""
    if node.input(0) in builder.values and node.input(1) in builder.values:
        products.match(builder, node)
        return
    if node.input(0) in builder.tensors or node.input(0) in builder.constants:
        source = builder.feature(node, 1)
        if len(source.view.dims) != 2:
            raise OnnxError(f"{node}: a matrix must multiply (N, C, L), not {source.view.dims}")
        _pointwise(builder, node, source, _matrix(builder, node, 0))
        return
    source = builder.feature(node)
    tensor = _matrix(builder, node, 1).transposed((1, 0))
    if len(source.view.dims) == 1 and source.view.batch:
        builder.values[node.result] = _dense(builder, node, source, tensor, 1.0)
        return
    builder.values[node.result] = _linear(builder, node, source, tensor, 1.0)


def _linear(
    builder: Builder, node: Node, source: Feature, tensor: Tensor, alpha: float
) -> Products:
    """A matrix for every pixel of (..., C)."""
    rows = source.view.rows()
    if rows is None:
        raise OnnxError(
            f"{node}: its input must be channels of pixels of a map {source.view.shape}, "
            f"(N, ..., C), not {source.view.dims} of other axes"
        )
    _check_inputs(node, tensor, len(rows.channels))
    n_pixels = pixels(source.view)
    name = builder.select(node, (source.layer,), rows.channels.tolist(), source.grid)
    channels = (len(rows.channels), *source.view.shape[1:])
    scale = _scales(node, tensor, source, axis=0) * alpha
    bias = _bias(builder, node, scale) if node.op == "Gemm" else np.zeros(len(scale))
    indices = np.arange(len(scale)) * n_pixels + rows.pixels[:, np.newaxis]
    shape = (len(scale), *source.view.shape[1:])
    view = replace(source.view, shape=shape).moved(
        indices.reshape(*source.view.dims[:-1], len(scale))
    )
    read = replace(source, layer=name, view=View(channels, channels), base=None)
    return Products(node, read, tensor.centred[..., np.newaxis, np.newaxis], bias, scale, view)


def _pointwise(builder: Builder, node: Node, source: Feature, tensor: Tensor) -> None:
    """A matrix for every pixel of (C, ...)."""
    source = builder.as_map(node, source, is_pointwise=True)
    _check_inputs(node, tensor, source.view.shape[0])
    scale = _scales(node, tensor, source, axis=0)
    shape = (len(scale), *source.view.shape[1:])
    view = View(shape, (len(scale), *source.view.dims[1:]))
    weight = tensor.centred[:, :, np.newaxis, np.newaxis]
    builder.values[node.result] = Products(node, source, weight, np.zeros(len(scale)), scale, view)


def _dense(builder: Builder, node: Node, source: Feature, tensor: Tensor, alpha: float) -> Products:
    weight = tensor.centred
    _check_inputs(node, tensor, source.view.dims[0])
    if source.view.order is not None:
        placed = np.zeros((len(weight), prod(source.view.shape)), np.int64)
        np.add.at(placed.T, source.view.order, weight.T)
        weight = placed
    scale = _scales(node, tensor, source, axis=0) * alpha
    bias = _bias(builder, node, scale) if node.op == "Gemm" else np.zeros(len(scale))
    view = View((len(scale), 1, 1), (len(scale),))
    return Products(node, source, weight, bias, scale, view)


def _check_inputs(node: Node, tensor: Tensor, n_inputs: int) -> None:
    if tensor.values.shape[1] != n_inputs:
        raise OnnxError(
            f"{node}: weights must be for {n_inputs}, not {tensor.values.shape[1]} inputs"
        )


def _matrix(builder: Builder, node: Node, k: int) -> Tensor:
    tensor = _weight(builder, node, k)
    if tensor.values.ndim != 2:
        raise OnnxError(f"{node}: weights must be a matrix, not of shape {tensor.values.shape}")
    return tensor


def _weight(builder: Builder, node: Node, k: int) -> Tensor:
    name = node.input(k)
    if name not in builder.tensors:
        what = f"float; the model must be quantised with {STATIC}"
        if name not in builder.constants:
            what = "computed; the chip multiplies no two maps"
        raise OnnxError(
            f"{node}: weights {name!r} must be constants that are quantised to int8, not {what}"
        )
    tensor = builder.tensors[name]
    if tensor.dtype not in TYPES:
        wanted = ", ".join(TYPES)
        raise OnnxError(
            f"{node}: weights {name!r} must be among {wanted}, not {tensor.dtype}; quantise with "
            "weight_type=QuantType.QInt8"
        )
    return tensor


def _scales(node: Node, tensor: Tensor, source: Feature, axis: int) -> Reals:
    """What an accumulator step of each channel stands for."""
    if tensor.axis not in {None, axis}:
        raise OnnxError(
            f"{node}: scales of the weights must be one or one per output channel, not one per "
            "input"
        )
    n_channels = tensor.values.shape[axis]
    return np.broadcast_to(tensor.scale * source.grid.scale, (n_channels,))


def _bias(builder: Builder, node: Node, scale: Reals) -> Reals:
    """In accumulator steps; a whole number if its scale is the accumulator's."""
    name = node.input(2)
    if not name:
        return np.zeros(len(scale))
    real: Array | None = builder.constant(node, 2)
    if real is None:
        raise OnnxError(f"{node}: bias {name!r} must be constant")
    tensor = builder.tensors.get(name)
    real = np.asarray(real, np.float64).ravel()
    if real.size not in {1, len(scale)} or not np.isfinite(real).all():
        raise OnnxError(f"{node}: bias {name!r} must be {len(scale)} finite numbers")
    steps = real / scale
    if tensor is not None and tensor.scale.size in {1, len(scale)} and not tensor.zero.any():
        is_same = np.allclose(tensor.scale, scale, BIAS_TOLERANCE, 0)
        steps = tensor.values.ravel().astype(np.float64) if is_same else steps
    return np.broadcast_to(steps, (len(scale),)).copy()
