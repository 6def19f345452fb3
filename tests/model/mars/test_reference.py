"""The reference against numbers worked out by hand and against sums written out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.mars.network import (
    FeatureType,
    Ints,
    Pair,
    Sides,
)
from model.mars.reference import convolve, max_pool, requantize

BYTE = FeatureType((1, 1, 1), 8, signed=True)
HUGE = FeatureType((1, 1, 1), 32, signed=True)
MAP = np.array([[[[1, 2, 3], [4, 5, 6], [7, 8, 9]]]])
CORNERS = np.array([[[[1, 0, 0], [0, 0, 0], [0, 0, 10]]]])
"""A kernel that sees what is up and left, and ten times what is down and right."""


@pytest.mark.parametrize(
    ("stride", "padding", "expected"),
    [
        (1, 0, [[91]]),
        (1, 1, [[50, 60, 0], [80, 91, 2], [0, 4, 5]]),
        (2, 1, [[50, 0], [0, 5]]),
        (2, 0, [[91]]),
    ],
)
def test_convolution(stride: int, padding: int, expected: list[list[int]]) -> None:
    assert convolve(MAP, CORNERS, (stride,) * 2, (padding,) * 4).tolist() == [[expected]]


def test_convolution_1x1() -> None:
    source = np.array([[[[1, 2, 3]], [[-4, 5, 6]]]])
    weight = np.array([[[[3]], [[-2]]], [[[0]], [[1]]]])
    assert convolve(source, weight).tolist() == [[[[11, -4, -3]], [[-4, 5, 6]]]]
    assert convolve(source, weight, (2, 2)).tolist() == [[[[11, -3]], [[-4, 6]]]]


def slow_convolution(
    source: Ints,
    weight: Ints,
    stride: Pair,
    padding: Sides,
    pad_value: int,
    dilation: Pair,
    groups: int,
) -> Ints:
    """Product by product, in integers."""
    n_images, _, height, width = source.shape
    n_kernels, n_channels, *size = weight.shape
    top, left, bottom, right = padding
    rows = (height + top + bottom - (size[0] - 1) * dilation[0] - 1) // stride[0] + 1
    columns = (width + left + right - (size[1] - 1) * dilation[1] - 1) // stride[1] + 1
    result = np.zeros((n_images, n_kernels, rows, columns), np.int64)
    for image, kernel, row, column in np.ndindex(result.shape):
        group = kernel * groups // n_kernels
        for channel, dy, dx in np.ndindex(n_channels, *size):
            y = row * stride[0] + dy * dilation[0] - top
            x = column * stride[1] + dx * dilation[1] - left
            inside = 0 <= y < height and 0 <= x < width
            value = source[image, group * n_channels + channel, y, x] if inside else pad_value
            result[image, kernel, row, column] += value * weight[kernel, channel, dy, dx]
    return result


@given(data=st.data())
def test_convolution_product_by_product(data: st.DataObject) -> None:
    def pair(low: int, high: int) -> Pair:
        return data.draw(st.integers(low, high)), data.draw(st.integers(low, high))

    size, stride, dilation = pair(1, 4), pair(1, 3), pair(1, 3)
    padding = (*pair(0, 3), *pair(0, 3))
    groups, n_channels, per_group = (data.draw(st.integers(1, 2)) for _ in range(3))
    sides = [
        max(1, (size[k] - 1) * dilation[k] + 1 - padding[k] - padding[k + 2])
        + data.draw(st.integers(0, 3))
        for k in range(2)
    ]
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 32)))
    source = rng.integers(-128, 256, (2, groups * n_channels, *sides))
    weight = rng.integers(-128, 128, (groups * per_group, n_channels, *size))
    pad_value = data.draw(st.integers(-128, 255))
    np.testing.assert_array_equal(
        convolve(
            source, weight, stride, padding, pad_value=pad_value, dilation=dilation, groups=groups
        ),
        slow_convolution(source, weight, stride, padding, pad_value, dilation, groups),
        strict=True,
    )


def test_one_sided_padding_with_a_value() -> None:
    """What TensorFlow's SAME does with stride 2: nothing above, a row below."""
    source = np.arange(1, 5).reshape(1, 1, 2, 2)
    weight = np.array([[[[1, 10], [100, 1000]]]])
    assert convolve(source, weight, (2, 2), (0, 0, 1, 1), pad_value=7).item() == 4321
    assert convolve(source, weight, (1, 1), (0, 0, 1, 1), pad_value=7).tolist() == [
        [[[4321, 7472], [7743, 7774]]]
    ]


