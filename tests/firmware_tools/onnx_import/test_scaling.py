"""Multipliers and biases from ratios, and the bound of what they are off by."""

import numpy as np
import pytest

from firmware_tools.onnx_import.scaling import Skip, post


def test_multipliers_are_as_near_as_16_bits_allow() -> None:
    ratio = np.array([0.7, 1 / 3, 2.0**-20, 1.0, 65535.4 / 65536, 65535.6 / 65536, 1e-9])
    n = len(ratio)
    found = post(ratio, np.zeros(n), np.full(n, 1e9), 255.0)
    assert found is not None
    assert list(found.shift) == [16, 17, 35, 15, 16, 15, 40]
    assert found.mult.max() <= 65535
    error = np.abs(found.mult * np.exp2(-found.shift.astype(float)) - ratio)
    assert (error[:-1] <= ratio[:-1] * 2.0**-16).all()
    assert error[-1] <= 2.0**-41
    assert found.error == pytest.approx((error * np.minimum(1e9, 256 / ratio)).max())


def test_multiplier_too_large() -> None:
    assert post(np.array([32767.4]), np.zeros(1), np.ones(1), 255.0) is not None
    assert post(np.array([32768.0]), np.zeros(1), np.ones(1), 255.0) is None


def test_wide_multipliers() -> None:
    ratio = np.array([0.7, 1 / 3, 2.0**-20])
    found = post(ratio, np.zeros(3), np.full(3, 1e9), 255.0, wide=True)
    assert found is not None
    assert list(found.shift) == [31, 32, 40]
    assert found.mult.max() < 1 << 31
    assert found.error < 1e-6 * 256 / 2 + 1e9 * 2.0**-41


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("skip", [None, Skip(0.61, 255), Skip(1.7, 152)])
def test_no_result_is_further_off_than_the_bound(skip: Skip | None, wide: bool) -> None:
    rng = np.random.default_rng(1)
    reached = []
    for _ in range(200):
        ratio, bias = np.exp2(rng.uniform(-12, -3, 1)), rng.uniform(-5000, 5000, 1)
        found = post(ratio, bias, np.full(1, 1e9), 200.0, skip=skip, wide=wide)
        assert found is not None
        other, added = np.zeros(3000), 0.0
        if skip is not None:
            other = rng.integers(-skip.largest, skip.largest + 1, 3000)
            added = other * skip.ratio
        acc = np.rint((rng.uniform(-200, 200, 3000) - added) / ratio - bias)
        scaled = (acc + found.bias) * found.mult + other * found.skip_mult
        error = np.abs(scaled * np.exp2(-found.shift) - ((acc + bias) * ratio + added))
        assert error.max() <= found.error + 1e-9
        reached.append(error.max() / found.error)
    assert np.mean(reached) > 0.5  # the bound is no wide one
