"""Channels that are selected: reference = golden machine, and where the maps lie by hand."""

from typing import Any

import numpy as np
import pytest

from firmware_tools.mars.pass_difference import Compared, compare_model
from model.mars.config import CONFIGS, MarsConfig
from model.mars.image import Image
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
    QuantizedNetwork,
    Select,
)
from model.mars.random_network import random_input

TINY, MARS = CONFIGS["mars-tiny"], CONFIGS["mars"]
SMALL = MarsConfig(name="small", n_cores=1, macros_per_core=4, feature_words=256)


def conv(name: str, source: str, channels: int, n: int, size: int = 1, **fields: Any) -> Conv:
    rng = np.random.default_rng(channels * n)
    groups = fields.get("groups", 1)
    kind = {"weight_bits": 4, "out_bits": 4, "out_signed": False, "padding": size // 2, **fields}
    return Conv(
        name=name,
        input=source,
        weight=rng.integers(-8, 8, (n, channels // groups, size, size)),
        bias=rng.integers(-100, 100, n),
        mult=rng.integers(200, 900, n),
        shift=np.full(n, 13),
        **kind,
    )


def select(name: str, *inputs: str, channels: list[int]) -> Select:
    return Select(name=name, inputs=inputs, channels=tuple(channels))


def largest(name: str, source: str, size: int, **fields: Any) -> MaxPool:
    return MaxPool(name=name, input=source, kernel=(size, size), **fields)


def dense(name: str, source: str, n_inputs: int) -> Dense:
    weight = np.random.default_rng(n_inputs).integers(-8, 8, (5, n_inputs))
    bias = np.arange(5)
    fields: dict[str, Any] = {"weight_bits": 4, "out_bits": 32, "out_signed": True}
    return Dense(name=name, input=source, weight=weight, bias=bias, **fields)


def table(name: str, source: str, low: int = 0) -> Lookup:
    values = np.arange(low, low + 16) ** 2 % 16
    return Lookup(name=name, input=source, table=values, out_bits=4, out_signed=False)


A17, B5, C16 = conv("a", INPUT, 3, 17, 3), conv("b", INPUT, 3, 5, 3), conv("c", INPUT, 3, 16)
JOINED = select("s", "a", "b", channels=list(range(22)))
SHUFFLED = [*range(21, -1, -2), *range(0, 22, 2)]

NETWORKS: dict[str, list[Layer]] = {
    "concatenation": [A17, B5, JOINED, conv("d", "s", 22, 9, 3)],
    "concatenation of 8-bit weights": [A17, B5, JOINED, conv("d", "s", 22, 9, 3, weight_bits=8)],
    "depthwise behind a concatenation": [A17, B5, JOINED, conv("d", "s", 22, 22, 3, groups=22)],
    "two groups across blocks": [A17, B5, JOINED, conv("d", "s", 22, 6, 3, groups=2)],
    "dense behind a concatenation": [A17, B5, JOINED, dense("d", "s", 22 * 20)],
    "average of a concatenation": [
        *[A17, B5, JOINED],
        AvgPool(name="d", input="s", mult=700, shift=14, out_bits=8, out_signed=False, bias=9),
    ],
    "quads of a concatenation": [A17, B5, JOINED, largest("d", "s", 2), conv("e", "d", 22, 3)],
    # Its channels are not in one block of 16 of the map, so they are copied first.
    "windows of a concatenation": [A17, B5, JOINED, largest("d", "s", 3, stride=(1, 2))],
    "windows of whole blocks": [
        *[A17, C16, select("s", "c", "a", channels=list(range(33)))],
        largest("d", "s", 3, padding=(1, 1, 1, 1)),
    ],
    "windows of a channel twice": [A17, select("s", "a", channels=[3, 3, 1]), largest("d", "s", 3)],
    "table of a concatenation": [A17, B5, JOINED, table("d", "s"), conv("e", "d", 22, 3)],
    "concatenation at the end": [A17, B5, JOINED],
    "shuffle at the end": [A17, B5, select("s", "a", "b", channels=SHUFFLED)],
    "the input at the end": [select("s", INPUT, channels=[2, 0])],
    "a concatenation with the input at the end": [
        *[A17, select("s", INPUT, "a", channels=[1, 19, 2, 3, 4])],
    ],
    "residual": [
        *[A17, B5, JOINED],
        conv("d", INPUT, 3, 22, 3, skip="s", skip_mult=4096, skip_zero=3),
    ],
    "residual of what it reads": [
        *[A17, B5, JOINED],
        conv("d", "s", 22, 22, 3, skip="s", skip_mult=4096),
        conv("e", "s", 22, 22, skip="d", skip_mult=2048),
    ],
    "residual of a part": [
        *[A17, B5, select("s", "b", "a", channels=[4, 9, 2])],
        conv("d", INPUT, 3, 3, skip="s", skip_mult=9000),
    ],
    "residual in a shared map": [
        *[A17, conv("b", INPUT, 3, 17, 3, skip="a", skip_mult=3000)],
        *[select("s", "b", "a", channels=[*range(34)]), conv("d", "s", 34, 4)],
    ],
    "split": [
        *[A17, select("s", "a", channels=[*range(8)]), select("t", "a", channels=[*range(8, 17)])],
        *[conv("d", "s", 8, 16), conv("e", "t", 9, 16, skip="d", skip_mult=4096)],
    ],
    "shuffle of a shuffle": [
        *[A17, B5, select("s", "a", "b", channels=SHUFFLED)],
        *[select("t", "s", channels=SHUFFLED), conv("d", "t", 22, 4, 3)],
    ],
    "channels twice": [
        *[A17, select("s", "a", "a", channels=[0, 20, 3, 3, 16])],
        *[conv("d", "s", 5, 4, 3), conv("e", "s", 5, 4, skip="d", skip_mult=4096)],
    ],
    "dense of channels twice": [A17, select("s", "a", channels=[16, 16]), dense("d", "s", 40)],
    "input beside two maps": [
        *[A17, select("s", "a", INPUT, channels=[*range(20)]), conv("d", "s", 20, 16)],
        select("t", INPUT, "d", channels=[*range(19)]),
        conv("e", "t", 19, 3, skip=INPUT, skip_mult=9999),
    ],
    "maps that are joined later": [
        *[A17, B5, JOINED, conv("d", "s", 22, 8), select("t", "d", "b", channels=[*range(13)])],
        *[conv("e", "t", 13, 30, 3)],
    ],
    "tables behind each other": [A17, table("s", "a"), table("t", "s"), table("u", "t")],
    "table of the input": [
        *[table("s", INPUT), table("t", INPUT)],
        conv("d", "s", 3, 3, skip="t", skip_mult=4000),
    ],
}  # fmt: skip


def network(name: str) -> QuantizedNetwork:
    return QuantizedNetwork(FeatureType((3, 5, 4), 4, False), tuple(NETWORKS[name]), name)


@pytest.mark.parametrize("config", [TINY, SMALL, MARS], ids=lambda config: config.name)
@pytest.mark.parametrize("name", NETWORKS)
def test_results(name: str, config: MarsConfig) -> None:
    net = network(name)
    image = compile_network(net, config)
    for features in random_input(net, len(name), 3):
        compared = Compared()
        assert compare_model(net, image, features, compared) is None
        assert compared.values > 0


def descriptors(image: Image) -> list[Any]:
    return [one.descriptor for one in image.passes]


def test_addresses_of_a_concatenation() -> None:
    """Three blocks a pixel: 17 channels are two of them, the other 5 the third one."""
    a, b, d = descriptors(compile_network(network("concatenation"), TINY))
    assert a.out_col_pitch == b.out_col_pitch == 3
    assert a.out_row_pitch == b.out_row_pitch == 4 * 3
    assert b.out_base[0] == a.out_base[0] + 2
    # The padding is a row and a column before the map.
    assert d.in_base[0] == (a.out_base[0] - 12 - 3) & 0xFFFF
    assert (d.tap_row_pitch, d.tap_col_pitch) == (12, 3)


def test_addresses_of_a_residual_in_a_shared_map() -> None:
    """`b` is written beside what it adds, not in its place."""
    a, b, _ = descriptors(compile_network(network("residual in a shared map"), TINY))
    assert b.skip_base[0] == a.out_base[0]
    assert b.out_base[0] != a.out_base[0]
    assert abs(b.out_base[0] - a.out_base[0]) == 2
    assert b.skip_col_pitch == 4


def test_passes_that_are_copies() -> None:
    """Only those that cannot be avoided."""
    copies = {
        name: [one.layers for one in compile_network(network(name), TINY).contents.passes if
               one.copies]
        for name in NETWORKS
    }  # fmt: skip
    assert {name: layers for name, layers in copies.items() if layers} == {
        "average of a concatenation": [("d",)],
        "quads of a concatenation": [("d",)],
        "windows of a concatenation": [("s",)],
        "table of a concatenation": [("d",)],
        "concatenation at the end": [("s",)],
        "shuffle at the end": [("s",)],
        "the input at the end": [("s",)],
        "a concatenation with the input at the end": [(INPUT,), ("s",)],
        "residual": [("s",)],
        "residual of what it reads": [("s",)],
        "residual of a part": [("s",)],
        "channels twice": [("s",)],
        "dense of channels twice": [("s",)],
        "input beside two maps": [(INPUT,)],
        "tables behind each other": [("t",), ("u",)],
        "table of the input": [("s",), ("t",)],
    }
