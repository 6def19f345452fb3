"""The records that `system.sv` writes: what the RTL did, pass by pass."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.mars.config import KERNELS
from model.mars.machine import Writes

RECORD_WORDS = 17
VALUES, WRITE, PASS_DONE = range(3)


@dataclass(frozen=True)
class PassTrace:
    """A pass on the RTL.

    `values` (pixels, 16) in the order in which they were drained, `end` the clock of its last
    write.
    """

    values: NDArray[np.int64]
    writes: Writes
    end: int


def decode(words: NDArray[np.uint32]) -> list[PassTrace]:
    """The passes of a trace file."""
    records = words.reshape(-1, RECORD_WORDS)
    ends = np.flatnonzero(records[:, 0] == PASS_DONE)
    return [_pass(part) for part in np.split(records, ends + 1)[: len(ends)]]


def _pass(records: NDArray[np.uint32]) -> PassTrace:
    kind = records[:, 0]
    values = np.ascontiguousarray(records[kind == VALUES, 1 : 1 + KERNELS])
    writes = records[kind == WRITE].astype(np.uint64)
    return PassTrace(
        values.view(np.int32).astype(np.int64),
        Writes(
            writes[:, 1].astype(np.int64),
            writes[:, 2].astype(np.int64),
            writes[:, 4] | writes[:, 5] << np.uint64(32),
            writes[:, 3].astype(np.int64),
        ),
        int(records[-1, 1]),
    )
