"""`kenyon bench mars --report`, `kenyon infer --report` and `kenyon compare --report`."""

import json
from dataclasses import replace

CAUSES = {"weights": "weight_stalls", "post-processing": "drain_stalls", "layer": "layer_stalls"}


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
