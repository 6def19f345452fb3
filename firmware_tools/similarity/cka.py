"""Minibatch unbiased centred kernel alignment (CKA).

Of a minibatch of n samples with features X (n, p) and Y (n, q), K = XX' and L = YY' with diagonals
of 0, and 1 a column of ones::

    HSIC(K, L) = [tr(KL) + (1'K1)(1'L1)/((n-1)(n-2)) - 2/(n-2) 1'KL1] / (n(n-3))
    CKA = sum HSIC(K, L) / sqrt(sum HSIC(K, K) * sum HSIC(L, L))       sums over minibatches

Song et al., JMLR 13 (2012); Nguyen et al., arXiv 2010.15327; of spiking networks Li et al., arXiv
2304.13098.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Array = NDArray[Any]

SAMPLES_MIN = 4
"""Fewest samples of a minibatch: the formula divides by n - 3."""
ROUNDING = 1e-12
"""Share of tr(KK) below which HSIC(K, K) is what rounding has left of 0."""


def gram(features: Array) -> Floats:
    """XX' with a diagonal of 0, (n, n), of features (n, ...).

    What all samples have in common is subtracted before: HSIC does not see it, but rounding would.
    """
    rows = features.reshape(len(features), -1).astype(np.float64)
    rows -= rows.mean(axis=0)
    result: Floats = rows @ rows.T
    np.fill_diagonal(result, 0)
    return result


def hsic(first: Floats, second: Floats) -> Floats:
    """Unbiased HSIC of all pairs.

    Parameters
    ----------
    first, second : (A, n, n) and (B, n, n) float
        Matrices of `gram`, n at least 4.

    Returns
    -------
    (A, B) float64
    """
    n = first.shape[-1]
    if n < SAMPLES_MIN:
        raise ValueError(f"samples must be at least {SAMPLES_MIN}, not {n}")
    traces = first.reshape(len(first), -1) @ second.reshape(len(second), -1).T
    rows, columns = first.sum(axis=2), second.sum(axis=2)
    sums = np.outer(rows.sum(axis=1), columns.sum(axis=1)) / ((n - 1) * (n - 2))
    result: Floats = (traces + sums - 2 / (n - 2) * (rows @ columns.T)) / (n * (n - 3))
    return result


class Cka:
    """Adds up minibatches of the same features of two networks, some of each.

    Attributes
    ----------
    n_batches : int
    """

    def __init__(self) -> None:
        self.n_batches = 0
        self._both: Floats = np.zeros(())
        self._own: tuple[Floats, Floats] = (np.zeros(()), np.zeros(()))

    def add(self, first: Sequence[Array], second: Sequence[Array]) -> None:
        """Add a minibatch.

        Parameters
        ----------
        first, second : A and B arrays (n, ...)
            Features of each network, always in the same order.
        """
        grams = [np.stack([gram(one) for one in features]) for features in (first, second)]
        self._both = self._both + hsic(*grams)
        one, other = (own + _of_itself(k) for own, k in zip(self._own, grams, strict=True))
        self._own = (one, other)
        self.n_batches += 1

    @property
    def values(self) -> Floats:
        """CKA of each pair, (A, B); NaN where features are the same for all samples."""
        scale = np.sqrt(np.outer(*self._own))
        result: Floats = np.full(scale.shape, np.nan)
        np.divide(self._both, scale, out=result, where=scale > 0)
        return result


def _of_itself(grams: Floats) -> Floats:
    """HSIC(K, K), (A,): exactly 0 if only rounding is left."""
    n = grams.shape[-1]
    own = np.array([hsic(one[np.newaxis], one[np.newaxis])[0, 0] for one in grams])
    largest = (grams**2).sum(axis=(1, 2)) / (n * (n - 3))
    return np.where(own > ROUNDING * largest, own, 0.0)
