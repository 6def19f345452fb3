"""What a search says: figures for programs, tables for people, how much each constant matters."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from firmware_tools.costs.constants import Constants, constants
from firmware_tools.costs.system import Choices
from firmware_tools.search.devices import Found, Measured, Settings
from firmware_tools.search.measuring import model_of, sample_of
from firmware_tools.search.methods import fill
from firmware_tools.search.space import Archive, Space

FEW = 1 << 13
"""Networks that are quicker priced one and all."""
UNITS = {"tops-per-mm2": "TOPS/mm2", "energy": "uJ a frame", "edp": "uJ ms"}


def as_json(found: Found, settings: Settings) -> dict[str, Any]:
    """Everything; nothing in it depends on where and when it ran."""
    task = settings.task
    values: dict[str, Any] = {
        "network": model_of(task).network.name,
        "layers": list(found.layers.names),
        "options": [one.label for one in settings.options],
        "objective": settings.objective,
        "unit": UNITS[settings.objective],
        "allowed_drop": settings.allowed,
        "method": settings.method,
        "seed": settings.seed,
        "images": sample_of(task, "selection").source,
        "image_count": len(sample_of(task, "selection").inputs),
        "has_labels": sample_of(task, "selection").labels is not None,
        "chips": settings.trials,
        "networks_priced": found.archive.n_priced if found.archive else 0,
        "networks_measured": len(found.measured),
        "front": [],
        "expected_front": [],
        "homogeneous": [],
        "best": None,
    }
    space = found.space
    if space is None:
        return values
    values["noise"] = space.noise_table.tolist()
    values["front"] = [_figures(space, one) for one in found.front()]
    if found.archive is not None:
        prices = found.archive.cost
        values["expected_front"] = [
            {"objective": _shown(settings, cost), "noise": float(noise)}
            for cost, noise in zip(prices, found.archive.noise, strict=True)
        ]
        values["hypervolume"] = volume(space, found.archive)
        values["at_equal_noise"] = at_equal_noise(space, found.archive)
    alone = [tuple(map(int, one)) for one in space.homogeneous()]
    known = [found.measured[one] for one in alone if one in found.measured]
    values["homogeneous"] = [_figures(space, one) for one in known]
    if found.best is not None:
        values["best"] = _figures(space, found.best)
        if found.reported is not None:
            values["best"]["reported_noise"], values["best"]["reported_drop"] = found.reported
        allowed = [one for one in known if one.drop <= settings.allowed]
        if allowed:
            other = min(allowed, key=lambda one: one.cost)
            values["best_homogeneous"] = _figures(space, other)
            values["gain"] = other.cost / found.best.cost
            arrays = space.system.totals(_choices([other, found.best]), arrays_only=True)
            cost = arrays.cost(settings.objective)
            values["gain_arrays_only"] = float(cost[0] / cost[1])
    return values


def _choices(measured: Sequence[Measured]) -> Choices:
    return np.array([one.choice for one in measured], np.int64)


def _shown(settings: Settings, cost: float) -> float:
    """A cost in the unit that people know."""
    return {"tops-per-mm2": 1 / cost, "energy": cost / 1e6, "edp": cost / 1e12}[settings.objective]


def _figures(space: Space, one: Measured) -> dict[str, Any]:
    """Both with converters and without."""
    values: dict[str, Any] = {
        "devices": [space.options[k].label for k in one.choice],
        "drop": one.drop,
        "noise": one.noise,
        "expected_noise": one.expected,
    }
    for suffix, arrays_only in (("", False), ("_arrays_only", True)):
        totals = space.system.totals(_choices([one]), arrays_only=arrays_only)
        values |= {
            f"area_mm2{suffix}": float(totals.area[0]),
            f"energy_uj{suffix}": float(totals.energy[0]) / 1e6,
            f"time_ms{suffix}": float(totals.time[0]) / 1e6,
            f"tops_per_mm2{suffix}": float(totals.tops_per_mm2[0]),
            f"tops_per_watt{suffix}": float(totals.tops_per_watt[0]),
        }
    own = np.arange(len(one.choice)), np.array(one.choice)
    table = space.system.table
    values["converters"] = float(table.converters[own].sum())
    values["program_uj"] = float(table.program_energy[own].sum()) / 1e6
    values["program_ms"] = float(table.program_time[own].max()) / 1e6
    return values


def volume(space: Space, archive: Archive) -> float:
    """Hypervolume of the expected front; the worst single devices bound it for all methods.

    In the logarithm of the cost, so that its unit does not matter.
    """
    alone = space.homogeneous()
    worst = 1.1 * float(space.cost(alone).max()), 1.1 * float(space.noise(alone).max())
    return archive.hypervolume(worst)


def at_equal_noise(space: Space, archive: Archive) -> list[dict[str, Any]]:
    """For the expected noise of each single device: the best single one, and the best of all."""
    alone = space.homogeneous()
    cost, noise = space.cost(alone), space.noise(alone)
    rows = []
    for k, option in enumerate(space.options):
        single = int(np.where(noise <= noise[k], cost, np.inf).argmin())
        chosen = archive.cheapest(float(noise[k]))
        if chosen is None:
            continue
        texts = [space.options[j].label for j in chosen]
        gain = float(cost[single] / space.cost(chosen[np.newaxis])[0])
        both = np.stack([alone[single], chosen])
        arrays = space.system.totals(both, arrays_only=True).cost(space.objective)
        rows.append(
            {
                "noise_of": option.label,
                "noise": float(noise[k]),
                "best_single": space.options[single].label,
                "gain": gain,
                "gain_arrays_only": float(arrays[0] / arrays[1]),
                "devices": texts,
            }
        )
    return rows


def sensitivity(found: Found, settings: Settings) -> list[dict[str, Any]]:
    """The gain over the best homogeneous network with each constant at both of its ends.

    The devices of the best network are chosen anew each time: the cheapest of all networks whose
    expected noise is at most that of the one which was measured and allowed. Homogeneous ones are
    those that were measured and allowed.
    """
    if found.best is None or found.space is None:
        return []
    base = constants()
    rows = [_sensitive(found, settings, base, "", 0.0)]
    for name, one in base.by_name.items():
        if one.valid is None or not _matters(name, settings):
            continue
        for value in dict.fromkeys(one.valid):
            if value != one.values[0]:
                row = _sensitive(found, settings, base.having(name, value), name, value)
                rows.append(row | {"ours": one.is_ours, "default": one.values[0]})
    return rows


def _matters(name: str, settings: Settings) -> bool:
    if name.count(".") < 2:
        return True
    return name.split(".")[1] in {option.device.name for option in settings.options}


def _sensitive(
    found: Found, settings: Settings, known: Constants, name: str, value: float
) -> dict[str, Any]:
    assert found.space is not None
    assert found.best is not None
    of = found.space
    space = Space(of.layers, settings.options, of.noise_table, settings.objective, known)
    archive = Archive(space)
    archive.add(np.array([found.best.choice]))
    for _ in fill(archive, "exhaustive" if space.size <= FEW else "gradient", settings.seed):
        pass
    chosen = archive.cheapest(max(found.best.expected, 0.0))
    assert chosen is not None
    alone = [
        one
        for one in (tuple(map(int, each)) for each in space.homogeneous())
        if one in found.measured and found.measured[one].drop <= settings.allowed
    ]
    row: dict[str, Any] = {"constant": name or "as stated", "value": value}
    row["gain"] = row["gain_same_devices"] = None
    if alone:
        other = float(space.cost(np.array(alone)).min())
        row["gain"] = other / float(space.cost(chosen[np.newaxis])[0])
        row["gain_same_devices"] = other / float(space.cost(np.array([found.best.choice]))[0])
    kinds = [space.options[k].device.name for k in chosen]
    row["devices"] = {kind: kinds.count(kind) for kind in dict.fromkeys(sorted(kinds))}
    return row
