"""Training of spiking networks: one time step with real weights, then integers in all steps.

A network of one step with real weights and batch normalisation costs a fraction of one of four and
makes early steps good. The steps after it are learned from there, with everything quantised. As in
`firmware_tools.quantize.training`, what is resumed ends with the same weights.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from firmware_tools.quantize import digits, events, training
from firmware_tools.quantize.digits import Data, DigitsNet
from firmware_tools.quantize.errors import QuantizationError
from firmware_tools.quantize.spiking import (
    Share,
    SpikingTwin,
    check_stop,
    export_spiking,
    one_step,
    spike,
    step_loss,
)
from firmware_tools.quantize.spiking_layers import OneSpike
from firmware_tools.quantize.training import (
    FLOAT_DECAY,
    SMOOTHING,
    VERSION,
    Plan,
    Settings,
    StagedTraining,
    accuracy,
    descent,
    parameter_groups,
)
from firmware_tools.quantize.twin import Twin
from firmware_tools.quantize.vit import VitSettings
from model.mars.early_exit import steps_taken
from model.mars.network import QuantizedNetwork
from model.mars.neuron import Metric

FIRST_CHANNELS = 64
"""More than the 16 of the quantised network: each of them says one bit of an image."""
EVENT_CHANNELS = 32
"""The same of events, which are of one bit already."""
ONE_STEP_RATE = 0.1
RATE = 0.002
"""Of Adam."""
Stop = tuple[Metric, float]
"""Metric and threshold of an exit."""


def stop_of(text: str) -> Stop:
    """An exit from text such as "confidence:0.9".

    Raises
    ------
    QuantizationError
        It is none.
    """
    metric, colon, number = text.partition(":")
    try:
        threshold = float(number)
    except ValueError:
        threshold = float("nan")
    if metric not in get_args(Metric) or not colon or np.isnan(threshold):
        raise QuantizationError(
            f"exit must be confidence:THRESHOLD or entropy:THRESHOLD, not {text!r}"
        )
    stop: Stop = ("confidence" if metric == "confidence" else "entropy", threshold)
    check_stop(stop)
    return stop


@dataclass(frozen=True, kw_only=True)
class SpikingSettings(Plan):
    """What a training of a spiking network is.

    Parameters
    ----------
    seed, float_epochs : int
        As of `Plan`.
    time_steps, weight_bits, membrane_bits, input_bits, share
        As of `firmware_tools.quantize.spiking.spike`.
    one_step_epochs, epochs : int
        Of the network of one step; of the quantised one with all steps.
    stop : (str, float) or None
        The exit that is exported; training knows nothing of it.
    events : bool
        The input are spikes of a moving camera (`firmware_tools.quantize.events`), not images.
    """

    time_steps: int = 4
    weight_bits: int = 4
    membrane_bits: int = 4
    input_bits: int = 4
    share: Share | None = None
    float_epochs: int = 15
    one_step_epochs: int = 45
    epochs: int = 8
    stop: Stop | None = None
    events: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stop is not None:
            check_stop(self.stop)
        self.twin(self._network())  # refuses what is out of range, before anything is trained

    @property
    def stages(self) -> dict[str, int]:
        """Epochs of each stage, in order."""
        return {
            "float": self.float_epochs,
            "one_step": self.one_step_epochs,
            "quantised": self.epochs,
        }

    def new_model(self) -> nn.Module:
        """The network of one time step with real weights."""
        return one_step(self._network())

    def _network(self) -> nn.Module:
        return DigitsNet(EVENT_CHANNELS, 2) if self.events else DigitsNet(FIRST_CHANNELS)

    def load(self) -> Data:
        """The digits to train with; test images as the network takes them."""
        return events.load(self.time_steps) if self.events else digits.load()

    def fingerprint(self) -> str:
        """JSON text that tells trainings apart."""
        fields = {"version": VERSION, **asdict(self)}
        del fields["stop"]
        return json.dumps(fields, sort_keys=True)

    @staticmethod
    def of_fingerprint(text: str) -> "SpikingSettings":
        """The settings that have this fingerprint; ValueError if it is of another version."""
        fields = json.loads(text)
        if fields.pop("version") != VERSION:
            raise ValueError("another version's")
        return SpikingSettings(**fields)

    def twin(self, model: nn.Module) -> SpikingTwin:
        """The spiking twin of a float network."""
        return spike(
            model,
            self.time_steps,
            self.weight_bits,
            self.membrane_bits,
            input_bits=self.input_bits,
            coding="spikes" if self.events else "direct",
            share=self.share,
        )


@dataclass(frozen=True)
class SpikingResult:
    """What came out.

    Attributes
    ----------
    model : nn.Module
        The network of one step with real weights.
    twin : SpikingTwin
    network : QuantizedNetwork
    one_step_accuracy : float
        Share of the test images that it gets right.
    by_step : (time_steps,) tuple of float
        That of the spiking network after each step.
    exit_accuracy, mean_steps : float or None
        With the exit, if there is one.
    """

    model: nn.Module
    twin: SpikingTwin
    network: QuantizedNetwork
    one_step_accuracy: float
    by_step: tuple[float, ...]
    exit_accuracy: float | None
    mean_steps: float | None

    @property
    def accuracy(self) -> float:
        """After all steps."""
        return self.by_step[-1]

    def as_json(self) -> dict[str, object]:
        """The figures."""
        return {
            "one_step_accuracy": self.one_step_accuracy,
            "accuracy": self.accuracy,
            "accuracy_by_step": list(self.by_step),
            "exit_accuracy": self.exit_accuracy,
            "mean_steps": self.mean_steps,
        }


class EachStep(nn.Module):
    """A network without time on the spikes of every time step: the mean of its logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, spikes: Tensor) -> Tensor:
        """Logits (N, classes) of spikes (N, time_steps, C, H, W)."""
        logits: Tensor = self.model(spikes.flatten(0, 1))
        return logits.view(len(spikes), -1, logits.shape[-1]).mean(1)