ROW = np.array([[[[1, 2, 3, 4, 5, 6]]]])
DIGITS = np.array([[[[1, 10, 100]]]])


@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "expected"),
    [
        (1, (0, 0), 1, [321, 432, 543, 654]),
        (1, (0, 0), 2, [531, 642]),
        (3, (0, 0), 1, [321, 654]),
        (4, (0, 0), 1, [321]),
        (1, (2, 0), 1, [199, 219, 321, 432, 543, 654]),
        (1, (0, 2), 1, [321, 432, 543, 654, 965, 996]),
        (2, (1, 0), 1, [219, 432, 654]),
        (2, (1, 2), 1, [219, 432, 654, 996]),
        (3, (1, 2), 2, [429, 953]),
        (15, (0, 0), 2, [531]),
        (1, (0, 3), 3, [941, 952, 963]),
    ],
)
def test_a_row(stride: int, padding: Pair, dilation: int, expected: list[int]) -> None:
    """Around it are nines; by columns, then turned by rows."""
    left, right = padding
    made = convolve(
        ROW, DIGITS, (1, stride), (0, left, 0, right), pad_value=9, dilation=(1, dilation)
    )
    assert made.tolist() == [[[expected]]]
    turned = convolve(
        ROW.swapaxes(2, 3),
        DIGITS.swapaxes(2, 3),
        (stride, 1),
        (left, 0, right, 0),
        pad_value=9,
        dilation=(dilation, 1),
    )
    assert turned.swapaxes(2, 3).tolist() == [[[expected]]]


@pytest.mark.parametrize(
    ("padding", "expected"),
    [
        ((1, 0, 0, 0), [[2155], [4321]]),
        ((0, 1, 0, 0), [[3515, 4321]]),
        ((0, 0, 1, 0), [[4321], [5543]]),
        ((0, 0, 0, 1), [[4321, 5452]]),
        ((1, 0, 0, 1), [[2155, 5255], [4321, 5452]]),
        ((0, 2, 0, 0), [[5555, 3515, 4321]]),
    ],
)
def test_sides(padding: Sides, expected: list[list[int]]) -> None:
    """Around 1 2, 3 4 are fives; the kernel's weights are 1 10, 100 1000."""
    source = np.array([[[[1, 2], [3, 4]]]])
    weight = np.array([[[[1, 10], [100, 1000]]]])
    assert convolve(source, weight, padding=padding, pad_value=5).tolist() == [[expected]]


def test_groups() -> None:
    source = np.array([1, 2, 3, 4]).reshape(1, 4, 1, 1)
    weight = np.array([[1, 10], [1, -1], [1, 10], [5, 0]]).reshape(4, 2, 1, 1)
    assert convolve(source, weight, groups=2).reshape(-1).tolist() == [21, -1, 43, 15]
    # Two kernels for each of four channels: kernel k reads channel k // 2.
    weight = np.array([1, -1, 2, -2, 3, -3, 4, -4]).reshape(8, 1, 1, 1)
    made = convolve(source, weight, groups=4).reshape(-1)
    assert made.tolist() == [1, -1, 4, -4, 9, -9, 16, -16]
    # Three groups of one channel, each with its own kernel, and what is around the map.
    source = np.array([[[[1, 2]], [[3, 4]], [[5, 6]]]])
    weight = np.array([[[[1, 10]]], [[[0, 1]]], [[[-1, 1]]]])
    made = convolve(source, weight, (1, 1), (0, 0, 0, 1), pad_value=-7, groups=3)
    assert made.tolist() == [[[[21, -68]], [[4, -7]], [[1, -13]]]]


def test_largest_sums_are_exact() -> None:
    n = 65793  # 255 * 128 * 65793 is the last multiple below 2^31
    source = np.full((1, n, 1, 1), 255)
    assert convolve(source, np.full((1, n, 1, 1), -128)).item() == -2147483520
    odd = np.full((1, n, 1, 1), -128)
    odd[0, 0] = -127
    assert convolve(source, odd).item() == -2147483265


@pytest.mark.parametrize(
    ("acc", "mult", "shift", "expected"),
    [
        *[(1, 1, 1, 1), (-1, 1, 1, 0), (3, 1, 1, 2), (-3, 1, 1, -1), (2, 1, 1, 1)],
        *[(7, 1, 4, 0), (8, 1, 4, 1), (-8, 1, 4, 0), (-9, 1, 4, -1), (-24, 1, 4, -1)],
        *[(100, 3, 3, 38), (-100, 3, 3, -37), (5, 0, 40, 0), (1, 65535, 16, 1)],
        *[(253, 1, 1, 127), (254, 1, 1, 127), (-257, 1, 1, -128), (-300, 1, 1, -128)],
        *[((1 << 31) - 1, 65535, 40, 127), (-(1 << 31), 65535, 40, -128)],
        *[((1 << 31) - 1, 65535, 1, 127), (-(1 << 31), 65535, 1, -128)],
    ],
)
def test_requantisation(acc: int, mult: int, shift: int, expected: int) -> None:
    assert requantize(np.array(acc), mult, shift, BYTE) == expected


