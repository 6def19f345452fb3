"""A quantised network, as the reference, the compiler and the importers see it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from model.mars.checks import NetworkError as NetworkError  # noqa: PLC0414  (so mypy exports it)
from model.mars.checks import check_integer as _check_integer
from model.mars.checks import is_integer as _is_integer
from model.mars.neuron import (
    CHARGE_MAX,
    TIME_STEPS_MAX,
    Exit,
    Neuron,
    check_exit,
    checked_neuron,
    reach,
)
from model.mars.rows import EPSILON_MAX, NORM_MAX, OCTAVES_MAX, SOFTMAX_MAX
from model.mars.rows import NORMAL_WIDTH as _NORMAL_WIDTH

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
HEADS_MAX = 64
FIRST_MAX = 255
"""Pixels of a map that `Tokens` leaves out."""
NORMAL_LARGEST = 1 << (_NORMAL_WIDTH - 1)
"""What a normalised value is less than."""

Pair = tuple[int, int]
"""Rows, columns."""
Sides = tuple[int, int, int, int]
"""Top, left, bottom, right."""
Coding = Literal["direct", "spikes"]
"""What a spiking network's input is: an image that counts in every step, or spikes in time."""
SPIKE_SKIP_MULT_MAX = MULT_MAX
"""Largest charge of a spike of a residual."""


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
    time_steps : int
        Steps in each of which the map has other values; 0 for one that does not change in time.
    """

    shape: tuple[int, int, int]
    bits: int
    signed: bool
    time_steps: int = 0

    def __post_init__(self) -> None:
        _check_shape(self.shape)
        _check_type("", self.bits, self.signed)

    @property
    def is_spikes(self) -> bool:
        """One bit in every step."""
        return self.bits == 1 and self.time_steps > 0

    @property
    def array_shape(self) -> tuple[int, ...]:
        """Of the values: (C, H, W), of a map in time (time_steps, C, H, W)."""
        return (self.time_steps, *self.shape) if self.time_steps else self.shape

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
        Its factor, as `mult`, and what is subtracted from it before, -255..255. Of a spiking layer
        the charge of a spike of the residual, 0..65535, and 0.
    neuron : Neuron or None
        Makes it a spiking layer: the accumulators of each step charge neurons, whose spikes are
        the results, `out_bits` 1, not requantised.

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
    neuron: Neuron | None = None

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
        most = WIDE_MULT_MAX if self.neuron is None else SPIKE_SKIP_MULT_MAX
        _check_integer(f"{_of(self)}skip_mult", self.skip_mult, 0, most)
        most = OFFSET_MAX if self.neuron is None else 0
        _check_integer(f"{_of(self)}skip_zero", self.skip_zero, -most, most)
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
    weight_bits, out_bits, out_signed, low, high, neuron
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
    neuron: Neuron | None = None

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
class SumPool:
    """The spikes in every window of each step; an average, if who reads it divides.

    Convolutions and dense layers read it, nothing else does.

    Parameters
    ----------
    name, input : str
    kernel : (int, int)
        Rows and columns of a window of 2..255 pixels; one number stands for both.
    stride : (int, int) or None
        1..15; None is the kernel. What is left at the lower and right ends is left out.

    Raises
    ------
    NetworkError
        A parameter is not as above.
    """

    name: str
    input: str
    kernel: Pair = (2, 2)
    stride: Pair | None = None

    def __post_init__(self) -> None:
        _check_name(self.name)
        _take_numbers(self, "kernel", 2, 1, POOL_MAX)
        if self.stride is None:
            object.__setattr__(self, "stride", self.kernel)
        _take_numbers(self, "stride", 2, 1, max(STRIDE_MAX, *self.kernel))
        if not 1 < math.prod(self.kernel) < 1 << MAX_BITS:
            raise NetworkError(
                f"{_of(self)}kernel must be of 2..{(1 << MAX_BITS) - 1} pixels, "
                f"not {self.kernel[0]}x{self.kernel[1]}"
            )

    @property
    def steps(self) -> Pair:
        """The stride."""
        assert self.stride is not None
        return self.stride

    @property
    def padding(self) -> Sides:
        """None."""
        return (0, 0, 0, 0)

    def output_type(self, source: FeatureType) -> FeatureType:
        """Type of the result for an input; raises as `Conv.output_type` does."""
        if not source.is_spikes:
            raise NetworkError(f"{_of(self)}input must be spikes, which {self.input!r} is not")
        size = _window_size(self, source, (1, 1))
        bits = math.prod(self.kernel).bit_length()
        return FeatureType((source.shape[0], *size), bits, signed=False)


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
        _check_scale(self)
        _check_results(self, "an average is always requantised")

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
        _check_results(self)
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
            same = (source.shape[1:], source.bits, source.signed, source.time_steps)
            if same != (first.shape[1:], first.bits, first.signed, first.time_steps):
                raise NetworkError(
                    f"{_of(self)}inputs must have the same rows, columns and type, "
                    f"but {name!r} differs from {self.inputs[0]!r}"
                )
        n_channels = sum(source.shape[0] for source in sources)
        for channel in self.channels:
            _check_integer(f"{_of(self)}channels", channel, 0, n_channels - 1)
        return FeatureType((len(self.channels), *first.shape[1:]), first.bits, first.signed)


@dataclass(frozen=True, kw_only=True, eq=False)
class MatMul:
    """Products of two maps whose pixels are tokens, head by head, requantised: attention's.

    Channels of a head stand together. Transposed, ``acc[h*T + t, x]`` is the sum over the d
    channels c of head h of ``input[h*d + c, x] * operand[h*d + c, t]``, a score of every token t
    for token x. Else ``acc[h*d + c, x]`` is the sum over the operand's T tokens t of
    ``input[h*T + t, x] * operand[h*d + c, t]``.

    Parameters
    ----------
    name, input, operand : str
        Maps, of as many tokens or not; that of `operand` is signed.
    transposed : bool
    heads : int
        Divides the channels of both.
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
    operand: str
    transposed: bool = False
    heads: int = 1
    mult: int
    shift: int
    post_shift: int = 0
    offset: int = 0
    out_bits: int
    out_signed: bool

    def __post_init__(self) -> None:
        _check_name(self.name)
        if not isinstance(self.transposed, bool):
            raise NetworkError(
                f"{_of(self)}transposed must be True or False, not {self.transposed!r}"
            )
        _check_integer(f"{_of(self)}heads", self.heads, 1, HEADS_MAX)
        _check_scale(self)
        _check_results(self, "products of two maps are always requantised")

    def output_type(self, source: FeatureType, operand: FeatureType) -> FeatureType:
        """Type of the result for its inputs; raises as `Conv.output_type` does."""
        n_tokens = math.prod(operand.shape[1:])
        if not operand.signed:
            raise NetworkError(
                f"{_of(self)}operand must be signed, as weights are, which {self.operand!r} is not"
            )
        for what, name, kind in (
            ("input", self.input, source),
            ("operand", self.operand, operand),
        ):
            _check_heads(self, what, name, kind)
        wanted = operand.shape[0] if self.transposed else self.heads * n_tokens
        if source.shape[0] != wanted:
            meaning = "those of the operand" if self.transposed else f"{n_tokens} tokens a head"
            raise NetworkError(
                f"{_of(self)}input must have {wanted} channels, {meaning}, not {source.shape[0]}"
            )
        n_products = source.shape[0] // self.heads
        largest = n_products * source.magnitude * operand.magnitude
        if largest > ACC_MAX:
            raise NetworkError(
                f"{_of(self)}the sum of {n_products} products of up to "
                f"{source.magnitude * operand.magnitude} must be at most {ACC_MAX}, not {largest} "
                "(it has 32 bits)"
            )
        channels = self.heads * n_tokens if self.transposed else operand.shape[0]
        return FeatureType((channels, *source.shape[1:]), self.out_bits, self.out_signed)


