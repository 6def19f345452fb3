"""Spiking neurons as the papers' formulas have them, one time step after the other.

Per output channel, all integers; `charge` is the exact sum of weights of inputs that spiked, plus
the channel's bias::

    H  = U + charge
    s  = H >= threshold
    R  = 0 if s else H           (hard)      |   R = H - threshold if s else H   (soft)
    U' = clamp(R / 2^leak, towards 0)              to +-(2^(bits-1) - 1)

MINT (arXiv 2305.09850) is leak 1 and a hard reset, EfficientLIF-Net (2305.18360) leak 2 and a soft
reset with memories that groups of channels or layers share. docs/spiking.md says what is stated and
what is ours.
"""

import numpy as np
from numpy.typing import NDArray

from model.mars.neuron import Neuron

Ints = NDArray[np.int64]


def initial_membranes(neuron: Neuron, n_images: int, shape: tuple[int, int, int]) -> Ints:
    """Membranes before the first step, (n_images, C/groups, H, W), for results (C, H, W)."""
    channels, rows, columns = shape
    n_own = channels // neuron.groups
    start = np.zeros(n_own, np.int64) if neuron.initial is None else neuron.initial
    by_pixel = np.broadcast_to(start[:, np.newaxis, np.newaxis], (n_own, rows, columns))
    return np.repeat(by_pixel[np.newaxis], n_images, axis=0)


def step(neuron: Neuron, membranes: Ints, charge: Ints) -> tuple[Ints, Ints]:
    """One time step of a layer.

    Parameters
    ----------
    neuron : Neuron
    membranes : (N, C/groups, H, W) int
        What its memory holds.
    charge : (N, C, H, W) int
        What the step adds.

    Returns
    -------
    (N, C, H, W) int64, (N, C/groups, H, W) int64
        Spikes, 0 or 1, and what the memory holds then.
    """
    spikes = []
    by_group = zip(
        np.split(charge, neuron.groups, axis=1),
        np.split(neuron.threshold, neuron.groups),
        strict=True,
    )
    for added, threshold in by_group:
        fired, membranes = _fire(neuron, membranes, added, threshold[:, np.newaxis, np.newaxis])
        spikes.append(fired)
    return np.concatenate(spikes, axis=1), membranes


def _fire(neuron: Neuron, membrane: Ints, charge: Ints, threshold: Ints) -> tuple[Ints, Ints]:
    charged = membrane + charge
    fires = charged >= threshold
    after_spike = 0 if neuron.reset == "hard" else charged - threshold
    rest = np.where(fires, after_spike, charged)
    leaked = np.sign(rest) * (np.abs(rest) // 2**neuron.leak)
    limit = 2 ** (neuron.bits - 1) - 1
    return fires.astype(np.int64), np.minimum(np.maximum(leaked, -limit), limit)
