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
        assert {c.kernel[k] for c in layers} == set(range(1, 12))
        assert {c.stride[k] for c in layers} == set(range(1, 16))
        assert {c.dilation[k] for c in layers} == {1, 2, 3, 4}
        assert any(c.kernel[k] > 1 and c.kernel[1 - k] == 1 for c in layers)
    for side in range(4):
        assert {c.padding[side] for c in layers} == set(range(11))
        assert any(c.padding[side] and not sum(c.padding) - c.padding[side] for c in layers)
    for kind in (Conv, Dense):
        bits = {p.weight_bits for p, _ in products(networks) if isinstance(p, kind)}
        assert bits == set(range(2, 9))


def test_pad_values_are_anything_of_the_type(networks: list[QuantizedNetwork]) -> None:
    padded = [(c.pad_value, kind) for c, kind in convs(networks) if any(c.padding)]
    assert all(kind.low <= value <= kind.high for value, kind in padded)
    assert any(value == kind.low < 0 for value, kind in padded)
    assert any(value == kind.high for value, kind in padded)
    assert len({value for value, _ in padded}) > 60
    assert sum(value == 0 for value, _ in padded) > 100


def test_every_group_appears(networks: list[QuantizedNetwork]) -> None:
    grouped = [(c, c.weight.shape[1], len(c.weight)) for c, _ in convs(networks) if c.groups > 1]
    assert sum(per_group == 1 and n == c.groups for c, per_group, n in grouped) > 40
    assert any(per_group == 1 and n == 2 * c.groups for c, per_group, n in grouped)
    assert any(per_group == 1 and n > 2 * c.groups for c, per_group, n in grouped)
    assert {2, 4, 8} <= {per_group for _, per_group, _ in grouped}
    assert any(c.groups > 16 and per_group > 1 for c, per_group, _ in grouped)
    assert any(c.groups % 16 and c.groups > 16 for c, _, _ in grouped)
    assert any(max(c.kernel) > 1 and per_group == 1 for c, per_group, _ in grouped)


def test_what_follows_accumulators_appears(networks: list[QuantizedNetwork]) -> None:
    scaled = [layer for layer, _ in products(networks) if layer.out_bits != 32]
    for kind in (Conv, Dense):
        some = [layer for layer in scaled if isinstance(layer, kind)]
        for field in ("low", "high"):
            ends = [getattr(layer, field) for layer in some if getattr(layer, field) is not None]
            assert 0.05 < len(ends) / len(some) < 0.3
        assert any(layer.low is not None and layer.high is not None for layer in some)
    assert any(layer.low is not None and layer.low > 0 for layer in scaled)
    assert any(layer.high is not None and layer.high < 0 for layer in scaled)
    averages = [a for n in networks for a in n.layers if isinstance(a, AvgPool)]
    for some in (scaled, averages):
        offsets = {layer.offset for layer in some}
        assert min(offsets) < 0 < max(offsets)
    assert {-255, 255} <= {layer.offset for layer in scaled}
    zeros = {c.skip_zero for c, _ in convs(networks) if c.skip}
    assert {-255, 0, 255} <= zeros
    assert len(zeros) > 20
    assert {a.bias > 0 for a in averages if a.bias} == {True, False}
    sums = [
        (n.types[a.input], abs(a.bias))
        for n in networks
        for a in n.layers
        if isinstance(a, AvgPool)
    ]
    rooms = {ACC_MAX - bias - k.shape[1] * k.shape[2] * k.magnitude for k, bias in sums}
    assert {0, 1} & rooms


def test_narrow_networks_are_for_any_configuration(networks: list[QuantizedNetwork]) -> None:
    for layer, _ in products(networks):
        assert layer.post_shift is None
        assert layer.mult is None or layer.mult.max() <= MULT_MAX
        assert not isinstance(layer, Conv) or layer.skip_mult <= MULT_MAX
    for network in networks:
        for layer in network.layers:
            assert not isinstance(layer, AvgPool) or layer.mult <= MULT_MAX
            assert not isinstance(layer, AvgPool) or layer.post_shift == 0


