"""What a regression runs and reports; `tests/tb` runs the RTL."""

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from firmware_tools import backends, regression
from firmware_tools.regression import RANDOM, Case, Outcome, Regression, junit, random_case
from model.npu.config import CONFIGS
from tb.benches import BENCHES
from tb.simulator import BenchFailure

TINY, POPPINS = CONFIGS["tiny"], CONFIGS["poppins"]


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
    monkeypatch.setattr("firmware_tools.rtl.simulate", simulate)
    monkeypatch.setattr("tb.simulator.is_built", lambda *_: True)


def test_cases() -> None:
    todo = regression.cases([TINY, POPPINS], ["soma", "chip", RANDOM], 5, 3)
    assert todo == [
        Case("soma", TINY, 5),
        Case("chip", TINY, 5),
        Case("chip", POPPINS, 5),
        Case(RANDOM, TINY, 5),
        Case(RANDOM, POPPINS, 6),
        Case(RANDOM, TINY, 7),
    ]


def test_random_cases_are_the_same_again() -> None:
    for seed in range(20):
        first, pause = random_case(Case(RANDOM, TINY, seed))
        again, same_pause = random_case(Case(RANDOM, TINY, seed))
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
    outcomes = {o.case: o for o in Regression(tmp_path, waves=False).run(todo, 2)}
    failures = [outcomes[case].failure for case in todo]
    assert failures[0] == "v must be 254, not 255\nthe log"
    assert failures[1] == failures[2] == ""
    assert failures[3].startswith("RTL: step 0, population 0, neuron 0: v must be ")
    assert outcomes[todo[2]].steps == random_case(todo[2])[0].n_steps


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
        "time": "2.000",
    }
    first, second = suite
    assert second.attrib == {"classname": "poppins", "name": "random-2", "time": "1.500"}
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
    assert result.stdout.splitlines()[-1] == f"{len(BENCHES) + 1} passed, 2 failed"
    assert len(ET.parse("out.xml").getroot()) == len(BENCHES) + 3


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


def test_unknown_bench(kenyon) -> None:
    result = kenyon("regress", "--only", "nothing")
    assert result.exit_code == 2
    assert result.stderr == (
        f"error: --only must be one of {', '.join([*BENCHES, RANDOM])}, not nothing\n"
    )


def test_junit_needs_a_folder(kenyon) -> None:
    result = kenyon("regress", "--junit", "none/out.xml")
    assert result.exit_code == 2
    assert result.stderr == "error: none/out.xml: folder must exist: none\n"
