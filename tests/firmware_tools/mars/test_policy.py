"""A policy chooses the time steps of each image: two networks on one chip, three backends."""

import json
from pathlib import Path

import numpy as np
import pytest

from firmware_tools.mars.inference import frames_on_rtl
from firmware_tools.mars.pass_difference import Compared, compare_frame
from model.mars import network_file, reference
from model.mars.config import CONFIGS
from model.mars.frame import run_frame
from model.mars.image import ImageError
from model.mars.mapper import compile_network
from model.mars.network import Dense, FeatureType, QuantizedNetwork
from model.mars.neuron import Exit, Neuron
from tb.mars import cosim

TINY = CONFIGS["mars-tiny"]
STEPS = 5
KIND = FeatureType((3, 4, 4), 4, signed=False)


def dense(name: str, source: str, shape: tuple[int, int], **fields) -> Dense:
    """Biases make results 0 in the mean of all images."""
    weight = np.random.default_rng(sum(map(ord, name))).integers(-7, 8, shape)
    bias = -15 * weight.sum(axis=1) // 2 if source == "input" else np.zeros(shape[0], np.int64)
    fields = {"out_bits": 32, "out_signed": True, **fields}
    return Dense(name=name, input=source, weight=weight, bias=bias, weight_bits=4, **fields)


def spiking(stop: Exit | None = None) -> QuantizedNetwork:
    neuron = Neuron(bits=8, threshold=np.full(20, 60), reset="soft")
    hidden = dense("hidden", "input", (20, 48), out_bits=1, out_signed=False, neuron=neuron)
    layers = hidden, dense("logits", "hidden", (10, 20))
    return QuantizedNetwork(KIND, layers, "spikes", time_steps=STEPS, exit=stop)


def policy(n: int = STEPS, kind: FeatureType = KIND) -> QuantizedNetwork:
    size = kind.shape[0] * 16
    return QuantizedNetwork(kind, (dense("policy", "input", (n, size)),), "chooses")


@pytest.fixture
def files() -> list[str]:
    """An exit that would stop at once is not asked."""
    stop = Exit(metric="confidence", mode="sum", threshold=0.01, scale=0.1)
    network_file.dump(spiking(stop), Path("net.npz"))
    network_file.dump(policy(), Path("policy.npz"))
    np.save("x.npy", np.random.default_rng(1).integers(0, 16, (6, 3, 4, 4)))
    return ["infer", "net.npz", "--input", "x.npy", "--policy", "policy.npz", "--json"]


def test_backends(kenyon, files) -> None:
    """Steps are the policy's, logits the reference's behind them, and clocks those of both."""
    images = np.load("x.npy")
    choice = reference.run(policy(), images)["policy"][:, :, 0, 0].argmax(1) + 1
    assert len(set(choice.tolist())) > 2
    logits = reference.run(spiking(), images)["logits"][..., 0, 0]
    wanted = logits[np.arange(len(images)), choice - 1]
    found = {}
    for backend, *options in (
        ("reference",),
        ("model", "-c", "mars-tiny", "--chunk", "1"),
        ("rtl", "-c", "mars-tiny", "--chunk", "1"),
        ("model", "-c", "mars-tiny", "--chunk", "3"),
        ("rtl", "-c", "mars-tiny", "--chunk", "3"),
    ):
        result = kenyon(*files, "--backend", backend, *options)
        assert result.exit_code == 0, result.output
        values = json.loads(result.stdout)
        assert values["steps"] == choice.tolist()
        assert values["outputs"] == wanted.tolist()
        assert values["policy"]["network"] == "chooses"
        for k, by_step in enumerate(values["logits"]):
            assert by_step == logits[k, : len(by_step)].tolist()
        del values["wall_seconds"], values["backend"]
        found[backend, options[-1:] == ["3"]] = values
    assert found["model", False] == found["rtl", False]
    assert found["model", True] == found["rtl", True]
    by_one, by_three = (found["rtl", chunk] for chunk in (False, True))
    assert [len(one) for one in by_one["logits"]] == choice.tolist()
    assert [len(one) for one in by_three["logits"]] == [3 if n <= 3 else 5 for n in choice]
    policy_clocks = run_frame(compile_network(policy(), TINY), images[0]).clocks
    assert by_one["policy"]["clocks"] == policy_clocks


def test_every_value_on_the_rtl() -> None:
    """Policy and network of each image, in one simulation without a reset in between."""
    cosim.build(TINY)
    network, chooses = spiking(), policy()
    image, policy_image = (compile_network(one, TINY, n) for one, n in ((network, 1), (chooses, 0)))
    images = np.random.default_rng(2).integers(0, 16, (4, 3, 4, 4))
    compared = Compared()
    steps = set()
    for features, trace in zip(images, frames_on_rtl(image, images, policy_image), strict=True):
        steps.add(trace.result.steps)
        assert trace.policy is not None
        for net, program, one in (
            (chooses, policy_image, trace.policy),
            (network, image.taking(trace.result.steps), trace),
        ):
            assert compare_frame(net, program, features, one, compared) is None
    assert len(steps) > 1
    assert compared.passes > 4 * 2


@pytest.mark.parametrize("steps", [0, STEPS + 1])
def test_steps_that_there_are_not(steps: int) -> None:
    with pytest.raises(ImageError, match=f"steps must be 1..5, not {steps}"):
        compile_network(spiking(), TINY, 1).taking(steps)


def test_steps_of_what_has_no_logits() -> None:
    network = QuantizedNetwork(KIND, spiking().layers[:1], "spikes", time_steps=STEPS)
    with pytest.raises(ImageError, match="spikes: its results must be logits of one pixel"):
        compile_network(network, TINY, 1).taking(1)


@pytest.mark.parametrize(
    ("other", "text"),
    [
        (policy(4), "a policy must have a result for each of 5 time steps, (5, 1, 1), not (4"),
        (policy(5, FeatureType((3, 4, 4), 3, signed=False)), "must have the input of spikes"),
        (spiking(), "a policy must not be a spiking network"),
    ],
)
def test_other_policies(kenyon, files, other: QuantizedNetwork, text: str) -> None:
    network_file.dump(other, Path("policy.npz"))
    result = kenyon(*files)
    assert result.exit_code == 2
    assert text in result.output.replace("\n", " ")


def test_policy_of_a_network_without_steps(kenyon, files) -> None:
    network_file.dump(policy(), Path("net.npz"))
    result = kenyon(*files)
    assert result.exit_code == 2
    assert "--policy must be left out: chooses is no spiking network" in result.output
