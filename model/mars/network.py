"""A quantised convolutional network, as the reference, the compiler and the importers see it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

INPUT = "input"
"""What layers call the network's input."""
RAW_BITS = 32
"""`out_bits` of a layer whose accumulators are its results."""
MAX_BITS = 8
ACC_MAX = (1 << 31) - 1
MULT_MAX = (1 << 16) - 1
"""Largest multiplier of the hardware as it is by default."""
WIDE_MULT_MAX = (1 << 31) - 1
"""Largest one of a configuration with wide multipliers (`MarsConfig.wide_multiplier`)."""
SHIFT_MAX = 40
POST_SHIFT_MAX = 31
OFFSET_MAX = 255
KERNEL_MAX = 16
STRIDE_MAX = 15
PADDING_MAX = 15
DILATION_MAX = 4
POOL_MAX = 255

Pair = tuple[int, int]
"""Rows, columns."""
Sides = tuple[int, int, int, int]
"""Top, left, bottom, right."""


class NetworkError(ValueError):
    """The network is not one that is defined; the text names the layer and what would be right."""


@dataclass(frozen=True)
class FeatureType:
    """Type of a feature map: unsigned b bits are 0..2^b - 1, signed ones -2^(b-1)..2^(b-1) - 1.

    Parameters
    ----------
    shape : (int, int, int)
        Channels, rows, columns.
    bits : int
        1..8, or 32 for accumulators, which are signed.
    signed : bool
        A signed type has at least 2 bits.
    """

    shape: tuple[int, int, int]
    bits: int
    signed: bool

    def __post_init__(self) -> None:
        _check_shape(self.shape)
        _check_type("", self.bits, self.signed)

    @property
    def low(self) -> int:
        """The least value."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def high(self) -> int:
        """The largest value."""
        return (1 << (self.bits - self.signed)) - 1

    @property
    def magnitude(self) -> int:
        """The largest absolute value."""
        return max(-self.low, self.high)

    @property
    def size(self) -> int:
        """Values of one map."""
        return math.prod(self.shape)


@dataclass(frozen=True, kw_only=True, eq=False)
class Conv:
    """A convolution with its requantisation (`model.mars.reference.requantize`).

    With as many groups as channels it is a depthwise one; with weights of 1 that sums windows, and
    with 1x1 kernels and a residual it adds two maps.

    Parameters
    ----------
    name, input : str
        What it is called, and the layer (or "input") that it reads.
    weight : (Cout, Cin/groups, Kh, Kw) int
        Kernels of 1..16 rows and columns. Kept as int64, as are the other arrays, and not
        writeable.
    bias : (Cout,) int
        32 bit, added to the accumulator.
    mult, shift : (Cout,) int or None
        0..2^31 - 1 and 1..40; None, both, if `out_bits` is 32. Above 65535 the multiplier needs a
        configuration with wide ones.
    post_shift : (Cout,) int or None
        0..31: a second shift, whose ties round away from zero; needs wide multipliers. None is 0.
    offset : int
        -255..255, added to the requantised result before it is clamped.
    stride, dilation : (int, int)
        Rows and columns, 1..15 and 1..4; one number stands for both.
    padding : (int, int, int, int)
        Top, left, bottom, right, 0..15; one number stands for all.
    pad_value : int
        What is around the map, a value of the input's type.
    groups : int
        Kernel k reads the channels of group k * groups // Cout.
    weight_bits, out_bits : int
        2..8; 1..8, or 32 for the last layer's accumulators.
    out_signed : bool
        Type of the results; 32 bit are signed.
    low, high : int or None
        Ends to which results are clamped, within that type; None is its own end.
    skip : str or None
        The layer (or "input") that is added, a map of the same shape as the result.
    skip_mult, skip_zero : int
        Its factor, as `mult`, and what is subtracted from it before, -255..255.

    Raises
    ------
    NetworkError
        A parameter is not as above.
    """

    name: str
    input: str
    weight: Ints
    bias: Ints
    mult: Ints | None = None
    shift: Ints | None = None
    post_shift: Ints | None = None
    offset: int = 0
    stride: Pair = (1, 1)
    padding: Sides = (0, 0, 0, 0)
    pad_value: int = 0
    dilation: Pair = (1, 1)
    groups: int = 1
    weight_bits: int
    out_bits: int
    out_signed: bool
    low: int | None = None
    high: int | None = None
    skip: str | None = None
    skip_mult: int = 0
    skip_zero: int = 0

    def __post_init__(self) -> None:
        _check_name(self.name)
        _take_array(self, "weight", "(Cout, Cin, Kh, Kw)", lambda shape: len(shape) == 4)
        rows, columns = self.kernel
        if max(rows, columns) > KERNEL_MAX:
            raise NetworkError(
                f"{_of(self)}kernels must be 1x1 to {KERNEL_MAX}x{KERNEL_MAX}, not {rows}x{columns}"
            )
        _take_numbers(self, "stride", 2, 1, STRIDE_MAX)
        _take_numbers(self, "dilation", 2, 1, DILATION_MAX)
        _take_numbers(self, "padding", 4, 0, PADDING_MAX)
        _check_integer(f"{_of(self)}pad_value", self.pad_value, -(1 << 7), (1 << 8) - 1)
        _check_integer(f"{_of(self)}groups", self.groups, 1, len(self.weight))
        if len(self.weight) % self.groups:
            raise NetworkError(
                f"{_of(self)}groups must divide the {len(self.weight)} output channels, "
                f"not be {self.groups}"
            )
        _check_products(self)
        self._check_skip()

    def _check_skip(self) -> None:
        _check_integer(f"{_of(self)}skip_mult", self.skip_mult, 0, WIDE_MULT_MAX)
        _check_integer(f"{_of(self)}skip_zero", self.skip_zero, -OFFSET_MAX, OFFSET_MAX)
        if self.skip is None:
            for name in ("skip_mult", "skip_zero"):
                if getattr(self, name):
                    raise NetworkError(
                        f"{_of(self)}{name} must be 0 without a skip, not {getattr(self, name)}"
                    )
        elif self.out_bits == RAW_BITS:
            raise NetworkError(
                f"{_of(self)}skip must be absent with out_bits 32, not {self.skip!r} "
                "(accumulators are not requantised)"
            )

    @property
    def kernel(self) -> Pair:
        """Rows and columns of a kernel."""
        rows, columns = self.weight.shape[2:]
        return int(rows), int(columns)

    def output_type(self, source: FeatureType) -> FeatureType:
        """Type of the result for an input.

        Raises
        ------
        NetworkError
            The input does not fit the weights.
        """
        channels = source.shape[0]
        wanted = self.weight.shape[1] * self.groups
        if wanted != channels:
            raise NetworkError(
                f"{_of(self)}weight must be for {channels} input channels, those of "
                f"{self.input!r}, not {wanted}"
            )
        if any(self.padding):
            _check_integer(f"{_of(self)}pad_value", self.pad_value, source.low, source.high)
        size = _window_size(self, source, self.dilation)
        _check_accumulator(self, source)
        return FeatureType((len(self.weight), *size), self.out_bits, self.out_signed)


@dataclass(frozen=True, kw_only=True, eq=False)
class Dense:
    """Every value of a map, flattened as (C, H, W), with a weight to every output channel.

    Parameters
    ----------
    weight : (Cout, C*H*W) int
    name, input, bias, mult, shift, post_shift, offset
        As in `Conv`.
    weight_bits, out_bits, out_signed, low, high
        As in `Conv`.

    Raises
    ------
    NetworkError
        A parameter is not as above.
    """

    name: str
    input: str
    weight: Ints
    bias: Ints
    mult: Ints | None = None
    shift: Ints | None = None
    post_shift: Ints | None = None
    offset: int = 0
    weight_bits: int
    out_bits: int
    out_signed: bool
    low: int | None = None
    high: int | None = None

    def __post_init__(self) -> None:
        _check_name(self.name)
        _take_array(self, "weight", "(Cout, Cin)", lambda shape: len(shape) == 2)
        _check_products(self)

    def output_type(self, source: FeatureType) -> FeatureType:
        """Type of the result, (Cout, 1, 1), for an input; raises as `Conv.output_type` does."""
        if self.weight.shape[1] != source.size:
            raise NetworkError(
                f"{_of(self)}weight must be for {source.size} inputs, the values of "
                f"{self.input!r}, not {self.weight.shape[1]}"
            )
        _check_accumulator(self, source)
        return FeatureType((len(self.weight), 1, 1), self.out_bits, self.out_signed)


@dataclass(frozen=True, kw_only=True, eq=False)
class MaxPool:
    """The largest value in every window; what is around the map is never the largest.

    Parameters
    ----------
    name, input : str
    kernel : (int, int)
        Rows and columns of a window, 1..255; one number stands for both.
    stride : (int, int) or None
        1..15; None is the kernel, so windows do not overlap. What is left at the lower and right
        ends is left out.
    padding : (int, int, int, int)
        As in `Conv`, each less than the kernel.

    Raises
    ------
    NetworkError
        A parameter is not as above.
    """

    name: str
    input: str
    kernel: Pair = (2, 2)
    stride: Pair | None = None
    padding: Sides = (0, 0, 0, 0)

    def __post_init__(self) -> None:
        _check_name(self.name)
        _take_numbers(self, "kernel", 2, 1, POOL_MAX)
        if self.stride is None:
            object.__setattr__(self, "stride", self.kernel)
        _take_numbers(self, "stride", 2, 1, STRIDE_MAX)
        _take_numbers(self, "padding", 4, 0, PADDING_MAX)
        for side, padding in enumerate(self.padding):
            if padding >= self.kernel[side % 2]:
                raise NetworkError(
                    f"{_of(self)}padding must be less than the kernel, {self.kernel}, "
                    f"not {self.padding}"
                )

    @property
    def steps(self) -> Pair:
        """The stride."""
        assert self.stride is not None
        return self.stride

    @property
    def is_quad(self) -> bool:
        """Windows of 2x2 side by side."""
        return (self.kernel, self.steps) == ((2, 2), (2, 2)) and not any(self.padding)

    def output_type(self, source: FeatureType) -> FeatureType:
        """Type of the result for an input; raises as `Conv.output_type` does."""
        size = _window_size(self, source, (1, 1))
        return FeatureType((source.shape[0], *size), source.bits, source.signed)


@dataclass(frozen=True, kw_only=True, eq=False)
class AvgPool:
    """The requantised sum of each channel.

    Parameters
    ----------
    name, input : str
    bias : int
        32 bit, added to the sum.
    mult, shift, post_shift, offset : int
        As in `Conv`, the same for all channels.
    out_bits : int
        1..8.
    out_signed : bool

    Raises
    ------
    NetworkError
        A parameter is not as above.
    """

    name: str
    input: str
    bias: int = 0
    mult: int
    shift: int
    post_shift: int = 0
    offset: int = 0
    out_bits: int
    out_signed: bool

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_integer(f"{_of(self)}bias", self.bias, -ACC_MAX - 1, ACC_MAX)
        _check_integer(f"{_of(self)}mult", self.mult, 0, WIDE_MULT_MAX)
        _check_integer(f"{_of(self)}shift", self.shift, 1, SHIFT_MAX)
        _check_integer(f"{_of(self)}post_shift", self.post_shift, 0, POST_SHIFT_MAX)
        _check_integer(f"{_of(self)}offset", self.offset, -OFFSET_MAX, OFFSET_MAX)
        _check_type(f"{_of(self)}out_", self.out_bits, self.out_signed)
        if self.out_bits == RAW_BITS:
            raise NetworkError(
                f"{_of(self)}out_bits must be 1..8, not 32 (an average is always requantised)"
            )

    def output_type(self, source: FeatureType) -> FeatureType:
        """Type of the result, (C, 1, 1), for an input; raises as `Conv.output_type` does."""
        channels, rows, columns = source.shape
        largest = rows * columns * source.magnitude + abs(self.bias)
        if largest > ACC_MAX:
            raise NetworkError(
                f"{_of(self)}the sum of {rows}x{columns} values of up to {source.magnitude} must "
                f"be at most {ACC_MAX}, not {largest} (it has 32 bits)"
            )
        return FeatureType((channels, 1, 1), self.out_bits, self.out_signed)


@dataclass(frozen=True, kw_only=True, eq=False)
class Lookup:
    """Every value replaced by what a table has for it: activation functions.

    Parameters
    ----------
    name, input : str
    table : (2^bits,) int
        One result for each value of the input's type, the least value first.
    out_bits : int
        1..8.
    out_signed : bool

    Raises
    ------
    NetworkError
        A parameter is not as above.
    """

    name: str
    input: str
    table: Ints
    out_bits: int
    out_signed: bool

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_type(f"{_of(self)}out_", self.out_bits, self.out_signed)
        if self.out_bits == RAW_BITS:
            raise NetworkError(f"{_of(self)}out_bits must be 1..{MAX_BITS}, not {RAW_BITS}")
        _take_array(self, "table", "(2^bits,)", lambda shape: len(shape) == 1)
        kind = FeatureType((1, 1, 1), self.out_bits, self.out_signed)
        _check_values(self, "table", kind.low, kind.high)

    def output_type(self, source: FeatureType) -> FeatureType:
        """Type of the result for an input; raises as `Conv.output_type` does."""
        if len(self.table) != 1 << source.bits:
            raise NetworkError(
                f"{_of(self)}table must have {1 << source.bits} results, one for each value of "
                f"{self.input!r}, not {len(self.table)}"
            )
        return FeatureType(source.shape, self.out_bits, self.out_signed)


@dataclass(frozen=True, kw_only=True, eq=False)
class Select:
    """Channels of one or more maps in any order: concatenation, split, shuffle.

    Parameters
    ----------
    name : str
    inputs : tuple of str
        Maps of the same rows, columns and type.
    channels : tuple of int
        Which channel of the concatenated inputs each channel of the result is.

    Raises
    ------
    NetworkError
        A parameter is not as above.
    """

    name: str
    inputs: tuple[str, ...]
    channels: tuple[int, ...]

    def __post_init__(self) -> None:
        _check_name(self.name)
        object.__setattr__(self, "inputs", tuple(self.inputs))
        if not self.inputs:
            raise NetworkError(f"{_of(self)}inputs must be at least one")
        given: object = self.channels
        if not isinstance(given, tuple | list) or not given or not all(map(_is_integer, given)):
            raise NetworkError(f"{_of(self)}channels must be one or more integers, not {given!r}")
        object.__setattr__(self, "channels", tuple(int(channel) for channel in self.channels))

    def output_type(self, *sources: FeatureType) -> FeatureType:
        """Type of the result for the inputs; raises as `Conv.output_type` does."""
        first = sources[0]
        for name, source in zip(self.inputs, sources, strict=True):
            same = (source.shape[1:], source.bits, source.signed)
            if same != (first.shape[1:], first.bits, first.signed):
                raise NetworkError(
                    f"{_of(self)}inputs must have the same rows, columns and type, "
                    f"but {name!r} differs from {self.inputs[0]!r}"
                )
        n_channels = sum(source.shape[0] for source in sources)
        for channel in self.channels:
            _check_integer(f"{_of(self)}channels", channel, 0, n_channels - 1)
        return FeatureType((len(self.channels), *first.shape[1:]), first.bits, first.signed)


Layer = Conv | Dense | MaxPool | AvgPool | Lookup | Select


@dataclass(frozen=True, eq=False)
class QuantizedNetwork:
    """Layers in an order in which each follows those that it reads; the last one is the output.

    Parameters
    ----------
    input_type : FeatureType
        Of one image.
    layers : tuple of Layer
        At least one; each but the last is read by another.
    name : str
        For people.
    scales : {str: float}
        Real value of one step of the input or a layer's results; for people and importers.

    Members
    -------
    types : {str: FeatureType}
        Type of "input" and of every layer's result, in order.

    Raises
    ------
    NetworkError
        The layers make no network.
    """

    input_type: FeatureType
    layers: tuple[Layer, ...]
    name: str = "network"
    scales: Mapping[str, float] = field(default_factory=dict)
    types: dict[str, FeatureType] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        if not self.layers:
            raise NetworkError("layers must be at least one")
        if self.input_type.bits == RAW_BITS:
            raise NetworkError(f"input: bits must be 1..{MAX_BITS}, not {RAW_BITS}")
        _check_names(self.layers)
        _check_order(self.layers)
        object.__setattr__(self, "types", _types(self.input_type, self.layers))
        self._check_use()
        _check_scales(self)

    @property
    def output(self) -> str:
        """Name of the layer whose results are the network's."""
        return self.layers[-1].name

    def layer(self, name: str) -> Layer:
        """The layer of that name; KeyError if there is none."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(name)

    def consumers(self, name: str) -> tuple[Layer, ...]:
        """The layers that read "input" or a layer, as input or as residual, in order."""
        return tuple(layer for layer in self.layers if name in references(layer).values())

    def _check_use(self) -> None:
        used = {name for layer in self.layers for name in references(layer).values()}
        for layer in self.layers[:-1]:
            if layer.name not in used:
                raise NetworkError(
                    f"{_of(layer)}must be read by another layer: only the last one, "
                    f"{self.output!r}, is the output"
                )


def references(layer: Layer) -> dict[str, str]:
    """What a layer reads and the names of the layers: "input", perhaps "skip", or "inputs[k]"."""
    if isinstance(layer, Select):
        return {f"inputs[{k}]": name for k, name in enumerate(layer.inputs)}
    if isinstance(layer, Conv) and layer.skip is not None:
        return {"input": layer.input, "skip": layer.skip}
    return {"input": layer.input}


def output_type(layer: Layer, types: Mapping[str, FeatureType]) -> FeatureType:
    """Type of a layer's result, from those of what it reads.

    Raises
    ------
    NetworkError
        The layer cannot read them.
    """
    if isinstance(layer, Select):
        return layer.output_type(*(types[name] for name in layer.inputs))
    return layer.output_type(types[layer.input])


def check_features(kind: FeatureType, values: NDArray[Any]) -> Ints:
    """Images as int64, (N, C, H, W).

    Parameters
    ----------
    kind : FeatureType
    values : (N, C, H, W) or (C, H, W) int
        Any integers; a single image gets N = 1.

    Raises
    ------
    NetworkError
        The array has another shape or no integers, or a value is out of range.
    """
    if values.dtype.kind not in "iu":
        raise NetworkError(f"activations must be integers, not {values.dtype}")
    if values.shape[-3:] != kind.shape or values.ndim not in {3, 4} or not values.size:
        wanted = ", ".join(map(str, kind.shape))
        raise NetworkError(f"shape must be (N, {wanted}) or ({wanted}), not {values.shape}")
    images = values.reshape(-1, *kind.shape)
    bad = (images < kind.low) | (images > kind.high)
    if bad.any():
        image, channel, row, column = (int(i) for i in np.argwhere(bad)[0])
        raise NetworkError(
            f"image {image}, channel {channel}, row {row}, column {column} must be "
            f"{kind.low}..{kind.high}, not {images[image, channel, row, column]}"
        )
    return images.astype(np.int64)


def _of(layer: Layer) -> str:
    return f"layer {layer.name!r}: "


def _is_integer(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _check_integer(place: str, value: int, low: int, high: int) -> None:
    if not _is_integer(value) or not low <= value <= high:
        raise NetworkError(f"{place} must be {low}..{high}, not {value!r}")


def _take_numbers(layer: Conv | MaxPool, name: str, n: int, low: int, high: int) -> None:
    """Check some numbers, or one that stands for all, and replace them by a tuple of int."""
    given: Any = getattr(layer, name)
    numbers = given if isinstance(given, tuple | list) else (given,) * n
    if len(numbers) != n or not all(_is_integer(x) and low <= x <= high for x in numbers):
        raise NetworkError(
            f"{_of(layer)}{name} must be {n} numbers {low}..{high}, or one for all, not {given!r}"
        )
    object.__setattr__(layer, name, tuple(int(x) for x in numbers))


def _window_size(layer: Conv | MaxPool, source: FeatureType, dilation: Pair) -> Pair:
    """How many windows fit in rows and columns."""
    sides = source.shape[1:]
    assert layer.stride is not None
    padded = [sides[k] + layer.padding[k] + layer.padding[k + 2] for k in range(2)]
    reach = [(layer.kernel[k] - 1) * dilation[k] + 1 for k in range(2)]
    if padded[0] < reach[0] or padded[1] < reach[1]:
        around = [r - p + side for r, p, side in zip(reach, padded, sides, strict=True)]
        raise NetworkError(
            f"{_of(layer)}the map of {layer.input!r} must be at least "
            f"{max(around[0], 1)}x{max(around[1], 1)} for the kernel, not {sides[0]}x{sides[1]}"
        )
    rows, columns = ((padded[k] - reach[k]) // layer.stride[k] + 1 for k in range(2))
    return rows, columns


def _check_name(name: Any) -> None:
    if not (isinstance(name, str) and name and name.isprintable() and name != INPUT):
        raise NetworkError(
            f"a layer's name must be printable text other than {INPUT!r}, not {name!r}"
        )


def _check_shape(shape: tuple[int, ...]) -> None:
    if len(shape) != 3 or not all(_is_integer(size) and size >= 1 for size in shape):
        raise NetworkError(f"shape must be three positive numbers, (C, H, W), not {shape}")


def _check_type(place: str, bits: int, signed: bool) -> None:
    """`place` is what stands before "bits" and "signed" in error texts."""
    if not _is_integer(bits) or not (1 <= bits <= MAX_BITS or bits == RAW_BITS):
        raise NetworkError(f"{place}bits must be 1..{MAX_BITS} or {RAW_BITS}, not {bits!r}")
    if not isinstance(signed, bool):
        raise NetworkError(f"{place}signed must be True or False, not {signed!r}")
    if signed and bits == 1:
        raise NetworkError(f"{place}bits must be at least 2 for a signed type, not 1")
    if bits == RAW_BITS and not signed:
        raise NetworkError(f"{place}signed must be True with {RAW_BITS} bits, not False")


def _take_array(
    layer: Conv | Dense | Lookup, name: str, shape: str, is_right: Callable[[tuple[int, ...]], bool]
) -> None:
    """Check dtype and shape of an array and replace it by one of int64 that stays as it is."""
    array: object = getattr(layer, name)
    if not isinstance(array, np.ndarray):
        raise NetworkError(f"{_of(layer)}{name} must be an array, not {type(array).__name__}")
    if array.dtype.kind not in "iu" or not np.can_cast(array.dtype, np.int64):
        raise NetworkError(f"{_of(layer)}{name} must be integers, not {array.dtype}")
    if not is_right(array.shape) or not array.size:
        raise NetworkError(f"{_of(layer)}{name} must have the shape {shape}, not {array.shape}")
    own = array.astype(np.int64)
    own.setflags(write=False)
    object.__setattr__(layer, name, own)


def _check_products(layer: Conv | Dense) -> None:
    """What convolutions and dense layers have in common."""
    _check_integer(f"{_of(layer)}weight_bits", layer.weight_bits, 2, MAX_BITS)
    half = 1 << (layer.weight_bits - 1)
    _check_values(layer, "weight", -half, half - 1)
    _check_type(f"{_of(layer)}out_", layer.out_bits, layer.out_signed)
    _check_clamp(layer)
    _check_channels(layer, "bias", -ACC_MAX - 1, ACC_MAX)
    _check_integer(f"{_of(layer)}offset", layer.offset, -OFFSET_MAX, OFFSET_MAX)
    if layer.out_bits == RAW_BITS and layer.offset:
        raise NetworkError(
            f"{_of(layer)}offset must be 0 with out_bits {RAW_BITS}, not {layer.offset}"
        )
    for name, low, high in (
        ("mult", 0, WIDE_MULT_MAX),
        ("shift", 1, SHIFT_MAX),
        ("post_shift", 0, POST_SHIFT_MAX),
    ):
        is_given = getattr(layer, name) is not None
        if is_given and layer.out_bits == RAW_BITS:
            raise NetworkError(
                f"{_of(layer)}{name} must be absent with out_bits {RAW_BITS} "
                "(accumulators are not requantised)"
            )
        if is_given:
            _check_channels(layer, name, low, high)
        elif layer.out_bits != RAW_BITS and name != "post_shift":
            raise NetworkError(f"{_of(layer)}{name} must be given with out_bits {layer.out_bits}")


def _check_clamp(layer: Conv | Dense) -> None:
    kind = FeatureType((1, 1, 1), layer.out_bits, layer.out_signed)
    for name, end in (("low", layer.low), ("high", layer.high)):
        if end is None:
            continue
        if layer.out_bits == RAW_BITS:
            raise NetworkError(f"{_of(layer)}{name} must be absent with out_bits {RAW_BITS}")
        _check_integer(f"{_of(layer)}{name}", end, kind.low, kind.high)
    low, high = clamp_of(layer, kind)
    if low > high:
        raise NetworkError(f"{_of(layer)}low must be at most high, {high}, not {low}")


def clamp_of(layer: Conv | Dense, kind: FeatureType) -> tuple[int, int]:
    """Ends of a layer's results, whose type is `kind`."""
    return (
        kind.low if layer.low is None else layer.low,
        kind.high if layer.high is None else layer.high,
    )


