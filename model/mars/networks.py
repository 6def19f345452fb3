"""The networks of the benchmark: VGG16 and ResNet18 for CIFAR, with seeded random weights.

Multipliers come from the moments of the activations, worked out layer by layer: products of
random weights sum to a normal distribution, the bias takes away what the mean of the activations
adds to it, and the scale puts `SPAN` standard deviations into the range of the results. So all
layers are about half active, like those of a trained network, and hardly ever saturated.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.mars.group_sets import choose_sets, clear_sets
from model.mars.network import (
    INPUT,
    MULT_MAX,
    RAW_BITS,
    AvgPool,
    Conv,
    Dense,
    FeatureType,
    Ints,
    Layer,
    MaxPool,
    QuantizedNetwork,
    output_type,
)

CIFAR_SHAPE = (3, 32, 32)
N_CLASSES = 10
VGG16_CHANNELS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Convolutions between the pools."""
RESNET18_CHANNELS = (64, 128, 256, 512)
"""Of the stages; each has two blocks of two convolutions."""
SPAN = 2.5
SHIFT = 15
"""2^15 is the largest power of two that is a `skip_mult`: a residual keeps its scale."""
AVERAGE_GAIN = 2
"""Averages vary little; their mean is brought to about the middle of the range."""


def vgg16(
    sparsity: float = 0.0, weight_bits: int = 4, act_bits: int = 4, seed: int = 0
) -> QuantizedNetwork:
    """13 convolutions 3x3, five pools and a dense layer: 14.72 million weights.

    Parameters
    ----------
    sparsity : float
        Share of the group-sets of each layer but the first and the last that are all zero, 0..1.
    weight_bits, act_bits : int
        2..8; 1..8, unsigned, the input's too. The results have 32 bits.
    seed : int
        Of the weights, and of which ones are zero.
    """
    builder = _Builder(sparsity, weight_bits, act_bits, seed)
    last = INPUT
    for stage, channels in enumerate(VGG16_CHANNELS, 1):
        for k, n_kernels in enumerate(channels, 1):
            last = builder.conv(f"conv{stage}_{k}", last, n_kernels)
        last = builder.pool(f"pool{stage}", last)
    builder.dense("fc", last)
    return builder.network("vgg16")


def resnet18(
    sparsity: float = 0.0, weight_bits: int = 4, act_bits: int = 4, seed: int = 0
) -> QuantizedNetwork:
    """17 convolutions 3x3, three 1x1 in residuals, and a dense layer: 11.16 million weights.

    Parameters are those of `vgg16`.
    """
    builder = _Builder(sparsity, weight_bits, act_bits, seed)
    last = builder.conv("conv1", INPUT, RESNET18_CHANNELS[0])
    for stage, n_kernels in enumerate(RESNET18_CHANNELS, 1):
        for block in (1, 2):
            name = f"stage{stage}_{block}"
            stride = 2 if stage > 1 and block == 1 else 1
            inner = builder.conv(f"{name}a", last, n_kernels, stride=stride)
            if stride == 2:
                last = builder.conv(f"{name}s", last, n_kernels, stride=stride, size=1)
            last = builder.conv(f"{name}b", inner, n_kernels, skip=last)
    builder.dense("fc", builder.average("gap", last))
    return builder.network("resnet18")


@dataclass(frozen=True)
class _Moments:
    """Mean and variance of activations."""

    mean: float
    variance: float

    @staticmethod
    def of(shares: NDArray[np.float64]) -> "_Moments":
        """Of values 0, 1, 2, ... whose shares are given."""
        values = np.arange(len(shares))
        mean = float(shares @ values)
        return _Moments(mean, float(shares @ (values - mean) ** 2))


