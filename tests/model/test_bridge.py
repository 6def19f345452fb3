"""The bridge's arithmetic against hand-computed numbers and fractions."""

from fractions import Fraction

import numpy as np
import pytest

from model.bridge import (
    MAX_ENTRIES,
    MULT_MAX,
    MULT_MIN,
    SHIFT_MAX,
    Bridge,
    BridgeError,
    Entry,
    check_fit,
    decide,
    factor,
    saturated,
    scaled,
    stimuli,
)
from model.npu.network import Connections, Network, Neurons, Segment


def network(populations: tuple[int, ...] = (3, 2), axons: tuple[int, ...] = (0, 4)) -> Network:
    n = sum(populations)
    plain = dict.fromkeys(("reset", "a", "b", "noise", "tau"), np.ones(n, np.int64))
    return Network(
        populations=populations,
        neurons=Neurons(
            rest=np.full(n, 50, np.int64), threshold=np.full(n, 100, np.int64), **plain
        ),
        recurrent=Connections.none(),
        axons=axons,
        external=Connections.none(),
        noise_seeds=(1,) * len(populations),
        session=(Segment(1),),
        events=np.zeros((0, 2), np.int64),
    )


@pytest.mark.parametrize(
    ("value", "mult", "shift", "right"),
    [
        (7, 3, 0, 21),
        (7, 3, 1, 11),  # 10.5: halves go up
        (-7, 3, 1, -10),  # -10.5
        (-1, 1, 1, 0),
        (-3, 1, 1, -1),
        (1, 1, 2, 0),
        (2, 1, 2, 1),
        (-2, 1, 2, 0),
        ((1 << 31) - 1, MULT_MAX, 31, 32767),
        (-(1 << 31), MULT_MIN, 0, 1 << 46),
        (-(1 << 31), MULT_MAX, 31, -32767),
        (0, MULT_MIN, 31, 0),
    ],
)
def test_scaled(value: int, mult: int, shift: int, right: int) -> None:
    assert scaled(value, mult, shift) == right


def test_saturated() -> None:
    values = (-2049, -2048, -2047, 2046, 2047, 2048)
    assert [saturated(value) for value in values] == [-2048, -2048, -2047, 2046, 2047, 2047]


@pytest.mark.parametrize(
    ("scale", "right"),
    [
        (0, (0, 0)),
        (1, (1, 0)),
        (-0.5, (-1, 1)),
        (12.5, (25, 1)),
        (32767, (32767, 0)),
        (-32768, (-32768, 0)),
        (2**-31, (1, 31)),
    ],
)
def test_factor(scale: float, right: tuple[int, int]) -> None:
    assert factor(scale) == right


def test_factor_is_near() -> None:
    rng = np.random.default_rng(1)
    for scale in np.exp(rng.uniform(-10, 10, 200)) * rng.choice([-1, 1], 200):
        mult, shift = factor(float(scale))
        assert abs(Fraction(mult, 1 << shift) - Fraction(float(scale))) <= Fraction(1, 2 << shift)
        assert abs(mult / 2**shift / scale - 1) < 2**-13


@pytest.mark.parametrize("scale", [32768.0, -40000.0, float("nan"), float("inf")])
def test_scale_too_large(scale: float) -> None:
    with pytest.raises(BridgeError, match=r"scale must be -32768\.\.32767, not"):
        factor(scale)


def test_scale_too_small() -> None:
    with pytest.raises(BridgeError, match=r"scale must be 0 or at least 2\.3e-10, not 1e-10"):
        factor(1e-10)


def test_stimuli() -> None:
    bridge = Bridge(
        (
            Entry(1, 0, 2, 3, 1),
            Entry(0, 1, 1, 1000, 0),
            Entry(2, 1, 3, 1, 0, is_axon=True),
            Entry(1, 1, 0, 1, 0, is_axon=True),
            Entry(1, 1, 2, -1, 0, is_axon=True),
            Entry(2, 1, 1, 1, 2, is_axon=True),
        ),
        steps=5,
        population=0,
    )
    result = stimuli(bridge, np.array([-9, 5, 1]).reshape(3, 1, 1), network())
    assert result.bias == {2: 8, 4: -2048}
    assert result.axons.tolist() == [0, 3]


def test_decide() -> None:
    spikes = np.array([[0, 1, 1, 0], [0, 0, 1, 1], [0, 1, 0, 1]], np.bool_)
    decision = decide(spikes)
    assert decision.counts.tolist() == [0, 2, 2, 2]
    assert (decision.neuron, decision.count) == (1, 2)
    assert (decide(spikes[:0]).neuron, decide(spikes[:0]).count) == (0, 0)


ENTRY = Entry(0, 0, 0, 1, 0)


@pytest.mark.parametrize(
    ("bridge", "message"),
    [
        (((), 1, 0), r"entries must be 1\.\.256, not 0"),
        (((ENTRY,) * 257, 1, 0), r"entries must be 1\.\.256, not 257: .*too many outputs"),
        (((ENTRY,), 65536, 0), r"steps must be 0\.\.65535, not 65536"),
        (((ENTRY,), -1, 0), r"steps must be 0\.\.65535, not -1"),
        (((Entry(0, 0, 0, 32768, 0),), 1, 0), r"entries\[0\]\.mult must be .*32767, not 32768"),
        (((Entry(0, 0, 0, 1, 32),), 1, 0), r"entries\[0\]\.shift must be 0\.\.31, not 32"),
        (((ENTRY, ENTRY), 1, 0), r"entries\[0\] and entries\[1\] .* neuron 0 of population 0"),
    ],
)
def test_bad_bridge(bridge: tuple[tuple[Entry, ...], int, int], message: str) -> None:
    with pytest.raises(BridgeError, match=message):
        Bridge(*bridge)


@pytest.mark.parametrize(
    ("bridge", "message"),
    [
        (Bridge((ENTRY,), 1, 2), r"^population must be 0\.\.1, not 2"),
        (Bridge((Entry(3, 0, 0, 1, 0),), 1, 0), r"entries\[0\]\.output must be 0\.\.2, not 3"),
        (Bridge((Entry(0, 2, 0, 1, 0),), 1, 0), r"entries\[0\]\.population must be 0\.\.1, not 2"),
        (Bridge((Entry(0, 1, 2, 1, 0),), 1, 0), r"entries\[0\]\.neuron must be 0\.\.1, not 2"),
        (
            Bridge((Entry(0, 1, 4, 1, 0, is_axon=True),), 1, 0),
            r"entries\[0\]\.axon must be 0\.\.3, not 4",
        ),
        (
            Bridge((Entry(0, 0, 0, 1, 0, is_axon=True),), 1, 0),
            r"entries\[0\]\.axon must be an axon, but the population has none, not 0",
        ),
    ],
)
def test_bridge_that_does_not_fit(bridge: Bridge, message: str) -> None:
    with pytest.raises(BridgeError, match=message):
        check_fit(bridge, 3, network())


def test_bridge_that_fits() -> None:
    entries = tuple(Entry(k % 3, 1, k, MULT_MIN, SHIFT_MAX) for k in range(2))
    check_fit(Bridge(entries, 65535, 1), 3, network())
    big = network((256,), (0,))
    check_fit(Bridge(tuple(Entry(0, 0, k, 1, 0) for k in range(MAX_ENTRIES)), 0, 0), 1, big)
