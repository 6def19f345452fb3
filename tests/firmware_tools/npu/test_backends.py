"""The two engines behind one interface."""

from dataclasses import fields

import numpy as np
import pytest

from firmware_tools.npu.backends import Player, simulate
from firmware_tools.npu.difference import first_difference
from model.npu import network_file
from model.npu.clocks import Clocks
from model.npu.config import CONFIGS
from model.npu.random_network import random_network
from model.npu.trace import Trace

TINY = CONFIGS["tiny"]


@pytest.fixture
def network(pair):
    return network_file.load(pair)


@pytest.mark.parametrize("backend", ["fast", "model"])
@pytest.mark.parametrize("chunk_steps", [1, 7, 20, 50, 1000])
def test_chunks_make_no_difference(network, backend: str, chunk_steps: int) -> None:
    whole = Trace.join(list(simulate(network, "model", TINY)))
    chunks = list(simulate(network, backend, TINY, chunk_steps))
    assert [len(chunk) for chunk in chunks[:-1]] == [chunk_steps] * (len(chunks) - 1)
    joined = Trace.join(chunks)
    assert joined.first_step == 0
    for field in fields(Trace)[1:]:
        np.testing.assert_array_equal(getattr(joined, field.name), getattr(whole, field.name))


@pytest.mark.parametrize("backend", ["fast", "model"])
def test_clocks_are_those_of_the_configuration(network, backend: str) -> None:
    for config in CONFIGS.values():
        trace = Trace.join(list(simulate(network, backend, config)))
        before = np.concatenate([np.zeros_like(trace.spikes[:1]), trace.spikes[:-1]])
        expected = Clocks(network, config).of_steps(before, network.events)
        np.testing.assert_array_equal(trace.clocks, expected)


@pytest.mark.parametrize("backend", ["fast", "model"])
def test_no_configuration_no_clocks(network, backend: str) -> None:
    assert len(Trace.join(list(simulate(network, backend))).clocks) == 0


@pytest.mark.parametrize("seed", range(10))
def test_engines_agree(seed: int) -> None:
    network = random_network(np.random.default_rng(seed), TINY)
    model, fast = (Trace.join(list(simulate(network, b, TINY))) for b in ("model", "fast"))
    assert first_difference(network, model, fast) is None


@pytest.mark.parametrize("steps", [0, -1, 51])
def test_a_player_stays_within_the_session(network, steps: int) -> None:
    with pytest.raises(ValueError, match=f"^steps must be 1..50, not {steps}$"):
        Player(network, "model", None).play(steps)
