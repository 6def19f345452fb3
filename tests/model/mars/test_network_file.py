"""Network files of the accelerator: round trips, every error text, cut and flipped files."""

import copy
import io
import json
import re
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.mars.network import (
    AvgPool,
    Conv,
    Dense,
    FeatureType,
    LayerNorm,
    Lookup,
    MaxPool,
    NetworkError,
    QuantizedNetwork,
    Select,
    SumPool,
)
from model.mars.network_file import DTYPES, LAYER_ENTRIES, dump, load, load_input
from model.mars.neuron import Exit, Neuron
from model.mars.random_network import random_network

Array = np.ndarray[Any, Any]
SPEC: dict[str, Any] = {
    "input": {"shape": [3, 4, 5], "bits": 4, "signed": False, "scale": 0.125},
    "layers": [
        {
            "name": "conv1",
            "op": "conv",
            "input": "input",
            "stride": 1,
            "padding": 1,
            "weight_bits": 4,
            "out_bits": 4,
            "out_signed": False,
            "weight": "conv1.w",
            "bias": "conv1.b",
            "mult": "conv1.m",
            "shift": "conv1.s",
            "skip": "input",
            "skip_mult": 4096,
        },
        {"name": "pool", "op": "maxpool2", "input": "conv1"},
        {
            "name": "gap",
            "op": "avgpool",
            "input": "pool",
            "out_bits": 8,
            "out_signed": False,
            "mult": 1024,
            "shift": 14,
            "scale": 2,
        },
        {
            "name": "fc",
            "op": "dense",
            "input": "gap",
            "weight_bits": 5,
            "out_bits": 32,
            "out_signed": True,
            "weight": "fc.w",
            "bias": "fc.b",
        },
    ],
}
ARRAYS: dict[str, Array] = {
    "conv1.w": np.arange(81).reshape(3, 3, 3, 3).astype(np.int8) % 16 - 8,
    "conv1.b": np.array([-100000, 0, 7], np.int32),
    "conv1.m": np.array([0, 1, 65535], np.uint16),
    "conv1.s": np.array([1, 20, 40], np.uint8),
    "fc.w": np.array([[-16, 0, 15], [1, 2, 3]], np.int8),
    "fc.b": np.array([5, -5], np.int32),
}


def write(path: Path, spec: object = SPEC, **arrays: Array) -> Path:
    text = spec if isinstance(spec, str | bytes | np.ndarray) else json.dumps(spec)
    with path.open("wb") as file:
        np.savez(file, allow_pickle=True, spec=text, **arrays)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "net.npz"


def assert_equal(one: QuantizedNetwork, other: QuantizedNetwork) -> None:
    assert (one.input_type, one.name, one.scales) == (other.input_type, other.name, other.scales)
    assert [type(layer) for layer in one.layers] == [type(layer) for layer in other.layers]
    for layer, same in zip(one.layers, other.layers, strict=True):
        for field in fields(layer):
            value, its = getattr(layer, field.name), getattr(same, field.name)
            if isinstance(value, Neuron):
                for part in fields(Neuron):
                    np.testing.assert_array_equal(
                        getattr(value, part.name), getattr(its, part.name)
                    )
            else:
                np.testing.assert_array_equal(value, its)
    assert one.types == other.types


def test_every_field(path: Path) -> None:
    network = load(write(path, **ARRAYS))
    assert network.name == "net"
    assert network.input_type == FeatureType((3, 4, 5), 4, signed=False)
    assert network.scales == {"input": 0.125, "gap": 2}
    assert list(network.types) == ["input", "conv1", "pool", "gap", "fc"]
    first, _, gap, fc = (vars(layer) for layer in network.layers)
    assert first["weight"].tolist() == ARRAYS["conv1.w"].tolist()
    assert first["bias"].tolist() == [-100000, 0, 7]
    assert first["mult"].tolist() == [0, 1, 65535]
    assert first["shift"].tolist() == [1, 20, 40]
    assert [first[name] for name in ("stride", "padding", "weight_bits")] == [(1, 1), (1,) * 4, 4]
    assert [first[name] for name in ("out_bits", "out_signed")] == [4, False]
    assert [first[name] for name in ("input", "skip", "skip_mult")] == ["input", "input", 4096]
    assert [gap[name] for name in ("mult", "shift", "out_bits")] == [1024, 14, 8]
    assert fc["mult"] is None
    assert fc["shift"] is None
    assert fc["weight"].tolist() == [[-16, 0, 15], [1, 2, 3]]


def test_pools_of_older_files(path: Path) -> None:
    (pool,) = (layer for layer in load(write(path, **ARRAYS)).layers if layer.name == "pool")
    assert isinstance(pool, MaxPool)
    assert (pool.input, pool.kernel, pool.steps, pool.padding) == (
        "conv1",
        (2, 2),
        (2, 2),
        (0,) * 4,
    )
    newer = changed("layers.1", {**POOL, "padding": 0})
    assert_equal(load(write(path, **ARRAYS)), load(write(path, newer, **ARRAYS)))


