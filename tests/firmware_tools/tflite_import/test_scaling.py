"""The accelerator's formula against TensorFlow Lite's, step by step."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_tools.tflite_import.fitting import affine_fit, average_fit, sum_fit
from firmware_tools.tflite_import.scaling import (
    divided,
    mean_scaling,
    quantized_multiplier,
    scaling,
    tflite_sum,
)
from model.mars.network import FeatureType
from model.mars.reference import requantize

SIGNED = FeatureType((1, 1, 1), 8, True)
BYTE = (-128, 127)


def by_the_book(acc: int, real: float) -> int:
    """Python's integers, step by step."""
    mult, exponent = quantized_multiplier(real)
    product = (acc << max(exponent, 0)) * mult
    nudged = product + (1 << 30 if product >= 0 else 1 - (1 << 30))
    high = abs(nudged) // (1 << 31) * (1 if nudged >= 0 else -1)
    places = max(-exponent, 0)
    rest = high & ((1 << places) - 1)
    threshold = ((1 << places) - 1 >> 1) + (high < 0)
    return (high >> places) + (rest > threshold)


@given(
    st.integers(-(1 << 26), (1 << 26) - 1),
    st.floats(2.0**-24, 1.9),
)
def test_two_roundings(acc: int, real: float) -> None:
    found = scaling(np.array([real]), BYTE, wide=True)
    assert found.post_shift is not None
    actual = requantize(
        np.array([acc]), found.mult, found.shift, SIGNED, post_shift=found.post_shift
    )
    assert actual[0] == np.clip(by_the_book(acc, real), *BYTE)


@pytest.mark.parametrize("real", [0.5, 0.25, 2.0**-9, 3 * 2.0**-11])
def test_ties(real: float) -> None:
    """Every accumulator whose product lies between two integers, and its neighbours."""
    acc = np.arange(-(1 << 14), 1 << 14)
    found = scaling(np.array([real]), BYTE, wide=True)
    assert found.post_shift is not None
    actual = requantize(acc, found.mult, found.shift, SIGNED, post_shift=found.post_shift)
    expected = [by_the_book(int(one), real) for one in acc]
    np.testing.assert_array_equal(actual, np.clip(expected, *BYTE))


@pytest.mark.parametrize(
    ("real", "expected"),
    [
        (0.0, (0, 0)),
        (0.5, (1 << 30, 0)),
        (1.0, (1 << 30, 1)),
        (np.nextafter(0.5, 0), (1 << 30, 0)),  # rounds to 2^31, which is halved
        (2.0**-33, (0, 0)),
    ],
)
def test_multipliers_by_hand(real: float, expected: tuple[int, int]) -> None:
    assert quantized_multiplier(float(real)) == expected


@pytest.mark.parametrize("zero", [0, -128])
def test_sixteen_bits_are_nearer_than_the_nearest_multiplier(zero: int) -> None:
    rng = np.random.default_rng(1)
    real = rng.uniform(0.001, 0.004, 50)
    acc = np.arange(0 if zero else -20_000, 20_000)[:, np.newaxis]
    wide = scaling(real, BYTE, wide=True)
    ends = (-128 - zero, 127 - zero)
    near = scaling(real, ends, wide=False)
    assert wide.post_shift is not None
    expected = requantize(
        acc, wide.mult, wide.shift, SIGNED, post_shift=wide.post_shift, offset=zero
    )
    actual = requantize(acc + near.bias, near.mult, near.shift, SIGNED, offset=zero)
    plain = requantize(acc, *_nearest(real), SIGNED, offset=zero)
    different = [(one != expected).mean() for one in (actual, plain)]
    assert different[0] < (0.5 if zero else 0.8) * different[1]
    assert np.abs(actual - expected).max() == 1


def _nearest(real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found = scaling(real, BYTE, wide=False, twice=False)
    return found.mult, found.shift


def test_sums_of_all_pairs() -> None:
    rng = np.random.default_rng(1)
    for _ in range(40):
        one, two, out = np.exp(rng.uniform(np.log(0.005), np.log(0.2), 3))
        zeros = rng.integers(-128, 128, 2)
        spans = [(int(-128 - zero), int(127 - zero)) for zero in zeros]
        for signs in ((1, 1), (-1, 1)):
            fit = sum_fit((one, two, out), (spans[0], spans[1]), signs, wide=True)
            assert fit.n_different == 0


def test_sum_by_hand() -> None:
    """Two equal scales and twice the scale: the half of the sum, ties away from zero."""
    first, second = np.array([3, -3, 1, -1, 100]), np.array([2, -2, 1, -1, 27])
    np.testing.assert_array_equal(tflite_sum(first, second, (0.1, 0.1, 0.2)), [3, -3, 1, -1, 64])


@pytest.mark.parametrize("count", [2, 3, 4, 9, 49, 64, 125, 196, 3136])
def test_averages_of_all_sums(count: int) -> None:
    assert average_fit(*BYTE, count, wide=True).n_different == 0
    assert average_fit(*BYTE, count, wide=False).n_different <= 255 * count // 100


def test_divided_by_hand() -> None:
    values = np.array([5, -5, 6, -6, 7, 1, -1, 2, -2])
    np.testing.assert_array_equal(divided(values, 4), [1, -1, 2, -2, 2, 0, 0, 1, -1])


def test_mean_by_hand() -> None:
    """The kernel divides the multiplier: 3/4 by 9 is a twelfth, to 31 bits."""
    mult, shift, post_shift = mean_scaling(0.75, 9, wide=True)
    assert mult * 2.0 ** -(shift + post_shift) == pytest.approx(1 / 12, rel=1e-8)
    assert (mult, shift, post_shift) == ((3 << 29 << 3) // 9, 31, 3)


def test_affine_functions() -> None:
    """Additions of constants, rounded as the kernel does: a fit for nearly every one."""
    rng = np.random.default_rng(1)
    steps = np.arange(-128, 128)
    n_different = []
    for _ in range(60):
        one, two, out = np.exp(rng.uniform(np.log(0.01), np.log(0.1), 3))
        constant, sign = int(rng.integers(-128, 128)), int(rng.choice((-1, 1)))
        wanted = tflite_sum(sign * steps, np.array([constant]), (one, two, out))
        line = sign * one / out, constant * two / out
        fit = affine_fit(steps, wanted, *line, ends=BYTE, post_shift=20, wide=True)
        assert abs(fit.weight) <= 127
        n_different.append(fit.n_different)
    assert max(n_different) <= 1
    assert sum(n_different) <= 2
