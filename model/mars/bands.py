"""Maps that do not fit, computed in bands of rows.

Passes that follow each other, each reading only what the one before it wrote, are run band by
band: of the maps between them only the rows are kept that a band of the last one needs. Rows that
two bands need are computed twice, and weights are read once per band.
"""

from collections.abc import Mapping
from dataclasses import replace

from model.mars.image import Features
from model.mars.lowering import Convolution, Home, Lowered

BAND = " #"
"""Between the name of a result and the number of its band."""


def can_be_banded(lowered: Lowered, number: int) -> bool:
    """Whether the result of a pass is read by the next one alone, row by row."""
    if number + 1 >= len(lowered.passes):
        return False
    one, then = lowered.passes[number : number + 2]
    name = lowered.homes[one.output].map
    is_alone = sum(home.map == name for home in lowered.homes.values()) == 1
    readers = [k for k, other in enumerate(lowered.passes) if name in _read(lowered, other)]
    is_whole = then.flat or then.average is not None or one.average is not None
    is_skip = then.skip is not None and lowered.homes[then.skip].map == name
    return is_alone and readers == [number + 1] and not is_whole and not is_skip


def in_bands(lowered: Lowered, bands: Mapping[int, int]) -> Lowered:
    """The same with the results of some passes kept in so many bands."""
    passes: list[Convolution] = []
    homes, maps = dict(lowered.homes), dict(lowered.maps)
    number = 0
    while number < len(lowered.passes):
        last = number
        while last in bands:
            last += 1
        chain = lowered.passes[number : last + 1]
        if len(chain) == 1:
            passes += chain
        else:
            n_bands = max(bands[k] for k in range(number, last))
            for k, rows in enumerate(_ranges(chain[-1], n_bands)):
                passes += _band(chain, rows, f"{BAND}{k + 1}", homes, maps)
            for one in chain[:-1]:
                del maps[homes.pop(one.output).map]
        number = last + 1
    return replace(lowered, passes=passes, homes=homes, maps=maps)


def _read(lowered: Lowered, one: Convolution) -> set[str]:
    """Maps that a pass reads."""
    return {one.source} | ({lowered.homes[one.skip].map} if one.skip else set())


def _ranges(one: Convolution, n_bands: int) -> list[tuple[int, int]]:
    """Rows of the convolution's result in bands; quads stay together."""
    unit = 1 + one.pool
    n_rows = one.map_size[0] // unit * unit
    step = -(-n_rows // (n_bands * unit)) * unit
    return [(first, min(first + step, n_rows)) for first in range(0, n_rows, step)]


def _band(
    chain: list[Convolution],
    rows: tuple[int, int],
    suffix: str,
    homes: dict[str, Home],
    maps: dict[str, Features],
) -> list[Convolution]:
    """The passes of a chain that lead to some rows of its last result."""
    result: list[Convolution] = []
    for one in reversed(chain):
        first, end = rows
        limited = replace(one, first_row=first, map_size=(end - first, one.map_size[1]))
        if result:  # what it writes is a band
            name, map_name = one.output + suffix, homes[one.output].map + suffix
            first_stored = limited.first_stored_row
            n_stored = (end - first) >> one.pool
            whole = maps[homes[one.output].map]
            maps[map_name] = replace(whole, shape=(whole.shape[0], n_stored, whole.shape[2]))
            homes[name] = Home(map_name, 0)
            limited = replace(limited, output=name, out_top=first_stored)
            result[0] = replace(result[0], source=map_name, source_top=first_stored)
        result.insert(0, limited)
        before = chain[chain.index(one) - 1] if one is not chain[0] else None
        if before is not None:
            rows = _source_rows(limited, before)
    return result


def _source_rows(one: Convolution, before: Convolution) -> tuple[int, int]:
    """Rows of the convolution before that a pass needs, at least one."""
    height = one.source_kind.shape[1]
    reach = (one.kernel[0] - 1) * one.dilation[0] + 1
    top = one.first_row * one.stride[0] - one.top
    bottom = (one.first_row + one.map_size[0] - 1) * one.stride[0] - one.top + reach
    first = min(max(top, 0), height - 1)
    end = max(min(bottom, height), first + 1)
    return first << before.pool, end << before.pool
