"""What is searched: networks of the accelerator's layers, as options of genes.

A stem, five residual blocks with two pools between them, and a dense layer, for images of 8x8. A
block is two convolutions (both 1x1 or both 3x3) around which its input is added, or nothing. Widths
count units of 16 channels, which are a kernel block of MARS: a unit less is less for the chip to
do. All blocks add to maps of one width; what differs is the width inside.
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
"""0 is no block."""
GROUPS = (1, 2)
STEM_WIDTHS = (1, 2)
"""Units of the stem, and of all that is added to its maps."""
STEM_KERNEL = 3


@dataclass(frozen=True)
class Place:
    """Where a block may be.

    Attributes
    ----------
    name : str
    side : int
        Rows and columns of its maps.
    widths : tuple of int
        Units that it may have between its convolutions.
    """

    name: str
    side: int
    widths: tuple[int, ...]


STEM = "stem"
BLOCKS = (
    Place("block1", SIDE, (1, 2)),
    Place("block2", SIDE // 2, (1, 2, 3)),
    Place("block3", SIDE // 2, (1, 2, 3)),
    Place("block4", SIDE // 4, (1, 2, 3, 4)),
    Place("block5", SIDE // 4, (1, 2, 3, 4)),
)
LAST_SIDE = SIDE // 4
"""Of the maps that the dense layer reads."""
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
    name : str
    kernel, side : int
    inputs, outputs : tuple of int
        Units of the supernet that it reads and makes; of the stem's inputs there are none, it
        reads the image.
    groups : int
        An output unit reads the input units of the same remainder.
    """

    name: str
    kernel: int
    side: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    groups: int = 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates for an image, padding included."""
        if not self.inputs:
            products = len(self.outputs) * UNIT
        else:
            remainders = [unit % self.groups for unit in self.inputs]
            pairs = sum(remainders.count(unit % self.groups) for unit in self.outputs)
            products = pairs * UNIT**2
        return products * self.kernel**2 * self.side**2


@dataclass(frozen=True)
class Subnet:
    """A network of the space, perhaps with units pruned.

    Attributes
    ----------
    genome : Genome
    units : tuple of tuple of int
        Units of the stem, and inside each block; none where there is no block.
    """

    genome: Genome
    units: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, genome: Genome) -> "Subnet":
        """All units that the genome asks for: the first ones of the supernet."""
        units = [tuple(range(STEM_WIDTHS[genome[0]]))]
        for k, place in enumerate(BLOCKS):
            kernel, width, _groups = _genes(genome, k)
            units.append(tuple(range(place.widths[width])) if KERNELS[kernel] else ())
        return cls(genome, tuple(units))

    @property
    def stem(self) -> Layer:
        """The first convolution."""
        return Layer(STEM, STEM_KERNEL, SIDE, (), self.units[0])

    def block(self, k: int) -> tuple[Layer, Layer] | None:
        """The two convolutions of block k, from 0, if there are any."""
        kernel, width, groups = _genes(self.genome, k)
        if not KERNELS[kernel]:
            return None
        place, around, inside = BLOCKS[k], self.units[0], self.units[k + 1]
        # A unit alone has nothing to be apart from.
        n_groups = min(GROUPS[groups], len(around), place.widths[width])
        shape = KERNELS[kernel], place.side
        return (
            Layer(f"{place.name}_in", *shape, around, inside, n_groups),
            Layer(f"{place.name}_out", *shape, inside, around, n_groups),
        )

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Its convolutions in order."""
        blocks = [self.block(k) or () for k in range(len(BLOCKS))]
        return (self.stem, *(layer for block in blocks for layer in block))

    @property
    def macs(self) -> int:
        """Multiply-accumulates for an image, forwards."""
        dense = len(self.units[0]) * UNIT * LAST_SIDE**2 * N_CLASSES
        return sum(layer.macs for layer in self.layers) + dense

    def __str__(self) -> str:
        words = [f"stem {UNIT * len(self.units[0])}"]
        for k in range(len(BLOCKS)):
            block = self.block(k)
            if block is None:
                words.append("-")
                continue
            layer = block[0]
            groups = f"/{layer.groups}" if layer.groups > 1 else ""
            words.append(f"{layer.kernel}x{layer.kernel} {UNIT * len(layer.outputs)}{groups}")
        return ", ".join(words)


def _genes(genome: Genome, k: int) -> tuple[int, int, int]:
    kernel, width, groups = genome[1 + 3 * k : 4 + 3 * k]
    return kernel, width, groups


def distance(a: Genome, b: Genome) -> int:
    """Hamming distance: genes with another option."""
    return sum(x != y for x, y in zip(a, b, strict=True))
