"""Spiking networks written as NIR, and read again."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest

from firmware_tools import nir_export, nir_import
from firmware_tools.nir_export import ExportError
from model.mars import reference
from model.mars.network import (
    Conv,
    Dense,
    FeatureType,
    MaxPool,
    NetworkError,
    QuantizedNetwork,
    neuron_of,
)
from model.mars.network_file import dump as save
from model.mars.neuron import Neuron
from model.mars.random_network import random_input
from model.mars.random_spiking import random_spiking_network


def own_membranes(network: QuantizedNetwork) -> QuantizedNetwork:
    """Without groups, shared and initial membranes, which NIR has not."""
    layers = []
    for layer in network.layers:
        neuron = neuron_of(layer)
        if neuron is not None:
            neuron = replace(neuron, groups=1, initial=None, membrane=None)
            layer = replace(layer, neuron=neuron)  # type: ignore[arg-type]  # noqa: PLW2901
        layers.append(layer)
    return replace(network, layers=tuple(layers))


def same_integers(one: Any, other: Any) -> bool:
    """Weights, biases, thresholds; a convolution of a vector is a dense layer afterwards."""
    if type(one) is type(other):
        for name in ("weight", "bias", "skip_mult"):
            if not np.array_equal(getattr(one, name, 0), getattr(other, name, 0)):
                return False
    mine, its = neuron_of(one), neuron_of(other)
    if mine is None or its is None:
        return mine is its
    return (
        (mine.bits, mine.reset, mine.leak) == (its.bits, its.reset, its.leak)
        and its.initial is None
        and np.array_equal(mine.threshold, its.threshold)
    )


def test_round_trip(tmp_path) -> None:
    """Random networks that NIR can express come back with the same integers and spikes."""
    path = tmp_path / "net.nir"
    n_done = n_leaks = n_soft = 0
    for seed in range(100):
        network = random_spiking_network(seed, max_channels=12, max_size=8, max_layers=4)
        try:
            network = own_membranes(network)
            nir_export.dump(network, path, dt=0.002)
        except (ExportError, NetworkError):
            continue
        found = nir_import.load(path).network
        assert found.input_type == network.input_type
        assert (found.time_steps, found.coding) == (network.time_steps, network.coding)
        assert [layer.name for layer in found.layers] == [layer.name for layer in network.layers]
        assert all(map(same_integers, network.layers, found.layers))
        x = random_input(network, seed, 3)
        values = [reference.run(one, x) for one in (network, found)]
        for name in values[0]:
            assert np.array_equal(values[0][name], values[1][name])
        neurons = [neuron for layer in network.layers if (neuron := neuron_of(layer)) is not None]
        n_leaks += any(neuron.leak for neuron in neurons)
        n_soft += any(neuron.reset == "soft" for neuron in neurons)
        n_done += 1
    assert n_done >= 18
    assert min(n_leaks, n_soft) >= 5


def dense(n: int = 5, n_in: int = 8, **fields: Any) -> Dense:
    rng = np.random.default_rng(n)
    neuron = {"bits": 16, "threshold": rng.integers(5, 30, n), "reset": "hard", **fields}
    return Dense(
        name="fc",
        input="input",
        weight=rng.integers(-8, 12, (n, n_in)),
        bias=rng.integers(-3, 4, n),
        weight_bits=8,
        out_bits=1,
        out_signed=False,
        neuron=Neuron(**neuron),  # type: ignore[arg-type]
    )


def network(*layers: Any, shape: tuple[int, int, int] = (8, 1, 1), **fields: Any) -> Any:
    kind = FeatureType(shape, 1, signed=False)
    return QuantizedNetwork(kind, layers, time_steps=6, coding="spikes", **fields)


@pytest.mark.parametrize("reset", ["hard", "soft"])
def test_real_numbers(tmp_path, reset) -> None:
    """What other tools would compute with the file, in float32, are the same spikes."""
    net = network(dense(reset=reset))
    path = tmp_path / "net.nir"
    nir_export.dump(net, path, dt=0.001)
    graph = nir.read(path)
    assert graph.metadata == {"dt": 0.001, "time_steps": 6}
    affine, neurons = graph.nodes["fc"], graph.nodes["fc_neuron"]
    low = 1.0 if reset == "hard" else 0.5
    assert (neurons.v_threshold <= 1).all()
    assert (neurons.v_threshold >= low).all()
    assert neurons.metadata["reset"] in {reset, reset.encode()}
    x = random_input(net, 1, 50)
    v = np.zeros((50, 5), np.float32)
    found = []
    for now in range(6):
        current = x[:, now, :, 0, 0].astype(np.float32) @ affine.weight.T + affine.bias
        v = v + neurons.r * current
        fires = v > neurons.v_threshold
        v = np.where(fires, v - neurons.v_threshold if reset == "soft" else neurons.v_reset, v)
        found.append(fires)
    wanted = reference.run(net, x)["fc"][..., 0, 0]
    assert 0.1 < wanted.mean() < 0.9
    assert np.array_equal(np.stack(found, axis=1), wanted)


def test_other_bits_make_other_scales(tmp_path) -> None:
    """Scales of the metadata are for weights of its bits."""
    net = network(dense())
    path = tmp_path / "net.nir"
    nir_export.dump(net, path, dt=0.001)
    layer = nir_import.load(path, nir_import.Choices(bits=4)).network.layers[0]
    assert isinstance(layer, Dense)
    assert layer.weight_bits == 4
    assert np.abs(layer.weight).max(axis=1).min() > 4
    x = random_input(net, 1, 50)
    wanted = reference.run(net, x)["fc"].sum()
    found = reference.run(nir_import.load(path, nir_import.Choices(bits=4)).network, x)["fc"].sum()
    assert abs(found / wanted - 1) < 0.1


def test_leak(tmp_path) -> None:
    path = tmp_path / "net.nir"
    notes = nir_export.dump(network(dense(leak=2)), path, dt=0.003)
    node = nir.read(path).nodes["fc_neuron"]
    assert isinstance(node, nir.LIF)
    assert node.tau == pytest.approx(np.full(5, 0.004))
    assert node.r == pytest.approx(np.full(5, 4 / 3))
    assert notes == (
        "layer 'fc': membranes are rounded towards 0 after each step, those of NIR are not",
    )


REFUSED = {
    "initial": (dense(initial=np.ones(5, int)), "neuron.initial must be 0: NIR has no initial"),
    "groups": (dense(groups=5), "neuron.groups must be 1, not 5: NIR shares no membranes"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(tmp_path, name) -> None:
    layer, text = REFUSED[name]
    with pytest.raises(ExportError, match=f"layer 'fc': {text}"):
        nir_export.dump(network(layer), tmp_path / "net.nir", dt=0.001)


def test_shared_membranes_are_refused() -> None:
    first = dense(8, membrane="m")
    second = replace(dense(8, membrane="m"), name="again", input="fc")
    with pytest.raises(ExportError, match=r"membrane must be its own, not shared with 'again'"):
        nir_export.check(network(first, second))


def test_pools_and_padding_are_refused() -> None:
    weight = np.ones((2, 1, 2, 2), int)
    neuron = Neuron(bits=8, threshold=np.full(2, 3), reset="hard")
    fields: dict[str, Any] = {
        "weight": weight,
        "bias": np.zeros(2, int),
        "weight_bits": 2,
        "out_bits": 1,
        "out_signed": False,
        "neuron": neuron,
    }
    conv = Conv(name="c", input="input", padding=(1, 1, 0, 0), **fields)
    with pytest.raises(ExportError, match="layer 'c': padding must be the same on both sides"):
        nir_export.check(network(conv, shape=(1, 4, 4)))
    pool = MaxPool(name="p", input="c")
    with pytest.raises(ExportError, match="layer 'p': NIR has no node for maxpool"):
        nir_export.check(network(replace(conv, padding=(0,) * 4), pool, shape=(1, 4, 4)))


def test_saturation_is_said(tmp_path) -> None:
    layer = dense(bits=3)
    notes = nir_export.dump(network(layer), tmp_path / "net.nir", dt=0.001)
    assert notes[0].startswith("layer 'fc': membranes may get beyond +-3 and stay there")


def test_command(kenyon, tmp_path: Path) -> None:
    save(network(dense()), Path("net.npz"))
    result = kenyon("export", "net.npz", "-o", "net.nir", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout) == {
        "network": "network",
        "file": "net.nir",
        "dt": 0.001,
        "notes": [],
    }
    assert kenyon("import", "net.nir", "-o", "again.npz").exit_code == 0
    x = random_input(network(dense()), 1, 4)
    np.save("x.npy", x)
    for name in ("net", "again"):
        result = kenyon("infer", f"{name}.npz", "--input", "x.npy", "--output", f"{name}.npy")
        assert result.exit_code == 0, result.stderr
    assert np.array_equal(np.load("net.npy"), np.load("again.npy"))
    assert tmp_path


def test_command_refuses(kenyon, quantised) -> None:
    result = kenyon("export", quantised(), "-o", "x.nir")
    assert result.exit_code == 2
    assert "network must be a spiking one to be written as NIR" in result.stderr
    result = kenyon("export", "net.npz", "-o", "x.onnx")
    assert result.stderr == "error: x.onnx: NIR file must end in .nir\n"
