"""Softmax and normalisation: equal to the reference, near to float64, no wider than stated."""

import numpy as np
import pytest
from numpy.typing import NDArray

from model.mars import attention, rows
from model.mars.rows import Ints

OCTAVES = (1, 90, 473, 2000, 7000, 20_000, 1 << 16, rows.OCTAVES_MAX)
LENGTHS = (1, 2, 3, 15, 16, 17, 40, 100, 197, 256, 257, 511, 512)
NORM_LENGTHS = (1, 2, 3, 15, 16, 17, 100, 192, 384, 768, 1000, 1024)
STEP = 1.0
"""Largest error in steps of 8 bit."""


def some_rows(rng: np.random.Generator, n_rows: int, n: int) -> Ints:
    """Noise, normal values around some mean, few of two values, and equal ones; signed or not."""
    style = rng.choice(("noise", "normal", "two", "equal"), p=(0.3, 0.5, 0.15, 0.05))
    if style == "noise":
        values = rng.integers(-128, 128, (n_rows, n))
    elif style == "normal":
        spread = rng.choice((1, 4, 12, 40))
        values = np.rint(rng.normal(rng.integers(-100, 100), spread, (n_rows, n))).astype(np.int64)
    elif style == "two":
        values = rng.choice(rng.integers(-128, 128, 2), (n_rows, n), p=(0.05, 0.95))
    else:
        values = np.full((n_rows, n), rng.integers(-128, 128))
    return np.clip(values, -128, 127) + 128 * int(rng.integers(0, 2))


def softmax_error(scores: Ints, octaves: int) -> float:
    """Largest error of probabilities of 8 bit, in steps; what is more than 255 counts as 255."""
    powers = 2.0 ** ((scores - scores.max(axis=-1, keepdims=True)) * (octaves / (1 << 16)))
    exact = 256 * powers / powers.sum(axis=-1, keepdims=True)
    found = np.minimum((rows.softmax(scores, octaves) + 128) >> 8, 255)
    return float(np.abs(found - exact).max())


def exact_normal(values: Ints, epsilon: float) -> NDArray[np.float64]:
    centred = values - values.mean(axis=-1, keepdims=True)
    variance = (centred**2).mean(axis=-1, keepdims=True) + epsilon
    return np.asarray(centred / np.sqrt(np.where(variance > 0, variance, 1)))


def norm_error(values: Ints, epsilon: int, mult: int, shift: int) -> float:
    """Largest error of results of 8 bit, in steps."""
    n = values.shape[-1]
    gain = mult * 2.0 ** (rows.NORMAL_BITS - shift)
    exact = np.clip(gain * exact_normal(values, epsilon / n**2), -128, 127)
    found = (rows.normalise(values, epsilon) * mult + (1 << (shift - 1))) >> shift
    return float(np.abs(np.clip(found, -128, 127) - exact).max())


