"""Condensed prompts: what each was worth, what is left, what it costs."""

from collections.abc import Mapping, Sequence
from typing import Any

from firmware_tools.report.charts import axes, bars, lines
from firmware_tools.report.page import Chart, Facts, Section, Table
from firmware_tools.report.train import loss

FACTS = ("task", "prompts", "accuracy_of_all", "accuracy", "clocks_saved", "bound_saved", "equal")


def sections(values: Mapping[str, Any], losses: Sequence[tuple[str, float]]) -> list[Section]:
    """What `kenyon prompts condense --json` says.

    Parameters
    ----------
    losses : sequence of (str, float)
        Stage of each epoch, and its mean loss.
    """
    facts = {name.replace("_", " "): values[name] for name in FACTS}
    kept, scores = set(values["kept"]), values["scores"]
    order = sorted(range(len(scores)), key=lambda k: -scores[k])
    parts = {
        name: [scores[k] if (k in kept) == is_kept else 0.0 for k in order]
        for name, is_kept in (("kept", True), ("taken away", False))
    }
    costs = values["costs"]
    chart = axes("prompts", "clocks of a frame")
    series = {name: [one[name] for one in costs] for name in ("clocks", "bound")}
    lines(chart, [one["prompts"] for one in costs], series, points=True)
    columns = ["prompts", "tokens", "clocks", "bound", "ratio"]
    return [
        Section("Summary", [Facts("The condensation", facts)]),
        Section(
            "What each prompt was worth",
            [
                Chart(
                    "Mean of |prompt . gradient| over the batches, best first.",
                    bars([f"prompt {k}" for k in order], parts, "score"),
                )
            ],
        ),
        Section(
            "Clocks",
            [
                Chart("With none, with what is kept, with all.", chart),
                Table("The same as numbers", columns, [[one[c] for c in columns] for one in costs]),
            ],
        ),
        Section("Loss", loss(losses)),
    ]
