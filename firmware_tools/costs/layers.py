"""What of a network's layers decides their cost, as columns of numbers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_tools.costs.errors import CostError
from model.mars.config import NIBBLE
from model.mars.group_sets import n_kept_sets
from model.mars.network import INPUT, Conv, Dense, QuantizedNetwork, references

Numbers = NDArray[np.float64]
Link = tuple[int, int, float, float]
COLUMNS = (
    "groups",
    "rows",
    "kernels",
    "pixels",
    "in_bits",
    "weight_bits",
    "sets",
    "planes",
    "mean_weight",
    "macs",
)
"""Of a layer, in the order of `_figures`."""


@dataclass(frozen=True)
class Layers:
    """The layers that have weights, in order; arrays are (layers,), or (layers, options).

    Attributes
    ----------
    names : tuple of str
    groups, rows, kernels : float64
        Groups, and word lines and output channels of each.
    pixels : float64
        Results of a channel, of all time steps.
    in_bits, weight_bits : float64
    sets : float64
        Group-sets that are not all zero.
    planes : float64
        Accesses that a macro takes for an input, by its bits.
    mean_weight : float64
        Mean magnitude of a weight over the largest of its type.
    macs : float64
        Multiply-accumulates of a frame, zeros included.
    links : tuple of (int, int, float, float)
        Places of two layers, and what goes from one to the other in a frame, through what is
        digital between them: values that the other one takes as its input, of `in_bits` each, and
        bits of all else.
    """

    names: tuple[str, ...]
    groups: Numbers
    rows: Numbers
    kernels: Numbers
    pixels: Numbers
    in_bits: Numbers
    weight_bits: Numbers
    sets: Numbers
    planes: Numbers
    mean_weight: Numbers
    macs: Numbers
    links: tuple[Link, ...]

    @property
    def n_macs(self) -> float:
        """Of a frame."""
        return float(self.macs.reshape(len(self.names), -1)[:, 0].sum())


def layers_of(network: QuantizedNetwork) -> Layers:
    """The layers of a network that arrays can hold."""
    weighted = [layer for layer in network.layers if isinstance(layer, Conv | Dense)]
    if not weighted:
        raise CostError(f"{network.name}: network must have a convolution or a dense layer")
    figures = np.array([_figures(network, layer) for layer in weighted], np.float64)
    columns: dict[str, Any] = dict(zip(COLUMNS, figures.T, strict=True))
    return Layers(names=tuple(one.name for one in weighted), links=_links(network), **columns)


def _figures(network: QuantizedNetwork, layer: Conv | Dense) -> tuple[float, ...]:
    source, kind = network.types[layer.input], network.types[layer.name]
    groups = layer.groups if isinstance(layer, Conv) else 1
    kernels = len(layer.weight) // groups
    rows = layer.weight[0].size
    pixels = kind.shape[1] * kind.shape[2] * max(1, source.time_steps)
    largest = 1 << (layer.weight_bits - 1)
    return (
        groups,
        rows,
        kernels,
        pixels,
        source.bits,
        layer.weight_bits,
        n_kept_sets(layer, source),
        -(-source.bits // NIBBLE),
        float(np.abs(layer.weight).mean()) / largest,
        pixels * len(layer.weight) * rows,
    )


def _links(network: QuantizedNetwork) -> tuple[Link, ...]:
    """What is digital stands beside the arrays that it reads from."""
    places: dict[str, int | None] = {INPUT: None}
    found: list[Link] = []
    n_arrays = 0
    for layer in network.layers:
        sources = list(references(layer).values())
        at: int | None
        if isinstance(layer, Conv | Dense):
            at = n_arrays
            n_arrays += 1
        else:
            at = next((places[name] for name in sources if places[name] is not None), None)
        places[layer.name] = at
        for role, name in references(layer).items():
            begin = places[name]
            if begin is not None and at is not None and begin != at:
                kind = network.types[name]
                n_values = float(kind.size * max(1, kind.time_steps))
                is_input = role == "input" and isinstance(layer, Conv | Dense)
                link = (n_values, 0.0) if is_input else (0.0, n_values * kind.bits)
                found.append((begin, at, *link))
    return tuple(found)


def side_by_side(several: Sequence[Layers]) -> Layers:
    """The same layers in several states, (layers, states)."""
    columns: dict[str, Any] = {
        name: np.stack([getattr(one, name) for one in several], 1) for name in COLUMNS
    }
    return replace(several[0], **columns)


def at(layers: Layers, index: Any) -> Layers:
    """The same with every column indexed, for instance by a new axis."""
    return replace(layers, **{name: getattr(layers, name)[index] for name in COLUMNS})
