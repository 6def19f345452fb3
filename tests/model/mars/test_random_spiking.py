"""Random spiking networks: they keep to the limits, cover what is legal, and fire now and then."""

import numpy as np
import pytest

from model.mars.group_sets import by_tap, kept_sets
from model.mars.network import (
    RAW_BITS,
    Conv,
    Dense,
    MaxPool,
    QuantizedNetwork,
    Select,
    SumPool,
    neuron_of,
)
from model.mars.neuron import CHARGE_MAX, Neuron
from model.mars.random_network import random_input
from model.mars.random_spiking import random_spiking_network
from model.mars.reference import SpikingRun, run_steps

N_NETWORKS = 400


@pytest.fixture(scope="module")
def networks() -> list[QuantizedNetwork]:
    return [random_spiking_network(seed, share_layers=seed % 2 == 1) for seed in range(N_NETWORKS)]


@pytest.fixture(scope="module")
def runs(networks: list[QuantizedNetwork]) -> list[SpikingRun]:
    return [run_steps(net, random_input(net, k)) for k, net in enumerate(networks)]


def firing(networks: list[QuantizedNetwork]) -> list[tuple[QuantizedNetwork, Conv | Dense, Neuron]]:
    """Layers with neurons."""
    return [
        (net, layer, neuron)
        for net in networks
        for layer in net.layers
        if isinstance(layer, Conv | Dense) and (neuron := neuron_of(layer)) is not None
    ]


def test_depends_on_the_seed_only() -> None:
    one, same = random_spiking_network(7), random_spiking_network(7)
    assert one.types == same.types
    assert one.name == same.name == "random_spiking_7"
    image = random_input(one, 3, 2)
    np.testing.assert_array_equal(image, random_input(one, 3, 2))
    assert image.shape == (2, *one.input_type.array_shape)


def test_limits(networks: list[QuantizedNetwork]) -> None:
    for net in networks:
        for kind in net.types.values():
            assert kind.shape[0] <= 40
            assert max(kind.shape[1:]) <= 12
    for net, layer, _ in firing(networks):
        kept = kept_sets(by_tap(layer, net.types[layer.input]), layer.weight_bits)
        assert kept[0].size <= 64


def test_every_option_of_networks_appears(networks: list[QuantizedNetwork]) -> None:
    assert {net.time_steps for net in networks} == set(range(1, 9))
    assert {net.coding for net in networks} == {"direct", "spikes"}
    exits = [net.exit for net in networks if net.exit is not None]
    assert {(e.metric, e.mode) for e in exits} == {
        (metric, mode) for metric in ("confidence", "entropy") for mode in ("sum", "mean")
    }
    last = [net.types[net.output] for net in networks]
    assert any(kind.bits == RAW_BITS and kind.shape[1:] == (1, 1) for kind in last)
    assert any(kind.bits == RAW_BITS and kind.shape[1:] != (1, 1) for kind in last)
    assert any(kind.is_spikes for kind in last)
    static = [
        net for net in networks if any(not k.time_steps for k in list(net.types.values())[1:])
    ]
    assert len(static) > 10  # layers in front of the first neuron


def test_every_option_of_neurons_appears(networks: list[QuantizedNetwork]) -> None:
    found = firing(networks)
    neurons = [neuron for _, _, neuron in found]
    assert {neuron.bits for neuron in neurons} == set(range(2, 17))
    assert {neuron.leak for neuron in neurons} == {0, 1, 2, 3}
    assert {(n.reset, n.groups) for n in neurons} == {
        (reset, groups) for reset in ("hard", "soft") for groups in (1, 2, 4)
    }
    assert any(n.initial is not None and n.initial.any() and n.bits > 10 for n in neurons)
    thresholds = {int(t) for n in neurons for t in n.threshold}
    assert {CHARGE_MAX, -CHARGE_MAX - 1, 0, 1} <= thresholds
    assert any(net.warnings for net in networks)
    shared = [n.membrane for net in networks for _, _, n in firing([net]) if n.membrane]
    assert shared
    counts = [
        max((names.count(x) for x in names), default=0)
        for net in networks
        if (names := [n.membrane for _, _, n in firing([net]) if n.membrane])
    ]
    assert max(counts) >= 3
    assert sum(count > 1 for count in counts) > 20


def test_every_layer_appears(networks: list[QuantizedNetwork]) -> None:
    convs = [(net, x) for net, x, _ in firing(networks) if isinstance(x, Conv)]
    skips = [(net, x) for net, x in convs if x.skip is not None]
    assert len(skips) > 30
    assert any(x.skip_mult > 1000 for _, x in skips)
    pools = [(net, x) for net in networks for x in net.layers if isinstance(x, MaxPool)]
    in_time = [x for net, x in pools if net.types[x.name].time_steps]
    assert {x.is_quad for x in in_time} == {True, False}
    sums = [(net, x) for net in networks for x in net.layers if isinstance(x, SumPool)]
    whole = [x.kernel == net.types[x.input].shape[1:] for net, x in sums]
    assert 0.1 < np.mean(whole) < 0.95
    assert any(x.kernel[0] > x.steps[0] for _, x in sums)
    assert any(x.kernel[0] < x.steps[0] for _, x in sums)
    assert sum(isinstance(x, Select) for net in networks for x in net.layers) > 30
    assert {x.weight_bits for _, x, _ in firing(networks)} == set(range(2, 9))


def test_neurons_fire_now_and_then(
    networks: list[QuantizedNetwork], runs: list[SpikingRun]
) -> None:
    rates = np.array(
        [
            run.values[layer.name].mean()
            for net, run in zip(networks, runs, strict=True)
            for _, layer, _ in firing([net])
        ]
    )
    assert 0.05 < np.median(rates) < 0.5
    assert (rates == 0).mean() < 0.2
    assert (rates > 0.5).mean() < 0.2
    membranes = np.array([(m != 0).mean() for run in runs for m in run.membranes.values()])
    assert np.median(membranes) > 0.2


def test_exits_at_all_times(networks: list[QuantizedNetwork], runs: list[SpikingRun]) -> None:
    steps = [
        (int(run.steps[0]), net.time_steps)
        for net, run in zip(networks, runs, strict=True)
        if net.exit is not None and net.time_steps > 1
    ]
    assert 0.2 < np.mean([step < most for step, most in steps]) < 0.8
    assert {step for step, most in steps if step < most} >= {1, 2, 3, 4}
