"""Bits of digital memories that are wrong: where program and input lie, and in the chip.

A fault changes what is read, so golden machine and RTL compute the same with it. What the compiler
warrants and the hardware relies on is left alone: biases, with which no accumulator overflows,
shifts, and the weights of 0 and 1 with which a pass finds the largest of some values. Populations
(`model.npu.faults`) have faults of their own kinds.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from model.mars.config import ADDRESSES, WORD_BITS, WORD_LINES
from model.mars.devices.bit_cells import Cells, Words
from model.mars.devices.device import DeviceError, settings
from model.mars.devices.draws import What, generator
from model.mars.image import Image
from model.mars.layout import Ints, pack_table, unpack_table
from model.mars.network import FeatureType
from model.mars.program import KernelBlock, Pass, encode

NAME = "bits"
MemoryName = Literal[
    "weights", "multipliers", "tables", "input", "features", "macros", "parameters"
]
POPULATIONS = ("weights", "parameters")
"""Memories that populations have."""
CELLS = ("features", "macros")
"""Memories of the chip, whose cells are wrong all the time."""
NARROW, WIDE = 16, 31
"""Bits of a multiplier."""


@dataclass(frozen=True, kw_only=True)
class Faults:
    """Which bits are wrong.

    Parameters
    ----------
    flips : float
        Share of bits that are inverted.
    stuck0, stuck1 : float
        Shares of bits that are always 0, always 1.
    memory : "weights", "multipliers", "tables", "input", "features", "macros" or "parameters"
        Group-sets, multipliers and lookup tables of the program, or the input's feature words,
        which are written anew for each image: their bits are stuck at the same places, but flipped
        at others. Or cells of the feature memories, which also keep membranes, or of the macros;
        those that flip always do. Of populations weights, or parameters of neurons.

    Raises
    ------
    DeviceError
        A share is not 0..1, or there is no such memory.
    """

    flips: float = 0.0
    stuck0: float = 0.0
    stuck1: float = 0.0
    memory: MemoryName = "weights"

    def __post_init__(self) -> None:
        for key in ("flips", "stuck0", "stuck1"):
            share = getattr(self, key)
            if not 0 <= share <= 1:
                raise DeviceError(f"device {NAME}: {key} must be 0..1, not {share:g}")
        if self.stuck0 + self.stuck1 > 1:
            raise DeviceError(
                f"device {NAME}: stuck0 and stuck1 must be at most 1 together, "
                f"not {self.stuck0 + self.stuck1:g}"
            )
        names = get_args(MemoryName)
        if self.memory not in names:
            raise DeviceError(
                f"device {NAME}: memory must be one of {', '.join(names)}, not {self.memory!r}"
            )

    def corrupt(
        self, words: Words, n_bits: int, *, seed: int, trial: int, place: int, image: int = 0
    ) -> Words:
        """Words with faults in their lowest bits; the key of the draws is what follows `n_bits`."""
        shape = (*words.shape, n_bits)
        flips, zeros, ones = self._masks(shape, seed, trial, place, image)
        return np.asarray((words ^ flips) & ~zeros | ones, np.uint64)

    def _masks(
        self, shape: tuple[int, ...], seed: int, trial: int, place: int, image: int
    ) -> tuple[Words, Words, Words]:
        """Bits that are inverted, 0 and 1."""
        flip = generator(seed, trial, What.FLIP, place, image).random(shape)
        stuck = generator(seed, trial, What.BROKEN, place).random(shape)
        return (
            _joined(flip < self.flips),
            _joined(stuck < self.stuck0),
            _joined(stuck >= 1 - self.stuck1),
        )

    def cells(self, image: Image, *, seed: int, trial: int) -> Cells | None:
        """Cells of the chip that an image runs on; None if the faults are elsewhere.

        Raises
        ------
        DeviceError
            A pass finds the largest of some values with macros whose cells are wrong.
        """
        if self.memory not in CELLS:
            return None
        n_macros = image.config.n_macros
        shape: tuple[int, ...] = (n_macros, image.config.feature_words)
        if self.memory == "macros":
            shape = (n_macros, ADDRESSES, WORD_LINES)
            if any(one.descriptor.maximum for one in image.passes):
                raise DeviceError(
                    f"device {NAME}: memory must not be macros for this network: one of its pools "
                    "finds the largest value with them"
                )
        masks = self._masks((*shape, WORD_BITS), seed, trial, 0, 0)
        return Cells(self.memory, *masks)

    def image(self, image: Image, *, seed: int, trial: int) -> Image:
        """An image whose program has faults; the same one if they are elsewhere.

        Raises
        ------
        DeviceError
            The faults are in a memory that only populations have.
        """
        if self.memory == "parameters":
            raise DeviceError(
                f"device {NAME}: memory must not be parameters for a network of MARS: they are "
                "those of populations' neurons"
            )
        if self.memory not in ("weights", "multipliers", "tables"):
            return image
        passes = []
        place = 0
        for one in image.passes:
            blocks = []
            is_fixed = one.descriptor.maximum and self.memory == "weights"
            for block in one.blocks:
                key = {"seed": seed, "trial": trial, "place": place}
                blocks.append(block if is_fixed else self._block(image, block, **key))
                place += 1
            table = self._table(one, seed=seed, trial=trial, place=place)
            passes.append(replace(one, blocks=tuple(blocks), table=table))
        lines = encode(tuple(passes), wide_multiplier=image.config.wide_multiplier)
        return replace(image, lines=lines)

    def _table(self, one: Pass, **key: int) -> Ints | None:
        """The lookup table of a pass, if it has one."""
        if one.table is None or self.memory != "tables":
            return one.table
        bits = self.corrupt((one.table & 0xFF).astype(np.uint64), 8, **key).astype(np.int64)
        return unpack_table(pack_table(bits), signed=bool(one.descriptor.lookup_signed))

    def _block(self, image: Image, block: KernelBlock, **key: int) -> KernelBlock:
        if self.memory == "weights":
            return replace(block, words=self.corrupt(block.words, 64, **key))
        if self.memory == "tables" or block.header.threshold is not None:
            return block
        n_bits = WIDE if image.config.wide_multiplier else NARROW
        mult = self.corrupt(block.header.mult.astype(np.uint64), n_bits, **key).astype(np.int64)
        return replace(block, header=replace(block.header, mult=mult))

    def features(
        self, kind: FeatureType, features: Ints, *, seed: int, trial: int, image: int
    ) -> Ints:
        """An image with faults, if they are in the memory of the input."""
        if self.memory != "input":
            return features
        mask = (1 << kind.bits) - 1
        stored = (features & mask).astype(np.uint64)
        key = {"seed": seed, "trial": trial, "place": 0, "image": image}
        read = self.corrupt(stored, kind.bits, **key).astype(np.int64)
        return read - (read >> (kind.bits - 1) << kind.bits) if kind.signed else read


def _joined(bits: NDArray[np.bool_]) -> Words:
    """Bits along the last axis, the lowest first, as words."""
    places = np.arange(bits.shape[-1], dtype=np.uint64)
    return np.asarray(np.bitwise_or.reduce(bits.astype(np.uint64) << places, axis=-1), np.uint64)


def parse(text: str) -> Faults:
    """``bits[:key=value,...]`` as it is given on a command line."""
    _, _, changes = text.partition(":")
    values: dict[str, Any] = {}
    for key, value in settings(NAME, changes):
        if key == "memory":
            values[key] = value
            continue
        if key not in ("flips", "stuck0", "stuck1"):
            raise DeviceError(
                f"device {NAME}: key must be one of flips, stuck0, stuck1, memory, not {key!r}"
            )
        try:
            values[key] = float(value)
        except ValueError:
            raise DeviceError(f"device {NAME}: {key} must be a number, not {value!r}") from None
    return Faults(**values)
