"""Clocks of spiking frames on the golden machine of `mars` against the bounds of the contract."""

import numpy as np
import pytest

from model.mars import frame, reference
from model.mars.config import CONFIGS
from model.mars.lowering import lower
from model.mars.mapper import compile_network, group_sets
from model.mars.network import QuantizedNetwork
from model.mars.random_network import random_input
from model.mars.zoo import ZOO
from model.mars.zoo.spiking import as_spiking

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
"""Clocks of four steps per access by network and sparsity, T = 4, 4-bit weights; 4-bit image."""


def bound(network: QuantizedNetwork) -> float:
    """Sum over layers of max(G*P*c/M, 16*G/M), c words of four steps or nibbles of an image."""
    total = 0.0
    for one in lower(network).passes:
        sets = sum(len(block.codes) for block in group_sets(one))
        words = one.source_kind.planes if one.direct else one.n_sub_rounds
        pixels = one.map_size[0] * one.map_size[1] * words
        total += max(sets * pixels, 16 * sets) / MARS.n_macros
    return total


def make(name: str, sparsity: float, time_steps: int) -> QuantizedNetwork:
    return as_spiking(ZOO[name].make(sparsity, seed=1), time_steps)


@pytest.mark.parametrize(("name", "sparsity"), BOUNDS)
def test_bounds_are_those_of_the_contract(name: str, sparsity: float) -> None:
    four, eight = (bound(make(name, sparsity, n)) for n in (4, 8))
    assert four == pytest.approx(BOUNDS[name, sparsity], rel=0.002)
    assert four < eight < 2.01 * four


@pytest.mark.full
@pytest.mark.parametrize("time_steps", [4, 8])
@pytest.mark.parametrize(("name", "sparsity"), BOUNDS)
def test_whole_frame(name: str, sparsity: float, time_steps: int) -> None:
    """Every layer is the reference's, and the frame takes at most 1.15 times the bound."""
    network = make(name, sparsity, time_steps)
    image = compile_network(network, MARS)
    features = random_input(network, 1)[0]
    right = reference.run_steps(network, features)
    _, *runs = frame.run(image, features)
    for run, contents in zip(runs, image.contents.passes, strict=True):
        for layer, values in frame.layer_outputs(run.program.descriptor, contents, run).items():
            np.testing.assert_array_equal(values, right.values[layer][0], layer)
    rates = [right.values[layer.name].mean() for layer in network.layers[:-2]]
    assert min(rates) > 0.01
    assert max(rates) < 0.8
    assert runs[-1].clocks.end <= TARGET * bound(network)
