"""Pictures of the user's own: a folder of PNGs, or a video file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from firmware_tools.avoid.flow import opencv
from firmware_tools.avoid.rendering import SIDE, Grey
from firmware_tools.errors import UserError

LEAST_FRAMES = 2
"""Motion needs two."""


def load(path: Path) -> Grey:
    """The middle square of each frame, grey, (n, SIDE, SIDE).

    Parameters
    ----------
    path : Path
        A folder, whose PNGs are taken in the order of their names, or a video file.

    Raises
    ------
    UserError
        There is nothing there that can be read, fewer than two frames, or frames of unequal size.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    frames = [*(_folder(path) if path.is_dir() else _video(path))]
    if len(frames) < LEAST_FRAMES:
        kind = (
            "folder must hold at least 2 PNG pictures"
            if path.is_dir()
            else "video must have at least 2 frames"
        )
        raise UserError(f"{path}: {kind}, not {len(frames)}")
    return np.stack(frames)


def _folder(path: Path) -> Iterator[Grey]:
    size: tuple[int, ...] | None = None
    for file in sorted(path.glob("*.png")):
        data = np.frombuffer(file.read_bytes(), np.uint8)
        picture = opencv().imdecode(data, opencv().IMREAD_GRAYSCALE) if len(data) else None
        if picture is None:
            raise UserError(f"{file}: must be a PNG picture, cut or damaged?")
        size = size or picture.shape
        if picture.shape != size:
            raise UserError(
                f"{file}: picture must be {size[1]}x{size[0]} pixels, as those before it, "
                f"not {picture.shape[1]}x{picture.shape[0]}"
            )
        yield _square(picture)


def _video(path: Path) -> Iterator[Grey]:
    cv2 = opencv()
    video = cv2.VideoCapture(str(path))
    try:
        if not video.isOpened():
            raise UserError(f"{path}: must be a video that OpenCV can read")
        while True:
            is_there, frame = video.read()
            if not is_there:
                return
            yield _square(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY))
    finally:
        video.release()


def _square(picture: Any) -> Grey:
    """The middle square, as small as a frame."""
    rows, columns = picture.shape
    side = min(rows, columns)
    top, left = (rows - side) // 2, (columns - side) // 2
    middle = picture[top : top + side, left : left + side]
    return np.asarray(opencv().resize(middle, (SIDE, SIDE), interpolation=opencv().INTER_AREA))
