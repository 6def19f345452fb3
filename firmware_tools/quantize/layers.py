"""Layers that compute, while they are trained, the integers that the accelerator computes.

A `Feature` is what flows: integers (in a float tensor, with a gradient) and the real value of one
step. The forward of every layer is the integer arithmetic of `model.mars.reference`, in training
too: products are summed in float32 only where no sum can reach 2^24, else in float64, and
requantised in float64, where everything is exact. Gradients take the way of the real numbers:
``z = sum(w_q * x_q) + b``, then the quantiser's gradient.

Batch normalisation is fused before quantising, with the statistics of the float training:
``w_f = w*gamma/sqrt(var + eps)``, ``b_f = (b - mean)*gamma/sqrt(var + eps) + beta``. So are factors
and summands of layer normalisation, with the layers that read it: ``w_f = w*gamma``,
``b_f = b + w.beta``. From then on the fused weights are what is trained, so export has nothing left
to fuse.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from firmware_tools.quantize.errors import CalibrationError, QuantizationError
from firmware_tools.quantize.quantizers import Quantizer
from firmware_tools.quantize.tracing import Step
from firmware_tools.requantization import FactorError, multiplier, shared_multiplier
from model.mars.network import ACC_MAX, RAW_BITS

EXACT_FLOAT32 = 1 << 24
"""Integers below are exact in float32."""
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Feature:
    """A quantised map.

    Parameters
    ----------
    ints : (N, C, H, W) float
        Integers.
    scale : float
        Real value of one step.
    """

    ints: Tensor
    scale: float

    @property
    def real(self) -> Tensor:
        """What the integers stand for."""
        return self.ints * self.scale


class _Replace(torch.autograd.Function):
    """Another value forward, the gradient unchanged backward."""

    @staticmethod
    def forward(_ctx: Any, smooth: Tensor, exact: Tensor) -> Tensor:
        return exact.to(smooth.dtype)

    @staticmethod
    def backward(_ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


def replaced(smooth: Tensor, exact: Tensor) -> Tensor:
    """The exact values, with the gradient of the smooth ones."""
    apply: Any = _Replace.apply
    return cast("Tensor", apply(smooth, exact))


class Layer(nn.Module):
    """A layer of the twin.

    Parameters
    ----------
    step : Step
        What it is; only names are kept.

    Members
    -------
    name, source, skip, node : str
        As in `Step`.
    activation : Quantizer or None
        Of the results; None where they are those of the source, or accumulators.
    smooth : bool
        Whether it computes with real numbers, nothing rounded (features then have the scale 1).
    """

    activation: Quantizer | None

    def __init__(self, step: Step) -> None:
        super().__init__()
        self.name, self.source, self.node = step.name, step.source, step.node
        self.skip = step.skip
        self.smooth = False

    def forward(self, features: Mapping[str, Feature]) -> Feature:
        raise NotImplementedError

    def _requantised(self, z: Tensor, exact: Tensor) -> Feature:
        """The exact integers with the quantiser's gradient for the real z."""
        assert self.activation is not None
        ints = self.activation(z, exact) if torch.is_grad_enabled() else exact.to(z.dtype)
        return Feature(ints, float(self.activation.step))

    def _limits(self) -> tuple[int, int]:
        assert self.activation is not None
        return self.activation.q_min, self.activation.q_max

    def _hardware(
        self, factors: Floats, skip_factor: float | None = None
    ) -> tuple[Ints, Ints, int]:
        """Multipliers and shifts of the hardware, and the residual's multiplier."""
        try:
            if skip_factor is None:
                return *multiplier(factors), 0
            return shared_multiplier(factors, skip_factor)
        except FactorError as error:
            raise QuantizationError(f"layer {self.name!r}: {error}") from None

    def check_calibrated(self) -> None:
        """Refuse a layer that has seen no data."""
        for quantizer in self.children():
            if isinstance(quantizer, Quantizer) and not quantizer.is_calibrated:
                raise CalibrationError(
                    f"layer {self.name!r} must be calibrated first: call calibrate(twin, images), "
                    "or train it"
                )

    def _meet(self, z: Tensor) -> None:
        """In training, a quantiser starts from the first data that it meets."""
        assert self.activation is not None
        if not self.activation.is_calibrated:
            if not self.training:
                self.check_calibrated()
            self.activation.start(z)


class MaxPool(Layer):
    """2x2 max pooling."""

    def __init__(self, step: Step) -> None:
        super().__init__(step)
        self.activation = None

    def forward(self, features: Mapping[str, Feature]) -> Feature:
        source = features[self.source]
        return Feature(functional.max_pool2d(source.ints, 2), source.scale)


