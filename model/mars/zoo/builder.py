"""A network that grows by a layer at a time, with seeded random weights.

Multipliers come from the moments of the activations, worked out layer by layer: products of
random weights sum to a normal distribution, the bias takes away what the mean of the activations
adds to it, and the scale puts `SPAN` standard deviations into the range of the results. So all
layers are about half active, like those of a trained network, and hardly ever saturated.
"""

import math
from collections.abc import Sequence
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
    LayerNorm,
    Lookup,
    MatMul,
    MaxPool,
    Pair,
    QuantizedNetwork,
    Select,
    Sides,
    Softmax,
    Tokens,
    output_type,
)
from model.mars.rows import NORMAL_BITS, OCTAVE_BITS
from model.mars.zoo import Size

SPAN = 2.5
SHIFT = 15
"""2^15 is the largest power of two that is a `skip_mult`: a residual keeps its scale."""
NORM_SHIFT = 19
"""Of normalised values, which have more fractional bits than a weight has."""
SCORE_STD = 1.5
"""Of scores, in units of e."""
AVERAGE_GAIN = 2
"""Averages vary little; their mean is brought to about the middle of the range."""
SIGNED_BITS = 2
"""The fewest bits of a signed type."""
VALID: Sides = (0, 0, 0, 0)


@dataclass(frozen=True)
class _Moments:
    """Mean and variance of activations."""

    mean: float
    variance: float

    @staticmethod
    def of(shares: NDArray[np.float64], low: int = 0) -> "_Moments":
        """Of values `low`, `low` + 1, ... whose shares are given."""
        values = np.arange(low, low + len(shares))
        mean = float(shares @ values)
        return _Moments(mean, float(shares @ (values - mean) ** 2))


