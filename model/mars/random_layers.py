"""What random networks are made of: types, windows, weights, scales, tables, images."""

from dataclasses import dataclass

import numpy as np

from model.mars.config import WORD_LINES
from model.mars.group_sets import choose_sets, clear_sets
from model.mars.network import (
    ACC_MAX,
    DILATION_MAX,
    MAX_BITS,
    MULT_MAX,
    OFFSET_MAX,
    POST_SHIFT_MAX,
    SHIFT_MAX,
    STRIDE_MAX,
    WIDE_MULT_MAX,
    FeatureType,
    Ints,
    Pair,
    Sides,
)

SPARSITIES = (0.0, 0.0, 0.25, 0.5, 0.75, 0.9, 0.95)
EDGES = (1, 2, 3, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 40)
"""Numbers of channels around the ends of blocks."""
MIN_MULT = 16
"""Of a multiplier that is to set a scale to a few percent."""
KERNELS = (1, 1, 2, 3, 3, 3, 5)
LARGEST_KERNEL = 11
STRIDES = (1, 1, 1, 2, 2, 3, 4)
LARGEST_PADDING = 10
N_TRIES = 20
"""After so many windows that do not fit a map it is 1x1."""

Scales = tuple[Ints, Ints, Ints]
"""Multipliers, shifts, second shifts."""


@dataclass(frozen=True)
class Limits:
    """What the caller of `random_network` allows."""

    channels: int
    size: int
    sets: int
    wide: bool

    def fits(self, n_channels: int, n_taps: int) -> bool:
        """Whether a block of kernels has no more group-sets than allowed."""
        return n_taps <= self.taps(n_channels)

    def taps(self, n_channels: int) -> int:
        """Most taps of a kernel, whatever the groups."""
        return self.sets // -(-n_channels // WORD_LINES)


@dataclass(frozen=True)
class Window:
    """Geometry of a convolution or pool."""

    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Sides = (0, 0, 0, 0)
    dilation: Pair = (1, 1)

    def sizes(self, kind: FeatureType) -> Pair:
        """Rows and columns of the result for a map; less than 1 where the window is too large."""
        rows, columns = (
            (
                kind.shape[k + 1]
                + self.padding[k]
                + self.padding[k + 2]
                - (self.kernel[k] - 1) * self.dilation[k]
                - 1
            )
            // self.stride[k]
            + 1
            for k in range(2)
        )
        return rows, columns


def chance(rng: np.random.Generator, probability: float) -> bool:
    """True so often."""
    return bool(rng.random() < probability)


def input_type(rng: np.random.Generator, limits: Limits) -> FeatureType:
    """Type of a network's input, often not too small and often square."""
    rows, columns = (int(side) for side in rng.integers(1, limits.size + 1, 2))
    if chance(rng, 0.6):
        rows = max(rows, min(limits.size, 5))
        columns = max(columns, min(limits.size, 5))
    if chance(rng, 0.4):
        columns = rows
    bits, signed = out_type(rng)
    return FeatureType((n_channels(rng, limits), rows, columns), bits, signed)


def n_channels(rng: np.random.Generator, limits: Limits) -> int:
    """Often a number next to the end of a block."""
    if chance(rng, 0.6):
        return int(rng.choice([n for n in EDGES if n <= limits.channels]))
    return int(rng.integers(1, limits.channels + 1))


def n_groups(rng: np.random.Generator, channels: int) -> int:
    """Often one; else a divisor of the channels, all of them in half of the cases."""
    if channels == 1 or not chance(rng, 0.3):
        return 1
    if chance(rng, 0.5):
        return channels
    return int(rng.choice([n for n in range(2, channels + 1) if channels % n == 0]))


def out_type(rng: np.random.Generator) -> tuple[int, bool]:
    """Bits, often a whole nibble or byte, and whether signed."""
    bits = int(rng.choice((4, 8))) if chance(rng, 0.4) else int(rng.integers(1, MAX_BITS + 1))
    return bits, bits > 1 and chance(rng, 0.35)


