"""Lines of a program that the host rewrites in memory between two frames.

A frame reads its program anew from memory, so a network with other biases, multipliers, shifts and
constant pixels needs no other lines than those that hold them: headers of kernel blocks, the
constants, and descriptors where a residual's multiplier or a global average's is another one.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.mars.image import Image, ImageError
from model.mars.layout import (
    DESCRIPTOR_LINES,
    TABLE_LINES,
    Ints,
    Lines,
    header_lines,
)
from model.mars.program import Pass


@dataclass(frozen=True)
class Patch:
    """What is written, (n,) numbers of lines and their contents (n, 8)."""

    numbers: Ints
    lines: Lines

    def __len__(self) -> int:
        return len(self.numbers)

    def apply(self, lines: Lines) -> Lines:
        """The program with these lines."""
        result = lines.copy()
        result[self.numbers] = self.lines
        return result


def patch(before: Image, after: Image) -> Patch:
    """From one network's program to that of the same network with other numbers.

    Raises
    ------
    ImageError
        The images differ in anything but headers and descriptors.
    """
    if (
        before.config != after.config
        or before.contents != after.contents
        or before.input_descriptor != after.input_descriptor
        or len(before.lines) != len(after.lines)
    ):
        raise ImageError(
            f"{after.contents.name}: images must be of the same network on the same configuration"
        )
    numbers = np.flatnonzero((before.lines != after.lines).any(axis=1))
    own = tables(before)
    others = numbers[~own[numbers]]
    if len(others):
        raise ImageError(
            f"{after.contents.name}: line {others[0]} of the program must be as it is: it holds "
            "weights, no bias, multiplier or shift"
        )
    return Patch(numbers, after.lines[numbers])


def tables(image: Image) -> NDArray[np.bool_]:
    """Which lines of a program hold descriptors, headers and constant pixels."""
    kinds = [kind for one in image.passes for kind in _kinds(one, image)]
    return np.array(kinds, np.bool_)


def _kinds(one: Pass, image: Image) -> Iterator[bool]:
    """Of each line of a pass, in the order of `model.mars.program.encode_pass`."""
    d = one.descriptor
    yield from [True] * DESCRIPTOR_LINES
    yield from [False] * (0 if one.table is None else TABLE_LINES)
    done = 0
    for block in one.blocks:
        yield from [True] * header_lines(image.config.wide_multiplier)
        for _ in range(block.n_entries):
            yield from [False] * (done % d.codes_per_line == 0)
            yield from [False] * one.entry_lines
            done += d.split
    yield from [True] * one.n_word_lines
