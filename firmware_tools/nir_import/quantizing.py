"""Spiking layers in real units as layers in integers, with a scale for each output channel."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from firmware_tools.nir_import.graph import NirError, Node
from firmware_tools.nir_import.lowering import Neurons, Stage
from firmware_tools.nir_import.values import Charge, Reals
from model.mars.network import (
    RAW_BITS,
    Conv,
    Dense,
    FeatureType,
    Ints,
    Layer,
    SumPool,
    charge_ends,
)
from model.mars.neuron import CHARGE_MAX, LEAK_MAX, MEMBRANE_BITS, Neuron, reach

SAME = 1e-6
"""Factors that differ by less are one: NIR files hold float32."""
HAIR, EQUAL = 1e-7, 1e-9
"""How much a threshold is below whole steps, not to be equal to them; what is equal."""
N_CANDIDATES = 32
"""How many scales are tried, up to half as large again as the finest."""
ON_GRID = 1e-3
"""Numbers so near to whole steps are whole."""
INITIAL_MAX = 511
"""Initial membranes of the hardware, times a power of two."""
LIMIT_MAX = (1 << (MEMBRANE_BITS[1] - 1)) - 1


@dataclass(frozen=True)
class Quantized:
    """A layer in integers.

    Parameters
    ----------
    layer : Layer
    scale : (Cout,) float64
        Real value of one step of weights and membranes, in units of the graph; of a pool 1.
    notes : tuple of str
    """

    layer: Layer
    scale: Reals
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What all layers share.

    Parameters
    ----------
    bits : int or None
        Of weights; None is what a node's metadata says, or 8.
    time_steps : int
    nearest_leak : bool
        Leaks that are no power of two are replaced by the nearest one.
    """

    bits: int | None
    time_steps: int
    nearest_leak: bool


def quantized(
    name: str, stage: Stage, types: Mapping[str, FeatureType], settings: Settings, coarser: int
) -> Quantized:
    """A layer with the finest scale that its weights and thresholds allow.

    Parameters
    ----------
    name : str
    stage : Stage
    types : {str: FeatureType}
        Of the input and of the layers before.
    settings : Settings
    coarser : int
        The scale is 2^coarser times as large.

    Raises
    ------
    NirError
        It cannot be quantised.
    """
    if isinstance(stage, SumPool):
        return Quantized(stage, np.ones(1))
    charge = stage.charge if isinstance(stage, Neurons) else stage
    source = types[charge.source.layer]
    bits = _bits(stage.node, settings)
    if isinstance(stage, Charge):
        given = _given_scales(stage.node, 1, bits)
        one = _largest(charge) / _most(bits) if given is None else given[0]
        scales = np.full(len(charge.bias), one)
        return Quantized(_layer(name, charge, *_rounded(charge, scales), bits, None), scales)
    leak, notes = _leak(stage, nearest=settings.nearest_leak)
    if leak is not None:
        scale = _scales(stage, bits) * 2**coarser
        made = _with_membrane(name, stage, scale, bits, leak)
        assert made.neuron is not None
        found = reach(made.neuron, *charge_ends(made, source), settings.time_steps)
        left = found.rest >> leak
        if left or not leak or not found.rest:
            layer, more = _fitting(made, left, stage.node)
            return Quantized(layer, scale, (*notes, *more))
    scale = _scales(stage, bits - 1)
    return Quantized(_without_membrane(name, stage, scale, bits), scale, notes)


def _bits(node: Node, settings: Settings) -> int:
    if settings.bits is not None:
        return settings.bits
    bits = node.metadata.get("weight_bits", 8)
    if not isinstance(bits, int | np.integer) or not 2 <= bits <= 8:
        raise NirError(f"{node}: weight_bits of its metadata must be 2..8, not {bits!r}")
    return int(bits)


def _most(bits: int) -> int:
    """The largest weight."""
    return (1 << (bits - 1)) - 1


