"""Maps that do not fit, computed in bands of rows.

Passes that follow each other, each reading only what the one before it wrote, are run band by
band: of the maps between them only the rows are kept that a band of the last one needs. Each team
has its own part of the rows of the last result, as it would without bands, and a band is some rows
of every team: so no macro has to keep more of the maps around the chain than without bands. Rows
that two bands or teams need are computed twice, and weights are read once per band.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from model.mars.lowering import Band, Convolution, Home, Lowered
from model.mars.packing import MAX_SIDE

BAND = " #"
"""Between the name of a result and the number of its band."""


def can_be_banded(lowered: Lowered, number: int) -> bool:
    """Whether the result of a pass is read by the next one alone, row by row.

    A residual would be read where rows outside the map are computed, a map that stands for weights
    is read as a whole, and membranes that are stored would take a step twice.
    """
    if number + 1 >= len(lowered.passes):
        return False
    one, then = lowered.passes[number : number + 2]
    name = lowered.homes[one.output].map
    is_alone = sum(home.map == name for home in lowered.homes.values()) == 1
    readers = [k for k, other in enumerate(lowered.passes) if name in lowered.read_maps(other)]
    is_whole = then.flat or then.column or then.average is not None or one.average is not None
    has_state = one.membrane is not None or then.membrane is not None
    is_kept = name in lowered.kept_maps(then)
    return (
        is_alone and readers == [number + 1] and not (is_whole or is_kept or has_state or one.skip)
    )


def in_bands(lowered: Lowered, bands: Mapping[int, int], most_teams: Sequence[int]) -> Lowered:
    """The same with the results of some passes kept in so many bands.

    Parameters
    ----------
    lowered : Lowered
    bands : {int: int}
        Number of bands, by the number of the pass.
    most_teams : sequence of int
        Of each pass.
    """
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
            teams = min(most_teams[number : last + 1])
            for k, band in enumerate(_counted_bands(chain, n_bands, teams)):
                suffix = f"{BAND}{k + 1}"
                passes += _in_band(chain, band, suffix, homes)
                for one in chain[:-1]:
                    name = homes[one.output].map
                    maps[name + suffix] = maps[name]
                    homes[one.output + suffix] = Home(name + suffix, 0)
            for one in chain[:-1]:
                del maps[homes.pop(one.output).map]
        number = last + 1
    return replace(lowered, passes=passes, homes=homes, maps=maps)


def _counted_bands(chain: Sequence[Convolution], n_bands: int, most_teams: int) -> list[Band]:
    """The bands of the last result, with so few teams that a descriptor can count all rows."""
    bands = _bands(chain[-1], n_bands, most_teams)
    n_rows = max(one.n_teams * one.rows for band in bands for one in bands_of_chain(chain, band))
    if n_rows <= MAX_SIDE or most_teams == 1:
        return bands
    return _counted_bands(chain, n_bands, most_teams // 2)


def bands_of_chain(chain: Sequence[Convolution], band: Band) -> list[Band]:
    """The bands of a chain's passes that lead to one of the last result, the last one first."""
    result = [band]
    for one, before in zip(chain[:0:-1], chain[-2::-1], strict=True):
        result.append(_source_band(one, result[-1], before))
    return result


def _bands(one: Convolution, n_bands: int, most_teams: int) -> list[Band]:
    """The rows of a result in bands; quads stay together."""
    unit = 1 + one.pool
    n_rows = one.map_size[0] // unit
    pitch = -(-n_rows // most_teams)
    step = -(-pitch // n_bands)
    return [
        Band(
            n_teams=-(-(n_rows - first) // pitch),
            pitch=pitch * unit,
            first=first * unit,
            rows=min(step, pitch - first) * unit,
        )
        for first in range(0, pitch, step)
    ]


def _in_band(
    chain: list[Convolution], band: Band, suffix: str, homes: Mapping[str, Home]
) -> list[Convolution]:
    """The passes of a chain that lead to some rows of its last result."""
    bands = bands_of_chain(chain, band)
    result = [replace(chain[-1], band=band)]
    for one, rows in zip(reversed(chain[:-1]), bands[1:], strict=True):
        result[0] = replace(result[0], source=homes[one.output].map + suffix)
        result.insert(0, replace(one, band=rows, output=one.output + suffix))
    return result


def _source_band(one: Convolution, band: Band, before: Convolution) -> Band:
    """The rows of the convolution before that a pass needs for a band."""
    reach = (one.kernel[0] - 1) * one.dilation[0] + 1
    return Band(
        n_teams=band.n_teams,
        pitch=band.pitch * one.stride[0] << before.pool,
        first=band.first * one.stride[0] - one.top << before.pool,
        rows=(band.rows - 1) * one.stride[0] + reach << before.pool,
    )
