"""Figures of quantised and of spiking networks, from what the reference computes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from firmware_tools.neurobench.costs import LIF
from firmware_tools.neurobench.counts import (
    Counts,
    Flags,
    accumulations,
    dense_operations,
    operations,
)
from firmware_tools.neurobench.figures import Chip, Figures, Footprint
from firmware_tools.neurobench.zeros import zeros_of
from model.mars import frame, reference
from model.mars.config import KERNELS, WORD_LINES
from model.mars.image import Image
from model.mars.network import (
    INPUT,
    RAW_BITS,
    Conv,
    Dense,
    FeatureType,
    Ints,
    Layer,
    Lookup,
    MatMul,
    NetworkError,
    QuantizedNetwork,
    clamp_of,
    memory_of,
    neuron_of,
)
from model.mars.reference import SpikingRun
from model.mars.spiking import initial_membranes

VALUES = 1 << 22
"""Values of all layers that are computed at once."""
FILE_BYTES = {"weight": 1, "bias": 4, "shift": 1, "post_shift": 1, "table": 2}
"""Bytes of a number of each array (docs/quantised-network.md)."""


def measure(network: QuantizedNetwork, inputs: Ints, labels: Ints | None = None) -> Figures:
    """All figures but those of the chip.

    Parameters
    ----------
    network : QuantizedNetwork
    inputs : (N, C, H, W) int64
        Spikes (N, time_steps, C, H, W).
    labels : (N,) int or None
        Classes; then the network's result is a vector.
    """
    counter = _Counter(network)
    correct, steps = 0, 0
    for part in _parts(network, len(inputs)):
        run = run_layers(network, inputs[part])
        counter.add(inputs[part], run)
        steps += int(run.steps.sum())
        if labels is not None:
            correct += int((classes(network, run) == labels[part]).sum())
    return Figures(
        network=network.name,
        samples=len(inputs),
        footprint=footprint(network),
        layers=counter.counts(),
        accuracy=None if labels is None else correct / len(inputs),
        mean_steps=steps / len(inputs) if network.time_steps else None,
    )


def count(network: QuantizedNetwork, inputs: Ints, run: SpikingRun) -> dict[str, Counts]:
    """Counts by layer of what a machine did with some images."""
    counter = _Counter(network)
    counter.add(inputs, run)
    return counter.counts()


def run_layers(network: QuantizedNetwork, inputs: Ints) -> SpikingRun:
    """What the reference computes; a network without time takes 0 steps."""
    if network.time_steps:
        return reference.run_steps(network, inputs)
    values = reference.run(network, inputs)
    return SpikingRun(values, {}, np.zeros(len(inputs), np.int64))


def classes(network: QuantizedNetwork, run: SpikingRun) -> Ints:
    """The channel with the largest result behind the last step that each image takes, (N,)."""
    results = run.values[network.output]
    if network.types[network.output].time_steps:
        results = results[np.arange(len(results)), run.steps - 1]
    return np.asarray(results.reshape(len(results), -1).argmax(axis=1))


def _parts(network: QuantizedNetwork, n_images: int) -> Iterator[slice]:
    size = sum(kind.size * max(kind.time_steps, 1) for kind in network.types.values())
    n = max(VALUES // size, 1)
    return (slice(first, min(first + n, n_images)) for first in range(0, n_images, n))


def is_activation(layer: Layer, kind: FeatureType, zero: int) -> bool:
    """Whether a layer's results are activations: spikes, of a table, or clamped at 0 (ReLU)."""
    if isinstance(layer, Lookup) or neuron_of(layer) is not None:
        return True
    if not isinstance(layer, Conv | Dense) or layer.out_bits == RAW_BITS:
        return False
    return clamp_of(layer, kind)[0] == zero


@dataclass
class _Calls:
    """Synaptic operations of a layer in each step, (n_calls,): of inputs -1, 0, 1 and of others.

    All images are one call in a step. Those that stop when they are sure each make calls of their
    own.
    """

    binary: Ints
    other: Ints
    is_binary: Flags

    def add(self, step: int, layer: Conv | Dense, read: Ints) -> None:
        """Count images (n, C, H, W)."""
        pairs = operations(layer, read != 0)
        accumulate = accumulations(read)
        self.binary[step] += pairs[accumulate].sum()
        self.other[step] += pairs[~accumulate].sum()
        self.is_binary[step] &= accumulate.all()

    def counts(self, *, alone: bool) -> Counts:
        """All calls, of each image alone or of all images."""
        acs = self.binary if alone else np.where(self.is_binary, self.binary, 0)
        macs = self.binary + self.other - acs
        return Counts(acs=int(acs.sum()), macs=int(macs.sum()))


