"""Macros of a device in the golden machine: each group-set is an array of 16 word lines.

Group-sets keep what they were programmed with: one that a frame loads again holds the same.
"""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from model.mars.config import COLUMNS, KERNELS, NIBBLE, WORD_LINES
from model.mars.devices.crossbar import Crossbar, Ints
from model.mars.devices.device import Device, DeviceError
from model.mars.layout import Descriptor

N_BLOCKS = 1 << 16
"""More kernel blocks than a pass has."""
PARTS = 2
"""Lower and upper nibbles of 8-bit weights are arrays of their own."""


@dataclass(frozen=True)
class Access:
    """Which access it is.

    Parameters
    ----------
    number, block : int
        The pass, and its kernel block.
    step : int
        Time step in which a pass in time reads the same weights.
    """

    number: int
    block: int
    step: int = 0


@dataclass(frozen=True)
class DeviceMacros:
    """All group-sets of a program in arrays of a device.

    Parameters
    ----------
    device : Device
    seed, trial : int
        Another seed or trial is another chip.
    image : int
        Number of the frame: key of the draws of accesses.

    Raises
    ------
    DeviceError
        An array has more word lines or columns than a macro.
    """

    device: Device
    seed: int = 0
    trial: int = 0
    image: int = 0
    _held: dict[tuple[int, int], Crossbar] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        d = self.device
        for key, value, most in (("rows", d.rows, WORD_LINES), ("columns", d.columns, COLUMNS)):
            if value > most:
                raise DeviceError(
                    f"device {d.name}: {key} must be at most {most}, those of a macro, on the "
                    f"golden machine, not {value}"
                )

    def at(self, image: int) -> "DeviceMacros":
        """The same chip at another frame."""
        return replace(self, image=image)

    def products(
        self,
        d: Descriptor,
        weights: Ints,
        activations: Ints,
        bits: int,
        *,
        signed: bool,
        access: Access,
    ) -> Ints:
        """Sums of products of each entry and macro, (entries, macros, rounds, 16).

        Parameters
        ----------
        d : Descriptor
        weights : (entries, macros, 16, 16) int
            As `model.mars.macro` decodes them; those of stacked entries nibble by nibble.
        activations : (entries, macros, rounds, 16) int
        bits, signed : int, bool
            Of their type.
        access : Access
        """
        if not d.stacked:
            w_max = 1 << (2 * NIBBLE - 1 if d.wide else NIBBLE - 1)
            return self._read(weights, activations, bits, signed, access, 0, w_max)
        sums = np.zeros(activations.shape, np.int64)
        low, high = slice(0, None, 2), slice(1, None, 2)
        w_max = (1 << NIBBLE) - 1
        sums[low] = self._read(weights[low], activations[low], bits, signed, access, 0, w_max)
        upper, w_max = weights[high] >> NIBBLE, 1 << (NIBBLE - 1)
        sums[high] = self._read(upper, activations[high], bits, signed, access, 1, w_max)
        sums[high] <<= NIBBLE
        return sums

    def _read(
        self,
        weights: Ints,
        activations: Ints,
        bits: int,
        signed: bool,
        access: Access,
        part: int,
        w_max: int,
    ) -> Ints:
        n_entries, n, n_rounds, _ = activations.shape
        result = np.zeros((n_entries * n, n_rounds, KERNELS), np.int64)
        if not result.size:
            return result.reshape(n_entries, n, n_rounds, KERNELS)
        place = (access.number * N_BLOCKS + access.block) * PARTS + part
        crossbar = self._crossbar(weights.reshape(-1, WORD_LINES, KERNELS), w_max, (place, n))
        n_lines = self.device.rows
        lines = activations.reshape(n_entries * n, n_rounds, WORD_LINES)
        per_set = -(-WORD_LINES // n_lines)
        filled = np.pad(lines, ((0, 0), (0, 0), (0, per_set * n_lines - WORD_LINES)))
        draws = None
        if crossbar.is_noisy:
            draws = crossbar.draws(bits, n_rounds, self.image, access.step)
        for array in range(len(result) * per_set):
            one, k = divmod(array, per_set)
            mine = np.ascontiguousarray(filled[one, :, k * n_lines : (k + 1) * n_lines])
            noise = None if draws is None else draws[array]
            result[one] += crossbar.read(array, mine, bits, signed=signed, draws=noise)
        return result.reshape(n_entries, n, n_rounds, KERNELS)

    def _crossbar(self, sets: Ints, w_max: int, key: tuple[int, int]) -> Crossbar:
        """The arrays of group-sets (sets, 16, 16), programmed when they are first read."""
        if key not in self._held:
            n_lines = self.device.rows
            per_set = -(-WORD_LINES // n_lines)
            missing = per_set * n_lines - WORD_LINES
            filled = np.pad(sets.astype(np.int64), ((0, 0), (0, missing), (0, 0)))
            there: NDArray[np.bool_] = np.arange(per_set * n_lines) < WORD_LINES
            self._held[key] = Crossbar(
                self.device,
                filled.reshape(-1, n_lines, KERNELS),
                np.tile(there.reshape(per_set, n_lines), (len(sets), 1)),
                w_max,
                seed=self.seed,
                trial=self.trial,
                place=key[0],
            )
        return self._held[key]