def _check_channels(layer: Conv | Dense, name: str, low: int, high: int) -> None:
    """Check an array with one number per output channel."""
    shape = (len(layer.weight),)
    _take_array(layer, name, f"{shape}, one per output channel", lambda given: given == shape)
    _check_values(layer, name, low, high)


def _check_values(layer: Conv | Dense | Lookup, name: str, low: int, high: int) -> None:
    values = getattr(layer, name)
    if values.min() >= low and values.max() <= high:
        return
    where = tuple(np.argwhere((values < low) | (values > high))[0])
    index = ", ".join(map(str, where))
    bits = None if isinstance(layer, Lookup) or name != "weight" else layer.weight_bits
    note = "" if bits is None else f" (weight_bits {bits})"
    raise NetworkError(
        f"{_of(layer)}{name}[{index}] must be {low}..{high}{note}, not {values[where]}"
    )


def _check_accumulator(layer: Conv | Dense, source: FeatureType) -> None:
    """Whatever the activations and the order of adding, 32 bits are enough."""
    sums = np.abs(layer.weight).reshape(len(layer.weight), -1).sum(axis=1)
    largest = np.abs(layer.bias) + sums * source.magnitude
    if (largest > ACC_MAX).any():
        channel = int(np.argmax(largest > ACC_MAX))
        raise NetworkError(
            f"{_of(layer)}channel {channel}: |bias| + sum of |weight| * {source.magnitude} must "
            f"be at most {ACC_MAX}, not {largest[channel]} (the accumulator has 32 bits)"
        )


