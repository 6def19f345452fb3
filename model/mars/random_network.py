"""Random quantised networks, for comparing the reference, the golden machine and the RTL.

They have every kind of layer and parameter in every order that is legal. Most results are spread
over the range of their type, because a network of zeros hides mistakes; some saturate or vanish,
because the ends of the range have mistakes of their own.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from model.mars.network import (
    ACC_MAX,
    INPUT,
    MAX_BITS,
    RAW_BITS,
    AvgPool,
    Conv,
    Dense,
    FeatureType,
    Ints,
    Layer,
    Lookup,
    MaxPool,
    QuantizedNetwork,
    Select,
    output_type,
    references,
)
from model.mars.random_layers import (
    Limits,
    chance,
    conv_window,
    input_type,
    n_channels,
    n_groups,
    out_type,
    pool_window,
    random_bias,
    random_image,
    random_offset,
    random_order,
    random_scale,
    random_skip_mult,
    random_skip_zero,
    random_spikes,
    random_table,
    random_weight,
)
from model.mars.reference import convolve, run_layer

N_PROBES = 2
"""Images from which the generator knows what accumulators look like."""
WANTED = ("conv", "maxpool", "avgpool", "dense", "lookup", "select")
EARLY, LATE = (0.54, 0.16, 0.02, 0.04, 0.08, 0.16), (0.33, 0.14, 0.16, 0.17, 0.08, 0.12)
"""How often each of them is tried; averages and dense layers leave one pixel to the rest."""


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
        Most group-sets that a block of kernels may keep: channel blocks times taps, as if there
        were no groups.
    wide : bool
        Multipliers have up to 31 bits, and there are second shifts.
    """
    limits = Limits(max_channels, max_size, max_sets, wide)
    rng = np.random.default_rng(seed)
    builder = Builder(rng, limits, input_type(rng, limits))
    n_layers = int(rng.integers(1, max_layers + 1))
    for k in range(n_layers):
        builder.add(is_last=k == n_layers - 1, is_late=k >= n_layers - 2)
    return builder.network(f"random_{seed}")


def random_input(network: QuantizedNetwork, seed: int, n_images: int = 1) -> Ints:
    """Images for a network, (n_images, C, H, W): noise, the range's ends, few or equal values.

    Or spikes, (n_images, time_steps, C, H, W).
    """
    rng = np.random.default_rng(seed)
    if network.input_type.time_steps:
        return random_spikes(rng, network.input_type, n_images)
    return np.stack([random_image(rng, network.input_type) for _ in range(n_images)])


