"""Which integer stands for 0 is found wherever importers leave it."""

from typing import Any

import numpy as np

from firmware_tools.neurobench.zeros import zeros_of
from model.mars.network import INPUT, Conv, FeatureType, Lookup, MaxPool, QuantizedNetwork, Select


def conv(name: str, source: str, **fields: Any) -> Conv:
    return Conv(
        name=name,
        input=source,
        weight=np.ones((2, 2, 1, 1), np.int64),
        bias=np.zeros(2, np.int64),
        mult=np.ones(2, np.int64),
        shift=np.ones(2, np.int64),
        weight_bits=2,
        out_bits=8,
        out_signed=True,
        **fields,
    )


def lookup(name: str, source: str) -> Lookup:
    return Lookup(name=name, input=source, table=np.arange(256) - 128, out_bits=8, out_signed=True)


def zeros(*layers: Any) -> dict[str, int]:
    return zeros_of(QuantizedNetwork(FeatureType((2, 4, 4), 8, signed=True), layers))


def test_offset_of_a_result() -> None:
    assert zeros(conv("a", INPUT, offset=-7)) == {INPUT: 0, "a": -7}


def test_what_is_around_a_map() -> None:
    assert zeros(conv("a", INPUT, padding=1, pad_value=-5))[INPUT] == -5
    assert zeros(conv("a", INPUT))[INPUT] == 0


def test_what_is_subtracted_from_a_residual() -> None:
    table = lookup("t", INPUT)
    layers = (table, conv("a", INPUT), conv("b", "a", skip="t", skip_zero=9, skip_mult=1))
    assert zeros(*layers)["t"] == 9


def test_through_pools_and_channels() -> None:
    pool = MaxPool(name="p", input="t", kernel=1)
    channels = Select(name="s", inputs=("p",), channels=(1, 0))
    layers = (lookup("t", INPUT), pool, channels, conv("a", "s", padding=1, pad_value=4))
    assert zeros(*layers) == {INPUT: 0, "t": 4, "p": 4, "s": 4, "a": 0}
