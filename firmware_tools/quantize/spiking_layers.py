"""Layers that compute, while they are trained, the spikes that the accelerator computes.

The forward of every time step is the integer arithmetic of `model.mars.spiking`, in training too.
Weights, bias, threshold and membrane of a layer share one scale (MINT, arXiv 2305.09850): with
``unit = s_w * s_x``, s_x the real value of a spike of the source,

    charge    = sum(n_w * spike) + rint(bias / unit) (+ rint(s_skip / unit) if the skip spikes)
    threshold = ceil(theta / unit)                   H * unit >= theta in real numbers
    membrane  = clamp(R / 2^leak, towards 0)         an integer, in units

Gradients take the way of the real numbers: that of a spike is the derivative of the arc tangent
``1 / (1 + (pi * x)^2)``, x = (H - theta) / size, size the real value of a spike of the layer
itself; roundings are passed straight through; what is clamped has none.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch import nn
from torch.nn import functional

from firmware_tools.quantize.errors import CalibrationError
from firmware_tools.quantize.layers import Feature, Ints, Layer, Product, replaced
from firmware_tools.quantize.quantizers import Quantizer
from firmware_tools.quantize.tracing import Step
from model.mars.network import SPIKE_SKIP_MULT_MAX
from model.mars.neuron import CHARGE_MAX, Reset

LLOYD_ROUNDS = 20


@dataclass(frozen=True)
class NeuronKind:
    """What all neurons of a network have in common; as in `model.mars.neuron.Neuron`."""

    bits: int
    reset: Reset
    leak: int
    groups: int
    is_shared: bool
    """Whether layers share a memory if their membranes have the same shape."""

    @property
    def limit(self) -> int:
        """The largest membrane."""
        return (1 << (self.bits - 1)) - 1


@dataclass(frozen=True)
class Charge:
    """What a step adds to membranes, (N, C, H, W).

    Parameters
    ----------
    real : float
        With a gradient.
    ints : float
        Integers, without.
    """

    real: Tensor
    ints: Tensor


class _Fire(torch.autograd.Function):
    """Spikes forward, the slope of an arc tangent backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, fires: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return fires.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return gradient / (1 + (math.pi * x) ** 2), None


class SumPool(Layer):
    """The spikes of every window, or of the whole map; their size is so that they are averages."""

    def __init__(self, step: Step) -> None:
        super().__init__(step)
        self.activation = None
        self.side = step.kernel
        """Of a window; 0 is the whole map."""

    def kernel(self, rows: int, columns: int) -> tuple[int, int]:
        """Rows and columns of a window in a map."""
        return (self.side, self.side) if self.side else (rows, columns)

    def forward(self, features: Mapping[str, Feature]) -> Feature:
        source = features[self.source]
        kernel = self.kernel(*source.ints.shape[2:])
        pixels = kernel[0] * kernel[1]
        counts = functional.avg_pool2d(source.ints, kernel, divisor_override=1)
        return Feature(counts, source.scale / pixels)