class Builder:
    """A network that grows by a layer at a time.

    Parameters
    ----------
    rng : numpy.random.Generator
    limits : Limits
    kind : FeatureType
        Of the input.
    """

    def __init__(self, rng: np.random.Generator, limits: Limits, kind: FeatureType) -> None:
        self._rng = rng
        self._limits = limits
        self._types = {INPUT: kind}
        probes = [random_image(rng, kind, noise=True) for _ in range(N_PROBES)]
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
        source = names[-1] if chance(rng, 0.7) else str(rng.choice(names))
        kinds = [kind for kind in WANTED if self._fits(kind, self._types[source])]
        chances = np.array([(LATE if is_late else EARLY)[WANTED.index(kind)] for kind in kinds])
        kind = str(rng.choice(kinds, p=chances / chances.sum()))
        name = f"{kind}{len(self._layers) + 1}"
        raw = is_last and chance(rng, 0.4)
        layer: Layer
        match kind:
            case "conv":
                layer = self._conv(name, source, raw=raw)
            case "dense":
                layer = self._dense(name, source, raw=raw)
            case "maxpool":
                layer = self._max_pool(name, source)
            case "avgpool":
                layer = self._average(name, source)
            case "lookup":
                layer = self._lookup(name, source)
            case _:
                layer = self._select(name, source)
        self._layers.append(layer)
        self._types[name] = output_type(layer, self._types)
        self._values[name] = run_layer(layer, self._types, self._values)

    def _fits(self, kind: str, source: FeatureType) -> bool:
        channels, rows, columns = source.shape
        if kind == "dense":
            return self._limits.fits(channels, rows * columns)
        return kind != "conv" or self._limits.fits(channels, 1)

    def _out_type(self, size: tuple[int, ...] = (1, 1), *, raw: bool = False) -> FeatureType:
        """Any type, often that of a map of the size, with which the result may be selected."""
        bits, signed = (RAW_BITS, True) if raw else out_type(self._rng)
        alike = [kind for kind in self._types.values() if kind.shape[1:] == size]
        if alike and not raw and chance(self._rng, 0.4):
            other = alike[int(self._rng.integers(len(alike)))]
            bits, signed = other.bits, other.signed
        return FeatureType((1, 1, 1), bits, signed)

    def _max_pool(self, name: str, source: str) -> MaxPool:
        window = pool_window(self._rng, self._types[source], self._limits)
        return MaxPool(
            name=name,
            input=source,
            kernel=window.kernel,
            stride=window.stride,
            padding=window.padding,
        )

    def _lookup(self, name: str, source: str) -> Lookup:
        read = self._types[source]
        kind = self._out_type(read.shape[1:])
        table = random_table(self._rng, 1 << read.bits, kind)
        return Lookup(
            name=name, input=source, table=table, out_bits=kind.bits, out_signed=kind.signed
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
        inputs = [inputs[k] for k in rng.permutation(len(inputs))]
        order = random_order(rng, sum(self._types[part].shape[0] for part in inputs))
        channels = order[: self._limits.channels].tolist()
        return Select(name=name, inputs=tuple(inputs), channels=tuple(channels))

    def _average(self, name: str, source: str) -> AvgPool:
        rng, kind = self._rng, self._out_type()
        read = self._types[source]
        total = self._values[source].sum(axis=(2, 3)).reshape(1, -1)
        bias = np.zeros(1, np.int64)
        if chance(rng, 0.4):
            largest = np.array([read.shape[1] * read.shape[2] * read.magnitude])
            bias = random_bias(rng, total, largest)
        scales = random_scale(rng, kind.high, total + bias, wide=self._limits.wide)
        mult, shift, post_shift = (int(numbers[0]) for numbers in scales)
        return AvgPool(
            name=name,
            input=source,
            bias=int(bias[0]),
            mult=mult,
            shift=shift,
            post_shift=post_shift,
            offset=random_offset(rng, kind),
            out_bits=kind.bits,
            out_signed=kind.signed,
        )

    def _dense(self, name: str, source: str, *, raw: bool) -> Dense:
        rng, kind = self._rng, self._types[source]
        weight_bits = int(rng.integers(2, MAX_BITS + 1))
        n_kernels = n_channels(rng, self._limits)
        pixels = kind.shape[1] * kind.shape[2]
        weight = random_weight(rng, (n_kernels, kind.shape[0], pixels), weight_bits)
        weight = weight.reshape(n_kernels, -1)
        flat = self._values[source].reshape(N_PROBES, -1, 1, 1)
        acc = convolve(flat, weight[:, :, np.newaxis, np.newaxis])
        post = self._post(acc, weight, kind, self._out_type(raw=raw))
        return Dense(name=name, input=source, weight=weight, weight_bits=weight_bits, **post)

    def _conv(self, name: str, source: str, *, raw: bool) -> Conv:
        rng, kind = self._rng, self._types[source]
        window = conv_window(rng, kind, self._limits)
        groups = n_groups(rng, kind.shape[0])
        bare = Conv(
            name=name,
            input=source,
            weight=np.zeros((groups, kind.shape[0] // groups, *window.kernel), np.int64),
            bias=np.zeros(groups, np.int64),
            stride=window.stride,
            padding=window.padding,
            pad_value=int(rng.integers(kind.low, kind.high + 1)) if chance(rng, 0.5) else 0,
            dilation=window.dilation,
            groups=groups,
            weight_bits=2,
            out_bits=RAW_BITS,
            out_signed=True,
        )
        size = bare.output_type(kind).shape[1:]
        skip = None if raw else self._residual(size, groups)
        n_kernels = self._types[skip].shape[0] if skip else self._n_kernels(groups)
        weight_bits = int(rng.integers(2, MAX_BITS + 1))
        n_taps = window.kernel[0] * window.kernel[1]
        weight = random_weight(rng, (n_kernels, kind.shape[0] // groups, n_taps), weight_bits)
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
        post = self._post(acc, weight, kind, self._out_type(size, raw=raw))
        if skip is not None:
            post |= self._post_of_skip(post, self._types[skip])
        return replace(bare, weight=weight, weight_bits=weight_bits, skip=skip, **post)

    def _n_kernels(self, groups: int) -> int:
        if groups == 1:
            return n_channels(self._rng, self._limits)
        return groups * int(self._rng.integers(1, self._limits.channels // groups + 1))

    def _residual(self, size: tuple[int, ...], groups: int) -> str | None:
        """A map of some size, whose channels can be so many groups, or none."""
        names = [
            name
            for name, kind in self._types.items()
            if kind.shape[1:] == size and kind.shape[0] % groups == 0
        ]
        if not names or not chance(self._rng, 0.6):
            return None
        return str(self._rng.choice(names))

    def _post(
        self, acc: Ints, weight: Ints, source: FeatureType, kind: FeatureType
    ) -> dict[str, Any]:
        """Fields of a layer that say what follows accumulators of the probes (N, Cout, H, W)."""
        rng = self._rng
        by_channel = acc.swapaxes(0, 1).reshape(len(weight), -1)
        sums = np.abs(weight).reshape(len(weight), -1).sum(axis=1)
        bias = random_bias(rng, by_channel, sums * source.magnitude)
        fields: dict[str, Any] = {"bias": bias, "out_bits": kind.bits, "out_signed": kind.signed}
        if kind.bits == RAW_BITS:
            return fields | dict.fromkeys(("mult", "shift", "post_shift"))
        wide = self._limits.wide and chance(rng, 0.8)
        # Extreme biases shall not decide on the scale: with them nothing but an end is left.
        usual = np.where(np.abs(bias) < ACC_MAX // 4, bias, 0)
        mult, shift, post_shift = random_scale(
            rng, kind.high, by_channel + usual[:, np.newaxis], wide=wide
        )
        fields |= {"mult": mult, "shift": shift, "post_shift": post_shift if wide else None}
        fields["offset"] = random_offset(rng, kind)
        low = kind.low
        if chance(rng, 0.15):
            low += round((kind.high - low) * rng.random() ** 3)
            fields["low"] = low
        if chance(rng, 0.15):
            fields["high"] = kind.high - round((kind.high - low) * rng.random() ** 3)
        return fields

    def _post_of_skip(self, post: dict[str, Any], skip: FeatureType) -> dict[str, Any]:
        """Fields of a residual, and those of the layer that are to meet it."""
        rng, fields = self._rng, {}
        if chance(rng, 0.6):  # one scale for all channels, which that of the residual meets
            for name in ("mult", "shift", "post_shift"):
                if post[name] is not None:
                    fields[name] = np.full_like(post[name], post[name][0])
        wide = post["post_shift"] is not None
        places = int(post["shift"][0]) + (int(post["post_shift"][0]) if wide else 0)
        fields["skip_mult"] = random_skip_mult(rng, places, wide=wide)
        fields["skip_zero"] = random_skip_zero(rng, skip)
        return fields
