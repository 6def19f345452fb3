"""Optical flow: motions that it is made to explain, and what diverges more."""

import numpy as np
import pytest

from firmware_tools.avoid import DIRECTIONS, MODES, N_MODES, direction_of
from firmware_tools.avoid.clips import generate, make
from firmware_tools.avoid.flow import fit, scores
from firmware_tools.avoid.pictures import photographs
from firmware_tools.avoid.rendering import SIDE

ALONG = np.arange(SIDE) - (SIDE - 1) / 2
U, V = np.meshgrid(ALONG, ALONG)


def test_fit_recovers_motions() -> None:
    x, y, zoom, turn = 1.5, -0.5, 0.04, -0.06
    seen = np.stack([x + zoom * U - turn * V, y + zoom * V + turn * U])
    assert fit(seen, np.ones((SIDE, SIDE))) == pytest.approx([x, y, zoom, turn], abs=1e-4)


def test_fit_passes_over_what_moves_by_itself() -> None:
    seen = np.stack([np.full_like(U, 1.0), np.zeros_like(V)])
    seen[:, 4:14, 4:14] += 4  # a tenth of the view
    found = fit(seen, np.ones((SIDE, SIDE)))
    assert found == pytest.approx([1, 0, 0, 0], abs=0.05)


@pytest.mark.parametrize("mode", range(N_MODES), ids=MODES)
def test_modes(mode) -> None:
    clip = make(photographs("training")[1], mode, len(DIRECTIONS), np.random.default_rng(mode))
    assert scores(*clip.frames[-2:])[:N_MODES].argmax() == mode


def test_directions() -> None:
    clips = list(generate(15, 7, "training"))
    seen = [int(scores(*clip.frames[-2:])[N_MODES:].argmax()) for clip in clips]
    right = [direction_of(cell) == clip.direction for cell, clip in zip(seen, clips, strict=True)]
    assert np.mean(right) > 0.7


def test_nothing_moves() -> None:
    frame = next(generate(1, 1)).frames[0]
    found = scores(frame, frame)
    assert np.abs(found[:N_MODES]).max() < 0.1
    assert (found[N_MODES:] < 0).all()
