"""Frames on MARS: clocks against bounds, stalls by cause, when each macro works, spikes by step."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bokeh.models import ColorBar, ColumnDataSource, FactorRange

from firmware_tools.mars.plot import LOADED, PARTS
from firmware_tools.report.charts import BAR, axes, bars, heat_map, legend, whole
from firmware_tools.report.page import Chart, Facts, Part, Section, Span, Table, Text

MOST_BLOCKS = 4000
"""Kernel blocks that are drawn one by one."""
HIGH = 0.8
"""Of a bar, of its row."""
DARKER = "#00785a"
"""Of the colour of working."""
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
    marks = {"bound": [one["bound"] or None for one in passes]}
    on_bus = [one["bus_bound"] or None for one in passes]
    if on_bus != marks["bound"]:
        marks["bound with the weight bus"] = on_bus
    clocks = {"clocks": [one["clocks"] for one in passes]}
    chart = bars(names, clocks, "clocks", marks=marks)
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
    merged = n_blocks > MOST_BLOCKS
    spans = [segments(one, merged=merged) for one in passes]
    note = (
        f"{n_blocks:,} kernel blocks are too many to be drawn: those of a pass are one, with all "
        "that it waits for weights before it."
        if merged
        else "Each kernel block is drawn, neighbours in two shades."
    )
    parts: list[Part] = [
        Chart(
            "When each macro works, and what it waits for. Macros in a pass walk together, split x "
            "teams of them: those that share a kernel block, and those that do the same for other "
            "pixels; the others rest. Waits for post-processing alternate with work inside a "
            f"kernel block: their share of the pass is the height below the block. {note}",
            _by_macro(values, names, spans, clocks),
            [Span("clock", clocks)],
        ),
        Chart(
            "The same by pass, with the time from complete weights of a kernel block to its "
            "first step.",
            _by_pass(passes, names, spans, clocks),
        ),
    ]
    if values["chunks"] > 1:
        parts.insert(0, Text(f"This is the first of {values['chunks']} runs of the program."))
    return parts


@dataclass(frozen=True)
class Segment:
    """Clocks of a pass, from behind `first` to `last`, and what its macros do in them.

    `kind` is a field of `kenyon bench mars --json`: steps, or weight_stalls or layer_stalls.
    """

    kind: str
    first: int
    last: int

    @property
    def clocks(self) -> int:
        """How many."""
        return self.last - self.first


def segments(one: Mapping[str, Any], *, merged: bool = False) -> list[Segment]:
    """What the macros of a pass do, one after the other, without gaps.

    Kernel blocks contain the stalls of post-processing. Waits between them are for weights; so is
    that before the first one, but for what the pass waits until it may begin.

    Parameters
    ----------
    one : mapping
        A pass of `kenyon bench mars --json`.
    merged : bool
        All kernel blocks as one.
    """
    begin, end = one["end"] - one["clocks"], one["end"]
    if not one["blocks"]:
        return [Segment("layer_stalls", begin, end)]
    works = [(first - 1, last) for _, first, last in one["blocks"]]
    if merged:
        works = [(works[-1][1] - one["steps"] - one["drain_stalls"], works[-1][1])]
    between = sum(after[0] - before[1] for before, after in itertools.pairwise(works))
    found = []
    at = works[0][0] - (one["weight_stalls"] - between)
    found.append(Segment("layer_stalls", begin, at))
    for first, last in works:
        found += [Segment("weight_stalls", at, first), Segment("steps", first, last)]
        at = last
    found.append(Segment("layer_stalls", at, end))
    return [segment for segment in found if segment.clocks]


def _by_macro(
    values: Mapping[str, Any], names: Sequence[str], spans: list[list[Segment]], clocks: Any
) -> Any:
    rows = [f"macro {k}" for k in range(values["macros"])]
    bars_of = _Bars(rows, clocks)
    for one, name, own in zip(values["passes"], names, spans, strict=True):
        used = rows[: one["split"] * one["teams"]]
        # Of a kernel block's clocks those in which it waits to be drained.
        share = one["drain_stalls"] / max(one["steps"] + one["drain_stalls"], 1)
        for row in used:
            bars_of.add(row, name, own, share)
    return bars_of.drawn()


def _by_pass(passes: Passes, names: Sequence[str], spans: list[list[Segment]], clocks: Any) -> Any:
    rows = [f"{k + 1}. {name}" for k, name in enumerate(names)]
    bars_of = _Bars(rows, clocks)
    for one, row, name, own in zip(passes, rows, names, spans, strict=True):
        waits = [(loaded, first - 1) for loaded, first, _ in one["blocks"] if loaded < first - 1]
        bars_of.loaded += [(row, name, *wait) for wait in waits[:MOST_BLOCKS]]
        share = one["drain_stalls"] / max(one["steps"] + one["drain_stalls"], 1)
        bars_of.add(row, name, own, share)
    return bars_of.drawn()


class _Bars:
    """A timeline: rows of segments in the colours of what they are."""

    def __init__(self, rows: Sequence[str], clocks: Any) -> None:
        self.chart = axes(
            "clock",
            "",
            height=BAR * len(rows) + 110,
            x_range=clocks,
            y_range=FactorRange(*reversed(rows)),
            tooltips=[
                ("", "@place, @name"),
                ("clocks", "@left{0,0} to @right{0,0}"),
            ],
        )
        self.loaded: list[tuple[Any, ...]] = []
        self._segments: dict[str, list[tuple[Any, ...]]] = {kind: [] for kind in PARTS}

    def add(self, row: str, name: str, spans: Sequence[Segment], share: float) -> None:
        """A pass in a row; `share` of its kernel blocks' clocks it waits to be drained."""
        works = 0
        for span in spans:
            shade = works % 2
            works += span.kind == "steps"
            place = (row, name, span.first, span.last)
            if span.kind == "steps" and share:
                self._segments["drain_stalls"].append((*place, HIGH, 0))
            self._segments[span.kind].append((*place, HIGH * (1 - share), shade))

    def drawn(self) -> Any:
        """The chart."""
        items = []
        if self.loaded:
            columns = _columns(("row", "name", "left", "right"), self.loaded)
            columns["place"] = columns["row"]
            items.append(("weights complete", [self._hbar(columns, LOADED, HIGH)]))
        for kind in ("drain_stalls", "steps", "weight_stalls", "layer_stalls"):
            if self._segments[kind]:
                label, colour = PARTS[kind]
                shades = (colour, DARKER if kind == "steps" else colour)
                items.append((label, [self._hbar(self._spans(kind, shades), "fill", "height")]))
        legend(self.chart, items)
        return self.chart

    def _spans(self, kind: str, shades: tuple[str, str]) -> dict[str, list[Any]]:
        """Bars stand on the middle of their row: what is lower leaves room below."""
        keys = ("place", "name", "left", "right", "height", "shade")
        columns = _columns(keys, self._segments[kind])
        columns["fill"] = [shades[shade] for shade in columns.pop("shade")]
        places = zip(columns["place"], columns["height"], strict=True)
        columns["row"] = [(place, (HIGH - height) / 2) for place, height in places]
        return columns

    def _hbar(self, columns: dict[str, list[Any]], fill: str, height: object) -> Any:
        source = ColumnDataSource(columns)
        return self.chart.hbar(
            y="row",
            left="left",
            right="right",
            height=height,
            source=source,
            fill_color=fill,
            line_color=None,
        )


def _columns(keys: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> dict[str, list[Any]]:
    return {key: list(column) for key, column in zip(keys, zip(*rows, strict=True), strict=True)}


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
    chart, _, shades = heat_map(
        names,
        steps,
        dict(zip(("row", "column", "value"), zip(*cells, strict=True), strict=True)),
        ("time step", ""),
        [("", "@row, step @column"), ("fire", "@value{0.00} %")],
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
