"""`kenyon bench mars --report`, `kenyon infer --report` and `kenyon compare --report`."""

import itertools
import json
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from firmware_tools.mars.bench import measure
from firmware_tools.mars.regression import random_spiking_case
from firmware_tools.report import mars
from model.mars import network_file, reference
from model.mars.config import CONFIGS
from model.mars.mapper import compile_network
from model.mars.network import QuantizedNetwork
from model.mars.random_network import random_input


def figures_of(network: QuantizedNetwork, config: str) -> dict[str, Any]:
    image = compile_network(network, CONFIGS[config])
    return measure(image, random_input(network, 0)[0]).as_json(100.0)


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("config", ["mars-tiny", "mars"])
def test_segments_are_the_clocks_of_a_pass(quantised, config: str, merged: bool) -> None:
    """Without gaps, and by cause as many as the pass has."""
    passes = figures_of(network_file.load(quantised()), config)["passes"]
    for one in passes:
        found = mars.segments(one, merged=merged)
        assert found[0].first == one["end"] - one["clocks"]
        assert found[-1].last == one["end"]
        assert all(a.last == b.first for a, b in itertools.pairwise(found))
        total = Counter()
        for segment in found:
            assert segment.clocks > 0
            total[segment.kind] += segment.clocks
        assert total["weight_stalls"] == one["weight_stalls"]
        assert total["layer_stalls"] == one["layer_stalls"]
        assert total["steps"] == one["steps"] + one["drain_stalls"]
        works = [segment for segment in found if segment.kind == "steps"]
        assert len(works) == (min(1, len(one["blocks"])) if merged else len(one["blocks"]))
    for cause in ("weight_stalls", "layer_stalls", *(["drain_stalls"] if config == "mars" else [])):
        assert any(one[cause] for one in passes)


def test_bench(kenyon, quantised, read) -> None:
    result = kenyon(
        "bench", "mars", "--network", quantised(), "-c", "mars-tiny", "--report", "b.html", "--json"
    )
    assert result.exit_code == 0, result.stderr
    values = json.loads(result.stdout)
    page = read("b.html")
    facts = page.facts("A frame on the golden machine")
    assert facts["clocks"] == f"{values['frame_clocks']:,}"
    rows = page.tables["Figures of each pass"]
    columns = rows[0]
    for row, one in zip(rows[1:], [*values["passes"], values["total"]], strict=True):
        found = dict(zip(columns, row, strict=True))
        for name in ("clocks", "weight_stalls", "drain_stalls", "layer_stalls"):
            assert found[name.replace("_", " ")] == f"{one[name]:,}"
    assert [row[0] for row in rows[1:]] == ["input", "a", "b+pool", "fc", "all"]
    assert page.facts("Configuration of the chip")["name"] == "mars-tiny"


def test_infer(kenyon, quantised, pictures, read) -> None:
    words = ("infer", quantised(), "--input", pictures, "--backend", "model", "-c", "mars-tiny")
    result = kenyon(*words, "--report", "i.html", "--json")
    assert result.exit_code == 0, result.stderr
    values = json.loads(result.stdout)
    page = read("i.html")
    rows = page.tables["Class and largest result of each image"][1:]
    assert [row[1] for row in rows] == [str(label) for label in values["classes"]]
    assert "Timeline" in page.headings
    assert page.facts("The run")["clocks of a frame, mean"] == f"{values['clocks']:,}"


def test_infer_on_reference_has_no_clocks(kenyon, quantised, pictures, read) -> None:
    assert kenyon("infer", quantised(), "--input", pictures, "--report", "i.html").exit_code == 0
    page = read("i.html")
    assert "Timeline" not in page.headings
    assert "Classes" in page.headings


def test_compare(kenyon, quantised, pictures, stand_in, read) -> None:
    words = ("compare", quantised(), "-c", "mars-tiny", "--input", pictures, "--report", "c.html")
    assert kenyon(*words).exit_code == 0
    page = read("c.html")
    assert "Equal in every value and every clock." in page.text
    assert page.facts("What was compared")["images"] == "3"

    stand_in.append(lambda trace: replace(trace, output=trace.output + 1))
    assert kenyon(*words).exit_code == 1
    page = read("c.html")
    assert "Not equal." in page.text
    assert "The first difference" in page.tables
    assert page.code[0].endswith("--images 1")


def test_spiking_layers_by_time_step(kenyon, read) -> None:
    case = random_spiking_case(CONFIGS["mars-tiny"], 3)
    network = case.network
    network_file.dump(network, "net.npz")
    images = random_input(network, 5, 3)
    np.save("x.npy", images)
    result = kenyon("infer", "net.npz", "--input", "x.npy", "--report", "i.html")
    assert result.exit_code == 0, result.stderr
    rows = read("i.html").tables["The same as numbers"]
    assert rows[0] == ["layer", *(f"step {k}" for k in range(network.time_steps))]
    values = reference.run(network, images)
    spiking = [name for name in values if network.types[name].is_spikes]
    assert [row[0] for row in rows[1:]] == spiking
    assert spiking
    for name, *shares in rows[1:]:
        fired = values[name].mean(axis=(0, 2, 3, 4))
        assert shares == [f"{100 * share:.2f} %" for share in fired]


def test_table(kenyon, read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("firmware_tools.mars.bench_report.TABLE_NETWORKS", ("lenet5",))
    monkeypatch.setattr("firmware_tools.mars.bench_report.SPARSITIES", (0.5, 0.75))
    result = kenyon("bench", "mars", "--table", "--report", "t.html", "--json")
    assert result.exit_code == 0, result.stderr
    rows = json.loads(result.stdout)["rows"]
    table = read("t.html").tables["Every network"]
    assert [row[table[0].index("clocks")] for row in table[1:]] == [
        f"{row['clocks']:,}" for row in rows
    ]
