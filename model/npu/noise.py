"""Membrane noise: Marsaglia's xorshift32 with fixed positions (ours; no source names a generator).

A population's stream is x(1), x(2), ... with x(n) = T x(n-1) and T the xorshift step. Neuron `j`
draws output number `STRIDE * t + j + 1` in time step `t`, so a draw depends on the seed, the step
and the neuron only: not on the lanes of a configuration, not on which other neurons use noise.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

MASK = 0xFFFF_FFFF
STRIDE = 1 << 16
"""Positions between two time steps; also the most neurons that one population can have."""


def seed_state(seed: int) -> int:
    """State x(0) for a seed 0..2**32-1, mixed (murmur3's finaliser) and never zero."""
    x = (seed + 0x9E37_79B9) & MASK
    x = ((x ^ (x >> 16)) * 0x85EB_CA6B) & MASK
    x = ((x ^ (x >> 13)) * 0xC2B2_AE35) & MASK
    return (x ^ (x >> 16)) or 0x9E37_79B9


def state_seed(state: int) -> int:
    """The seed that `seed_state` made this state from."""
    x = state ^ (state >> 16)
    x = (x * pow(0xC2B2_AE35, -1, 1 << 32)) & MASK
    x ^= (x >> 13) ^ (x >> 26)
    x = (x * pow(0x85EB_CA6B, -1, 1 << 32)) & MASK
    return ((x ^ (x >> 16)) - 0x9E37_79B9) & MASK


def xorshift(x: int) -> int:
    """T: one step of the generator."""
    x ^= (x << 13) & MASK
    x ^= x >> 17
    return x ^ ((x << 5) & MASK)


@cache
def jump_columns() -> tuple[int, ...]:
    """The matrix T**STRIDE: column `b` is where bit `b` goes."""
    columns = tuple(xorshift(1 << b) for b in range(32))
    for _ in range(STRIDE.bit_length() - 1):
        columns = tuple(_multiply(columns, column) for column in columns)
    return columns


def _multiply(columns: tuple[int, ...], x: int) -> int:
    result = 0
    for b in range(32):
        if x >> b & 1:
            result ^= columns[b]
    return result


def jump(x: int) -> int:
    """State of the next time step: T**STRIDE x."""
    return _multiply(jump_columns(), x)


def draws(state: int, strength: NDArray[np.int64]) -> NDArray[np.int64]:
    """Noise of every neuron of a population in one time step.

    Parameters
    ----------
    state : int
        The population's state at this time step.
    strength : (n,) int
        Noise strength 0..255 of each neuron.

    Returns
    -------
    (n,) int
        Uniform in [-(N >> 1), N - 1 - (N >> 1)] with N = max(1, strength).
    """
    result = np.zeros(len(strength), np.int64)
    if not (strength > 1).any():
        return result
    for j, n in enumerate(np.maximum(strength, 1).tolist()):
        state = xorshift(state)
        result[j] = ((state >> 16) * n >> 16) - (n >> 1)
    return result
