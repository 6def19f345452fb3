"""What layers compute: numbers worked out by hand, and an oracle in Python's own integers."""

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

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
    QuantizedNetwork,
    Select,
)
from model.mars.random_network import random_input, random_network
from model.mars.reference import run

MAP = np.array([[[[1, 2, 3], [4, 5, 6], [7, 8, 9]]]])
CORNERS = np.array([[[[1, 0, 0], [0, 0, 0], [0, 0, 10]]]])
"""A kernel that sees what is up and left, and ten times what is down and right."""


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


BYTE = FeatureType((1, 1, 5), 8, signed=True)
FIVE = np.array([[[-128, -3, 0, 3, 127]]])


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, [-128, -3, 0, 3, 127]),
        ({"low": -3}, [-3, -3, 0, 3, 127]),
        ({"low": -2}, [-2, -2, 0, 3, 127]),
        ({"high": 3}, [-128, -3, 0, 3, 3]),
        ({"high": 2}, [-128, -3, 0, 2, 2]),
        ({"low": 0, "high": 2}, [0, 0, 0, 2, 2]),
        ({"low": 5, "high": 5}, [5, 5, 5, 5, 5]),
        ({"high": -4}, [-128, -4, -4, -4, -4]),
        ({"offset": 5}, [-123, 2, 5, 8, 127]),
        ({"offset": 5, "low": 2, "high": 8}, [2, 2, 5, 8, 8]),
        ({"offset": -5, "low": -9}, [-9, -8, -5, -2, 122]),
        ({"bias": np.array([3])}, [-125, 0, 3, 6, 127]),
        ({"mult": np.array([1]), "shift": np.array([2])}, [-32, -1, 0, 1, 32]),
        ({"mult": np.array([6]), "shift": np.array([2])}, [-128, -4, 0, 5, 127]),
        ({"shift": np.array([2])}, [-64, -1, 0, 2, 64]),
        ({"post_shift": np.array([1])}, [-64, -2, 0, 2, 64]),
        ({"post_shift": np.array([1]), "offset": -70}, [-128, -72, -70, -68, -6]),
        ({"post_shift": np.array([3]), "low": -1, "high": 1}, [-1, 0, 0, 0, 1]),
        ({"skip": "input", "skip_mult": 2}, [-128, -6, 0, 6, 127]),
        ({"skip": "input", "skip_mult": 2, "skip_zero": -3}, [-128, -3, 3, 9, 127]),
        ({"skip": "input", "skip_mult": 2, "skip_zero": 255}, [-128, -128, -128, -128, -1]),
        ({"skip": "input", "skip_mult": 1}, [-128, -4, 0, 5, 127]),
        (
            {"skip": "input", "skip_mult": 2, "post_shift": np.array([2]), "offset": 1},
            [-63, -1, 1, 3, 65],
        ),
    ],
)
def test_what_follows_the_accumulator(fields: dict[str, Any], expected: list[int]) -> None:
    """A kernel of 1, and 2 x >> 1, unless something else is said."""
    one = {"mult": np.array([2]), "weight_bits": 2} | fields
    layer = conv("c", np.array([[[[1]]]]), **one)
    assert results(BYTE, FIVE, layer) == {"c": [[[expected]]]}
    if "skip" not in fields:
        dense_fields = {key: np.repeat(x, 5) if np.ndim(x) else x for key, x in vars(layer).items()}
        for key in Conv.__dataclass_fields__.keys() - Dense.__dataclass_fields__.keys():
            del dense_fields[key]
        dense = Dense(**dense_fields | {"weight": np.eye(5, dtype=int)})
        flat = [[[value]] for value in expected]
        assert results(BYTE, FIVE, dense) == {"c": [flat]}


def test_channels_have_scales_of_their_own() -> None:
    layer = conv(
        "c",
        np.array([[[[1]]], [[[1]]], [[[-1]]]]),
        bias=np.array([0, 1, 0]),
        mult=np.array([2, 8, 16]),
        shift=np.array([1, 2, 3]),
        post_shift=np.array([0, 1, 2]),
        weight_bits=2,
    )
    # x, x + 1 and -x/2
    expected = [[-128, -3, 0, 3, 127], [-127, -2, 1, 4, 127], [64, 2, 0, -2, -64]]
    assert results(BYTE, FIVE, layer) == {"c": [[[row] for row in expected]]}


