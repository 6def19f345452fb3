"""The other end of a serial line in simulation: it has a clock of its own."""

from cocotb.triggers import Timer

from tb.bench import CLOCK_NS

FRAME_BITS = 10
"""Start bit, eight data bits, stop bit."""


def frame(byte: int, stop: int = 1) -> list[int]:
    """Bits of a byte, in their order."""
    return [0, *((byte >> k) & 1 for k in range(8)), stop]


class Sender:
    """Drives a line.

    Parameters
    ----------
    handle : cocotb handle
        The line.
    divider : int
        Clocks of a bit, as the receiver believes.
    tempo : float
        How much longer a bit of this end is.
    """

    def __init__(self, handle, divider: int, tempo: float = 1.0) -> None:
        self.handle = handle
        self.bit_ps = divider * CLOCK_NS * 1000 * tempo
        handle.value = 1

    async def hold(self, level: int, bits: float) -> None:
        """Keep the line at a level for so many bits."""
        self.handle.value = level
        if bits:
            await Timer(round(bits * self.bit_ps), "ps")

    async def send(self, data: bytes, stop: int = 1) -> None:
        """Bytes without a gap; `stop` is the level of their stop bits."""
        for byte in data:
            for bit in frame(byte, stop):
                await self.hold(bit, 1)
