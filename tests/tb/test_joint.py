"""Both halves on the RTL: what the host may do meanwhile, and random pairs of networks."""

from pathlib import Path

from firmware_tools.joint.regression import on_rtl, random_case
from model.config import CHIPS
from tb import benches

TINY = CHIPS["kenyon-tiny"]
N_PAIRS = 6


def test_bench(tmp_path: Path) -> None:
    assert benches.run("joint_chip", TINY, tmp_path, seed=1) >= 1


def test_random_pairs() -> None:
    """The first ones of a regression."""
    cases = [random_case(TINY, seed) for seed in range(1, N_PAIRS + 1)]
    for failure, compared in on_rtl(TINY, cases):
        assert not failure
        assert min(compared.clocks, compared.biases, compared.mars.values) > 0
