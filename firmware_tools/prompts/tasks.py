"""What a transformer that has learned the digits is adapted to: six tasks with fixed splits.

Four show the digits in another way or ask something else of them, two show the photographs that
scikit-learn brings. The digits' split is the one of `quantize.digits`; of the photographs the left
columns are learned from and the right ones tested with, so that no pixel is in both.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from firmware_tools.avoid.pictures import Part as PicturePart
from firmware_tools.avoid.pictures import photographs
from firmware_tools.quantize import digits
from firmware_tools.quantize.digits import Data, Part

N_TRAINING, N_TEST = 1297, 500
"""Crops of the photographs, as many as there are digits."""
CROP = 16
"""Pixels of a crop per axis, shown as 8x8."""
NAMES = ("rotated", "negative", "shuffled", "parity", "photograph", "orientation")
"""Of the tasks."""
SEED = 2025
"""Of the crops and of the order of the patches; no other has been tried."""


@dataclass(frozen=True)
class Task:
    """Images and their classes.

    Attributes
    ----------
    name : str
    classes : int
    data : Data
    """

    name: str
    classes: int
    data: Data


def source() -> Task:
    """What the transformer learns before it stands still: the digits as they are."""
    return Task("digits", 10, digits.load())


def targets() -> tuple[Task, ...]:
    """The six tasks that it is adapted to."""
    return tuple(map(target, NAMES))


def target(name: str) -> Task:
    """The task of that name."""
    match name:
        case "rotated":
            return _digits(name, 10, lambda part: (part.images.rot90(1, (2, 3)), part.labels))
        case "negative":
            return _digits(name, 10, lambda part: (1 - part.images, part.labels))
        case "shuffled":
            return _digits(name, 10, lambda part: (_shuffled(part.images), part.labels))
        case "parity":
            return _digits(name, 2, lambda part: (part.images, part.labels % 2))
        case "photograph":
            return _crops(name, 2, lambda crop, which, _turn: (crop, which))
        case "orientation":
            return _crops(name, 4, lambda crop, _which, turn: (np.rot90(crop, turn), turn))
    raise KeyError(name)


def _digits(name: str, classes: int, change: Callable[[Part], tuple[Tensor, Tensor]]) -> Task:
    data = digits.load()
    return Task(name, classes, Data(Part(*change(data.training)), Part(*change(data.test))))


def _shuffled(images: Tensor) -> Tensor:
    """The sixteen patches of 2x2 pixels in another order, the same for all images."""
    order = np.random.default_rng(SEED).permutation(16)
    patches = images.view(-1, 4, 2, 4, 2).permute(0, 1, 3, 2, 4).reshape(-1, 16, 2, 2)
    return (
        patches[:, order.tolist()].view(-1, 4, 4, 2, 2).permute(0, 1, 3, 2, 4).reshape(images.shape)
    )


Choice = Callable[[np.ndarray, int, int], tuple[np.ndarray, int]]


def _crops(name: str, classes: int, choose: Choice) -> Task:
    return Task(
        name, classes, Data(_cut("training", N_TRAINING, choose), _cut("test", N_TEST, choose))
    )


def _cut(part: PicturePart, n: int, choose: Choice) -> Part:
    """Crops of both photographs in turn, each stretched to 0..1."""
    rng = np.random.default_rng(SEED)
    pictures = photographs(part)
    images, labels = [], []
    for k in range(n):
        which, turn = k % len(pictures), int(rng.integers(4))
        rows, columns = pictures[which].shape
        top, left = int(rng.integers(rows - CROP + 1)), int(rng.integers(columns - CROP + 1))
        crop = pictures[which][top : top + CROP, left : left + CROP]
        small = crop.reshape(8, 2, 8, 2).mean(axis=(1, 3))
        image, label = choose((small - small.min()) / max(float(np.ptp(small)), 1.0), which, turn)
        images.append(image.astype(np.float32))
        labels.append(label)
    return Part(torch.from_numpy(np.stack(images))[:, None], torch.tensor(labels))
