"""Networks whose maps do not fit: segments, between which maps lie in memory.

A segment reads up to two maps, computes passes that follow each other, and stores what later ones
read. It is run as a whole, if its maps fit; or, if each of its passes reads only what the one
before it wrote, in bands of rows, each of them a segment of its own: what two bands or teams need
is computed twice, and weights are read once per band.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from model.mars.bands import bands_of_chain, can_be_banded
from model.mars.layout import MAX_LOADS
from model.mars.lowering import Band, Convolution, Lowered
from model.mars.network import INPUT

Cost = Callable[[Lowered], int | None]
"""Clocks of a segment, None if it does not fit."""


class StuckError(Exception):
    """A pass does not fit, however few of its rows are computed at once.

    Attributes
    ----------
    pass_number : int
    part : Lowered
        Those rows.
    """

    def __init__(self, pass_number: int, part: Lowered) -> None:
        super().__init__(f"pass {pass_number}")
        self.pass_number = pass_number
        self.part = part


@dataclass(frozen=True)
class _Plan:
    """The rest of a network in segments, and their clocks."""

    clocks: int
    parts: tuple[Lowered, ...]


def segments(lowered: Lowered, teams: Sequence[int], cost: Cost) -> tuple[Lowered, ...]:
    """The quickest way through a network.

    Parameters
    ----------
    lowered : Lowered
    teams : sequence of int
        The most teams of each pass.
    cost : callable

    Raises
    ------
    StuckError
        Not even a row of a pass fits.
    """
    n = len(lowered.passes)
    best: list[_Plan | None] = [None] * n + [_Plan(0, ())]
    for first in reversed(range(n)):
        for end, plan in _segments_from(lowered, first, teams, cost):
            rest, now = best[end], best[first]
            if rest is None:
                continue
            clocks = plan.clocks + rest.clocks
            if now is None or clocks < now.clocks:
                best[first] = _Plan(clocks, plan.parts + rest.parts)
    if best[0] is None:
        stuck = max(k for k, plan in enumerate(best) if plan is None)
        raise StuckError(stuck, _smallest(lowered, stuck))
    return best[0].parts


def _smallest(lowered: Lowered, number: int) -> Lowered:
    """A pass with as few rows as can be."""
    one = lowered.passes[number]
    if not _is_chain(lowered, number, number + 1):
        return _part(lowered, number, number + 1, [one], stays=False)
    unit = 1 + one.pool
    bands = _bands(one.map_size[0] // unit, 1, 1, unit)
    parts = [_band(lowered, number, number + 1, [one], band) for band in bands]
    return max(parts, key=lambda part: _n_rows_read(part.passes[0]))


def _n_rows_read(one: Convolution) -> int:
    """Rows of the source that a band needs."""
    assert one.band is not None
    top = one.band.first * one.stride[0] - one.top
    end = top + (one.band.rows - 1) * one.stride[0] + (one.kernel[0] - 1) * one.dilation[0] + 1
    return min(end, one.source_kind.shape[1]) - max(top, 0)


def _segments_from(
    lowered: Lowered, first: int, teams: Sequence[int], cost: Cost
) -> Iterator[tuple[int, _Plan]]:
    """The segments that begin with a pass: where each ends, and what it takes."""
    n = len(lowered.passes)
    whole = _whole(lowered, first, n, cost)
    if whole is not None:
        yield n, whole
        return
    for end in range(first + 1, n + 1):
        whole = _whole(lowered, first, end, cost)
        if whole is not None:
            yield end, whole
        chain = _is_chain(lowered, first, end)
        banded = _in_bands(lowered, first, end, min(teams[first:end]), cost) if chain else None
        if banded is not None:
            yield end, banded
        if whole is None and banded is None:
            return


def _whole(lowered: Lowered, first: int, end: int, cost: Cost) -> _Plan | None:
    """A segment in one band; the network's result stays in the first macro if it can."""
    for stays in (True, False) if end == len(lowered.passes) else (False,):
        part = _part(lowered, first, end, lowered.passes[first:end], stays=stays)
        clocks = cost(part) if _can_load(part, first) else None
        if clocks is not None:
            return _Plan(clocks, (part,))
    return None


