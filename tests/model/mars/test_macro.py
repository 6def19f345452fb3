"""The macro's golden functions against numbers worked out by hand."""

import numpy as np
import pytest

from model.mars.macro import access, decode_activations, decode_weights

ONES = 0x1111_1111_1111_1111


def rows_of(*words: int) -> np.ndarray:
    """A group-set: these word lines, zeros on the others."""
    rows = np.zeros(16, np.uint64)
    rows[: len(words)] = words
    return rows


def test_nibbles_of_weights_are_signed_and_lowest_first() -> None:
    weights = decode_weights(rows_of(0, 0xFEDC_BA98_7654_3210), wide=False)
    assert weights.shape == (16, 16)
    assert weights[1].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1]
    assert not weights[0].any()


def test_bytes_of_weights_fill_half_of_the_kernels() -> None:
    weights = decode_weights(rows_of(0x807F_FF00_010F_F010), wide=True)
    assert weights.shape == (16, 16)
    assert weights[0].tolist() == [16, -16, 15, 1, 0, -1, 127, -128] + [0] * 8


def test_activations_are_signed_only_by_their_flag() -> None:
    word = np.uint64(0x7000_0000_0000_00F8)
    assert decode_activations(word, False).tolist() == [8, 15] + [0] * 13 + [7]
    assert decode_activations(word, True).tolist() == [-8, -1] + [0] * 13 + [7]


@pytest.mark.parametrize(
    ("signed_activations", "wide", "expected"),
    [
        (False, False, [3 * 2, 3 * -1 + 9 * -8]),
        (True, False, [3 * 2, 3 * -1 - 7 * -8]),
        (False, True, [3 * -14 + 9 * -128, 0]),
        (True, True, [3 * -14 - 7 * -128, 0]),
    ],
)
def test_two_channels(signed_activations: bool, wide: bool, expected: list[int]) -> None:
    sums = access(
        rows_of(0xF2, 0x80), np.uint64(0x93), signed_activations=signed_activations, wide=wide
    )
    assert sums.tolist() == expected + [0] * 14


@pytest.mark.parametrize(
    ("weight", "activation", "signed_activations", "wide", "expected"),
    [
        (0x8 * ONES, 0xF * ONES, False, False, -1920),
        (0x8 * ONES, 0xF * ONES, True, False, 128),
        (0x8 * ONES, 0x8 * ONES, True, False, 1024),
        (0x7 * ONES, 0xF * ONES, False, False, 1680),
        (0x8080_8080_8080_8080, 0xF * ONES, False, True, -30720),
        (0x7F7F_7F7F_7F7F_7F7F, 0xF * ONES, False, True, 30480),
        (0x8080_8080_8080_8080, 0x8 * ONES, True, True, 16384),
        (0x7F7F_7F7F_7F7F_7F7F, 0x8 * ONES, True, True, -16256),
    ],
)
def test_extremes(
    weight: int, activation: int, signed_activations: bool, wide: bool, expected: int
) -> None:
    sums = access(
        rows_of(*[weight] * 16),
        np.uint64(activation),
        signed_activations=signed_activations,
        wide=wide,
    )
    n_kernels = 8 if wide else 16
    assert sums.tolist() == [expected] * n_kernels + [0] * (16 - n_kernels)


def test_leading_dimensions_are_broadcast() -> None:
    rows = np.stack([rows_of(0x1), rows_of(0x2)])
    activations = np.array([[1], [2], [3]], np.uint64)
    sums = access(rows, activations, signed_activations=False, wide=False)
    assert sums.shape == (3, 2, 16)
    assert sums[..., 0].tolist() == [[1, 2], [2, 4], [3, 6]]
    assert not sums[..., 1:].any()
