"""Random quantised networks: they keep to the limits, cover what is legal, and are lively."""

import itertools

import numpy as np
import pytest

from model.mars.group_sets import by_tap, kept_sets
from model.mars.network import (
    ACC_MAX,
    INPUT,
    MULT_MAX,
    WIDE_MULT_MAX,
    AvgPool,
    Conv,
    Dense,
    FeatureType,
    Lookup,
    MaxPool,
    QuantizedNetwork,
    Select,
    references,
)
from model.mars.random_network import random_input, random_network
from model.mars.reference import run

N_NETWORKS = 1000


@pytest.fixture(scope="module")
def networks() -> list[QuantizedNetwork]:
    return [random_network(seed) for seed in range(N_NETWORKS)]


def products(networks: list[QuantizedNetwork]) -> list[tuple[Conv | Dense, FeatureType]]:
    """Layers with weights, and the types of what they read."""
    return [
        (layer, network.types[layer.input])
        for network in networks
        for layer in network.layers
        if isinstance(layer, Conv | Dense)
    ]


def convs(networks: list[QuantizedNetwork]) -> list[tuple[Conv, FeatureType]]:
    return [(layer, kind) for layer, kind in products(networks) if isinstance(layer, Conv)]


def assert_within(
    networks: list[QuantizedNetwork], channels: int, size: int, layers: int, sets: int
) -> None:
    for network in networks:
        assert 1 <= len(network.layers) <= layers
        for kind in network.types.values():
            assert kind.shape[0] <= channels
            assert max(kind.shape[1:]) <= size
    for layer, kind in products(networks):
        kept = kept_sets(by_tap(layer, kind), layer.weight_bits)
        assert kept[0].size <= sets


def test_limits(networks: list[QuantizedNetwork]) -> None:
    assert_within(networks, 40, 12, 8, 64)
    small = [
        random_network(seed, max_channels=5, max_size=4, max_layers=2, max_sets=9)
        for seed in range(100)
    ]
    assert_within(small, 5, 4, 2, 9)
    tiny = [
        random_network(seed, max_channels=1, max_size=1, max_layers=1, max_sets=1)
        for seed in range(20)
    ]
    assert_within(tiny, 1, 1, 1, 1)


def test_depends_on_the_seed_only() -> None:
    first, again = random_network(7), random_network(7)
    assert first.name == again.name == "random_7"
    assert first.types == again.types
    for one, same in zip(first.layers, again.layers, strict=True):
        assert vars(one).keys() == vars(same).keys()
        for name, value in vars(one).items():
            np.testing.assert_array_equal(value, getattr(same, name))
    images = random_input(first, 3, 2)
    np.testing.assert_array_equal(images, random_input(first, 3, 2))
    assert images.shape == (2, *first.input_type.shape)
    assert random_network(8).types != first.types


def test_every_type_appears(networks: list[QuantizedNetwork]) -> None:
    types = {(bits, signed) for bits in range(1, 9) for signed in (False, True)} - {(1, True)}
    assert {(n.input_type.bits, n.input_type.signed) for n in networks} == types
    inner = {(k.bits, k.signed) for n in networks for k in list(n.types.values())[1:]}
    assert inner == types | {(32, True)}
    sizes = {side for n in networks for side in n.input_type.shape[1:]}
    assert sizes == set(range(1, 13))
    assert any(n.input_type.shape[1] != n.input_type.shape[2] for n in networks)
    assert {n.input_type.shape[0] for n in networks} >= {1, 3, 15, 16, 17, 32, 33, 40}


def test_every_convolution_appears(networks: list[QuantizedNetwork]) -> None:
    layers = [layer for layer, _ in convs(networks)]
    usual = {((1, 1), (s, s), (0,) * 4) for s in (1, 2)} | {
        ((3, 3), (s, s), (p,) * 4) for s, p in itertools.product((1, 2), (0, 1))
    }
    assert usual <= {(c.kernel, c.stride, c.padding) for c in layers}
    for k in range(2):
        assert {c.kernel[k] for c in layers} == {1, 2, 3, 4, 5, 7, 11}
        assert {c.stride[k] for c in layers} == {1, 2, 3, 4}
        assert {c.dilation[k] for c in layers} == {1, 2, 3, 4}
    for side in range(4):
        assert {c.padding[side] for c in layers} == set(range(11))
    assert any(c.groups == len(c.weight) > 1 for c in layers)
    assert any(1 < c.groups < len(c.weight) for c in layers)
    assert any(c.pad_value < 0 for c in layers)
    assert any(c.pad_value > 0 for c in layers)
    for field in ("low", "high", "offset", "skip_zero"):
        assert any(getattr(c, field) for c in layers)
    assert not any(c.post_shift is not None or c.skip_mult > MULT_MAX for c in layers)
    for kind in (Conv, Dense):
        bits = {p.weight_bits for p, _ in products(networks) if isinstance(p, kind)}
        assert bits == set(range(2, 9))