def _can_load(part: Lowered, first: int) -> bool:
    """The host starts the first segment, which has the input alone."""
    return len(part.loads) <= MAX_LOADS and (first > 0 or part.loads == (INPUT,))


def _is_chain(lowered: Lowered, first: int, end: int) -> bool:
    """Whether passes can be run band by band together."""
    last = lowered.passes[end - 1]
    return not (last.flat or last.column or last.average) and all(
        can_be_banded(lowered, k) for k in range(first, end - 1)
    )


def _in_bands(lowered: Lowered, first: int, end: int, most_teams: int, cost: Cost) -> _Plan | None:
    """A chain in the bands that take the fewest clocks."""
    best: _Plan | None = None
    n_teams = most_teams
    while n_teams:
        plan = _in_bands_of(lowered, first, end, n_teams, cost)
        if plan is not None and (best is None or plan.clocks < best.clocks):
            best = plan
        n_teams //= 2
    return best


def _in_bands_of(lowered: Lowered, first: int, end: int, n_teams: int, cost: Cost) -> _Plan | None:
    """The same in bands of as many rows of each team as fit."""
    chain = lowered.passes[first:end]
    unit = 1 + chain[-1].pool
    n_units = chain[-1].map_size[0] // unit

    def parts(rows: int) -> list[Lowered]:
        bands = _bands(n_units, n_teams, rows, unit)
        return [_band(lowered, first, end, chain, band) for band in bands]

    def clocks(rows: int) -> int | None:
        """Those of all bands; the second one has a halo on both sides."""
        bands = parts(rows)
        one = cost(bands[min(1, len(bands) - 1)])
        return None if one is None or not _can_load(bands[0], first) else one * len(bands)

    low, high = 0, -(-n_units // n_teams)
    while low < high:
        middle = -(-(low + high) // 2)
        if clocks(middle) is None:
            high = middle - 1
        else:
            low = middle
    for rows in range(low, 0, -1):
        # Bands of equal size; of the first and the last one other rows may be missing.
        even = -(-n_units // (n_teams * -(-n_units // (n_teams * rows))))
        found = parts(even)
        each = [cost(part) for part in found]
        if None not in each:
            return _Plan(sum(one for one in each if one is not None), tuple(found))
    return None


def _bands(n_units: int, n_teams: int, rows: int, unit: int) -> list[Band]:
    """Bands of so many units of rows for each of the teams, which lie one behind the other."""
    return [
        Band(
            n_teams=min(n_teams, -(-(n_units - first) // rows)),
            pitch=rows * unit,
            first=first * unit,
            rows=rows * unit,
        )
        for first in range(0, n_units, n_teams * rows)
    ]


def _band(
    lowered: Lowered, first: int, end: int, chain: Sequence[Convolution], band: Band
) -> Lowered:
    """A segment that computes some rows of a chain's result."""
    bands = reversed(bands_of_chain(chain, band))
    passes = [replace(one, band=rows) for one, rows in zip(chain, bands, strict=True)]
    return _part(lowered, first, end, passes, stays=False)


def _part(
    lowered: Lowered, first: int, end: int, passes: list[Convolution], *, stays: bool
) -> Lowered:
    """Some passes, what they read, and what is stored: what others read, and the last result."""
    before = {INPUT, *(lowered.homes[one.output].map for one in lowered.passes[:first])}
    read = [name for one in passes for name in lowered.read_maps(one)]
    later = {name for one in lowered.passes[end:] for name in lowered.read_maps(one)}
    stores = {one.output for one in passes if lowered.homes[one.output].map in later}
    stores |= set() if stays else {passes[-1].output}
    return replace(
        lowered,
        passes=[replace(one, whole=one.whole or one.output in stores) for one in passes],
        loads=tuple(dict.fromkeys(name for name in read if name in before)),
        stores=frozenset(stores),
    )
