"""Records of the monitor of MARS: what a pass did, and when."""

import numpy as np

from tb.mars.records import PASS_DONE, RECORD_WORDS, STORE, VALUES, WRITE, decode


def record(kind: int, ns: int, *words: int) -> list[int]:
    """As the monitor writes it, at the edge that ends a clock."""
    return [kind, ns, *words, *[0] * (RECORD_WORDS - 2 - len(words))]


def test_times() -> None:
    """Begins of clocks, for each word of what writes several at once."""
    words = [
        *record(VALUES, 50, *range(16)),
        *record(WRITE, 60, 1, 7, 0b1111, 1, 0, 2, 0),
        *record(STORE, 70, 1, 5, 0xFFFF, 3, 0, 4, 0),
        *record(STORE, 80, 0, 6, 0x00FF, 5, 0),
        *record(WRITE, 90, 2, 9, 0b0001, 6, 0),
        *record(PASS_DONE, 100, 33),
        *record(VALUES, 110, *range(16)),
        *record(PASS_DONE, 120, 35),
    ]
    first, second = decode(np.array(words, np.uint32))
    assert (first.end, second.end) == (33, 35)
    assert first.values.tolist() == [list(range(16))]
    assert first.writes.offset.tolist() == [7, 8, 9]
    assert first.writes.word.tolist() == [1, 2, 6]
    assert first.stores is not None
    assert first.stores.word.tolist() == [5, 3, 4]
    times = first.times
    assert times.values.tolist() == [40]
    assert times.writes.tolist() == [50, 50, 80]
    assert times.stores.tolist() == [70, 60, 60]
    assert (times.end, second.times.end) == (90, 110)
    assert second.stores is None
