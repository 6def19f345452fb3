"""Which sub-network is taken: accuracy on held-out images against clocks on the chip."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np

from firmware_tools.errors import UserError
from firmware_tools.federation.evaluation import accuracies, clocks
from firmware_tools.federation.partition import Images
from firmware_tools.federation.sampling import draw
from firmware_tools.federation.space import GENES, LARGEST, SMALLEST, Genome, Subnet
from firmware_tools.federation.supernet import Weights
from model.mars.config import MarsConfig
from model.mars.mapper import FitError

N_FIRST = 14
"""Drawn uniformly, beside the largest and the smallest one."""
GENERATIONS = 6
OFFSPRING = 12
MUTATIONS = 2
"""Genes of which a child has another option, at most."""
TOLERANCE = 0.005
"""The fastest one is taken that misses the best accuracy by no more."""


@dataclass(frozen=True)
class Candidate:
    """A sub-network that has been looked at.

    Attributes
    ----------
    genome : Genome
    accuracy : float
        Share of the held-out images that the float network gets right.
    clocks : int
        Of a frame.
    """

    genome: Genome
    accuracy: float
    clocks: int

    @property
    def subnet(self) -> Subnet:
        """With all its units."""
        return Subnet.of(self.genome)

    def as_json(self) -> dict[str, object]:
        """Everything, and the network in words."""
        return {**asdict(self), "network": str(self.subnet), "macs": self.subnet.macs}


def front(candidates: list[Candidate]) -> list[Candidate]:
    """Those that no other one beats in both, the fastest first."""
    found: list[Candidate] = []
    for one in sorted(candidates, key=lambda c: (c.clocks, -c.accuracy, c.genome)):
        if not found or one.accuracy > found[-1].accuracy:
            found.append(one)
    return found


def winner(candidates: list[Candidate]) -> Candidate:
    """The fastest one whose accuracy is within `TOLERANCE` of the best.

    Raises
    ------
    UserError
        There are none: no network fits the chip.
    """
    found = front(candidates)
    if not found:
        raise UserError("no network of the search fits the configuration")
    return next(one for one in found if one.accuracy >= found[-1].accuracy - TOLERANCE)


class Search:
    """Mutates what is on the front, generation by generation.

    Parameters
    ----------
    weights : (N,) float32
        Of the supernet.
    images : Images
    chip : MarsConfig
        Whose clocks count.
    seed : int

    Attributes
    ----------
    candidates : list of Candidate
        All that have been looked at; those that do not fit the chip are left out.
    """

    def __init__(self, weights: Weights, images: Images, chip: MarsConfig, seed: int) -> None:
        self._weights = weights
        self._images = images
        self._chip = chip
        self._seed = seed
        self._seen: set[Genome] = set()
        self.candidates: list[Candidate] = []

    def __len__(self) -> int:
        """Generations, the first one included."""
        return 1 + GENERATIONS

    def run(self) -> Iterator[int]:
        """Search; yields how many generations have been."""
        for generation in range(len(self)):
            rng = np.random.default_rng((self._seed, generation))
            if generation == 0:
                genomes = [LARGEST, SMALLEST, *(draw(GENES, rng) for _ in range(N_FIRST))]
            else:
                genomes = self._children(rng)
            for genome in genomes:
                self._look(genome)
            yield generation + 1

    def _children(self, rng: np.random.Generator) -> list[Genome]:
        parents = front(self.candidates)
        if not parents:
            return [draw(GENES, rng) for _ in range(OFFSPRING)]
        return [_mutated(parents[rng.integers(len(parents))].genome, rng) for _ in range(OFFSPRING)]

    def _look(self, genome: Genome) -> None:
        if genome in self._seen:
            return
        self._seen.add(genome)
        try:
            n_clocks = clocks(genome, self._chip)
        except FitError:
            return
        training, held_out = self._images.training, self._images.held_out
        share = accuracies([genome], self._weights, training.images, held_out)[0]
        self.candidates.append(Candidate(genome, share, n_clocks))


def _mutated(genome: Genome, rng: np.random.Generator) -> Genome:
    child = list(genome)
    for gene in rng.permutation(len(GENES))[: rng.integers(1, MUTATIONS + 1)]:
        child[gene] = int(rng.integers(GENES[gene]))
    return tuple(child)
