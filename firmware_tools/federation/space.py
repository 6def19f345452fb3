"""What is searched: networks of the accelerator's layers, as options of genes.

A stem, five blocks with two pools between them, and a dense layer, for images of 8x8. A block is a
convolution (1x1 or 3x3), a normalisation and a ReLU, or nothing. Widths count units of 16 channels,
which are a kernel block of MARS: a unit less is less for the chip to do.
"""

from dataclasses import dataclass
from math import prod

from model.mars.config import WORD_LINES

UNIT = WORD_LINES
"""Channels of a unit."""
SIDE = 8
"""Rows and columns of an image."""
N_CLASSES = 10
KERNELS = (0, 1, 3)
"""0 is no layer."""
GROUPS = (1, 2)
STEM_WIDTHS = (1, 2)


@dataclass(frozen=True)
class Place:
    """Where a layer may be.

    Attributes
    ----------
    name : str
    side : int
        Rows and columns of its maps.
    widths : tuple of int
        Units that it may have.
    """

    name: str
    side: int
    widths: tuple[int, ...]


STEM = Place("stem", SIDE, STEM_WIDTHS)
BLOCKS = (
    Place("block1", SIDE, (1, 2)),
    Place("block2", SIDE // 2, (1, 2, 3)),
    Place("block3", SIDE // 2, (1, 2, 3)),
    Place("block4", SIDE // 4, (1, 2, 3, 4)),
    Place("block5", SIDE // 4, (1, 2, 3, 4)),
)
PLACES = (STEM, *BLOCKS)
CLASSIFIER_SIDE = SIDE // 4
GENES = (
    len(STEM_WIDTHS),
    *(n for block in BLOCKS for n in (len(KERNELS), len(block.widths), len(GROUPS))),
)
"""Options of each gene: width of the stem; kernel, width and groups of each block."""
N_GENOMES = prod(GENES)
Genome = tuple[int, ...]
"""An option of each gene."""
LARGEST: Genome = (
    len(STEM_WIDTHS) - 1,
    *(k for block in BLOCKS for k in (len(KERNELS) - 1, len(block.widths) - 1, 0)),
)
SMALLEST: Genome = (0,) * len(GENES)


@dataclass(frozen=True)
class Layer:
    """A convolution of a sub-network.

    Attributes
    ----------
    place : Place
    kernel : int
        1 or 3.
    inputs, outputs : tuple of int
        Units of the supernet that it reads and makes; of the stem's inputs there are none, it
        reads the image.
    groups : int
        An output unit reads the input units of the same remainder.
    """

    place: Place
    kernel: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    groups: int

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Output and input units that are connected."""
        return tuple(
            (out, source)
            for out in self.outputs
            for source in self.inputs
            if out % self.groups == source % self.groups
        )

    @property
    def macs(self) -> int:
        """Multiply-accumulates for an image, padding included."""
        products = len(self.pairs) * UNIT * UNIT if self.inputs else len(self.outputs) * UNIT
        return products * self.kernel**2 * self.place.side**2


@dataclass(frozen=True)
class Subnet:
    """A network of the space, perhaps with units pruned.

    Attributes
    ----------
    genome : Genome
    units : tuple of tuple of int
        Output units of stem and blocks; none where there is no layer.
    """

    genome: Genome
    units: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, genome: Genome) -> "Subnet":
        """All units that the genome asks for: the first ones of the supernet."""
        genes = [
            genome[1 + 3 * k : 4 + 3 * k] for k in range(len(BLOCKS))
        ]
        units = [tuple(range(STEM_WIDTHS[genome[0]]))]
        for block, (kernel, width, _groups) in zip(BLOCKS, genes, strict=True):
            units.append(tuple(range(block.widths[width])) if KERNELS[kernel] else ())
        return cls(genome, tuple(units))

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Its convolutions, the stem first."""
        whole = Subnet.of(self.genome).units
        found = [Layer(STEM, 3, (), self.units[0], 1)]
        source = 0
        for k, place in enumerate(BLOCKS, 1):
            kernel, _width, groups = self.genome[3 * k - 2 : 3 * k + 1]
            if not self.units[k]:
                continue
            # A group without an input would be dead: layers of one unit have no groups.
            n_groups = min(GROUPS[groups], len(whole[source]), len(whole[k]))
            found.append(
                Layer(place, KERNELS[kernel], self.units[source], self.units[k], n_groups)
            )
            source = k
        return tuple(found)

    @property
    def last(self) -> tuple[int, ...]:
        """Units that the dense layer reads."""
        return self.layers[-1].outputs

    @property
    def macs(self) -> int:
        """Multiply-accumulates for an image, forwards."""
        dense = len(self.last) * UNIT * CLASSIFIER_SIDE**2 * N_CLASSES
        return sum(layer.macs for layer in self.layers) + dense

    def __str__(self) -> str:
        def one(layer: Layer) -> str:
            groups = f"/{layer.groups}" if layer.groups > 1 else ""
            return f"{layer.kernel}x{layer.kernel}:{UNIT * len(layer.outputs)}{groups}"

        present = {layer.place: one(layer) for layer in self.layers}
        return " ".join(present.get(place, "-") for place in PLACES)


def distance(a: Genome, b: Genome) -> int:
    """Hamming distance: genes with another option."""
    return sum(x != y for x, y in zip(a, b, strict=True))
