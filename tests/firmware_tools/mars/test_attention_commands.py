"""Networks with attention on the command line."""

import json
from pathlib import Path

import numpy as np
import pytest

from model.mars import network_file
from model.mars.network import FeatureType, MatMul, QuantizedNetwork, Softmax
from model.mars.random_network import random_input
from model.mars.reference import run


@pytest.fixture
def attention(in_empty_folder: Path) -> QuantizedNetwork:
    """Attention of a map to itself, in `net.npz`, and two images in `x.npy`."""
    scale = {"heads": 2, "mult": 1, "out_bits": 8, "out_signed": True}
    layers = (
        MatMul(name="scores", input="input", operand="input", transposed=True, shift=8, **scale),
        Softmax(name="p", input="scores", octaves=3000, shift=8, **scale | {"out_signed": False}),
        MatMul(name="attend", input="p", operand="input", shift=8, **scale),
    )
    network = QuantizedNetwork(FeatureType((12, 5, 2), 8, signed=True), layers)
    network_file.dump(network, in_empty_folder / "net.npz")
    np.save(in_empty_folder / "x.npy", random_input(network, 1, 2))
    return network


def test_golden_machine(kenyon, attention: QuantizedNetwork) -> None:
    result = kenyon(
        "infer", "net.npz", "--input", "x.npy", "--backend", "model", "--output", "y.npy", "--json"
    )
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["clocks"] > 0
    assert np.array_equal(np.load("y.npy"), run(attention, np.load("x.npy"))["attend"])


@pytest.mark.usefixtures("attention")
def test_bench(kenyon) -> None:
    result = kenyon("bench", "mars", "--network", "net.npz", "--json")
    assert result.exit_code == 0, result.stderr
    passes = {tuple(one["layers"]): one for one in json.loads(result.stdout)["passes"]}
    softmax = passes["p (head 2 of 2)",]
    assert softmax["bound"] == 3 * 1 * 10
    assert softmax["steps"] == (10 + 5) * 3
    scores = passes["scores (head 1 of 2)",]
    assert scores["weight_bits"] == 0 < scores["loaded_bits"]
