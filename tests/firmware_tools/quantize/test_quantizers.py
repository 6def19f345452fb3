"""Gradients against closed forms and finite differences, in float64."""

import math

import numpy as np
import pytest
import torch

from firmware_tools.quantize.errors import CalibrationError, QuantizationError
from firmware_tools.quantize.quantizers import (
    EWGS,
    LGLSQ,
    LSQ,
    PACT,
    QUANTIZERS,
    StraightThrough,
    make,
    soft_round,
    soft_round_slope,
)

STEP = 0.37
EPSILON = 1e-6


def started(quantizer, step=STEP):
    quantizer.double()
    with torch.no_grad():
        quantizer.alpha.fill_(step)
    quantizer.calibrated.fill_(True)
    return quantizer


def values(n=400, spread=3.0, seed=1):
    """Far enough from integers and their halves for finite differences."""
    v = np.random.default_rng(seed).uniform(-spread, spread, 4 * n)
    off = np.abs(2 * v - np.rint(2 * v)) > 1e-3
    return torch.from_numpy(v[off][:n] * STEP)


def gradients(quantizer, x, g_q):
    """Gradients of x and alpha for a gradient of x_q = step*n."""
    x = x.clone().requires_grad_()
    (quantizer(x) * quantizer.spread(quantizer.step, x)).backward(g_q)
    return x.grad, quantizer.alpha.grad


def slope(function, x):
    return (function(x + EPSILON) - function(x - EPSILON)) / (2 * EPSILON)


@pytest.mark.parametrize(
    ("bits", "signed", "limits"),
    [(2, True, (-2, 1)), (2, False, (0, 3)), (8, True, (-128, 127)), (8, False, (0, 255))],
)
def test_integers_end_at_the_type(bits, signed, limits):
    quantizer = started(LSQ(bits, signed=signed), 1.0)
    x = torch.tensor([-1e3, 1e3, -0.5, 0.5, 0.4999], dtype=torch.float64)
    assert quantizer(x).tolist() == [*limits, 0, 1, 0]  # ties go towards +infinity


def test_soft_round_slope_is_that_of_the_soft_round():
    v = values() / STEP
    for k in (0.5, 2.0, 10.0):
        torch.testing.assert_close(
            soft_round_slope(v, k), slope(lambda v, k=k: soft_round(v, k), v), rtol=1e-7, atol=1e-7
        )


def test_soft_round_goes_through_the_integers_and_has_a_tail():
    whole = torch.arange(-3, 4, dtype=torch.float64)
    torch.testing.assert_close(soft_round(whole, 10.0), whole)
    assert soft_round_slope(whole, 10.0)[0].item() == pytest.approx(0.140, abs=5e-4)
    cell = torch.arange(0, 1, 1e-5, dtype=torch.float64)
    for k in (1.0, 10.0):
        assert soft_round_slope(cell, k).mean().item() == pytest.approx(1, abs=1e-4)
    torch.testing.assert_close(soft_round_slope(cell, 1e-4), torch.ones_like(cell))


def test_asr_gradient_is_the_slope_of_the_soft_round():
    quantizer = started(LGLSQ(4, signed=True, mde=False))
    x = values()
    g_q = torch.linspace(-2, 2, len(x), dtype=torch.float64)
    found, _ = gradients(quantizer, x, g_q)
    wanted = slope(lambda x: STEP * soft_round(x / STEP, quantizer.K_ASR), x) * g_q
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-7)


def closed_slope(v, k):
    """ASR's slope, written a second time."""
    u = v % 1 - 0.5
    return k / (2 * np.arctan(k / 2) * (1 + (k * u) ** 2))


@pytest.mark.parametrize("k", [1.0, 10.0])
def test_asr_gradient_is_the_closed_form_in_its_tails_too(k):
    """From integer to integer, with the tails near 0 and 1, to 1e-12."""
    quantizer = started(LGLSQ(4, signed=True, mde=False))
    quantizer.K_ASR = k
    v = np.concatenate([np.linspace(-4, 4, 801), np.arange(-4, 4) + 1e-6, np.arange(-3, 5) - 1e-6])
    found, _ = gradients(quantizer, torch.from_numpy(v * STEP), torch.ones(len(v)).double())
    # v * STEP / STEP may be on the other side of an integer, where the slope is the same.
    np.testing.assert_allclose(found.numpy(), closed_slope(v, k), rtol=0, atol=1e-12)


