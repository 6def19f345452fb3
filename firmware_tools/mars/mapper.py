"""Maps a network to an accelerator: splits, bands, feature memory, program.

For each pass the mapper chooses the split, how many macros share the group-sets of a kernel block,
by the cycle model: the other macros form teams with bands of rows of their own. A macro's feature
memory holds only the rows that its team reads.
"""

from dataclasses import dataclass, replace
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from firmware_tools.mars.lowering import (
    Convolution,
    features,
    kernels_per_block,
    lower,
)
from model.mars.clocks import Work, simulate
from model.mars.config import (
    ADDRESSES,
    KERNELS,
    WORD_BITS,
    WORD_LINES,
    MarsConfig,
)
from model.mars.image import Contents, Features, Image, PassContents
from model.mars.layout import MAX_BLOCKS, MAX_MACROS, Descriptor, Ints, encode_index
from model.mars.memory import LineSource
from model.mars.network import QuantizedNetwork
from model.mars.program import KernelBlock, Pass, encode

MAX_SIDE = 255
"""Rows and columns that a descriptor can count."""
ADDRESS_MASK = 0xFFFF
ESTIMATE_LATENCY = 16
NO_END = 1 << 24
INPUT = "input"


class FitError(ValueError):
    """The network does not fit the configuration; the text says which layer and by how much."""


@dataclass(frozen=True)
class GroupSets:
    """The kept group-sets of a kernel block in the order of their index codes.

    `codes` (n,), `words` (n, 16).
    """

    codes: Ints
    words: NDArray[np.uint64]


@dataclass(frozen=True)
class Shape:
    """How a pass is spread over macros: `n_teams` bands of `rows_per_team` rows."""

    split: int
    n_teams: int
    rows_per_team: int
    n_rows: int
    n_cols: int


@dataclass(frozen=True)
class Placement:
    """A map in the feature memories.

    Macro m stores rows `first[m]` to `end[m]` (exclusive) from address `base` on.
    """

    kind: Features
    base: int
    first: Ints
    end: Ints

    def row_0(self, macro: int) -> int:
        """Where row 0 is or would be."""
        return self.base - int(self.first[macro]) * self.kind.row_pitch


def compile_network(network: QuantizedNetwork, config: MarsConfig) -> Image:
    """The image of a network for a configuration.

    Raises
    ------
    FitError
        Names the layer and what it lacks.
    """
    convolutions = lower(network)
    sets = [group_sets(one) for one in convolutions]
    options = [_options(one, kept, config) for one, kept in zip(convolutions, sets, strict=True)]
    shapes, places = _place(features(network, INPUT), convolutions, options, config)
    passes = tuple(
        _pass(one, kept, shape, places, is_last=one is convolutions[-1])
        for one, kept, shape in zip(convolutions, sets, shapes, strict=True)
    )
    contents = Contents(
        name=network.name,
        input=places[INPUT].kind,
        output_address=places[convolutions[-1].output].base,
        passes=tuple(_contents(o, kept) for o, kept in zip(convolutions, sets, strict=True)),
    )
    return Image(config, contents, _input_descriptor(places[INPUT]), encode(passes))


