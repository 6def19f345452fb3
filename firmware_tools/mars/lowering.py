"""From the layers of a network to the passes of the accelerator.

A pass is a convolution and the pools behind it that nothing else looks through. A dense layer is
a 1x1 convolution over all pixels as channels, and a pool that has no convolution of its own gets
one that copies.
"""

from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from model.mars.config import KERNELS, WORD_LINES
from model.mars.image import Features
from model.mars.network import AvgPool, Conv, Dense, Layer, MaxPool2, QuantizedNetwork

NARROW_BITS = 4
MAX_FEATURE_BITS = 8
COPY_MULT, COPY_SHIFT = 2, 1
"""(2 x + 1) >> 1 is x."""
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Convolution:
    """A pass before it is mapped to macros.

    Parameters
    ----------
    layers : tuple of str
        The network's layers in it, and the type of each one's result in `outputs`.
    source, skip : str
        Names of the maps that it reads, their types in `source_kind` and `skip_kind`; no residual
        is None.
    flat : bool
        All pixels of the source are channels of one.
    map_size : (int, int)
        Rows and columns of the convolution's own result.
    weight : (kernels, dy, dx, channels) int64
        Channels are a multiple of 16; those that fill up are 0.
    bias, mult, shift : (kernels,) int64
    wide, raw, copy, pool : bool
        8-bit weights; no requantisation; the convolution is none of the layers but copies the
        source; 2x2 max pooling.
    average : AvgPool or None
    """

    layers: tuple[str, ...]
    outputs: tuple[Features, ...]
    source: str
    source_kind: Features
    skip: str | None
    skip_kind: Features | None
    skip_mult: int
    flat: bool
    map_size: tuple[int, int]
    weight: Ints
    bias: Ints
    mult: Ints
    shift: Ints
    stride: int
    pad: int
    wide: bool
    raw: bool
    copy: bool
    pool: bool
    average: AvgPool | None

    @property
    def output(self) -> str:
        """Name of the map that it writes."""
        return self.layers[-1]


class _Common(TypedDict):
    """What every pass has."""

    layers: tuple[str, ...]
    outputs: tuple[Features, ...]
    source: str
    source_kind: Features
    pool: bool
    average: AvgPool | None


def features(network: QuantizedNetwork, name: str) -> Features:
    """Type of the network's input or of a layer's result."""
    kind = network.types[name]
    return Features(shape=kind.shape, bits=kind.bits, signed=kind.signed)


def lower(network: QuantizedNetwork) -> list[Convolution]:
    """The passes of a network, in order."""
    passes = []
    done: set[str] = set()
    for layer in network.layers:
        if layer.name in done:
            continue
        chain = _with_pools(network, layer)
        passes.append(_convolution(network, layer, chain))
        done.update(part.name for part in chain)
    return passes


def _with_pools(network: QuantizedNetwork, layer: Layer) -> list[Layer]:
    """The layer and the pools behind it whose input nobody else needs."""
    chain = [layer]
    while not isinstance(chain[-1], AvgPool):
        consumers = network.consumers(chain[-1].name)
        allowed = AvgPool if isinstance(chain[-1], MaxPool2) else MaxPool2 | AvgPool
        if len(consumers) != 1 or not isinstance(consumers[0], allowed):
            break
        chain.append(consumers[0])
    return chain


def _convolution(network: QuantizedNetwork, layer: Layer, chain: list[Layer]) -> Convolution:
    names = tuple(part.name for part in chain)
    outputs = tuple(features(network, name) for name in names)
    source = features(network, layer.input)
    averages = [part for part in chain if isinstance(part, AvgPool)]
    common = _Common(
        layers=names,
        outputs=outputs,
        source=layer.input,
        source_kind=source,
        pool=any(isinstance(part, MaxPool2) for part in chain),
        average=averages[0] if averages else None,
    )
    if not isinstance(layer, Conv | Dense):
        return _copy(common)
    n = len(layer.bias)
    skip = layer.skip if isinstance(layer, Conv) else None
    flat = isinstance(layer, Dense)
    return Convolution(
        **common,
        skip=skip,
        skip_kind=features(network, skip) if skip else None,
        skip_mult=layer.skip_mult if isinstance(layer, Conv) and skip else 0,
        flat=flat,
        map_size=(1, 1) if flat else outputs[0].shape[1:],
        weight=_flat_weight(layer.weight, source) if flat else _weight(layer.weight),
        bias=layer.bias.astype(np.int64),
        mult=np.zeros(n, np.int64) if layer.mult is None else layer.mult.astype(np.int64),
        shift=np.ones(n, np.int64) if layer.shift is None else layer.shift.astype(np.int64),
        stride=layer.stride if isinstance(layer, Conv) else 1,
        pad=layer.padding if isinstance(layer, Conv) else 0,
        wide=layer.weight_bits > NARROW_BITS,
        raw=layer.out_bits > MAX_FEATURE_BITS,
        copy=False,
    )


def _copy(common: _Common) -> Convolution:
    """A convolution whose results are its input."""
    channels, rows, cols = common["source_kind"].shape
    return Convolution(
        **common,
        skip=None,
        skip_kind=None,
        skip_mult=0,
        flat=False,
        map_size=(rows, cols),
        weight=_weight(np.eye(channels, dtype=np.int64)[:, :, np.newaxis, np.newaxis]),
        bias=np.zeros(channels, np.int64),
        mult=np.full(channels, COPY_MULT),
        shift=np.full(channels, COPY_SHIFT),
        stride=1,
        pad=0,
        wide=False,
        raw=False,
        copy=True,
    )


def _weight(weight: NDArray[np.integer]) -> Ints:
    """(kernels, channels, dy, dx) to (kernels, dy, dx, channels padded to 16)."""
    channels = weight.shape[1]
    padded = -(-channels // WORD_LINES) * WORD_LINES
    result = np.zeros((weight.shape[0], *weight.shape[2:], padded), np.int64)
    result[..., :channels] = weight.transpose(0, 2, 3, 1)
    return result


def _flat_weight(weight: NDArray[np.integer], source: Features) -> Ints:
    """(kernels, C*H*W) to (kernels, 1, 1, H*W*padded channels)."""
    padded = _weight(weight.reshape(-1, *source.shape))
    return padded.reshape(len(padded), 1, 1, -1)


def kernels_per_block(one: Convolution) -> int:
    """Output channels of a kernel block."""
    return KERNELS // 2 if one.wide else KERNELS