@pytest.mark.parametrize(
    ("bits", "signed", "expected"),
    [
        (1, False, [0, 0, 0, 1, 1, 1]),
        (4, False, [0, 0, 0, 1, 15, 15]),
        (8, False, [0, 0, 0, 1, 15, 16]),
        (2, True, [-2, -2, 0, 1, 1, 1]),
        (4, True, [-8, -8, 0, 1, 7, 7]),
        (5, True, [-9, -8, 0, 1, 15, 15]),
    ],
)
def test_clamps(bits: int, signed: bool, expected: list[int]) -> None:
    acc = np.array([-9, -8, 0, 1, 15, 16])
    kind = FeatureType((1, 1, 1), bits, signed)
    assert requantize(acc * 4, 1, 2, kind).tolist() == expected


@pytest.mark.parametrize(("skip", "expected"), [(0, 4), (4, 6), (-4, 1), (-128, -76), (255, 127)])
def test_residual_is_added_before_the_shift(skip: int, expected: int) -> None:
    # Of 10 * 3 + skip * 5 + 4 an eighth, rounded down.
    assert requantize(np.array(10), 3, 3, BYTE, skip, 5) == expected


@given(
    acc=st.integers(-(1 << 31), (1 << 31) - 1),
    mult=st.integers(0, 65535) | st.integers(0, (1 << 31) - 1),
    shift=st.integers(1, 40),
    skip=st.integers(-510, 510),
    skip_mult=st.integers(0, 65535) | st.integers(0, (1 << 31) - 1),
    post_shift=st.just(0) | st.integers(0, 31),
    offset=st.just(0) | st.integers(-255, 255),
)
def test_requantisation_rounds_to_the_nearest(
    acc: int, mult: int, shift: int, skip: int, skip_mult: int, post_shift: int, offset: int
) -> None:
    total = acc * mult + skip * skip_mult
    # In Python's integers: half up is the floor of total / 2^shift + 1/2.
    nearest = (2 * total + (1 << shift)) // (1 << (shift + 1))
    size = (2 * abs(nearest) + (1 << post_shift)) // (1 << (post_shift + 1))
    expected = (size if nearest > 0 else -size) + offset
    made = requantize(
        np.array(acc), mult, shift, BYTE, skip, skip_mult, post_shift=post_shift, offset=offset
    )
    assert made == max(-128, min(127, expected))


def test_max_pool_leaves_out_odd_ends() -> None:
    source = np.array([[[[1, 2, -5, 9], [0, 1, -7, -6], [9, 9, 9, 9]]]])
    assert max_pool(source).tolist() == [[[[2, 9]]]]
    assert max_pool(source[..., :3]).tolist() == [[[[2]]]]


SLOPE = -np.arange(1, 13).reshape(1, 1, 3, 4)
"""-1 to -4 above, -9 to -12 below."""


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "expected"),
    [
        ((2, 2), (2, 2), (0, 0, 0, 0), [[-1, -3]]),
        ((2, 2), (2, 2), (1, 0, 0, 1), [[-1, -3], [-5, -7]]),
        ((2, 2), (1, 1), (0, 0, 0, 0), [[-1, -2, -3], [-5, -6, -7]]),
        ((3, 3), (1, 1), (1, 1, 1, 1), [[-1, -1, -2, -3], [-1, -1, -2, -3], [-5, -5, -6, -7]]),
        ((3, 3), (2, 2), (1, 1, 1, 1), [[-1, -2], [-5, -6]]),
        ((3, 1), (1, 2), (0, 0, 0, 0), [[-1, -3]]),
        ((1, 3), (2, 1), (0, 2, 0, 0), [[-1, -1, -1, -2], [-9, -9, -9, -10]]),
        ((3, 4), (1, 1), (0, 0, 0, 0), [[-1]]),
        ((4, 5), (15, 15), (3, 4, 3, 4), [[-1]]),
        ((1, 1), (2, 3), (0, 0, 0, 0), [[-1, -4], [-9, -12]]),
    ],
)
def test_pool(kernel: Pair, stride: Pair, padding: Sides, expected: list[list[int]]) -> None:
    """What is around a map of negative values is never the largest."""
    assert max_pool(SLOPE, kernel, stride, padding).tolist() == [[expected]]


