"""What host and board say to each other, byte by byte; numbers are little-endian.

```
host    W address4 data4   write a word                 board   w response1
        R address4         read a word                          r response1 data4
        E beat8            an event (model/npu/events.py)       e   when the chip has taken it
        a break            reset board and chip                 !!!!!!!!!   the greeting
                                                       unasked  S beat8     a spike
                                                                I           irq has risen
                                                                ?           see below
```
Responses are AXI's. Requests are served in order; `w` and `r` come in that order, `e` in that of
events. Packets of the board never interleave. At most `WINDOW` bytes of requests may be without an
answer: so much the board keeps, and nothing is lost. A spike that can not leave stalls its step.

`?` says that something was lost: a byte that begins no request, a wrong stop bit, no room. What
comes after it may be the rest of anything and is dropped, until a break: `BREAK_BITS` of the line
low. It resets board and chip, and the greeting, so long that it cannot be inside of another packet,
tells the host where packets begin.
"""

from model.npu.events import TDATA_WIDTH

WRITE, READ, EVENT = b"W", b"R", b"E"
"""Requests."""
PAYLOAD = {WRITE: 8, READ: 4, EVENT: 8}
"""Bytes behind the first, of requests."""
WRITTEN, WAS_READ, TAKEN, SPIKE, IRQ, UNKNOWN, GREETING = b"w", b"r", b"e", b"S", b"I", b"?", b"!"
"""Packets of the board."""
SIZE = {WRITTEN: 2, WAS_READ: 6, TAKEN: 1, SPIKE: 9, IRQ: 1, UNKNOWN: 1, GREETING: 9}
"""Their bytes, the first included."""
LAST_BIT = TDATA_WIDTH - 1
"""Of a spike's beat: it is the last one of its time step (TLAST)."""
WINDOW = 2048
"""Bytes of requests without an answer, at most."""
N_EVENTS = 256
"""Events that the board keeps, more than fit the window."""
BREAK_BITS = 256


def write(address: int, word: int) -> bytes:
    """The request to write a word."""
    return WRITE + address.to_bytes(4, "little") + word.to_bytes(4, "little")


def read(address: int) -> bytes:
    """The request to read a word."""
    return READ + address.to_bytes(4, "little")


def event(beat: int) -> bytes:
    """An event, or a fence."""
    return EVENT + beat.to_bytes(8, "little")
