"""`--report` of regress, mutate, ppa, bench and train."""

import json
from pathlib import Path
from typing import Any

import pytest

from firmware_tools.console import Terminal
from firmware_tools.mutation.mutants import Mutant
from firmware_tools.mutation.score import CAUGHT, SURVIVED, Outcome
from firmware_tools.npu.figures import Figure
from firmware_tools.quantize import digits, study
from firmware_tools.quantize.spiking_study import SpikingRun
from firmware_tools.quantize.spiking_study import as_json as spiking_json
from firmware_tools.quantize.study import METHODS, Run
from firmware_tools.quantize.training import Settings, Training
from firmware_tools.report import bench, mutate, page, prompts, regress
from firmware_tools.report.page import Section
from firmware_tools.silicon.report import Area, Report, Share, Spiking
from firmware_tools.silicon.timing import Step, Timing
from firmware_tools.silicon.workload import Work

EVERY = "Cases, those that failed first, and the command that runs each alone."


def written(sections: list[Section]) -> str:
    page.write(Path("page.html"), "t", sections, Terminal(json=False))
    return "page.html"


def test_regress(kenyon, read) -> None:
    words = ("regress", "--only", "quantised", "-c", "mars-tiny", "--count", "2", "--seed", "4")
    result = kenyon(*words, "--report", "r.html", "--json")
    assert result.exit_code == 0, result.stderr
    outcomes = json.loads(result.stdout)["outcomes"]
    found = read("r.html")
    rows = found.tables[EVERY]
    for row, one in zip(rows[1:], outcomes, strict=True):
        assert row[:4] == ["passed", "mars-tiny", "quantised", str(one["seed"])]
        assert row[-1] == one["command"]
        assert row[rows[0].index("values")] == f"{one['values']:,}"
    assert found.facts("The regression")["seed"] == "4"


def test_what_failed_comes_first(read, regression: dict[str, Any]) -> None:
    found = read(written(regress.sections(regression)))
    first = found.tables[EVERY][1]
    assert first[0] == "failed"
    assert first[-2:] == ["RTL: step 3: <v> must be 1, not 2", "kenyon regress --seed 5"]
    assert found.facts("The regression")["failed"] == "1"


def test_mutate(kenyon, read, monkeypatch: pytest.MonkeyPatch) -> None:
    mutants = [
        Mutant("blocks", k, "hw/npu/soma.py", "m", "c", "A", 0, "inv", "", "", "", "0")
        for k in (1, 2)
    ]
    outcomes = {
        "blocks-1": Outcome(mutants[0], CAUGHT, "soma", "tb.soma.ends", 1.0),
        "blocks-2": Outcome(mutants[1], SURVIVED, seconds=2.0),
    }
    monkeypatch.setattr("firmware_tools.commands.mutate._drawn", lambda *_: mutants)
    monkeypatch.setattr("firmware_tools.commands.mutate._run", lambda *_, **__: outcomes)
    assert kenyon("mutate", "--count", "2", "--report", "m.html").exit_code == 1
    found = read("m.html")
    assert [row[0] for row in found.tables["Mutants, survivors first."]] == [
        "fate",
        "survived",
        "caught",
    ]
    assert found.facts("The campaign")["caught of those that can be"] == "50.0%"


def test_fates(read, campaign: dict[str, Any]) -> None:
    found = read(written(mutate.sections(campaign)))
    rows = found.tables["Mutants, survivors first."]
    fates = ["survived", "explained", "equivalent", "hung", "caught"]
    assert [row[0] for row in rows[1:]] == fates
    assert rows[2][rows[0].index("failure or reason")] == "it is never read"


def test_ppa(kenyon, read, monkeypatch: pytest.MonkeyPatch) -> None:
    areas = [
        Area("", 3, 10.0, 0.0),
        *(Area(f"npu.block_{k}", k, 100.0 + k, 5.0) for k in range(50)),
    ]
    shares = [Share("npu.population_0.somas", 3.0, 4.0), Share("npu", 1.0, 0.0)]
    report = Report(
        config="tiny",
        timing=Timing(6.25, "a", "b", [Step(0.5, "NAND2X1", "n1"), Step(6.25, "DFFPOSX1", "q")]),
        areas=areas,
        leakage=1.5,
        measurements=[Spiking("dense", 100, 50, shares, 30, Work(10, 4, 3, 20, 0.25))],
    )
    monkeypatch.setattr("firmware_tools.silicon.report.measure", lambda *_, **_options: report)
    result = kenyon("ppa", "-c", "tiny", "--report", "p.html", "--json")
    assert result.exit_code == 0, result.stderr
    found = read("p.html")
    facts = found.facts("Typical corner, before layout: see docs/silicon.md")
    assert facts["clock, MHz"] == "160"
    assert facts["area, um2"] == f"{report.area:,.4g}"
    blocks = found.tables["Area of every block"]
    assert blocks[1] == ["npu.block_49", "149", "5", "49"]
    assert len(blocks) == 52
    assert found.tables["Energy of every block"][1] == ["npu.population_0.somas", "3", "4"]
    assert [row[0] for row in found.tables["From a to b, period 6.25 ns."]] == ["ns", "0.5", "6.25"]


