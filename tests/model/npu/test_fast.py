"""The fast engine against the specification engine, bit for bit."""

from collections.abc import Callable

import numpy as np
import pytest

from model.npu import fast
from model.npu.config import CONFIGS
from model.npu.engine import Engine
from model.npu.fast import FastEngine
from model.npu.network import Network
from model.npu.random_network import random_network
from model.npu.trace import Trace

Build = Callable[..., Network]
Compare = Callable[[Network], Trace]
Simulate = Callable[[Network], tuple[Engine, Trace]]
RunFast = Callable[[FastEngine, int], Trace]
AssertEqualTraces = Callable[[Trace, Trace], None]


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("seed", range(15))
def test_random_networks(config: str, seed: int, compare: Compare) -> None:
    compare(random_network(np.random.default_rng(seed), CONFIGS[config]))


def _wild_network(build: Build, seed: int, populations: tuple[int, ...], share: float) -> Network:
    """Any parameters, populations that all listen to each other, and weights that saturate."""
    rng = np.random.default_rng(seed)
    n, axons = sum(populations), tuple(5 * k + 2 for k in range(len(populations)))
    limits = {"rest": 256, "threshold": 256, "reset": 256, "a": 16, "b": 16, "noise": 256}
    neurons = [{k: int(rng.integers(high)) for k, high in limits.items()} for _ in range(n)]
    quiet = int(rng.integers(len(populations)))
    population = np.repeat(np.arange(len(populations)), populations)
    for neuron, p in zip(neurons, population.tolist(), strict=True):
        neuron["b"] += not neuron["a"] + neuron["b"]
        neuron["noise"] *= p != quiet  # a population without noise draws none
        neuron["tau"] = int(rng.choice([0, 1, 2, 5, 64, 32768]))
    sign = rng.choice([-1, 1], n)  # weights of one sign for each neuron, so that sums are large
    pre, post = np.nonzero(rng.random((n, n)) < share)
    weight = sign[post] * rng.integers(100, 128, len(post))
    owner = np.repeat(np.arange(len(axons)), axons)
    axon, target = np.nonzero(owner[:, None] == population)
    external = zip(axon, target, rng.integers(-128, 128, len(axon)), strict=True)
    steps = 40
    return build(
        neurons,
        populations=populations,
        axons=axons,
        recurrent=zip(pre, post, weight, strict=True),
        external=external,
        events=np.argwhere(rng.random((steps, sum(axons))) < 0.3),
        noise_seeds=tuple(rng.integers(1 << 32, size=len(populations)).tolist()),
        session=[
            (steps // 4, dict(enumerate(rng.integers(-300, 300, n).tolist()))),
            (steps // 2, dict(enumerate(rng.integers(-2048, 2048, n // 2).tolist()))),
            (steps // 4, {0: 0}),
        ],
    )


@pytest.mark.parametrize(
    ("populations", "share"),
    [
        ((1,), 1),
        ((63,), 1),
        ((64,), 0.5),
        ((65,), 1),
        ((400,), 1),
        ((700,), 0.9),
        ((3, 64, 62), 1),
        ((130, 1, 127, 128), 0.2),
        ((500, 600), 0.01),  # so large and so sparse that CSR is the default
    ],
)
def test_wild_networks(
    build: Build, compare: Compare, populations: tuple[int, ...], share: float
) -> None:
    trace = compare(_wild_network(build, 7, populations, share))
    assert trace.spikes.any()


def test_wild_networks_saturate_at_both_ends(build: Build, compare: Compare) -> None:
    trace = compare(_wild_network(build, 0, (700, 60), 1))
    assert trace.saturated.any(axis=0).all()
    assert (trace.i_syn.min(), trace.i_syn.max()) == (-32768, 32767)


@pytest.mark.parametrize("n", [255, 256, 257, 511, 513, 1000])
def test_sums_of_many_rows_are_exact(build: Build, compare: Compare, n: int) -> None:
    # The first rows fill partial sums to their lower end, the last ones to the upper end.
    weights = [-128] * (n // 2) + [127] * (n - n // 2)
    network = build(
        [{"reset": 255}] * n,
        recurrent=[(k, post, weights[k]) for k in range(n) for post in (0, n - 1)],
        session=[(3, dict.fromkeys(range(n), 2047))],
    )
    trace = compare(network)
    assert trace.rows[1:, 0].tolist() == [n, n]
    assert trace.i_syn[1, 0] == sum(weights)


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("chunk", [1, 3, 7])
def test_chunks_join_to_one_run(
    build: Build,
    simulate: Simulate,
    run_fast: RunFast,
    assert_equal_traces: AssertEqualTraces,
    dense: bool,
    chunk: int,
) -> None:
    network = _wild_network(build, 5, (20, 50), 0.5)
    _, expected = simulate(network)
    assert_equal_traces(run_fast(FastEngine(network, dense=dense), chunk), expected)


@pytest.mark.parametrize("dense", [False, True])
def test_without_record(build: Build, dense: bool) -> None:
    network = _wild_network(build, 6, (200, 90), 1)
    recorded, silent = FastEngine(network, dense=dense), FastEngine(network, dense=dense)
    for start, segment in network.segments():
        events = network.events_at(start, start + segment.steps)
        for engine in (recorded, silent):
            engine.set_bias(segment.bias)
        trace = recorded.run(segment.steps, events)
        activity = silent.run(segment.steps, events, record=False)
        assert activity.first_step == trace.first_step
        np.testing.assert_array_equal(activity.rows, trace.rows)
        np.testing.assert_array_equal(activity.saturated, trace.saturated)
        np.testing.assert_array_equal(activity.spike_counts, trace.spikes.sum(axis=0))
        assert activity.rows.dtype == trace.rows.dtype
        assert activity.saturated.dtype == trace.saturated.dtype
        for name in ("v", "i_syn", "bias", "spikes", "noise_states", "step_index"):
            np.testing.assert_array_equal(getattr(silent, name), getattr(recorded, name), name)


def test_no_steps_change_nothing(build: Build) -> None:
    engine = FastEngine(build([{"noise": 9}]))
    before = engine.noise_states
    assert len(engine.run(0)) == 0
    assert engine.run(0, record=False).spike_counts.tolist() == [0]
    assert (engine.noise_states, engine.step_index) == (before, 0)


def test_the_state_before_the_first_step(build: Build) -> None:
    network = build([{"rest": 17}, {"rest": 0}], noise_seeds=(5,))
    engine, spec = FastEngine(network), Engine(network)
    assert engine.v.tolist() == [17, 0]
    assert engine.i_syn.tolist() == engine.bias.tolist() == [0, 0]
    assert engine.spikes.tolist() == [False, False]
    assert engine.noise_states == spec.noise_states


def test_the_state_cannot_be_written(build: Build) -> None:
    engine = FastEngine(build([{}]))
    for values in (engine.v, engine.i_syn, engine.bias):
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 1


@pytest.mark.parametrize(
    ("bias", "message"),
    [
        ({2: 0}, r"^neuron must be 0\.\.1, not 2$"),
        ({-1: 0}, r"^neuron must be 0\.\.1, not -1$"),
        ({1: 2048}, r"^bias of neuron 1 must be -2048\.\.2047, not 2048$"),
        ({1: -2049}, r"^bias of neuron 1 must be -2048\.\.2047, not -2049$"),
    ],
)
def test_wrong_bias(build: Build, bias: dict[int, int], message: str) -> None:
    engine = FastEngine(build([{}, {}]))
    with pytest.raises(ValueError, match=message):
        engine.set_bias(bias)


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ([(9, 0)], r"^events\[0\]: step must be 10\.\.14, not 9$"),
        ([(10, 0), (15, 0)], r"^events\[1\]: step must be 10\.\.14, not 15$"),
        ([(10, 3)], r"^events\[0\]: axon must be below 3, not 3$"),
        ([(10, -1)], r"^events\[0\]: axon must be below 3, not -1$"),
        ([(11, 0), (10, 0)], r"^events must be sorted .* axon 0 at step 10 is not$"),
        ([(11, 2), (11, 2)], r"^events must be sorted .* axon 2 at step 11 is not$"),
    ],
)
def test_wrong_events(build: Build, events: list[tuple[int, int]], message: str) -> None:
    engine = FastEngine(build([{}], axons=(3,)))
    engine.run(10)
    with pytest.raises(ValueError, match=message):
        engine.run(5, np.array(events))
    assert engine.step_index == 10


def test_a_negative_number_of_steps(build: Build) -> None:
    with pytest.raises(ValueError, match=r"^steps must be at least 0, not -1$"):
        FastEngine(build([{}])).run(-1)


def test_too_many_rows_for_the_accumulators(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "MAX_ROWS", 4)
    FastEngine(build([{}], axons=(3,)))
    with pytest.raises(ValueError, match=r"^neurons and axons must be at most 4, not 5$"):
        FastEngine(build([{}], axons=(4,)))


def test_most_rows_fit_the_accumulators() -> None:
    assert np.iinfo(np.int32).min <= -128 * fast.MAX_ROWS - (1 << 15)
    assert np.iinfo(np.int16).min <= -128 * fast.ROWS_PER_SUM
