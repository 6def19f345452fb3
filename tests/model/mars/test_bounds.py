"""Clocks of whole frames on the golden machine of `mars` against the bounds of the contract."""

import numpy as np
import pytest

from model.mars import frame, reference
from model.mars.config import CONFIGS
from model.mars.lowering import lower
from model.mars.mapper import compile_network, group_sets
from model.mars.network import QuantizedNetwork
from model.mars.random_network import random_input
from model.mars.zoo import ZOO

MARS = CONFIGS["mars"]
TARGET = 1.15
BOUNDS = {
    ("vgg16", 0.0): 198_208,
    ("vgg16", 0.5): 101_440,
    ("vgg16", 0.75): 53_056,
    ("resnet18", 0.0): 275_008,
    ("resnet18", 0.5): 139_840,
    ("resnet18", 0.75): 72_256,
}
"""Clocks by network and sparsity, 4-bit weights and activations."""


def bound(network: QuantizedNetwork) -> float:
    """Sum of max(compute, load) over the layers with weights, as the contract defines it.

    Its first layer is not packed.
    """
    total = 0.0
    for one in lower(network).passes:
        if not one.copy:
            sets = sum(len(block.codes) for block in group_sets(one))
            pixels = one.map_size[0] * one.map_size[1] * one.source_kind.planes
            total += max(sets * pixels, 16 * sets) / MARS.n_macros
    return total


@pytest.mark.parametrize(("name", "sparsity"), BOUNDS)
def test_bounds_are_those_of_the_contract(name: str, sparsity: float) -> None:
    assert bound(ZOO[name].make(sparsity)) == pytest.approx(BOUNDS[name, sparsity], rel=0.002)


@pytest.mark.full
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(("name", "sparsity"), BOUNDS)
def test_whole_frame(name: str, sparsity: float, bits: int) -> None:
    """Every layer is the reference's, and the frame takes at most 1.15 times the bound."""
    network = ZOO[name].make(sparsity, bits, bits, seed=1)
    image = compile_network(network, MARS)
    features = random_input(network, 1)[0]
    right = reference.run(network, features)
    _, *runs = frame.run(image, features)
    for run, contents in zip(runs, image.contents.passes, strict=True):
        for layer, values in frame.layer_outputs(run.program.descriptor, contents, run).items():
            np.testing.assert_array_equal(values, right[layer][0], layer)
    assert runs[-1].clocks.end <= TARGET * bound(network)
