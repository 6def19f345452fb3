"""When a network has taken enough time steps: confidence or entropy without division or logarithm.

With integer logits L of real value `scale` per unit and x_k = (max L - L_k) * scale (for the mean
of t steps divided by t), e_k = exp(-x_k) and Z = sum e_k, the largest probability is 1/Z and the
entropy ln Z + sum(e_k x_k)/Z. All are kept in powers of two: y_k = x_k / ln 2 in units of 2^-8
comes of one multiplication by a constant of the step, its fraction finds 2^-y in a table of 256 x
16 bit, the rest shifts it. log2 Z comes of the place of its first bit and another such table. The
exit unit takes a step's decision with integers alone; tables and constants are registers.
"""

import math
from dataclasses import dataclass
from enum import IntEnum
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from model.mars.neuron import Exit

Ints = NDArray[np.int64]

FRACTION = 8
"""Bits behind the point of y; a table has so many entries' bits."""
TABLE_SIZE = 1 << FRACTION
ONE = (1 << 16) - 1
"""e of the largest logit, the full scale of the tables."""
LOG_FRACTION = 16
"""Bits behind the point of logarithms of base 2."""
LARGEST_SHIFT = 16
"""Above it e is 0."""
MULT_BITS = 16
SHIFTS = (1, 47)
MAX_CLASSES = 256
"""Of a network that the exit unit takes decisions for."""


class Table(IntEnum):
    """Where the host writes what, in words: powers, logarithms, and each step's factor.

    A factor has `mult` in its lower 16 bits and `shift` above them.
    """

    POWERS = 0
    LOGARITHMS = TABLE_SIZE
    FACTORS = 2 * TABLE_SIZE


TABLES = 4 * TABLE_SIZE
"""Words."""

EXP_TABLE: Ints = np.array(
    [round(ONE * 2.0 ** (-k / TABLE_SIZE)) for k in range(TABLE_SIZE)], np.int64
)
"""2^-(k/256), the first one exactly full scale."""
LOG_TABLE: Ints = np.array(
    [round(2**LOG_FRACTION * math.log2(1 + (k + 0.5) / TABLE_SIZE)) for k in range(TABLE_SIZE)],
    np.int64,
)
"""log2(1 + (k + 1/2)/256)."""


@dataclass(frozen=True)
class ExitRegisters:
    """What the host writes, beside the tables.

    Parameters
    ----------
    is_entropy : bool
    mults, shifts : tuple of int
        Of each step: y = (d * mult + 2^(shift-1)) >> shift for a distance d of logits. 16 bit and
        1..47.
    limit : int
        Confidence: Z must be less. Entropy: log2 of the number of classes times (1 - threshold),
        16 bits behind the point.
    """

    is_entropy: bool
    mults: tuple[int, ...]
    shifts: tuple[int, ...]
    limit: int


def exit_registers(stop: Exit, n_steps: int, n_classes: int) -> ExitRegisters:
    """The registers for an exit."""
    factors = [
        stop.scale / math.log(2) * TABLE_SIZE / (step if stop.mode == "mean" else 1)
        for step in range(1, n_steps + 1)
    ]
    mults, shifts = zip(*map(_scaled, factors), strict=True)
    is_entropy = stop.metric == "entropy"
    if is_entropy:
        limit = math.floor((1 - stop.threshold) * math.log2(n_classes) * 2**LOG_FRACTION)
    else:
        limit = math.ceil(ONE / Fraction(stop.threshold))
    return ExitRegisters(is_entropy, mults, shifts, limit)


def _scaled(factor: float) -> tuple[int, int]:
    """A factor as a multiplier of 16 bits, full if it can be, and a shift."""
    exponent = math.frexp(factor)[1]  # factor < 2^exponent
    shift = min(max(MULT_BITS - exponent, SHIFTS[0]), SHIFTS[1])
    return min(round(math.ldexp(factor, shift)), ONE), shift


def tables(registers: ExitRegisters) -> dict[int, Ints]:
    """What the host writes into the tables, by the word that it begins with."""
    factors = np.array(registers.mults) | np.array(registers.shifts) << MULT_BITS
    return {Table.POWERS: EXP_TABLE, Table.LOGARITHMS: LOG_TABLE, Table.FACTORS: factors}


def exit_clocks(n_classes: int, n_steps: int) -> int:
    """Clocks in which the exit unit decides so many steps of a chunk."""
    return n_steps * (9 * n_classes + 15)


def never(n_steps: int) -> ExitRegisters:
    """Registers with which all steps are taken."""
    return ExitRegisters(False, (0,) * n_steps, (1,) * n_steps, 0)


class ExitUnit:
    """The unit from one chunk of time steps to the next.

    Parameters
    ----------
    registers : ExitRegisters

    Attributes
    ----------
    taken : int
        Steps that were decided.
    logits : (classes,) int64
        Of the last one, summed over the steps.
    """

    def __init__(self, registers: ExitRegisters) -> None:
        self.registers = registers
        self.taken = 0
        self.logits: Ints = np.zeros(1, np.int64)

    def stops(self, logits: Ints) -> bool:
        """Decide a chunk of steps; whether it is the last one.

        Parameters
        ----------
        logits : (steps, classes) int
            Summed over the steps of the chunk.
        """
        before = self.logits
        for so_far in logits:
            self.taken += 1
            self.logits = before + so_far
            is_last = self.taken == len(self.registers.mults)
            if is_last or is_sure(self.registers, self.logits, self.taken):
                return True
        return False


def is_sure(registers: ExitRegisters, logits: Ints, step: int) -> bool:
    """The decision of one step.

    Parameters
    ----------
    registers : ExitRegisters
    logits : (classes,) int
        Summed over the steps so far.
    step : int
        Which one, from 1 on.
    """
    mult, shift = registers.mults[step - 1], registers.shifts[step - 1]
    largest = int(logits.max())
    total = moment = 0
    for logit in logits.tolist():
        y = ((largest - logit) * mult + (1 << (shift - 1))) >> shift
        e = _power(y)
        total += e
        moment += e * y
    if not registers.is_entropy:
        return total < registers.limit
    left = moment << (LOG_FRACTION - FRACTION)
    return left < total * (registers.limit - _log2(total))


def _power(y: int) -> int:
    """2^-y of full scale, y with 8 bits behind the point."""
    places = y >> FRACTION
    if places > LARGEST_SHIFT:
        return 0
    return (int(EXP_TABLE[y % TABLE_SIZE]) + (1 << places >> 1)) >> places


def _log2(total: int) -> int:
    """log2 of a sum of powers of full scale 2^16, 16 bits behind the point."""
    place = total.bit_length() - 1
    mantissa = (total << FRACTION >> place) % TABLE_SIZE
    return ((place - LOG_FRACTION) << LOG_FRACTION) + int(LOG_TABLE[mantissa])


def steps_taken(stop: Exit | None, logits: Ints) -> Ints:
    """The step behind which each image's network stops, from 1 on; the last one always does.

    Parameters
    ----------
    stop : Exit or None
        None takes all steps.
    logits : (N, steps, classes) int
        Summed over the steps so far.

    Returns
    -------
    (N,) int64
    """
    n_images, n_steps, n_classes = logits.shape
    if stop is None:
        return np.full(n_images, n_steps)
    registers = exit_registers(stop, n_steps, n_classes)
    return np.array([_steps(registers, one) for one in logits], np.int64)


def _steps(registers: ExitRegisters, logits: Ints) -> int:
    for step, so_far in enumerate(logits[:-1], 1):
        if is_sure(registers, so_far, step):
            return step
    return len(logits)
