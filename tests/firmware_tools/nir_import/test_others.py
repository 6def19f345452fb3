"""Files of other tools: the N-MNIST network of sinabs, and norse's neuron with its trace."""

import json

import nir
import numpy as np
import pytest

from firmware_tools.mars.inference import on_model
from firmware_tools.nir_import import Choices, NirError, load
from model.mars import reference
from model.mars.config import CONFIGS
from model.mars.mapper import compile_network
from model.mars.network import Conv, Dense, Ints, SumPool
from model.mars.network_file import load as load_network


def random_events(steps: int) -> Ints:
    """100 random event frames, each with a density of its own."""
    rng = np.random.default_rng(0)
    density = rng.uniform(0.02, 0.3, (100, 1, 1, 1, 1))
    return (rng.random((100, steps, 2, 34, 34)) < density).astype(np.int64)


@pytest.mark.parametrize("steps", [16, pytest.param(32, marks=pytest.mark.full)])
@pytest.mark.parametrize("reset", ["hard", "soft"])
def test_sinabs_counts(sinabs, simulate, reset, steps) -> None:
    """Within 2 % on these frames; of other seeds, in docs/nir.md, hard resets are not always."""
    events = random_events(steps)
    imported = load(sinabs, Choices(time_steps=steps, reset=reset))
    wanted = simulate(nir.read(sinabs), events, reset=reset)
    values = reference.run(imported.network, imported.to_network(events))
    found = imported.from_network(values["11"])
    assert found.shape == wanted["12"].shape == (100, steps, 10)
    assert wanted["12"].sum() > 500
    assert abs(found.sum() / wanted["12"].sum() - 1) < 0.02
    # Spikes of all layers: "0" of ours are those of node "1".
    for layer, node in (("0", "1"), ("2", "3"), ("5", "6"), ("9", "10")):
        assert abs(values[layer].sum() / wanted[node].sum() - 1) < 0.02
        assert (values[layer].reshape(wanted[node].shape) == wanted[node]).mean() > 0.9


def test_sinabs_layers(sinabs) -> None:
    network = load(sinabs, Choices(time_steps=8)).network
    layers = {layer.name: type(layer) for layer in network.layers}
    assert layers == {
        "0": Conv,
        "2": Conv,
        "4": SumPool,
        "5": Conv,
        "7": SumPool,
        "9": Dense,
        "11": Dense,
    }
    assert (network.coding, network.time_steps) == ("spikes", 8)
    assert network.input_type.shape == (2, 34, 34)
    assert network.types["11"].shape == (10, 1, 1)
    for layer in network.layers:
        if not isinstance(layer, SumPool):
            assert layer.neuron is not None
            assert layer.weight_bits == 8
            assert 64 < np.abs(layer.weight).max() <= 128
            assert (layer.neuron.leak, layer.neuron.reset) == (0, "hard")


def test_sinabs_on_the_golden_machine(sinabs) -> None:
    imported = load(sinabs, Choices(time_steps=8, reset="soft"))
    events = random_events(8)[:3]
    image = compile_network(imported.network, CONFIGS["mars"])
    wanted = reference.run(imported.network, events)
    assert wanted["11"].sum() > 5
    for k, found in enumerate(on_model(image, events)):
        assert list(found.outputs) == ["0", "2", "5", "9", "11"]
        for name, maps in found.outputs.items():
            assert np.array_equal(maps, wanted[name][k])


@pytest.mark.full
def test_sinabs_on_rtl(kenyon, sinabs) -> None:
    """Reference, golden machine and RTL on 3 inputs of 8 steps."""
    assert kenyon("import", sinabs, "-o", "net.npz", "--time-steps", "8").exit_code == 0
    np.save("x.npy", random_events(8)[:3])
    result = kenyon("compare", "net.npz", "--input", "x.npy", "-c", "mars", "--json")
    assert result.exit_code == 0, result.stderr
    values = json.loads(result.stdout)
    assert values["equal"]
    assert values["images"] == 3


def test_norse_trace_is_the_euler_form(norse, simulate) -> None:
    """Steps of the trace are of 0.1 ms; it is float32."""
    inputs, membrane, spikes = np.loadtxt(norse.with_suffix(".csv"), delimiter=",").T
    found = simulate(nir.read(norse), inputs[np.newaxis, :, np.newaxis], dt=1e-4)
    assert np.array_equal(found["1"][0, :, 0], spikes)
    assert np.flatnonzero(spikes).tolist() == [460, 510, 710, 760]
    assert membrane.max() < 0.1


def test_norse_refuses_steps_of_its_trace(norse) -> None:
    with pytest.raises(NirError, match=r"node '1' \(LIF\): dt must be given.*a half is dt 0.00125"):
        load(norse, Choices(time_steps=8))
    with pytest.raises(
        NirError,
        match=r"node '1' \(LIF\): a step must leave 1/2, 1/4.* not 1 - dt/tau = 0.96 .*"
        r"dt 0.00125 or tau 0.0002 \(0.5\)",
    ):
        load(norse, Choices(time_steps=8, dt=1e-4))


def test_norse_with_the_nearest_leak(norse) -> None:
    imported = load(norse, Choices(time_steps=64, dt=1e-4, nearest_leak=True))
    assert imported.report[0].startswith(
        "node '1' (LIF): a step leaves 1 of a membrane instead of 0.96, +0.04"
    )
    # 0.04 of each spike, never lost: the third is above 0.1.
    x = np.ones((64, 1), np.int64)
    spikes = reference.run(imported.network, imported.to_network(x))["0"].ravel()
    assert np.flatnonzero(spikes).tolist() == list(range(2, 64, 3))


@pytest.mark.parametrize("leak", [1, 2, 3])
def test_norse_spike_times(norse, simulate, leak) -> None:
    """All inputs of 10 steps, at the dt of each leak, are those of the Euler form."""
    dt = 0.0025 * (1 - 2.0**-leak)
    n = np.arange(1024)
    x = (n[:, np.newaxis] >> np.arange(10) & 1)[..., np.newaxis]
    imported = load(norse, Choices(time_steps=10, dt=dt))
    found = imported.from_network(reference.run(imported.network, imported.to_network(x))["0"])
    assert np.array_equal(found, simulate(nir.read(norse), x, dt=dt)["1"])


def test_command(kenyon, norse) -> None:
    result = kenyon("import", norse, "--time-steps", "4", "--dt", "0.00125", "--json")
    assert result.exit_code == 0, result.stderr
    values = json.loads(result.stdout)
    assert [layer["name"] for layer in values["layers"]] == ["0"]
    network = load_network("lif_norse.npz")
    neuron = network.layers[0].neuron
    assert (neuron.leak, neuron.reset, network.time_steps) == (1, "hard", 4)


def test_command_refuses(kenyon, norse, sinabs) -> None:
    for arguments, text in (
        ((norse, "--wide"), "--wide must be left out: it is not for NIR graphs"),
        ((sinabs,), f"{sinabs}: time steps must be given (--time-steps)"),
        ((norse, "--time-steps", "4", "--dt", "1"), "dt must be at most tau, 0.0025, not 1"),
    ):
        result = kenyon("import", *arguments)
        assert result.exit_code == 2
        assert text in result.stderr
    result = kenyon("import", "model.onnx", "--dt", "1")
    assert "--dt must be left out: it is not for models other than NIR graphs" in result.stderr
