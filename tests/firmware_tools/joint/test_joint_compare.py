"""`kenyon compare` with a bridge, and pairs in a regression: what they find, how they say so."""

import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from firmware_tools import regression
from firmware_tools.jobs.local import Local
from firmware_tools.joint.regression import random_case
from firmware_tools.regression import JOINT, Regression, cases
from model.config import CHIPS
from tb.joint.cosim import JointTrace
from tb.trace_records import StepTimes
from tb.waves import Moment

TINY = CHIPS["kenyon-tiny"]


def spoilt(what: str) -> Callable[[JointTrace], JointTrace]:
    """A change of a frame's trace."""

    def change(one: JointTrace) -> JointTrace:
        result, trace = one.result, one.trace
        assert trace is not None
        if what == "v":
            v = trace.v.copy()
            v[4, 1] ^= 1
            return replace(one, trace=replace(trace, v=v))
        if what == "clocks of a step":
            return replace(one, trace=replace(trace, clocks=trace.clocks + (np.arange(9) == 2)))
        if what == "steps":
            return replace(one, trace=trace.part(0, 8))
        if what == "MARS":
            job = replace(one.frame.result, frame_clocks=one.frame.result.frame_clocks + 1)
            return replace(one, frame=replace(one.frame, result=job))
        changes = {
            "bias": {"bias": (result.bias[0] ^ 1, *result.bias[1:])},
            "count": {"counts": (*result.counts[:15], 1)},
            "winner": {"winner": (1, 0xFFFF)},
            "clocks": {"clocks": result.clocks + 1},
            "elapsed": {"elapsed": result.elapsed - 1},
            "status": {"status": 3},
        }
        return replace(one, result=replace(result, **changes[what]))

    return change


@pytest.fixture
def arguments(quantised, pair, bridge, pictures) -> list[str]:
    """A comparison of three frames."""
    files = ["compare", quantised(), "--bridge", bridge(), "--populations", pair]
    return [str(part) for part in (*files, "--input", pictures, "-c", "kenyon-tiny")]


@pytest.mark.usefixtures("stand_in")
def test_agreement(kenyon, arguments) -> None:
    result = kenyon(*arguments)
    assert result.exit_code == 0, result.stderr
    first, *_ = result.stdout.splitlines()
    assert first == "model and RTL of kenyon-tiny agree on small and pair: 3 frames"
    assert "in 27 time steps; 12 biases, 48 counts and the winners; all clocks" in " ".join(
        result.stdout.split()
    )
    values = json.loads(kenyon(*arguments, "--json").stdout)
    assert values["equal"] is True
    assert [values[name] for name in ("decisions", "steps", "biases")] == [3, 27, 12]
    for frame in values["frames"]:
        assert frame["clocks"] == frame["frame_clocks"] + 2 + frame["bridge_clocks"]
        assert frame["neuron"] in (0, 1)


@pytest.mark.usefixtures("stand_in")
def test_random_input(kenyon, arguments) -> None:
    without = [part for part in arguments if part not in ("--input", arguments[7])]
    values = json.loads(kenyon(*without, "--images", "2", "--seed", "5", "--json").stdout)
    assert (values["equal"], values["seed"], values["decisions"]) == (True, 5, 2)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("v", "frame 1: populations: step 13, population 0, neuron 1: v must be "),
        ("clocks of a step", "frame 1: populations: step 11: clocks must be "),
        ("steps", "frame 1: populations: step 17: steps must be 9, not 8"),
        ("MARS", "frame 1: MARS: frame: FRAME_CLOCKS must be "),
        ("bias", "frame 1: bridge: bias of neuron 0 must be "),
        ("count", "frame 1: bridge: count of neuron 15 must be 0, not 1"),
        ("winner", "frame 1: bridge: winner and count must be "),
        ("clocks", "frame 1: bridge: CLOCKS must be "),
        ("elapsed", "frame 1: bridge: clocks from start to decision must be "),
        ("status", "frame 1: bridge: STATUS must be 2, not 3"),
    ],
)
def test_differences(kenyon, arguments, stand_in, what: str, message: str) -> None:
    stand_in.append(spoilt(what))
    result = kenyon(*arguments, "--json")
    assert result.exit_code == 1
    values = json.loads(result.stdout)
    assert values["difference"].startswith(message)
    stand_in.clear()
    assert kenyon(*shlex.split(values["command"])[1:]).exit_code == 0


STEPS = 9
ENDS, DECIDED = 500, 9_000
"""When MARS ends a frame, and the burst behind it."""


def timed(one: JointTrace) -> JointTrace:
    """Neurons retire 10 ns after their step began, the second population's 20; a step takes 100."""
    assert one.trace is not None
    begin = 1_000 + 100 * np.arange(STEPS)
    edges = begin[:, np.newaxis, np.newaxis] + np.array([10, 20])[:, np.newaxis]
    times = StepTimes(np.broadcast_to(edges, (STEPS, 2, TINY.npu.n_groups)), begin + 100)
    passes = [replace(run, times=replace(run.times, end=ENDS)) for run in one.frame.passes]
    result = replace(one.result, decided_ns=DECIDED)
    return JointTrace(replace(one.frame, passes=passes), one.trace, result, times)


