"""Arrival of lines: numbers worked out by hand; the bench compares the RTL's."""

import dataclasses
import itertools
import random

import pytest

from model.mars.config import CONFIGS
from model.mars.memory import LineSource, RecordedLines, Region, frame_regions

MARS, TINY = CONFIGS["mars"], CONFIGS["mars-tiny"]
AT_ONCE = 0


def taken(source: LineSource | RecordedLines, n_lines: int) -> list[int]:
    return [source.take(AT_ONCE) for _ in range(n_lines)]


def test_first_line() -> None:
    """Decided in 1, requested in 2, beat in 2 + latency, fetched in the next, valid after it."""
    assert LineSource(MARS, frame_regions(1, 0), latency=1).take(AT_ONCE) == 5
    assert LineSource(MARS, frame_regions(1, 0), latency=10).take(AT_ONCE) == 14
    assert LineSource(TINY, frame_regions(1, 0), latency=1).take(AT_ONCE) == 5 + 7


def test_consumer_comes_later() -> None:
    source = LineSource(MARS, frame_regions(3, 0), latency=1)
    assert [source.take(50), source.take(AT_ONCE), source.take(60)] == [50, 51, 60]


def test_switch_of_region_costs_one_clock() -> None:
    """Bursts of one line each, latency 1: the second is requested 2 clocks after the first."""
    assert taken(LineSource(MARS, frame_regions(1, 1), latency=1), 2) == [5, 7]
    assert LineSource(MARS, frame_regions(0, 1), latency=1).take(AT_ONCE) == 6


def test_full_throughput() -> None:
    """A line per 512 / weight_bus clocks."""
    assert taken(LineSource(MARS, frame_regions(100, 900), latency=20), 1000) == list(
        range(24, 1024)
    )
    first = 5 + 7
    assert taken(LineSource(TINY, frame_regions(9, 91), latency=1), 100) == list(
        range(first, first + 800, 8)
    )


def test_long_latency() -> None:
    """The buffer's 64 lines are all requested early, then 8 more per latency and room."""
    clocks = taken(LineSource(MARS, frame_regions(0, 80), latency=200), 80)
    assert clocks[0] == 2 + 1 + 200 + 2
    assert clocks[63] == clocks[0] + 63
    # Line 7 is fetched one clock before it is taken; then decision, request, latency, buffer.
    assert clocks[64] == (clocks[7] - 1) + 1 + 1 + 200 + 2


def test_buffer_fills_up() -> None:
    """With nobody taking, 16 lines and the one at the output are there, then one per clock."""
    source = LineSource(TINY, frame_regions(0, 32), latency=1)
    clocks = [source.take(1000), *taken(source, 31)]
    # The third burst needs the room of line 7, fetched when line 6 is taken.
    assert clocks[:16] == list(range(1000, 1016))
    assert clocks[16] == 1006 + 1 + 1 + 1 + 7 + 2


def test_smaller_buffer_is_never_earlier() -> None:
    rng = random.Random(1)
    ready, clock = [], 0
    for _ in range(600):
        clock += rng.choice((1, 1, 8, 40))
        ready.append(clock)
    runs = []
    for line_buffer in (16, 32, 64, 128, 256):
        config = dataclasses.replace(MARS, line_buffer=line_buffer)
        source = LineSource(config, frame_regions(77, 523), latency=60)
        runs.append([source.take(clock) for clock in ready])
    for smaller, larger in itertools.pairwise(runs):
        assert all(a >= b for a, b in zip(smaller, larger, strict=True))


def test_no_lines_after_the_last() -> None:
    for source in (LineSource(MARS, frame_regions(2, 0), latency=1), RecordedLines([3, 4])):
        taken(source, 2)
        with pytest.raises(ValueError, match="not one after the last"):
            source.take(AT_ONCE)
    with pytest.raises(ValueError, match="not one after the last"):
        LineSource(MARS, frame_regions(0, 0), latency=1).take(AT_ONCE)


def test_refuses() -> None:
    with pytest.raises(ValueError, match="latency must be 1 clock or more, not 0"):
        LineSource(MARS, frame_regions(1, 1), latency=0)
    with pytest.raises(ValueError, match="must be 0 or more lines, not -1"):
        LineSource(MARS, frame_regions(3, -1), latency=1)


def test_recorded_lines() -> None:
    """Two clocks from the last beat to the consumer; a line waits for the one before."""
    source = RecordedLines([10, 11, 30, 31])
    assert [source.take(clock) for clock in (0, 20, 0, 40)] == [12, 20, 32, 40]


def test_regions_begin_anywhere() -> None:
    """A burst ends at a multiple of eight lines; each region that ends costs a clock."""
    # Lines 6 and 7, then 8: requests in clocks 1 and 2, the next region's in 4.
    source = LineSource(MARS, (Region(6, 3), Region(0, 1)), latency=1)
    assert taken(source, 4) == [5, 6, 7, 8]
    source = LineSource(MARS, (Region(7, 9),), latency=20)
    first = taken(source, 9)
    assert first == list(range(24, 33))
    # Empty regions are passed over.
    source = LineSource(MARS, (Region(0, 0), Region(5, 0), Region(3, 1)), latency=1)
    assert source.take(AT_ONCE) == 7


def test_stores() -> None:
    """Packed from the third clock on, one word each; the last beat, its answer, the end."""
    source = LineSource(MARS, (), latency=20)
    assert source.store(100, 1) == 100 + 3 + 1 + 20 + 1
    assert source.store(100, 64) == source.store(100, 1) + 63
    recorded = RecordedLines([], [50, 90])
    assert [recorded.store(0, 5), recorded.store(60, 5)] == [51, 91]