def test_every_order_appears(networks: list[QuantizedNetwork]) -> None:
    kinds = (Conv, Dense, MaxPool, AvgPool, Lookup, Select)
    pairs = {
        (type(network.layer(name)) if name != INPUT else None, type(layer))
        for network in networks
        for layer in network.layers
        for name in references(layer).values()
    }
    assert pairs == set(itertools.product((None, *kinds), kinds))
    ends = {(type(n.layers[-1]), n.types[n.output].bits == 32) for n in networks}
    assert ends == {*itertools.product(kinds, (False,)), (Conv, True), (Dense, True)}
    selects = [layer for n in networks for layer in n.layers if isinstance(layer, Select)]
    assert {len(layer.inputs) for layer in selects} == {1, 2, 3}
    assert any(len(set(layer.channels)) < len(layer.channels) for layer in selects)
    assert any(
        isinstance(layer, Dense) and kind.shape[1] * kind.shape[2] > 1
        for layer, kind in products(networks)
    )
    assert max(len(n.consumers(name)) for n in networks for name in n.types) >= 3


def test_every_residual_appears(networks: list[QuantizedNetwork]) -> None:
    found = [(n, c) for n in networks for c in n.layers if isinstance(c, Conv) and c.skip]
    kinds = {type(n.layer(c.skip)) for n, c in found if c.skip and c.skip != INPUT}
    assert kinds == {Conv, Dense, MaxPool, AvgPool, Lookup, Select}
    assert sum(c.skip == INPUT for _, c in found) > 20
    assert any(c.skip == c.input for _, c in found)
    assert any(c.stride == (2, 2) and n.types[c.name].size > 20 for n, c in found)
    assert {0, 65535} <= {c.skip_mult for _, c in found}
    signs = {(n.types[c.skip].signed, c.out_signed) for n, c in found if c.skip}
    assert len(signs) == 4


def test_every_scale_appears(networks: list[QuantizedNetwork]) -> None:
    scaled = [layer for layer, _ in products(networks) if layer.out_bits != 32]
    shifts = {int(s) for layer in scaled if layer.shift is not None for s in layer.shift}
    assert shifts == set(range(1, 41))
    mults = {int(m) for layer in scaled if layer.mult is not None for m in layer.mult}
    assert {0, 1, 65535} <= mults
    averages = [a for n in networks for a in n.layers if isinstance(a, AvgPool)]
    assert {0, 65535} <= {a.mult for a in averages}
    assert {1, 40} <= {a.shift for a in averages}
    rooms = np.concatenate(
        [
            ACC_MAX
            - np.abs(layer.bias)
            - np.abs(layer.weight).reshape(len(layer.weight), -1).sum(axis=1) * kind.magnitude
            for layer, kind in products(networks)
        ]
    )
    assert {0, 1} <= set(rooms.tolist())


def test_sparsity_is_well_spread(networks: list[QuantizedNetwork]) -> None:
    sets = [kept_sets(by_tap(layer, kind), layer.weight_bits) for layer, kind in products(networks)]
    shares = np.array([kept.mean() for kept in sets if kept.size >= 20])
    assert (shares == 1).any()
    assert ((shares > 0.3) & (shares < 0.7)).mean() > 0.1
    assert (shares < 0.15).mean() > 0.1
    assert any((~kept.any(axis=(1, 2))).any() and kept.any() for kept in sets)  # empty blocks


def test_results_are_well_spread(networks: list[QuantizedNetwork]) -> None:
    low, high, used = [], [], []
    for seed, network in enumerate(networks[:150]):
        for name, values in run(network, random_input(network, seed)).items():
            kind = network.types[name]
            if values.size >= 40:
                low.append((values == kind.low).mean())
                high.append((values == kind.high).mean())
                used.append(len(np.unique(values)) / min(values.size, 1 << kind.bits))
    assert np.median(low) < 0.6
    assert np.median(high) < 0.3
    assert np.median(used) > 0.4
    assert (np.array(high) > 0.5).mean() > 0.02  # some saturate
    assert np.mean(np.array(used) > 0.2) > 0.6


def test_inputs_are_of_their_type(networks: list[QuantizedNetwork]) -> None:
    for seed, network in enumerate(networks[:100]):
        kind = network.input_type
        images = random_input(network, seed, 4)
        assert kind.low <= images.min() <= images.max() <= kind.high


def test_wide_multipliers() -> None:
    networks = [random_network(seed, wide=True) for seed in range(60)]
    layers = [p for p, _ in products(networks) if p.mult is not None]
    assert max(int(p.mult.max()) for p in layers if p.mult is not None) == WIDE_MULT_MAX
    posts = {int(x) for p in layers if p.post_shift is not None for x in p.post_shift}
    assert posts >= {0, 1, 2, 3, 10, 20, 31}