NORM: dict[str, Any] = {
    "name": "n",
    "op": "layernorm",
    "input": "input",
    "out_bits": 8,
    "out_signed": True,
    **{field: f"n.{field[0]}" for field in ("bias", "mult", "shift")},
}
NORM_ARRAYS: dict[str, Array] = {
    "n.b": np.array([-3, 0, 1 << 20], np.int32),
    "n.m": np.array([1, 2, 3], np.uint16),
    "n.s": np.array([10, 11, 12], np.uint8),
}


@pytest.mark.parametrize(("fraction", "more"), [(None, 4), (10, 4), (14, 0)])
def test_normalisation_of_older_files(fraction: int | None, more: int, path: Path) -> None:
    """It had four fractional bits less, and files did not say how many."""
    said = {} if fraction is None else {"fraction": fraction}
    (layer,) = load(write(path, {**SPEC, "layers": [{**NORM, **said}]}, **NORM_ARRAYS)).layers
    assert isinstance(layer, LayerNorm)
    assert layer.bias.tolist() == [-3 << more, 0, 1 << 20 + more]
    assert layer.mult.tolist() == [1, 2, 3]
    assert layer.shift.tolist() == [10 + more, 11 + more, 12 + more]
    network = load(path)
    dump(network, path)
    assert_equal(load(path), network)


def test_a_fraction_that_never_was(path: Path) -> None:
    spec = {**SPEC, "layers": [{**NORM, "fraction": 12}]}
    with pytest.raises(NetworkError, match="layer 'n': fraction must be 10 or 14, not 12"):
        load(write(path, spec, **NORM_ARRAYS))


def test_what_need_not_be_said(path: Path) -> None:
    conv = vars(load(write(path, **ARRAYS)).layers[0])
    usual = {"pad_value": 0, "dilation": (1, 1), "groups": 1, "offset": 0, "low": None}
    usual |= {"high": None, "post_shift": None, "skip_zero": 0}
    assert {name: conv[name] for name in usual} == usual
    gap = vars(load(path).layers[2])
    assert [gap[name] for name in ("bias", "post_shift", "offset")] == [0, 0, 0]


def everything() -> QuantizedNetwork:
    """Each field of each kind is something else than usual."""
    rng = np.random.default_rng(1)
    conv = Conv(
        name="conv",
        input="input",
        weight=rng.integers(-16, 16, (4, 2, 3, 2)),
        bias=np.array([-(1 << 30), 1 << 30, 0, -1]),
        mult=np.array([0, 1, 65536, (1 << 31) - 1]),
        shift=np.array([1, 20, 39, 40]),
        post_shift=np.array([0, 1, 30, 31]),
        offset=-255,
        stride=(1, 2),
        padding=(1, 0, 3, 2),
        pad_value=-5,
        dilation=(2, 1),
        groups=2,
        weight_bits=5,
        out_bits=8,
        out_signed=True,
        low=-100,
        high=99,
        skip="pool",
        skip_mult=(1 << 31) - 1,
        skip_zero=-128,
    )
    dense = Dense(
        name="dense",
        input="both",
        weight=rng.integers(-2, 2, (3, 16)),
        bias=np.arange(3),
        mult=np.array([65535, 7, 8]),
        shift=np.arange(1, 4),
        post_shift=np.zeros(3, int),
        offset=255,
        weight_bits=2,
        out_bits=3,
        out_signed=False,
        low=1,
        high=6,
    )
    table = Lookup(
        name="table", input="conv", table=rng.permutation(256), out_bits=8, out_signed=False
    )
    return QuantizedNetwork(
        FeatureType((4, 4, 5), 4, signed=True),
        (
            MaxPool(name="pool", input="input", kernel=(2, 3), stride=(1, 2), padding=(1, 2, 0, 0)),
            conv,
            table,
            AvgPool(
                name="average",
                input="table",
                bias=-(1 << 31) + 9000,
                mult=(1 << 31) - 1,
                shift=40,
                post_shift=31,
                offset=-3,
                out_bits=2,
                out_signed=True,
            ),
            Select(name="both", inputs=("average", "average"), channels=(7, 0, 0, 3) * 4),
            dense,
        ),
        "everything",
        {"input": 0.5, "both": 3.0, "dense": 1e-9},
    )


def test_round_trip_of_every_field(path: Path) -> None:
    network = everything()
    for layer in network.layers:
        for field in fields(layer):
            value = getattr(layer, field.name)
            is_usual = not np.ndim(value) and value == field.default
            assert is_usual == (field.name == "neuron"), (layer.name, field.name)
    dump(network, path)
    again = load(path)
    assert_equal(again, network)
    with np.load(path) as file:
        assert {name: file[name].dtype.name for name in file if name != "spec"} == {
            "conv.w": "int8",
            "conv.b": "int32",
            "conv.m": "uint32",
            "conv.s": "uint8",
            "conv.p": "uint8",
            "table.t": "int16",
            "dense.w": "int8",
            "dense.b": "int32",
            "dense.m": "uint16",
            "dense.s": "uint8",
            "dense.p": "uint8",
        }
        spec = json.loads(file["spec"].item())
    conv = next(layer for layer in spec["layers"] if layer["name"] == "conv")
    assert [conv[name] for name in ("stride", "padding", "dilation")] == [
        [1, 2],
        [1, 0, 3, 2],
        [2, 1],
    ]
    dump(again, path)
    assert_equal(load(path), network)