def test_depthwise_with_everything() -> None:
    """Rows of 1 2 3 and 4 5 6, a kernel of 1x2 each, seven to the left, every second column."""
    kind = FeatureType((2, 1, 3), 4, signed=False)
    layer = conv(
        "c",
        np.array([[[[1, 2]]], [[[1, -2]]]]),
        groups=2,
        stride=(3, 2),
        padding=(0, 2, 0, 0),
        pad_value=7,
        bias=np.array([10, 20]),
        mult=np.array([2, 2]),
    )
    image = np.array([[[1, 2, 3]], [[4, 5, 6]]])
    # 7 + 14 + 10 and 1 + 4 + 10; 7 - 14 + 20 and 4 - 10 + 20
    assert results(kind, image, layer) == {"c": [[[[31, 15]], [[13, 14]]]]}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, [4, 2]),
        ({"bias": 3}, [6, 3]),  # 11 / 2 and 6 / 2
        ({"bias": -9}, [0, -3]),  # -1 / 2 is a tie that goes up, -6 / 2
        ({"offset": -5}, [-1, -3]),
        ({"offset": 100}, [15, 15]),
        ({"post_shift": 1}, [2, 1]),
        ({"bias": -13, "post_shift": 1}, [-1, -3]),  # -5 / 2 is -2 and -10 / 2 is -5: -1, -2.5
        ({"bias": (1 << 31) - 25, "shift": 31}, [1, 1]),
        ({"bias": 25 - (1 << 31), "shift": 31}, [-1, -1]),
        ({"mult": (1 << 31) - 1, "shift": 31}, [8, 3]),
    ],
)
def test_average_with_everything(fields: dict[str, Any], expected: list[int]) -> None:
    """Sums are 8 and 3; their halves, unless something else is said."""
    kind = FeatureType((2, 1, 3), 4, signed=True)
    image = np.array([[[7, 5, -4]], [[-1, -2, 6]]])
    layer = AvgPool(
        **{"name": "a", "input": "input", "mult": 1, "shift": 1, "out_bits": 5} | fields,
        out_signed=True,
    )
    assert results(kind, image, layer) == {"a": [[[[value]] for value in expected]]}


@pytest.mark.parametrize(
    ("bits", "signed", "values"),
    [(1, False, [0, 1]), (2, True, [-2, -1, 0, 1]), (3, False, range(8)), (3, True, range(-4, 4))],
)
def test_lookup(bits: int, signed: bool, values: list[int]) -> None:
    """The least value is the table's first."""
    kind = FeatureType((1, 1, len(values)), bits, signed)
    table = np.arange(len(values)) ** 2 - 9
    layer = Lookup(name="l", input="input", table=table, out_bits=8, out_signed=True)
    assert results(kind, np.array([[values]]), layer) == {"l": [[[table.tolist()]]]}
    assert results(kind, np.array([[values[::-1]]]), layer) == {"l": [[[table[::-1].tolist()]]]}


def test_lookup_of_bytes() -> None:
    table = np.arange(256)[::-1]
    layer = Lookup(name="l", input="input", table=table, out_bits=8, out_signed=False)
    signed = FeatureType((1, 1, 4), 8, signed=True)
    image = np.array([[[-128, -1, 0, 127]]])
    assert results(signed, image, layer) == {"l": [[[[255, 128, 127, 0]]]]}
    unsigned = FeatureType((1, 1, 4), 8, signed=False)
    image = np.array([[[0, 127, 128, 255]]])
    assert results(unsigned, image, layer) == {"l": [[[[255, 128, 127, 0]]]]}


FOUR = FeatureType((4, 1, 2), 4, signed=False)
NAMED = np.arange(8).reshape(4, 1, 2)
"""Channel c is 2c, 2c + 1."""


def selected(*layers: Select) -> list[list[int]]:
    values = run(QuantizedNetwork(FOUR, layers), NAMED)
    return values[layers[-1].name][0, :, 0].tolist()


def test_select() -> None:
    one, two, three, four = [0, 1], [2, 3], [4, 5], [6, 7]
    split = Select(name="s", inputs=("input",), channels=(2, 3))
    assert selected(split) == [three, four]
    shuffle = Select(name="s", inputs=("input",), channels=(0, 2, 1, 3))
    assert selected(shuffle) == [one, three, two, four]
    doubled = Select(name="s", inputs=("input",), channels=(3, 3, 0))
    assert selected(doubled) == [four, four, one]
    joined = Select(name="j", inputs=("s", "input", "s"), channels=tuple(range(8)))
    assert selected(split, joined) == [three, four, one, two, three, four, three, four]
    some = Select(name="j", inputs=("s", "input"), channels=(5, 0, 2))
    assert selected(split, some) == [four, three, one]


def nearest_up(number: Fraction) -> int:
    return math.floor(number + Fraction(1, 2))


def nearest_away(number: Fraction) -> int:
    size = math.floor(abs(number) + Fraction(1, 2))
    return size if number > 0 else -size


Map = dict[tuple[int, int, int], int]
"""Value by channel, row, column."""


