"""The specification engine against numbers worked out by hand and the authors' simulator.

Where both engines can run a case, `compare` runs both.
"""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from model.npu import noise
from model.npu.engine import Engine
from model.npu.fast import FastEngine
from model.npu.network import Network
from model.npu.network_file import load
from model.npu.trace import Trace

Build = Callable[..., Network]
Compare = Callable[[Network], Trace]
Simulate = Callable[[Network], tuple[Engine, Trace]]
NO_AXONS = np.zeros(0, np.int64)
SPIKING = {"rest": 62, "threshold": 75, "reset": 68, "a": 4, "b": 1}


@pytest.mark.parametrize(
    ("v", "current", "expected", "spike"),
    [
        (150, 0, 147, False),  # 128 - 150 = -22, floor(-22 / 8) = -3
        (127, 0, 127, False),
        (121, 0, 121, False),  # 7 below rest feels no force
        (120, 0, 121, False),
        (129, 0, 128, False),  # 1 above rest does
        (200, 0, 200, False),
        (201, 0, 201, False),  # threshold..threshold + 7 is a dead band
        (207, 0, 207, False),
        (208, 0, 209, False),
        (199, 0, 198, False),
        (255, -7, 254, False),  # 255 + (55 >> 3) = 261
        (255, -6, 255, False),
        (255, -5, 128, True),
        (0, -17, 0, False),  # 0 + (128 >> 3) = 16
        (0, -16, 0, False),
        (0, -15, 1, False),
        (0, -32768, 0, False),
        (0, 32767, 128, True),
    ],
)
def test_soma(build: Build, v: int, current: int, expected: int, spike: bool) -> None:
    engine = Engine(build([{}]))
    engine.v[:] = v
    engine.i_syn[:] = current
    trace = engine.step(NO_AXONS)
    assert (trace.v.item(), trace.spikes.item()) == (expected, spike)
    assert trace.i_syn.item() == current
    assert engine.i_syn.item() == 0


@pytest.mark.parametrize(("v", "expected"), [(63, 62), (64, 62), (65, 63)])
def test_the_branch_point_belongs_to_the_right(build: Build, v: int, expected: int) -> None:
    # v_branch = (4 * 62 + 75) // 5 = 64; there 64 + ((64 - 75) >> 3) = 62 and not
    # 64 + (4 * (62 - 64) >> 3) = 63
    engine = Engine(build([SPIKING]))
    engine.v[:] = v
    assert engine.step(NO_AXONS).v.item() == expected


def test_results_at_the_ends_of_the_register(build: Build, compare: Compare) -> None:
    bias = [126, 127, 128, -127, -128, -129, 2047, -2048]
    trace = compare(build([{}] * len(bias), session=[(1, dict(enumerate(bias)))]))
    assert trace.v.tolist() == [[254, 255, 128, 1, 0, 0, 128, 0]]
    assert trace.spikes.tolist() == [[False, False, True, False, False, False, True, False]]


def test_without_left_slope_there_is_no_leak(build: Build, compare: Compare) -> None:
    network = build([{"a": 0, "b": 3}], session=[(3, {0: 20}), (3, {0: 0})])
    assert compare(network).v[:, 0].tolist() == [148, 168, 188, 188, 188, 188]


