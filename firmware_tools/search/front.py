"""Pareto fronts of two figures that should both be small."""

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Places = NDArray[np.intp]


def nondominated(first: Numbers, second: Numbers) -> Places:
    """Places of what nothing else beats, by the first figure; of equal ones the earliest."""
    order = np.lexsort((np.arange(len(first)), second, first))
    values = second[order]
    best = np.minimum.accumulate(values)
    is_new = np.ones(len(order), np.bool_)
    is_new[1:] = values[1:] < best[:-1]
    return order[is_new]


def hypervolume(first: Numbers, second: Numbers, reference: tuple[float, float]) -> float:
    """Area between what is dominated and a reference point that is worse in both."""
    inside = (first < reference[0]) & (second < reference[1])
    first, second = first[inside], second[inside]
    chosen = nondominated(first, second)
    if not len(chosen):
        return 0.0
    x = np.append(first[chosen], reference[0])
    return float(np.sum(np.diff(x) * (reference[1] - second[chosen])))
