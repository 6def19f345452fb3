"""Spiking layers: what networks with neurons are, every error text, warnings."""

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
    SumPool,
    check_features,
)
from model.mars.neuron import Exit, Neuron, reach

SPIKES = FeatureType((4, 5, 5), 1, signed=False)
IMAGE = FeatureType((4, 5, 5), 4, signed=False)


def neuron(n: int = 4, **changes: Any) -> Neuron:
    fields: dict[str, Any] = {"bits": 4, "threshold": np.full(n, 2), "reset": "hard"}
    return Neuron(**fields | changes)


def conv(name: str = "c", shape: tuple[int, ...] = (4, 4, 1, 1), **changes: Any) -> Conv:
    fields: dict[str, Any] = {
        "input": "input",
        "weight": np.ones(shape, np.int8),
        "bias": np.zeros(shape[0], np.int32),
        "weight_bits": 4,
        "out_bits": 1,
        "out_signed": False,
        "neuron": neuron(shape[0]),
    }
    return Conv(name=name, **fields | changes)


def dense(name: str = "d", shape: tuple[int, ...] = (3, 100), **changes: Any) -> Dense:
    fields: dict[str, Any] = {
        "input": "c",
        "weight": np.ones(shape, np.int8),
        "bias": np.zeros(shape[0], np.int32),
        "weight_bits": 4,
        "out_bits": 32,
        "out_signed": True,
    }
    return Dense(name=name, **fields | changes)


def network(*layers: Layer, kind: FeatureType = SPIKES, **changes: Any) -> QuantizedNetwork:
    fields: dict[str, Any] = {"time_steps": 4, "coding": "spikes" if kind.bits == 1 else "direct"}
    return QuantizedNetwork(kind, layers, **fields | changes)


def test_types_in_time() -> None:
    """An image and what is computed of it alone have no time; all behind a neuron has."""
    plain = {"mult": np.ones(4, int), "shift": np.ones(4, int), "out_bits": 4, "neuron": None}
    net = network(
        conv("static", **plain),
        conv("c", input="static"),
        MaxPool(name="or", input="c"),
        Select(name="s", inputs=("or", "or"), channels=(0, 5)),
        SumPool(name="sum", input="s"),
        dense("d", (3, 2), input="sum"),
        kind=IMAGE,
        time_steps=6,
    )
    steps = {name: kind.time_steps for name, kind in net.types.items()}
    assert steps == {"input": 0, "static": 0, "c": 6, "or": 6, "s": 6, "sum": 6, "d": 6}
    assert net.types["sum"].bits == 3
    assert net.types["or"].array_shape == (6, 4, 2, 2)
    assert not net.warnings
    spikes = network(conv(), dense())
    assert spikes.input_type.time_steps == spikes.types["input"].time_steps == 4


def test_input_in_time() -> None:
    kind = network(conv(), dense()).input_type
    one = np.zeros((4, 4, 5, 5), np.int8)
    assert check_features(kind, one).shape == (1, 4, 4, 5, 5)
    assert check_features(kind, np.stack([one, one])).shape == (2, 4, 4, 5, 5)
    one[3, 2, 1, 0] = 2
    with pytest.raises(
        NetworkError, match=r"image 0, step 3, channel 2, row 1, column 0 must be 0..1, not 2"
    ):
        check_features(kind, one)
    with pytest.raises(NetworkError, match=r"shape must be \(N, 4, 4, 5, 5\) or \(4, 4, 5, 5\)"):
        check_features(kind, one[0])