class Average(Layer):
    """Global average pooling."""

    def __init__(self, step: Step, activation: Quantizer) -> None:
        super().__init__(step)
        self.activation = activation

    def forward(self, features: Mapping[str, Feature]) -> Feature:
        source = features[self.source]
        if self.smooth:
            return Feature(source.real.mean((2, 3), keepdim=True), 1.0)
        pixels = source.ints.shape[2] * source.ints.shape[3]
        total = source.ints.sum((2, 3), keepdim=True)
        z = total * (source.scale / pixels)
        self._meet(z)
        mult, shift = self.multiplier(source.scale, pixels)
        power = torch.tensor(2.0**shift, dtype=torch.float64)
        exact = requantise(total.detach().double(), torch.tensor(mult), power, self._limits())
        return self._requantised(z, exact)

    def multiplier(self, source_scale: float, pixels: int) -> tuple[int, int]:
        """Multiplier and shift of the hardware."""
        assert self.activation is not None
        factor = np.array([source_scale / pixels / float(self.activation.step)])
        mult, shift, _ = self._hardware(factor)
        return int(mult[0]), int(shift[0])


class Product(Layer):
    """A convolution or a dense layer, with what follows it.

    Parameters
    ----------
    step : Step
    weights : Quantizer
    activation : Quantizer or None
        None for accumulators as results.
    largest : int
        Largest absolute value of the source's type.

    Members
    -------
    weight, bias : Parameter
        With the normalisation fused.
    mask : (as weight) float
        0 where a group-set has been pruned.
    source_shape : (3,) int
        Channels, rows and columns of the source; 0 until data has come.
    """

    mask: Tensor
    source_shape: Tensor

    def __init__(
        self, step: Step, weights: Quantizer, activation: Quantizer | None, largest: int
    ) -> None:
        super().__init__(step)
        module = step.product
        assert module is not None
        self.is_conv = step.op == "conv"
        self.token = step.token
        self.stride = int(module.stride[0]) if isinstance(module, nn.Conv2d) else 1
        self.padding = int(module.padding[0]) if isinstance(module, nn.Conv2d) else 0
        self._is_linear = isinstance(module, nn.Linear)
        self.relu = step.relu
        weight, bias = fused(module, step.norm)
        if self.is_conv:
            weight = weight.reshape(*weight.shape[:2], *(weight.shape[2:] or (1, 1)))
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)
        self.check_finite()
        self.weights = weights
        self.activation = activation
        self.register_buffer("mask", torch.ones_like(self.weight))
        self.register_buffer("source_shape", torch.zeros(3, dtype=torch.int64))
        most = self.weight[0].numel() * (1 << (weights.bits - 1)) * largest
        self._fits_float32 = most < EXACT_FLOAT32

    def check_finite(self) -> None:
        """Refuse weights that are no numbers, such as those of a training that went astray."""
        for name, values in (*self.named_parameters(), *self.named_buffers()):
            bad = ~torch.isfinite(values)
            if bad.any():
                where = ", ".join(str(int(k)) for k in torch.nonzero(bad)[0])
                place = f"{name}[{where}]" if where else name
                value = float(values.detach()[bad][0])
                raise QuantizationError(
                    f"layer {self.name!r}: {place} must be a finite number, not {value}"
                )

    @property
    def is_raw(self) -> bool:
        """Whether the results are accumulators."""
        return self.activation is None

    @property
    def kept(self) -> Tensor:
        """The weights, pruned ones 0."""
        return self.weight * self.mask

    def forward(self, features: Mapping[str, Feature]) -> Feature:
        source = self._read(features)
        self._note_shape(source)
        if self.smooth:
            return self._smooth(features)
        weight = self.kept
        self._meet_weights(weight)
        n_weight = self.weights(weight)
        units = self.units(source.scale)
        unit = torch.tensor(units, dtype=weight.dtype).expand(len(weight))
        acc = self._products(source.ints, n_weight)
        total = (
            acc.detach().double() + torch.from_numpy(self.bias_ints(source.scale))[:, None, None]
        )
        z = acc.to(weight.dtype) * unit[:, None, None] + self.bias[:, None, None]
        if self.is_raw:
            scale = float(units[0])
            return Feature(replaced(z.to(total.dtype) / scale, total), scale)
        skip = features[self.skip] if self.skip is not None else None
        if skip is not None:
            z = z + skip.real.to(z.dtype)
        self._meet(z)
        return self._requantised(z, self._exact(total, source, skip))

    def _read(self, features: Mapping[str, Feature]) -> Feature:
        """The source, or its only pixel that counts."""
        source = features[self.source]
        if self.token is None:
            return source
        pixel = source.ints.flatten(2)[:, :, self.token, None, None]
        return Feature(pixel, source.scale)

    def _smooth(self, features: Mapping[str, Feature]) -> Feature:
        source = self._read(features).real.to(self.weight.dtype)
        z = self._linear(source, self.kept) + self.bias[:, None, None]
        if self.skip is not None:
            z = z + features[self.skip].real
        return Feature(functional.relu(z) if self.relu else z, 1.0)

    def _note_shape(self, source: Feature) -> None:
        if self.training:
            self.source_shape.copy_(torch.tensor(source.ints.shape[1:]))

    def _meet_weights(self, weight: Tensor) -> None:
        if not self.weights.is_calibrated:
            if not self.training:
                self.check_calibrated()
            self.weights.start(weight)

    def _products(self, ints: Tensor, weight: Tensor) -> Tensor:
        """Exact accumulators without the bias, (N, Cout, H, W)."""
        wide = torch.float32 if self.training and self._fits_float32 else torch.float64
        return self._linear(ints.to(wide), weight.to(wide))

    def _linear(self, source: Tensor, weight: Tensor) -> Tensor:
        """Sums of products, (N, Cout, H, W)."""
        if self.is_conv and self._is_linear:
            tokens = source.flatten(2).transpose(1, 2)
            products = functional.linear(tokens, weight.flatten(1))
            return cast("Tensor", products.transpose(1, 2).unflatten(2, source.shape[2:]))
        if self.is_conv:
            return functional.conv2d(source, weight, stride=self.stride, padding=self.padding)
        return functional.linear(source.flatten(1), weight)[:, :, None, None]

    def _exact(self, total: Tensor, source: Feature, skip: Feature | None) -> Tensor:
        skip_scale = None if skip is None else skip.scale
        mult, shift, skip_mult = self.multipliers(source.scale, skip_scale)
        powers = np.ldexp(1.0, shift)
        return requantise(
            total,
            torch.from_numpy(mult)[:, None, None],
            torch.from_numpy(powers)[:, None, None],
            self._limits(),
            None if skip is None else skip.ints.detach(),
            skip_mult,
        )

    def units(self, source_scale: float) -> Floats:
        """Real value of an accumulator's step, s_w*s_x, for each kernel or one for all."""
        return self.weights.step.double().reshape(-1).numpy() * source_scale

    def weight_ints(self) -> Ints:
        """The weights that are trained."""
        with torch.no_grad():
            ints = self.weights.discretised(self.kept).long().numpy()
        return cast("Ints", ints)

    def bias_ints(self, source_scale: float) -> Ints:
        """The bias in steps of the accumulator, 32 bit."""
        bias = self.bias.detach().double().numpy()
        ints = np.rint(bias / self.units(source_scale))
        return cast("Ints", np.clip(ints, -ACC_MAX, ACC_MAX).astype(np.int64))

    def multipliers(self, source_scale: float, skip_scale: float | None) -> tuple[Ints, Ints, int]:
        """Multiplier and shift for each kernel, and the residual's multiplier."""
        assert self.activation is not None
        out_scale = float(self.activation.step)
        factors = np.broadcast_to(self.units(source_scale) / out_scale, (len(self.weight),))
        return self._hardware(factors, None if skip_scale is None else skip_scale / out_scale)

    @property
    def out_bits(self) -> int:
        """Width of the results."""
        return RAW_BITS if self.activation is None else self.activation.bits


