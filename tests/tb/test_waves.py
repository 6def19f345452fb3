"""Waves of the RTL, and the views that open them."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import pywellen

from firmware_tools.npu.backends import simulate as simulate_model
from firmware_tools.npu.difference import Difference
from firmware_tools.npu.lockstep import lockstep
from firmware_tools.npu.waves import write_views
from model.config import CHIPS
from model.npu import network_file
from model.npu.config import CONFIGS
from model.npu.trace import Trace
from tb import cosim, simulator, waves
from tb.cosim import Recording

TONIC = network_file.load(Path(__file__).parents[1] / "vectors" / "iqif" / "tonic.json")
TINY = CONFIGS["tiny"]
STEP = 10
"""Whose membrane potential comes for the first time: the one that is broken."""
SOMA = r"module \kenyon.npu.population_0.somas.lane_0 "


@dataclass(frozen=True)
class Recorded:
    """A run on RTL that is wrong in a known step."""

    path: Path
    expected: Trace
    difference: Difference


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """The first neuron's potential of one value is stored as another one."""
    expected = Trace.join(list(simulate_model(TONIC, "model", TINY)))
    wrong = int(expected.v[STEP, 0])
    assert wrong not in expected.v[:STEP, 0]
    design = cosim.chip(CHIPS["tiny"])

    def sources() -> dict[str, str]:
        texts = design.sources()
        before, soma = texts["kenyon.v"].split(SOMA)
        register = re.search(r"v_next <= (\S+ );", soma)
        broken = f"v_next <= {register[1]} ^ ({register[1]} == {wrong});"
        return {**texts, "kenyon.v": before + SOMA + soma.replace(register[0], broken, 1)}

    kind = simulator.best_waves()
    mutant = replace(design, name="tiny-waves-mutant", sources=sources, runs_once=True)
    folder = simulator.build(mutant, kind)
    recording = Recording(tmp_path_factory.mktemp("waves") / f"run.{kind}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(simulator.STAND_IN, str(folder))
        result = lockstep(TONIC, TINY, cosim.simulate(TONIC, TINY, recording=recording))
        assert isinstance(result, Difference)
        write_views(recording, TINY, result)
    return Recorded(recording.path, expected, result)


def shown(view: Path) -> list[str]:
    """Full names of the signals of a view."""
    if view.suffix == ".sucl":
        return re.findall(r"^variable_add (\S+)$", view.read_text(), re.MULTILINE)
    return re.findall(r"^\+\{\S+\} ([\w.]+)(?:\[\d+:0\])?$", view.read_text(), re.MULTILINE)


def cursor(view: Path) -> int:
    """Where it opens, in ps."""
    pattern = r"^cursor_set (\d+)$" if view.suffix == ".sucl" else r"^\*\S+ (\d+) "
    (time,) = re.findall(pattern, view.read_text(), re.MULTILINE)
    return int(time)


def signals(path: Path) -> dict[str, pywellen.Var]:
    """All signals of waves by their full names."""
    return {var.full_name: var for var in pywellen.Waveform(str(path)).all_vars()}


@pytest.mark.parametrize("suffix", [".gtkw", ".sucl"])
def test_opens_on_first_difference(recorded: Recorded, suffix: str) -> None:
    """Where the marker stands the wrong value retires, and before it only right ones did."""
    difference = recorded.difference
    assert (difference.step, difference.neuron, difference.field) == (STEP, 0, "v")
    assert difference.actual == difference.expected ^ 1
    at = cursor(recorded.path.with_suffix(suffix))
    found = signals(recorded.path)
    valid, v = (found[f"kenyon.trace_0_{name}"].signal for name in ("valid", "v"))
    clock = waves.CLOCK_NS * waves.PS_PER_NS
    retired = [v.value_at(t) & 0xFF for t in range(0, at + 1, clock) if valid.value_at(t)]
    assert retired[-1] == difference.actual
    assert valid.value_at(at) == 1
    np.testing.assert_array_equal(retired[:-1], recorded.expected.v[:STEP, 0])


@pytest.mark.parametrize("suffix", [".gtkw", ".sucl"])
def test_signals_are_in_the_waves(recorded: Recorded, suffix: str) -> None:
    view = recorded.path.with_suffix(suffix)
    names = shown(view)
    found = signals(recorded.path)
    assert [name for name in names if name not in found] == []
    assert len(names) == len(set(names)) > 40
    assert {"kenyon.clk", "kenyon.npu.scheduler.fsm_state", "kenyon.trace_0_v"} <= set(names)
    # What differs comes right behind clock and reset.
    assert names.index("kenyon.trace_0_v") < names.index("kenyon.npu.scheduler.fsm_state")


def test_names_are_those_of_the_source(recorded: Recorded) -> None:
    """Of what Yosys made up nothing is shown."""
    leaves = [name.rpartition(".")[2] for name in signals(recorded.path)]
    assert [leaf for leaf in leaves if re.fullmatch(r"\$\d+", leaf)] == []


def test_states_have_names(recorded: Recorded) -> None:
    """Both viewers get the encoding that the RTL has: each state is held when its name says so."""
    translate = recorded.path.with_suffix(".names") / "npu_scheduler_fsm_state.txt"
    names = {int(n, 16): name for n, name in map(str.split, translate.read_text().splitlines())}
    assert list(names.values()) == ["IDLE", "READY", "FLUSH", "STEP"]
    mapping = recorded.path.parent / ".surfer" / "mappings" / "npu_scheduler_fsm_state.txt"
    head, bits, *rows = mapping.read_text().splitlines()
    assert (head, bits) == ("Name = npu_scheduler_fsm_state", "Bits = 2")
    assert {int(n): name for n, name in map(str.split, rows)} == names
    assert f"{translate}\n" in recorded.path.with_suffix(".gtkw").read_text()
    view = recorded.path.with_suffix(".sucl").read_text()
    assert "item_set_format npu_scheduler_fsm_state\n" in view

    found = signals(recorded.path)
    state = found["kenyon.npu.scheduler.fsm_state"]
    assert state.bitwidth == 2
    at = cursor(recorded.path.with_suffix(".sucl"))
    assert names[state.signal.value_at(at)] == "STEP"
    assert names[state.signal.value_at(0)] == "IDLE"


def test_focus_counts_lines(recorded: Recorded) -> None:
    """Surfer counts lines, dividers too, in digits from a to p."""
    lines: list[str] = []
    focused = 0
    for command, *words in map(
        str.split, recorded.path.with_suffix(".sucl").read_text().splitlines()
    ):
        if command in {"divider_add", "variable_add"}:
            lines.append(words[0])
        if command == "item_focus":
            digits, _, name = words[0].partition("_")
            index = int("".join(f"{ord(digit) - ord('a'):x}" for digit in digits), 16)
            assert lines[index] == f"kenyon.{name}"
            focused += 1
    assert focused >= 6


def test_end(recorded: Recorded) -> None:
    """Views know how long waves are."""
    times = [time for var in signals(recorded.path).values() for time, _ in var.tv]
    assert max(times) <= waves.end(recorded.path) <= max(times) + 10 * waves.PS_PER_NS


def test_vcd_ends_too(tmp_path: Path) -> None:
    path = tmp_path / "short.vcd"
    path.write_text("#0\n0a\n#150\n1a\n#20000\n0a\n")
    assert waves.end(path) == 20000
