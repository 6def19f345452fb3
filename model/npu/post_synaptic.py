"""The post-synaptic unit: accumulate, saturate, decay (steps 1, 2 and 4 of a time step)."""

import numpy as np
from numpy.typing import NDArray

from model.npu.config import I_MAX, I_MIN

Ints = NDArray[np.int64]


def accumulate(i_syn: Ints, weights: Ints) -> tuple[Ints, NDArray[np.bool_]]:
    """Add the weights of all rows of this step to the current, then saturate once.

    Saturating the exact sum rather than every addition makes the result independent of the order
    of the rows (ours; the authors give the current no width).

    Parameters
    ----------
    i_syn : (n,) int
        Current that the last step left.
    weights : (rows, n) int
        Synaptic weights of every pre-synaptic neuron or axon that fired.

    Returns
    -------
    i_syn : (n,) int
        Current, signed 16 bit.
    saturated : (n,) bool
        Where the exact sum did not fit.
    """
    total = i_syn + weights.sum(axis=0, dtype=np.int64)
    return np.clip(total, I_MIN, I_MAX), (total < I_MIN) | (total > I_MAX)


def decay(i_syn: Ints, tau: Ints) -> Ints:
    """The current that this step uses: I less I >> floor(log2 tau), or 1 less.

    The shift floors, so a negative current always moves; a positive one that is shifted to nothing
    leaks by one. tau == 0 means that there is no decay unit: the current is used as it is, and then
    cleared.
    """
    k = np.frexp(tau.astype(np.float64))[1] - 1  # floor(log2 tau), exact; -1 at tau == 0
    shifted = i_syn >> np.maximum(k, 0)
    leak = (shifted == 0) & (i_syn > 0)
    return np.where(tau == 0, i_syn, i_syn - shifted - leak)


def clear(i_syn: Ints, tau: Ints) -> Ints:
    """The current that the next step finds: none for a neuron without decay unit."""
    return np.where(tau == 0, 0, i_syn)
