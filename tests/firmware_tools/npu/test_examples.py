"""The example networks: their files are current, and they show what they are meant to show."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from firmware_tools.npu.examples import (
    FOLDER,
    LEFT_LOOMS,
    LOOMING_LEFT,
    LOOMING_RIGHT,
    N_STEPS,
    RIGHT_LOOMS,
    TURN_LEFT,
    TURN_RIGHT,
    decision_network,
    write_examples,
)
from model.npu.config import CONFIGS
from model.npu.engine import Engine
from model.npu.network_file import load

Flags = NDArray[np.bool_]

SETTLING = 100
"""Time steps after a change of the stimulus in which the pools may still compete."""


@pytest.fixture(scope="module")
def spikes() -> Flags:
    """Who fired in which time step of the decision network."""
    network = load(FOLDER / "decision.json")
    engine = Engine(network)
    return np.concatenate(
        [engine.step(network.events_at(t, t + 1)[:, 1]).spikes for t in range(N_STEPS)]
    )


def test_files_are_current(tmp_path: Path) -> None:
    write_examples(tmp_path)
    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    committed = {path.name: path.read_text() for path in FOLDER.glob("*.json")}
    assert written == committed, "write them anew: python -m firmware_tools.npu.examples"


def test_decision_fits_the_default_chip() -> None:
    network, config = decision_network(), CONFIGS["poppins"]
    assert len(network.populations) == config.n_populations
    assert max(network.populations) <= config.n_neurons
    assert max(network.axons) <= config.n_axons
    assert network.sources(0) == (0,)
    assert network.sources(1) == config.sources(1)
    assert network.n_steps == N_STEPS
    assert network.neurons.noise.min() > 1


@pytest.mark.parametrize(
    ("steps", "pairs"),
    [
        (LEFT_LOOMS, [(LOOMING_LEFT, LOOMING_RIGHT), (TURN_RIGHT, TURN_LEFT)]),
        (RIGHT_LOOMS, [(LOOMING_RIGHT, LOOMING_LEFT), (TURN_LEFT, TURN_RIGHT)]),
    ],
    ids=["left looms", "right looms"],
)
def test_the_winner_takes_all_and_steers(
    spikes: Flags, steps: range, pairs: list[tuple[slice, slice]]
) -> None:
    settled = spikes[steps.start + SETTLING : steps.stop]
    for winner, loser in pairs:
        assert settled[:, winner].mean() > 0.05
        assert settled[:, winner].mean() > 20 * settled[:, loser].mean()


def test_silence_without_something_that_looms(spikes: Flags) -> None:
    before, behind = spikes[: LEFT_LOOMS.start], spikes[RIGHT_LOOMS.stop + SETTLING // 2 :]
    assert before.mean() < 0.02
    assert behind.mean() < 0.02