def test_bench_npu(kenyon, read, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = [Figure("speed", "G/s", 3.5, 2), Figure("time", "s", 3, 2, at_least=False)]
    monkeypatch.setattr(
        "firmware_tools.npu.figures.measurements", lambda **_: {"all": lambda: figures}
    )
    assert kenyon("bench", "--report", "b.html").exit_code == 0
    assert read("b.html").tables["Measured"][1:] == [
        ["good", "speed", "3.5", "G/s", "at least", "2"],
        ["missed", "time", "3", "s", "at most", "2"],
    ]


def test_quantizers(read) -> None:
    methods = [("float", (0,)), *((method.name, (2, 3)) for method in METHODS)]
    runs = [
        Run(method, bits, seed, 0.9 + 0.01 * bits)
        for method, widths in methods
        for bits in widths
        for seed in (0, 1)
    ]
    found = read(written(bench.quantizers(study.as_json(runs))))
    assert len(found.tables["Means and spreads, %"]) == 2 + 2 * len(METHODS)
    assert found.facts("The study")["float network, %"] == "90"


def test_spiking_training(read) -> None:
    runs = [
        SpikingRun(name, seed, 0.99, [0.5, 0.75], 0.7, 1.5)
        for name in ("4-bit membranes", "2-bit membranes")
        for seed in (0, 1)
    ]
    found = read(written(bench.spiking(spiking_json(runs))))
    assert [row[0] for row in found.tables["Means and spreads, %"][1:]] == [
        "4-bit membranes",
        "2-bit membranes",
    ]


def test_prompts(read, condensation, attention) -> None:
    page_of = prompts.sections(condensation, [("prompts", 2.0), ("condensed", 1.0)], attention)
    found = read(written(page_of))
    costs = found.tables["The same as numbers, none, kept, all"]
    assert costs[0][:3] == ["prompts", "tokens of each block", "clocks of a frame"]
    assert costs[2] == ["2", "18 17 17 18", "17,000", "6,800", "17.1", "180,002", "232"]
    heads = [head for head in found.headings if head != "How this was made"]
    assert heads[1:] == [
        "Summary",
        "What each prompt was worth",
        "Costs",
        "Likeness",
        "Attention",
        "Loss",
    ]
    maps = [text for text in found.figures if text.startswith("Block ")]
    assert [text[:8] for text in maps] == ["Block 1,", "Block 2,", "Block 3,", "Block 4,"]
    assert f"differ by at most {1 - 1 / 18:.4f}" in maps[0]
    assert "Energy is an estimate" in found.text
    for text in ("block 4, prompt 0", "patch 15", "taken of, float", "taken of, integer"):
        assert text in found.text, text


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> digits.Data:
    """The first images only."""
    data = digits.load()
    parts = (digits.Part(part.images[:64], part.labels[:64]) for part in (data.training, data.test))
    small = digits.Data(*parts)
    monkeypatch.setattr("firmware_tools.quantize.digits.load", lambda **_: small)
    return small


@pytest.mark.usefixtures("few")
def test_train(kenyon, read) -> None:
    words = ("train", "digits", "--epochs", "2", "--float-epochs", "1", "--seed", "3")
    result = kenyon(*words, "--report", "t.html", "--json")
    assert result.exit_code == 0, result.stderr
    found = read("t.html")
    rows = found.tables["The same as numbers"]
    assert [row[:2] for row in rows[1:]] == [["1", "float"], ["2", "quantised"], ["3", "quantised"]]
    assert all(float(row[2]) > 0 for row in rows[1:])
    assert found.facts("The network")["seed"] == "3"


@pytest.mark.usefixtures("few")
def test_train_spiking(kenyon, read) -> None:
    words = ("train", "digits", "--spiking", "--steps", "2", "--epochs", "1")
    result = kenyon(*words, "--float-epochs", "1", "--one-step-epochs", "1", "--report", "t.html")
    assert result.exit_code == 0, result.stderr
    found = read("t.html")
    stages = [row[1] for row in found.tables["The same as numbers"][1:]]
    assert stages == ["float", "one_step", "quantised"]
    assert "Accuracy after each step" in found.headings


def test_losses_of_a_resumed_training(few: digits.Data, tmp_path: Path) -> None:
    settings = Settings(float_epochs=2, epochs=2, seed=1)
    whole = Training(settings, few)
    list(whole.run())
    begun = Training(settings, few, tmp_path / "checkpoint")
    for _stage, done in begun.run():
        if done == 3:
            break
    resumed = Training(settings, few, tmp_path / "checkpoint")
    assert resumed.losses == whole.losses[:3]
    list(resumed.run())
    assert resumed.losses == whole.losses
    assert [stage for stage, _ in whole.losses] == ["float", "float", "quantised", "quantised"]
