"""What the tensors of a graph are: quantised constants, maps, results not yet quantised."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf, prod
from typing import TYPE_CHECKING

import numpy as np

from firmware_tools.onnx_import.nodes import Array, Node, OnnxError
from firmware_tools.onnx_import.views import View
from firmware_tools.requantization import Reals
from model.mars.network import Ints, Pair, Sides

if TYPE_CHECKING:
    from firmware_tools.onnx_import.builder import Builder

TYPES: dict[str, tuple[int, bool]] = {
    "int8": (8, True),
    "uint8": (8, False),
    "int4": (4, True),
    "uint4": (4, False),
    "int2": (2, True),
    "uint2": (2, False),
}
"""Bits and sign of the types that activations and weights may have."""
NO_PADS: Sides = (0, 0, 0, 0)


@dataclass(frozen=True)
class Grid:
    """Scale and zero point of an activation, and its type: value = scale * (integer - zero)."""

    scale: float
    zero: int
    bits: int
    signed: bool

    def __str__(self) -> str:
        sign = "int" if self.signed else "uint"
        return f"scale {self.scale:g} and zero point {self.zero} ({sign}{self.bits})"

    @property
    def low(self) -> int:
        """The least integer."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def high(self) -> int:
        """The largest integer."""
        return (1 << (self.bits - self.signed)) - 1

    @property
    def largest(self) -> int:
        """Largest distance from the zero point."""
        return max(self.zero - self.low, self.high - self.zero)

    @property
    def values(self) -> Array:
        """What the integers stand for, the least one first, in float32 as onnxruntime has it."""
        steps = np.arange(self.low, self.high + 1) - self.zero
        with np.errstate(over="ignore"):
            return steps.astype(np.float32) * np.float32(self.scale)

    def quantize(self, values: Array) -> Ints:
        """The nearest integers of real numbers, ties to even, in float32 as onnxruntime does."""
        with np.errstate(over="ignore"):
            steps = np.rint(values.astype(np.float32) / np.float32(self.scale)) + self.zero
        whole: Ints = np.clip(steps, self.low, self.high).astype(np.int64)
        return whole

    def end(self, value: float) -> int | None:
        """Where a clamp of real numbers clamps integers; None where there is none."""
        return None if np.isinf(value) else int(self.quantize(np.array(value)))


@dataclass(frozen=True, eq=False)
class Feature:
    """A layer's results (or the input) that stand for real numbers.

    Parameters
    ----------
    layer : str
    grid : Grid
    view : View
    base : (Feature, array), optional
        The map, and its table, of which a Lookup made this one.
    pads : (int, int, int, int)
        What a Pad has put around it, not yet in the map.
    pad_value : float
        What it is, in real numbers.
    """

    layer: str
    grid: Grid
    view: View
    base: "tuple[Feature, Ints] | None" = None
    pads: Sides = NO_PADS
    pad_value: float = 0.0

    @property
    def rounded(self) -> "Feature":
        """With what is around it quantised as the map is."""
        if self.pads == NO_PADS:
            return self
        steps = int(self.grid.quantize(np.array(self.pad_value))) - self.grid.zero
        return replace(self, pad_value=steps * self.grid.scale)


@dataclass(frozen=True, eq=False)
class Source:
    """The input, as long as nothing says what its integers are.

    Parameters
    ----------
    view : View
    steps : tuple of callable
        What the host does with it before, of flattened maps, (N, C*H*W) float32.
    is_integer : bool
        The model's input is integers.
    """

    view: View
    steps: "tuple[Step, ...]" = ()
    is_integer: bool = False


Step = Callable[[Array], Array]


@dataclass(frozen=True, eq=False)
class Tensor:
    """A quantised constant; `axis` is that of the scales, None if there is one for all."""

    values: Ints
    scale: Reals
    zero: Ints
    axis: int | None
    dtype: str

    @property
    def centred(self) -> Ints:
        """Its integers less the zero point."""
        found: Ints = self.values - self._along(self.zero)
        return found

    @property
    def real(self) -> Reals:
        """What it stands for."""
        found: Reals = self.centred.astype(np.float64) * self._along(self.scale)
        return found

    def transposed(self, order: tuple[int, ...]) -> "Tensor":
        """With other axes."""
        axis = None if self.axis is None else order.index(self.axis)
        return replace(self, values=self.values.transpose(order), axis=axis)

    def moved(self, move: Callable[[Array], Array]) -> "Tensor | None":
        """With its values in other places; None if scales are along no axis then."""
        values = move(self.values)
        if self.axis is None:
            return replace(self, values=values)
        numbers = self._along(np.arange(len(self.scale)))
        places = move(np.broadcast_to(numbers, self.values.shape))
        for axis in range(values.ndim):
            lines = np.moveaxis(places, axis, 0).reshape(values.shape[axis], -1)
            if lines.size and (lines == lines[:, :1]).all():
                own = lines[:, 0]
                return Tensor(values, self.scale[own], self.zero[own], axis, self.dtype)
        return None

    def _along(self, each: Array) -> Array:
        shape = [1] * self.values.ndim
        if self.axis is not None:
            shape[self.axis] = -1
        return each.reshape(shape)


