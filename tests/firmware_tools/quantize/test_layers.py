"""The arithmetic after the products, in float64, is the accelerator's."""

import numpy as np
import torch

from firmware_tools.quantize.layers import requantise
from model.mars import reference
from model.mars.network import FeatureType


def test_requantise_is_the_reference():
    """At ties, at both ends of the type and of the accumulator, and at random."""
    rng = np.random.default_rng(5)
    acc = np.concatenate(
        [np.arange(-40, 40), [(1 << 31) - 1, -(1 << 31)], rng.integers(-(1 << 31), 1 << 31, 3000)]
    )
    for mult, shift in ((1, 1), (3, 2), (65535, 40), (32768, 20), (65535, 1), (40000, 31)):
        for bits, signed in ((2, True), (3, False), (8, True), (8, False)):
            kind = FeatureType((1, 1, 1), bits, signed)
            skip = rng.integers(-128, 256, len(acc))
            for skip_mult in (0, 65535):
                wanted = reference.requantize(acc, mult, shift, kind, skip, skip_mult)
                found = requantise(
                    torch.from_numpy(acc).double(),
                    torch.tensor(mult),
                    torch.tensor(2.0**shift, dtype=torch.float64),
                    (kind.low, kind.high),
                    torch.from_numpy(skip),
                    skip_mult,
                )
                assert np.array_equal(found.numpy(), wanted)
