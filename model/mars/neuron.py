"""What makes a layer a spiking one: its neurons, and when a network stops taking steps.

The arithmetic is in `model.mars.spiking`.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from model.mars.checks import NetworkError, check_integer

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Reset = Literal["hard", "soft"]
Metric = Literal["confidence", "entropy"]
Mode = Literal["sum", "mean"]

MEMBRANE_BITS = (2, 16)
CHARGE_BITS = 22
"""Of a charged membrane, whatever the activations, and so of thresholds."""
CHARGE_MAX = (1 << (CHARGE_BITS - 1)) - 1
LEAK_MAX = 15
TIME_STEPS_MAX = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class Neuron:
    """Integer leaky integrate-and-fire, one neuron per value of a layer's result.

    Parameters
    ----------
    bits : int
        2..16, of a membrane: it is within +-(2^(bits-1) - 1).
    threshold : (Cout,) int
        Of each output channel; a neuron fires at ``charge >= threshold``. 22 bit.
    reset : "hard" or "soft"
        What is left after a spike: 0, or what is above the threshold.
    leak : int
        0..15: the membrane is divided by 2^leak, towards 0, after each step.
    initial : (Cout/groups,) int or None
        Membranes before the first step; None is 0.
    membrane : str or None
        Layers that name the same membrane use one memory, in their order; None is its own.
    groups : int
        Groups of output channels, in order, that use one memory: group g starts from what group
        g - 1 left in the same step, the first one from what the last one left in the step before.
    """

    bits: int
    threshold: Ints
    reset: Reset
    leak: int = 0
    initial: Ints | None = None
    membrane: str | None = None
    groups: int = 1

    @property
    def limit(self) -> int:
        """The largest membrane."""
        return (1 << (self.bits - 1)) - 1


@dataclass(frozen=True, kw_only=True)
class Exit:
    """When a network stops taking steps: as soon as it is sure of its result.

    Parameters
    ----------
    metric : "confidence" or "entropy"
        The largest probability, or 1 less the entropy divided by that of equal probabilities, of
        the softmax of the logits so far.
    mode : "sum" or "mean"
        Of the logits of the steps so far.
    threshold : float
        Above it no more steps are taken; between 0 and 1.
    scale : float
        Real value of one step of the logits, positive.
    """

    metric: Metric
    mode: Mode
    threshold: float
    scale: float


def checked_neuron(place: str, neuron: object, n_channels: int) -> Neuron:
    """The neuron with arrays of int64 that stay as they are.

    Parameters
    ----------
    place : str
        What error texts begin with.
    neuron : Neuron
    n_channels : int
        Output channels of its layer.

    Raises
    ------
    NetworkError
        A parameter is not as `Neuron` says.
    """
    if not isinstance(neuron, Neuron):
        raise NetworkError(f"{place} must be a Neuron, not {type(neuron).__name__}")
    check_integer(f"{place}.bits", neuron.bits, *MEMBRANE_BITS)
    if neuron.reset not in get_args(Reset):
        raise NetworkError(f"{place}.reset must be 'hard' or 'soft', not {neuron.reset!r}")
    check_integer(f"{place}.leak", neuron.leak, 0, LEAK_MAX)
    check_integer(f"{place}.groups", neuron.groups, 1, n_channels)
    if n_channels % neuron.groups:
        raise NetworkError(
            f"{place}.groups must divide the {n_channels} output channels, not be {neuron.groups}"
        )
    name: object = neuron.membrane
    if name is not None and not (isinstance(name, str) and name and name.isprintable()):
        raise NetworkError(f"{place}.membrane must be printable text, not {name!r}")
    threshold = _array(
        f"{place}.threshold", neuron.threshold, n_channels, -CHARGE_MAX - 1, CHARGE_MAX
    )
    initial = neuron.initial
    if initial is not None:
        n_own = n_channels // neuron.groups
        initial = _array(f"{place}.initial", initial, n_own, -neuron.limit, neuron.limit)
    return replace(neuron, threshold=threshold, initial=initial)


def _array(place: str, values: object, n: int, low: int, high: int) -> Ints:
    if not isinstance(values, np.ndarray):
        raise NetworkError(f"{place} must be an array, not {type(values).__name__}")
    if values.dtype.kind not in "iu" or not np.can_cast(values.dtype, np.int64):
        raise NetworkError(f"{place} must be integers, not {values.dtype}")
    if values.shape != (n,):
        raise NetworkError(f"{place} must have the shape {(n,)}, not {values.shape}")
    own = values.astype(np.int64)
    bad = (own < low) | (own > high)
    if bad.any():
        k = int(np.argmax(bad))
        raise NetworkError(f"{place}[{k}] must be {low}..{high}, not {own[k]}")
    own.setflags(write=False)
    return own


def check_exit(stop: Exit, n_classes: int) -> None:
    """Refuse an exit that is not as `Exit` says.

    Raises
    ------
    NetworkError
    """
    if stop.metric not in get_args(Metric):
        raise NetworkError(f"exit: metric must be 'confidence' or 'entropy', not {stop.metric!r}")
    if stop.mode not in get_args(Mode):
        raise NetworkError(f"exit: mode must be 'sum' or 'mean', not {stop.mode!r}")
    for name in ("threshold", "scale"):
        value = getattr(stop, name)
        if isinstance(value, bool) or not isinstance(value, int | float | np.floating):
            raise NetworkError(f"exit: {name} must be a number, not {value!r}")
    if not 0 < stop.threshold < 1:
        raise NetworkError(
            f"exit: threshold must be between 0 and 1, both excluded, not {stop.threshold!r}"
        )
    if not math.isfinite(stop.scale) or stop.scale <= 0:
        raise NetworkError(f"exit: scale must be a positive number, not {stop.scale!r}")
    if n_classes < 2:
        raise NetworkError(f"exit: there must be 2 or more logits, not {n_classes}")


@dataclass(frozen=True)
class Reach:
    """Where membranes can get, whatever the activations.

    Parameters
    ----------
    can_fire, must_fire : (Cout,) bool
        In some step; in every step.
    rest : int
        The largest absolute value of any channel before the leak.
    """

    can_fire: Bools
    must_fire: Bools
    rest: int


def reach(neuron: Neuron, low: Ints, high: Ints, n_steps: int) -> Reach:
    """Follow the ends of all membranes for some steps.

    Parameters
    ----------
    neuron : Neuron
    low, high : (Cout,) int
        Ends of what is added in a step.
    n_steps : int
    """
    n = len(neuron.threshold)
    is_shared = neuron.membrane is not None or neuron.groups > 1
    start = np.zeros(n, np.int64) if neuron.initial is None else neuron.initial
    u_low, u_high = (np.full(n, -neuron.limit), np.full(n, neuron.limit))
    if not is_shared:
        u_low = u_high = start
    can, must, rest = np.zeros(n, np.bool_), np.ones(n, np.bool_), 0
    for _ in range(n_steps):
        ends = (u_low + low, u_high + high)
        can |= ends[1] >= neuron.threshold
        must &= ends[0] >= neuron.threshold
        r_low, r_high = _rest(neuron, *ends)
        rest = max(rest, int(np.abs(r_low).max()), int(np.abs(r_high).max()))
        if not is_shared:
            u_low, u_high = (_leaked(neuron, end) for end in (r_low, r_high))
    return Reach(can, must, rest)


def _rest(neuron: Neuron, low: Ints, high: Ints) -> tuple[Ints, Ints]:
    """Ends of what is left of charges between two ends."""
    th = neuron.threshold
    fires, stays = high >= th, low < th
    most = high - th if neuron.reset == "soft" else np.zeros_like(high)
    least = np.maximum(low - th, 0) if neuron.reset == "soft" else np.zeros_like(low)
    r_low = np.where(stays, np.where(fires, np.minimum(low, least), low), least)
    below = np.minimum(high, th - 1)
    r_high = np.where(stays, np.where(fires, np.maximum(below, most), below), most)
    return r_low, r_high


def _leaked(neuron: Neuron, rest: Ints) -> Ints:
    divided = np.sign(rest) * (np.abs(rest) >> neuron.leak)
    return np.asarray(np.clip(divided, -neuron.limit, neuron.limit))
