"""What the memories of a chip cost in 180 nm: an analytical model, because Debian has no macros.

The model is that of CACTI (arrays of six-transistor cells, bit lines with a small swing, sense
amplifiers, word lines, wires that carry the words out), reduced to what decides. Constants of the
process are those that CACTI 7 states in `tech_params/180nm.dat`, at our supply of 1.8 V. What is
marked as ours is an assumption. A compiled macro differs in its organisation, its swing and its
control; `BAND` says by how much we would not be surprised.
"""

import math
from dataclasses import dataclass

from hw.asic.osu018 import VDD

BAND = (0.5, 3.0)
"""Least and most that a real macro may take of the model's energy (ours)."""

FEATURE = 0.18
"""um."""
CELL_AREA = 146 * FEATURE**2
"""um2 (CACTI: 146 F2)."""
CELL_ASPECT = 1.46
"""Height over width (CACTI)."""
CELL_WIDTH = math.sqrt(CELL_AREA / CELL_ASPECT)
CELL_HEIGHT = CELL_ASPECT * CELL_WIDTH
ACCESS_WIDTH = 1.31 * FEATURE
"""um of an access transistor (CACTI: 1.31 F)."""
GATE = 1.328 + 2 * 0.16
"""fF/um of a gate with the fringe on both sides (CACTI)."""
JUNCTION, SIDEWALL, DRAIN_FRINGE = 2.0, 0.25, 0.16
"""fF/um2, fF/um and fF/um of a drain (CACTI)."""
DRAIN_LENGTH = 2.5 * FEATURE
"""um of a drain with its contact (ours)."""
WIRE = 0.28
"""fF/um of a local wire: neighbours, layers and fringe in the geometry that CACTI states."""
SENSE = 14.7e-3 * (VDD / 1.5) ** 2
"""pJ of a sense amplifier (CACTI: 14.7 fJ at 1.5 V)."""
LEAKAGE = 0.97 * 2 * 2.08 * FEATURE * VDD
"""uW of 1,000 cells at 20 degrees: two of a cell's transistors leak (CACTI: 0.97 nA/um, 2.08 F)."""

COLUMNS = 32
"""Bits of a macro (ours): a wider memory is several of them, each beside what reads it."""
SWING = 0.2
"""V by which a bit line falls in a read (ours: CACTI's least is 0.08 V; a margin on top)."""
ROWS = 256
"""Most cells on a bit line (ours); longer memories consist of several such arrays."""
CONTROL = 1.2
"""Decoders, timing and precharge on top of what is counted (ours)."""
REPEATERS = 1.6
"""Drivers and repeaters on top of the wires that carry words out and in (ours)."""
EFFICIENCY = 0.55
"""Share of a macro's area that is cells (ours)."""
TWO_PORT = 1.6
"""Area and wire length of cells with a port for reading and one for writing (ours)."""
DELAY_0, DELAY_LOG = 1.1, 0.12
"""ns from the clock to the data, and for each doubling of the bits (ours)."""
SETUP = 0.4
"""ns (ours)."""


@dataclass(frozen=True)
class Sram:
    """A memory.

    Attributes
    ----------
    depth, width : int
        Words and bits.
    two_port : bool
    """

    depth: int
    width: int
    two_port: bool = False

    @property
    def bits(self) -> int:
        """Cells."""
        return self.depth * self.width

    @property
    def rows(self) -> int:
        """Cells on a bit line."""
        return min(self.depth, ROWS)

    @property
    def area(self) -> float:
        """um2."""
        return self.bits * CELL_AREA / EFFICIENCY * (TWO_PORT if self.two_port else 1)

    @property
    def leakage(self) -> float:
        """uW."""
        return self.bits / 1000 * LEAKAGE

    @property
    def delay(self) -> float:
        """ns from the clock to the data."""
        return DELAY_0 + DELAY_LOG * math.log2(self.bits)

    @property
    def _stretch(self) -> float:
        return math.sqrt(TWO_PORT) if self.two_port else 1.0

    @property
    def _bit_line(self) -> float:
        """fF."""
        drain = JUNCTION * ACCESS_WIDTH * DRAIN_LENGTH
        drain += SIDEWALL * (ACCESS_WIDTH + 2 * DRAIN_LENGTH) + DRAIN_FRINGE * ACCESS_WIDTH
        return self.rows * (drain / 2 + WIRE * CELL_HEIGHT * self._stretch)

    @property
    def _word_line(self) -> float:
        """pJ."""
        cell = 2 * ACCESS_WIDTH * GATE + WIRE * CELL_WIDTH * self._stretch
        return self.width * cell * VDD**2 / 1000

    @property
    def _transport(self) -> float:
        """pJ to carry a bit across its macro; of random data every second one changes."""
        length = math.sqrt(self.area / math.ceil(self.width / COLUMNS))
        return REPEATERS * length * WIRE * VDD**2 / 4 / 1000

    @property
    def read_energy(self) -> float:
        """pJ of reading a word."""
        bit = self._bit_line * VDD * SWING / 1000 + SENSE + self._transport
        return CONTROL * (self.width * bit + self._word_line)

    def write_energy(self, bits: float) -> float:
        """pJ of writing so many bits of a word: their bit lines swing fully, the others as read."""
        written = self._bit_line * VDD**2 / 1000 + self._transport
        others = self._bit_line * VDD * SWING / 1000
        return CONTROL * (bits * written + (self.width - bits) * others + self._word_line)
