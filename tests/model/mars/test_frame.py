"""Whole frames on the golden machine, and back to the network's layers."""

import numpy as np
import pytest

from model.mars import frame, reference
from model.mars.config import CONFIGS
from model.mars.machine import Machine
from model.mars.mapper import compile_network
from model.mars.network import AvgPool, Conv, FeatureType, MaxPool, QuantizedNetwork
from model.mars.random_network import random_input, random_network

MARS = CONFIGS["mars"]


def network(weight_bits: int = 4) -> QuantizedNetwork:
    rng = np.random.default_rng(1)
    conv = Conv(
        name="conv",
        input="input",
        weight=rng.integers(-8, 8, (20, 3, 3, 3)),
        bias=rng.integers(-50, 50, 20),
        mult=np.full(20, 100),
        shift=np.full(20, 10),
        padding=1,
        weight_bits=weight_bits,
        out_bits=4,
        out_signed=False,
    )
    pool = MaxPool(name="pool", input="conv")
    gap = AvgPool(name="gap", input="pool", mult=200, shift=9, out_bits=8, out_signed=False)
    return QuantizedNetwork(FeatureType((3, 5, 7), 4, False), (conv, pool, gap), "network")


@pytest.mark.parametrize("weight_bits", [4, 8])
def test_layers_that_are_seen(weight_bits: int) -> None:
    """The convolution without the row and column that the pool leaves out, and what is written."""
    net = network(weight_bits)
    image = compile_network(net, MARS)
    features = random_input(net, 1)[0]
    stored, one = frame.run(image, features)
    assert stored.program.descriptor.is_input
    (contents,) = image.contents.passes
    seen = frame.layer_outputs(one.program.descriptor, contents, one)
    right = reference.run(net, features)
    assert list(seen) == ["conv", "gap"]
    assert seen["conv"].shape == (20, 4, 6)
    np.testing.assert_array_equal(seen["conv"], right["conv"][0][:, :4, :6])
    np.testing.assert_array_equal(seen["gap"], right["gap"][0])


def test_copied_pool_is_seen() -> None:
    net = QuantizedNetwork(
        FeatureType((3, 5, 7), 4, False), (MaxPool(name="pool", input="input"),), "pool"
    )
    image = compile_network(net, MARS)
    features = random_input(net, 1)[0]
    _, one = frame.run(image, features)
    seen = frame.layer_outputs(one.program.descriptor, image.contents.passes[0], one)
    assert list(seen) == ["pool"]
    np.testing.assert_array_equal(seen["pool"], reference.run(net, features)["pool"][0])


@pytest.mark.parametrize("config", CONFIGS.values(), ids=lambda config: config.name)
def test_random_networks(config) -> None:
    """Every layer that is seen is the reference's, and nothing is seen that is no layer."""
    for seed in range(50):
        net = random_network(seed, max_size=7)
        image = compile_network(net, config)
        features = random_input(net, seed)[0]
        right = reference.run(net, features)
        _, *runs = frame.run(image, features)
        for one, contents in zip(runs, image.contents.passes, strict=True):
            seen = frame.layer_outputs(one.program.descriptor, contents, one)
            assert set(seen) <= set(contents.layers)
            for name, values in seen.items():
                _, rows, cols = values.shape
                np.testing.assert_array_equal(values, right[name][0][:, :rows, :cols], name)
        assert net.output in seen


def test_run_is_the_machine_with_clocks() -> None:
    net = random_network(5)
    image = compile_network(net, MARS)
    features = random_input(net, 5)[0]
    runs = list(frame.run(image, features))
    plain = list(Machine(MARS).frame(image.packet(features), image.passes))
    for run, (one, result) in zip(runs, plain, strict=True):
        assert run.program.descriptor == one.descriptor
        np.testing.assert_array_equal(run.values, result.values)
        assert run.counters == result.counters
    ends = [run.clocks.end for run in runs]
    assert ends == np.cumsum([run.clocks.clocks for run in runs]).tolist()


def test_latency_of_the_memory_counts() -> None:
    net = random_network(5)
    image = compile_network(net, MARS)
    features = random_input(net, 5)[0]
    first = [run.clocks.end for run in frame.run(image, features, latency=20)]
    later = [run.clocks.end for run in frame.run(image, features, latency=30)]
    assert later[0] == first[0] + 10
    assert all(a >= b for a, b in zip(later, first, strict=True))
