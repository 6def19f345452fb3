"""Quantisers: uniform, symmetric, without zero point, told apart by their gradients.

All of them compute ``n = clamp(floor(x/alpha + 1/2), q_min, q_max)``, so ties go towards +infinity
as on the accelerator; the value that n stands for is ``x_q = alpha*n``. What differs is the
gradient of x, that of alpha, and where alpha starts.

LG-LSQ is a *reconstruction*: of the paper (arXiv 2202.09009) only the abstract was at hand. Its
three parts can be switched one by one.

SSG
    ``g_alpha = c*alpha^2 * (E(k*alpha) - E(alpha/k)) / (E(k*alpha) + E(alpha/k))``, k = 2; E(s) is
    the mean of (x - x_q)^2 with the scale s.
ASR
    ``g_x = g_q * r'(x/alpha)``, the slope of the soft round
    ``r(v) = floor(v) + 1/2 + atan(k*u)/(2*atan(k/2))``, u = v - floor(v) - 1/2.
MDE
    ``g_x`` times ``1 + delta * sign(g_q) * (v - round(v))``, v = x/alpha.
"""

import math
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from firmware_tools.quantize.errors import CalibrationError, QuantizationError

MIN_BITS, MAX_BITS = 2, 8
SMALLEST_STEP = 1e-6
"""A scale never starts smaller: of data that are all 0 there is nothing to learn it from."""
LEAST_SHARE = 2.0**-6
"""Of the scale at the start: below it no step of training leads, let alone to 0 or beyond."""
OCTAVE, OCTAVES = 8, 6
"""Scales that are tried at the start: steps of an octave, and octaves below the largest scale."""


def check_bits(what: str, bits: object, least: int = MIN_BITS) -> None:
    """Refuse a width that the accelerator does not have."""
    if not isinstance(bits, int) or isinstance(bits, bool) or not least <= bits <= MAX_BITS:
        raise QuantizationError(f"{what} must be {least}..{MAX_BITS}, not {bits!r}")


def round_half_up(values: Tensor) -> Tensor:
    """The nearest integer, ties towards +infinity."""
    return torch.floor(values + 0.5)


def soft_round(values: Tensor, k: float) -> Tensor:
    """ASR's soft round: ``floor(v) + 1/2 + atan(k*u)/(2*atan(k/2))``, u = v - floor(v) - 1/2."""
    floor = torch.floor(values)
    u = values - floor - 0.5
    return floor + 0.5 + torch.atan(k * u) / (2 * math.atan(k / 2))


def soft_round_slope(values: Tensor, k: float) -> Tensor:
    """Its slope, ``k / (2*atan(k/2) * (1 + k^2*u^2))``; the mean over a cell is 1."""
    u = values - torch.floor(values) - 0.5
    return k / (2 * math.atan(k / 2)) / (1 + (k * u) ** 2)


def discretisation_factor(residual: Tensor, gradient: Tensor, delta: float) -> Tensor:
    """MDE's factor, ``1 + delta * sign(g_q) * (v - round(v))``; residual is what is in brackets."""
    return 1 + delta * torch.sign(gradient) * residual


