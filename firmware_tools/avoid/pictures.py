"""The two photographs that scikit-learn brings, china and flower, in parts that share no pixel."""

from functools import cache
from typing import Literal

import numpy as np

from firmware_tools.avoid.rendering import Picture
from firmware_tools.errors import UserError

Part = Literal["training", "test"]
TRAINING_SHARE = 0.6
"""Of the columns of each photograph, on its left; the rest is for the test."""
SHRINK = 2
"""Pixels of the photograph, per axis, in one of ours."""


@cache
def photographs(part: Part) -> tuple[Picture, ...]:
    """A part of each photograph, grey.

    Raises
    ------
    UserError
        scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_sample_images
    except ImportError:
        raise UserError("the photographs need scikit-learn: pip install 'kenyon[vision]'") from None
    return tuple(_part(image.mean(axis=2), part) for image in load_sample_images().images)


def _part(grey: Picture, part: Part) -> Picture:
    small = shrunk(grey)
    border = round(TRAINING_SHARE * small.shape[1])
    chosen = small[:, :border] if part == "training" else small[:, border:]
    return np.asarray(chosen, np.float32, order="C")


def shrunk(grey: Picture) -> Picture:
    """Means of SHRINK x SHRINK pixels."""
    rows, columns = (size // SHRINK for size in grey.shape)
    tiles = grey[: rows * SHRINK, : columns * SHRINK].reshape(rows, SHRINK, columns, SHRINK)
    return np.asarray(tiles.mean(axis=(1, 3)), np.float32)
