"""VGG16 (arXiv 1409.1556) for CIFAR."""

from model.mars.network import INPUT, QuantizedNetwork
from model.mars.zoo.builder import Builder

CIFAR_SHAPE = (3, 32, 32)
N_CLASSES = 10
VGG16_CHANNELS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Convolutions between the pools."""


def vgg16(sparsity: float, weight_bits: int, act_bits: int, seed: int) -> QuantizedNetwork:
    """13 convolutions 3x3, five pools and a dense layer: 14.72 million weights."""
    builder = Builder(CIFAR_SHAPE, sparsity, weight_bits, act_bits, seed)
    last = INPUT
    for stage, channels in enumerate(VGG16_CHANNELS, 1):
        for k, n_kernels in enumerate(channels, 1):
            last = builder.conv(f"conv{stage}_{k}", last, n_kernels)
        last = builder.pool(f"pool{stage}", last)
    builder.last("fc", last, N_CLASSES)
    return builder.network("vgg16")
