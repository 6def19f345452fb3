"""Event streams out of images, and a network of them from training to the RTL."""

import json
import math

import numpy as np
import pytest
import torch

from firmware_tools.quantize import calibrate, digits, events, spike
from firmware_tools.quantize.errors import QuantizationError
from firmware_tools.quantize.spiking_report import n_unequal
from firmware_tools.quantize.spiking_training import SpikingSettings, SpikingTraining, train
from model.mars import network_file

QUICK = ("--epochs", "1", "--float-epochs", "1", "--one-step-epochs", "1")
SETTINGS = SpikingSettings(
    float_epochs=1, one_step_epochs=1, epochs=2, time_steps=2, seed=3, events=True
)


@pytest.fixture(scope="module")
def data():
    whole = digits.load()
    parts = (
        digits.Part(part.images[:32], part.labels[:32]) for part in (whole.training, whole.test)
    )
    return digits.Data(*parts)


@pytest.fixture
def few(monkeypatch, data):
    monkeypatch.setattr("firmware_tools.quantize.digits.load", lambda **_: data)


def photographs():
    """scikit-learn's two, grey, 0..1, every eighth pixel."""
    from sklearn.datasets import load_sample_images

    grey = np.stack(load_sample_images().images).mean(axis=3)[:, ::8, ::8] / 255
    return torch.tensor(grey[:, None], dtype=torch.float32)


def straight(n, n_moments, rows=0.0, columns=0.0):
    """Paths that go so many pixels aside."""
    progress = torch.linspace(0, 1, n_moments + 1)
    return (progress[:, None] * torch.tensor([rows, columns])).repeat(n, 1, 1)


def test_still_camera_sends_nothing():
    assert not events.camera(photographs(), straight(2, 8), 4).any()


def test_thresholds_are_crossed_where_they_are():
    """A pixel that becomes brighter by less than CONTRAST is silent; by more, it sends ON."""
    below, above = (events.DARK * (math.exp(events.CONTRAST * x) - 1) for x in (0.99, 1.01))
    for light, sends in ((below, False), (above, True)):
        image = torch.zeros(1, 1, 1, 3)
        image[0, 0, 0, 1] = light
        spikes = events.camera(image, straight(1, 1, columns=1), 1)[0, 0]
        assert spikes[0, 0].tolist() == [sends, 0, 0]  # light comes from the right
        assert spikes[1, 0].tolist() == [0, sends, 0]  # and leaves


def test_two_small_changes_add_up():
    """What is remembered is not what was seen in the moment before."""
    image = torch.zeros(1, 1, 1, 3)
    image[0, 0, 0, 1] = events.DARK * (math.exp(1.01 * events.CONTRAST) - 1)
    spikes = events.camera(image, straight(1, 4, columns=1), 4)[0, :, 0, 0, 0]
    assert spikes.tolist() == [0, 0, 0, 1]


def test_brighter_and_darker_change_places_on_photographs():
    """A negative of the brightness sends OFF where the image sends ON."""
    images = photographs()
    path = events.saccades(torch.tensor([0.3, 2.0]), 24)
    spikes = events.camera(images, path, 4)[..., 3:-3, 3:-3]  # black around is black in both
    mirrored = events.DARK * (1 + events.DARK) / (images + events.DARK) - events.DARK
    rates = spikes.mean((0, 1, 3, 4))
    assert rates.min() > 0.01
    assert rates.max() < 0.5
    other = events.camera(mirrored, path, 4)[..., 3:-3, 3:-3]
    # Between pixels a negative is interpolated otherwise: alike, not equal.
    assert (spikes.flip(2) == other).double().mean() > 0.9
    assert (spikes == other).double().mean() < 0.9


def test_saccades_are_a_closed_triangle():
    path = events.saccades(torch.tensor([0.0, 1.0]), 24)
    corners = path[:, [0, 8, 16, 24]]
    torch.testing.assert_close(corners[:, 0], corners[:, 3], atol=1e-6, rtol=0)
    sides = (corners[:, 1:] - corners[:, :-1]).norm(dim=-1)
    torch.testing.assert_close(sides, torch.full((2, 3), events.SIDE))
    steps = (path[:, 1:] - path[:, :-1]).norm(dim=-1)
    torch.testing.assert_close(steps, torch.full((2, 24), events.SIDE / 8))


@pytest.mark.usefixtures("few")
def test_test_spikes_are_always_the_same():
    one, other = events.load(3).test, events.load(3).test
    assert torch.equal(one.images, other.images)
    assert one.images.shape == (32, 3, 2, 8, 8)
    assert one.images.unique().tolist() == [0, 1]
    generator = torch.Generator().manual_seed(1)
    assert not torch.equal(events.look(digits.load().test.images, 3, generator), one.images)


@pytest.mark.usefixtures("few")
def test_resumed_training_ends_with_the_same_weights(tmp_path):
    loaded = SETTINGS.load()
    whole = train(SpikingTraining(SETTINGS, loaded))
    path = tmp_path / "checkpoint"
    running = SpikingTraining(SETTINGS, loaded, path).run()
    for _ in range(3):
        next(running)
    running.close()
    resumed = train(SpikingTraining(SETTINGS, loaded, path))
    for name, value in whole.twin.state_dict().items():
        assert torch.equal(value, resumed.twin.state_dict()[name]), name
    assert n_unequal(whole, whole.network, loaded.test) == 0


@pytest.mark.usefixtures("few")
def test_from_training_to_the_rtl(kenyon, tmp_path):
    """Spikes (T, 2, H, W) in chunks: reference = golden machine = RTL in every value and clock."""
    command = ("train", "digits", "--spiking", "--events", "--steps", "3", *QUICK)
    result = kenyon(*command, "-o", tmp_path / "net.npz", "--json")
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert (figures["equal"], figures["events"], figures["input_bits"]) == (True, True, 1)
    network = network_file.load(tmp_path / "net.npz")
    assert (network.coding, network.input_type.shape) == ("spikes", (2, 8, 8))
    assert np.load(tmp_path / "net-images.npy").shape == (32, 3, 2, 8, 8)
    options = ("--images", "1", "--chunk", "2", "-c", "mars-tiny")
    result = kenyon(
        *("compare", tmp_path / "net.npz", "--input", tmp_path / "net-images.npy", *options)
    )
    assert result.exit_code == 0, result.output
    result = kenyon("diff", tmp_path / "net.npz")
    assert result.exit_code == 2
    assert "must take images" in result.output


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--events",), "--events must be left out: it is not for training without --spiking"),
        (("--spiking", "--events", "--act-bits", "3"), "--act-bits must be left out: it is not"),
        (("--spiking", "--events", "--policy", "p.npz"), "--policy must be left out: it is not"),
    ],
)
def test_refused(kenyon, options, text):
    result = kenyon("train", "digits", *options)
    assert result.exit_code == 2
    assert text in result.output


def test_spikes_of_another_shape():
    twin = spike(SETTINGS.new_model(), time_steps=2, coding="spikes")
    for shape in ((4, 2, 8, 8), (4, 3, 2, 8, 8), (0, 2, 2, 8, 8)):
        with pytest.raises(QuantizationError, match=r"images must be spikes \(N, 2, C, H, W\), no"):
            calibrate(twin, torch.ones(shape))
    with pytest.raises(QuantizationError, match="coding must be one of"):
        spike(SETTINGS.new_model(), coding="rate")
