"""Spiking networks on the golden machine: spikes, membranes, logits and steps of the reference."""

from typing import Any

import numpy as np
import pytest

from model.mars import frame, reference
from model.mars.config import CONFIGS, MarsConfig
from model.mars.early_exit import steps_taken
from model.mars.image import join_steps, split_steps
from model.mars.lowering import FitError, lower
from model.mars.mapper import compile_network
from model.mars.network import Conv, Dense, FeatureType, MaxPool, QuantizedNetwork, SumPool
from model.mars.neuron import Neuron
from model.mars.random_network import random_input
from model.mars.random_spiking import random_spiking_network

TINY, MARS = CONFIGS["mars-tiny"], CONFIGS["mars"]


def assert_same(network: QuantizedNetwork, config: MarsConfig, seed: int = 0) -> None:
    """Everything that is seen is the reference's, of several images."""
    image = compile_network(network, config, 0)
    inputs = random_input(network, seed, 2)
    right = reference.run_steps(network, inputs)
    for k, features in enumerate(inputs):
        _, *runs = frame.run(image, features)
        seen: dict[str, Any] = {}
        for one, contents in zip(runs, image.contents.passes, strict=True):
            d, name = one.program.descriptor, contents.layers[0]
            seen = frame.layer_outputs(d, contents, one)
            rows = frame.rows_of(d, contents)
            for layer, values in seen.items():
                expected = right.values[layer][k][..., rows[layer], :]
                expected = expected[..., : values.shape[-1]]
                np.testing.assert_array_equal(values, expected, f"{network.name} {layer}")
            membranes = frame.membranes_of(d, contents, one)
            if membranes is not None and name in right.membranes:
                ends = np.arange(len(membranes)) * 4 + 3
                of_word = right.membranes[name][k][np.minimum(ends, network.time_steps - 1)]
                of_word = of_word[..., rows[name], :][..., : membranes.shape[-1]]
                np.testing.assert_array_equal(membranes, of_word, f"{network.name} {name}")
        logits = seen[network.output]
        steps = steps_taken(network.exit, logits.reshape(1, len(logits), -1))
        assert steps[0] == right.steps[k]


def n_same(config: MarsConfig, seeds: range, max_size: int) -> int:
    """How many of the networks fit; all of those are as the reference."""
    n = 0
    for seed in seeds:
        net = random_spiking_network(seed, max_size=max_size)
        try:
            compile_network(net, config, 0)
        except FitError:
            continue
        assert_same(net, config, seed)
        n += 1
    return n


@pytest.mark.parametrize("config", [TINY, MARS], ids=lambda config: config.name)
@pytest.mark.parametrize("first", range(0, 40, 10))
def test_random_networks(config: MarsConfig, first: int) -> None:
    assert n_same(config, range(first, first + 10), 7) >= (10 if config is MARS else 9)


@pytest.mark.full
@pytest.mark.parametrize(("config", "n_networks"), [(TINY, 220), (MARS, 205)])
def test_200_random_networks(config: MarsConfig, n_networks: int) -> None:
    n = n_same(config, range(1000, 1000 + n_networks), 9)
    assert n >= 200


def test_larger_maps_in_bands() -> None:
    """Bands compute some rows twice, and each with membranes of its own."""
    rng = np.random.default_rng(1)
    layers: list[Conv] = []
    source = "input"
    for k, n in enumerate((16, 40, 8)):
        channels = 2 if k == 0 else layers[-1].weight.shape[0]
        layers.append(
            Conv(
                name=f"c{k}",
                input=source,
                weight=rng.integers(-3, 5, (n, channels, 3, 3)),
                bias=np.zeros(n, int),
                padding=(1, 1, 1, 1),
                weight_bits=4,
                out_bits=1,
                out_signed=False,
                neuron=Neuron(bits=6, threshold=np.full(n, 6), reset="soft", leak=1),
            )
        )
        source = f"c{k}"
    net = QuantizedNetwork(
        FeatureType((2, 12, 12), 1, signed=False), tuple(layers), time_steps=6, coding="spikes"
    )
    image = compile_network(net, TINY)
    assert len(image.passes) > 3
    assert_same(net, TINY)
    assert_same(net, MARS)


def conv(name: str = "c", source: str = "input", n: int = 8, **changes: Any) -> Conv:
    fields: dict[str, Any] = {
        "weight": np.ones((n, 8, 1, 1), int),
        "bias": np.zeros(n, int),
        "weight_bits": 4,
        "out_bits": 1,
        "out_signed": False,
        "neuron": Neuron(bits=6, threshold=np.full(n, 6), reset="soft"),
    }
    return Conv(name=name, input=source, **fields | changes)


def network(*layers: Any, size: int = 6, **changes: Any) -> QuantizedNetwork:
    fields: dict[str, Any] = {"time_steps": 4, "coding": "spikes"}
    kind = FeatureType((8, size, size), 1, signed=False)
    return QuantizedNetwork(kind, layers, **fields | changes)


def logits(source: str, n_inputs: int, **changes: Any) -> Dense:
    rng = np.random.default_rng(3)
    fields: dict[str, Any] = {"weight": rng.integers(-8, 8, (20, n_inputs)), "weight_bits": 4}
    return Dense(
        name="fc",
        input=source,
        bias=rng.integers(-9, 9, 20),
        out_bits=32,
        out_signed=True,
        **fields | changes,
    )


