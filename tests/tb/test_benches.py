"""The directed cocotb benches."""

from pathlib import Path

import pytest

from model.npu.config import CONFIGS
from tb import benches


@pytest.mark.parametrize("name", benches.BENCHES)
def test_bench(name: str, tmp_path: Path) -> None:
    """Every directed bench passes on the smallest configuration, and at least one test ran."""
    assert benches.run(name, CONFIGS["tiny"], tmp_path, seed=1) >= 1
