"""Writes spiking networks as NIR graphs, whose numbers are real.

The unit of membranes is the threshold of their channel, which is 1 in the file; with a soft reset a
power of two, so that thresholds are above 1/2 and at most 1. A step
leaves 2^-leak of a membrane, so tau is dt / (1 - 2^-leak), and r = tau / dt leaves weights as they
are. What NIR has no field for (scale, bits, kind of reset, steps) is in metadata, which an import
reads.
"""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_tools.errors import UserError
from firmware_tools.nir_import.graph import package
from model.mars.network import (
    INPUT,
    Conv,
    Dense,
    Layer,
    QuantizedNetwork,
    SumPool,
    charge_ends,
    neuron_of,
)
from model.mars.neuron import Neuron, reach

Reals = NDArray[np.float64]
Singles = NDArray[np.float32]


class ExportError(UserError):
    """NIR cannot express the network; the text names the layer."""


def dump(network: QuantizedNetwork, path: Path, *, dt: float) -> tuple[str, ...]:
    """Write a network.

    Parameters
    ----------
    network : QuantizedNetwork
    path : Path
    dt : float
        Seconds of a step.

    Returns
    -------
    tuple of str
        What the file does not say.

    Raises
    ------
    ExportError
        NIR cannot express the network.
    """
    nir = package()
    check(network)
    writer = _Writer(nir, network, dt)
    graph = writer.graph()
    nir.write(path, graph)
    return tuple(writer.notes)


def check(network: QuantizedNetwork) -> None:
    """Refuse what NIR cannot express.

    Raises
    ------
    ExportError
    """
    if not network.time_steps:
        raise ExportError(f"{network.name}: network must be a spiking one to be written as NIR")
    for layer in network.layers:
        if isinstance(layer, SumPool):
            continue
        if not isinstance(layer, Conv | Dense):
            kind = type(layer).__name__.lower()
            raise ExportError(f"layer {layer.name!r}: NIR has no node for {kind}")
        if layer.neuron is None and layer.name != network.output:
            raise ExportError(f"layer {layer.name!r}: NIR has no requantisation: must have neurons")
        if layer.neuron is not None:
            _check_neuron(layer, layer.neuron, network.layers)
        if isinstance(layer, Conv):
            _check_padding(layer)


def _check_neuron(layer: Conv | Dense, neuron: Neuron, layers: Iterable[Layer]) -> None:
    place = f"layer {layer.name!r}: neuron"
    if neuron.groups > 1:
        raise ExportError(f"{place}.groups must be 1, not {neuron.groups}: NIR shares no membranes")
    others = [
        other.name
        for other in layers
        if other is not layer
        and (its := neuron_of(other)) is not None
        and neuron.membrane is not None
        and its.membrane == neuron.membrane
    ]
    if others:
        raise ExportError(
            f"{place}.membrane must be its own, not shared with {others[0]!r}: NIR shares none"
        )
    if neuron.initial is not None and neuron.initial.any():
        raise ExportError(f"{place}.initial must be 0: NIR has no initial membranes")


def _check_padding(layer: Conv) -> None:
    top, left, bottom, right = layer.padding
    if (top, left) != (bottom, right):
        raise ExportError(
            f"layer {layer.name!r}: padding must be the same on both sides for NIR, "
            f"not {layer.padding}"
        )
    if any(layer.padding) and layer.pad_value:
        raise ExportError(f"layer {layer.name!r}: pad_value must be 0, not {layer.pad_value}")