@dataclass(frozen=True, kw_only=True, eq=False)
class Softmax:
    """Probabilities of the channels of every pixel, head by head, requantised.

    What is requantised is in units of 2^-16: with `mult` 1 and `shift` 8, results are in units of
    1/256.

    Parameters
    ----------
    name, input : str
    heads : int
        Divides the channels; each head has up to 512.
    octaves : int
        1..2^20 - 1: a score of one step less is less probable by ``2^(-octaves / 2^16)``.
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
    heads: int = 1
    octaves: int
    mult: int
    shift: int
    post_shift: int = 0
    offset: int = 0
    out_bits: int
    out_signed: bool

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_integer(f"{_of(self)}heads", self.heads, 1, HEADS_MAX)
        _check_integer(f"{_of(self)}octaves", self.octaves, 1, OCTAVES_MAX)
        _check_scale(self)
        _check_results(self, "probabilities are always requantised")

    def output_type(self, source: FeatureType) -> FeatureType:
        """Type of the result for an input; raises as `Conv.output_type` does."""
        _check_heads(self, "input", self.input, source)
        n_channels = source.shape[0] // self.heads
        if n_channels > SOFTMAX_MAX:
            raise NetworkError(
                f"{_of(self)}a head must have at most {SOFTMAX_MAX} channels, not {n_channels}"
            )
        return FeatureType(source.shape, self.out_bits, self.out_signed)


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerNorm:
    """The channels of every pixel less their mean, over their standard deviation, requantised.

    What is requantised is in units of 2^-14.

    Parameters
    ----------
    name, input : str
        A map of up to 1024 channels.
    epsilon : int
        0..2^32 - 1, added to the variance times the square of the number of channels.
    bias, mult, shift : (C,) int
        As in `Conv`. A negative factor of a channel is the work of those who read it.
    offset : int
        As in `Conv`.
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
    epsilon: int = 0
    bias: Ints
    mult: Ints
    shift: Ints
    offset: int = 0
    out_bits: int
    out_signed: bool

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_integer(f"{_of(self)}epsilon", self.epsilon, 0, EPSILON_MAX)
        _check_integer(f"{_of(self)}offset", self.offset, -OFFSET_MAX, OFFSET_MAX)
        _check_results(self, "what is normalised is always requantised")
        _take_array(self, "bias", "(C,)", lambda shape: len(shape) == 1)
        most = ACC_MAX - NORMAL_LARGEST
        for name, low, high in (
            ("bias", -most, most),
            ("mult", 0, WIDE_MULT_MAX),
            ("shift", 1, SHIFT_MAX),
        ):
            _check_channels(self, name, low, high, len(self.bias))

    def output_type(self, source: FeatureType) -> FeatureType:
        """Type of the result for an input; raises as `Conv.output_type` does."""
        if len(self.bias) != source.shape[0]:
            raise NetworkError(
                f"{_of(self)}bias must be for {source.shape[0]} channels, those of "
                f"{self.input!r}, not {len(self.bias)}"
            )
        if source.shape[0] > NORM_MAX:
            raise NetworkError(
                f"{_of(self)}input must have at most {NORM_MAX} channels, not {source.shape[0]}"
            )
        return FeatureType(source.shape, self.out_bits, self.out_signed)


