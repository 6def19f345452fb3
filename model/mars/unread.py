"""A network without the pixels that nobody reads: of deep prompts only keys and values are.

A block's own prompts are constant tokens before its first layer, and they are left out behind it.
So their queries and all that follows from them need not be computed. What a normalisation makes of
constants is constant, too: then the program brings it, and the row unit has nothing to do for
prompts. Keys and values are computed of it: a convolution takes fewer clocks for a token than to
write it into the maps of all heads.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from model.mars.network import (
    INPUT,
    Conv,
    Dense,
    Ints,
    Layer,
    LayerNorm,
    Lookup,
    MatMul,
    QuantizedNetwork,
    Select,
    Softmax,
    Tokens,
    references,
)
from model.mars.reference import run_layer


def without_unread(network: QuantizedNetwork) -> QuantizedNetwork:
    """A network with equal results, the same one if everything is read.

    A layer without its first k pixels is called "NAME (from pixel k)".
    """
    if not any(isinstance(layer, Tokens) for layer in network.layers):
        return network
    whole: set[str] = set()
    while True:
        cutting = _Cutting(network, whole)
        stuck = cutting.stuck()
        if not stuck:
            return cutting.run()
        whole |= stuck


class _Cutting:
    """Finds from which pixels on maps are read, and makes layers that compute those.

    Parameters
    ----------
    network : QuantizedNetwork
    whole : set of str
        Layers that compute all pixels.
    """

    def __init__(self, network: QuantizedNetwork, whole: set[str]) -> None:
        self.network = network
        self.whole = whole
        self.begins: dict[str, set[int]] = {name: set() for name in network.types}
        self.begins[network.output].add(0)
        for layer in reversed(network.layers):
            for name, begin in self._reads(layer):
                self.begins[name].add(begin)
        self.layers: list[Layer] = []
        self.names = {(INPUT, 0): INPUT}
        """By name of a map and the pixel from which on it is made."""

    def stuck(self) -> set[str]:
        """Layers that read a map from a pixel on from which it is not made."""
        return {
            layer.name
            for layer in self.network.layers
            if not isinstance(layer, Tokens)
            and any(begin not in self._made(name) for name, begin in self._reads(layer))
        }

    def run(self) -> QuantizedNetwork:
        """The network."""
        for layer in self.network.layers:
            for begin in self._made(layer.name):
                self._make(layer, begin)
        if self.layers == list(self.network.layers):  # layers are equal if they are the same
            return self.network
        scales = self.network.scales
        named = {name: scales[old] for (old, _), name in self.names.items() if old in scales}
        return replace(self.network, layers=tuple(self.layers), scales=named)

    # What is read

    def _reads(self, layer: Layer) -> list[tuple[str, int]]:
        """Maps that a layer reads, and from which pixel on."""
        begins = self.begins[layer.name]
        if isinstance(layer, Tokens):
            n = layer.values.shape[1]
            return [(layer.input, layer.first + max(begin - n, 0)) for begin in sorted(begins)]
        begin = self._first_read(layer)
        if isinstance(layer, MatMul):
            return [(layer.input, begin), (layer.operand, 0)]
        return [(name, begin) for name in references(layer).values()]

    def _first_read(self, layer: Layer) -> int:
        """The first pixel of its input that a layer needs."""
        if layer.name in self.whole:
            return 0
        if isinstance(layer, Dense):
            weight = layer.weight.reshape(-1, *_size(self.network, layer.input))
            return int(np.argmax((weight != 0).any(axis=(0, 1))))
        if not _is_pixelwise(layer):
            return 0
        constants = self._constants(layer)
        return min(self.begins[layer.name]) if constants is None else constants.shape[1]

    def _constants(self, layer: Layer) -> Ints | None:
        """The constants (C, n) that a normalisation reads, if it is needed without them as well."""
        source = self._layer(layer.input) if isinstance(layer, LayerNorm) else None
        if not isinstance(source, Tokens) or layer.name in self.whole:
            return None
        begins, n = self.begins[layer.name], source.values.shape[1]
        return source.values if n in begins and min(begins) < n else None

    def _layer(self, name: str) -> Layer | None:
        return None if name == INPUT else self.network.layer(name)

    # What is made

    def _made(self, name: str) -> list[int]:
        """From which pixels on a map is made, in the order in which that is done."""
        layer = self._layer(name)
        if layer is None or isinstance(layer, Dense):
            return [0]
        begins = sorted(self.begins[name])
        if isinstance(layer, Tokens):
            return sorted({begin * self._is_column(layer, begin) for begin in begins})
        constants = self._constants(layer)
        if constants is not None:
            return [begin for begin in reversed(begins) if begin <= constants.shape[1]]
        return [self._first_read(layer)]

    def _is_column(self, layer: Tokens, begin: int) -> bool:
        """Whether what is left of constants and a map behind them is still one column."""
        is_input = layer.first == 0 and begin == layer.values.shape[1]
        return not is_input or self.network.types[layer.input].shape[2] == 1

    def _make(self, layer: Layer, begin: int) -> None:
        name = f"{layer.name} (from pixel {begin})" if begin else layer.name
        constants = self._constants(layer)
        made: Layer | None
        if isinstance(layer, Tokens):
            made = self._tokens(layer, name, begin)
        elif constants is not None and begin < constants.shape[1]:
            assert isinstance(layer, LayerNorm)
            values = _normalised(self.network, layer, constants)[:, begin:]
            rest = self.names[layer.name, constants.shape[1]]
            made = Tokens(name=name, input=rest, values=values)
        else:
            made = self._computed(layer, name)
        if made is not None:
            self.layers.append(made)
        self.names.setdefault((layer.name, begin), name)

    def _tokens(self, layer: Tokens, name: str, begin: int) -> Tokens | None:
        """Constants and a map behind them, from a pixel on; None if it is a map that is there."""
        n = layer.values.shape[1]
        first = layer.first + max(begin - n, 0)
        there = max(made for made in self._made(layer.input) if made <= first)
        source = self.names[layer.input, there]
        if begin >= n and there == first:
            self.names[layer.name, begin] = source
            return None
        if (begin, source) == (0, layer.input):
            return layer
        return Tokens(name=name, input=source, values=layer.values[:, begin:], first=first - there)

    def _computed(self, layer: Layer, name: str) -> Layer:
        """A layer that reads maps from a pixel on."""
        sources = [self.names[read] for read in self._reads(layer)]
        read = references(layer)
        if sources == list(read.values()):
            return layer
        if isinstance(layer, Select):
            return replace(layer, name=name, inputs=tuple(sources))
        fields: dict[str, Any] = dict(zip(read, sources, strict=True))
        if isinstance(layer, Dense):
            weight = layer.weight.reshape(-1, *_size(self.network, layer.input))
            rest = weight[:, :, self._first_read(layer) :]
            return replace(layer, weight=rest.reshape(len(rest), -1), **fields)
        return replace(layer, name=name, **fields)


def _size(network: QuantizedNetwork, name: str) -> tuple[int, int]:
    """Channels and pixels of a map."""
    channels, rows, cols = network.types[name].shape
    return channels, rows * cols


def _is_pixelwise(layer: Layer) -> bool:
    """Whether each pixel of the result needs the same one of its input alone."""
    if isinstance(layer, Conv):
        steps = (*layer.kernel, *layer.stride)
        return steps == (1, 1, 1, 1) and not any(layer.padding) and layer.neuron is None
    return isinstance(layer, LayerNorm | Lookup | MatMul | Select | Softmax)


def _normalised(network: QuantizedNetwork, layer: LayerNorm, values: Ints) -> Ints:
    """What a normalisation makes of pixels (C, n)."""
    types = {
        name: replace(network.types[name], shape=(*values.shape, 1))
        for name in (layer.name, layer.input)
    }
    return run_layer(layer, types, {layer.input: values[np.newaxis, ..., np.newaxis]})[0, ..., 0]
