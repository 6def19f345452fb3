"""Random quantised networks, for comparing the reference, the golden machine and the RTL.

They have every kind of layer and parameter in every order that is legal. Most results are spread
over the range of their type, because a network of zeros hides mistakes; some saturate or vanish,
because the ends of the range have mistakes of their own.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from model.mars.config import WORD_LINES
from model.mars.group_sets import choose_sets, clear_sets
from model.mars.network import (
    ACC_MAX,
    INPUT,
    MAX_BITS,
    MULT_MAX,
    POST_SHIFT_MAX,
    RAW_BITS,
    SHIFT_MAX,
    WIDE_MULT_MAX,
    AvgPool,
    Conv,
    Dense,
    FeatureType,
    Ints,
    Layer,
    Lookup,
    MaxPool,
    Pair,
    QuantizedNetwork,
    Select,
    Sides,
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
WANTED = ("conv", "maxpool", "avgpool", "dense", "lookup", "select")
EARLY, LATE = (0.56, 0.16, 0.02, 0.04, 0.08, 0.14), (0.33, 0.14, 0.16, 0.17, 0.08, 0.12)
"""How often each of them is tried; averages and dense layers leave one pixel to the rest."""
KERNELS = (1, 1, 2, 3, 3, 4, 5, 7, 11)
STRIDES = (1, 1, 1, 2, 2, 3, 4)
N_TRIES = 20
"""After so many geometries that do not fit a map the kernel is 1x1."""


def random_network(
    seed: int,
    *,
    max_channels: int = 40,
    max_size: int = 12,
    max_layers: int = 8,
    max_sets: int = 64,
    wide: bool = False,
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
    wide : bool
        Multipliers have up to 31 bits, and there are second shifts.
    """
    limits = _Limits(max_channels, max_size, max_sets, wide)
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
    wide: bool

    def fits(self, n_channels: int, n_taps: int) -> bool:
        """Whether a block of kernels has no more group-sets than allowed."""
        return -(-n_channels // WORD_LINES) * n_taps <= self.sets


_Scales = tuple[Ints, Ints, Ints]
"""Multipliers, shifts, second shifts."""


@dataclass(frozen=True)
class _Window:
    """Geometry of a convolution or pool."""

    kernel: Pair
    stride: Pair
    padding: Sides
    dilation: Pair


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
        source = names[-1] if _chance(rng, 0.6) else str(rng.choice(names))
        kinds = [kind for kind in WANTED if self._fits(kind, self._types[source])]
        chances = np.array([(LATE if is_late else EARLY)[WANTED.index(kind)] for kind in kinds])
        kind = str(rng.choice(kinds, p=chances / chances.sum()))
        name = f"{kind}{len(self._layers) + 1}"
        raw = is_last and _chance(rng, 0.4)
        layer: Layer
        if kind == "maxpool":
            layer = self._max_pool(name, source)
        elif kind == "avgpool":
            layer = self._average(name, source)
        elif kind == "conv":
            layer = self._conv(name, source, raw=raw)
        elif kind == "dense":
            layer = self._dense(name, source, raw=raw)
        elif kind == "lookup":
            layer = _lookup(rng, name, source, self._types[source])
        else:
            layer = self._select(name, source)
        self._append(layer)

    def _append(self, layer: Layer) -> None:
        self._layers.append(layer)
        self._types[layer.name] = output_type(layer, self._types)
        self._values[layer.name] = run_layer(layer, self._types, self._values)

    def _fits(self, kind: str, source: FeatureType) -> bool:
        channels, rows, columns = source.shape
        if kind == "dense":
            return self._limits.fits(channels, rows * columns)
        return kind != "conv" or self._limits.fits(channels, 1)

    def _max_pool(self, name: str, source: str) -> MaxPool:
        kind = self._types[source]
        if min(kind.shape[1:]) >= 2 and _chance(self._rng, 0.5):
            return MaxPool(name=name, input=source)
        window = self._window(kind, dilated=False, most_taps=10_000)
        top, left, bottom, right = (
            min(side, size - 1)
            for side, size in zip(window.padding, window.kernel * 2, strict=True)
        )
        padding = (top, left, bottom, right)
        fits = all(
            kind.shape[k + 1] + padding[k] + padding[k + 2] >= window.kernel[k] for k in range(2)
        )
        if not fits:
            return MaxPool(name=name, input=source, kernel=(1, 1), stride=window.stride)
        return MaxPool(
            name=name, input=source, kernel=window.kernel, stride=window.stride, padding=padding
        )

    def _select(self, name: str, source: str) -> Select:
        """Maps one behind the other, a part of them, or all in another order."""
        rng, kind = self._rng, self._types[source]
        alike = [
            other
            for other, its in self._types.items()
            if (its.shape[1:], its.bits, its.signed) == (kind.shape[1:], kind.bits, kind.signed)
        ]
        inputs = [source, *(str(rng.choice(alike)) for _ in range(int(rng.integers(0, 3))))]
        n = sum(self._types[part].shape[0] for part in inputs)
        order = rng.permutation(n) if _chance(rng, 0.4) else np.arange(n)
        if _chance(rng, 0.1):
            order = rng.integers(0, n, n)
        first = int(rng.integers(0, n)) if _chance(rng, 0.3) else 0
        channels = order[first : first + self._limits.channels].tolist()
        return Select(name=name, inputs=tuple(inputs), channels=tuple(channels))

    def _average(self, name: str, source: str) -> AvgPool:
        rng = self._rng
        bits, signed = _out_type(rng)
        total = self._values[source].sum(axis=(2, 3))
        bias = -round(float(total.mean())) if _chance(rng, 0.4) else 0
        kind = FeatureType((1, 1, 1), bits, signed)
        scales = _scale(rng, kind.high, (total + bias).reshape(1, -1), wide=self._limits.wide)
        if _chance(rng, 0.15):
            scales = _extreme_scale(rng, 1, wide=self._limits.wide)
        mult, shift, post_shift = scales
        return AvgPool(
            name=name,
            input=source,
            bias=bias,
            mult=int(mult[0]),
            shift=int(shift[0]),
            post_shift=int(post_shift[0]),
            offset=_offset(rng, kind),
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
        return Dense(
            name=name,
            input=source,
            weight=weight,
            weight_bits=weight_bits,
            **self._post(acc, weight, kind, FeatureType((1, 1, 1), bits, signed)),
        )

    def _conv(self, name: str, source: str, *, raw: bool) -> Conv:
        rng = self._rng
        kind = self._types[source]
        channels = kind.shape[0]
        window = self._geometry(kind)
        groups = self._groups(channels)
        bare = Conv(
            name=name,
            input=source,
            weight=np.zeros((groups, channels // groups, *window.kernel), np.int64),
            bias=np.zeros(groups, np.int64),
            stride=window.stride,
            padding=window.padding,
            pad_value=self._pad_value(kind),
            dilation=window.dilation,
            groups=groups,
            weight_bits=2,
            out_bits=RAW_BITS,
            out_signed=True,
        )
        skip = None if raw else self._residual(bare.output_type(kind).shape[1:], groups)
        n_kernels = self._types[skip].shape[0] if skip else self._n_kernels(groups)
        weight_bits = int(rng.integers(2, MAX_BITS + 1))
        n_taps = window.kernel[0] * window.kernel[1]
        weight = _weight(rng, (n_kernels, channels // groups, n_taps), weight_bits)
        weight = weight.reshape(n_kernels, -1, *window.kernel)
        acc = convolve(
            self._values[source],
            weight,
            bare.stride,
            bare.padding,
            pad_value=bare.pad_value,
            dilation=bare.dilation,
            groups=groups,
        )
        bits, signed = (RAW_BITS, True) if raw else self._like(bare.output_type(kind).shape[1:])
        post = self._post(acc, weight, kind, FeatureType((1, 1, 1), bits, signed))
        if skip and _chance(rng, 0.6):  # one scale for all channels, which that of the skip meets
            for field in ("mult", "shift", "post_shift"):
                if post[field] is not None:
                    post[field] = np.full(n_kernels, post[field][0])
        if skip:
            post["skip_mult"] = _skip_mult(rng, post["shift"], post["post_shift"])
            post["skip_zero"] = int(rng.integers(-255, 256)) if _chance(rng, 0.3) else 0
        return replace(bare, weight=weight, weight_bits=weight_bits, skip=skip, **post)

    def _like(self, size: tuple[int, ...]) -> tuple[int, bool]:
        """Bits and sign of a result, often those of another map of its size."""
        others = [kind for kind in self._types.values() if kind.shape[1:] == size]
        if not others or _chance(self._rng, 0.6):
            return _out_type(self._rng)
        other = others[int(self._rng.integers(len(others)))]
        return other.bits, other.signed

    def _groups(self, channels: int) -> int:
        """Often one; else a divisor of the channels, all of them in half of the cases."""
        if channels == 1 or not _chance(self._rng, 0.3):
            return 1
        if _chance(self._rng, 0.5):
            return channels
        return int(self._rng.choice([n for n in range(1, channels + 1) if channels % n == 0]))

    def _n_kernels(self, groups: int) -> int:
        if groups == 1:
            return _channels(self._rng, self._limits)
        return groups * int(self._rng.integers(1, max(2, self._limits.channels // groups)))

    def _pad_value(self, kind: FeatureType) -> int:
        return int(self._rng.integers(kind.low, kind.high + 1)) if _chance(self._rng, 0.5) else 0

    def _post(
        self, acc: Ints, weight: Ints, source: FeatureType, kind: FeatureType
    ) -> dict[str, Any]:
        """Fields of a layer that say what follows accumulators of the probes (N, Cout, H, W)."""
        rng = self._rng
        bias, scales = _bias_and_scale(rng, acc, weight, source, kind, wide=self._limits.wide)
        fields: dict[str, Any] = {"bias": bias, "out_bits": kind.bits, "out_signed": kind.signed}
        fields |= dict.fromkeys(("mult", "shift", "post_shift"))
        if kind.bits == RAW_BITS:
            return fields
        fields |= {"mult": scales[0], "shift": scales[1], "offset": _offset(rng, kind)}
        if self._limits.wide:
            fields["post_shift"] = scales[2]
        middle = (kind.low + kind.high) // 2
        if _chance(rng, 0.12):
            fields["low"] = int(rng.integers(kind.low, middle + 1))
        if _chance(rng, 0.12):
            fields["high"] = int(rng.integers(middle, kind.high + 1))
        return fields

    def _geometry(self, kind: FeatureType) -> _Window:
        """A window that fits a map, often one of those of the usual networks."""
        channels, rows, columns = kind.shape
        most_taps = self._limits.sets // -(-channels // WORD_LINES)
        if _chance(self._rng, 0.35):
            return self._window(kind, dilated=True, most_taps=most_taps)
        stride = int(self._rng.choice((1, 2), p=(0.7, 0.3)))
        if most_taps < 9 or _chance(self._rng, 0.3):
            return _Window((1, 1), (stride, stride), (0, 0, 0, 0), (1, 1))
        padding = 0 if min(rows, columns) >= 3 and _chance(self._rng, 0.35) else 1
        return _Window((3, 3), (stride, stride), (padding,) * 4, (1, 1))

    def _window(self, kind: FeatureType, *, dilated: bool, most_taps: int) -> _Window:
        """Any window that fits a map and leaves no larger one."""
        rng = self._rng

        def pair(choices: tuple[int, ...]) -> Pair:
            return int(rng.choice(choices)), int(rng.choice(choices))

        for _ in range(N_TRIES):
            kernel, stride = pair(KERNELS), pair(STRIDES)
            dilation = pair((1, 1, 1, 2, 3, 4)) if dilated else (1, 1)
            top, left, bottom, right = (
                int(side) for side in rng.integers(0, 11, 4) * (rng.random(4) < 0.5)
            )
            spare = [
                kind.shape[k + 1] + (top + bottom, left + right)[k] - (kernel[k] - 1) * dilation[k]
                for k in range(2)
            ]
            sizes = [(spare[k] - 1) // stride[k] + 1 for k in range(2)]
            if (
                kernel[0] * kernel[1] <= most_taps
                and min(spare) >= 1
                and max(sizes) <= self._limits.size
            ):
                return _Window(kernel, stride, (top, left, bottom, right), dilation)
        return _Window((1, 1), (1, 1), (0, 0, 0, 0), (1, 1))

    def _residual(self, size: tuple[int, ...], groups: int) -> str | None:
        """A map of some size, whose channels can be so many groups, or none."""
        names = [
            name
            for name, kind in self._types.items()
            if kind.shape[1:] == size and kind.shape[0] % groups == 0
        ]
        if not names or not _chance(self._rng, 0.6):
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


def _bias_and_scale(
    rng: np.random.Generator,
    acc: Ints,
    weight: Ints,
    source: FeatureType,
    kind: FeatureType,
    *,
    wide: bool,
) -> tuple[Ints, _Scales]:
    """Bias, and multipliers with shifts, (Cout,) each, for accumulators (N, Cout, H, W)."""
    n = len(weight)
    by_channel = acc.swapaxes(0, 1).reshape(n, -1)
    spread = by_channel.std(axis=1) + 1
    bias = np.rint(rng.normal(0, 1, n) * spread - by_channel.mean(axis=1)).astype(np.int64)
    if _chance(rng, 0.2):
        bias[:] = 0
    scales = _scale(rng, kind.high, by_channel + bias[:, np.newaxis], wide=wide)
    wild = rng.random(n) < rng.choice((0.0, 0.1, 1.0), p=(0.6, 0.3, 0.1))
    extreme = _extreme_scale(rng, n, wide=wide)
    mult, shift, post = (np.where(wild, e, s) for e, s in zip(extreme, scales, strict=True))
    room = ACC_MAX - np.abs(weight).reshape(n, -1).sum(axis=1) * source.magnitude
    wild = rng.random(n) < rng.choice((0.0, 0.1), p=(0.7, 0.3))
    bias = np.where(wild, rng.choice((-1, 1), n) * (room - rng.integers(0, 2, n)), bias)
    return np.clip(bias, -room, room), (mult, shift, post)


def _scale(rng: np.random.Generator, high: int, acc: Ints, *, wide: bool) -> _Scales:
    """Multipliers and shifts (n,) that spread accumulators (n, ...) over a range up to `high`."""
    mult_max, shift_max = _ends(wide)
    spread = np.sqrt((acc.astype(np.float64) ** 2).mean(axis=1)) + 0.5
    scale = np.minimum(high, 1 << MAX_BITS) / (spread * rng.uniform(0.7, 2.5, len(acc)))
    most = np.clip(np.floor(np.log2(mult_max / scale)), 1, shift_max)
    least = np.clip(np.ceil(np.log2(MIN_MULT / scale)), 1, most)
    total = rng.integers(least.astype(np.int64), most.astype(np.int64) + 1)
    mult = np.clip(np.rint(scale * 2.0**total), 0, mult_max).astype(np.int64)
    low, high_ends = np.maximum(total - SHIFT_MAX, 0), np.minimum(total - 1, POST_SHIFT_MAX)
    post = rng.integers(low, high_ends + 1) if wide else np.zeros_like(total)
    return mult, total - post, post


def _ends(wide: bool) -> tuple[int, int]:
    """Largest multiplier, and shifts together."""
    return (WIDE_MULT_MAX, SHIFT_MAX + POST_SHIFT_MAX) if wide else (MULT_MAX, SHIFT_MAX)


def _extreme_scale(rng: np.random.Generator, n: int, *, wide: bool) -> _Scales:
    """Multipliers and shifts (n,), anything and often the ends of their ranges."""
    mult_max, _ = _ends(wide)
    mult = np.where(
        rng.random(n) < 0.5, rng.choice((0, 1, mult_max), n), rng.integers(0, mult_max + 1, n)
    )
    shift = np.where(
        rng.random(n) < 0.5, rng.choice((1, 2, SHIFT_MAX), n), rng.integers(1, SHIFT_MAX + 1, n)
    )
    post = rng.choice((0, 1, 2, POST_SHIFT_MAX), n) if wide else np.zeros(n, np.int64)
    return mult, shift, post


def _offset(rng: np.random.Generator, kind: FeatureType) -> int:
    """Often none; else about within the type."""
    return int(rng.integers(kind.low // 2, kind.high // 2 + 1)) if _chance(rng, 0.3) else 0


def _skip_mult(rng: np.random.Generator, shift: Ints, post_shift: Ints | None) -> int:
    """The factor of a residual: about 1 after the shift, or anything."""
    wide = post_shift is not None
    mult_max, _ = _ends(wide)
    if _chance(rng, 0.2):
        return int(rng.choice((0, 1, mult_max, int(rng.integers(mult_max + 1)))))
    places = int(shift[0]) + (int(post_shift[0]) if post_shift is not None else 0)
    return int(min(mult_max, (1 << places) * rng.uniform(0.25, 1.5)))


def _lookup(rng: np.random.Generator, name: str, source: str, kind: FeatureType) -> Lookup:
    """A table: anything, a ramp with a bend, or an S."""
    bits, signed = _out_type(rng)
    out = FeatureType((1, 1, 1), bits, signed)
    steps = np.linspace(-4, 4, 1 << kind.bits)
    style = rng.choice(("any", "ramp", "s"))
    if style == "any":
        table = rng.integers(out.low, out.high + 1, len(steps))
    else:
        bent = np.where(steps < 0, 0.1 * steps, steps) / 4
        shares = bent if style == "ramp" else np.tanh(steps)
        ends = (shares - shares.min()) / np.ptp(shares)
        table = np.rint(out.low + ends * (out.high - out.low)).astype(np.int64)
    return Lookup(name=name, input=source, table=table, out_bits=bits, out_signed=signed)


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
