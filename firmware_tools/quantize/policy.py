"""A policy: a small quantised network that says how many time steps an image gets.

SEENN-II (arXiv 2304.01230) has a network choose the number of time steps before the first one, and
trains it by policy gradient with the reward

    R(t) = 1/2^t     if the spiking network is right behind step t
           -penalty  else

of the step t = 1..T that was drawn from p = softmax(policy(image)). As of every step it is known
whether the network is right, the expectation E[R] = sum_t p_t R(t) is taken in place of draws: its
gradient is that of REINFORCE without variance.

The networks know the images that they were trained with, so the policy's are noisier; that, the
penalty, network and rates are ours.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from firmware_tools.quantize.digits import Data, Part, augmented
from firmware_tools.quantize.layers import Ints
from firmware_tools.quantize.spiking import SpikingTwin
from firmware_tools.quantize.spiking_training import summed_logits
from firmware_tools.quantize.training import (
    BATCH,
    VERSION,
    Plan,
    StagedTraining,
    parameter_groups,
)
from firmware_tools.quantize.twin import Twin, export, quantize
from model.mars.network import QuantizedNetwork

COPIES = 4
"""Of each training image, moved and with noise."""
NOISE = 0.15
"""Largest standard deviation of a copy's noise; images are 0..1."""
RATE, QUANTISED_RATE = 2e-3, 5e-4
"""Of Adam."""


@dataclass(frozen=True, kw_only=True)
class PolicySettings(Plan):
    """What a training of a policy is.

    Parameters
    ----------
    seed, float_epochs : int
        As of `Plan`.
    epochs : int
        Quantised.
    time_steps : int
        That it chooses among, from 1 on.
    weight_bits, act_bits, input_bits : int
        Of its own layers; of the images, as of the spiking network.
    penalty : float
        That a wrong class costs.
    teacher : str
        Tells spiking networks apart.
    """

    float_epochs: int = 6
    epochs: int = 4
    time_steps: int = 4
    weight_bits: int = 4
    act_bits: int = 4
    input_bits: int = 4
    penalty: float = 16.0
    teacher: str = ""

    @property
    def stages(self) -> dict[str, int]:
        """Epochs of each stage, in order."""
        return {"float": self.float_epochs, "quantised": self.epochs}

    def fingerprint(self) -> str:
        """JSON text that tells trainings apart."""
        return json.dumps({"version": VERSION, **asdict(self)}, sort_keys=True)

    def new_model(self) -> nn.Module:
        """Two convolutions and a dense layer."""
        return nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(128, self.time_steps),
        )

    def twin(self, model: nn.Module) -> Twin:
        """The quantised twin of a policy."""
        return quantize(model, self.weight_bits, self.act_bits, "lsq", input_bits=self.input_bits)


@dataclass(frozen=True)
class PolicyResult:
    """What came out.

    Attributes
    ----------
    network : QuantizedNetwork
    accuracy, mean_steps : float
        Of the spiking network on the test images, with the steps that the policy chooses.
    images_by_steps : (time_steps,) tuple of int
        Test images for which it chooses 1, 2, ... steps.
    """

    network: QuantizedNetwork
    accuracy: float
    mean_steps: float
    images_by_steps: tuple[int, ...]

    def as_json(self) -> dict[str, object]:
        """The figures."""
        return {
            "accuracy": self.accuracy,
            "mean_steps": self.mean_steps,
            "images_by_steps": list(self.images_by_steps),
        }


class PolicyTraining(StagedTraining):
    """The training of a policy for a spiking network that has been trained.

    Parameters
    ----------
    spiking : SpikingTwin
    data : Data
    checkpoint : Path or None
        As of `StagedTraining`.
    seed, float_epochs, epochs : int
        As of `PolicySettings`.
    """

    settings: PolicySettings

    def __init__(
        self, spiking: SpikingTwin, data: Data, checkpoint: Path | None = None, **plan: int
    ) -> None:
        spiking.eval()
        self._spiking = spiking
        self._test = data.test
        settings = PolicySettings(
            time_steps=spiking.time_steps,
            input_bits=spiking.inputs.bits,
            teacher=_fingerprint(spiking),
            **plan,
        )
        images, labels = harder(data.training, settings.seed)
        right = torch.from_numpy(is_right(spiking, images, labels))
        super().__init__(
            settings, Data(Part(images, rewards(right, settings.penalty)), data.test), checkpoint
        )

    def finish(self) -> PolicyResult:
        """What came out, measured on the test set."""
        assert self.twin is not None
        self.twin.eval()
        test = self._test
        choices = list(self.twin.integers(test.images).values())[-1].reshape(len(test), -1)
        steps = choices.argmax(1)
        right = is_right(self._spiking, test.images, test.labels)
        counts = np.bincount(steps, minlength=self.settings.time_steps)
        return PolicyResult(
            export(self.twin, "policy"),
            float(right[np.arange(len(test)), steps].mean()),
            float(steps.mean()) + 1,
            tuple(counts.tolist()),
        )

    def _batch(
        self, images: Tensor, labels: Tensor, _generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Rewards are those of the images as they are."""
        return images, labels

    def _loss(self, _stage: str, outputs: Tensor, labels: Tensor) -> Tensor:
        return loss(outputs, labels)

    def _begin(self, stage: str) -> None:
        super()._begin(stage)
        if self.twin is not None:
            # It takes the same integers as the spiking network.
            self.twin.inputs.load_state_dict(self._spiking.inputs.state_dict())

    def _real_optimizer(self, _stage: str) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.model.parameters(), RATE)

    def _twin_optimizer(self, _stage: str) -> torch.optim.Optimizer:
        assert self.twin is not None
        return torch.optim.Adam(parameter_groups(self.twin, QUANTISED_RATE))


def loss(logits: Tensor, reward: Tensor) -> Tensor:
    """The expected reward, negative; logits and reward of each number of steps, (N, time_steps)."""
    return -(logits.softmax(1) * reward).sum(1).mean()


def rewards(right: Tensor, penalty: float) -> Tensor:
    """Of each number of steps, (N, time_steps), by whether the network is right behind it."""
    costs = 0.5 ** torch.arange(1, right.shape[1] + 1)
    return torch.where(right, costs, -penalty)


def is_right(spiking: SpikingTwin, images: Tensor, labels: Tensor) -> Ints:
    """Whether the class is right behind each step, (N, time_steps) bool."""
    logits = [summed_logits(spiking, batch) for batch in images.split(BATCH)]
    return np.asarray(np.concatenate(logits).argmax(2) == labels.numpy()[:, None])


def harder(part: Part, seed: int) -> tuple[Tensor, Tensor]:
    """Copies of images with noise, so that some need more time steps; and their labels."""
    generator = torch.Generator().manual_seed(seed)
    copies = []
    for _ in range(COPIES):
        moved = augmented(part.images, generator)
        size = NOISE * torch.rand(len(moved), 1, 1, 1, generator=generator)
        noise = torch.randn(moved.shape, generator=generator)
        copies.append((moved + size * noise).clamp(0, 1))
    return torch.cat(copies), part.labels.repeat(COPIES)


def _fingerprint(spiking: SpikingTwin) -> str:
    digest = hashlib.sha256()
    for name, value in spiking.state_dict().items():
        digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()[:16]
