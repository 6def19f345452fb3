"""Arrays of a device that hold weights, and what their converters say of activations.

A weight's magnitude is cut into slices of `cell_bits`, an activation into parts of `dac_bits`; the
columns of a pair are subtracted, converted, and added with the places of slice and part. Sums are
integers in the units of an exact product, so everything behind the macro stays as it is.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from model.mars.devices import wires
from model.mars.devices.cells import deviation, held
from model.mars.devices.device import Device, DeviceError
from model.mars.devices.draws import Floats, What, generator

Ints = NDArray[np.int64]
SIGNS = 2
"""Cells of a pair."""
MEAN_DIGIT = 0.25
"""Of a pair's cells with weights spread evenly over their range: half the magnitude, half of it."""


@dataclass(frozen=True)
class Converter:
    """Steps of the converters, in units of the products of a slice and a part.

    Parameters
    ----------
    step : float
        A power of two, at least 1.
    limit : int
        Codes are -limit..limit-1.
    """

    step: float
    limit: int

    def convert(self, sums: Floats, offset: Floats | float) -> Floats:
        """What converters with an offset, in steps, say of sums, in units."""
        codes = np.rint(sums / self.step + offset)
        return np.asarray(np.clip(codes, -self.limit, self.limit - 1) * self.step)


class Crossbar:
    """Weights in arrays of a device, programmed once.

    Parameters
    ----------
    device : Device
    weights : (arrays, rows, kernels) int
        Row by row as activations come; kernels that are too many for the columns of one array
        stand in arrays side by side.
    present : (arrays, rows) bool
        Rows that are there; others have no cells.
    w_max : int
        Largest magnitude of a weight of that type.
    seed, trial, place : int
        Key of the draws: `place` tells these arrays from all others of the network.

    Members
    -------
    slices : (slices, arrays, rows, kernels) float64
        What each cell pair adds for an activation of 1; without faults the digit, with its sign.

    Raises
    ------
    DeviceError
        A weight needs more columns than an array has.
    """

    def __init__(
        self,
        device: Device,
        weights: Ints,
        present: NDArray[np.bool_],
        w_max: int,
        *,
        seed: int,
        trial: int,
        place: int,
    ) -> None:
        self.device = device
        self._key = (seed, trial)
        self._place = place
        base = (1 << device.cell_bits) - 1
        n_slices = -(-w_max.bit_length() // device.cell_bits)
        if device.columns < SIGNS * n_slices:
            raise DeviceError(
                f"device {device.name}: columns must be at least {SIGNS * n_slices}, a pair for "
                f"each of {n_slices} slices of a weight, not {device.columns}"
            )
        places = device.cell_bits * np.arange(n_slices)
        digits = np.abs(weights)[..., np.newaxis] >> places & base  # (T, R, K, slices)
        self._digits = np.moveaxis(np.sign(weights)[..., np.newaxis] * digits, -1, 0)
        self._factors = 1 << places
        largest = np.minimum(base, w_max >> places)
        unit = (device.g_max - device.g_min) / largest
        pairs = np.stack([np.sign(weights) > 0, np.sign(weights) < 0], axis=-1)
        target = device.g_min + (digits * unit)[..., np.newaxis] * pairs[..., np.newaxis, :]
        cells = held(device, target, seed, trial, place)
        cells = np.where(present[:, :, np.newaxis, np.newaxis, np.newaxis], cells, 0.0)
        seen = _seen(device, cells)
        gain = reference_gain(device)
        by_digit = (gain / unit)[:, np.newaxis, np.newaxis, np.newaxis]
        self.slices = np.moveaxis(seen[..., 0] - seen[..., 1], -1, 0) * by_digit
        self._variance: Floats | None = None
        if device.read_noise:
            noise = deviation(device, device.read_noise, device.read_fit, cells)
            # To first order a cell's noise reaches the column as its conductance does.
            share = np.full_like(cells, seen.sum() / cells.sum() if device.has_wires else 1.0)
            np.divide(seen, cells, out=share, where=cells > 0)
            self._variance = np.moveaxis((noise * share) ** 2 @ np.ones(SIGNS), -1, 0) * by_digit**2
        self._offset: Floats | None = None
        if device.adc_offset:
            draw = generator(seed, trial, What.OFFSET, place)
            n_arrays, _, n_kernels = weights.shape
            shape = (n_slices, n_arrays, n_kernels)
            self._offset = device.adc_offset * draw.standard_normal(shape)

    @property
    def weights(self) -> Floats:
        """What the pairs amount to as weights, (arrays, rows, kernels)."""
        return np.asarray(np.tensordot(self._factors.astype(float), self.slices, 1))

    def parts(self, bits: int) -> int:
        """Accesses that activations of so many bits take."""
        return -(-bits // self.device.dac_bits)

    def n_draws(self, bits: int, n_pixels: int) -> tuple[int, ...]:
        """Shape of the draws of one image's accesses: (arrays, slices, parts, pixels, kernels)."""
        n_slices, n_arrays, _, n_kernels = self.slices.shape
        return n_arrays, n_slices, self.parts(bits), n_pixels, n_kernels

    @property
    def is_noisy(self) -> bool:
        """Whether accesses need draws."""
        return self._variance is not None

    def draws(self, bits: int, n_pixels: int, *access: int) -> Floats:
        """Draws of the accesses of one image; `access` is (image, step)."""
        draw = generator(*self._key, What.READ, self._place, *access)
        return draw.standard_normal(self.n_draws(bits, n_pixels))

    def read(
        self, array: int, a: Ints, bits: int, *, signed: bool, draws: Floats | None = None
    ) -> Ints:
        """What one array's converters say.

        Parameters
        ----------
        array : int
        a : (..., pixels, rows) int
            Activations.
        bits, signed : int, bool
            Of their type.
        draws : (..., slices, parts, pixels, kernels) float64 or None
            Standard normal; None reads without noise.

        Returns
        -------
        (..., pixels, kernels) int64
        """
        width, n = self.device.dac_bits, self.parts(bits)
        total = np.zeros((*a.shape[:-1], self.slices.shape[-1]))
        for part in range(n):
            is_top = part == n - 1
            nibble = a >> width * part
            if not is_top:
                nibble = nibble & ((1 << width) - 1)
            volts = nibble.astype(np.float64)
            magnitude = 1 << (min(width, bits - width * part) - (1 if is_top and signed else 0))
            a_max = magnitude if is_top and signed else magnitude - 1
            for k, factor in enumerate(self._factors):
                sums = volts @ self.slices[k, array]
                if draws is not None and self._variance is not None:
                    sd = np.sqrt(volts**2 @ self._variance[k, array])
                    sums = sums + sd * draws[..., k, part, :, :]
                converter = self.converter(k, a_max, signed=is_top and signed)
                offset = 0.0 if self._offset is None else self._offset[k, array]
                total += converter.convert(sums, offset) * float(factor << width * part)
        return total.astype(np.int64)

    def converter(self, slice_: int, a_max: int, *, signed: bool) -> Converter:
        """The converter of a slice, for activations to a_max: the arrays of a layer share one."""
        return converter(self.device, self._full(slice_, signed) * a_max)

    def _full(self, slice_: int, signed: bool) -> int:
        """The largest sum of digits of a column, all signs alike if activations may be negative."""
        digits = self._digits[slice_]
        if signed:
            return int(np.abs(digits).sum(axis=1).max())
        ends = np.maximum(digits, 0).sum(axis=1).max(), np.maximum(-digits, 0).sum(axis=1).max()
        return int(max(ends))


def converter(device: Device, full: float) -> Converter:
    """The converter whose full range is `device.adc_range` of sums to `full`."""
    limit = 1 << (device.adc_bits - 1)
    steps = full * device.adc_range / (limit - 1)
    return Converter(2.0 ** max(0, int(np.ceil(np.log2(steps))) if steps > 0 else 0), limit)


def _seen(device: Device, cells: Floats) -> Floats:
    """Effective conductances of cells (arrays, rows, kernels, slices, 2)."""
    if not device.has_wires:
        return cells
    n_arrays, n_rows, n_kernels, n_slices, _ = cells.shape
    across = device.columns // (SIGNS * n_slices)
    n_side = -(-n_kernels // across)
    padded = np.zeros((n_arrays, n_rows, n_side * across, n_slices, SIGNS))
    padded[:, :, :n_kernels] = cells
    side = padded.reshape(n_arrays, n_rows, n_side, across * n_slices * SIGNS).swapaxes(1, 2)
    flat = side.reshape(n_arrays * n_side, n_rows, -1)
    solve = wires.exact if device.wires == "exact" else wires.fast
    seen = solve(flat, device.driver, device.wire, device.sense)
    back = seen.reshape(n_arrays, n_side, n_rows, -1).swapaxes(1, 2).reshape(padded.shape)
    return back[:, :, :n_kernels]


@cache
def reference_gain(device: Device) -> float:
    """What converters make up for: the loss in wires of an array of alike cells.

    All cells are at a quarter of the range, the mean of evenly spread weights. It is known from
    the design; what real arrays lose more or less remains.
    """
    if not device.has_wires:
        return 1.0
    cell = device.g_min + MEAN_DIGIT * (device.g_max - device.g_min)
    cells = np.full((1, device.rows, device.columns), cell)
    solve = wires.exact if device.wires == "exact" else wires.fast
    seen = solve(cells, device.driver, device.wire, device.sense)
    return float(cells.sum() / seen.sum())