def requantise(
    total: Tensor,
    mult: Tensor,
    power: Tensor,
    limits: tuple[int, int],
    skip: Tensor | None = None,
    skip_mult: int = 0,
) -> Tensor:
    """``clamp((total*mult + skip*skip_mult + (1 << (shift-1))) >> shift)`` in float64.

    All numbers are integers below 2^50, and division by a power of two, `power`, is exact.
    """
    scaled = total * mult
    if skip is not None:
        scaled = scaled + skip.double() * skip_mult
    return torch.floor((scaled + power / 2) / power).clamp(*limits)


def fused(
    module: nn.Conv2d | nn.Linear, norm: nn.BatchNorm2d | nn.LayerNorm | None
) -> tuple[Tensor, Tensor]:
    """Weights and bias with the normalisation in them: that behind them, or of layers before."""
    weight = module.weight.detach().double()
    bias = torch.zeros(len(weight)) if module.bias is None else module.bias.detach()
    bias = bias.double()
    if isinstance(norm, nn.LayerNorm):
        if norm.bias is not None:
            bias = bias + weight @ norm.bias.detach().double()
        if norm.weight is not None:
            weight = weight * norm.weight.detach()
    elif norm is not None:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        factor = 1 / torch.sqrt(norm.running_var.detach().double() + norm.eps)
        if norm.weight is not None:
            factor = factor * norm.weight.detach()
        weight = weight * factor[:, None, None, None]
        bias = (bias - norm.running_mean.detach()) * factor
        if norm.bias is not None:
            bias = bias + norm.bias.detach()
    return weight.float(), bias.float()
