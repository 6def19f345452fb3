"""Waves of the user's, and their views if a bench fails."""

from pathlib import Path

import pytest

from firmware_tools.errors import UserError
from firmware_tools.waves import check, views_of_failure
from model.mars.config import CONFIGS
from tb import simulator, waves
from tb.mars.cosim import system
from tb.simulator import BenchFailure

DESIGN = system(CONFIGS["mars-tiny"])


def test_format_is_that_of_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check(None) == ""
    assert check(tmp_path / "x.vcd") == "vcd"
    with pytest.raises(UserError, match=r"wave file must end in \.fst or \.vcd"):
        check(tmp_path / "x.ghw")
    with pytest.raises(UserError, match="folder must exist"):
        check(tmp_path / "none" / "x.vcd")
    monkeypatch.setattr(simulator, "can_fst", lambda: False)
    with pytest.raises(UserError, match=r"FST needs the headers of lz4 and zlib .*x\.vcd"):
        check(tmp_path / "x.fst")


def test_views_open_where_a_bench_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only if there are waves; the message tells of them."""
    monkeypatch.setenv(simulator.STAND_IN, str(tmp_path))
    verilog = "module kenyon(clk);\n  input clk;\nendmodule\n"
    (tmp_path / waves.SCENE).write_text(waves.scene(verilog, "kenyon", {}))
    path = tmp_path / "hangs.vcd"
    with pytest.raises(BenchFailure, match=r"^no end$"), views_of_failure(path, DESIGN):
        raise BenchFailure("no end", 500)
    path.write_text("#0\n0a\n#900000\n1a\n")
    told = r"(?s)^no end\nwaves: gtkwave .*hangs\.gtkw\nwaves: .*surfer --command-file hangs\.sucl$"
    with pytest.raises(BenchFailure, match=told), views_of_failure(path, DESIGN):
        raise BenchFailure("no end", 500)
    assert "cursor_set 500000\n" in path.with_suffix(".sucl").read_text()
