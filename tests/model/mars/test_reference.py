"""The reference against numbers worked out by hand and against sums written out."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.mars.network import (
    AvgPool,
    Conv,
    Dense,
    FeatureType,
    Ints,
    Layer,
    Lookup,
    MaxPool,
    NetworkError,
    Pair,
    QuantizedNetwork,
    Select,
    Sides,
)
from model.mars.random_network import random_input, random_network
from model.mars.reference import convolve, max_pool, requantize, run

BYTE = FeatureType((1, 1, 1), 8, signed=True)
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
    mult=st.integers(0, 65535),
    shift=st.integers(1, 40),
    skip=st.integers(-128, 255),
    skip_mult=st.integers(0, 65535),
)
def test_requantisation_rounds_to_the_nearest(
    acc: int, mult: int, shift: int, skip: int, skip_mult: int
) -> None:
    total = acc * mult + skip * skip_mult
    # In Python's integers: half up is the floor of total / 2^shift + 1/2.
    nearest = (2 * total + (1 << shift)) // (1 << (shift + 1))
    result = requantize(np.array(acc), mult, shift, BYTE, skip, skip_mult)
    assert result == max(-128, min(127, nearest))


def test_max_pool_leaves_out_odd_ends() -> None:
    source = np.array([[[[1, 2, -5, 9], [0, 1, -7, -6], [9, 9, 9, 9]]]])
    assert max_pool(source).tolist() == [[[[2, 9]]]]
    assert max_pool(source[..., :3]).tolist() == [[[[2]]]]


def conv(name: str, weight: Ints, **fields: Any) -> Conv:
    n = len(weight)
    given_fields: dict[str, Any] = {
        "input": "input",
        "bias": np.zeros(n, np.int64),
        "mult": np.ones(n, np.int64),
        "shift": np.ones(n, np.int64),
        "weight_bits": 5,
        "out_bits": 8,
        "out_signed": True,
    }
    return Conv(name=name, weight=weight, **given_fields | fields)


def results(kind: FeatureType, inputs: Ints, *layers: Layer) -> dict[str, Any]:
    values = run(QuantizedNetwork(kind, layers), inputs)
    return {name: value.tolist() for name, value in values.items()}


DIGIT = FeatureType((1, 3, 3), 4, signed=False)


def test_network_by_hand() -> None:
    first = conv(
        "first",
        np.concatenate([CORNERS, -CORNERS]),
        padding=1,
        bias=np.array([1, 100]),
        mult=np.array([1, 3]),
        shift=np.array([1, 2]),
    )
    second = conv(
        "second",
        np.array([[[[1]], [[1]]]]),
        input="first",
        skip="input",
        skip_mult=8,
        shift=np.array([4]),
        out_bits=4,
        out_signed=False,
    )
    pool = MaxPool(name="pool", input="first")
    both = conv("both", np.array([[[[2]], [[-1]]]]), input="pool", skip="pool1", skip_mult=2)
    pool1 = MaxPool(name="pool1", input="second")
    dense = Dense(
        name="dense",
        input="both",
        weight=np.array([[3], [-3]]),
        bias=np.array([1000, -1]),
        weight_bits=3,
        out_bits=32,
        out_signed=True,
    )
    values = results(DIGIT, MAP, first, second, pool, pool1, both, dense)
    # (50 + 1 + 1) >> 1 and so on; (3 * (100 - 50) + 2) >> 2 and so on
    assert values["first"] == [
        [
            [[26, 31, 1], [41, 46, 2], [1, 3, 3]],
            [[38, 30, 75], [15, 7, 74], [75, 72, 71]],
        ]
    ]
    # (26 + 38 + 8 * 1 + 8) >> 4 and so on
    assert values["second"] == [[[[5, 5, 6], [6, 6, 8], [8, 9, 9]]]]
    assert values["pool"] == [[[[46]], [[38]]]]
    assert values["pool1"] == [[[[6]]]]
    assert values["both"] == [[[[33]]]]  # (92 - 38 + 2 * 6 + 1) >> 1
    assert values["dense"] == [[[[1099]], [[-100]]]]


def test_dense_flattens_channels_first() -> None:
    kind = FeatureType((2, 1, 2), 4, signed=False)
    dense = Dense(
        name="dense",
        input="input",
        weight=np.array([[1, 2, 3, 4], [-1, 0, 0, 1]]),
        bias=np.array([0, 1]),
        mult=np.array([1, 2]),
        shift=np.array([2, 1]),
        weight_bits=4,
        out_bits=4,
        out_signed=True,
    )
    images = np.array([[[[1, 2]], [[3, 4]]], [[[0, 0]], [[0, 5]]]])
    assert results(kind, images, dense) == {"dense": [[[[7]], [[4]]], [[[5]], [[6]]]]}


def test_average_by_hand() -> None:
    kind = FeatureType((2, 1, 3), 4, signed=True)
    average = AvgPool(name="a", input="input", mult=64, shift=7, out_bits=3, out_signed=True)
    image = np.array([[[7, 5, -8]], [[-1, -2, 0]]])
    # Halves of 4 and of -3, which is a tie; one more or less in a sum would show.
    assert results(kind, image, average) == {"a": [[[[2]], [[-1]]]]}
    image = np.array([[[7, 7, 7]], [[-8, -8, -8]]])
    assert results(kind, image, average) == {"a": [[[[3]], [[-4]]]]}


def test_accumulators_come_out_with_their_bias() -> None:
    layer = conv("c", CORNERS, bias=np.array([-(1 << 30)]), mult=None, shift=None, out_bits=32)
    assert results(DIGIT, MAP, layer) == {"c": [[[[91 - (1 << 30)]]]]}


@pytest.mark.parametrize("seed", range(40))
def test_results_are_of_their_type(seed: int) -> None:
    network = random_network(seed)
    images = random_input(network, seed, 3)
    values = run(network, images)
    assert list(values) == list(network.types)[1:]
    for name, value in values.items():
        kind = network.types[name]
        assert value.dtype == np.int64
        assert value.shape == (3, *kind.shape)
        assert kind.low <= value.min() <= value.max() <= kind.high
    alone = run(network, images[1])
    for name, value in alone.items():
        np.testing.assert_array_equal(value, values[name][1:2])


def test_wrong_inputs_are_refused() -> None:
    network = QuantizedNetwork(DIGIT, (MaxPool(name="p", input="input"),))
    with pytest.raises(NetworkError, match=r"row 2, column 2 must be 0\.\.15, not 16"):
        run(network, np.where(MAP == 9, 16, MAP))


@pytest.mark.parametrize(
    ("acc", "post_shift", "expected"),
    [(1, 1, 1), (-1, 1, -1), (3, 1, 2), (-3, 1, -2), (2, 2, 1), (-2, 2, -1), (-1, 2, 0), (5, 2, 1)],
)
def test_second_shift_rounds_ties_away_from_zero(acc: int, post_shift: int, expected: int) -> None:
    kind = FeatureType((1, 1, 1), 8, signed=True)
    doubled = np.array(2 * acc)  # the first shift halves it again
    assert requantize(doubled, 1, 1, kind, post_shift=post_shift) == expected


def test_offset_comes_behind_rounding_and_before_the_clamp() -> None:
    kind = FeatureType((1, 1, 1), 8, signed=True)
    made = requantize(np.array([-3, 3, 400, -400]), 1, 1, kind, offset=-100)
    assert made.tolist() == [-101, -98, 100, -128]


def test_widest_multiplier() -> None:
    kind = FeatureType((1, 1, 1), 32, signed=True)
    ends = np.array([(1 << 31) - 1, -(1 << 31)])
    most = (1 << 31) - 1
    made = requantize(ends, most, 32, kind, 255, most)
    assert made.tolist() == [
        ((int(end) * most + 255 * most + (1 << 31)) >> 32) for end in ends.tolist()
    ]


def test_pool_with_padding() -> None:
    source = -np.arange(1, 10).reshape(1, 1, 3, 3)
    assert max_pool(source, (2, 2), (2, 2), (1, 0, 0, 1)).tolist() == [[[[-1, -3], [-4, -6]]]]
    assert max_pool(source, (3, 1), (1, 2), (0, 0, 0, 0)).tolist() == [[[[-1, -3]]]]


def test_lookup_and_select() -> None:
    kind = FeatureType((2, 1, 2), 2, signed=True)
    table = np.array([5, 6, 7, 1])
    layers = (
        Lookup(name="l", input="input", table=table, out_bits=3, out_signed=False),
        Select(name="s", inputs=("l", "l"), channels=(3, 0, 0)),
    )
    values = run(QuantizedNetwork(kind, layers), np.array([[[-2, -1]], [[0, 1]]]))
    assert values["l"].tolist() == [[[[5, 6]], [[7, 1]]]]
    assert values["s"].tolist() == [[[[7, 1]], [[5, 6]], [[5, 6]]]]


def test_clamp_and_zero_of_the_residual() -> None:
    kind = FeatureType((1, 1, 3), 8, signed=True)
    layer = Conv(
        name="c",
        input="input",
        weight=np.ones((1, 1, 1, 1), int),
        bias=np.zeros(1, int),
        mult=np.array([4]),
        shift=np.array([2]),
        weight_bits=2,
        out_bits=8,
        out_signed=True,
        low=-3,
        high=50,
        skip="input",
        skip_mult=8,
        skip_zero=10,
    )
    values = run(QuantizedNetwork(kind, (layer,)), np.array([[[5, 9, 100]]]))
    assert values["c"].tolist() == [[[[-3, 7, 50]]]]
