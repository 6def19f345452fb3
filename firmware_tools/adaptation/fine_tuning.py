"""Scale and shift of each channel, trained on one chip of a device; weights stay.

Forward every product is what the arrays say, backward it is linear in the weights that they hold.
Each channel is normalised by the moments that `moments.statistics` leaves, then scaled and shifted:
that is what is trained, for 5 epochs at a rate of .01, a fifth of it after every second one (as
third-party notes have it of 2305.18416; Adam and the batch are ours).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from firmware_tools.adaptation.errors import AdaptationError
from firmware_tools.adaptation.moments import (
    OTHER_IMAGES,
    Affine,
    check_labels,
    factors,
    statistics,
    with_affine,
)
from model.mars import reference
from model.mars.devices.execution import NetworkArrays
from model.mars.network import (
    INPUT,
    RAW_BITS,
    AvgPool,
    Conv,
    Dense,
    Ints,
    Layer,
    MaxPool,
    QuantizedNetwork,
    clamp_of,
)

EPOCHS = 5
RATE = 0.01
RATE_STEP, RATE_FACTOR = 2, 0.2
BATCH = 64
SPREADS = 3.0
"""Standard deviations that a type's range is taken to be, where scale and shift count in them."""
LOGITS = 3.0
"""Standard deviation of logits, where the loss sees them."""
SMALLEST = 1e-3
"""Least scale, so that factors stay positive."""