def finished(layer: Conv | Dense, kind: FeatureType, acc: int, channel: int, skip: int) -> int:
    total = acc + int(layer.bias[channel])
    if layer.mult is None or layer.shift is None:
        return total
    scaled = total * int(layer.mult[channel])
    if isinstance(layer, Conv) and layer.skip is not None:
        scaled += (skip - layer.skip_zero) * layer.skip_mult
    post_shift = 0 if layer.post_shift is None else int(layer.post_shift[channel])
    once = nearest_up(Fraction(scaled, 2 ** int(layer.shift[channel])))
    result = nearest_away(Fraction(once, 2**post_shift)) + layer.offset
    low = kind.low if layer.low is None else layer.low
    high = kind.high if layer.high is None else layer.high
    return sorted((low, result, high))[1]


def conv_value(
    layer: Conv, source: Map, place: tuple[int, int, int], kind: FeatureType, skip: int
) -> int:
    kernel, row, column = place
    n_kernels, n_channels, rows, columns = layer.weight.shape
    first = kernel * layer.groups // n_kernels * n_channels
    acc = 0
    for channel in range(n_channels):
        for dy in range(rows):
            for dx in range(columns):
                y = row * layer.stride[0] + dy * layer.dilation[0] - layer.padding[0]
                x = column * layer.stride[1] + dx * layer.dilation[1] - layer.padding[1]
                value = source.get((first + channel, y, x), layer.pad_value)
                acc += value * int(layer.weight[kernel, channel, dy, dx])
    return finished(layer, kind, acc, kernel, skip)


def value_of(
    layer: Layer, maps: Mapping[str, Map], network: QuantizedNetwork, place: tuple[int, int, int]
) -> int:
    """One value of a layer's result, out of the definitions in docs/quantised-network.md."""
    channel, row, column = place
    kind = network.types[layer.name]
    if isinstance(layer, Select):
        channel = layer.channels[channel]
        for name in layer.inputs:
            if channel < network.types[name].shape[0]:
                return maps[name][channel, row, column]
            channel -= network.types[name].shape[0]
        raise AssertionError("the channel must be in an input")
    source = maps[layer.input]
    match layer:
        case Conv():
            skip = 0 if layer.skip is None else maps[layer.skip][place]
            return conv_value(layer, source, place, kind, skip)
        case Dense():
            weights = layer.weight[channel].tolist()
            flat = [source[key] for key in sorted(source)]
            acc = sum(value * weight for value, weight in zip(flat, weights, strict=True))
            return finished(layer, kind, acc, channel, 0)
        case MaxPool():
            top, left = row * layer.steps[0], column * layer.steps[1]
            window = (
                (channel, top + dy - layer.padding[0], left + dx - layer.padding[1])
                for dy in range(layer.kernel[0])
                for dx in range(layer.kernel[1])
            )
            return max(source[key] for key in window if key in source)
        case AvgPool():
            total = sum(value for key, value in source.items() if key[0] == channel) + layer.bias
            once = nearest_up(Fraction(total * layer.mult, 2**layer.shift))
            result = nearest_away(Fraction(once, 2**layer.post_shift)) + layer.offset
            return sorted((kind.low, result, kind.high))[1]
        case Lookup():
            return int(layer.table[source[place] - network.types[layer.input].low])


def as_map(values: Ints) -> Map:
    return {(c, y, x): int(values[c, y, x]) for c, y, x in np.ndindex(*values.shape)}


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("seed", range(60))
def test_networks_value_by_value(seed: int, wide: bool) -> None:
    network = random_network(seed, max_channels=6, max_size=5, max_layers=6, max_sets=40, wide=wide)
    image = random_input(network, seed)[0]
    made = run(network, image)
    maps = {"input": as_map(image)}
    for layer in network.layers:
        places = list(np.ndindex(*network.types[layer.name].shape))
        maps[layer.name] = {place: value_of(layer, maps, network, place) for place in places}
        assert as_map(made[layer.name][0]) == maps[layer.name], layer.name


def test_networks_value_by_value_have_every_kind() -> None:
    layers = [
        layer
        for seed in range(60)
        for layer in random_network(seed, max_channels=6, max_size=5, max_layers=6).layers
    ]
    assert {type(layer) for layer in layers} == {Conv, Dense, MaxPool, AvgPool, Lookup, Select}
    convs = [layer for layer in layers if isinstance(layer, Conv)]
    usual = {"dilation": (1, 1), "groups": 1, "pad_value": 0, "offset": 0, "low": None}
    usual |= {"high": None, "skip": None, "skip_zero": 0}
    for field, value in usual.items():
        assert any(getattr(layer, field) != value for layer in convs), field
