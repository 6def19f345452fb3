"""Networks of the field with generated weights, by name."""

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from model.mars.network import QuantizedNetwork


@dataclass(frozen=True)
class Size:
    """How large a network is.

    Parameters
    ----------
    layers : int
        With weights: convolutions and dense layers. Products of two maps count among `macs`.
    weights, macs : int
        Weights, and multiply-accumulates of a frame, zeros included, biases not.
    """

    layers: int
    weights: int
    macs: int


@dataclass(frozen=True)
class Entry:
    """A network of the zoo.

    Parameters
    ----------
    name : str
        A function is called so, with underscores, in the module of this package `family`.
    family, purpose : str
    shape : (int, int, int)
        Channels, rows, columns of the input.
    size : Size
        So that a list of all need not make them.
    """

    name: str
    family: str
    purpose: str
    shape: tuple[int, int, int]
    size: Size

    def make(
        self, sparsity: float = 0.0, weight_bits: int = 4, act_bits: int = 4, seed: int = 0
    ) -> "QuantizedNetwork":
        """The network.

        Parameters
        ----------
        sparsity : float
            Share of the group-sets of a layer that are all zero, 0..1; none of the first layer, the
            last one and depthwise ones.
        weight_bits, act_bits : int
            2..8; 1..8, unsigned, the input's too. The results have 32 bits.
        seed : int
            Of the weights, and of which ones are zero.
        """
        family = import_module(f"{__name__}.{self.family}")  # only now: numpy takes its time
        make = getattr(family, self.name.replace("-", "_"))
        return cast("QuantizedNetwork", make(sparsity, weight_bits, act_bits, seed))


CIFAR, IMAGENET = (3, 32, 32), (3, 224, 224)
PATCHES = (768, 14, 14)
"""Of 16x16 pixels of IMAGENET, each as channels."""
TINY = "MLPerf Tiny: "
ZOO = {
    entry.name: entry
    for entry in (
        Entry("vgg16", "vgg", "CIFAR-10", CIFAR, Size(14, 14_715_584, 313_201_664)),
        Entry("resnet18", "resnet", "CIFAR-10", CIFAR, Size(21, 11_164_352, 555_422_720)),
        Entry(
            "resnet18-imagenet",
            "resnet",
            "ImageNet",
            IMAGENET,
            Size(21, 11_678_912, 1_814_073_344),
        ),
        Entry("resnet34", "resnet", "ImageNet", IMAGENET, Size(37, 21_779_648, 3_663_761_408)),
        Entry("resnet50", "resnet", "ImageNet", IMAGENET, Size(54, 25_502_912, 4_089_184_256)),
        Entry("mobilenetv2", "mobilenet", "ImageNet", IMAGENET, Size(53, 3_469_760, 300_774_272)),
        Entry("shufflenetv2", "shufflenet", "ImageNet", IMAGENET, Size(57, 2_261_424, 144_907_992)),
        Entry("deit-tiny", "vit", "ImageNet", PATCHES, Size(74, 5_647_872, 1_253_683_200)),
        Entry("lenet5", "lenet", "handwritten digits", (1, 28, 28), Size(5, 61_470, 416_520)),
        Entry(
            "resnet8", "tiny", f"{TINY}image classification", CIFAR, Size(10, 77_360, 12_501_632)
        ),
        Entry(
            "ds-cnn", "tiny", f"{TINY}keyword spotting", (1, 49, 10), Size(10, 22_016, 2_656_768)
        ),
        Entry(
            "mobilenetv1-025",
            "mobilenet",
            f"{TINY}visual wake words",
            (3, 96, 96),
            Size(28, 208_112, 7_489_664),
        ),
        Entry(
            "autoencoder",
            "tiny",
            f"{TINY}anomaly detection",
            (640, 1, 1),
            Size(10, 264_192, 264_192),
        ),
        Entry("sww", "tiny", f"{TINY}streaming wake word", (40, 30, 1), Size(9, 21_912, 432_832)),
    )
}
