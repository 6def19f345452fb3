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
from torch import Tensor, nn
from torch.nn import functional

from firmware_tools.quantize.errors import CalibrationError
from firmware_tools.quantize.layers import Feature, Ints, Layer, Product, replaced
from firmware_tools.quantize.quantizers import Quantizer
from firmware_tools.quantize.tracing import SpikeModule, Step
from model.mars.network import SPIKE_SKIP_MULT_MAX
from model.mars.neuron import CHARGE_MAX, Reset

WIDTH = 1.0
"""Of the surrogate, in spikes of a layer."""
FIRST_THRESHOLD = 0.5
"""In spikes of the layer."""
LEAST_DEVIATION = 1e-6
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

    @property
    def share(self) -> float:
        """What the leak leaves."""
        return 0.5**self.leak

    @property
    def is_hard(self) -> bool:
        """Whether a reset leaves nothing."""
        return self.reset == "hard"


class _Fire(torch.autograd.Function):
    """A step of neurons: spikes and membranes forward, the surrogate's gradients backward."""

    @staticmethod
    def forward(
        ctx: Any, charged: Tensor, threshold: Tensor, width: float, kind: NeuronKind
    ) -> tuple[Tensor, Tensor]:
        fires = charged >= threshold
        spikes = fires.to(charged.dtype)
        rest = charged.masked_fill(fires, 0) if kind.is_hard else charged - spikes * threshold
        if kind.leak:
            rest = torch.trunc(rest * kind.share)
        ctx.save_for_backward(charged, threshold, fires, rest.abs() <= kind.limit)
        ctx.width, ctx.kind = width, kind
        return spikes, rest.clamp(-kind.limit, kind.limit)

    @staticmethod
    def backward(ctx: Any, g_spikes: Tensor, g_left: Tensor) -> tuple[Tensor | None, ...]:
        charged, threshold, fires, inside = ctx.saved_tensors
        kind = ctx.kind
        slope = (charged - threshold).mul_(math.pi / ctx.width).square_().add_(1).reciprocal_()
        g_rest = g_left * inside * kind.share
        lost = charged if kind.is_hard else threshold
        g_edge = (g_spikes - g_rest * lost).mul_(slope).div_(ctx.width)
        if kind.is_hard:
            g_charged, g_threshold = g_edge + g_rest.masked_fill(fires, 0), -g_edge
        else:
            g_charged, g_threshold = g_edge + g_rest, -g_edge - g_rest * fires
        return g_charged, g_threshold.sum((0, 2, 3), keepdim=True)[0], None, None


class _Slope(torch.autograd.Function):
    """A spike where x is 1/2 or more, with the surrogate's gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x >= FIRST_THRESHOLD).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        slope = ((x - FIRST_THRESHOLD) * math.pi / WIDTH).square_().add_(1)
        return cast("Tensor", gradient / slope.mul_(WIDTH))


class OneSpike(SpikeModule):
    """A neuron without a past: 1 where its input is 1/2 or more, else 0.

    Members
    -------
    spikes : bool
        Otherwise it is ReLU still.
    """

    def __init__(self) -> None:
        super().__init__()
        self.spikes = True

    def forward(self, x: Tensor) -> Tensor:
        """Spikes."""
        if not self.spikes:
            return functional.relu(x)
        apply: Any = _Slope.apply
        return cast("Tensor", apply(x))


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
        self.spikes = step.spikes
        """Whether its weights are for spikes of size 1 already."""
        assert not isinstance(step.norm, nn.LayerNorm)
        self._norm = None if step.spikes else step.norm

    def _normalise(self, norm: nn.BatchNorm2d, features: Mapping[str, Feature]) -> None:
        """Fold the normalisation once more, with the statistics of spikes as source."""
        with torch.no_grad():
            z = self._linear(features[self.source].real.to(self.weight.dtype), self.kept)
            deviation, mean = torch.std_mean(z, dim=(0, 2, 3))
            gamma = norm.weight if norm.affine else torch.ones_like(mean)
            beta = norm.bias if norm.affine else torch.zeros_like(mean)
            factor = gamma.abs() / deviation.clamp_min(LEAST_DEVIATION)
            self.weight.mul_(factor[:, None, None, None])
            self.bias.copy_(beta - mean * factor)

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

    def discrete(self, features: Mapping[str, Feature]) -> Tensor:
        """The weights as integers with a gradient."""
        if not self.size and self.training and self._norm is not None:
            self._normalise(self._norm, features)
        self._meet_weights(self.kept)
        return cast("Tensor", self.weights(self.kept))

    def charge(self, features: Mapping[str, Feature], weight: Tensor) -> Tensor:
        """What a step adds to the membranes, (N, C, H, W) integers, from `discrete` weights."""
        source = features[self.source]
        self._note_shape(source)
        unit = self.unit(source.scale)
        charge = self._products(source.ints, weight)
        bias = torch.from_numpy(self.bias_ints(source.scale)).to(charge.dtype)
        charge = charge + replaced(self.bias.to(charge.dtype) / unit, bias)[:, None, None]
        if self.skip is not None:
            skip = features[self.skip]
            charge = charge + skip.ints * self.skip_int(source.scale, skip.scale)
        self._meet_charge(charge.detach() * unit)
        return charge

    def fire(
        self, charge: Tensor, membrane: Tensor | None, source_scale: float
    ) -> tuple[Feature, Tensor]:
        """Spikes, and the membranes that are left, (N, C/groups, H, W) integers; None is 0."""
        unit = self.unit(source_scale)
        exact = torch.from_numpy(self.threshold_ints(source_scale)).to(charge.dtype)
        thresholds = replaced(self.threshold.to(charge.dtype) / unit, exact)[:, None, None]
        apply: Any = _Fire.apply
        spikes = []
        for added, threshold in zip(
            charge.chunk(self.kind.groups, dim=1), thresholds.chunk(self.kind.groups), strict=True
        ):
            charged = added if membrane is None else added + membrane
            fired, membrane = apply(charged, threshold, WIDTH * float(self.size) / unit, self.kind)
            spikes.append(fired)
        assert membrane is not None
        together = spikes[0] if len(spikes) == 1 else torch.cat(spikes, dim=1)
        return Feature(together, float(self.size)), membrane

    def _meet_charge(self, real: Tensor) -> None:
        """The first charges that are met say where spikes of one size are the best likeness."""
        if self.size:
            return
        if not self.training:
            self.check_calibrated()
        with torch.no_grad():
            size = torch.ones(()) if self.spikes else one_bit_size(real)
            self.size.copy_(size)
            self.threshold.fill_(FIRST_THRESHOLD * float(size))


def one_bit_size(values: Tensor) -> Tensor:
    """The size for which {0, size} is nearest to the rectified values (Lloyd's iteration)."""
    positive = values[values > 0]
    if not len(positive):
        return torch.ones(())
    size = positive.mean()
    for _ in range(LLOYD_ROUNDS):
        size = positive[positive >= size / 2].mean()
    return size
