"""Mutation campaigns: scores by RTL file, and the fate of every mutant."""

from collections.abc import Mapping
from typing import Any

from firmware_tools.report.charts import bars
from firmware_tools.report.page import Chart, Facts, Section, Table

COLOURS = {
    "caught": "#009e73",
    "hung": "#56b4e9",
    "equivalent": "#a0a0a0",
    "explained": "#cc79a7",
    "survived": "#d55e00",
}
COLUMNS = ["fate", "design", "RTL", "mutant", "change", "bench", "failure or reason", "seconds"]


def sections(values: Mapping[str, Any]) -> list[Section]:
    """What `kenyon mutate --json` says."""
    outcomes = values["outcomes"]
    facts = {
        "mutants": values["mutants"],
        "caught": values["caught"],
        "of them hung": values["hung"],
        "equivalent": values["equivalent"],
        "explained": values["explained"],
        "survived": values["survived"],
        "caught of those that can be": f"{values['share']:.1%}",
        "not run": values["not_run"],
        "seed": str(values["seed"]),
    }
    result = [Section("Summary", [Facts("The campaign", facts)])]
    if not outcomes:
        return result
    files = sorted({one["mutant"]["file"] for one in outcomes})
    counts = {
        fate: [
            sum(one["mutant"]["file"] == file and _fate(one) == fate for one in outcomes)
            for file in files
        ]
        for fate in COLOURS
    }
    # Survivors come first, so that none is left out of a long table.
    ordered = sorted(outcomes, key=lambda one: list(COLOURS).index(_fate(one)), reverse=True)
    rows = [
        [
            _fate(one),
            one["mutant"]["design"],
            one["mutant"]["file"],
            one["mutant"]["label"],
            one["mutant"]["name"],
            one["bench"],
            one["failure"] or one["reason"],
            one["seconds"],
        ]
        for one in ordered
    ]
    return [
        *result,
        Section(
            "By RTL file",
            [
                Chart(
                    "Mutants of each file by their fate. Equivalent: proved to change nothing. "
                    "Explained: somebody wrote down why nothing can catch it.",
                    bars(files, counts, "mutants", colours=list(COLOURS.values())),
                )
            ],
        ),
        Section(
            "Every mutant",
            [Table("Mutants, survivors first.", COLUMNS, rows, ["fate", "design", "RTL", "bench"])],
        ),
    ]


def _fate(outcome: Mapping[str, Any]) -> str:
    return "explained" if outcome["reason"] else str(outcome["outcome"])
