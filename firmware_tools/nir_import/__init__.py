"""Imports spiking networks in the exchange format NIR, whose numbers are real."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from firmware_tools.imported import Array, ModelImport
from firmware_tools.nir_import.graph import DAMAGED, Graph, NirError
from firmware_tools.nir_import.graph import load as load_graph
from firmware_tools.nir_import.lowering import Lowering
from firmware_tools.nir_import.quantizing import LIMIT_MAX, Settings, quantized
from firmware_tools.nir_import.values import Charge, Reals
from model.mars import reference
from model.mars.network import (
    INPUT,
    RAW_BITS,
    Conv,
    Dense,
    FeatureType,
    Ints,
    Layer,
    NetworkError,
    QuantizedNetwork,
    neuron_of,
    output_type,
)
from model.mars.neuron import MEMBRANE_BITS, TIME_STEPS_MAX, Reset

NO_LAYERS: Mapping[str, int] = {}
LONGEST = 1000
"""Characters of an error."""
__all__ = ["Choices", "NirError", "NirImport", "load"]


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What a NIR file leaves open.

    Parameters
    ----------
    time_steps : int or None
        Steps of an input, 1..64; None is those of `events`, or of the file's metadata.
    dt : float or None
        Seconds of a step, for LIF; None is that of the file's metadata.
    bits : int or None
        Of weights, 4 or 8; None is 8, or what the file's metadata says.
    reset : "hard" or "soft"
        Of neurons whose metadata do not say it.
    nearest_leak : bool
        Leaks that are no power of two are replaced by the nearest one.
    events : (N, time_steps, ...) int or None
        Inputs that show how large membranes get.
    """

    time_steps: int | None = None
    dt: float | None = None
    bits: int | None = None
    reset: Reset = "hard"
    nearest_leak: bool = False
    events: Array | None = field(default=None, repr=False)


@dataclass(frozen=True, eq=False)
class NirImport(ModelImport):
    """A network out of a NIR file.

    Parameters
    ----------
    membrane_scales : {str: (Cout,) float64}
        Real value of one step of weights and membranes of each channel of a layer.
    """

    membrane_scales: dict[str, Reals] = field(default_factory=dict)


def load(path: Path | str, choices: Choices | None = None) -> NirImport:
    """Import a file.

    Raises
    ------
    NirError
        The file is damaged, or something in it is not supported; the text names file and node.
    OSError
        The file cannot be read.
    """
    try:
        with np.errstate(all="ignore"):  # numbers in a damaged file may be any
            graph = load_graph(Path(path))
            return _whole(graph, choices or Choices())
    except (NirError, NetworkError) as error:
        line = " ".join(str(error).split())  # names in a damaged file may hold anything
        shown = line if len(line) <= LONGEST else f"{line[:LONGEST]} ..."
        raise NirError(f"{path}: {shown}") from None


def _whole(graph: Graph, choices: Choices) -> NirImport:
    try:
        return _imported(graph, choices)
    except NetworkError:
        raise
    except DAMAGED as error:
        detail = (str(error) or type(error).__name__).splitlines()[0]
        raise NirError(f"must be a whole NIR file: cut or damaged? ({detail})") from None


def _imported(graph: Graph, choices: Choices) -> NirImport:
    dt = choices.dt if choices.dt is not None else _number(graph, "dt")
    if dt is not None and not 0 < dt < float("inf"):
        raise NirError(f"dt must be a positive number of seconds, not {dt:g}")
    lowering = Lowering(graph, dt, choices.reset)
    builder = _Builder(graph, lowering, choices)
    network, notes = builder.build()
    if choices.events is not None:
        network, notes = builder.calibrated(choices.events)
    shape = lowering.output.shape

    def from_network(results: Ints) -> Array:
        return results.reshape(*results.shape[:-3], *shape)

    report = (*notes, *_said(lowering))
    return NirImport(network, builder.to_network, from_network, report, builder.membrane_scales)


def _said(lowering: Lowering) -> tuple[str, ...]:
    if isinstance(lowering.output, Charge):
        return (f"{lowering.output.node}: results are summed over the steps, as logits",)
    return ()


def _number(graph: Graph, name: str) -> float | None:
    """A number in the file's metadata."""
    value = graph.metadata.get(name)
    if value is None:
        return None
    if not isinstance(value, int | float | np.integer | np.floating) or not np.isfinite(value):
        raise NirError(f"metadata: {name} must be a number, not {value!r}")
    return float(value)