def conv_window(rng: np.random.Generator, kind: FeatureType, limits: Limits) -> Window:
    """A window that fits a map, in half of the cases one of those of the usual networks."""
    most_taps = limits.taps(kind.shape[0])
    if chance(rng, 0.5):
        for _ in range(N_TRIES):
            window = _any_window(rng)
            if _fits(window, kind, limits) and window.kernel[0] * window.kernel[1] <= most_taps:
                return window
    stride = int(rng.choice((1, 2), p=(0.7, 0.3)))
    if most_taps < 9 or chance(rng, 0.3):
        return Window((1, 1), (stride, stride))
    padding = 0 if min(kind.shape[1:]) >= 3 and chance(rng, 0.35) else 1
    return Window((3, 3), (stride, stride), (padding,) * 4)


def pool_window(rng: np.random.Generator, kind: FeatureType, limits: Limits) -> Window:
    """A window of a pool that fits a map: 2x2, the whole map, or anything."""
    rows, columns = kind.shape[1:]
    if min(rows, columns) >= 2 and chance(rng, 0.45):
        return Window((2, 2), (2, 2))
    if chance(rng, 0.15):
        return Window((rows, columns))
    for _ in range(N_TRIES):
        window = _any_window(rng)
        top, left, bottom, right = (
            min(side, size - 1)
            for side, size in zip(window.padding, window.kernel * 2, strict=True)
        )
        pool = Window(window.kernel, window.stride, (top, left, bottom, right))
        if _fits(pool, kind, limits):
            return pool
    return Window()


def _fits(window: Window, kind: FeatureType, limits: Limits) -> bool:
    sizes = window.sizes(kind)
    return min(sizes) >= 1 and max(sizes) <= limits.size


def _any_window(rng: np.random.Generator) -> Window:
    def pair(choices: tuple[int, ...], largest: int, share: float) -> Pair:
        """Two of some numbers, or sometimes of all up to the largest."""
        one, other = (
            int(rng.integers(1, largest + 1) if chance(rng, share) else rng.choice(choices))
            for _ in range(2)
        )
        return one, other

    kernel = pair(KERNELS, LARGEST_KERNEL, 0.5)
    if chance(rng, 0.15):
        kernel = (kernel[0], 1) if chance(rng, 0.5) else (1, kernel[1])
    top, left, bottom, right = (
        int(side) for side in rng.integers(0, LARGEST_PADDING + 1, 4) * (rng.random(4) < 0.5)
    )
    return Window(
        kernel,
        pair(STRIDES, STRIDE_MAX, 0.15),
        (top, left, bottom, right),
        pair((1, 1, 2), DILATION_MAX, 0.3),
    )


