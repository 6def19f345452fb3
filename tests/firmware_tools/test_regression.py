"""What a regression runs and reports; `tests/tb` runs the RTL."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from firmware_tools import regression
from firmware_tools.jobs.local import Local
from firmware_tools.mars import regression as mars_regression
from firmware_tools.npu import backends
from firmware_tools.regression import (
    ATTENTION,
    DIRECTED,
    JOINT,
    MARS,
    NPU,
    QUANTISED,
    QUANTISED_RTL,
    RANDOM,
    SPIKING,
    Case,
    Outcome,
    Regression,
    junit,
    names,
    random_case,
)
from model.config import CHIPS
from model.mars import frame, network_file
from model.mars.config import CONFIGS as MARS_CONFIGS
from model.mars.config import MarsConfig
from model.mars.network import AvgPool, Conv, Dense, Lookup, MaxPool, Select
from model.npu.config import CONFIGS
from tb import simulator
from tb.mars.cosim import Frame, FrameTrace, JobResult
from tb.mars.records import PassTrace
from tb.simulator import BenchFailure

TINY, POPPINS = CONFIGS["tiny"], CONFIGS["poppins"]
MARS_TINY, MARS_8 = MARS_CONFIGS["mars-tiny"], MARS_CONFIGS["mars"]
NPU_BENCHES = names()[NPU][:-1]
MARS_BENCHES = [name for name in names()[MARS] if name in DIRECTED]


def right_traces(config: MarsConfig, frames: list[Frame]) -> Iterator[FrameTrace]:
    """What the RTL would do if it is right."""
    for one in frames:
        done = frame.run_frame(one.image, one.features)
        runs = done.passes
        passes = [PassTrace(r.values, r.writes, r.clocks.end, r.membranes, r.stores) for r in runs]
        stalls = (
            sum(getattr(r.clocks, name) for r in runs)
            for name in ("weight_stalls", "drain_stalls", "layer_stalls")
        )
        assert one.image.config is config
        logits = () if done.logits is None else tuple(done.logits.tolist())
        result = JobResult(2, done.clocks, *stalls, (), 0.0, done.steps, logits)
        yield FrameTrace(passes, done.result, result)


@pytest.fixture
def no_rtl(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model stands in for the RTL: right, but for the bench `soma` and the seed 3."""

    def bench(name, *_, **__):
        if name == "soma":
            raise BenchFailure("v must be 254, not 255\nthe log")

    def simulate(network, config, *, seed, **_):
        for trace in backends.simulate(network, "model", config):
            yield replace(trace, v=trace.v ^ (seed == 3))

    monkeypatch.setattr("tb.benches.run", bench)
    monkeypatch.setattr("tb.mars.cosim.run", right_traces)
    monkeypatch.setattr("firmware_tools.npu.rtl.simulate", simulate)
    monkeypatch.setattr("tb.simulator.is_built", lambda *_: True)


def test_cases() -> None:
    todo = regression.cases([TINY, POPPINS, MARS_8], ["soma", "chip", RANDOM], 5, 3)
    assert todo == [
        Case("soma", TINY, 5),
        Case("chip", TINY, 5),
        Case("chip", POPPINS, 5),
        Case(RANDOM, TINY, 5),
        Case(RANDOM, POPPINS, 6),
        Case(RANDOM, TINY, 7),
    ]


def test_cases_of_mars() -> None:
    todo = regression.cases([TINY, MARS_TINY, MARS_8], ["macro", "mars_registers"], 5, 3)
    assert todo == [
        Case("macro", MARS_TINY, 5),
        Case("mars_registers", MARS_TINY, 5),
        Case("mars_registers", MARS_8, 5),
    ]
    assert regression.cases([TINY], names()[MARS], 5, 3) == []
    assert regression.cases([MARS_8], names()[NPU], 5, 3) == []


def test_joint_cases() -> None:
    chip = CHIPS["kenyon-tiny"]
    assert regression.cases([TINY, MARS_TINY, chip], names()[JOINT], 5, 2) == [
        Case("joint_chip", chip, 5),
        Case(JOINT, chip, 5),
        Case(JOINT, chip, 6),
    ]
    assert regression.cases([chip], [*names()[NPU], *names()[MARS]], 5, 3) == []


