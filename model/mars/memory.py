"""When each line of a frame arrives, exactly: the line reader and an ideal memory.

Clocks are counted from the one in which the reader's `start` is 1. A line passes from bus to
consumer in three steps: its last beat comes, it is fetched out of the buffer, it is taken.
"""

from collections.abc import Sequence

from model.mars.config import MarsConfig

BURST_LINES = 8
"""Lines of a burst; the last one of a region is shorter."""
FIRST_REQUEST = 1
"""Clock in which the first burst is decided."""
NEXT_REQUEST = 1
"""From the decision on a burst to the next one."""
REGION_SWITCH = 1
"""The same when the next one is the first of the second region, on top."""
REQUEST_LATENCY = 1
"""From the decision on a burst to its handshake on the address channel."""
BUFFER_LATENCY = 1
"""From the last beat of a line to the clock in which it can be fetched out of the buffer."""
FETCH_LATENCY = 1
"""From there to the clock in which it can be taken."""
ROOM_LATENCY = 1
"""From the fetch of a line to the decision that counts its room as free."""


class RecordedLines:
    """Lines whose last beats were seen in known clocks, whatever the memory did.

    Parameters
    ----------
    arrivals : sequence of int
        Clock in which the last beat of each line was transferred.
    """

    def __init__(self, arrivals: Sequence[int]) -> None:
        self._arrivals = iter(arrivals)
        self._taken = 0

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
    n_input_lines, n_program_lines : int
        Lengths of the two regions.
    latency : int
        Clocks from a request to its first beat, at least 1.
    """

    def __init__(
        self, config: MarsConfig, n_input_lines: int, n_program_lines: int, latency: int
    ) -> None:
        if min(n_input_lines, n_program_lines) < 0:
            raise ValueError(
                f"lengths of regions must be 0 or more lines, "
                f"not {n_input_lines} and {n_program_lines}"
            )
        if latency < 1:
            raise ValueError(f"latency must be 1 clock or more, not {latency}")
        self._beats = config.beats_per_line
        self._buffer = config.line_buffer
        self._latency = latency
        self._left = [n_input_lines, n_program_lines]
        self._region = 0
        self._decided = FIRST_REQUEST - NEXT_REQUEST
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

    def _request(self) -> None:
        """The burst of the next line; `_last_beat` is the one before its first beat."""
        clock = self._decided + NEXT_REQUEST
        if not self._left[self._region]:
            if self._region or not self._left[1]:
                raise ValueError(
                    "a line must be one of those that were read, not one after the last"
                )
            self._region = 1
            clock += REGION_SWITCH
        n_lines = min(self._left[self._region], BURST_LINES)
        # Its last line takes the room of the line that came a buffer's length before, which was
        # taken long ago: a burst is shorter than the buffer.
        freeing = len(self._fetches) + n_lines - 1 - self._buffer
        if freeing >= 0:
            clock = max(clock, self._fetches[freeing] + ROOM_LATENCY)
        self._decided = clock
        self._left[self._region] -= n_lines
        self._in_burst = n_lines
        self._last_beat = max(self._last_beat, clock + REQUEST_LATENCY + self._latency - 1)