def random_weight(rng: np.random.Generator, shape: tuple[int, int, int], bits: int) -> Ints:
    """Weights (Cout, Cin, taps): anything, small, the ends or one sign, with cleared sets."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    style = rng.choice(("any", "small", "ends", "positive"), p=(0.5, 0.3, 0.1, 0.1))
    if style == "any":
        weight = rng.integers(low, high + 1, shape)
    elif style == "small":
        weight = np.clip(np.rint(rng.normal(0, max(1, high / 4), shape)), low, high)
    elif style == "ends":
        weight = rng.choice((low, high), shape)
    else:
        weight = rng.integers(0, high + 1, shape)
    weight = np.asarray(weight, np.int64)
    if chance(rng, 0.2):
        weight[rng.random(shape) < 0.9] = 0  # sets are stored for a few weights
    cleared = choose_sets(rng, weight, bits, float(rng.choice(SPARSITIES)))
    if chance(rng, 0.1):
        cleared[rng.integers(len(cleared))] = True  # kernels that have nothing but a bias
    return clear_sets(weight, bits, cleared)


def random_bias(rng: np.random.Generator, acc: Ints, largest: Ints) -> Ints:
    """Biases (Cout,) about which accumulators of probes, (Cout, ...), are spread.

    Parameters
    ----------
    rng : numpy.random.Generator
    acc : (Cout, ...) int
    largest : (Cout,) int
        What the accumulators can be at most, whatever the activations.
    """
    n = len(acc)
    bias = np.rint(rng.normal(0, 1, n) * (acc.std(axis=1) + 1) - acc.mean(axis=1)).astype(np.int64)
    if chance(rng, 0.2):
        bias[:] = 0
    room = ACC_MAX - largest
    wild = rng.random(n) < rng.choice((0.0, 0.1), p=(0.7, 0.3))
    bias = np.where(wild, rng.choice((-1, 1), n) * (room - rng.integers(0, 2, n)), bias)
    return np.asarray(np.clip(bias, -room, room))


def random_scale(rng: np.random.Generator, high: int, acc: Ints, *, wide: bool) -> Scales:
    """Multipliers and shifts (n,) for accumulators (n, ...), some of them extreme.

    The others spread the accumulators over a range up to `high`.
    """
    n = len(acc)
    wild = rng.random(n) < rng.choice((0.0, 0.1, 1.0), p=(0.65, 0.28, 0.07))
    extreme, usual = _extreme_scale(rng, n, wide=wide), _usual_scale(rng, high, acc, wide=wide)
    mult, shift, post_shift = (np.where(wild, e, u) for e, u in zip(extreme, usual, strict=True))
    return mult, shift, post_shift


def _usual_scale(rng: np.random.Generator, high: int, acc: Ints, *, wide: bool) -> Scales:
    mult_max, shift_max = _ends(wide=wide)
    spread = np.sqrt((acc.astype(np.float64) ** 2).mean(axis=1)) + 0.5
    scale = np.minimum(high, 1 << MAX_BITS) / (spread * rng.uniform(0.7, 2.5, len(acc)))
    most = np.clip(np.floor(np.log2(mult_max / scale)), 1, shift_max)
    least = np.clip(np.ceil(np.log2(MIN_MULT / scale)), 1, most)
    total = rng.integers(least.astype(np.int64), most.astype(np.int64) + 1)
    mult = np.clip(np.rint(scale * 2.0**total), 0, mult_max).astype(np.int64)
    if not wide:
        return mult, total, np.zeros_like(total)
    fewest, largest = np.maximum(total - SHIFT_MAX, 0), np.minimum(total - 1, POST_SHIFT_MAX)
    post_shift = rng.integers(fewest, largest + 1)
    return mult, total - post_shift, post_shift


def _extreme_scale(rng: np.random.Generator, n: int, *, wide: bool) -> Scales:
    """Anything and often the ends of the ranges."""
    mult_max, _ = _ends(wide=wide)
    mult = np.where(
        rng.random(n) < 0.5, rng.choice((0, 1, mult_max), n), rng.integers(0, mult_max + 1, n)
    )
    shift = np.where(
        rng.random(n) < 0.5, rng.choice((1, 2, SHIFT_MAX), n), rng.integers(1, SHIFT_MAX + 1, n)
    )
    post_shift = rng.choice((0, 1, 2, POST_SHIFT_MAX), n) if wide else np.zeros(n, np.int64)
    return mult, shift, post_shift


def _ends(*, wide: bool) -> tuple[int, int]:
    """Largest multiplier, and shifts together."""
    return (WIDE_MULT_MAX, SHIFT_MAX + POST_SHIFT_MAX) if wide else (MULT_MAX, SHIFT_MAX)


def random_offset(rng: np.random.Generator, kind: FeatureType) -> int:
    """Often none, else within a quarter of the type; sometimes anything."""
    if not chance(rng, 0.3):
        return 0
    if chance(rng, 0.1):
        return _any_offset(rng)
    quarter = -(-(kind.high - kind.low) // 4)
    return int(rng.integers(-quarter, quarter + 1))


def _any_offset(rng: np.random.Generator) -> int:
    ends = (-OFFSET_MAX, OFFSET_MAX)
    return int(rng.choice((*ends, int(rng.integers(ends[0], ends[1] + 1)))))


def random_skip_mult(rng: np.random.Generator, places: int, *, wide: bool) -> int:
    """The factor of a residual: about 1 after so many places of shifts, or anything."""
    mult_max, _ = _ends(wide=wide)
    if chance(rng, 0.2):
        return int(rng.choice((0, 1, mult_max, int(rng.integers(mult_max + 1)))))
    return int(min(mult_max, (1 << places) * rng.uniform(0.25, 1.5)))


def random_skip_zero(rng: np.random.Generator, skip: FeatureType) -> int:
    """Often none, else a value of the residual's type or anything."""
    if not chance(rng, 0.4):
        return 0
    return _any_offset(rng) if chance(rng, 0.3) else int(rng.integers(skip.low, skip.high + 1))


