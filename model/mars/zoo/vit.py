"""Vision transformers, at 224x224 in patches of 16x16.

The host arranges the pixels of a patch as channels: strides of convolutions are at most 15. A class
token comes before the patches; the head reads the average of all tokens. Positions are not added:
with random weights they would change nothing.
"""

from model.mars.network import QuantizedNetwork
from model.mars.zoo import PATCHES
from model.mars.zoo.builder import Builder

MLP = 4
"""Channels between the two linear layers of a block, for each of the block's."""


def deit_tiny(sparsity: float, weight_bits: int, act_bits: int, seed: int) -> QuantizedNetwork:
    """DeiT-Tiny: 192 channels, 12 blocks of 3 heads."""
    net = Builder(PATCHES, sparsity, weight_bits, act_bits, seed)
    tokens = net.conv("patches", "input", 192, size=1, rectified=False)
    tokens = net.tokens("tokens", tokens, 1)
    for number in range(1, 13):
        tokens = block(net, f"block{number}", tokens, 3)
    net.last("head", net.average("average", net.norm("norm", tokens)), 1000)
    return net.network("deit-tiny")


def block(net: Builder, name: str, tokens: str, heads: int) -> str:
    """Attention, then two linear layers, each behind a normalisation and with a residual."""
    n = net.n_channels(tokens)

    def linear(part: str, source: str, n_kernels: int, skip: str | None = None) -> str:
        return net.conv(f"{name}.{part}", source, n_kernels, size=1, rectified=False, skip=skip)

    normed = net.norm(f"{name}.norm1", tokens)
    query, key, value = (linear(part, normed, n) for part in ("query", "key", "value"))
    scores = net.scores(f"{name}.scores", query, key, heads)
    probabilities = net.probabilities(f"{name}.softmax", scores, heads)
    attended = net.attend(f"{name}.attend", probabilities, value, heads)
    tokens = linear("project", attended, n, tokens)
    hidden = linear("grow", net.norm(f"{name}.norm2", tokens), MLP * n)
    return linear("shrink", net.gelu(f"{name}.gelu", hidden), n, tokens)
