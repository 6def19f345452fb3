"""From the layers of a network to the passes of the accelerator.

A pass is a convolution and what follows it that nobody else looks through: pooling of 2x2, a
lookup table, the global average. A dense layer is a 1x1 convolution over all pixels as channels.
What has no convolution of its own gets one that copies. Channels are selected by where the weights
stand: maps that are read together lie in one map of the feature memory, block behind block.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from model.mars.config import KERNELS, WORD_LINES
from model.mars.image import Features
from model.mars.layout import TABLE_SIZE
from model.mars.network import (
    INPUT,
    RAW_BITS,
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
    clamp_of,
)
from model.mars.packing import Packing, best_packing, packed_steps

NARROW = (-8, 7)
"""Weights of 4 bit."""
COPY_MULT, COPY_SHIFT = 2, 1
"""(2 x + 1) >> 1 is x."""
MAX_TAPS = 64
"""Taps of a maximum: one macro has them all."""
MAX_WINDOW = 16
"""Rows and columns of a window in one pass."""
INPUT_COPY = "input (copy)"
Weights = NDArray[np.int8]


@dataclass(frozen=True)
class Home:
    """Where a layer's result lies: in which map of the feature memory, from which block on."""

    map: str
    block: int


@dataclass(frozen=True)
class Post:
    """What follows the accumulators, (kernels,) each, and for all `offset`, `low` and `high`."""

    bias: Ints
    mult: Ints
    shift: Ints
    post_shift: Ints
    offset: int
    low: int
    high: int


@dataclass(frozen=True)
class Band:
    """Rows of a convolution's result: `rows` of each team, from row ``first + team * pitch`` on.

    What is outside the map is computed and not stored.
    """

    n_teams: int
    pitch: int
    first: int
    rows: int