def random_table(rng: np.random.Generator, n_values: int, kind: FeatureType) -> Ints:
    """A table of results: anything, a staircase, or an activation function over its range."""
    style = rng.choice(("any", "stairs", "leaky", "hard-swish", "sigmoid"))
    if style in ("any", "stairs"):
        table = rng.integers(kind.low, kind.high + 1, n_values)
        return np.sort(table) if style == "stairs" else table
    x = np.linspace(-4, 4, n_values)
    if style == "leaky":
        y = np.where(x < 0, 0.1 * x, x)
    else:
        y = x * np.clip(x + 3, 0, 6) / 6 if style == "hard-swish" else 1 / (1 + np.exp(-x))
    share = (y - y.min()) / np.ptp(y)
    return np.asarray(np.rint(kind.low + share * (kind.high - kind.low)), np.int64)


def random_order(rng: np.random.Generator, n: int) -> Ints:
    """Which of `n` channels come in which order: all, shuffled, interleaved, some, some twice."""
    style = rng.choice(("all", "shuffled", "groups", "twice"), p=(0.4, 0.3, 0.2, 0.1))
    order = np.arange(n)
    if style == "shuffled":
        order = rng.permutation(n)
    elif style == "groups":
        groups = int(rng.choice([d for d in range(1, n + 1) if n % d == 0]))
        order = order.reshape(groups, -1).T.reshape(-1)
    elif style == "twice":
        order = rng.integers(0, n, n)
    if chance(rng, 0.35):
        first, end = sorted(int(x) for x in rng.choice(n + 1, 2, replace=False))
        order = order[first:end]
    return order


def random_image(rng: np.random.Generator, kind: FeatureType, *, noise: bool = False) -> Ints:
    """One image, (C, H, W)."""
    style = (
        "noise"
        if noise
        else rng.choice(("noise", "ends", "few", "equal"), p=(0.7, 0.15, 0.1, 0.05))
    )
    if style == "ends":
        return rng.choice(np.array((kind.low, kind.high)), kind.shape)
    if style == "equal":
        return np.full(kind.shape, rng.choice((kind.low, kind.high)))
    image = rng.integers(kind.low, kind.high + 1, kind.shape)
    if style == "few":
        image[rng.random(kind.shape) < 0.9] = 0
    return image


def random_spikes(rng: np.random.Generator, kind: FeatureType, n_images: int) -> Ints:
    """Spikes (n_images, time_steps, C, H, W) of any density, sometimes of clustered channels."""
    shape = (n_images, *kind.array_shape)
    density = rng.choice((0.05, 0.15, 0.3, 0.5, 1.0), p=(0.1, 0.3, 0.3, 0.25, 0.05))
    spikes: Ints = (rng.random(shape) < density).astype(np.int64)
    if chance(rng, 0.3):
        spikes &= rng.random((n_images, 1, kind.shape[0], 1, 1)) < 0.5
    return spikes
