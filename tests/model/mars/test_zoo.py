"""Networks of the zoo: their size, the table of mars.md, lively activations."""

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from model.mars.group_sets import by_tap, kept_sets, n_kept_sets
from model.mars.network import Conv, Dense, QuantizedNetwork
from model.mars.random_network import random_input
from model.mars.reference import run
from model.mars.zoo import ZOO

vgg16, resnet18 = ZOO["vgg16"].make, ZOO["resnet18"].make
Make = Callable[..., QuantizedNetwork]
N_MACROS = 8


def products(network: QuantizedNetwork) -> list[Conv | Dense]:
    return [layer for layer in network.layers if isinstance(layer, Conv | Dense)]


@pytest.mark.parametrize(
    ("make", "sparsity", "compute", "load", "bound"),
    [
        (vgg16, 0, 156676, 115048, 198208),
        (vgg16, 0.5, 80644, 57592, 101440),
        (vgg16, 0.75, 42628, 28864, 53056),
        (resnet18, 0, 274948, 87304, 275008),
        (resnet18, 0.5, 139780, 43720, 139840),
        (resnet18, 0.75, 72196, 21928, 72256),
    ],
)
def test_clocks_of_the_table(
    make: Make, sparsity: float, compute: int, load: int, bound: int
) -> None:
    network = make(sparsity)
    clocks = []
    for layer in products(network):
        _, rows, columns = network.types[layer.name].shape
        n_sets = n_kept_sets(layer, network.types[layer.input])
        clocks.append(
            (Fraction(n_sets * rows * columns, N_MACROS), Fraction(16 * n_sets, N_MACROS))
        )
    assert sum(one for one, _ in clocks) == compute
    assert sum(one for _, one in clocks) == load
    assert sum(max(one) for one in clocks) == bound


@pytest.mark.parametrize(
    ("make", "n_weights", "n_layers"), [(vgg16, 14_715_584, 14), (resnet18, 11_164_352, 21)]
)
def test_size(make: Make, n_weights: int, n_layers: int) -> None:
    network = make()
    layers = products(network)
    assert sum(layer.weight.size for layer in layers) == n_weights
    assert len(layers) == n_layers
    assert network.input_type.shape == (3, 32, 32)
    assert network.types[network.output].shape == (10, 1, 1)
    assert network.types[network.output].bits == 32


def test_residuals_of_resnet18() -> None:
    network = resnet18()
    skips = [layer for layer in products(network) if isinstance(layer, Conv) and layer.skip]
    assert [layer.skip for layer in skips] == [
        *["conv1", "stage1_1b"],
        *[f"stage{k}_{part}" for k in (2, 3, 4) for part in ("1s", "1b")],
    ]
    for layer in skips:
        assert layer.shift is not None
        assert set(layer.shift.tolist()) == {15}
        assert layer.skip_mult == 1 << 15  # one step stays one step


@pytest.mark.parametrize("make", [vgg16, resnet18])
@pytest.mark.parametrize(("weight_bits", "act_bits"), [(4, 4), (8, 8), (2, 1)])
def test_activations_are_lively(make: Make, weight_bits: int, act_bits: int) -> None:
    network = make(0.5, weight_bits, act_bits, seed=1)
    assert all(layer.weight_bits == weight_bits for layer in products(network))
    for name, values in run(network, random_input(network, 2)).items():
        kind = network.types[name]
        if name == network.output:
            assert len(np.unique(values)) > 4
            continue
        assert (kind.bits, kind.signed) == (act_bits, False)
        assert (values > 0).mean() > 0.2
        if act_bits > 1:
            assert (values == kind.high).mean() < 0.1
            assert len(np.unique(values)) > kind.high // 3


def test_sparsity_is_exact_but_at_the_ends() -> None:
    network = resnet18(0.9, weight_bits=8)
    layers = products(network)
    for layer in layers:
        sets = kept_sets(by_tap(layer, network.types[layer.input]), 8)
        wanted = 0 if layer in (layers[0], layers[-1]) else round(0.9 * sets.size)
        assert (~sets).sum() == wanted


def test_depends_on_the_seed() -> None:
    first, again, other = (vgg16(0.5, 2, 2, seed) for seed in (3, 3, 4))
    for one, same in zip(products(first), products(again), strict=True):
        np.testing.assert_array_equal(one.weight, same.weight)
        np.testing.assert_array_equal(one.bias, same.bias)
    assert (products(first)[5].weight != products(other)[5].weight).any()


@pytest.mark.parametrize("sparsity", [-0.1, 1.1])
def test_sparsity_is_a_share(sparsity: float) -> None:
    with pytest.raises(ValueError, match=rf"sparsity must be 0\.\.1, not {sparsity}"):
        vgg16(sparsity)
