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


@pytest.mark.parametrize(
    ("acc", "post_shift", "expected"),
    [
        *[(1, 1, 1), (-1, 1, -1), (3, 1, 2), (-3, 1, -2), (2, 1, 1), (-2, 1, -1), (0, 1, 0)],
        *[(7, 4, 0), (8, 4, 1), (9, 4, 1), (23, 4, 1), (24, 4, 2), (25, 4, 2)],
        *[(-7, 4, 0), (-8, 4, -1), (-9, 4, -1), (-23, 4, -1), (-24, 4, -2), (-25, 4, -2)],
        *[(5, 0, 5), (-5, 0, -5), ((1 << 30) - 1, 31, 0), (1 << 30, 31, 1)],
        *[(-(1 << 30) + 1, 31, 0), (-(1 << 30), 31, -1)],
    ],
)
def test_second_shift_ties_away_from_zero(acc: int, post_shift: int, expected: int) -> None:
    """The first one takes a factor of 2 away again."""
    case = {**PLAIN, "mult": 2, "shift": 1, "post_shift": post_shift}
    assert requantise(acc=acc, **case) == expected


def test_rounded_twice() -> None:
    """5/8 rounds to 1 and then to 1; at once, with 3 bits, 5/16 would be 0."""
    assert requantise(acc=5, **{**PLAIN, "shift": 3, "post_shift": 1}) == 1
    assert requantise(acc=5, **{**PLAIN, "shift": 4}) == 0
    # The first shift's ties go up: -0.5 is 0, and -1.5 is -1, which is half of a unit.
    assert requantise(acc=-1, **{**PLAIN, "shift": 1, "post_shift": 1}) == 0
    assert requantise(acc=-3, **{**PLAIN, "shift": 1, "post_shift": 1}) == -1


@pytest.mark.parametrize(
    ("offset", "acc", "expected"),
    [
        *[(-128, 255, 127), (-128, 256, 127), (-128, -1, -128), (-128, 0, -128), (-128, 1, -127)],
        *[(255, -255, 0), (255, -256, 0), (255, -254, 1), (255, 0, 255), (255, 1, 255)],
    ],
)
def test_offset_comes_behind_the_clamp(offset: int, acc: int, expected: int) -> None:
    """The ends are those of the result's type less the offset."""
    ends = (-128, 127) if offset < 0 else (0, 255)
    clamp = {"low": ends[0] - offset, "high": ends[1] - offset}
    case = {**PLAIN, "mult": 2, "shift": 1, **clamp, "offset": offset}
    assert requantise(acc=acc, **case) == expected


def test_largest_wide_operands_are_exact() -> None:
    case = {**PLAIN, "mult": (1 << 31) - 1, "skip_mult": (1 << 31) - 1, "shift": 40}
    wide = {"low": -(1 << 40), "high": 1 << 40}
    # (2^31 - 1)^2 = 2^62 - 2^32 + 1.
    assert requantise(acc=(1 << 31) - 1, **{**case, **wide}) == 1 << 22
    assert requantise(acc=-(1 << 31), **{**case, **wide}) == -(1 << 22)
    twice = {**case, **wide, "shift": 1, "post_shift": 31}
    assert requantise(acc=(1 << 31) - 1, **twice) == (1 << 30) - 1
    # 510 * (2^31 - 1) more, divided by 2^31.
    assert requantise(acc=0, **{**case, **wide, "skip": 510, "shift": 31}) == 510
    assert requantise(acc=0, **{**case, **wide, "skip": -383, "shift": 31}) == -383
