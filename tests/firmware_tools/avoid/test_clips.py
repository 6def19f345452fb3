"""Clips: the camera moves as their mode says, something looms where they say, nothing is shared."""

import math

import numpy as np
import pytest
from sklearn.datasets import load_sample_images

from firmware_tools.avoid import (
    CELLS,
    CENTRE,
    DIRECTIONS,
    MODES,
    N_CELLS,
    RADII,
    cell_of,
    direction_of,
    opponent,
)
from firmware_tools.avoid.clips import (
    LEAST_CONTRAST,
    N_FRAMES,
    NOTHING,
    SOON,
    UNSURE,
    Looming,
    contrast,
    first_camera,
    generate,
    make,
    moved,
    pairs,
    view_of,
)
from firmware_tools.avoid.pictures import photographs, shrunk
from firmware_tools.avoid.rendering import SIDE, Camera, Disc, exposed, render

CAMERA = Camera(100.0, 80.0, 0.0, 24.0)


@pytest.mark.parametrize(
    ("x", "y", "name"),
    [
        (0.0, 0.0, "centre"),
        (RADII[0], 0.0, "inner right"),
        (-RADII[0] + 1e-9, RADII[0] - 1e-9, "centre"),
        (-RADII[0], 0.1, "inner left"),
        (0.1, -RADII[1], "middle up"),
        (0.1, RADII[1] - 1e-9, "inner down"),
        (0.9, 0.9, "outer right"),
        (0.89, -0.9, "outer up"),
        (RADII[2], 0.0, "outer right"),
    ],
)
def test_cells(x, y, name) -> None:
    assert CELLS[cell_of(x, y)] == name


def test_directions_and_opponents() -> None:
    for cell, name in enumerate(CELLS):
        assert name.split()[-1] == DIRECTIONS[direction_of(cell)]
    names = {MODES[k]: MODES[opponent(k)] for k in range(len(MODES))}
    assert names["up"] == "down"
    assert names["right"] == "left"
    assert names["backward"] == "forward"
    assert names["clockwise"] == "counter-clockwise"


@pytest.mark.parametrize(
    ("mode", "point", "goes"),
    [
        # Where the camera goes, what it sees comes from; y is down.
        ("up", (0.0, 0.0), (0, 1)),
        ("down", (0.0, 0.0), (0, -1)),
        ("left", (0.0, 0.0), (1, 0)),
        ("right", (0.0, 0.0), (-1, 0)),
        ("forward", (0.5, 0.0), (1, 0)),
        ("backward", (0.5, 0.0), (-1, 0)),
        ("clockwise", (0.5, 0.0), (0, -1)),
        ("counter-clockwise", (0.5, 0.0), (0, 1)),
    ],
)
def test_what_is_seen_moves_against_the_camera(mode, point, goes) -> None:
    there = (CAMERA.x + point[0] * CAMERA.extent, CAMERA.y + point[1] * CAMERA.extent)
    for angle in (0.0, 0.4):
        # The mode is one of the view, so the same at every angle of the camera.
        camera = Camera(*there, angle, CAMERA.extent)
        cos, sin = math.cos(angle), math.sin(angle)
        back = (-cos * point[0] + sin * point[1], -sin * point[0] - cos * point[1])
        camera = Camera(
            there[0] + back[0] * CAMERA.extent,
            there[1] + back[1] * CAMERA.extent,
            angle,
            CAMERA.extent,
        )
        assert view_of(*there, camera) == pytest.approx(point)
        after = moved(camera, MODES.index(mode), 0.5)
        change = np.subtract(view_of(*there, after), point)
        assert np.sign(np.round(change, 2)).tolist() == list(goes)
        again = moved(after, opponent(MODES.index(mode)), 0.5)
        assert view_of(*there, again) == pytest.approx(point)


def test_a_camera_that_moves_by_a_pixel_shifts_the_frame() -> None:
    picture = photographs("training")[0]
    pixel = 2 * CAMERA.extent / SIDE
    here = render(picture, CAMERA)
    right = render(picture, Camera(CAMERA.x + pixel, CAMERA.y, 0.0, CAMERA.extent))
    down = render(picture, Camera(CAMERA.x, CAMERA.y + pixel, 0.0, CAMERA.extent))
    np.testing.assert_allclose(right[:, :-1], here[:, 1:], atol=1e-3)
    np.testing.assert_allclose(down[:-1], here[1:], atol=1e-3)


