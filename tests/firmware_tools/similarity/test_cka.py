"""CKA against its published forms, written down another way."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import permutations
from math import perm, sqrt

import numpy as np
import pytest

from firmware_tools.similarity.cka import Cka, gram, hsic

TOLERANCE = 1e-12


def published_hsic(k: np.ndarray, ell: np.ndarray) -> float:
    """Eq. 5 of Song et al. as it stands, for matrices with their diagonals."""
    n = len(k)
    k, ell = k - np.diag(np.diag(k)), ell - np.diag(np.diag(ell))
    ones = np.ones((n, 1))
    trace = np.trace(k @ ell)
    product = (ones.T @ k @ ones * (ones.T @ ell @ ones)).item() / ((n - 1) * (n - 2))
    mixed = 2 / (n - 2) * (ones.T @ k @ ell @ ones).item()
    return (trace + product - mixed) / (n * (n - 3))


def published_cka(batches: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    both = one = other = 0.0
    for x, y in batches:
        k, ell = x @ x.T, y @ y.T
        both += published_hsic(k, ell)
        one += published_hsic(k, k)
        other += published_hsic(ell, ell)
    return both / sqrt(one * other)


def exact_hsic(x: np.ndarray, y: np.ndarray) -> Fraction:
    """The estimator's definition, in integers: means over tuples of samples that differ."""
    k, ell = (x @ x.T).tolist(), (y @ y.T).tolist()
    n = len(k)
    pairs = sum(k[i][j] * ell[i][j] for i, j in permutations(range(n), 2))
    triples = sum(k[i][j] * ell[i][q] for i, j, q in permutations(range(n), 3))
    fours = sum(k[i][j] * ell[q][r] for i, j, q, r in permutations(range(n), 4))
    return (
        Fraction(pairs, perm(n, 2))
        - 2 * Fraction(triples, perm(n, 3))
        + Fraction(fours, perm(n, 4))
    )


def cka_of(*batches: tuple[np.ndarray, np.ndarray]) -> float:
    total = Cka()
    for x, y in batches:
        total.add([x], [y])
    assert total.n_batches == len(batches)
    return float(total.values[0, 0])


def features(seed: int, n: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, width))


@pytest.mark.parametrize("n", [4, 5, 16, 64])
def test_published_formula(n: int) -> None:
    for seed in range(5):
        x = features(seed, n, 20)
        y = x[:, :7] * x[:, 7:14] + features(99 + seed, n, 7)
        ours = hsic(gram(x)[np.newaxis], gram(y)[np.newaxis])[0, 0]
        wanted = published_hsic(x @ x.T, y @ y.T)
        scale = sqrt(published_hsic(x @ x.T, x @ x.T) * published_hsic(y @ y.T, y @ y.T))
        assert abs(ours - wanted) <= TOLERANCE * scale
        assert abs(cka_of((x, y)) - published_cka([(x, y)])) <= TOLERANCE


def test_minibatches_are_added_before_ratio_and_root() -> None:
    parts = [(features(k, n, 9), features(50 + k, n, 4) * 3**k) for k, n in enumerate((8, 8, 5))]
    parts = [(x, y + x[:, :4]) for x, y in parts]
    ours = cka_of(*parts)
    assert abs(ours - published_cka(parts)) <= TOLERANCE
    mean = np.mean([published_cka([part]) for part in parts])
    assert abs(ours - mean) > 0.01


@pytest.mark.parametrize("seed", range(4))
def test_definition_in_exact_arithmetic(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 16, (7, 12)), rng.integers(-128, 128, (7, 5))
    k, ell = (gram(one)[np.newaxis] for one in (x, y))
    wanted = [exact_hsic(x, y), exact_hsic(x, x), exact_hsic(y, y)]
    scale = sqrt(wanted[1] * wanted[2])
    ours = [hsic(a, b)[0, 0] for a, b in ((k, ell), (k, k), (ell, ell))]
    assert abs(ours[0] - float(wanted[0])) <= TOLERANCE * scale
    assert ours[1] == pytest.approx(float(wanted[1]), rel=TOLERANCE)
    assert ours[2] == pytest.approx(float(wanted[2]), rel=TOLERANCE)
    assert abs(cka_of((x, y)) - float(wanted[0]) / scale) <= TOLERANCE


def test_what_all_samples_share_costs_no_digits() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 3, (6, 5)), rng.integers(0, 3, (6, 4))
    wanted = float(exact_hsic(x, y)) / sqrt(exact_hsic(x, x) * exact_hsic(y, y))
    assert abs(cka_of((x + 10**7, y)) - wanted) <= TOLERANCE


def test_itself() -> None:
    parts = [features(k, 12, 30) for k in range(3)]
    assert abs(cka_of(*((x, x) for x in parts)) - 1) <= TOLERANCE


def test_rotation_and_scale() -> None:
    x = [features(k, 16, 10) for k in range(2)]
    y = [features(9 + k, 16, 6) + one[:, :6] for k, one in enumerate(x)]
    rotation, _ = np.linalg.qr(features(7, 10, 10))
    assert np.abs(rotation @ rotation.T - np.eye(10)).max() < 1e-14
    plain = cka_of(*zip(x, y, strict=True))
    turned = cka_of(*((one @ rotation * 7.3, other / 3) for one, other in zip(x, y, strict=True)))
    assert abs(plain - turned) <= TOLERANCE
    assert 0.1 < plain < 0.9
    stretched = cka_of(*((one * np.arange(1, 11), two) for one, two in zip(x, y, strict=True)))
    assert abs(plain - stretched) > 0.01  # no other linear map


def test_all_pairs_at_once() -> None:
    first = [features(k, 9, 5) for k in range(3)]
    second = [features(20 + k, 9, 4) for k in range(2)]
    total = Cka()
    total.add(first, second)
    assert total.values.shape == (3, 2)
    for row, x in enumerate(first):
        for column, y in enumerate(second):
            assert total.values[row, column] == pytest.approx(cka_of((x, y)), abs=TOLERANCE)


def test_shape_of_features_does_not_count() -> None:
    x, y = features(1, 8, 24), features(2, 8, 3)
    assert cka_of((x.reshape(8, 2, 3, 4), y)) == cka_of((x, y))


@pytest.mark.parametrize("value", [0, 7, 0.1, 1e9 + 0.3])
def test_constant_features_have_none(value: float) -> None:
    x = features(1, 8, 5)
    constant = np.full((8, 5), value)
    assert np.isnan(cka_of((x, constant)))
    assert np.isnan(cka_of((constant, constant)))
    assert not np.isnan(cka_of((x, constant), (x, features(3, 8, 5))))  # of some images only


def test_one_sample_unlike_all_others_has_none() -> None:
    """Its HSIC with itself is 0, though the features differ."""
    x = np.zeros((8, 5))
    x[3] = [0.1, 0.7, 1 / 3, 0, 5]
    assert exact_hsic((x > 0).astype(int), (x > 0).astype(int)) == 0
    assert np.isnan(cka_of((x, features(1, 8, 5))))


def test_too_few_samples() -> None:
    with pytest.raises(ValueError, match="samples must be at least 4, not 3"):
        cka_of((features(1, 3, 5), features(2, 3, 5)))