@dataclass(frozen=True, kw_only=True, eq=False)
class Tokens:
    """Constant pixels, and behind them those of a map, all in one column: class tokens, prompts.

    Parameters
    ----------
    name, input : str
    values : (C, n) int
        Of the n constant pixels, none perhaps where `first` is not 0; values of the input's type.
    first : int
        0..255, the first of the map's pixels that is taken, row by row: prompts of a block before
        are left out.

    Raises
    ------
    NetworkError
        A parameter is not as above.
    """

    name: str
    input: str
    values: Ints
    first: int = 0

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_integer(f"{_of(self)}first", self.first, 0, FIRST_MAX)
        _take_array(
            self,
            "values",
            "(C, n)" if self.first else "(C, n), n at least 1 where no pixel is left out",
            lambda shape: len(shape) == 2 and (shape[1] > 0 or self.first > 0),
            may_be_empty=self.first > 0,
        )

    def output_type(self, source: FeatureType) -> FeatureType:
        """Type of the result for an input; raises as `Conv.output_type` does."""
        channels, rows, columns = source.shape
        if len(self.values) != channels:
            raise NetworkError(
                f"{_of(self)}values must be for {channels} channels, those of {self.input!r}, "
                f"not {len(self.values)}"
            )
        _check_values(self, "values", source.low, source.high)
        n_pixels = rows * columns
        _check_integer(f"{_of(self)}first", self.first, 0, min(FIRST_MAX, n_pixels - 1))
        n_tokens = self.values.shape[1] + n_pixels - self.first
        return FeatureType((channels, n_tokens, 1), source.bits, source.signed)


