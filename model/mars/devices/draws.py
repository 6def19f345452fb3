"""Random numbers that depend on what they are for, not on the order in which they are drawn."""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class What(IntEnum):
    """What is drawn; the values are part of the keys."""

    PROGRAM = 1
    STUCK = 2
    DRIFT = 3
    FLICKER = 4
    OFFSET = 5
    READ = 6
    FLIP = 7
    BROKEN = 8


def generator(seed: int, trial: int, what: What, *place: int) -> np.random.Generator:
    """Philox (Salmon et al., SC11), keyed by what is drawn and by where.

    Parameters
    ----------
    seed, trial : int
        32 bit each.
    what : What
    *place : int
        Up to three numbers of 64 bit: layer, image, step, for instance.
    """
    key = np.array([seed | trial << 32, what], np.uint64)
    counter = np.array([0, *place, *[0] * (3 - len(place))], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))