def test_tails_of_arctangent_and_tanh():
    """At the integers, by hand: 10/(2*atan(5)*26), and 10/2*(1 - tanh(5)^2)/tanh(5)."""
    quantizer = started(LGLSQ(4, signed=True, mde=False))
    quantizer.K_ASR = 10.0
    found, _ = gradients(quantizer, torch.tensor([STEP], dtype=torch.float64), torch.ones(1))
    assert found.item() == pytest.approx(0.1400230, abs=1e-7)
    tanh = slope(lambda v: math.tanh(10 * (v - 0.5)) / (2 * math.tanh(5)), 0.0)
    assert tanh == pytest.approx(0.0009080, abs=1e-7)


def test_mde_gradient_is_that_of_the_loss_plus_the_discretisation_error():
    """g*x + delta*|g|*alpha/2*(v - round v)^2 has MDE's gradient."""
    quantizer = started(LGLSQ(4, signed=True, asr=False))
    x = values()
    g_q = torch.linspace(-2, 2, len(x), dtype=torch.float64)
    found, _ = gradients(quantizer, x, g_q)

    def loss(x):
        v = x / STEP
        error = (v - torch.round(x.detach() / STEP)) ** 2
        return g_q * x + quantizer.DELTA * g_q.abs() * STEP / 2 * error

    torch.testing.assert_close(found, slope(loss, x), rtol=1e-6, atol=1e-7)
    v = x / STEP
    closed = g_q * (1 + quantizer.DELTA * torch.sign(g_q) * (v - torch.floor(v + 0.5)))
    torch.testing.assert_close(found, closed)
    assert not torch.allclose(found, g_q, rtol=1e-4)


def test_asr_and_mde_multiply():
    x = values()
    g_q = torch.ones_like(x)
    both, asr, mde = (
        gradients(started(LGLSQ(4, signed=True, **parts)), x, g_q)[0]
        for parts in ({}, {"mde": False}, {"asr": False})
    )
    torch.testing.assert_close(both, asr * mde)


def test_clipped_activations_have_no_gradient_but_clipped_weights_do():
    x = torch.tensor([-9.0, 9.0], dtype=torch.float64)
    g_q = torch.ones_like(x)
    assert gradients(started(LGLSQ(4, signed=False)), x, g_q)[0].tolist() == [0, 0]
    weights = started(LGLSQ(4, signed=True, is_weight=True))
    assert gradients(weights, x, g_q)[0].tolist() == [1, 1]


def numpy_error(x, s, low, high):
    n = np.clip(np.floor(x / s + 0.5), low, high)
    return np.mean((x - s * n) ** 2)


@pytest.mark.parametrize("step", [0.1, 0.37, 1.0])
def test_ssg_gradient_is_the_closed_form_and_ignores_the_loss(step):
    quantizer = started(LGLSQ(3, signed=True), step)
    quantizer.pace.fill_(0.7)
    x = values(spread=5.0)
    above, below = (numpy_error(x.numpy(), step * f, -4, 3) for f in (2, 0.5))
    wanted = 0.7 * step**2 * (above - below) / (above + below)
    for scale in (1.0, -50.0):
        quantizer.alpha.grad = None
        _, found = gradients(quantizer, x, scale * torch.ones_like(x))
        assert found.item() == pytest.approx(wanted, rel=1e-12)


def test_ssg_is_the_slope_of_the_error_when_k_goes_to_1():
    """(E(k*a) - E(a/k)) / (2 ln k) -> a * dE/da, here against a finite difference."""
    x = values(spread=5.0)
    for step in (0.2, 0.45, 1.1):
        quantizer = started(LGLSQ(3, signed=True), step)
        quantizer.K_SSG = 1 + 1e-7
        errors = [numpy_error(x.numpy(), step + h, -4, 3) for h in (1e-7, -1e-7)]
        wanted = step * (errors[0] - errors[1]) / 2e-7
        both = 2 * numpy_error(x.numpy(), step, -4, 3)
        ratio = quantizer.imbalance(x, quantizer.step).item()
        assert ratio * both / (2 * math.log(quantizer.K_SSG)) == pytest.approx(wanted, rel=1e-4)