def _largest(charge: Charge) -> float:
    """The largest absolute weight; 1 if all are 0."""
    return float(np.abs(charge.weight).max()) or 1.0


def _given_scales(node: Node, n: int, bits: int) -> Reals | None:
    """The scales that the file's metadata has, which an export writes, for weights of its bits."""
    if "scale" not in node.metadata or node.metadata.get("weight_bits", bits) != bits:
        return None
    scale = np.asarray(node.metadata["scale"])
    if scale.dtype.kind != "f" or scale.shape not in {(), (n,)}:
        raise NirError(f"{node}: scale of its metadata must be {n} real numbers, or one")
    if not (np.isfinite(scale) & (scale > 0)).all():
        raise NirError(f"{node}: scale of its metadata must be positive")
    return np.broadcast_to(scale.astype(np.float64), n)


def _scales(stage: Neurons, bits: int) -> Reals:
    """The scale of each output channel, (Cout,), or one for all channels that have a residual.

    What is on a common grid stays exact. Otherwise the scale is one in which the threshold is: a
    soft reset subtracts it, and a hard one fires from half a step above it on, which is where
    rounded sums are right in the mean. Among such scales that with the least error of weights.
    """
    charge = stage.charge
    given = _given_scales(stage.node, len(charge.bias), bits)
    if given is not None:
        return given
    n_rows = len(charge.bias) if charge.skip is None else 1
    weight = charge.weight.reshape(n_rows, -1)
    threshold = stage.threshold.reshape(n_rows, -1)
    others = [charge.bias, stage.initial]
    if charge.skip is not None:
        others.append(charge.skip.gain.ravel())
    constants = np.hstack([weight, threshold, *(one.reshape(n_rows, -1) for one in others)])
    largest = np.abs(weight).max(axis=1)
    largest[largest == 0] = 1
    highest = np.abs(threshold).max(axis=1)
    least = np.maximum(largest / _most(bits), highest / LIMIT_MAX)
    scales = _grids(constants, largest, least)
    is_open = np.isnan(scales)
    is_free = is_open & ((threshold != threshold[:, :1]).any(axis=1) | (highest < 2 * least))
    scales[is_free] = least[is_free]
    fitted = is_open & ~is_free
    if fitted.any():
        scales[fitted] = _best(
            weight[fitted], highest[fitted], least[fitted], 0.0 if stage.is_soft else 0.5
        )
    return np.broadcast_to(scales, len(charge.bias))


def _grids(constants: Reals, largest: Reals, least: Reals) -> Reals:
    """The finest scales of at least `least` of which constants are multiples; NaN without one."""
    scales = np.full(len(largest), np.nan)
    most = np.floor(largest / least + SAME)
    for n in range(1, int(most.max()) + 1):
        steps = constants * (n / largest)[:, np.newaxis]
        is_grid = (np.abs(steps - np.rint(steps)).max(axis=1) < ON_GRID) & (n <= most)
        scales[is_grid] = largest[is_grid] / n
    return scales


def _best(weight: Reals, threshold: Reals, least: Reals, above: float) -> Reals:
    """Scales of which thresholds are n + `above` steps, whose weights have the least error."""
    best, scales = np.full(len(least), np.inf), least.copy()
    most = np.floor(threshold / least - above)
    for k in range(N_CANDIDATES):
        n = np.maximum(np.floor(most * (1 - k / (3 * N_CANDIDATES))), 1)
        tried = threshold / (n + above) * (1 + HAIR)
        steps = weight / tried[:, np.newaxis]
        errors = ((steps - np.rint(steps)) ** 2).sum(axis=1) * tried**2
        better = errors < best
        best[better], scales[better] = errors[better], tried[better]
    return scales


