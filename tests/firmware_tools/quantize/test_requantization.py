"""Multiplier and shift: how far they can be off, and the arithmetic around them."""

import numpy as np
import pytest
import torch

from firmware_tools.quantize.errors import QuantizationError
from firmware_tools.quantize.requantization import multiplier, requantise, shared_multiplier
from model.mars import reference
from model.mars.network import FeatureType

EDGES = [2.0**-24, 2.0**-20, 0.5, 1.0, 2.0**-7 * (1 - 2.0**-18), 65535 / 65536, 32767.0]


def factors():
    rng = np.random.default_rng(3)
    return np.concatenate([EDGES, np.exp2(rng.uniform(-24, 14, 2000))])


def test_error_of_the_multiplier_is_at_most_half_a_step_of_the_shift():
    factor = factors()
    mult, shift = multiplier(factor)
    assert mult.min() >= 1
    assert mult.max() <= 65535
    assert shift.min() >= 1
    assert shift.max() <= 40
    error = np.abs(np.ldexp(mult.astype(float), -shift) - factor)
    assert (error <= np.ldexp(0.5, -shift)).all()
    assert (error <= factor * 2.0**-16).all()
    # The bound is sharp: with a bit less it is broken.
    assert (error > factor * 2.0**-18).any()


def test_tiny_factors_have_the_largest_shift():
    factor = np.array([2.0**-30 * 1.3, 2.0**-41 * 1.1])
    mult, shift = multiplier(factor)
    assert shift.tolist() == [40, 40]
    assert mult.tolist() == [1331, 1]


def test_the_shift_is_the_largest_that_16_bits_allow():
    factor = factors()
    _, shift = multiplier(factor)
    more = np.rint(np.ldexp(factor, shift + 1))
    assert ((more > 65535) | (shift == 40)).all()


def test_results_are_off_by_no_more_than_the_bound():
    rng = np.random.default_rng(4)
    factor = np.exp2(rng.uniform(-18, -3, 500))
    acc = rng.integers(-(1 << 20), 1 << 20, 500)
    mult, shift = multiplier(factor)
    kind = FeatureType((1, 1, 1), 32, signed=True)
    found = reference.requantize(acc, mult, shift, kind)
    bound = 0.5 + np.abs(acc) * np.ldexp(0.5, -shift)
    assert (np.abs(found - acc * factor) <= bound + 1e-9).all()
    # An integer is another one only where the real result is that close to a tie.
    ideal = acc * factor + 0.5
    to_tie = np.abs(ideal - np.rint(ideal))
    changed = found != np.floor(ideal)
    assert changed.any()
    assert (to_tie[changed] <= (bound - 0.5 + 1e-9)[changed]).all()


def test_a_residual_has_one_shift_for_all():
    factor = np.array([0.01, 0.9, 0.0003])
    mult, shift, skip_mult = shared_multiplier(factor, 1.7)
    assert shift.tolist() == [15, 15, 15]
    assert mult.tolist() == [328, 29491, 10]
    assert skip_mult == 55706
    mult, shift, skip_mult = shared_multiplier(factor, 0.1)
    assert shift.tolist() == [16, 16, 16]
    assert mult[1] == 58982


@pytest.mark.parametrize("factor", [0.0, -1.0, np.nan, np.inf])
def test_no_number(factor):
    with pytest.raises(QuantizationError, match="must be positive, not"):
        multiplier(np.array([0.5, factor]))


def test_too_large():
    with pytest.raises(QuantizationError, match="must be below 32768, not 32768"):
        multiplier(np.array([0.5, 32768.0]))


def test_requantise_is_the_reference():
    """At ties, at both ends of the type and of the accumulator, and at random."""
    rng = np.random.default_rng(5)
    acc = np.concatenate(
        [np.arange(-40, 40), [(1 << 31) - 1, -(1 << 31)], rng.integers(-(1 << 31), 1 << 31, 3000)]
    )
    for mult, shift in ((1, 1), (3, 2), (65535, 40), (32768, 20), (65535, 1), (40000, 31)):
        for bits, signed in ((2, True), (3, False), (8, True), (8, False)):
            kind = FeatureType((1, 1, 1), bits, signed)
            skip = rng.integers(-128, 256, len(acc))
            for skip_mult in (0, 65535):
                wanted = reference.requantize(acc, mult, shift, kind, skip, skip_mult)
                found = requantise(
                    torch.from_numpy(acc).double(),
                    torch.tensor(mult),
                    torch.tensor(2.0**shift, dtype=torch.float64),
                    (kind.low, kind.high),
                    torch.from_numpy(skip),
                    skip_mult,
                )
                assert np.array_equal(found.numpy(), wanted)