class _Writer:
    """Nodes and edges, layer by layer."""

    def __init__(self, nir: Any, network: QuantizedNetwork, dt: float) -> None:
        self._nir = nir
        self._network = network
        self._dt = dt
        self._nodes: dict[str, Any] = {}
        self._edges: list[tuple[str, str]] = []
        self._ends: dict[str, str] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self.notes: list[str] = []

    def graph(self) -> Any:
        """The whole graph."""
        network = self._network
        kind = network.input_type
        shape = _vector(kind.shape)
        coding: dict[str, Any] = {
            "coding": network.coding,
            "bits": kind.bits,
            "signed": int(kind.signed),
        }
        metadata = {} if network.coding == "spikes" else coding
        self._shapes[INPUT] = shape
        self._ends[INPUT] = self._add(
            "input", self._nir.Input({"input": np.array(shape)}, metadata=metadata)
        )
        for layer in network.layers:
            self._layer(layer)
        shape = self._shapes[network.output]
        self._add(
            "output", self._nir.Output({"output": np.array(shape)}), self._ends[network.output]
        )
        self._say()
        steps: dict[str, Any] = {"dt": self._dt, "time_steps": network.time_steps}
        return self._checked(steps)

    def _checked(self, metadata: dict[str, Any]) -> Any:
        """The graph; a note if the package's own check of types, which others may use, fails."""
        make = self._nir.NIRGraph
        try:
            return make(self._nodes, self._edges, metadata=metadata)
        except ValueError as error:
            self.notes.append(
                f"nir.read needs type_check=False, which takes kernels as square and in one group "
                f"({' '.join(str(error).split())})"
            )
        return make(self._nodes, self._edges, metadata=metadata, type_check=False)

    def _add(self, name: str, node: Any, *sources: str) -> str:
        """Append a node; the name that it has, which may be no path."""
        safe = name.replace("/", "_").replace(".", "_")
        while safe in self._nodes:
            safe += "_"
        self._nodes[safe] = node
        self._edges += [(source, safe) for source in sources]
        return safe

    def _layer(self, layer: Layer) -> None:
        if isinstance(layer, SumPool):
            window = {"kernel_size": layer.kernel, "stride": layer.steps, "padding": (0, 0)}
            node = self._nir.SumPool2d(**{name: np.array(two) for name, two in window.items()})
            self._ends[layer.name] = self._add(layer.name, node, self._ends[layer.input])
            self._shapes[layer.name] = self._network.types[layer.name].shape
            return
        assert isinstance(layer, Conv | Dense)
        scale = self._scale(layer)
        end, shape = self._products(layer, scale)
        if layer.neuron is not None:
            sources = [end, *self._residual(layer, scale, shape)]
            node = self._neuron(layer, layer.neuron, scale, shape)
            end = self._add(f"{layer.name}_neuron", node, *sources)
        self._ends[layer.name], self._shapes[layer.name] = end, shape

    def _scale(self, layer: Conv | Dense) -> Reals:
        """Real value of one step of each channel: thresholds are 1, or above 1/2."""
        if layer.neuron is None:
            return np.full(len(layer.bias), self._network.scales.get(layer.name, 1.0))
        threshold = np.maximum(layer.neuron.threshold, 1)
        if layer.neuron.reset == "hard":
            return np.asarray(1 / (threshold - 0.5))
        # In powers of two sums are exact in float32, and so is what is left above a threshold.
        return np.asarray(2.0 ** -np.ceil(np.log2(threshold)))

    def _products(self, layer: Conv | Dense, scale: Reals) -> tuple[str, tuple[int, ...]]:
        """The node with a layer's weights, behind a Flatten if need be; its name and shape."""
        source, given = self._ends[layer.input], self._shapes[layer.input]
        by_kernel = scale.reshape(-1, *(1,) * (layer.weight.ndim - 1))
        weight, bias = _single(layer.weight * by_kernel), _single(layer.bias * scale)
        metadata: dict[str, Any] = {"weight_bits": layer.weight_bits}
        if layer.neuron is None:
            metadata["scale"] = float(scale[0])
        if isinstance(layer, Conv) and len(given) == 3:
            rows, columns = layer.padding[:2]
            node = self._nir.Conv2d(
                input_shape=given[1:],
                weight=weight,
                stride=layer.stride,
                padding=(rows, columns),
                dilation=layer.dilation,
                groups=layer.groups,
                bias=bias,
                metadata=metadata,
            )
            return self._add(layer.name, node, source), self._network.types[layer.name].shape
        if isinstance(layer, Conv):
            weight = _matrix(layer, weight)
        elif len(given) == 3:
            kind = {"input": np.array(given)}
            flat = self._nir.Flatten(kind, start_dim=0)
            source = self._add(f"{layer.name}_flatten", flat, source)
        node = self._nir.Affine(weight=weight, bias=bias, metadata=metadata)
        return self._add(layer.name, node, source), (len(bias),)

    def _residual(self, layer: Conv | Dense, scale: Reals, shape: tuple[int, ...]) -> Iterable[str]:
        if not isinstance(layer, Conv) or layer.skip is None:
            return
        if self._shapes[layer.skip] != shape:
            raise ExportError(
                f"layer {layer.name!r}: NIR has no node that makes {shape} of the residual's "
                f"{self._shapes[layer.skip]}"
            )
        charge = _spread(layer.skip_mult * scale, shape)
        yield self._add(
            f"{layer.name}_residual", self._nir.Scale(scale=charge), self._ends[layer.skip]
        )

    def _neuron(
        self, layer: Conv | Dense, neuron: Neuron, scale: Reals, shape: tuple[int, ...]
    ) -> Any:
        metadata = {
            "scale": scale,
            "reset": neuron.reset,
            "weight_bits": layer.weight_bits,
            "membrane_bits": neuron.bits,
        }
        fields = {
            "r": _spread(np.ones_like(scale), shape),
            "v_threshold": _spread(_thresholds(neuron, scale), shape),
            "v_reset": _spread(np.zeros_like(scale), shape),
        }
        if not neuron.leak:
            return self._nir.IF(**fields, metadata=metadata)
        ratio = 1 / (1 - 2.0**-neuron.leak)
        fields["r"] = _spread(np.full_like(scale, ratio), shape)
        fields["tau"] = _spread(np.full_like(scale, ratio * self._dt), shape)
        fields["v_leak"] = fields["v_reset"]
        return self._nir.LIF(**fields, metadata=metadata)

    def _say(self) -> None:
        """What the file does not say."""
        network = self._network
        layers = [layer for layer in network.layers if isinstance(layer, Conv | Dense)]
        soft = [
            layer.name for layer in layers if layer.neuron and layer.neuron.reset == "soft"
        ]  # fmt: skip
        if soft:
            names = ", ".join(map(repr, soft))
            self.notes.append(f"layers {names}: NIR has no soft reset; metadata reset says it")
        for layer in layers:
            if layer.neuron is None:
                self.notes.append(f"layer {layer.name!r}: results are to be summed over the steps")
                continue
            ends = charge_ends(layer, network.types[layer.input])
            if reach(layer.neuron, *ends, network.time_steps).rest >> layer.neuron.leak > (
                layer.neuron.limit
            ):
                self.notes.append(
                    f"layer {layer.name!r}: membranes may get beyond +-{layer.neuron.limit} and "
                    "stay there; those of NIR do not; metadata membrane_bits says it"
                )
            if layer.neuron.leak:
                self.notes.append(
                    f"layer {layer.name!r}: membranes are rounded towards 0 after each step, "
                    "those of NIR are not"
                )
        if network.coding == "direct":
            self.notes.append("input: the image, in integers, is to be given in every step")
        if network.exit is not None:
            self.notes.append("exit: NIR has none; the graph takes all steps")


