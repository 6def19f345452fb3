"""scikit-learn's digits: the data with their fixed split, and the network that is trained on them.

1,797 images of 8x8 pixels, 0..16, here 0..1. The split is stratified with a fixed seed: 1,297
images to train with and 500 to test with. What had to be chosen (learning rates, epochs, ASR's
k, ...) was chosen with the last 297 of a stratified split of the training part held out, never with
the test set.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

N_TEST = 500
N_HELD_OUT = 297
SPLIT_SEED = 2025
"""Not a choice among several: no other has been tried."""
SHIFT = 1
"""Training images are moved by up to a pixel."""


@dataclass(frozen=True)
class Part:
    """Images (N, 1, 8, 8), 0..1, and their classes."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Data:
    """What is trained with, and what is measured with."""

    training: Part
    test: Part


def load(*, held_out: bool = False) -> Data:
    """The digits.

    Parameters
    ----------
    held_out : bool
        Split the training part once more, and leave the test set alone: for choosing.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    split = train_test_split(
        images, labels, test_size=N_TEST, stratify=labels, random_state=SPLIT_SEED
    )
    if held_out:
        split = train_test_split(
            split[0], split[2], test_size=N_HELD_OUT, stratify=split[2], random_state=SPLIT_SEED
        )
    return Data(_part(split[0], split[2]), _part(split[1], split[3]))


def _part(images: np.ndarray, labels: np.ndarray) -> Part:
    maps = images.reshape(-1, 1, 8, 8).astype(np.float32) / 16
    return Part(torch.from_numpy(maps), torch.from_numpy(labels.astype(np.int64)))


def augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image moved by -1..1 pixels in both directions."""
    padded = functional.pad(images, (SHIFT,) * 4)
    n, side = len(images), images.shape[-1]
    rows, columns = torch.randint(0, 2 * SHIFT + 1, (2, n, 1), generator=generator)
    span = torch.arange(side)
    image = torch.arange(n)[:, None, None]
    return padded[image, 0, (rows + span)[:, :, None], (columns + span)[:, None, :]][:, None]


class Block(nn.Module):
    """Two convolutions around which the input is added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        inner = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(inner)) + x)


class DigitsNet(nn.Module):
    """Convolutions of 16, 32 and 64 channels, two residuals, two pools, a dense layer.

    It has 331 group-sets, 160 of them where the maps are 2x2.

    Parameters
    ----------
    first : int
        Channels of the first convolution.
    channels : int
        Of the images.
    """

    def __init__(self, first: int = 16, channels: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, first, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(first)
        self.conv2 = nn.Conv2d(first, 32, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(32)
        self.pool1 = nn.MaxPool2d(2)
        self.block = Block(32)
        self.conv3 = nn.Conv2d(32, 64, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(64)
        self.pool2 = nn.MaxPool2d(2)
        self.conv4 = nn.Conv2d(64, 64, 3, padding=1, bias=False)
        self.bn4 = nn.BatchNorm2d(64)
        self.fc = nn.Linear(256, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.pool1(torch.relu(self.bn2(self.conv2(x))))
        x = self.block(x)
        x = self.pool2(torch.relu(self.bn3(self.conv3(x))))
        x = torch.relu(self.bn4(self.conv4(x)) + x)
        return self.fc(torch.flatten(x, 1))  # type: ignore[no-any-return]
