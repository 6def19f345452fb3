"""A chip on a board, over its serial line: `Chip` loads networks and runs them."""

from firmware_tools.board.chip import Chip
from firmware_tools.board.link import BoardError
from firmware_tools.board.port import Port, SerialPort

__all__ = ["BoardError", "Chip", "Port", "SerialPort"]