class _Exact(torch.autograd.Function):
    """Another value forward, the gradient unchanged backward."""

    @staticmethod
    def forward(_ctx: object, smooth: Tensor, exact: Tensor) -> Tensor:
        return exact.to(smooth.dtype)

    @staticmethod
    def backward(_ctx: object, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def _replaced(smooth: Tensor, exact: Tensor) -> Tensor:
    result: Tensor = _Exact.apply(smooth, exact)  # type: ignore[no-untyped-call]
    return result


@dataclass
class Trained:
    """A layer's scale and shift, in units of `unit`: ``unit*(scale*x/spread + shift)``."""

    layer: Conv | Dense
    weight: Tensor
    spread: Tensor
    unit: float
    scale: Tensor
    shift: Tensor

    def affine(self) -> Affine:
        """As factor and bias."""
        scale = self.scale.detach().clamp(min=SMALLEST).double().numpy()
        shift = self.shift.detach().double().numpy()
        factor = self.unit * scale / self.spread.double().numpy()
        bias = self.unit * shift / factor
        if self.layer.out_bits == RAW_BITS:
            return Affine(np.ones_like(factor), bias)
        return Affine(factor, bias)


def fine_tune(
    network: QuantizedNetwork,
    arrays: NetworkArrays,
    images: Ints,
    labels: Ints,
    *,
    seed: int = 0,
    advance: Callable[[int], None] = lambda _done: None,
) -> QuantizedNetwork:
    """A network for one chip, beginning with `moments.statistics`.

    Parameters
    ----------
    network : QuantizedNetwork
        Convolutions, dense layers, pools; its results are logits.
    arrays : NetworkArrays
        Of that network.
    images : (N, C, H, W) int
        Training images.
    labels : (N,) int
        Their classes.
    seed : int
        Of their order.
    advance : callable
        Is told how many epochs are done.

    Raises
    ------
    AdaptationError
        The network has other layers, or labels are not classes of the images.
    """
    _check(network, images, labels)
    start = statistics(network, arrays, images)
    trained = begin(start, arrays, images)
    parameters = [p for one in trained.values() for p in (one.scale, one.shift)]
    optimizer = torch.optim.Adam(parameters, RATE)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, RATE_STEP, RATE_FACTOR)
    generator = torch.Generator().manual_seed(seed)
    targets = torch.from_numpy(labels.astype(np.int64))
    for epoch in range(EPOCHS):
        order = torch.randperm(len(images), generator=generator).numpy()
        for k in range(0, len(images), BATCH):
            chosen = order[k : k + BATCH]
            logits = forward(start, arrays, trained, images[chosen], epoch * len(images) + k)
            loss = functional.cross_entropy(logits.flatten(1), targets[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        advance(epoch + 1)
    layers = [
        with_affine(layer, start.types[layer.input], trained[layer.name].affine())
        if isinstance(layer, Conv | Dense)
        else layer
        for layer in start.layers
    ]
    return replace(start, layers=tuple(layers))


def _check(network: QuantizedNetwork, images: Ints, labels: Ints) -> None:
    for layer in network.layers:
        if not isinstance(layer, Conv | Dense | MaxPool | AvgPool):
            raise AdaptationError(
                f"layer {layer.name!r}: must be a convolution, a dense layer or a pool to be "
                f"trained through, not {type(layer).__name__.lower()}"
            )
    check_labels(network, len(images), labels)


def begin(network: QuantizedNetwork, arrays: NetworkArrays, images: Ints) -> dict[str, Trained]:
    """Scales and shifts that compute what the network computes."""
    seen: dict[str, Ints] = {}

    def products(layer: Conv | Dense, source: Ints) -> Ints:
        seen[layer.name] = arrays.layers[layer.name].products(source, OTHER_IMAGES, 0)
        return seen[layer.name]

    reference.run(network, images[: 4 * BATCH], products)
    result = {}
    for layer in network.layers:
        if not isinstance(layer, Conv | Dense):
            continue
        by_channel = seen[layer.name].swapaxes(0, 1).reshape(len(layer.weight), -1)
        spread = np.maximum(by_channel.std(axis=1), 1.0)
        kind = network.types[layer.name]
        factor = factors(layer)
        unit = kind.high / SPREADS
        if layer.out_bits == RAW_BITS:
            spread = np.full_like(spread, np.sqrt(np.mean(spread**2)))
            unit = float(spread[0])
        result[layer.name] = Trained(
            layer,
            torch.from_numpy(arrays.layers[layer.name].held_weights()).float(),
            torch.from_numpy(spread),
            unit,
            _parameter(factor * spread / unit, train=layer.out_bits != RAW_BITS),
            _parameter(factor * layer.bias / unit),
        )
    return result


def _parameter(values: np.ndarray, *, train: bool = True) -> Tensor:
    return torch.from_numpy(values.astype(np.float32)).requires_grad_(train)


def forward(
    network: QuantizedNetwork,
    arrays: NetworkArrays,
    trained: Mapping[str, Trained],
    images: Ints,
    first: int,
) -> Tensor:
    """Logits of images, whose draws are those of the numbers from `first` on."""
    maps: dict[str, Tensor] = {INPUT: torch.from_numpy(images.astype(np.float32))}
    for layer in network.layers:
        if isinstance(layer, Conv | Dense):
            maps[layer.name] = _products(network, arrays, trained[layer.name], maps, first)
        else:
            maps[layer.name] = _pool(network, layer, maps)
    last = network.layers[-1]
    own = trained.get(last.name)
    scale = own.unit if own is not None else network.types[last.name].high / SPREADS
    return maps[last.name] * (LOGITS / scale)


def _products(
    network: QuantizedNetwork,
    arrays: NetworkArrays,
    own: Trained,
    maps: Mapping[str, Tensor],
    first: int,
) -> Tensor:
    layer, source = own.layer, maps[own.layer.input]
    ints = source.detach().numpy().astype(np.int64)
    sums = arrays.layers[layer.name].products(ints, OTHER_IMAGES + first, 0)
    x = _replaced(_linear(layer, own.weight, source), torch.from_numpy(sums))
    shape = (1, -1, 1, 1)
    scale = own.scale.clamp(min=SMALLEST) / own.spread.float()
    z = own.unit * (x * scale.view(shape) + own.shift.view(shape))
    if layer.out_bits == RAW_BITS:
        return z
    if isinstance(layer, Conv) and layer.skip is not None:
        assert layer.shift is not None
        z = z + (maps[layer.skip] - layer.skip_zero) * (layer.skip_mult * 2.0 ** -layer.shift[0])
    low, high = clamp_of(layer, network.types[layer.name])
    clamped = (z + layer.offset).clamp(low, high)
    return _replaced(clamped, clamped.round())


def _linear(layer: Conv | Dense, weight: Tensor, source: Tensor) -> Tensor:
    if isinstance(layer, Dense):
        return functional.linear(source.flatten(1), weight)[:, :, None, None]
    top, left, bottom, right = layer.padding
    filled = functional.pad(source, (left, right, top, bottom), value=float(layer.pad_value))
    return functional.conv2d(
        filled, weight, stride=layer.stride, dilation=layer.dilation, groups=layer.groups
    )


def _pool(network: QuantizedNetwork, layer: Layer, maps: Mapping[str, Tensor]) -> Tensor:
    assert isinstance(layer, MaxPool | AvgPool)
    source = maps[layer.input]
    kind = network.types[layer.name]
    if isinstance(layer, MaxPool):
        top, left, bottom, right = layer.padding
        filled = functional.pad(source, (left, right, top, bottom), value=-torch.inf)
        return functional.max_pool2d(filled, layer.kernel, layer.steps)
    ints = source.detach().numpy().astype(np.int64)
    exact = reference.run_layer(layer, network.types, {layer.input: ints})
    factor = layer.mult * 2.0 ** -(layer.shift + layer.post_shift)
    total = (source.sum((2, 3), keepdim=True) + layer.bias) * factor + layer.offset
    return _replaced(total.clamp(kind.low, kind.high), torch.from_numpy(exact))