class Firing(Product):
    """A convolution or a dense layer whose sums charge neurons.

    Parameters
    ----------
    step : Step
    weights : Quantizer
        With one scale.
    largest : int
        Largest absolute value of the source's type.
    kind : NeuronKind

    Members
    -------
    threshold : (Cout,) Parameter
        In real numbers.
    size : () float
        Real value of a spike; 0 until data has come.
    """

    size: Tensor

    def __init__(self, step: Step, weights: Quantizer, largest: int, kind: NeuronKind) -> None:
        super().__init__(step, weights, None, largest)
        self.kind = kind
        self.threshold = nn.Parameter(torch.zeros(len(self.weight)))
        self.register_buffer("size", torch.zeros(()))

    def check_calibrated(self) -> None:
        super().check_calibrated()
        if not self.size:
            raise CalibrationError(
                f"layer {self.name!r} must be calibrated first: call calibrate(twin, images), "
                "or train it"
            )

    def unit(self, source_scale: float) -> float:
        """Real value of a charge or a membrane of 1."""
        return float(self.units(source_scale)[0])

    def threshold_ints(self, source_scale: float) -> Ints:
        """The least charged membranes that fire, (Cout,)."""
        real = self.threshold.detach().double().numpy()
        ints = np.ceil(real / self.unit(source_scale))
        return cast("Ints", np.clip(ints, -CHARGE_MAX, CHARGE_MAX).astype(np.int64))

    def skip_int(self, source_scale: float, skip_scale: float) -> int:
        """What a spike of the residual adds."""
        return min(round(skip_scale / self.unit(source_scale)), SPIKE_SKIP_MULT_MAX)

    def memory(self, shape: tuple[int, ...]) -> str:
        """The memory of its membranes, by name, for results of the shape (C, H, W)."""
        if not self.kind.is_shared:
            return self.name
        channels, rows, columns = shape
        return f"{channels // self.kind.groups}x{rows}x{columns}"

    def result_shape(self, source: tuple[int, ...]) -> tuple[int, int, int]:
        """Channels, rows and columns of the results, for a source (C, H, W)."""
        with torch.no_grad():
            channels, rows, columns = self._linear(
                torch.zeros(1, *source), self.weight.detach()
            ).shape[1:]
        return channels, rows, columns

    def discrete(self) -> Tensor:
        """The weights as integers with a gradient."""
        self._meet_weights(self.kept)
        return cast("Tensor", self.weights(self.kept))

    def charge(self, features: Mapping[str, Feature], weight: Tensor) -> Charge:
        """What a step adds, from its features and `discrete` weights."""
        source = features[self.source]
        self._note_shape(source)
        acc = self._products(source.ints, weight)
        unit = self.unit(source.scale)
        bias = torch.from_numpy(self.bias_ints(source.scale)).to(acc.dtype)
        real = acc.to(weight.dtype) * unit + self.bias[:, None, None]
        ints = acc.detach() + bias[:, None, None]
        if self.skip is not None:
            skip = features[self.skip]
            real = real + skip.real.to(real.dtype)
            ints = ints + skip.ints.detach() * self.skip_int(source.scale, skip.scale)
        return Charge(real, ints)

    def fire(
        self, charge: Charge, membrane: Tensor | None, source_scale: float
    ) -> tuple[Feature, Tensor]:
        """Spikes, and the membranes that are left, (N, C/groups, H, W) integers; None is 0."""
        self._meet_charge(charge)
        n_own = charge.real.shape[1] // self.kind.groups
        thresholds = torch.from_numpy(self.threshold_ints(source_scale)).to(charge.ints.dtype)
        spikes = []
        for k in range(self.kind.groups):
            own = slice(k * n_own, (k + 1) * n_own)
            fired, membrane = self._fire(
                Charge(charge.real[:, own], charge.ints[:, own]),
                membrane,
                (self.threshold[own, None, None], thresholds[own, None, None]),
                self.unit(source_scale),
            )
            spikes.append(fired)
        assert membrane is not None
        return Feature(torch.cat(spikes, dim=1), float(self.size)), membrane

    def _fire(
        self,
        charge: Charge,
        membrane: Tensor | None,
        thresholds: tuple[Tensor, Tensor],
        unit: float,
    ) -> tuple[Tensor, Tensor]:
        real, ints = charge.real, charge.ints
        if membrane is not None:
            real = real + membrane * unit
            ints = ints + membrane.detach()
        theta, threshold = thresholds
        fires = ints >= threshold
        apply: Any = _Fire.apply
        spikes = apply((real - theta) / self.size, fires)
        if self.kind.reset == "hard":
            real = real * (1 - spikes)
            ints = ints * ~fires
        else:
            real = real - spikes * theta
            ints = ints - fires * threshold
        share, limit = 0.5**self.kind.leak, self.kind.limit
        exact = torch.trunc(ints * share).clamp(-limit, limit)
        return spikes, replaced((real * (share / unit)).clamp(-limit, limit), exact)

    def _meet_charge(self, charge: Charge) -> None:
        """The first charges that are met say where spikes of one size are the best likeness."""
        if self.size:
            return
        if not self.training:
            self.check_calibrated()
        with torch.no_grad():
            size = one_bit_size(charge.real)
            self.size.copy_(size)
            self.threshold.fill_(float(size) / 2)


def one_bit_size(values: Tensor) -> Tensor:
    """The size for which {0, size} is nearest to the rectified values (Lloyd's iteration)."""
    positive = values[values > 0]
    if not len(positive):
        return torch.ones(())
    size = positive.mean()
    for _ in range(LLOYD_ROUNDS):
        size = positive[positive >= size / 2].mean()
    return size