def test_quantised_cases() -> None:
    both = [MARS_TINY, MARS_8]
    todo = regression.cases(both, [QUANTISED, QUANTISED_RTL], 1, None)
    assert [case.seed for case in todo] == list(range(1, 201))
    assert Counter((case.name, case.config.name) for case in todo) == {
        (QUANTISED_RTL, "mars-tiny"): 30,
        (QUANTISED_RTL, "mars"): 30,
        (QUANTISED, "mars-tiny"): 70,
        (QUANTISED, "mars"): 70,
    }
    for count in range(20):
        assert len(regression.cases(both, [QUANTISED, QUANTISED_RTL], 1, count)) == count
    assert regression.cases(both, [QUANTISED_RTL], 7, 3) == [
        Case(QUANTISED_RTL, MARS_TINY, 7),
        Case(QUANTISED_RTL, MARS_8, 8),
        Case(QUANTISED_RTL, MARS_TINY, 9),
    ]


def test_everything_fits_and_is_covered() -> None:
    """Each kind of layer and parameter is in the 200 networks of a regression."""
    todo = regression.cases([MARS_TINY, MARS_8], [QUANTISED, QUANTISED_RTL], 1, None)
    cases = [mars_regression.random_case(case.config, case.seed) for case in todo]
    assert [case.image.config for case in cases] == [case.config for case in todo]
    networks = [case.network for case in cases]
    layers = [(network, layer) for network in networks for layer in network.layers]
    convs = [layer for _, layer in layers if isinstance(layer, Conv)]
    denses = [layer for _, layer in layers if isinstance(layer, Dense)]
    kinds_of_layers = {type(layer) for _, layer in layers}
    assert kinds_of_layers == {Conv, Dense, MaxPool, AvgPool, Lookup, Select}
    assert {(c.kernel, c.stride, c.padding) for c in convs} >= {
        *(((1, 1), (stride, stride), (0,) * 4) for stride in (1, 2)),
        *(((3, 3), (stride, stride), (side,) * 4) for stride in (1, 2) for side in (0, 1)),
    }
    assert {layer.weight_bits for layer in convs} == set(range(2, 9))
    assert {layer.weight_bits for layer in denses} == set(range(2, 9))
    kinds = {(kind.bits, kind.signed) for n in networks for kind in n.types.values()}
    assert kinds == {
        *((bits, False) for bits in range(1, 9)),
        *((bits, True) for bits in (*range(2, 9), 32)),
    }
    assert sum(bool(layer.skip) for layer in convs) > 40
    assert sum(n.types[name].shape[0] % 16 > 0 for n in networks for name in n.types) > 300
    passes = [one for case in cases for one in case.image.passes]
    contents = [one for case in cases for one in case.image.contents.passes]
    sparsity = [1 - one.kept_sets / one.total_sets for one in contents if one.total_sets >= 20]
    assert min(sparsity) == 0
    assert any(0.93 < share < 0.97 for share in sparsity)
    assert np.histogram(sparsity, 5, (0, 1))[0].min() > 20
    assert {one.descriptor.split for one in passes} == {1, 2, 4, 8}
    assert {one.descriptor.n_teams for one in passes} == set(range(1, 9))
    assert max(block.n_entries for one in passes for block in one.blocks) > 56
    sets = [block.codes.size for one in passes for block in one.blocks]
    assert max(sets) > 128  # more than two macros have room for


def test_random_cases_are_the_same_again() -> None:
    for seed in range(20):
        first, pause = random_case(TINY, seed)
        again, same_pause = random_case(TINY, seed)
        assert first.name == again.name
        assert pause == same_pause
        assert 0 <= pause < 1


def test_case_names_its_command() -> None:
    assert Case("soma", TINY, 5).command == "kenyon regress -c tiny --only soma --seed 5"
    assert Case(RANDOM, POPPINS, 6).command == (
        "kenyon regress -c poppins --only random --seed 6 --count 1"
    )


@pytest.mark.usefixtures("no_rtl")
def test_outcomes(tmp_path: Path) -> None:
    todo = [Case("soma", TINY, 1), Case("noise", TINY, 1)]
    todo += [Case(RANDOM, TINY, seed) for seed in (2, 3)]
    outcomes = {o.case: o for o in Regression(tmp_path, waves=False).run(todo, Local(2))}
    failures = [outcomes[case].failure for case in todo]
    assert failures[0] == "v must be 254, not 255\nthe log"
    assert failures[1] == failures[2] == ""
    assert failures[3].startswith("RTL: step 0, population 0, neuron 0: v must be ")
    assert outcomes[todo[2]].steps == random_case(TINY, 2)[0].n_steps


def quantised_outcomes(folder: Path, todo: list[Case]) -> list[Outcome]:
    outcomes = {o.case: o for o in Regression(folder, waves=False).run(todo, Local(2))}
    return [outcomes[case] for case in todo]


