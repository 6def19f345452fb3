"""Maps a network to an accelerator: splits, bands, index codes, program.

For each pass the mapper chooses the split, how many macros share the group-sets of a kernel block,
by the cycle model: the other macros form teams with bands of rows of their own. Maps that do not
fit are computed in bands of rows, one after the other (`model.mars.bands`).
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from model.mars.bands import BAND, can_be_banded, in_bands
from model.mars.clocks import Work, simulate
from model.mars.config import (
    ADDRESSES,
    KERNELS,
    NIBBLE,
    WORD_BITS,
    WORD_LINES,
    WORDS_PER_LINE,
    MarsConfig,
)
from model.mars.heads import by_head
from model.mars.image import Contents, Features, Image, PassContents, n_planes
from model.mars.layout import (
    CODE_WIDTHS,
    CODES_PER_LINES,
    DESCRIPTOR_LINES,
    MAX_LOADS,
    MAX_MACROS,
    NORMALISATION,
    OPERAND,
    PRODUCTS,
    SOFTMAX,
    TAP_WIDTH,
    Descriptor,
    Header,
    Ints,
    encode_index,
    header_lines,
)
from model.mars.lowering import (
    Band,
    Convolution,
    FitError,
    Lowered,
    Neurons,
    chunk_of,
    features,
    kernels_per_block,
    lower,
)
from model.mars.macro import decode_weights
from model.mars.memory import LineSource, frame_regions
from model.mars.network import INPUT, MULT_MAX, RAW_BITS, QuantizedNetwork
from model.mars.neuron import CHARGE_MAX
from model.mars.placement import (
    CrowdedError,
    Placement,
    Places,
    Shape,
    membrane_pitches,
    own_rows,
    place,
    stored_rows,
)
from model.mars.program import KernelBlock, Pass, encode
from model.mars.segments import StuckError, segments
from model.mars.unread import without_unread

MAX_SIDE = 255
"""Rows and columns that a descriptor can count."""
ADDRESS_MASK = 0xFFFF
ESTIMATE_LATENCY = 16
SEGMENT_CLOCKS = 3 * ESTIMATE_LATENCY
"""About what a segment takes beside its passes and maps."""
NO_END = 1 << 24
RAW_PLANES = n_planes(RAW_BITS)
MAX_GROUPS = 4
"""Channels beside each other that may share a membrane."""
INITIAL_BITS = 10
SHIFT_WIDTH = 3
PLANE_SUM_BITS = {False: 16, True: 32}
"""Of a macro's sums of one time step in a round, by whether weights have 8 bit."""
__all__ = ["FitError"]