def spiking() -> QuantizedNetwork:
    """Each field of a spiking network is something else than usual."""
    rng = np.random.default_rng(1)
    neuron = Neuron(
        bits=5,
        threshold=np.array([-3, 0, 100, 2097151]),
        reset="soft",
        leak=3,
        initial=np.array([-15, 4]),
        membrane="one",
        groups=2,
    )
    conv = Conv(
        name="conv",
        input="input",
        weight=rng.integers(-8, 8, (4, 4, 1, 1)),
        bias=np.arange(4),
        weight_bits=4,
        out_bits=1,
        out_signed=False,
        skip="input",
        skip_mult=77,
        neuron=neuron,
    )
    dense = Dense(
        name="dense",
        input="sum",
        weight=rng.integers(-8, 8, (3, 4)),
        bias=np.arange(3),
        weight_bits=4,
        out_bits=32,
        out_signed=True,
    )
    return QuantizedNetwork(
        FeatureType((4, 5, 5), 1, signed=False),
        (conv, SumPool(name="sum", input="conv", kernel=(3, 4), stride=(4, 3)), dense),
        "spiking",
        {"dense": 0.25},
        time_steps=7,
        coding="spikes",
        exit=Exit(metric="entropy", mode="mean", threshold=0.875, scale=0.25),
    )


def test_round_trip_of_a_spiking_network(path: Path) -> None:
    network = spiking()
    dump(network, path)
    again = load(path)
    assert_equal(again, network)
    assert (again.time_steps, again.coding, again.exit) == (7, "spikes", network.exit)
    assert again.types["sum"] == FeatureType((4, 1, 1), 4, signed=False, time_steps=7)
    with np.load(path) as file:
        assert (file["conv.th"].dtype, file["conv.u"].dtype) == (np.int32, np.int16)


def set_neuron(spec: dict[str, Any], **changes: Any) -> None:
    spec["layers"][0]["neuron"].update(changes)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda s: s.update(time_steps=0), "time_steps must be 1..64, not 0"),
        (
            lambda s: s.pop("time_steps"),
            "time_steps of a network with a neuron (layer 'conv') must be 1..64, not 0",
        ),
        (lambda s: s.update(time_steps=2.5), "spec: time_steps must be an integer, not 2.5"),
        (
            lambda s: s["input"].update(coding="rate"),
            "spec: input.coding must be 'direct' or 'spikes', not \"rate\"",
        ),
        (
            lambda s: set_neuron(s, reset="none"),
            "spec: layers[0] (\"conv\").neuron.reset must be 'hard' or 'soft', not \"none\"",
        ),
        (
            lambda s: set_neuron(s, tau=2),
            "spec: unknown field 'tau' in layers[0] (\"conv\").neuron; fields are bits, "
            "threshold, reset, leak, initial, membrane, groups",
        ),
        (
            lambda s: s["layers"][0]["neuron"].pop("bits"),
            "spec: missing field 'bits' in layers[0] (\"conv\").neuron; fields are bits, "
            "threshold, reset, leak, initial, membrane, groups",
        ),
        (
            lambda s: set_neuron(s, initial=1),
            "layer 'conv': neuron.initial must be 0 or the name of an array, not 1",
        ),
        (
            lambda s: set_neuron(s, threshold="no"),
            "layer 'conv': threshold must be an array of the file, but there is no 'no'",
        ),
        (
            lambda s: s["exit"].pop("scale"),
            "spec: missing field 'scale' in exit; fields are metric, mode, threshold, scale",
        ),
        (
            lambda s: s["exit"].update(threshold=1),
            "exit: threshold must be between 0 and 1, both excluded, not 1.0",
        ),
        (
            lambda s: s["exit"].update(metric="margin"),
            "spec: exit.metric must be 'confidence' or 'entropy', not \"margin\"",
        ),
    ],
)
def test_errors_of_spiking_networks(
    path: Path, change: Callable[[dict[str, Any]], Any], text: str
) -> None:
    dump(spiking(), path)
    with np.load(path) as file:
        arrays = {name: file[name] for name in file}
    spec = json.loads(arrays.pop("spec").item())
    change(spec)
    with pytest.raises(NetworkError) as error:
        load(write(path, spec, **arrays))
    assert str(error.value) == f"{path}: {text}"


def test_text_may_be_bytes_and_have_a_name(path: Path) -> None:
    text = json.dumps({"name": "größer", **SPEC}, ensure_ascii=False).encode()
    assert load(write(path, text, **ARRAYS)).name == "größer"