class SpikingTraining(StagedTraining):
    """The training of a spiking network; parameters as of `StagedTraining`.

    A model that is given is one of `one_step` and has been trained: only the last stage is left.
    """

    real_stages = frozenset({"float", "one_step"})
    settings: SpikingSettings
    twin: SpikingTwin | None

    def __init__(
        self,
        settings: SpikingSettings,
        data: Data,
        checkpoint: Path | None = None,
        model: nn.Module | None = None,
    ) -> None:
        super().__init__(settings, data, checkpoint, model)
        if model is not None:
            self._schedule = [each for each in self._schedule if each[0] == "quantised"]

    def finish(self) -> SpikingResult:
        """What came out, measured on the test set."""
        assert self.twin is not None
        self.twin.eval()
        network = export_spiking(self.twin, "digits", stop=self.settings.stop)
        test = self._data.test
        logits = summed_logits(self.twin, test.images)
        hits = logits.argmax(2) == test.labels.numpy()[:, None]
        exit_accuracy = mean_steps = None
        if network.exit is not None:
            steps = steps_taken(network.exit, logits)
            exit_accuracy = float(hits[np.arange(len(hits)), steps - 1].mean())
            mean_steps = float(steps.mean())
        return SpikingResult(
            self.model,
            self.twin,
            network,
            accuracy(self._real_model(), test),
            tuple(float(share) for share in hits.mean(axis=0)),
            exit_accuracy,
            mean_steps,
        )

    def _real_model(self) -> nn.Module:
        return EachStep(self.model) if self.settings.events else self.model

    def _module(self, stage: str) -> nn.Module:
        return self._real_model() if stage in self.real_stages else super()._module(stage)

    def _batch(
        self, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        moved, labels = super()._batch(images, labels, generator)
        if self.settings.events:
            moved = events.look(moved, self.settings.time_steps, generator)
        return moved, labels

    def _first_images(self) -> Tensor:
        images = super()._first_images()
        if not self.settings.events:
            return images
        generator = torch.Generator().manual_seed(self.settings.seed)
        return events.look(images, self.settings.time_steps, generator)

    def _loss(self, stage: str, outputs: Tensor, labels: Tensor) -> Tensor:
        if stage in self.real_stages:
            return functional.cross_entropy(outputs, labels, label_smoothing=SMOOTHING)
        return step_loss(outputs, labels, label_smoothing=SMOOTHING)

    def _enter(self, stage: str) -> None:
        for module in self.model.modules():
            if isinstance(module, OneSpike):
                module.spikes = stage != "float"

    def _real_optimizer(self, stage: str) -> torch.optim.Optimizer:
        if stage == "float":
            return super()._real_optimizer(stage)
        return descent([{"params": list(self.model.parameters())}], ONE_STEP_RATE, FLOAT_DECAY)

    def _twin_optimizer(self, stage: str) -> torch.optim.Optimizer:
        del stage
        assert self.twin is not None
        return torch.optim.Adam(parameter_groups(self.twin, RATE))


def one_step_network(settings: SpikingSettings, data: Data) -> nn.Module:
    """What a training has before anything is quantised; a training can begin with it."""
    training = SpikingTraining(settings, data)
    n_epochs = settings.float_epochs + settings.one_step_epochs
    for _stage, done in training.run():
        if done == n_epochs:
            break
    return training.model


def summed_logits(twin: SpikingTwin, images: Tensor) -> np.ndarray:
    """Integer logits summed over the steps so far, (N, time_steps, classes)."""
    logits = list(twin.integers(images).values())[-1]
    return logits.reshape(*logits.shape[:2], -1)


def train(running: SpikingTraining) -> SpikingResult:
    """Run a training to its end."""
    for _ in running.run():
        pass
    return running.finish()


def load_result(path: Path) -> tuple[nn.Module, Twin]:
    """The float network and its twin, quantised or spiking, out of a file of kenyon train."""
    return training.load_result(path, (VitSettings, Settings, SpikingSettings))