def _leak(stage: Neurons, *, nearest: bool) -> tuple[int | None, tuple[str, ...]]:
    """The shift of the leak, None for neurons without memory; what is not exact."""
    if stage.decay <= SAME:
        return None, ()
    leak = min(range(LEAK_MAX + 1), key=lambda k: abs(stage.decay - 2.0**-k))
    if abs(stage.decay - 2.0**-leak) <= SAME:
        return leak, ()
    tau = float(stage.node.array("tau").flat[0])
    dt = tau * (1 - stage.decay)
    low = max(1, min(leak, LEAK_MAX - 1))
    fits = " or ".join(
        f"dt {tau * (1 - 2.0**-k):.6g} or tau {dt / (1 - 2.0**-k):.6g} ({2.0**-k:g})"
        for k in (low, low + 1)
    )
    if not nearest:
        raise NirError(
            f"{stage.node}: a step must leave 1/2, 1/4, 1/8 ... of a membrane, not 1 - dt/tau = "
            f"{stage.decay:.6g} (dt {dt:.6g}, tau {tau:.6g}); what would fit: {fits}; "
            "--nearest-leak takes the nearest one"
        )
    note = (
        f"{stage.node}: a step leaves {2.0**-leak:g} of a membrane instead of {stage.decay:.6g}, "
        f"{2.0**-leak - stage.decay:+.3g}; charges are those of the file"
    )
    return leak, (note,)


def _rounded(charge: Charge, scale: Reals) -> tuple[Ints, Ints, int]:
    """Weights, bias and the charge of a residual's spike in steps."""
    bias = charge.bias / scale
    if np.abs(bias).max() > CHARGE_MAX:
        k = int(np.abs(bias).argmax())
        raise NirError(
            f"{charge.node}: bias of channel {k} must be at most {CHARGE_MAX} steps of the scale, "
            f"{CHARGE_MAX * scale[k]:g}, not {charge.bias[k]:g}"
        )
    weight = charge.weight.reshape(len(scale), -1) / scale[:, np.newaxis]
    steps = np.array([_sum_kept(row) for row in weight]).reshape(charge.weight.shape)
    return steps.astype(np.int64), np.rint(bias).astype(np.int64), _skip(charge, scale)


def _sum_kept(weight: Reals) -> Reals:
    """Rounded numbers with the sum that the numbers have, or nearly so.

    Errors of a kernel's weights that add up would drive its membrane in one direction.
    """
    steps = np.rint(weight)
    errors = weight - steps
    n = round(float(errors.sum()))
    if n:
        nearest = np.argsort(-errors * np.sign(n), kind="stable")[: abs(n)]
        steps[nearest] += np.sign(n)
    return np.asarray(steps)


def _skip(charge: Charge, scale: Reals) -> int:
    if charge.skip is None:
        return 0
    steps = np.rint(charge.skip.channel_gain(charge.node) / scale)
    if (steps != steps[0]).any():
        raise NirError(
            f"{charge.node}: a residual must have one charge for all channels, not "
            f"{steps.min():g} to {steps.max():g} steps"
        )
    return int(steps[0])


def _above(threshold: Reals, scale: Reals) -> Ints:
    """The least number of steps above a threshold."""
    ratio = np.clip(threshold / scale, -CHARGE_MAX, CHARGE_MAX - 1)
    whole = np.rint(ratio)
    is_whole = np.abs(ratio - whole) <= SAME * np.maximum(np.abs(whole), 1)
    return np.asarray(np.where(is_whole, whole, np.floor(ratio)).astype(np.int64) + 1)


def _with_membrane(name: str, stage: Neurons, scale: Reals, bits: int, leak: int) -> Conv | Dense:
    """The layer with membranes of 16 bits."""
    threshold, initial = _above(stage.threshold, scale), _initial(stage.initial, scale)
    if stage.is_soft:
        # What is subtracted counts more than what happens at equality, but for IF both are exact:
        # membranes that begin a step lower stay a step lower.
        nearest = np.rint(stage.threshold / scale)
        is_equal = np.abs(stage.threshold / scale - nearest) <= EQUAL * np.abs(nearest)
        threshold = np.where(threshold == nearest + 1, threshold - 1, threshold)
        initial = -is_equal.astype(np.int64) if leak == 0 else np.zeros_like(threshold)
    neuron = Neuron(
        bits=MEMBRANE_BITS[1],
        threshold=threshold,
        reset="soft" if stage.is_soft else "hard",
        leak=leak,
        initial=initial if initial.any() else None,
    )
    return _layer(name, stage.charge, *_rounded(stage.charge, scale), bits, neuron)


