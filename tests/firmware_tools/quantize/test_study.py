"""The study on a few images: it goes on where it stopped, and its tables are right."""

import json

import pytest

from firmware_tools.quantize import digits, study
from firmware_tools.quantize.errors import QuantizationError
from firmware_tools.quantize.study import METHODS, Run, Study, draw, markdown, rows


@pytest.fixture
def few(monkeypatch):
    data = digits.load()
    parts = (digits.Part(part.images[:40], part.labels[:40]) for part in (data.training, data.test))
    small = digits.Data(*parts)
    monkeypatch.setattr("firmware_tools.quantize.digits.load", lambda **_: small)
    monkeypatch.setattr(study, "BITS", (2,))
    monkeypatch.setattr(study, "METHODS", METHODS[:2])


@pytest.mark.usefixtures("few")
def test_a_study_goes_on(tmp_path, monkeypatch):
    running = Study(tmp_path, 1, quick=True)
    assert len(running) == 3
    first = []
    for run in running.run():
        first.append(run)
        if len(first) == 2:
            break
    whole = list(Study(tmp_path, 1, quick=True).run())
    assert whole[:2] == first
    assert [run.method for run in whole] == ["float", "LG-LSQ", "LG-LSQ without SSG"]
    monkeypatch.setattr(study, "train", None)  # nothing is left to be trained
    assert list(Study(tmp_path, 1, quick=True).run()) == whole
    (tmp_path / "accuracies.json").write_text("{")
    with pytest.raises(QuantizationError, match="must be what an earlier study wrote"):
        next(Study(tmp_path, 1, quick=True).run())


def runs():
    return [
        Run(method, bits, seed, 0.9 + 0.01 * bits + 0.02 * seed)
        for seed in (0, 1)
        for method, widths in (("float", (0,)), *((m.name, (2, 3, 4)) for m in METHODS))
        for bits in widths
    ]


def test_rows():
    table = rows(runs())
    assert (table[0].method, table[0].mean, table[0].drop) == ("float", pytest.approx(91), 0)
    row = next(row for row in table if row.bits == 3)
    assert row.mean == pytest.approx(94)
    assert row.spread == pytest.approx(2**0.5)
    assert row.drop == pytest.approx(-3)


def test_markdown_and_picture(tmp_path):
    assert "| LSQ | 93.00 ± 1.41 | 94.00 ± 1.41 | 95.00 ± 1.41 |" in markdown(runs())
    draw(runs(), tmp_path / "study.png")
    assert (tmp_path / "study.png").stat().st_size > 10_000


@pytest.mark.usefixtures("few")
def test_command(kenyon, monkeypatch):
    monkeypatch.setattr("firmware_tools.quantize.study_report.BITS", (2,))
    monkeypatch.setattr("firmware_tools.quantize.study_report.METHODS", METHODS[:2])
    result = kenyon("bench", "quantizers", "--seeds", "1", "--quick", "--json", "-o", "study.png")
    assert result.exit_code == 0, result.output
    assert len(json.loads(result.stdout)["runs"]) == 3
