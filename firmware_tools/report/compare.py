"""Comparisons of model and RTL: what was compared, and the first difference, if there is one."""

from collections.abc import Mapping
from typing import Any

from firmware_tools.report.page import Code, Facts, Part, Section, Text


def verdict(values: Mapping[str, Any]) -> Section:
    """What `kenyon compare --json` says."""
    figures = {
        name.replace("_", " "): str(value) if name == "seed" else value
        for name, value in values.items()
        if name not in ("equal", "difference", "command")
    }
    parts: list[Part] = [
        Text("Equal in every value and every clock." if values["equal"] else "Not equal."),
        Facts("What was compared", figures),
    ]
    if not values["equal"]:
        parts += [
            Facts("The first difference", values["difference"]),
            Text("This command shows it again:"),
            Code(values["command"]),
        ]
    return Section("Verdict", parts)
