"""Pages of `kenyon avoid`: what stands on them is what was decided."""

import json

import numpy as np
from PIL import Image

from firmware_tools.avoid.clips import generate

TINY = ("-c", "kenyon-tiny")


def test_clips(kenyon, read) -> None:
    result = kenyon("avoid", "--clips", 6, *TINY, "--report", "a.html", "--json")
    assert result.exit_code == 0, result.output
    told, page = json.loads(result.stdout), read("a.html")
    facts = page.facts("All clips")
    assert facts["clips"] == "6"
    assert facts["clocks max"] == f"{told['clocks_max']:,}"
    head, *rows = next(rows for name, rows in page.tables.items() if name.startswith("Clips"))
    assert len(rows) == 6
    wrong = sum(row[head.index("right")] == "no" for row in rows)
    motion, looms = (np.array(told[name]) for name in ("modes", "directions"))
    assert 12 - motion.trace() - looms.trace() >= wrong
    same = [row[1] == row[2] and row[3] == row[4] for row in rows]
    assert [row[head.index("right")] == "yes" for row in rows] == same
    title = next(name for name in page.headings if name.startswith("Clip "))
    assert title == (f"Clip {same.index(False)}, the first wrong one" if wrong else "Clip 0, right")


def test_own_pictures(kenyon, read) -> None:
    (clip,) = generate(1, 0, "test", 2)
    for k, frame in enumerate(clip.frames):
        Image.fromarray(frame).save(f"{k:03}.png")
    result = kenyon("avoid", "--input", ".", *TINY, "--report", "p.html", "--json")
    assert result.exit_code == 0, result.output
    decisions = json.loads(result.stdout)["decisions"]
    _, *rows = read("p.html").tables["Decisions."]
    assert [row[1] for row in rows] == [one["mode"] or "none" for one in decisions]
    assert [row[2] for row in rows] == [str(max(one["mode_counts"])) for one in decisions]


def test_worlds(kenyon, read) -> None:
    result = kenyon("avoid", "--worlds", 1, "--seed", 4, *TINY, "--report", "w.html", "--json")
    assert result.exit_code == 0, result.output
    told, page = json.loads(result.stdout), read("w.html")
    (row,) = page.tables["The same as numbers"][1:]
    assert row == ["world 4", str(told["straight_collisions"]), str(told["collisions"])]
    # A film needs no file of its own.
    assert told["film"] is None
    assert "The first flight" in page.headings
