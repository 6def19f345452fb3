"""Training of spiking networks on a few images: resumed, through the command line, studied."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from firmware_tools.quantize import digits, spiking_study
from firmware_tools.quantize.errors import QuantizationError
from firmware_tools.quantize.spiking_study import SpikingRun, SpikingStudy, rows
from firmware_tools.quantize.spiking_training import (
    SpikingSettings,
    SpikingTraining,
    load_result,
    one_step_network,
    stop_of,
    train,
)
from model.mars import network_file, reference

SETTINGS = SpikingSettings(float_epochs=1, one_step_epochs=2, epochs=2, time_steps=2, seed=3)
QUICK = ("--epochs", "1", "--float-epochs", "1", "--one-step-epochs", "1")


@pytest.fixture(scope="module")
def data():
    whole = digits.load()
    parts = (
        digits.Part(part.images[:64], part.labels[:64]) for part in (whole.training, whole.test)
    )
    return digits.Data(*parts)


@pytest.fixture
def few(monkeypatch, data):
    monkeypatch.setattr("firmware_tools.quantize.digits.load", lambda **_: data)


@pytest.fixture(scope="module")
def uninterrupted(data):
    return train(SpikingTraining(SETTINGS, data))


def assert_same(one, other):
    assert one.state_dict().keys() == other.state_dict().keys()
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


@pytest.mark.parametrize("epochs", [1, 2, 3, 4])
def test_resumed_training_ends_with_the_same_weights(data, uninterrupted, tmp_path, epochs):
    """Interrupted in every stage, at its end too."""
    path = tmp_path / "checkpoint"
    running = SpikingTraining(SETTINGS, data, path).run()
    for _ in range(epochs):
        next(running)
    running.close()
    torch.manual_seed(99)  # whatever else draws numbers must not matter
    resumed = SpikingTraining(SETTINGS, data, path)
    assert resumed.done == epochs
    result = train(resumed)
    assert_same(result.twin, uninterrupted.twin)
    assert_same(result.model, uninterrupted.model)
    assert result.as_json() == uninterrupted.as_json()


def test_training_from_a_network_of_one_step(data, uninterrupted):
    """As the study does: the stages before are the same for all its variants."""
    model = one_step_network(replace(SETTINGS, membrane_bits=2), data)
    training = SpikingTraining(SETTINGS, data, model=model)
    assert len(training) == SETTINGS.epochs
    assert_same(train(training).twin, uninterrupted.twin)


def test_checkpoints_of_something_else(data, tmp_path):
    path = tmp_path / "checkpoint"
    next(SpikingTraining(SETTINGS, data, path).run())
    with pytest.raises(QuantizationError, match="must be a checkpoint of the same settings"):
        SpikingTraining(replace(SETTINGS, time_steps=3), data, path)
    # An exit is only exported: another one goes on from there.
    other = replace(SETTINGS, stop=("entropy", 0.5))
    assert SpikingTraining(other, data, path).done == 1


def test_figures(data, uninterrupted):
    """Accuracies are those of the exported network's logits."""
    training = SpikingTraining(SETTINGS, data)
    training.twin, training.model = uninterrupted.twin, uninterrupted.model
    with torch.no_grad():
        sure = training.twin(data.test.images)[0].softmax(1).amax(1)
    # Half of the images are surer than that after one step.
    training.settings = replace(SETTINGS, stop=("confidence", float(sure.median())))
    result = training.finish()
    network = result.network
    run = reference.run_steps(network, result.twin.image_ints(data.test.images))
    logits = run.values[network.output][..., 0, 0]
    labels = data.test.labels.numpy()
    hits = logits.argmax(2) == labels[:, None]
    assert result.by_step == pytest.approx(hits.mean(0))
    assert result.mean_steps == pytest.approx(run.steps.mean())
    assert 1 < result.mean_steps < 2
    assert result.exit_accuracy == pytest.approx(hits[np.arange(len(hits)), run.steps - 1].mean())


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(
    "options",
    [
        ("--exit", "confidence:0.25"),
        ("--share", "both", "--bits", "3", "--act-bits", "2", "--membrane-bits", "6"),
    ],
)
def test_train_diff_and_infer(kenyon, tmp_path, options):
    command = ("train", "digits", "--spiking", "--steps", "2", *QUICK, *options)
    result = kenyon(*command, "-o", tmp_path / "net.npz", "--json")
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert figures["equal"]
    assert (figures["time_steps"], len(figures["accuracy_by_step"])) == (2, 2)
    network = network_file.load(tmp_path / "net.npz")
    assert network.time_steps == 2
    neuron = network.layer("block.conv1").neuron
    if "--share" in options:
        assert (neuron.membrane, neuron.groups, neuron.bits) == ("16x4x4", 2, 6)
        assert (network.layer("conv1").weight_bits, network.input_type.bits) == (3, 2)
        assert figures["mean_steps"] is None
    else:
        assert (network.exit.metric, network.exit.mode, network.exit.threshold) == (
            *("confidence", "mean", 0.25),
        )
        assert network.exit.scale == network.scales["fc"]
    diff = kenyon("diff", tmp_path / "net.npz", "--count", "20")
    assert diff.exit_code == 0, diff.output
    assert "equal in every layer" in diff.output
    inferred = kenyon(
        *("infer", tmp_path / "net.npz", "--input", tmp_path / "net-images.npy", "--json")
    )
    assert inferred.exit_code == 0, inferred.output
    found = json.loads(inferred.stdout)
    labels = np.load(tmp_path / "net-labels.npy")
    accuracy = (np.array(found["classes"]) == labels).mean()
    has_exit = figures["exit_accuracy"] is not None
    assert accuracy == pytest.approx(figures["exit_accuracy" if has_exit else "accuracy"])
    if has_exit:
        assert np.mean(found["steps"]) == pytest.approx(figures["mean_steps"])


