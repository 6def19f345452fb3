"""Pictures of the user's own."""

import re

import cv2
import numpy as np
import pytest

from firmware_tools.avoid.footage import load
from firmware_tools.avoid.rendering import SIDE
from firmware_tools.errors import UserError


def picture(value, rows=64, columns=96):
    return np.full((rows, columns, 3), value, np.uint8)


def test_folder(tmp_path) -> None:
    for name, value in (("b.png", 50), ("a.png", 20), ("note.txt", 0)):
        (tmp_path / name).write_bytes(cv2.imencode(".png", picture(value))[1].tobytes())
    frames = load(tmp_path)
    assert frames.shape == (2, SIDE, SIDE)
    assert [int(frame.mean()) for frame in frames] == [20, 50]


def test_the_middle_square(tmp_path) -> None:
    seen = picture(0)
    seen[:, 16:80] = 200
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), seen)
    assert (load(tmp_path) == 200).all()


def test_video(tmp_path) -> None:
    path = tmp_path / "flight.avi"
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 32, (96, 64))
    for value in (20, 120, 220):
        video.write(picture(value))
    video.release()
    frames = load(path)
    assert frames.shape == (3, SIDE, SIDE)
    assert np.abs(frames.mean((1, 2)) - [20, 120, 220]).max() < 4


def test_mistakes(tmp_path) -> None:
    def refused(path, text) -> None:
        with pytest.raises(UserError, match=re.escape(text)):
            load(path)

    refused(tmp_path / "none", "none: no such file or folder")
    refused(tmp_path, "folder must hold at least 2 PNG pictures, not 0")
    cv2.imwrite(str(tmp_path / "a.png"), picture(1))
    refused(tmp_path, "folder must hold at least 2 PNG pictures, not 1")
    cv2.imwrite(str(tmp_path / "b.png"), picture(1, 60))
    refused(tmp_path, "b.png: picture must be 96x64 pixels, as those before it, not 96x60")
    (tmp_path / "b.png").write_bytes(b"\x89PNG and no more")
    refused(tmp_path, "b.png: must be a PNG picture, cut or damaged?")
    (tmp_path / "b.png").write_bytes(b"")
    refused(tmp_path, "b.png: must be a PNG picture, cut or damaged?")
    (tmp_path / "film.mp4").write_bytes(b"no film")
    refused(tmp_path / "film.mp4", "film.mp4: must be a video that OpenCV can read")
    video = cv2.VideoWriter(
        str(tmp_path / "one.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 32, (96, 64)
    )
    video.write(picture(9))
    video.release()
    refused(tmp_path / "one.avi", "video must have at least 2 frames, not 1")