def test_arrays_may_be_of_another_byte_order(path: Path) -> None:
    arrays = {**ARRAYS, "conv1.b": ARRAYS["conv1.b"].astype(">i4")}
    assert_equal(load(write(path, **arrays)), load(write(path, **ARRAYS)))


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("seed", range(40))
def test_round_trip(seed: int, wide: bool, path: Path) -> None:
    network = random_network(seed, wide=wide)
    dump(network, path)
    assert_equal(load(path), network)


def test_round_trip_of_scales_and_text(path: Path) -> None:
    network = load(write(path, **ARRAYS))
    again = path.with_name("again")
    dump(network, again)
    assert_equal(load(again), network)
    with np.load(again) as file:
        assert set(file) == {"spec", *ARRAYS}
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(file[name], array, strict=True)
        spec = json.loads(file["spec"].item())
    pool = {
        "name": "pool",
        "op": "maxpool",
        "input": "conv1",
        "kernel": 2,
        "stride": 2,
        "padding": 0,
    }
    layers = [pool if layer["name"] == "pool" else layer for layer in SPEC["layers"]]
    assert spec == {"name": "net", **SPEC, "layers": layers}


def changed(place: str, value: object) -> dict[str, Any]:
    """The text with another value at a place like `layers.0.stride`; None takes the field out."""
    spec = copy.deepcopy(SPEC)
    *way, last = place.split(".")
    part: Any = spec
    for step in way:
        part = part[int(step) if step.isdigit() else step]
    if value is None:
        del part[last]
    else:
        part[int(last) if last.isdigit() else last] = value
    return spec


def without(field: str) -> dict[str, Any]:
    return changed(field, None)


