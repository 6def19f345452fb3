"""MLPerf Tiny's shapes (arXiv 2106.07597, github.com/mlcommons/tiny) but its MobileNet."""

from model.mars.network import INPUT, QuantizedNetwork
from model.mars.zoo.builder import VALID, Builder
from model.mars.zoo.resnet import basic_block

AUTOENCODER_WIDTHS = (128, 128, 128, 128, 8, 128, 128, 128, 128)
SWW_BLOCKS = ((3, 128), (5, 64), (10, 64), (15, 32))
"""Taps of the depthwise convolution, channels of the pointwise one."""


def resnet8(sparsity: float, weight_bits: int, act_bits: int, seed: int) -> QuantizedNetwork:
    """Image classification, 32x32: three residual blocks, 77,360 weights."""
    builder = Builder((3, 32, 32), sparsity, weight_bits, act_bits, seed, same=True)
    last = builder.conv("conv1", INPUT, 16)
    for stage, (n_kernels, stride) in enumerate(((16, 1), (32, 2), (64, 2)), 1):
        last = basic_block(builder, f"stage{stage}", last, n_kernels, stride)
    builder.last("fc", builder.average("gap", last), 10)
    return builder.network("resnet8")


def ds_cnn(sparsity: float, weight_bits: int, act_bits: int, seed: int) -> QuantizedNetwork:
    """Keyword spotting, 49 frames of 10 features: 22,016 weights."""
    builder = Builder((1, 49, 10), sparsity, weight_bits, act_bits, seed, same=True)
    last = builder.conv("conv1", INPUT, 64, size=(10, 4), stride=2)
    for k in range(1, 5):
        last = builder.depthwise(f"depthwise{k}", last)
        last = builder.conv(f"pointwise{k}", last, 64, size=1)
    builder.last("fc", builder.average("gap", last), 12)
    return builder.network("ds-cnn")


def autoencoder(sparsity: float, weight_bits: int, act_bits: int, seed: int) -> QuantizedNetwork:
    """Anomaly detection, five frames of 128 features: ten dense layers, 264,192 weights."""
    builder = Builder((640, 1, 1), sparsity, weight_bits, act_bits, seed)
    last = INPUT
    for k, width in enumerate(AUTOENCODER_WIDTHS, 1):
        last = builder.dense(f"fc{k}", last, width)
    builder.last("fc10", last, 640)
    return builder.network("autoencoder")


def sww(sparsity: float, weight_bits: int, act_bits: int, seed: int) -> QuantizedNetwork:
    """Streaming wake word, 30 frames of 40 features, no padding: 21,912 weights.

    The default of `benchmark/training/streaming_wakeword/keras_model.py`: what is between the two
    convolutions of a block is not rectified.
    """
    builder = Builder((40, 30, 1), sparsity, weight_bits, act_bits, seed)
    last = INPUT
    for k, (n_taps, n_kernels) in enumerate(SWW_BLOCKS, 1):
        size = (n_taps, 1)
        last = builder.depthwise(f"depthwise{k}", last, size=size, padding=VALID, rectified=False)
        last = builder.conv(f"pointwise{k}", last, n_kernels, size=1)
    builder.last("fc", last, 3)
    return builder.network("sww")