@dataclass(frozen=True, eq=False)
class Products:
    """Results of a convolution or dense layer, not yet quantised.

    Parameters
    ----------
    node : Node
    source : Feature
    weight : (Cout, Cin/groups, Kh, Kw) or (Cout, Cin) int
    bias : (Cout,) float
        In accumulator steps.
    scale : (Cout,) float
        What an accumulator step stands for.
    view : View
    stride, dilation, padding, pad_value, groups
        As in `model.mars.network.Conv`.
    skip : Feature, optional
        Added.
    is_even : bool
        An average of an even number, which ties often.
    low, high : float
        Clamp.
    """

    node: Node
    source: Feature
    weight: Ints
    bias: Reals
    scale: Reals
    view: View
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    padding: Sides = NO_PADS
    pad_value: int = 0
    groups: int = 1
    skip: Feature | None = None
    is_even: bool = False
    low: float = -inf
    high: float = inf

    @property
    def is_dense(self) -> bool:
        """Whether it is no convolution."""
        return self.weight.ndim == 2

    @property
    def is_clamped(self) -> bool:
        """Whether there is a ReLU or Clip already."""
        return self.low > -inf or self.high < inf

    def affine(self, factor: Reals, added: Reals) -> "Products":
        """The results times a factor and something added, per channel."""
        size = np.where(factor == 0, 1.0, np.abs(factor))
        sign = np.sign(factor).astype(np.int64)
        return replace(
            self,
            weight=self.weight * sign.reshape(-1, *[1] * (self.weight.ndim - 1)),
            bias=self.bias * sign + added / (self.scale * size),
            scale=self.scale * size,
        )


@dataclass(frozen=True, eq=False)
class Sum:
    """Two maps of the same view, each times 1 or -1."""

    node: Node
    parts: tuple[Feature, Feature]
    signs: tuple[int, int]
    view: View
    low: float = -inf
    high: float = inf


@dataclass(frozen=True, eq=False)
class Average:
    """The sums of a map's channels times a factor, which is 1/(H*W) for a mean."""

    node: Node
    source: Feature
    factor: float
    view: View
    low: float = -inf
    high: float = inf


@dataclass(frozen=True, eq=False)
class Unary:
    """A function of a map: what it is for each integer of the map's type."""

    node: Node
    source: Feature
    results: Array
    view: View

    def then(self, node: Node, function: Callable[[Array], Array]) -> "Unary":
        """A function of it, in float32."""
        with np.errstate(all="ignore"):
            results = np.asarray(function(self.results.astype(np.float32)), np.float32)
        if not np.isfinite(results).all():
            raise OnnxError(f"{node}: must be defined for all values of {self.source.layer!r}")
        return replace(self, node=node, results=results)


@dataclass(frozen=True, eq=False)
class Joined:
    """Maps one after the other along their channels."""

    node: Node
    parts: "tuple[Feature | Pending, ...]"
    view: View


@dataclass(frozen=True, eq=False)
class Late(ABC):
    """Results of an operator of a module of its own, not yet quantised."""

    node: Node
    view: View

    @property
    def own(self) -> Grid | None:
        """A grid that has all results, where their range is known."""
        return None

    @abstractmethod
    def make(self, builder: "Builder", grid: Grid) -> Feature:
        """The layers whose results are quantised so."""


@dataclass(frozen=True, eq=False)
class Dropped:
    """What the host works out from the last map: Softmax, ArgMax."""

    node: Node
    tensor: str


Pending = Products | Sum | Average | Unary | Joined | Late
Value = Feature | Pending | Source | Dropped


def unary_of(node: Node, feature: Feature) -> Unary:
    """A map as a function of itself, or of what it was looked up from."""
    if feature.base is not None:
        source, table = feature.base
        return Unary(node, source, feature.grid.values[table - feature.grid.low], feature.view)
    return Unary(node, feature, feature.grid.values, feature.view)


def channel_values(node: Node, view: View, constant: Array, what: str) -> Reals:
    """One number for each channel of a map, from a constant that is combined with its tensor."""
    rows = pixel_values(node, view, constant, what)
    if np.ptp(rows, axis=1).any():
        raise OnnxError(
            f"{node}: constant {what!r} must be one number, or one per channel of {view.dims}, "
            f"not {constant.shape}"
        )
    found: Reals = rows[:, 0]
    return found


def pixel_values(node: Node, view: View, constant: Array, what: str) -> Reals:
    """A number for each channel and pixel of a map; where the tensor has none, one of others."""
    sides = constant.shape
    if len(sides) == len(view.dims) + 1 and sides[0] == 1:
        constant = constant[0]
    refused = OnnxError(
        f"{node}: constant {what!r} must be one number, or one per channel of {view.dims}, "
        f"not {sides}"
    )
    if not np.isfinite(constant.astype(np.float64)).all():
        raise OnnxError(f"{node}: constant {what!r} must be finite")
    if constant.size == 1 and constant.ndim <= len(view.dims) + 1:
        return np.full((view.shape[0], 1), float(constant.ravel()[0]))
    try:
        full = np.broadcast_to(constant, view.dims)
    except ValueError:
        raise refused from None
    flat = np.full(prod(view.shape), np.nan)
    flat[view.indices.ravel()] = full.ravel()
    rows = flat.reshape(view.shape[0], -1)
    rows = np.where(np.isnan(rows), np.nanmax(rows, axis=1, initial=-inf)[:, np.newaxis], rows)
    return np.where(np.isinf(rows), 0.0, rows)