def _without_membrane(name: str, stage: Neurons, scale: Reals, bits: int) -> Conv | Dense:
    """A threshold without memory: weights are even, and membranes -1 or 0, which decides nothing.

    Charges are shifted below 0, so that a membrane of 2 bits is -1 after each step without a spike.
    """
    threshold = _above(stage.threshold, scale)
    below = 2 * np.maximum(threshold, 0)
    weight, bias, skip = _rounded(stage.charge, scale)
    neuron = Neuron(bits=MEMBRANE_BITS[0], threshold=2 * threshold - 1 - below, reset="hard")
    return _layer(name, stage.charge, 2 * weight, 2 * bias - below, 2 * skip, bits, neuron)


def _initial(membranes: Reals, scale: Reals) -> Ints:
    """Membranes before the first step, rounded to what the hardware can be told."""
    steps = np.clip(np.rint(membranes / scale), -LIMIT_MAX, LIMIT_MAX).astype(np.int64)
    places = max(0, int(np.abs(steps).max()).bit_length() - INITIAL_MAX.bit_length())
    shifted = np.clip((steps + (1 << places >> 1)) >> places, -INITIAL_MAX, INITIAL_MAX)
    return np.asarray(shifted << places)


def _layer(
    name: str,
    charge: Charge,
    weight: Ints,
    bias: Ints,
    skip: int,
    bits: int,
    neuron: Neuron | None,
) -> Conv | Dense:
    fields: dict[str, Any] = {
        "name": name,
        "input": charge.source.layer,
        "weight": np.clip(weight, -_most(bits) - 1, _most(bits)),
        "bias": bias,
        "weight_bits": bits,
        "out_bits": RAW_BITS if neuron is None else 1,
        "out_signed": neuron is None,
        "neuron": neuron,
    }
    if charge.is_dense:
        return Dense(**fields)
    return Conv(
        stride=charge.stride,
        padding=charge.padding,
        dilation=charge.dilation,
        groups=charge.groups,
        skip=None if charge.skip is None else charge.skip.layer,
        skip_mult=skip,
        **fields,
    )


def _fitting(layer: Conv | Dense, left: int, node: Node) -> tuple[Conv | Dense, tuple[str, ...]]:
    """With membranes of as few bits as whatever is left of them needs; the file may say how many.

    Parameters
    ----------
    layer : Conv or Dense
        With membranes of 16 bits.
    left : int
        The largest membrane.
    node : Node
        The neurons' own.
    """
    neuron = layer.neuron
    assert neuron is not None
    start = 0 if neuron.initial is None else int(np.abs(neuron.initial).max())
    low, high = MEMBRANE_BITS
    given = node.metadata.get("membrane_bits")
    is_rescaled = node.metadata.get("weight_bits") != layer.weight_bits
    if given is not None and not is_rescaled:
        if not isinstance(given, int | np.integer) or not low <= given <= high:
            raise NirError(f"{node}: membrane_bits of its metadata must be {low}..{high}")
        return replace(layer, neuron=replace(neuron, bits=int(given))), ()
    bits = min(max(left, start).bit_length() + 1, high)
    fitting = replace(layer, neuron=replace(neuron, bits=max(bits, low)))
    if left <= LIMIT_MAX:
        return fitting, ()
    return fitting, (
        f"{node}: membranes of {high} bits hold +-{LIMIT_MAX} steps; with the worst spikes they "
        "would get beyond, and stay there: --calibrate tells whether they do",
    )
