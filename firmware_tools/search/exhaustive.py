"""Every network of a space: the truth that other methods are measured with."""

from collections.abc import Iterator

import numpy as np

from firmware_tools.search.errors import SearchError
from firmware_tools.search.space import BLOCK, Archive

MOST = 1 << 23
"""Networks: some minutes."""


def search(archive: Archive, _seed: int) -> Iterator[int]:
    """Fill an archive; yields what has been priced.

    Raises
    ------
    SearchError
        There are too many.
    """
    space = archive.space
    n_layers, n_options = space.shape
    if space.size > MOST:
        raise SearchError(
            f"--method exhaustive must have at most {MOST:,} networks to price, not "
            f"{n_options}^{n_layers}: fewer options for a layer"
        )
    places = n_options ** np.arange(n_layers)
    for first in range(0, space.size, BLOCK):
        numbers = np.arange(first, min(first + BLOCK, space.size))
        archive.add(numbers[:, np.newaxis] // places % n_options)
        yield archive.n_priced
