"""Functions of one value as tables of 256 results."""

from collections.abc import Callable
from typing import Any

import numpy as np

from firmware_tools.requantization import Reals
from firmware_tools.tflite_import.scaling import multiplied
from firmware_tools.tflite_import.values import Grid
from model.mars.network import Ints

Table = Callable[[Grid, Grid, Any], Ints]


def _of_real(function: Callable[[Reals], Reals]) -> Table:
    """A function of real numbers, rounded to the nearest step (what its optimised kernels do)."""

    def table(source: Grid, grid: Grid, _: Any) -> Ints:
        steps = np.arange(source.low, source.high + 1) - source.zero
        values = function(steps.astype(np.float64) * source.scale) / grid.scale
        rounded = np.floor(np.abs(values) + 0.5) * np.sign(values) + grid.zero
        return np.asarray(np.clip(rounded, grid.low, grid.high), np.int64)

    return table


def _clamp(low: float | None, high: float | None) -> Table:
    """Requantised and clamped, as the kernels of ReLU do."""

    def table(source: Grid, grid: Grid, _: Any) -> Ints:
        steps = np.arange(source.low, source.high + 1) - source.zero
        values = multiplied(steps, source.scale / grid.scale) + grid.zero
        ends = (
            grid.low if low is None else max(grid.step(low), grid.low),
            grid.high if high is None else min(grid.step(high), grid.high),
        )
        return np.clip(values, *ends)

    return table


def _leaky_relu(source: Grid, grid: Grid, options: Any) -> Ints:
    """Two multipliers, as its kernel has."""
    if options is None:
        raise ValueError("alpha must be given")
    steps = np.arange(source.low, source.high + 1) - source.zero
    ratio = source.scale / grid.scale
    slow = multiplied(steps, ratio * float(options.Alpha()))
    values = np.where(steps >= 0, multiplied(steps, ratio), slow) + grid.zero
    return np.asarray(np.clip(values, grid.low, grid.high))


def _sigmoid(x: Reals) -> Reals:
    return 1 / (1 + np.exp(-x))


TABLES: dict[str, Table] = {
    "RELU": _clamp(0.0, None),
    "RELU6": _clamp(0.0, 6.0),
    "RELU_N1_TO_1": _clamp(-1.0, 1.0),
    "LEAKY_RELU": _leaky_relu,
    "LOGISTIC": _of_real(_sigmoid),
    "TANH": _of_real(np.tanh),
    "HARD_SWISH": _of_real(lambda x: x * np.clip(x + 3, 0, 6) / 6),
    "ELU": _of_real(lambda x: np.where(x >= 0, x, np.expm1(x))),
    "ABS": _of_real(np.abs),
    "EXP": _of_real(np.exp),
}
