"""Architecture search in a federation: the front, and what the clients did."""

from collections.abc import Mapping
from itertools import accumulate
from typing import Any

from firmware_tools.report.charts import axes, lines
from firmware_tools.report.page import Chart, Facts, Part, Section, Table

FACTS = (
    "data",
    "clients",
    "alpha",
    "sampler",
    "macs",
    "bytes",
    "configuration",
    "candidates",
    "float_accuracy",
    "accuracy",
    "clocks",
    "n_test",
    "equal",
    "output",
)


def sections(values: Mapping[str, Any]) -> list[Section]:
    """What `kenyon search architecture --json` says."""
    facts = {name.replace("_", " "): values[name] for name in FACTS}
    facts |= {"seed": str(values["seed"]), "network": values["winner"]["network"]}
    return [
        Section("Summary", [Facts("The search", facts)]),
        Section("Front", _front(values["front"])),
        Section("Rounds", _rounds(values["rounds"])),
    ]


def _front(front: list[dict[str, Any]]) -> list[Part]:
    chart = axes("clocks of a frame", "held-out accuracy, %")
    shares = {"front": [100 * one["accuracy"] for one in front]}
    lines(chart, [one["clocks"] for one in front], shares, points=True)
    return [
        Chart(
            "Networks that no other one beats in both; float, with the supernet's weights.", chart
        ),
        Table(
            "The same as numbers",
            ["clocks", "held-out accuracy", "MAC", "network"],
            [[one["clocks"], one["accuracy"], one["macs"], one["network"]] for one in front],
            ["network"],
        ),
    ]


def _rounds(rounds: list[dict[str, Any]]) -> list[Part]:
    chart = axes("round", "Hamming distance")
    numbers = list(range(1, len(rounds) + 1))
    lines(chart, numbers, {"least distance": [one["distance"] for one in rounds]}, points=True)
    macs = list(accumulate(one["macs"] for one in rounds))
    n_bytes = list(accumulate(one["bytes"] for one in rounds))
    return [
        Chart("Least distance of two networks of a round.", chart),
        Table(
            "What clients have done by then",
            ["round", "distance", "MAC", "bytes"],
            [
                [k, one["distance"], mac, sent]
                for k, one, mac, sent in zip(numbers, rounds, macs, n_bytes, strict=True)
            ],
            [],
        ),
    ]
