"""What NeuroBench counts, on arrays.

Definitions are those of the code of NeuroBench 2.3.0 (arXiv 2304.04640); docs/benchmark.md has them
in words.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from model.mars.network import Conv, Dense, Ints
from model.mars.reference import convolve

Flags = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Counts of a layer or a network over all samples and steps.

    Parameters
    ----------
    weights, zero_weights : int
    activations, zero_activations : int
        Results of neurons and of activation functions.
    macs, acs, dense : int
        Synaptic operations: weights and inputs that are not 0, of calls with inputs of any value
        and of those with inputs of -1, 0 and 1 alone; and all, zeros included.
    membrane_updates, neuron_steps : int
        Membranes that a step changed, each neuron's first step included; and all steps of neurons.
    neuron_ops, dense_neuron_ops : int
        The same times the operations of such a neuron (`firmware_tools.neurobench.costs`).
    """

    weights: int = 0
    zero_weights: int = 0
    activations: int = 0
    zero_activations: int = 0
    macs: int = 0
    acs: int = 0
    dense: int = 0
    membrane_updates: int = 0
    neuron_steps: int = 0
    neuron_ops: int = 0
    dense_neuron_ops: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        names = [field.name for field in fields(self)]
        return Counts(**{name: getattr(self, name) + getattr(other, name) for name in names})

    @property
    def connection_sparsity(self) -> float | None:
        """Share of weights that are 0."""
        return _share(self.zero_weights, self.weights)

    @property
    def activation_sparsity(self) -> float | None:
        """Share of activations that are 0."""
        return _share(self.zero_activations, self.activations)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def operations(layer: Conv | Dense, active: Flags) -> Ints:
    """Pairs of an active input and a weight that is not 0, for each sample.

    Parameters
    ----------
    layer : Conv or Dense
    active : (N, C, H, W) bool
        Inputs that are not 0. Padding is no input.

    Returns
    -------
    (N,) int64
    """
    return _pairs(layer, active, layer.weight != 0)


def dense_operations(layer: Conv | Dense, shape: tuple[int, ...]) -> int:
    """The same for a sample (C, H, W) if nothing were 0; taps on padding do not count."""
    every = np.ones((1, *shape), np.bool_)
    return int(_pairs(layer, every, np.ones(layer.weight.shape, np.bool_))[0])


def _pairs(layer: Conv | Dense, active: Flags, weights: Flags) -> Ints:
    if isinstance(layer, Dense):
        readers: Ints = weights.sum(axis=0, dtype=np.int64)
        return np.asarray(active.reshape(len(active), -1) @ readers)
    # All kernels of a group read the same inputs: one kernel says how many of them do.
    by_group = weights.reshape(layer.groups, -1, *weights.shape[1:])
    pairs = convolve(
        active.astype(np.int64),
        by_group.sum(axis=1, dtype=np.int64),
        layer.stride,
        layer.padding,
        dilation=layer.dilation,
        groups=layer.groups,
    )
    total: Ints = pairs.sum(axis=(1, 2, 3))
    return total


def accumulations(inputs: Ints) -> Flags:
    """Which samples (N, ...) need no multiplier, (N,): all of their inputs are -1, 0 or 1."""
    return np.asarray((np.abs(inputs) <= 1).reshape(len(inputs), -1).all(axis=1))
