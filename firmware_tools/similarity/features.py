"""What layers of a network have for an image, whole or time step by time step."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from model.mars import reference
from model.mars.devices.device import Device
from model.mars.devices.execution import NetworkArrays
from model.mars.network import Ints, QuantizedNetwork

Array = NDArray[Any]
By = Literal["layer", "step"]


@dataclass(frozen=True)
class Place:
    """Where features are from.

    Parameters
    ----------
    layer : str
    step : int
        Time step, from 1 on; 0 for all that there are.
    """

    layer: str
    step: int = 0

    def __str__(self) -> str:
        return f"{self.layer}, step {self.step}" if self.step else self.layer


@dataclass(frozen=True)
class Subject:
    """One of two networks that are compared.

    Parameters
    ----------
    inputs : (N, ...)
        What it is given.
    run : callable
        From some inputs, and the number of the first, to the results of its layers, (n, ...) each,
        in order.
    timed : {str: int}
        Time steps of the layers that change in time; their results are (n, time_steps, ...).
    """

    inputs: Array
    run: Callable[[Array, int], Mapping[str, Array]]
    timed: Mapping[str, int]

    @property
    def time_steps(self) -> int:
        """0 for a network without neurons."""
        return max(self.timed.values(), default=0)

    def features(self, part: slice, by: By) -> dict[Place, Array]:
        """Features of some inputs; of all steps one after the other, or of each."""
        found: dict[Place, Array] = {}
        for layer, values in self.run(self.inputs[part], part.start).items():
            if by == "layer" or layer not in self.timed:
                found[Place(layer)] = values
                continue
            for step in range(self.timed[layer]):
                found[Place(layer, step + 1)] = values[:, step]
        return found


def quantised(network: QuantizedNetwork, inputs: Ints) -> Subject:
    """A quantised or spiking network on the reference; logits are those of the steps so far."""
    return Subject(
        inputs,
        lambda some, _first: reference.run(network, np.asarray(some, np.int64)),
        _timed(network),
    )


def on_device(network: QuantizedNetwork, inputs: Ints, device: Device, seed: int) -> Subject:
    """The same on arrays of a device."""
    arrays = NetworkArrays(network, device, seed=seed)
    return Subject(
        inputs,
        lambda some, first: arrays.run(np.asarray(some, np.int64), first),
        _timed(network),
    )


def _timed(network: QuantizedNetwork) -> dict[str, int]:
    return {
        layer.name: kind.time_steps
        for layer in network.layers
        if (kind := network.types[layer.name]).time_steps
    }