PLAIN: dict[str, Any] = {"mult": np.ones(4, int), "shift": np.ones(4, int), "neuron": None}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"bits": 1}, "neuron.bits must be 2..16, not 1"),
        ({"bits": 17}, "neuron.bits must be 2..16, not 17"),
        ({"reset": "none"}, "neuron.reset must be 'hard' or 'soft', not 'none'"),
        ({"leak": 16}, "neuron.leak must be 0..15, not 16"),
        ({"leak": True}, "neuron.leak must be 0..15, not True"),
        ({"groups": 3}, "neuron.groups must divide the 4 output channels, not be 3"),
        ({"groups": 0}, "neuron.groups must be 1..4, not 0"),
        ({"membrane": ""}, "neuron.membrane must be printable text, not ''"),
        ({"threshold": 3}, "neuron.threshold must be an array, not int"),
        ({"threshold": np.ones(4)}, "neuron.threshold must be integers, not float64"),
        ({"threshold": np.ones(3, int)}, "neuron.threshold must have the shape (4,), not (3,)"),
        (
            {"threshold": np.array([0, 0, 1 << 21, 0])},
            "neuron.threshold[2] must be -2097152..2097151, not 2097152",
        ),
        (
            {"initial": np.array([0, -8, 0, 0])},
            "neuron.initial[1] must be -7..7, not -8",
        ),
        (
            {"initial": np.zeros(4, int), "groups": 2},
            "neuron.initial must have the shape (2,), not (4,)",
        ),
    ],
)
def test_errors_of_neurons(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(NetworkError) as error:
        conv(neuron=neuron(**changes))
    assert str(error.value) == f"layer 'c': {text}"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"out_bits": 4}, "out_bits must be 1, and not signed, with a neuron, not 4"),
        (
            {"mult": np.ones(4, int)},
            "mult must be absent with a neuron (its charge is not requantised)",
        ),
        ({"high": 1}, "high must be absent with a neuron (its charge is not requantised)"),
        ({"offset": 1}, "offset (with a neuron) must be 0..0, not 1"),
        ({"neuron": 3}, "neuron must be a Neuron, not int"),
        ({"skip": "input", "skip_mult": 65536}, "skip_mult must be 0..65535, not 65536"),
        ({"skip": "input", "skip_zero": 1}, "skip_zero must be 0..0, not 1"),
    ],
)
def test_errors_of_spiking_layers(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(NetworkError) as error:
        conv(**changes)
    assert str(error.value) == f"layer 'c': {text}"


@pytest.mark.parametrize(
    ("layers", "changes", "text"),
    [
        (
            (conv(), dense()),
            {"time_steps": 0},
            "time_steps of a network with a neuron (layer 'c') must be 1..64, not 0",
        ),
        ((conv(), dense()), {"coding": "rate"}, "input: coding must be 'direct' or 'spikes'"),
        (
            (conv(), dense()),
            {"kind": IMAGE, "coding": "spikes"},
            "input: bits must be 1, and not signed, with coding 'spikes', not 4",
        ),
        (
            (conv("c", out_bits=4, **PLAIN), dense()),
            {"kind": IMAGE},
            "layers: one must have a neuron in a network with time_steps",
        ),
        (
            (conv("c", out_bits=4, **PLAIN), dense()),
            {"time_steps": 0, "coding": "spikes"},
            "layers: one must have a neuron in a network with time_steps",
        ),
        (
            (conv(), conv("e", input="c", out_bits=4, **PLAIN)),
            {},
            "layer 'e': input must not change in time, as 'c' does: a layer that reads spikes has "
            "a neuron, or is the last one with out_bits 32",
        ),
        (
            (conv(), AvgPool(name="a", input="c", mult=1, shift=1, out_bits=8, out_signed=False)),
            {},
            "layer 'a': input must not change in time, as 'c' does: spikes are summed by a "
            "sumpool and fire again in a layer with a neuron",
        ),
        (
            (
                conv(),
                Lookup(name="l", input="c", table=np.zeros(2, int), out_bits=1, out_signed=False),
            ),
            {},
            "layer 'l': input must not change in time",
        ),
        (
            (conv(), SumPool(name="s", input="c")),
            {},
            "layer 's': must be read by another layer: counts are no output",
        ),
        (
            (conv(), SumPool(name="s", input="c"), MaxPool(name="m", input="s")),
            {},
            "layer 'm': input must be spikes, not the counts of 's'",
        ),
        (
            (conv(), SumPool(name="s", input="c"), SumPool(name="t", input="s"), dense()),
            {},
            "layer 't': input must be spikes, which 's' is not",
        ),
        (
            (SumPool(name="s", input="input"), conv(input="s"), dense("d", (3, 16))),
            {"kind": IMAGE},
            "layer 's': input must be spikes, which 'input' is not",
        ),
        (
            (conv(skip="input"), dense()),
            {"kind": IMAGE},
            "layer 'c': skip must be spikes with a neuron, which 'input' is not",
        ),
        (
            (conv(padding=1, pad_value=1), dense("d", (3, 196))),
            {},
            "layer 'c': pad_value must be 0 around spikes, not 1",
        ),
        (
            (conv(), Select(name="s", inputs=("c", "input"), channels=(0, 1))),
            {"kind": FeatureType((4, 5, 5), 1, signed=False), "coding": "direct"},
            "layer 's': inputs must have the same rows, columns and type, but 'input' differs",
        ),
        (
            (conv(bias=np.array([0, 1 << 21, 0, 0])), dense()),
            {},
            "layer 'c': channel 1: |membrane| + |bias| + sum of |weight| * 1 + skip_mult must be "
            "at most 2097151, not 2097163 (a charge has 22 bits)",
        ),
        (
            (conv(), dense(bias=np.array([0, 0, 1 << 29]))),
            {},
            "layer 'd': channel 2: (|bias| + sum of |weight| * 1) * 4 steps must be at most "
            "2147483647, not 2147484048 (logits have 32 bits)",
        ),
        (
            (conv(neuron=neuron(leak=3)), dense()),
            {},
            "layer 'c': neuron.leak must leave something of a membrane of at most 1: at most 0, "
            "not 3",
        ),
        (
            (
                conv(neuron=neuron(membrane="u")),
                conv("e", (2, 4, 1, 1), input="c", neuron=neuron(2, membrane="u")),
                dense("d", (3, 50), input="e"),
            ),
            {},
            "layer 'e': membrane 'u' must have the shape that 'c' gives it, (4, 5, 5), "
            "not (2, 5, 5)",
        ),
        (
            (
                conv(neuron=neuron(membrane="u")),
                conv("e", input="c", neuron=neuron(bits=5, membrane="u")),
                dense(input="e"),
            ),
            {},
            "layer 'e': membrane 'u' must have the bits that 'c' gives it, 4, not 5",
        ),
        (
            (
                conv(neuron=neuron(membrane="u")),
                conv("e", input="c", neuron=neuron(initial=np.arange(4), membrane="u")),
                dense(input="e"),
            ),
            {},
            "layer 'e': membrane 'u' must have the initial membranes that 'c' gives it",
        ),
    ],
)
def test_errors_of_networks(layers: tuple[Layer, ...], changes: dict[str, Any], text: str) -> None:
    with pytest.raises(NetworkError) as error:
        network(*layers, **changes)
    assert str(error.value).startswith(text)


EXIT: dict[str, Any] = {"metric": "confidence", "mode": "sum", "threshold": 0.9, "scale": 0.1}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"metric": "margin"}, "exit: metric must be 'confidence' or 'entropy', not 'margin'"),
        ({"mode": "last"}, "exit: mode must be 'sum' or 'mean', not 'last'"),
        ({"threshold": 0}, "exit: threshold must be between 0 and 1, both excluded, not 0"),
        ({"threshold": 1.0}, "exit: threshold must be between 0 and 1, both excluded, not 1.0"),
        ({"threshold": "0.9"}, "exit: threshold must be a number, not '0.9'"),
        ({"scale": 0.0}, "exit: scale must be a positive number, not 0.0"),
        ({"scale": float("inf")}, "exit: scale must be a positive number, not inf"),
    ],
)
def test_errors_of_exits(changes: dict[str, Any], text: str) -> None:
    assert network(conv(), dense(), exit=Exit(**EXIT)).exit == Exit(**EXIT)
    with pytest.raises(NetworkError) as error:
        network(conv(), dense(), exit=Exit(**EXIT | changes))
    assert str(error.value) == text


