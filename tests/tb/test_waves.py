"""Waves of the RTL, and the views that open them."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import pywellen

from firmware_tools.mars import pass_difference
from firmware_tools.mars.pass_difference import Compared, compare_frame
from firmware_tools.npu.backends import simulate as simulate_model
from firmware_tools.npu.difference import Difference
from firmware_tools.npu.lockstep import lockstep, moment_of
from firmware_tools.waves import write_views
from model.config import CHIPS
from model.mars.config import CONFIGS as MARS_CONFIGS
from model.mars.frame import run_frame
from model.mars.mapper import compile_network
from model.mars.network import Conv, FeatureType, QuantizedNetwork
from model.mars.random_network import random_input
from model.npu import network_file
from model.npu.config import CONFIGS
from model.npu.trace import Trace
from tb import cosim, simulator, waves
from tb.cosim import Recording
from tb.mars import cosim as mars_cosim
from tb.mars.cosim import Frame

TONIC = network_file.load(Path(__file__).parents[1] / "vectors" / "iqif" / "tonic.json")
TINY = CONFIGS["tiny"]
STEP = 10
"""Whose membrane potential comes for the first time: the one that is broken."""
SOMA = r"module \kenyon.npu.population_0.somas.lane_0 "
MARS_TINY = MARS_CONFIGS["mars-tiny"]
LANE, LANE_BITS = 3, 32
REQUANTISER = rf"module \kenyon.mars.accelerator.engine.post_processing.requantiser_{LANE} "
CHIP = "mars_system.chip"
"""What MARS is called in its waves: it has its memory beside it."""


@dataclass(frozen=True)
class Recorded:
    """A run on RTL that is wrong in a known step."""

    path: Path
    expected: Trace
    difference: Difference


def with_broken(text: str, module: str, register: str, wrong: int) -> str:
    """Verilog in which the lowest bit of this value is stored wrong."""
    before, body = text.split(module)
    (stored,) = re.findall(rf"{register} <= (\S+ );", body.partition("endmodule")[0])
    broken = f"{register} <= {stored} ^ ({stored} == {wrong});"
    return before + module + body.replace(f"{register} <= {stored};", broken, 1)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """The first neuron's potential of one value is stored as another one."""
    expected = Trace.join(list(simulate_model(TONIC, "model", TINY)))
    wrong = int(expected.v[STEP, 0])
    assert wrong not in expected.v[:STEP, 0]
    design = cosim.chip(CHIPS["tiny"])

    def sources() -> dict[str, str]:
        texts = design.sources()
        return {**texts, "kenyon.v": with_broken(texts["kenyon.v"], SOMA, "v_next", wrong)}

    kind = simulator.best_waves()
    mutant = replace(design, name="tiny-waves-mutant", sources=sources, effort="-O0")
    folder = simulator.build(mutant, kind)
    recording = Recording(tmp_path_factory.mktemp("waves") / f"run.{kind}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(simulator.STAND_IN, str(folder))
        result = lockstep(TONIC, TINY, cosim.simulate(TONIC, TINY, recording=recording))
        assert isinstance(result, Difference)
        write_views(recording.path, design, moment_of(recording, TINY, result))
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


@dataclass(frozen=True)
class RecordedFrame:
    """A frame on RTL of MARS that computes a value wrong."""

    path: Path
    values: list[int]
    pixel: int
    difference: pass_difference.Difference


@pytest.fixture(scope="module")
def recorded_frame(tmp_path_factory: pytest.TempPathFactory) -> RecordedFrame:
    """One pixel of one lane of a convolution."""
    rng = np.random.default_rng(3)
    conv = Conv(
        name="conv",
        input="input",
        weight=rng.integers(-8, 8, (4, 3, 3, 3)),
        bias=rng.integers(-100, 100, 4),
        weight_bits=4,
        out_bits=32,
        out_signed=True,
        padding=1,
    )
    network = QuantizedNetwork(FeatureType((3, 6, 5), 4, signed=False), (conv,), "conv")
    image, features = compile_network(network, MARS_TINY), random_input(network, 3)[0]
    values = run_frame(image, features).passes[-1].values[:, LANE].tolist()
    pixel = next(k for k, v in enumerate(values) if k > 9 and v > 99 and v not in values[:k])
    design = mars_cosim.system(MARS_TINY)

    def sources() -> dict[str, str]:
        texts = design.sources()
        broken = with_broken(texts["kenyon.v"], REQUANTISER, "y_5", values[pixel])
        return {**texts, "kenyon.v": broken}

    kind = simulator.best_waves()
    mutant = replace(design, name="mars-tiny-waves-mutant", sources=sources, effort="-O0")
    folder = simulator.build(mutant, kind)
    path = tmp_path_factory.mktemp("waves") / f"frame.{kind}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(simulator.STAND_IN, str(folder))
        (trace,) = mars_cosim.run(MARS_TINY, [Frame(image, features)], recorded=path)
        difference = compare_frame(network, image, features, trace, Compared())
        assert difference is not None
        write_views(path, design, pass_difference.moment_of(difference))
    return RecordedFrame(path, values, pixel, difference)


@pytest.mark.full  # a simulator of its own
@pytest.mark.parametrize("suffix", [".gtkw", ".sucl"])
def test_mars_opens_on_first_difference(recorded_frame: RecordedFrame, suffix: str) -> None:
    """Where the marker stands the wrong value is drained, and before it only right ones were."""
    difference, pixel = recorded_frame.difference, recorded_frame.pixel
    assert difference.place == "layer 'conv'"
    assert difference.position["channel"] == LANE
    assert difference.actual == difference.expected ^ 1
    at = cursor(recorded_frame.path.with_suffix(suffix))
    assert at == difference.ns * waves.PS_PER_NS
    found = signals(recorded_frame.path)
    valid, values = (found[f"{CHIP}.trace_mars_{n}"].signal for n in ("value_valid", "values"))
    clock = waves.CLOCK_NS * waves.PS_PER_NS
    drained = [
        values.value_at(t) >> LANE * LANE_BITS & (1 << LANE_BITS) - 1
        for t in range(0, at + 1, clock)
        if valid.value_at(t)
    ]
    right = np.array(recorded_frame.values[: pixel + 1], np.int32).view(np.uint32).tolist()
    assert drained == [*right[:-1], difference.actual]


@pytest.mark.full
def test_signals_of_mars_are_in_the_waves(recorded_frame: RecordedFrame) -> None:
    """With the names of the source, and states with theirs."""
    view = recorded_frame.path.with_suffix(".sucl")
    names, found = shown(view), signals(recorded_frame.path)
    assert [name for name in names if name not in found] == []
    state = f"{CHIP}.mars.accelerator.frame_state"
    assert names.index(f"{CHIP}.trace_mars_values") < names.index(state)
    mapping = view.parent / ".surfer" / "mappings" / "mars_accelerator_frame_state.txt"
    states = dict(row.split() for row in mapping.read_text().splitlines()[2:])
    assert states[str(found[state].signal.value_at(0))] == "IDLE"
    assert states[str(found[state].signal.value_at(cursor(view)))] != "IDLE"
