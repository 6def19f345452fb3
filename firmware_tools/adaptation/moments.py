"""Mean and spread of each channel on a device against those of the exact network.

A layer computes ``clamp(f*(x + b))`` of products x, with a factor and a bias for each channel. Its
normalisation made x have the mean and standard deviation m, s over the training images; on the
device they are m', s'. Normalising anew with those, scale and shift as they were, is

    ``f' = f*s/s'``  and  ``b' = (m + b)*s'/s - m'``

so what a device does to a channel that is affine is undone exactly, up to rounding. Networks that
were imported have no batch normalisation left, but the same moments.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_tools.adaptation.errors import AdaptationError
from firmware_tools.requantization import FactorError, multiplier, shared_multiplier
from model.mars import reference
from model.mars.devices.execution import NetworkArrays
from model.mars.network import (
    ACC_MAX,
    INPUT,
    MULT_MAX,
    RAW_BITS,
    WIDE_MULT_MAX,
    Conv,
    Dense,
    FeatureType,
    Ints,
    QuantizedNetwork,
    check_features,
)

Floats = NDArray[np.float64]
OTHER_IMAGES = 1 << 32
"""Number of the first image that is adapted with: others than those that are inferred."""
BATCH = 64


@dataclass(frozen=True)
class Moments:
    """Of each channel over all images and pixels, (Cout,).

    Parameters
    ----------
    mean, sd : (Cout,) float64
    magnitude : float
        Mean absolute value of all channels.
    """

    mean: Floats
    sd: Floats
    magnitude: float


def moments(sums: Ints) -> Moments:
    """Of sums of products (N, Cout, H, W)."""
    values = sums.swapaxes(0, 1).reshape(sums.shape[1], -1).astype(np.float64)
    return Moments(values.mean(axis=1), values.std(axis=1), float(np.abs(values).mean()))


@dataclass(frozen=True)
class Affine:
    """Factor and bias of each channel: results before rounding are ``factor*(x + bias)``."""

    factor: Floats
    bias: Floats


Rule = Callable[[Affine, Moments, Moments], Affine]
"""From a layer as it is, and moments exact and on the device, to how it should be."""


def factors(layer: Conv | Dense) -> Floats:
    """Of each channel; 1 of accumulators as results."""
    if layer.mult is None or layer.shift is None:
        return np.ones(len(layer.weight))
    post = 0 if layer.post_shift is None else layer.post_shift
    return np.asarray(layer.mult * np.exp2(-(layer.shift + post).astype(np.float64)))


def by_channel(own: Affine, exact: Moments, device: Moments) -> Affine:
    """Each channel normalised anew; one that does not vary only gets its mean back."""
    lives = (exact.sd > 0) & (device.sd > 0)
    ratio = np.where(lives, exact.sd / np.where(lives, device.sd, 1.0), 1.0)
    return Affine(own.factor * ratio, (exact.mean + own.bias) / ratio - device.mean)


def by_layer(own: Affine, exact: Moments, device: Moments) -> Affine:
    """One gain for all channels, the ratio of mean magnitudes: the cheap repair."""
    ratio = exact.magnitude / device.magnitude if device.magnitude else 1.0
    return Affine(own.factor * ratio, own.bias / ratio)


def of_logits(own: Affine, exact: Moments, device: Moments) -> Affine:
    """Logits have no factor: one gain for all of them changes no class, so biases follow it."""
    spread = float(np.linalg.norm(exact.sd))
    gain = float(np.linalg.norm(device.sd)) / spread if spread else 1.0
    return Affine(own.factor, gain * (exact.mean + own.bias) - device.mean)


def of_logits_by_layer(own: Affine, exact: Moments, device: Moments) -> Affine:
    """The cheap repair of logits."""
    gain = device.magnitude / exact.magnitude if exact.magnitude else 1.0
    return Affine(own.factor, own.bias * gain)


def with_affine(
    layer: Conv | Dense, source: FeatureType, wanted: Affine, skip_ratio: float = 1.0
) -> Conv | Dense:
    """The layer with the nearest bias, multiplier and shift; its weights are as they were.

    The factor of a residual is multiplied by `skip_ratio`. A channel whose multiplier is 0 keeps
    it, and no bias is larger than what the accumulator has room for.

    Raises
    ------
    AdaptationError
        The hardware has no such factor.
    """
    sums = np.abs(layer.weight).reshape(len(layer.weight), -1).sum(axis=1)
    room = ACC_MAX - sums * source.magnitude
    bias = np.clip(np.rint(wanted.bias), -room, room).astype(np.int64)
    if layer.mult is None or layer.shift is None:
        return replace(layer, bias=bias)
    is_zero = layer.mult == 0
    factor = np.where(is_zero, 1.0, wanted.factor)
    largest = int(layer.mult.max())
    try:
        if isinstance(layer, Conv) and layer.skip is not None and layer.skip_mult:
            skip_factor = skip_ratio * _skip_factor(layer)
            mult_max = _mult_max(max(largest, layer.skip_mult))
            mult, shift, skip_mult = shared_multiplier(factor, skip_factor, mult_max)
            changes: dict[str, Any] = {"skip_mult": skip_mult}
        else:
            mult, shift = multiplier(factor, _mult_max(largest))
            changes = {}
    except FactorError as error:
        raise AdaptationError(f"layer {layer.name!r}: {error}") from None
    mult = np.where(is_zero, 0, mult)
    return replace(layer, bias=bias, mult=mult, shift=shift, post_shift=None, **changes)


def _mult_max(largest: int) -> int:
    return MULT_MAX if largest <= MULT_MAX else WIDE_MULT_MAX


def _skip_factor(layer: Conv) -> float:
    """The residual's factor, which must be the same for all channels to have one multiplier."""
    assert layer.shift is not None
    places = layer.shift + (0 if layer.post_shift is None else layer.post_shift)
    if places.min() != places.max():
        raise AdaptationError(
            f"layer {layer.name!r}: shifts must be alike with a residual to be adapted, "
            f"not {places.min()}..{places.max()}"
        )
    return float(layer.skip_mult * 2.0 ** -float(places[0]))


