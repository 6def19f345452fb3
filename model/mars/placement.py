"""Where maps lie in the feature memories: which rows each macro stores, from when to when.

A macro's feature memory holds only the rows that its team reads. Maps live from the pass that
writes them to the last one that reads them; each gets the lowest place that is free for so long.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from model.mars.config import KERNELS, WORDS_PER_WRITE, MarsConfig
from model.mars.image import Features
from model.mars.layout import MAX_MACROS, Ints
from model.mars.lowering import Convolution, Home, Lowered


class CrowdedError(Exception):
    """Maps find no room.

    Attributes
    ----------
    maps : set of str
        Those that live together.
    pass_number : int
        The pass that writes the one without room.
    needed : int
        Words of them all.
    """

    def __init__(self, maps: set[str], pass_number: int, needed: int) -> None:
        super().__init__(f"{needed} words")
        self.maps = maps
        self.pass_number = pass_number
        self.needed = needed


@dataclass(frozen=True)
class Shape:
    """How a pass is spread over macros: `n_teams` bands of `rows_per_team` rows.

    Row k of a team is row ``first + team * pitch + k`` of the convolution's result. Of all rows,
    team by team, the last ones may be missing: there are `n_rows`.
    """

    split: int
    n_teams: int
    rows_per_team: int
    n_rows: int
    n_cols: int
    first: int
    pitch: int

    @property
    def team_rows(self) -> tuple[int, ...]:
        """The first row of each team."""
        return tuple(self.first + team * self.pitch for team in range(self.n_teams))

    def stored_rows(self, first: int, end: int, *, pool: bool) -> tuple[int, int]:
        """Rows `first` to `end` (exclusive) of the stored result, as the pass counts its rows.

        They are those of one team, or no two teams have a row in common.
        """
        n_rows, begins = self.rows_per_team >> pool, [row >> pool for row in self.team_rows]
        for team, begin in enumerate(begins):
            if begin <= first and end <= begin + n_rows:
                return team * n_rows + first - begin, team * n_rows + end - begin
        before, until = (
            sum(min(max(row - begin, 0), n_rows) for begin in begins) for row in (first, end)
        )
        return before, until


@dataclass(frozen=True)
class Placement:
    """A result in the feature memories.

    Macro m stores rows `first[m]` to `end[m]` (exclusive) of its map, of which `kind` is the type,
    from address `base` on. The result has the blocks of channels from `block` on.
    """

    kind: Features
    base: int
    first: Ints
    end: Ints
    block: int = 0

    @property
    def by_macro(self) -> list[tuple[int, int]]:
        """The rows of each macro."""
        return list(zip(self.first.tolist(), self.end.tolist(), strict=True))

    @property
    def rows(self) -> tuple[int, int]:
        """First and end of those that any macro stores."""
        stored = [(first, end) for first, end in self.by_macro if first < end]
        return min(first for first, _ in stored), max(end for _, end in stored)

    def row_0(self, macro: int) -> int:
        """Where row 0 is or would be."""
        inside = self.block * self.kind.planes
        return self.base + inside - int(self.first[macro]) * self.kind.row_pitch


@dataclass(frozen=True)
class Places:
    """Where everything is: maps, results in them, membranes (their address by name)."""

    maps: dict[str, Placement]
    homes: dict[str, Home]
    membranes: dict[str, int]

    def of(self, name: str) -> Placement:
        """That of a result."""
        home = self.homes[name]
        return replace(self.maps[home.map], block=home.block)


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


def _needs(lowered: Lowered, shapes: list[Shape]) -> dict[str, _Rows]:
    """Rows of maps that the passes read or store, and the last result in macro 0, if it stays."""
    needs = {name: _Rows() for name in lowered.maps}
    for one, shape in zip(lowered.passes, shapes, strict=True):
        for macro in range(shape.n_teams * shape.split):
            for name, first, end in _rows_read(lowered, one, shape, macro):
                needs[name].need(macro, first, end)
        if one.output in lowered.stores:
            for macro, rows in own_rows(one, shape).items():
                needs[lowered.homes[one.output].map].need(macro, *rows)
    for name in lowered.loads:  # of a map whose padding alone is read
        if not needs[name].most:
            needs[name].need(0, 0, 1)
    last = lowered.passes[-1]
    if last.output not in lowered.stores:
        needs[lowered.homes[last.output].map].need(0, 0, last.outputs[-1].shape[1])
    return needs


def _rows_read(
    lowered: Lowered, one: Convolution, shape: Shape, macro: int
) -> Iterator[tuple[str, int, int]]:
    """Maps that a macro reads, and the first row and the end of those of each."""
    height = lowered.maps[one.source].shape[1]
    team = shape.team_rows[macro // shape.split]
    first, end = max(team, 0), min(team + shape.rows_per_team, one.map_size[0])
    if one.flat or one.column:
        yield one.source, 0, height
    else:
        reach = (one.kernel[0] - 1) * one.dilation[0] + 1
        top = first * one.stride[0] - one.top
        bottom = (end - 1) * one.stride[0] - one.top + reach
        yield one.source, max(top, 0), min(bottom, height)
    if one.skip and macro % shape.split == 0:
        yield lowered.homes[one.skip].map, first, end
    if one.operand:
        operand = lowered.homes[one.operand.name].map
        yield operand, 0, lowered.maps[operand].shape[1]


def own_rows(one: Convolution, shape: Shape) -> dict[int, tuple[int, int]]:
    """Rows of the stored result (first, end) that are each team's own, by its first macro."""
    if one.average is not None or one.pixel_sum:
        return {0: (0, 1)}
    ends = [min(row + shape.rows_per_team, one.map_size[0]) for row in shape.team_rows]
    return {
        team * shape.split: (row >> one.pool, end >> one.pool)
        for team, (row, end) in enumerate(zip(shape.team_rows, ends, strict=True))
    }


