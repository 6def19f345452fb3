"""One vector of weights that all networks of the space share.

A sub-network holds some of its numbers: those of the first units of its layers, and of layers in
groups those of connected units; kernels of 1x1 and 3x3 have weights of their own. Groups are zeros
between units: whole group-sets, which MARS neither stores nor computes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from firmware_tools.federation.space import (
    BLOCKS,
    KERNELS,
    LAST_SIDE,
    N_CLASSES,
    SIDE,
    STEM,
    STEM_KERNEL,
    STEM_WIDTHS,
    UNIT,
    Layer,
    Subnet,
)

Weights = NDArray[np.float32]
Positions = NDArray[np.int64]
ABSENT = -1
"""Position of a weight between unconnected units."""
DENSE = "dense"


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
        return np.not_equal(self.positions, ABSENT)


class Network(nn.Module):
    """A sub-network as torch computes it."""

    def __init__(self, subnet: Subnet) -> None:
        super().__init__()
        self._blocks = [(place, subnet.block(k)) for k, place in enumerate(BLOCKS)]
        self._add(subnet.stem)
        for _place, block in self._blocks:
            for layer in block or ():
                self._add(layer)
        for side in {SIDE // 2, LAST_SIDE}:
            self.add_module(f"pool{side}", nn.MaxPool2d(2))
        self.add_module(DENSE, nn.Linear(UNIT * len(subnet.units[0]) * LAST_SIDE**2, N_CLASSES))

    def _add(self, layer: Layer) -> None:
        n_inputs, n_outputs = UNIT * len(layer.inputs) or 1, UNIT * len(layer.outputs)
        padding = layer.kernel // 2
        convolution = nn.Conv2d(n_inputs, n_outputs, layer.kernel, padding=padding, bias=False)
        self.add_module(layer.name, convolution)
        self.add_module(f"{layer.name}_norm", nn.BatchNorm2d(n_outputs, momentum=None))

    def _apply_layer(self, layer_name: str, x: Tensor) -> Tensor:
        normal: Tensor = getattr(self, f"{layer_name}_norm")(getattr(self, layer_name)(x))
        return normal

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self._apply_layer(STEM, x))
        side = SIDE
        for place, block in self._blocks:
            if place.side < side:
                side = place.side
                x = getattr(self, f"pool{side}")(x)
            if block is not None:
                first, second = block
                inner = torch.relu(self._apply_layer(first.name, x))
                x = torch.relu(self._apply_layer(second.name, inner) + x)
        result: Tensor = getattr(self, DENSE)(torch.flatten(x, 1))
        return result


@lru_cache(maxsize=1)
def _numbered() -> dict[str, Positions]:
    """Positions of each parameter of the supernet in the vector, in its shape."""
    found, begin = {}, 0
    for name, shape in _shapes().items():
        n = int(np.prod(shape))
        found[name] = np.arange(begin, begin + n).reshape(shape)
        begin += n
    return found


def _shapes() -> dict[str, tuple[int, ...]]:
    around = UNIT * max(STEM_WIDTHS)
    shapes: dict[str, tuple[int, ...]] = {STEM: (around, 1, STEM_KERNEL, STEM_KERNEL)}
    norms = {STEM: around}
    for place in BLOCKS:
        inside = UNIT * max(place.widths)
        for name, n, n_inputs in (("in", inside, around), ("out", around, inside)):
            norms[f"{place.name}_{name}"] = n
            for k in KERNELS[1:]:
                shapes[f"{place.name}_{name} {k}x{k}"] = (n, n_inputs, k, k)
    for name, n in norms.items():
        shapes[f"{name}_norm.weight"] = shapes[f"{name}_norm.bias"] = (n,)
    shapes[f"{DENSE}.weight"] = (N_CLASSES, around, LAST_SIDE**2)
    shapes[f"{DENSE}.bias"] = (N_CLASSES,)
    return shapes


def size() -> int:
    """Numbers of the vector."""
    return sum(positions.size for positions in _numbered().values())


def initial(seed: int) -> Weights:
    """Weights before anything is learned: He's distribution; blocks add nothing."""
    rng = np.random.default_rng(seed)
    weights = np.zeros(size(), np.float32)
    for name, positions in _numbered().items():
        if positions.ndim > 1:
            fan_in = np.prod(positions.shape[1:])
            weights[positions] = rng.normal(0, np.sqrt(2 / fan_in), positions.shape)
        elif name.endswith("_norm.weight") and "_out" not in name:
            weights[positions] = 1
    return weights


def held(subnet: Subnet) -> Iterator[Held]:
    """The parameters of a sub-network."""
    for layer in subnet.layers:
        yield Held(f"{layer.name}.weight", _convolution(layer))
        for name in ("weight", "bias"):
            full = f"{layer.name}_norm.{name}"
            yield Held(full, _numbered()[full][_channels(layer.outputs)])
    dense = _numbered()[f"{DENSE}.weight"][:, _channels(subnet.units[0])]
    yield Held(f"{DENSE}.weight", dense.reshape(N_CLASSES, -1))
    yield Held(f"{DENSE}.bias", _numbered()[f"{DENSE}.bias"])


def positions(subnet: Subnet) -> Positions:
    """Of all weights that a sub-network holds, in the order of `held`."""
    return np.concatenate([one.positions[one.present] for one in held(subnet)])


def _channels(units: tuple[int, ...]) -> Positions:
    return np.concatenate([np.arange(UNIT * unit, UNIT * (unit + 1)) for unit in units])


def _convolution(layer: Layer) -> Positions:
    outputs = _channels(layer.outputs)
    if not layer.inputs:
        return _numbered()[layer.name][outputs]
    inputs = _channels(layer.inputs)
    everything = _numbered()[f"{layer.name} {layer.kernel}x{layer.kernel}"]
    groups = np.equal.outer(outputs // UNIT % layer.groups, inputs // UNIT % layer.groups)
    return np.where(groups[:, :, None, None], everything[np.ix_(outputs, inputs)], ABSENT)


def module(subnet: Subnet, weights: Weights) -> Network:
    """The network with its weights; zeros between unconnected units get no gradient."""
    network = Network(subnet)
    parameters = dict(network.named_parameters())
    with torch.no_grad():
        for one in held(subnet):
            values = np.where(one.present, weights[one.positions], np.float32(0))
            parameters[one.name].copy_(torch.from_numpy(values))
    for name, mask in masks(subnet).items():
        parameters[f"{name}.weight"].register_hook(mask.mul)
    return network


def masks(subnet: Subnet) -> dict[str, Tensor]:
    """Where layers in groups have weights, by the layer's name."""
    return {
        one.name.removesuffix(".weight"): torch.from_numpy(one.present.astype(np.float32))
        for one in held(subnet)
        if not one.present.all()
    }


def learned(subnet: Subnet, network: nn.Module) -> Weights:
    """The weights of a sub-network's module, in the order of `positions`."""
    parameters = dict(network.named_parameters())
    parts = [parameters[one.name].detach().numpy()[one.present] for one in held(subnet)]
    return np.concatenate(parts)
