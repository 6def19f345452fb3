"""Model and a simulation side by side; here an engine stands in for the RTL."""

from collections.abc import Generator
from dataclasses import replace

import pytest

from firmware_tools.npu.backends import simulate
from firmware_tools.npu.difference import Difference
from firmware_tools.npu.lockstep import Agreement, lockstep
from model.npu import network_file
from model.npu.config import CONFIGS
from model.npu.trace import Trace

TINY = CONFIGS["tiny"]


@pytest.fixture
def network(pair):
    return network_file.load(pair)


def test_agreement(network) -> None:
    seen: list[Trace] = []
    traces = simulate(network, "fast", TINY, 7)
    result = lockstep(network, TINY, traces, on_equal=seen.append)
    assert isinstance(result, Agreement)
    clocks = int(Trace.join(seen).clocks.sum())
    assert (result.steps, result.neurons, result.clocks) == (50, 4, clocks)
    assert result.values == 50 * (4 * 4 + 2)
    assert result.clocks_per_second == clocks / result.seconds
    assert result.as_json()["clocks_per_second"] == result.clocks_per_second
    assert [trace.first_step for trace in seen] == list(range(0, 50, 7))


def test_difference_ends_the_simulation(network) -> None:
    closed = []

    def wrong() -> Generator[Trace, None, None]:
        try:
            for trace in simulate(network, "model", TINY, 10):
                yield replace(trace, v=trace.v ^ (trace.first_step == 20))
        finally:
            closed.append(True)

    result = lockstep(network, TINY, wrong())
    assert isinstance(result, Difference)
    assert (result.step, result.population, result.neuron, result.field) == (20, 0, 0, "v")
    assert closed


def test_simulation_that_ends_early(network) -> None:
    def short() -> Generator[Trace, None, None]:
        yield next(simulate(network, "model", TINY, 30))

    result = lockstep(network, TINY, short())
    assert str(result) == "step 30: steps must be 50, not 30"


def test_simulation_that_goes_on(network) -> None:
    def long() -> Generator[Trace, None, None]:
        yield from simulate(network, "model", TINY, 50)
        yield from simulate(network, "model", TINY, 5)

    result = lockstep(network, TINY, long())
    assert str(result) == "step 50: steps must be 50, not 55"
