"""Random quantised networks, for comparing the reference, the golden machine and the RTL.

They have every kind of layer and parameter in every order that is legal. Most results are spread
over the range of their type, because a network of zeros hides mistakes; some saturate or vanish,
because the ends of the range have mistakes of their own.
"""

from dataclasses import dataclass, replace

import numpy as np

from model.mars.config import WORD_LINES
from model.mars.group_sets import choose_sets, clear_sets
from model.mars.network import (
    ACC_MAX,
    INPUT,
    MAX_BITS,
    MULT_MAX,
    RAW_BITS,
    SHIFT_MAX,
    AvgPool,
    Conv,
    Dense,
    FeatureType,
    Ints,
    Layer,
    MaxPool,
    QuantizedNetwork,
    output_type,
    references,
)
from model.mars.reference import convolve, run_layer

SPARSITIES = (0.0, 0.0, 0.25, 0.5, 0.75, 0.9, 0.95)
EDGES = (1, 2, 3, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 40)
"""Numbers of channels around the ends of blocks."""
MIN_MULT = 16
"""Of a multiplier that is to set a scale to a few percent."""
N_PROBES = 2
"""Images from which the generator knows what accumulators look like."""
WANTED = ("conv", "maxpool2", "avgpool", "dense")
EARLY, LATE = (0.72, 0.2, 0.03, 0.05), (0.4, 0.18, 0.2, 0.22)
"""How often each of them is tried; averages and dense layers leave one pixel to the rest."""


def random_network(
    seed: int,
    *,
    max_channels: int = 40,
    max_size: int = 12,
    max_layers: int = 8,
    max_sets: int = 64,
) -> QuantizedNetwork:
    """A random network; equal arguments give equal networks.

    Parameters
    ----------
    seed : int
        Not negative; the network's name has it.
    max_channels, max_size, max_layers : int
        Most channels of a map, its most rows and columns, most layers.
    max_sets : int
        Most group-sets that a block of kernels may keep: channel blocks times taps.
    """
    limits = _Limits(max_channels, max_size, max_sets)
    rng = np.random.default_rng(seed)
    builder = _Builder(rng, limits, _input_type(rng, limits))
    n_layers = int(rng.integers(1, max_layers + 1))
    for k in range(n_layers):
        builder.add(is_last=k == n_layers - 1, is_late=k >= n_layers - 2)
    return builder.network(f"random_{seed}")


def random_input(network: QuantizedNetwork, seed: int, n_images: int = 1) -> Ints:
    """Images for a network, (n_images, C, H, W): noise, the range's ends, few or equal values."""
    rng = np.random.default_rng(seed)
    return np.stack([_image(rng, network.input_type) for _ in range(n_images)])


