"""Faults of bits in an image."""

import numpy as np
import pytest

from firmware_tools.mars import regression
from model.mars.config import CONFIGS
from model.mars.devices.device import DeviceError
from model.mars.devices.faults import Faults
from model.mars.layout import TABLE_LINES
from model.mars.network import FeatureType

TINY = CONFIGS["mars-tiny"]
KEY = {"seed": 1, "trial": 0}


def test_shares() -> None:
    words = np.full(4000, 0x00FF00FF00FF00FF, np.uint64)
    found = Faults(flips=0.1).corrupt(words, 64, **KEY, place=0) ^ words
    assert np.bitwise_count(found).sum() / (4000 * 64) == pytest.approx(0.1, abs=0.005)
    low = Faults(stuck0=0.2).corrupt(words, 64, **KEY, place=0)
    assert not (low & ~words).any()
    assert np.bitwise_count(low ^ words).sum() / (4000 * 32) == pytest.approx(0.2, abs=0.005)
    high = Faults(stuck1=0.2).corrupt(words, 8, **KEY, place=0)
    assert np.array_equal(high, words)  # the lowest eight bits are 1 already


@pytest.mark.parametrize("memory", ["weights", "multipliers"])
def test_program(memory: str) -> None:
    """Only what the memory holds is changed, and the image still is one."""
    image = regression.random_case(TINY, 3).image
    faults = Faults(flips=0.02, memory=memory)
    other = faults.image(image, **KEY)
    assert not np.array_equal(other.lines, image.lines)
    assert len(other.lines) == len(image.lines)
    for one, its in zip(image.passes, other.passes, strict=True):
        assert one.descriptor == its.descriptor
        for block, with_faults in zip(one.blocks, its.blocks, strict=True):
            assert np.array_equal(block.codes, with_faults.codes)
            assert np.array_equal(block.header.bias, with_faults.header.bias)
            assert np.array_equal(block.header.shift, with_faults.header.shift)
            same = np.array_equal(block.words, with_faults.words)
            assert same or memory == "weights"


def test_tables() -> None:
    """Lookup tables, within 8 bits, and nothing else."""
    image = regression.random_case(TINY, 9).image
    other = Faults(stuck0=0.1, memory="tables").image(image, **KEY)
    tables = [
        (one.table, its.table)
        for one, its in zip(image.passes, other.passes, strict=True)
        if one.table is not None
    ]
    assert tables
    for good, bad in tables:
        assert not np.array_equal(good, bad)
        assert not (bad & ~good & 0xFF).any()
    n_lines = sum((a != b).any() for a, b in zip(image.lines, other.lines, strict=True))
    assert n_lines <= TABLE_LINES * len(tables)


def test_parameters_are_refused() -> None:
    image = regression.random_case(TINY, 3).image
    with pytest.raises(DeviceError, match="memory must not be parameters for a network of MARS"):
        Faults(memory="parameters").image(image, **KEY)


def test_no_faults() -> None:
    image = regression.random_case(TINY, 3).image
    assert np.array_equal(Faults().image(image, **KEY).lines, image.lines)


def test_input() -> None:
    """Within the type's bits; stuck at the same places of each image, flipped at others."""
    kind = FeatureType((3, 4, 4), 5, signed=True)
    features = np.random.default_rng(1).integers(-16, 16, kind.shape)
    image = regression.random_case(TINY, 3).image
    flips = Faults(flips=0.1, memory="input")
    assert flips.image(image, **KEY) is image
    one, other = (flips.features(kind, features, **KEY, image=k) for k in (0, 1))
    assert not np.array_equal(one, other)
    assert min(one.min(), other.min()) >= -16
    assert max(one.max(), other.max()) <= 15
    stuck = Faults(stuck1=0.1, memory="input")
    one, other = (stuck.features(kind, features, **KEY, image=k) for k in (0, 1))
    assert np.array_equal(one, other)
    assert np.array_equal(one | features, one)
    assert np.array_equal(Faults().features(kind, features, **KEY, image=0), features)