def group_sets(one: Convolution) -> list[GroupSets]:
    """The group-sets with a weight other than 0, kernel block by kernel block."""
    size = one.weight.shape[1]
    blocks = one.weight.shape[3] // WORD_LINES
    if blocks > MAX_BLOCKS[size]:
        raise FitError(
            f"layer {one.layers[0]} must have at most {MAX_BLOCKS[size] * WORD_LINES} input "
            f"channels for its {size}x{size} kernels, not {blocks * WORD_LINES}: "
            f"{(blocks - MAX_BLOCKS[size]) * WORD_LINES} too many"
        )
    per_block = kernels_per_block(one)
    n_kernels = -(-one.weight.shape[0] // KERNELS) * KERNELS
    padded = np.zeros((n_kernels, *one.weight.shape[1:]), np.int64)
    padded[: len(one.weight)] = one.weight
    # (kernel blocks, kernels, dy, dx, channel blocks, channels)
    tiled = padded.reshape(-1, per_block, size, size, blocks, WORD_LINES)
    kept: NDArray[np.bool_] = np.any(tiled != 0, axis=(1, 5))
    return [_group_sets(tile, mask) for tile, mask in zip(tiled, kept, strict=True)]


def _group_sets(tile: Ints, kept: NDArray[np.bool_]) -> GroupSets:
    """Kept group-sets of weights (kernels, dy, dx, channel blocks, channels)."""
    dy, dx, block = (index.astype(np.int64) for index in np.nonzero(kept))
    rows = tile[:, dy, dx, block].transpose(1, 2, 0)  # (sets, channels, kernels)
    width = WORD_BITS // rows.shape[2]
    fields = (rows & ((1 << width) - 1)).astype(np.uint64)
    shifts = np.arange(0, WORD_BITS, width, dtype=np.uint64)
    words = np.bitwise_or.reduce(fields << shifts, axis=2)
    return GroupSets(encode_index(dy, dx, block, kernel3=kept.shape[0] > 1), words)


def _options(one: Convolution, kept: list[GroupSets], config: MarsConfig) -> list[Shape]:
    """The possible shapes of a pass, the quickest first, of equal ones the smallest split."""
    most = max(len(block.codes) for block in kept)
    if most > ADDRESSES * config.n_macros:
        raise FitError(
            f"layer {one.layers[0]} must keep at most {ADDRESSES * config.n_macros} group-sets "
            f"per kernel block to fit {config.name}, not {most}: "
            f"{most - ADDRESSES * config.n_macros} too many; prune it or use more macros"
        )
    side = max(*one.map_size, *one.source_kind.shape[1:])
    if side > MAX_SIDE:
        raise FitError(f"layer {one.layers[0]} must have a map of at most {MAX_SIDE}, not {side}")
    splits = [s for s in (1, 2, 4, 8) if s <= config.n_macros and most <= ADDRESSES * s]
    shapes = [_shape(one, split, config) for split in splits]
    return sorted(shapes, key=lambda shape: (_cost(_work(one, shape, kept), config), shape.split))


def _shape(one: Convolution, split: int, config: MarsConfig) -> Shape:
    rows, cols = one.map_size
    if one.pool:
        rows, cols = rows // 2 * 2, cols // 2 * 2
    most_teams = config.n_macros // split
    rows_per_team = -(-rows // most_teams)
    if one.pool:
        rows_per_team += rows_per_team % 2
    return Shape(split, -(-rows // rows_per_team), rows_per_team, rows, cols)


def _work(one: Convolution, shape: Shape, kept: list[GroupSets]) -> Work:
    return Work(
        n_input_lines=0,
        split=shape.split,
        entries=tuple(-(-len(block.codes) // shape.split) for block in kept),
        n_rounds=shape.rows_per_team * shape.n_cols,
        in_planes=one.source_kind.planes,
        skip_planes=one.skip_kind.planes if one.skip_kind else 0,
        n_teams=shape.n_teams,
        out_planes=one.outputs[-1].planes,
        has_average=one.average is not None,
    )


def _cost(work: Work, config: MarsConfig) -> int:
    """Clocks of a pass behind another one of its kind, which hides its first loads."""
    source = LineSource(config, 0, NO_END, ESTIMATE_LATENCY)
    return simulate([work, work], source)[1].clocks


class _Rows:
    """The rows of a map that each macro needs."""

    def __init__(self) -> None:
        self.first = np.zeros(MAX_MACROS, np.int64)
        self.end = np.zeros(MAX_MACROS, np.int64)

    def need(self, macro: int, first: int, end: int) -> None:
        if first >= end:
            return
        if self.first[macro] < self.end[macro]:
            first, end = min(first, self.first[macro]), max(end, self.end[macro])
        self.first[macro], self.end[macro] = first, end

    def need_all(self, other: "_Rows") -> None:
        for macro in range(MAX_MACROS):
            self.need(macro, other.first[macro], other.end[macro])

    @property
    def most(self) -> int:
        return int((self.end - self.first).max())


def _needs(convolutions: list[Convolution], shapes: list[Shape]) -> dict[str, _Rows]:
    """Rows that the passes read, and the whole result of the last one in macro 0."""
    needs = {name: _Rows() for name in [INPUT, *(one.output for one in convolutions)]}
    for one, shape in zip(convolutions, shapes, strict=True):
        height = one.source_kind.shape[1]
        kernel = one.weight.shape[1]
        for macro in range(shape.n_teams * shape.split):
            first = macro // shape.split * shape.rows_per_team
            end = min(first + shape.rows_per_team, shape.n_rows)
            if one.flat:
                needs[one.source].need(macro, 0, height)
            else:
                top = first * one.stride - one.pad
                bottom = (end - 1) * one.stride - one.pad + kernel
                needs[one.source].need(macro, max(top, 0), min(bottom, height))
            if one.skip and macro % shape.split == 0:
                needs[one.skip].need(macro, first, end)
    needs[convolutions[-1].output].need(0, 0, convolutions[-1].outputs[-1].shape[1])
    return needs


@dataclass
class _Room:
    """A piece of feature memory; maps that replace each other in place share one."""

    names: list[str]
    kind: Features
    rows: _Rows
    born: int
    last_use: int
    base: int = 0

    @property
    def size(self) -> int:
        return self.rows.most * self.kind.row_pitch


def _rooms(
    network_input: Features, convolutions: list[Convolution], shapes: list[Shape]
) -> list[_Room]:
    """Who needs how much feature memory, and from which pass to which.

    A result takes the place of its residual if that is not used later: each word of the residual
    is read before the result's word is written.
    """
    needs = _needs(convolutions, shapes)
    last_use = dict.fromkeys(needs, -1)
    for k, one in enumerate(convolutions):
        last_use[one.output] = k
        last_use[one.source] = k
        if one.skip:
            last_use[one.skip] = k
    last_use[convolutions[-1].output] = len(convolutions)
    rooms = {INPUT: _Room([INPUT], network_input, needs[INPUT], -1, last_use[INPUT])}
    for k, one in enumerate(convolutions):
        kind = one.outputs[-1]
        room = rooms[one.skip] if one.skip else None
        if (
            room is not None
            and one.skip not in {None, one.source}
            and one.skip_kind is not None
            and last_use[room.names[-1]] == k
            and (kind.shape, kind.planes) == (one.skip_kind.shape, one.skip_kind.planes)
        ):
            room.names.append(one.output)
            room.rows.need_all(needs[one.output])
            room.last_use = last_use[one.output]
        else:
            room = _Room([one.output], kind, needs[one.output], k, last_use[one.output])
        rooms[one.output] = room
    return list({id(room): room for room in rooms.values()}.values())


def _place(
    network_input: Features,
    convolutions: list[Convolution],
    options: list[list[Shape]],
    config: MarsConfig,
) -> tuple[list[Shape], dict[str, Placement]]:
    """Shapes and places; passes that read what does not fit take the smallest split instead."""
    shapes = [option[0] for option in options]
    while True:
        rooms = _rooms(network_input, convolutions, shapes)
        crowded = _allocate(rooms, config.feature_words)
        if crowded is None:
            break
        names = {name for room in crowded.alive for name in room.names}
        smaller = [
            min(option, key=lambda shape: shape.split) if names & {one.source, one.skip} else shape
            for one, option, shape in zip(convolutions, options, shapes, strict=True)
        ]
        if smaller == shapes:
            needed = sum(room.size for room in crowded.alive)
            layer = convolutions[max(crowded.room.born, 0)].layers[0]
            raise FitError(
                f"layer {layer} must leave the maps in use within {config.feature_words} words of "
                f"feature memory per macro to fit {config.name}, not {needed}: "
                f"{max(needed - config.feature_words, 1)} too many"
            )
        shapes = smaller
    # Maps that share a room may differ in sign and bits.
    kinds = {INPUT: network_input, **{one.output: one.outputs[-1] for one in convolutions}}
    return shapes, {
        name: Placement(kinds[name], room.base, room.rows.first, room.rows.end)
        for room in rooms
        for name in room.names
    }


@dataclass(frozen=True)
class _Crowded:
    """A room that found no place, and all that live with it."""

    room: _Room
    alive: list[_Room]


def _allocate(rooms: list[_Room], n_words: int) -> _Crowded | None:
    """Gives every room the lowest place that is free during its life."""
    placed: list[_Room] = []
    for room in rooms:
        alive = sorted(
            (p for p in placed if p.last_use >= room.born and p.born <= room.last_use and p.size),
            key=lambda p: p.base,
        )
        room.base = 0
        for other in alive:
            if room.base + room.size <= other.base:
                break
            room.base = max(room.base, other.base + other.size)
        if room.base + room.size > n_words:
            return _Crowded(room, [*alive, room])
        placed.append(room)
    return None


class _OutFields(TypedDict):
    out_base: tuple[int, ...]
    out_first_row: tuple[int, ...]
    out_end_row: tuple[int, ...]


def _input_descriptor(place: Placement) -> Descriptor:
    return Descriptor(
        is_input=1,
        n_rows=place.kind.shape[1],
        out_row_pitch=place.kind.row_pitch,
        **_out_fields(place),
    )


def _out_fields(place: Placement) -> _OutFields:
    return {
        "out_base": tuple(place.row_0(m) & ADDRESS_MASK for m in range(MAX_MACROS)),
        "out_first_row": tuple(place.first.tolist()),
        "out_end_row": tuple(place.end.tolist()),
    }


def _pass(
    one: Convolution,
    kept: list[GroupSets],
    shape: Shape,
    places: dict[str, Placement],
    *,
    is_last: bool,
) -> Pass:
    descriptor = replace(
        _descriptor(one, shape, places), is_last=int(is_last), n_kernel_blocks=len(kept)
    )
    return Pass(
        descriptor, tuple(_kernel_block(one, k, sets, shape.split) for k, sets in enumerate(kept))
    )


def _descriptor(one: Convolution, shape: Shape, places: dict[str, Placement]) -> Descriptor:
    source, out = places[one.source], places[one.output]
    skip = places[one.skip] if one.skip else None
    result = one.outputs[0] if not one.copy else one.source_kind
    low, high = (0, 0) if one.raw else (result.low, result.high)
    gap_low, gap_high = (out.kind.low, out.kind.high) if one.average else (0, 0)
    teams = [m // shape.split for m in range(MAX_MACROS)]
    top = [t * shape.rows_per_team * one.stride - one.pad for t in teams]
    row_pitch, col_pitch = (0, 0) if one.flat else (source.kind.row_pitch, source.kind.col_pitch)
    out_row_pitch, out_col_pitch = (
        (0, 0) if one.average else (out.kind.row_pitch, out.kind.col_pitch)
    )
    return Descriptor(
        wide=int(one.wide),
        kernel3=int(one.weight.shape[1] > 1),
        stride2=one.stride - 1,
        pad=one.pad,
        in_signed=int(source.kind.signed),
        in_two=source.kind.planes - 1,
        has_skip=int(skip is not None),
        skip_two=skip.kind.planes - 1 if skip else 0,
        skip_signed=int(skip.kind.signed) if skip else 0,
        skip_mult=one.skip_mult,
        raw=int(one.raw),
        pool=int(one.pool),
        gap=int(one.average is not None),
        split_log2=shape.split.bit_length() - 1,
        out_planes_log2=out.kind.planes.bit_length() - 1,
        n_teams=shape.n_teams,
        rows_per_team=shape.rows_per_team,
        n_rows=shape.n_rows,
        n_cols=shape.n_cols,
        in_height=1 if one.flat else source.kind.shape[1],
        in_width=1 if one.flat else source.kind.shape[2],
        in_row_pitch=row_pitch,
        in_col_pitch=col_pitch,
        skip_row_pitch=skip.kind.row_pitch if skip else 0,
        skip_col_pitch=skip.kind.col_pitch if skip else 0,
        out_row_pitch=out_row_pitch,
        out_col_pitch=out_col_pitch,
        team_out_pitch=(shape.rows_per_team >> int(one.pool)) * out_row_pitch,
        low=low,
        high=high,
        gap_mult=one.average.mult if one.average else 0,
        gap_shift=one.average.shift if one.average else 0,
        gap_low=gap_low,
        gap_high=gap_high,
        in_base=tuple(
            (source.row_0(m) + top[m] * row_pitch - one.pad * col_pitch) & ADDRESS_MASK
            for m in range(MAX_MACROS)
        ),
        skip_base=tuple(
            (skip.row_0(m) + teams[m] * shape.rows_per_team * skip.kind.row_pitch) & ADDRESS_MASK
            if skip
            else 0
            for m in range(MAX_MACROS)
        ),
        **_out_fields(out),
    )


def _kernel_block(one: Convolution, number: int, sets: GroupSets, split: int) -> KernelBlock:
    """Entries and tables of a kernel block; what only fills up is 0 with a shift of 1."""
    per_block = kernels_per_block(one)
    channels = slice(number * per_block, (number + 1) * per_block)
    bias, mult, shift = (
        np.zeros(KERNELS, np.int64),
        np.zeros(KERNELS, np.int64),
        np.ones(KERNELS, np.int64),
    )
    n = len(one.bias[channels])
    bias[:n], mult[:n], shift[:n] = (x[channels] for x in (one.bias, one.mult, one.shift))
    n_entries = -(-len(sets.codes) // split)
    codes = np.zeros(n_entries * split, np.int64)
    words = np.zeros((n_entries * split, WORD_LINES), np.uint64)
    codes[: len(sets.codes)], words[: len(sets.codes)] = sets.codes, sets.words
    return KernelBlock(
        bias, mult, shift, codes.reshape(-1, split), words.reshape(-1, split, WORD_LINES)
    )


def _contents(one: Convolution, kept: list[GroupSets]) -> PassContents:
    size, blocks = one.weight.shape[1], one.weight.shape[3] // WORD_LINES
    return PassContents(
        layers=one.layers,
        outputs=one.outputs,
        source=one.source,
        copies=one.copy,
        total_sets=len(kept) * size * size * blocks,
        kept_sets=sum(len(block.codes) for block in kept),
        pixels=one.map_size[0] * one.map_size[1],
    )
