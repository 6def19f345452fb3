"""When each line of a segment arrives, exactly, and when maps are stored: an ideal memory.

Clocks are counted from the one in which the reader's `start` is 1. A line passes from bus to
consumer in three steps: its last beat comes, it is fetched out of the buffer, it is taken. Words
that are stored pass one per clock from a feature memory to the bus; the store has ended when the
memory has answered.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from model.mars.config import MarsConfig

BURST_LINES = 8
"""Lines of a burst, which begins at a multiple of as many; those at the ends of a region are
shorter."""
FIRST_REQUEST = 1
"""Clock in which the first burst is decided."""
NEXT_REQUEST = 1
"""From the decision on a burst to the next one."""
REGION_SWITCH = 1
"""The same on top for every region that ends in between."""
REQUEST_LATENCY = 1
"""From the decision on a burst to its handshake on the address channel."""
BUFFER_LATENCY = 1
"""From the last beat of a line to the clock in which it can be fetched out of the buffer."""
FETCH_LATENCY = 1
"""From there to the clock in which it can be taken."""
ROOM_LATENCY = 1
"""From the fetch of a line to the decision that counts its room as free."""
FIRST_STORED = 3
"""From the clock in which the walker takes a store to the one in which its first word is packed."""
SENT_AFTER = 1
"""From the last word of a beat to its handshake on the bus."""
ANSWERED_AFTER = 1
"""From the answer to the last burst of a store to the end of the pass."""


@dataclass(frozen=True)
class Region:
    """Lines that are read one after the other: how many, from which one on.

    Only the position of `first` in its burst counts: bases are multiples of a burst.
    """

    first: int
    n_lines: int


def frame_regions(n_input_lines: int, n_program_lines: int) -> tuple[Region, Region]:
    """What a frame of one segment reads: its input packet, its program."""
    return Region(0, n_input_lines), Region(0, n_program_lines)


class RecordedLines:
    """Lines whose last beats were seen in known clocks, whatever the memory did.

    Parameters
    ----------
    arrivals : sequence of int
        Clock in which the last beat of each line was transferred.
    answers : sequence of int
        Clock in which the last burst of each store was answered.
    """

    def __init__(self, arrivals: Sequence[int], answers: Sequence[int] = ()) -> None:
        self._arrivals = iter(arrivals)
        self._answers = iter(answers)
        self._taken = 0

    def store(self, clock_taken: int, n_words: int) -> int:  # noqa: ARG002
        """Store a result; see `LineSource.store`."""
        return next(self._answers) + ANSWERED_AFTER

    def take(self, clock_ready: int) -> int:
        """Take the next line.

        Parameters
        ----------
        clock_ready : int
            The consumer is ready from this clock on; any clock up to the one in which the line
            before was taken means: at once.

        Returns
        -------
        int
            Clock of the transfer.

        Raises
        ------
        ValueError
            There are no more lines.
        """
        arrival = next(self._arrivals, None)
        if arrival is None:
            raise ValueError("a line must be one of those that were read, not one after the last")
        # The output is free for this line from the clock on in which the one before it leaves.
        fetch = max(arrival + BUFFER_LATENCY, self._taken)
        self._taken = max(fetch + FETCH_LATENCY, clock_ready)
        return self._taken


class LineSource:
    """Lines out of a memory that takes every request at once and answers after a fixed time.

    Of a burst that was requested in clock a the first beat comes in clock ``a + latency``, or
    right behind the last beat of the burst before; the others follow clock by clock.

    Parameters
    ----------
    config : MarsConfig
        Its `weight_bus` and `line_buffer` count.
    regions : sequence of Region
        What is read.
    latency : int
        Clocks from a request to its first beat, at least 1; also from the last beat of a burst
        that is written to its answer.
    """

    def __init__(self, config: MarsConfig, regions: Sequence[Region], latency: int) -> None:
        for region in regions:
            if region.n_lines < 0:
                raise ValueError(
                    f"lengths of regions must be 0 or more lines, not {region.n_lines}"
                )
        if latency < 1:
            raise ValueError(f"latency must be 1 clock or more, not {latency}")
        self._beats = config.beats_per_line
        self._buffer = config.line_buffer
        self._latency = latency
        self._regions = iter(regions)
        self._first = 0
        self._left = 0
        self._decided = FIRST_REQUEST - NEXT_REQUEST - REGION_SWITCH
        self._in_burst = 0
        self._last_beat = 0
        self._taken = 0
        self._fetches: list[int] = []

    def take(self, clock_ready: int) -> int:
        """Take the next line; see `RecordedLines.take`."""
        if not self._in_burst:
            self._request()
        self._in_burst -= 1
        self._last_beat += self._beats
        fetch = max(self._last_beat + BUFFER_LATENCY, self._taken)
        self._fetches.append(fetch)
        self._taken = max(fetch + FETCH_LATENCY, clock_ready)
        return self._taken

    def store(self, clock_taken: int, n_words: int) -> int:
        """Store a result.

        Parameters
        ----------
        clock_taken : int
            In which the walker takes the pass.
        n_words : int

        Returns
        -------
        int
            The last clock of the pass.
        """
        sent = clock_taken + FIRST_STORED + n_words - 1 + SENT_AFTER
        return sent + self._latency + ANSWERED_AFTER

    def _request(self) -> None:
        """The burst of the next line; `_last_beat` is the one before its first beat."""
        clock = self._decided + NEXT_REQUEST
        while not self._left:
            region = next(self._regions, None)
            if region is None:
                raise ValueError(
                    "a line must be one of those that were read, not one after the last"
                )
            self._first, self._left = region.first, region.n_lines
            clock += REGION_SWITCH
        n_lines = min(self._left, BURST_LINES - self._first % BURST_LINES)
        # Its last line takes the room of the line that came a buffer's length before, which was
        # taken long ago: a burst is shorter than the buffer.
        freeing = len(self._fetches) + n_lines - 1 - self._buffer
        if freeing >= 0:
            clock = max(clock, self._fetches[freeing] + ROOM_LATENCY)
        self._decided = clock
        self._first += n_lines
        self._left -= n_lines
        self._in_burst = n_lines
        self._last_beat = max(self._last_beat, clock + REQUEST_LATENCY + self._latency - 1)