def test_ssg_leads_to_a_scale_with_little_error():
    x = torch.from_numpy(np.random.default_rng(2).standard_normal(2000))
    least = min(numpy_error(x.numpy(), s, -4, 3) for s in np.linspace(0.05, 2, 100))
    for start in (0.05, 2.0):
        quantizer = started(LGLSQ(3, signed=True), start)
        for _ in range(60):
            with torch.no_grad():
                quantizer.alpha -= 0.2 * quantizer.simulated_gradient(x) / quantizer.step
        assert numpy_error(x.numpy(), quantizer.step.item(), -4, 3) < 1.2 * least


@pytest.mark.parametrize(("step", "wanted"), [(0.05, -1), (0.5, 0), (4.0, 1)])
def test_three_valued_rule(step, wanted):
    x = torch.from_numpy(np.random.default_rng(2).standard_normal(5000))
    quantizer = started(LGLSQ(3, signed=True, three_valued=True), step)
    quantizer.pace.fill_(1.0)
    _, found = gradients(quantizer, x, torch.ones_like(x))
    assert found.item() == pytest.approx(wanted * step**2)


def test_each_channel_has_its_own_scale():
    x = values().reshape(4, -1) * torch.tensor([[1.0], [2.0], [4.0], [0.1]], dtype=torch.float64)
    together = LGLSQ(3, signed=True, n_channels=4).double()
    together.start(x)
    (together(x) ** 2).sum().backward()
    for k in range(4):
        alone = LGLSQ(3, signed=True).double()
        alone.start(x[k])
        assert together.alpha[k] == alone.alpha
        assert torch.equal(together(x)[k], alone(x[k]))
        (alone(x[k]) ** 2).sum().backward()
        torch.testing.assert_close(together.alpha.grad[k], alone.alpha.grad)


@pytest.mark.parametrize("kind", [LSQ, EWGS])
def test_learned_step_is_the_gradient_of_the_straight_through_value(kind):
    """With x/s replaced by round(x/s) only in value, d(s*n)/ds is n - v inside and n outside."""
    quantizer = started(kind(3, signed=True))
    x = values(spread=6.0)
    g_q = torch.linspace(-1, 2, len(x), dtype=torch.float64)
    _, found = gradients(quantizer, x, g_q)
    v = x.numpy() / STEP
    n = np.clip(np.floor(v + 0.5), -4, 3)
    inside = (v >= -4) & (v <= 3)
    wanted = np.sum(g_q.numpy() * np.where(inside, n - v, n)) / math.sqrt(len(v) * 3)
    assert found.item() == pytest.approx(wanted, rel=1e-12)


def test_ewgs_scales_by_the_error():
    quantizer = started(EWGS(4, signed=True))
    x = values()
    g_q = torch.linspace(-1, 1, len(x), dtype=torch.float64)
    found, _ = gradients(quantizer, x, g_q)
    v = x / STEP
    error = v - torch.floor(v + 0.5)
    torch.testing.assert_close(found, g_q * (1 + quantizer.DELTA * g_q.sign() * error))


def test_pact_moves_the_clip_by_what_is_clipped():
    quantizer = started(PACT(2, signed=False), 0.5)
    quantizer.DECAY = 0.0
    x = torch.tensor([-1.0, 0.7, 1.4, 1.6, 9.0], dtype=torch.float64)
    g_x, g_alpha = gradients(quantizer, x, torch.ones_like(x))
    assert g_x.tolist() == [0, 1, 1, 0, 0]
    assert g_alpha.item() == pytest.approx(2 * 3 / math.sqrt(5 * 3))


def test_straight_through_keeps_the_largest_scale():
    quantizer = StraightThrough(3, signed=False)
    quantizer.start(torch.tensor([-5.0, 0.0, 3.5]))
    assert quantizer.step.item() == pytest.approx(0.5)
    assert not list(quantizer.parameters())


@pytest.mark.parametrize("name", QUANTIZERS)
@pytest.mark.parametrize("bits", [1, 9, 0, -3, 2.5, True, "3"])
def test_widths(name, bits):
    with pytest.raises(QuantizationError, match=r"bits must be 2\.\.8, not"):
        make(name, bits, signed=True)


def test_refused():
    with pytest.raises(QuantizationError, match="quantizer must be one of lg-lsq, lsq, ste"):
        make("dorefa", 4, signed=True)
    with pytest.raises(QuantizationError, match="asr must be left to lg-lsq, not lsq"):
        make("lsq", 4, signed=True, asr=False)
    with pytest.raises(CalibrationError, match="must be calibrated first"):
        LSQ(4, signed=True)(torch.zeros(3))
