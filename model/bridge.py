"""The bridge: results of MARS become stimuli of the populations, and their spikes a decision.

Every entry takes one number x of a frame's result to one neuron or one external axon:

    y = (x * mult + (1 << shift >> 1)) >> shift     exact, flooring
    neuron: bias = min(max(y, -2048), 2047)
    axon:   an event in the next time step if y > 0

Then the populations run `steps` time steps by themselves, and the spikes of each neuron of one
population are counted. The winner has the largest count, and of several the lowest number.
"""

import math
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from model.npu.clocks import back_to_back
from model.npu.config import BIAS_MAX, BIAS_MIN
from model.npu.network import Network

Ints = NDArray[np.int64]

MAX_ENTRIES = 256
MULT_WIDTH = 16
"""Signed."""
MULT_MAX = (1 << (MULT_WIDTH - 1)) - 1
MULT_MIN = -MULT_MAX - 1
SHIFT_WIDTH = 5
SHIFT_MAX = (1 << SHIFT_WIDTH) - 1
STEPS_WIDTH = 16
"""Of a number of time steps; a count of spikes has as many bits and never overflows."""
STEPS_MAX = (1 << STEPS_WIDTH) - 1
INDEX_WIDTH, POPULATION_WIDTH = 12, 4
"""Of a neuron or axon of a population, and of a population."""

WORDS_PER_ENTRY = 2
FACTOR_WORD, TARGET_WORD = range(WORDS_PER_ENTRY)
FACTOR_FIELDS = {
    "mult": (0, MULT_WIDTH),
    "shift": (16, SHIFT_WIDTH),
    "lane": (24, 4),
    "axon": (31, 1),
}
"""Field: (lowest bit, width). `lane` is the channel of the feature word, `axon` says which of both
the target is."""
TARGET_FIELDS = {
    "index": (0, INDEX_WIDTH),
    "population": (INDEX_WIDTH, POPULATION_WIDTH),
    "word": (16, 16),
}
"""`word` is that of the feature memory of macro 0, or a class of the exit unit."""
ENTRY_FIELDS = (FACTOR_FIELDS, TARGET_FIELDS)


class Kind(IntEnum):
    """What a number of the result is, and where."""

    NIBBLE = 0
    BYTE = 1
    """Two feature words, the lower nibble first."""
    SUM = 2
    """Eight feature words; 32 bit, signed."""
    LOGIT = 3
    """Of the last time step that the exit unit decided; 32 bit, signed."""


READ_CLOCKS = {Kind.NIBBLE: 1, Kind.BYTE: 2, Kind.SUM: 8, Kind.LOGIT: 1}
"""Clocks in which a number is asked for."""
ENTRY_LATENCY = 5
"""Clocks of an entry besides: fetch, last answer, multiply, shift, write."""
BEGIN = 1
"""The clock in which the bridge begins with a result."""
SETTLE = 1
"""The clock in which the last spike is on its way through the counters."""
RUN_LATENCY = 6
"""Clocks of a burst besides its time steps and last spikes: start, walk, end."""


class BridgeError(ValueError):
    """The bridge is none that the chip can have; the text says what would be right."""


@dataclass(frozen=True)
class Entry:
    """Where one number of a result goes.

    Parameters
    ----------
    output : int
        Which number of the result (channels, rows, columns), the last index running fastest.
    population, index : int
        The neuron, or the axon, counted within its population.
    mult, shift : int
        -32768..32767 and 0..31.
    is_axon : bool
    """

    output: int
    population: int
    index: int
    mult: int
    shift: int
    is_axon: bool = False


@dataclass(frozen=True)
class Bridge:
    """All that the bridge does behind a frame.

    Parameters
    ----------
    entries : tuple of Entry
        1..256, worked on in this order.
    steps : int
        Time steps that the populations then run; 0: none, the stimuli are set and that is all.
    population : int
        Whose spikes are counted.
    """

    entries: tuple[Entry, ...]
    steps: int
    population: int

    def __post_init__(self) -> None:
        if not 1 <= len(self.entries) <= MAX_ENTRIES:
            raise BridgeError(
                f"entries must be 1..{MAX_ENTRIES}, not {len(self.entries)}: a network has too "
                "many outputs for the bridge if more of them are needed"
            )
        if not 0 <= self.steps <= STEPS_MAX:
            raise BridgeError(f"steps must be 0..{STEPS_MAX}, not {self.steps}")
        for k, entry in enumerate(self.entries):
            for name, low, high in (
                ("mult", MULT_MIN, MULT_MAX),
                ("shift", 0, SHIFT_MAX),
            ):
                value = getattr(entry, name)
                if not low <= value <= high:
                    raise BridgeError(f"entries[{k}].{name} must be {low}..{high}, not {value}")
        _check_targets(self.entries)


def _check_targets(entries: tuple[Entry, ...]) -> None:
    seen: dict[tuple[bool, int, int], int] = {}
    for k, entry in enumerate(entries):
        target = entry.is_axon, entry.population, entry.index
        first = seen.setdefault(target, k)
        if first != k:
            kind = "axon" if entry.is_axon else "neuron"
            raise BridgeError(
                f"entries[{first}] and entries[{k}] must have different targets, both have {kind} "
                f"{entry.index} of population {entry.population}"
            )


