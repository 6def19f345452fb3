"""The records that `monitor.sv` writes: what the RTL did, pass by pass."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from model.mars.config import KERNELS, WORD_BYTES, WORDS_PER_LINE, WORDS_PER_WRITE
from model.mars.machine import ADDRESS_SPACE, BOTH_HALVES, MembraneWrites, Writes
from tb.bench import CLOCK_NS

RECORD_WORDS = 26
SCRATCH_BASE = 1 << 26
"""Where maps lie in the memory of `mars_system`."""
VALUES, WRITE, PASS_DONE, STORE, BEAT = range(5)
Clocks = NDArray[np.int64]
"""Begins of clocks, in ns."""


@dataclass(frozen=True)
class Times:
    """When a pass did what its trace holds: the begins of those clocks, in ns.

    Attributes
    ----------
    values, writes, stores : (n,) int64
        In the order of `PassTrace`.
    end : int
        Of the clock of its last write.
    """

    values: Clocks
    writes: Clocks
    stores: Clocks
    end: int

    @classmethod
    def unknown(cls) -> "Times":
        """Of what no simulator did."""
        none = np.zeros(0, np.int64)
        return cls(none, none, none, 0)


@dataclass(frozen=True)
class PassTrace:
    """A pass on the RTL.

    `writes` into feature memories, or, if it stores a result, into memory (`model.mars.machine`).
    `values` (pixels, 16) in the order in which they were drained, `membranes` likewise if neurons
    follow, else anything; `end` the clock of its last write; `stores` membranes for later time
    steps, macro by macro; `times` when all that was.
    """

    values: NDArray[np.int64]
    writes: Writes
    end: int
    membranes: NDArray[np.int64] | None = None
    stores: MembraneWrites | None = None
    times: Times = field(default_factory=Times.unknown)


def decode(words: NDArray[np.uint32]) -> list[PassTrace]:
    """The passes of a trace file."""
    records = words.reshape(-1, RECORD_WORDS)
    ends = np.flatnonzero(records[:, 0] == PASS_DONE)
    return [_pass(part) for part in np.split(records, ends + 1)[: len(ends)]]


def _pass(records: NDArray[np.uint32]) -> PassTrace:
    kind, begin = records[:, 0], records[:, 1].astype(np.int64) - CLOCK_NS
    drained, written = kind == VALUES, kind == WRITE
    values, membranes = np.split(np.ascontiguousarray(records[drained, 2:]), [KERNELS], axis=1)
    if (kind == BEAT).any():
        written = kind == BEAT
        writes, write_times = _beats(records[written], begin[written])
    else:
        writes, write_times = _writes(records[written], begin[written])
    stores, store_times = _stores(records[kind == STORE], begin[kind == STORE])
    return PassTrace(
        values.copy().view(np.int32).astype(np.int64),
        writes,
        int(records[-1, 2]),
        membranes.copy().view(np.int16).astype(np.int64),
        stores,
        Times(begin[drained], write_times, store_times, int(begin[-1])),
    )


def _writes(records: NDArray[np.uint32], begin: Clocks) -> tuple[Writes, Clocks]:
    """Word by word, and when: a record has one or two."""
    row, offset, halves = (records[:, k].astype(np.int64) for k in (2, 3, 4))
    data = np.ascontiguousarray(records[:, 5 : 5 + 2 * WORDS_PER_WRITE]).view(np.uint64)
    which = np.arange(WORDS_PER_WRITE)
    each = halves[:, np.newaxis] >> 2 * which & BOTH_HALVES
    written = (which == 0) | (each != 0)
    writes = Writes(
        _by_word(row, written),
        (offset[:, np.newaxis] + which)[written] % ADDRESS_SPACE,
        data[written],
        each[written],
    )
    return writes, _by_word(begin, written)


def _beats(records: NDArray[np.uint32], begin: Clocks) -> tuple[Writes, Clocks]:
    """Words of beats on the bus, as far as they are written, and when; addresses are of words."""
    address = (records[:, 2].astype(np.int64) - SCRATCH_BASE) // WORD_BYTES
    strobes = np.ascontiguousarray(records[:, 3:5]).view(np.uint8)
    data = np.ascontiguousarray(records[:, 5 : 5 + 2 * WORDS_PER_LINE]).view(np.uint64)
    low, high = (strobes & half == half for half in (0x0F, 0xF0))
    halves = low.astype(np.int64) | high.astype(np.int64) << 1
    written = strobes != 0
    offset = (address[:, np.newaxis] + np.arange(WORDS_PER_LINE))[written]
    rows = np.zeros(len(offset), np.int64)
    return Writes(rows, offset, data[written], halves[written]), _by_word(begin, written)


def _stores(records: NDArray[np.uint32], begin: Clocks) -> tuple[MembraneWrites | None, Clocks]:
    """Word by word, the macros one behind the other, and when."""
    if not len(records):
        return None, begin
    order = np.argsort(records[:, 2], kind="stable")
    records = records[order]
    macro, address, masks = (records[:, k].astype(np.int64) for k in (2, 3, 4))
    data = np.ascontiguousarray(records[:, 5 : 5 + 2 * WORDS_PER_WRITE]).view(np.uint64)
    which = np.arange(WORDS_PER_WRITE)
    mask = masks[:, np.newaxis] >> WORD_BYTES * which & ((1 << WORD_BYTES) - 1)
    written = mask != 0
    stores = MembraneWrites(
        _by_word(macro, written),
        (address[:, np.newaxis] + which)[written],
        data[written],
        mask[written],
    )
    return stores, _by_word(begin[order], written)


def _by_word(of_record: Clocks, written: NDArray[np.bool_]) -> Clocks:
    """What is the same for all words of a record, for those that are written."""
    return np.broadcast_to(of_record[:, np.newaxis], written.shape)[written]
