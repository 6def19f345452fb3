"""Quantised networks: types of the results, order of the layers, every error text."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from model.mars.network import (
    AvgPool,
    Conv,
    Dense,
    FeatureType,
    Layer,
    Lookup,
    MaxPool,
    NetworkError,
    QuantizedNetwork,
    Select,
    check_features,
    references,
)

INPUT_TYPE = FeatureType((3, 6, 7), 4, signed=False)


def conv(name: str = "c", shape: tuple[int, ...] = (2, 3, 3, 3), **changes: Any) -> Conv:
    n = shape[0]
    fields: dict[str, Any] = {
        "input": "input",
        "weight": np.ones(shape, np.int8),
        "bias": np.zeros(n, np.int32),
        "mult": np.ones(n, np.uint16),
        "shift": np.ones(n, np.uint8),
        "padding": int(shape[2] == 3),
        "weight_bits": 4,
        "out_bits": 4,
        "out_signed": False,
    }
    return Conv(name=name, **fields | changes)


def dense(name: str = "d", shape: tuple[int, ...] = (5, 126), **changes: Any) -> Dense:
    fields: dict[str, Any] = {
        "input": "input",
        "weight": np.ones(shape, np.int8),
        "bias": np.zeros(shape[0], np.int32),
        "weight_bits": 4,
        "out_bits": 32,
        "out_signed": True,
    }
    return Dense(name=name, **fields | changes)


def average(name: str = "a", **changes: Any) -> AvgPool:
    fields: dict[str, Any] = {"input": "input", "mult": 7, "shift": 9}
    return AvgPool(name=name, **fields | {"out_bits": 8, "out_signed": False} | changes)


def pool(name: str = "p", source: str = "input") -> MaxPool:
    return MaxPool(name=name, input=source)


def lookup(table: np.ndarray[Any, Any]) -> Lookup:
    return Lookup(name="l", input="input", table=table, out_bits=4, out_signed=False)


def network(*layers: Layer, kind: FeatureType = INPUT_TYPE, **fields: Any) -> QuantizedNetwork:
    return QuantizedNetwork(kind, layers, **fields)


def values(value: int, n: int = 2) -> np.ndarray[Any, Any]:
    return np.full(n, value, np.int64)


@pytest.mark.parametrize(
    ("bits", "signed", "low", "high", "magnitude"),
    [(1, False, 0, 1, 1), (8, False, 0, 255, 255), (2, True, -2, 1, 2), (8, True, -128, 127, 128)],
)
def test_range_of_a_type(bits: int, signed: bool, low: int, high: int, magnitude: int) -> None:
    kind = FeatureType((2, 3, 4), bits, signed)
    assert (kind.low, kind.high, kind.magnitude, kind.size) == (low, high, magnitude, 24)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (conv(), (2, 6, 7)),
        (conv(padding=0), (2, 4, 5)),
        (conv(stride=2), (2, 3, 4)),
        (conv(stride=2, padding=0), (2, 2, 3)),
        (conv(shape=(5, 3, 1, 1)), (5, 6, 7)),
        (conv(shape=(5, 3, 1, 1), stride=2), (5, 3, 4)),
        (conv(shape=(2, 3, 5, 2), stride=(1, 3), padding=(2, 0, 1, 3)), (2, 5, 3)),
        (conv(shape=(2, 3, 2, 3), dilation=(3, 2), padding=0), (2, 3, 3)),
        (conv(shape=(6, 1, 3, 3), groups=3), (6, 6, 7)),
        (MaxPool(name="p", input="input", kernel=3, stride=(2, 1), padding=1), (3, 3, 7)),
        (lookup(np.arange(16)), (3, 6, 7)),
        (Select(name="s", inputs=("input", "input"), channels=(5, 0)), (2, 6, 7)),
        (pool(), (3, 3, 3)),
        (average(), (3, 1, 1)),
        (dense(), (5, 1, 1)),
    ],
)
def test_shapes(layer: Layer, shape: tuple[int, int, int]) -> None:
    assert network(layer).types[layer.name].shape == shape


def test_types_of_all_layers() -> None:
    kind = FeatureType((3, 6, 7), 3, signed=True)
    one = network(
        pool(),
        conv(input="p", out_bits=6, out_signed=True),
        average(input="c"),
        dense(input="a", shape=(5, 2)),
        kind=kind,
        name="some",
        scales={"input": 0.5, "c": 2},
    )
    assert list(one.types) == ["input", "p", "c", "a", "d"]
    assert one.types["input"] == kind
    assert one.types["p"] == FeatureType((3, 3, 3), 3, signed=True)
    assert one.types["c"] == FeatureType((2, 3, 3), 6, signed=True)
    assert one.types["a"] == FeatureType((2, 1, 1), 8, signed=False)
    assert one.types["d"] == FeatureType((5, 1, 1), 32, signed=True)
    assert (one.output, one.name) == ("d", "some")
    assert one.layer("a") is one.layers[2]
    with pytest.raises(KeyError):
        one.layer("input")


def test_consumers() -> None:
    first, second = conv("x", (3, 3, 3, 3)), conv("y", (3, 3, 3, 3), input="x", skip="x")
    third = conv("z", (3, 3, 3, 3), input="y", skip="input", skip_mult=5)
    one = network(first, second, third)
    assert one.consumers("input") == (first, third)
    assert one.consumers("x") == (second,)
    assert one.consumers("y") == (third,)
    assert one.consumers("z") == ()
    assert references(third) == {"input": "y", "skip": "input"}


def test_arrays_are_own_and_fixed() -> None:
    weight = np.ones((2, 3, 3, 3), np.int8)
    layer = conv(weight=weight)
    weight[0] = 100
    assert layer.weight.dtype == np.int64
    assert layer.weight.max() == 1
    with pytest.raises(ValueError, match="read-only"):
        layer.weight[0] = 2


def weight(value: int) -> np.ndarray[Any, Any]:
    array = np.zeros((2, 3, 3, 3), np.int16)
    array[1, 2, 0, 1] = value
    return array


@pytest.mark.parametrize(
    ("bits", "value", "text"),
    [
        (4, -9, "-8..7 (weight_bits 4), not -9"),
        (4, 8, "-8..7 (weight_bits 4), not 8"),
        (2, 2, "-2..1 (weight_bits 2), not 2"),
        (8, 128, "-128..127 (weight_bits 8), not 128"),
    ],
)
def test_weights_beyond_their_bits(bits: int, value: int, text: str) -> None:
    with pytest.raises(
        NetworkError, match=re.escape(f"layer 'c': weight[1, 2, 0, 1] must be {text}")
    ):
        conv(weight_bits=bits, weight=weight(value))


@pytest.mark.parametrize(("bits", "low", "high"), [(2, -2, 1), (4, -8, 7), (8, -128, 127)])
def test_ends_of_the_weights(bits: int, low: int, high: int) -> None:
    assert conv(weight_bits=bits, weight=weight(low)).weight.min() == low
    assert conv(weight_bits=bits, weight=weight(high)).weight.max() == high


def test_one_number_stands_for_all() -> None:
    given: list[Any] = [2, (2, 2), [2, 2], np.int64(2)]
    for number in given:
        layer = conv(stride=number, dilation=number)
        assert (layer.stride, layer.dilation) == ((2, 2), (2, 2))
        assert {type(x) for x in (*layer.stride, *layer.dilation)} == {int}
        assert MaxPool(name="p", input="x", kernel=number).kernel == (2, 2)
    assert conv(padding=3).padding == (3, 3, 3, 3)
    assert conv(padding=[0, 1, 2, 3]).padding == (0, 1, 2, 3)
    assert conv(stride=(1, 2)).stride == (1, 2)


def test_windows_of_pools() -> None:
    side_by_side = MaxPool(name="p", input="x", kernel=(3, 15))
    assert side_by_side.steps == (3, 15)
    assert pool().is_quad
    assert MaxPool(name="p", input="x", kernel=2, stride=[2, 2], padding=0).is_quad
    for fields in ({"kernel": (2, 3)}, {"stride": (2, 1)}, {"padding": (0, 0, 0, 1)}):
        other: dict[str, Any] = {"kernel": 2, "stride": 2} | fields
        assert not MaxPool(name="p", input="x", **other).is_quad


def test_largest_of_all_numbers() -> None:
    """The ends themselves are legal."""
    layer = conv(
        shape=(4, 3, 16, 16),
        bias=np.array([(1 << 31) - 1, -(1 << 31), 0, 1]),
        mult=np.array([0, 1, 65536, (1 << 31) - 1]),
        shift=np.array([1, 40, 1, 40]),
        post_shift=np.array([0, 31, 31, 0]),
        offset=255,
        stride=15,
        dilation=4,
        padding=15,
        pad_value=255,
        groups=4,
        low=15,
        high=15,
        skip="x",
        skip_mult=(1 << 31) - 1,
        skip_zero=-255,
    )
    assert layer.kernel == (16, 16)
    assert conv(offset=-255, pad_value=-128, skip="x", skip_zero=255).skip_mult == 0
    widest = MaxPool(name="p", input="x", kernel=255, stride=15, padding=15)
    assert widest.padding == (15,) * 4
    average(bias=-(1 << 31), mult=(1 << 31) - 1, shift=40, post_shift=31, offset=-255, out_bits=1)
    Lookup(name="l", input="x", table=np.array([-128, 127]), out_bits=8, out_signed=True)


@pytest.mark.parametrize(("bits", "low", "high"), [(4, 0, 15), (4, -8, 7), (8, -128, 127)])
def test_pad_values_are_of_the_input(bits: int, low: int, high: int) -> None:
    kind = FeatureType((3, 6, 7), bits, signed=low < 0)
    for value in (low, high):
        assert network(conv(pad_value=value), kind=kind).output == "c"
    for value in {low - 1, high + 1} - {-129}:
        with pytest.raises(NetworkError, match=f"pad_value must be {low}..{high}, not {value}$"):
            network(conv(pad_value=value), kind=kind)
        # Nothing is padded with it.
        assert network(conv(pad_value=value, padding=0), kind=kind).output == "c"


def test_select_reads_all_its_inputs() -> None:
    layers = (
        conv("x", (2, 3, 1, 1)),
        conv("y", (3, 3, 1, 1)),
        Select(name="s", inputs=("x", "input", "x"), channels=[6, np.int64(0), 3, 3]),  # type: ignore[arg-type]
        Select(name="t", inputs=("s", "y"), channels=(6, 4)),
    )
    one = network(*layers)
    assert references(layers[2]) == {"inputs[0]": "x", "inputs[1]": "input", "inputs[2]": "x"}
    assert [layer.name for layer in one.consumers("input")] == ["x", "y", "s"]
    assert [layer.name for layer in one.consumers("x")] == ["s"]
    assert one.types["s"] == FeatureType((4, 6, 7), 4, signed=False)
    assert one.types["t"] == FeatureType((2, 6, 7), 4, signed=False)
    assert layers[2].channels == (6, 0, 3, 3)


ONE_15, ONE_255 = (f"numbers 1..{most}, or one for all" for most in (15, 255))
BIG = FeatureType((1, 3000, 3000), 8, signed=False)
ERRORS: list[tuple[Callable[[], object], str]] = [
    # a layer's own parameters
    (lambda: conv(""), "a layer's name must be printable text other than 'input', not ''"),
    (
        lambda: pool("input"),
        "a layer's name must be printable text other than 'input', not 'input'",
    ),
    (lambda: pool("a\n"), r"a layer's name must be printable text other than 'input', not 'a\n'"),
    (lambda: conv(weight=[1]), "layer 'c': weight must be an array, not list"),
    (
        lambda: conv(weight=np.full((2, 3, 3, 3), np.nan)),
        "layer 'c': weight must be integers, not float64",
    ),
    (lambda: dense(weight=np.ones((5, 126), bool)), "layer 'd': weight must be integers, not bool"),
    (lambda: conv(bias=np.zeros(2, np.float32)), "layer 'c': bias must be integers, not float32"),
    (lambda: conv(bias=np.zeros(2, np.uint64)), "layer 'c': bias must be integers, not uint64"),
    (
        lambda: conv(weight=np.ones((2, 3), int)),
        "layer 'c': weight must have the shape (Cout, Cin, Kh, Kw), not (2, 3)",
    ),
    (
        lambda: conv(shape=(0, 3, 3, 3)),
        "layer 'c': weight must have the shape (Cout, Cin, Kh, Kw), not (0, 3, 3, 3)",
    ),
    (
        lambda: dense(shape=(5, 3, 6)),
        "layer 'd': weight must have the shape (Cout, Cin), not (5, 3, 6)",
    ),
    (lambda: conv(shape=(2, 3, 17, 5)), "layer 'c': kernels must be 1x1 to 16x16, not 17x5"),
    (lambda: conv(shape=(2, 3, 3, 17)), "layer 'c': kernels must be 1x1 to 16x16, not 3x17"),
    *(
        (lambda kind=kind: conv(stride=kind), f"layer 'c': stride must be 2 {ONE_15}, not {kind!r}")
        for kind in (0, 16, True, (1, 16), (1, 2, 3))
    ),
    *(
        (
            lambda kind=kind: conv(padding=kind),
            f"layer 'c': padding must be 4 numbers 0..15, or one for all, not {kind!r}",
        )
        for kind in (-1, 16, (1, 1), (0, 0, 0, 16))
    ),
    (
        lambda: conv(dilation=5),
        "layer 'c': dilation must be 2 numbers 1..4, or one for all, not 5",
    ),
    (lambda: conv(groups=3), "layer 'c': groups must be 1..2, not 3"),
    (
        lambda: conv(shape=(4, 3, 3, 3), groups=3),
        "layer 'c': groups must divide the 4 output channels, not be 3",
    ),
    (lambda: conv(pad_value=256), "layer 'c': pad_value must be -128..255, not 256"),
    (lambda: conv(offset=256), "layer 'c': offset must be -255..255, not 256"),
    (
        lambda: conv(offset=1, out_bits=32, out_signed=True, mult=None, shift=None),
        "layer 'c': offset must be 0 with out_bits 32, not 1",
    ),
    (lambda: conv(low=-1), "layer 'c': low must be 0..15, not -1"),
    (lambda: conv(high=16), "layer 'c': high must be 0..15, not 16"),
    (lambda: conv(low=5, high=4), "layer 'c': low must be at most high, 4, not 5"),
    (
        lambda: conv(high=4, out_bits=32, out_signed=True, mult=None, shift=None),
        "layer 'c': high must be absent with out_bits 32",
    ),
    (lambda: conv(post_shift=values(32)), "layer 'c': post_shift[0] must be 0..31, not 32"),
    (lambda: conv(skip_zero=3), "layer 'c': skip_zero must be 0 without a skip, not 3"),
    (
        lambda: conv(skip="input", skip_zero=-256),
        "layer 'c': skip_zero must be -255..255, not -256",
    ),
    (
        lambda: MaxPool(name="p", input="x", kernel=0),
        f"layer 'p': kernel must be 2 {ONE_255}, not 0",
    ),
    (
        lambda: MaxPool(name="p", input="x", kernel=(2, 3), padding=(0, 0, 2, 0)),
        "layer 'p': padding must be less than the kernel, (2, 3), not (0, 0, 2, 0)",
    ),
    (
        lambda: MaxPool(name="p", input="x", kernel=16),
        "layer 'p': stride must be 2 numbers 1..15, or one for all, not (16, 16)",
    ),
    (
        lambda: lookup(np.full(8, 16)),
        "layer 'l': table[0] must be 0..15, not 16",
    ),
    (
        lambda: network(lookup(np.zeros(8, int))),
        "layer 'l': table must have 16 results, one for each value of 'input', not 8",
    ),
    (lambda: Select(name="s", inputs=(), channels=(0,)), "layer 's': inputs must be at least one"),
    (
        lambda: Select(name="s", inputs=("x",), channels=()),
        "layer 's': channels must be one or more integers, not ()",
    ),
    (
        lambda: network(Select(name="s", inputs=("input",), channels=(3,))),
        "layer 's': channels must be 0..2, not 3",
    ),
    (
        lambda: network(pool(), Select(name="s", inputs=("input", "p"), channels=(0,))),
        "layer 's': inputs must have the same rows, columns and type, but 'p' differs from 'input'",
    ),
    (
        lambda: network(conv(pad_value=16)),
        "layer 'c': pad_value must be 0..15, not 16",
    ),
    (lambda: conv(groups=0), "layer 'c': groups must be 1..2, not 0"),
    (lambda: conv(groups=True), "layer 'c': groups must be 1..2, not True"),
    (
        lambda: conv(dilation=(1, 0)),
        "layer 'c': dilation must be 2 numbers 1..4, or one for all, not (1, 0)",
    ),
    (lambda: conv(pad_value=-129), "layer 'c': pad_value must be -128..255, not -129"),
    (lambda: conv(pad_value=1.0), "layer 'c': pad_value must be -128..255, not 1.0"),
    (lambda: conv(offset=-256), "layer 'c': offset must be -255..255, not -256"),
    (lambda: conv(low=1.0), "layer 'c': low must be 0..15, not 1.0"),
    (
        lambda: conv(low=-9, out_signed=True),
        "layer 'c': low must be -8..7, not -9",
    ),
    (
        lambda: conv(low=0, out_bits=32, out_signed=True, mult=None, shift=None),
        "layer 'c': low must be absent with out_bits 32",
    ),
    (
        lambda: conv(post_shift=np.array([0, -1])),
        "layer 'c': post_shift[1] must be 0..31, not -1",
    ),
    (
        lambda: conv(post_shift=np.zeros(3, int)),
        "layer 'c': post_shift must have the shape (2,), one per output channel, not (3,)",
    ),
    (lambda: conv(skip="x", skip_mult=-1), "layer 'c': skip_mult must be 0..2147483647, not -1"),
    (lambda: conv(skip="x", skip_zero=256), "layer 'c': skip_zero must be -255..255, not 256"),
    (
        lambda: dense(post_shift=values(1, 5)),
        "layer 'd': post_shift must be absent with out_bits 32 (accumulators are not requantised)",
    ),
    (lambda: dense(offset=-1), "layer 'd': offset must be 0 with out_bits 32, not -1"),
    (lambda: dense(high=7), "layer 'd': high must be absent with out_bits 32"),
    (
        lambda: MaxPool(name="p", input="x", kernel=(2, 256)),
        f"layer 'p': kernel must be 2 {ONE_255}, not (2, 256)",
    ),
    (
        lambda: MaxPool(name="p", input="x", padding=16),
        "layer 'p': padding must be 4 numbers 0..15, or one for all, not 16",
    ),
    (
        lambda: MaxPool(name="p", input="x", kernel=(3, 2), padding=(0, 2, 0, 0)),
        "layer 'p': padding must be less than the kernel, (3, 2), not (0, 2, 0, 0)",
    ),
    (
        lambda: average(bias=-(1 << 31) - 1),
        "layer 'a': bias must be -2147483648..2147483647, not -2147483649",
    ),
    (lambda: average(post_shift=32), "layer 'a': post_shift must be 0..31, not 32"),
    (lambda: average(offset=256), "layer 'a': offset must be -255..255, not 256"),
    (lambda: average(mult=1 << 31), "layer 'a': mult must be 0..2147483647, not 2147483648"),
    (
        lambda: Lookup(name="l", input="x", table=np.zeros(2, int), out_bits=32, out_signed=True),
        "layer 'l': out_bits must be 1..8, not 32",
    ),
    (
        lambda: lookup(np.zeros((4, 4), int)),
        "layer 'l': table must have the shape (2^bits,), not (4, 4)",
    ),
    (lambda: lookup(np.zeros(0, int)), "layer 'l': table must have the shape (2^bits,), not (0,)"),
    (lambda: lookup(np.zeros(16)), "layer 'l': table must be integers, not float64"),
    (lambda: lookup(np.array([0, -1])), "layer 'l': table[1] must be 0..15, not -1"),
    (
        lambda: Select(name="s", inputs=("x",), channels=(0, 1.5)),  # type: ignore[arg-type]
        "layer 's': channels must be one or more integers, not (0, 1.5)",
    ),
    (
        lambda: Select(name="s", inputs=("x",), channels=(True,)),
        "layer 's': channels must be one or more integers, not (True,)",
    ),
    (
        lambda: Select(name="s", inputs=("x",), channels=3),  # type: ignore[arg-type]
        "layer 's': channels must be one or more integers, not 3",
    ),
    (lambda: conv(weight_bits=1), "layer 'c': weight_bits must be 2..8, not 1"),
    (lambda: conv(weight_bits=9), "layer 'c': weight_bits must be 2..8, not 9"),
    (lambda: conv(weight_bits=4.0), "layer 'c': weight_bits must be 2..8, not 4.0"),
    (lambda: conv(out_bits=0), "layer 'c': out_bits must be 1..8 or 32, not 0"),
    (lambda: conv(out_bits=9), "layer 'c': out_bits must be 1..8 or 32, not 9"),
    (lambda: conv(out_signed=1), "layer 'c': out_signed must be True or False, not 1"),
    (
        lambda: conv(out_bits=1, out_signed=True),
        "layer 'c': out_bits must be at least 2 for a signed type, not 1",
    ),
    (lambda: dense(out_signed=False), "layer 'd': out_signed must be True with 32 bits, not False"),
    (
        lambda: conv(bias=values(0, 3)),
        "layer 'c': bias must have the shape (2,), one per output channel, not (3,)",
    ),
    (
        lambda: conv(mult=values(0, 1)),
        "layer 'c': mult must have the shape (2,), one per output channel, not (1,)",
    ),
    (
        lambda: conv(bias=values(1 << 31)),
        "layer 'c': bias[0] must be -2147483648..2147483647, not 2147483648",
    ),
    (lambda: conv(mult=np.array([0, -1])), "layer 'c': mult[1] must be 0..2147483647, not -1"),
    (
        lambda: conv(mult=np.array([65536, 1 << 31])),
        "layer 'c': mult[1] must be 0..2147483647, not 2147483648",
    ),
    (lambda: conv(shift=np.array([1, 0])), "layer 'c': shift[1] must be 1..40, not 0"),
    (lambda: conv(shift=np.array([41, 40])), "layer 'c': shift[0] must be 1..40, not 41"),
    (lambda: conv(mult=None), "layer 'c': mult must be given with out_bits 4"),
    (lambda: conv(shift=None), "layer 'c': shift must be given with out_bits 4"),
    (
        lambda: dense(mult=values(1, 5)),
        "layer 'd': mult must be absent with out_bits 32 (accumulators are not requantised)",
    ),
    (
        lambda: dense(shift=values(1, 5)),
        "layer 'd': shift must be absent with out_bits 32 (accumulators are not requantised)",
    ),
    (lambda: conv(skip_mult=3), "layer 'c': skip_mult must be 0 without a skip, not 3"),
    (
        lambda: conv(skip="input", skip_mult=1 << 31),
        "layer 'c': skip_mult must be 0..2147483647, not 2147483648",
    ),
    (
        lambda: conv(skip="input", out_bits=32, out_signed=True, mult=None, shift=None),
        "layer 'c': skip must be absent with out_bits 32, not 'input' "
        "(accumulators are not requantised)",
    ),
    (lambda: average(mult=-1), "layer 'a': mult must be 0..2147483647, not -1"),
    (lambda: average(mult=1.5), "layer 'a': mult must be 0..2147483647, not 1.5"),
    (lambda: average(shift=0), "layer 'a': shift must be 1..40, not 0"),
    (lambda: average(shift=41), "layer 'a': shift must be 1..40, not 41"),
    (lambda: average(out_bits=16), "layer 'a': out_bits must be 1..8 or 32, not 16"),
    (
        lambda: average(out_bits=32, out_signed=True),
        "layer 'a': out_bits must be 1..8, not 32 (an average is always requantised)",
    ),
    # the input
    (
        lambda: FeatureType((3, 0, 7), 4, signed=False),
        "shape must be three positive numbers, (C, H, W), not (3, 0, 7)",
    ),
    (
        lambda: FeatureType((3, 7), 4, signed=False),  # type: ignore[arg-type]
        "shape must be three positive numbers, (C, H, W), not (3, 7)",
    ),
    (lambda: FeatureType((3, 6, 7), 9, signed=False), "bits must be 1..8 or 32, not 9"),
    (
        lambda: FeatureType((3, 6, 7), 1, signed=True),
        "bits must be at least 2 for a signed type, not 1",
    ),
    (
        lambda: network(pool(), kind=FeatureType((3, 6, 7), 32, signed=True)),
        "input: bits must be 1..8, not 32",
    ),
    # how layers fit together
    (network, "layers must be at least one"),
    (
        lambda: network(pool("x"), pool("y", "x"), pool("x", "y")),
        "layers[0] and layers[2] must have different names, not both 'x'",
    ),
    (
        lambda: network(pool("x", "nowhere")),
        "layer 'x': input must be 'input' or an earlier layer, but there is no layer 'nowhere'",
    ),
    (
        lambda: network(conv(skip="nowhere")),
        "layer 'c': skip must be 'input' or an earlier layer, but there is no layer 'nowhere'",
    ),
    (
        lambda: network(pool("x", "y"), pool("y")),
        "layer 'x': input must be an earlier layer, but 'y' comes later",
    ),
    (
        lambda: network(pool("x"), conv("y", input="z"), conv("z", input="x")),
        "layer 'y': input must be an earlier layer, but 'z' comes later",
    ),
    (
        lambda: network(pool("x", "x")),
        "layer 'x': input must not depend on the layer itself: 'x' -> 'x'",
    ),
    (
        lambda: network(conv("x", skip="z"), pool("y", "x"), conv("z", input="y")),
        "layer 'x': skip must not depend on the layer itself: 'x' -> 'z' -> 'y' -> 'x'",
    ),
    (
        lambda: network(pool("x"), pool("y")),
        "layer 'x': must be read by another layer: only the last one, 'y', is the output",
    ),
    (
        lambda: network(conv(shape=(2, 4, 3, 3))),
        "layer 'c': weight must be for 3 input channels, those of 'input', not 4",
    ),
    (
        lambda: network(conv(shape=(4, 2, 3, 3), groups=2)),
        "layer 'c': weight must be for 3 input channels, those of 'input', not 4",
    ),
    (
        lambda: network(conv(shape=(2, 3, 5, 3), dilation=(2, 4), padding=(1, 0, 0, 1))),
        "layer 'c': the map of 'input' must be at least 8x8 for the kernel, not 6x7",
    ),
    (
        lambda: network(conv(shape=(2, 3, 1, 8), padding=0)),
        "layer 'c': the map of 'input' must be at least 1x8 for the kernel, not 6x7",
    ),
    (
        lambda: network(
            MaxPool(name="p", input="input", kernel=(8, 2), stride=1, padding=(0, 0, 1, 0))
        ),
        "layer 'p': the map of 'input' must be at least 7x2 for the kernel, not 6x7",
    ),
    (
        lambda: network(
            conv("x", shape=(3, 3, 1, 1)),
            conv("y", shape=(3, 3, 1, 1), out_bits=5),
            Select(name="s", inputs=("input", "x", "y"), channels=(0,)),
        ),
        "layer 's': inputs must have the same rows, columns and type, but 'y' differs from 'input'",
    ),
    (
        lambda: network(
            conv("x", shape=(3, 3, 1, 1), out_signed=True),
            Select(name="s", inputs=("x", "input"), channels=(0,)),
        ),
        "layer 's': inputs must have the same rows, columns and type, but 'input' differs from 'x'",
    ),
    (
        lambda: network(Select(name="s", inputs=("input", "input"), channels=(0, -1))),
        "layer 's': channels must be 0..5, not -1",
    ),
    (
        lambda: network(Select(name="s", inputs=("input", "nowhere"), channels=(0,))),
        "layer 's': inputs[1] must be 'input' or an earlier layer, but there is no layer 'nowhere'",
    ),
    (
        lambda: network(Select(name="s", inputs=("input", "p"), channels=(0,)), pool("p", "s")),
        "layer 's': inputs[1] must not depend on the layer itself: 's' -> 'p' -> 's'",
    ),
    (
        lambda: network(lookup(np.zeros(32, int))),
        "layer 'l': table must have 16 results, one for each value of 'input', not 32",
    ),
    (
        lambda: network(average(bias=-(1 << 31))),
        "layer 'a': the sum of 6x7 values of up to 15 must be at most 2147483647, "
        "not 2147484278 (it has 32 bits)",
    ),
    (
        lambda: network(dense(shape=(5, 125))),
        "layer 'd': weight must be for 126 inputs, the values of 'input', not 125",
    ),
    (
        lambda: network(pool("p1"), pool("p2", "p1"), conv(input="p2", padding=0)),
        "layer 'c': the map of 'p2' must be at least 3x3 for the kernel, not 1x1",
    ),
    (
        lambda: network(pool(), kind=FeatureType((3, 1, 7), 4, signed=False)),
        "layer 'p': the map of 'input' must be at least 2x2 for the kernel, not 1x7",
    ),
    (
        lambda: network(pool("p1"), pool("p2", "p1"), pool("p3", "p2")),
        "layer 'p3': the map of 'p2' must be at least 2x2 for the kernel, not 1x1",
    ),
    (
        lambda: network(conv(skip="input")),
        "layer 'c': skip 'input' must have the shape of the result, (2, 6, 7), not (3, 6, 7)",
    ),
    (
        lambda: network(conv(shape=(3, 3, 3, 3), skip="input", stride=2)),
        "layer 'c': skip 'input' must have the shape of the result, (3, 3, 4), not (3, 6, 7)",
    ),
    (
        lambda: network(dense("x"), dense("y", (5, 5), input="x")),
        "layer 'x': out_bits must be 1..8, not 32 "
        "(only the last layer's results may be accumulators)",
    ),
    (
        lambda: network(conv(bias=np.array([0, (1 << 31) - 405]))),
        "layer 'c': channel 1: |bias| + sum of |weight| * 15 must be at most 2147483647, "
        "not 2147483648 (the accumulator has 32 bits)",
    ),
    (
        lambda: network(dense(bias=np.full(5, -(1 << 31)))),
        "layer 'd': channel 0: |bias| + sum of |weight| * 15 must be at most 2147483647, "
        "not 2147485538 (the accumulator has 32 bits)",
    ),
    (
        lambda: network(average(), kind=BIG),
        "layer 'a': the sum of 3000x3000 values of up to 255 must be at most 2147483647, "
        "not 2295000000 (it has 32 bits)",
    ),
    (
        lambda: network(pool(), scales={"q": 1.0}),
        "scales must be of 'input' or layers, but there is no 'q'",
    ),
    (lambda: network(pool(), scales={"p": 0.0}), "scale of 'p' must be a positive number, not 0.0"),
    (
        lambda: network(pool(), scales={"p": float("nan")}),
        "scale of 'p' must be a positive number, not nan",
    ),
]


@pytest.mark.parametrize(("make", "text"), ERRORS, ids=[text for _, text in ERRORS])
def test_errors(make: Callable[[], object], text: str) -> None:
    with pytest.raises(NetworkError) as caught:
        make()
    assert str(caught.value) == text


def test_largest_accumulators() -> None:
    edge = (1 << 31) - 1 - 27 * 15
    assert network(conv(bias=np.array([edge, -edge]))).output == "c"
    signed = FeatureType((3, 6, 7), 4, signed=True)
    edge = (1 << 31) - 1 - 27 * 8
    assert network(conv(bias=np.array([edge, -edge])), kind=signed).output == "c"
    with pytest.raises(NetworkError, match="channel 1"):
        network(conv(bias=np.array([edge, -edge - 1])), kind=signed)


def test_largest_sums_of_averages() -> None:
    edge = (1 << 31) - 1 - 6 * 7 * 15
    for bias in (edge, -edge):
        assert network(average(bias=bias)).output == "a"
    for bias in (edge + 1, -edge - 1):
        with pytest.raises(NetworkError, match="must be at most 2147483647, not 2147483648"):
            network(average(bias=bias))


def test_largest_accumulators_of_groups() -> None:
    """Each channel has the products of its own group alone."""
    edge = (1 << 31) - 1 - 9 * 15
    layer = conv(shape=(6, 1, 3, 3), groups=3, bias=np.array([edge, -edge, 0, 0, 0, edge]))
    assert network(layer).output == "c"
    with pytest.raises(NetworkError, match="channel 5"):
        network(conv(shape=(6, 1, 3, 3), groups=3, bias=np.array([edge, 0, 0, 0, 0, edge + 1])))


def test_features_become_a_batch() -> None:
    kind = FeatureType((1, 2, 2), 3, signed=True)
    image = np.array([[[-4, 3], [0, 1]]], np.int8)
    assert check_features(kind, image).tolist() == [image.tolist()]
    batch = check_features(kind, np.stack([image, image]))
    assert batch.shape == (2, 1, 2, 2)
    assert batch.dtype == np.int64


FEATURE_ERRORS: list[tuple[np.ndarray[Any, Any], str]] = [
    (np.zeros((1, 2, 3)), "activations must be integers, not float64"),
    (np.zeros((1, 2, 3), bool), "activations must be integers, not bool"),
    (np.zeros((2, 3), int), "shape must be (N, 1, 2, 3) or (1, 2, 3), not (2, 3)"),
    (np.zeros((1, 3, 2), int), "shape must be (N, 1, 2, 3) or (1, 2, 3), not (1, 3, 2)"),
    (np.zeros((0, 1, 2, 3), int), "shape must be (N, 1, 2, 3) or (1, 2, 3), not (0, 1, 2, 3)"),
    (
        np.zeros((1, 1, 1, 2, 3), int),
        "shape must be (N, 1, 2, 3) or (1, 2, 3), not (1, 1, 1, 2, 3)",
    ),
    (
        np.array([[[0, 1, 2], [3, 4, -1]]]),
        "image 0, channel 0, row 1, column 2 must be 0..15, not -1",
    ),
    (
        np.array([[[[0] * 3] * 2], [[[0, 16, 17], [0] * 3]]]),
        "image 1, channel 0, row 0, column 1 must be 0..15, not 16",
    ),
    (
        np.full((1, 2, 3), (1 << 64) - 1, np.uint64),
        f"image 0, channel 0, row 0, column 0 must be 0..15, not {(1 << 64) - 1}",
    ),
]


@pytest.mark.parametrize(
    ("array", "text"), FEATURE_ERRORS, ids=[text for _, text in FEATURE_ERRORS]
)
def test_wrong_features(array: np.ndarray[Any, Any], text: str) -> None:
    with pytest.raises(NetworkError) as caught:
        check_features(FeatureType((1, 2, 3), 4, signed=False), array)
    assert str(caught.value) == text