def _vector(shape: tuple[int, int, int]) -> tuple[int, ...]:
    """A map of one pixel as a vector."""
    return shape[:1] if shape[1:] == (1, 1) else shape


def _single(values: Reals) -> Singles:
    return values.astype(np.float32)


def _spread(by_channel: Reals | Singles, shape: tuple[int, ...]) -> Singles:
    """A number of each channel as one of each neuron."""
    column = by_channel.reshape(-1, *(1,) * (len(shape) - 1))
    return np.broadcast_to(column, shape).astype(np.float32)


def _thresholds(neuron: Neuron, scale: Reals) -> Reals | Singles:
    """What a membrane is above if and only if the integers are at the threshold.

    A hard reset has half a step to either side. A soft one subtracts the threshold, so it is only a
    hair below.
    """
    if neuron.reset == "hard":
        return (neuron.threshold - 0.5) * scale
    return np.nextafter(_single(neuron.threshold * scale), np.float32(-math.inf))


def _matrix(layer: Conv, weight: Singles) -> Singles:
    """A convolution of a vector, a map of one pixel, as a matrix."""
    if layer.kernel != (1, 1) or any(layer.padding):
        raise ExportError(
            f"layer {layer.name!r}: kernel must be 1x1 on a vector, for which NIR has no "
            f"convolution, not {layer.kernel[0]}x{layer.kernel[1]}"
        )
    n_out, n_in = weight.shape[0] // layer.groups, weight.shape[1]
    matrix = np.zeros((weight.shape[0], n_in * layer.groups), np.float32)
    for k in range(layer.groups):
        rows = slice(k * n_out, (k + 1) * n_out)
        matrix[rows, k * n_in : (k + 1) * n_in] = weight[rows, :, 0, 0]
    return matrix
