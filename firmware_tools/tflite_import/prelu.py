"""PRELU."""

from typing import TYPE_CHECKING

import numpy as np

from firmware_tools.tflite_import.elementwise import fitted
from firmware_tools.tflite_import.fitting import WEIGHT_MAX
from firmware_tools.tflite_import.graph import Operator, TfliteError
from firmware_tools.tflite_import.scaling import multiplied, quantized_multiplier, scaling
from firmware_tools.tflite_import.values import Grid, Value, grid_of
from model.mars.network import Conv, Ints

if TYPE_CHECKING:
    from firmware_tools.tflite_import.lowering import Handler, Lowering


def prelu(state: "Lowering", one: Operator) -> None:
    """One slope for all by a table; one for each channel by what is above 0 and what is below."""
    source, grid = state.value(one), state.out_grid(one)
    tensor = state.tensor(one, 1)
    if tensor is None or tensor.data is None:
        raise TfliteError(f"{one}: slopes must be constant")
    own = grid_of(one, tensor)
    alpha = tensor.data.astype(np.int64).reshape(-1) - own.zero
    steps = source.grid.all - source.grid.zero
    fast = multiplied(steps, source.grid.scale / grid.scale)
    real = source.grid.scale * own.scale / grid.scale
    if alpha.size == 1:
        slow = multiplied(steps * alpha, real)
        table = np.clip(np.where(steps >= 0, fast, slow) + grid.zero, grid.low, grid.high)
        state.set(one, state.table(one, source, table, grid))
        return
    view = state.view(one, source)
    n = view.shape[0]
    if alpha.size != n or alpha.size != tensor.shape[-1]:
        raise TfliteError(f"{one}: slopes must be 1 or {n}, one for each channel, not {alpha.size}")
    if alpha.min() < 0:
        raise TfliteError(
            f"{one}: slopes of channels must be at least 0, not {alpha.min() * own.scale:g}"
        )
    value = Value(view.layer, view.shape, view.index(view.shape), view.grid)
    unsigned = Grid(grid.scale, 0, 0, 255)
    above = state.table(one, value, np.clip(fast, 0, 255) * (steps >= 0), unsigned)
    common = {"groups": n, "out_bits": 8}
    below = state.append(
        one,
        Conv,
        grid,
        input=view.layer,
        **_below(state, one, view.grid, alpha, real),
        offset=255,
        high=255,
        weight_bits=8,
        out_signed=False,
        **common,
    )
    layer = state.append(
        one,
        Conv,
        grid,
        input=below.name,
        weight=np.ones((n, 1, 1, 1), np.int64),
        bias=np.full(n, -255),
        mult=np.full(n, 1 << 14),
        shift=np.full(n, 14),
        offset=grid.zero,
        weight_bits=2,
        out_signed=grid.signed,
        skip=above.layer,
        skip_mult=1 << 14,
        **common,
    )
    state.set(one, value.like(layer.name, grid))


def _below(
    state: "Lowering", one: Operator, source: Grid, alpha: Ints, real: float
) -> dict[str, Ints | None]:
    """Weights and multipliers of what is below 0."""
    ends = (-255, 0)
    if alpha.max() <= WEIGHT_MAX:
        found = scaling(np.full(len(alpha), real), ends, wide=state.wide)
        return {"weight": alpha.reshape(-1, 1, 1, 1), **found.fields(-source.zero * alpha)}
    wanted = multiplied((source.all - source.zero) * alpha[:, np.newaxis], real)
    post_shift = max(-quantized_multiplier(real)[1], 0)
    lines = [(step * real, 0.0) for step in alpha.tolist()]
    return fitted(state, one, source, wanted, lines, ends=ends, post_shift=post_shift)


HANDLERS: "dict[str, Handler]" = {"PRELU": prelu}
