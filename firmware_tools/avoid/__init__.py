"""Seeing what looms and deciding where to fly: perception on MARS, avoidance in populations."""

MODES = (
    "up",
    "down",
    "left",
    "right",
    "forward",
    "backward",
    "clockwise",
    "counter-clockwise",
)
"""How the camera moves; 2 k and 2 k + 1 are opponents."""
DIRECTIONS = ("up", "down", "left", "right", "centre")
"""Where something looms."""
RINGS = ("inner", "middle", "outer")
CELLS = (
    *(f"{ring} {direction}" for ring in RINGS for direction in DIRECTIONS[:4]),
    "centre",
)
"""The view's 13 cells; cell 4 ring + direction, and the centre at the end."""
N_MODES, N_CELLS = len(MODES), len(CELLS)
CENTRE = N_CELLS - 1
RADII = (0.22, 0.45, 0.68)
"""Where inner, middle and outer ring begin, in halves of the view's side."""


def opponent(mode: int) -> int:
    """The opposite mode."""
    return mode ^ 1


def cell_of(x: float, y: float) -> int:
    """The cell that holds a point.

    Parameters
    ----------
    x, y : float
        Right and down of the view's centre, in halves of its side.
    """
    radius = max(abs(x), abs(y))
    if radius < RADII[0]:
        return CENTRE
    ring = 2 if radius >= RADII[2] else 1 if radius >= RADII[1] else 0
    direction = (3 if x > 0 else 2) if abs(x) >= abs(y) else (1 if y > 0 else 0)
    return 4 * ring + direction


def direction_of(cell: int) -> int:
    """The direction, of `DIRECTIONS`, in which a cell lies."""
    return 4 if cell == CENTRE else cell % 4
