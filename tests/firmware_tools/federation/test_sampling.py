from itertools import combinations, product

import numpy as np
import pytest
from scipy.linalg import hadamard as scipys

from firmware_tools.errors import UserError
from firmware_tools.federation.sampling import bound, floor, hadamard, least_distance, sample
from firmware_tools.federation.space import GENES, distance

BINARY = (2,) * 16


def best_possible(genes: tuple[int, ...], n: int) -> int:
    """The largest least distance of n genomes, of all choices there are."""
    everything = list(product(*map(range, genes)))
    return max(
        least_distance((everything[0], *rest)) for rest in combinations(everything[1:], n - 1)
    )


@pytest.mark.parametrize("order", [1, 2, 8, 16])
def test_hadamards_matrix_is_scipys(order: int) -> None:
    assert np.array_equal(hadamard(order), scipys(order))


@pytest.mark.parametrize("order", [4, 8, 16])
def test_rows_of_hadamards_matrix_reach_the_bound(order: int) -> None:
    rows = [tuple(row) for row in scipys(order)]
    assert {distance(a, b) for a, b in combinations(rows, 2)} == {order // 2}
    assert bound((2,) * order, order) == order // 2


@pytest.mark.parametrize("genes", [(2, 2, 2), (2, 3), (3, 2, 2), (2, 2, 2, 2)])
@pytest.mark.parametrize("n", [2, 3, 4])
def test_bound_is_not_beaten_by_any_choice(genes: tuple[int, ...], n: int) -> None:
    assert best_possible(genes, n) <= bound(genes, n)


@pytest.mark.parametrize("genes", [(2, 2, 2), (3, 3), (2, 2, 3), (2, 2, 2, 2), (2,)])
def test_two_diverse_samples_are_as_far_apart_as_any(genes: tuple[int, ...]) -> None:
    for seed in range(20):
        found = least_distance(sample("diverse", genes, 2, 0, 10, seed))
        assert found == best_possible(genes, 2) == len(genes)


@pytest.mark.parametrize(
    ("genes", "n"), [((2, 2, 2), 4), ((3, 3), 3), ((2,) * 4, 4), ((2, 3, 2), 4)]
)
def test_more_are_at_least_half_as_far_apart_as_any(genes: tuple[int, ...], n: int) -> None:
    """What taking the farthest one each time guarantees in a metric space (Gonzalez 1985)."""
    best = best_possible(genes, n)
    found = [least_distance(sample("diverse", genes, n, 0, 10, seed)) for seed in range(40)]
    assert 2 * min(found) >= best == max(found)


def test_hadamard_samples_keep_half_of_the_genes_apart_in_every_round() -> None:
    for k in range(8):
        for n in (2, 8, 16):
            genomes = sample("hadamard", GENES, n, k, 8, 3)
            assert least_distance(genomes) == 8
            assert all(
                0 <= x < n_options
                for one in genomes
                for x, n_options in zip(one, GENES, strict=True)
            )


def test_floor_falls_from_the_bound_to_one() -> None:
    floors = [floor(GENES, 8, k, 20) for k in range(20)]
    assert floors[0] == bound(GENES, 8) == 10
    assert floors[-1] == 1
    assert floors == sorted(floors, reverse=True)
    assert floor(GENES, 8, 0, 1) == 10


def test_diverse_keeps_the_floor_once_it_can_and_shrinks() -> None:
    rounds = [sample("diverse", GENES, 8, k, 20, 0) for k in range(20)]
    for k, genomes in enumerate(rounds):
        if floor(GENES, 8, k, 20) <= 8:
            assert least_distance(genomes) >= floor(GENES, 8, k, 20)
    early, late = (
        np.mean([least_distance(one) for one in part]) for part in (rounds[:5], rounds[-5:])
    )
    assert early > late + 1


def test_first_diverse_round_of_binary_genes_is_not_above_hadamards() -> None:
    for seed in range(5):
        assert least_distance(sample("diverse", BINARY, 16, 0, 10, seed)) <= 8


@pytest.mark.parametrize("sampler", ["diverse", "hadamard", "uniform", "full"])
def test_same_seed_same_samples_and_all_differ(sampler: str) -> None:
    first = sample(sampler, GENES, 8, 3, 10, 5)
    assert first == sample(sampler, GENES, 8, 3, 10, 5)
    assert len(set(first)) == 8
    assert first != sample(sampler, GENES, 8, 4, 10, 5)
    assert first != sample(sampler, GENES, 8, 3, 10, 6)


def test_all_genomes_of_a_small_space_can_be_asked_for() -> None:
    for sampler in ("diverse", "uniform"):
        assert sorted(sample(sampler, (2, 3), 6, 0, 1, 0)) == list(product(range(2), range(3)))


def test_uniform_takes_every_option_as_often() -> None:
    drawn = np.array([one for k in range(400) for one in sample("uniform", GENES, 4, k, 400, 0)])
    for gene, n_options in enumerate(GENES):
        counts = np.bincount(drawn[:, gene], minlength=n_options)
        expected = len(drawn) / n_options
        assert ((counts - expected) ** 2 / expected).sum() < 25  # chi squared, 3 degrees: 1e-5


@pytest.mark.parametrize(("genes", "n"), [((2, 2), 5), ((2, 2), 0)])
def test_more_samples_than_genomes_are_refused(genes: tuple[int, ...], n: int) -> None:
    with pytest.raises(UserError, match=f"samples must be 1..4, as there are networks, not {n}"):
        sample("diverse", genes, n, 0, 1, 0)


def test_more_samples_than_rows_are_refused() -> None:
    with pytest.raises(UserError, match="not 4000000"):
        sample("uniform", (2,) * 4, 4_000_000, 0, 1, 0)