@pytest.mark.parametrize(
    ("what", "moment"),
    [
        ("v", Moment(1_400, "trace_0")),
        ("clocks of a step", Moment(1_290, "trace")),
        ("steps", Moment(1_890, "trace")),
        ("MARS", Moment(ENDS, "trace_mars")),
        ("bias", Moment(ENDS)),
        ("count", Moment(DECIDED)),
        ("elapsed", Moment(DECIDED)),
    ],
)
def test_when_it_differs(
    kenyon, arguments, stand_in, monkeypatch: pytest.MonkeyPatch, what: str, moment: Moment
) -> None:
    """Views open there."""
    opened: list[Moment | None] = []

    def write_views(path: Path, _design: object, at: Moment | None) -> list[str]:
        opened.append(at)
        return [f"surfer {path}"]

    monkeypatch.setattr("firmware_tools.joint.compare.write_views", write_views)
    stand_in += [timed, spoilt(what)]
    result = kenyon(*arguments, "--waves", "x.vcd")
    assert result.exit_code == 1
    assert "waves: surfer x.vcd\n" in result.stdout
    assert opened == [moment]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"population": 2}, "population must be 0..1, not 2"),
        ({"steps": -1}, "bridge.json: steps must be 0..65535, not -1"),
        (
            {"entries": [{"output": 4, "population": 0, "neuron": 0, "scale": 1}]},
            "entries[0].output must be 0..3, not 4",
        ),
        (
            {"entries": [{"output": 0, "population": 0, "neuron": 2, "scale": 1}]},
            "entries[0].neuron must be 0..1, not 2",
        ),
        (
            {"entries": [{"output": 0, "population": 5, "neuron": 0, "scale": 1}]},
            "entries[0].population must be 0..1, not 5",
        ),
        (
            {"entries": [{"output": 0, "population": 0, "neuron": 0, "scale": 1e9}]},
            "entries[0].scale must be -32768..32767, not 1e+09",
        ),
        (
            {
                "entries": [
                    {"output": 0, "population": 0, "neuron": k, "scale": 1} for k in range(300)
                ]
            },
            "entries must be 1..256, not 300: a network has too many outputs for the bridge",
        ),
    ],
)
def test_bad_bridge(kenyon, arguments, bridge, change, message: str) -> None:
    bridge(**change)
    result = kenyon(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_what_goes_together(kenyon, quantised, bridge, pair) -> None:
    both = "--bridge BRIDGE.json and --populations NETWORK.json must go together"
    assert both in kenyon("compare", quantised(), "--bridge", bridge()).stderr
    assert both in kenyon("compare", quantised(), "--populations", pair).stderr
    result = kenyon(
        *("compare", quantised(), "--bridge", bridge(), "--populations", pair, "-c", "mars-tiny")
    )
    assert "configuration must be one of kenyon-tiny, kenyon for a bridge" in result.stderr
    assert "--bridge must be left out" in kenyon("compare", pair, "--bridge", bridge()).stderr


@pytest.mark.usefixtures("stand_in")
def test_regression() -> None:
    """Right pairs pass; names, commands and figures are there."""
    todo = cases([TINY, *regression.names()][:1], [JOINT], 3, 2)
    assert [case.command for case in todo] == [
        f"kenyon regress -c kenyon-tiny --only joint --seed {seed} --count 1" for seed in (3, 4)
    ]
    outcomes = list(Regression(Path("out"), waves=False).run(todo, Local(1)))
    assert not any(outcome.failure for outcome in outcomes)
    assert min(outcome.clocks for outcome in outcomes) > 0


def test_failed_pair_is_kept(stand_in, kenyon) -> None:
    stand_in.append(lambda one: replace(one, result=replace(one.result, status=0)))
    (outcome,) = Regression(Path("out"), waves=False).run(cases([TINY], [JOINT], 5, 1), Local(1))
    assert outcome.failure == "frame 1: bridge: STATUS must be 2, not 0"
    stand_in.clear()
    result = kenyon(*shlex.split(outcome.command)[1:])
    assert result.exit_code == 0, result.stderr


def test_random_pairs() -> None:
    """A seed is a pair; both kinds of networks, and entries for neurons and axons."""
    made = [random_case(TINY, seed) for seed in range(1, 7)]
    again = random_case(TINY, 3)
    assert again.pair.bridge == made[2].pair.bridge
    np.testing.assert_array_equal(again.pair.inputs, made[2].pair.inputs)
    assert {case.network.time_steps > 0 for case in made} == {True, False}
    entries = [entry for case in made for entry in case.pair.bridge.entries]
    assert {entry.is_axon for entry in entries} == {True, False}
