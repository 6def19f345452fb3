"""The records that `monitor.sv` writes: what the RTL did, pass by pass."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.mars.config import KERNELS, WORD_BYTES, WORDS_PER_WRITE
from model.mars.machine import ADDRESS_SPACE, BOTH_HALVES, MembraneWrites, Writes

RECORD_WORDS = 25
VALUES, WRITE, PASS_DONE, STORE = range(4)


@dataclass(frozen=True)
class PassTrace:
    """A pass on the RTL.

    `values` (pixels, 16) in the order in which they were drained, `membranes` likewise if neurons
    follow, else anything; `end` the clock of its last write; `stores` membranes for later time
    steps, macro by macro.
    """

    values: NDArray[np.int64]
    writes: Writes
    end: int
    membranes: NDArray[np.int64] | None = None
    stores: MembraneWrites | None = None


def decode(words: NDArray[np.uint32]) -> list[PassTrace]:
    """The passes of a trace file."""
    records = words.reshape(-1, RECORD_WORDS)
    ends = np.flatnonzero(records[:, 0] == PASS_DONE)
    return [_pass(part) for part in np.split(records, ends + 1)[: len(ends)]]


def _pass(records: NDArray[np.uint32]) -> PassTrace:
    kind = records[:, 0]
    values = np.ascontiguousarray(records[kind == VALUES, 1 : 1 + KERNELS])
    membranes = np.ascontiguousarray(records[kind == VALUES, 1 + KERNELS : 1 + KERNELS * 3 // 2])
    return PassTrace(
        values.view(np.int32).astype(np.int64),
        _writes(records[kind == WRITE]),
        int(records[-1, 1]),
        membranes.view(np.int16).astype(np.int64),
        _stores(records[kind == STORE]),
    )


def _writes(records: NDArray[np.uint32]) -> Writes:
    """Word by word: a record has one or two."""
    row, offset, halves = (records[:, k].astype(np.int64) for k in (1, 2, 3))
    data = np.ascontiguousarray(records[:, 4 : 4 + 2 * WORDS_PER_WRITE]).view(np.uint64)
    which = np.arange(WORDS_PER_WRITE)
    each = halves[:, np.newaxis] >> 2 * which & BOTH_HALVES
    written = (which == 0) | (each != 0)
    return Writes(
        np.broadcast_to(row[:, np.newaxis], each.shape)[written],
        (offset[:, np.newaxis] + which)[written] % ADDRESS_SPACE,
        data[written],
        each[written],
    )


def _stores(records: NDArray[np.uint32]) -> MembraneWrites | None:
    """Word by word, the macros one behind the other."""
    if not len(records):
        return None
    records = records[np.argsort(records[:, 1], kind="stable")]
    macro, address, masks = (records[:, k].astype(np.int64) for k in (1, 2, 3))
    data = np.ascontiguousarray(records[:, 4 : 4 + 2 * WORDS_PER_WRITE]).view(np.uint64)
    which = np.arange(WORDS_PER_WRITE)
    mask = masks[:, np.newaxis] >> WORD_BYTES * which & ((1 << WORD_BYTES) - 1)
    written = mask != 0
    return MembraneWrites(
        np.broadcast_to(macro[:, np.newaxis], mask.shape)[written],
        (address[:, np.newaxis] + which)[written],
        data[written],
        mask[written],
    )
