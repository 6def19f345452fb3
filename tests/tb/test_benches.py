"""The directed cocotb benches."""

import itertools
from pathlib import Path

import pytest

from tb import benches

LONG = [
    # The accelerator by itself is the same as beside the populations.
    *itertools.product(benches.MARS_BENCHES, ["mars-tiny"]),
    ("mars_accelerator", "mars-tiny-sram"),
    # Wide multipliers: headers of four lines, second shifts, eight macros.
    ("mars_accelerator", "mars-wide"),
    ("post_processing_wide", "tiny"),
]


@pytest.mark.parametrize(
    ("name", "config"),
    [
        *((name, "tiny") for name in benches.BENCHES if (name, "tiny") not in LONG),
        # Also with more than one column of weights in a word, which `tiny` does not have.
        ("chip", "poppins"),
        ("chip", "kenyon-tiny"),
        *itertools.product(benches.MARS_BENCHES, ["kenyon-tiny"]),
        *(pytest.param(*one, marks=pytest.mark.full) for one in LONG),
    ],
)
def test_bench(name: str, config: str, tmp_path: Path) -> None:
    """Every directed bench passes, and at least one test ran."""
    assert benches.run(name, benches.BENCH_CHIPS[config], tmp_path, seed=1) >= 1