@dataclass(frozen=True, kw_only=True)
class Convolution:
    """A pass before it is mapped to macros.

    Parameters
    ----------
    layers : tuple of str
        The network's layers in it, and the type of each one's result in `outputs`.
    output : str
        What it writes, a key of `Lowered.homes`.
    source : str
        The map that it reads, and the type of the layer's result in it.
    skip, skip_kind, skip_mult, skip_zero
        The residual, a key of `Lowered.homes`; None without one.
    weight : (kernels, dy, dx, channels) int8
        Channels are those of the whole map, a multiple of 16.
    stride, dilation, top, left, pad_value
        Of the convolution, as the padding above and at the left.
    map_size : (int, int)
        Rows and columns of the convolution's own result.
    band : Band or None
        The rows that this pass computes, if not all.
    flat, wide, stacked, whole, raw, maximum, copy, partial, pool : bool
        All pixels of the source are channels of one; 8-bit weights, in pairs of columns or of
        entries; results have both halves of their last word; no requantisation; the largest
        product counts, not the sum; the convolution is none of the layers but copies the source;
        what it computes is a step on the way to the layer's result; 2x2 max pooling.
    table : (256,) int or None
        By the low byte of a value.
    """

    layers: tuple[str, ...]
    outputs: tuple[Features, ...]
    output: str
    source: str
    source_kind: Features
    weight: Weights
    post: Post
    map_size: Pair
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    top: int = 0
    left: int = 0
    pad_value: int = 0
    band: Band | None = None
    skip: str | None = None
    skip_kind: Features | None = None
    skip_mult: int = 0
    skip_zero: int = 0
    flat: bool = False
    wide: bool = False
    stacked: bool = False
    whole: bool = False
    raw: bool = False
    maximum: bool = False
    copy: bool = False
    partial: bool = False
    pool: bool = False
    table: Ints | None = None
    average: AvgPool | None = None

    @property
    def kernel(self) -> Pair:
        """Rows and columns of a kernel."""
        return self.weight.shape[1:3]

    @property
    def n_kernels(self) -> int:
        """Output channels, those included that fill up the last kernel block."""
        unit = KERNELS if self.whole else kernels_per_block(self)
        return -(-len(self.weight) // unit) * unit

    @property
    def label(self) -> str:
        """How errors call it."""
        return self.layers[0]


@dataclass(frozen=True)
class Lowered:
    """A network as passes.

    Parameters
    ----------
    passes : list of Convolution
    homes : {str: Home}
        Of every result that is stored.
    maps : {str: Features}
        The maps of the feature memory, channels filled up to blocks of 16.
    packing : Packing or None
        Of the input.
    """

    passes: list[Convolution]
    homes: dict[str, Home]
    maps: dict[str, Features]
    packing: Packing | None


def features(network: QuantizedNetwork, name: str) -> Features:
    """Type of the network's input or of a layer's result."""
    return _features(network.types[name])


def kernels_per_block(one: Convolution) -> int:
    """Output channels of a kernel block."""
    return KERNELS // 2 if one.wide else KERNELS


def lower(network: QuantizedNetwork, n_macros: int | None = None) -> Lowered:
    """The passes of a network, in order; an input is packed for so many macros, or not at all."""
    return _Lowering(network, n_macros).run()


@dataclass(frozen=True)
class _View:
    """Channels of a map: `slots` says which, in order; `kind` is the type of all of them."""

    map: str
    kind: Features
    slots: Ints


class _Lowering:
    def __init__(self, network: QuantizedNetwork, n_macros: int | None) -> None:
        self.network = network
        self.packing = self._packing(n_macros)
        self.passes: list[Convolution] = []
        self.homes: dict[str, Home] = {}
        self.maps: dict[str, Features] = {}
        self.kinds = {name: features(network, name) for name in network.types}

    def run(self) -> Lowered:
        self._settle()
        if INPUT_COPY in self.homes:
            self._copy(self._view(INPUT), INPUT_COPY, INPUT)
        done: set[str] = set()
        for layer in self.network.layers:
            if layer.name not in done and not isinstance(layer, Select):
                chain = self._chain(layer)
                self._pass(layer, chain)
                done.update(part.name for part in chain)
        last = self.network.layers[-1]
        if isinstance(last, Select):
            self._copy(self._view(last.name), last.name, last.name)
        return Lowered(self._whole(), self.homes, self.maps, self.packing)

    def _whole(self) -> list[Convolution]:
        """The passes; one that is read as a residual writes all of its words."""
        skips = {one.skip for one in self.passes}
        return [replace(one, whole=one.output in skips) for one in self.passes]

    def _packing(self, n_macros: int | None) -> Packing | None:
        """That of the input, if one convolution alone reads it."""
        readers = self.network.consumers(INPUT)
        if n_macros is None or len(readers) != 1:
            return None
        if not isinstance(readers[0], Conv) or readers[0].skip == INPUT:
            return None
        return best_packing(readers[0], self.network.input_type, n_macros)

    # Where results lie

    def _settle(self) -> None:
        """Gives every result a home: those that are selected together share a map."""
        groups = {name: [name] for name in self.kinds if not self._is_select(name)}
        for layer in self.network.layers:
            if not isinstance(layer, Select):
                continue
            bases = list(dict.fromkeys(base for base, _ in self._channels(layer.name)))
            if len(bases) > 1 and INPUT in bases:
                self.kinds[INPUT_COPY] = self.kinds[INPUT]
                groups.setdefault(INPUT_COPY, [INPUT_COPY])
                bases[bases.index(INPUT)] = INPUT_COPY
            for base in bases[1:]:
                first, other = groups[bases[0]], groups[base]
                if first is not other:
                    first += other
                    groups.update(dict.fromkeys(other, first))
        for members in groups.values():
            if members[0] not in self.homes:
                self._found(members)

    def _found(self, members: Sequence[str]) -> None:
        """A map for some results."""
        name, block = members[0], 0
        for member in members:
            self.homes[member] = Home(name, block)
            block += self.kinds[member].blocks
        kind = self.kinds[name]
        size = kind.shape[1:]
        if name == INPUT and self.packing is not None:
            size = (self.packing.n_rows, self.packing.n_cols)
        self.maps[name] = replace(kind, shape=(block * KERNELS, *size))

    def _is_select(self, name: str) -> bool:
        return any(layer.name == name for layer in self.network.layers if isinstance(layer, Select))

    def _channels(self, name: str) -> list[tuple[str, int]]:
        """Of which layer's result, and which channel of it, each channel is."""
        if not self._is_select(name):
            return [(name, channel) for channel in range(self.kinds[name].shape[0])]
        layer = self.network.layer(name)
        assert isinstance(layer, Select)
        together = [part for source in layer.inputs for part in self._channels(source)]
        return [together[channel] for channel in layer.channels]

    def _view(self, name: str) -> _View:
        """Where the channels of a result are."""
        parts = self._channels(name)
        if INPUT_COPY in self.homes and len({base for base, _ in parts}) > 1:
            parts = [(INPUT_COPY if base == INPUT else base, channel) for base, channel in parts]
        slots = [self.homes[base].block * KERNELS + channel for base, channel in parts]
        return _View(self.homes[parts[0][0]].map, self.kinds[name], np.array(slots))

    def _own(self, name: str) -> str:
        """A map of a result alone, channel behind channel."""
        if not self._is_select(name):
            return name
        own = f"{name} (copy)"
        if own not in self.homes:
            self.kinds[own] = self.kinds[name]
            self._found([own])
            self._copy(self._view(name), own, name)
        return own

    # Passes

    def _chain(self, layer: Layer) -> list[Layer]:
        """The layer and what follows it in the same pass, whose input nobody else needs."""
        chain = [layer]
        rank = _rank(layer)
        while True:
            readers = self.network.consumers(chain[-1].name)
            is_raw = self.kinds[chain[-1].name].bits == RAW_BITS
            if len(readers) != 1 or is_raw or _rank(readers[0]) <= max(rank, 0):
                return chain
            chain.append(readers[0])
            rank = _rank(readers[0])

    def _pass(self, layer: Layer, chain: list[Layer]) -> None:
        match layer:
            case Conv():
                first = self._conv(layer)
            case Dense():
                first = self._dense(layer)
            case MaxPool() if not layer.is_quad:
                first = self._maximum(layer)
            case _:
                assert not isinstance(layer, Select)
                first = self._copying(self._view(layer.input))
        kinds = [self.kinds[part.name] for part in chain]
        tables = [part for part in chain if isinstance(part, Lookup)]
        averages = [part for part in chain if isinstance(part, AvgPool)]
        self._append(
            replace(
                first,
                layers=tuple(part.name for part in chain),
                outputs=tuple(kinds),
                output=chain[-1].name,
                pool=any(_rank(part) == 1 for part in chain),
                table=self._table(tables[0]) if tables else None,
                average=averages[0] if averages else None,
            )
        )

    def _append(self, one: Convolution) -> None:
        """Whatever a layer declares: what fits in 4 bit is stored so."""
        low, high = NARROW
        wide = bool(one.weight.min() < low or one.weight.max() > high)
        self.passes.append(replace(one, wide=wide))

    def _table(self, layer: Lookup) -> Ints:
        low = self.kinds[layer.input].low
        table = np.zeros(TABLE_SIZE, np.int64)
        table[np.arange(low, low + len(layer.table)) & 0xFF] = layer.table
        return table

    def _conv(self, layer: Conv) -> Convolution:
        if layer.input == INPUT and self.packing is not None:
            return self._packed(layer, self.packing)
        view = self._view(layer.input)
        if len(set(view.slots.tolist())) < len(view.slots):
            view = self._view(self._own(layer.input))
        kind = self.kinds[layer.name]
        skip = None if layer.skip is None else self._own(layer.skip)
        return Convolution(
            layers=(layer.name,),
            outputs=(kind,),
            output=layer.name,
            source=view.map,
            source_kind=view.kind,
            weight=self._weight(view, layer.weight, layer.groups),
            post=_post(layer, kind),
            map_size=kind.shape[1:],
            stride=layer.stride,
            dilation=layer.dilation,
            top=layer.padding[0],
            left=layer.padding[1],
            pad_value=layer.pad_value,
            skip=skip,
            skip_kind=None if skip is None else self.kinds[skip],
            skip_mult=layer.skip_mult,
            skip_zero=layer.skip_zero,
            raw=layer.out_bits == RAW_BITS,
        )

    def _packed(self, layer: Conv, packing: Packing) -> Convolution:
        """The convolution on a packed input."""
        plain = self.kinds[INPUT]
        kind = replace(plain, shape=packing.packed_shape(plain.shape))
        view = _View(INPUT, kind, np.arange(kind.shape[0]))
        stride, dilation = packed_steps(packing, layer)
        return Convolution(
            layers=(layer.name,),
            outputs=(self.kinds[layer.name],),
            output=layer.name,
            source=INPUT,
            source_kind=kind,
            weight=self._weight(view, packing.weight(layer.weight), 1),
            post=_post(layer, self.kinds[layer.name]),
            map_size=self.kinds[layer.name].shape[1:],
            stride=stride,
            dilation=dilation,
            skip=None if layer.skip is None else self._own(layer.skip),
            skip_kind=None if layer.skip is None else self.kinds[layer.skip],
            skip_mult=layer.skip_mult,
            skip_zero=layer.skip_zero,
            raw=layer.out_bits == RAW_BITS,
        )

    def _dense(self, layer: Dense) -> Convolution:
        view = self._view(layer.input)
        if len(set(view.slots.tolist())) < len(view.slots):
            view = self._view(self._own(layer.input))
        kind = self.kinds[layer.name]
        weight = self._weight(view, layer.weight.reshape(-1, *view.kind.shape), 1)
        return Convolution(
            layers=(layer.name,),
            outputs=(kind,),
            output=layer.name,
            source=view.map,
            source_kind=view.kind,
            weight=weight.reshape(len(weight), 1, 1, -1),
            post=_post(layer, kind),
            map_size=(1, 1),
            flat=True,
            raw=layer.out_bits == RAW_BITS,
        )

    def _weight(self, view: _View, weight: Ints, groups: int) -> Weights:
        """(kernels, channels/groups, dy, dx) as (kernels, dy, dx, channels of the map)."""
        n_kernels, n_channels, *size = weight.shape
        result = np.zeros((n_kernels, *size, self.maps[view.map].shape[0]), np.int8)
        by_group = np.split(np.arange(n_kernels), groups)
        for kernels, slots in zip(by_group, view.slots.reshape(groups, n_channels), strict=True):
            result[kernels[:, np.newaxis], ..., slots] = weight[kernels]
        return result

    def _copying(self, view: _View) -> Convolution:
        """A convolution whose results are what it reads."""
        channels, rows, cols = view.kind.shape
        weight = np.ones((channels, 1, 1, 1), np.int64)
        return Convolution(
            layers=(),
            outputs=(view.kind,),
            output="",
            source=view.map,
            source_kind=view.kind,
            weight=self._weight(view, weight, channels),
            post=_copying_post(view.kind),
            map_size=(rows, cols),
            copy=True,
        )

    def _copy(self, view: _View, output: str, label: str) -> None:
        is_layer = output == self.network.layers[-1].name
        copy = replace(self._copying(view), layers=(label,), output=output, partial=not is_layer)
        if output not in self.homes:
            self._found([output])
        self._append(copy)

    def _maximum(self, layer: MaxPool) -> Convolution:
        """The last of the passes that a pool takes; those before it are appended."""
        view = self._view(layer.input)
        blocks = view.slots // KERNELS
        if any(len(set(blocks[k : k + KERNELS])) > 1 for k in range(0, len(blocks), KERNELS)):
            view = self._view(self._own(layer.input))
        windows = list(_windows(layer.kernel, layer.steps, layer.padding))
        for k, window in enumerate(windows):
            one = self._window(view, window)
            if k == len(windows) - 1:
                return one
            name = f"{layer.name} ({k + 1} of {len(windows)})"
            self.kinds[name] = one.outputs[0]
            self._found([name])
            self._append(replace(one, layers=(layer.name,), output=name, partial=True))
            view = self._view_of_own(name)
        raise AssertionError("a pool must have a window")

    def _view_of_own(self, name: str) -> _View:
        kind = self.kinds[name]
        return _View(name, kind, np.arange(kind.shape[0]))

    def _window(self, view: _View, window: "_Window") -> Convolution:
        channels, rows, cols = view.kind.shape
        top, left, bottom, right = window.padding
        size = (
            (rows + top + bottom - window.kernel[0]) // window.stride[0] + 1,
            (cols + left + right - window.kernel[1]) // window.stride[1] + 1,
        )
        weight = np.ones((channels, 1, *window.kernel), np.int64)
        kind = replace(view.kind, shape=(channels, *size))
        return Convolution(
            layers=(),
            outputs=(kind,),
            output="",
            source=view.map,
            source_kind=view.kind,
            weight=self._weight(view, weight, channels),
            post=_copying_post(kind),
            map_size=size,
            stride=window.stride,
            top=top,
            left=left,
            pad_value=view.kind.low,
            maximum=True,
        )


@dataclass(frozen=True)
class _Window:
    kernel: Pair
    stride: Pair
    padding: Sides


def _windows(kernel: Pair, stride: Pair, padding: Sides) -> list[_Window]:
    """Windows one after the other whose maximum is that of a large one."""
    if max(kernel) <= MAX_WINDOW and kernel[0] * kernel[1] <= MAX_TAPS:
        return [_Window(kernel, stride, padding)]
    top, left, bottom, right = padding
    if min(kernel) > 1:
        return [
            *_windows((kernel[0], 1), (stride[0], 1), (top, 0, bottom, 0)),
            *_windows((1, kernel[1]), (1, stride[1]), (0, left, 0, right)),
        ]
    axis = int(kernel[1] > 1)
    first = (MAX_WINDOW, 1) if not axis else (1, MAX_WINDOW)
    rest = kernel[axis] - MAX_WINDOW + 1
    second = (rest, 1) if not axis else (1, rest)
    return [_Window(first, (1, 1), padding), *_windows(second, stride, (0, 0, 0, 0))]


def _features(kind: FeatureType) -> Features:
    return Features(shape=kind.shape, bits=kind.bits, signed=kind.signed)


def _rank(layer: Layer) -> int:
    """The order in which a pass can do what follows its convolution; 0 is the convolution."""
    match layer:
        case MaxPool():
            return 1 if layer.is_quad else 0
        case Lookup():
            return 2
        case AvgPool():
            return 3
    return 0


def _post(layer: Conv | Dense, kind: Features) -> Post:
    n = len(layer.bias)
    nothing = np.zeros(n, np.int64)
    if layer.mult is None or layer.shift is None:
        return Post(layer.bias, nothing, np.ones(n, np.int64), nothing, 0, 0, 0)
    low, high = clamp_of(layer, kind)
    post_shift = nothing if layer.post_shift is None else layer.post_shift
    return Post(layer.bias, layer.mult, layer.shift, post_shift, layer.offset, low, high)


def _copying_post(kind: Features) -> Post:
    n = kind.shape[0]
    nothing = np.zeros(n, np.int64)
    mult, shift = np.full(n, COPY_MULT), np.full(n, COPY_SHIFT)
    return Post(nothing, mult, shift, nothing, 0, kind.low, kind.high)


assert WORD_LINES == KERNELS
