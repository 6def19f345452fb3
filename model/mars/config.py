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
LINE_BYTES = LINE_BITS // 8
"""The weight memory is read in lines, whatever the width of its bus."""
WORD_BITS = 64
WORD_BYTES = WORD_BITS // 8
"""A row of a group-set, and a feature word: one nibble of 16 channels."""
WORDS_PER_LINE = LINE_BITS // WORD_BITS
ROWS_PER_COPY = 4
"""Word lines that are copied from a weight SRAM into its macro per clock."""
WORDS_PER_WRITE = 2
"""A feature memory writes a word, or one at an even address and the next, per clock."""
LAYOUT_VERSION = 6
"""Counts changes of the register map, the program or the image, and of what they compute."""


@dataclass(frozen=True, kw_only=True)
class Ahead:
    """What is loaded and not used up yet, at most.

    Parameters
    ----------
    entries, headers, descriptors : int
        Group-sets per macro, headers of kernel blocks, and descriptors behind the pass under way.
    copied : bool
        Group-sets go through a weight SRAM.
    """

    entries: int
    headers: int
    descriptors: int
    copied: bool


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
    weight_sram : int
        Group-sets that a weight SRAM beside each macro keeps until they are needed, a power of two
        64..4096; 0: rows are written into the macros as they come. (Stated: the cores have weight
        SRAM; its size is not.)
    post_lanes : int
        Lanes of post-processing and of the row unit, 16 or 4; with 4 the 16 channels of a result
        take turns, and there are eight neurons instead of 16 for each of four time steps. Not part
        of the fingerprint: it changes clocks, not what an image means.
    """

    name: str
    n_cores: int = 4
    macros_per_core: int = 2
    feature_words: int = 8192
    weight_bus: int = 512
    line_buffer: int = 64
    wide_multiplier: bool = False
    weight_sram: int = 0
    post_lanes: int = KERNELS

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
        n_sets = self.weight_sram
        if n_sets and (not 64 <= n_sets <= 4096 or n_sets & (n_sets - 1)):
            raise ValueError(f"weight_sram must be 0 or a power of two 64..4096, not {n_sets}")
        if self.weight_bus not in {64, 128, 256, 512}:
            raise ValueError(f"weight_bus must be 64, 128, 256 or 512, not {self.weight_bus}")
        if self.post_lanes not in {4, KERNELS}:
            raise ValueError(f"post_lanes must be 4 or 16, not {self.post_lanes}")

    @property
    def n_macros(self) -> int:
        """Macros that compute side by side."""
        return self.n_cores * self.macros_per_core

    @property
    def turns(self) -> int:
        """Clocks in which 16 channels go through the lanes of post-processing."""
        return KERNELS // self.post_lanes

    @property
    def ahead(self) -> "Ahead":
        """How far loading may run ahead."""
        if not self.weight_sram:
            return Ahead(entries=ADDRESSES, headers=4, descriptors=1, copied=False)
        headers = max(8, self.weight_sram // 8)
        return Ahead(entries=self.weight_sram, headers=headers, descriptors=4, copied=True)

    @property
    def beats_per_line(self) -> int:
        """Transfers of the weight bus that make a line."""
        return LINE_BITS // self.weight_bus

    @property
    def fingerprint(self) -> int:
        """CRC-32 of everything that decides what an image means; a register holds it."""
        fields = {**asdict(self), "name": None, "layout": LAYOUT_VERSION}
        del fields["post_lanes"]
        return zlib.crc32(json.dumps(fields, sort_keys=True).encode())


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
            post_lanes=4,
        ),
        MarsConfig(name="mars", weight_sram=1024),
        MarsConfig(name="mars-wide", weight_sram=1024, wide_multiplier=True),
    )
}
"""Named configurations, smallest first."""