@pytest.mark.usefixtures("no_rtl")
def test_quantised_outcomes(tmp_path: Path) -> None:
    todo = regression.cases([MARS_TINY, MARS_8], [QUANTISED, QUANTISED_RTL], 1, 40)
    outcomes = quantised_outcomes(tmp_path, todo)
    assert [o.failure for o in outcomes] == [""] * 40
    assert all(o.clocks > 0 and o.values > 0 for o in outcomes)
    assert not list(tmp_path.iterdir())


def test_difference_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the network that differs is reported, with the command that shows it again."""

    def simulate(config, frames):
        for one, trace in zip(frames, right_traces(config, frames), strict=True):
            if one.image.contents.name == "random_4":
                trace.passes[-1].values[0, 0] ^= 1
            yield trace

    monkeypatch.setattr("tb.mars.cosim.run", simulate)
    todo = [Case(QUANTISED_RTL, MARS_TINY, seed) for seed in range(1, 6)]
    outcomes = quantised_outcomes(tmp_path, todo)
    assert [bool(o.failure) for o in outcomes] == [False, False, False, True, False]
    failed = outcomes[3]
    assert "must be" in failed.failure
    folder = tmp_path / "mars-tiny-quantised-rtl-4"
    assert failed.command == (
        f"kenyon compare {folder}/network.npz --input {folder}/input.npy -c mars-tiny"
    )
    assert failed.as_json()["command"] == failed.command
    case = mars_regression.random_case(MARS_TINY, 4)
    network = network_file.load(folder / "network.npz")
    assert network.types == case.network.types
    images = network_file.load_input(folder / "input.npy", network)
    np.testing.assert_array_equal(images[0], case.features)


def test_who_breaks_a_simulation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def simulate(config, frames):
        if any(one.image.contents.name == "random_4" for one in frames):
            raise BenchFailure("a frame did not end")
        yield from right_traces(config, frames)

    monkeypatch.setattr("tb.mars.cosim.run", simulate)
    todo = [Case(QUANTISED_RTL, MARS_TINY, seed) for seed in range(1, 6)]
    outcomes = quantised_outcomes(tmp_path, todo)
    assert [o.failure for o in outcomes] == ["", "", "", "a frame did not end", ""]


def test_simulation_that_fails_only_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def simulate(config, frames):
        if len(frames) > 1:
            raise BenchFailure("a frame did not end")
        yield from right_traces(config, frames)

    monkeypatch.setattr("tb.mars.cosim.run", simulate)
    todo = [Case(QUANTISED_RTL, MARS_TINY, seed) for seed in (1, 2)]
    text = "fails in one simulation of random_1, random_2: a frame did not end"
    assert [o.failure for o in quantised_outcomes(tmp_path, todo)] == [text, text]


def test_network_that_never_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no case that is left out."""
    monkeypatch.setattr(mars_regression, "SMALLER", ())
    (outcome,) = quantised_outcomes(tmp_path, [Case(QUANTISED, MARS_TINY, 1)])
    assert outcome.failure == ("a random network must fit mars-tiny, but that of seed 1 does not")


def test_junit() -> None:
    outcomes = [
        Outcome(Case("soma", TINY, 1), "v must be 1, not 2\nlog <&>", 0.5),
        Outcome(Case(RANDOM, POPPINS, 2), "", 1.5),
    ]
    suite = ET.fromstring(junit(outcomes))
    assert suite.attrib == {
        "name": "kenyon regress",
        "tests": "2",
        "failures": "1",
    }
    first, second = suite
    assert second.attrib == {"classname": "poppins", "name": "random-2"}
    assert not len(second)
    assert first[0].attrib == {"message": "v must be 1, not 2"}
    assert first[0].text == (
        "v must be 1, not 2\nlog <&>\nkenyon regress -c tiny --only soma --seed 1"
    )


@pytest.mark.usefixtures("no_rtl")
def test_verb_reports_failures(kenyon) -> None:
    result = kenyon("regress", "-c", "tiny", "--count", "3", "-j", "2", "--junit", "out.xml")
    assert result.exit_code == 1
    assert "soma[tiny, seed 1] failed" in result.stdout
    assert "again: kenyon regress -c tiny --only soma --seed 1" in result.stdout
    assert "again: kenyon regress -c tiny --only random --seed 3 --count 1" in result.stdout
    assert result.stdout.splitlines()[-1] == f"{len(NPU_BENCHES) + 1} passed, 2 failed"
    assert len(ET.parse("out.xml").getroot()) == len(NPU_BENCHES) + 3


