"""What cells hold: against aihwkit's model of phase-change cells, and by hand."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.mars.devices.cells import deviation, held
from model.mars.devices.device import Device, presets

PCM = json.loads(
    (Path(__file__).parents[3] / "vectors" / "devices" / "pcm.json").read_text(encoding="utf-8")
)
"""Written by make_pcm.py beside it."""
DRAWS = 400_000


@pytest.mark.parametrize("point", PCM["points"], ids=lambda p: f"{p['target']}uS-{p['time']}s")
def test_statistics_of_aihwkit(point: dict[str, float]) -> None:
    """Mean and spread within three standard errors, after programming and over six decades."""
    pcm = presets()["pcm"]
    device = replace(pcm, drift=0.0, flicker=0.0)
    if point["time"] is not None:
        device = replace(pcm, age=point["time"])
    cells = held(device, np.full(DRAWS, point["target"]), 5, 0, int(point["target"] * 100))
    n = PCM["draws"]
    of_mean = point["sd"] * np.sqrt(1 / DRAWS + 1 / n)
    assert abs(cells.mean() - point["mean"]) < 3 * of_mean
    spread = np.sqrt(point["fourth"] - point["sd"] ** 4) / (2 * point["sd"])
    assert abs(cells.std() - point["sd"]) < 3 * spread * np.sqrt(1 / DRAWS + 1 / n)


@pytest.mark.parametrize(
    ("g", "sd"), [(0.0, 0.348), (20.0, 2.02), (40.0, 1.103)], ids=["low", "middle", "high"]
)
def test_programming_noise_of_rram(g: float, sd: float) -> None:
    """The polynomial in uS, at numbers worked out by hand."""
    rram = presets()["rram"]
    assert deviation(rram, 1.0, rram.program_fit, np.array(g)) == pytest.approx(sd, rel=1e-2)


def test_nothing_without_noise() -> None:
    target = np.linspace(0.25, 25, 100)
    ideal = presets()["pcm"].without_faults()
    assert np.array_equal(held(ideal, target, 1, 0, 0), target)


def test_drift_by_hand() -> None:
    """(1000 + 1 s) / 1 s to the power of -0.05."""
    device = Device(drift=1.0, drift_mean=(0.0, 0.05, 0.0, 1.0), age=999.0)
    assert held(device, np.array([10.0]), 0, 0, 0) == pytest.approx(10 * 1000**-0.05)


def test_retention() -> None:
    """After one time constant 1/e of the distance to the smallest conductance is left."""
    device = Device(g_max=10.0, on_off=10.0, retention=100.0, age=100.0)
    assert held(device, np.array([10.0, 1.0]), 0, 0, 0) == pytest.approx([1 + 9 / np.e, 1])


def test_stuck_cells() -> None:
    device = Device(g_max=10.0, on_off=10.0, stuck_on=0.2, stuck_off=0.3)
    cells = held(device, np.full(100_000, 5.0), 1, 0, 0)
    shares = [float((cells == g).mean()) for g in (10.0, 1.0, 5.0)]
    assert shares == pytest.approx([0.2, 0.3, 0.5], abs=0.006)


def test_draws_are_keyed() -> None:
    """Seed, trial and place tell draws apart, the order does not."""
    device = presets()["pcm"]
    target = np.full(1000, 12.5)
    keys = [(1, 0, 0), (2, 0, 0), (1, 1, 0), (1, 0, 1)]
    drawn = {key: held(device, target, *key) for key in keys}
    for key in reversed(keys):
        assert np.array_equal(held(device, target, *key), drawn[key])
    assert len({tuple(cells) for cells in drawn.values()}) == len(keys)
