"""Random bridges between networks, for co-simulation.

Most entries make stimuli of a size that matters to neurons; some saturate, vanish, or have a
multiplier or shift at the end of its range.
"""

import math

import numpy as np

from model.bridge import (
    MAX_ENTRIES,
    MULT_MAX,
    MULT_MIN,
    SHIFT_MAX,
    Bridge,
    Entry,
    Ints,
    factor,
)
from model.npu.network import Network

MAX_STEPS = 40
NO_BURST_RATE = 0.05
EXTREME_RATE = 0.1
STRENGTHS = (2.0, 300.0)
"""Of the bias that the largest number of a result becomes; evenly in its logarithm."""


def random_bridge(rng: np.random.Generator, outputs: Ints, network: Network) -> Bridge:
    """A random bridge.

    Parameters
    ----------
    rng : numpy.random.Generator
    outputs : (n,) int64
        A result as it may come.
    network : Network
        To which it goes.
    """
    targets = [
        (is_axon, p, k)
        for is_axon, sizes in ((False, network.populations), (True, network.axons))
        for p, size in enumerate(sizes)
        for k in range(size)
    ]
    rng.shuffle(targets)
    n = int(rng.integers(1, min(len(targets), MAX_ENTRIES) + 1))
    largest = max(int(np.abs(outputs).max()), 1)
    entries = []
    for is_axon, population, index in targets[:n]:
        mult, shift = _factor(rng, largest)
        output = int(rng.integers(len(outputs)))
        entries.append(Entry(output, int(population), int(index), mult, shift, bool(is_axon)))
    steps = 0 if rng.random() < NO_BURST_RATE else int(rng.integers(1, MAX_STEPS + 1))
    return Bridge(tuple(entries), steps, int(rng.integers(len(network.populations))))


def _factor(rng: np.random.Generator, largest: int) -> tuple[int, int]:
    if rng.random() < EXTREME_RATE:
        return int(rng.choice([MULT_MIN, -1, 0, 1, MULT_MAX])), int(rng.choice([0, 1, SHIFT_MAX]))
    low, high = STRENGTHS
    strength = math.exp(rng.uniform(math.log(low), math.log(high)))
    return factor(float(rng.choice([-1, 1, 1])) * min(strength, MULT_MAX) / largest)
