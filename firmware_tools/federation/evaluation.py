"""What a sub-network is worth: its accuracy, and its clocks on the chip."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from firmware_tools.federation import supernet
from firmware_tools.federation.sampling import draw
from firmware_tools.federation.space import GENES, Genome, Subnet
from firmware_tools.federation.supernet import Weights
from firmware_tools.quantize import Twin, calibrate, export, quantize
from firmware_tools.quantize.digits import Part
from firmware_tools.quantize.training import accuracy
from model.mars.config import MarsConfig
from model.mars.frame import run_frame
from model.mars.mapper import compile_network

CALIBRATION_IMAGES = 256
"""From which means and variances of the normalisations are taken."""
BITS = 4
N_PROBES = 16
PROBES_SEED = 1
"""Of the sub-networks with which federations are compared."""


def normalised(subnet: Subnet, weights: Weights, images: Tensor) -> nn.Module:
    """A sub-network with the means and variances that images have in it.

    Clients keep theirs: they are of other sub-networks.
    """
    network = supernet.module(subnet, weights).train()
    with torch.no_grad():
        network(images[:CALIBRATION_IMAGES])
    return network.eval()


def probes() -> list[Genome]:
    """Sub-networks drawn uniformly, the same ones for every federation."""
    rng = np.random.default_rng(PROBES_SEED)
    return [draw(GENES, rng) for _ in range(N_PROBES)]


def accuracies(
    genomes: Sequence[Genome], weights: Weights, images: Tensor, part: Part
) -> list[float]:
    """Share of a part's images that each sub-network classifies rightly.

    Parameters
    ----------
    genomes : sequence of Genome
    weights : (N,) float32
    images : (N, 1, 8, 8) float
        Of which the means and variances are.
    part : Part
    """
    return [accuracy(normalised(Subnet.of(one), weights, images), part) for one in genomes]


def keep_groups(twin: Twin, subnet: Subnet) -> None:
    """Fix the zeros between unconnected units of a quantised twin."""
    masks = supernet.masks(subnet)
    for layer in twin.products():
        if layer.name in masks:
            layer.mask.copy_(masks[layer.name])


@lru_cache(maxsize=4096)
def clocks(genome: Genome, chip: MarsConfig) -> int:
    """Clocks of a frame of a sub-network on the golden machine, 4 bit, all its group-sets kept.

    They depend on which group-sets are all zero, not on the weights in the others, so any will do.

    Raises
    ------
    FitError
        It does not fit.
    """
    subnet = Subnet.of(genome)
    images = torch.rand((16, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    weights = supernet.initial(0)
    weights[weights == 0] = 1  # blocks that add nothing would cost nothing
    network = normalised(subnet, weights, images)
    twin = quantize(network, BITS, BITS)
    calibrate(twin, images)
    keep_groups(twin, subnet)
    image = compile_network(export(twin), chip)
    return run_frame(image, twin.image_ints(images[:1])[0].astype(np.int16)).clocks
