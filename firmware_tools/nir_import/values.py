"""What nodes of a NIR graph are on their way to layers: spikes, and charges of neurons to come."""

import math
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from firmware_tools.nir_import.graph import NirError, Node
from model.mars.network import Pair, Sides

Reals = NDArray[np.float64]
Map = tuple[int, int, int]
MAX_SIZE = 1 << 25
"""Values of a map."""


def as_map(node: Node, shape: tuple[int, ...]) -> Map:
    """Channels, rows and columns of a shape of the graph: (C, H, W), (C, L) or (n,).

    Raises
    ------
    NirError
    """
    if not 1 <= len(shape) <= 3 or min(shape) < 1:
        raise NirError(
            f"{node}: shape must be (C, H, W), (C, L) or (n,), all at least 1, not {shape}"
        )
    if math.prod(shape) > MAX_SIZE:
        raise NirError(f"{node}: a map must have at most {MAX_SIZE} values, not {math.prod(shape)}")
    if len(shape) == 3:
        return shape[0], shape[1], shape[2]
    return (shape[0], 1, shape[1] if len(shape) == 2 else 1)


@dataclass(frozen=True)
class Spikes:
    """Spikes of a layer, or counts of them.

    Parameters
    ----------
    layer : str
        Whose results they are.
    kind : (int, int, int)
        Shape of these results.
    shape : tuple of int
        As the graph has it.
    gain : (C, H, W) float64
        Real value of a spike.
    is_count : bool
        A pool has summed them up.
    """

    layer: str
    kind: Map
    shape: tuple[int, ...]
    gain: Reals
    is_count: bool = False

    def channel_gain(self, reader: Node) -> Reals:
        """Real value of a spike of each channel, (C,).

        Raises
        ------
        NirError
            It is not the same all over a channel.
        """
        return by_channel(reader, "the scale of what it reads", self.gain)


@dataclass(frozen=True)
class Charge:
    """What a layer adds to membranes in a step, in real units.

    Parameters
    ----------
    node : Node
        Gives the layer its name.
    source : Spikes
    weight : (Cout, Cin/groups, Kh, Kw) or (Cout, n) float64
        Of a convolution, or of a dense layer; the gain of the source is in it.
    bias : (Cout,) float64
    shape : tuple of int
        As the graph has it.
    stride, padding, dilation, groups
        Of a convolution.
    skip : Spikes or None
        A residual.
    """

    node: Node
    source: Spikes
    weight: Reals
    bias: Reals
    kind: Map
    shape: tuple[int, ...]
    stride: Pair = (1, 1)
    padding: Sides = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    skip: Spikes | None = None

    @property
    def is_dense(self) -> bool:
        """Whether it is a dense layer."""
        return self.weight.ndim == 2

    def scaled(self, factor: Reals) -> "Charge":
        """Each output channel times a factor, (Cout,)."""
        by_kernel = factor.reshape(-1, *(1,) * (self.weight.ndim - 1))
        skip = self.skip
        if skip is not None:
            skip = replace(skip, gain=skip.gain * factor[:, np.newaxis, np.newaxis])
        return replace(self, weight=self.weight * by_kernel, bias=self.bias * factor, skip=skip)

    def as_conv(self) -> "Charge":
        """A dense layer of a map of one pixel as a convolution of it."""
        return replace(self, weight=self.weight[..., np.newaxis, np.newaxis])


Value = Spikes | Charge


def spread(node: Node, name: str, value: Value) -> Reals:
    """A parameter of each neuron as a map (C, H, W) of the value that the node reads.

    One number stands for all, and axes of size 1 for all along them.

    Raises
    ------
    NirError
    """
    given = node.array(name)
    if given.ndim == len(value.shape):
        with suppress(ValueError):
            given = np.broadcast_to(given, value.shape)
    if given.size != 1 and given.shape != value.shape:
        raise NirError(
            f"{node}: {name} must have the shape of what it reads, {value.shape}, not {given.shape}"
        )
    kind = value.kind
    whole = np.broadcast_to(given.reshape(-1), (math.prod(kind),)) if given.size == 1 else given
    return np.asarray(whole.reshape(kind))


def by_channel(node: Node, what: str, values: Reals) -> Reals:
    """The one number of each channel, (C,), of a map (C, H, W).

    Raises
    ------
    NirError
    """
    flat = values.reshape(len(values), -1)
    differs = (flat != flat[:, :1]).any(axis=1)
    if differs.any():
        k = int(np.argmax(differs))
        low, high = flat[k].min(), flat[k].max()
        raise NirError(
            f"{node}: {what} must be the same all over a channel, but in channel {k} it is "
            f"{low:g} to {high:g}"
        )
    return np.asarray(flat[:, 0])
