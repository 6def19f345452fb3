"""Two networks, place by place, and where they part."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from firmware_tools.similarity.cka import SAMPLES_MIN, Cka, Floats
from firmware_tools.similarity.features import By, Place, Subject


@dataclass(frozen=True)
class Pair:
    """A place of each network, and their CKA; None if it has none."""

    first: Place
    second: Place
    cka: float | None


@dataclass(frozen=True)
class Similarity:
    """CKA of every place of two networks.

    Parameters
    ----------
    first, second : tuple of Place
        Rows and columns.
    cka : (rows, columns) float64
        NaN for features that are the same for all images.
    images, batches : int
        What was used.
    """

    first: tuple[Place, ...]
    second: tuple[Place, ...]
    cka: Floats
    images: int
    batches: int

    def at(self, row: int, column: int) -> Pair:
        """One pair of places."""
        value = float(self.cka[row, column])
        return Pair(self.first[row], self.second[column], None if np.isnan(value) else value)

    def row(self, row: int) -> tuple[Pair, ...]:
        """A place of the first network with every one of the second."""
        return tuple(self.at(row, column) for column in range(len(self.second)))

    @property
    def is_by_name(self) -> bool:
        """Whether layers have the same names in both networks, some at least."""
        return bool({one.layer for one in self.first} & {one.layer for one in self.second})

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Layers of the same name, steps of the same number if both have any; in the first's order.

        If no names are the same, every place of the first network and the place most like it.
        """
        if not self.is_by_name:
            rows = np.flatnonzero(~np.isnan(self.cka).all(axis=1)).tolist()
            return tuple(self.at(row, int(np.nanargmax(self.cka[row]))) for row in rows)
        return tuple(
            self.at(row, column)
            for row, one in enumerate(self.first)
            for column, other in enumerate(self.second)
            if one.layer == other.layer and (one.step == other.step or not one.step * other.step)
        )

    def parting(self, below: float) -> Pair | None:
        """The first of the pairs with a CKA below a value."""
        return next((p for p in self.pairs if p.cka is not None and p.cka < below), None)


def batches_of(n_images: int, size: int) -> list[slice]:
    """Minibatches in order; fewer images than the formula takes are left out at the end."""
    starts = range(0, n_images, size)
    parts = [slice(start, min(start + size, n_images)) for start in starts]
    return [part for part in parts if part.stop - part.start >= SAMPLES_MIN]


def compare(
    first: Subject,
    second: Subject,
    by: By,
    batch: int,
    advance: Callable[[int], None] = lambda _done: None,
) -> Similarity:
    """CKA of all places of two networks that get the same images.

    Parameters
    ----------
    first, second : Subject
        As many inputs each, at least 4.
    by : "layer" or "step"
    batch : int
        Images of a minibatch, at least 4.
    advance : callable
        Is told how many images are done.
    """
    total = Cka()
    parts = batches_of(len(first.inputs), batch)
    for part in parts:
        one, other = first.features(part, by), second.features(part, by)
        total.add(list(one.values()), list(other.values()))
        advance(part.stop)
    images = sum(part.stop - part.start for part in parts)
    return Similarity(tuple(one), tuple(other), total.values, images, total.n_batches)
