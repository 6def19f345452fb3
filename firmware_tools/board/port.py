"""Serial ports, as Linux has them."""

import fcntl
import os
import select
import termios
import time
from typing import Protocol

from firmware_tools.errors import UserError

SET_BREAK, CLEAR_BREAK = 0x5427, 0x5428
"""Linux's TIOCSBRK and TIOCCBRK, which Python's termios does not have."""
BREAK_S = 0.1


class Port(Protocol):
    """What a board hangs on."""

    def write(self, data: bytes) -> None:
        """Send bytes."""

    def read(self, timeout: float) -> bytes:
        """What has come, at least a byte; nothing if none comes in so many seconds."""

    def send_break(self) -> None:
        """Keep the line low for much longer than a byte, and forget what has come until then."""

    def close(self) -> None:
        """Let others use it."""


class SerialPort:
    """A serial port: 8 data bits, no parity, one stop bit, no flow control.

    Parameters
    ----------
    path : str
        For example /dev/ttyUSB0.
    baud : int
        Bits per second.

    Raises
    ------
    UserError
        There is no such port, it is no terminal, or it has no such speed.
    """

    def __init__(self, path: str, baud: int) -> None:
        self.path = path
        try:
            # Without O_NONBLOCK it could wait for a carrier.
            self._file = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UserError(f"{path}: port must open, not fail: {reason}") from None
        try:
            self._set_up(baud)
        except termios.error:
            os.close(self._file)
            raise UserError(f"{path}: port must be a serial port") from None
        except UserError:
            os.close(self._file)
            raise

    def _set_up(self, baud: int) -> None:
        speed = getattr(termios, f"B{baud}", None)
        if speed is None:
            raise UserError(f"{self.path}: baud must be one that Linux knows, not {baud}")
        attributes = termios.tcgetattr(self._file)
        control = termios.CS8 | termios.CREAD | termios.CLOCAL
        attributes[:6] = [0, 0, control, 0, speed, speed]
        termios.tcsetattr(self._file, termios.TCSAFLUSH, attributes)
        os.set_blocking(self._file, True)

    def write(self, data: bytes) -> None:
        """Send bytes."""
        while data:
            data = data[os.write(self._file, data) :]

    def read(self, timeout: float) -> bytes:
        """What has come, at least a byte; nothing if none comes in so many seconds."""
        if not select.select([self._file], [], [], timeout)[0]:
            return b""
        return os.read(self._file, 1 << 16)

    def send_break(self) -> None:
        """Keep the line low for `BREAK_S`, and forget what has come until then."""
        termios.tcdrain(self._file)
        fcntl.ioctl(self._file, SET_BREAK)
        # Adapters keep bytes back for some 16 ms.
        time.sleep(BREAK_S)
        termios.tcflush(self._file, termios.TCIFLUSH)
        fcntl.ioctl(self._file, CLEAR_BREAK)

    def close(self) -> None:
        """Let others use it."""
        os.close(self._file)
