"""ShuffleNetV2 (arXiv 1807.11164): split, concatenation and shuffle cost no pass of their own."""

from model.mars.network import INPUT, QuantizedNetwork
from model.mars.zoo.builder import Builder

STEM, HEAD = 24, 1024
STAGES = ((116, 4), (232, 8), (464, 4))
"""Channels and units at width 1.0."""


def shufflenetv2(sparsity: float, weight_bits: int, act_bits: int, seed: int) -> QuantizedNetwork:
    """16 units at width 1.0, 224x224: 2.26 million weights."""
    builder = Builder((3, 224, 224), sparsity, weight_bits, act_bits, seed)
    last = builder.conv("conv1", INPUT, STEM, stride=2)
    last = builder.pool("pool1", last, size=3, stride=2, padding=1)
    for stage, (n_kernels, n_units) in enumerate(STAGES, 2):
        last = _shrinking_unit(builder, f"stage{stage}_1", last, n_kernels)
        for unit in range(2, n_units + 1):
            last = _unit(builder, f"stage{stage}_{unit}", last, n_kernels)
    last = builder.conv("conv5", last, HEAD, size=1)
    builder.last("fc", builder.average("gap", last), 1000)
    return builder.network("shufflenetv2")


def _shrinking_unit(builder: Builder, name: str, source: str, n_kernels: int) -> str:
    """Two branches of half the results each, both at stride 2."""
    left = builder.depthwise(f"{name}d", source, stride=2, rectified=False)
    left = builder.conv(f"{name}e", left, n_kernels // 2, size=1)
    return _shuffled(builder, name, left, _branch(builder, name, source, n_kernels // 2, 2))


def _unit(builder: Builder, name: str, source: str, n_kernels: int) -> str:
    """One half of the channels passes, the other one goes through the branch."""
    half = n_kernels // 2
    left = builder.select(f"{name}l", [source], range(half))
    right = builder.select(f"{name}r", [source], range(half, n_kernels))
    return _shuffled(builder, name, left, _branch(builder, name, right, half, 1))


def _branch(builder: Builder, name: str, source: str, n_kernels: int, stride: int) -> str:
    inner = builder.conv(f"{name}a", source, n_kernels, size=1)
    inner = builder.depthwise(f"{name}b", inner, stride=stride, rectified=False)
    return builder.conv(f"{name}c", inner, n_kernels, size=1)


def _shuffled(builder: Builder, name: str, left: str, right: str) -> str:
    """The channels of both in turn."""
    half = builder.n_channels(left)
    channels = [k + side * half for k in range(half) for side in range(2)]
    return builder.select(f"{name}x", [left, right], channels)