@dataclass(frozen=True)
class _Limits:
    """What the caller of `random_network` allows."""

    channels: int
    size: int
    sets: int

    def fits(self, n_channels: int, n_taps: int) -> bool:
        """Whether a block of kernels has no more group-sets than allowed."""
        return -(-n_channels // WORD_LINES) * n_taps <= self.sets


class _Builder:
    """A network that grows by a layer at a time.

    Parameters
    ----------
    rng : numpy.random.Generator
    limits : _Limits
    input_type : FeatureType
    """

    def __init__(self, rng: np.random.Generator, limits: _Limits, input_type: FeatureType) -> None:
        self._rng = rng
        self._limits = limits
        self._types = {INPUT: input_type}
        probes = [_image(rng, input_type, noise=True) for _ in range(N_PROBES)]
        self._values = {INPUT: np.stack(probes)}
        self._layers: list[Layer] = []

    def network(self, name: str) -> QuantizedNetwork:
        """The layers on which the last one depends."""
        needed = {self._layers[-1].name}
        for layer in reversed(self._layers):
            if layer.name in needed:
                needed.update(references(layer).values())
        layers = tuple(layer for layer in self._layers if layer.name in needed)
        return QuantizedNetwork(self._types[INPUT], layers, name)

    def add(self, *, is_last: bool, is_late: bool) -> None:
        """Append a layer of any kind that fits what it reads."""
        rng = self._rng
        names = list(self._types)
        source = names[-1] if _chance(rng, 0.75) else str(rng.choice(names))
        kinds = [kind for kind in WANTED if self._fits(kind, self._types[source])]
        chances = np.array([(LATE if is_late else EARLY)[WANTED.index(kind)] for kind in kinds])
        kind = str(rng.choice(kinds, p=chances / chances.sum()))
        name = f"{kind}{len(self._layers) + 1}"
        layer: Layer
        if kind == "maxpool2":
            layer = MaxPool(name=name, input=source)
        elif kind == "avgpool":
            layer = self._average(name, source)
        elif kind == "conv":
            layer = self._conv(name, source, raw=is_last and _chance(rng, 0.4))
        else:
            layer = self._dense(name, source, raw=is_last and _chance(rng, 0.4))
        self._append(layer)

    def _append(self, layer: Layer) -> None:
        self._layers.append(layer)
        self._types[layer.name] = output_type(layer, self._types)
        self._values[layer.name] = run_layer(layer, self._types, self._values)

    def _fits(self, kind: str, source: FeatureType) -> bool:
        channels, rows, columns = source.shape
        if kind == "maxpool2":
            return min(rows, columns) >= 2
        if kind == "dense":
            return self._limits.fits(channels, rows * columns)
        return kind == "avgpool" or self._limits.fits(channels, 1)

    def _average(self, name: str, source: str) -> AvgPool:
        rng = self._rng
        bits, signed = _out_type(rng)
        total = self._values[source].sum(axis=(2, 3))
        high = FeatureType((1, 1, 1), bits, signed).high
        mult, shift = _scale(rng, high, total.reshape(1, -1))
        if _chance(rng, 0.15):
            mult, shift = _extreme_scale(rng, 1)
        return AvgPool(
            name=name,
            input=source,
            mult=int(mult[0]),
            shift=int(shift[0]),
            out_bits=bits,
            out_signed=signed,
        )

    def _dense(self, name: str, source: str, *, raw: bool) -> Dense:
        kind = self._types[source]
        weight_bits = int(self._rng.integers(2, MAX_BITS + 1))
        n_kernels = _channels(self._rng, self._limits)
        pixels = kind.shape[1] * kind.shape[2]
        weight = _weight(self._rng, (n_kernels, kind.shape[0], pixels), weight_bits)
        weight = weight.reshape(n_kernels, -1)
        flat = self._values[source].reshape(N_PROBES, -1, 1, 1)
        acc = convolve(flat, weight[:, :, np.newaxis, np.newaxis])
        bits, signed = (RAW_BITS, True) if raw else _out_type(self._rng)
        bias, mult, shift = _post(self._rng, acc, weight, kind, bits, signed)
        return Dense(
            name=name,
            input=source,
            weight=weight,
            bias=bias,
            mult=None if raw else mult,
            shift=None if raw else shift,
            weight_bits=weight_bits,
            out_bits=bits,
            out_signed=signed,
        )

    def _conv(self, name: str, source: str, *, raw: bool) -> Conv:
        rng = self._rng
        kind = self._types[source]
        size, stride, padding = self._geometry(kind)
        bare = Conv(
            name=name,
            input=source,
            weight=np.zeros((1, kind.shape[0], size, size), np.int64),
            bias=np.zeros(1, np.int64),
            stride=(stride, stride),
            padding=(padding,) * 4,
            weight_bits=2,
            out_bits=RAW_BITS,
            out_signed=True,
        )
        skip = None if raw else self._residual(bare.output_type(kind).shape[1:])
        n_kernels = self._types[skip].shape[0] if skip else _channels(rng, self._limits)
        weight_bits = int(rng.integers(2, MAX_BITS + 1))
        weight = _weight(rng, (n_kernels, kind.shape[0], size * size), weight_bits)
        weight = weight.reshape(n_kernels, -1, size, size)
        acc = convolve(self._values[source], weight, bare.stride, bare.padding)
        bits, signed = (RAW_BITS, True) if raw else _out_type(rng)
        bias, mult, shift = _post(rng, acc, weight, kind, bits, signed)
        if skip and _chance(rng, 0.6):  # one scale for all channels, which that of the skip meets
            mult, shift = np.full(n_kernels, mult[0]), np.full(n_kernels, shift[0])
        return replace(
            bare,
            weight=weight,
            bias=bias,
            mult=None if raw else mult,
            shift=None if raw else shift,
            weight_bits=weight_bits,
            out_bits=bits,
            out_signed=signed,
            skip=skip,
            skip_mult=_skip_mult(rng, shift) if skip else 0,
        )

    def _geometry(self, kind: FeatureType) -> tuple[int, int, int]:
        """Kernel size, stride and padding that fit a map."""
        channels, rows, columns = kind.shape
        stride = int(self._rng.choice((1, 2), p=(0.7, 0.3)))
        if not self._limits.fits(channels, 9) or _chance(self._rng, 0.3):
            return 1, stride, 0
        padding = 0 if min(rows, columns) >= 3 and _chance(self._rng, 0.35) else 1
        return 3, stride, padding

    def _residual(self, size: tuple[int, ...]) -> str | None:
        """A map of some size, or none."""
        names = [name for name, kind in self._types.items() if kind.shape[1:] == size]
        if not names or not _chance(self._rng, 0.45):
            return None
        return str(self._rng.choice(names))


def _chance(rng: np.random.Generator, probability: float) -> bool:
    return bool(rng.random() < probability)


def _input_type(rng: np.random.Generator, limits: _Limits) -> FeatureType:
    rows, columns = (int(side) for side in rng.integers(1, limits.size + 1, 2))
    if _chance(rng, 0.6):
        rows = max(rows, min(limits.size, 5))
        columns = max(columns, min(limits.size, 5))
    if _chance(rng, 0.4):
        columns = rows
    bits, signed = _out_type(rng)
    return FeatureType((_channels(rng, limits), rows, columns), bits, signed)


def _channels(rng: np.random.Generator, limits: _Limits) -> int:
    """Often a number next to the end of a block."""
    if _chance(rng, 0.6):
        return int(rng.choice([n for n in EDGES if n <= limits.channels]))
    return int(rng.integers(1, limits.channels + 1))


def _out_type(rng: np.random.Generator) -> tuple[int, bool]:
    """Bits, often a whole nibble or byte, and whether signed."""
    bits = int(rng.choice((4, 8))) if _chance(rng, 0.4) else int(rng.integers(1, MAX_BITS + 1))
    return bits, bits > 1 and _chance(rng, 0.35)


def _weight(rng: np.random.Generator, shape: tuple[int, int, int], bits: int) -> Ints:
    """Weights (Cout, Cin, taps): anything, small, the ends or one sign, with cleared sets."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    style = rng.choice(("any", "small", "ends", "positive"), p=(0.5, 0.3, 0.1, 0.1))
    if style == "any":
        weight = rng.integers(low, high + 1, shape)
    elif style == "small":
        weight = np.clip(np.rint(rng.normal(0, max(1, high / 4), shape)), low, high)
    elif style == "ends":
        weight = rng.choice((low, high), shape)
    else:
        weight = rng.integers(0, high + 1, shape)
    weight = weight.astype(np.int64)
    if _chance(rng, 0.2):
        weight[rng.random(shape) < 0.9] = 0  # sets are stored for a few weights
    cleared = choose_sets(rng, weight, bits, float(rng.choice(SPARSITIES)))
    if _chance(rng, 0.1):
        cleared[rng.integers(len(cleared))] = True  # kernels that have nothing but a bias
    return clear_sets(weight, bits, cleared)


def _post(
    rng: np.random.Generator, acc: Ints, weight: Ints, source: FeatureType, bits: int, signed: bool
) -> tuple[Ints, Ints, Ints]:
    """Bias, multiplier and shift, (Cout,) each, for accumulators of the probes (N, Cout, H, W)."""
    n = len(weight)
    by_channel = acc.swapaxes(0, 1).reshape(n, -1)
    spread = by_channel.std(axis=1) + 1
    bias = np.rint(rng.normal(0, 1, n) * spread - by_channel.mean(axis=1)).astype(np.int64)
    if _chance(rng, 0.2):
        bias[:] = 0
    high = FeatureType((1, 1, 1), bits, signed).high
    mult, shift = _scale(rng, high, by_channel + bias[:, np.newaxis])
    wild = rng.random(n) < rng.choice((0.0, 0.1, 1.0), p=(0.6, 0.3, 0.1))
    wild_mult, wild_shift = _extreme_scale(rng, n)
    mult, shift = np.where(wild, wild_mult, mult), np.where(wild, wild_shift, shift)
    room = ACC_MAX - np.abs(weight).reshape(n, -1).sum(axis=1) * source.magnitude
    wild = rng.random(n) < rng.choice((0.0, 0.1), p=(0.7, 0.3))
    bias = np.where(wild, rng.choice((-1, 1), n) * (room - rng.integers(0, 2, n)), bias)
    return np.clip(bias, -room, room), mult, shift


def _scale(rng: np.random.Generator, high: int, acc: Ints) -> tuple[Ints, Ints]:
    """Multipliers and shifts (n,) that spread accumulators (n, ...) over a range up to `high`."""
    spread = np.sqrt((acc.astype(np.float64) ** 2).mean(axis=1)) + 0.5
    scale = np.minimum(high, 1 << MAX_BITS) / (spread * rng.uniform(0.7, 2.5, len(acc)))
    most = np.clip(np.floor(np.log2(MULT_MAX / scale)), 1, SHIFT_MAX)
    least = np.clip(np.ceil(np.log2(MIN_MULT / scale)), 1, most)
    shift = rng.integers(least.astype(np.int64), most.astype(np.int64) + 1)
    mult = np.clip(np.rint(scale * 2.0**shift), 0, MULT_MAX).astype(np.int64)
    return mult, shift


def _extreme_scale(rng: np.random.Generator, n: int) -> tuple[Ints, Ints]:
    """Multipliers and shifts (n,), anything and often the ends of their ranges."""
    mult = np.where(
        rng.random(n) < 0.5, rng.choice((0, 1, MULT_MAX), n), rng.integers(0, MULT_MAX + 1, n)
    )
    shift = np.where(
        rng.random(n) < 0.5, rng.choice((1, 2, SHIFT_MAX), n), rng.integers(1, SHIFT_MAX + 1, n)
    )
    return mult, shift


def _skip_mult(rng: np.random.Generator, shift: Ints) -> int:
    """The factor of a residual: about 1 after the shift, or anything."""
    if _chance(rng, 0.2):
        return int(rng.choice((0, 1, MULT_MAX, int(rng.integers(MULT_MAX + 1)))))
    return int(min(MULT_MAX, (1 << int(shift[0])) * rng.uniform(0.25, 1.5)))


def _image(rng: np.random.Generator, kind: FeatureType, *, noise: bool = False) -> Ints:
    """One image, (C, H, W)."""
    style = (
        "noise" if noise else rng.choice(("noise", "ends", "few", "equal"), p=(0.6, 0.2, 0.1, 0.1))
    )
    if style == "ends":
        return rng.choice(np.array((kind.low, kind.high)), kind.shape)
    if style == "equal":
        return np.full(kind.shape, rng.choice((kind.low, kind.high)))
    image = rng.integers(kind.low, kind.high + 1, kind.shape)
    if style == "few":
        image[rng.random(kind.shape) < 0.9] = 0
    return image
