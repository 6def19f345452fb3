"""Residual networks (arXiv 1512.03385), strides and shortcuts as torchvision has them."""

from model.mars.network import INPUT, QuantizedNetwork
from model.mars.zoo.builder import Builder

CIFAR_SHAPE = (3, 32, 32)
IMAGENET_SHAPE = (3, 224, 224)
STAGE_CHANNELS = (64, 128, 256, 512)
EXPANSION = 4
"""Results of a bottleneck for each channel inside."""


def resnet18(sparsity: float, weight_bits: int, act_bits: int, seed: int) -> QuantizedNetwork:
    """17 convolutions 3x3, three 1x1 in residuals, and a dense layer: 11.16 million weights."""
    builder = Builder(CIFAR_SHAPE, sparsity, weight_bits, act_bits, seed)
    last = builder.conv("conv1", INPUT, STAGE_CHANNELS[0])
    last = _stages(builder, last, (2, 2, 2, 2))
    builder.last("fc", builder.average("gap", last), 10)
    return builder.network("resnet18")


def resnet18_imagenet(
    sparsity: float, weight_bits: int, act_bits: int, seed: int
) -> QuantizedNetwork:
    """Eight blocks of two convolutions behind a 7x7 stem: 11.68 million weights."""
    builder = Builder(IMAGENET_SHAPE, sparsity, weight_bits, act_bits, seed)
    return _imagenet(builder, "resnet18-imagenet", (2, 2, 2, 2))


def resnet34(sparsity: float, weight_bits: int, act_bits: int, seed: int) -> QuantizedNetwork:
    """16 blocks of two convolutions behind a 7x7 stem: 21.78 million weights."""
    builder = Builder(IMAGENET_SHAPE, sparsity, weight_bits, act_bits, seed)
    return _imagenet(builder, "resnet34", (3, 4, 6, 3))


def resnet50(sparsity: float, weight_bits: int, act_bits: int, seed: int) -> QuantizedNetwork:
    """16 bottlenecks behind a 7x7 stem, their strides in the 3x3: 25.50 million weights."""
    builder = Builder(IMAGENET_SHAPE, sparsity, weight_bits, act_bits, seed)
    return _imagenet(builder, "resnet50", (3, 4, 6, 3), bottleneck=True)


def _imagenet(
    builder: Builder, name: str, n_blocks: tuple[int, ...], *, bottleneck: bool = False
) -> QuantizedNetwork:
    """Stem, pool, stages, average and 1000 classes."""
    last = builder.conv("conv1", INPUT, STAGE_CHANNELS[0], size=7, stride=2)
    last = builder.pool("pool1", last, size=3, stride=2, padding=1)
    last = _stages(builder, last, n_blocks, bottleneck=bottleneck)
    builder.last("fc", builder.average("gap", last), 1000)
    return builder.network(name)


def _stages(
    builder: Builder, last: str, n_blocks: tuple[int, ...], *, bottleneck: bool = False
) -> str:
    for stage, (n_kernels, n) in enumerate(zip(STAGE_CHANNELS, n_blocks, strict=True), 1):
        for block in range(1, n + 1):
            stride = 2 if stage > 1 and block == 1 else 1
            name = f"stage{stage}_{block}"
            if bottleneck:
                last = _bottleneck(builder, name, last, n_kernels, stride)
            else:
                last = basic_block(builder, name, last, n_kernels, stride)
    return last


def basic_block(builder: Builder, name: str, source: str, n_kernels: int, stride: int) -> str:
    """Two convolutions 3x3 and a residual; where the map shrinks a 1x1 convolution is in it."""
    inner = builder.conv(f"{name}a", source, n_kernels, stride=stride)
    skip = source
    if stride > 1:
        skip = builder.conv(f"{name}s", source, n_kernels, stride=stride, size=1)
    return builder.conv(f"{name}b", inner, n_kernels, skip=skip)


def _bottleneck(builder: Builder, name: str, source: str, n_kernels: int, stride: int) -> str:
    """Convolutions 1x1, 3x3 and 1x1, and a residual."""
    n_results = EXPANSION * n_kernels
    inner = builder.conv(f"{name}a", source, n_kernels, size=1)
    inner = builder.conv(f"{name}b", inner, n_kernels, stride=stride)
    skip = source
    if builder.n_channels(source) != n_results:
        skip = builder.conv(f"{name}s", source, n_results, stride=stride, size=1)
    return builder.conv(f"{name}c", inner, n_results, size=1, skip=skip)