class Builder:
    """A network that grows by a layer at a time; its methods return the layer's name.

    Results are unsigned with the bits of activations: what is below 0 is cut off as ReLU does, and
    what is above the range as ReLU6 does. Those of layers that are not rectified are signed.

    Parameters
    ----------
    shape : (int, int, int)
        Channels, rows and columns of the input.
    sparsity : float
        Share of the group-sets of each layer that are all zero, 0..1; none of the layer that reads
        the input, of depthwise ones and of the last one.
    weight_bits, act_bits : int
        2..8; 1..8, and 2 for signed results if it is 1.
    seed : int
        Of the weights, and of which ones are zero.
    same : bool
        Pads as TensorFlow's SAME does, not half the kernel on every side.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        sparsity: float,
        weight_bits: int,
        act_bits: int,
        seed: int,
        *,
        same: bool = False,
    ) -> None:
        if not 0 <= sparsity <= 1:
            raise ValueError(f"sparsity must be 0..1, not {sparsity}")
        self._sparsity = sparsity
        self._weight_bits = weight_bits
        self._act_bits = act_bits
        self._same = same
        self._rng = np.random.default_rng(seed)
        self._types = {INPUT: FeatureType(shape, act_bits, signed=False)}
        self._high = self._types[INPUT].high
        self._moments = {INPUT: _Moments.of(np.full(self._high + 1, 1 / (self._high + 1)))}
        self._layers: list[Layer] = []

    def network(self, name: str) -> QuantizedNetwork:
        """What has grown."""
        return QuantizedNetwork(self._types[INPUT], tuple(self._layers), name)

    def n_channels(self, name: str) -> int:
        """Channels of a layer's result."""
        return self._types[name].shape[0]

    def conv(
        self,
        name: str,
        source: str,
        n_kernels: int,
        *,
        size: int | Pair = 3,
        stride: int = 1,
        padding: Sides | None = None,
        groups: int = 1,
        rectified: bool = True,
        skip: str | None = None,
    ) -> str:
        """A convolution, padded so that only the stride makes the map smaller."""
        kernel = (size, size) if isinstance(size, int) else size
        n_channels = self.n_channels(source) // groups
        sparsity = 0.0 if source == INPUT or groups > 1 else self._sparsity
        weight = self._weight((n_kernels, n_channels, kernel[0] * kernel[1]), sparsity)
        bits = self._act_bits if rectified else max(self._act_bits, SIGNED_BITS)
        bias, mult = self._post(weight, self._moments[source], self._std(rectified), skip)
        layer = Conv(
            name=name,
            input=source,
            weight=weight.reshape(n_kernels, n_channels, *kernel),
            bias=bias,
            mult=mult,
            shift=np.full(n_kernels, SHIFT),
            stride=(stride, stride),
            padding=self._padding(source, kernel, stride) if padding is None else padding,
            groups=groups,
            weight_bits=self._weight_bits,
            out_bits=bits,
            out_signed=not rectified,
            skip=skip,
            skip_mult=1 << SHIFT if skip else 0,
        )
        return self._append(layer, self._normal(rectified))

    def depthwise(
        self,
        name: str,
        source: str,
        *,
        size: int | Pair = 3,
        stride: int = 1,
        padding: Sides | None = None,
        rectified: bool = True,
    ) -> str:
        """A kernel for each channel."""
        n = self.n_channels(source)
        return self.conv(
            name,
            source,
            n,
            size=size,
            stride=stride,
            padding=padding,
            groups=n,
            rectified=rectified,
        )

    def pool(
        self, name: str, source: str, *, size: int = 2, stride: int = 2, padding: int = 0
    ) -> str:
        """The largest values of windows."""
        layer = MaxPool(
            name=name,
            input=source,
            kernel=(size, size),
            stride=(stride, stride),
            padding=(padding,) * 4,
        )
        # Pools follow rectified convolutions, whose results are taken as independent.
        return self._append(layer, self._normal(n_largest_of=size * size))

    def average(self, name: str, source: str) -> str:
        """The average of each channel."""
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

    def select(self, name: str, sources: Sequence[str], channels: Sequence[int]) -> str:
        """Channels of maps, one behind the other, in any order."""
        moments = [self._moments[source] for source in sources]
        sizes = [self.n_channels(source) for source in sources]
        mean, square = (
            float(np.average(values, weights=sizes))
            for values in ([m.mean for m in moments], [m.variance + m.mean**2 for m in moments])
        )
        layer = Select(name=name, inputs=tuple(sources), channels=tuple(channels))
        return self._append(layer, _Moments(mean, square - mean**2))

    def tokens(self, name: str, source: str, n: int) -> str:
        """Constant pixels before those of a map, like them."""
        kind, moments = self._types[source], self._moments[source]
        normal = self._rng.normal(moments.mean, moments.variance**0.5, (kind.shape[0], n))
        values = np.clip(np.rint(normal), kind.low, kind.high).astype(np.int64)
        return self._append(Tokens(name=name, input=source, values=values), moments)

    def norm(self, name: str, source: str) -> str:
        """Every pixel's channels normalised."""
        n = self.n_channels(source)
        mult = round(self._std(False) * (1 << NORM_SHIFT - NORMAL_BITS))
        layer = LayerNorm(
            name=name,
            input=source,
            bias=np.zeros(n, np.int64),
            mult=np.full(n, mult),
            shift=np.full(n, NORM_SHIFT),
            out_bits=max(self._act_bits, SIGNED_BITS),
            out_signed=True,
        )
        return self._append(layer, self._normal(False))

    def scores(self, name: str, query: str, key: str, heads: int) -> str:
        """Products of the channels of all tokens."""
        n = self.n_channels(query) // heads
        return self._matmul(name, query, key, heads, n * self._moments[query].variance, True)

    def probabilities(self, name: str, source: str, heads: int) -> str:
        """Softmax of scores that are normally distributed with `SCORE_STD`."""
        octaves = SCORE_STD / self._std(False) / math.log(2) * (1 << OCTAVE_BITS)
        layer = Softmax(
            name=name,
            input=source,
            heads=heads,
            octaves=round(octaves),
            mult=1,
            shift=8,
            out_bits=8,
            out_signed=False,
        )
        n_tokens = self.n_channels(source) // heads
        # Of e^x, which has the mean square e^(2 s^2) and the mean e^(s^2/2).
        square = 256**2 * math.exp(SCORE_STD**2) / n_tokens**2
        mean = 256 / n_tokens
        return self._append(layer, _Moments(mean, square - mean**2))

    def attend(self, name: str, probabilities: str, value: str, heads: int) -> str:
        """The values of tokens, weighted."""
        moments = self._moments[probabilities]
        squares = self.n_channels(probabilities) // heads * (moments.variance + moments.mean**2)
        return self._matmul(name, probabilities, value, heads, squares, False)

    def _matmul(
        self, name: str, source: str, operand: str, heads: int, variance: float, transposed: bool
    ) -> str:
        """Products of two maps; `variance` is that of those with an operand of variance 1."""
        scale = self._std(False) / math.sqrt(variance * self._moments[operand].variance)
        shift = math.floor(math.log2(MULT_MAX / scale))
        layer = MatMul(
            name=name,
            input=source,
            operand=operand,
            transposed=transposed,
            heads=heads,
            mult=round(scale * 2.0**shift),
            shift=shift,
            out_bits=max(self._act_bits, SIGNED_BITS),
            out_signed=True,
        )
        return self._append(layer, self._normal(False))

    def gelu(self, name: str, source: str) -> str:
        """The activation of transformers, of values whose standard deviation stands for 1."""
        kind, std = self._types[source], self._std(False)
        x = np.arange(kind.low, kind.high + 1) / std
        table = np.array([v * std * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x])
        layer = Lookup(
            name=name,
            input=source,
            table=np.rint(table).astype(np.int64),
            out_bits=kind.bits,
            out_signed=True,
        )
        # Of x of variance 1: 1/(2 sqrt(pi)), and 1/3 + 1/(2 pi sqrt(3)) in the mean square.
        mean, square = 0.28209 * std, 0.42522 * std**2
        return self._append(layer, _Moments(mean, square - mean**2))

    def dense(self, name: str, source: str, n_kernels: int) -> str:
        """A rectified dense layer."""
        weight = self._dense_weight(source, n_kernels, self._sparsity)
        bias, mult = self._post(weight, self._moments[source], self._std(), None)
        layer = Dense(
            name=name,
            input=source,
            weight=weight.reshape(n_kernels, -1),
            bias=bias,
            mult=mult,
            shift=np.full(n_kernels, SHIFT),
            weight_bits=self._weight_bits,
            out_bits=self._act_bits,
            out_signed=False,
        )
        return self._append(layer, self._normal())

    def last(self, name: str, source: str, n_kernels: int) -> str:
        """The last, dense layer: its accumulators are the network's results."""
        weight = self._dense_weight(source, n_kernels, 0.0)
        layer = Dense(
            name=name,
            input=source,
            weight=weight.reshape(n_kernels, -1),
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

    def _padding(self, source: str, kernel: Pair, stride: int) -> Sides:
        if not self._same:
            rows, columns = (size // 2 for size in kernel)
            return rows, columns, rows, columns
        sizes = self._types[source].shape[1:]
        top, left = (
            max((-(-size // stride) - 1) * stride + taps - size, 0)
            for size, taps in zip(sizes, kernel, strict=True)
        )
        return top // 2, left // 2, top - top // 2, left - left // 2

    def _dense_weight(self, source: str, n_kernels: int, sparsity: float) -> Ints:
        channels, rows, columns = self._types[source].shape
        return self._weight((n_kernels, channels, rows * columns), sparsity)

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

    def _post(
        self, weight: Ints, moments: _Moments, std: float, skip: str | None
    ) -> tuple[Ints, Ints]:
        """Bias and multiplier that give every channel's sum, residual included, this spread."""
        residual = self._moments[skip] if skip else _Moments(0.0, 0.0)
        squares = (weight**2).reshape(len(weight), -1).sum(axis=1)
        spread = np.sqrt(np.maximum(squares, 1) * moments.variance)
        wanted = math.sqrt(max(std**2 - residual.variance, std**2 / 4))
        mult = np.clip(np.rint(wanted / spread * (1 << SHIFT)), 1, MULT_MAX)
        offset = np.rint(residual.mean * (1 << SHIFT) / mult)
        return self._balance(weight, moments) - offset.astype(np.int64), mult.astype(np.int64)

    def _range(self, rectified: bool = True) -> tuple[int, int]:
        """The least and the largest result."""
        if rectified:
            return 0, self._high
        half = 1 << (max(self._act_bits, SIGNED_BITS) - 1)
        return -half, half - 1

    def _std(self, rectified: bool = True) -> float:
        """Of results before they are rounded and clamped."""
        return max(self._range(rectified)[1] / SPAN, 1.0)

    def _normal(self, rectified: bool = True, n_largest_of: int = 1) -> _Moments:
        """Moments of a rounded and clamped normal distribution, or of the largest of some."""
        low, high = self._range(rectified)
        ends = np.arange(low, high) + 0.5
        scale = self._std(rectified) * math.sqrt(2)
        below = [0.5 * (1 + math.erf(end / scale)) for end in ends]
        shares = np.diff(np.array([0.0, *below, 1.0]) ** n_largest_of)
        return _Moments.of(shares, low)


def size_of(network: QuantizedNetwork) -> Size:
    """The size of a network."""
    products = [layer for layer in network.layers if isinstance(layer, Conv | Dense)]
    pixels = [network.types[layer.name].shape[1:] for layer in products]
    return Size(
        layers=len(products),
        weights=sum(layer.weight.size for layer in products),
        macs=sum(
            layer.weight.size * rows * columns
            for layer, (rows, columns) in zip(products, pixels, strict=True)
        )
        + sum(_macs(layer, network) for layer in network.layers if isinstance(layer, MatMul)),
    )


def _macs(layer: MatMul, network: QuantizedNetwork) -> int:
    """Multiply-accumulates of the products of two maps."""
    source, result = (network.types[name].shape for name in (layer.input, layer.name))
    return source[0] // layer.heads * math.prod(result)
