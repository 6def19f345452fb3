"""A NIR graph as spiking layers in real units: constants are folded into weights and biases."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np

from firmware_tools.nir_import.graph import Graph, NirError, Node
from firmware_tools.nir_import.values import (
    Charge,
    Reals,
    Spikes,
    Value,
    as_map,
    by_channel,
    spread,
)
from model.mars.network import INPUT, Pair, SumPool
from model.mars.neuron import Reset


@dataclass(frozen=True)
class Neurons:
    """A layer with neurons, in the units of its graph, one step of time as the unit of time.

    With v the membrane and x the charge, bias included: v' = decay*v + gain*x, and it fires at
    v' > threshold. `gain` and constants are in the weights and the bias of the charge already.

    Parameters
    ----------
    charge : Charge
    node : Node
        The neurons' own.
    decay : float
        1 for IF, 1 - dt/tau for LIF, 0 for a threshold without memory.
    threshold : (Cout,) float64
    initial : (Cout,) float64
        Membranes before the first step, resets being to 0.
    is_soft : bool
        A spike subtracts the threshold.
    """

    charge: Charge
    node: Node
    decay: float
    threshold: Reals
    initial: Reals
    is_soft: bool


Stage = Neurons | SumPool | Charge
"""A layer to be; a charge is one of logits, the last one."""


class Lowering:
    """A graph on its way to layers.

    Parameters
    ----------
    graph : Graph
    dt : float or None
        Seconds of a step, for LIF.
    reset : "hard" or "soft"
        Of neurons of which the file does not say it.

    Members
    -------
    stages : {str: Stage}
        By the layers' names, each behind those that it reads.
    output : Spikes or Charge
        What the graph's Output reads.
    input_node, input : Node, Spikes
        The graph's Input and what it gives.
    """

    def __init__(self, graph: Graph, dt: float | None, reset: Reset = "hard") -> None:
        self.dt = dt
        self._reset = reset
        self.stages: dict[str, Stage] = {}
        self._values: dict[str, Value] = {}
        self.input_node = _only(graph, "Input")
        self.input = self._input(self.input_node)
        output = _only(graph, "Output")
        for node in graph.nodes:
            if node.kind != "Input":
                self._values[node.name] = HANDLERS[node.kind](self, node, self._read(node))
        self.output = self._values[output.name]
        if isinstance(self.output, Charge):
            name = self.output.node.name
            self.stages[name] = self.output
        self._drop_unused()

    def _input(self, node: Node) -> Spikes:
        if node.sources:
            raise NirError(f"{node}: must read nothing, not {node.sources[0]!r}")
        given = np.asarray(node.fields["input_type"]["input"]).ravel()
        if given.dtype.kind not in "iuf" or (given != np.rint(given)).any():
            raise NirError(f"{node}: shape must be integers, not {given.tolist()}")
        shape = tuple(int(size) for size in given)
        kind = as_map(node, shape)
        value = Spikes(INPUT, kind, shape, np.ones(kind))
        self._values[node.name] = value
        return value

    def _read(self, node: Node) -> Value:
        """What a node reads; a sum only if it is a product and a residual, before neurons."""
        if not node.sources:
            raise NirError(f"{node}: must read a node")
        values = [self._values[name] for name in node.sources]
        if len(values) == 1:
            return values[0]
        products = [value for value in values if isinstance(value, Charge)]
        others = [value for value in values if isinstance(value, Spikes)]
        if node.kind not in NEURONS or (len(products), len(others)) != (1, 1):
            names = ", ".join(repr(name) for name in node.sources)
            raise NirError(
                f"{node}: must read one node, or, as neurons, one product and the spikes of a "
                f"residual, not the sum of {names}"
            )
        return _with_residual(node, products[0], others[0])

    def _drop_unused(self) -> None:
        """Leave the layers on which the output depends."""
        last = self.output.node.name if isinstance(self.output, Charge) else self.output.layer
        needed = {last}
        for name, stage in reversed(self.stages.items()):
            if name in needed:
                needed.update(_sources(stage))
        self.stages = {name: stage for name, stage in self.stages.items() if name in needed}
        if last not in self.stages:
            raise NirError("the graph must have a layer between Input and Output")

    def is_soft(self, node: Node) -> bool:
        """Whether a spike of these neurons subtracts the threshold."""
        reset = node.metadata.get("reset", self._reset)
        if reset not in get_args(Reset):
            raise NirError(f"{node}: reset of its metadata must be 'hard' or 'soft', not {reset!r}")
        return bool(reset == "soft")

    def add(self, name: str, stage: Stage) -> None:
        """Append a layer."""
        self.stages[name] = stage


def _only(graph: Graph, kind: str) -> Node:
    found = [node for node in graph.nodes if node.kind == kind]
    if len(found) != 1:
        names = ", ".join(repr(node.name) for node in found)
        raise NirError(f"the graph must have one {kind}, not {len(found)}: {names or 'none'}")
    return found[0]


def _sources(stage: Stage) -> list[str]:
    if isinstance(stage, SumPool):
        return [stage.input]
    charge = stage.charge if isinstance(stage, Neurons) else stage
    skip = [] if charge.skip is None else [charge.skip.layer]
    return [charge.source.layer, *skip]


def _with_residual(node: Node, product: Charge, skip: Spikes) -> Charge:
    if skip.shape != product.shape or skip.kind != product.kind:
        raise NirError(
            f"{node}: a residual must have the shape of what it is added to, {product.shape}, "
            f"not {skip.shape}"
        )
    if skip.is_count or (skip.gain < 0).any():
        raise NirError(f"{node}: a residual must be spikes times numbers of at least 0")
    if product.is_dense and product.source.kind[1:] != (1, 1):
        raise NirError(f"{node}: a residual must not be added to an Affine of more than one pixel")
    return replace(product.as_conv() if product.is_dense else product, skip=skip)


# Nodes


def _output(_: Lowering, node: Node, value: Value) -> Value:
    if isinstance(value, Spikes) and (value.gain != 1).any():
        raise NirError(f"{node}: must read spikes or products, not spikes times a scale")
    return value


def _scale(_: Lowering, node: Node, value: Value) -> Value:
    scale = spread(node, "scale", value)
    if isinstance(value, Spikes):
        return replace(value, gain=value.gain * scale)
    return value.scaled(by_channel(node, "scale", scale))


def _flatten(_: Lowering, node: Node, value: Value) -> Value:
    n = len(value.shape)
    begin, end = node.numbers("start_dim", 1)[0], node.numbers("end_dim", 1)[0]
    given = (node.fields.get("input_type") or {}).get("input")
    if given is not None and np.size(given) == n + 1:  # the file counts the batch
        begin, end = (axis - (axis > 0) for axis in (begin, end))
    end = end + n if end < 0 else end
    if not 0 <= begin <= end < n:
        raise NirError(
            f"{node}: start_dim and end_dim must be axes of {value.shape} in order, "
            f"not {begin} and {node.fields['end_dim']}"
        )
    middle = math.prod(value.shape[begin : end + 1])
    return replace(value, shape=(*value.shape[:begin], middle, *value.shape[end + 1 :]))


def _affine(_: Lowering, node: Node, value: Value) -> Value:
    weight = node.array("weight", 2)
    bias = np.zeros(len(weight)) if node.kind == "Linear" else node.array("bias").ravel()
    if bias.shape != weight.shape[:1]:
        raise NirError(
            f"{node}: bias must have the shape {weight.shape[:1]}, not {node.array('bias').shape}"
        )
    if value.shape != weight.shape[1:]:
        raise NirError(
            f"{node}: must read a vector of {weight.shape[1]}, not {value.shape} (Flatten before)"
        )
    shape = (len(weight),)
    kind = as_map(node, shape)
    if isinstance(value, Spikes):
        return Charge(node, value, weight * value.gain.reshape(-1), bias, kind, shape)
    if not value.is_dense:
        raise NirError(f"{node}: neurons must stand between {value.node} and it")
    return replace(
        value, node=node, weight=weight @ value.weight, bias=bias + weight @ value.bias,
        kind=kind, shape=shape,
    )  # fmt: skip


def _conv(_: Lowering, node: Node, value: Value) -> Value:
    n_axes = 2 if node.kind == "Conv2d" else 1
    if not isinstance(value, Spikes):
        raise NirError(f"{node}: neurons must stand between {value.node} and it")
    if len(value.shape) != n_axes + 1:
        raise NirError(f"{node}: must read a map of {n_axes + 1} axes, not {value.shape}")
    weight = node.array("weight", n_axes + 2)
    groups = node.numbers("groups", 1)[0]
    n_in = value.shape[0]
    if groups < 1 or n_in % groups or len(weight) % groups or weight.shape[1] * groups != n_in:
        raise NirError(
            f"{node}: weight {weight.shape} in {groups} groups must be for the {n_in} channels "
            "that it reads"
        )
    bias = node.array("bias").ravel() if np.size(node.fields["bias"]) else np.zeros(len(weight))
    if bias.shape != weight.shape[:1]:
        raise NirError(f"{node}: bias must have the shape {weight.shape[:1]}, not {bias.shape}")
    kernel, stride, dilation = weight.shape[2:], *(
        node.numbers(name, n_axes) for name in ("stride", "dilation")
    )  # fmt: skip
    if min(*kernel, *stride, *dilation) < 1:
        raise NirError(f"{node}: kernel, stride and dilation must be at least 1")
    padding = _padding(node, kernel, stride, dilation)
    sizes = [
        (value.shape[1 + k] + sum(padding[k]) - (kernel[k] - 1) * dilation[k] - 1) // stride[k] + 1
        for k in range(n_axes)
    ]
    shape = (len(weight), *sizes)
    if min(sizes) < 1:
        raise NirError(f"{node}: the kernel {kernel} must fit in the map {value.shape}")
    (top, bottom), (left, right) = ((0, 0), *padding)[-2:]
    gain = value.channel_gain(node).reshape(groups, -1)
    by_kernel = np.repeat(gain, len(weight) // groups, axis=0)
    return Charge(
        node,
        value,
        (weight * by_kernel.reshape(*weight.shape[:2], *(1,) * n_axes)).reshape(
            *weight.shape[:2], *_pair(kernel)
        ),
        bias,
        as_map(node, shape),
        shape,
        _pair(stride),
        (top, left, bottom, right),
        _pair(dilation),
        groups,
    )


def _pair(numbers: tuple[int, ...]) -> Pair:
    """Rows and columns; of a sequence it has one row."""
    return (numbers[0], numbers[1]) if len(numbers) == 2 else (1, numbers[0])


def _padding(
    node: Node, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> list[Pair]:
    """Before and behind each axis."""
    given = node.fields["padding"]
    given = given if isinstance(given, str) else ""
    if given == "valid":
        return [(0, 0) for _ in kernel]
    if given == "same":
        if max(stride) > 1:
            raise NirError(f"{node}: stride must be 1 with padding 'same', not {stride}")
        sums = [(size - 1) * step for size, step in zip(kernel, dilation, strict=True)]
        return [(total // 2, total - total // 2) for total in sums]
    sides = node.numbers("padding", len(kernel))
    if min(sides) < 0:
        raise NirError(f"{node}: padding must be at least 0, not {sides}")
    return [(side, side) for side in sides]


def _pool(lowering: Lowering, node: Node, value: Value) -> Value:
    kernel, stride, padding = (
        _pair(node.numbers(name, 2)) for name in ("kernel_size", "stride", "padding")
    )
    if len(value.shape) != 3:
        raise NirError(f"{node}: must read a map (C, H, W), not {value.shape}")
    if any(padding):
        raise NirError(f"{node}: padding must be 0, not {padding}")
    channels, rows, columns = value.kind
    if min(*kernel, *stride) < 1 or kernel[0] > rows or kernel[1] > columns:
        raise NirError(
            f"{node}: kernel and stride must be at least 1 and fit in {rows}x{columns}, "
            f"not {kernel} and {stride}"
        )
    sizes = [(value.kind[1 + k] - kernel[k]) // stride[k] + 1 for k in range(2)]
    shape = (channels, sizes[0], sizes[1])
    share = 1 / math.prod(kernel) if node.kind == "AvgPool2d" else 1.0
    if isinstance(value, Charge):
        pooled = _pooled_conv(value, kernel, stride)
        return replace(pooled.scaled(np.full(channels, share)), kind=shape, shape=shape)
    if value.is_count:
        raise NirError(f"{node}: must read spikes, not the counts of {value.layer!r}")
    gain = np.broadcast_to((value.channel_gain(node) * share)[:, np.newaxis, np.newaxis], shape)
    if kernel == stride == (1, 1):
        return replace(value, gain=gain)
    pool = SumPool(name=node.name, input=value.layer, kernel=kernel, stride=stride)
    lowering.add(node.name, pool)
    return Spikes(node.name, shape, shape, gain, is_count=True)


def _pooled_conv(charge: Charge, kernel: Pair, stride: Pair) -> Charge:
    """A convolution whose results are summed up in windows: one with a larger kernel."""
    size = [
        (charge.weight.shape[2 + k] - 1) * charge.dilation[k] + 1 for k in range(2)
    ]  # of a kernel, with what dilation leaves out
    steps = charge.stride
    whole = [size[k] + (kernel[k] - 1) * steps[k] for k in range(2)]
    weight = np.zeros((*charge.weight.shape[:2], *whole))
    for row, column in np.ndindex(*kernel):
        top, left = row * steps[0], column * steps[1]
        taps = weight[:, :, top : top + size[0], left : left + size[1]]
        taps[:, :, :: charge.dilation[0], :: charge.dilation[1]] += charge.weight
    return replace(
        charge,
        weight=weight,
        bias=charge.bias * math.prod(kernel),
        stride=(steps[0] * stride[0], steps[1] * stride[1]),
        dilation=(1, 1),
    )


def _neurons(lowering: Lowering, node: Node, value: Value) -> Value:
    charge = value if isinstance(value, Charge) else _identity(node, value)

    def number(field: str) -> Reals:
        return by_channel(node, field, spread(node, field, charge))

    initial = np.zeros(len(charge.bias))
    if node.kind == "Threshold":
        decay, threshold, soft = 0.0, number("threshold"), False
    else:
        soft = lowering.is_soft(node)
        threshold, shift = number("v_threshold"), number("v_reset")
        if soft and shift.any():
            raise NirError(
                f"{node}: v_reset must be 0 with a soft reset, which subtracts the threshold, "
                f"not {shift[shift != 0][0]:g}"
            )
        # What is computed is v - v_reset, so that a reset is to 0.
        decay, threshold, initial = 1.0, threshold - shift, -shift
        charge = charge.scaled(number("r"))
        if node.kind == "LIF":
            part = _euler(lowering, node)
            decay = 1 - part
            charge = replace(charge, bias=charge.bias + number("v_leak") - shift)
            charge = charge.scaled(np.full(len(charge.bias), part))
    name = charge.node.name if charge.node.name not in lowering.stages else node.name
    lowering.add(name, Neurons(charge, node, decay, threshold, initial, soft))
    return Spikes(name, charge.kind, charge.shape, np.ones(charge.kind))


def _euler(lowering: Lowering, node: Node) -> float:
    """dt / tau, the same for all neurons of the node."""
    tau = node.array("tau").ravel()
    if tau.size == 0 or (tau != tau[0]).any() or tau[0] <= 0:
        raise NirError(
            f"{node}: tau must be one positive number, not {tau.min():g} to {tau.max():g}: "
            "all neurons of a layer have one leak"
        )
    if lowering.dt is None:
        raise NirError(
            f"{node}: dt must be given (--dt), the seconds of a step: with tau {tau[0]:g} a leak "
            f"of a half is dt {tau[0] / 2:g}, of three quarters {tau[0] * 3 / 4:g}"
        )
    if lowering.dt > tau[0] * (1 + 1e-6):
        raise NirError(f"{node}: dt must be at most tau, {tau[0]:g}, not {lowering.dt:g}")
    return float(lowering.dt / tau[0])


def _identity(node: Node, value: Spikes) -> Charge:
    """Neurons that read spikes as they are."""
    channels = value.kind[0]
    weight = value.channel_gain(node).reshape(channels, 1, 1, 1)
    return Charge(
        node, value, weight, np.zeros(channels), value.kind, value.shape, groups=channels
    )  # fmt: skip


Handler = Callable[[Lowering, Node, Value], Value]
NEURONS = ("IF", "LIF", "Threshold")
HANDLERS: Mapping[str, Handler] = {
    "Output": _output,
    "Scale": _scale,
    "Flatten": _flatten,
    "Affine": _affine,
    "Linear": _affine,
    "Conv1d": _conv,
    "Conv2d": _conv,
    "SumPool2d": _pool,
    "AvgPool2d": _pool,
    **dict.fromkeys(NEURONS, _neurons),
}
