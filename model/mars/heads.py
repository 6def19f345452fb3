"""Attention head by head: a network whose products of maps and softmaxes have one head each.

Every head gets layers of its own, and so do the 1x1 convolutions and others that only such layers
read: their channels are split. Layers of several heads that follow each other come head by head,
so that the maps of one head make room for those of the next. Who reads all heads selects them.
"""

import itertools
from dataclasses import replace

from model.mars.network import INPUT, Conv, Layer, MatMul, QuantizedNetwork, Select, Softmax


def by_head(network: QuantizedNetwork) -> QuantizedNetwork:
    """An equal network without layers of several heads; the same one if there are none.

    Head k of H of a layer is called "NAME (head k of H)".
    """
    if all(_heads(layer) == 1 for layer in network.layers):
        return network
    return _ByHead(network).run()


def _heads(layer: Layer) -> int:
    return layer.heads if isinstance(layer, MatMul | Softmax) else 1


class _ByHead:
    def __init__(self, network: QuantizedNetwork) -> None:
        self.network = network
        self.split: dict[str, int] = {}
        """Heads of the layers that are split."""
        for layer in reversed(network.layers):
            heads = self._split(layer)
            if heads > 1:
                self.split[layer.name] = heads
        self.layers: list[Layer] = []
        self.done: set[str] = set()

    def run(self) -> QuantizedNetwork:
        """The network."""
        for heads, group in itertools.groupby(
            self.network.layers, lambda layer: self.split.get(layer.name, 1)
        ):
            layers = list(group)
            if heads == 1:
                for layer in layers:
                    self._add(layer)
            else:
                self._add_by_head(layers, heads)
        kept = {INPUT, *(layer.name for layer in self.layers)}
        scales = {name: scale for name, scale in self.network.scales.items() if name in kept}
        return replace(self.network, layers=tuple(self.layers), scales=scales)

    def _split(self, layer: Layer) -> int:
        """How many heads a layer is split into; its readers are known."""
        heads = _heads(layer)
        if heads > 1:
            return heads
        readers = self.network.consumers(layer.name)
        of_readers = {_heads(reader) for reader in readers}
        if not isinstance(layer, Conv) or len(of_readers) != 1 or not readers:
            return 1
        is_plain = layer.neuron is None and layer.groups == 1 and layer.skip is None
        return of_readers.pop() if is_plain else 1

    def _is_read_whole(self, layer: Layer) -> bool:
        heads = self.split[layer.name]
        readers = self.network.consumers(layer.name)
        return not readers or any(_heads(reader) != heads for reader in readers)

    def _add_by_head(self, layers: list[Layer], heads: int) -> None:
        """Layers that follow each other, head by head, and what is read whole."""
        for head in range(heads):
            for layer in layers:
                self._add_head(layer, head, heads)
        for layer in layers:
            if self._is_read_whole(layer):
                parts = tuple(_name(layer.name, head, heads) for head in range(heads))
                channels = tuple(range(self.network.types[layer.name].shape[0]))
                self._add(Select(name=layer.name, inputs=parts, channels=channels))

    def _add(self, layer: Layer) -> None:
        self.layers.append(layer)
        self.done.add(layer.name)

    def _add_head(self, layer: Layer, head: int, heads: int) -> None:
        name = _name(layer.name, head, heads)
        if isinstance(layer, Conv):
            self._add(_kernels(layer, name, head, heads))
            return
        assert isinstance(layer, MatMul | Softmax)
        one = replace(layer, name=name, heads=1, input=self._part(layer.input, head, heads))
        if isinstance(one, MatMul):
            one = replace(one, operand=self._part(one.operand, head, heads))
        self._add(one)

    def _part(self, source: str, head: int, heads: int) -> str:
        """A head of what a layer reads."""
        name = _name(source, head, heads)
        if name not in self.done:
            n = self.network.types[source].shape[0] // heads
            channels = tuple(range(head * n, (head + 1) * n))
            self._add(Select(name=name, inputs=(source,), channels=channels))
        return name


def _name(layer: str, head: int, heads: int) -> str:
    return f"{layer} (head {head + 1} of {heads})"


def _kernels(layer: Conv, name: str, head: int, heads: int) -> Conv:
    """The kernels of one head."""
    n = len(layer.weight) // heads
    own = slice(head * n, (head + 1) * n)
    arrays = ("weight", "bias", "mult", "shift", "post_shift")
    parts = {
        field: values[own] for field in arrays if (values := getattr(layer, field)) is not None
    }
    return replace(layer, name=name, **parts)