class Quantizer(nn.Module):
    """What all quantisers share; called with x, it returns the integers n as a float tensor.

    The gradient that arrives is that of n; alpha's own gradient is worked out here and nowhere
    else, so layers take `step` as a constant.

    Parameters
    ----------
    bits : int
        2..8.
    signed : bool
        Values are -2^(b-1)..2^(b-1) - 1, else 0..2^b - 1.
    n_channels : int or None
        A scale for each output channel (the first axis), else one for the tensor.
    is_weight : bool
        Whether it quantises weights rather than activations.

    Members
    -------
    alpha : (n_channels,) or () float
        The scale.
    is_calibrated : bool
        Whether alpha has been set.

    Raises
    ------
    QuantizationError
        `bits` is not as above.
    """

    NAME: ClassVar[str]
    LEARNS: ClassVar[bool] = True
    """Whether alpha is trained."""
    LEAST_BITS: ClassVar[int] = MIN_BITS
    alpha: Tensor
    least: Tensor
    calibrated: Tensor

    def __init__(
        self,
        bits: int,
        *,
        signed: bool,
        n_channels: int | None = None,
        is_weight: bool = False,
    ) -> None:
        super().__init__()
        check_bits("bits", bits, self.LEAST_BITS)
        self.bits = bits
        self.signed = signed
        self.is_weight = is_weight
        self.per_channel = n_channels is not None
        alpha = torch.ones(() if n_channels is None else (n_channels,))
        if self.LEARNS:
            self.alpha = nn.Parameter(alpha)
        else:
            self.register_buffer("alpha", alpha)
        self.register_buffer("least", torch.full_like(alpha, SMALLEST_STEP))
        self.register_buffer("calibrated", torch.tensor(False))

    @property
    def q_min(self) -> int:
        """The least integer."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def q_max(self) -> int:
        """The largest integer."""
        return (1 << (self.bits - self.signed)) - 1

    @property
    def is_calibrated(self) -> bool:
        """Whether alpha has been set."""
        return bool(self.calibrated)

    @property
    def step(self) -> Tensor:
        """The scale as layers use it: positive, and without gradient."""
        return torch.maximum(self.alpha.detach(), self.least)

    def start(self, x: Tensor) -> None:
        """Set the scale from the first data."""
        with torch.no_grad():
            scale = self.first_scale(self.rectified(x.detach()))
            self.alpha.copy_(scale.clamp_min(SMALLEST_STEP))
            self.least.copy_((LEAST_SHARE * self.alpha).clamp_min(SMALLEST_STEP))
            self.calibrated.fill_(True)

    def forward(self, x: Tensor, exact: Tensor | None = None) -> Tensor:
        """Integers.

        Parameters
        ----------
        x : (...) float
            Real values.
        exact : (...) float or None
            The integers, if they have been computed as the accelerator does.
        """
        if not self.is_calibrated:
            raise CalibrationError("the quantiser must be calibrated first: it has seen no data")
        apply: Any = _Discretise.apply
        return cast("Tensor", apply(x, self.alpha, exact, self))

    def discretised(self, x: Tensor, step: Tensor | None = None) -> Tensor:
        """The integers with this or another scale, without gradient."""
        scale = self.spread(self.step if step is None else step, x)
        return round_half_up(x / scale).clamp(self.q_min, self.q_max)

    def error(self, x: Tensor, step: Tensor) -> Tensor:
        """E(s), the mean of (x - x_q)^2, for each scale."""
        return self.mean((x - self.discretised(x, step) * self.spread(step, x)) ** 2)

    def rectified(self, x: Tensor) -> Tensor:
        """What a scale is chosen for: what an unsigned type cannot hold costs the same always."""
        return x if self.signed else x.clamp_min(0)

    def inside(self, v: Tensor) -> Tensor:
        """Which v = x/alpha are in the range that is not clipped."""
        return (v >= self.q_min) & (v <= self.q_max)

    def first_scale(self, x: Tensor) -> Tensor:
        """Where alpha starts: at the scale with the least E(s), of some below the largest.

        LSQ's own start, 2*mean|x|/sqrt(q_max), clips nearly all of what is rarely not 0, such as
        activations before a pool.
        """
        largest = self.largest_scale(x).clamp_min(SMALLEST_STEP)
        scales = [largest * 2 ** (-k / OCTAVE) for k in range(OCTAVE * OCTAVES)]
        errors = torch.stack([self.error(x, scale) for scale in scales])
        return torch.stack(scales).gather(0, errors.argmin(0, keepdim=True))[0]

    def largest_scale(self, x: Tensor) -> Tensor:
        """The scale with which nothing is clipped; weights take -2^(b-1) into account."""
        if self.is_weight:
            return self.most(x.abs()) / (1 << (self.bits - 1))
        return self.most(x.abs()) / self.q_max

    def gradients(self, g_n: Tensor, v: Tensor, n: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of x and alpha.

        Parameters
        ----------
        g_n : (...) float
            Gradient of the integers; that of x_q is g_n/step.
        v, n : (...) float
            x/step, and the integers.
        step : float
            The scale, in a shape that goes with v.
        """
        raise NotImplementedError

    def learned_step(self, g_q: Tensor, v: Tensor, n: Tensor) -> Tensor:
        """LSQ's gradient of the scale: n - v inside and n outside, times 1/sqrt(N*q_max)."""
        slope = torch.where(self.inside(v), n - v, n)
        return self.sum(g_q * slope) / math.sqrt(v.numel() / self.alpha.numel() * self.q_max)

    def spread(self, values: Tensor, like: Tensor) -> Tensor:
        """Scales in a shape that goes with a tensor."""
        return values.reshape(-1, *(1,) * (like.dim() - 1)) if self.per_channel else values

    def mean(self, values: Tensor) -> Tensor:
        """A mean for each scale."""
        return values.flatten(1).mean(1) if self.per_channel else values.mean()

    def sum(self, values: Tensor) -> Tensor:
        """A sum for each scale."""
        return values.flatten(1).sum(1) if self.per_channel else values.sum()

    def most(self, values: Tensor) -> Tensor:
        """A maximum for each scale."""
        return values.flatten(1).amax(1) if self.per_channel else values.max()


