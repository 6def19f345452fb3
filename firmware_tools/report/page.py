"""A page of figures, tables and key facts in one HTML file that needs no network.

A verb's report is a list of `Section`; `write` adds the table of contents and where the page is
from: command line, options, configuration and versions.
"""

import base64
import html
import itertools
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.resources import files
from pathlib import Path
from re import match
from typing import Any, Protocol

from firmware_tools.console import Terminal, invocation
from firmware_tools.errors import UserError
from firmware_tools.inputs import check_folder

MISSING = "the package bokeh must be installed for --report: pip install 'kenyon[report]'"
MOST_ROWS = 2000
"""Of a table; more would make the page slow."""


def check(path: Path | None) -> None:
    """Refuse a report that could not be written, before anything long begins; none is well."""
    if path is None:
        return
    if path.suffix != ".html":
        raise UserError(f"{path}: report must end in .html")
    check_folder(path)
    try:
        import bokeh  # noqa: F401
    except ImportError:
        raise UserError(MISSING) from None


class _Ids:
    """Names of a page's elements."""

    def __init__(self) -> None:
        self._numbers = itertools.count()

    def new(self, what: str) -> str:
        return f"{what}-{next(self._numbers)}"


class Part(Protocol):
    """Something that stands in a section."""

    def html(self, ids: _Ids, charts: dict[str, Any]) -> str:
        """The part as HTML; Bokeh's models go to `charts` by the id of their place."""


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str

    def html(self, ids: _Ids, charts: dict[str, Any]) -> str:
        del ids, charts
        return f"<p>{_escape(self.text)}</p>"


@dataclass(frozen=True)
class Code:
    """A command line, or other text that keeps its lines."""

    text: str

    def html(self, ids: _Ids, charts: dict[str, Any]) -> str:
        del ids, charts
        return f'<pre tabindex="0"><code>{_escape(self.text)}</code></pre>'


@dataclass(frozen=True)
class Facts:
    """Names with their values; those that are None are left out."""

    caption: str
    values: Mapping[str, object]

    def html(self, ids: _Ids, charts: dict[str, Any]) -> str:
        del ids, charts
        rows = "".join(
            f'<tr><th scope="row">{_escape(name)}</th>{_cell(value, in_column=False)}</tr>'
            for name, value in self.values.items()
            if value is not None
        )
        return _scrolling(self.caption, f"<tbody>{rows}</tbody>")


