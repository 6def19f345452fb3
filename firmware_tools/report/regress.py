"""Regressions: every case with its command, and where they ran."""

from collections.abc import Mapping
from typing import Any

from firmware_tools.report.charts import bars
from firmware_tools.report.page import Chart, Facts, Section, Table

GOOD, BAD = "#009e73", "#d55e00"
COLUMNS = ["outcome", "configuration", "case", "seed", "steps", "values", "clocks", "seconds"]


def sections(values: Mapping[str, Any]) -> list[Section]:
    """What `kenyon regress --json` says."""
    outcomes = values["outcomes"]
    total = {name: sum(one[name] for one in outcomes) for name in ("values", "clocks", "seconds")}
    facts = {
        "passed": values["passed"],
        "failed": values["failed"],
        "not run": values["not_run"],
        "seed": str(values["seed"]),
        "values compared": total["values"],
        "clocks compared": total["clocks"],
        "seconds of all cases": total["seconds"],
    }
    result = [Section("Summary", [Facts("The regression", facts)])]
    if not outcomes:
        return result
    groups = list(dict.fromkeys((one["configuration"], one["name"]) for one in outcomes))
    own = [[o for o in outcomes if (o["configuration"], o["name"]) == g] for g in groups]
    names = [f"{name}, {configuration}" for configuration, name in groups]
    counts = {
        "passed": [sum(one["passed"] for one in group) for group in own],
        "failed": [sum(not one["passed"] for one in group) for group in own],
    }
    seconds = {"seconds": [sum(one["seconds"] for one in group) for group in own]}
    # Those that failed come first, so that none is left out of a long table.
    ordered = sorted(outcomes, key=lambda one: one["passed"])
    rows = [
        [
            "passed" if one["passed"] else "failed",
            one["configuration"],
            one["name"],
            str(one["seed"]),
            *(one[name] for name in ("steps", "values", "clocks", "seconds")),
            one["failure"],
            one["command"],
        ]
        for one in ordered
    ]
    return [
        *result,
        Section(
            "By case and configuration",
            [
                Chart(
                    "Cases that passed and failed.",
                    bars(names, counts, "cases", colours=(GOOD, BAD)),
                ),
                Chart("Seconds, of all cases together.", bars(names, seconds, "seconds")),
            ],
        ),
        Section(
            "Every case",
            [
                Table(
                    "Cases, those that failed first, and the command that runs each alone.",
                    [*COLUMNS, "failure", "command"],
                    rows,
                    ["outcome", "configuration", "case"],
                )
            ],
        ),
    ]
