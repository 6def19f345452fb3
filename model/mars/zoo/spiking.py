"""A network of the zoo as a spiking one of the same shapes.

Every layer that is rectified gets neurons, averages before the last layer become sums, residuals
are charges. Thresholds are about the standard deviation of a charge and biases take its mean away,
so that neurons fire now and then, like those of trained networks.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from model.mars.network import (
    RAW_BITS,
    AvgPool,
    Conv,
    Dense,
    FeatureType,
    Ints,
    Layer,
    QuantizedNetwork,
    SumPool,
)
from model.mars.neuron import CHARGE_MAX, Exit, Neuron

RATE = 0.25
"""Of spikes in a step, of which thresholds are worked out."""


def as_spiking(
    network: QuantizedNetwork,
    time_steps: int,
    *,
    membrane_bits: int = 8,
    stop: Exit | None = None,
) -> QuantizedNetwork:
    """The spiking network, which takes the images of the other one directly.

    Parameters
    ----------
    network : QuantizedNetwork
        Of convolutions, dense layers, maximum pools and averages in front of the last layer.
    time_steps : int
    membrane_bits : int
    stop : Exit or None
    """
    layers = tuple(_layer(layer, network, membrane_bits) for layer in network.layers)
    return QuantizedNetwork(
        network.input_type,
        layers,
        f"{network.name}-spiking",
        time_steps=time_steps,
        exit=stop,
    )


def _layer(layer: Layer, network: QuantizedNetwork, membrane_bits: int) -> Layer:
    if isinstance(layer, AvgPool):
        return SumPool(
            name=layer.name, input=layer.input, kernel=network.types[layer.input].shape[1:]
        )
    if not isinstance(layer, Conv | Dense) or layer.out_bits == RAW_BITS:
        return layer
    bias, deviation = _moments(layer.weight, network.types[layer.input], layer.input)
    limit = (1 << (membrane_bits - 1)) - 1
    fields: dict[str, Any] = {
        "bias": bias,
        "mult": None,
        "shift": None,
        "post_shift": None,
        "offset": 0,
        "out_bits": 1,
        "out_signed": False,
        "low": None,
        "high": None,
        "neuron": Neuron(
            bits=membrane_bits,
            threshold=np.minimum(deviation, CHARGE_MAX // 2),
            reset="hard",
            leak=1,
        ),
    }
    if isinstance(layer, Conv) and layer.skip is not None:
        fields |= {"skip_mult": int(min(limit, deviation.mean())), "skip_zero": 0}
    return replace(layer, **fields)


def _moments(weight: Ints, source: FeatureType, name: str) -> tuple[Ints, Ints]:
    """The bias that takes the mean of charges away, and their standard deviation, at least 1."""
    taps = weight.reshape(len(weight), -1)
    if name == "input":
        mean, variance = (source.low + source.high) / 2, (source.high - source.low + 1) ** 2 / 12
    else:
        mean, variance = RATE, RATE * (1 - RATE)
    deviation = np.sqrt((taps**2).sum(axis=1) * variance)
    bias = -np.rint(taps.sum(axis=1) * mean)
    return bias.astype(np.int64), np.maximum(np.rint(deviation), 1).astype(np.int64)