Layer = (
    Conv
    | Dense
    | MaxPool
    | SumPool
    | AvgPool
    | Lookup
    | Select
    | MatMul
    | Softmax
    | LayerNorm
    | Tokens
)


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
    time_steps : int
        Of a spiking network, 1..64; 0 for one without neurons.
    coding : "direct" or "spikes"
        Of a spiking network's input: an image, or spikes of one bit in every step.
    exit : Exit or None
        When the network takes no more steps, if not all.

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
    time_steps: int = 0
    coding: Coding = "direct"
    exit: Exit | None = None
    types: dict[str, FeatureType] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        if not self.layers:
            raise NetworkError("layers must be at least one")
        if self.input_type.bits == RAW_BITS:
            raise NetworkError(f"input: bits must be 1..{MAX_BITS}, not {RAW_BITS}")
        _check_names(self.layers)
        _check_order(self.layers)
        self._check_time()
        types = _types(self.input_type, self.layers, self.time_steps)
        object.__setattr__(self, "types", types)
        self._check_use()
        _check_scales(self)
        if self.time_steps:
            _check_neurons(self)
        if self.exit is not None:
            self._check_exit(self.exit)

    def _check_time(self) -> None:
        """Steps, coding and neurons agree; the input's type says how many steps it has."""
        if self.coding not in get_args(Coding):
            raise NetworkError(f"input: coding must be 'direct' or 'spikes', not {self.coding!r}")
        neurons = [layer.name for layer in self.layers if neuron_of(layer) is not None]
        if not neurons:
            if self.time_steps or self.coding == "spikes" or self.exit is not None:
                raise NetworkError(
                    "layers: one must have a neuron in a network with time_steps, with spikes as "
                    "its input, or with an exit"
                )
            return
        _check_integer(
            f"time_steps of a network with a neuron (layer {neurons[0]!r})",
            self.time_steps,
            1,
            TIME_STEPS_MAX,
        )
        kind = self.input_type
        if self.coding == "spikes" and (kind.bits, kind.signed) != (1, False):
            raise NetworkError(
                "input: bits must be 1, and not signed, with coding 'spikes', not "
                f"{kind.bits}{', signed' if kind.signed else ''}"
            )
        steps = self.time_steps if self.coding == "spikes" else 0
        object.__setattr__(self, "input_type", replace(kind, time_steps=steps))

    def _check_exit(self, stop: Exit) -> None:
        kind = self.types[self.output]
        if kind.bits != RAW_BITS or kind.shape[1:] != (1, 1):
            raise NetworkError(
                f"exit: the last layer, {self.output!r}, must have logits: out_bits {RAW_BITS} "
                f"and one pixel, not out_bits {kind.bits} and {kind.shape[1]}x{kind.shape[2]}"
            )
        check_exit(stop, kind.shape[0])

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is allowed and hardly meant: neurons that never or always fire."""
        return tuple(
            text
            for layer in self.layers
            if isinstance(layer, Conv | Dense) and layer.neuron is not None
            for text in _neuron_warnings(layer, self.types, self.time_steps)
        )

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
    """What a layer reads and the names of the layers.

    "input", perhaps "skip" or "operand"; or "inputs[k]".
    """
    if isinstance(layer, Select):
        return {f"inputs[{k}]": name for k, name in enumerate(layer.inputs)}
    if isinstance(layer, Conv) and layer.skip is not None:
        return {"input": layer.input, "skip": layer.skip}
    if isinstance(layer, MatMul):
        return {"input": layer.input, "operand": layer.operand}
    return {"input": layer.input}


def neuron_of(layer: Layer) -> Neuron | None:
    """The neuron of a spiking layer."""
    return layer.neuron if isinstance(layer, Conv | Dense) else None


def memory_of(layer: str, neuron: Neuron) -> str:
    """The memory of a layer's membranes: layers of which it is the same share it.

    The names of layers and of membranes do not mix.
    """
    return f"layer {layer}" if neuron.membrane is None else f"membrane {neuron.membrane}"


def output_type(layer: Layer, types: Mapping[str, FeatureType], time_steps: int = 0) -> FeatureType:
    """Type of a layer's result, from those of what it reads, in a network of so many steps.

    Raises
    ------
    NetworkError
        The layer cannot read them.
    """
    sources = [types[name] for name in references(layer).values()]
    if isinstance(layer, Select | MatMul):
        kind = layer.output_type(*sources)
    else:
        kind = layer.output_type(types[layer.input])
    is_timed = neuron_of(layer) is not None or any(source.time_steps for source in sources)
    return replace(kind, time_steps=time_steps) if is_timed else kind


def check_features(kind: FeatureType, values: NDArray[Any]) -> Ints:
    """Images as int64, (N, C, H, W), those in time (N, time_steps, C, H, W).

    Parameters
    ----------
    kind : FeatureType
    values : (N, C, H, W) or (C, H, W) int
        Any integers; a single image gets N = 1. In time (N, time_steps, C, H, W) or one less.

    Raises
    ------
    NetworkError
        The array has another shape or no integers, or a value is out of range.
    """
    if values.dtype.kind not in "iu":
        raise NetworkError(f"activations must be integers, not {values.dtype}")
    shape = kind.array_shape
    n = len(shape)
    if values.shape[-n:] != shape or values.ndim not in {n, n + 1} or not values.size:
        wanted = ", ".join(map(str, shape))
        raise NetworkError(f"shape must be (N, {wanted}) or ({wanted}), not {values.shape}")
    images = values.reshape(-1, *shape)
    bad = (images < kind.low) | (images > kind.high)
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        axes = ("image", "step", "channel", "row", "column")
        names = axes if kind.time_steps else (axes[0], *axes[2:])
        place = ", ".join(f"{name} {k}" for name, k in zip(names, where, strict=True))
        raise NetworkError(f"{place} must be {kind.low}..{kind.high}, not {images[where]}")
    return images.astype(np.int64)


def _of(layer: Layer) -> str:
    return f"layer {layer.name!r}: "


def _take_numbers(layer: Conv | MaxPool | SumPool, name: str, n: int, low: int, high: int) -> None:
    """Check some numbers, or one that stands for all, and replace them by a tuple of int."""
    given: Any = getattr(layer, name)
    numbers = given if isinstance(given, tuple | list) else (given,) * n
    if len(numbers) != n or not all(_is_integer(x) and low <= x <= high for x in numbers):
        raise NetworkError(
            f"{_of(layer)}{name} must be {n} numbers {low}..{high}, or one for all, not {given!r}"
        )
    object.__setattr__(layer, name, tuple(int(x) for x in numbers))


def _window_size(layer: Conv | MaxPool | SumPool, source: FeatureType, dilation: Pair) -> Pair:
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
    layer: Conv | Dense | Lookup | LayerNorm | Tokens,
    name: str,
    shape: str,
    is_right: Callable[[tuple[int, ...]], bool],
    *,
    may_be_empty: bool = False,
) -> None:
    """Check dtype and shape of an array and replace it by one of int64 that stays as it is."""
    array: object = getattr(layer, name)
    if not isinstance(array, np.ndarray):
        raise NetworkError(f"{_of(layer)}{name} must be an array, not {type(array).__name__}")
    if array.dtype.kind not in "iu" or not np.can_cast(array.dtype, np.int64):
        raise NetworkError(f"{_of(layer)}{name} must be integers, not {array.dtype}")
    if not is_right(array.shape) or not (array.size or may_be_empty):
        raise NetworkError(f"{_of(layer)}{name} must have the shape {shape}, not {array.shape}")
    own = array if array.dtype == np.int64 and not array.flags.writeable else array.astype(np.int64)
    own.setflags(write=False)
    object.__setattr__(layer, name, own)


def _check_scale(layer: AvgPool | MatMul | Softmax) -> None:
    """One multiplier for all channels."""
    _check_integer(f"{_of(layer)}mult", layer.mult, 0, WIDE_MULT_MAX)
    _check_integer(f"{_of(layer)}shift", layer.shift, 1, SHIFT_MAX)
    _check_integer(f"{_of(layer)}post_shift", layer.post_shift, 0, POST_SHIFT_MAX)
    _check_integer(f"{_of(layer)}offset", layer.offset, -OFFSET_MAX, OFFSET_MAX)


def _check_results(
    layer: AvgPool | Lookup | MatMul | Softmax | LayerNorm, reason: str = ""
) -> None:
    """Type of results that are never accumulators."""
    _check_type(f"{_of(layer)}out_", layer.out_bits, layer.out_signed)
    if layer.out_bits == RAW_BITS:
        why = f" ({reason})" if reason else ""
        raise NetworkError(f"{_of(layer)}out_bits must be 1..{MAX_BITS}, not {RAW_BITS}{why}")


def _check_heads(layer: MatMul | Softmax, what: str, name: str, kind: FeatureType) -> None:
    if kind.shape[0] % layer.heads:
        raise NetworkError(
            f"{_of(layer)}heads must divide the {kind.shape[0]} channels of {what} {name!r}, "
            f"not be {layer.heads}"
        )


def _check_products(layer: Conv | Dense) -> None:
    """What convolutions and dense layers have in common."""
    _check_integer(f"{_of(layer)}weight_bits", layer.weight_bits, 2, MAX_BITS)
    half = 1 << (layer.weight_bits - 1)
    _check_values(layer, "weight", -half, half - 1)
    _check_type(f"{_of(layer)}out_", layer.out_bits, layer.out_signed)
    _check_channels(layer, "bias", -ACC_MAX - 1, ACC_MAX, len(layer.weight))
    if layer.neuron is not None:
        _check_spiking(layer)
        return
    _check_clamp(layer)
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
            _check_channels(layer, name, low, high, len(layer.weight))
        elif layer.out_bits != RAW_BITS and name != "post_shift":
            raise NetworkError(f"{_of(layer)}{name} must be given with out_bits {layer.out_bits}")


def _check_spiking(layer: Conv | Dense) -> None:
    """A layer with a neuron has spikes as results and nothing of a requantisation."""
    if (layer.out_bits, layer.out_signed) != (1, False):
        raise NetworkError(
            f"{_of(layer)}out_bits must be 1, and not signed, with a neuron, not {layer.out_bits}"
            f"{', signed' if layer.out_signed else ''}"
        )
    for name in ("mult", "shift", "post_shift", "low", "high"):
        if getattr(layer, name) is not None:
            raise NetworkError(
                f"{_of(layer)}{name} must be absent with a neuron (its charge is not requantised)"
            )
    _check_integer(f"{_of(layer)}offset (with a neuron)", layer.offset, 0, 0)
    neuron = checked_neuron(f"{_of(layer)}neuron", layer.neuron, len(layer.weight))
    object.__setattr__(layer, "neuron", neuron)


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


def _check_channels(
    layer: Conv | Dense | LayerNorm, name: str, low: int, high: int, n_channels: int
) -> None:
    """Check an array with one number per output channel."""
    shape = (n_channels,)
    _take_array(layer, name, f"{shape}, one per output channel", lambda given: given == shape)
    _check_values(layer, name, low, high)


def _check_values(
    layer: Conv | Dense | Lookup | LayerNorm | Tokens, name: str, low: int, high: int
) -> None:
    values = getattr(layer, name)
    outside = np.argwhere((values < low) | (values > high))
    if not len(outside):
        return
    where = tuple(outside[0])
    index = ", ".join(map(str, where))
    bits = layer.weight_bits if isinstance(layer, Conv | Dense) and name == "weight" else None
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


def _types(
    input_type: FeatureType, layers: tuple[Layer, ...], time_steps: int
) -> dict[str, FeatureType]:
    types = {INPUT: input_type}
    for layer in layers:
        kind = output_type(layer, types, time_steps)
        _check_sources(layer, types, is_last=layer is layers[-1])
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


def _check_sources(layer: Layer, types: Mapping[str, FeatureType], *, is_last: bool) -> None:
    """What the layer reads may change in time only if it is defined for that."""
    if isinstance(layer, SumPool) and is_last:
        raise NetworkError(f"{_of(layer)}must be read by another layer: counts are no output")
    if isinstance(layer, Tokens) and is_last:
        raise NetworkError(f"{_of(layer)}must be read by another layer: constants are no output")
    for what, name in references(layer).items():
        kind, place = types[name], f"{_of(layer)}{what}"
        if what == "skip" and neuron_of(layer) is not None and not kind.is_spikes:
            raise NetworkError(f"{place} must be spikes with a neuron, which {name!r} is not")
        if not kind.time_steps:
            continue
        if isinstance(layer, AvgPool | Lookup | MatMul | Softmax | LayerNorm | Tokens):
            raise NetworkError(
                f"{place} must not change in time, as {name!r} does: spikes are summed by a "
                "sumpool and fire again in a layer with a neuron"
            )
        if isinstance(layer, Conv | Dense):
            _check_source_in_time(layer, place, what, name)
        elif not kind.is_spikes:
            raise NetworkError(f"{place} must be spikes, not the counts of {name!r}")


def _check_source_in_time(layer: Conv | Dense, place: str, what: str, name: str) -> None:
    if layer.neuron is None and layer.out_bits != RAW_BITS:
        raise NetworkError(
            f"{place} must not change in time, as {name!r} does: a layer that reads spikes has a "
            f"neuron, or is the last one with out_bits {RAW_BITS}"
        )
    if what == "input" and isinstance(layer, Conv) and any(layer.padding) and layer.pad_value:
        raise NetworkError(f"{_of(layer)}pad_value must be 0 around spikes, not {layer.pad_value}")


def charge_ends(layer: Conv | Dense, source: FeatureType) -> tuple[Ints, Ints]:
    """The least and the largest that a step can add to the membranes of each channel, (Cout,)."""
    taps = layer.weight.reshape(len(layer.weight), -1)
    products = np.stack((taps * source.low, taps * source.high))
    skip = layer.skip_mult if isinstance(layer, Conv) else 0
    low = layer.bias + products.min(axis=0).sum(axis=1)
    high = layer.bias + products.max(axis=0).sum(axis=1) + skip
    return low, high


def _check_neurons(network: "QuantizedNetwork") -> None:
    """Charges have room, leaks leave something, shared membranes are alike, so are logits."""
    membranes: dict[str, Conv | Dense] = {}
    for layer in network.layers:
        if not isinstance(layer, Conv | Dense):
            continue
        source = network.types[layer.input]
        if layer.neuron is None:
            if source.time_steps:
                _check_logits(layer, source)
            continue
        _check_charge(layer, layer.neuron, source)
        _check_leak(layer, layer.neuron, source, network.time_steps)
        if layer.neuron.membrane is not None:
            other = membranes.setdefault(layer.neuron.membrane, layer)
            _check_alike(layer, other, network.types)


def _check_charge(layer: Conv | Dense, neuron: Neuron, source: FeatureType) -> None:
    sums = np.abs(layer.weight).reshape(len(layer.weight), -1).sum(axis=1) * source.magnitude
    skip = layer.skip_mult if isinstance(layer, Conv) else 0
    largest = neuron.limit + np.abs(layer.bias) + sums + skip
    if (largest > CHARGE_MAX).any():
        channel = int(np.argmax(largest > CHARGE_MAX))
        raise NetworkError(
            f"{_of(layer)}channel {channel}: |membrane| + |bias| + sum of |weight| * "
            f"{source.magnitude} + skip_mult must be at most {CHARGE_MAX}, "
            f"not {largest[channel]} (a charge has 22 bits)"
        )


def _check_leak(layer: Conv | Dense, neuron: Neuron, source: FeatureType, time_steps: int) -> None:
    rest = reach(neuron, *charge_ends(layer, source), time_steps).rest
    if neuron.leak and rest and not rest >> neuron.leak:
        raise NetworkError(
            f"{_of(layer)}neuron.leak must leave something of a membrane of at most {rest}: "
            f"at most {rest.bit_length() - 1}, not {neuron.leak}"
        )


def _check_alike(
    layer: Conv | Dense, other: Conv | Dense, types: Mapping[str, FeatureType]
) -> None:
    def memory(one: Conv | Dense) -> tuple[tuple[int, ...], int, list[int]]:
        assert one.neuron is not None
        channels, rows, columns = types[one.name].shape
        size = (channels // one.neuron.groups, rows, columns)
        initial = [] if one.neuron.initial is None else one.neuron.initial.tolist()
        return size, one.neuron.bits, initial if any(initial) else []

    for what, mine, its in zip(
        ("the shape", "the bits", "the initial membranes"),
        memory(layer),
        memory(other),
        strict=True,
    ):
        if mine != its:
            values = f", {its}, not {mine}" if what != "the initial membranes" else ""
            assert layer.neuron is not None
            raise NetworkError(
                f"{_of(layer)}membrane {layer.neuron.membrane!r} must have {what} that "
                f"{other.name!r} gives it{values}"
            )


def _check_logits(layer: Conv | Dense, source: FeatureType) -> None:
    sums = np.abs(layer.weight).reshape(len(layer.weight), -1).sum(axis=1)
    largest = (np.abs(layer.bias) + sums * source.magnitude) * source.time_steps
    if (largest > ACC_MAX).any():
        channel = int(np.argmax(largest > ACC_MAX))
        raise NetworkError(
            f"{_of(layer)}channel {channel}: (|bias| + sum of |weight| * {source.magnitude}) * "
            f"{source.time_steps} steps must be at most {ACC_MAX}, not {largest[channel]} "
            "(logits have 32 bits)"
        )


def _neuron_warnings(
    layer: Conv | Dense, types: Mapping[str, FeatureType], time_steps: int
) -> list[str]:
    assert layer.neuron is not None
    found = reach(layer.neuron, *charge_ends(layer, types[layer.input]), time_steps)
    texts = []
    for channels, what in (
        (~found.can_fire, "can never be reached"),
        (found.must_fire, "is always reached"),
    ):
        numbers = np.flatnonzero(channels)
        if len(numbers):
            others = f" (and of {len(numbers) - 1} more)" if len(numbers) > 1 else ""
            threshold = layer.neuron.threshold[numbers[0]]
            texts.append(
                f"{_of(layer)}threshold {threshold} of channel {numbers[0]}{others} {what}"
            )
    return texts


def _check_scales(network: QuantizedNetwork) -> None:
    for name, scale in network.scales.items():
        if name not in network.types:
            raise NetworkError(f"scales must be of {INPUT!r} or layers, but there is no {name!r}")
        if not math.isfinite(scale) or scale <= 0:
            raise NetworkError(f"scale of {name!r} must be a positive number, not {scale!r}")
