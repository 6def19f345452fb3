"""From the layers of a network to the passes of the accelerator.

A pass is a convolution and what follows it that nobody else looks through: pooling of 2x2, a
lookup table, the global average. A dense layer is a 1x1 convolution over all pixels as channels.
What has no convolution of its own gets one that copies. Channels are selected by where the weights
stand: maps that are read together lie in one map of the feature memory, block behind block.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from model.mars.config import KERNELS, NIBBLE, WORD_LINES
from model.mars.early_exit import MAX_CLASSES
from model.mars.image import Features
from model.mars.layout import MAX_STEPS, NORMALISATION, SOFTMAX, STEPS_PER_WORD, TABLE_SIZE
from model.mars.network import (
    INPUT,
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
    SumPool,
    Tokens,
    clamp_of,
    memory_of,
    neuron_of,
)
from model.mars.neuron import Neuron
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
MAX_STRIDE = 15
MAX_PADDING = 15


class FitError(ValueError):
    """The network does not fit the configuration; the text says which layer and by how much."""


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
class Neurons:
    """What follows the charges: `threshold` and `initial` (kernels,), the rest for all.

    Channels that share a membrane stand beside each other; the first one's `initial` counts.
    """

    threshold: Ints
    initial: Ints
    limit: int
    soft: bool
    leak: int
    groups: int


@dataclass(frozen=True)
class Membrane:
    """Membranes that outlive a chunk of time steps.

    Parameters
    ----------
    name : str
        What layers that share them have in common.
    shape : (int, int, int)
        Channels (of a group), rows, columns.
    bits : int
    again : bool
        A layer before left them in the same step.
    """

    name: str
    shape: tuple[int, int, int]
    bits: int
    again: bool

    @property
    def planes(self) -> int:
        """Words of up to 16 membranes: 1, 2 or 4."""
        return 1 << max(0, (-(-self.bits // NIBBLE) - 1).bit_length())


@dataclass(frozen=True)
class Operand:
    """A map that stands for weights.

    Parameters
    ----------
    name : str
        A key of `Lowered.homes`.
    tokens, channels : int
        Its pixels and channels.
    transposed : bool
        Its channels are those of the source and its pixels kernels, or the other way round.
    """

    name: str
    tokens: int
    channels: int
    transposed: bool


@dataclass(frozen=True)
class Rows:
    """Softmax or normalisation of a pixel's channels; `parameter` is `octaves` or `epsilon`."""

    function: int
    channels: int
    parameter: int


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
    source_block : int
        The block of that map with which the channels begin that it reads, of an operand or rows.
    constants : (C, n) int or None
        The first pixels of the result's column, which are written when all have been computed.
    operand : Operand or None
        What stands for weights, if a map does: `weight` has ones.
    rows : Rows or None
        What is computed instead of sums: `weight` has zeros, with as many kernels as headers.
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
    flat, column, wide, stacked, whole, raw, maximum, copy, partial, pool : bool
        All pixels of the source are channels of one, or stand in one column; 8-bit weights, in
        pairs of columns or of entries; results have both halves of their last word; no
        requantisation; the largest product counts, not the sum; the convolution is none of the
        layers but copies the source; what it computes is a step on the way to the layer's result;
        2x2 max pooling.
    table : (256,) int or None
        By the low byte of a value.
    n_steps : int
        Time steps of a pass that works in time; 0 for others.
    direct, pixel_sum : bool
        Of such a pass: the source is the same in all steps; the sums of all pixels, which
        `map_size` counts, are one result.
    neurons : Neurons or None
        Of such a pass, unless it is `raw`.
    membrane : Membrane or None
        Where the neurons' membranes are from chunk to chunk, if there is more than one.
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
    source_block: int = 0
    constants: Ints | None = None
    operand: Operand | None = None
    rows: Rows | None = None
    skip: str | None = None
    skip_kind: Features | None = None
    skip_mult: int = 0
    skip_zero: int = 0
    flat: bool = False
    column: bool = False
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
    n_steps: int = 0
    direct: bool = False
    pixel_sum: bool = False
    neurons: Neurons | None = None
    membrane: Membrane | None = None

    @property
    def n_sub_rounds(self) -> int:
        """Times that a pixel is walked, each for four steps."""
        return max(1, -(-self.n_steps // STEPS_PER_WORD))

    @property
    def kernel(self) -> Pair:
        """Rows and columns of a kernel."""
        return self.weight.shape[1:3]

    @property
    def keeps(self) -> tuple[str, ...]:
        """What it reads besides the source: the residual, the map that stands for weights."""
        operand = None if self.operand is None else self.operand.name
        return tuple(name for name in (self.skip, operand) if name is not None)

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
    loads : tuple of str
        Maps that are there before the first pass.
    stores : frozenset of str
        Results that are stored in memory; the last one stays in the first macro otherwise.
    """

    passes: list[Convolution]
    homes: dict[str, Home]
    maps: dict[str, Features]
    packing: Packing | None
    loads: tuple[str, ...] = (INPUT,)
    stores: frozenset[str] = frozenset()

    def kept_maps(self, one: Convolution) -> tuple[str, ...]:
        """Maps that a pass reads besides its source."""
        return tuple(self.homes[name].map for name in one.keeps)

    def read_maps(self, one: Convolution) -> tuple[str, ...]:
        """All maps that a pass reads."""
        return (one.source, *self.kept_maps(one))


def features(network: QuantizedNetwork, name: str, chunk: int = 0) -> Features:
    """Type of the network's input or of a layer's result, in time for so many steps or for all."""
    kind = network.types[name]
    n_steps = chunk or kind.time_steps if kind.time_steps else 0
    # A nibble of spikes has four of their steps; sums of spikes are not stored.
    return Features(kind.shape, n_steps if kind.is_spikes else kind.bits, kind.signed, n_steps)


def kernels_per_block(one: Convolution) -> int:
    """Output channels of a kernel block."""
    return KERNELS // 2 if one.wide else KERNELS


def lower(
    network: QuantizedNetwork,
    n_macros: int | None = None,
    chunk: int = 0,
    *,
    averages_alone: bool = False,
) -> Lowered:
    """The passes of a network, in order.

    Parameters
    ----------
    network : QuantizedNetwork
    n_macros : int or None
        For so many an input is packed; None: not at all.
    chunk : int
        Time steps of a spiking network that the passes compute, 1..4; the others follow in the
        same way. 0 is all of them.
    averages_alone : bool
        Averages have passes of their own, so that what they read can be computed in bands.

    Raises
    ------
    FitError
        A spiking network has something that no pass can do.
    """
    check_steps(network, chunk)
    chunk = min(chunk, network.time_steps)
    return _Lowering(network, n_macros, chunk, averages_alone=averages_alone).run()


def check_steps(network: QuantizedNetwork, chunk: int) -> None:
    """Refuse what no order of passes computes: too many steps, membranes of several layers."""
    if chunk and not network.time_steps:
        raise FitError(f"chunk must be left out, not {chunk}: no layer has neurons")
    if not 0 <= chunk <= STEPS_PER_WORD:
        raise FitError(f"chunk must be 1..{STEPS_PER_WORD} time steps, not {chunk}")
    if chunk == 0 and network.time_steps > MAX_STEPS:
        raise FitError(
            f"time_steps must be at most {MAX_STEPS} to fit at once, not {network.time_steps}: "
            f"compile chunks of 1..{STEPS_PER_WORD} steps"
        )
    shared = _shared_membrane(network)
    if chunk != 1 and shared:
        layer, membrane, user = shared
        raise FitError(
            f"layer {layer} must not use the membrane {membrane!r} of layer {user} unless the "
            "network is compiled for chunks of 1 step: otherwise layers run one after the other, "
            "each with several time steps"
        )
    n_classes = network.types[network.output].shape[0]
    if network.exit is not None and n_classes > MAX_CLASSES:
        raise FitError(
            f"layer {network.output} must have at most {MAX_CLASSES} classes for an exit, "
            f"not {n_classes}"
        )


def chunk_of(network: QuantizedNetwork) -> int:
    """Time steps for which the program of a spiking network is best run at once; 0 is all of them.

    Layers that share membranes need every step by itself. Four steps take the clocks of one, so
    that an exit pays beyond them only.
    """
    if _shared_membrane(network):
        return 1
    most = STEPS_PER_WORD if network.exit is not None else MAX_STEPS
    return STEPS_PER_WORD if network.time_steps > most else 0


def _shared_membrane(network: QuantizedNetwork) -> tuple[str, str, str] | None:
    """The first layer that uses another one's membrane, its name, and that of the other layer."""
    users: dict[str, str] = {}
    for layer in network.layers:
        neuron = neuron_of(layer)
        if neuron is None or neuron.membrane is None:
            continue
        if neuron.membrane in users:
            return layer.name, neuron.membrane, users[neuron.membrane]
        users[neuron.membrane] = layer.name
    return None


@dataclass(frozen=True)
class _View:
    """Channels of a map: `slots` says which, in order; `kind` is the type of all of them."""

    map: str
    kind: Features
    slots: Ints


class _Lowering:
    def __init__(
        self,
        network: QuantizedNetwork,
        n_macros: int | None,
        chunk: int,
        *,
        averages_alone: bool,
    ) -> None:
        self.network = network
        self.averages_alone = averages_alone
        self.chunk = chunk
        self.n_steps = chunk or network.time_steps
        self.membranes: set[str] = set()
        self.packing = self._packing(n_macros)
        self.passes: list[Convolution] = []
        self.homes: dict[str, Home] = {}
        self.maps: dict[str, Features] = {}
        self.kinds = {name: features(network, name, chunk) for name in network.types}

    def run(self) -> Lowered:
        self._settle()
        if INPUT_COPY in self.homes:
            self._copy(self._view(INPUT), INPUT_COPY, INPUT)
        done: set[str] = set()
        for layer in self.network.layers:
            if layer.name not in done and not isinstance(layer, Select | SumPool):
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
        groups = {name: [name] for name in self.kinds if self._is_stored(name)}
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

    def _is_stored(self, name: str) -> bool:
        """Whether a pass writes it: not a selection, and no sums, which their readers add up."""
        return name == INPUT or not isinstance(self.network.layer(name), Select | SumPool)

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
        slots = [
            self.homes[base].block * KERNELS + int(self.kinds[base].places[channel])
            for base, channel in parts
        ]
        return _View(self.homes[parts[0][0]].map, self.kinds[name], np.array(slots))

    def _own(self, name: str, groups: int = 1) -> str:
        """A map of a result alone, channel behind channel, or those of groups beside each other."""
        if not self._is_select(name) and self.kinds[name].groups == groups:
            return name
        own = f"{name} (copy)" if groups == 1 else f"{name} (copy in {groups} groups)"
        if own not in self.homes:
            self.kinds[own] = replace(self.kinds[name], groups=groups)
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
            if self._leaves_out_shared(chain[-1], readers[0]):
                return chain
            averages = self.averages_alone or isinstance(layer, MatMul)
            if isinstance(layer, Softmax | LayerNorm | Tokens) or (
                averages and isinstance(readers[0], AvgPool)
            ):
                return chain
            chain.append(readers[0])
            rank = _rank(readers[0])

    def _leaves_out_shared(self, layer: Layer, reader: Layer) -> bool:
        """Whether a pool leaves out neurons from whose membranes another layer begins."""
        neuron = neuron_of(layer)
        if neuron is None or neuron.membrane is None or not isinstance(reader, MaxPool):
            return False
        _, rows, cols = self.kinds[layer.name].shape
        return self._n_users(neuron.membrane) > 1 and bool(rows % 2 or cols % 2)

    def _pass(self, layer: Layer, chain: list[Layer]) -> None:
        match layer:
            case Conv():
                first = self._conv(layer)
            case Dense():
                first = self._dense(layer)
            case MaxPool() if not layer.is_quad:
                first = self._maximum(layer)
            case MatMul():
                first = self._matmul(layer)
            case Softmax():
                scale = _one_scale(layer, self.kinds[layer.name], KERNELS)
                first = self._rows(layer, SOFTMAX, layer.octaves, scale)
            case Tokens():
                first = self._tokens(layer)
            case LayerNorm():
                post = _normal_post(layer, self.kinds[layer.name])
                first = self._rows(layer, NORMALISATION, layer.epsilon, post)
            case _:
                assert not isinstance(layer, Select)
                first = self._copying(self._view(layer.input))
        for part in chain:
            self.kinds[part.name] = replace(self.kinds[part.name], groups=first.outputs[0].groups)
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
        pool = self._sum_pool(layer)
        if pool is not None:
            if self._is_whole(layer, pool):
                return self._pixel_sum(layer, pool)
            layer = _folded(layer, pool, self.network.types[pool.input])
        if layer.input == INPUT and self.packing is not None:
            return self._packed(layer, self.packing)
        view = self._view_once(layer.input)
        kind = self.kinds[layer.name]
        skip = None if layer.skip is None else self._own(layer.skip, _groups(layer))
        return self._in_time(
            layer,
            view.kind,
            Convolution(
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
            ),
        )

    def _in_time(self, layer: Conv | Dense, source: Features, one: Convolution) -> Convolution:
        """The pass with what it has of time: sources, neurons, places of channels."""
        if not self.kinds[layer.name].time_steps:
            return one
        one = replace(one, n_steps=self.n_steps, direct=not source.time_steps)
        if layer.neuron is None:
            return one
        kind = replace(one.outputs[0], groups=layer.neuron.groups)
        places = np.argsort(kind.places)  # the channel at each place
        return replace(
            one,
            outputs=(kind,),
            weight=one.weight[places],
            post=replace(one.post, bias=one.post.bias[places]),
            neurons=_neurons(layer.neuron, places),
            membrane=self._membrane(layer, layer.neuron),
        )

    def _membrane(self, layer: Conv | Dense, neuron: Neuron) -> Membrane | None:
        """Where the membranes are between chunks."""
        if not self.chunk or self.chunk >= self.network.time_steps:
            shared = neuron.membrane is not None and self._n_users(neuron.membrane) > 1
            if not shared:
                return None
        name = memory_of(layer.name, neuron)
        channels, rows, cols = self.kinds[layer.name].shape
        again = name in self.membranes
        self.membranes.add(name)
        return Membrane(name, (channels // neuron.groups, rows, cols), neuron.bits, again)

    def _n_users(self, membrane: str) -> int:
        """Layers that have this membrane."""
        neurons = [neuron_of(layer) for layer in self.network.layers]
        return sum(neuron is not None and neuron.membrane == membrane for neuron in neurons)

    def _sum_pool(self, layer: Conv | Dense) -> SumPool | None:
        """The sum pool that a layer reads."""
        if layer.input == INPUT:
            return None
        source = self.network.layer(layer.input)
        return source if isinstance(source, SumPool) else None

    def _is_whole(self, layer: Conv | Dense, pool: SumPool) -> bool:
        """Whether the sums over a whole map are added up pixel by pixel, by the same weights."""
        whole = self.network.types[pool.input].shape[1:]
        return (
            pool.kernel == whole
            and self.n_steps <= STEPS_PER_WORD
            and (isinstance(layer, Dense) or (layer.kernel == (1, 1) and layer.skip is None))
            and (isinstance(layer, Dense) or not any(layer.padding))
        )

    def _pixel_sum(self, layer: Conv | Dense, pool: SumPool) -> Convolution:
        """A layer that reads the sums over a map: its weights for each pixel."""
        view = self._view_once(pool.input)
        kind = self.kinds[layer.name]
        groups = layer.groups if isinstance(layer, Conv) else 1
        weight = layer.weight.reshape(len(layer.weight), -1, 1, 1)
        one = Convolution(
            layers=(layer.name,),
            outputs=(kind,),
            output=layer.name,
            source=view.map,
            source_kind=view.kind,
            weight=self._weight(view, weight, groups),
            post=_post(layer, kind),
            map_size=view.kind.shape[1:],
            raw=layer.out_bits == RAW_BITS,
            pixel_sum=True,
        )
        return self._in_time(layer, view.kind, one)

    def _view_once(self, name: str) -> _View:
        """Where the channels of a result are, no two of them at the same place."""
        view = self._view(name)
        if len(set(view.slots.tolist())) < len(view.slots):
            view = self._view(self._own(name))
        return view

    def _packed(self, layer: Conv, packing: Packing) -> Convolution:
        """The convolution on a packed input."""
        plain = self.kinds[INPUT]
        kind = replace(plain, shape=packing.packed_shape(plain.shape))
        view = _View(INPUT, kind, np.arange(kind.shape[0]))
        stride, dilation = packed_steps(packing, layer)
        return self._in_time(
            layer,
            self.kinds[INPUT],
            Convolution(
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
                skip=None if layer.skip is None else self._own(layer.skip, _groups(layer)),
                skip_kind=None if layer.skip is None else self.kinds[layer.skip],
                skip_mult=layer.skip_mult,
                skip_zero=layer.skip_zero,
                raw=layer.out_bits == RAW_BITS,
            ),
        )

    def _dense(self, layer: Dense) -> Convolution:
        pool = self._sum_pool(layer)
        if pool is not None:
            if self._is_whole(layer, pool):
                return self._pixel_sum(layer, pool)
            layer = _spread(layer, pool, self.network.types)
        view = self._view_once(layer.input)
        kind = self.kinds[layer.name]
        weight = self._weight(view, layer.weight.reshape(-1, *view.kind.shape), 1)
        return self._in_time(
            layer,
            view.kind,
            Convolution(
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
            ),
        )

    def _weight(self, view: _View, weight: Ints, groups: int) -> Weights:
        """(kernels, channels/groups, dy, dx) as (kernels, dy, dx, channels of the map)."""
        n_kernels, n_channels, *size = weight.shape
        result = np.zeros((n_kernels, *size, self.maps[view.map].shape[0]), np.int8)
        by_group = np.split(np.arange(n_kernels), groups)
        for kernels, slots in zip(by_group, view.slots.reshape(groups, n_channels), strict=True):
            result[kernels[:, np.newaxis], ..., slots] = weight[kernels]
        return result

    def _matmul(self, layer: MatMul) -> Convolution:
        """Products with a map: 1x1 kernels, one for each of its pixels or channels."""
        operand = self._own(layer.operand)
        its, n_kernels = self.kinds[operand], self.kinds[layer.name].shape[0]
        n_channels = self.kinds[self._own(layer.input)].blocks * KERNELS
        weight = np.ones((n_kernels, 1, 1, n_channels), np.int8)
        return replace(
            self._alone(layer, weight, _one_scale(layer, self.kinds[layer.name], n_kernels)),
            operand=Operand(operand, its.shape[1] * its.shape[2], its.shape[0], layer.transposed),
            stacked=its.planes == 2,
        )

    def _rows(
        self, layer: Softmax | LayerNorm, function: int, parameter: int, post: Post
    ) -> Convolution:
        """Softmax or normalisation, with a header for every kernel of `post`."""
        kind = self.kinds[layer.name]
        weight = np.zeros((len(post.bias), 1, 1, kind.blocks * KERNELS), np.int8)
        rows = Rows(function, kind.shape[0], parameter)
        return replace(self._alone(layer, weight, post), rows=rows)

    def _alone(
        self, layer: MatMul | Softmax | LayerNorm, weight: Weights, post: Post
    ) -> Convolution:
        """A pass of one layer that reads one map pixel by pixel."""
        source, kind = self._own(layer.input), self.kinds[layer.name]
        return Convolution(
            layers=(layer.name,),
            outputs=(kind,),
            output=layer.name,
            source=self.homes[source].map,
            source_kind=self.kinds[source],
            source_block=self.homes[source].block,
            weight=weight,
            post=post,
            map_size=kind.shape[1:],
        )

    def _tokens(self, layer: Tokens) -> Convolution:
        """A copy of a map, behind which constants are written as its first pixels.

        What is left out of the map is never read, or overwritten: it is where the constants are, or
        above them. Constants are whole pixels of a map, so first it has only this result.
        """
        kind, n = self.kinds[layer.name], layer.values.shape[1]
        view = self._view(layer.input)
        channels, rows, cols = view.kind.shape
        column = replace(view.kind, shape=(channels, rows * cols, 1))
        copy = replace(
            self._copying(replace(view, kind=column)),
            layers=(layer.name,),
            outputs=(kind,),
            map_size=kind.shape[1:],
            top=n - layer.first,
            column=True,
            constants=layer.values if n else None,
        )
        own = self.homes[layer.name].map
        if not n or self.maps[own].blocks == kind.blocks:
            return copy
        alone = f"{layer.name} (alone)"
        self.kinds[alone] = kind
        self._found([alone])
        self._append(replace(copy, output=alone, partial=True))
        return self._copying(self._view_of_own(alone))

    def _copying(self, view: _View, groups: int = 1) -> Convolution:
        """A convolution whose results are what it reads."""
        channels, rows, cols = view.kind.shape
        weight = np.ones((channels, 1, 1, 1), np.int64)
        return self._repeating(
            Convolution(
                layers=(),
                outputs=(replace(view.kind, groups=groups),),
                output="",
                source=view.map,
                source_kind=view.kind,
                weight=self._weight(view, weight, channels),
                post=_copying_post(view.kind),
                map_size=(rows, cols),
                copy=True,
            )
        )

    def _repeating(self, one: Convolution) -> Convolution:
        """In time, neurons that fire whenever a spike comes; weights are 1."""
        kind = one.outputs[0]
        if not kind.time_steps:
            return one
        nothing = np.zeros(len(one.weight), np.int64)
        neurons = Neurons(nothing + 1, nothing, limit=1, soft=False, leak=0, groups=kind.groups)
        return replace(
            one,
            maximum=False,
            n_steps=kind.time_steps,
            weight=one.weight[np.argsort(kind.places)],
            neurons=replace(neurons, groups=1),
        )

    def _copy(self, view: _View, output: str, label: str) -> None:
        is_layer = output == self.network.layers[-1].name
        if output not in self.homes:
            self._found([output])
        copy = self._copying(view, self.kinds[output].groups)
        copy = replace(copy, layers=(label,), output=output, partial=not is_layer)
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
        kind = replace(view.kind, shape=(channels, *size), groups=1)
        return self._repeating(
            Convolution(
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


def _groups(layer: Conv) -> int:
    """Groups of channels that share a membrane."""
    return 1 if layer.neuron is None else layer.neuron.groups


def _neurons(neuron: Neuron, places: Ints) -> Neurons:
    """The neurons of a layer whose channels stand at places: `places` says which one at each."""
    n = len(neuron.threshold)
    initial = np.zeros(n, np.int64)
    if neuron.initial is not None:
        initial[: len(neuron.initial)] = neuron.initial
    return Neurons(
        neuron.threshold[places],
        initial[places],
        neuron.limit,
        neuron.reset == "soft",
        neuron.leak,
        neuron.groups,
    )


def _folded(layer: Conv, pool: SumPool, source: FeatureType) -> Conv:
    """A convolution of sums as one of the spikes.

    Raises
    ------
    FitError
        It would read what the pool leaves out, or be too large.
    """
    place = f"layer {layer.name}, which adds up the sums of {pool.name},"
    sizes = [
        (layer.kernel[k] - 1) * layer.dilation[k] * pool.steps[k] + pool.kernel[k] for k in (0, 1)
    ]
    strides = [layer.stride[k] * pool.steps[k] for k in (0, 1)]
    padding = [side * pool.steps[k % 2] for k, side in enumerate(layer.padding)]
    for values, most, what in (
        (sizes, MAX_WINDOW, "kernels"),
        (strides, MAX_STRIDE, "strides"),
        (padding, MAX_PADDING, "padding"),
    ):
        if max(values) > most:
            raise FitError(f"{place} must have {what} of at most {most} pixels, not {max(values)}")
    for k in (0, 1):
        left_out = (source.shape[1 + k] - pool.kernel[k]) % pool.steps[k]
        overlap = pool.kernel[k] > pool.steps[k]
        if (layer.padding[k] or layer.padding[2 + k]) and (left_out or overlap):
            raise FitError(
                f"{place} must have no padding, as windows overlap or leave out pixels, "
                f"not {layer.padding}"
            )
    weight = np.zeros((*layer.weight.shape[:2], *sizes), np.int64)
    steps = [layer.dilation[k] * pool.steps[k] for k in (0, 1)]
    for dy, dx in np.ndindex(*layer.kernel):
        rows = slice(dy * steps[0], dy * steps[0] + pool.kernel[0])
        cols = slice(dx * steps[1], dx * steps[1] + pool.kernel[1])
        weight[:, :, rows, cols] += layer.weight[:, :, dy, dx, np.newaxis, np.newaxis]
    _check_weights(place, weight)
    return replace(
        layer,
        input=pool.input,
        weight=weight,
        weight_bits=8,
        stride=(strides[0], strides[1]),
        padding=(padding[0], padding[1], padding[2], padding[3]),
        dilation=(1, 1),
    )


def _spread(layer: Dense, pool: SumPool, types: Mapping[str, FeatureType]) -> Dense:
    """A dense layer of sums as one of the spikes; raises as `_folded`."""
    channels, rows, cols = types[pool.name].shape
    taps = layer.weight.reshape(-1, channels, rows, cols)
    weight = np.zeros((len(taps), *types[pool.input].shape), np.int64)
    for y, x in np.ndindex(rows, cols):
        top, left = y * pool.steps[0], x * pool.steps[1]
        weight[:, :, top : top + pool.kernel[0], left : left + pool.kernel[1]] += taps[
            :, :, y, x, np.newaxis, np.newaxis
        ]
    _check_weights(f"layer {layer.name}, which adds up the sums of {pool.name},", weight)
    return replace(layer, input=pool.input, weight=weight.reshape(len(weight), -1), weight_bits=8)


def _check_weights(place: str, weight: Ints) -> None:
    """Windows that overlap add up weights."""
    if weight.min() < -(1 << 7) or weight.max() >= 1 << 7:
        largest = int(np.abs(weight).max())
        raise FitError(f"{place} must have weights of 8 bit where windows overlap, not {largest}")


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


def _one_scale(layer: MatMul | Softmax, kind: Features, n: int) -> Post:
    """The same for so many channels."""
    bias, mults, shifts, post_shifts = (
        np.full(n, value, np.int64) for value in (0, layer.mult, layer.shift, layer.post_shift)
    )
    return Post(bias, mults, shifts, post_shifts, layer.offset, kind.low, kind.high)


def _normal_post(layer: LayerNorm, kind: Features) -> Post:
    nothing = np.zeros_like(layer.bias)
    return Post(layer.bias, layer.mult, layer.shift, nothing, layer.offset, kind.low, kind.high)


def _copying_post(kind: Features) -> Post:
    n = kind.shape[0]
    nothing = np.zeros(n, np.int64)
    mult, shift = np.full(n, COPY_MULT), np.full(n, COPY_SHIFT)
    return Post(nothing, mult, shift, nothing, 0, kind.low, kind.high)


assert WORD_LINES == KERNELS
