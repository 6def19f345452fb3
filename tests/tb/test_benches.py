"""The directed cocotb benches."""

import itertools
from pathlib import Path

import pytest

from tb import benches


@pytest.mark.parametrize(
    ("name", "config"),
    [
        *((name, "tiny") for name in benches.BENCHES),
        # Also with more than one column of weights in a word, which `tiny` does not have.
        ("chip", "poppins"),
        ("chip", "kenyon-tiny"),
        *itertools.product(benches.MARS_BENCHES, ("mars-tiny", "kenyon-tiny")),
        ("mars_accelerator", "mars-tiny-sram"),
        # Wide multipliers: headers of four lines, second shifts, eight macros.
        pytest.param("mars_accelerator", "mars-wide", marks=pytest.mark.full),
    ],
)
def test_bench(name: str, config: str, tmp_path: Path) -> None:
    """Every directed bench passes, and at least one test ran."""
    assert benches.run(name, benches.BENCH_CHIPS[config], tmp_path, seed=1) >= 1