class _Counter:
    """Adds up what parts of the images give."""

    def __init__(self, network: QuantizedNetwork) -> None:
        for layer in network.layers:
            if isinstance(layer, MatMul):
                raise NetworkError(
                    f"layer {layer.name!r} must have weights to be counted: products of two maps "
                    "are not"
                )
        self.network = network
        self.zeros = zeros_of(network)
        self.calls: dict[str, _Calls] = {}
        self.rest: dict[str, Counts] = {layer.name: Counts() for layer in network.layers}
        for layer in network.layers:
            if isinstance(layer, Conv | Dense):
                n = max(network.types[layer.input].time_steps, 1)
                zero = np.zeros(n, np.int64)
                self.calls[layer.name] = _Calls(zero, zero.copy(), np.ones(n, np.bool_))
                zeros = int((layer.weight == 0).sum())
                self.rest[layer.name] = Counts(weights=layer.weight.size, zero_weights=zeros)

    def add(self, inputs: Ints, run: SpikingRun) -> None:
        """Count what images (N, ...) did, in the steps that each takes."""
        values = {INPUT: inputs, **run.values}
        taken = np.arange(self.network.time_steps) < run.steps[:, np.newaxis]
        before = membranes_before(self.network, run)
        for layer in self.network.layers:
            name = layer.name
            kind = self.network.types[name]
            if isinstance(layer, Conv | Dense):
                self._add_call(layer, values[layer.input], taken)
            if is_activation(layer, kind, self.zeros[name]):
                mine = values[name][taken] if kind.time_steps else values[name]
                zeros = int((mine == self.zeros[name]).sum())
                self.rest[name] += Counts(activations=mine.size, zero_activations=zeros)
            if neuron_of(layer) is not None:
                self.rest[name] += _updates(before[name], run.membranes[name], taken)

    def _add_call(self, layer: Conv | Dense, source: Ints, taken: Flags) -> None:
        """Count synaptic operations; what does not change in time is computed once."""
        kind = self.network.types[layer.input]
        if not kind.time_steps:
            source, taken = source[:, np.newaxis], np.ones((len(source), 1), np.bool_)
        read = source - self.zeros[layer.input]
        for step in np.flatnonzero(taken.any(axis=0)).tolist():
            self.calls[layer.name].add(step, layer, read[taken[:, step], step])
        dense = int(taken.sum()) * dense_operations(layer, kind.shape)
        self.rest[layer.name] += Counts(dense=dense)

    def counts(self) -> dict[str, Counts]:
        """Counts of all layers."""
        alone = self.network.exit is not None
        return {
            name: rest + self.calls[name].counts(alone=alone) if name in self.calls else rest
            for name, rest in self.rest.items()
        }


def membranes_before(network: QuantizedNetwork, run: SpikingRun) -> dict[str, Ints]:
    """What each layer with a neuron found in its memory in each step, shaped as `run.membranes`."""
    sharing: dict[str, list[str]] = {}
    for layer in network.layers:
        neuron = neuron_of(layer)
        if neuron is not None:
            sharing.setdefault(memory_of(layer.name, neuron), []).append(layer.name)
    result = {}
    for names in sharing.values():
        first = network.layer(names[0])
        neuron = neuron_of(first)
        assert neuron is not None
        shape = network.types[first.name].shape
        start = initial_membranes(neuron, len(run.steps), shape)[:, np.newaxis]
        last = run.membranes[names[-1]]
        result[names[0]] = np.concatenate((start, last[:, :-1]), axis=1)
        for name, other in zip(names[1:], names, strict=False):
            result[name] = run.membranes[other]
    return result


def _updates(before: Ints, after: Ints, taken: Flags) -> Counts:
    """Membranes (N, time_steps, ...) that changed; each one's first step is an update."""
    changed = before != after
    changed[:, 0] = True
    updates, steps = int(changed[taken].sum()), after[taken].size
    return Counts(
        membrane_updates=updates,
        neuron_steps=steps,
        neuron_ops=updates * LIF,
        dense_neuron_ops=steps * LIF,
    )


def footprint(network: QuantizedNetwork) -> Footprint:
    """Bytes of arrays and membranes; what several layers share counts once."""
    parameters, packed_bits, membranes = 0, 0, {}
    for layer in network.layers:
        arrays = _arrays(layer)
        own = sum(array.size * width for array, width in arrays)
        parameters += own
        packed_bits += 8 * own
        if isinstance(layer, Conv | Dense):
            packed_bits -= (8 - layer.weight_bits) * layer.weight.size
        neuron = neuron_of(layer)
        if neuron is not None:
            membranes[memory_of(layer.name, neuron)] = (
                network.types[layer.name].size // neuron.groups,
                neuron.bits,
            )
    buffers = sum(n * _bytes_of(bits) for n, bits in membranes.values())
    packed_bits += sum(n * bits for n, bits in membranes.values())
    return Footprint(parameters=parameters, buffers=buffers, packed=-(-packed_bits // 8))


def _bytes_of(bits: int) -> int:
    return 1 if bits <= 8 else 2


def _arrays(layer: Layer) -> list[tuple[Ints, int]]:
    """Arrays of a layer, and bytes of each number."""
    found = [(getattr(layer, name, None), width) for name, width in FILE_BYTES.items()]
    mult = getattr(layer, "mult", None)
    if isinstance(mult, np.ndarray):
        found.append((mult, 2 if mult.max() < 1 << 16 else 4))
    neuron = neuron_of(layer)
    if neuron is not None:
        found += [(neuron.threshold, 4), (neuron.initial, 2)]
    return [(array, width) for array, width in found if isinstance(array, np.ndarray)]


def on_chip(image: Image, features: Ints) -> Chip:
    """A frame (C, H, W) on the golden machine, whose clocks and events the RTL is held to."""
    done = frame.run_frame(image, features)
    runs = done.passes
    counters = {
        "macro_macs": WORD_LINES * KERNELS * sum(run.counters.accesses for run in runs),
        "requantisations": sum(run.counters.requantisations for run in runs),
        "neuron_steps": sum(run.counters.membrane_updates for run in runs),
        "feature_reads": sum(run.counters.feature_reads for run in runs),
        "feature_writes": sum(run.counters.feature_writes for run in runs),
        **_stalls(runs),
        "program_bytes": image.lines.nbytes,
    }
    return Chip(
        configuration=image.config.name,
        clocks=done.clocks,
        latency=done.clocks,
        results=1,
        counters=counters,
    )


def _stalls(runs: Sequence[frame.PassRun]) -> Mapping[str, int]:
    names = ("weight_stalls", "drain_stalls", "layer_stalls")
    return {name: sum(getattr(run.clocks, name) for run in runs) for name in names}