CONV_FIELDS = (
    "fields are name, input, scale, weight_bits, out_bits, out_signed, low, high, offset, weight, "
    "bias, mult, shift, post_shift, neuron, op, stride, padding, pad_value, dilation, groups, "
    "skip, skip_mult, skip_zero"
)
NETWORK_FIELDS = "name, time_steps, exit, input, layers"
POOL = {"name": "pool", "op": "maxpool", "input": "conv1", "kernel": 2, "stride": 2}
SELECT = {"name": "pool", "op": "select", "inputs": ["conv1"], "channels": [0]}
OPS = (
    "conv, dense, maxpool, maxpool2, sumpool, avgpool, lookup, select, matmul, softmax, "
    "layernorm, tokens"
)
SPEC_ERRORS: list[tuple[object, str]] = [
    ("{", "spec: line 1 column 2 must be JSON: expecting property name enclosed in double quotes"),
    (b"\xff", "entry 'spec' must be UTF-8, but byte 0 is not"),
    (np.arange(3), "entry 'spec' must be a text, not an array (3,) of int64"),
    ("[" * 100000, "spec: must be JSON of a few levels, but is nested too deeply"),
    ("1" * 5000, "spec: integers must be short, but one has thousands of digits"),
    ('{"a": 1, "a": 2}', "spec: field 'a' must be given once, not twice in one object (1 and 2)"),
    ([], "spec: the network must be an object, not a list of 0"),
    ({}, "spec: missing field 'input' in the network; fields are " + NETWORK_FIELDS),
    ({**SPEC, "x": 1}, "spec: unknown field 'x' in the network; fields are " + NETWORK_FIELDS),
    (changed("layers", []), "spec: layers must be a list of at least one, not a list of 0"),
    (changed("layers", {}), "spec: layers must be a list, not an object"),
    (changed("layers.1", 5), "spec: layers[1] must be an object, not 5"),
    (changed("input", 5), "spec: input must be an object, not 5"),
    (
        changed("input.shape", [1, 2]),
        "spec: input.shape must be three numbers, [C, H, W], not a list of 2",
    ),
    (
        changed("input.shape", [1] * 4),
        "spec: input.shape must be three numbers, [C, H, W], not a list of 4",
    ),
    (changed("input.shape.1", 2.5), "spec: input.shape[1] must be an integer, not 2.5"),
    (changed("input.bits", "4"), 'spec: input.bits must be an integer, not "4"'),
    (changed("input.bits", True), "spec: input.bits must be an integer, not true"),
    (changed("input.signed", 0), "spec: input.signed must be true or false, not 0"),
    (changed("input.scale", 0), "spec: input.scale must be a positive number, not 0"),
    (changed("input.scale", "1"), 'spec: input.scale must be a number, not "1"'),
    (
        changed("input.scale", float("inf")),
        "spec: input.scale must be a positive number, not Infinity",
    ),
    (
        without("input.bits"),
        "spec: missing field 'bits' in input; fields are shape, bits, signed, coding, scale",
    ),
    (
        changed("input.bit", 4),
        "spec: unknown field 'bit' in input; fields are shape, bits, signed, coding, scale",
    ),
    (
        without("layers.1.op"),
        f"spec: missing field 'op' in layers[1] (\"pool\"), one of {OPS}",
    ),
    (
        changed("layers.1.op", "pool"),
        f'spec: op in layers[1] ("pool") must be one of {OPS}, not "pool"',
    ),
    (
        without("layers.1.name"),
        "spec: missing field 'name' in layers[1]; fields are name, input, scale, op",
    ),
    (
        changed("layers.0.strid", 1),
        f"spec: unknown field 'strid' in layers[0] (\"conv1\"); {CONV_FIELDS}",
    ),
    (
        without("layers.0.stride"),
        f"spec: missing field 'stride' in layers[0] (\"conv1\"); {CONV_FIELDS}",
    ),
    (
        changed("layers.0.stride", 1.0),
        'spec: layers[0] ("conv1").stride must be an integer, not 1.0',
    ),
    (
        changed("layers.0.weight", [1]),
        'spec: layers[0] ("conv1").weight must be a string, not a list of 1',
    ),
    (
        changed("layers.0.name", "\ud800"),
        'spec: layers[0] ("\\ud800").name must be a string of valid Unicode, not "\\ud800"',
    ),
    (changed("layers.0.name", 3), "spec: layers[0].name must be a string, not 3"),
    (changed("layers.2.mult", "m"), 'spec: layers[2] ("gap").mult must be an integer, not "m"'),
    (
        changed("layers.3.skip", "gap"),
        "spec: unknown field 'skip' in layers[3] (\"fc\"); fields are "
        "name, input, scale, weight_bits, out_bits, out_signed, low, high, offset, weight, bias, "
        "mult, shift, post_shift, neuron, op",
    ),
    # what `Network` refuses
    (changed("input.bits", 9), "input: bits must be 1..8 or 32, not 9"),
    (
        changed("input.shape.0", 0),
        "input: shape must be three positive numbers, (C, H, W), not (0, 4, 5)",
    ),
    (
        changed("layers.0.stride", 16),
        "layer 'conv1': stride must be 2 numbers 1..15, or one for all, not 16",
    ),
    (
        changed("layers.0.padding", [1, 1]),
        'spec: layers[0] ("conv1").padding must be an integer or a list of 4, not a list of 2',
    ),
    (
        changed("layers.0.stride", [1, 1, 1]),
        'spec: layers[0] ("conv1").stride must be an integer or a list of 2, not a list of 3',
    ),
    (
        changed("layers.0.dilation", []),
        'spec: layers[0] ("conv1").dilation must be an integer or a list of 2, not a list of 0',
    ),
    (
        changed("layers.0.stride", [1, 1.5]),
        'spec: layers[0] ("conv1").stride[1] must be an integer, not 1.5',
    ),
    (
        changed("layers.0.padding", [0, 0, True, 0]),
        'spec: layers[0] ("conv1").padding[2] must be an integer, not true',
    ),
    (
        changed("layers.0.groups", [1]),
        'spec: layers[0] ("conv1").groups must be an integer, not a list of 1',
    ),
    (
        changed("layers.0.int", [1]),
        f"spec: unknown field 'int' in layers[0] (\"conv1\"); {CONV_FIELDS}",
    ),
    (
        changed("layers.0.padding", [0, 0, 0, 16]),
        "layer 'conv1': padding must be 4 numbers 0..15, or one for all, not [0, 0, 0, 16]",
    ),
    (
        changed("layers.0.groups", 2),
        "layer 'conv1': groups must divide the 3 output channels, not be 2",
    ),
    (changed("layers.0.pad_value", 16), "layer 'conv1': pad_value must be 0..15, not 16"),
    (changed("layers.0.low", 16), "layer 'conv1': low must be 0..15, not 16"),
    (changed("layers.0.skip_zero", 256), "layer 'conv1': skip_zero must be -255..255, not 256"),
    (
        changed("layers.2.bias", 1 << 31),
        "layer 'gap': bias must be -2147483648..2147483647, not 2147483648",
    ),
    (changed("layers.2.post_shift", 32), "layer 'gap': post_shift must be 0..31, not 32"),
    (changed("layers.3.offset", 1), "layer 'fc': offset must be 0 with out_bits 32, not 1"),
    (
        changed("layers.1", {**POOL, "stride": 0}),
        "layer 'pool': stride must be 2 numbers 1..15, or one for all, not 0",
    ),
    (
        changed("layers.1", {**POOL, "padding": [0, 1, 2, 1]}),
        "layer 'pool': padding must be less than the kernel, (2, 2), not (0, 1, 2, 1)",
    ),
    (
        changed("layers.1", {name: POOL[name] for name in POOL if name != "stride"}),
        "spec: missing field 'stride' in layers[1] (\"pool\"); fields are name, input, scale, op, "
        "kernel, stride, padding",
    ),
    (
        changed("layers.1.kernel", 2),
        "spec: unknown field 'kernel' in layers[1] (\"pool\"); fields are name, input, scale, op",
    ),
    (
        changed(
            "layers.1",
            {
                "name": "pool",
                "op": "lookup",
                "input": "conv1",
                "out_bits": 4,
                "out_signed": False,
                "table": "fc.b",
            },
        ),
        "layer 'pool': table ('fc.b') must be int16, not int32",
    ),
    (
        changed(
            "layers.1",
            {
                "name": "pool",
                "op": "lookup",
                "input": "conv1",
                "out_bits": 4,
                "out_signed": False,
                "table": "t",
            },
        ),
        "layer 'pool': table must be an array of the file, but there is no 't'",
    ),
    (
        changed("layers.1", {**SELECT, "channels": [0, 3]}),
        "layer 'pool': channels must be 0..2, not 3",
    ),
    (
        changed("layers.1", {**SELECT, "channels": []}),
        'spec: layers[1] ("pool").channels must be a list of at least one, not a list of 0',
    ),
    (
        changed("layers.1", {**SELECT, "channels": [0, 1.0]}),
        'spec: layers[1] ("pool").channels[1] must be an integer, not 1.0',
    ),
    (
        changed("layers.1", {**SELECT, "inputs": "conv1"}),
        'spec: layers[1] ("pool").inputs must be a list, not "conv1"',
    ),
    (
        changed("layers.1", {**SELECT, "inputs": ["conv1", "gap"]}),
        "layer 'pool': inputs[1] must not depend on the layer itself: 'pool' -> 'gap' -> 'pool'",
    ),
    (
        changed("layers.1", {**SELECT, "input": "conv1"}),
        "spec: unknown field 'input' in layers[1] (\"pool\"); fields are op, name, inputs, "
        "channels, scale",
    ),
    (changed("layers.2.shift", 0), "layer 'gap': shift must be 1..40, not 0"),
    (
        changed("layers.1.input", "nowhere"),
        "layer 'pool': input must be 'input' or an earlier layer, but there is no layer 'nowhere'",
    ),
    (
        changed("layers.0.skip", "pool"),
        "layer 'conv1': skip must not depend on the layer itself: 'conv1' -> 'pool' -> 'conv1'",
    ),
    (
        changed("layers.3.weight_bits", 4),
        "layer 'fc': weight[0, 0] must be -8..7 (weight_bits 4), not -16",
    ),
    (without("layers.0.skip_mult"), "layer 'conv1': skip_mult must be given with a skip"),
    (without("layers.0.skip"), "layer 'conv1': skip must be given with a skip_mult"),
    # arrays
    (
        changed("layers.0.bias", "nothing"),
        "layer 'conv1': bias must be an array of the file, but there is no 'nothing'",
    ),
    (
        changed("layers.0.bias", "spec"),
        "layer 'conv1': bias must be an array of the file, but there is no 'spec'",
    ),
    (without("layers.0.mult"), "layer 'conv1': mult must be given with out_bits 4"),
    (
        changed("layers.3.shift", "conv1.s"),
        "layer 'fc': shift must be absent with out_bits 32 (accumulators are not requantised)",
    ),
    (
        changed("layers.3", {**SPEC["layers"][1], "name": "p2", "input": "pool"}),
        "array 'fc.w' must belong to a layer, but none names it",
    ),
]


