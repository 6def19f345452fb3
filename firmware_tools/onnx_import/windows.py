"""Kernels, strides and padding of convolutions and pools, as ONNX and the chip have them."""

from dataclasses import dataclass

import numpy as np

from firmware_tools.onnx_import.nodes import Array, Node, OnnxError
from firmware_tools.onnx_import.values import Feature, Grid
from firmware_tools.onnx_import.views import View
from model.mars.network import Pair, Sides

SIDE_MAX = 1 << 16
"""Of a padded map; what a larger one would need is not worth trying."""


@dataclass(frozen=True)
class Window:
    """What slides over a map (rows and columns of the chip).

    Parameters
    ----------
    kernel, stride, dilation : (int, int)
    padding : (int, int, int, int)
        Without that of a Pad before.
    size : (int, int)
        Rows and columns of the result.
    is_turned : bool
        Rows of the chip are columns of the ONNX tensor.
    is_line : bool
        The ONNX tensor has no rows: (C, L).
    """

    kernel: Pair
    stride: Pair
    dilation: Pair
    padding: Sides
    size: Pair
    is_turned: bool
    is_line: bool

    def view(self, channels: int) -> View:
        """Of the result."""
        n_dims = 2 if self.is_line else 3
        return View.map((channels, *self.size), n_dims, is_turned=self.is_turned)

    def weight(self, weight: Array) -> Array:
        """Kernels of an ONNX convolution with rows and columns of the chip."""
        if self.is_line:
            weight = weight[:, :, np.newaxis]
        return weight.swapaxes(2, 3) if self.is_turned else weight


def window(node: Node, feature: Feature, kernel: list[int]) -> Window:
    """The window that a node's attributes describe, over a map with its padding.

    Parameters
    ----------
    node : Node
    feature : Feature
        Channels of a map (`Builder.as_map`).
    kernel : list of int
        One number for (C, L), two for (C, H, W).
    """
    dims = feature.view.dims[1:]
    n = len(dims)
    if len(kernel) != n or n not in {1, 2}:
        raise OnnxError(
            f"{node}: must have a kernel of {n} dimensions for {feature.view.dims}, not {kernel}"
        )
    stride = node.integers("strides", [1] * n, least=1)
    dilation = node.integers("dilations", [1] * n, least=1)
    if n == 1:
        dims, kernel, stride, dilation = (1, *dims), [1, *kernel], [1, *stride], [1, *dilation]
    own = feature.view.shape[1:]
    is_turned = dims != own
    before, after = oriented(feature.pads, is_turned=is_turned)
    reach = [(kernel[k] - 1) * dilation[k] + 1 for k in range(2)]
    sides = [dims[k] + before[k] + after[k] for k in range(2)]
    pads = _padding(node, n, sides, reach, stride)
    padded = [sides[k] + pads[k] + pads[k + 2] for k in range(2)]
    if any(padded[k] < reach[k] for k in range(2)):
        raise OnnxError(f"{node}: kernel must be at most the padded map, {padded}, not {reach}")
    if node.integer("ceil_mode", 0):
        pads = _with_ceiling(node, pads, sides, reach, stride)
        padded = [sides[k] + pads[k] + pads[k + 2] for k in range(2)]
    if max(padded) > SIDE_MAX:
        raise OnnxError(f"{node}: map must have sides of at most {SIDE_MAX}, not {padded}")
    size = [(padded[k] - reach[k]) // stride[k] + 1 for k in range(2)]
    step = -1 if is_turned else 1
    top, left = pads[:2][::step]
    bottom, right = pads[2:][::step]
    return Window(
        kernel=_pair(kernel[::step]),
        stride=_pair(stride[::step]),
        dilation=_pair(dilation[::step]),
        padding=(top, left, bottom, right),
        size=_pair(size[::step]),
        is_turned=is_turned,
        is_line=n == 1,
    )


def oriented(pads: Sides, *, is_turned: bool) -> tuple[Pair, Pair]:
    """Padding before and after rows and columns of the ONNX tensor."""
    before, after = pads[:2], pads[2:]
    return (before[::-1], after[::-1]) if is_turned else (before, after)


def padding_of(node: Node, feature: Feature, own: Sides, nothing: int) -> tuple[Sides, int]:
    """All padding of a map, that of a Pad before included, and its value.

    Parameters
    ----------
    node : Node
    feature : Feature
    own : (int, int, int, int)
        The node's.
    nothing : int
        The value of that.
    """
    if not any(feature.pads):
        return own, nothing
    value = pad_steps(node, feature.grid, feature.pad_value)
    if any(own) and value != nothing:
        raise OnnxError(
            f"{node}: what a Pad before it puts around the map must be 0, as pads is not, "
            f"not {feature.pad_value:g}"
        )
    top, left, bottom, right = (a + b for a, b in zip(own, feature.pads, strict=True))
    return (top, left, bottom, right), value


def pad_steps(node: Node, grid: Grid, real: float) -> int:
    """The integer of what a Pad puts around a map."""
    value = int(grid.quantize(np.array(real)))
    is_least = node.op == "MaxPool" and value == grid.low
    if not is_least and not grid.low - 0.5 <= real / grid.scale + grid.zero <= grid.high + 0.5:
        ends = f"{grid.values[0]:g}..{grid.values[-1]:g}"
        raise OnnxError(
            f"{node}: what a Pad before it puts around the map must be {ends}, which the map's "
            f"type holds, not {real:g}"
        )
    return value


def _padding(
    node: Node, n: int, sides: list[int], reach: list[int], stride: list[int]
) -> list[int]:
    """Top, left, bottom, right of the ONNX tensor."""
    auto = node.text("auto_pad", "NOTSET")
    if auto == "NOTSET":
        pads = node.integers("pads", [0] * (2 * n))
        return pads if n == 2 else [0, pads[0], 0, pads[1]]
    if auto == "VALID":
        return [0, 0, 0, 0]
    if auto not in {"SAME_UPPER", "SAME_LOWER"}:
        raise OnnxError(
            f"{node}: auto_pad must be NOTSET, VALID, SAME_UPPER or SAME_LOWER, not {auto}"
        )
    total = [
        max((-(-sides[k] // stride[k]) - 1) * stride[k] + reach[k] - sides[k], 0) for k in range(2)
    ]
    less, more = [each // 2 for each in total], [each - each // 2 for each in total]
    return less + more if auto == "SAME_UPPER" else more + less


def _with_ceiling(
    node: Node, pads: list[int], sides: list[int], reach: list[int], stride: list[int]
) -> list[int]:
    """With padding behind for a last window that reaches over the map, but begins in it."""
    wider = pads.copy()
    for k in range(2):
        n_over = -(-(sides[k] + pads[k] + pads[k + 2] - reach[k]) // stride[k])
        if n_over * stride[k] >= sides[k] + pads[k]:
            n_over -= 1
        wider[k + 2] = max(pads[k + 2], n_over * stride[k] + reach[k] - sides[k] - pads[k])
    if wider != pads and node.op != "MaxPool":
        raise OnnxError(
            f"{node}: ceil_mode must be 0, not 1, where windows would reach over the map "
            "(averages of different counts)"
        )
    return wider


def _pair(numbers: list[int]) -> Pair:
    first, second = numbers
    return first, second
