"""Charts in the house's style: colours, axes, tools."""

from collections.abc import Mapping, Sequence
from typing import Any

from bokeh.models import (
    ColumnDataSource,
    CustomJSTickFormatter,
    FactorRange,
    HoverTool,
    Legend,
    LegendItem,
    LinearColorMapper,
    Range1d,
)
from bokeh.plotting import figure

from firmware_tools.npu.plot import COLOURS

MORE_COLOURS = (*COLOURS, "#e69f00", "#56b4e9", "#b8a000", "#808080")
"""Okabe's and Ito's, the yellow darker, so that it can be seen on white."""
SHADES = ["#f0f0f0", "#c6dbef", "#9ecae1", "#6baed6", "#4292c6", "#2171b5", "#08519c", "#08306b"]
"""Of a map, from nothing to most."""
TOOLS = "pan,box_zoom,wheel_zoom,reset,save"
TEXT, LINE = "#1c1c1c", "#d0d0d0"
"""As page.css has them for a light page."""
BAR = 22
"""Height of a bar and the space around it, in pixels."""
GROUPED = "return tick.toLocaleString('en')"
"""JavaScript that writes a number with its thousands apart."""


def axes(
    x_label: str, y_label: str, height: int = 280, tooltips: Any = None, **options: Any
) -> Any:
    """An empty chart as wide as the page; options as of Bokeh's figure."""
    chart = figure(
        height=height,
        sizing_mode="stretch_width",
        tools=TOOLS,
        x_axis_label=x_label,
        y_axis_label=y_label,
        output_backend="canvas",
        lod_threshold=None,
        **options,
    )
    chart.axis.axis_line_color = chart.axis.major_tick_line_color = LINE
    chart.axis.axis_label_text_color = chart.axis.major_label_text_color = TEXT
    chart.axis.minor_tick_line_color = None
    chart.toolbar.logo = None
    chart.toolbar.autohide = False
    if tooltips:
        chart.add_tools(HoverTool(tooltips=tooltips))
    for axis, scale in ((chart.xaxis, chart.x_range), (chart.yaxis, chart.y_range)):
        if not isinstance(scale, FactorRange):
            axis.formatter = CustomJSTickFormatter(code=GROUPED)
    return chart


def whole(first: float, last: float) -> Range1d:
    """A range of an axis that can not be left."""
    return Range1d(first, last, bounds=(first, last))


def lines(
    chart: Any,
    x: Any,
    series: Mapping[str, Any],
    *,
    steps: bool = False,
    points: bool = False,
) -> None:
    """Draw lines with a legend below the chart."""
    items = []
    for k, (name, y) in enumerate(series.items()):
        colour = MORE_COLOURS[k % len(MORE_COLOURS)]
        source = ColumnDataSource({"x": x, "y": y})
        style = {"color": colour, "line_width": 1.5}
        drawn = [
            chart.step("x", "y", source=source, mode="after", **style)
            if steps
            else chart.line("x", "y", source=source, **style)
        ]
        if points:
            drawn.append(chart.scatter("x", "y", source=source, color=colour, size=6))
        items.append((name, drawn))
    legend(chart, items)


def legend(chart: Any, items: Sequence[tuple[str, Sequence[Any]]]) -> None:
    """Name what is drawn, below the chart where it hides nothing; a click hides a name's."""
    named = [LegendItem(label=name, renderers=list(drawn)) for name, drawn in items]
    chart.add_layout(
        Legend(
            items=named,
            orientation="horizontal",
            click_policy="hide",
            border_line_alpha=0,
            background_fill_alpha=0,
            ncols="auto",
        ),
        "below",
    )


