"""Every figure is the one of NeuroBench's own harness (tests/vectors/neurobench/make.py)."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firmware_tools import imported
from firmware_tools.neurobench import mars, poppins
from firmware_tools.neurobench.counts import dense_operations, operations
from firmware_tools.neurobench.figures import Figures
from firmware_tools.npu.backends import simulate
from model.mars import network_file
from model.mars.network import Dense
from model.npu import network_file as npu_file

VECTORS = Path(__file__).parents[2] / "vectors"
EXPECTED = json.loads((VECTORS / "neurobench" / "expected.json").read_text())


def of_harness(figures: Figures) -> dict[str, Any]:
    """Our figures as the harness names and rounds them."""
    values = figures.as_json(100)
    operations, neurons = values["synaptic_operations"], values["neuron_operations"]
    sparsity = values["activation_sparsity"] or 0.0  # 0 if there are no activations
    return {
        "ConnectionSparsity": round(values["connection_sparsity"], 4),
        "ActivationSparsity": sparsity * figures.samples / figures.samples,
        "SynapticOperations": {
            "Effective_MACs": operations["effective_macs"],
            "Effective_ACs": operations["effective_acs"],
            "Dense": operations["dense"],
        },
        "MembraneUpdates": values["membrane_updates"],
        "NeuronOperations": {
            "Effective Neuron Ops": neurons["effective"],
            "Neuron Dense Ops": neurons["dense"],
        },
        "ClassificationAccuracy": values["accuracy"],
        "Footprint": values["footprint"]["total"],
    }


def check(figures: Figures, expected: dict[str, Any]) -> None:
    ours = of_harness(figures)
    assert {"ConnectionSparsity", "SynapticOperations"} <= expected.keys()
    expected = dict(expected)
    accuracy = expected.pop("ClassificationAccuracy", None)
    if accuracy is not None:  # the harness has it in single precision
        assert np.float32(ours["ClassificationAccuracy"]) == np.float32(accuracy)
    assert {name: ours[name] for name in expected} == expected


def labels_of(expected: dict[str, Any]) -> np.ndarray | None:
    is_vector = "ClassificationAccuracy" in expected["figures"]
    return np.array(expected["labels"]) if is_vector else None


@pytest.mark.parametrize("name", EXPECTED["mars"])
@pytest.mark.parametrize("values_at_once", [mars.VALUES, 1])
def test_mars(name: str, values_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mars, "VALUES", values_at_once)
    network = network_file.load(VECTORS / "neurobench" / f"{name}.npz")
    inputs = np.load(VECTORS / "neurobench" / f"{name}.npy").astype(np.int64)
    expected = EXPECTED["mars"][name]
    check(mars.measure(network, inputs, labels_of(expected)), expected["figures"])


@pytest.mark.parametrize("name", EXPECTED["models"])
def test_imported_with_zero_points(name: str) -> None:
    model = imported.load(VECTORS / "keras" / f"{name}.tflite", wide=True)
    with np.load(VECTORS / "keras" / f"{name}.npz") as arrays:
        inputs = model.to_network(arrays["x"])
    expected = EXPECTED["models"][name]
    check(mars.measure(model.network, inputs, labels_of(expected)), expected["figures"])


@pytest.mark.parametrize("name", EXPECTED["poppins"])
@pytest.mark.parametrize("chunk_steps", [None, 7])
def test_poppins(name: str, chunk_steps: int | None) -> None:
    network = npu_file.load(VECTORS / "iqif" / f"{name}.json")
    traces = simulate(network, "fast", chunk_steps=chunk_steps)
    check(poppins.measure(network, traces, None), EXPECTED["poppins"][name])


def test_documented_example() -> None:
    """W = [[1.3, 0, -3.2], [0, 1.2, -5.1], [-1.1, 2.7, 0]] and x = [0, 1.3, -1]."""
    signs = np.array([[1, 0, -1], [0, 1, -1], [-1, 1, 0]])
    layer = Dense(
        name="fc",
        input="input",
        weight=signs,
        bias=np.zeros(3, np.int64),
        weight_bits=2,
        out_bits=32,
        out_signed=True,
    )
    active = np.array([0, 1.3, -1]).reshape(1, 3, 1, 1) != 0
    ours = {
        "Effective_MACs": float(operations(layer, active)[0]),
        "Effective_ACs": 0.0,
        "Dense": float(dense_operations(layer, (3, 1, 1))),
    }
    assert ours == EXPECTED["documented"]["SynapticOperations"]
    assert (ours["Effective_MACs"], ours["Dense"]) == (4, 9)


def test_vectors_have_all_that_there_is() -> None:
    """What would pass unseen if no vector had it."""
    networks = [
        network_file.load(VECTORS / "neurobench" / f"{name}.npz") for name in EXPECTED["mars"]
    ]
    neurons = [
        neuron
        for network in networks
        for layer in network.layers
        if (neuron := mars.neuron_of(layer)) is not None
    ]
    names = [
        (network.name, neuron.membrane)
        for network in networks
        for layer in network.layers
        if (neuron := mars.neuron_of(layer)) is not None and neuron.membrane is not None
    ]
    assert len(names) > len(set(names))  # layers share
    assert {neuron.reset for neuron in neurons} == {"hard", "soft"}
    assert any(neuron.groups > 1 for neuron in neurons)
    assert any(neuron.initial is not None for neuron in neurons)
    assert {network.coding for network in networks if network.time_steps} == {"direct", "spikes"}
    assert any(network.exit is not None for network in networks)
    operations = [one["figures"]["SynapticOperations"] for one in EXPECTED["mars"].values()]
    assert any(one["Effective_MACs"] and one["Effective_ACs"] for one in operations)
