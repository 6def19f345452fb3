"""The first difference of two traces."""

from dataclasses import replace

import numpy as np
import pytest

from firmware_tools.npu.backends import simulate
from firmware_tools.npu.difference import Difference, first_difference
from model.npu import network_file
from model.npu.config import CONFIGS
from model.npu.trace import Trace


@pytest.fixture
def run(pair):
    """A network of two populations and its trace."""
    network = network_file.load(pair)
    return network, Trace.join(list(simulate(network, "model", CONFIGS["tiny"])))


def changed(trace: Trace, **places: tuple[int, ...]) -> Trace:
    """The trace with one value of each named array changed."""
    arrays = {}
    for name, place in places.items():
        arrays[name] = getattr(trace, name).copy()
        value = arrays[name][place]
        arrays[name][place] = not value if arrays[name].dtype == np.bool_ else value + 1
    return replace(trace, **arrays)


def test_equal(run) -> None:
    network, trace = run
    assert first_difference(network, trace, changed(trace)) is None


@pytest.mark.parametrize(
    ("name", "field"),
    [("v", "v"), ("i_syn", "i_syn"), ("noise", "noise"), ("spikes", "spike")],
)
def test_value_of_a_neuron(run, name: str, field: str) -> None:
    network, trace = run
    wrong = changed(trace, **{name: (30, 3)})
    expected, actual = int(getattr(trace, name)[30, 3]), int(getattr(wrong, name)[30, 3])
    difference = first_difference(network, trace, wrong)
    assert difference == Difference(30, 1, 1, field, expected, actual)
    assert str(difference) == (
        f"step 30, population 1, neuron 1: {field} must be {expected}, not {actual}"
    )


def test_saturation_of_a_population(run) -> None:
    network, trace = run
    difference = first_difference(network, trace, changed(trace, saturated=(7, 1)))
    assert difference == Difference(7, 1, None, "saturated", 0, 1)
    assert str(difference) == "step 7, population 1: saturated must be 0, not 1"


def test_clocks(run) -> None:
    network, trace = run
    clocks = int(trace.clocks[7])
    difference = first_difference(network, trace, changed(trace, clocks=(7,)))
    assert difference == Difference(7, None, None, "clocks", clocks, clocks + 1)
    assert str(difference) == f"step 7: clocks must be {clocks}, not {clocks + 1}"


def test_clocks_are_compared_only_if_both_have_them(run) -> None:
    network, trace = run
    without = replace(trace, clocks=np.zeros(0, np.int64))
    assert first_difference(network, trace, without) is None
    assert first_difference(network, without, trace) is None


def field_of(network, trace: Trace, **places: tuple[int, ...]) -> tuple[int, int | None, str]:
    difference = first_difference(network, trace, changed(trace, **places))
    assert difference
    return difference.step, difference.population, difference.field


def test_the_earliest_step_comes_first(run) -> None:
    assert field_of(*run, v=(9, 0), noise=(8, 3), clocks=(10,)) == (8, 1, "noise")


def test_in_a_step_clocks_come_first_then_populations_and_causes(run) -> None:
    assert field_of(*run, v=(8, 0), clocks=(8,)) == (8, None, "clocks")
    assert field_of(*run, v=(8, 0), i_syn=(8, 1)) == (8, 0, "v")
    assert field_of(*run, v=(8, 0), i_syn=(8, 0), noise=(8, 0)) == (8, 0, "noise")
    assert field_of(*run, saturated=(8, 0), v=(8, 2)) == (8, 0, "saturated")
    assert field_of(*run, saturated=(8, 0), v=(8, 1)) == (8, 0, "v")


def test_step_numbers_count_from_the_first_step(run) -> None:
    network, trace = run
    later = replace(trace, first_step=100)
    difference = first_difference(network, later, changed(later, v=(3, 0)))
    assert difference
    assert difference.step == 103


def test_one_trace_is_shorter(run) -> None:
    network, trace = run
    short = Trace(0, *(getattr(trace, name)[:40] for name in list(vars(trace))[1:]))
    assert first_difference(network, trace, short) == Difference(40, None, None, "steps", 50, 40)
    assert first_difference(network, short, trace) == Difference(40, None, None, "steps", 40, 50)


def test_traces_must_begin_together(run) -> None:
    network, trace = run
    with pytest.raises(ValueError, match=r"^traces must begin at the same step, not 0 and 1$"):
        first_difference(network, trace, replace(trace, first_step=1))