@pytest.mark.usefixtures("no_rtl")
def test_verb_json(kenyon) -> None:
    result = kenyon(
        "regress", "-c", "tiny", "--seed", "7", "--count", "2", "--only", RANDOM, "--json"
    )
    assert result.exit_code == 0
    values = json.loads(result.stdout)
    assert (values["seed"], values["passed"], values["failed"]) == (7, 2, 0)
    assert [outcome["seed"] for outcome in values["outcomes"]] == [7, 8]
    assert all(outcome["clocks"] > 0 for outcome in values["outcomes"])


@pytest.mark.usefixtures("no_rtl")
def test_verb_counts_what_ran_where(kenyon) -> None:
    result = kenyon("regress", "--only", MARS, "--count", "20", "-j", "2")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    directed = sum(3 if DIRECTED[name].on_chip else 1 for name in MARS_BENCHES)
    each = [
        line
        for kind in (QUANTISED, SPIKING, ATTENTION)
        for line in (
            f"reference = golden machine: 20 {kind} networks (8 on mars-tiny, 6 on mars, "
            "6 on mars-wide), 0 differences",
            f"also = RTL, values and clocks: 6 {kind} networks (2 on mars-tiny, 2 on mars, "
            "2 on mars-wide), 0 differences",
        )
    ]
    assert lines[-7:] == [*each, f"{60 + directed} passed, 0 failed"]


@pytest.mark.usefixtures("no_rtl")
def test_interrupt_keeps_what_is_done(kenyon, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(self, todo, *_):
        del self
        yield Outcome(todo[1], "")
        yield Outcome(todo[0], "it failed")
        raise KeyboardInterrupt

    monkeypatch.setattr(Regression, "run", run)
    result = kenyon("regress", "--only", QUANTISED, "--count", "9", "--json", "--junit", "out.xml")
    assert result.exit_code == 130
    values = json.loads(result.stdout)
    assert (values["passed"], values["failed"], values["not_run"]) == (1, 1, 7)
    assert [outcome["seed"] for outcome in values["outcomes"]] == [1, 2]
    assert len(ET.parse("out.xml").getroot()) == 2
    assert result.stderr.splitlines()[-1] == "1 passed, 1 failed; interrupted, 7 not run"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (
            ("--only", "nothing"),
            "--only must be one of npu, mars, joint, "
            f"{', '.join([*names()[NPU], *names()[MARS], *names()[JOINT]])}, not nothing",
        ),
        (
            ("-c", "huge"),
            f"configuration must be one of {', '.join([*CONFIGS, *MARS_CONFIGS])}, "
            "kenyon-tiny, kenyon, not huge",
        ),
        (
            ("-c", "tiny", "--only", "mars"),
            "--only, --config and --count must leave something to run",
        ),
    ],
)
def test_bad_options(kenyon, arguments: tuple[str, ...], error: str) -> None:
    result = kenyon("regress", *arguments)
    assert result.exit_code == 2
    assert result.stderr == f"error: {error}\n"


def test_junit_needs_a_folder(kenyon) -> None:
    result = kenyon("regress", "--junit", "none/out.xml")
    assert result.exit_code == 2
    assert result.stderr == "error: none/out.xml: folder must exist: none\n"


@pytest.mark.usefixtures("no_rtl")
def test_verb_on_icarus(kenyon, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what is RTL, on the small configurations; the environment is left as it was."""
    monkeypatch.setattr("tb.simulator.has_icarus", lambda: True)
    icarus = ("--simulator", "icarus")
    result = kenyon("regress", *icarus, "--only", "npu", "--only", "quantised", "-j", "2", "--json")
    outcomes = json.loads(result.stdout)["outcomes"]
    assert {o["configuration"] for o in outcomes} == {"tiny"}
    names = [o["name"] for o in outcomes]
    assert names.count("random") == 10
    assert "quantised" not in names
    failed = next(o for o in outcomes if o["name"] == "soma")
    assert failed["command"] == "kenyon regress -c tiny --only soma --seed 1 --simulator icarus"
    assert not simulator.on_icarus()


@pytest.mark.usefixtures("no_rtl")
def test_icarus_is_missing(kenyon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tb.simulator.has_icarus", lambda: False)
    result = kenyon("regress", "--simulator", "icarus")
    assert result.exit_code == 2
    assert result.stderr == "error: iverilog is missing; on Debian: apt-get install iverilog\n"


@pytest.mark.parametrize("option", ["--gates", "--waves"])
def test_not_on_icarus(kenyon, option: str) -> None:
    result = kenyon("regress", "-c", "tiny", "--simulator", "icarus", option)
    assert result.exit_code == 2
    expected = f"error: {option} must be left out: it is not for --simulator icarus\n"
    assert result.stderr == expected
