"""The chain of neurons behind the sums of a pixel: 16 lanes, four time steps one after the other.

Lanes hold the channels of a kernel block; groups of channels that share a membrane stand beside
each other, the first group's channel first. A membrane goes from lane to lane of its groups in a
step, then on to the next step.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.mars.config import KERNELS
from model.mars.layout import Descriptor, Header

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Fired:
    """What a chain made of some pixels.

    Parameters
    ----------
    spikes : (pixels, 16, steps) int64
        0 or 1.
    membranes : (pixels, 16, steps) int64
        What each step leaves to the next one, at the first lane of the groups; 0 at others.
    """

    spikes: Ints
    membranes: Ints


def chain(d: Descriptor, header: Header, charge: Ints) -> Fired:
    """All steps of some pixels.

    Parameters
    ----------
    d : Descriptor
        `soft`, `leak`, `limit`, `groups`, `initial_shift`.
    header : Header
        `threshold` and `initial` of the 16 lanes.
    charge : (pixels, 16, steps) int
        What is added to each membrane, bias and residual included.
    """
    assert header.threshold is not None
    assert header.initial is not None
    n_pixels, _, n_steps = charge.shape
    spikes, membranes = np.zeros_like(charge), np.zeros_like(charge)
    first = header.initial[:: d.groups] << d.initial_shift
    u = np.repeat(first[np.newaxis], n_pixels, axis=0)
    for step in range(n_steps):
        for group in range(d.groups):
            lanes = slice(group, KERNELS, d.groups)
            h = u + charge[:, lanes, step]
            above = h - header.threshold[lanes]
            spike = above >= 0
            rest = np.where(spike, above * d.soft, h)
            u = _saturated(_shifted(rest, d.leak), d.limit)
            spikes[:, lanes, step] = spike
        membranes[:, :: d.groups, step] = u
    return Fired(spikes, membranes)


def _shifted(rest: Ints, leak: int) -> Ints:
    """Shifted right towards 0: negative values get what rounds them up."""
    up: Ints = (rest < 0) * ((1 << leak) - 1)
    return np.asarray((rest + up) >> leak)


def _saturated(values: Ints, limit: int) -> Ints:
    return np.asarray(np.clip(values, -limit, limit))
