"""Trainings: loss of every epoch, and what came out."""

from collections.abc import Mapping, Sequence
from typing import Any

from firmware_tools.report.charts import axes, legend, lines
from firmware_tools.report.page import Chart, Facts, Part, Section, Table, Text

COLOURS = {
    "float": "#808080",
    "one_step": "#e69f00",
    "sparse": "#cc79a7",
    "quantised": "#0072b2",
    "prompts": "#56b4e9",
    "condensed": "#009e73",
    "all": "#d55e00",
}


def sections(values: Mapping[str, Any], losses: Sequence[tuple[str, float]]) -> list[Section]:
    """What `kenyon train --json` says.

    Parameters
    ----------
    losses : sequence of (str, float)
        Stage of each epoch, and its mean loss.
    """
    facts = {
        name.replace("_", " "): str(value) if name == "seed" else value
        for name, value in values.items()
        if name != "accuracy_by_step"
    }
    parts: list[Part] = []
    if "accuracy_by_step" in values:
        by_step = [100 * share for share in values["accuracy_by_step"]]
        chart = axes("time steps taken", "test accuracy, %")
        lines(chart, list(range(1, len(by_step) + 1)), {"accuracy": by_step}, points=True)
        parts.append(Chart("Accuracy if the network stops after each time step.", chart))
    return [
        Section("Summary", [Facts("The network", facts)]),
        Section("Accuracy after each step", parts),
        Section("Loss", loss(losses)),
    ]


def loss(losses: Sequence[tuple[str, float]]) -> list[Part]:
    """Stage and mean loss of every epoch."""
    if not losses:
        return []
    chart = axes("epoch", "mean loss of the training images", y_axis_type="log")
    items = []
    for stage, colour in COLOURS.items():
        own = [(k + 1, loss) for k, (name, loss) in enumerate(losses) if name == stage]
        if own:
            x, y = zip(*own, strict=True)
            drawn = [chart.line(x, y, color=colour), chart.scatter(x, y, color=colour, size=5)]
            items.append((stage.replace("_", " "), drawn))
    legend(chart, items)
    return [
        Text("Stages have losses of their own: only epochs of one stage compare."),
        Chart("Mean loss of every epoch.", chart),
        Table(
            "The same as numbers",
            ["epoch", "stage", "loss"],
            [[k + 1, stage, loss] for k, (stage, loss) in enumerate(losses)],
            ["stage"],
        ),
    ]
