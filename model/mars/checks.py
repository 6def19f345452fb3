"""What the checks of networks have in common: the error, and integers within a range."""

import numpy as np


class NetworkError(ValueError):
    """The network is not one that is defined; the text names the layer and what would be right."""


def is_integer(value: object) -> bool:
    """An integer of Python or numpy, and no truth value."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def check_integer(place: str, value: object, low: int, high: int) -> None:
    """Refuse what is no integer from `low` to `high`; `place` is what the text begins with."""
    if not isinstance(value, int | np.integer) or not is_integer(value) or not low <= value <= high:
        raise NetworkError(f"{place} must be {low}..{high}, not {value!r}")