@pytest.mark.usefixtures("few")
def test_diff_says_where(kenyon, tmp_path):
    path = tmp_path / "net.npz"
    assert kenyon("train", "digits", "--spiking", *QUICK, "-o", path).exit_code == 0
    network = network_file.load(path)
    fc = network.layer("fc")
    layers = (*network.layers[:-1], replace(fc, bias=fc.bias + 1))
    network_file.dump(replace(network, layers=layers), path)
    result = kenyon("diff", path)
    assert result.exit_code == 1
    assert "part in layer fc at [0, 0, 0, 0, 0]" in result.output
    assert "(image, step, channel, row, column)" in result.output
    _, twin = load_result(tmp_path / "net.pt")
    assert twin.time_steps == 4


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--spiking", "--exit", "confidence:1"), "threshold must be between 0 and 1"),
        (("--spiking", "--exit", "entropy:0"), "threshold must be between 0 and 1"),
        (("--spiking", "--exit", "sure:0.5"), "exit must be confidence:THRESHOLD or entropy"),
        (("--spiking", "--exit", "confidence"), "exit must be confidence:THRESHOLD or entropy"),
        (("--spiking", "--exit", "entropy:nan"), "exit must be confidence:THRESHOLD or entropy"),
        (("--spiking", "--sparsity", "0.5"), "--sparsity must be left out: it is not for --spi"),
        (("--spiking", "--quantizer", "lsq"), "--quantizer must be left out"),
        (("--steps", "2"), "--steps must be left out: it is not for training without --spiking"),
        (("--exit", "entropy:0.5"), "--exit must be left out"),
    ],
)
def test_refused(kenyon, options, text):
    result = kenyon("train", "digits", *options)
    assert result.exit_code == 2
    assert text in result.output
    assert result.output.count("\n") == 1


@pytest.mark.parametrize(
    "options", [("--steps", "0"), ("--steps", "65"), ("--membrane-bits", "1"), ("--share", "all")]
)
def test_out_of_range(kenyon, options):
    assert kenyon("train", "digits", "--spiking", *options).exit_code == 2


def test_settings():
    assert stop_of("entropy:0.25") == ("entropy", 0.25)
    for fields, text in (
        ({"epochs": 0}, "epochs must be at least 1, not 0"),
        ({"one_step_epochs": 0}, "one_step_epochs must be at least 1, not 0"),
        ({"time_steps": 0}, "time_steps must be 1..64, not 0"),
        ({"stop": ("confidence", 1.5)}, "threshold must be between 0 and 1"),
    ):
        with pytest.raises(QuantizationError, match=text):
            SpikingSettings(**fields)


@pytest.mark.usefixtures("few")
def test_study(kenyon, monkeypatch):
    two = dict(list(spiking_study.VARIANTS.items())[:2])
    monkeypatch.setattr(spiking_study, "VARIANTS", two)
    command = ("bench", "spiking-training", "--seeds", "1", "--quick", "--json")
    result = kenyon(*command)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [row["variant"] for row in found["rows"]] == list(two)
    monkeypatch.setattr(spiking_study, "train", None)  # nothing is left to be trained
    assert kenyon(*command).stdout == result.stdout
    assert len(SpikingStudy(spiking_study.FOLDER, 3)) == 6


def test_rows():
    runs = [
        SpikingRun("a", 0, 0.99, [0.9, 0.98], 0.97, 1.2),
        SpikingRun("a", 1, 0.97, [0.8, 0.96], 0.95, 1.4),
        SpikingRun("b", 0, 0.99, [0.9, 0.99], 0.99, 2),
    ]
    one, other = rows(runs)
    assert (one.variant, one.n_seeds, one.drop) == ("a", 2, pytest.approx(1))
    assert (one.mean, one.spread) == (pytest.approx(97), pytest.approx(2**0.5))
    assert (one.exit_mean, one.mean_steps) == (pytest.approx(96), pytest.approx(1.3))
    assert one.by_step == pytest.approx([85, 97])
    assert (other.drop, other.spread) == (pytest.approx(0), 0)
