"""Faulty networks and inputs of MARS: one line that names file and layer, and nothing is run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest


def layer_of(spec: dict[str, Any], name: str) -> dict[str, Any]:
    return next(part for part in spec["layers"] if part["name"] == name)


def field(name: str, key: str, value: object) -> Callable[..., None]:
    """Another value in a layer."""

    def change(spec, _arrays) -> None:
        layer_of(spec, name)[key] = value

    return change


def item(name: str, index: tuple[int, ...], value: int) -> Callable[..., None]:
    """Another number in an array."""

    def change(_spec, arrays) -> None:
        arrays[name][index] = value

    return change


def reshaped(name: str, *shape: slice) -> Callable[..., None]:
    """Less of an array."""

    def change(_spec, arrays) -> None:
        arrays[name] = arrays[name][shape]

    return change


def cast(name: str, dtype: type) -> Callable[..., None]:
    """Another type of an array."""

    def change(_spec, arrays) -> None:
        arrays[name] = arrays[name].astype(dtype)

    return change


def missing(name: str) -> Callable[..., None]:
    """An array less."""

    def change(_spec, arrays) -> None:
        del arrays[name]

    return change


FAULTS = {
    "weight beyond its bits": (
        item("b.w", (3, 2, 1, 0), 9),
        "layer 'b': weight[3, 2, 1, 0] must be -8..7 (weight_bits 4), not 9",
    ),
    "channels that do not chain": (
        reshaped("b.w", slice(None), slice(16)),
        "layer 'b': weight must be for 17 input channels, those of 'a', not 16",
    ),
    "values that do not chain": (
        reshaped("fc.w", slice(None), slice(100)),
        "layer 'fc': weight must be for 102 inputs, the values of 'pool', not 100",
    ),
    "cycle": (
        field("a", "input", "b"),
        "layer 'a': input must not depend on the layer itself: 'a' -> 'b' -> 'a'",
    ),
    "missing input": (
        field("b", "input", "c"),
        "layer 'b': input must be 'input' or an earlier layer, but there is no layer 'c'",
    ),
    "later input": (
        field("a", "input", "pool"),
        "layer 'a': input must not depend on the layer itself: 'a' -> 'pool' -> 'b' -> 'a'",
    ),
    "residual of another shape": (
        field("b", "skip", "input"),
        "layer 'b': skip 'input' must have the shape of the result, (17, 6, 5), not (3, 6, 5)",
    ),
    "shift 0": (item("a.s", (4,), 0), "layer 'a': shift[4] must be 1..40, not 0"),
    "shift 41": (item("a.s", (16,), 41), "layer 'a': shift[16] must be 1..40, not 41"),
    "float weights": (cast("a.w", float), "layer 'a': weight ('a.w') must be int8, not float64"),
    "missing array": (
        missing("a.b"),
        "layer 'a': bias must be an array of the file, but there is no 'a.b'",
    ),
    "stride": (
        field("a", "stride", 16),
        "layer 'a': stride must be 2 numbers 1..15, or one for all, not 16",
    ),
    "misspelt": (
        field("pool", "op", "maxpool3"),
        'spec: op in layers[2] ("pool") must be one of conv, dense, maxpool, maxpool2, sumpool, '
        'avgpool, lookup, select, matmul, softmax, layernorm, tokens, not "maxpool3"',
    ),
}


@pytest.mark.parametrize("verb", ["infer", "compile", "compare", "bench"])
@pytest.mark.parametrize("fault", FAULTS)
def test_networks(kenyon, quantised, pictures, verb: str, fault: str) -> None:
    change, error = FAULTS[fault]
    net = quantised(change)
    arguments = {
        "infer": (net, "--input", pictures, "--output", "out.npy"),
        "compile": (net, "-o", "out"),
        "compare": (net,),
        "bench": ("mars", "--network", net),
    }[verb]
    result = kenyon(verb, *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == f"error: {net}: {error}\n"
    assert not list(Path.cwd().glob("out*"))


@pytest.mark.parametrize(
    ("values", "error"),
    [
        (
            np.pad([[[[16]]]], ((1, 0), (2, 0), (3, 2), (4, 0))),
            "image 1, channel 2, row 3, column 4 must be 0..15, not 16",
        ),
        (
            np.full((3, 6, 5), -1),
            "image 0, channel 0, row 0, column 0 must be 0..15, not -1",
        ),
        (np.zeros((3, 6, 5)), "activations must be integers, not float64"),
        (np.zeros((1, 6, 5), int), "shape must be (N, 3, 6, 5) or (3, 6, 5), not (1, 6, 5)"),
        (np.zeros((0, 3, 6, 5), int), "shape must be (N, 3, 6, 5) or (3, 6, 5), not (0, 3, 6, 5)"),
    ],
)
@pytest.mark.parametrize("verb", ["infer", "compare"])
def test_inputs(kenyon, quantised, verb: str, values: np.ndarray, error: str) -> None:
    np.save("bad.npy", values)
    result = kenyon(verb, quantised(), "--input", "bad.npy")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == f"error: bad.npy: {error}\n"


def test_damaged_files(kenyon, quantised, pictures) -> None:
    """Cut or flipped anywhere: refused, unless only the archive's own bookkeeping changed."""
    net = quantised()
    good = kenyon("infer", net, "--input", pictures, "--output", "good.npy")
    assert good.exit_code == 0
    right = Path("good.npy").read_bytes()
    data = net.read_bytes()
    damaged = Path("damaged.npz")
    for k in range(0, len(data), len(data) // 60):
        damaged.write_bytes(data[:k])
        cut = kenyon("infer", damaged, "--input", pictures, "--output", "y.npy")
        assert cut.exit_code == 2
        assert cut.stderr.startswith("error: damaged.npz: ")
        flipped = bytearray(data)
        flipped[k] ^= 1 << k % 8
        damaged.write_bytes(flipped)
        result = kenyon("infer", damaged, "--input", pictures, "--output", "y.npy")
        assert result.exit_code in {0, 2}
        if result.exit_code:
            assert result.stderr.startswith("error: damaged.npz: ")
        else:
            assert Path("y.npy").read_bytes() == right


def test_damaged_input(kenyon, quantised, pictures) -> None:
    net = quantised()
    data = pictures.read_bytes()
    for k in range(128):
        Path("cut.npy").write_bytes(data[:k])
        flipped = bytearray(data)
        flipped[k] ^= 1 << k % 8
        Path("flipped.npy").write_bytes(flipped)
        assert kenyon("infer", net, "--input", "cut.npy").exit_code == 2
        assert kenyon("infer", net, "--input", "flipped.npy").exit_code in {0, 2}


def test_network_for_the_other_accelerator(kenyon, quantised) -> None:
    net = quantised()
    result = kenyon("run", net)
    assert result.exit_code == 2
    assert result.stderr == (f"error: {net}: quantised network is for MARS: kenyon infer runs it\n")
