"""Vision transformers: multiply-accumulates as published, blocks with generated weights."""

import numpy as np
import pytest

from firmware_tools.mars.bench import measure
from firmware_tools.mars.pass_difference import Compared, compare_model
from model.mars.config import CONFIGS
from model.mars.mapper import compile_network
from model.mars.network import (
    Conv,
    Dense,
    FeatureType,
    Layer,
    LayerNorm,
    MatMul,
    QuantizedNetwork,
    Softmax,
    Tokens,
)
from model.mars.random_network import random_input
from model.mars.reference import run
from model.mars.zoo import ZOO
from model.mars.zoo.builder import Builder, size_of
from model.mars.zoo.vit import block

DIM, MLP, DEPTH, HEADS = 768, 3072, 12, 12
ARRAYS = {
    shape: np.zeros(shape, np.int64)
    for shape in ((DIM, DIM, 1, 1), (MLP, DIM, 1, 1), (DIM, MLP, 1, 1), (DIM,), (MLP,))
}
"""Weights of nothing, which all layers share."""
for zeros in ARRAYS.values():
    zeros.setflags(write=False)


def vit_b16(prompts: int, depth: int) -> QuantizedNetwork:
    """The shapes of ViT-B/16, without a head, with prompts beside the class token."""
    layers: list[Layer] = []
    kind = {"out_bits": 8, "out_signed": True}

    def linear(name: str, source: str, n_kernels: int, n: int) -> str:
        layers.append(
            Conv(
                name=name,
                input=source,
                weight=ARRAYS[n_kernels, n, 1, 1],
                bias=ARRAYS[n_kernels,],
                mult=ARRAYS[n_kernels,],
                shift=np.ones(n_kernels, np.int64),
                weight_bits=8,
                **kind,
            )
        )
        return name

    def add(layer: Layer) -> str:
        layers.append(layer)
        return layer.name

    patches = linear("patches", "input", DIM, DIM)
    values = np.zeros((DIM, 1 + prompts), np.int64)
    tokens = add(Tokens(name="tokens", input=patches, values=values))
    for k in range(depth):
        query, key, value = (linear(f"{part}{k}", tokens, DIM, DIM) for part in "qkv")
        scale = {"heads": HEADS, "mult": 1, "shift": 8, **kind}
        scores = add(MatMul(name=f"s{k}", input=query, operand=key, transposed=True, **scale))
        softmax = Softmax(name=f"p{k}", input=scores, octaves=1000, **scale)
        attended = add(MatMul(name=f"o{k}", input=add(softmax), operand=value, **scale))
        grown = linear(f"g{k}", linear(f"j{k}", attended, DIM, DIM), MLP, DIM)
        tokens = linear(f"h{k}", grown, DIM, MLP)
    return QuantizedNetwork(FeatureType((DIM, 14, 14), 8, signed=True), tuple(layers))


@pytest.mark.parametrize(
    ("prompts", "published"), [(0, 17.56), (50, 22.22), (100, 26.97), (150, 31.81), (200, 36.74)]
)
def test_multiply_accumulates_of_vit_b16(prompts: int, published: float) -> None:
    """With one block; the twelve are alike."""
    patches = 196 * DIM * DIM
    macs = patches + DEPTH * (size_of(vit_b16(prompts, 1)).macs - patches)
    n = 197 + prompts
    assert macs == 12 * (12 * n * DIM**2 + 2 * n**2 * DIM) + 196 * DIM * DIM
    assert round(macs / 1e9, 2) == published


def test_multiply_accumulates_of_all_blocks() -> None:
    assert round(size_of(vit_b16(0, DEPTH)).macs / 1e9, 2) == 17.56


def small_block() -> QuantizedNetwork:
    """A block of DeiT-Tiny with fewer tokens."""
    net = Builder((48, 7, 7), 0.0, 8, 8, 0)
    tokens = net.tokens("tokens", net.conv("embed", "input", 96, size=1, rectified=False), 1)
    net.last("head", net.average("average", block(net, "block", tokens, 3)), 10)
    return net.network("block")


def test_a_block_is_lively_and_equal_on_the_golden_machine() -> None:
    net = small_block()
    features = random_input(net, 1)
    for name, values in run(net, features).items():
        if name == net.output:
            continue
        assert len(np.unique(values)) > 20, name
        assert (values == net.types[name].high).mean() < 0.1, name
    image = compile_network(net, CONFIGS["mars"])
    assert compare_model(net, image, features[0], Compared()) is None


@pytest.mark.full
def test_deit_tiny_whole() -> None:
    net = ZOO["deit-tiny"].make(0.0, 8, 8)
    assert sum(isinstance(layer, LayerNorm) for layer in net.layers) == 25
    assert sum(isinstance(layer, Conv | Dense) for layer in net.layers) == 74
    features = random_input(net, 0)[0]
    image = compile_network(net, CONFIGS["mars"])
    assert compare_model(net, image, features, Compared()) is None
    figures = measure(image, features)
    assert figures.clocks <= 1.3 * figures.total("bound")
