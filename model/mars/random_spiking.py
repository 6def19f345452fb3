"""Random spiking networks, for comparing the reference, the golden machine and the RTL.

They have every option in every order that is legal for the chip: images or spikes as input, layers
in front of the first neuron, 1 to 8 steps, groups of channels and, if asked for, layers with one
membrane, residuals, pools, logits with and without an exit. Most neurons fire now and then; some
thresholds are extreme.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from model.mars import spiking
from model.mars.network import (
    INPUT,
    MAX_BITS,
    RAW_BITS,
    Conv,
    Dense,
    FeatureType,
    Ints,
    Layer,
    MaxPool,
    QuantizedNetwork,
    Select,
    SumPool,
    charge_ends,
    neuron_of,
    output_type,
    references,
)
from model.mars.neuron import CHARGE_MAX, MEMBRANE_BITS, Exit, Metric, Mode, Neuron, reach
from model.mars.random_layers import (
    Limits,
    Window,
    chance,
    conv_window,
    input_type,
    n_channels,
    n_groups,
    pool_window,
    random_order,
    random_spikes,
    random_weight,
)
from model.mars.random_network import random_input, random_network
from model.mars.reference import convolve, run, run_layer, sum_pool

N_PROBES = 2
STEPS = 8
"""Most time steps."""
GROUPS = (2, 4)
"""Groups of channels that share a membrane."""
INITIAL_MAX = 511
EARLY = {"conv": 0.6, "maxpool": 0.12, "sumpool": 0.1, "select": 0.12, "dense": 0.06}
LATE = {"conv": 0.45, "maxpool": 0.12, "sumpool": 0.12, "select": 0.08, "dense": 0.23}


def random_spiking_network(
    seed: int,
    *,
    max_channels: int = 40,
    max_size: int = 12,
    max_layers: int = 7,
    max_sets: int = 64,
    share_layers: bool = False,
) -> QuantizedNetwork:
    """A random spiking network; equal arguments give equal networks.

    Parameters
    ----------
    seed : int
        Not negative; the network's name has it.
    max_channels, max_size, max_layers : int
        Most channels of a map, its most rows and columns, most layers but for those in front of
        the first neuron.
    max_sets : int
        Most group-sets that a block of kernels may keep.
    share_layers : bool
        Some layers use the membrane of another one.
    """
    limits = Limits(max_channels, max_size, max_sets, wide=False)
    rng = np.random.default_rng((seed, 12))
    builder = _Builder(rng, limits, _start(rng, seed, limits), share_layers=share_layers)
    n_layers = int(rng.integers(1, max_layers + 1))
    for k in range(n_layers):
        builder.add(is_late=k >= n_layers - 2)
    builder.end()
    return builder.network(f"random_spiking_{seed}")


@dataclass(frozen=True)
class _Start:
    """What there is before the first neuron: layers without time, types, values of probes."""

    time_steps: int
    coding: str
    kind: FeatureType
    layers: tuple[Layer, ...]
    types: dict[str, FeatureType]
    values: dict[str, Ints]


def _start(rng: np.random.Generator, seed: int, limits: Limits) -> _Start:
    steps = int(rng.integers(1, STEPS + 1))
    if chance(rng, 0.5):
        kind = FeatureType(input_type(rng, limits).shape, 1, signed=False, time_steps=steps)
        return _Start(
            steps, "spikes", kind, (), {INPUT: kind}, {INPUT: random_spikes(rng, kind, 2)}
        )
    if chance(rng, 0.3):
        net = random_network(
            seed,
            max_channels=limits.channels,
            max_size=limits.size,
            max_layers=2,
            max_sets=limits.sets,
        )
        if net.types[net.output].bits != RAW_BITS:
            probes = random_input(net, seed, N_PROBES)
            values = {INPUT: probes, **run(net, probes)}
            return _Start(steps, "direct", net.input_type, net.layers, dict(net.types), values)
    kind = input_type(rng, limits)
    image = rng.integers(kind.low, kind.high + 1, (N_PROBES, *kind.shape))
    return _Start(steps, "direct", kind, (), {INPUT: kind}, {INPUT: image})


class _Builder:
    """A network that grows by a layer at a time behind what it starts from."""

    def __init__(
        self, rng: np.random.Generator, limits: Limits, start: _Start, *, share_layers: bool
    ) -> None:
        self._rng = rng
        self._limits = limits
        self._start = start
        self._types = dict(start.types)
        self._values = dict(start.values)
        self._layers = list(start.layers)
        self._shared: list[tuple[tuple[int, ...], Neuron]] = []
        self._share_layers = share_layers
        self._exit: Exit | None = None
        self._n = 0

    def network(self, name: str) -> QuantizedNetwork:
        """The layers on which the last one depends."""
        needed = {self._layers[-1].name}
        for layer in reversed(self._layers):
            if layer.name in needed:
                needed.update(references(layer).values())
        return QuantizedNetwork(
            self._start.kind,
            tuple(layer for layer in self._layers if layer.name in needed),
            name,
            time_steps=self._start.time_steps,
            coding="spikes" if self._start.coding == "spikes" else "direct",
            exit=self._exit,
        )

    def add(self, *, is_late: bool) -> None:
        """Append a layer of any kind that fits what it reads."""
        rng = self._rng
        spikes = [name for name, kind in self._types.items() if kind.is_spikes]
        has_neuron = any(neuron_of(layer) for layer in self._layers)
        if not has_neuron:
            source = next(reversed(self._types))
            return self._add_neurons("dense" if chance(rng, 0.1) else "conv", source)
        source = spikes[-1] if chance(rng, 0.75) else str(rng.choice(spikes))
        chances = LATE if is_late else EARLY
        kind = str(rng.choice(list(chances), p=np.array(list(chances.values()))))
        if kind == "maxpool":
            return self._append(self._max_pool(source))
        if kind == "select":
            return self._append(self._select(source))
        if kind == "sumpool":
            pool = self._sum_pool(source)
            if pool is not None:
                self._append(pool)
                whole = pool.output_type(self._types[source]).shape[1:] == (1, 1)
                reader = "dense" if whole and chance(rng, 0.7) else "conv"
                return self._add_neurons(reader, pool.name)
            kind = "conv"
        return self._add_neurons(kind, source)

    def _max_pool(self, source: str) -> MaxPool:
        window = pool_window(self._rng, self._types[source], self._limits)
        return MaxPool(
            name=self._name("maxpool"),
            input=source,
            kernel=window.kernel,
            stride=window.stride,
            padding=window.padding,
        )

    def end(self) -> None:
        """Mostly logits, often with an exit."""
        rng = self._rng
        source = next(name for name in reversed(self._types) if self._types[name].is_spikes)
        if not self._depends_on_neurons(source):
            self._add_neurons("conv", source)
            source = self._layers[-1].name
        if not chance(rng, 0.7):
            return
        if chance(rng, 0.3):
            pool = self._sum_pool(source, whole=chance(rng, 0.7))
            if pool is not None:
                self._append(pool)
                source = pool.name
        kind = self._types[source]
        fits = self._fits_dense(source)
        layer = self._products("dense" if fits and chance(rng, 0.8) else "conv", source)
        logits = replace(layer, out_bits=RAW_BITS, out_signed=True)
        self._append(logits)
        kind = self._types[logits.name]
        if kind.shape[1:] == (1, 1) and kind.shape[0] > 1 and chance(rng, 0.6):
            self._exit = self._random_exit(self._values[logits.name][:, -1])

    def _depends_on_neurons(self, name: str) -> bool:
        needed = {name}
        for layer in reversed(self._layers):
            if layer.name in needed:
                needed.update(references(layer).values())
        return any(neuron_of(layer) for layer in self._layers if layer.name in needed)

    def _random_exit(self, logits: Ints) -> Exit:
        rng = self._rng
        metrics: tuple[Metric, ...] = ("confidence", "entropy")
        modes: tuple[Mode, ...] = ("sum", "mean")
        return Exit(
            metric=metrics[int(rng.integers(2))],
            mode=modes[int(rng.integers(2))],
            threshold=float(rng.choice((0.3, 0.5, 0.7, 0.9))),
            scale=float(rng.uniform(1, 8) / (np.std(logits) + 1)),
        )

    def _name(self, kind: str) -> str:
        self._n += 1
        return f"{kind}_{self._n}"

    def _append(self, layer: Layer) -> None:
        self._layers.append(layer)
        self._types[layer.name] = output_type(layer, self._types, self._start.time_steps)
        self._values[layer.name] = self._compute(layer)

    def _compute(self, layer: Layer) -> Ints:
        """Results of the probes; layers that share a membrane as if each had its own."""
        if isinstance(layer, Conv | Dense):
            charge = self._charge(layer)
            if layer.neuron is None:
                return np.asarray(charge.cumsum(axis=1))
            if isinstance(layer, Conv) and layer.skip is not None:
                charge = charge + self._values[layer.skip] * layer.skip_mult
            return _fire(layer.neuron, charge)
        values = {name: self._flat(name) for name in references(layer).values()}
        if isinstance(layer, SumPool):
            result = sum_pool(values[layer.input], layer.kernel, layer.steps)
        else:
            result = run_layer(layer, self._types, values)
        by_step = result.reshape(N_PROBES, self._start.time_steps, *result.shape[1:])
        return np.asarray(by_step)

    def _flat(self, name: str) -> Ints:
        """Values of the probes, their steps one after the other."""
        return self._values[name].reshape(-1, *self._types[name].shape)

    def _charge(self, layer: Conv | Dense) -> Ints:
        """Accumulators of the probes in time, (N, steps, C, H, W), the bias included."""
        source = self._flat(layer.input)
        if isinstance(layer, Dense):
            acc = convolve(source.reshape(len(source), -1, 1, 1), layer.weight[..., None, None])
        else:
            acc = convolve(
                source,
                layer.weight,
                layer.stride,
                layer.padding,
                pad_value=layer.pad_value,
                dilation=layer.dilation,
                groups=layer.groups,
            )
        acc = acc + layer.bias[:, np.newaxis, np.newaxis]
        acc = acc.reshape(N_PROBES, -1, *acc.shape[1:])
        return np.repeat(acc, self._start.time_steps // acc.shape[1], axis=1)

    # Layers

    def _add_neurons(self, kind: str, source: str) -> None:
        if kind == "dense" and not self._fits_dense(source):
            kind = "conv"
        layer = self._products(kind, source)
        shape = output_type(layer, self._types).shape
        residual = self._residual(shape) if isinstance(layer, Conv) else {}
        neuron = self._neuron(self._charge(layer), shape)
        fires = replace(layer, out_bits=1, out_signed=False, neuron=neuron, **residual)
        self._append(replace(fires, neuron=self._leaking(fires, neuron)))

    def _fits_dense(self, source: str) -> bool:
        kind = self._types[source]
        n_pixels = kind.shape[1] * kind.shape[2] * self._pool_pixels(source)
        return self._limits.fits(kind.shape[0], n_pixels)

    def _pool_pixels(self, source: str) -> int:
        """Pixels that a sum pool, which is folded into its reader, makes of one."""
        for layer in self._layers:
            if layer.name == source and isinstance(layer, SumPool):
                return layer.kernel[0] * layer.kernel[1]
        return 1

    def _products(self, op: str, source: str) -> Conv | Dense:
        """A convolution or dense layer that gives logits."""
        rng, kind = self._rng, self._types[source]
        weight_bits = int(rng.integers(2, MAX_BITS + 1))
        n_pixels = self._pool_pixels(source)
        if n_pixels > 1:
            weight_bits = min(weight_bits, 3)  # of windows that overlap they are added
        fields: dict[str, Any] = {"weight_bits": weight_bits, "out_bits": 32, "out_signed": True}
        name = self._name(op)
        if op == "dense":
            n_kernels = self._n_kernels(1)
            pixels = kind.shape[1] * kind.shape[2]
            weight = self._weight((n_kernels, kind.shape[0], pixels), kind, weight_bits)
            bias = np.zeros(n_kernels, np.int64)
            layer: Conv | Dense = Dense(
                name=name, input=source, weight=weight.reshape(n_kernels, -1), bias=bias, **fields
            )
        else:
            groups = n_groups(rng, kind.shape[0])
            window = Window() if n_pixels > 1 else self._window(kind)
            pad_value = 0
            if not kind.time_steps and chance(rng, 0.3):
                pad_value = int(rng.integers(kind.low, kind.high + 1))
            n_kernels = self._n_kernels(groups, window.sizes(kind))
            n_taps = window.kernel[0] * window.kernel[1]
            weight = self._weight((n_kernels, kind.shape[0] // groups, n_taps), kind, weight_bits)
            layer = Conv(
                name=name,
                input=source,
                weight=weight.reshape(n_kernels, -1, *window.kernel),
                bias=np.zeros(n_kernels, np.int64),
                stride=window.stride,
                padding=window.padding,
                pad_value=pad_value,
                dilation=window.dilation,
                groups=groups,
                **fields,
            )
        charge = self._charge(layer)
        spread = charge.std(axis=(0, 1, 3, 4)) + 1
        bias = np.rint(rng.normal(0, 0.4, len(spread)) * spread).astype(np.int64)
        return replace(layer, bias=bias if chance(rng, 0.7) else np.zeros_like(bias))

    def _window(self, kind: FeatureType) -> Window:
        """Often one that keeps the size, if layers are to share membranes."""
        if self._share_layers and chance(self._rng, 0.7):
            has_room = self._limits.fits(kind.shape[0], 9)
            return Window((3, 3), padding=(1,) * 4) if has_room else Window()
        return conv_window(self._rng, kind, self._limits)

    def _n_kernels(self, groups: int, size: tuple[int, ...] = (0, 0)) -> int:
        """Any number, often that of a map of the size, which may be a residual then."""
        rng = self._rng
        alike = [
            kind.shape[0]
            for kind in self._types.values()
            if kind.is_spikes and kind.shape[1:] == size and kind.shape[0] % groups == 0
        ]
        if alike and chance(rng, 0.8 if self._share_layers else 0.5):
            return int(rng.choice(alike))
        if groups > 1:
            return groups * int(rng.integers(1, self._limits.channels // groups + 1))
        n = n_channels(rng, self._limits)
        return min(-(-n // 4) * 4, self._limits.channels) if chance(rng, 0.4) else n

    def _weight(self, shape: tuple[int, int, int], kind: FeatureType, bits: int) -> Ints:
        """Weights whose charges have room."""
        weight = random_weight(self._rng, shape, bits)
        while (np.abs(weight).reshape(shape[0], -1).sum(axis=1) * kind.magnitude).max() > (
            CHARGE_MAX // 2
        ):
            weight = np.sign(weight) * (np.abs(weight) // 2)
        return weight

    def _residual(self, shape: tuple[int, int, int]) -> dict[str, Any]:
        rng = self._rng
        names = [
            name for name, kind in self._types.items() if kind.is_spikes and kind.shape == shape
        ]
        if not names or not chance(rng, 0.6):
            return {}
        wild = chance(rng, 0.1)
        mult = int(rng.integers(0, 65536) if wild else rng.integers(1, 40))
        return {"skip": str(rng.choice(names)), "skip_mult": mult}

    def _neuron(self, charge: Ints, shape: tuple[int, int, int]) -> Neuron:
        """Neurons that fire now and then."""
        rng, channels = self._rng, shape[0]
        groups = [n for n in GROUPS if channels % n == 0]
        n = int(rng.choice(groups)) if groups and chance(rng, 0.3) else 1
        memory = (channels // n, *shape[1:])
        spread = np.sqrt((charge.astype(np.float64) ** 2).mean(axis=(0, 1, 3, 4))) + 0.5
        threshold = np.maximum(np.rint(spread * rng.uniform(0.4, 2.0, channels)), 1)
        wild = rng.random(channels) < rng.choice((0.0, 0.1), p=(0.7, 0.3))
        extreme = rng.choice((0, -1, 1, CHARGE_MAX, -CHARGE_MAX - 1, -5), channels)
        threshold = np.where(wild, extreme, threshold).astype(np.int64)
        bits = self._bits(float(threshold.max()))
        one = Neuron(
            bits=bits,
            threshold=threshold,
            reset="hard" if chance(rng, 0.5) else "soft",
            groups=n,
            initial=self._initial(memory[0], bits) if chance(rng, 0.3) else None,
        )
        return self._share(one, memory)

    def _leaking(self, layer: Conv | Dense, one: Neuron) -> Neuron:
        """With a leak that leaves something."""
        ends = charge_ends(layer, self._types[layer.input])
        leak = int(self._rng.integers(0, 4)) if chance(self._rng, 0.7) else 0
        while leak:
            leaking = replace(one, leak=leak)
            if reach(leaking, *ends, self._start.time_steps).rest >> leak:
                return leaking
            leak -= 1
        return one

    def _share(self, one: Neuron, memory: tuple[int, ...]) -> Neuron:
        """With the membrane of another layer, perhaps."""
        if not self._share_layers or not chance(self._rng, 0.7):
            return one
        alike = [other for shape, other in self._shared if shape == memory]
        if alike and chance(self._rng, 0.85):
            other = alike[int(self._rng.integers(len(alike)))]
            return replace(one, membrane=other.membrane, bits=other.bits, initial=other.initial)
        one = replace(one, membrane=f"membrane {len(self._shared)}")
        self._shared.append((memory, one))
        return one

    def _bits(self, threshold: float) -> int:
        """Membranes that reach the threshold, or of any size."""
        low, high = MEMBRANE_BITS
        if chance(self._rng, 0.3):
            return int(self._rng.integers(low, high + 1))
        return int(np.clip(int(threshold).bit_length() + self._rng.integers(0, 3), low, high))

    def _initial(self, n: int, bits: int) -> Ints:
        limit = min((1 << (bits - 1)) - 1, INITIAL_MAX)
        values = self._rng.integers(-limit, limit + 1, n)
        places = int(self._rng.integers(0, max(1, bits - 10) + 1)) if bits > 10 else 0
        return np.asarray(values << places if places and bits > 10 else values, np.int64)

    def _sum_pool(self, source: str, *, whole: bool = False) -> SumPool | None:
        """Windows that a reader can be folded with, or all of the map."""
        rng, kind = self._rng, self._types[source]
        rows, columns = kind.shape[1:]
        name = self._name("sumpool")
        height, width = (int(rng.integers(1, min(4, side) + 1)) for side in (rows, columns))
        stride = (int(rng.integers(1, height + 2)), int(rng.integers(1, width + 2)))
        if whole or chance(rng, 0.3):
            height, width = rows, columns
            stride = (rows, columns)
        pixels = height * width
        if not 1 < pixels < 1 << MAX_BITS or not self._limits.fits(kind.shape[0], pixels):
            return None
        return SumPool(name=name, input=source, kernel=(height, width), stride=stride)

    def _select(self, source: str) -> Select:
        """Maps of spikes one behind the other, a part of them, or all in another order."""
        rng, kind = self._rng, self._types[source]
        alike = [
            name
            for name, its in self._types.items()
            if its.is_spikes and its.shape[1:] == kind.shape[1:]
        ]
        inputs = [source, *(str(rng.choice(alike)) for _ in range(int(rng.integers(0, 3))))]
        inputs = [inputs[k] for k in rng.permutation(len(inputs))]
        order = random_order(rng, sum(self._types[part].shape[0] for part in inputs))
        channels = order[: self._limits.channels].tolist()
        return Select(name=self._name("select"), inputs=tuple(inputs), channels=tuple(channels))


def _fire(neuron: Neuron, charge: Ints) -> Ints:
    """Spikes (N, steps, C, H, W) of charges."""
    membranes = spiking.initial_membranes(neuron, len(charge), charge.shape[2:])
    spikes = []
    for now in range(charge.shape[1]):
        fired, membranes = spiking.step(neuron, membranes, charge[:, now])
        spikes.append(fired)
    return np.stack(spikes, axis=1)
