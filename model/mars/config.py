"""Parameters of an accelerator: how many cores and macros, how much memory."""

import json
import zlib
from dataclasses import asdict, dataclass

WORD_LINES = 16
"""Input channels of one access, a nibble each (reconstruction)."""
COLUMNS = 64
"""Bit lines of a macro: 16 kernels of 4 bit or 8 kernels of 8 bit (8 x 8 partitions, stated)."""
ADDRESSES = 64
"""Group-sets that a macro holds (reconstruction: 64 Kb per macro)."""
KERNELS = 16
"""Output channels of post-processing; a kernel block of 8-bit weights uses the first half."""
NIBBLE = 4
ACC_WIDTH = 32
LINE_BITS = 512
"""The weight memory is read in lines, whatever the width of its bus."""
WORD_BITS = 64
"""A row of a group-set, and a feature word: one nibble of 16 channels."""
WORDS_PER_LINE = LINE_BITS // WORD_BITS
WORDS_PER_WRITE = 2
"""A feature memory writes a word, or one at an even address and the next, per clock."""
LAYOUT_VERSION = 3
"""Counts changes of the register map, the program or the image."""


@dataclass(frozen=True, kw_only=True)
class MarsConfig:
    """One accelerator.

    Parameters
    ----------
    name : str
        What the configuration is called; not part of the fingerprint.
    n_cores, macros_per_core : int
        Their product is the number of macros, 1, 2, 4 or 8 (stated: four cores with several
        macros each).
    feature_words : int
        Words of 64 bit in the feature memory of each macro; a power of two, 256..16384.
    weight_bus : int
        Bits of the AXI4 read bus: 64, 128, 256 or 512.
    line_buffer : int
        Lines between that bus and the macros; a power of two, 16..256.
    wide_multiplier : bool
        Requantisation multiplies by up to 31 bits instead of 16 and has a second, rounded shift.
    """

    name: str
    n_cores: int = 4
    macros_per_core: int = 2
    feature_words: int = 8192
    weight_bus: int = 512
    line_buffer: int = 64
    wide_multiplier: bool = False

    def __post_init__(self) -> None:
        if self.n_macros not in {1, 2, 4, 8} or min(self.n_cores, self.macros_per_core) < 1:
            raise ValueError(
                f"n_cores * macros_per_core must be 1, 2, 4 or 8, "
                f"not {self.n_cores} * {self.macros_per_core}"
            )
        for field, low, high in (("feature_words", 256, 16384), ("line_buffer", 16, 256)):
            value = getattr(self, field)
            if not low <= value <= high or value & (value - 1):
                raise ValueError(f"{field} must be a power of two {low}..{high}, not {value}")
        if self.weight_bus not in {64, 128, 256, 512}:
            raise ValueError(f"weight_bus must be 64, 128, 256 or 512, not {self.weight_bus}")

    @property
    def n_macros(self) -> int:
        """Macros that compute side by side."""
        return self.n_cores * self.macros_per_core

    @property
    def beats_per_line(self) -> int:
        """Transfers of the weight bus that make a line."""
        return LINE_BITS // self.weight_bus

    @property
    def fingerprint(self) -> int:
        """CRC-32 of everything that decides what an image means; a register holds it."""
        text = json.dumps({**asdict(self), "name": None, "layout": LAYOUT_VERSION}, sort_keys=True)
        return zlib.crc32(text.encode())


CONFIGS: dict[str, MarsConfig] = {
    config.name: config
    for config in (
        MarsConfig(
            name="mars-tiny",
            n_cores=1,
            macros_per_core=1,
            feature_words=1024,
            weight_bus=64,
            line_buffer=16,
        ),
        MarsConfig(name="mars"),
        MarsConfig(name="mars-wide", wide_multiplier=True),
    )
}
"""Named configurations, smallest first."""