@pytest.mark.parametrize(
    ("once", "post_shift", "expected"),
    [
        *[(0, 1, 0), (1, 1, 1), (-1, 1, -1), (2, 1, 1), (-2, 1, -1), (3, 1, 2), (-3, 1, -2)],
        *[(1, 2, 0), (-1, 2, 0), (2, 2, 1), (-2, 2, -1), (5, 2, 1), (-5, 2, -1), (6, 2, 2)],
        *[(-6, 2, -2), (7, 2, 2), (-7, 2, -2), (127, 8, 0), (128, 8, 1), (-127, 8, 0)],
        *[(-128, 8, -1), (-129, 8, -1), (383, 8, 1), (384, 8, 2), (-383, 8, -1), (-384, 8, -2)],
        *[((1 << 30) - 1, 31, 0), (1 << 30, 31, 1), (1 - (1 << 30), 31, 0), (-(1 << 30), 31, -1)],
        *[(127, 0, 127), (-128, 0, -128)],
    ],
)
def test_second_shift_rounds_ties_away_from_zero(once: int, post_shift: int, expected: int) -> None:
    doubled = np.array(2 * once)  # the first shift halves it again
    assert requantize(doubled, 1, 1, BYTE, post_shift=post_shift) == expected


def test_both_shifts_round() -> None:
    # 3/2 becomes 2, whose quarter becomes 1, though 3/8 is less than a half; -3/2 becomes -1, and
    # that 0. Likewise 5/2 becomes 3; -5/2 becomes -2, whose quarter is a tie again.
    made = requantize(np.array([3, -3, 5, -5]), 1, 1, BYTE, post_shift=2)
    assert made.tolist() == [1, 0, 1, -1]


def test_offset_comes_behind_rounding_and_before_the_clamp() -> None:
    made = requantize(np.array([-3, 3, 400, -400]), 1, 1, BYTE, offset=-100)
    assert made.tolist() == [-101, -98, 100, -128]
    made = requantize(np.array([-3, 3]), 1, 1, BYTE, post_shift=1, offset=-100)
    assert made.tolist() == [-101, -99]  # -1 and 2, whose halves are -1 and 1
    byte = FeatureType((1, 1, 1), 8, signed=False)
    made = requantize(np.array([-256, -255, -1, 0, 1]), 2, 1, byte, offset=255)
    assert made.tolist() == [0, 0, 254, 255, 255]
    assert requantize(np.array([600, 511, 255]), 2, 1, byte, offset=-255).tolist() == [255, 255, 0]


WIDEST = (1 << 31) - 1
MOST, LEAST = WIDEST, -(1 << 31)


@pytest.mark.parametrize(
    ("acc", "skip", "shift", "post_shift", "expected"),
    [
        # 2^62 / 2^40 is 2^22, of which an odd part is lost: exactly 2^22 - 2^-8 and -2^22 + 2^-9.
        *[(MOST, 0, 40, 0, 1 << 22), (LEAST, 0, 40, 0, -(1 << 22))],
        *[(MOST, 0, 40, 15, 128), (LEAST, 0, 40, 15, -128), (LEAST, 0, 40, 23, -1)],
        *[(MOST, 0, 40, 23, 1), (MOST, 0, 40, 24, 0), (LEAST, 0, 40, 24, 0)],
        # after one place 2^61 - 2^31 + 1, of which 31 more leave 2^30 - 1; the other end is a tie
        *[(MOST, 0, 1, 31, (1 << 30) - 1), (LEAST, 0, 1, 31, -(1 << 30))],
        *[(MOST, 0, 1, 0, MOST), (LEAST, 0, 1, 0, LEAST)],
        # the largest residual, of which 510 * (2^31 - 1) is some 255 after 32 places
        *[(0, 510, 32, 0, 255), (0, -510, 32, 0, -255), (0, 1, 31, 0, 1), (0, -1, 31, 0, -1)],
        *[(MOST, 510, 1, 0, MOST), (LEAST, -510, 1, 0, LEAST)],
        *[(MOST, 510, 1, 31, (1 << 30) + 254), (LEAST, -510, 1, 31, -(1 << 30) - 254)],
    ],
)
def test_ends_of_wide_multipliers(
    acc: int, skip: int, shift: int, post_shift: int, expected: int
) -> None:
    """Nothing overflows on the way to a clamp that is as wide as it gets."""
    made = requantize(np.array(acc), WIDEST, shift, HUGE, skip, WIDEST, post_shift=post_shift)
    assert made == expected
