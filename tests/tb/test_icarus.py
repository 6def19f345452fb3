"""The RTL in four states on Icarus, and that an X would be seen (`make test-icarus`)."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from firmware_tools import regression
from firmware_tools.jobs.local import Local
from firmware_tools.regression import CHIP, QUANTISED_RTL, RANDOM, SPIKING_RTL, Regression
from model.config import CHIPS
from model.mars.config import CONFIGS as MARS_CONFIGS
from model.npu.config import CONFIGS
from tb import cosim, simulator

TINY, MARS_TINY = CONFIGS["tiny"], MARS_CONFIGS["mars-tiny"]
BLOCKS = ["soma", "post_synaptic", "noise", "row_walker"]
"""The quick ones."""

pytestmark = pytest.mark.icarus


@pytest.fixture(autouse=True)
def on_icarus() -> Iterator[None]:
    with simulator.icarus():
        yield


def failures(folder: Path, names: list[str], count: int) -> list[str]:
    """What failed of the cases with these names on the small configurations."""
    todo = regression.cases([TINY, MARS_TINY], names, 1, count)
    assert todo
    outcomes = list(Regression(folder, waves=False).run(todo, Local(1)))
    assert len(outcomes) == len(todo)
    return [f"{o.case}: {o.failure}" for o in outcomes if o.failure]


@pytest.mark.parametrize(("name", "count"), [(RANDOM, 10), (QUANTISED_RTL, 2)])
def test_random_networks(name: str, count: int, tmp_path: Path) -> None:
    """Values and clocks as on Verilator, registers beginning as X, and no X at a port."""
    assert failures(tmp_path, [name], count) == []


@pytest.mark.full
@pytest.mark.parametrize("name", [QUANTISED_RTL, SPIKING_RTL])
def test_more_random_networks(name: str, tmp_path: Path) -> None:
    assert failures(tmp_path, [name], 10) == []


def test_blocks(tmp_path: Path) -> None:
    assert failures(tmp_path, BLOCKS, 0) == []


@pytest.mark.full
@pytest.mark.parametrize("name", [CHIP, "population", "bridge", *regression.names()["mars"]])
def test_every_bench(name: str, tmp_path: Path) -> None:
    if name not in regression.ANY_RANDOM:
        assert failures(tmp_path, [name], 0) == []


@pytest.mark.parametrize(
    ("module", "register", "port"),
    [
        ("npu.scheduler", "fsm_state", r"\w+"),
        ("npu.events", "full", "s_axis_events_tready"),
        ("npu.chip_registers", "STATUS_done", "irq"),
    ],
)
def test_missing_reset_is_seen(
    module: str, register: str, port: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A register that begins as X and is not reset shows at a port."""
    design = cosim.chip(CHIPS["tiny"])

    def sources() -> dict[str, str]:
        texts = design.sources()
        head, body = texts["kenyon.v"].split(f"module \\kenyon.{module} ", 1)
        (next_value,) = re.findall(rf"^    {register} <= (\S+) ;$", body, re.MULTILINE)[:1]
        reset = rf"    if \(rst\) begin\n      {re.escape(next_value)}  = [^;]+;\n    end\n"
        broken, n = re.subn(reset, "", body, count=1)
        assert n == 1
        return {**texts, "kenyon.v": f"{head}module \\kenyon.{module} {broken}"}

    name = f"tiny-no-reset-{register}"
    built = simulator.build(replace(design, name=name, sources=sources))
    monkeypatch.setenv(simulator.STAND_IN, str(built))
    (failure,) = failures(tmp_path, [RANDOM], 1)
    assert re.search(rf"{port} is x+", failure)
