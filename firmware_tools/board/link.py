"""The host's end of the line: requests on their way, answers, spikes (model/board/protocol.py)."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from firmware_tools.board.port import Port
from firmware_tools.errors import UserError
from model.board import protocol
from model.board.protocol import (
    EVENT,
    GREETING,
    IRQ,
    PAYLOAD,
    READ,
    SIZE,
    SPIKE,
    TAKEN,
    UNKNOWN,
    WAS_READ,
    WINDOW,
    WRITE,
    WRITTEN,
)

SOME = 32
"""Requests that are sent at once: so the line is busy while answers are on their way."""
RESERVE = 2 * len(protocol.write(0, 0))
"""Bytes of the window that events leave free."""
LENGTH = {kind: 1 + size for kind, size in PAYLOAD.items()}
"""Bytes of requests."""


T = TypeVar("T")


class BoardError(UserError):
    """The board does not answer as it should; the text says what to look at."""


class Link:
    """Talks to a board.

    Parameters
    ----------
    port : Port
    timeout : float
        Seconds within which a board that has something to say must say something.

    Attributes
    ----------
    spikes : list of int
        Beats that have come; whoever takes them empties the list.
    irq : bool
        The interrupt has risen; whoever waits for it clears this.
    """

    def __init__(self, port: Port, timeout: float) -> None:
        self.port = port
        self.timeout = timeout
        self.spikes: list[int] = []
        self.irq = False
        self._rest = b""
        self._asked: deque[tuple[bytes, int]] = deque()
        """Requests without an answer and their addresses; events not."""
        self._unanswered = 0
        """Bytes of requests without an answer, and of events not taken."""
        self._words: list[int] = []

    def reset(self) -> None:
        """Reset the board, and find out where its packets begin."""
        self.port.send_break()
        greeting = GREETING * SIZE[GREETING]
        heard = b""
        while greeting not in heard:
            heard = heard[1 - len(greeting) :] + self._hear()
        self._rest = heard.partition(greeting)[2]
        self._asked.clear()
        self._unanswered = 0
        self.spikes, self.irq, self._words = [], False, []

    def write(self, words: Iterable[tuple[int, int]]) -> None:
        """Write words, each behind its address; returns when all are answered."""
        for some in _some(words):
            self._ask(
                b"".join(protocol.write(address, word) for address, word in some),
                [(WRITE, address) for address, _ in some],
            )
        while self._asked:
            self._take()

    def read(self, addresses: Iterable[int]) -> list[int]:
        """Read words."""
        for some in _some(addresses):
            data = b"".join(protocol.read(address) for address in some)
            self._ask(data, [(READ, address) for address in some])
        while self._asked:
            self._take()
        words, self._words = self._words, []
        return words

    def run(self, beats: Sequence[int]) -> None:
        """Send events as there is room for them, until the interrupt rises."""
        at = 0
        while not self.irq:
            room = (WINDOW - RESERVE - self._unanswered) // LENGTH[EVENT]
            some = beats[at : at + max(room, 0)]
            if some:
                self._unanswered += LENGTH[EVENT] * len(some)
                self.port.write(b"".join(map(protocol.event, some)))
                at += len(some)
            self._take()
        self.irq = False

    def _ask(self, data: bytes, requests: Sequence[tuple[bytes, int]]) -> None:
        while self._unanswered + len(data) > WINDOW:
            self._take()
        self._asked.extend(requests)
        self._unanswered += len(data)
        self.port.write(data)

    def _hear(self) -> bytes:
        heard = self.port.read(self.timeout)
        if not heard:
            raise BoardError(
                f"board must answer within {self.timeout:g} s: check cable and port, whether the "
                "bitstream is loaded (the first LED is on), and the speed of the line"
            )
        return heard

    def _take(self) -> None:
        """Wait for a packet and do what it says."""
        while len(self._rest) < SIZE.get(self._rest[:1], 1):
            self._rest += self._hear()
        kind = self._rest[:1]
        size = SIZE.get(kind, 1)
        payload, self._rest = self._rest[1:size], self._rest[size:]
        if kind == SPIKE:
            self.spikes.append(int.from_bytes(payload, "little"))
        elif kind == IRQ:
            self.irq = True
        elif kind == TAKEN:
            self._unanswered -= LENGTH[EVENT]
        elif kind in {WRITTEN, WAS_READ}:
            self._answered(WRITE if kind == WRITTEN else READ, payload)
        elif kind == GREETING:
            raise BoardError(
                "board must not be reset in between: its button, its power, or another program on "
                "this port; load the network again"
            )
        elif kind == UNKNOWN:
            raise BoardError(
                "board has lost bytes of the line: check its speed and cable, and that no other "
                "program uses the port; load the network again"
            )
        else:
            raise BoardError(f"board must send packets, not {kind!r}: check the speed of the line")

    def _answered(self, expected: bytes, payload: bytes) -> None:
        asked, address = self._asked.popleft() if self._asked else (b"", 0)
        if asked != expected:
            raise BoardError("board must answer what was asked; load the network again")
        self._unanswered -= LENGTH[asked]
        if payload[0]:
            what = "written" if asked == WRITE else "read"
            self._asked.clear()
            raise BoardError(
                f"address {address:#x} can not be {what}: the chip answers {payload[0]}"
            )
        if asked == READ:
            self._words.append(int.from_bytes(payload[1:], "little"))


def _some(items: Iterable[T]) -> Iterator[list[T]]:
    """Parts of `SOME` items."""
    left = iter(items)
    while part := list(islice(left, SOME)):
        yield part