def random_errors(n_rows: int, seed: int) -> tuple[float, float]:
    """Largest errors of softmax and of normalisation over so many random rows of each."""
    rng = np.random.default_rng(seed)
    worst = [0.0, 0.0]
    part = 250
    for _ in range(n_rows // part):
        scores = some_rows(rng, part, int(rng.integers(1, rows.SOFTMAX_MAX + 1)))
        octaves = int(rng.integers(1, 1 << int(rng.integers(1, 21))))
        worst[0] = max(worst[0], softmax_error(scores, octaves))
        values = some_rows(rng, part, int(rng.integers(1, rows.NORM_MAX + 1)))
        # Gains from 1 to 256 steps per standard deviation.
        mult, shift = int(rng.integers(1 << 10, 1 << 12)), int(rng.integers(18, 25))
        epsilon = int(rng.integers(0, 1 << int(rng.integers(1, 33))))
        worst[1] = max(worst[1], norm_error(values, epsilon, mult, shift))
    return worst[0], worst[1]


def test_exponentials_and_reciprocals_are_as_near_as_stated() -> None:
    octaves = np.arange(1 << 21)  # beyond it all are 0
    exact = 2.0 ** (rows.POWER_BITS - octaves / (1 << rows.OCTAVE_BITS))
    found = rows.power(octaves)
    assert np.array_equal(found, attention.exponentials(octaves))
    assert (np.abs(found - exact) <= 0.5 + 3.4e-4 * exact).all()
    assert found[0] == 1 << rows.POWER_BITS
    assert found[-1] == 0
    least = 1 << (rows.POWER_SUM_WIDTH - 1)
    divisors = np.concatenate([np.arange(least, 2 * least, 97), [least, 2 * least - 1]])
    inverse = rows.reciprocal(divisors)
    assert inverse.min() == 1 << (rows.INVERSE_WIDTH - 1)
    assert inverse.max() == (1 << rows.INVERSE_WIDTH) - 1
    assert (np.abs(inverse * divisors / 2.0**44 - 1) <= 2.0**-16).all()


def test_roots_are_those_of_all_squares_and_their_neighbours() -> None:
    wanted = np.arange(1, 1 << rows.ROOT_WIDTH)
    for offset, right in ((0, wanted), (-1, wanted - 1), (1, wanted)):
        assert np.array_equal(rows.root(wanted**2 + offset), right)
    assert rows.root(np.array([(1 << 36) - 1])) == (1 << 18) - 1


@pytest.mark.parametrize("octaves", OCTAVES)
def test_softmax_is_the_reference_and_near(octaves: int) -> None:
    rng = np.random.default_rng(octaves)
    for n in LENGTHS:
        scores = some_rows(rng, 20, n)
        found = rows.softmax(scores, octaves)
        assert np.array_equal(found, attention.softmax(scores, octaves))
        assert found.min() >= 0
        assert found.max() <= 1 << rows.PROBABILITY_BITS
        assert softmax_error(scores, octaves) <= STEP


def test_many_scores_just_large_enough_to_count_cost_no_step() -> None:
    for n in (2, 100, 512):
        for octaves in range(4000, 20_000, 61):
            scores = np.full((3, n), -128)
            scores[:, 0] = (-1, 50, 127)
            assert softmax_error(scores, octaves) <= STEP


@pytest.mark.parametrize("n", NORM_LENGTHS)
def test_normalisation_is_the_reference_and_near(n: int) -> None:
    rng = np.random.default_rng(n)
    for epsilon in (0, 1, 1000, rows.EPSILON_MAX):
        values = np.concatenate([some_rows(rng, 10, n) for _ in range(4)])
        values[0], values[1] = rng.choice((0, 255), n), 7
        found = rows.normalise(values, epsilon)
        assert np.array_equal(found, attention.normalise(values, epsilon))
        assert (found[1] == 0).all()
        assert np.abs(found).max() < 1 << (rows.NORMAL_WIDTH - 1)
        exact = (1 << rows.NORMAL_BITS) * exact_normal(values, epsilon / n**2)
        assert (np.abs(found - exact) <= 0.51 + np.abs(exact) * 2.0**-15).all()
        assert norm_error(values, epsilon, 4096, 19) <= STEP


def test_the_widest_rows_have_room() -> None:
    half = np.where(np.arange(rows.NORM_MAX) % 2, 255, 0)
    one = np.zeros(rows.NORM_MAX, np.int64)
    one[0] = 255
    for row in (half, one, 255 - one, np.full(rows.NORM_MAX, 255), half - 128):
        total, squares, n = int(row.sum()), int((row**2).sum()), len(row)
        assert abs(total) < 1 << rows.SUM_WIDTH
        assert squares < 1 << rows.SQUARES_WIDTH
        assert n * squares - total**2 + rows.EPSILON_MAX < 1 << (rows.VARIANCE_WIDTH - 1)
        assert np.abs(n * row - total).max() < 1 << (rows.CENTRED_WIDTH - 1)
        assert np.abs(rows.normalise(row[np.newaxis], 0)).max() < 1 << (rows.NORMAL_WIDTH - 1)
    total = rows.SOFTMAX_MAX << rows.POWER_BITS
    assert total < 1 << rows.POWER_SUM_WIDTH
    assert int(rows.POWERS.max()) < 1 << rows.POWER_WIDTH


def test_errors_of_random_rows() -> None:
    assert max(random_errors(5000, seed=1)) <= STEP


@pytest.mark.full
def test_errors_of_a_million_random_rows() -> None:
    assert max(random_errors(1_000_000, seed=2)) <= STEP
