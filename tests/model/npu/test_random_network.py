"""Random networks: they fit, they cover what is legal, and they are neither dead nor ablaze."""

import numpy as np
import pytest

from model.npu.config import BIAS_MAX, BIAS_MIN, CONFIGS, NPUConfig
from model.npu.engine import Engine
from model.npu.network import NEURON_LIMITS, Network
from model.npu.network_file import dump
from model.npu.random_network import TAUS, random_network

NO_LINKS = NPUConfig(name="no links", n_neurons=16, n_lanes=4, n_axons=1, links=())
BACKWARDS = NPUConfig(
    name="backwards", n_populations=3, n_neurons=16, n_lanes=4, links=((1, 0), (2, 0), (0, 2))
)
ALL_CONFIGS = [*CONFIGS.values(), NO_LINKS, BACKWARDS]


def networks(config: NPUConfig, n: int) -> list[Network]:
    return [random_network(np.random.default_rng(seed), config) for seed in range(n)]


@pytest.fixture(scope="module")
def tiny() -> list[Network]:
    return networks(CONFIGS["tiny"], 300)


@pytest.mark.parametrize("config", ALL_CONFIGS, ids=lambda config: config.name)
def test_fits_the_configuration(config: NPUConfig) -> None:
    for network in networks(config, 40):
        n_populations = len(network.populations)
        assert 1 <= n_populations <= config.n_populations
        assert all(1 <= n <= config.n_neurons for n in network.populations)
        assert all(0 <= n <= config.n_axons for n in network.axons)
        for population in range(n_populations):
            assert set(network.sources(population)) <= set(config.sources(population))


@pytest.mark.parametrize("config", ALL_CONFIGS, ids=lambda config: config.name)
def test_cost_is_moderate(config: NPUConfig) -> None:
    for network in networks(config, 40):
        assert 5 <= network.n_steps <= 200
        if network.n_steps > 5:
            assert network.n_steps * network.n_neurons <= 20_000


def test_depends_on_the_seed_only() -> None:
    first, again = (random_network(np.random.default_rng(7), CONFIGS["tiny"]) for _ in range(2))
    assert dump(first) == dump(again)
    assert first.name == again.name
    other = random_network(np.random.default_rng(8), CONFIGS["tiny"])
    assert other.name != first.name
    assert first.name.startswith("random_tiny_")


def test_every_size_appears(tiny: list[Network]) -> None:
    config = CONFIGS["tiny"]
    assert {n for t in tiny for n in t.populations} == set(range(1, config.n_neurons + 1))
    assert {len(t.populations) for t in tiny} == {1, 2}
    assert {n for t in tiny for n in t.axons} == set(range(config.n_axons + 1))


def test_every_neuron_parameter_takes_every_value() -> None:
    neurons = [t.neurons for t in networks(CONFIGS["poppins"], 100)]
    for name, high in NEURON_LIMITS.items():
        values = np.concatenate([getattr(part, name) for part in neurons])
        expected = TAUS if name == "tau" else range(high + 1)
        assert set(values.tolist()) == set(expected), name


def test_every_kind_of_connection_appears(tiny: list[Network]) -> None:
    weights = np.concatenate([t.recurrent.weight for t in tiny])
    assert set(weights.tolist()) == set(range(-128, 128))
    crossing = [t.population_of(t.recurrent.pre) != t.population_of(t.recurrent.post) for t in tiny]
    linked = [c.any() for c, t in zip(crossing, tiny, strict=True) if len(t.populations) > 1]
    assert 0.2 < np.mean(linked) < 0.95
    assert 0.2 < np.mean([(t.recurrent.pre == t.recurrent.post).any() for t in tiny]) < 0.95
    share = [len(t.recurrent) / t.populations[0] ** 2 for t in tiny if len(t.populations) == 1]
    assert min(share) == 0
    assert max(share) == 1


def test_every_kind_of_stimulus_appears(tiny: list[Network]) -> None:
    biases = {value for t in tiny for segment in t.session for value in segment.bias.values()}
    assert {BIAS_MIN, BIAS_MAX} <= biases
    assert {len(t.session) for t in tiny} == {1, 2, 3, 4}
    counts = np.array([len(t.events) for t in tiny if sum(t.axons)])
    assert (counts == 0).any()
    assert (counts > 100).any()
    seeds = {seed for t in tiny for seed in t.noise_seeds}
    assert {0, 0x61C8_8647, 0xFFFF_FFFF} <= seeds


def firing_rate(network: Network) -> tuple[float, bool]:
    """Spikes per neuron and time step, and whether a current saturated."""
    engine = Engine(network)
    n_spikes, saturated = 0, False
    for first, segment in network.segments():
        engine.set_bias(segment.bias)
        for step in range(first, first + segment.steps):
            trace = engine.step(network.events_at(step, step + 1)[:, 1])
            n_spikes += int(trace.spikes.sum())
            saturated |= bool(trace.saturated.any())
    return n_spikes / (network.n_steps * network.n_neurons), saturated


def test_activity_is_well_spread() -> None:
    runs = [firing_rate(t) for config in CONFIGS.values() for t in networks(config, 25)]
    rates = np.array([rate for rate, _ in runs])
    low, middle, high = np.quantile(rates, (0.2, 0.5, 0.8))
    assert low < 0.15
    assert 0.18 < middle < 0.3
    assert high > 0.3
    assert (rates == 0).mean() < 0.1
    assert (rates > 0.9).mean() < 0.1
    assert 0.03 < np.mean([saturated for _, saturated in runs]) < 0.5
