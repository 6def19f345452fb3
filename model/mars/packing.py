"""Inputs of few channels, several pixels of them in one word.

A word has 16 channels; an image has 3. The convolution that reads the input then takes several taps
in one access: a packed pixel holds `rows` x `cols` pixels of the padded image, from row
``Y * row_step`` and column ``X * col_step`` on.
"""

import itertools
from dataclasses import dataclass

import numpy as np
import pydantic

from model.mars.config import KERNELS, WORD_LINES
from model.mars.layout import Ints
from model.mars.network import Conv, FeatureType, Pair


class Packing(pydantic.BaseModel):
    """How an input is packed for the one convolution that reads it.

    Attributes
    ----------
    rows, cols : int
        Pixels in a packed one.
    row_step, col_step : int
        Pixels from one packed pixel to the next.
    n_rows, n_cols : int
        Packed pixels.
    top, left : int
        Padding of the convolution, which is packed as well.
    pad_value : int
        What is around the image.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, strict=True)

    rows: int
    cols: int
    row_step: int
    col_step: int
    n_rows: int
    n_cols: int
    top: int
    left: int
    pad_value: int

    def packed_shape(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """That of the packed map of an image (channels, rows, columns)."""
        return shape[0] * self.rows * self.cols, self.n_rows, self.n_cols

    def pack(self, image: Ints) -> Ints:
        """The packed map of an image; channels in the order of row, column, channel."""
        channels, height, width = image.shape
        bottom = (self.n_rows - 1) * self.row_step + self.rows
        right = (self.n_cols - 1) * self.col_step + self.cols
        size = (max(bottom, self.top + height), max(right, self.left + width))
        padded = np.full((channels, *size), self.pad_value, np.int64)
        padded[:, self.top : self.top + height, self.left : self.left + width] = image
        parts = [
            padded[
                :,
                dy : dy + (self.n_rows - 1) * self.row_step + 1 : self.row_step,
                dx : dx + (self.n_cols - 1) * self.col_step + 1 : self.col_step,
            ]
            for dy, dx in itertools.product(range(self.rows), range(self.cols))
        ]
        return np.concatenate(parts)

    def kernel(self, size: Pair) -> Pair:
        """Packed taps of a kernel."""
        return -(-size[0] // self.rows), -(-size[1] // self.cols)

    def weight(self, weight: Ints) -> Ints:
        """Weights (Cout, Cin, Kh, Kw) for the packed map."""
        n_kernels, n_channels, *size = weight.shape
        rows, cols = self.kernel((size[0], size[1]))
        full = np.zeros((n_kernels, n_channels, rows * self.rows, cols * self.cols), np.int64)
        full[:, :, : size[0], : size[1]] = weight
        taps = full.reshape(n_kernels, n_channels, rows, self.rows, cols, self.cols)
        result: Ints = taps.transpose(0, 3, 5, 1, 2, 4).reshape(n_kernels, -1, rows, cols)
        return result


@dataclass(frozen=True)
class _Axis:
    """Rows, or columns: pixels in a packed one, from one to the next, and how many."""

    size: int
    step: int
    count: int
    taps: int
    stride: int
    dilation: int


def _axes(kernel: int, stride: int, n_results: int) -> list[_Axis]:
    """Ways of packing rows or columns: one by one, or steps of the stride and more of them."""
    span = (n_results - 1) * stride + kernel
    ways = [_Axis(1, 1, span, kernel, stride, 1)]
    for times in range(1, -(-kernel // stride) + 1):
        size = times * stride
        taps = -(-kernel // size)
        if size > 1 and times <= MAX_DILATION:
            ways.append(_Axis(size, stride, n_results + (taps - 1) * times, taps, 1, times))
    return ways


MAX_DILATION = 4


def best_packing(layer: Conv, source: FeatureType, n_macros: int) -> Packing | None:
    """The packing with the fewest clocks, or None if that is pixel by pixel."""
    if layer.groups > 1 or layer.dilation != (1, 1) or source.shape[0] * 2 > WORD_LINES:
        return None
    kind = layer.output_type(source)
    n_blocks = -(-len(layer.weight) // KERNELS)
    rows_of, cols_of = (
        _axes(layer.kernel[k], layer.stride[k], kind.shape[1 + k]) for k in range(2)
    )
    best = plain = None
    for rows, cols in itertools.product(rows_of, cols_of):
        if source.shape[0] * rows.size * cols.size > WORD_LINES:
            continue
        accesses = rows.taps * cols.taps * kind.shape[1] * kind.shape[2] * n_blocks
        words = rows.count * cols.count
        if rows.size == cols.size == 1:
            words = source.shape[1] * source.shape[2]
        cost = (-(-accesses // n_macros) + words, words)
        if rows.size == cols.size == 1:
            plain = cost
        if max(rows.count, cols.count) <= MAX_SIDE and (best is None or cost < best[0]):
            best = (cost, rows, cols)
    if best is None or plain is None or best[0] >= plain:
        return None
    _, rows, cols = best
    return Packing(
        rows=rows.size,
        cols=cols.size,
        row_step=rows.step,
        col_step=cols.step,
        n_rows=rows.count,
        n_cols=cols.count,
        top=layer.padding[0],
        left=layer.padding[1],
        pad_value=layer.pad_value,
    )


MAX_SIDE = 255


def packed_steps(packing: Packing, layer: Conv) -> tuple[Pair, Pair]:
    """Stride and dilation of the convolution on the packed map."""
    sizes = (packing.rows, packing.cols)
    stride = tuple(s if n == 1 else 1 for s, n in zip(layer.stride, sizes, strict=True))
    dilation = tuple(1 if n == 1 else n // s for s, n in zip(layer.stride, sizes, strict=True))
    return (stride[0], stride[1]), (dilation[0], dilation[1])
