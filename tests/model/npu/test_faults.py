"""Wrong bits of populations' weights."""

import numpy as np
import pytest

from model.mars.devices.device import DeviceError
from model.mars.devices.faults import Faults
from model.npu.clocks import used_groups
from model.npu.config import CONFIGS
from model.npu.faults import with_faults
from model.npu.image import compile_image, decompile
from model.npu.layout import SHAPE_WORD, SLOPES_WORD, neuron_words, weight_words
from model.npu.random_network import random_network

CONFIG = CONFIGS["tiny"]


def words(network) -> np.ndarray:
    groups = used_groups(network, CONFIG).tolist()
    return np.concatenate(
        [weight_words(network, CONFIG, p, n).ravel() for p, n in enumerate(groups)]
    )


@pytest.mark.parametrize("seed", range(4))
def test_no_faults_change_nothing(seed: int) -> None:
    network = random_network(np.random.default_rng(seed), CONFIG)
    same = with_faults(network, CONFIG, Faults(), seed=1)
    assert compile_image(same, CONFIG) == compile_image(network, CONFIG)


@pytest.mark.parametrize("seed", range(4))
def test_bits_of_the_memory(seed: int) -> None:
    """Of what the network can walk; nothing else is another one, and the chip can hold it."""
    network = random_network(np.random.default_rng(seed), CONFIG)
    wrong = with_faults(network, CONFIG, Faults(stuck1=0.05), seed=seed)
    assert wrong.populations == network.populations
    assert wrong.axons == network.axons
    before, after = words(network), words(wrong)
    assert not (before & ~after).any()
    assert (before != after).any()
    image = compile_image(wrong, CONFIG)
    assert compile_image(decompile(image)[1], CONFIG)[20:] == image[20:]
    other = with_faults(network, CONFIG, Faults(stuck1=0.05), seed=seed + 1)
    assert not np.array_equal(words(other), after)


@pytest.mark.parametrize("seed", range(4))
def test_parameters(seed: int) -> None:
    """Bits of neurons' parameters alone, and no neuron without slopes."""
    network = random_network(np.random.default_rng(seed), CONFIG)
    wrong = with_faults(network, CONFIG, Faults(stuck0=0.3, memory="parameters"), seed=seed)
    n = network.n_neurons
    before = neuron_words(network.neurons, n).reshape(n, -1)
    after = neuron_words(wrong.neurons, n).reshape(n, -1)
    for word in (SHAPE_WORD, SLOPES_WORD):
        parameters = before[:, word], after[:, word]
        if word == SHAPE_WORD:  # v_branch is worked out anew
            parameters = tuple(part & 0xFFFFFF for part in parameters)
        assert (parameters[0] != parameters[1]).any()
        assert not (parameters[1] & ~parameters[0]).any()
    assert wrong.recurrent is network.recurrent
    same = with_faults(network, CONFIG, Faults(memory="parameters"), seed=seed)
    assert compile_image(same, CONFIG) == compile_image(network, CONFIG)


def test_other_memories_are_refused() -> None:
    network = random_network(np.random.default_rng(0), CONFIG)
    with pytest.raises(
        DeviceError, match="memory must be weights or parameters for populations, not 'macros'"
    ):
        with_faults(network, CONFIG, Faults(memory="macros"), seed=0)
