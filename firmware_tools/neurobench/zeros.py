"""Which integer stands for 0 in the results of each layer.

A network of the chip subtracts no zero points: importers fold them into biases. They are left as
`offset` of what is requantised, as `pad_value` around a map, and as `skip_zero` of a residual.
"""

from collections.abc import Iterator

from model.mars.network import (
    INPUT,
    AvgPool,
    Conv,
    Dense,
    Layer,
    LayerNorm,
    MatMul,
    MaxPool,
    QuantizedNetwork,
    Select,
    Softmax,
    SumPool,
    Tokens,
    neuron_of,
)


def zeros_of(network: QuantizedNetwork) -> dict[str, int]:
    """The integer for 0 in the input and in every layer's results."""
    zeros = {INPUT: _read_as(network, INPUT)}
    for layer in network.layers:
        zeros[layer.name] = _zero(network, layer, zeros)
    return zeros


def _zero(network: QuantizedNetwork, layer: Layer, zeros: dict[str, int]) -> int:
    match layer:
        case Conv() | Dense() if neuron_of(layer) is not None:
            return 0
        case Conv() | Dense() | AvgPool() | MatMul() | Softmax() | LayerNorm():
            return layer.offset
        case MaxPool() | SumPool() | Tokens():
            return zeros[layer.input]
        case Select():
            return zeros[layer.inputs[0]]
        case _:
            return _read_as(network, layer.name)


def _read_as(network: QuantizedNetwork, name: str) -> int:
    """What the first layer that knows takes for 0 in the results of another; 0 if none does."""
    return next(_stated(network, name), 0)


def _stated(network: QuantizedNetwork, name: str) -> Iterator[int]:
    for layer in network.consumers(name):
        if isinstance(layer, Conv):
            if layer.input == name and any(layer.padding):
                yield layer.pad_value
            if layer.skip == name:
                yield layer.skip_zero
        elif isinstance(layer, MaxPool | Select):
            yield from _stated(network, layer.name)
