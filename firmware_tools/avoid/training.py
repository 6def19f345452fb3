"""The perception: a small network that sees motion and looming in two frames, trained here.

Its images are two frames of 32 x 32 pixels as a camera gives them, 8 bits; weights and activations
have 4. Of its 21 results the first 8 stand for the camera's motion, the others for cells of the
view in which something looms: how much they exceed 0, which stands for neither.
"""

import json
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from firmware_tools.avoid import DIRECTIONS, N_CELLS, N_MODES, direction_of
from firmware_tools.avoid.clips import UNSURE, generate, pairs
from firmware_tools.avoid.flights import flight_pairs
from firmware_tools.quantize.digits import Data, Part
from firmware_tools.quantize.training import Settings, Training
from firmware_tools.quantize.twin import Twin, export, quantize
from model.mars.network import QuantizedNetwork

N_CLIP_PAIRS, N_FLIGHT_PAIRS = 12288, 8192
"""Pairs of frames to learn from: of clips, and of flights through the world."""
TEST_CLIPS = 64
TRAINING_SEED, TEST_SEED = 1, 0
SMOOTHING = 0.05
NONE_WEIGHT = 0.3
"""Of what is none of the classes: to miss what looms is worse than to see it where nothing is."""
INPUT_BITS = 8


class PerceptionNet(nn.Module):
    """Four convolutions, three of them with a stride of 2, and a dense layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 32, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.conv2 = nn.Conv2d(32, 32, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(32)
        self.conv3 = nn.Conv2d(32, 64, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(64)
        self.conv4 = nn.Conv2d(64, 64, 3, stride=2, padding=1, bias=False)
        self.bn4 = nn.BatchNorm2d(64)
        self.fc = nn.Linear(64 * 16, N_MODES + N_CELLS)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        x = torch.relu(self.bn3(self.conv3(x)))
        x = torch.relu(self.bn4(self.conv4(x)))
        return self.fc(torch.flatten(x, 1))  # type: ignore[no-any-return]


@dataclass(frozen=True, kw_only=True)
class PerceptionSettings(Settings):
    """What a training of the perception is; as `Settings`."""

    weight_bits: int = 4
    act_bits: int = 4
    float_epochs: int = 10
    epochs: int = 6

    def fingerprint(self) -> str:
        """JSON text that tells trainings apart."""
        return json.dumps({"data": "avoid", "training": super().fingerprint()})

    @staticmethod
    def of_fingerprint(text: str) -> "PerceptionSettings":
        """The settings that have this fingerprint; ValueError if it is another network's."""
        fields = json.loads(text)
        if fields.get("data") != "avoid":
            raise TypeError("another network's")
        return PerceptionSettings(**vars(Settings.of_fingerprint(fields["training"])))

    def new_model(self) -> nn.Module:
        return PerceptionNet()

    def twin(self, model: nn.Module) -> Twin:
        options = dict(self.options)
        return quantize(
            model,
            self.weight_bits,
            self.act_bits,
            self.quantizer,
            input_bits=INPUT_BITS,
            **options,
        )


def load() -> Data:
    """Pairs of the photographs' training parts, and the last pairs of test clips.

    Labels are (n, 2): the mode, and the cell in which something looms, N_CELLS for none; UNSURE
    where neither is known.
    """
    learned = _part(
        [
            *(
                (clip.frames, clip.mode, clip.cells[-1])
                for clip in pairs(N_CLIP_PAIRS, TRAINING_SEED)
            ),
            *flight_pairs(N_FLIGHT_PAIRS, TRAINING_SEED),
        ]
    )
    return Data(learned, test_part())


def test_part() -> Part:
    """The last pair of each test clip."""
    return _part(
        [(c.frames[-2:], c.mode, c.cells[-1]) for c in generate(TEST_CLIPS, TEST_SEED, "test")]
    )


def _part(seen: list[tuple[np.ndarray, int, int]]) -> Part:
    frames = np.stack([frames for frames, _, _ in seen])
    labels = torch.tensor([labels for _, *labels in seen])
    return Part(torch.from_numpy(frames.astype(np.float32) / 255), labels)


def _swapped(pairs_of: tuple[tuple[int, int], ...]) -> Tensor:
    modes = torch.arange(N_MODES)
    for one, other in pairs_of:
        modes[[one, other]] = modes[[other, one]]
    return modes


