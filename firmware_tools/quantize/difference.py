"""A float network, its quantised twin and the exported integers, compared layer by layer."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from firmware_tools.quantize.tracing import graph_of
from firmware_tools.quantize.twin import Twin
from model.mars import reference
from model.mars.network import INPUT, QuantizedNetwork

TOKENS = 3
"""Axes of tokens (N, T, C), which are maps (N, C, T, 1) elsewhere."""


@dataclass(frozen=True)
class LayerDifference:
    """How far a layer of the twin is from the float network and from the integers.

    Attributes
    ----------
    name : str
    largest, mean : float
        Absolute difference of twin and float network, in real numbers.
    cosine : float
        Of the two, all images and values as one vector; 1 if both are zero.
    unequal : int
        Values in which the exported network, run by the reference, differs from the twin; of
        `values`.
    first : tuple of int or None
        Image, channel, row and column of the first of them; behind the image the step, if any.
    """

    name: str
    largest: float
    mean: float
    cosine: float
    values: int
    unequal: int
    first: tuple[int, ...] | None

    def as_json(self) -> dict[str, object]:
        """Everything, ready for JSON."""
        return asdict(self)


def differences(
    model: nn.Module,
    twin: Twin,
    network: QuantizedNetwork,
    images: Tensor,
    products: reference.Products | None = None,
) -> list[LayerDifference]:
    """Compare the three on some images, in the order of the layers.

    Parameters
    ----------
    model : nn.Module
        The float network that the twin was made of, as it is now.
    twin : Twin
    network : QuantizedNetwork
        What `export` made of the twin, or of an earlier one.
    images : (N, C, H, W) float
    products : Products or None
        What computes the exported network's products, if they are not exact.
    """
    model.eval()
    twin.eval()
    floats = _float_results(model, twin, images)
    with torch.no_grad():
        features = twin.features(images)
    integers = reference.run(network, twin.image_ints(images), products)
    return [
        _difference(
            name,
            floats[name],
            twin.likeness(name, features[name]).double().numpy(),
            features[name].ints.numpy().astype(np.int64),
            integers[name],
        )
        for name in features
        if name != INPUT
    ]


def first_difference(rows: list[LayerDifference]) -> LayerDifference | None:
    """The first layer in which twin and integers part."""
    return next((row for row in rows if row.unequal), None)


def _difference(
    name: str,
    real: NDArray[Any],
    twin: NDArray[Any],
    ints: NDArray[np.int64],
    exported: NDArray[np.int64],
) -> LayerDifference:
    apart = np.abs(real.reshape(twin.shape) - twin)
    unequal = ints.reshape(exported.shape) != exported
    where = np.argwhere(unequal)
    first = tuple(int(k) for k in where[0]) if len(where) else None
    return LayerDifference(
        name,
        float(apart.max()),
        float(apart.mean()),
        _cosine(real.ravel(), twin.ravel()),
        ints.size,
        len(where),
        first,
    )


def _cosine(one: NDArray[Any], other: NDArray[Any]) -> float:
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    if not lengths:
        return 1.0 if not one.any() and not other.any() else 0.0
    return float(one.astype(np.float64) @ other.astype(np.float64)) / lengths


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps the values of some nodes."""

    def __init__(self, graph: fx.GraphModule, wanted: set[str]) -> None:
        super().__init__(graph)
        self._wanted = wanted
        self.values: dict[str, NDArray[Any]] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.name in self._wanted:
            maps = value.transpose(1, 2) if value.dim() == TOKENS else value
            self.values[n.name] = maps.double().numpy().copy()  # ReLU may work in place
        return value


def _float_results(model: nn.Module, twin: Twin, images: Tensor) -> dict[str, NDArray[Any]]:
    layers = twin.steps()
    recorder = _Recorder(graph_of(model), {layer.node for layer in layers})
    with torch.no_grad():
        recorder.run(images)
    return {layer.name: recorder.values[layer.node] for layer in layers}