def test_exit_needs_logits() -> None:
    with pytest.raises(
        NetworkError,
        match="exit: the last layer, 'c', must have logits: out_bits 32 and one pixel, "
        "not out_bits 1 and 5x5",
    ):
        network(conv(), exit=Exit(**EXIT))
    with pytest.raises(NetworkError, match="exit: there must be 2 or more logits, not 1"):
        network(conv(), dense("d", (1, 100)), exit=Exit(**EXIT))


def test_sum_pools() -> None:
    pool = SumPool(name="s", input="c", kernel=(15, 17), stride=(17, 17))
    assert pool.output_type(FeatureType((1, 20, 20), 1, signed=False, time_steps=1)).bits == 8
    for side in (1, 16):
        with pytest.raises(
            NetworkError, match=rf"layer 's': kernel must be of 2..255 pixels, not {side}x{side}"
        ):
            SumPool(name="s", input="c", kernel=(side, side))
    with pytest.raises(NetworkError, match=r"layer 's': stride must be 2 numbers 1..15"):
        SumPool(name="s", input="c", kernel=(2, 2), stride=(16, 1))


def test_warnings_name_the_channel() -> None:
    """Four inputs of weight 1, four steps, membranes up to 7: a charge of 11 can be reached."""
    for threshold, text in (
        ([2, 12, 2, 13], "threshold 12 of channel 1 (and of 1 more) can never be reached"),
        ([11, 11, 0, 1], "threshold 0 of channel 2 is always reached"),
    ):
        net = network(conv(neuron=neuron(threshold=np.array(threshold))), dense())
        assert net.warnings == (f"layer 'c': {text}",)
    few = network(conv(neuron=neuron(threshold=np.array([9, 8, 8, 8]))), dense(), time_steps=2)
    assert few.warnings == ("layer 'c': threshold 9 of channel 0 can never be reached",)


@pytest.mark.parametrize("seed", range(40))
def test_reach_is_what_is_reached(seed: int) -> None:
    """All sequences of a step's ends and of some values between, one channel."""
    rng = np.random.default_rng(seed)
    low = int(rng.integers(-20, 5))
    high = low + int(rng.integers(0, 20))
    one = neuron(
        1,
        bits=int(rng.integers(2, 7)),
        threshold=rng.integers(-10, 25, 1),
        reset=str(rng.choice(["hard", "soft"])),
        leak=int(rng.integers(0, 3)),
    )
    n_steps = 3
    found = reach(one, np.array([low]), np.array([high]), n_steps)
    states, fired, missed, rest = {0}, False, False, 0
    for _ in range(n_steps):
        after = set()
        for u in states:
            for x in range(low, high + 1):
                s = u + x >= one.threshold[0]
                fired, missed = fired or s, missed or not s
                r = u + x
                if s:
                    r = 0 if one.reset == "hard" else u + x - int(one.threshold[0])
                rest = max(rest, abs(r))
                v = int(abs(r) / 2**one.leak) * (1 if r > 0 else -1)
                after.add(max(-one.limit, min(one.limit, v)))
        states = after
    assert found.can_fire[0] or not fired
    assert not found.must_fire[0] or not missed
    assert found.rest >= rest
    if one.reset == "hard":
        assert found.can_fire[0] == fired
