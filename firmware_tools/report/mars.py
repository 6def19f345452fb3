"""Frames on MARS: clocks against bounds, stalls by cause, when each macro works, spikes by step."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from bokeh.models import ColorBar, ColumnDataSource, FactorRange, LinearColorMapper

from firmware_tools.mars.plot import COMPUTING, LOADED, PARTS, WHOLE
from firmware_tools.report.charts import BAR, axes, bars, legend, whole
from firmware_tools.report.page import Chart, Facts, Part, Section, Span, Table, Text
from firmware_tools.report.run import SHADES

MOST_BLOCKS = 4000
"""Kernel blocks that are drawn one by one."""
COLUMNS = {
    "clocks": "clocks",
    "bound": "bound",
    "ratio": "clocks / bound",
    "utilisation": "macros busy",
    "steps": "working",
    "weight_stalls": "weight stalls",
    "drain_stalls": "drain stalls",
    "layer_stalls": "layer stalls",
    "sets_kept": "group-sets kept",
    "sets_total": "of",
    "accesses": "accesses",
    "feature_reads": "feature reads",
    "feature_writes": "feature writes",
    "requantisations": "requantisations",
    "weight_bits": "weight bits",
    "index_bits": "index bits",
}
"""Fields of a pass, and what their columns are called."""
Passes = Sequence[Mapping[str, Any]]


def frame(values: Mapping[str, Any]) -> list[Section]:
    """What `kenyon bench mars --json` says of a frame."""
    passes = values["passes"]
    names = _names(passes)
    return [
        Section("Frame", [_facts(values)]),
        Section("Clocks of each pass", _clocks(passes, names)),
        Section("Utilisation and stalls", _shares(passes, names)),
        Section("Timeline", _timeline(values, names)),
        Section("Every pass", [_table(passes, names, values["total"])]),
    ]


def _names(passes: Passes) -> list[str]:
    return ["+".join(one["layers"]) or "input" for one in passes]


def _facts(values: Mapping[str, Any]) -> Facts:
    total = values["total"]
    return Facts(
        "A frame on the golden machine",
        {
            "network": values["network"],
            "configuration": values["configuration"],
            "macros": values["macros"],
            "weight bus, bit": values["weight_bus"],
            "runs of the program": values["chunks"],
            "clocks": values["frame_clocks"],
            "clock, MHz": values["clock_mhz"],
            "frames/s": values["frames_per_second"],
            "bound of the layers": total["bound"] or None,
            "clocks / bound of the layers": total["ratio"],
            "bound of the frame": total["frame_bound"] or None,
            "clocks / bound of the frame": total["frame_ratio"],
            "macros busy": f"{total['utilisation']:.1%}",
            "note": values["note"],
        },
    )


def _clocks(passes: Passes, names: Sequence[str]) -> list[Part]:
    chart = bars(
        names,
        {"clocks": [one["clocks"] for one in passes]},
        "clocks",
        marks={
            "bound": [one["bound"] or None for one in passes],
            "bound with the weight bus": [one["bus_bound"] or None for one in passes],
        },
    )
    return [
        Chart(
            "Clocks since the end of the pass before. Bound: every macro always busy or always "
            "written; a pass can be below it when its weights came while the one before worked.",
            chart,
        )
    ]


def _shares(passes: Passes, names: Sequence[str]) -> list[Part]:
    parts = {
        label: [100 * one[name] / one["clocks"] for one in passes]
        for name, (label, _) in PARTS.items()
    }
    busy = [100 * one["utilisation"] for one in passes]
    chart = bars(
        names,
        parts,
        "% of the pass's clocks",
        unit="%",
        colours=[colour for _, colour in PARTS.values()],
        marks={"macros busy": busy},
    )
    return [
        Chart(
            "What the clocks of each pass were spent on: macros work, wait for weights, for "
            "post-processing (drain), or for the layer before. Macros busy: accesses of all "
            "macros, of those that they could make in these clocks.",
            chart,
        )
    ]


def _timeline(values: Mapping[str, Any], names: Sequence[str]) -> list[Part]:
    passes = values["passes"]
    clocks = whole(0, passes[-1]["end"])
    n_blocks = sum(len(one["blocks"]) for one in passes)
    blocks = [_blocks(one, one_by_one=n_blocks <= MOST_BLOCKS) for one in passes]
    note = (
        "Each kernel block is drawn."
        if n_blocks <= MOST_BLOCKS
        else f"{n_blocks:,} kernel blocks are too many to be drawn: those of a pass are one."
    )
    parts: list[Part] = [
        Chart(
            f"Kernel blocks by pass. {note}",
            _by_pass(passes, names, blocks, clocks),
            [Span("clock", clocks)],
        ),
        Chart(
            "The same by macro. Macros in a pass walk together, split x teams of them: those that "
            "share a kernel block, and those that do the same for other pixels.",
            _by_macro(values, names, blocks, clocks),
        ),
    ]
    if values["chunks"] > 1:
        parts.insert(0, Text(f"This is the first of {values['chunks']} runs of the program."))
    return parts


def _blocks(one: Mapping[str, Any], *, one_by_one: bool) -> list[tuple[int, int, int]]:
    blocks = [tuple(block) for block in one["blocks"]]
    if one_by_one or not blocks:
        return blocks
    return [(blocks[0][0], blocks[0][1], blocks[-1][2])]


def _by_pass(
    passes: Passes, names: Sequence[str], blocks: list[list[tuple[int, int, int]]], clocks: Any
) -> Any:
    rows = [f"{k + 1}. {name}" for k, name in enumerate(names)]
    chart = axes(
        "clock",
        "",
        height=BAR * len(rows) + 110,
        x_range=clocks,
        y_range=FactorRange(*reversed(rows)),
        tooltips=[("", "@row"), ("clocks", "@left{0,0} to @right{0,0}")],
    )
    kinds: list[tuple[str, str, float, list[tuple[str, int, int]]]] = [
        ("pass", WHOLE, 0.85, _spans(rows, passes)),
        (
            "kernel block loaded, waits",
            LOADED,
            0.7,
            [
                (row, loaded, first)
                for row, own in zip(rows, blocks, strict=True)
                for loaded, first, _ in own
                if loaded < first
            ],
        ),
        ("kernel block computes", COMPUTING, 0.45, _steps(rows, blocks)),
    ]
    items = []
    for name, colour, height, spans in kinds:
        source = ColumnDataSource(_columns(spans))
        drawn = chart.hbar(
            y="row",
            left="left",
            right="right",
            height=height,
            source=source,
            fill_color=colour,
            line_color="white" if colour == COMPUTING else None,
            line_width=0.5,
        )
        items.append((name, [drawn]))
    legend(chart, items)
    return chart


def _by_macro(
    values: Mapping[str, Any],
    names: Sequence[str],
    blocks: list[list[tuple[int, int, int]]],
    clocks: Any,
) -> Any:
    rows = [f"macro {k}" for k in range(values["macros"])]
    chart = axes(
        "clock",
        "",
        height=BAR * len(rows) + 110,
        x_range=clocks,
        y_range=FactorRange(*reversed(rows)),
        tooltips=[("", "@row"), ("pass", "@name"), ("clocks", "@left{0,0} to @right{0,0}")],
    )
    spans, of = [], []
    for one, name, own in zip(values["passes"], names, blocks, strict=True):
        for row in rows[: one["split"] * one["teams"]]:
            spans += [(row, first, last + 1) for _, first, last in own]
            of += [name] * len(own)
    source = ColumnDataSource({**_columns(spans), "name": of})
    drawn = chart.hbar(
        y="row",
        left="left",
        right="right",
        height=0.7,
        source=source,
        fill_color=COMPUTING,
        line_color="white",
        line_width=0.5,
    )
    legend(chart, [("kernel block computes", [drawn])])
    return chart


def _spans(rows: Sequence[str], passes: Passes) -> list[tuple[str, int, int]]:
    return [
        (row, one["end"] - one["clocks"], one["end"]) for row, one in zip(rows, passes, strict=True)
    ]


def _steps(
    rows: Sequence[str], blocks: list[list[tuple[int, int, int]]]
) -> list[tuple[str, int, int]]:
    return [
        (row, first, last + 1)
        for row, own in zip(rows, blocks, strict=True)
        for _, first, last in own
    ]


def _columns(spans: list[tuple[str, int, int]]) -> dict[str, list[Any]]:
    return {name: [span[k] for span in spans] for k, name in enumerate(("row", "left", "right"))}


def _table(passes: Passes, names: Sequence[str], total: Mapping[str, Any]) -> Table:
    rows = [[name, *_row(one)] for name, one in zip(names, passes, strict=True)]
    columns = ["layers", "macros: split x teams", *COLUMNS.values()]
    return Table("Figures of each pass", columns, [*rows, ["all", *_row(total)]])


def _row(one: Mapping[str, Any]) -> list[object]:
    macros = f"{one['split']} x {one['teams']}" if "split" in one else ""
    return [macros, *(one[name] for name in COLUMNS)]


def table(values: Mapping[str, Any]) -> list[Section]:
    """What `kenyon bench mars --table --json` says."""
    rows = values["rows"]
    names = [f"{row['network']}, sparsity {row['sparsity']:g}" for row in rows]
    chart = bars(
        names,
        {"clocks": [row["clocks"] for row in rows]},
        "clocks",
        marks={
            "bound of the layers": [row["bound"] for row in rows],
            "bound of the frame": [row["frame_bound"] for row in rows],
        },
    )
    about = {name: value for name, value in values.items() if name != "rows"}
    return [
        Section("Measured on", [Facts("Common to all rows", _spelled(about))]),
        Section(
            "Clocks against bounds",
            [
                Chart("Clocks of a frame on the golden machine.", chart),
                Table(
                    "Every network",
                    [_words(name) for name in rows[0]],
                    [list(row.values()) for row in rows],
                ),
            ],
        ),
    ]


def orders(values: Mapping[str, Any]) -> list[Section]:
    """Orders with an exit, if `kenyon bench mars` was asked for them."""
    rows = values.get("orders")
    if not rows:
        return []
    caption = f"Clocks with {values['exit_mean']:g} time steps in the mean, at least one chunk"
    columns = ["time steps of a chunk", "first chunk", "each later one", "clocks in the mean"]
    return [
        Section("Orders with an exit", [Table(caption, columns, [[*r.values()] for r in rows])])
    ]


def results(values: Mapping[str, Any]) -> list[Section]:
    """What `kenyon infer --json` says of each image."""
    facts = {
        "network": values["network"],
        "backend": values["backend"],
        "configuration": values["configuration"],
        "images": values["images"],
        "shape of a result": values["shape"],
        "clocks of a frame, mean": values["clocks"],
        "frames/s": values["frames_per_second"],
        "seconds": values["wall_seconds"],
    }
    parts: list[Part] = [Facts("The run", facts), *map(Text, values["notes"])]
    classes = values["classes"]
    if classes is None:
        return [Section("Summary", parts)]
    best = [max(one) for one in values["outputs"]]
    columns = {"image": range(len(best)), "class": list(map(str, classes)), "result": best}
    if "steps" in values:
        columns["time steps"] = values["steps"]
    rows = list(zip(*columns.values(), strict=True))
    names = [str(label) for label in sorted(set(classes))]
    counts = [sum(label == int(name) for label in classes) for name in names]
    chart = bars([f"class {name}" for name in names], {"images": counts}, "images")
    return [
        Section("Summary", parts),
        Section(
            "Classes",
            [
                Chart("How many images went to each class.", chart),
                Table("Class and largest result of each image", list(columns), rows, ["class"]),
            ],
        ),
    ]


def spikes(shares: Mapping[str, Sequence[float]]) -> list[Section]:
    """Spiking layers by time step.

    Parameters
    ----------
    shares : {str: sequence of float}
        Of each layer the share of its neurons that fire, step by step, mean of the images.
    """
    if not shares:
        return []
    names = [f"{k + 1}. {name}" for k, name in enumerate(shares)]
    steps = [str(k) for k in range(max(map(len, shares.values())))]
    cells = [
        (name, step, 100 * share)
        for name, own in zip(names, shares.values(), strict=True)
        for step, share in zip(steps, own, strict=False)
    ]
    columns = zip(("layer", "step", "share"), zip(*cells, strict=True), strict=True)
    source = ColumnDataSource({name: list(values) for name, values in columns})
    high = max(1.0, float(np.max(source.data["share"])))
    shades = LinearColorMapper(palette=SHADES, low=0, high=high)
    chart = axes(
        "time step",
        "",
        height=BAR * len(names) + 110,
        x_range=FactorRange(*steps),
        y_range=FactorRange(*reversed(names)),
        tooltips=[("", "@layer, step @step"), ("fire", "@share{0.00} %")],
    )
    chart.rect(
        "step",
        "layer",
        width=0.96,
        height=0.9,
        source=source,
        fill_color={"field": "share", "transform": shades},
        line_color=None,
    )
    chart.add_layout(ColorBar(color_mapper=shades, title="% fire"), "right")
    rows = [[name, *(f"{100 * one:.2f} %" for one in own)] for name, own in shares.items()]
    return [
        Section(
            "Spiking layers by time step",
            [
                Chart("Neurons that fire in each time step, % of the layer's.", chart),
                Table("The same as numbers", ["layer", *(f"step {k}" for k in steps)], rows),
            ],
        )
    ]


def _spelled(values: Mapping[str, object]) -> dict[str, object]:
    return {_words(name): value for name, value in values.items()}


def _words(name: str) -> str:
    return name.replace("_", " ")
