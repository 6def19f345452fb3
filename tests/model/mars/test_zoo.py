"""Networks of the zoo: their size, the table of mars.md, lively activations."""

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from firmware_tools.mars.pass_difference import Compared, compare_model
from model.mars.config import CONFIGS
from model.mars.group_sets import by_tap, kept_sets, n_kept_sets
from model.mars.mapper import compile_network
from model.mars.network import Conv, Dense, QuantizedNetwork
from model.mars.random_network import random_input
from model.mars.reference import run
from model.mars.zoo import ZOO, Entry
from model.mars.zoo.builder import size_of

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


# Trainable parameters as published, and how many of them a convolution's channel has besides its
# weights: gains and offsets of batch normalisation (2), with the bias (3), or with mean and
# variance, which Keras counts (5). torchvision: the pages of its models. LeNet-5
# with all channels connected: 61,706. MLPerf Tiny: Keras' summaries of the reference models
# (github.com/mlcommons/tiny, benchmark/training); keyword spotting as NXP's model zoo states it.
# The autoencoder and the wake word are as their keras_model.py says.
PARAMETERS = {
    "resnet18-imagenet": (11_689_512, 2),
    "resnet34": (21_797_672, 2),
    "resnet50": (25_557_032, 2),
    "mobilenetv2": (3_504_872, 2),
    "shufflenetv2": (2_278_604, 2),
    "lenet5": (61_706, 1),
    "ds-cnn": (23_756, 3),
    "mobilenetv1-025": (221_794, 5),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_published_parameters(name: str) -> None:
    network = ZOO[name].make()
    published, n_others = PARAMETERS[name]
    layers = products(network)
    n_channels = sum(len(layer.weight) for layer in layers if isinstance(layer, Conv))
    n_biases = sum(len(layer.weight) for layer in layers if isinstance(layer, Dense))
    assert ZOO[name].size.weights + n_others * n_channels + n_biases == published


def test_published_parameters_of_resnet8() -> None:
    """Keras counts 78,666: biases everywhere, normalisation but not of the shortcuts."""
    n_channels = sum(
        len(layer.weight) * (1 if layer.name.endswith("s") else 5)
        for layer in products(ZOO["resnet8"].make())
        if isinstance(layer, Conv)
    )
    assert ZOO["resnet8"].size.weights + n_channels + 10 == 78_666


@pytest.mark.parametrize("entry", ZOO.values(), ids=lambda entry: entry.name)
def test_what_the_list_says(entry: Entry) -> None:
    network = entry.make()
    assert network.name == entry.name
    assert network.input_type.shape == entry.shape
    assert size_of(network) == entry.size
    assert network.types[network.output].bits == 32


SMALL = ("lenet5", "resnet8", "ds-cnn", "mobilenetv1-025", "autoencoder", "sww")
LARGE = ("vgg16", "resnet18", "resnet18-imagenet", "mobilenetv2", "shufflenetv2")


def assert_equal_on_mars(network: QuantizedNetwork) -> None:
    image = compile_network(network, CONFIGS["mars"])
    features = random_input(network, 1)[0]
    compared = Compared()
    assert compare_model(network, image, features, compared) is None
    assert compared.values > 0


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("name", SMALL)
def test_frames(name: str, bits: int) -> None:
    assert_equal_on_mars(ZOO[name].make(0.25, bits, bits, 1))


@pytest.mark.full
@pytest.mark.parametrize("name", [*LARGE, "resnet34", "resnet50"])
def test_large_frames(name: str) -> None:
    assert_equal_on_mars(ZOO[name].make())


@pytest.mark.parametrize("name", LARGE)
def test_large_networks_fit(name: str) -> None:
    assert len(compile_network(ZOO[name].make(), CONFIGS["mars"]).passes) > 10


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


@pytest.mark.parametrize("name", ["vgg16", "resnet18"])
@pytest.mark.parametrize(("weight_bits", "act_bits"), [(4, 4), (8, 8), (2, 1)])
def test_activations_are_lively(name: str, weight_bits: int, act_bits: int) -> None:
    assert_lively(ZOO[name].make(0.5, weight_bits, act_bits, seed=1), weight_bits, act_bits)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("bits", [4, 8])
def test_activations_of_small_ones_are_lively(name: str, bits: int) -> None:
    assert_lively(ZOO[name].make(0.5, bits, bits, seed=1), bits, bits)


@pytest.mark.full
@pytest.mark.parametrize("name", ["resnet50", "mobilenetv2", "shufflenetv2"])
def test_activations_of_large_ones_are_lively(name: str) -> None:
    assert_lively(ZOO[name].make(), 4, 4)


def assert_lively(network: QuantizedNetwork, weight_bits: int, act_bits: int) -> None:
    assert all(layer.weight_bits == weight_bits for layer in products(network))
    for name, values in run(network, random_input(network, 2)).items():
        kind = network.types[name]
        if name == network.output:
            assert len(np.unique(values)) >= min(values.size, 5)
            continue
        assert kind.bits == (max(act_bits, 2) if kind.signed else act_bits)
        assert (values > 0).mean() > 0.15
        if kind.bits > 2:
            assert (values == kind.high).mean() < 0.1
            assert len(np.unique(values)) > min(kind.high, values.size // 2) // 3


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
