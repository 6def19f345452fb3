"""The directed cocotb benches."""

from pathlib import Path

import pytest

from model.npu.config import CONFIGS
from tb import benches


@pytest.mark.parametrize(
    ("name", "config"),
    # The chip also with more than one column of weights in a word, which `tiny` does not have.
    [*((name, "tiny") for name in benches.BENCHES), ("chip", "poppins")],
)
def test_bench(name: str, config: str, tmp_path: Path) -> None:
    """Every directed bench passes, and at least one test ran."""
    assert benches.run(name, CONFIGS[config], tmp_path, seed=1) >= 1
