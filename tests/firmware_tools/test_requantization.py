"""Multiplier and shift: how far they can be off."""

import numpy as np
import pytest

from firmware_tools.requantization import FactorError, multiplier, shared_multiplier
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


def test_no_other_choice_is_nearer():
    """Of all shifts, each with the nearest multiplier that it has."""
    factor = factors()[:200]
    mult, shift = multiplier(factor)
    found = np.abs(np.ldexp(mult.astype(float), -shift) - factor)
    shifts = np.arange(1, 41)
    others = np.minimum(np.rint(np.ldexp(factor[:, np.newaxis], shifts)), 65535)
    errors = np.abs(np.ldexp(others, -shifts) - factor[:, np.newaxis])
    assert (found == errors.min(axis=1)).all()


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


def test_error_with_a_residual():
    rng = np.random.default_rng(6)
    for factor in np.exp2(rng.uniform(-20, 10, (200, 9))):
        mult, shift, skip_mult = shared_multiplier(factor[1:], factor[0])
        found = np.ldexp(np.append(float(skip_mult), mult.astype(float)), -shift[0])
        assert (np.abs(found - factor) <= np.ldexp(0.5, -shift[0])).all()
        assert max(skip_mult, mult.max()) >= 32768


@pytest.mark.parametrize("factor", [0.0, -1.0, np.nan, np.inf])
def test_no_number(factor):
    with pytest.raises(FactorError, match="must be positive, not"):
        multiplier(np.array([0.5, factor]))


def test_too_large():
    with pytest.raises(FactorError, match=r"must be at most 32767\.5, not 32768"):
        multiplier(np.array([0.5, 32768.0]))
