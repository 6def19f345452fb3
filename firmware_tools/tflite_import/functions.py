"""Functions of one value as tables of 256 results, as TensorFlow Lite's kernels compute them."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from firmware_tools.requantization import Reals
from firmware_tools.tflite_import.scaling import away, multiplied, quantized_multiplier, single
from firmware_tools.tflite_import.values import Grid
from model.mars.network import Ints

Table = Callable[[Grid, Grid, Any], Ints]

HALF_WORD = 15
HIGH_RESOLUTION = 7


def rescaled(source: Grid, grid: Grid) -> Ints:
    """The same real numbers on another grid."""
    return grid.clip(multiplied(source.all - source.zero, source.scale / grid.scale) + grid.zero)


def reals(grid: Grid) -> Reals:
    """What the integers stand for, in float32."""
    steps = (grid.all - grid.zero).astype(np.float32)
    return (steps * np.float32(grid.scale)).astype(np.float64)


def rounded(values: Reals, grid: Grid) -> Ints:
    """Real numbers on a grid, as kernels with tables compute them, in float32."""
    with np.errstate(over="ignore", invalid="ignore"):
        steps = values.astype(np.float32) * (np.float32(1) / np.float32(grid.scale))
    nearest = np.copysign(np.floor(np.abs(steps.astype(np.float64)) + 0.5), steps) + grid.zero
    result: Ints = np.clip(np.nan_to_num(nearest), grid.low, grid.high).astype(np.int64)
    return result


def _of_real(function: Callable[[Reals], Reals]) -> Table:
    def table(source: Grid, grid: Grid, _: Any) -> Ints:
        with np.errstate(all="ignore"):
            return rounded(function(reals(source)), grid)

    return table


def _clamp(low: float | None, high: float | None) -> Table:
    """Requantised and clamped, as the kernels of ReLU do."""

    def table(source: Grid, grid: Grid, _: Any) -> Ints:
        real = single(source.scale, over=grid.scale)
        values = multiplied(source.all - source.zero, real) + grid.zero
        ends = (
            grid.low if low is None else max(grid.step(low), grid.low),
            grid.high if high is None else min(grid.step(high), grid.high),
        )
        result: Ints = np.clip(values, *ends)
        return result

    return table


def _leaky_relu(source: Grid, grid: Grid, options: Any) -> Ints:
    """Two multipliers, as its kernel has."""
    if options is None:
        raise ValueError("alpha must be given")
    steps = source.all - source.zero
    slow = multiplied(steps, single(source.scale, options.Alpha(), over=grid.scale))
    fast = multiplied(steps, single(source.scale, over=grid.scale))
    return grid.clip(np.where(steps >= 0, fast, slow) + grid.zero)


def _half_word(values: Ints) -> Ints:
    """Saturated to 16 bits."""
    return np.clip(values, -(1 << HALF_WORD), (1 << HALF_WORD) - 1)


def _short_multiplier(real: float) -> tuple[int, int]:
    mult, exponent = quantized_multiplier(real)
    return min((mult + (1 << HALF_WORD)) >> (HALF_WORD + 1), (1 << HALF_WORD) - 1), exponent


def _high_product(values: Ints, mult: int) -> Ints:
    """Upper half of twice the product, rounded: halves up if positive, towards 0 if not."""
    product = values * mult
    nudged = product + np.where(product >= 0, 1 << (HALF_WORD - 1), 1 - (1 << (HALF_WORD - 1)))
    result: Ints = np.sign(nudged) * (np.abs(nudged) >> HALF_WORD)
    return result


def _hard_swish(source: Grid, grid: Grid, _: Any) -> Ints:
    """16-bit fixed point, as its kernel has; a table of rounded numbers differs here and there."""
    fine = float(np.float32(1 / 128) * np.float32(source.scale))
    out_mult, out_exponent = _short_multiplier(single(fine, over=grid.scale))
    mult, exponent = _short_multiplier(single(fine, over=3 / 32768))
    steps = (source.all - source.zero) << HIGH_RESOLUTION
    on_output = _high_product(steps, out_mult)
    part = steps
    if exponent > 0:
        part = _half_word(part << (exponent - 1))
    part = _high_product(part, mult)
    if exponent > 0:
        part = _half_word(part << 1)
    part = away(part, max(-exponent, 0))
    part = (part + (1 << HALF_WORD)) >> 1
    product = part * on_output
    product = np.sign(product) * (np.abs(product) >> HALF_WORD)
    values = away(product, max(-out_exponent, 0)) << max(out_exponent, 0)
    return grid.clip(values + grid.zero)


def _absolute(source: Grid, grid: Grid, _: Any) -> Ints:
    real = source.scale / grid.scale
    return grid.clip(multiplied(np.abs(source.all - source.zero), real) + grid.zero)


def _gelu(x: Reals) -> Reals:
    result: Reals = x * np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in x])
    return result


def _gelu_by_tanh(x: Reals) -> Reals:
    result: Reals = x * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return result


def _gelu_table(source: Grid, grid: Grid, options: Any) -> Ints:
    is_near = options is not None and options.Approximate()
    return _of_real(_gelu_by_tanh if is_near else _gelu)(source, grid, None)


REALS: dict[str, Callable[[Reals], Reals]] = {
    "LOGISTIC": lambda x: 1 / (1 + np.exp(-x)),
    "TANH": np.tanh,
    "ELU": lambda x: np.where(x >= 0, x, np.expm1(x)),
    "ABS": np.abs,
    "EXP": np.exp,
    "LOG": lambda x: np.log(np.maximum(x, 0)),  # -inf where it is not defined, as the kernel
    "SQRT": np.sqrt,
    "RSQRT": lambda x: 1 / np.sqrt(x),
    "NEG": np.negative,
    "SQUARE": np.square,
    "RELU": lambda x: np.maximum(x, 0),
    "RELU6": lambda x: np.clip(x, 0, 6),
    "RELU_N1_TO_1": lambda x: np.clip(x, -1, 1),
    "RELU_0_TO_1": lambda x: np.clip(x, 0, 1),
    "HARD_SWISH": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "GELU": _gelu,
}
"""Functions of real numbers; between a DEQUANTIZE and a QUANTIZE all are computed so."""

TABLES: dict[str, Table] = {
    **{name: _of_real(REALS[name]) for name in ("LOGISTIC", "TANH", "ELU", "EXP", "LOG")},
    "RSQRT": _of_real(REALS["RSQRT"]),
    "ABS": _absolute,
    "RELU": _clamp(0.0, None),
    "RELU6": _clamp(0.0, 6.0),
    "RELU_N1_TO_1": _clamp(-1.0, 1.0),
    "RELU_0_TO_1": _clamp(0.0, 1.0),
    "LEAKY_RELU": _leaky_relu,
    "HARD_SWISH": _hard_swish,
    "GELU": _gelu_table,
}
