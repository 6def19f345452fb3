"""Which sub-networks a round trains.

`diverse` draws genomes that keep a Hamming distance from each other, at first the largest there can
be, in the end 1. Of more candidates than one the first that is far enough is taken, and if none is,
the farthest. `hadamard` keeps the distance as large as rows of a Hadamard matrix have it in every
round; `uniform` draws anything.
"""

from collections.abc import Callable, Iterable, Sequence
from math import prod
from typing import Literal

import numpy as np

from firmware_tools.errors import UserError
from firmware_tools.federation.space import Genome, distance

Sampler = Literal["diverse", "hadamard", "uniform", "full"]
CANDIDATES = 256
"""That are drawn for each genome; spaces that are no larger are looked through."""


def bound(genes: Sequence[int], n: int) -> int:
    """What the least distance of n genomes cannot exceed: the mean one, if options are balanced.

    Plotkin's argument, for genes of any number of options.
    """
    pairs = n * (n - 1) // 2
    if not pairs:
        return len(genes)
    alike = sum(_alike(n, options) for options in genes)
    return (len(genes) * pairs - alike) // pairs


def _alike(n: int, options: int) -> int:
    """Pairs of n genomes that have the same option of a gene, at least."""
    size, rest = divmod(n, options)
    return rest * size * (size + 1) // 2 + (options - rest) * size * (size - 1) // 2


def floor(genes: Sequence[int], n: int, k: int, n_rounds: int) -> int:
    """The distance that round k of n_rounds asks for: from `bound` linearly down to 1."""
    left = 1 - k / max(1, n_rounds - 1)
    return max(1, round(bound(genes, n) * left))


def sample(
    sampler: Sampler, genes: Sequence[int], n: int, k: int, n_rounds: int, seed: int
) -> list[Genome]:
    """The genomes of a round.

    Parameters
    ----------
    sampler : str
        `full` is `uniform`: there every client trains all of them.
    genes : sequence of int
        Options of each gene.
    n : int
        Genomes, all different.
    k, n_rounds : int
        Round, and how many there are.
    seed : int

    Raises
    ------
    UserError
        There are not so many, or Hadamard's matrix has fewer rows.
    """
    if not 1 <= n <= prod(genes):
        raise UserError(f"samples must be 1..{prod(genes)}, as there are networks, not {n}")
    rng = np.random.default_rng((seed, k))
    match sampler:
        case "diverse":
            return _apart(genes, n, floor(genes, n, k, n_rounds), rng)
        case "hadamard":
            return _hadamard(genes, n, rng)
    return _apart(genes, n, 1, rng)


def least_distance(genomes: Sequence[Genome]) -> int:
    """The smallest distance of two of them; genes if there is one only."""
    pairs = [distance(a, b) for k, a in enumerate(genomes) for b in genomes[:k]]
    return min(pairs, default=len(genomes[0]))


def draw(genes: Sequence[int], rng: np.random.Generator) -> Genome:
    """A genome, all being equally likely."""
    return tuple(int(option) for option in rng.integers(0, genes))


def _apart(genes: Sequence[int], n: int, least: int, rng: np.random.Generator) -> list[Genome]:
    chosen = [draw(genes, rng)]
    candidates = _candidates(genes, rng)
    while len(chosen) < n:
        best, far = chosen[0], 0
        for candidate in candidates():
            own = min(distance(candidate, other) for other in chosen)
            if own > far:
                best, far = candidate, own
            if far >= least:
                break
        if far:
            chosen.append(best)
    return chosen


def _candidates(genes: Sequence[int], rng: np.random.Generator) -> Callable[[], Iterable[Genome]]:
    """Draws genomes, or all of a small space in a random order."""
    if prod(genes) > CANDIDATES:
        return lambda: (draw(genes, rng) for _ in range(CANDIDATES))
    everything = [tuple(map(int, one)) for one in np.ndindex(*genes)]
    return lambda: [everything[k] for k in rng.permutation(len(everything))]


def hadamard(order: int) -> np.ndarray:
    """Sylvester's matrix of an order that is a power of two, entries 1 and -1."""
    matrix = np.ones((1, 1), np.int64)
    while len(matrix) < order:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix


def _hadamard(genes: Sequence[int], n: int, rng: np.random.Generator) -> list[Genome]:
    """Rows, with columns and the two options of each gene drawn anew."""
    order = 1 << max(n - 1, len(genes) - 1).bit_length()
    if n > order:
        raise UserError(f"samples must be at most {order} for hadamard, not {n}")
    rows = hadamard(order)[rng.permutation(order)[:n]]
    columns = rng.permutation(order)[: len(genes)]
    pairs = [rng.permutation(options)[:2] for options in genes]
    return [
        tuple(int(pairs[g][int(row[columns[g]] < 0)]) for g in range(len(genes))) for row in rows
    ]
