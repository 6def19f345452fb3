"""Many images at once: the reference's integers, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest

from firmware_tools.avoid.batch import BatchNetwork
from model.mars import reference
from model.mars.network import Conv, Dense, FeatureType, MaxPool, NetworkError, QuantizedNetwork


def network(seed: int = 0) -> QuantizedNetwork:
    rng = np.random.default_rng(seed)

    def layer(kind, name, source, shape, **fields):
        n = shape[0]
        scaling = {"mult": rng.integers(1, 60000, n), "shift": rng.integers(20, 25, n)}
        if fields["out_bits"] == 32:
            scaling = {}
        return kind(
            name=name,
            input=source,
            weight=rng.integers(-8, 8, shape),
            bias=rng.integers(-2000, 2000, n),
            weight_bits=4,
            **scaling,
            **fields,
        )

    first = layer(
        Conv,
        "a",
        "input",
        (5, 2, 3, 3),
        out_bits=4,
        out_signed=False,
        stride=(2, 1),
        padding=(1, 0, 0, 2),
    )
    second = layer(Conv, "b", "a", (4, 5, 1, 2), out_bits=5, out_signed=True, low=-3, high=9)
    last = layer(Dense, "c", "b", (3, 4 * 5 * 8), out_bits=32, out_signed=True)
    return QuantizedNetwork(FeatureType((2, 10, 9), 8, False), (first, second, last), "net")


@pytest.mark.parametrize("seed", range(4))
def test_equals_the_reference(seed) -> None:
    net = network(seed)
    images = np.random.default_rng(seed).integers(0, 256, (6, 2, 10, 9))
    expected = reference.run(net, images)
    assert len(np.unique(expected["b"])) > 1
    assert (BatchNetwork(net)(images) == expected["c"].reshape(6, 3)).all()


def test_refusals() -> None:
    net = network()
    first, second, last = net.layers
    pool = MaxPool(name="p", input="a", kernel=(1, 1), stride=(1, 1))
    for layers, text in (
        ((first, pool, replace(second, input="p"), last), "layer 'p' must be a plain"),
        ((replace(first, pad_value=3), second, last), "layer 'a' must be a plain"),
        ((replace(first, offset=1), second, last), "layer 'a' must be a plain"),
    ):
        with pytest.raises(NetworkError, match=text):
            BatchNetwork(replace(net, layers=layers))


def test_sums_that_float32_does_not_hold() -> None:
    weight = np.full((1, 1 << 14), -128)
    big = Dense(
        name="d",
        input="input",
        weight=weight,
        bias=np.zeros(1, np.int64),
        weight_bits=8,
        out_bits=32,
        out_signed=True,
    )
    net = QuantizedNetwork(FeatureType((1 << 14, 1, 1), 8, False), (big,), "big")
    with pytest.raises(NetworkError, match=r"layer 'd': sums must be below 2\^24, not 534773760"):
        BatchNetwork(net)