class _Builder:
    """Makes the network, again and again if membranes do not fit."""

    def __init__(self, graph: Graph, lowering: Lowering, choices: Choices) -> None:
        self._name = graph.name
        self.membrane_scales: dict[str, Reals] = {}
        self._lowering = lowering
        time_steps = self._time_steps(graph, choices)
        self._settings = Settings(
            bits=choices.bits, time_steps=time_steps, nearest_leak=choices.nearest_leak
        )
        metadata = lowering.input_node.metadata
        self._is_direct = metadata.get("coding") == "direct"
        bits, signed = int(metadata.get("bits", 1)), bool(metadata.get("signed", False))
        self._input = FeatureType(
            lowering.input.kind, bits, signed, 0 if self._is_direct else time_steps
        )

    @staticmethod
    def _time_steps(graph: Graph, choices: Choices) -> int:
        steps = choices.time_steps
        if steps is None and choices.events is not None and choices.events.ndim > 1:
            steps = choices.events.shape[1]
        if steps is None and (said := _number(graph, "time_steps")) is not None:
            steps = int(said)
        if steps is None:
            raise NirError("time steps must be given (--time-steps): a NIR graph does not say them")
        if not 1 <= steps <= TIME_STEPS_MAX:
            raise NirError(f"time steps must be 1..{TIME_STEPS_MAX}, not {steps}")
        return int(steps)

    def build(self, coarser: Mapping[str, int] = NO_LAYERS) -> tuple[QuantizedNetwork, list[str]]:
        """The network, and what is to be said of it."""
        types = {INPUT: self._input}
        layers: list[Layer] = []
        scales = {INPUT: 1.0}
        notes: list[str] = []
        for name, stage in self._lowering.stages.items():
            one = quantized(name, stage, types, self._settings, coarser.get(name, 0))
            layers.append(one.layer)
            types[name] = output_type(one.layer, types, self._settings.time_steps)
            is_raw = types[name].bits == RAW_BITS
            scales[name] = float(one.scale[0]) if is_raw else 1.0
            self.membrane_scales[name] = one.scale
            notes += one.notes
        network = QuantizedNetwork(
            self._input,
            tuple(layers),
            self._name,
            scales,
            time_steps=self._settings.time_steps,
            coding="direct" if self._is_direct else "spikes",
        )
        return network, notes

    def to_network(self, inputs: Array) -> Ints:
        """Inputs as the graph has them, (N, time_steps, ...), as maps."""
        shape = (*self._input.array_shape,)
        given = self._lowering.input.shape
        steps = () if self._is_direct else (self._settings.time_steps,)
        wanted = (*steps, *given)
        if inputs.dtype.kind not in "biu":
            raise NirError(f"events must be integers, not {inputs.dtype}")
        if inputs.shape[-len(wanted) :] != wanted or inputs.ndim > len(wanted) + 1:
            raise ValueError(f"shape must be (N, {', '.join(map(str, wanted))})")
        return inputs.astype(np.int64).reshape(-1, *shape)

    def calibrated(self, events: Array) -> tuple[QuantizedNetwork, list[str]]:
        """The network with membranes of as many bits as inputs need, and one to spare.

        Where 16 bits are not enough the scale becomes coarser.
        """
        try:
            inputs = self.to_network(events)
        except ValueError as error:
            raise NirError(f"events: {error}, not {events.shape}") from None
        clipped = np.clip(inputs, self._input.low, self._input.high)
        n_clipped = int((clipped != inputs).sum())
        coarser: dict[str, int] = defaultdict(int)
        while True:
            network, others = self.build(coarser)
            found = {
                name: int(np.abs(membranes).max())
                for name, membranes in reference.run_steps(network, clipped).membranes.items()
            }
            full = [name for name, largest in found.items() if largest == LIMIT_MAX]
            if not full:
                break
            for name in full:
                coarser[name] += 1
        layers = tuple(_narrower(layer, found.get(layer.name, 0)) for layer in network.layers)
        said = [
            f"{layer.name}: membranes of {neuron.bits} bits, of which the events need "
            f"{found[layer.name].bit_length() + 1}"
            for layer in layers
            if (neuron := neuron_of(layer)) is not None
        ]
        said += [
            f"{name}: scale {2**n} times as large, so that membranes fit in 16 bits"
            for name, n in coarser.items()
        ]
        if n_clipped:
            said.append(f"events: {n_clipped:,} of {inputs.size:,} counts were clipped to 1")
        return replace(network, layers=layers), [*others, *said]


def _narrower(layer: Layer, largest: int) -> Layer:
    """With membranes that hold twice the largest one that was seen, if they held more."""
    neuron = neuron_of(layer)
    if neuron is None or not isinstance(layer, Conv | Dense):
        return layer
    start = 0 if neuron.initial is None else int(np.abs(neuron.initial).max())
    bits = max(MEMBRANE_BITS[0], max(largest, start).bit_length() + 2)
    return replace(layer, neuron=replace(neuron, bits=min(neuron.bits, bits)))