@pytest.mark.parametrize(("spec", "text"), SPEC_ERRORS, ids=[text for _, text in SPEC_ERRORS])
def test_wrong_text(spec: object, text: str, path: Path) -> None:
    with pytest.raises(NetworkError) as caught:
        load(write(path, spec, **ARRAYS))
    assert str(caught.value) == f"{path}: {text}"


ARRAY_ERRORS: list[tuple[dict[str, Array], str]] = [
    (
        {"conv1.w": np.zeros((3, 3, 3, 3))},
        "layer 'conv1': weight ('conv1.w') must be int8, not float64",
    ),
    (
        {"conv1.w": np.zeros((3, 3, 3, 3), np.int16)},
        "layer 'conv1': weight ('conv1.w') must be int8, not int16",
    ),
    (
        {"conv1.b": np.zeros(3, np.int64)},
        "layer 'conv1': bias ('conv1.b') must be int32, not int64",
    ),
    (
        {"conv1.m": np.zeros(3, np.int16)},
        "layer 'conv1': mult ('conv1.m') must be uint16 or uint32, not int16",
    ),
    ({"conv1.s": np.ones(3, np.int8)}, "layer 'conv1': shift ('conv1.s') must be uint8, not int8"),
    ({"conv1.s": np.array([1, 0, 1], np.uint8)}, "layer 'conv1': shift[1] must be 1..40, not 0"),
    (
        {"conv1.b": np.zeros((3, 1), np.int32)},
        "layer 'conv1': bias must have the shape (3,), one per output channel, not (3, 1)",
    ),
    (
        {"conv1.w": np.zeros((3, 3, 3), np.int8)},
        "layer 'conv1': weight must have the shape (Cout, Cin, Kh, Kw), not (3, 3, 3)",
    ),
    (
        {"fc.w": np.zeros((2, 4), np.int8)},
        "layer 'fc': weight must be for 3 inputs, the values of 'gap', not 4",
    ),
    ({"more": np.zeros(3)}, "array 'more' must belong to a layer, but none names it"),
]