@dataclass(frozen=True)
class Stimuli:
    """What a result becomes.

    Parameters
    ----------
    bias : {int: int}
        By neuron, numbered through all populations, as `model.npu.engine.Engine.set_bias` takes it.
    axons : (n,) int64
        Those with an event in the next time step, numbered through all populations, ascending.
    """

    bias: dict[int, int]
    axons: Ints


def scaled(value: int, mult: int, shift: int) -> int:
    """A number of a result times mult / 2^shift, to the nearest integer, halves up."""
    return (value * mult + (1 << shift >> 1)) >> shift


def saturated(value: int) -> int:
    """The nearest bias."""
    return min(max(value, BIAS_MIN), BIAS_MAX)


def factor(scale: float) -> tuple[int, int]:
    """The multiplier and shift that come nearest to a scale.

    Raises
    ------
    BridgeError
        It is so large that the multiplier does not hold it, or so small that nothing is left.
    """
    if not math.isfinite(scale) or not MULT_MIN - 0.5 <= scale < MULT_MAX + 0.5:
        raise BridgeError(f"scale must be {MULT_MIN}..{MULT_MAX}, not {scale:g}")
    for shift in range(SHIFT_MAX, -1, -1):
        mult = math.floor(math.ldexp(scale, shift) + 0.5)
        if MULT_MIN <= mult <= MULT_MAX:
            if mult == 0 and scale != 0:
                least = math.ldexp(1, -SHIFT_MAX - 1)
                raise BridgeError(f"scale must be 0 or at least {least:.2g}, not {scale:g}")
            return (0, 0) if mult == 0 else _reduced(mult, shift)
    raise AssertionError("a shift of 0 always holds it")


def _reduced(mult: int, shift: int) -> tuple[int, int]:
    """The same factor with the smallest shift: people read it."""
    while shift and mult % 2 == 0:
        mult, shift = mult // 2, shift - 1
    return mult, shift


def stimuli(bridge: Bridge, outputs: Ints, network: Network) -> Stimuli:
    """What a result does to a network.

    Parameters
    ----------
    bridge : Bridge
        Its entries fit the result and the network.
    outputs : (n,) or (channels, rows, columns) int
    network : Network
    """
    values = outputs.reshape(-1)
    bias: dict[int, int] = {}
    axons = []
    for entry in bridge.entries:
        value = scaled(int(values[entry.output]), entry.mult, entry.shift)
        if not entry.is_axon:
            neuron = network.neuron_slice(entry.population).start + entry.index
            bias[neuron] = saturated(value)
        elif value > 0:
            axons.append(network.axon_slice(entry.population).start + entry.index)
    return Stimuli(bias, np.array(sorted(axons), np.int64))


@dataclass(frozen=True)
class Decision:
    """What the populations made of a result.

    Parameters
    ----------
    counts : (neurons of the population,) int64
    neuron, count : int
        The winner: the largest count, and of several the lowest neuron.
    """

    counts: Ints
    neuron: int
    count: int


def decide(spikes: NDArray[np.bool_]) -> Decision:
    """The decision of a window (steps, neurons) of a population's spikes."""
    counts = spikes.sum(axis=0, dtype=np.int64)
    winner = int(counts.argmax())
    return Decision(counts, winner, int(counts[winner]))


def take_clocks(kind: Kind, n_entries: int, steps: int, n_neurons: int) -> int:
    """Clocks in which a result becomes stimuli.

    Meanwhile the counters are cleared, one per clock, if a burst follows.

    Parameters
    ----------
    kind : Kind
    n_entries, steps : int
    n_neurons : int
        Of a population of the configuration.
    """
    clocks = n_entries * (READ_CLOCKS[kind] + ENTRY_LATENCY)
    return max(clocks, n_neurons) if steps else clocks


def burst_clocks(step_clocks: Ints, spikes: Ints) -> int:
    """Clocks of a burst, if nobody makes its spikes wait.

    Parameters
    ----------
    step_clocks, spikes : (steps,) int64
        Of each time step; the spikes of all neurons. Those of the last one have to leave, too.
    """
    return int(back_to_back(step_clocks, spikes).sum()) + RUN_LATENCY + int(spikes[-1])


def check_fit(bridge: Bridge, n_outputs: int, network: Network) -> None:
    """Refuse a bridge that does not fit what is on its two sides.

    Raises
    ------
    BridgeError
    """
    n_populations = len(network.populations)
    if not 0 <= bridge.population < n_populations:
        raise BridgeError(f"population must be 0..{n_populations - 1}, not {bridge.population}")
    for k, entry in enumerate(bridge.entries):
        place = f"entries[{k}]"
        if not 0 <= entry.output < n_outputs:
            raise BridgeError(f"{place}.output must be 0..{n_outputs - 1}, not {entry.output}")
        if not 0 <= entry.population < n_populations:
            raise BridgeError(
                f"{place}.population must be 0..{n_populations - 1}, not {entry.population}"
            )
        kind = "axon" if entry.is_axon else "neuron"
        sizes = network.axons if entry.is_axon else network.populations
        n = sizes[entry.population]
        if not 0 <= entry.index < n:
            right = f"must be 0..{n - 1}" if n else "must be an axon, but the population has none"
            raise BridgeError(f"{place}.{kind} {right}, not {entry.index}")