def stored_rows(one: Convolution, shape: Shape) -> tuple[int, int]:
    """Those of all teams together: their rows follow each other."""
    rows = own_rows(one, shape).values()
    return min(first for first, _ in rows), max(end for _, end in rows)


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
        """Words; every room begins where two words can be written at once."""
        return _even(self.rows.most * self.kind.row_pitch)


@dataclass
class _MembraneRoom:
    """Membranes, from the first chunk to the last: those of a team in its macros in turn."""

    names: list[str]
    size: int
    born: int
    last_use: int
    base: int = 0


_AnyRoom = _Room | _MembraneRoom


def _even(n_words: int) -> int:
    return -(-n_words // WORDS_PER_WRITE) * WORDS_PER_WRITE


def membrane_pitches(one: Convolution, shape: Shape) -> tuple[int, int]:
    """Words from one row or pixel of a pass's membranes to the next, in each macro of a team."""
    if one.membrane is None:
        return 0, 0
    n_words = -(-one.membrane.shape[0] // KERNELS)
    col_pitch = -(-n_words // shape.split) * one.membrane.planes
    return one.membrane.shape[2] * col_pitch, col_pitch


def _membrane_rooms(lowered: Lowered, shapes: list[Shape]) -> dict[str, _MembraneRoom]:
    """Who needs how much for membranes, by name."""
    rooms: dict[str, _MembraneRoom] = {}
    for one, shape in zip(lowered.passes, shapes, strict=True):
        if one.membrane is not None:
            size = _even(membrane_rows(one, shape) * membrane_pitches(one, shape)[0])
            name = one.membrane.name
            room = _MembraneRoom([name], size, -1, len(lowered.passes))
            rooms.setdefault(name, room).size = max(size, rooms.get(name, room).size)
    return rooms


def membrane_rows(one: Convolution, shape: Shape) -> int:
    """Rows of membranes that a team has."""
    return 1 if one.pixel_sum else shape.rows_per_team


def _rooms(lowered: Lowered, shapes: list[Shape]) -> dict[str, _Room]:
    """Who needs how much feature memory, and from which pass to which, by map.

    A result takes the place of its residual if that is not used later: each word of the residual
    is read before the result's word is written.
    """
    needs = _needs(lowered, shapes)
    born, last_use = (dict.fromkeys(lowered.loads, -1) for _ in range(2))
    for k, one in enumerate(lowered.passes):
        written = lowered.homes[one.output].map
        born.setdefault(written, k)
        for name in (written, *lowered.read_maps(one)):
            last_use[name] = k
    last = lowered.passes[-1]
    if last.output not in lowered.stores:
        last_use[lowered.homes[last.output].map] = len(lowered.passes)
    n_members = Counter(home.map for home in lowered.homes.values())
    rooms = {
        name: _Room([name], lowered.maps[name], needs[name], -1, last_use[name])
        for name in lowered.loads
    }
    for k, one in enumerate(lowered.passes):
        name = lowered.homes[one.output].map
        if name in rooms:
            continue
        kind = lowered.maps[name]
        skips = [skip for skip in _skip_map(lowered, one) if skip != one.source]
        if (
            skips
            and n_members[name] == n_members[skips[0]] == 1
            and last_use[rooms[skips[0]].names[-1]] == k
            and (kind.shape, kind.planes)
            == (lowered.maps[skips[0]].shape, rooms[skips[0]].kind.planes)
        ):
            room = rooms[skips[0]]
            room.names.append(name)
            room.rows.need_all(needs[name])
            room.last_use = last_use[name]
        else:
            room = _Room([name], kind, needs[name], born[name], last_use[name])
        rooms[name] = room
    return rooms


def _skip_map(lowered: Lowered, one: Convolution) -> tuple[str, ...]:
    """The map of the residual, if there is one."""
    return () if one.skip is None else (lowered.homes[one.skip].map,)


def place(
    lowered: Lowered, options: list[list[Shape]], config: MarsConfig
) -> tuple[list[Shape], Places]:
    """Shapes and places; passes that read what does not fit take the smallest split instead.

    Raises
    ------
    CrowdedError
        Even then there is no room.
    """
    shapes = [option[0] for option in options]
    while True:
        rooms = _rooms(lowered, shapes)
        membranes = _membrane_rooms(lowered, shapes)
        own: list[_AnyRoom] = list({id(room): room for room in rooms.values()}.values())
        own = [*membranes.values(), *own]
        # Maps that come and go leave gaps between those that stay: then the largest ones first.
        by_size = sorted(own, key=lambda room: -room.size)
        crowded = _allocate(own, config.feature_words)
        still_crowded = crowded and _allocate(by_size, config.feature_words)
        if crowded is None or still_crowded is None:
            break
        smaller = _smaller(lowered, options, shapes, crowded.names)
        if smaller == shapes:
            smaller = _smaller(lowered, options, shapes, still_crowded.names)
        if smaller == shapes:
            needed = max(_most_words(own, crowded.room), config.feature_words + 1)
            raise CrowdedError(crowded.names, max(crowded.room.born, 0), needed)
        shapes = smaller
    # Maps that share a room may differ in sign and bits.
    maps = {
        name: Placement(lowered.maps[name], room.base, room.rows.first, room.rows.end)
        for name, room in rooms.items()
    }
    addresses = {name: room.base for name, room in membranes.items()}
    return shapes, Places(maps, lowered.homes, addresses)


def _smaller(
    lowered: Lowered, options: list[list[Shape]], shapes: list[Shape], names: set[str]
) -> list[Shape]:
    """Shapes with the smallest split for the passes that read some of these maps."""
    return [
        min(option, key=lambda shape: shape.split) if names & set(lowered.read_maps(one)) else shape
        for one, option, shape in zip(lowered.passes, options, shapes, strict=True)
    ]


@dataclass(frozen=True)
class _Crowded:
    """A room that found no place, and all that live with it."""

    room: _AnyRoom
    alive: list[_AnyRoom]

    @property
    def names(self) -> set[str]:
        """Their maps."""
        return {name for room in self.alive for name in room.names}


def _most_words(rooms: list[_AnyRoom], one: _AnyRoom) -> int:
    """Words of all rooms that live at once, at the fullest time of one's life."""
    return max(
        sum(room.size for room in rooms if room.born <= time <= room.last_use)
        for time in range(one.born, one.last_use + 1)
    )


def _allocate(rooms: list[_AnyRoom], n_words: int) -> _Crowded | None:
    """Gives every room the lowest place that is free during its life."""
    placed: list[_AnyRoom] = []
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
