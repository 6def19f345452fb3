"""The soma: one time step of the integer quadratic integrate-and-fire (IQIF) neuron.

Source: Wu et al. 2021 (DOI 10.1109/AICAS51828.2021.9458572) and the authors' simulator. The force
is two straight lines that meet at `v_branch`; nothing is squared.
"""

import numpy as np
from numpy.typing import NDArray

from model.npu.network import Neurons

Ints = NDArray[np.int64]
V_MAX = 255


def soma(
    v: Ints, i_syn: Ints, bias: Ints, noise: Ints, neurons: Neurons
) -> tuple[Ints, NDArray[np.bool_]]:
    """Step 3: integrate, and fire when the sum carries out of the 8-bit register.

    Parameters
    ----------
    v : (n,) int
        Membrane potential, 0..255.
    i_syn : (n,) int
        Decayed post-synaptic current of this step.
    bias, noise : (n,) int
        External stimulus and noise draw of this step.
    neurons : Neurons
        Parameters of the n neurons.

    Returns
    -------
    v : (n,) int
        Membrane potential after the step: `reset` where the neuron fired.
    spikes : (n,) bool
    """
    force = np.where(
        v < neurons.v_branch,
        neurons.a * (neurons.rest - v),
        neurons.b * (v - neurons.threshold),
    )
    total = v + (force >> 3) + i_syn + bias + noise
    spikes = total > V_MAX
    return np.where(spikes, neurons.reset, np.maximum(total, 0)), spikes