@pytest.mark.parametrize(("arrays", "text"), ARRAY_ERRORS, ids=[text for _, text in ARRAY_ERRORS])
def test_wrong_arrays(arrays: dict[str, Array], text: str, path: Path) -> None:
    with pytest.raises(NetworkError) as caught:
        load(write(path, **ARRAYS | arrays))
    assert str(caught.value) == f"{path}: {text}"


def test_missing_array_and_text(path: Path) -> None:
    some = {name: array for name, array in ARRAYS.items() if name != "fc.b"}
    text = "layer 'fc': bias must be an array of the file, but there is no 'fc.b'"
    with pytest.raises(NetworkError, match=re.escape(text)):
        load(write(path, **some))
    np.savez(path, **ARRAYS)  # type: ignore[arg-type]
    with pytest.raises(NetworkError, match="entry 'spec', the JSON text of the network, is miss"):
        load(path)


def test_pickles_are_not_opened(path: Path) -> None:
    objects = np.array([{"a": 1}], object)
    with pytest.raises(NetworkError, match=r"array 'conv1.w' must be in numpy's .npy format"):
        load(write(path, **ARRAYS | {"conv1.w": objects}))


def documented(title: str) -> list[list[str]]:
    """Rows of the table of docs/quantised-network.md whose first column has a title."""
    text = (Path(__file__).parents[3] / "docs" / "quantised-network.md").read_text()
    table = text.split(f"\n| {title} |", 1)[1].split("\n\n", 1)[0]
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in table.splitlines()[2:]]


def test_every_field_is_documented() -> None:
    every = set(LAYER_ENTRIES)
    groups = {"layer": every, "layers": every, "all but select": every - {"select"}}
    found: set[tuple[str, str]] = set()
    for names, of, _ in documented("field"):
        ops = set().union(*(groups.get(part, {part}) for part in re.split(", ", of))) & every
        found |= {(op, name) for op in ops for name in re.findall(r"`(\w+)`", names)}
    fields_of = {(op, name) for op, entry in LAYER_ENTRIES.items() for name in entry.model_fields}
    assert found == fields_of
    dtypes = {
        re.findall(r"`(\w+)`", array)[0]: tuple(re.findall(r"u?int\d+", dtype))
        for array, dtype, _, _ in documented("array")
    }
    assert dtypes == {name: tuple(t.__name__ for t in types) for name, types in DTYPES.items()}


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_twice(path: Path) -> None:
    write(path, **ARRAYS)
    content = io.BytesIO()
    np.save(content, ARRAYS["fc.b"])
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("fc.b.npy", content.getvalue())
    with pytest.raises(NetworkError, match=r"array 'fc.b' must be there once, not twice"):
        load(path)


def test_nested_archive(path: Path) -> None:
    content = write(path, **ARRAYS).read_bytes()
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("more", content)
    with pytest.raises(NetworkError, match="array 'more' must belong to a layer, but none names"):
        load(path)
    write(path, changed("layers.0.bias", "more"), **ARRAYS)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("more", content)
    with pytest.raises(NetworkError, match=r"array 'more' must be in numpy's .npy format, one"):
        load(path)


MiB = 1 << 20


