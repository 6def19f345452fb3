"""From networks to programs: group-sets, shapes, places, and what does not fit."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_tools.mars.pass_difference import Compared, compare_model
from model.mars.config import CONFIGS, MarsConfig
from model.mars.group_sets import by_tap, kept_sets
from model.mars.layout import decode_index
from model.mars.lowering import lower
from model.mars.macro import decode_nibbles, decode_weights
from model.mars.mapper import CodeFormat, FitError, code_format, compile_network, group_sets
from model.mars.network import (
    INPUT,
    WIDE_MULT_MAX,
    AvgPool,
    Conv,
    Dense,
    FeatureType,
    Layer,
    MaxPool,
    QuantizedNetwork,
    Select,
)
from model.mars.random_network import random_input, random_network
from model.mars.zoo import ZOO

TINY, MARS = CONFIGS["mars-tiny"], CONFIGS["mars"]


def conv(name: str, source: str, channels: int, n: int, size: int = 3, **fields: Any) -> Conv:
    weight, mult = fields.pop("weight", None), fields.pop("mult", np.arange(n) + 1)
    kind = {"weight_bits": 4, "out_bits": 4, "out_signed": False, "padding": size // 2, **fields}
    return Conv(
        name=name,
        input=source,
        weight=np.ones((n, channels, size, size), np.int64) if weight is None else weight,
        bias=np.arange(n),
        mult=mult,
        shift=np.full(n, 4),
        **kind,
    )


def dense(name: str, source: str, size: int, n: int) -> Dense:
    return Dense(
        name=name,
        input=source,
        weight=np.ones((n, size), np.int64),
        bias=np.zeros(n, np.int64),
        weight_bits=4,
        out_bits=32,
        out_signed=True,
    )


def average(name: str, **fields: Any) -> AvgPool:
    kind = {"mult": 1, "shift": 1, "out_bits": 4, "out_signed": False, **fields}
    return AvgPool(name=name, input=INPUT, **kind)


def network(shape: tuple[int, int, int], *layers: Layer, bits: int = 4) -> QuantizedNetwork:
    return QuantizedNetwork(FeatureType(shape, bits, False), layers, "network")


@pytest.mark.parametrize(
    ("net", "config", "text"),
    [
        (
            network((1, 2, 2), conv("wide", INPUT, 1, 1, mult=np.array([65536]))),
            MARS,
            "layer wide must have multipliers of at most 65535 to fit mars, not 65536: use a "
            "configuration with wide multipliers, mars-wide",
        ),
        (
            network((1, 2, 2), conv("r", INPUT, 1, 1, skip=INPUT, skip_mult=1 << 16, padding=1)),
            TINY,
            "layer r must have multipliers of at most 65535 to fit mars-tiny, not 65536: use a "
            "configuration with wide multipliers, mars-wide",
        ),
        (
            network((1, 2, 2), average("g", mult=70000)),
            MARS,
            "layer g must have multipliers of at most 65535 to fit mars, not 70000: use a "
            "configuration with wide multipliers, mars-wide",
        ),
        (
            network((1, 2, 2), average("g", post_shift=1)),
            MARS,
            "layer g must have post_shift 0 to fit mars: use a configuration with wide "
            "multipliers, mars-wide",
        ),
        (
            network((1, 2, 2), conv("a", INPUT, 1, 2, post_shift=np.array([0, 1]))),
            TINY,
            "layer a must have post_shift 0 to fit mars-tiny: use a configuration with wide "
            "multipliers, mars-wide",
        ),
        (
            network((513, 4, 4), dense("fc", INPUT, 513 * 16, 1)),
            MARS,
            "layer fc must keep at most 512 group-sets per kernel block to fit mars, not 528: "
            "16 too many; prune it or use more macros",
        ),
        (
            network((128, 2, 2), conv("a", INPUT, 128, 1)),
            TINY,
            "layer a must keep at most 64 group-sets per kernel block to fit mars-tiny, not 72: "
            "8 too many; prune it or use more macros",
        ),
        (
            network((1, 1, 256), conv("long", INPUT, 1, 1)),
            MARS,
            "layer long must have a map of at most 255, not 256",
        ),
        (
            network((1, 256, 2), MaxPool(name="p", input=INPUT)),
            MARS,
            "layer p must have a map of at most 255, not 256",
        ),
        (
            network((64, 4, 129), conv("first", INPUT, 64, 64, 1)),
            TINY,
            "layer first must have rows that fit, one of its result with those that it reads, in "
            "1024 words of feature memory per macro to fit mars-tiny, not 1032: 8 too many",
        ),
        (
            network((16, 33, 32), average("a")),
            TINY,
            "layer a must have rows that fit, one of its result with those that it reads, in "
            "1024 words of feature memory per macro to fit mars-tiny, not 1058: 34 too many",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit(net: QuantizedNetwork, config: MarsConfig, text: str) -> None:
    with pytest.raises(FitError) as error:
        compile_network(net, config)
    assert str(error.value) == text


def test_what_just_fits() -> None:
    """The other side of each limit."""
    compile_network(network((512, 2, 2), conv("a", INPUT, 512, 1)), MARS)
    compile_network(network((512, 4, 4), dense("fc", INPUT, 512 * 16, 1)), MARS)
    compile_network(network((64, 4, 128), conv("first", INPUT, 64, 64, 1)), TINY)
    compile_network(network((112, 2, 2), conv("a", INPUT, 112, 1)), TINY)
    compile_network(network((1, 1, 255), conv("a", INPUT, 1, 1)), MARS)
    compile_network(network((1, 20, 20), conv("a", INPUT, 1, 16)), TINY)


def test_wide_multipliers_fit_where_they_are() -> None:
    most = np.array([WIDE_MULT_MAX])
    wide = conv("a", INPUT, 1, 1, mult=most, post_shift=np.array([31]), skip=INPUT)
    (one,) = compile_network(network((1, 2, 2), wide), CONFIGS["mars-wide"]).passes
    header = one.blocks[0].header
    assert (header.mult[0], header.post_shift[0]) == (WIDE_MULT_MAX, 31)
    # Narrow ones have all that 16 bits can.
    just = network((1, 2, 2), conv("a", INPUT, 1, 1, mult=np.array([65535]), post_shift=most * 0))
    (one,) = compile_network(just, MARS).passes
    assert one.blocks[0].header.mult[0] == 65535


def ones(rows: int, cols: int, channels: int) -> Conv:
    """A kernel of 1 everywhere on a map of its size."""
    weight = np.ones((1, channels, rows, cols), np.int64)
    return conv("a", INPUT, channels, 1, weight=weight, padding=0)


@pytest.mark.parametrize(
    ("rows", "cols", "blocks", "expected"),
    [
        (1, 1, 1, CodeFormat(False, 0, 0)),
        (1, 1, 512, CodeFormat(False, 9, 0)),
        (1, 1, 513, CodeFormat(True, 10, 0)),
        (3, 3, 32, CodeFormat(False, 5, 2)),
        (3, 3, 33, CodeFormat(True, 6, 2)),
        (2, 5, 32, CodeFormat(False, 5, 3)),
        (5, 2, 33, CodeFormat(True, 6, 1)),
        (16, 16, 2, CodeFormat(False, 1, 4)),
        (16, 16, 3, CodeFormat(True, 2, 4)),
        (11, 1, 256, CodeFormat(True, 8, 0)),
        (16, 16, 256, CodeFormat(True, 8, 4)),
    ],
)
def test_code_format(rows: int, cols: int, blocks: int, expected: CodeFormat) -> None:
    """Short if taps and channel blocks have room in nine bits together."""
    net = network((16 * blocks, rows, cols), ones(rows, cols, 16 * blocks))
    assert code_format(lower(net).passes[0]) == expected


def test_codes_that_are_too_long() -> None:
    net = network((16 * 256 + 1, 16, 16), ones(16, 16, 16 * 256 + 1))
    with pytest.raises(FitError) as error:
        code_format(lower(net).passes[0])
    assert str(error.value) == (
        "layer a must have at most 4096 input channels for its 16x16 kernels, not 4112: 16 too many"
    )


@pytest.mark.parametrize(
    ("shape", "long"), [((528, 3, 3), 1), ((33, 16, 9), 1), ((17, 9, 9), 0), ((512, 3, 3), 0)]
)
def test_results_with_long_codes(shape: tuple[int, int, int], long: int) -> None:
    """A kernel of the map's size, with padding at two sides."""
    rng = np.random.default_rng(1)
    weight = rng.integers(-8, 8, (18, *shape))
    weight[:, : shape[0] // 4] = 0
    around = {"padding": (1, 0, 0, 1), "pad_value": 5}
    layer = conv("a", INPUT, shape[0], 18, weight=weight, **around, out_bits=8, out_signed=True)
    net = network(shape, replace(layer, mult=np.full(18, 60), shift=np.full(18, 10)))
    image = compile_network(net, MARS)
    assert image.passes[0].descriptor.long_codes == long
    features = random_input(net, 1)[0]
    assert compare_model(net, image, features, Compared()) is None


def test_sparse_layer_fits() -> None:
    """What counts is how many group-sets are kept, not how many there are."""
    weight = np.ones((1, 128, 3, 3), np.int64)
    weight[:, :16] = 0
    net = network((128, 2, 2), conv("a", INPUT, 128, 1, weight=weight))
    (one,) = compile_network(net, TINY).passes
    assert one.blocks[0].n_entries == 63


def test_bands_save_memory() -> None:
    """Seven rows are quickest if all macros share the weights, but then all need the whole map."""
    net = network((48, 7, 7), conv("a", INPUT, 48, 48), conv("b", "a", 48, 3))
    for feature_words, splits in ((512, [2, 2]), (256, [1, 1])):
        config = MarsConfig(name="pair", n_cores=1, macros_per_core=2, feature_words=feature_words)
        image = compile_network(net, config)
        assert [one.descriptor.split for one in image.passes] == splits


def test_group_sets_by_hand() -> None:
    weight = np.zeros((17, 17, 3, 3), np.int64)
    weight[0, 0, 0, 0] = 7  # kernel block 0, tap (0, 0), channel block 0
    weight[3, 16, 2, 1] = -8  # kernel block 0, tap (2, 1), channel block 1
    weight[16, 5, 1, 1] = -1  # kernel block 1, tap (1, 1), channel block 0
    first, second = group_sets(
        lower(network((17, 4, 4), conv("a", INPUT, 17, 17, weight=weight))).passes[0]
    )
    assert first.codes.tolist() == [0, 2 << 3 | 1 << 1 | 1]
    assert second.codes.tolist() == [1 << 3 | 1 << 1]
    assert first.words.shape == (2, 1, 16)
    assert int(first.words[0, 0, 0]) == 7
    assert int(first.words[1, 0, 0]) == 8 << 12
    assert int(second.words[0, 0, 5]) == 15
    assert not np.delete(first.words, 0, axis=2).any()


def test_wide_group_sets_by_hand() -> None:
    """Eight kernels of 8 bit in a block."""
    weight = np.zeros((17, 1, 1, 1), np.int64)
    weight[1], weight[8], weight[16] = -2, 127, 5
    layer = conv("a", INPUT, 1, 17, size=1, weight=weight, weight_bits=8)
    blocks = group_sets(lower(network((1, 2, 2), layer)).passes[0])
    assert [int(block.words[0, 0, 0]) for block in blocks] == [0xFE00, 127, 5]


def test_stacked_group_sets_by_hand() -> None:
    """Sixteen kernels of 8 bit in a block: a plane of lower nibbles and one of upper ones."""
    weight = np.zeros((17, 1, 1, 1), np.int64)
    weight[1], weight[8], weight[16] = -2, 127, 5
    layer = conv("a", INPUT, 1, 17, size=1, weight=weight, weight_bits=8)
    (one,) = lower(network((1, 2, 2), layer)).passes
    first, second = group_sets(replace(one, wide=False, stacked=True))
    assert [int(word) for word in first.words[0, :, 0]] == [
        0xF << 32 | 0xE << 4,
        7 << 32 | 0xF << 4,
    ]
    assert [int(word) for word in second.words[0, :, 0]] == [5, 0]
    assert (first.n_kept, second.n_kept) == (2, 1)
    assert [first.n_entries(split) for split in (1, 8)] == [2, 2]


def test_both_nibbles_have_the_same_codes() -> None:
    """A 1x1 convolution of 8 bit whose results would wait for each other has pairs of entries."""
    weight = np.arange(32 * 40).reshape(32, 40, 1, 1) % 255 - 127
    layer = conv("a", INPUT, 40, 32, size=1, weight=weight, weight_bits=8)
    image = compile_network(network((40, 8, 8), layer), MARS)
    (one,) = image.passes
    assert (one.descriptor.stacked, one.descriptor.wide) == (1, 0)
    for k, block in enumerate(one.blocks):
        np.testing.assert_array_equal(block.codes[::2], block.codes[1::2])
        both = decode_nibbles(block.words[::2], upper=False) + decode_nibbles(
            block.words[1::2], upper=True
        )
        by_set = both.reshape(-1, 16, 16)[:3]
        padded = np.pad(layer.weight[16 * k : 16 * k + 16, :, 0, 0].T, ((0, 8), (0, 0)))
        np.testing.assert_array_equal(by_set.reshape(48, 16), padded)


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_group_sets_are_those_of_the_model(seed: int) -> None:
    """As many as `model.mars.group_sets` counts, and all weights in them."""
    net = random_network(seed)
    for one in lower(net).passes:
        layer = net.layer(one.layers[0]) if not one.copy and not one.partial else None
        if not isinstance(layer, Conv | Dense):
            continue
        if any(isinstance(other, Select) for other in net.layers):
            continue  # channels stand elsewhere
        # Weights of 8 bit that fit in 4 are stored so.
        kept = kept_sets(by_tap(layer, net.types[layer.input]), 8 if one.wide else 4)
        found = group_sets(one)
        assert sum(len(block.codes) for block in found) == kept.sum()
        total = 0
        per_block = 8 if one.wide else 16
        for number, block in enumerate(found):
            assert (np.diff(block.codes) > 0).all()
            widths = code_format(one)
            dy, dx, channel_block = decode_index(
                block.codes, block_width=widths.block_width, dx_width=widths.dx_width
            )
            weights = decode_weights(block.words[:, 0], one.wide)
            for k in range(len(block.codes)):
                channels = slice(16 * channel_block[k], 16 * channel_block[k] + 16)
                kernels = slice(number * per_block, (number + 1) * per_block)
                expected = one.weight[kernels, dy[k], dx[k], channels].T.astype(np.int64)
                np.testing.assert_array_equal(weights[k][:, : expected.shape[1]], expected)
                total += np.abs(expected).sum()
        assert total == np.abs(layer.weight).sum()


def test_round_robin() -> None:
    """Set i of a kernel block is entry i // S of macro i % S; what fills up is zero."""
    net = network((144, 1, 1), conv("a", INPUT, 144, 1, size=1))
    image = compile_network(net, MARS)
    (one,) = image.passes
    (block,) = one.blocks
    assert one.descriptor.split == 8
    assert block.codes.tolist() == [list(range(8)), [8, *[0] * 7]]
    assert block.words[0].all(axis=1).sum() == 8
    assert not block.words[1, 1:].any()


def test_tables_by_hand() -> None:
    net = network((1, 2, 2), conv("a", INPUT, 1, 18, size=1))
    first, second = compile_network(net, TINY).passes[0].blocks
    first, second = first.header, second.header
    assert first.bias.tolist() == list(range(16))
    assert second.bias.tolist() == [16, 17, *[0] * 14]
    assert second.mult.tolist() == [17, 18, *[0] * 14]
    assert second.shift.tolist() == [4, 4, *[1] * 14]


def test_bands_and_halo() -> None:
    """Eight teams of four rows; each memory holds its band and a row above and below."""
    net = network((16, 32, 8), conv("a", INPUT, 16, 16), conv("b", "a", 16, 16))
    image = compile_network(net, MARS)
    d = image.input_descriptor
    assert d.out_first_row == (0, 3, 7, 11, 15, 19, 23, 27)
    assert d.out_end_row == (5, 9, 13, 17, 21, 25, 29, 32)
    first, last = (one.descriptor for one in image.passes)
    assert (first.n_teams, first.rows_per_team, first.split) == (8, 4, 1)
    assert first.out_first_row == d.out_first_row
    # Band 1 begins one row and one pixel before what is stored, at the padding.
    assert first.in_base[1] == (d.out_base[1] + 3 * 8 - 1) & 0xFFFF
    # The host reads the whole result in macro 0.
    assert (last.out_first_row[0], last.out_end_row[0]) == (0, 32)
    assert last.out_end_row[1:] == (0,) * 7
    assert image.output_words == 32 * 8
    assert (first.is_last, last.is_last) == (0, 1)


def test_result_takes_the_place_of_its_residual() -> None:
    net = network(
        (16, 8, 8),
        conv("a", INPUT, 16, 16),
        conv("b", "a", 16, 16),
        conv("c", "b", 16, 16, skip="a", skip_mult=1),
        conv("d", "c", 16, 16, out_signed=True, skip="b", skip_mult=1),
    )
    _, _, c, d = (one.descriptor for one in compile_network(net, TINY).passes)
    assert c.out_base[0] == c.skip_base[0]
    assert d.out_base[0] == d.skip_base[0]
    # A residual that is read later, too, or that is the source, stays.
    net = network(
        (16, 8, 8),
        conv("a", INPUT, 16, 16),
        conv("b", "a", 16, 16, skip="a", skip_mult=1),
        conv("c", "b", 16, 16, skip="a", skip_mult=1),
    )
    _, b, c = (one.descriptor for one in compile_network(net, TINY).passes)
    assert b.out_base[0] != b.skip_base[0]
    assert c.out_base[0] == c.skip_base[0] == b.skip_base[0]


def test_signs_of_maps_in_one_place() -> None:
    """A result in the place of its residual has its own sign, not that of the residual."""
    net = network(
        (16, 4, 4),
        conv("a", INPUT, 16, 16),
        conv("b", "a", 16, 16),
        conv("c", "b", 16, 16, skip="a", skip_mult=1, out_signed=True),
        conv("d", "c", 16, 16),
    )
    *_, c, d = (one.descriptor for one in compile_network(net, TINY).passes)
    assert (c.skip_signed, d.in_signed) == (0, 1)
    assert (c.low, c.high) == (-8, 7)


def test_small_maps_are_split_over_kernels() -> None:
    """One pixel keeps all macros busy only if they share its group-sets."""
    net = network((64, 4, 4), AvgPool(name="g", input=INPUT, mult=1, shift=1, out_bits=4,
                                      out_signed=False), dense("fc", "g", 64, 10))  # fmt: skip
    _, fc = (one.descriptor for one in compile_network(net, MARS).passes)
    assert (fc.split, fc.n_teams) == (4, 1)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=lambda config: config.name)
def test_random_networks_are_within_the_memory(config: MarsConfig) -> None:
    for seed in range(100):
        net = random_network(seed, max_size=8)
        image = compile_network(net, config)
        for one in image.passes:
            d = one.descriptor
            for m in range(config.n_macros):
                rows = d.out_end_row[m] - d.out_first_row[m]
                base = (d.out_base[m] + d.out_first_row[m] * d.out_row_pitch) & 0xFFFF
                assert rows <= 0 or base + rows * d.out_row_pitch <= config.feature_words
        last = image.contents.output_address + image.output_words
        assert last <= config.feature_words


@pytest.mark.parametrize("name", ["vgg16", "resnet18"])
def test_index_overhead(name: str) -> None:
    """At most 1 % of the stored weight bits, whole lines counted."""
    image = compile_network(ZOO[name].make(0.5, 4, 4, 0), MARS)
    lines = sum(one.n_index_lines for one in image.passes)
    sets = sum(one.n_sets for one in image.passes)
    kept = sum(one.kept_sets for one in image.contents.passes)
    assert lines * 512 <= 0.01 * kept * 1024
    assert kept <= sets <= 1.04 * kept  # those that fill up entries
