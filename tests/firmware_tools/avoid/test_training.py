"""What the perception learns from, and that a training goes on where it stopped."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra `train`")

from firmware_tools.avoid import CELLS, MODES, N_CELLS, N_MODES, cell_of, training  # noqa: E402
from firmware_tools.avoid.clips import UNSURE, make  # noqa: E402
from firmware_tools.avoid.flow import scores  # noqa: E402
from firmware_tools.avoid.pictures import photographs  # noqa: E402
from firmware_tools.quantize.errors import QuantizationError  # noqa: E402
from model.mars import network_file, reference  # noqa: E402


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("which", range(8))
def test_reflections_of_cells(which) -> None:
    """A point of each cell, reflected, lies in the cell that is right then."""
    places = {
        cell_of(x, y): (x, y)
        for x in np.linspace(-0.95, 0.95, 20)
        for y in (-0.9, -0.5, -0.3, 0.1, 0.3, 0.5, 0.91)
    }
    assert len(places) == N_CELLS
    labels = torch.tensor([[0, cell] for cell in places])
    _, after = training.reflected(torch.zeros(N_CELLS, 2, 4, 4), labels, which)
    for (x, y), cell in zip(places.values(), after[:, 1].tolist(), strict=True):
        u, v = (-x if which & 1 else x), (-y if which & 2 else y)
        assert cell == cell_of(*((v, u) if which & 4 else (u, v))), (CELLS[cell], x, y)


@pytest.mark.parametrize("mode", range(N_MODES), ids=MODES)
def test_reflections_of_modes(mode) -> None:
    """Optical flow sees in the reflected frames the mode that is right then."""
    clip = make(photographs("training")[1], mode, 5, np.random.default_rng(mode))
    images = torch.from_numpy(clip.frames[None, -2:].astype(np.float32))
    for which in range(8):
        after, labels = training.reflected(images, torch.tensor([[mode, N_CELLS]]), which)
        seen = scores(*after[0].numpy().astype(np.uint8))[:N_MODES].argmax()
        assert seen == labels[0, 0]
        assert labels[0, 1] == N_CELLS


def test_unsure_stays_unsure() -> None:
    labels = torch.tensor([[UNSURE, 3], [2, UNSURE]])
    _, after = training.reflected(torch.zeros(2, 2, 4, 4), labels, 7)
    assert after[0, 0] == after[1, 1] == UNSURE
    assert after[0, 1] >= 0 <= after[1, 0]


def test_what_is_unsure_is_not_learned() -> None:
    outputs = torch.randn(4, 21, dtype=torch.float64, requires_grad=True)
    training.loss(outputs, torch.tensor([[UNSURE, 13], [3, UNSURE]] * 2)).backward()
    gradient = outputs.grad
    assert (gradient[::2, :N_MODES] == 0).all()
    assert (gradient[1::2, N_MODES:] == 0).all()
    assert (gradient[::2, N_MODES:] != 0).all()


def test_settings_tell_networks_apart() -> None:
    plan = training.PerceptionSettings(seed=3, epochs=2)
    assert training.PerceptionSettings.of_fingerprint(plan.fingerprint()) == plan
    with pytest.raises(TypeError):
        training.PerceptionSettings.of_fingerprint(json.dumps({"version": 1}))


def test_train_and_go_on(kenyon, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(training, "N_CLIP_PAIRS", 96)
    monkeypatch.setattr(training, "N_FLIGHT_PAIRS", 24)
    monkeypatch.setattr(training, "TEST_CLIPS", 8)
    arguments = ("train", "avoid", "--float-epochs", 2, "--epochs", 1, "--json")
    first = kenyon(*arguments, "-o", "a.npz")
    assert first.exit_code == 0, first.output
    told = json.loads(first.stdout)
    assert told["equal"]
    assert 0 <= told["mode_accuracy"] <= 1
    # The same, stopped after the first epoch.
    run = training.PerceptionTraining.run

    def stopped(self):
        for one in run(self):
            yield one
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training.PerceptionTraining, "run", stopped)
        assert kenyon(*arguments, "-o", "b.npz").exit_code == 130
    second = kenyon(*arguments, "-o", "b.npz")
    assert "going on after epoch 1 of 3" in second.output
    one, other = (network_file.load(tmp_path / name) for name in ("a.npz", "b.npz"))
    for a, b in zip(one.layers, other.layers, strict=True):
        assert (a.weight == b.weight).all()
        assert (a.bias == b.bias).all()
    # What the chip takes are the camera's grey levels as they are.
    images = np.load("a-images.npy")
    frames = (training.test_part().images * 255).round().numpy()
    assert (images == frames).all()
    assert reference.run(one, images.astype(int))[one.output].shape == (8, 21, 1, 1)
    assert np.load("a-labels.npy").shape == (8, 2)


def test_another_trainings_checkpoint(tmp_path) -> None:
    data = training.Data(*[training.test_part()] * 2)
    path = tmp_path / "checkpoint"
    plan = training.PerceptionSettings(float_epochs=1, epochs=1)
    next(training.PerceptionTraining(plan, data, path).run())
    with pytest.raises(QuantizationError, match="must be a checkpoint of the same settings"):
        training.PerceptionTraining(training.PerceptionSettings(seed=1), data, path)
