"""`kenyon benchmark`."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from firmware_tools.neurobench import poppins
from firmware_tools.npu.backends import simulate
from firmware_tools.npu.run_report import RunReport
from model.mars import network_file, reference
from model.mars.random_network import random_input
from model.mars.random_spiking import random_spiking_network
from model.npu.config import CONFIGS
from model.npu.network import Connections
from model.npu.random_network import random_network

CHIP = ("-c", "mars-tiny")


def values_of(result) -> dict:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def labels(quantised, pictures: Path) -> Path:
    """Classes of `pictures`, the second one wrong."""
    net = network_file.load(quantised())
    classes = reference.run(net, np.load(pictures))[net.output].reshape(3, -1).argmax(axis=1)
    classes[1] = (classes[1] + 1) % 4
    np.save("y.npy", classes)
    return Path("y.npy")


def test_quantised(kenyon, quantised, pictures, labels) -> None:
    arguments = ("benchmark", quantised(), "--input", pictures, "--labels", labels, *CHIP)
    values = values_of(kenyon(*arguments, "--json"))
    assert values["accuracy"] == 2 / 3
    assert values["samples"] == 3
    assert values["steps"] is None
    sizes = (17 * 27, 17 * 17 * 9, 4 * 17 * 6)
    own = sum(sizes) + (17 + 17 + 4) * (4 + 2 + 1)
    assert values["footprint"]["total"] == own
    assert values["footprint"]["packed"] == own - sum(sizes) // 2
    taps = 16 * 13  # of 3x3 in 6x5 with a margin of 1: (3*6 - 2) * (3*5 - 2)
    dense = 17 * 3 * taps + 17 * 17 * taps + 4 * 17 * 6
    assert values["synaptic_operations"]["dense"] == dense
    assert values["synaptic_operations"]["effective_acs"] == 0
    assert values["membrane_updates"] == 0
    text = kenyon(*arguments).stdout
    assert "small: means of 3 samples" in text
    assert "66.67%" in text
    assert "membrane" not in text


def test_clocks_are_those_of_infer(kenyon, quantised, pictures) -> None:
    options = ("--input", pictures, *CHIP, "--clock-mhz", "50", "--json")
    chip = values_of(kenyon("benchmark", quantised(), *options))["chip"]
    infer = values_of(kenyon("infer", quantised(), *options, "--backend", "model"))
    assert chip["latency_clocks"] == chip["clocks"] == infer["clocks"]
    assert chip["execution_rate"] == infer["frames_per_second"]
    assert chip["latency_us"] == infer["clocks"] / 50


def test_spiking(kenyon) -> None:
    network = random_spiking_network(3)
    network_file.dump(network, Path("net.npz"))
    np.save("x.npy", random_input(network, 1, 4))
    values = values_of(kenyon("benchmark", "net.npz", "--input", "x.npy", "--json"))
    assert values["steps"] == network.time_steps
    assert values["chip"]["counters"]["neuron_steps"] >= values["neuron_operations"]["dense"] / 4
    assert values["layers"]["conv_1"]["acs"] > 0
    text = kenyon("benchmark", "net.npz", "--input", "x.npy").stdout
    assert "membrane updates" in text


def test_exit_says_what_clocks_are(kenyon) -> None:
    seed = next(s for s in range(99) if random_spiking_network(s, max_size=6).exit is not None)
    network = random_spiking_network(seed, max_size=6)
    network_file.dump(network, Path("net.npz"))
    np.save("x.npy", random_input(network, 1, 4))
    values = values_of(kenyon("benchmark", "net.npz", "--input", "x.npy", "--json"))
    steps = reference.run_steps(network, random_input(network, 1, 4)).steps
    assert values["steps"] == steps.mean()
    assert values["notes"] == ["clocks are those of the first image, which may stop early"]


def test_populations(kenyon, pair) -> None:
    values = values_of(kenyon("benchmark", pair, "--json"))
    run = values_of(kenyon("run", pair, "--json"))
    assert values["synaptic_operations"]["effective_acs"] == run["effective_synaptic_operations"]
    assert values["chip"]["counters"]["synaptic_operations"] == run["synaptic_operations"]
    assert values["chip"]["clocks"] == run["clocks"]["total"]
    assert values["chip"]["latency_clocks"] == run["clocks"]["max"]
    assert values["chip"]["execution_rate"] == 50 * 100e6 / run["clocks"]["total"]
    assert values["activation_sparsity"] == 1 - sum(run["spikes"]) / (4 * 50)
    # Two populations of 2 with an axon each, and a link from 0 to 1; 6 connections of 4 + 4 + 4.
    assert values["connection_sparsity"] == 1 - 6 / 16
    assert values["synaptic_operations"]["dense"] == 16 * 50
    assert values["neuron_operations"]["dense"] == 4 * 50 * 14
    assert "population 1" in kenyon("benchmark", pair).stdout


@pytest.mark.parametrize("seed", range(8))
def test_operations_of_random_populations(seed: int) -> None:
    """A second way to count them: that of `kenyon run`, which counts weights of 0, too."""
    network = random_network(np.random.default_rng(seed), CONFIGS["tiny"])
    network = replace(
        network, recurrent=present(network.recurrent), external=present(network.external)
    )
    report = RunReport(network)
    for trace in simulate(network, "fast"):
        report.add(trace)
    total = poppins.measure(network, simulate(network, "fast"), None).total
    assert total.acs == report.effective_synaptic_operations
    assert total.weights - total.zero_weights == len(network.recurrent) + len(network.external)


def present(connections: Connections) -> Connections:
    """The same without weights of 0."""
    return replace(connections, weight=np.where(connections.weight, connections.weight, 1))


def test_weight_of_0_is_no_connection(kenyon, tonic) -> None:
    neuron = {"rest": 128, "threshold": 200, "reset": 128, "a": 1, "b": 1}
    counts = []
    for weight in (0, 1):
        net = tonic(
            populations=[2],
            neurons=[neuron] * 2,
            connections=[[0, 1, weight, 8]],
            session=[{"steps": 40, "bias": [[0, 10]]}],
        )
        values = values_of(kenyon("benchmark", net, "--json"))
        counts.append(
            (values["synaptic_operations"]["effective_acs"], values["connection_sparsity"])
        )
    assert counts[0] == (0, 1)
    assert counts[1][0] > 0
    assert counts[1][1] == 3 / 4


def test_network_of_the_npu_that_fits_none(kenyon, tonic) -> None:
    neuron = {"rest": 128, "threshold": 200, "reset": 128, "a": 1, "b": 1}
    net = tonic(populations=[1] * 17, neurons=[neuron] * 17)
    values = values_of(kenyon("benchmark", net, "--json"))
    assert values["chip"] is None
    assert values["notes"][0].startswith("no clocks: ")


def ppa(configuration: str, **figures: float) -> Path:
    path = Path("ppa.json")
    path.write_text(json.dumps({"configuration": configuration, "process": "180 nm", **figures}))
    return path


def test_energy(kenyon, quantised, pictures, pair) -> None:
    file = ppa("mars-tiny", pj_per_mac=15.0, tops_per_watt=0.1)
    arguments = ("benchmark", quantised(), "--input", pictures, *CHIP, "--ppa", file)
    values = values_of(kenyon(*arguments, "--json"))
    macs = values["chip"]["counters"]["macro_macs"]
    assert macs % 256 == 0
    assert values["energy"] == {
        "process": "180 nm",
        "operation": "macro_macs",
        "pj_each": 15.0,
        "nj": 15.0 * macs / 1000,
    }
    assert "energy, nJ (15.0 pJ x macro_macs)" in kenyon(*arguments).stdout.replace("\n", "")
    file = ppa("tiny", pj_per_sop=20.0)
    values = values_of(kenyon("benchmark", pair, "-c", "tiny", "--ppa", file, "--json"))
    operations = values["chip"]["counters"]["synaptic_operations"]
    assert values["energy"]["nj"] == 20.0 * operations / 1000


def test_bad_ppa(kenyon, pair) -> None:
    for text, error in (
        ("{", "must be what `kenyon ppa --json` wrote ("),
        ("[]", "must be what `kenyon ppa --json` wrote; it has no 'configuration'"),
        (
            '{"configuration": "large"}',
            "configuration must be tiny, that of the network, not large",
        ),
        ('{"configuration": "tiny"}', "it has neither of pj_per_sop, pj_per_mac"),
    ):
        Path("p.json").write_text(text)
        result = kenyon("benchmark", pair, "-c", "tiny", "--ppa", "p.json")
        assert result.exit_code == 2
        assert f"error: p.json: {error}" in result.stderr or error in result.stderr


@pytest.mark.parametrize(
    ("labels", "error"),
    [
        (np.zeros(2, np.int64), "labels must be integers (3,), one for each image, not int64 (2,)"),
        (np.zeros(3), "labels must be integers (3,), one for each image, not float64 (3,)"),
        (np.array([0, 4, 0]), "label 1 must be 0..3, not 4"),
    ],
)
def test_bad_labels(kenyon, quantised, pictures, labels: np.ndarray, error: str) -> None:
    np.save("bad.npy", labels)
    result = kenyon("benchmark", quantised(), "--input", pictures, "--labels", "bad.npy")
    assert result.exit_code == 2
    assert result.stderr == f"error: bad.npy: {error}\n"


def test_bad_options(kenyon, quantised, pair, pictures) -> None:
    for arguments, error in (
        ((quantised(),), "--input must be given for a quantised network"),
        ((pair, "--input", pictures), "--input must be left out: it is not for NPU networks"),
        ((pair, "-c", "mars"), "configuration must be one of"),
        ((quantised(), "--input", pictures, "--labels", "y.txt"), "y.txt: labels must end in .npy"),
        (("missing.json",), "missing.json: no such file"),
    ):
        result = kenyon("benchmark", *arguments)
        assert result.exit_code == 2
        assert result.stderr.startswith(f"error: {error}")
