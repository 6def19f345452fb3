"""Event streams out of still images: a camera that moves in front of them. The simulator is ours.

Each pixel of an event camera remembers a brightness and sends an event when it has changed by a
threshold since, ON if it has become brighter and OFF if darker:

    brightness L(t) = ln(DARK + image(pixel + path(t)))      bilinear, black around the image
    while L - remembered >= CONTRAST: ON,  remembered += CONTRAST
    while remembered - L >= CONTRAST: OFF, remembered -= CONTRAST

It remembers what it sees at the start, so a still camera sends nothing. The camera makes three
saccades along an equilateral triangle back to where it began, in as many moments of equal length as
`MOMENTS` for each time step. A spike of a time step says that there was an event in it. There is no
noise, no delay and no limit of the rate.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from firmware_tools.quantize import digits
from firmware_tools.quantize.digits import Data, Part

CONTRAST = 0.4
"""Of logarithms of brightness."""
DARK = 0.1
"""Brightness of black; images are 0..1."""
SIDE = 1.5
"""Of the triangle, in pixels."""
MOMENTS = 6
"""In which the camera looks in a time step."""
CORNERS = 3
TEST_SEED = 7
"""Of the directions in which test images are looked at."""


def saccades(angles: Tensor, n_moments: int) -> Tensor:
    """Triangles that begin and end at the image's own place.

    Parameters
    ----------
    angles : (N,) float
        Of the first side, in radians.
    n_moments : int

    Returns
    -------
    (N, n_moments + 1, 2) float
        Rows and columns, in pixels.
    """
    progress = torch.arange(n_moments + 1) * CORNERS / n_moments
    side = progress.long().clamp(max=CORNERS - 1)
    turns = 2 * math.pi / CORNERS * torch.arange(CORNERS)
    headings = angles[:, None] + turns
    sides = SIDE * torch.stack([headings.sin(), headings.cos()], dim=-1)
    corners = functional.pad(sides.cumsum(1), (0, 0, 1, 0))
    return corners[:, side] + (progress - side)[:, None] * sides[:, side]


def camera(images: Tensor, path: Tensor, time_steps: int) -> Tensor:
    """Spikes of a camera that moves in front of images.

    Parameters
    ----------
    images : (N, 1, H, W) float
        Brightness, 0..1.
    path : (N, moments + 1, 2) float
        Rows and columns by which it looks aside, in pixels; moments are a multiple of the steps.
    time_steps : int

    Returns
    -------
    (N, time_steps, 2, H, W) float
        0 or 1; ON, then OFF.
    """
    n, _, rows, columns = images.shape
    per_step = (path.shape[1] - 1) // time_steps
    spikes = torch.zeros(n, time_steps, 2, rows, columns)
    remembered = _seen(images, path[:, 0])
    for moment in range(per_step * time_steps):
        change = (_seen(images, path[:, moment + 1]) - remembered) / CONTRAST
        crossed = change.trunc()
        remembered = remembered + crossed * CONTRAST
        step = spikes[:, moment // per_step]
        step[:, 0] = torch.maximum(step[:, 0], (crossed > 0).to(step.dtype))
        step[:, 1] = torch.maximum(step[:, 1], (crossed < 0).to(step.dtype))
    return spikes


def _seen(images: Tensor, aside: Tensor) -> Tensor:
    """Logarithmic brightness of each pixel, (N, H, W)."""
    n, _, rows, columns = images.shape
    moves = torch.eye(2, 3).repeat(n, 1, 1)
    moves[:, 0, 2] = 2 * aside[:, 1] / columns
    moves[:, 1, 2] = 2 * aside[:, 0] / rows
    grid = functional.affine_grid(moves, [n, 1, rows, columns], align_corners=False)
    return (functional.grid_sample(images, grid, align_corners=False)[:, 0] + DARK).log()


def look(images: Tensor, time_steps: int, generator: torch.Generator) -> Tensor:
    """Spikes of images, each looked at in a direction of its own; as `camera`."""
    angles = 2 * math.pi * torch.rand(len(images), generator=generator)
    return camera(images, saccades(angles, MOMENTS * time_steps), time_steps)


def spikes_of(part: Part, time_steps: int) -> Part:
    """Images as spikes, the same ones whenever it is called."""
    generator = torch.Generator().manual_seed(TEST_SEED)
    return Part(look(part.images, time_steps, generator), part.labels)


def load(time_steps: int) -> Data:
    """The digits: images to train with, which are looked at anew in each epoch, and test spikes."""
    data = digits.load()
    return Data(data.training, spikes_of(data.test, time_steps))
