"""The golden model of both halves against the parts by themselves."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from model import bridge as bridging
from model.bridge import Bridge, BridgeError, Entry, Kind
from model.bridge_registers import bridge_registers, entry_words, kind_of, n_outputs
from model.chip import Chip, numbers
from model.config import CHIPS, ChipConfig
from model.mars import reference
from model.mars.config import KERNELS, WORD_BITS
from model.mars.frame import run_frame
from model.mars.image import Image
from model.mars.machine import Machine
from model.mars.mapper import compile_network
from model.mars.network import Dense, FeatureType, Ints, QuantizedNetwork
from model.mars.neuron import Neuron
from model.mars.random_network import random_input, random_network
from model.npu.clocks import Clocks, back_to_back
from model.npu.engine import Engine
from model.npu.random_network import random_network as random_populations
from model.random_bridge import random_bridge
from model.registers import register_map

CONFIG = CHIPS["kenyon-tiny"]
assert CONFIG.npu is not None
assert CONFIG.mars is not None
NPU, MARS = CONFIG.npu, CONFIG.mars


def dense(name: str, source: str, size: tuple[int, int], bits: int, **fields: Any) -> Dense:
    rng = np.random.default_rng(bits)
    n = size[0]
    if "neuron" not in fields and bits < 32:
        fields |= {"mult": np.full(n, 3000), "shift": np.full(n, 14)}
    return Dense(
        name=name,
        input=source,
        weight=rng.integers(-8, 8, size),
        bias=rng.integers(-50, 50, n),
        weight_bits=4,
        out_bits=bits,
        **fields,
    )


def network(bits: int = 32, *, signed: bool = True) -> QuantizedNetwork:
    layer = dense("out", "input", (20, 32), bits, out_signed=signed)
    return QuantizedNetwork(FeatureType((2, 4, 4), 4, signed=False), (layer,), "net")


def spiking(*, logits: bool) -> QuantizedNetwork:
    """Five time steps of neurons, and logits behind them."""
    neuron = Neuron(bits=8, threshold=np.full(24, 6), reset="soft", leak=1)
    fires = dense("fires", "input", (24, 32), 1, out_signed=False, neuron=neuron)
    layers = (fires, dense("out", "fires", (20, 24), 32, out_signed=True))
    kind = FeatureType((2, 4, 4), 1, signed=False)
    return QuantizedNetwork(kind, layers[: 1 + logits], "spiking", time_steps=5, coding="spikes")


def some_case(seed: int) -> tuple[QuantizedNetwork, Image, Ints]:
    for k in range(seed, seed + 50):
        net = random_network(k, max_size=4, max_layers=3)
        try:
            return net, compile_network(net, MARS), random_input(net, k, 2)
        except ValueError:
            continue
    raise AssertionError


@pytest.mark.parametrize("seed", range(1, 7))
def test_outputs_and_steps(seed: int) -> None:
    """What the bridge sees is the reference's result, and the populations take it from there."""
    rng = np.random.default_rng(seed)
    net, image, inputs = some_case(100 * seed)
    populations = random_populations(rng, NPU)
    first = reference.run(net, inputs[0])[net.output][0].reshape(-1)
    bridge = random_bridge(rng, first, populations)
    chip, engine = Chip(CONFIG, image, populations, bridge), Engine(populations)
    axons = np.zeros(0, np.int64)
    before = np.zeros(populations.n_neurons, np.bool_)
    for features in inputs:
        outcome = chip.frame(features)
        outputs = reference.run(net, features)[net.output][0].reshape(-1)
        np.testing.assert_array_equal(outcome.outputs, outputs)
        stimuli = bridging.stimuli(bridge, outputs, populations)
        engine.set_bias(stimuli.bias)
        axons = np.union1d(axons, stimuli.axons)
        spikes = []
        events = np.stack([np.zeros_like(axons), axons], axis=1)
        for _ in range(bridge.steps):
            step = engine.step(axons)
            axons = np.zeros(0, np.int64)
            spikes.append(step.spikes[0])
        if not bridge.steps:
            assert outcome.trace is None
            assert outcome.decision is None
            continue
        assert outcome.trace is not None
        assert outcome.decision is not None
        np.testing.assert_array_equal(outcome.trace.spikes, spikes)
        clocks = Clocks(populations, NPU).of_steps(np.array([before, *spikes[:-1]]), events)
        np.testing.assert_array_equal(outcome.trace.clocks, clocks)
        before = spikes[-1]
        part = populations.neuron_slice(bridge.population)
        counts = np.array(spikes)[:, part].sum(axis=0)
        np.testing.assert_array_equal(outcome.decision.counts, counts)
        assert outcome.decision.count == counts.max()


def test_clocks() -> None:
    """Counted by hand from the states of docs/bridge.md."""
    populations = random_populations(np.random.default_rng(2), NPU)
    for n, steps in ((1, 0), (1, 3), (9, 3)):
        entries = tuple(Entry(k, 0, k, 1, 0) for k in range(n))
        image = compile_network(network(), MARS)
        outcome = Chip(CONFIG, image, populations, Bridge(entries, steps, 0)).frame(
            random_input(network(), 1)[0]
        )
        take = 13 * n
        if not steps:
            assert outcome.clocks == 1 + take + 1
            continue
        assert outcome.trace is not None
        spikes = outcome.trace.spikes.sum(axis=1)
        burst = int(back_to_back(outcome.trace.clocks, spikes).sum()) + 6 + int(spikes[-1])
        assert outcome.clocks == 1 + max(take, NPU.n_neurons) + burst + 1
        assert outcome.total_clocks == outcome.frame.clocks + 2 + outcome.clocks


