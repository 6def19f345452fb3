"""`spike` and `export_spiking`: from a user's module to a spiking network of the accelerator."""

import copy
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from firmware_tools.quantize import quantizers
from firmware_tools.quantize.errors import QuantizationError
from firmware_tools.quantize.layers import Feature, Layer, MaxPool, Product
from firmware_tools.quantize.quantizers import LSQ, Spikes, StraightThrough
from firmware_tools.quantize.spiking_layers import Firing, NeuronKind, OneSpike, SumPool
from firmware_tools.quantize.tracing import Step, graph_of, rectifiers, trace
from firmware_tools.quantize.twin import Twin
from model.mars import network as mars
from model.mars.network import INPUT, Coding, FeatureType, QuantizedNetwork
from model.mars.neuron import LEAK_MAX, MEMBRANE_BITS, TIME_STEPS_MAX, Exit, Metric, Neuron, Reset

LARGEST_COUNT = (1 << mars.MAX_BITS) - 1
"""Of the spikes of a window, if it is the whole map."""
Share = Literal["layer", "channel", "both"]
GROUPS = 2
"""Groups of channels that share a membrane, if channels do."""


@dataclass
class _Moment:
    """What lasts from step to step of a forward.

    Parameters
    ----------
    weights : {str: Tensor}
        Discrete ones, by layer.
    charges : {str: Tensor}
        Of the layers whose source does not change in time.
    membranes : {str: Tensor}
        By the name of the memory.
    """

    weights: dict[str, Tensor] = field(default_factory=dict)
    charges: dict[str, Tensor] = field(default_factory=dict)
    membranes: dict[str, Tensor] = field(default_factory=dict)


class SpikingTwin(Twin):
    """The spiking twin of a network: neurons where it has ReLU, trained like any other module.

    Called with images (N, C, H, W) it returns (time_steps, N, classes): the mean of the logits of
    the steps so far, step by step. In each step it goes through all layers; what is computed from
    an image alone is computed once.

    Parameters
    ----------
    inputs, layers
        As of `Twin`.
    time_steps : int
    coding : "direct" or "spikes"
        Images, the same in all steps, or spikes (N, time_steps, C, H, W).
    """

    def __init__(
        self,
        inputs: quantizers.Quantizer,
        layers: list[Layer],
        time_steps: int,
        coding: Coding = "direct",
    ) -> None:
        super().__init__(inputs, layers, flat=True)
        self.time_steps = time_steps
        self.coding = coding

    def forward(self, images: Tensor) -> Tensor:
        """Mean logits after each step, (time_steps, N, classes), real numbers."""
        logits = self.features(images)[self.steps()[-1].name].real
        n_steps = torch.arange(1, self.time_steps + 1, dtype=logits.dtype)
        return logits.flatten(2).transpose(0, 1) / n_steps[:, None, None]

    def features(self, images: Tensor) -> dict[str, Feature]:
        """As of `Twin`; (N, time_steps, C, H, W) after the input, and logits summed so far."""
        self._take(images)
        source = self._input(images)
        moment = _Moment()
        by_step = [self._step({INPUT: now}, moment) for now in self._by_step(source)]
        features = {INPUT: source}
        for layer in self.steps():
            maps = torch.stack([of_step[layer.name].ints for of_step in by_step], dim=1)
            if layer is self.steps()[-1]:
                maps = maps.cumsum(1)
            features[layer.name] = Feature(maps, by_step[0][layer.name].scale)
        return features

    def _by_step(self, source: Feature) -> list[Feature]:
        if self.coding == "direct":
            return [source] * self.time_steps
        return [Feature(ints, source.scale) for ints in source.ints.unbind(1)]

    def _check_shape(self, images: Tensor) -> None:
        if self.coding == "direct":
            super()._check_shape(images)
        elif images.dim() != 5 or not len(images) or images.shape[1] != self.time_steps:
            raise QuantizationError(
                f"images must be spikes (N, {self.time_steps}, C, H, W), not {tuple(images.shape)}"
            )

    def likeness(self, name: str, feature: Feature) -> Tensor:
        """The mean of the time steps."""
        if name == INPUT:
            return feature.real
        if name == self.steps()[-1].name:
            return feature.real[:, -1] / self.time_steps
        return feature.real.mean(1)

    def firing(self) -> list[Firing]:
        """The layers with neurons."""
        return [layer for layer in self.steps() if isinstance(layer, Firing)]

    def smooth(self, on: bool = True) -> None:
        """There is no other network than that of spikes."""
        if on:
            raise QuantizationError("a spiking twin must not be smooth: prune the float network")

    def _step(self, features: dict[str, Feature], moment: _Moment) -> dict[str, Feature]:
        """All layers in one step."""
        for layer in self.steps():
            if not isinstance(layer, Firing):
                features[layer.name] = layer(features)
                continue
            scale = features[layer.source].scale
            charge = moment.charges.get(layer.name)
            if charge is None:
                if layer.name not in moment.weights:
                    moment.weights[layer.name] = layer.discrete(features)
                charge = layer.charge(features, moment.weights[layer.name])
                if layer.source == INPUT and self.coding == "direct":
                    moment.charges[layer.name] = charge
            memory = layer.memory(charge.shape[1:])
            spikes, left = layer.fire(charge, moment.membranes.get(memory), scale)
            features[layer.name] = spikes
            moment.membranes[memory] = left
        return features