@dataclass(frozen=True)
class GroupSets:
    """The kept group-sets of a kernel block in the order of their index codes.

    `codes` (n,), `words` (n, planes, 16): 8-bit weights in pairs of entries have two planes.
    """

    codes: Ints
    words: NDArray[np.uint64]

    @property
    def n_planes(self) -> int:
        """Entries of a group-set."""
        return int(self.words.shape[1])

    def n_entries(self, split: int) -> int:
        """Entries of each macro if so many share them."""
        return -(-len(self.codes) // split) * self.n_planes

    @property
    def n_kept(self) -> int:
        """Group-sets of as few kernels as could be left out, those of 8 bit in pairs of columns."""
        if self.n_planes == 1:
            return len(self.codes)
        halves = self.words.view("<u4").reshape(*self.words.shape, 2)
        return int(halves.any(axis=(1, 2)).sum())


@dataclass(frozen=True)
class CodeFormat:
    """How the index codes of a pass are laid out."""

    long: bool
    block_width: int
    dx_width: int


def prepared(network: QuantizedNetwork) -> QuantizedNetwork:
    """An equal network whose layers the passes compute: head by head, without what is not read."""
    return by_head(without_unread(network))


def compile_network(
    network: QuantizedNetwork, config: MarsConfig, chunk: int | None = None
) -> Image:
    """The image of a network for a configuration.

    Parameters
    ----------
    network : QuantizedNetwork
        What is compiled is what `prepared` makes of it.
    config : MarsConfig
    chunk : int or None
        Time steps of a spiking network for which the program is run at once, 1..4; membranes wait
        in the feature memories for the next ones. 0 is all steps, None what `chunk_of` says.

    Raises
    ------
    FitError
        Names the layer and what it lacks.
    """
    network = prepared(network)
    chunk = chunk_of(network) if chunk is None else chunk
    errors: list[FitError] = []
    for n_macros in (config.n_macros, None):  # an input that is not packed may be smaller
        try:
            return _compiled(network, lower(network, n_macros, chunk), config, chunk)
        except FitError as error:
            errors.append(error)
    if network.time_steps or not any(isinstance(error, RoomError) for error in errors):
        raise errors[0]
    errors.clear()
    for averages_alone, n_macros in itertools.product((False, True), (config.n_macros, None)):
        lowered = lower(network, n_macros, averages_alone=averages_alone)
        try:
            return _in_segments(network, _formatted(lowered, config), config)
        except FitError as error:
            errors.append(error)
    raise errors[-1]


class RoomError(FitError):
    """Maps of a network do not fit, whatever the bands."""


def _formatted(lowered: Lowered, config: MarsConfig) -> Lowered:
    """Passes that fit their fields, each with the quickest format of its weights."""
    for one in lowered.passes:
        _check(one, config)
    return replace(lowered, passes=[_quickest_format(one, config) for one in lowered.passes])


def _compiled(network: QuantizedNetwork, lowered: Lowered, config: MarsConfig, chunk: int) -> Image:
    lowered = _formatted(lowered, config)
    bands: dict[int, int] = {}
    mapper = _Mapper(config)
    teams = mapper.most_teams(lowered)
    while True:
        split = in_bands(lowered, bands, teams)
        try:
            return _arranged(network, split, mapper, chunk)
        except CrowdedError as crowded:
            _more_bands(lowered, split, crowded, bands, config)


def _quickest_format(one: Convolution, config: MarsConfig) -> Convolution:
    """8-bit weights in pairs of columns, or of entries if those fit and take fewer clocks."""
    if not one.wide or one.n_steps:
        return one
    stacked = replace(one, wide=False, stacked=True)
    sets = group_sets(stacked)
    if max(block.n_entries(config.n_macros) for block in sets) > ADDRESSES or one.maximum:
        return one
    return min((one, stacked), key=lambda other: _fewest_clocks(other, config))


def _fewest_clocks(one: Convolution, config: MarsConfig) -> int:
    kept = group_sets(one)
    shape, *_ = _options(one, kept, config)
    return _cost(_work(one, shape, kept, config), config)


def _more_bands(
    lowered: Lowered,
    split: Lowered,
    crowded: CrowdedError,
    bands: dict[int, int],
    config: MarsConfig,
) -> None:
    """Has the largest map that can be kept in bands kept in more of them."""
    best: tuple[int, int] | None = None
    for number, one in enumerate(lowered.passes):
        is_there = any(name.split(BAND)[0] == one.output for name in crowded.maps)
        n_bands = 2 * bands.get(number, 1)
        if is_there and n_bands <= one.map_size[0] and can_be_banded(lowered, number):
            size = lowered.maps[lowered.homes[one.output].map].row_pitch * one.map_size[0]
            best = max(best or (0, 0), (size * 2 // n_bands, number))
    if best is None:
        raise RoomError(
            f"layer {split.passes[crowded.pass_number].label} must leave the maps in use within "
            f"{config.feature_words} words of feature memory per macro to fit {config.name}, "
            f"not {crowded.needed}: {crowded.needed - config.feature_words} too many"
        )
    bands[best[1]] = 2 * bands.get(best[1], 1)


_Mapped = tuple[Pass, PassContents]
"""A pass as the hardware knows it, and as the network calls it."""


class _Mapper:
    """Shapes and places of passes on a configuration; group-sets are found once per layer."""

    def __init__(self, config: MarsConfig) -> None:
        self.config = config
        self._sets: dict[tuple[int, bool], list[GroupSets]] = {}
        self._shapes: dict[tuple[int, bool, Band | None], list[Shape]] = {}

    def sets(self, one: Convolution) -> list[GroupSets]:
        """Its group-sets, which its bands share."""
        key = id(one.weight), one.whole
        if key not in self._sets:
            self._sets[key] = group_sets(one)
        return self._sets[key]

    def most_teams(self, lowered: Lowered) -> list[int]:
        """Of each pass."""
        return [
            self.config.n_macros // _splits(one, self.sets(one), self.config)[0]
            for one in lowered.passes
        ]

    def place(self, lowered: Lowered) -> tuple[list[Shape], Places]:
        """Shapes and places, if there is room."""
        convolutions = lowered.passes
        sets = [self.sets(one) for one in convolutions]
        options = [self._options(one) for one in convolutions]
        _share_shapes(convolutions, options, sets, self.config)
        return place(lowered, options, self.config)

    def _options(self, one: Convolution) -> list[Shape]:
        key = id(one.weight), one.whole, one.band
        if key not in self._shapes:
            self._shapes[key] = _options(one, self.sets(one), self.config)
        return list(self._shapes[key])

    def segment_clocks(self, lowered: Lowered) -> int | None:
        """About the clocks of a segment, None if there is no room."""
        config = self.config
        try:
            shapes, places = self.place(lowered)
        except (CrowdedError, FitError):
            return None
        clocks = SEGMENT_CLOCKS
        for one, shape in zip(lowered.passes, shapes, strict=True):
            clocks += _cost(_work(one, shape, self.sets(one), config), config)
            if one.constants is not None:
                clocks += one.constants.shape[1] * one.outputs[-1].row_pitch
            if one.output in lowered.stores:
                first, end = stored_rows(one, shape)
                clocks += (end - first) * places.of(one.output).kind.row_pitch
        for name in lowered.loads:
            first, end = places.maps[name].rows
            n_words = (end - first) * places.maps[name].kind.row_pitch
            clocks += n_words * max(WORDS_PER_LINE // 2, config.beats_per_line) // WORDS_PER_LINE
        return clocks

    def passes(self, lowered: Lowered, shapes: list[Shape], places: Places) -> list[list[_Mapped]]:
        """Those of every convolution."""
        return [
            _mapped(one, self.sets(one), shape, places)
            for one, shape in zip(lowered.passes, shapes, strict=True)
        ]


def _arranged(network: QuantizedNetwork, lowered: Lowered, mapper: _Mapper, chunk: int) -> Image:
    """The image, if there is room."""
    config = mapper.config
    shapes, places = mapper.place(lowered)
    mapped = itertools.chain.from_iterable(mapper.passes(lowered, shapes, places))
    (*passes, last), names = zip(*mapped, strict=True)
    contents = Contents(
        name=network.name,
        input=features(network, INPUT, chunk),
        time_steps=network.time_steps,
        chunk=min(chunk, network.time_steps),
        membrane_words=_membrane_words(lowered, shapes),
        exit=network.exit,
        packing=lowered.packing,
        output_address=places.of(lowered.passes[-1].output).base,
        passes=names,
    )
    lines = encode((*passes, _as_last(last)), wide_multiplier=config.wide_multiplier)
    return Image(
        config,
        contents,
        _input_descriptor(places.of(INPUT), (0, places.of(INPUT).kind.shape[1])),
        lines,
    )


def _as_last(one: Pass, **fields: Any) -> Pass:
    """A pass that ends a segment."""
    return replace(one, descriptor=replace(one.descriptor, is_last=1, **fields))


def _in_segments(network: QuantizedNetwork, lowered: Lowered, config: MarsConfig) -> Image:
    """The image of a network some of whose maps lie in memory.

    Raises
    ------
    FitError
        Not even a row of a layer's result fits with those that it reads.
    """
    mapper = _Mapper(config)
    try:
        parts = segments(lowered, mapper.most_teams(lowered), mapper.segment_clocks)
    except StuckError as stuck:
        raise _no_room(lowered, stuck, mapper) from None
    return _Segments(lowered, mapper).image(network, parts)


def _no_room(lowered: Lowered, stuck: StuckError, mapper: _Mapper) -> FitError:
    """Why a pass does not fit."""
    label, config = lowered.passes[stuck.pass_number].label, mapper.config
    try:
        mapper.place(stuck.part)
    except FitError as error:
        return error
    except CrowdedError as crowded:
        return FitError(
            f"layer {label} must have rows that fit, one of its result with those that it reads, "
            f"in {config.feature_words} words of feature memory per macro to fit {config.name}, "
            f"not {crowded.needed}: {crowded.needed - config.feature_words} too many"
        )
    raise AssertionError(f"layer {label} must fit a segment")


@dataclass(frozen=True)
class _Load:
    """Rows of a map that a segment reads: the pass, and where it finds which lines."""

    name: str
    kind: Features
    one: Pass
    line: int
    n_lines: int


class _Segments:
    """Puts segments one behind the other, and the maps between them into memory."""

    def __init__(self, lowered: Lowered, mapper: _Mapper) -> None:
        self.lowered = lowered
        self.mapper = mapper
        self.wide_multiplier = mapper.config.wide_multiplier
        self.lines: dict[str, int] = {}
        self.n_lines = 0

    def image(self, network: QuantizedNetwork, parts: Sequence[Lowered]) -> Image:
        """The image of all segments."""
        placed = [self.mapper.place(part) for part in parts]
        bodies = [self._body(part, *its) for part, its in zip(parts, placed, strict=True)]
        loads = [self._loads(part, its[1]) for part, its in zip(parts, placed, strict=True)]
        loads[0] = []  # which the host starts
        lines, contents = [], []
        for k, (passes, about) in enumerate(bodies):
            onward = self._onward(loads[k + 1], bodies[k + 1][0]) if k + 1 < len(parts) else {}
            moved = [load.one for load in loads[k]]
            whole = (*moved, *passes[:-1], _as_last(passes[-1], **onward))
            lines.append(encode(whole, wide_multiplier=self.wide_multiplier))
            contents += [_moved(load.name, load.kind, "load") for load in loads[k]] + about
        last, places = parts[-1].passes[-1].output, placed[-1][1]
        stored = last in parts[-1].stores
        source = placed[0][1].of(INPUT)
        return Image(
            self.mapper.config,
            Contents(
                name=network.name,
                input=features(network, INPUT),
                packing=self.lowered.packing,
                output_address=self._word(last) if stored else places.of(last).base,
                stored=stored,
                passes=tuple(contents),
            ),
            _input_descriptor(source, (0, source.rows[1])),
            np.concatenate(lines),
        )

    def _word(self, name: str) -> int:
        """Where the map of a result begins in memory; maps are one behind the other."""
        name = self.lowered.homes[name].map
        if name not in self.lines:
            kind = self.lowered.maps[name]
            self.lines[name] = self.n_lines
            self.n_lines += -(-kind.shape[1] * kind.row_pitch // WORDS_PER_LINE)
        return self.lines[name] * WORDS_PER_LINE

    def _body(
        self, part: Lowered, shapes: list[Shape], places: Places
    ) -> tuple[list[Pass], list[PassContents]]:
        """The passes of a segment, each with a store behind it if its result is stored."""
        passes, contents = [], []
        mapped = self.mapper.passes(part, shapes, places)
        for one, shape, own in zip(part.passes, shapes, mapped, strict=True):
            passes += [done for done, _ in own]
            contents += [what for _, what in own]
            if one.output in part.stores:
                passes.append(self._store(one, shape, places))
                contents.append(_moved(one.layers[-1], one.outputs[-1], "store"))
        return passes, contents

    def _store(self, one: Convolution, shape: Shape, places: Places) -> Pass:
        place, own = places.of(one.output), own_rows(one, shape)
        first, end = stored_rows(one, shape)
        pitch, inside = place.kind.row_pitch, place.block * place.kind.planes
        base = [0] * MAX_MACROS
        for macro, (row, _) in own.items():
            base[macro] = (place.row_0(macro) - inside + row * pitch) & ADDRESS_MASK
        rows = own[0]
        return Pass(
            Descriptor(
                is_store=1,
                split_log2=shape.split.bit_length() - 1,
                map_word=self._word(one.output) + first * pitch,
                n_words=(end - first) * pitch,
                team_words=(rows[1] - rows[0]) * pitch,
                pixel_words=place.kind.col_pitch,
                kept_word=inside,
                kept_end=inside + one.outputs[-1].blocks * place.kind.planes,
                in_base=tuple(base),
            ),
            (),
        )

    def _loads(self, part: Lowered, places: Places) -> list[_Load]:
        return [self._load(name, places.maps[name]) for name in part.loads]

    def _load(self, name: str, place: Placement) -> _Load:
        """Rows of a map, which begin anywhere in a line."""
        first, end = place.rows
        pitch = place.kind.row_pitch
        base = DESCRIPTOR_LINES * WORDS_PER_LINE if name == INPUT else self._word(name)
        line, word = divmod(base + first * pitch, WORDS_PER_LINE)
        descriptor = replace(_input_descriptor(place, (first, end)), first_word=word)
        n_lines = -(-(word + (end - first) * pitch) // WORDS_PER_LINE)
        kind = replace(place.kind, shape=(place.kind.shape[0], end - first, place.kind.shape[2]))
        return _Load(name, kind, Pass(descriptor, ()), line, n_lines)

    def _onward(self, loads: Sequence[_Load], passes: Sequence[Pass]) -> dict[str, Any]:
        """The fields by which a segment finds the next one."""
        nothing = [0] * (MAX_LOADS - len(loads))
        wide = self.wide_multiplier
        return {
            "next_lines": sum(one.n_lines(wide_multiplier=wide) for one in passes),
            "load_line": (*nothing, *(load.line for load in loads)),
            "load_lines": (*nothing, *(load.n_lines for load in loads)),
            "load_input": (*nothing, *(int(load.name == INPUT) for load in loads)),
        }


def _moved(name: str, kind: Features, move: Literal["load", "store", "constants"]) -> PassContents:
    """A pass that computes nothing."""
    return PassContents(
        layers=(name,),
        outputs=(kind,),
        source=name,
        copies=move == "constants",
        partial=move != "constants",
        kernel=(1, 1),
        team_rows=(0,),
        total_sets=0,
        kept_sets=0,
        pixels=0,
        move=move,
    )


def _check(one: Convolution, config: MarsConfig) -> None:
    """The fields of a descriptor have room for this pass, and the multipliers are wide enough."""
    side = max(*one.map_size, *one.source_kind.shape[1:])
    if side > MAX_SIDE:
        raise FitError(f"layer {one.label} must have a map of at most {MAX_SIDE}, not {side}")
    if one.neurons is not None:
        _check_neurons(one, one.neurons)
    n_headers = -(-len(one.weight) // KERNELS)
    if one.rows is not None and n_headers > config.ahead.headers:
        raise FitError(
            f"layer {one.label} must have at most {config.ahead.headers * KERNELS} channels to fit "
            f"{config.name}, which has a header for 16 of each, not {one.rows.channels}"
        )
    if config.wide_multiplier:
        return
    average = one.average
    largest = max(int(one.post.mult.max()), one.skip_mult, average.mult if average else 0)
    if largest > MULT_MAX:
        raise FitError(
            f"layer {one.label} must have multipliers of at most {MULT_MAX} to fit {config.name}, "
            f"not {largest}: use a configuration with wide multipliers, mars-wide"
        )
    if one.post.post_shift.any() or (average and average.post_shift):
        raise FitError(
            f"layer {one.label} must have post_shift 0 to fit {config.name}: use a configuration "
            "with wide multipliers, mars-wide"
        )


def _check_neurons(one: Convolution, neurons: Neurons) -> None:
    if neurons.groups not in {1, 2, MAX_GROUPS}:
        raise FitError(
            f"layer {one.label} must have 1, 2 or {MAX_GROUPS} groups of channels with one "
            f"membrane to fit, not {neurons.groups}"
        )
    shift = initial_shift(neurons)
    shifted = neurons.initial >> shift
    if (shifted << shift != neurons.initial).any() or _signed_bits(shifted) > INITIAL_BITS:
        raise FitError(
            f"layer {one.label} must have initial membranes of {INITIAL_BITS} bits, all shifted by "
            f"the same number of places, to fit, not up to {int(np.abs(neurons.initial).max())}"
        )


def initial_shift(neurons: Neurons) -> int:
    """Places by which initial membranes are shifted to the right in headers."""
    return min(max(_signed_bits(neurons.initial) - INITIAL_BITS, 0), (1 << SHIFT_WIDTH) - 1)


def _signed_bits(values: Ints) -> int:
    """Bits of a signed type that holds them."""
    return max(int(value if value >= 0 else ~value).bit_length() for value in values) + 1


def code_format(one: Convolution) -> CodeFormat:
    """The shorter index codes in which taps and channel blocks have room."""
    rows, cols = one.kernel
    blocks = one.weight.shape[3] // WORD_LINES
    # A block behind the last one fills up entries of a map: there is nothing.
    n_codes = blocks + (one.operand is not None)
    dy_width, dx_width, block_width = ((n - 1).bit_length() for n in (rows, cols, n_codes))
    width = dy_width + dx_width + block_width
    if max(dy_width, dx_width) > TAP_WIDTH or width > CODE_WIDTHS[1]:
        room = 1 << (CODE_WIDTHS[1] - dy_width - dx_width)
        raise FitError(
            f"layer {one.label} must have at most {room * WORD_LINES} input channels for its "
            f"{rows}x{cols} kernels, not {blocks * WORD_LINES}: "
            f"{(blocks - room) * WORD_LINES} too many"
        )
    return CodeFormat(width > CODE_WIDTHS[0], block_width, dx_width)


def group_sets(one: Convolution) -> list[GroupSets]:
    """The group-sets with a weight other than 0, kernel block by kernel block."""
    codes = code_format(one)
    rows, cols = one.kernel
    blocks = one.weight.shape[3] // WORD_LINES
    per_block = kernels_per_block(one)
    padded = np.zeros((one.n_kernels, *one.weight.shape[1:]), np.int8)
    padded[: len(one.weight)] = one.weight
    # (kernel blocks, kernels, dy, dx, channel blocks, channels)
    tiled = padded.reshape(-1, per_block, rows, cols, blocks, WORD_LINES)
    kept: NDArray[np.bool_] = np.any(tiled != 0, axis=(1, 5))
    return [
        _group_sets(tile, mask, codes, stacked=one.stacked)
        for tile, mask in zip(tiled, kept, strict=True)
    ]


def _group_sets(
    tile: NDArray[np.int8], kept: NDArray[np.bool_], codes: CodeFormat, *, stacked: bool
) -> GroupSets:
    """Kept group-sets of weights (kernels, dy, dx, channel blocks, channels)."""
    dy, dx, block = (index.astype(np.int64) for index in np.nonzero(kept))
    rows = tile[:, dy, dx, block].transpose(1, 2, 0).astype(np.int64)  # (sets, channels, kernels)
    width = WORD_BITS // rows.shape[2]
    planes = [rows, rows >> NIBBLE] if stacked else [rows]
    shifts = np.arange(0, WORD_BITS, width, dtype=np.uint64)
    fields = [(plane & ((1 << width) - 1)).astype(np.uint64) << shifts for plane in planes]
    words = np.stack([np.bitwise_or.reduce(plane, axis=2) for plane in fields], axis=1)
    index = encode_index(dy, dx, block, block_width=codes.block_width, dx_width=codes.dx_width)
    return GroupSets(index, words)


def _splits(one: Convolution, kept: list[GroupSets], config: MarsConfig) -> list[int]:
    """The possible splits of a pass, the smallest first."""
    most = max(len(block.codes) for block in kept)
    if most > ADDRESSES * config.n_macros:
        raise FitError(
            f"layer {one.label} must keep at most {ADDRESSES * config.n_macros} group-sets "
            f"per kernel block to fit {config.name}, not {most}: "
            f"{most - ADDRESSES * config.n_macros} too many; prune it or use more macros"
        )
    most_split = config.n_macros // (one.band.n_teams if one.band else 1)
    if one.maximum:
        most_split = 1
    splits = [
        s
        for s in (1, 2, 4, 8)
        if s <= most_split and max(block.n_entries(s) for block in kept) <= ADDRESSES
    ]
    if not one.pixel_sum:
        return splits
    fitting = [s for s in splits if _plane_sum(one, kept, s) < 1 << (_plane_bits(one) - 1)]
    if not fitting:
        raise FitError(
            f"layer {one.label} must have sums over its {one.map_size[0] * one.map_size[1]} pixels "
            f"of at most {(1 << (_plane_bits(one) - 1)) - 1} per macro to fit {config.name}, "
            f"not {_plane_sum(one, kept, splits[-1])}"
        )
    return fitting


def _plane_bits(one: Convolution) -> int:
    return PLANE_SUM_BITS[one.wide]


def _plane_sum(one: Convolution, kept: list[GroupSets], split: int) -> int:
    """The largest sum of a macro for one time step, whatever the spikes."""
    largest = 0
    for block in kept:
        weights = np.abs(decode_weights(block.words[:, 0], one.wide)).sum(axis=1)  # (sets, kernels)
        for macro in range(split):
            largest = max(largest, int(weights[macro::split].sum(axis=0).max(initial=0)))
    return largest * one.map_size[0] * one.map_size[1]


def _share_shapes(
    passes: list[Convolution],
    options: list[list[Shape]],
    sets: list[list[GroupSets]],
    config: MarsConfig,
) -> None:
    """Leaves passes that share membranes one shape each, with which they find them."""
    users: dict[str, list[int]] = {}
    for k, one in enumerate(passes):
        if one.membrane is not None:
            users.setdefault(one.membrane.name, []).append(k)
    for numbers in users.values():
        if len(numbers) == 1:
            continue
        is_even = any(passes[k].pool for k in numbers)
        by_place: dict[tuple[int, ...], list[Shape]] = {}
        for k in numbers:
            for option in options[k]:
                shape = _shape(passes[k], option.split, config, is_even=is_even)
                by_place.setdefault(_membrane_place(passes[k], shape), []).append(shape)
        common = [shapes for shapes in by_place.values() if len(shapes) == len(numbers)]
        if not common:
            first, *others = (passes[k].label for k in numbers)
            raise FitError(
                f"layer {first} must be spread over macros like {', '.join(others)}, with which it "
                f"shares membranes, to fit {config.name}, but no split suits all of them"
            )

        costs = [
            sum(
                _cost(_work(passes[k], shape, sets[k], config), config)
                for k, shape in zip(numbers, shapes, strict=True)
            )
            for shapes in common
        ]
        for k, shape in zip(numbers, common[int(np.argmin(costs))], strict=True):
            options[k] = [shape]


def _membrane_place(one: Convolution, shape: Shape) -> tuple[int, ...]:
    """Passes for which it is the same find the same membranes at the same places."""
    assert one.membrane is not None
    if one.membrane.shape[1] == 1:
        return (shape.split,)
    return (shape.split, shape.n_teams, shape.rows_per_team)


def _membrane_words(lowered: Lowered, shapes: list[Shape]) -> dict[str, int]:
    """Words of feature memory that membranes take in all macros together, by name."""
    words: dict[str, int] = {}
    for one, shape in zip(lowered.passes, shapes, strict=True):
        if one.membrane is not None:
            n_rows = 1 if one.pixel_sum else shape.n_rows
            n_words = n_rows * membrane_pitches(one, shape)[0] * shape.split
            words[one.membrane.name] = max(n_words, words.get(one.membrane.name, 0))
    return words


def _options(one: Convolution, kept: list[GroupSets], config: MarsConfig) -> list[Shape]:
    """The possible shapes of a pass, the quickest first, of equal ones the smallest split."""
    shapes = [_shape(one, split, config) for split in _splits(one, kept, config)]

    def clocks(shape: Shape) -> int:
        return _cost(_work(one, shape, kept, config), config)

    return sorted(shapes, key=lambda shape: (clocks(shape), shape.split))


def _shape(one: Convolution, split: int, config: MarsConfig, *, is_even: bool = False) -> Shape:
    rows, cols = one.map_size
    if one.pool:
        rows, cols = rows // 2 * 2, cols // 2 * 2
    if one.band:
        band = one.band
        last = band.first + (band.n_teams - 1) * band.pitch
        n_last = max(min(band.rows, rows - last), 1 + one.pool)
        n_rows = (band.n_teams - 1) * band.rows + n_last
        if n_rows > MAX_SIDE:
            raise FitError(
                f"layer {one.label} must be computed in bands of at most {MAX_SIDE} rows, "
                f"not {n_rows}: what follows it sees too many of them at once"
            )
        return Shape(split, band.n_teams, band.rows, n_rows, cols, band.first, band.pitch)
    most_teams = 1 if _is_one_team(one) else config.n_macros // split
    rows_per_team = -(-rows // most_teams)
    if one.pool or is_even:
        rows_per_team += rows_per_team % 2
    n_teams = -(-rows // rows_per_team)
    return Shape(split, n_teams, rows_per_team, rows, cols, first=0, pitch=rows_per_team)


def _is_one_team(one: Convolution) -> bool:
    """Sums over pixels, and logits of more steps than a word has, are those of one team."""
    return one.pixel_sum or (one.raw and one.n_sub_rounds > 1)


def _work(one: Convolution, shape: Shape, kept: list[GroupSets], config: MarsConfig) -> Work:
    return Work(
        n_input_lines=0,
        split=shape.split,
        entries=tuple(block.n_entries(shape.split) for block in kept),
        n_rounds=(shape.n_rows if one.rows else shape.rows_per_team) * shape.n_cols,
        in_planes=one.source_kind.planes,
        skip_planes=_skip_words(one),
        n_teams=shape.n_teams,
        out_planes=RAW_PLANES if one.raw else one.outputs[-1].planes,
        has_average=one.average is not None,
        has_table=one.table is not None,
        n_header_lines=header_lines(config.wide_multiplier),
        codes_per_line=CODES_PER_LINES[code_format(one).long],
        n_sub_rounds=one.n_sub_rounds,
        timed=bool(one.n_steps),
        direct=one.direct,
        fires=one.neurons is not None,
        groups=one.neurons.groups if one.neurons else 1,
        pixel_sum=one.pixel_sum,
        u_load=one.membrane.planes if one.membrane else 0,
        u_store=one.membrane.planes if one.membrane else 0,
        function=_function(one),
        row_blocks=one.weight.shape[3] // WORD_LINES if one.rows else 0,
        transposed=one.operand is not None and one.operand.transposed,
        turns=config.turns,
    )


def _function(one: Convolution) -> int:
    """What a pass computes, as `model.mars.layout` numbers it."""
    if one.operand is not None:
        return OPERAND
    return PRODUCTS if one.rows is None else one.rows.function


def _skip_words(one: Convolution) -> int:
    """Words of the residual that a round reads."""
    if one.skip_kind is None:
        return 0
    return 1 if one.n_steps else one.skip_kind.planes


@lru_cache(maxsize=1 << 14)
def _cost(work: Work, config: MarsConfig) -> int:
    """Clocks of a pass behind another one of its kind, which hides its first loads."""
    source = LineSource(config, frame_regions(0, NO_END), ESTIMATE_LATENCY)
    return simulate([work, work], source, config.ahead)[1].clocks


class _OutFields(TypedDict):
    out_base: tuple[int, ...]
    out_first_row: tuple[int, ...]
    out_end_row: tuple[int, ...]


def _input_descriptor(place: Placement, rows: tuple[int, int]) -> Descriptor:
    """Rows of a map that are read, and which ones of them each macro stores."""
    first, end = rows
    stores = [(begin, end) if begin < end else (first, first) for begin, end in place.by_macro]
    return Descriptor(
        is_input=1,
        n_rows=end - first,
        out_row_pitch=place.kind.row_pitch,
        out_base=tuple(
            (place.row_0(m) + first * place.kind.row_pitch) & ADDRESS_MASK
            for m in range(MAX_MACROS)
        ),
        out_first_row=tuple(begin - first for begin, _ in stores),
        out_end_row=tuple(end - first for _, end in stores),
    )


def _out_fields(place: Placement, shape: Shape, *, pool: bool) -> _OutFields:
    """Where results go."""
    first = (shape.first >> pool) * place.kind.row_pitch
    rows = [
        shape.stored_rows(int(begin), int(end), pool=pool)
        for begin, end in zip(place.first, place.end, strict=True)
    ]
    return {
        "out_base": tuple((place.row_0(m) + first) & ADDRESS_MASK for m in range(MAX_MACROS)),
        "out_first_row": tuple(begin for begin, _ in rows),
        "out_end_row": tuple(end for _, end in rows),
    }


def _pass(one: Convolution, kept: list[GroupSets], shape: Shape, places: Places) -> Pass:
    descriptor = replace(_descriptor(one, shape, places), n_kernel_blocks=len(kept))
    blocks = tuple(_kernel_block(one, k, sets, shape.split) for k, sets in enumerate(kept))
    return Pass(descriptor, blocks, one.table)


def _mapped(one: Convolution, kept: list[GroupSets], shape: Shape, places: Places) -> list[_Mapped]:
    """A pass, and one behind it that writes constants if there are some."""
    result = [(_pass(one, kept, shape, places), _contents(one, kept, shape))]
    return result if one.constants is None else [*result, _constants(one, one.constants, places)]


def _constants(one: Convolution, values: Ints, places: Places) -> _Mapped:
    """Writes the first pixels of a column, each a row."""
    channels, n = values.shape
    descriptor = replace(_input_descriptor(places.of(one.output), (0, n)), rows_per_team=n)
    words = replace(one.outputs[-1], shape=(channels, n, 1)).to_words(values[..., np.newaxis])
    return Pass(descriptor, (), words=words), _moved(one.layers[0], one.outputs[0], "constants")


def _descriptor(one: Convolution, shape: Shape, places: Places) -> Descriptor:
    out = places.of(one.output)
    is_one = one.average is not None or one.pixel_sum
    pitches = (0, 0) if is_one else (out.kind.row_pitch, out.kind.col_pitch)
    codes = code_format(one)
    return Descriptor(
        **_function_fields(one, places),
        wide=int(one.wide),
        stacked=int(one.stacked),
        long_codes=int(codes.long),
        block_width=codes.block_width,
        dx_width=codes.dx_width,
        maximum=int(one.maximum),
        lookup=int(one.table is not None),
        lookup_signed=int(one.table is not None and one.table.min() < 0),
        raw=int(one.raw),
        pool=int(one.pool),
        split_log2=shape.split.bit_length() - 1,
        out_planes_log2=(RAW_PLANES if one.raw else out.kind.planes).bit_length() - 1,
        n_teams=shape.n_teams,
        rows_per_team=shape.rows_per_team,
        n_rows=shape.n_rows,
        n_cols=shape.n_cols,
        out_row_pitch=pitches[0],
        out_col_pitch=pitches[1],
        team_out_pitch=(shape.pitch >> int(one.pool)) * pitches[0],
        **_time_fields(one, out.kind, shape, places),
        **_source_fields(one, shape, places.maps[one.source]),
        **_skip_fields(one, shape, places),
        **_average_fields(one),
        **_out_fields(out, shape, pool=one.pool),
    )


def _function_fields(one: Convolution, places: Places) -> dict[str, Any]:
    """What a pass has that does not multiply by weights of the program."""
    if one.operand is not None:
        operand = places.of(one.operand.name)
        return {
            "function": OPERAND,
            "op_base": operand.row_0(0) & ADDRESS_MASK,
            "op_col_pitch": operand.kind.col_pitch,
            "op_tokens": one.operand.tokens,
            "op_channels": one.operand.channels,
            "op_transposed": int(one.operand.transposed),
        }
    if one.rows is not None:
        parameter = {SOFTMAX: "octaves", NORMALISATION: "epsilon"}[one.rows.function]
        return {
            "function": one.rows.function,
            "row_channels": one.rows.channels,
            parameter: one.rows.parameter,
        }
    return {}


def _time_fields(one: Convolution, out: Features, shape: Shape, places: Places) -> dict[str, Any]:
    """The clamp, or what a pass that works in time has instead."""
    post, neurons = one.post, one.neurons
    if not one.n_steps:
        return {
            "low": post.low - post.offset,
            "high": post.high - post.offset,
            "offset": post.offset,
        }
    fields: dict[str, Any] = {
        "timed": 1,
        "direct": int(one.direct),
        "n_steps": one.n_steps,
        "pixel_sum": int(one.pixel_sum),
        "out_block_log2": out.planes.bit_length() - 1,
    }
    if neurons is not None:
        fields |= {
            "soft": int(neurons.soft),
            "leak": neurons.leak,
            "limit": neurons.limit,
            "groups_log2": neurons.groups.bit_length() - 1,
            "initial_shift": initial_shift(neurons),
        }
    if one.membrane is not None:
        row_pitch, col_pitch = membrane_pitches(one, shape)
        fields |= {
            "u_load": 1,
            "u_again": int(one.membrane.again),
            "u_store": 1,
            "u_planes_log2": one.membrane.planes.bit_length() - 1,
            "u_row_pitch": row_pitch,
            "u_col_pitch": col_pitch,
            "u_base": places.membranes[one.membrane.name],
        }
    return fields


def _source_fields(one: Convolution, shape: Shape, source: Placement) -> dict[str, Any]:
    """Where the convolution reads what."""
    row_pitch, col_pitch = (0, 0) if one.flat else (source.kind.row_pitch, source.kind.col_pitch)
    if one.column:
        row_pitch = col_pitch
    step = one.stride[0] * row_pitch
    top = shape.first * one.stride[0] - one.top
    base = source.base + one.source_block * source.kind.planes
    first = base + top * row_pitch - one.left * col_pitch
    teams = [m // shape.split for m in range(MAX_MACROS)]
    return {
        "in_signed": int(source.kind.signed),
        "in_two": source.kind.planes - 1,
        "in_height": 1 if one.flat else one.source_kind.shape[1],
        "in_width": 1 if one.flat or one.column else source.kind.shape[2],
        "in_row_step": step & ADDRESS_MASK,
        "in_col_step": one.stride[1] * col_pitch & ADDRESS_MASK,
        "tap_row_pitch": one.dilation[0] * row_pitch & ADDRESS_MASK,
        "tap_col_pitch": one.dilation[1] * col_pitch & ADDRESS_MASK,
        "row_stride": one.stride[0],
        "col_stride": one.stride[1],
        "row_dilation": one.dilation[0],
        "col_dilation": one.dilation[1],
        "pad_top": -top,
        "pad_left": one.left,
        "pad_value": one.pad_value & 0xFF,
        "team_in_rows": shape.pitch * one.stride[0],
        "in_base": tuple(
            (first + t * shape.pitch * step - int(source.first[m]) * row_pitch) & ADDRESS_MASK
            for m, t in enumerate(teams)
        ),
    }


def _skip_fields(one: Convolution, shape: Shape, places: Places) -> dict[str, Any]:
    """Where the residual is, and what is done with it."""
    if one.skip is None:
        return {}
    skip = places.of(one.skip)
    pitch = skip.kind.row_pitch
    return {
        "has_skip": 1,
        "skip_two": skip.kind.planes - 1,
        "skip_signed": int(skip.kind.signed),
        "skip_mult": one.skip_mult,
        "skip_zero": one.skip_zero,
        "skip_row_pitch": pitch,
        "skip_col_pitch": skip.kind.col_pitch,
        "skip_base": tuple(
            (skip.row_0(m) + (shape.first + m // shape.split * shape.pitch) * pitch) & ADDRESS_MASK
            for m in range(MAX_MACROS)
        ),
    }


def _average_fields(one: Convolution) -> dict[str, Any]:
    """Requantisation of the average."""
    average = one.average
    if average is None:
        return {}
    kind = one.outputs[-1]
    return {
        "gap": 1,
        "gap_bias": average.bias,
        "gap_mult": average.mult,
        "gap_shift": average.shift,
        "gap_post_shift": average.post_shift,
        "gap_low": kind.low - average.offset,
        "gap_high": kind.high - average.offset,
        "gap_offset": average.offset,
    }


def _kernel_block(one: Convolution, number: int, sets: GroupSets, split: int) -> KernelBlock:
    """Entries and tables of a kernel block; what only fills up is 0 with a shift of 1."""
    per_block = kernels_per_block(one)
    channels = slice(number * per_block, (number + 1) * per_block)
    header = _header(one, channels)
    n, n_planes = len(sets.codes), sets.n_planes
    n_sets = sets.n_entries(split) // n_planes * split
    codes = np.zeros(n_sets, np.int64)
    words = np.zeros((n_sets, n_planes, WORD_LINES), np.uint64)
    codes[:n] = sets.codes
    if one.operand is None:
        words[:n] = sets.words
    else:
        codes[n:] = one.weight.shape[3] // WORD_LINES
    # Each plane of the macros' group-sets is an entry, with the same codes.
    by_entry = words.reshape(-1, split, n_planes, WORD_LINES).swapaxes(1, 2)
    return KernelBlock(
        header,
        codes.reshape(-1, split).repeat(n_planes, axis=0),
        by_entry.reshape(-1, split, WORD_LINES),
    )


def _header(one: Convolution, channels: slice) -> Header:
    post = one.post
    bias = _filled_up(post.bias[channels], 0)
    if one.neurons is not None:
        nothing = np.zeros(KERNELS, np.int64)
        threshold = _filled_up(one.neurons.threshold[channels], CHARGE_MAX)
        shifted = one.neurons.initial[channels] >> initial_shift(one.neurons)
        initial = _filled_up(shifted, 0)
        return Header(bias, nothing, nothing, nothing, threshold, initial)
    parts = ((post.mult, 0), (post.shift, 1), (post.post_shift, 0))
    return Header(bias, *(_filled_up(values[channels], value) for values, value in parts))


def _filled_up(values: Ints, value: int) -> Ints:
    result = np.full(KERNELS, value, np.int64)
    result[: len(values)] = values
    return result


def _contents(one: Convolution, kept: list[GroupSets], shape: Shape) -> PassContents:
    rows, cols = one.kernel
    blocks = one.weight.shape[3] // WORD_LINES
    return PassContents(
        layers=one.layers,
        outputs=one.outputs,
        source=one.source,
        copies=one.copy,
        partial=one.partial,
        kernel=one.kernel,
        team_rows=shape.team_rows,
        total_sets=0 if one.rows else sum(block.n_planes for block in kept) * rows * cols * blocks,
        kept_sets=sum(block.n_kept for block in kept),
        pixels=(shape.n_rows if one.band else one.map_size[0]) * one.map_size[1],
        overwritten=0 if one.constants is None else one.constants.shape[1],
    )