def bars(
    names: Sequence[str],
    parts: Mapping[str, Sequence[float]],
    label: str,
    *,
    colours: Sequence[str] = MORE_COLOURS,
    unit: str = "",
    marks: Mapping[str, Sequence[float | None]] | None = None,
    stacked: bool = True,
) -> Any:
    """Bars to the right, one row for each name.

    Parameters
    ----------
    names : sequence of str
        May be equal: each has a row of its own.
    parts : {str: sequence of float}
        Of each bar, stacked, or one over the other.
    label : str
        Of the values.
    colours : sequence of str
    unit : str
        Of the tooltip.
    marks : {str: sequence of float or None}
        Marks over the bars, as bounds are; at most two.
    stacked : bool
    """
    rows = [f"{k + 1}. {name}" for k, name in enumerate(names)]
    chart = axes(
        label,
        "",
        height=BAR * max(len(rows), 4) + 110,
        y_range=FactorRange(*reversed(rows)),
        tooltips=[("", "@row"), ("$name", f"@$name{{0,0.[00]}} {unit}")],
    )
    chart.xaxis.formatter = CustomJSTickFormatter(code=GROUPED)
    source = ColumnDataSource(
        {"row": rows, **{name: list(values) for name, values in parts.items()}}
    )
    style = {"source": source, "line_color": None}
    if stacked:
        drawn = chart.hbar_stack(
            list(parts), y="row", height=0.75, color=list(colours[: len(parts)]), **style
        )
        items = [(name, [one]) for name, one in zip(parts, drawn, strict=True)]
    else:
        items = []
        for k, name in enumerate(parts):
            height = 0.75 - 0.4 * k
            one = chart.hbar(
                y="row", right=name, height=height, color=colours[k], name=name, **style
            )
            items.append((name, [one]))
    for k, (name, values) in enumerate((marks or {}).items()):
        at = [(row, value) for row, value in zip(rows, values, strict=True) if value is not None]
        one = chart.scatter(
            [value for _, value in at],
            [row for row, _ in at],
            marker=("diamond", "circle")[k],
            size=(11, 7)[k],
            fill_color="white",
            line_color="black",
        )
        items.append((name, [one]))
    chart.x_range.start = 0
    chart.ygrid.visible = False
    legend(chart, items)
    return chart


def heat_map(
    rows: Sequence[str],
    columns: Sequence[str],
    cells: Mapping[str, Sequence[Any]],
    labels: tuple[str, str],
    tooltips: Any,
) -> tuple[Any, ColumnDataSource, LinearColorMapper]:
    """Squares that are the darker the larger their value is.

    Parameters
    ----------
    rows, columns : sequence of str
        Names on the axes, rows from the top.
    cells : {str: sequence}
        `row`, `column` and `value` of each square, and what else tooltips or texts show.
    labels : (str, str)
        Of the columns' axis and the rows'.
    tooltips : list of (str, str)

    Returns
    -------
    (chart, source, shades)
    """
    source = ColumnDataSource({name: list(values) for name, values in cells.items()})
    top = max(1.0, *(float(value) for value in source.data["value"]))
    shades = LinearColorMapper(palette=SHADES, low=0, high=top)
    chart = axes(
        *labels,
        height=BAR * len(rows) + 120,
        x_range=FactorRange(*columns),
        y_range=FactorRange(*reversed(rows)),
        tooltips=tooltips,
    )
    chart.rect(
        "column",
        "row",
        width=0.96,
        height=0.9,
        source=source,
        fill_color={"field": "value", "transform": shades},
        line_color=None,
    )
    return chart, source, shades


def chosen_lines(
    store: ColumnDataSource, chosen: Mapping[str, str], x_range: Any
) -> tuple[Any, ColumnDataSource]:
    """A chart whose lines the reader chooses, and the source of them.

    Parameters
    ----------
    store : ColumnDataSource
        All that can be chosen, and their common `x`.
    chosen : {str: str}
        Columns that are shown first, and what they are called.
    x_range : Range1d
    """
    source = ColumnDataSource(
        {
            "xs": [store.data["x"]] * len(chosen),
            "ys": [store.data[column] for column in chosen],
            "colour": [MORE_COLOURS[k % len(MORE_COLOURS)] for k in range(len(chosen))],
            "name": list(chosen.values()),
        }
    )
    chart = axes("", "", x_range=x_range, tags=[store])
    drawn = chart.multi_line("xs", "ys", source=source, color="colour", line_width=1.4)
    chart.add_layout(
        Legend(
            items=[LegendItem(label={"field": "name"}, renderers=[drawn])],
            orientation="horizontal",
            border_line_alpha=0,
            background_fill_alpha=0,
        ),
        "below",
    )
    return chart, source