class _Builder:
    """A network that grows by a layer at a time; its methods return the layer's name."""

    def __init__(self, sparsity: float, weight_bits: int, act_bits: int, seed: int) -> None:
        if not 0 <= sparsity <= 1:
            raise ValueError(f"sparsity must be 0..1, not {sparsity}")
        self._sparsity = sparsity
        self._weight_bits = weight_bits
        self._act_bits = act_bits
        self._rng = np.random.default_rng(seed)
        self._types = {INPUT: FeatureType(CIFAR_SHAPE, act_bits, signed=False)}
        self._high = self._types[INPUT].high
        self._std = max(self._high / SPAN, 1.0)
        self._moments = {INPUT: _Moments.of(np.full(self._high + 1, 1 / (self._high + 1)))}
        self._layers: list[Layer] = []

    def network(self, name: str) -> QuantizedNetwork:
        return QuantizedNetwork(self._types[INPUT], tuple(self._layers), name)

    def conv(
        self,
        name: str,
        source: str,
        n_kernels: int,
        *,
        stride: int = 1,
        size: int = 3,
        skip: str | None = None,
    ) -> str:
        n_channels = self._types[source].shape[0]
        sparsity = 0.0 if source == INPUT else self._sparsity
        weight = self._weight((n_kernels, n_channels, size * size), sparsity)
        bias, mult = self._post(weight, self._moments[source], skip)
        layer = Conv(
            name=name,
            input=source,
            weight=weight.reshape(n_kernels, n_channels, size, size),
            bias=bias,
            mult=mult,
            shift=np.full(n_kernels, SHIFT),
            stride=(stride, stride),
            padding=(size // 2,) * 4,
            weight_bits=self._weight_bits,
            out_bits=self._act_bits,
            out_signed=False,
            skip=skip,
            skip_mult=1 << SHIFT if skip else 0,
        )
        return self._append(layer, self._rectified())

    def pool(self, name: str, source: str) -> str:
        # The pools of VGG16 follow convolutions, whose results are taken as independent.
        return self._append(MaxPool(name=name, input=source), self._rectified(n_largest_of=4))

    def average(self, name: str, source: str) -> str:
        _, rows, columns = self._types[source].shape
        pixels = rows * columns
        moments = self._moments[source]
        layer = AvgPool(
            name=name,
            input=source,
            mult=round((AVERAGE_GAIN << SHIFT) / pixels),
            shift=SHIFT,
            out_bits=self._act_bits,
            out_signed=False,
        )
        gain = AVERAGE_GAIN
        averaged = _Moments(gain * moments.mean, gain**2 * moments.variance / pixels)
        return self._append(layer, averaged)

    def dense(self, name: str, source: str) -> str:
        channels, rows, columns = self._types[source].shape
        weight = self._weight((N_CLASSES, channels, rows * columns), 0.0)
        layer = Dense(
            name=name,
            input=source,
            weight=weight.reshape(N_CLASSES, -1),
            bias=self._balance(weight, self._moments[source]),
            weight_bits=self._weight_bits,
            out_bits=RAW_BITS,
            out_signed=True,
        )
        self._layers.append(layer)
        return name

    def _append(self, layer: Layer, moments: _Moments) -> str:
        self._layers.append(layer)
        self._types[layer.name] = output_type(layer, self._types)
        self._moments[layer.name] = moments
        return layer.name

    def _weight(self, shape: tuple[int, int, int], sparsity: float) -> Ints:
        """Weights (Cout, Cin, taps): a normal distribution up to three standard deviations."""
        bits = self._weight_bits
        half = 1 << (bits - 1)
        normal = self._rng.standard_normal(shape, np.float32) * np.float32(half / 3)
        weight: Ints = np.clip(np.rint(normal), -half, half - 1).astype(np.int64)
        return clear_sets(weight, bits, choose_sets(self._rng, weight, bits, sparsity))

    def _balance(self, weight: Ints, moments: _Moments) -> Ints:
        """The biases that take away what the activations' mean adds to the accumulators."""
        sums = weight.reshape(len(weight), -1).sum(axis=1)
        bias: Ints = np.rint(-moments.mean * sums).astype(np.int64)
        return bias

    def _post(self, weight: Ints, moments: _Moments, skip: str | None) -> tuple[Ints, Ints]:
        """Bias and multiplier that give every channel's sum, residual included, the same spread."""
        residual = self._moments[skip] if skip else _Moments(0.0, 0.0)
        squares = (weight**2).reshape(len(weight), -1).sum(axis=1)
        spread = np.sqrt(np.maximum(squares, 1) * moments.variance)
        wanted = math.sqrt(max(self._std**2 - residual.variance, self._std**2 / 4))
        mult = np.clip(np.rint(wanted / spread * (1 << SHIFT)), 1, MULT_MAX)
        offset = np.rint(residual.mean * (1 << SHIFT) / mult)
        return self._balance(weight, moments) - offset.astype(np.int64), mult.astype(np.int64)

    def _rectified(self, n_largest_of: int = 1) -> _Moments:
        """Moments of a rounded and clamped normal distribution, or of the largest of some."""
        ends = np.arange(self._high) + 0.5
        below = [0.5 * (1 + math.erf(end / (self._std * math.sqrt(2)))) for end in ends]
        shares = np.diff(np.array([0.0, *below, 1.0]) ** n_largest_of)
        return _Moments.of(shares)
