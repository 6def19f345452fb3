"""Searches of devices: fronts, what each layer got, how much each constant matters."""

from collections.abc import Mapping
from typing import Any

from bokeh.models import ColumnDataSource

from firmware_tools.report.charts import MORE_COLOURS, axes, legend
from firmware_tools.report.page import Chart, Facts, Section, Table

FACTS = (
    "network",
    "objective",
    "allowed_drop",
    "method",
    "images",
    "image_count",
    "chips",
    "networks_priced",
    "networks_measured",
    "gain",
    "gain_arrays_only",
)
COLUMNS = (
    ("points lost", "drop"),
    ("noise", "noise"),
    ("mm2", "area_mm2"),
    ("uJ", "energy_uj"),
    ("ms", "time_ms"),
    ("TOPS/mm2", "tops_per_mm2"),
    ("TOPS/W", "tops_per_watt"),
    ("arrays only: mm2", "area_mm2_arrays_only"),
    ("uJ ", "energy_uj_arrays_only"),
    ("ms ", "time_ms_arrays_only"),
    ("TOPS/mm2 ", "tops_per_mm2_arrays_only"),
    ("converters", "converters"),
    ("programming, uJ", "program_uj"),
)


def sections(values: Mapping[str, Any]) -> list[Section]:
    """What `kenyon search devices --json` says."""
    facts = {name.replace("_", " "): values.get(name) for name in FACTS}
    result = [Section("Summary", [Facts("The search", facts | {"seed": str(values["seed"])})])]
    if not values["front"]:
        return result
    rows = [[devices_of(one), *(one[key] for _, key in COLUMNS)] for one in values["front"]]
    alone = [[devices_of(one), *(one[key] for _, key in COLUMNS)] for one in values["homogeneous"]]
    columns = ["devices", *(title for title, _ in COLUMNS)]
    result.append(
        Section(
            "Front",
            [
                Chart("Measured networks of the front, and one device for all.", _front(values)),
                Table("The front, the cheapest first, with converters and without.", columns, rows),
                Table("One device for all layers.", columns, alone),
            ],
        )
    )
    equal = [
        [
            one["noise_of"],
            one["noise"],
            one["best_single"],
            one["gain"],
            one["gain_arrays_only"],
            devices_of(one),
        ]
        for one in values["at_equal_noise"]
    ]
    columns = ["device", "its noise", "best single device", "gain", "arrays only", "devices"]
    caption = "Gain of the best network that is expected to have no more noise than one device."
    result.append(Section("At equal noise", [Table(caption, columns, equal)]))
    best = values["best"]
    if best is not None:
        each = list(zip(values["layers"], best["devices"], strict=True))
        result.append(Section("Best network", [Table("Devices.", ["layer", "device"], each)]))
    noise = [[name, *row] for name, row in zip(values["layers"], values["noise"], strict=True)]
    caption = "Share of noise in the results' variance if this layer alone is on a device."
    parts = [Table(caption, ["layer", *values["options"]], noise)]
    result.append(Section("Layers alone", parts))
    if values.get("sensitivity"):
        result.append(Section("Constants", [_sensitivity(values)]))
    return result


def devices_of(one: Mapping[str, Any]) -> str:
    """Devices with how many layers have them."""
    counts: dict[str, int] = {}
    for text in one["devices"]:
        counts[text] = counts.get(text, 0) + 1
    return ", ".join(f"{n} {text}" for text, n in counts.items())


def _front(values: Mapping[str, Any]) -> Any:
    shown = {"tops-per-mm2": "tops_per_mm2", "energy": "energy_uj"}.get(values["objective"])
    chart = axes(
        values["unit"],
        "points lost",
        height=360,
        x_axis_type="log",
        tooltips=[("devices", "@text"), (values["unit"], "@x"), ("points lost", "@y")],
    )
    items = []
    for k, name in enumerate(("front", "homogeneous")):
        points = values[name]
        x = [one[shown] if shown else one["energy_uj"] * one["time_ms"] for one in points]
        source = ColumnDataSource(
            {"x": x, "y": [one["drop"] for one in points], "text": [*map(devices_of, points)]}
        )
        marker = "square" if k else "circle"
        drawn = chart.scatter("x", "y", source=source, size=9, color=MORE_COLOURS[k], marker=marker)
        items.append((name, [drawn]))
    legend(chart, items)
    return chart


def _sensitivity(values: Mapping[str, Any]) -> Table:
    rows = [
        [
            one["constant"],
            one.get("ours"),
            one.get("default"),
            one["value"] if "default" in one else None,
            one["gain"],
            one["gain_same_devices"],
            ", ".join(f"{n} {name}" for name, n in one["devices"].items()),
        ]
        for one in values["sensitivity"]
    ]
    columns = ["constant", "ours", "stated", "is", "gain", "of the same devices", "devices"]
    caption = "Gain over the best single device if one constant is at an end of its range."
    return Table(caption, columns, rows, ["constant", "ours"])