def one_step(model: nn.Module) -> fx.GraphModule:
    """A copy of a network in which each ReLU is a neuron without a past: a spike, or none.

    It is trained like the float network, normalisation included, and costs hardly more; what
    `spike` makes of it is a spiking network from the start. Parameters keep their names.

    Raises
    ------
    UnsupportedError
        The module cannot be traced.
    """
    graph = graph_of(copy.deepcopy(model))
    for node in rectifiers(graph):
        name = f"{node.name}_spikes"
        graph.add_submodule(name, OneSpike())
        with graph.graph.inserting_after(node):
            source = node.args[0] if node.args else node.kwargs["input"]
            node.replace_all_uses_with(graph.graph.call_module(name, (source,)))
        graph.graph.erase_node(node)
    graph.recompile()
    return graph


def step_loss(logits: Tensor, labels: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Cross entropy of the mean logits after every step, so that early ones are good.

    Parameters
    ----------
    logits : (time_steps, N, classes) float
        What a `SpikingTwin` returns.
    labels : (N,) int
    label_smoothing : float
    """
    n_steps = len(logits)
    return functional.cross_entropy(
        logits.flatten(0, 1), labels.repeat(n_steps), label_smoothing=label_smoothing
    )


def spike(
    model: nn.Module,
    time_steps: int = 4,
    weight_bits: int = 4,
    membrane_bits: int = 4,
    *,
    input_bits: int = 4,
    coding: Coding = "direct",
    share: Share | None = None,
    reset: Reset = "soft",
    leak: int = 0,
) -> SpikingTwin:
    """The spiking twin of a trained float network, which is left as it is.

    Parameters
    ----------
    model : nn.Module
        As of `quantize`, or what `one_step` made of it and training of that; AvgPool2d, too. Each
        convolution or Linear but the last has a ReLU, in whose place neurons are; the last one is
        a Linear. Of two maps that are added, the other one is behind a ReLU, too.
    time_steps : int
        1..64.
    weight_bits, membrane_bits, input_bits : int
        2..8, 2..16, 2..8.
    coding : "direct" or "spikes"
        Images, the same in every step, or spikes (N, time_steps, C, H, W) of 0 and 1.
    share : "layer", "channel", "both" or None
        Who uses one membrane memory: layers whose membranes have the same shape; two groups of
        channels of each layer.
    reset, leak
        As of `model.mars.neuron.Neuron`.

    Raises
    ------
    QuantizationError
        A number is out of range, a weight is not finite, or the module has an unsupported part.
    """
    quantizers.check_bits("weight_bits", weight_bits)
    quantizers.check_bits("input_bits", input_bits)
    for what, number, (low, high) in (
        ("time_steps", time_steps, (1, TIME_STEPS_MAX)),
        ("membrane_bits", membrane_bits, MEMBRANE_BITS),
        ("leak", leak, (0, LEAK_MAX)),
    ):
        _check_integer(what, number, low, high)
    for what, choice, choices in (
        ("share", share, (*get_args(Share), None)),
        ("reset", reset, get_args(Reset)),
        ("coding", coding, get_args(Coding)),
    ):
        if choice not in choices:
            raise QuantizationError(f"{what} must be one of {choices}, not {choice!r}")
    steps, _ = trace(copy.deepcopy(model), spiking=True)
    kind = NeuronKind(
        membrane_bits,
        reset,
        leak,
        groups=GROUPS if share in {"channel", "both"} else 1,
        is_shared=share in {"layer", "both"},
    )
    inputs = StraightThrough(input_bits, signed=False) if coding == "direct" else Spikes()
    largest = {INPUT: inputs.q_max}
    layers = [_layer(step, steps, weight_bits, kind, largest) for step in steps]
    return SpikingTwin(inputs, layers, time_steps, coding)


def _check_integer(what: str, number: object, low: int, high: int) -> None:
    if not isinstance(number, int) or isinstance(number, bool) or not low <= number <= high:
        raise QuantizationError(f"{what} must be {low}..{high}, not {number!r}")


def _layer(
    step: Step, steps: list[Step], weight_bits: int, kind: NeuronKind, largest: dict[str, int]
) -> Layer:
    """The layer of a step; `largest` gets the largest of its results."""
    _check_step(step, is_last=step is steps[-1])
    source = largest[step.source]
    if step.op == "maxpool2":
        largest[step.name] = source
        return MaxPool(step)
    if step.op == "sumpool":
        largest[step.name] = source * (step.kernel**2 if step.kernel else LARGEST_COUNT)
        return SumPool(step)
    largest[step.name] = 1
    weights = LSQ(weight_bits, signed=True, is_weight=True)
    if step is steps[-1]:
        return Product(step, weights, None, source)
    channels = len(step.product.weight) if step.product is not None else 0
    if channels % kind.groups:
        raise QuantizationError(
            f"layer {step.name!r}: channels must be a multiple of {kind.groups} to share "
            f"membranes, not {channels}"
        )
    return Firing(step, weights, source, kind)


def _check_step(step: Step, *, is_last: bool) -> None:
    """Refuse what has no spiking counterpart."""
    is_pool = step.module is None
    if step.source == INPUT and (is_pool or is_last):
        raise QuantizationError(
            f"layer {step.name!r}: must read spikes: the first layer is a convolution or Linear "
            "with ReLU"
        )
    if step.skip == INPUT:
        raise QuantizationError(f"layer {step.name!r}: must add spikes, not the images")
    if is_last and (step.op != "dense" or step.relu):
        raise QuantizationError(
            f"layer {step.name!r}: the last layer must be Linear without ReLU: its results are "
            "the logits, summed over the time steps"
        )
    if not is_last and not is_pool and not step.relu:
        raise QuantizationError(
            f"layer {step.name!r}: must have a ReLU, in whose place neurons fire"
        )


def check_stop(stop: tuple[Metric, float]) -> None:
    """Refuse a threshold of an exit that is not between 0 and 1."""
    metric, threshold = stop
    if metric not in get_args(Metric):
        raise QuantizationError(f"exit must be one of {get_args(Metric)}, not {metric!r}")
    if not 0 < threshold < 1:
        raise QuantizationError(
            f"exit: threshold must be between 0 and 1, both excluded, not {threshold!r}"
        )


def export_spiking(
    twin: SpikingTwin,
    name: str = "network",
    *,
    stop: tuple[Metric, float] | None = None,
) -> QuantizedNetwork:
    """The network as the accelerator takes it.

    Parameters
    ----------
    twin : SpikingTwin
    name : str
    stop : (str, float) or None
        When no more steps are taken: metric, "confidence" or "entropy", and threshold, between 0
        and 1. It is that of the mean of the logits, as in training.

    Raises
    ------
    CalibrationError
        The twin has seen no data.
    QuantizationError
        A weight is not finite, or the network is not one that the accelerator can hold.
    """
    twin.check_calibrated()
    for product in twin.products():
        product.check_finite()
    channels, rows, columns = (int(size) for size in twin.input_shape)
    kind = FeatureType((channels, rows, columns), twin.inputs.bits, signed=False)
    try:
        return _exported(twin, kind, name, stop)
    except mars.NetworkError as error:
        raise QuantizationError(str(error)) from None


def _exported(
    twin: SpikingTwin, kind: FeatureType, name: str, stop: tuple[Metric, float] | None
) -> QuantizedNetwork:
    scales = {INPUT: float(twin.inputs.step)}
    steps = twin.time_steps if twin.coding == "spikes" else 0
    types = {INPUT: replace(kind, time_steps=steps)}
    layers: list[mars.Layer] = []
    for layer in twin.steps():
        exported = _export_layer(layer, scales, types)
        layers.append(exported)
        types[layer.name] = mars.output_type(exported, types, twin.time_steps)
        scales[layer.name] = _scale(layer, scales, types)
    return QuantizedNetwork(
        kind,
        _without_lone_names(layers),
        name,
        scales,
        time_steps=twin.time_steps,
        coding=twin.coding,
        exit=None
        if stop is None
        else Exit(metric=stop[0], mode="mean", threshold=stop[1], scale=scales[layers[-1].name]),
    )


def _scale(layer: Layer, scales: dict[str, float], types: dict[str, FeatureType]) -> float:
    """Real value of one step of a layer's results."""
    source = scales[layer.source]
    match layer:
        case Firing():
            return float(layer.size)
        case Product():
            return float(layer.units(source)[0])
        case SumPool():
            rows, columns = layer.kernel(*types[layer.source].shape[1:])
            return source / (rows * columns)
    return source


def _export_layer(
    layer: Layer, scales: dict[str, float], types: dict[str, FeatureType]
) -> mars.Layer:
    names: dict[str, Any] = {"name": layer.name, "input": layer.source}
    if isinstance(layer, SumPool):
        kernel = layer.kernel(*types[layer.source].shape[1:])
        return mars.SumPool(**names, kernel=kernel)
    if not isinstance(layer, Product):
        return mars.MaxPool(**names)
    scale = scales[layer.source]
    fields = {
        **names,
        "weight": layer.weight_ints(),
        "bias": layer.bias_ints(scale),
        "weight_bits": layer.weights.bits,
        "out_bits": mars.RAW_BITS,
        "out_signed": True,
    }
    if isinstance(layer, Firing):
        shape = layer.result_shape(types[layer.source].shape)
        fields |= {"out_bits": 1, "out_signed": False, "neuron": _neuron(layer, scale, shape)}
        if layer.skip is not None:
            fields |= {"skip": layer.skip, "skip_mult": layer.skip_int(scale, scales[layer.skip])}
    if not layer.is_conv:
        return mars.Dense(**fields)
    return mars.Conv(**fields, stride=(layer.stride,) * 2, padding=(layer.padding,) * 4)


def _neuron(layer: Firing, scale: float, shape: tuple[int, int, int]) -> Neuron:
    kind = layer.kind
    return Neuron(
        bits=kind.bits,
        threshold=layer.threshold_ints(scale),
        reset=kind.reset,
        leak=kind.leak,
        membrane=layer.memory(shape) if kind.is_shared else None,
        groups=kind.groups,
    )


def _without_lone_names(layers: list[mars.Layer]) -> tuple[mars.Layer, ...]:
    """Layers with names only of membranes that several of them share."""
    neurons = {layer.name: mars.neuron_of(layer) for layer in layers}
    users = Counter(neuron.membrane for neuron in neurons.values() if neuron is not None)
    return tuple(
        replace(layer, neuron=replace(layer.neuron, membrane=None))
        if isinstance(layer, mars.Conv | mars.Dense)
        and layer.neuron is not None
        and users[layer.neuron.membrane] == 1
        else layer
        for layer in layers
    )