@dataclass(frozen=True)
class Table:
    """Rows under columns.

    Parameters
    ----------
    caption : str
    columns : sequence of str
    rows : sequence of sequence
        Numbers are grouped and on the right; None is empty; True and False are yes and no.
    filters : sequence of str
        Columns of which the reader can pick a value; with any there is also a search for text.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    filters: Sequence[str] = ()

    def html(self, ids: _Ids, charts: dict[str, Any]) -> str:
        del charts
        name = ids.new("table")
        shown = self.rows[:MOST_ROWS]
        caption = self.caption
        if len(shown) < len(self.rows):
            caption += (
                f" Only the first {len(shown):,} of {len(self.rows):,} rows are on this page."
            )
        is_number = [
            any(_is_number(row[k]) for row in shown)
            and all(row[k] is None or _is_number(row[k]) for row in shown)
            for k in range(len(self.columns))
        ]
        head = "".join(
            f'<th scope="col"{_number_class(number)}>{_escape(title)}</th>'
            for title, number in zip(self.columns, is_number, strict=True)
        )
        body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in shown)
        table = _scrolling(
            caption, f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>", f' id="{name}"'
        )
        return self._filters(name, shown) + table

    def _filters(self, table: str, rows: Sequence[Sequence[object]]) -> str:
        if not self.filters:
            return ""
        fields = ""
        for title in self.filters:
            column = self.columns.index(title)
            values = dict.fromkeys(_text(row[column]) for row in rows)
            options = "".join(f"<option>{_escape(value)}</option>" for value in values if value)
            fields += (
                f'<label>{_escape(title)}<select data-column="{column}">'
                f'<option value="">all</option>{options}</select></label>'
            )
        return (
            f'<div class="controls" data-table="{table}">{fields}'
            '<label>text<input type="search"></label><output></output></div>'
        )


@dataclass(frozen=True)
class Span:
    """Two numbers, from and to, that move the range of one axis.

    Parameters
    ----------
    label : str
        What is on the axis.
    range : Range1d
    """

    label: str
    range: Any

    def html(self) -> str:
        """The controls."""
        return (
            f'<div class="controls" data-range="{self.range.id}">'
            f'<label>{_escape(self.label)}, from<input type="number"></label>'
            '<label>to<input type="number"></label><button type="button">show all</button></div>'
        )


@dataclass(frozen=True)
class Choice:
    """A list from which the reader chooses the lines of charts.

    Parameters
    ----------
    label : str
    names : {str: str}
        Columns, and what each is called.
    chosen : sequence of str
        Columns that are shown first.
    charts : sequence of (ColumnDataSource, ColumnDataSource)
        Where the columns are, with their common `x`, and the source of the chart's lines.
    colours : sequence of str
    """

    label: str
    names: Mapping[str, str]
    chosen: Sequence[str]
    charts: Sequence[tuple[Any, Any]]
    colours: Sequence[str]

    def html(self) -> str:
        """The list."""
        pairs = [[store.id, source.id] for store, source in self.charts]
        options = "".join(
            f'<option value="{_escape(column)}"{" selected" * (column in self.chosen)}>'
            f"{_escape(name)}</option>"
            for column, name in self.names.items()
        )
        size = min(len(self.names), 8)
        return (
            f'<div class="controls"><label>{_escape(self.label)}'
            f'<select multiple size="{size}" autocomplete="off"'
            f' data-charts="{_escape(json.dumps(pairs))}"'
            f' data-colours="{_escape(json.dumps(list(self.colours)))}">'
            f"{options}</select></label></div>"
        )


@dataclass(frozen=True)
class Chart:
    """A chart of Bokeh's with what it shows, and its controls above it.

    Parameters
    ----------
    caption : str
    figure : bokeh model
    controls : sequence of Span or Choice
    """

    caption: str
    figure: Any
    controls: Sequence[Span | Choice] = ()

    def html(self, ids: _Ids, charts: dict[str, Any]) -> str:
        place = ids.new("chart")
        charts[place] = self.figure
        controls = "".join(one.html() for one in self.controls)
        return (
            f"{controls}<figure>{{{{{place}}}}}"
            f"<figcaption>{_escape(self.caption)}</figcaption></figure>"
        )


@dataclass(frozen=True)
class Frames:
    """A film that the reader steps through.

    Parameters
    ----------
    caption : str
    images : sequence of bytes
        PNG.
    labels : sequence of str
        What each frame shows: also for those who do not see it.
    """

    caption: str
    images: Sequence[bytes]
    labels: Sequence[str]

    def html(self, ids: _Ids, charts: dict[str, Any]) -> str:
        del charts
        data, picture = ids.new("images"), ids.new("picture")
        sources = [
            [f"data:image/png;base64,{base64.b64encode(image).decode()}", label]
            for image, label in zip(self.images, self.labels, strict=True)
        ]
        return (
            f'<script type="application/json" id="{data}">{_json(sources)}</script>'
            f'<div class="controls" data-images="{data}" data-picture="{picture}">'
            f'<label>frame<input type="range" min="0" max="{len(sources) - 1}" value="0"></label>'
            f'<output></output></div><figure><img id="{picture}" alt="">'
            f"<figcaption>{_escape(self.caption)}</figcaption></figure>"
        )


@dataclass(frozen=True)
class Section:
    """A heading, and what is below it."""

    title: str
    parts: Sequence[Part] = field(default_factory=list)


def write(
    path: Path,
    title: str,
    sections: Sequence[Section],
    terminal: Terminal,
    configuration: object = None,
) -> None:
    """Write a page, and say so.

    Parameters
    ----------
    path : Path
        What `check` let through.
    title : str
    sections : sequence of Section
        Empty ones are left out.
    terminal : Terminal
    configuration : dataclass instance, optional
        Of the chip.
    """
    with terminal.busy("writing the report"):
        path.write_text(render(title, [*sections, origin(configuration)]), encoding="utf-8")
    terminal.out.print(f"wrote {path}", markup=False, soft_wrap=True)


def render(title: str, sections: Sequence[Section]) -> str:
    """The page as HTML."""
    ids = _Ids()
    charts: dict[str, Any] = {}
    shown = [section for section in sections if section.parts]
    names = [ids.new("section") for _ in shown]
    contents = "".join(
        f'<li><a href="#{name}">{_escape(section.title)}</a></li>'
        for name, section in zip(names, shown, strict=True)
    )
    body = "".join(
        f'<section id="{name}" aria-labelledby="{name}-title"><h2 id="{name}-title">'
        f"{_escape(section.title)}</h2>"
        f"{''.join(part.html(ids, charts) for part in section.parts)}</section>"
        for name, section in zip(names, shown, strict=True)
    )
    library, script = "", ""
    if charts:
        library, script, places = _embedded(charts)
        for name, place in places.items():
            body = body.replace(f"{{{{{name}}}}}", place)
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f'<link rel="icon" href="data:,"><title>{_escape(title)}</title>'
        f"<style>{_resource('page.css')}</style>{library}</head><body>"
        f"<header><h1>{_escape(title)}</h1></header>"
        f'<nav aria-label="contents"><ol>{contents}</ol></nav><main>{body}</main>'
        f"{script}<script>{_resource('page.js')}</script></body></html>\n"
    )


def _embedded(charts: Mapping[str, Any]) -> tuple[str, str, dict[str, str]]:
    """Bokeh's own script, the charts' data, and the elements in which they are drawn."""
    from bokeh.embed import components
    from bokeh.resources import Resources

    script, places = components(dict(charts))
    library = Resources(mode="inline", components=["bokeh"]).render_js()
    return library, script, dict(places)


def origin(configuration: object = None) -> Section:
    """What reproduces the page: command line, options, configuration, versions."""
    called = invocation()
    parts: list[Part] = [Text("This command makes the page again:"), Code(called.command)]
    if called.options:
        parts.append(Facts("Options, those that were not given included", called.options))
    if configuration is not None:
        assert not isinstance(configuration, type)
        values = asdict(configuration)  # type: ignore[call-overload]
        parts.append(Facts("Configuration of the chip", values))
    parts.append(Facts("Versions", versions()))
    return Section("How this was made", parts)


def versions() -> dict[str, str]:
    """Of this project, of Python and of the packages that are used."""
    found = (match(r"[\w.-]+", text) for text in requires("kenyon") or ())
    names = {one[0] for one in found if one} - {"kenyon"} | {"bokeh"}
    result = {"kenyon": version("kenyon"), "Python": platform.python_version()}
    result["system"] = f"{platform.system()} {platform.machine()}"
    for name in sorted(names):
        try:
            result[name] = version(name)
        except PackageNotFoundError:
            continue  # of an extra that is not installed
    return result


def _resource(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _scrolling(caption: str, content: str, attributes: str = "") -> str:
    """A table that scrolls in its place, by keyboard as well."""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{_escape(caption)}">'
        f"<table{attributes}><caption>{_escape(caption)}</caption>{content}</table></div>"
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number_class(number: bool) -> str:
    return ' class="number"' if number else ""


def _cell(value: object, *, in_column: bool = True) -> str:
    is_number = in_column and _is_number(value)
    return f"<td{_number_class(is_number)}>{_escape(_text(value))}</td>"


def _text(value: object) -> str:
    """A value as people read it."""
    if value is None or isinstance(value, bool):
        return {None: "", True: "yes", False: "no"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:,.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(one)}" for key, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    return str(value)


def _escape(text: str) -> str:
    return html.escape(text)


def _json(values: object) -> str:
    """JSON that can stand in a script element."""
    return json.dumps(values).replace("<", "\\u003c")
