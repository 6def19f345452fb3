"""MARS on the RTL: everything that it does in a frame, against reference and golden machine."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from firmware_tools import regression
from firmware_tools.jobs.local import Local
from firmware_tools.mars import regression as mars_regression
from firmware_tools.mars.regression import Network
from firmware_tools.regression import KINDS, Regression
from model.mars.config import CONFIGS, MarsConfig
from model.mars.layout import NORMALISATION, OPERAND, PRODUCTS, SOFTMAX
from model.mars.mapper import compile_network
from model.mars.network import Dense, FeatureType, QuantizedNetwork
from model.mars.random_network import random_input
from model.mars.zoo import ZOO

TINY, MARS = CONFIGS["mars-tiny"], CONFIGS["mars"]


def full_block(n_sets: int, bits: int) -> QuantizedNetwork:
    """A dense layer whose kernel blocks keep so many group-sets each."""
    rng = np.random.default_rng(n_sets)
    dense = Dense(
        name="dense",
        input="input",
        weight=rng.integers(-8, 8, (40, 16 * n_sets)),
        bias=rng.integers(-100, 100, 40),
        weight_bits=4,
        out_bits=32,
        out_signed=True,
    )
    return QuantizedNetwork(FeatureType((n_sets, 4, 4), bits, signed=False), (dense,), "full")


def assert_right(config: MarsConfig, cases: list[QuantizedNetwork], seed: int = 1) -> None:
    """All of them in one simulation."""
    made = [Network(net, compile_network(net, config), random_input(net, seed)[0]) for net in cases]
    for failure, compared in mars_regression.on_rtl(config, made):
        assert not failure
        assert min(compared.values, compared.drained, compared.words, compared.clocks) > 0


def test_random_networks() -> None:
    """The first ones of a regression, which has more of them and also `mars`."""
    cases = [mars_regression.random_case(TINY, seed) for seed in range(1, 31)]
    for failure, _ in mars_regression.on_rtl(TINY, cases):
        assert not failure


def test_random_spiking_networks() -> None:
    """Likewise: spikes, membranes, stored words and clocks."""
    cases = [mars_regression.random_spiking_case(TINY, seed) for seed in range(1, 21)]
    for failure, _ in mars_regression.on_rtl(TINY, cases):
        assert not failure


def test_membranes_of_lanes_without_a_kernel_may_be_anything() -> None:
    """Half of a word is read that only the network before has written."""
    cases = [mars_regression.random_spiking_case(TINY, seed) for seed in (1606, 1607)]
    for failure, _ in mars_regression.on_rtl(TINY, cases):
        assert not failure


def attention_differs(config: MarsConfig, seeds: range) -> list[str]:
    """Random blocks: products of two maps, softmax and normalisation, with and without others."""
    cases = [mars_regression.random_attention_case(config, seed) for seed in seeds]
    functions = {one.descriptor.function for case in cases for one in case.image.passes}
    assert functions == {PRODUCTS, SOFTMAX, NORMALISATION, OPERAND}
    return [failure for failure, _ in mars_regression.on_rtl(config, cases) if failure]


def test_random_attention() -> None:
    assert attention_differs(TINY, range(1, 10)) == []


def test_macro_that_is_full() -> None:
    """64 entries: the loader can only go on when a kernel block is done."""
    assert_right(TINY, [full_block(63, 4), full_block(64, 4), full_block(64, 8)])


@pytest.mark.full
def test_macros_that_are_full() -> None:
    """512 group-sets of a kernel block in all eight macros."""
    assert_right(MARS, [full_block(511, 4), full_block(512, 4), full_block(512, 8)])


@pytest.mark.full
@pytest.mark.parametrize(
    ("name", "sparsity", "bits"),
    [
        ("vgg16", 0.5, 4),
        ("resnet18", 0.5, 4),
        ("resnet18-imagenet", 0, 4),
        ("mobilenetv2", 0, 4),
        ("deit-tiny", 0, 8),
    ],
)
def test_whole_frame(name: str, sparsity: float, bits: int) -> None:
    """Every output of every layer, every pass's clocks, the result, the stall counters."""
    assert_right(MARS, [ZOO[name].make(sparsity, bits, bits, 1)])


@pytest.mark.full
@pytest.mark.parametrize(("on_model", "on_rtl"), [(on_model, on_rtl) for on_rtl, on_model in KINDS])
def test_regression(on_model: str, on_rtl: str, tmp_path: Path) -> None:
    """200 random networks, reference = golden machine, 60 of them also = RTL."""
    todo = regression.cases([TINY, MARS], [on_model, on_rtl], 1, 200)
    outcomes = list(Regression(tmp_path, waves=False).run(todo, Local(1)))
    assert [str(o.case) + o.failure for o in outcomes if o.failure] == []
    ran = Counter((o.case.name, o.case.config.name) for o in outcomes)
    assert ran == {
        (on_rtl, "mars-tiny"): 30,
        (on_rtl, "mars"): 30,
        (on_model, "mars-tiny"): 70,
        (on_model, "mars"): 70,
    }