def _check_names(layers: tuple[Layer, ...]) -> None:
    first: dict[str, int] = {}
    for k, layer in enumerate(layers):
        if layer.name in first:
            raise NetworkError(
                f"layers[{first[layer.name]}] and layers[{k}] must have different names, "
                f"not both {layer.name!r}"
            )
        first[layer.name] = k


def _check_order(layers: tuple[Layer, ...]) -> None:
    by_name = {layer.name: layer for layer in layers}
    done = {INPUT}
    for layer in layers:
        for what, name in references(layer).items():
            place = f"{_of(layer)}{what}"
            if name in done:
                continue
            if name not in by_name:
                raise NetworkError(
                    f"{place} must be {INPUT!r} or an earlier layer, but there is no layer {name!r}"
                )
            cycle = _path(by_name, name, layer.name)
            if cycle:
                chain = " -> ".join(repr(name) for name in (layer.name, *cycle))
                raise NetworkError(f"{place} must not depend on the layer itself: {chain}")
            raise NetworkError(f"{place} must be an earlier layer, but {name!r} comes later")
        done.add(layer.name)


def _path(by_name: Mapping[str, Layer], start: str, end: str) -> tuple[str, ...]:
    """Names from a layer to another one along what they read; () if there is no way."""
    ways: list[tuple[str, ...]] = [(start,)]
    seen = {start}
    while ways:
        way = ways.pop(0)
        if way[-1] == end:
            return way
        for name in references(by_name[way[-1]]).values():
            if name in by_name and name not in seen:
                seen.add(name)
                ways.append((*way, name))
    return ()


def _types(input_type: FeatureType, layers: tuple[Layer, ...]) -> dict[str, FeatureType]:
    types = {INPUT: input_type}
    for layer in layers:
        kind = output_type(layer, types)
        if kind.bits == RAW_BITS and layer is not layers[-1]:
            raise NetworkError(
                f"{_of(layer)}out_bits must be 1..{MAX_BITS}, not {RAW_BITS} (only the last "
                "layer's results may be accumulators)"
            )
        if isinstance(layer, Conv) and layer.skip is not None:
            skip = types[layer.skip].shape
            if skip != kind.shape:
                raise NetworkError(
                    f"{_of(layer)}skip {layer.skip!r} must have the shape of the result, "
                    f"{kind.shape}, not {skip}"
                )
        types[layer.name] = kind
    return types


def _check_scales(network: QuantizedNetwork) -> None:
    for name, scale in network.scales.items():
        if name not in network.types:
            raise NetworkError(f"scales must be of {INPUT!r} or layers, but there is no {name!r}")
        if not math.isfinite(scale) or scale <= 0:
            raise NetworkError(f"scale of {name!r} must be a positive number, not {scale!r}")