def test_every_pool_appears(networks: list[QuantizedNetwork]) -> None:
    pools = [(p, n.types[p.input]) for n in networks for p in n.layers if isinstance(p, MaxPool)]
    assert 0.3 < np.mean([p.is_quad for p, _ in pools]) < 0.8
    for k in range(2):
        assert {p.kernel[k] for p, _ in pools} >= set(range(1, 12))
        assert {p.steps[k] for p, _ in pools} >= {1, 2, 3, 4}
        assert any(p.steps[k] < p.kernel[k] for p, _ in pools)
        assert any(p.steps[k] > p.kernel[k] for p, _ in pools)
    for side in range(4):
        assert {p.padding[side] for p, _ in pools} >= {0, 1, 2, 3}
    assert any(p.kernel == kind.shape[1:] and kind.size > 1 for p, kind in pools)
    assert any(kind.signed and any(p.padding) for p, kind in pools)


def test_every_table_appears(networks: list[QuantizedNetwork]) -> None:
    tables = [(t, n.types[t.input]) for n in networks for t in n.layers if isinstance(t, Lookup)]
    assert {len(t.table) for t, _ in tables} == {1 << bits for bits in range(1, 9)}
    assert {(kind.signed, t.out_signed) for t, kind in tables} == set(
        itertools.product((False, True), repeat=2)
    )
    large = [t.table for t, _ in tables if len(t.table) >= 16]
    rises = [(np.diff(table) >= 0).mean() for table in large]
    assert 0.3 < np.mean(np.array(rises) == 1) < 0.9
    assert min(rises) < 0.7


def test_every_selection_appears(networks: list[QuantizedNetwork]) -> None:
    found = [(n, s) for n in networks for s in n.layers if isinstance(s, Select)]
    assert {len(s.inputs) for _, s in found} == {1, 2, 3}
    assert sum(len(set(s.inputs)) > 1 for _, s in found) > 20  # maps of different layers
    assert any(INPUT in s.inputs[1:] and len(set(s.inputs)) > 1 for _, s in found)
    sizes = [sum(n.types[name].shape[0] for name in s.inputs) for n, s in found]
    orders = [(s.channels, list(range(n))) for (_, s), n in zip(found, sizes, strict=True)]
    assert any(list(order) == every for order, every in orders)
    assert any(len(order) < len(every) for order, every in orders)
    assert any(sorted(order) == every and list(order) != every for order, every in orders)
    assert any(len(set(order)) < len(order) for order, _ in orders)
    assert max(len(s.channels) for _, s in found) == 40


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
    assert_lively(networks[:500])


def assert_lively(networks: list[QuantizedNetwork]) -> None:
    low, high, used = [], [], []
    for seed, network in enumerate(networks):
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
    networks = [random_network(seed, wide=True) for seed in range(400)]
    layers = [p for p, _ in products(networks) if p.mult is not None]
    mults = {int(m) for p in layers if p.mult is not None for m in p.mult}
    assert {0, 1, WIDE_MULT_MAX} <= mults
    assert np.mean(np.array(list(mults)) > MULT_MAX) > 0.5
    posts = {int(x) for p in layers if p.post_shift is not None for x in p.post_shift}
    assert posts == set(range(32))
    assert any(p.post_shift is None for p in layers)
    assert any(
        int(s) == 40 and int(p) > 20
        for layer in layers
        if layer.shift is not None and layer.post_shift is not None
        for s, p in zip(layer.shift, layer.post_shift, strict=True)
    )
    skips = {c.skip_mult for c, _ in convs(networks) if c.skip}
    assert max(skips) == WIDE_MULT_MAX
    averages = [a for n in networks for a in n.layers if isinstance(a, AvgPool)]
    assert max(a.mult for a in averages) > MULT_MAX
    assert {0} < {a.post_shift for a in averages}
    assert_lively(networks)
