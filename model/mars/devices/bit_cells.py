"""Cells of the chip's digital memories that are wrong; `model.mars.devices.faults` draws them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]


@dataclass(frozen=True)
class Cells:
    """Cells of a memory of the chip that do not give back what was written.

    Parameters
    ----------
    memory : "features" or "macros"
    flips, zeros, ones : (macros, words) or (macros, 64, 16) uint64
        Bits that are read inverted, as 0, and as 1: of each feature word, or each word line of
        each group-set's place.
    """

    memory: str
    flips: Words
    zeros: Words
    ones: Words

    def read(self, memory: str, words: Words, place: Any) -> Words:
        """What is read of words that were written at a place."""
        if memory != self.memory:
            return words
        return np.asarray(
            (words ^ self.flips[place]) & ~self.zeros[place] | self.ones[place], np.uint64
        )
