"""What the clients have learned becomes the supernet's next weights."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from firmware_tools.federation.supernet import Positions, Weights


@dataclass(frozen=True)
class Update:
    """What comes back from a client.

    Attributes
    ----------
    positions : (n,) int
        Of the weights that it held, each once.
    values : (n,) float32
    n_images : int
        That it has learned from.
    """

    positions: Positions
    values: Weights
    n_images: int


def aggregate(weights: Weights, updates: Iterable[Update]) -> Weights:
    """Every weight as the mean over the clients that held it, weighted by their images.

    ``w[p] = sum(n_k * w_k[p]) / sum(n_k)``, in float64 and in the order of the updates, so that the
    sum is always the same one; what nobody held stays. The mean over one client is what it sent,
    bit by bit.

    Parameters
    ----------
    weights : (N,) float32
        Before.
    updates : iterable of Update
    """
    total = np.zeros(len(weights))
    images = np.zeros(len(weights))
    for update in updates:
        total[update.positions] += update.n_images * update.values.astype(np.float64)
        images[update.positions] += update.n_images
    held = images > 0
    result = weights.copy()
    result[held] = total[held] / images[held]
    return result