def test_rendering_by_hand() -> None:
    picture = np.array([[0, 100], [40, 140]], np.float32)  # 100 x + 40 y between the points
    one = render(picture, Camera(0.5, 0.25, 0.0, 0.1), side=1)
    assert one == pytest.approx(60, abs=1e-3)
    # Beyond the edges there is the mirror image: column -1 is column 0 again.
    assert render(picture, Camera(-1.0, 0.0, 0.0, 1e-9), side=1) == pytest.approx(0, abs=1e-3)
    assert render(picture, Camera(-2.0, 0.0, 0.0, 1e-9), side=1) == pytest.approx(100, abs=1e-3)
    assert render(picture, Camera(0.0, 2.0, 0.0, 1e-9), side=1) == pytest.approx(40, abs=1e-3)
    far = Disc(0, 0, 1, 0, 0, 1e-9, 7)
    near = Disc(0.5, 0, 0.4, 1, 1, 1e-9, -5)
    frame = render(picture, Camera(1.0, 0.0, 0.0, 1e-9), (far, near), side=8)
    assert frame[0, 0] == pytest.approx(100, abs=1e-3)  # the corner is outside both
    assert frame[4, 1] == pytest.approx(7, abs=1e-3)
    assert frame[4, 5] == pytest.approx(135, abs=1e-3)


def test_exposure() -> None:
    rng = np.random.default_rng(0)
    seen = exposed(np.array([[128.0, 0.0, 255.0, 130.0]]), 1.5, 0.0, rng)
    assert seen.dtype == np.uint8
    assert seen.tolist() == [[128, 0, 255, 131]]


def test_parts_share_no_pixel() -> None:
    for image, left, right in zip(
        load_sample_images().images, photographs("training"), photographs("test"), strict=True
    ):
        whole = shrunk(image.mean(axis=2))
        assert left.shape[1] + right.shape[1] == whole.shape[1]
        assert (np.hstack([left, right]) == whole).all()


def test_views_have_contrast() -> None:
    picture = photographs("test")[0]
    for seed in range(5):
        camera = first_camera(np.random.default_rng(seed), picture)
        assert contrast(render(picture, camera)) >= LEAST_CONTRAST
    flat = np.zeros((8, 8))
    flat[:4, :4], flat[4:, :4], flat[:4, 4:] = (np.arange(16).reshape(4, 4) for _ in range(3))
    assert contrast(flat) == 0


def test_clips_of_all_modes_and_directions() -> None:
    clips = list(generate(40, 3))
    assert {(clip.mode, clip.direction) for clip in clips} == {
        (mode, direction) for mode in range(8) for direction in range(5)
    }
    for clip in clips:
        assert clip.frames.shape == (N_FRAMES, SIDE, SIDE)
        assert len(clip.cells) == N_FRAMES
        assert direction_of(clip.cells[-1]) == clip.direction
        assert clip.frames.std() > 5
    again = list(generate(2, 3))
    assert all((a.frames == b.frames).all() for a, b in zip(again, clips, strict=False))
    other = next(generate(1, 4))
    assert (other.frames != clips[0].frames).any()
    assert {clip.mode for clip in generate(4, 3, only=6)} == {6}


def test_pairs() -> None:
    made = list(pairs(64, 1))
    assert {clip.frames.shape for clip in made} == {(2, SIDE, SIDE)}
    assert {clip.mode for clip in made} == set(range(8))
    for clip in made:
        cell = clip.cells[-1]
        if clip.direction == NOTHING:
            assert cell == N_CELLS
        else:
            assert cell == UNSURE or 0 <= cell <= CENTRE
    assert {clip.direction for clip in made} == set(range(6))
    assert any(clip.cells[-1] == UNSURE for clip in made)


def test_what_looms_grows_as_it_comes_nearer() -> None:
    disc = Disc(0.6, -0.3, 0.4, 0, 0, 1, 0)
    approach = Looming(disc, time_left=4.0, bearing=1.0)
    before = approach.at(4)  # twice as far away
    assert (before.x, before.y, before.radius) == pytest.approx((0.3, -0.15, 0.2))
    assert approach.at(0) == disc
    stays = Looming(disc, time_left=4.0, bearing=0.0).at(4)
    assert (stays.x, stays.radius) == pytest.approx((0.6, 0.2))


def test_it_looms_only_when_it_is_near() -> None:
    clip = make(photographs("test")[0], 0, 2, np.random.default_rng(5))
    unsure = [cell == UNSURE for cell in clip.cells]
    assert unsure == sorted(unsure, reverse=True)  # first far away, then near
    assert unsure[0]
    assert SOON < 3 + N_FRAMES