def _turned_cells(directions: tuple[int, ...]) -> Tensor:
    """The cells, and none, after a reflection that changes the four directions."""
    rings = [4 * ring + direction for ring in range(3) for direction in directions]
    return torch.tensor([*rings, N_CELLS - 1, N_CELLS])


REFLECTIONS = (
    (_swapped(((2, 3), (6, 7))), _turned_cells((0, 1, 3, 2))),
    (_swapped(((0, 1), (6, 7))), _turned_cells((1, 0, 2, 3))),
    (_swapped(((0, 2), (1, 3), (6, 7))), _turned_cells((2, 3, 0, 1))),
)
"""Modes and cells of a view that is mirrored left to right, top to bottom, and at its diagonal."""


def reflected(images: Tensor, labels: Tensor, which: int) -> tuple[Tensor, Tensor]:
    """The images, mirrored in one of 8 ways, and what is right then."""
    modes, cells = labels.unbind(1)
    for k, (new_modes, new_cells) in enumerate(REFLECTIONS):
        if which >> k & 1:
            images = images.flip(3 - k) if k < 2 else images.transpose(2, 3)
            modes = torch.where(modes == UNSURE, modes, new_modes[modes.clamp(min=0)])
            cells = torch.where(cells == UNSURE, cells, new_cells[cells.clamp(min=0)])
    return images, torch.stack([modes, cells], 1)


def with_none(results: Tensor) -> tuple[Tensor, Tensor]:
    """Results of modes and of cells, and behind either the 0 of none."""
    modes, cells = results.split([N_MODES, N_CELLS], 1)
    return functional.pad(modes, (0, 1)), functional.pad(cells, (0, 1))


def loss(results: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of modes and of cells, each only where it is known."""
    modes, cells = (
        functional.cross_entropy(
            scores,
            right,
            weight=torch.ones(scores.shape[1], dtype=scores.dtype).index_fill(
                0, torch.tensor(scores.shape[1] - 1), NONE_WEIGHT
            ),
            ignore_index=UNSURE,
            label_smoothing=SMOOTHING,
        )
        for scores, right in zip(with_none(results), labels.unbind(1), strict=True)
    )
    return modes + cells


@dataclass(frozen=True)
class Accuracy:
    """Shares of the test clips' last pairs that are right."""

    mode: float
    direction: float


def accuracy(model: nn.Module, part: Part) -> Accuracy:
    """How much a network sees rightly."""
    model.eval()
    with torch.no_grad():
        results = model(part.images)
    modes, cells = part.labels.unbind(1)
    directions = torch.tensor([*map(direction_of, range(N_CELLS)), len(DIRECTIONS)])
    seen_modes, seen_cells = (scores.argmax(1) for scores in with_none(results))
    seen = directions[seen_cells]
    return Accuracy(
        float((seen_modes == modes).double().mean()),
        float((seen == directions[cells]).double().mean()),
    )


@dataclass(frozen=True)
class PerceptionResult:
    """What came out; as `firmware_tools.quantize.training.Result`."""

    model: nn.Module
    twin: Twin
    network: QuantizedNetwork
    float_accuracy: Accuracy
    accuracy: Accuracy

    def as_json(self) -> dict[str, object]:
        """The figures."""
        return {
            "float_mode_accuracy": self.float_accuracy.mode,
            "float_direction_accuracy": self.float_accuracy.direction,
            "mode_accuracy": self.accuracy.mode,
            "direction_accuracy": self.accuracy.direction,
        }


class PerceptionTraining(Training):
    """The training of the perception; parameters as of `StagedTraining`."""

    def perception(self) -> PerceptionResult:
        """What came out, measured on the test clips."""
        assert self.twin is not None
        self.twin.eval()
        test = self._data.test
        return PerceptionResult(
            self.model,
            self.twin,
            export(self.twin, "avoid"),
            accuracy(self.model, test),
            accuracy(self.twin, test),
        )

    def _batch(
        self, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        which = int(torch.randint(8, (1,), generator=generator))
        return reflected(images, labels, which)

    def _loss(self, _stage: str, outputs: Tensor, labels: Tensor) -> Tensor:
        return loss(outputs, labels)
