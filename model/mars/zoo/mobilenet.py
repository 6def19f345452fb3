"""MobileNets: depthwise separable convolutions (arXiv 1704.04861, 1801.04381)."""

from model.mars.network import INPUT, QuantizedNetwork
from model.mars.zoo.builder import Builder

V2_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion, channels, blocks, stride of the first one."""
V2_STEM, V2_HEAD = 32, 1280
V1_STEM = 8
V1_LAYERS = (
    (16, 1),
    *((32, 2), (32, 1)),
    *((64, 2), (64, 1)),
    *((128, 2), (128, 1), (128, 1), (128, 1), (128, 1), (128, 1)),
    *((256, 2), (256, 1)),
)
"""Channels and strides at a quarter of the full width."""


def mobilenetv2(sparsity: float, weight_bits: int, act_bits: int, seed: int) -> QuantizedNetwork:
    """17 inverted residuals at width 1.0, 224x224: 3.47 million weights.

    6, where ReLU6 cuts off, is the largest value of the unsigned results; those of a block, which
    are not rectified, are signed.
    """
    builder = Builder((3, 224, 224), sparsity, weight_bits, act_bits, seed)
    last = builder.conv("conv1", INPUT, V2_STEM, stride=2)
    for stage, (expansion, n_kernels, n_blocks, first_stride) in enumerate(V2_STAGES, 1):
        for block in range(1, n_blocks + 1):
            stride = first_stride if block == 1 else 1
            name = f"stage{stage}_{block}"
            last = _inverted_residual(builder, name, last, n_kernels, expansion, stride)
    last = builder.conv("conv2", last, V2_HEAD, size=1)
    builder.last("fc", builder.average("gap", last), 1000)
    return builder.network("mobilenetv2")


def _inverted_residual(
    builder: Builder, name: str, source: str, n_kernels: int, expansion: int, stride: int
) -> str:
    n_channels = builder.n_channels(source)
    inner = source
    if expansion > 1:
        inner = builder.conv(f"{name}a", source, expansion * n_channels, size=1)
    inner = builder.depthwise(f"{name}b", inner, stride=stride)
    skip = source if stride == 1 and n_channels == n_kernels else None
    return builder.conv(f"{name}c", inner, n_kernels, size=1, rectified=False, skip=skip)


def mobilenetv1_025(
    sparsity: float, weight_bits: int, act_bits: int, seed: int
) -> QuantizedNetwork:
    """MLPerf Tiny's visual wake words, 96x96, two classes: 0.208 million weights."""
    builder = Builder((3, 96, 96), sparsity, weight_bits, act_bits, seed, same=True)
    last = builder.conv("conv1", INPUT, V1_STEM, stride=2)
    for k, (n_kernels, stride) in enumerate(V1_LAYERS, 1):
        last = builder.depthwise(f"depthwise{k}", last, stride=stride)
        last = builder.conv(f"pointwise{k}", last, n_kernels, size=1)
    builder.last("fc", builder.average("gap", last), 2)
    return builder.network("mobilenetv1-025")