def write_zeros(archive: zipfile.ZipFile, name: str, n_bytes: int, dtype: str = "|i1") -> None:
    """An array of zeros, which takes a thousandth of its size in the file."""
    header = {"descr": dtype, "fortran_order": False, "shape": (n_bytes,)}
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array_header_1_0(member, header)
        for _ in range(n_bytes // MiB):
            member.write(bytes(MiB))


def refusal(path: Path) -> str:
    """The text of the error, which must come before memory is taken."""
    tracemalloc.start()
    try:
        with pytest.raises(NetworkError) as caught:
            load(path)
        assert tracemalloc.get_traced_memory()[1] < 4 * MiB
    finally:
        tracemalloc.stop()
    return str(caught.value)


@pytest.mark.parametrize("name", ["fc.w", "more"])
def test_arrays_that_are_too_large_are_not_read(name: str, path: Path) -> None:
    write(path, **{key: array for key, array in ARRAYS.items() if key != name})
    sizes = {"spec", *ARRAYS} - {name}
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        others = sum(archive.getinfo(f"{key}.npy").file_size for key in sizes)
        write_zeros(archive, name, 257 * MiB)
    total = others + 128 + 257 * MiB
    assert refusal(path) == f"{path}: arrays must be at most 268,435,456 bytes, not {total:,}"


def test_long_text_is_not_read(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        write_zeros(archive, "spec", 17 * MiB)
    assert refusal(path) == (
        f"{path}: array 'spec' must be at most 16,777,216 bytes, not {17 * MiB + 128:,}"
    )


@pytest.mark.parametrize(
    ("spec", "name", "dtype", "text"),
    [
        (SPEC, "more", "|i1", "array 'more' must belong to a layer, but none names it"),
        (
            changed("layers.3.bias", "nothing"),
            "fc.w",
            "|i1",
            "layer 'fc': bias must be an array of the file, but there is no 'nothing'",
        ),
        (SPEC, "fc.w", "|u1", "layer 'fc': weight ('fc.w') must be int8, not uint8"),
    ],
)
def test_other_mistakes_are_told_before_large_arrays_are_read(
    spec: dict[str, Any], name: str, dtype: str, text: str, path: Path
) -> None:
    write(path, spec, **{key: array for key, array in ARRAYS.items() if key != name})
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        write_zeros(archive, name, 64 * MiB, dtype)
    assert refusal(path) == f"{path}: {text}"


def test_an_array_counts_once_for_every_layer_that_names_it(path: Path) -> None:
    layers = [{**SPEC["layers"][3], "name": f"fc{k}"} for k in range(9)]
    rest = {key: array for key, array in ARRAYS.items() if key != "fc.w"}
    write(path, changed("layers", [*SPEC["layers"][:3], *layers]), **rest)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        write_zeros(archive, "fc.w", 32 * MiB)
    assert re.fullmatch(
        r".*: arrays must be at most 268,435,456 bytes, not 301,99\d,\d{3}", refusal(path)
    )


def test_a_size_that_does_not_agree_is_refused(path: Path) -> None:
    rest = {key: array for key, array in ARRAYS.items() if key != "fc.b"}
    write(path, **rest)
    content = io.BytesIO()
    np.save(content, ARRAYS["fc.b"])
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("fc.b.npy", content.getvalue() + b"more")
    text = "array 'fc.b' must be 8 bytes behind its header, (2,) of int32, not 12"
    with pytest.raises(NetworkError, match=re.escape(text)):
        load(path)


Reader = Callable[[Path], object]


def read_input(path: Path) -> object:
    return load_input(path, random_network(0))


@pytest.mark.parametrize("read", [load, read_input])
def test_files_that_cannot_be_read(read: Reader, tmp_path: Path) -> None:
    missing = tmp_path / "x"
    for place, text in ((missing, "no such file"), (tmp_path, "must be a file, not a folder")):
        with pytest.raises(NetworkError) as caught:
            read(place)
        assert str(caught.value) == f"{place}: {text}"


@pytest.mark.parametrize("content", [b"", b"PK", b"{}", b"\x93NUMPY" * 9])
@pytest.mark.parametrize("read", [load, read_input])
def test_other_files(read: Reader, content: bytes, path: Path) -> None:
    path.write_bytes(content)
    with pytest.raises(NetworkError, match=re.escape(f"{path}: must be ")):
        read(path)


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("file") / "net.npz"
    dump(load(write(path, **ARRAYS)), path)
    return path.read_bytes()


ONE_FILE = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@ONE_FILE
@given(data=st.data())
def test_cut(data: st.DataObject, content: bytes, path: Path) -> None:
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(NetworkError, match=re.escape(str(path))):
        load(path)


@ONE_FILE
@given(data=st.data())
def test_flipped(data: st.DataObject, content: bytes, path: Path) -> None:
    """Refused, or in a byte that means nothing, such as the time of writing."""
    damaged = bytearray(content)
    place = data.draw(st.integers(0, len(content) - 1))
    damaged[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    expected = load(path)
    path.write_bytes(damaged)
    try:
        network = load(path)
    except NetworkError as error:
        assert str(error).startswith(f"{path}: ")  # noqa: PT017 - most flips, but not all, raise
    else:
        assert_equal(network, expected)


def test_input(path: Path) -> None:
    network = load(write(path, **ARRAYS))
    images = np.arange(120, dtype=np.uint8).reshape(2, 3, 4, 5) % 16
    place = path.with_suffix(".npy")
    np.save(place, images)
    np.testing.assert_array_equal(load_input(place, network), images.astype(np.int64), strict=True)
    np.save(place, images[0])
    np.testing.assert_array_equal(load_input(place, network), images[:1])


INPUT_ERRORS: list[tuple[Array, str]] = [
    (np.zeros((3, 4, 5)), "activations must be integers, not float64"),
    (np.zeros((3, 5, 4), int), "shape must be (N, 3, 4, 5) or (3, 4, 5), not (3, 5, 4)"),
    (np.full((3, 4, 5), 16), "image 0, channel 0, row 0, column 0 must be 0..15, not 16"),
    (
        np.where(np.arange(120) == 119, -1, 0).reshape(2, 3, 4, 5),
        "image 1, channel 2, row 3, column 4 must be 0..15, not -1",
    ),
]


@pytest.mark.parametrize(("array", "text"), INPUT_ERRORS, ids=[text for _, text in INPUT_ERRORS])
def test_wrong_input(array: Array, text: str, path: Path) -> None:
    network = load(write(path, **ARRAYS))
    place = path.with_suffix(".npy")
    np.save(place, array)
    with pytest.raises(NetworkError) as caught:
        load_input(place, network)
    assert str(caught.value) == f"{place}: {text}"


def test_input_is_one_array(path: Path) -> None:
    network = load(write(path, **ARRAYS))
    with pytest.raises(
        NetworkError, match=r"must be in numpy's .npy format, one array, not an arc"
    ):
        load_input(path, network)
