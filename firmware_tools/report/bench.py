"""Figures with their bounds, and studies of trained networks."""

from collections.abc import Mapping, Sequence
from typing import Any

from bokeh.models import ColumnDataSource, Whisker

from firmware_tools.report.charts import MORE_COLOURS, axes, bars, legend, lines
from firmware_tools.report.page import Chart, Facts, Section, Table


def npu(values: Mapping[str, Any]) -> list[Section]:
    """What `kenyon bench npu --json` says."""
    figures = values["figures"]
    rows: list[list[object]] = []
    for one in figures:
        sign, bound = _bound(one)
        good = "good" if one["good"] else "missed"
        rows.append([good, one["name"], one["measured"], one["unit"], sign, bound or None])
    bounded = [one for one in figures if _bound(one)[1]]
    shares = [100 * one["measured"] / _bound(one)[1] for one in bounded]
    names = [f"{one['name']} ({_bound(one)[0]})" for one in bounded]
    bounds = {"bound": [100.0] * len(names)}
    chart = bars(names, {"measured": shares}, "% of the bound", unit="%", marks=bounds)
    return [
        Section(
            "Figures",
            [
                Table("Measured", ["", "figure", "measured", "unit", "", "bound"], rows),
                Chart("Measured, in % of the bound; some must be above it, some below.", chart),
            ],
        )
    ]


def _bound(figure: Mapping[str, Any]) -> tuple[str, float]:
    if "at_least" in figure:
        return "at least", figure["at_least"]
    return "at most", figure["at_most"]


def quantizers(values: Mapping[str, Any]) -> list[Section]:
    """What `kenyon bench quantizers --json` says."""
    rows = [row for row in values["rows"] if row["bits"]]
    exact = next(row for row in values["rows"] if not row["bits"])
    chart = axes("bits of weights and activations", "test accuracy, %", height=420)
    methods = list(dict.fromkeys(row["method"] for row in rows))
    items = []
    for k, method in enumerate(methods):
        own = [row for row in rows if row["method"] == method]
        x = [row["bits"] + 0.07 * (k - (len(methods) - 1) / 2) for row in own]
        source = ColumnDataSource(
            {
                "x": x,
                "y": [row["mean"] for row in own],
                "low": [row["mean"] - row["spread"] for row in own],
                "high": [row["mean"] + row["spread"] for row in own],
            }
        )
        colour = MORE_COLOURS[k % len(MORE_COLOURS)]
        items.append((method, [chart.scatter("x", "y", source=source, size=8, color=colour)]))
        chart.add_layout(
            Whisker(base="x", lower="low", upper="high", source=source, line_color=colour)
        )
    line = chart.line(
        [min(row["bits"] for row in rows) - 0.5, max(row["bits"] for row in rows) + 0.5],
        [exact["mean"], exact["mean"]],
        color="#808080",
        line_dash="dashed",
    )
    legend(chart, [("float", [line]), *items])
    return [
        Section("Summary", [_study(values, exact["n_seeds"], exact["mean"])]),
        Section(
            "Accuracy",
            [
                Chart("Mean and standard deviation over the seeds.", chart),
                _table("Means and spreads, %", values["rows"], ["method", "bits"]),
            ],
        ),
        Section("Every network", [_table("Runs", values["runs"], ["method", "bits", "seed"])]),
    ]


def spiking(values: Mapping[str, Any]) -> list[Section]:
    """What `kenyon bench spiking-training --json` says."""
    rows = values["rows"]
    chart = axes("time steps taken", "test accuracy, %", height=360)
    steps = list(range(1, 1 + max(len(row["by_step"]) for row in rows)))
    lines(chart, steps, {row["variant"]: row["by_step"] for row in rows}, points=True)
    exact = {run["seed"]: run["float_accuracy"] for run in values["runs"]}
    mean = 100 * sum(exact.values()) / len(exact)
    return [
        Section("Summary", [_study(values, len(exact), mean)]),
        Section(
            "Accuracy after each step",
            [
                Chart("Mean over the seeds.", chart),
                _table("Means and spreads, %", rows, ["variant"]),
            ],
        ),
        Section("Every network", [_table("Runs", values["runs"], ["variant", "seed"])]),
    ]


def _study(values: Mapping[str, Any], n_seeds: int, exact: float) -> Facts:
    return Facts(
        "The study",
        {"data": values["data"], "seeds": n_seeds, "float network, %": exact},
    )


def _table(caption: str, rows: Sequence[Mapping[str, Any]], filters: Sequence[str]) -> Table:
    columns = [name.replace("_", " ") for name in rows[0]]
    cells = [
        [str(value) if name in ("seed", "bits") else value for name, value in row.items()]
        for row in rows
    ]
    return Table(caption, columns, cells, filters)
