"""One vector of weights that all networks of the space share.

A sub-network holds some of its numbers: the first units of each layer, the middle of a 3x3 kernel
if its own is 1x1, and of layers in groups those of connected units. Groups are zeros between units:
whole group-sets, which MARS neither stores nor computes.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from firmware_tools.federation.space import (
    BLOCKS,
    CLASSIFIER_SIDE,
    N_CLASSES,
    PLACES,
    STEM,
    UNIT,
    Layer,
    Subnet,
)

Weights = NDArray[np.float32]
Positions = NDArray[np.int64]
ABSENT = -1
"""Position of a weight between unconnected units."""
DENSE = "dense"


@lru_cache(maxsize=1)
def _shapes() -> dict[str, tuple[int, ...]]:
    """Shape of each parameter of the supernet."""
    shapes: dict[str, tuple[int, ...]] = {}
    widest = 0
    for place in PLACES:
        n = UNIT * max(place.widths)
        shapes[f"{place.name}.weight"] = (n, widest or 1, 3, 3)
        shapes[f"{place.name}_norm.weight"] = shapes[f"{place.name}_norm.bias"] = (n,)
        widest = max(widest, n)
    shapes[f"{DENSE}.weight"] = (N_CLASSES, widest, CLASSIFIER_SIDE**2)
    shapes[f"{DENSE}.bias"] = (N_CLASSES,)
    return shapes


@lru_cache(maxsize=1)
def _numbered() -> dict[str, Positions]:
    """Positions of each parameter in the vector, in its shape."""
    found, begin = {}, 0
    for name, shape in _shapes().items():
        n = int(np.prod(shape))
        found[name] = np.arange(begin, begin + n).reshape(shape)
        begin += n
    return found


def size() -> int:
    """Numbers of the vector."""
    return sum(int(np.prod(shape)) for shape in _shapes().values())


def initial(seed: int) -> Weights:
    """Weights before anything is learned: He's distribution; scales 1, shifts 0."""
    rng = np.random.default_rng(seed)
    weights = np.zeros(size(), np.float32)
    for name, positions in _numbered().items():
        if positions.ndim > 1:
            fan_in = np.prod(positions.shape[1:])
            weights[positions] = rng.normal(0, np.sqrt(2 / fan_in), positions.shape)
        elif name.endswith("_norm.weight"):
            weights[positions] = 1
    return weights


@dataclass(frozen=True)
class Held:
    """A parameter of a sub-network.

    Attributes
    ----------
    name : str
        As of the module that `module` makes.
    positions : int, in the parameter's shape
        In the vector, or `ABSENT`.
    """

    name: str
    positions: Positions

    @property
    def present(self) -> NDArray[np.bool_]:
        """Where there is a weight."""
        return self.positions != ABSENT


def held(subnet: Subnet) -> Iterator[Held]:
    """The parameters of a sub-network, in the order of its module."""
    for layer in subnet.layers:
        yield Held(f"{layer.place.name}.weight", _convolution(layer))
        for name in ("weight", "bias"):
            full = f"{layer.place.name}_norm.{name}"
            yield Held(full, _numbered()[full][_channels(layer.outputs)])
    dense = _numbered()[f"{DENSE}.weight"][:, _channels(subnet.last)]
    yield Held(f"{DENSE}.weight", dense.reshape(N_CLASSES, -1))
    yield Held(f"{DENSE}.bias", _numbered()[f"{DENSE}.bias"])


def positions(subnet: Subnet) -> Positions:
    """Of all weights that a sub-network holds, in the order of `held`."""
    return np.concatenate([one.positions[one.present] for one in held(subnet)])


def _channels(units: tuple[int, ...]) -> Positions:
    return np.concatenate([np.arange(UNIT * unit, UNIT * (unit + 1)) for unit in units])


def _convolution(layer: Layer) -> Positions:
    everything = _numbered()[f"{layer.place.name}.weight"]
    outputs = _channels(layer.outputs)
    if layer.place is STEM:
        return everything[outputs]
    inputs = _channels(layer.inputs)
    found = everything[np.ix_(outputs, inputs)]
    if layer.kernel == 1:
        found = found[:, :, 1:2, 1:2]
    groups = np.equal.outer(outputs // UNIT % layer.groups, inputs // UNIT % layer.groups)
    return np.where(groups[:, :, None, None], found, ABSENT)


def module(subnet: Subnet, weights: Weights) -> nn.Module:
    """The network with its weights; zeros between unconnected units get no gradient."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    by_place = {layer.place: layer for layer in subnet.layers}
    _add(layers, by_place[STEM], 1)
    source, side = by_place[STEM], STEM.side
    for place in BLOCKS:
        if place.side < side:
            layers[f"pool{place.side}"] = nn.MaxPool2d(2)
            side = place.side
        if place in by_place:
            _add(layers, by_place[place], UNIT * len(source.outputs))
            source = by_place[place]
    layers["flatten"] = nn.Flatten()
    layers[DENSE] = nn.Linear(UNIT * len(subnet.last) * CLASSIFIER_SIDE**2, N_CLASSES)
    network = nn.Sequential(layers)
    parameters = dict(network.named_parameters())
    with torch.no_grad():
        for one in held(subnet):
            values = np.where(one.present, weights[one.positions], np.float32(0))
            parameters[one.name].copy_(torch.from_numpy(values))
    _keep_zeros(subnet, parameters)
    return network


def _add(layers: "OrderedDict[str, nn.Module]", layer: Layer, n_inputs: int) -> None:
    name, n = layer.place.name, UNIT * len(layer.outputs)
    padding = layer.kernel // 2
    layers[name] = nn.Conv2d(n_inputs, n, layer.kernel, padding=padding, bias=False)
    layers[f"{name}_norm"] = nn.BatchNorm2d(n, momentum=None)
    layers[f"{name}_relu"] = nn.ReLU()


def masks(subnet: Subnet) -> dict[str, Tensor]:
    """Where layers in groups have weights, by the layer's name."""
    return {
        one.name.removesuffix(".weight"): torch.from_numpy(one.present.astype(np.float32))
        for one in held(subnet)
        if not one.present.all()
    }


def _keep_zeros(subnet: Subnet, parameters: dict[str, nn.Parameter]) -> None:
    for name, mask in masks(subnet).items():
        parameters[f"{name}.weight"].register_hook(mask.mul)


def values(subnet: Subnet, network: nn.Module) -> Weights:
    """What a network's module has learned, in the order of `positions`."""
    parameters = dict(network.named_parameters())
    parts = [parameters[one.name].detach().numpy()[one.present] for one in held(subnet)]
    return np.concatenate(parts)
