"""Methods by name, all with the same interface: they fill an archive."""

from collections.abc import Iterator
from typing import Literal

from firmware_tools.search.space import Archive

Method = Literal["gradient", "exhaustive", "nsga2", "tpe"]


def fill(archive: Archive, method: Method, seed: int) -> Iterator[int]:
    """Yields how many networks have been priced; the archive's front is there at any time."""
    if method == "gradient":
        from firmware_tools.search import gradient

        return gradient.search(archive, seed)
    if method == "exhaustive":
        from firmware_tools.search import exhaustive

        return exhaustive.search(archive, seed)
    from firmware_tools.search import sampled

    return sampled.search(archive, seed, method)
