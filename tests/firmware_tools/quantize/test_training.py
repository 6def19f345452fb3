"""Training on a few images: the same again, resumed, and through the command line."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from firmware_tools.quantize import digits
from firmware_tools.quantize.errors import QuantizationError
from firmware_tools.quantize.training import Settings, Training, load_result, train
from model.mars import network_file, reference

SETTINGS = Settings(float_epochs=2, sparse_epochs=2, epochs=2, sparsity=0.5, seed=3)


def small(data, n=64):
    """The first images only."""
    parts = (digits.Part(part.images[:n], part.labels[:n]) for part in (data.training, data.test))
    return digits.Data(*parts)


@pytest.fixture(scope="module")
def data():
    return small(digits.load())


@pytest.fixture
def few(monkeypatch, data):
    monkeypatch.setattr("firmware_tools.quantize.digits.load", lambda **_: data)


def weights(twin):
    return {name: value.clone() for name, value in twin.state_dict().items()}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


@pytest.fixture(scope="module")
def uninterrupted(data):
    return train(Training(SETTINGS, data))


def test_the_split():
    whole, held_out = digits.load(), digits.load(held_out=True)
    assert (len(whole.training), len(whole.test)) == (1297, 500)
    assert (len(held_out.training), len(held_out.test)) == (1000, 297)
    counts = torch.bincount(whole.test.labels)
    assert counts.min() >= 48
    assert counts.max() <= 52

    def texts(*parts):
        return sorted(image.numpy().tobytes() for part in parts for image in part.images)

    assert texts(held_out.training, held_out.test) == texts(whole.training)
    assert len(set(texts(whole.training, whole.test))) == 1797


def test_augmented_images_are_moved_ones():
    image = torch.arange(64.0).reshape(1, 1, 8, 8) + 1
    moved = digits.augmented(image.repeat(200, 1, 1, 1), torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(image, (1, 1, 1, 1))[0, 0]
    wanted = {padded[y : y + 8, x : x + 8].numpy().tobytes() for y in range(3) for x in range(3)}
    assert {each[0].numpy().tobytes() for each in moved} == wanted


def test_the_same_again(data, uninterrupted):
    again = train(Training(SETTINGS, data))
    assert_same(weights(again.twin), weights(uninterrupted.twin))
    assert again.as_json() == uninterrupted.as_json()
    other = train(Training(replace(SETTINGS, seed=4), data))
    assert not torch.equal(other.twin.products()[0].weight, again.twin.products()[0].weight)


@pytest.mark.parametrize("epochs", [1, 2, 3, 4, 5])
def test_resumed_training_ends_with_the_same_weights(data, uninterrupted, tmp_path, epochs):
    """Interrupted in every stage, at its end too."""
    path = tmp_path / "checkpoint"
    running = Training(SETTINGS, data, path).run()
    for _ in range(epochs):
        next(running)
    running.close()
    torch.manual_seed(99)  # whatever else draws numbers must not matter
    resumed = Training(SETTINGS, data, path)
    assert resumed.done == epochs
    result = train(resumed)
    assert_same(weights(result.twin), weights(uninterrupted.twin))
    assert_same(result.model.state_dict(), uninterrupted.model.state_dict())
    assert path.exists()
    resumed.discard_checkpoint()
    assert not path.exists()


def test_sparsity(uninterrupted):
    assert 0.5 <= uninterrupted.group_sparsity < 0.52


def test_checkpoints_of_something_else(data, tmp_path):
    path = tmp_path / "checkpoint"
    next(Training(SETTINGS, data, path).run())
    with pytest.raises(QuantizationError, match="must be a checkpoint of the same settings"):
        Training(replace(SETTINGS, weight_bits=4), data, path)
    content = path.read_bytes()
    for wrong in (content[: len(content) // 2], b"", b"text"):
        path.write_bytes(wrong)
        with pytest.raises(QuantizationError, match="must be a file of kenyon train"):
            Training(SETTINGS, data, path)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"sparsity": 1.0}, "sparsity must be 0..1, below 1, not 1"),
        ({"epochs": 0}, "epochs must be at least 1, not 0"),
    ],
)
def test_settings(fields, text):
    with pytest.raises(QuantizationError, match=text):
        Settings(**fields)


@pytest.mark.usefixtures("few")
def test_train_and_diff(kenyon, tmp_path, data):
    options = ("--bits", "3", "--weight-bits", "2", "--epochs", "1", "--float-epochs", "1")
    result = kenyon("train", "digits", *options, "-o", tmp_path / "net.npz", "--json")
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert figures["equal"]
    assert (figures["weight_bits"], figures["act_bits"]) == (2, 3)
    network = network_file.load(tmp_path / "net.npz")
    images = network_file.load_input(tmp_path / "net-images.npy", network)
    labels = np.load(tmp_path / "net-labels.npy")
    outputs = reference.run(network, images)
    hits = outputs[network.output].reshape(len(labels), -1).argmax(1) == labels
    assert hits.mean() == pytest.approx(figures["accuracy"])
    _, twin = load_result(tmp_path / "net.pt")
    for name, values in list(twin.integers(data.test.images).items())[1:]:
        assert np.array_equal(values, outputs[name])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("net-images.npy", "net-labels.npy", "net.npz", "net.pt")
    ]
    assert_diff(kenyon, tmp_path, network)


def assert_diff(kenyon, folder, network):
    result = kenyon("diff", folder / "net.npz", "--count", "20", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["first"] is None
    assert "equal in every layer" in kenyon("diff", folder / "net.npz").output
    conv3 = network.layer("conv3")
    changed = replace(conv3, mult=conv3.mult + 5000)
    layers = tuple(changed if layer is conv3 else layer for layer in network.layers)
    network_file.dump(replace(network, layers=layers), folder / "other.npz")
    pair = (folder / "other.npz", "--training", folder / "net.pt")
    result = kenyon("diff", *pair, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["first"]["name"] == "conv3"
    assert "part in layer conv3" in kenyon("diff", *pair).output


@pytest.mark.usefixtures("few")
def test_interrupted_command(kenyon, tmp_path, monkeypatch):
    command = ("train", "digits", "--epochs", "1", "--float-epochs", "2", "-o", tmp_path / "n.npz")
    whole = kenyon(*command, "--json")
    wanted = weights(load_result(tmp_path / "n.pt")[1])
    original = Training._epoch  # noqa: SLF001

    def interrupted(self, stage, epoch):
        if (stage, epoch) == ("float", 1):
            raise KeyboardInterrupt
        original(self, stage, epoch)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "_epoch", interrupted)
        result = kenyon(*command)
    assert result.exit_code == 130
    assert "interrupted after epoch 1 of 3; the same command goes on" in result.output
    resumed = kenyon(*command, "--json")
    assert "going on after epoch 1 of 3" in resumed.stderr
    assert resumed.stdout == whole.stdout
    assert_same(weights(load_result(tmp_path / "n.pt")[1]), wanted)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("train", "digits", "-o", "net.txt"), "network file must end in .npz"),
        (("train", "digits", "-o", "nowhere/net.npz"), "folder must exist: nowhere"),
        (("diff", "nothing.npz"), "nothing.npz: no such file"),
        (("diff", "text.txt"), "text.txt: must be an .npz file, cut or damaged?"),
    ],
)
@pytest.mark.usefixtures("few")
def test_refused(kenyon, arguments, text):
    Path("text.txt").write_text("text")
    result = kenyon(*arguments)
    assert result.exit_code == 2
    assert text in result.output
    assert result.output.count("\n") == 1


@pytest.mark.parametrize("bits", ["1", "9"])
def test_bits(kenyon, bits):
    assert kenyon("train", "digits", "--bits", bits).exit_code == 2
