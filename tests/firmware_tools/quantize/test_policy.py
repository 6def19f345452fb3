"""Training of a policy: its reward, resumed, and through the command line."""

import json

import numpy as np
import pytest
import torch

from firmware_tools.quantize import digits, policy
from firmware_tools.quantize.errors import QuantizationError
from firmware_tools.quantize.policy import PolicyTraining
from firmware_tools.quantize.spiking_training import SpikingSettings, SpikingTraining, train
from model.mars import network_file, reference

SETTINGS = SpikingSettings(float_epochs=1, one_step_epochs=1, epochs=1, time_steps=3, seed=3)
QUICK = ("--epochs", "1", "--float-epochs", "1", "--one-step-epochs", "1", "--steps", "3")


@pytest.fixture(scope="module")
def data():
    whole = digits.load()
    parts = (
        digits.Part(part.images[:32], part.labels[:32]) for part in (whole.training, whole.test)
    )
    return digits.Data(*parts)


@pytest.fixture(scope="module")
def spiking(data):
    return train(SpikingTraining(SETTINGS, data)).twin


def finished(training):
    for _ in training.run():
        pass
    return training.finish()


def test_rewards():
    right = torch.tensor([[True, False, True], [False, False, False]])
    assert policy.rewards(right, 8).tolist() == [[0.5, -8, 0.125], [-8, -8, -8]]


def test_gradient_is_that_of_the_expected_reward():
    """What REINFORCE has in the mean: sum over t of p R dlog p."""
    logits = torch.randn(5, 3, requires_grad=True)
    reward = torch.randn(5, 3)
    policy.loss(logits, reward).backward()
    p = logits.detach().softmax(1)
    wanted = torch.zeros(5, 3)
    for step in range(3):
        one_hot = torch.eye(3)[step]
        wanted -= p[:, step : step + 1] * reward[:, step : step + 1] * (one_hot - p) / 5
    torch.testing.assert_close(logits.grad, wanted)


def test_learns_the_steps_that_pay(data, spiking, monkeypatch):
    """If every image is right behind step 2 only, it takes two, quantised, too."""

    def is_right(_spiking, images, _labels):
        return np.tile([False, True, False], (len(images), 1))

    monkeypatch.setattr(policy, "is_right", is_right)
    result = finished(PolicyTraining(spiking, data, float_epochs=8, epochs=2))
    assert result.images_by_steps == (0, 32, 0)
    assert (result.accuracy, result.mean_steps) == (1, 2)


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_resumed_training_ends_with_the_same_weights(data, spiking, tmp_path, epochs):
    plan = {"float_epochs": 2, "epochs": 2}
    whole = PolicyTraining(spiking, data, **plan)
    finished(whole)
    path = tmp_path / "checkpoint"
    running = PolicyTraining(spiking, data, path, **plan).run()
    for _ in range(epochs):
        next(running)
    running.close()
    resumed = PolicyTraining(spiking, data, path, **plan)
    assert resumed.done == epochs
    finished(resumed)
    for name, value in whole.twin.state_dict().items():
        assert torch.equal(value, resumed.twin.state_dict()[name]), name
    with pytest.raises(QuantizationError, match="must be a checkpoint of the same settings"):
        PolicyTraining(spiking, data, path, seed=1, **plan)


def test_train_and_infer(kenyon, tmp_path, monkeypatch, data):
    monkeypatch.setattr("firmware_tools.quantize.digits.load", lambda **_: data)
    chooses, net = tmp_path / "policy.npz", tmp_path / "net.npz"
    result = kenyon(
        *("train", "digits", "--spiking", *QUICK, "--share", "both"),
        *("--policy", chooses, "-o", net, "--json"),
    )
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    stored, alone = (
        figures["membrane_bytes"],
        figures["membrane_bytes_if_nothing_was_shared"],
    )
    assert 0 < stored < alone
    images = np.load(tmp_path / "net-images.npy")
    choice = reference.run(network_file.load(chooses), images)
    steps = list(choice.values())[-1].reshape(32, 3).argmax(1) + 1
    assert figures["policy"]["mean_steps"] == pytest.approx(steps.mean())
    result = kenyon(
        *("infer", net, "--input", tmp_path / "net-images.npy", "--policy", chooses, "--json")
    )
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["steps"] == steps.tolist()
    accuracy = (np.array(found["classes"]) == data.test.labels.numpy()).mean()
    assert figures["policy"]["accuracy"] == pytest.approx(accuracy)
    assert not list(tmp_path.glob("*.checkpoint"))
