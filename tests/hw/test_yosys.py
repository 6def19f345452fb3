"""Runs of Yosys that do not end well."""

from pathlib import Path

import pytest

from hw import yosys


def test_a_run_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(yosys.YosysError, match=r"Yosys, late: no end after 0 s"):
        yosys.run("help", tmp_path, "late", timeout=0)