def check(network: QuantizedNetwork) -> None:
    """Refuse a network whose layers are not requantised."""
    if network.time_steps:
        raise AdaptationError(
            f"{network.name}: must be a network without neurons: a spiking layer has no scale"
        )
    if not any(isinstance(layer, Conv | Dense) for layer in network.layers):
        raise AdaptationError(f"{network.name}: must have a convolution or a dense layer")


def check_labels(network: QuantizedNetwork, n_images: int, labels: Ints) -> None:
    """Refuse labels that are not classes of the images."""
    kind = network.types[network.output]
    n_classes = kind.shape[0]
    if kind.shape[1:] != (1, 1) or n_classes < 2:
        raise AdaptationError(f"{network.name}: results must be logits, not maps of {kind.shape}")
    if labels.shape != (n_images,) or labels.dtype.kind not in "iu":
        raise AdaptationError(
            f"labels must be {n_images} integers, a class for each image, not "
            f"{labels.dtype} of shape {labels.shape}"
        )
    if labels.min() < 0 or labels.max() >= n_classes:
        raise AdaptationError(
            f"labels must be 0..{n_classes - 1}, not {labels.min()}..{labels.max()}"
        )


def adapt(
    network: QuantizedNetwork, arrays: NetworkArrays, images: Ints, rule: Rule, last: Rule
) -> QuantizedNetwork:
    """A network for one chip, layer by layer: each is measured behind those that are repaired.

    Parameters
    ----------
    network : QuantizedNetwork
    arrays : NetworkArrays
        Of that network.
    images : (N, C, H, W) int
        Training images; no labels are needed.
    rule, last : callable
        For layers that are requantised, and for accumulators as results.

    Returns
    -------
    QuantizedNetwork
        The same but for biases, multipliers and shifts.
    """
    check(network)
    inputs = check_features(network.input_type, images)
    exact: dict[str, Ints] = {INPUT: inputs}
    own: dict[str, Ints] = {INPUT: inputs}
    layers = []
    for layer in network.layers:
        new = layer
        products = None
        if isinstance(layer, Conv | Dense):
            sums = in_batches(layer, arrays, own[layer.input])
            accumulators = reference.accumulate(layer, exact[layer.input])
            before = Affine(factors(layer), layer.bias.astype(np.float64))
            chosen = last if layer.out_bits == RAW_BITS else rule
            bare = moments(accumulators - layer.bias[:, np.newaxis, np.newaxis])
            kind = network.types[layer.input]
            new = with_affine(layer, kind, chosen(before, bare, moments(sums)))
            products = _known(sums)
        exact[layer.name] = reference.run_layer(layer, network.types, exact)
        own[layer.name] = reference.run_layer(new, network.types, own, products)
        layers.append(new)
    return replace(network, layers=tuple(layers))


def in_batches(layer: Conv | Dense, arrays: NetworkArrays, source: Ints, first: int = 0) -> Ints:
    """Sums of products on the arrays, of images that are adapted with."""
    mine = arrays.layers[layer.name]
    parts = [
        mine.products(source[k : k + BATCH], OTHER_IMAGES + first + k, 0)
        for k in range(0, len(source), BATCH)
    ]
    return np.concatenate(parts)


def _known(sums: Ints) -> reference.Products:
    return lambda _layer, _source: sums


def statistics(network: QuantizedNetwork, arrays: NetworkArrays, images: Ints) -> QuantizedNetwork:
    """Means and spreads of each channel as on the exact network; parameters as of `adapt`."""
    return adapt(network, arrays, images, by_channel, of_logits)


def gain(network: QuantizedNetwork, arrays: NetworkArrays, images: Ints) -> QuantizedNetwork:
    """One gain for each layer; parameters as of `adapt`."""
    return adapt(network, arrays, images, by_layer, of_logits_by_layer)


def second_component(ideal: Floats, held: Floats) -> float:
    """Share of the second principal component in the cloud of ideal and held weights.

    0 if held weights are a multiple of the ideal ones, a half if they have nothing in common.
    """
    cloud = np.stack([ideal.ravel(), held.ravel()]).astype(np.float64)
    values = np.linalg.eigvalsh(np.cov(cloud))
    total = float(values.sum())
    return max(0.0, float(values[0])) / total if total else 0.0


def second_components(network: QuantizedNetwork, arrays: NetworkArrays) -> Mapping[str, float]:
    """By layer; held weights are scaled to the spread of the ideal ones, as normalisation does."""
    result = {}
    for name, mine in arrays.layers.items():
        layer = network.layer(name)
        assert isinstance(layer, Conv | Dense)
        held = mine.held_weights()
        spread = float(held.std())
        scale = float(layer.weight.std()) / spread if spread else 1.0
        result[name] = second_component(layer.weight.astype(np.float64), held * scale)
    return result