def found(words: list[int], image: Image, features: Ints) -> list[int]:
    """The numbers that the words of entries lead to, nibble by nibble."""
    machine = Machine(MARS)
    list(machine.frame(image.packet(features), image.passes))
    result = []
    n_words = bridging.READ_CLOCKS[kind_of(image)]
    for first, second in zip(words[::2], words[1::2], strict=True):
        lane, word = first >> 24 & 0xF, second >> 16
        nibbles = [int(machine.banks[0, word + k]) >> 4 * lane & 0xF for k in range(n_words)]
        value = sum(nibble << 4 * k for k, nibble in enumerate(nibbles))
        signed = image.output.signed and nibbles[-1] >> 3
        result.append(value - (1 << 4 * n_words) if signed else value)
    return result


@pytest.mark.parametrize("seed", range(1, 9))
def test_places(seed: int) -> None:
    """Entries lead to the numbers that they name, whatever the shape and width of the result."""
    net, image, inputs = some_case(1000 * seed)
    n = min(n_outputs(image), 256)
    outputs = np.random.default_rng(seed).choice(n_outputs(image), n, replace=False)
    entries = tuple(Entry(int(k), 0, i, -5, 3) for i, k in enumerate(outputs))
    words = entry_words(Bridge(entries, 0, 0), image)
    right = reference.run(net, inputs[0])[net.output][0].reshape(-1)[outputs]
    assert found(words, image, inputs[0]) == right.tolist()


def test_entry_words() -> None:
    image = compile_network(network(), MARS)
    base = image.contents.output_address
    entries = (Entry(17, 1, 9, -2, 31, is_axon=True), Entry(0, 0, 4095, 3, 0))
    assert entry_words(Bridge(entries, 0, 0), image) == [
        1 << 31 | 1 << 24 | 31 << 16 | 0xFFFE,
        (base + 8) << 16 | 1 << 12 | 9,
        3,
        base << 16 | 4095,
    ]
    assert KERNELS * 4 == WORD_BITS


def test_registers() -> None:
    bridge = Bridge((Entry(0, 0, 0, 1, 0),), 50, 1)
    for bits, signed, kind in ((32, True, Kind.SUM), (8, False, Kind.BYTE), (4, True, 0)):
        image = compile_network(network(bits, signed=signed), MARS)
        assert bridge_registers(bridge, image, CONFIG) == {
            "bridge.RESULT": 1 | int(kind) << 16 | signed << 18,
            "bridge.BURST": 50 | 1 << 16,
        }


def test_logits() -> None:
    """In one chunk they are in the feature memory, in several the exit unit has them."""
    net = spiking(logits=True)
    features = random_input(net, 3)[0]
    right = reference.run(net, features)[net.output][0].reshape(5, -1)[-1]
    for chunk, kind in ((None, Kind.SUM), (2, Kind.LOGIT)):
        image = compile_network(net, MARS, chunk)
        assert kind_of(image) is kind
        np.testing.assert_array_equal(numbers(image, run_frame(image, features)), right)
    bridge = Bridge(tuple(Entry(k, 0, k, 1, 0) for k in range(20)), 0, 0)
    image = compile_network(net, MARS)
    assert found(entry_words(bridge, image), image, features) == right.tolist()
    image = compile_network(net, MARS, 2)
    assert [word >> 16 for word in entry_words(bridge, image)[1::2]] == list(range(20))


def test_spikes_are_no_numbers() -> None:
    message = "spiking: the result must be numbers or logits, not spikes in time"
    with pytest.raises(BridgeError, match=message):
        kind_of(compile_network(spiking(logits=False), MARS))


def test_result_in_memory() -> None:
    image = compile_network(network(), MARS)
    stored = replace(image, contents=image.contents.model_copy(update={"stored": True}))
    with pytest.raises(BridgeError, match="the result must fit the feature memory"):
        kind_of(stored)


def test_what_does_not_fit() -> None:
    populations = random_populations(np.random.default_rng(2), NPU)
    image = compile_network(network(), MARS)
    bridge = Bridge((Entry(20, 0, 0, 1, 0),), 1, 0)
    with pytest.raises(BridgeError, match=r"entries\[0\]\.output must be 0\.\.19, not 20"):
        Chip(CONFIG, image, populations, bridge)
    with pytest.raises(BridgeError, match="chip must have NPU and MARS for a bridge, tiny has not"):
        Chip(CHIPS["tiny"], image, populations, bridge)
    large = ChipConfig(name="other", npu=NPU, mars=CHIPS["mars"].mars)
    with pytest.raises(BridgeError, match="image must be for mars, as other has it, not for mars-"):
        Chip(large, image, populations, bridge)


def test_word_of_a_register() -> None:
    registers = register_map(CONFIG)
    assert registers.word("bridge.BURST", steps=7) == 7
    with pytest.raises(KeyError):
        registers.word("bridge.BURST", nothing=1)
