"""Requantisation against numbers worked out by hand."""

import numpy as np
import pytest

from model.mars.requantiser import raw, requantise

INT16 = {"low": -32768, "high": 32767}
PLAIN = {"bias": 0, "mult": 1, "skip": 0, "skip_mult": 0, **INT16}


@pytest.mark.parametrize(
    ("acc", "shift", "expected"),
    [
        *[(5, 1, 3), (4, 1, 2), (3, 1, 2), (1, 1, 1), (0, 1, 0)],
        *[(-1, 1, 0), (-2, 1, -1), (-3, 1, -1), (-5, 1, -2)],
        *[(23, 4, 1), (24, 4, 2), (25, 4, 2)],
        *[(-23, 4, -1), (-24, 4, -1), (-25, 4, -2), (-8, 4, 0), (-9, 4, -1)],
    ],
)
def test_ties_round_up(acc: int, shift: int, expected: int) -> None:
    assert requantise(acc=acc, shift=shift, **PLAIN) == expected


def test_bias_is_scaled_with_the_accumulator() -> None:
    case = {**PLAIN, "acc": 100, "bias": -20, "mult": 3, "shift": 4}
    assert requantise(**case) == 15  # (240 + 8) >> 4
    assert requantise(**{**case, "bias": -120}) == -4  # (-60 + 8) >> 4 is -3.25, rounded down


@pytest.mark.parametrize(("skip", "expected"), [(4, 6), (0, 4), (-4, 1), (-256, -156)])
def test_residual(skip: int, expected: int) -> None:
    case = {**PLAIN, "acc": 10, "mult": 3, "skip": skip, "skip_mult": 5, "shift": 3}
    assert requantise(**case) == expected  # (30 + 5 * skip + 4) >> 3


@pytest.mark.parametrize(
    ("low", "high", "acc", "expected"),
    [
        *[(0, 15, 29, 15), (0, 15, 30, 15), (0, 15, 31, 15), (0, 15, 1, 1), (0, 15, -3, 0)],
        *[(-8, 7, 14, 7), (-8, 7, 15, 7), (-8, 7, -16, -8), (-8, 7, -18, -8), (-8, 7, -14, -7)],
    ],
)
def test_clamps(low: int, high: int, acc: int, expected: int) -> None:
    assert requantise(**{**PLAIN, "acc": acc, "shift": 1, "low": low, "high": high}) == expected


def test_largest_operands_are_exact() -> None:
    case = {**PLAIN, "mult": 65535, "shift": 40}
    assert requantise(acc=(1 << 31) - 1, **case) == 128
    assert requantise(acc=-(1 << 31), **case) == -128
    assert requantise(acc=-(1 << 31), **{**case, "skip": -256, "skip_mult": 65535}) == -128


def test_raw_adds_the_bias_only() -> None:
    assert raw(-70000, 4000) == -66000
    assert raw((1 << 31) - 2, 1) == (1 << 31) - 1


def test_lanes_have_their_own_parameters() -> None:
    acc = np.array([[10, 20], [-10, -20]], np.int32)
    case = {**PLAIN, "mult": np.array([1, 3]), "shift": np.array([1, 2])}
    assert requantise(acc=acc, **case).tolist() == [[5, 15], [-5, -15]]