@pytest.mark.parametrize("time_steps", [1, 3, 4, 5, 8])
def test_sums_over_a_map(time_steps: int) -> None:
    """Up to four steps pixel by pixel, with more of them as weights of every pixel."""
    net = network(
        conv(), SumPool(name="s", input="c", kernel=(6, 6)), logits("s", 8), time_steps=time_steps
    )
    last = lower(net).passes[-1]
    assert last.pixel_sum == (time_steps <= 4)
    assert last.flat == (time_steps > 4)
    for config in (TINY, MARS):
        assert_same(net, config)


def test_a_result_in_groups_is_the_output() -> None:
    net = network(conv(neuron=Neuron(bits=5, threshold=np.arange(8), reset="hard", groups=4)))
    for config in (TINY, MARS):
        assert_same(net, config)


@pytest.mark.parametrize(
    ("layers", "changes", "text"),
    [
        (
            (conv(),),
            {"time_steps": 9},
            "time_steps must be at most 8 to fit at once, not 9: compile chunks of 1..4 steps",
        ),
        (
            (
                conv(neuron=Neuron(bits=6, threshold=np.full(8, 6), reset="soft", membrane="u")),
                conv(
                    "e",
                    "c",
                    neuron=Neuron(bits=6, threshold=np.full(8, 6), reset="soft", membrane="u"),
                ),
            ),
            {},
            "layer e must not use the membrane 'u' of layer c unless the network is compiled for "
            "chunks of 1 step: otherwise layers run one after the other, each with several time "
            "steps",
        ),
        (
            (conv(neuron=Neuron(bits=6, threshold=np.full(8, 6), reset="soft", groups=8)),),
            {},
            "layer c must have 1, 2 or 4 groups of channels with one membrane to fit, not 8",
        ),
        (
            (
                conv(
                    neuron=Neuron(
                        bits=16,
                        threshold=np.full(8, 6),
                        reset="soft",
                        initial=np.array([1, 0, 0, 0, 0, 0, 0, 600]),
                    )
                ),
            ),
            {},
            "layer c must have initial membranes of 10 bits, all shifted by the same number of "
            "places, to fit, not up to 600",
        ),
        (
            (
                SumPool(name="s", input="input", kernel=(2, 2)),
                conv(source="s", weight=np.ones((8, 8, 3, 3), int), padding=8),
            ),
            {"size": 8},
            "layer c, which adds up the sums of s, must have padding of at most 15 pixels, not 16",
        ),
        (
            (
                SumPool(name="s", input="input", kernel=(2, 2)),
                conv(source="s", weight=np.ones((8, 8, 3, 3), int), padding=1),
            ),
            {"size": 7},
            "layer c, which adds up the sums of s, must have no padding, as windows overlap or "
            "leave out pixels, not (1, 1, 1, 1)",
        ),
        (
            (
                SumPool(name="s", input="input", kernel=(3, 3), stride=(1, 1)),
                conv(source="s", weight=np.full((8, 8, 2, 2), 64), weight_bits=8),
            ),
            {},
            "layer c, which adds up the sums of s, must have weights of 8 bit where windows "
            "overlap, not 256",
        ),
    ],
)
def test_refusals(layers: tuple[Any, ...], changes: dict[str, Any], text: str) -> None:
    with pytest.raises(FitError) as error:
        compile_network(network(*layers, **changes), MARS, 0)
    assert str(error.value) == text


def test_sums_that_are_too_large() -> None:
    """Of 255 pixels with 32 channels of -8 a macro would need 17 bits."""
    kind = FeatureType((32, 15, 17), 1, signed=False)
    pool = SumPool(name="s", input="input", kernel=(15, 17))
    net = QuantizedNetwork(
        kind,
        (
            pool,
            Dense(
                name="fc",
                input="s",
                weight=np.full((4, 32), -8),
                bias=np.zeros(4, int),
                weight_bits=4,
                out_bits=1,
                out_signed=False,
                neuron=Neuron(bits=6, threshold=np.full(4, 6), reset="soft"),
            ),
        ),
        time_steps=2,
        coding="spikes",
    )
    assert_same(net, MARS)  # two macros share them
    with pytest.raises(
        FitError,
        match="layer fc must have sums over its 255 pixels of at most 32767 per macro to fit "
        "mars-tiny, not 65280",
    ):
        compile_network(net, TINY)


def test_initial_membranes_that_are_shifted() -> None:
    initial = np.array([-31, 31, 5, 0, 1, -1, 16, -16]) * 1024
    one = Neuron(bits=16, threshold=np.full(8, 20000), reset="soft", initial=initial)
    net = network(conv(neuron=one, bias=np.full(8, 900)))
    assert compile_network(net, MARS).passes[0].descriptor.initial_shift == 6
    assert_same(net, MARS)


def test_packed_spikes() -> None:
    """Spikes of two channels are packed as images are."""
    rng = np.random.default_rng(4)
    weight = rng.integers(-8, 8, (8, 2, 3, 3))
    net = QuantizedNetwork(
        FeatureType((2, 12, 12), 1, signed=False),
        (conv(weight=weight, padding=1), MaxPool(name="m", input="c")),
        time_steps=7,
        coding="spikes",
    )
    image = compile_network(net, MARS)
    assert image.contents.packing is not None
    assert_same(net, MARS)


def test_steps_in_values() -> None:
    spikes = np.random.default_rng(1).integers(0, 2, (7, 3, 4, 5))
    values = join_steps(spikes)
    assert values.shape == (3, 4, 5)
    assert values.max() < 128
    np.testing.assert_array_equal(split_steps(values, 7), spikes)
