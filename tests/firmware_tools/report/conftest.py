"""Pages as tests read them, and values of verbs that take too long to be run here."""

from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firmware_tools.prompts.likeness import Attention

VOID = {"meta", "link", "input", "img", "br"}


@dataclass
class Parsed(HTMLParser):
    """What a page has: tables by caption, links, ids, captions of figures, headings."""

    text: str
    tables: dict[str, list[list[str]]] = field(default_factory=dict)
    ids: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    resources: list[str] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)
    headings: list[str] = field(default_factory=list)
    code: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self._open: list[str] = []
        self._cells: list[list[str]] = []
        self.feed(self.text)
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag not in VOID:
            self._open.append(tag)
        self.ids += [values["id"] or ""] if "id" in values else []
        self.links += [values["href"] or ""] if tag == "a" else []
        self.resources += [v or "" for k, v in attrs if k in ("src", "href") and tag != "a"]
        if tag == "tr":
            self._cells.append([])
        elif tag in ("td", "th"):
            self._cells[-1].append("")
        elif tag == "table":
            self._cells = []
        elif tag in ("figcaption", "h1", "h2", "code"):
            self._list(tag).append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        tag = self._open[-1] if self._open else ""
        if tag == "caption":
            self.tables[data] = self._cells
        elif tag in ("td", "th"):
            self._cells[-1][-1] += data
        elif tag in ("figcaption", "h1", "h2", "code"):
            self._list(tag)[-1] += data

    def _list(self, tag: str) -> list[str]:
        return {"figcaption": self.figures, "code": self.code}.get(tag, self.headings)

    def facts(self, caption: str) -> dict[str, str]:
        return dict(self.tables[caption])


Read = Callable[[str | Path], Parsed]


@pytest.fixture
def read() -> Read:
    """A page that was written; whatever all of them must be is checked."""

    def parse(path: str | Path) -> Parsed:
        text = Path(path).read_text()
        assert len(text) < 5_000_000
        page = Parsed(text)
        assert len(set(page.ids)) == len(page.ids)
        assert {link.removeprefix("#") for link in page.links} <= set(page.ids)
        assert all(resource.startswith("data:") for resource in page.resources)
        assert page.headings[-1] == "How this was made"
        assert page.code[-1].startswith("kenyon ")
        assert page.facts("Versions")["bokeh"].startswith("3.")
        return page

    return parse


@pytest.fixture
def regression() -> dict[str, Any]:
    """As `kenyon regress --json` says it."""

    def outcome(k: int) -> dict[str, Any]:
        name, configuration = ("random", "tiny") if k % 2 else ("quantised", "mars-tiny")
        return {
            "name": name,
            "configuration": configuration,
            "seed": k,
            "command": f"kenyon regress --seed {k}",
            "passed": k != 5,
            "failure": "" if k != 5 else "RTL: step 3: <v> must be 1, not 2",
            "seconds": 0.5,
            "steps": 10,
            "values": 1000,
            "clocks": 200,
        }

    outcomes = [outcome(k) for k in range(8)]
    return {"seed": 1, "passed": 7, "failed": 1, "not_run": 0, "outcomes": outcomes}


@pytest.fixture
def condensation() -> dict[str, Any]:
    """As `kenyon prompts condense --deep --json` says it."""
    costs = [
        {
            "prompts": n,
            "tokens": tokens,
            "clocks": 16000 + 500 * n,
            "bound": 6000.5 + 400 * n,
            "macs": 10**6,
            "program_bytes": 180_000 + n,
            "feature_words": 230 + n,
            "energy_uj": 15.1 + n,
            "ratio": 2.5,
        }
        for n, tokens in ((0, [17] * 4), (2, [18, 17, 17, 18]), (4, [18] * 4))
    ]
    return {
        "task": "rotated",
        "prompts": 4,
        "deep": True,
        "kept": [[0], [], [], [0]],
        "scores": [[0.5], [0.1], [0.2], [0.75]],
        "accuracy_of_all": 0.8,
        "accuracy": 0.78,
        "costs": costs,
        "clocks_saved": 1000,
        "bound_saved": 800.0,
        "cka": {"block 1": 0.99, "logits": 0.9},
        "equal": True,
    }


@pytest.fixture
def attention() -> list[Attention]:
    """Maps of its blocks, all tokens alike but for the integers' class token."""
    found = []
    for n in (18, 17, 17, 18):
        real = np.full((n, n), 1 / n)
        integer = real.copy()
        integer[n - 17] = np.eye(n)[0]
        found.append(Attention(real, integer))
    return found


@pytest.fixture
def campaign() -> dict[str, Any]:
    """As `kenyon mutate --json` says it."""

    def outcome(k: int, fate: str, reason: str = "") -> dict[str, Any]:
        mutant = {"label": f"blocks-{k}", "name": f"soma.x{k}", "design": "blocks"}
        mutant["file"] = "hw/npu/soma.py" if k < 3 else "hw/npu/noise.py"
        bench, failure = ("soma", "tb.x") if fate in ("caught", "hung") else ("", "")
        return {
            "mutant": mutant,
            "outcome": fate,
            "bench": bench,
            "failure": failure,
            "seconds": 2.0,
            "reason": reason,
        }

    outcomes = [
        outcome(1, "caught"),
        outcome(2, "survived"),
        outcome(3, "hung"),
        outcome(4, "survived", "it is never read"),
        outcome(5, "equivalent"),
    ]
    return {
        "seed": 1,
        "not_run": 0,
        "mutants": 5,
        "caught": 2,
        "hung": 1,
        "equivalent": 1,
        "explained": 1,
        "survived": 1,
        "share": 2 / 3,
        "outcomes": outcomes,
    }
