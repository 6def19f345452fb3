"""`kenyon run --report` and `kenyon compare --report` for networks of the NPU."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firmware_tools.npu import backends
from firmware_tools.report import run
from firmware_tools.report.page import Chart
from firmware_tools.report.run import Envelope, Gathered
from model.npu import network_file
from model.npu.clocks import STEP_OVERHEAD
from model.npu.config import CONFIGS
from model.npu.trace import Trace

TINY = CONFIGS["tiny"]


def gathered(path: Path, chunk: int = 7) -> tuple[Trace, Gathered]:
    """The trace of a network, and what was kept of it."""
    network = network_file.load(path)
    kept = Gathered(network, TINY)
    parts = list(backends.simulate(network, "model", TINY, chunk))
    for part in parts:
        kept.add(part)
    return Trace.join(parts), kept


def charts(kept: Gathered, title: str) -> list[Chart]:
    (section,) = (one for one in kept.sections("model") if one.title == title)
    return [part for part in section.parts if isinstance(part, Chart)]


def data_of(chart: Chart) -> list[dict[str, Any]]:
    return [one.data_source.data for one in chart.figure.renderers if hasattr(one, "data_source")]


def test_page(kenyon, pair, read) -> None:
    result = kenyon("run", pair, "--report", "run.html", "--json")
    assert result.exit_code == 0, result.stderr
    values = json.loads(result.stdout)
    page = read("run.html")
    assert page.headings[:2] == ["Run of pair", "Summary"]
    facts = page.facts("The run")
    assert facts["clocks"] == "total {total:,}, min {min}, max {max}".format(**values["clocks"])
    assert facts["synaptic operations"] == f"{values['synaptic_operations']:,}"
    assert page.code[-1] == f"kenyon run {pair} --report run.html --json"
    assert f"{sum(values['spikes']):,} spikes." in page.figures[0]
    assert "0 of 50 time steps are not the contract" in page.text
    assert "computed, not measured" in page.text
    assert page.text.count("<option value=") == 4


def test_every_spike_is_a_point(pair) -> None:
    trace, kept = gathered(pair)
    (chart,) = charts(kept, "Spikes")
    points = [
        set(zip(d["step"].tolist(), d["neuron"].tolist(), strict=True)) for d in data_of(chart)
    ]
    assert len(points) == 2
    assert set.union(*points) == set(
        zip(*map(np.ndarray.tolist, np.nonzero(trace.spikes)), strict=True)
    )
    assert {neuron for _, neuron in points[0]} <= {0, 1}


def test_many_spikes_are_counted(pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "MOST_SPIKES", 3)
    monkeypatch.setattr(run, "MOST_CELLS", 4 * 12)
    trace, kept = gathered(pair)
    (chart,) = charts(kept, "Spikes")
    (image,) = data_of(chart)[0]["image"]
    counts = np.add.reduceat(trace.spikes, np.arange(0, 50, 5), dtype=int).T
    assert (image == counts).all()
    assert "counts those of 5 time steps" in chart.caption


def test_rates(pair) -> None:
    trace, kept = gathered(pair)
    (chart,) = charts(kept, "Rates")
    for p, data in enumerate(data_of(chart)):
        share = 1000 * trace.spikes[:, 2 * p : 2 * p + 2].mean(axis=1)
        assert np.array_equal(data["y"][:-1], share)


def test_rates_are_means(pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "N_RATES", 6)
    trace, kept = gathered(pair)
    (chart,) = charts(kept, "Rates")
    shares = [1000 * trace.spikes[k : k + 9, :2].mean() for k in range(0, 50, 9)]
    assert data_of(chart)[0]["y"][:-1].tolist() == pytest.approx(shares)
    assert data_of(chart)[0]["x"].tolist() == [0, 9, 18, 27, 36, 45, 50]
    assert chart.caption.endswith("Mean of every 9 time steps.")


def test_membranes_and_currents_of_each_neuron(pair) -> None:
    trace, kept = gathered(pair)
    membranes, currents = charts(kept, "Membranes and currents")
    (choice,) = membranes.controls
    for (store, _), values in zip(choice.charts, (trace.v, trace.i_syn), strict=True):
        shown = np.stack([store.data[f"n{k}"] for k in range(4)], axis=1)
        assert np.array_equal(shown, values)
    assert membranes.caption.endswith("Every time step is drawn.")
    assert choice.names["n3"] == "neuron 3 (population 1, 1)"
    assert currents.controls == ()


def test_clocks_and_contract(pair) -> None:
    trace, kept = gathered(pair)
    in_time, by_slots = charts(kept, "Clocks of each time step")
    measured, contract = (data["y"] for data in data_of(in_time))
    assert np.array_equal(measured, trace.clocks)
    assert np.array_equal(contract, trace.clocks)
    assert contract.min() >= 2 + STEP_OVERHEAD
    assert set(data_of(by_slots)[0]["y"].tolist()) == set(trace.clocks.tolist())
    assert kept.unequal == 0


def test_clocks_beyond_the_contract_are_counted(pair) -> None:
    trace, _ = gathered(pair)
    kept = Gathered(network_file.load(pair), TINY)
    trace.clocks[[3, 8]] += 1
    kept.add(trace)
    assert kept.unequal == 2
    text = kept.sections("rtl")[-1].parts[0]
    assert "measured on the RTL: 2 of 50 time steps are not" in text.text


def test_envelope_keeps_extremes() -> None:
    values = np.random.default_rng(1).integers(-100, 100, (103, 2))
    envelope = Envelope(103, 2, 52)
    for first in range(0, 103, 10):
        envelope.add(first, values[first : first + 10])
    assert envelope.width == 8
    y = envelope.y(103, 1).reshape(-1, 2)
    bins = [values[k : k + 8, 1] for k in range(0, 103, 8)]
    assert y.tolist() == [[one.min(), one.max()] for one in bins]
    assert envelope.x(103).tolist() == np.repeat(range(0, 103, 8), 2).tolist()
    assert "every 8 time steps" in envelope.note


def test_long_runs_stay_small(kenyon, tonic, read) -> None:
    neuron = {"rest": 128, "threshold": 200, "reset": 128, "a": 1, "b": 1}
    session = [{"steps": 20_000, "bias": [[k, 10 + k] for k in range(100)]}]
    path = tonic(populations=[100], neurons=[neuron] * 100, session=session)
    assert kenyon("run", path, "--report", "run.html").exit_code == 0
    page = read("run.html")
    assert "More than the 40,000 that are drawn one by one" in page.figures[0]
    assert "64 of 100 neurons are on this page" in page.text
    assert "smallest and largest value of every 9 time steps" in page.figures[2]


def test_silent_network(kenyon, tonic, read) -> None:
    path = tonic(session=[{"steps": 1}])
    assert kenyon("run", path, "--report", "run.html").exit_code == 0
    assert read("run.html").figures[0].startswith("0 spikes.")


def test_without_configuration_there_are_no_clocks(kenyon, tonic, read) -> None:
    neuron = {"rest": 128, "threshold": 200, "reset": 128, "a": 1, "b": 1}
    path = tonic(populations=[5000], neurons=[neuron] * 5000, session=[{"steps": 3}])
    result = kenyon("run", path, "--report", "run.html")
    assert result.exit_code == 0, result.stderr
    page = read("run.html")
    assert "Clocks of each time step" not in page.headings
    assert page.facts("The run")["configuration"] == "none: it fits none"


@pytest.fixture
def rtl(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The model instead of the RTL; what is in the list spoils its traces."""
    spoil: list[Any] = []

    def simulate(network, config, **_options):
        for trace in backends.simulate(network, "model", config):
            for change in spoil:
                change(trace)
            yield trace

    monkeypatch.setattr("firmware_tools.npu.rtl.simulate", simulate)
    monkeypatch.setattr("firmware_tools.npu.rtl.build", lambda *_args, **_options: None)
    return spoil


def test_compare(kenyon, pair, read, rtl: list[Any]) -> None:  # noqa: ARG001
    assert kenyon("compare", pair, "--report", "c.html").exit_code == 0
    page = read("c.html")
    assert "Equal in every value and every clock." in page.text
    assert page.facts("What was compared")["steps"] == "50"
    assert "Spikes" in page.headings


def test_compare_shows_the_difference(kenyon, pair, read, rtl: list[Any]) -> None:
    def spoil(trace: Trace) -> None:
        trace.v[30, 2] ^= 1

    rtl.append(spoil)
    assert kenyon("compare", pair, "--report", "c.html").exit_code == 1
    page = read("c.html")
    assert "Not equal." in page.text
    difference = page.facts("The first difference")
    assert (difference["step"], difference["field"], difference["population"]) == ("30", "v", "1")
    assert page.code[0] == f"kenyon compare {pair} -c tiny --pause 0.0 --seed 0"
