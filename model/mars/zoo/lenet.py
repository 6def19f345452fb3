"""LeNet-5 (LeCun et al., 1998) as it is built today: ReLU, max pools, all channels connected."""

from model.mars.network import INPUT, QuantizedNetwork
from model.mars.zoo.builder import VALID, Builder


def lenet5(sparsity: float, weight_bits: int, act_bits: int, seed: int) -> QuantizedNetwork:
    """28x28, which the first convolution pads to the 32x32 of the paper: 61,470 weights."""
    builder = Builder((1, 28, 28), sparsity, weight_bits, act_bits, seed)
    last = builder.conv("conv1", INPUT, 6, size=5)
    last = builder.pool("pool1", last)
    last = builder.conv("conv2", last, 16, size=5, padding=VALID)
    last = builder.pool("pool2", last)
    last = builder.dense("fc1", last, 120)
    last = builder.dense("fc2", last, 84)
    builder.last("fc3", last, 10)
    return builder.network("lenet5")