@pytest.mark.parametrize(
    ("tau", "weight", "expected"),
    [
        (8, 9, [8, 7, 6, 5, 4, 3, 2, 1, 0, 0]),  # 9 >> 3 = 1; then nothing is shifted out: leak
        (8, -9, [-7, -6, -5, -4, -3, -2, -1, 0, 0, 0]),  # -9 >> 3 = -2
        (8, 1, [0] * 10),
        (8, -1, [0] * 10),
        (8, 5, [4, 3, 2, 1, 0, 0, 0, 0, 0, 0]),  # 5 * 4 / 2 in all
        (8, 7, [6, 5, 4, 3, 2, 1, 0, 0, 0, 0]),
        (8, 16, [14, 13, 12, 11, 10, 9, 8, 7, 6, 5]),
        (15, 9, [8, 7, 6, 5, 4, 3, 2, 1, 0, 0]),  # floor(log2 15) = 3
        (2, 9, [5, 3, 2, 1, 0, 0, 0, 0, 0, 0]),
        (3, 9, [5, 3, 2, 1, 0, 0, 0, 0, 0, 0]),
        (4, 100, [75, 57, 43, 33, 25, 19, 15, 12, 9, 7]),
        (4, -100, [-75, -56, -42, -31, -23, -17, -12, -9, -6, -4]),
        (1, 127, [0] * 10),  # removed before it is used
        (1, -128, [0] * 10),
        (32768, 10, [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]),
        (0, 9, [9, 0, 0, 0, 0, 0, 0, 0, 0, 0]),  # no decay unit: one step, as it is
        (0, -9, [-9, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    ],
)
def test_decay(build: Build, compare: Compare, tau: int, weight: int, expected: list[int]) -> None:
    network = build(
        [{"tau": tau}], axons=(1,), external=[(0, 0, weight)], events=[(0, 0)], session=[(10, {})]
    )
    assert compare(network).i_syn[:, 0].tolist() == expected


def test_a_spike_acts_one_step_later(build: Build, compare: Compare) -> None:
    network = build(
        [{}, {}, {}],
        recurrent=[(0, 0, 7), (0, 1, 9), (1, 0, 5)],
        session=[(1, {0: 128}), (2, {0: 0})],
    )
    trace = compare(network)
    assert trace.spikes[:, 0].tolist() == [True, False, False]
    assert trace.i_syn.tolist() == [[0, 0, 0], [7, 9, 0], [0, 0, 0]]
    assert trace.rows.tolist() == [[0], [1], [0]]


def test_rows_of_each_population(build: Build, compare: Compare) -> None:
    # Population 1 listens to 0 and population 2 to 1, and each to itself. All neurons fire always.
    network = build(
        [{"reset": 255}] * 6,
        populations=(1, 2, 3),
        recurrent=[(0, 1, 1), (1, 2, 1), (2, 3, 1)],
        axons=(1, 2, 0),
        events=[(1, 0), (1, 1), (1, 2), (2, 2)],
        session=[(3, dict.fromkeys(range(6), 2000))],
    )
    assert compare(network).rows.tolist() == [[0, 0, 0], [2, 5, 5], [1, 4, 5]]


@pytest.mark.parametrize(
    ("last", "saturates"), [(1, False), (2, True), (127, True)], ids=["32767", "32768", "32893"]
)
def test_saturation_at_the_upper_end(
    build: Build, compare: Compare, last: int, saturates: bool
) -> None:
    _check_saturation(build, compare, [127] * 258 + [last], 32767, saturates)


@pytest.mark.parametrize(
    ("last", "saturates"), [(0, False), (-1, True), (-128, True)], ids=["-32768", "-32769", "..."]
)
def test_saturation_at_the_lower_end(
    build: Build, compare: Compare, last: int, saturates: bool
) -> None:
    _check_saturation(build, compare, [-128] * 256 + [last], -32768, saturates)


def _check_saturation(
    build: Build, compare: Compare, weights: list[int], current: int, saturates: bool
) -> None:
    """Population 1 is driven to the end of the current register, population 0 is not."""
    n = len(weights)
    network = build(
        [{}, {}],
        populations=(1, 1),
        axons=(1, n),
        external=[(0, 0, 127), *((1 + k, 1, weight) for k, weight in enumerate(weights))],
        events=[(1, axon) for axon in range(1 + n)],
        session=[(3, {})],
    )
    trace = compare(network)
    assert trace.i_syn.tolist() == [[0, 0], [127, current], [0, 0]]
    assert trace.saturated.tolist() == [[False, False], [False, saturates], [False, False]]
    assert trace.rows.tolist() == [[0, 0], [1, n], [0, current > 0]]  # the spike is its own row


def test_the_exact_sum_saturates_and_not_every_addition(build: Build, compare: Compare) -> None:
    weights = [127] * 400 + [-128] * 400
    network = build(
        [{}],
        axons=(800,),
        external=[(k, 0, weight) for k, weight in enumerate(weights)],
        events=[(0, axon) for axon in range(800)],
    )
    trace = compare(network)
    assert trace.i_syn.item() == -400
    assert not trace.saturated.item()


def test_a_saturated_current_decays_from_the_end(build: Build, compare: Compare) -> None:
    network = build(
        [{"tau": 2}],
        axons=(300,),
        external=[(k, 0, 127) for k in range(300)],
        events=[(0, axon) for axon in range(300)],
        session=[(2, {})],
    )
    trace = compare(network)
    assert trace.i_syn[:, 0].tolist() == [32767 - 16383, 16384 - 8192]
    assert trace.saturated[:, 0].tolist() == [True, False]


def _spike_steps(trace: Trace) -> list[int]:
    return np.flatnonzero(trace.spikes[:, 0]).tolist()


def test_tonic(build: Build, compare: Compare) -> None:
    trace = compare(build([{}], session=[(400, {0: 10})]))
    v, spikes = trace.v[:, 0].tolist(), _spike_steps(trace)
    first_period = [138, 146, 153, 159, 165, 170, 176, 183, 190, 198, 207, 217, 229, 242, 128]
    assert v[:15] == first_period
    assert spikes == list(range(14, 400, 15))
    assert len(spikes) == 26
    assert v[-1] == 198


def test_200_000_tonic_steps(build: Build) -> None:
    engine = FastEngine(build([{}], session=[(200_000, {0: 10})]))
    engine.set_bias({0: 10})
    activity = engine.run(200_000, record=False)
    assert activity.spike_counts.tolist() == [13_333]
    assert engine.v.tolist() == [165]


def test_spiking(build: Build, compare: Compare) -> None:
    spikes = _spike_steps(compare(build([SPIKING], session=[(200, {}), (800, {0: 3})])))
    assert spikes[0] == 226
    assert {b - a for a, b in pairwise(spikes)} == {23}
    assert len(spikes) == 34


def test_class_1(build: Build, compare: Compare) -> None:
    trace = compare(build([SPIKING], session=[(50, {0: bias}) for bias in range(20)]))
    spikes = trace.spikes.reshape(20, 50).sum(axis=1)
    assert spikes.tolist() == [0, 0, 0, 2, 2, 3, 3, 4, 3, 5, 4, 4, 5, 5, 6, 5, 6, 6, 6, 7]


def test_latency(build: Build, compare: Compare) -> None:
    trace = compare(build([SPIKING], session=[(100, {}), (10, {0: 3}), (390, {0: 0})]))
    assert _spike_steps(trace) == [138]


def test_bistable(vectors: Path, compare: Compare) -> None:
    spikes = _spike_steps(compare(load(vectors / "bistable.json")))
    assert (len(spikes), spikes[0], spikes[-1]) == (13, 122, 398)


def test_there_are_vectors(vectors: Path) -> None:
    assert len(list(vectors.glob("*.json"))) == 21


@pytest.mark.parametrize(
    "name",
    ["bistable", "class1", "latency", "spiking", "tonic"]
    + [f"random_{k:03d}" for k in range(1, 17)],
)
def test_vectors_of_the_simulator(name: str, vectors: Path, compare: Compare) -> None:
    trace = compare(load(vectors / f"{name}.json"))
    with np.load(vectors / f"{name}.npz") as expected:
        for part in ("v", "spikes", "i_syn"):
            np.testing.assert_array_equal(getattr(trace, part), expected[part], err_msg=part)


def test_xorshift_is_marsaglias() -> None:
    # The first outputs of xorshift32 (13, 17, 5) from the state that Marsaglia's paper starts with.
    x = noise.xorshift(2463534242)
    assert (x, noise.xorshift(x)) == (723471715, 2497366906)


def test_jump_is_as_many_steps_as_the_stride() -> None:
    state = jumped = noise.seed_state(1)
    for _ in range(noise.STRIDE):
        state = noise.xorshift(state)
    assert noise.jump(jumped) == state


@pytest.mark.parametrize("seed", [0, 1, 0x61C8_8647, 0xFFFF_FFFF])
def test_no_seed_stops_the_generator(seed: int) -> None:
    assert 0 < noise.seed_state(seed) < 1 << 32


@pytest.mark.parametrize(
    ("strength", "values"),
    [(0, [0]), (1, [0]), (2, [-1, 0]), (3, [-1, 0, 1]), (5, [-2, -1, 0, 1, 2])],
)
def test_noise_takes_each_value_as_often(
    build: Build, compare: Compare, strength: int, values: list[int]
) -> None:
    trace = compare(build([{"noise": strength}] * 20, session=[(100, {})]))
    found, counts = np.unique(trace.noise, return_counts=True)
    assert found.tolist() == values
    # 2000 draws: five standard deviations are at most 112
    assert np.abs(counts - 2000 / len(values)).max() < 112


def test_noise_of_the_largest_strength(build: Build, compare: Compare) -> None:
    trace = compare(build([{"noise": 255}] * 50, session=[(200, {})]))
    assert (trace.noise.min(), trace.noise.max()) == (-127, 127)
    assert abs(trace.noise.mean()) < 4  # five standard errors: 5 * 73.6 / sqrt(10,000)


def test_noise_depends_on_seed_step_and_neuron_only(build: Build, simulate: Simulate) -> None:
    def draws(*strengths: int, seed: int = 7) -> list[list[int]]:
        neurons = [{"noise": strength} for strength in strengths]
        _, trace = simulate(build(neurons, noise_seeds=(seed,), session=[(30, {})]))
        rows: list[list[int]] = trace.noise.T.tolist()
        return rows

    noisy = draws(200, 100, 50)
    assert draws(200, 100, 50) == noisy
    assert draws(200, 100, 50, seed=8)[0] != noisy[0]
    assert draws(0, 100, 50)[1:] == noisy[1:]
    assert draws(200, 100)[1] == noisy[1]


def test_noise_is_added_to_the_potential(build: Build, compare: Compare) -> None:
    trace = compare(build([{"noise": 15}], session=[(1, {})]))
    assert trace.v.item() == 128 + trace.noise.item()


def test_populations_have_streams_of_their_own(build: Build, compare: Compare) -> None:
    network = build(
        [{"noise": 99}] * 3, populations=(1, 1, 1), noise_seeds=(3, 4, 3), session=[(20, {})]
    )
    first, other, same = compare(network).noise.T.tolist()
    assert first == same
    assert first != other
