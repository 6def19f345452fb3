"""From layers to passes: what is fused, what is copied, how weights are laid out."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from firmware_tools.mars.pass_difference import Compared, compare_model
from model.mars.config import CONFIGS
from model.mars.lowering import Convolution, Home, features, kernels_per_block, lower
from model.mars.mapper import compile_network
from model.mars.network import (
    INPUT,
    AvgPool,
    Conv,
    Dense,
    FeatureType,
    Layer,
    Lookup,
    MaxPool,
    Pair,
    QuantizedNetwork,
    Select,
)
from model.mars.random_network import random_input, random_network


def conv(name: str, source: str, channels: int = 3, n: int = 3, size: int = 1, **fields: Any):
    weight = np.arange(n * channels * size * size).reshape(n, channels, size, size) % 7 - 3
    scale: dict[str, Any] = {"mult": np.full(n, 5), "shift": np.full(n, 3)}
    if fields.get("out_bits") == 32:
        scale = {}
    kind = {"weight_bits": 4, "out_bits": 4, "out_signed": False, **scale, **fields}
    return Conv(name=name, input=source, weight=weight, bias=np.arange(n), **kind)


def passes_of(net: QuantizedNetwork) -> list[Convolution]:
    return lower(net).passes


def pool(name: str, source: str) -> MaxPool:
    return MaxPool(name=name, input=source)


def average(name: str, source: str) -> AvgPool:
    return AvgPool(name=name, input=source, mult=9, shift=4, out_bits=8, out_signed=False)


def network(*layers: Layer, shape: tuple[int, int, int] = (3, 8, 8)) -> QuantizedNetwork:
    return QuantizedNetwork(FeatureType(shape, 4, False), layers, "network")


@pytest.mark.parametrize(
    ("layers", "passes"),
    [
        ([conv("a", INPUT), conv("b", "a")], [("a",), ("b",)]),
        ([conv("a", INPUT), pool("p", "a"), conv("b", "p")], [("a", "p"), ("b",)]),
        ([conv("a", INPUT), average("g", "a")], [("a", "g")]),
        ([conv("a", INPUT), pool("p", "a"), average("g", "p")], [("a", "p", "g")]),
        # One pool at a time: the second one gets a convolution that copies.
        ([conv("a", INPUT), pool("p", "a"), pool("q", "p")], [("a", "p"), ("q",)]),
        ([pool("p", INPUT), pool("q", "p"), average("g", "q")], [("p",), ("q", "g")]),
        ([average("g", INPUT), average("h", "g")], [("g",), ("h",)]),
        # Somebody else needs what the pool would hide.
        (
            [conv("a", INPUT), pool("p", "a"), conv("b", "a", stride=2, skip="p", skip_mult=1)],
            [("a",), ("p",), ("b",)],
        ),
        (
            [conv("a", INPUT), average("g", "a"), conv("b", "g", skip="g", skip_mult=3)],
            [("a", "g"), ("b",)],
        ),
    ],
)
def test_passes(layers: list[Layer], passes: list[tuple[str, ...]]) -> None:
    net = network(*layers)
    lowered = lower(net)
    assert [one.layers for one in lowered.passes] == passes
    for one in lowered.passes:
        assert one.output == one.layers[-1]
        assert one.source == net.layer(one.layers[0]).input
        assert one.outputs == tuple(features(net, name) for name in one.layers)
        assert one.copy == (not isinstance(net.layer(one.layers[0]), Conv))


def test_weights_by_hand() -> None:
    """(kernels, dy, dx, channels), channels filled up to 16."""
    layer = conv("a", INPUT, channels=3, n=2, size=3, padding=1, stride=2)
    (one,) = passes_of(network(layer))
    assert one.weight.shape == (2, 3, 3, 16)
    for kernel, channel, dy, dx in np.ndindex(2, 3, 3, 3):
        assert one.weight[kernel, dy, dx, channel] == layer.weight[kernel, channel, dy, dx]
    assert not one.weight[..., 3:].any()
    assert (one.stride, one.top, one.left) == ((2, 2), 1, 1)
    assert (one.map_size, one.flat) == ((4, 4), False)
    post = one.post
    assert (post.mult.tolist(), post.shift.tolist(), post.bias.tolist()) == ([5, 5], [3, 3], [0, 1])


def test_dense_sees_pixels_as_blocks_of_channels() -> None:
    """Its weights are (C, H, W); the feature memory has pixel by pixel 16 channels."""
    shape = (17, 2, 3)
    weight = np.arange(17 * 6).reshape(1, -1) % 17 - 8
    dense = Dense(
        name="fc",
        input=INPUT,
        weight=weight,
        bias=np.array([5]),
        weight_bits=8,
        out_bits=32,
        out_signed=True,
    )
    (one,) = passes_of(network(dense, shape=shape))
    assert one.weight.shape == (1, 1, 1, 6 * 32)
    by_pixel = one.weight.reshape(2, 3, 32)
    for c, row, col in np.ndindex(*shape):
        assert by_pixel[row, col, c] == weight.reshape(shape)[c, row, col]
    assert not by_pixel[..., 17:].any()
    assert (one.flat, one.raw, one.wide, one.map_size) == (True, True, True, (1, 1))
    assert (one.post.mult.tolist(), one.post.shift.tolist()) == ([0], [1])


@pytest.mark.parametrize("channels", [1, 16, 17])
def test_copies_copy(channels: int) -> None:
    (one,) = passes_of(network(pool("p", INPUT), shape=(channels, 4, 4)))
    assert one.copy
    assert one.pool
    matrix = one.weight[:, 0, 0, :channels]
    np.testing.assert_array_equal(matrix, np.eye(channels))
    x = np.arange(-128, 256)
    mult, shift = int(one.post.mult[0]), int(one.post.shift[0])
    np.testing.assert_array_equal((x * mult + (1 << (shift - 1))) >> shift, x)


def test_residual() -> None:
    _, one = passes_of(network(conv("a", INPUT), conv("b", "a", skip=INPUT, skip_mult=77)))
    assert (one.skip, one.skip_mult) == (INPUT, 77)
    assert one.skip_kind == one.source_kind
    (plain, _) = passes_of(network(conv("a", INPUT), conv("b", "a", skip=INPUT, skip_mult=77)))
    assert (plain.skip, plain.skip_kind, plain.skip_mult) == (None, None, 0)


@pytest.mark.parametrize(
    ("largest", "wide", "kernels"),
    [(-8, False, 16), (7, False, 16), (8, True, 8), (-9, True, 8), (127, True, 8)],
)
def test_width(largest: int, wide: bool, kernels: int) -> None:
    """Weights of 8 bit that fit in 4 are stored so."""
    weight = np.zeros((3, 3, 1, 1), np.int64)
    weight[1, 2] = largest
    layer = replace(conv("a", INPUT), weight=weight, weight_bits=8)
    (one,) = passes_of(network(layer))
    assert one.wide == wide
    assert kernels_per_block(one) == kernels


def test_every_layer_is_in_one_pass() -> None:
    for seed in range(300):
        net = random_network(seed)
        lowered = lower(net)
        names = [name for one in lowered.passes if not one.partial for name in one.layers]
        computed = [one.name for one in net.layers if not isinstance(one, Select)]
        if isinstance(net.layers[-1], Select):
            computed.append(net.output)
        assert sorted(names) == sorted(computed)
        known = {INPUT}
        for one in lowered.passes:
            assert {one.source, lowered.homes[one.skip or INPUT].map} <= known
            known.add(lowered.homes[one.output].map)
        assert lowered.passes[-1].output == net.output


def test_concatenation_is_one_map() -> None:
    """Block behind block; the weights of who reads it stand where the channels are."""
    layers = (
        conv("a", INPUT, n=17),
        conv("b", INPUT, n=5),
        Select(name="s", inputs=("a", "b"), channels=tuple(range(22))),
        conv("c", "s", channels=22, n=2),
    )
    lowered = lower(network(*layers))
    assert [one.layers for one in lowered.passes] == [("a",), ("b",), ("c",)]
    assert (lowered.homes["a"], lowered.homes["b"]) == (Home("a", 0), Home("a", 2))
    assert lowered.maps["a"].shape == (48, 8, 8)
    weight = lowered.passes[2].weight[:, 0, 0]
    np.testing.assert_array_equal(weight[:, :17], layers[3].weight[:, :17, 0, 0])
    np.testing.assert_array_equal(weight[:, 32:37], layers[3].weight[:, 17:, 0, 0])
    assert not weight[:, 17:32].any()


@pytest.mark.parametrize(
    ("channels", "passes"),
    [
        ((2, 1, 0), [("a",), ("c",)]),  # a shuffle takes no pass
        ((2, 2, 0), [("a",), ("s",), ("c",)]),  # a channel twice does
    ],
)
def test_shuffle(channels: tuple[int, ...], passes: list[tuple[str, ...]]) -> None:
    shuffled = Select(name="s", inputs=("a",), channels=channels)
    layers = (conv("a", INPUT), shuffled, conv("c", "s"))
    assert [one.layers for one in lower(network(*layers)).passes] == passes


def test_input_beside_another_map_is_copied() -> None:
    both = Select(name="s", inputs=(INPUT, "a"), channels=tuple(range(6)))
    lowered = lower(network(conv("a", INPUT), both, conv("c", "s", channels=6)))
    assert [(one.layers, one.partial) for one in lowered.passes] == [
        ((INPUT,), True),
        (("a",), False),
        (("c",), False),
    ]


def test_large_windows_take_several_passes() -> None:
    big = MaxPool(name="p", input=INPUT, kernel=(20, 9), stride=(2, 3), padding=(1, 0, 2, 4))
    lowered = lower(network(big, shape=(3, 24, 24)))
    assert [(one.kernel, one.stride, one.partial) for one in lowered.passes] == [
        ((16, 1), (1, 1), True),
        ((5, 1), (2, 1), True),
        ((1, 9), (1, 3), False),
    ]
    assert all(one.maximum and one.pad_value == 0 for one in lowered.passes)


def test_lookup_is_fused_before_the_average() -> None:
    lookup = Lookup(name="l", input="a", table=np.arange(16), out_bits=4, out_signed=False)
    (one,) = passes_of(network(conv("a", INPUT), lookup, average("g", "l")))
    assert one.layers == ("a", "l", "g")
    assert one.table is not None
    assert one.table[:16].tolist() == list(range(16))


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [
        ((1, 16), (1, 1), (0, 0, 0, 0)),
        ((4, 16), (3, 2), (3, 1, 0, 5)),
        ((5, 13), (1, 4), (4, 12, 4, 0)),
        ((17, 1), (2, 1), (1, 0, 15, 0)),
        ((1, 31), (1, 15), (0, 3, 0, 0)),
        ((9, 9), (2, 3), (0, 8, 8, 1)),
        ((32, 40), (1, 1), (15, 15, 15, 15)),
    ],
)
@pytest.mark.parametrize("signed", [False, True])
def test_largest_of_large_windows(
    kernel: Pair, stride: Pair, padding: tuple[int, int, int, int], signed: bool
) -> None:
    """One maximum after the other is that of all, with padding that is never the largest."""
    big = MaxPool(name="p", input=INPUT, kernel=kernel, stride=stride, padding=padding)
    net = QuantizedNetwork(FeatureType((17, 23, 41), 8, signed), (big,), "pool")
    image = compile_network(net, CONFIGS["mars"])
    windows = [contents.kernel for contents in image.contents.passes]
    assert all(max(size) <= 16 and size[0] * size[1] <= 64 for size in windows)
    assert [sum(size[k] - 1 for size in windows) for k in range(2)] == [k - 1 for k in kernel]
    for values in (-np.ones((17, 23, 41), np.int64), random_input(net, 1)[0]):
        shown = values if signed else np.abs(values)
        assert compare_model(net, image, shown, Compared()) is None


def test_a_lookup_is_a_pass_of_its_own_where_it_must() -> None:
    """Behind another one, behind what others read, and behind an average."""

    def table(name: str, source: str, bits: int = 4) -> Lookup:
        values = np.arange(1 << bits) % 16
        return Lookup(name=name, input=source, table=values, out_bits=4, out_signed=False)

    layers = (
        *(conv("a", INPUT), table("s", "a"), table("t", "s"), pool("p", "t"), table("u", "p")),
        *(average("g", "u"), table("v", "g", bits=8), conv("b", "v", skip="g", skip_mult=2)),
    )
    passes = passes_of(network(*layers))
    assert [(one.layers, one.copy) for one in passes] == [
        (("a", "s"), False),
        (("t",), True),
        (("p", "u", "g"), True),
        (("v",), True),
        (("b",), False),
    ]


def test_table_by_the_low_byte() -> None:
    """Signed values below 0 are in its upper half; a signed table keeps its signs."""
    values = np.arange(-8, 8) * 10
    lookup = Lookup(name="l", input=INPUT, table=values, out_bits=8, out_signed=True)
    net = QuantizedNetwork(FeatureType((3, 2, 2), 4, True), (lookup,), "table")
    (one,) = passes_of(net)
    assert one.table is not None
    assert one.table[:8].tolist() == [0, 10, 20, 30, 40, 50, 60, 70]
    assert one.table[248:].tolist() == [-80, -70, -60, -50, -40, -30, -20, -10]
    assert not one.table[8:248].any()
    assert compile_network(net, CONFIGS["mars"]).passes[0].descriptor.lookup_signed == 1
