"""Pages: parts, where they are from, refusals."""

import re
import sys
from pathlib import Path

import pytest

from firmware_tools.console import Invocation, Terminal, invoked
from firmware_tools.report import page
from firmware_tools.report.page import MOST_ROWS, Code, Facts, Frames, Section, Table, Text
from model.npu.config import CONFIGS

DOCUMENT = Path(__file__).parents[3] / "docs" / "reports.md"


def test_parts(read) -> None:
    invoked(Invocation(("kenyon", "run", "a b.json"), {"--seed": 7}))
    facts = Facts("Facts", {"n": 1234, "no": None, "yes": True, "x": 0.12345})
    sections = [
        Section("First <one>", [Text("a & b"), Code("x < y"), facts]),
        Section("Empty", []),
        Section("Second", [Table("Rows", ["name", "n"], [["a", 1234567], ["b", None], ["<", 2]])]),
    ]
    page.write(Path("page.html"), "A <title>", sections, Terminal(json=False), CONFIGS["tiny"])
    found = read("page.html")
    assert found.headings == ["A <title>", "First <one>", "Second", "How this was made"]
    assert found.code == ["x < y", "kenyon run 'a b.json'"]
    assert found.facts("Facts") == {"n": "1,234", "yes": "yes", "x": "0.1235"}
    assert found.tables["Rows"] == [["name", "n"], ["a", "1,234,567"], ["b", ""], ["<", "2"]]
    assert found.facts("Options, those that were not given included") == {"--seed": "7"}
    assert found.facts("Configuration of the chip")["name"] == "tiny"
    assert found.facts("Versions")["Python"].startswith(f"3.{sys.version_info.minor}")
    # Without charts the page does without their library.
    assert len(found.text) < 50_000


def test_example_of_the_documentation(read) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    exec(compile(program, str(DOCUMENT), "exec"), {})
    found = read("own.html")
    assert found.headings == ["A neuron", "Summary", "Membrane", "Steps", "How this was made"]
    assert found.tables["All"][-1] == ["2", "146"]


def test_long_table_says_what_it_leaves_out(read) -> None:
    rows = [[k] for k in range(MOST_ROWS + 3)]
    page.write(
        Path("page.html"), "t", [Section("s", [Table("T.", ["k"], rows)])], Terminal(json=False)
    )
    (caption,) = (one for one in read("page.html").tables if one.startswith("T."))
    assert caption == "T. Only the first 2,000 of 2,003 rows are on this page."


def test_script_can_not_be_left() -> None:
    section = Section("s", [Frames("film", [b"x"], ["</script><b>"])])
    text = page.render("t", [section])
    assert "</script><b>" not in text
    assert "\\u003c/script>" in text


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("x.htm", "x.htm: report must end in .html"),
        ("no/x.html", "no/x.html: folder must exist: no"),
    ],
)
@pytest.mark.parametrize(
    "verb",
    [
        ("run", "absent.json"),
        ("infer", "absent.npz", "--input", "x.npy"),
        ("compare", "absent.json"),
        ("regress",),
        ("bench",),
        ("ppa",),
        ("mutate",),
        ("train", "digits"),
    ],
    ids=lambda words: words[0],
)
def test_bad_path_is_refused_at_once(kenyon, verb: tuple[str, ...], path: str, error: str) -> None:
    result = kenyon(*verb, "--report", path)
    assert result.exit_code == 2
    assert result.stderr == f"error: {error}\n"


def test_missing_bokeh(kenyon, pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bokeh", None)
    result = kenyon("run", pair, "--report", "run.html")
    assert result.exit_code == 2
    assert result.stderr == (
        "error: the package bokeh must be installed for --report: pip install 'kenyon[report]'\n"
    )