class _Discretise(torch.autograd.Function):
    """Integers forward, the quantiser's gradients backward."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, _alpha: Tensor, exact: Tensor | None, quantizer: Quantizer
    ) -> Tensor:
        step = quantizer.spread(quantizer.step, x)
        v = x / step
        n = exact.to(v.dtype) if exact is not None else quantizer.discretised(x)
        ctx.save_for_backward(v, n, step)
        ctx.quantizer = quantizer
        return n

    @staticmethod
    def backward(ctx: Any, g_n: Tensor) -> tuple[Tensor | None, ...]:
        v, n, step = ctx.saved_tensors
        g_x, g_alpha = ctx.quantizer.gradients(g_n, v, n, step)
        return g_x, g_alpha.to(step.dtype) if ctx.needs_input_grad[1] else None, None, None


class StraightThrough(Quantizer):
    """The straight-through estimator, with the scale at which nothing of the first data clips."""

    NAME = "ste"
    LEARNS = False

    def first_scale(self, x: Tensor) -> Tensor:
        return self.largest_scale(x)

    def gradients(self, g_n: Tensor, v: Tensor, n: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        del n
        return g_n / step * self.inside(v), torch.zeros_like(self.alpha)


class Spikes(StraightThrough):
    """0 and 1 as they are."""

    LEAST_BITS = 1

    def __init__(self) -> None:
        super().__init__(1, signed=False)
        self.start(torch.ones(1))


class LSQ(Quantizer):
    """Learned step size: the scale follows the loss."""

    NAME = "lsq"

    def gradients(self, g_n: Tensor, v: Tensor, n: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        g_q = g_n / step
        return g_q * self.inside(v), self.learned_step(g_q, v, n)


class PACT(Quantizer):
    """PACT-style clipping: what is clipped moves the scale; weights keep their largest value.

    The published method adds an L2 penalty on the clipping value; here it is `DECAY`, in the
    gradient, relative to the scale.
    """

    NAME = "pact"
    DECAY = 1e-3

    def first_scale(self, x: Tensor) -> Tensor:
        return self.largest_scale(x)

    def gradients(self, g_n: Tensor, v: Tensor, n: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        g_q = g_n / step
        inside = self.inside(v)
        if self.is_weight:
            return g_q * inside, torch.zeros_like(self.alpha)
        clipped = torch.where(inside, torch.zeros_like(n), n)
        size = math.sqrt(v.numel() / self.alpha.numel() * self.q_max)
        return g_q * inside, self.sum(g_q * clipped) / size + self.DECAY * self.alpha


class EWGS(Quantizer):
    """Element-wise gradient scaling by the discretisation error; the scale is learned as in LSQ."""

    NAME = "ewgs"
    DELTA = 0.1

    def gradients(self, g_n: Tensor, v: Tensor, n: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        g_q = g_n / step
        scaled = g_q * discretisation_factor(v - n, g_q, self.DELTA)
        return scaled * self.inside(v), self.learned_step(g_q, v, n)


class LGLSQ(Quantizer):
    """LG-LSQ, reconstructed.

    Parameters
    ----------
    bits, signed, n_channels, is_weight
        As in `Quantizer`.
    ssg : bool
        The scale follows the simulated gradient rather than the loss (as in LSQ).
    asr : bool
        Gradients have the slope of the soft round rather than 1.
    mde : bool
        Gradients are scaled by the discretisation error.
    three_valued : bool
        SSG's ancestor in LLSQ: bigger, keep or smaller, whichever of the scales 2*alpha, alpha,
        alpha/2 has the least error.
    """

    NAME = "lg-lsq"
    K_SSG = 2.0
    K_ASR = 1.0
    DELTA = 0.02
    SPEED = 0.05
    """c is SPEED divided by the scale at the start, so that units do not matter."""
    pace: Tensor

    def __init__(
        self,
        bits: int,
        *,
        signed: bool,
        n_channels: int | None = None,
        is_weight: bool = False,
        ssg: bool = True,
        asr: bool = True,
        mde: bool = True,
        three_valued: bool = False,
    ) -> None:
        super().__init__(bits, signed=signed, n_channels=n_channels, is_weight=is_weight)
        self.ssg, self.asr, self.mde = ssg, asr, mde
        self.three_valued = three_valued
        self.register_buffer("pace", torch.ones_like(self.alpha))

    def start(self, x: Tensor) -> None:
        super().start(x)
        self.pace.copy_(self.SPEED / self.step)

    def gradients(self, g_n: Tensor, v: Tensor, n: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        g_q = g_n / step
        g_x = g_q
        if self.asr:
            g_x = g_x * soft_round_slope(v, self.K_ASR)
        if self.mde:
            g_x = g_x * discretisation_factor(v - n, g_q, self.DELTA)
        # Weights beyond the range must be able to come back, since the scale does not heed the
        # loss; out there neither slope nor error has a meaning.
        g_x = torch.where(self.inside(v), g_x, g_q if self.is_weight else torch.zeros_like(g_q))
        if not self.alpha.requires_grad:
            return g_x, torch.zeros_like(self.alpha)
        if not self.ssg:
            return g_x, self.learned_step(g_q, v, n)
        return g_x, self.simulated_gradient(v * step)

    def simulated_gradient(self, x: Tensor) -> Tensor:
        """SSG's gradient of the scale; it does not depend on the loss."""
        x = self.rectified(x)
        rule = self.smaller_or_bigger if self.three_valued else self.imbalance
        return self.pace * self.step**2 * rule(x, self.step)

    def imbalance(self, x: Tensor, step: Tensor) -> Tensor:
        """``(E(k*s) - E(s/k)) / (E(k*s) + E(s/k))``: positive if the scale is too big."""
        above, below = self.error(x, step * self.K_SSG), self.error(x, step / self.K_SSG)
        return (above - below) / (above + below).clamp_min(torch.finfo(x.dtype).tiny)

    def smaller_or_bigger(self, x: Tensor, step: Tensor) -> Tensor:
        """LLSQ's rule: 1 if half of the scale has the least error, -1 if twice, else 0."""
        errors = torch.stack([self.error(x, step * f) for f in (1.0, 0.5, 2.0)])
        signs = torch.tensor([0.0, 1.0, -1.0], dtype=x.dtype)
        return signs[errors.argmin(0)]


QUANTIZERS: dict[str, type[Quantizer]] = {
    kind.NAME: kind for kind in (LGLSQ, LSQ, StraightThrough, PACT, EWGS)
}
"""By the name that the command line knows."""


OPTIONS = {"ssg", "asr", "mde", "three_valued"}
"""Of `LGLSQ`."""


def make(name: str, bits: int, **options: Any) -> Quantizer:
    """A quantiser by name; options are those of its class."""
    if name not in QUANTIZERS:
        raise QuantizationError(f"quantizer must be one of {', '.join(QUANTIZERS)}, not {name}")
    kind = QUANTIZERS[name]
    extra = OPTIONS & options.keys()
    if extra and kind is not LGLSQ:
        raise QuantizationError(f"{', '.join(sorted(extra))} must be left to lg-lsq, not {name}")
    return kind(bits, **options)
