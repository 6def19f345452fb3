"""Sums, products and functions, value by value."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from firmware_tools.tflite_import.fitting import POST_SHIFT, WEIGHT_MAX, affine_fit, sum_fit
from firmware_tools.tflite_import.functions import REALS, TABLES
from firmware_tools.tflite_import.graph import Array, Operator, TfliteError
from firmware_tools.tflite_import.products import ends_of
from firmware_tools.tflite_import.scaling import (
    multiplied,
    quantized_multiplier,
    scaling,
    single,
    tflite_sum,
)
from firmware_tools.tflite_import.values import Grid, Value, View, grid_of
from model.mars.network import Conv, Ints, Lookup

if TYPE_CHECKING:
    from firmware_tools.tflite_import.lowering import Handler, Lowering

OF_REALS: dict[str, Callable[[Array, Array], Array]] = {
    "ADD": np.add,
    "SUB": np.subtract,
    "MUL": np.multiply,
    "DIV": np.divide,
    "MAXIMUM": np.maximum,
    "MINIMUM": np.minimum,
}
EXTREMES = {"MAXIMUM", "MINIMUM"}


def unary(state: "Lowering", one: Operator) -> None:
    """A function, by a table."""
    source = state.raw(one)
    if source.meaning is not None:
        if one.op not in REALS:
            raise TfliteError(f"{one}: between DEQUANTIZE and QUANTIZE there must be {_names()}")
        with np.errstate(all="ignore"):
            meaning = REALS[one.op](source.meaning.astype(np.float64)).astype(np.float32)
        state.set(one, _meaning(source, meaning))
        return
    source = state.value(one)
    grid = state.out_grid(one)
    try:
        table = TABLES[one.op](source.grid, grid, one.options)
    except ValueError as error:
        raise TfliteError(f"{one}: {error}") from None
    state.set(one, state.table(one, source, table, grid))


def _names() -> str:
    return ", ".join(sorted({*REALS, *OF_REALS}))


def _meaning(source: Value, meaning: Array) -> Value:
    return Value(source.layer, source.shape, source.index, source.grid, meaning=meaning)


def binary(state: "Lowering", one: Operator) -> None:
    """ADD, SUB, MUL, DIV, MAXIMUM, MINIMUM of two tensors, or of one and a constant."""
    known = [k for k in range(2) if state.is_value(one, k)]
    if not known:
        state.raw(one)
    if any(state.raw(one, k).meaning is not None for k in known):
        _of_reals(state, one, known)
    elif len(known) == 1:
        _by_constant(state, one, known[0])
    else:
        _of_two(state, one)


def _of_reals(state: "Lowering", one: Operator, known: list[int]) -> None:
    """Between a DEQUANTIZE and a QUANTIZE: one number for all."""
    sources = [state.raw(one, k) for k in known]
    first = sources[0]
    if any(
        source.layer != first.layer or not np.array_equal(source.index, first.index)
        for source in sources
    ):
        raise TfliteError(f"{one}: both inputs must be functions of the same tensor, or integers")
    numbers = [
        source.meaning
        if k in known and (source := state.raw(one, k)).meaning is not None
        else state.constant(one, k).reshape(-1)
        for k in range(2)
    ]
    if any(number.size not in {1, len(first.grid.all)} for number in numbers) or any(
        number.dtype != np.float32 for number in numbers
    ):
        raise TfliteError(f"{one}: constants must be one real number for all values")
    with np.errstate(all="ignore"):
        meaning = OF_REALS[one.op](numbers[0], numbers[1]).astype(np.float32)
    state.set(one, _meaning(first, meaning))


def _result(one: Operator, inputs: tuple[Ints, Ints], grids: tuple[Grid, Grid], grid: Grid) -> Ints:
    """What a kernel makes of pairs of integers, before it clamps."""
    x, y = inputs[0] - grids[0].zero, inputs[1] - grids[1].zero
    scales = (grids[0].scale, grids[1].scale, grid.scale)
    if one.op == "ADD":
        return tflite_sum(x, y, scales) + grid.zero
    if one.op == "SUB":
        return tflite_sum(x, -y, scales) + grid.zero
    if one.op == "MUL":
        return multiplied(x * y, single(*scales[:2], over=scales[2])) + grid.zero
    if one.op not in EXTREMES or len({*grids, grid}) != 1:
        is_extreme = one.op in EXTREMES
        wanted = "all have the same scale and zero point" if is_extreme else "be real numbers"
        raise TfliteError(f"{one}: inputs and output must {wanted}")
    result: Ints = (np.maximum if one.op == "MAXIMUM" else np.minimum)(inputs[0], inputs[1])
    return result


def _ends(one: Operator, grid: Grid) -> tuple[int, int]:
    low, high = ends_of(one, grid)
    return low + grid.zero, high + grid.zero


# One tensor and a constant


def _by_constant(state: "Lowering", one: Operator, k: int) -> None:
    """One number for all is a table; one for each channel, a depthwise 1x1 convolution."""
    source, tensor = state.value(one, k), state.tensor(one, 1 - k)
    if tensor is None or tensor.data is None or tensor.dtype not in {"INT8", "UINT8"}:
        is_what = "left out" if tensor is None else tensor.dtype
        raise TfliteError(f"{one}: the other input must be a tensor or INT8, not {is_what}")
    own, grid = grid_of(one, tensor), state.out_grid(one)
    constant = tensor.data.astype(np.int64).reshape(-1)
    ends = _ends(one, grid)

    def results(number: Ints) -> Ints:
        pair = (source.grid.all, number) if k == 0 else (number, source.grid.all)
        grids = (source.grid, own) if k == 0 else (own, source.grid)
        return _result(one, pair, grids, grid)

    if constant.size == 1:
        table = np.clip(results(constant), *ends)
        state.set(one, state.table(one, source, table, grid))
        return
    view = state.view(one, source)
    if constant.size != view.shape[0] or constant.size != tensor.shape[-1]:
        raise TfliteError(
            f"{one}: the constant must have 1 value or {view.shape[0]}, one for each channel, "
            f"not the shape {tensor.shape}"
        )
    wanted = [results(number) for number in constant[:, np.newaxis]]
    _by_channel(state, one, view, constant - own.zero, own, np.array(wanted), k)


def _by_channel(
    state: "Lowering", one: Operator, view: View, steps: Ints, own: Grid, wanted: Ints, k: int
) -> None:
    """`wanted` has the result before clamping for each channel and each integer of the input."""
    if one.op in EXTREMES:
        raise TfliteError(f"{one}: the constant must have one value for all channels")
    grid, source, n = state.out_grid(one), view.grid, len(steps)
    low, high = _ends(one, grid)
    real = single(source.scale, own.scale, over=grid.scale)
    if one.op == "MUL" and np.abs(steps).max() <= WEIGHT_MAX:
        ends = (low - grid.zero, high - grid.zero)
        found = scaling(np.full(n, real), ends, wide=state.wide)
        fields = {"weight": steps.reshape(n, 1, 1, 1), **found.fields(-source.zero * steps)}
    else:
        fields = fitted(
            state,
            one,
            source,
            wanted - grid.zero,
            [
                _affine(one, k, step * own.scale / grid.scale, source.scale, grid.scale)
                for step in steps
            ],
            ends=(low - grid.zero, high - grid.zero),
            post_shift=max(-quantized_multiplier(real)[1], 0) if one.op == "MUL" else POST_SHIFT,
        )
    layer = state.append(
        one,
        Conv,
        grid,
        input=view.layer,
        **fields,
        offset=grid.zero,
        groups=n,
        weight_bits=8,
        out_bits=8,
        out_signed=grid.signed,
        low=low,
        high=high,
    )
    state.set_map(one, layer, view, view.shape, grid)


def fitted(
    state: "Lowering",
    one: Operator,
    source: Grid,
    wanted: Ints,
    lines: list[tuple[float, float]],
    *,
    ends: tuple[int, int],
    post_shift: int,
) -> dict[str, Ints | None]:
    """Fields of a depthwise 1x1 convolution whose channels are functions of one value.

    Parameters
    ----------
    source : Grid
        Of the input.
    wanted : (C, 256) int
        Results for all integers, before offset and clamp.
    lines : list of (float, float)
        Slope and intercept of each channel, in steps of the result.
    ends, post_shift
        As in `affine_fit`.
    """
    inputs = source.all - source.zero
    fits = [
        affine_fit(inputs, row, *line, ends=ends, post_shift=post_shift, wide=state.wide)
        for row, line in zip(wanted, lines, strict=True)
    ]
    state.note(one, sum(fit.n_different for fit in fits), wanted.size, "values")
    weight = np.array([fit.weight for fit in fits])
    return {
        "weight": weight.reshape(-1, 1, 1, 1),
        "bias": np.array([fit.bias for fit in fits]) - source.zero * weight,
        "mult": np.array([fit.mult for fit in fits]),
        "shift": np.array([fit.shift for fit in fits]),
        "post_shift": np.array([fit.post_shift for fit in fits]) if state.wide else None,
    }


def _affine(one: Operator, k: int, step: float, scale: float, over: float) -> tuple[float, float]:
    """Slope and intercept in steps of the result; `step` is the constant in such steps."""
    if one.op == "MUL":
        return step * scale, 0.0
    if one.op == "ADD":
        return scale / over, step
    return (scale / over, -step) if k == 0 else (-scale / over, step)


# Two tensors


def _of_two(state: "Lowering", one: Operator) -> None:
    first, second = state.value(one, 0), state.value(one, 1)
    grid = state.out_grid(one)
    if first.index.shape != second.index.shape:
        raise TfliteError(
            f"{one}: both inputs must have the same shape, not {(1, *first.index.shape)} and "
            f"{(1, *second.index.shape)} (maps times or plus one value for each channel or pixel)"
        )
    if _by_table(state, one, first, second):
        return
    if one.op not in {"ADD", "SUB"}:
        raise TfliteError(
            f"{one}: one input must be constant, or both be functions of the same tensor (two "
            "others can only be added and subtracted)"
        )
    if first.shape != second.shape or not np.array_equal(first.index, second.index):
        views = [state.view(one, value) for value in (first, second)]
        if (views[0].shape, views[0].turned) != (views[1].shape, views[1].turned):
            raise TfliteError(f"{one}: both inputs must be maps of the same rows and columns")
        first, second = (
            Value(view.layer, view.shape, view.index(view.shape), view.grid) for view in views
        )
    low, high = _ends(one, grid)
    sign = -1 if one.op == "SUB" else 1
    main, skip = (second, first) if sign < 0 else (first, second)  # weights may be negative
    found = sum_fit(
        (main.grid.scale, skip.grid.scale, grid.scale),
        (_span(main.grid), _span(skip.grid)),
        (sign, 1),
        wide=state.wide,
    )
    state.note(one, found.n_different, 1 << 16, "pairs of values")
    n = first.shape[0]
    layer = state.append(
        one,
        Conv,
        grid,
        input=main.layer,
        weight=np.full((n, 1, 1, 1), sign),
        bias=np.full(n, -sign * main.grid.zero),
        mult=np.full(n, found.mult),
        shift=np.full(n, found.shift),
        post_shift=np.full(n, found.post_shift) if state.wide else None,
        offset=grid.zero,
        groups=n,
        weight_bits=2,
        out_bits=8,
        out_signed=grid.signed,
        low=low,
        high=high,
        skip=skip.layer,
        skip_mult=found.skip_mult,
        skip_zero=skip.grid.zero,
    )
    state.set(one, first.like(layer.name, grid))


def _span(grid: Grid) -> tuple[int, int]:
    """Least and largest distance from the zero point."""
    return grid.low - grid.zero, grid.high - grid.zero


def _by_table(state: "Lowering", one: Operator, first: Value, second: Value) -> bool:
    """Two functions of the same tensor are one function of it."""
    if first.shape != second.shape or not np.array_equal(first.index, second.index):
        return False
    origins = _origins(state, second)
    for layer, table in _origins(state, first).items():
        if layer not in origins:
            continue
        if one.op == "ADD" and (table is None and origins[layer] is None):
            return False  # twice the same: an addition like others
        grid = state.out_grid(one)
        pair = tuple(
            value.grid.all if part is None else part
            for value, part in ((first, table), (second, origins[layer]))
        )
        values = _result(one, (pair[0], pair[1]), (first.grid, second.grid), grid)
        base = first.like(layer, first.grid)
        state.set(one, state.table(one, base, np.clip(values, *_ends(one, grid)), grid))
        return True
    return False


def _origins(state: "Lowering", value: Value) -> dict[str, Ints | None]:
    """Layers of which a value is a function, the nearest first, with their tables."""
    by_name = {layer.name: layer for layer in state.layers}
    found: dict[str, Ints | None] = {value.layer: None}
    name, table = value.layer, None
    while isinstance(layer := by_name.get(name), Lookup):
        low = -(1 << 7) if layer.out_signed else 0
        table = layer.table if table is None else table[layer.table - low]
        name = layer.input
        found[name] = table
    return found


HANDLERS: "dict[str, Handler]" = {
    **dict.fromkeys(TABLES, unary),
    **dict.fromkeys(OF_REALS, binary),
}
