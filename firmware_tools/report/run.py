"""Runs of spiking networks: raster, rates, membranes and currents, clocks against the contract."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from bokeh.models import ColorBar, ColumnDataSource, LinearColorMapper, Range1d
from numpy.typing import NDArray

from firmware_tools.npu.plot import COLOURS
from firmware_tools.report.charts import (
    MORE_COLOURS,
    SHADES,
    axes,
    chosen_lines,
    legend,
    lines,
    whole,
)
from firmware_tools.report.page import Chart, Choice, Facts, Section, Span, Table, Text
from model.npu.clocks import STEP_OVERHEAD, Clocks
from model.npu.config import NPUConfig
from model.npu.network import Ints, Network
from model.npu.trace import Trace

MOST_SPIKES = 40_000
"""Of which each is a point; more are counted in a map."""
MOST_CELLS = 300_000
"""Of that map."""
MOST_NEURONS = 64
"""Whose membranes and currents are on the page."""
MOST_VALUES = 300_000
"""Of membranes, and of currents."""
MOST_POINTS = 6000
"""Of a line: a browser takes long to paint more."""
N_RATES = 500
"""Points of a rate."""
N_CHOSEN = 4
"""Neurons that are chosen first."""
STEP = "time step"
SOURCES = {
    "rtl": "Clocks were measured on the RTL:",
    "model": "Clocks are computed, not measured (--backend rtl measures them):",
    "fast": "Clocks are computed, not measured (--backend rtl measures them):",
    "board": "Clocks are computed, not measured (--backend rtl measures them):",
}


class Envelope:
    """Smallest and largest value of some columns, in bins of as few steps as there is room for.

    Parameters
    ----------
    n_steps, n_columns : int
    most : int
        Values that there may be.
    """

    def __init__(self, n_steps: int, n_columns: int, most: int) -> None:
        n_values = n_steps * n_columns
        fits = n_values <= most and n_steps <= MOST_POINTS
        self.width = 1 if fits else max(-(-2 * n_values // most), -(-2 * n_steps // MOST_POINTS))
        shape = (-(-n_steps // self.width), n_columns)
        self.low = np.full(shape, np.iinfo(np.int64).max)
        self.high = np.full(shape, np.iinfo(np.int64).min)

    def add(self, first_step: int, values: NDArray[np.integer]) -> None:
        """Add consecutive steps, (steps, n_columns)."""
        bins, starts = bins_of(first_step, len(values), self.width)
        np.minimum(self.low[bins], np.minimum.reduceat(values, starts), out=self.low[bins])
        np.maximum(self.high[bins], np.maximum.reduceat(values, starts), out=self.high[bins])

    def x(self, n_steps: int) -> Ints:
        """Steps of the values, each twice if a bin has more than one."""
        steps = np.arange(-(-n_steps // self.width)) * self.width
        return steps if self.width == 1 else np.repeat(steps, 2)

    def y(self, n_steps: int, column: int) -> Ints:
        """The values of a column, or the smallest and the largest of each bin."""
        n = -(-n_steps // self.width)
        if self.width == 1:
            return self.low[:n, column]
        return np.stack([self.low[:n, column], self.high[:n, column]], axis=1).ravel()

    @property
    def note(self) -> str:
        """How it was thinned, if it was."""
        if self.width == 1:
            return "Every time step is drawn."
        return f"Drawn are smallest and largest value of every {self.width:,} time steps."


def bins_of(first_step: int, n_steps: int, width: int) -> tuple[slice, Ints]:
    """The bins of consecutive steps, and the index of the first step of each."""
    first, last = first_step // width, (first_step + n_steps - 1) // width
    starts = np.maximum(np.arange(first, last + 1) * width - first_step, 0)
    return slice(first, last + 1), starts


class Gathered:
    """What a report keeps of a run, in little memory however long it is.

    Parameters
    ----------
    network : Network
    config : NPUConfig or None
        Without it there are no clocks.

    Attributes
    ----------
    steps, n_spikes : int
    unequal : int
        Time steps whose clocks are not those of the contract.
    """

    def __init__(self, network: Network, config: NPUConfig | None) -> None:
        self.network = network
        n_steps, n = network.n_steps, network.n_neurons
        self.steps = self.n_spikes = self.unequal = 0
        self._spikes: list[tuple[Ints, Ints]] | None = []
        self._width = max(1, -(-n_steps * n // MOST_CELLS), -(-n_steps // 4000))
        self._counts = np.zeros((-(-n_steps // self._width), n), np.int64)
        self.neurons = _offered(network)
        self._v = Envelope(n_steps, len(self.neurons), MOST_VALUES)
        self._i = Envelope(n_steps, len(self.neurons), MOST_VALUES)
        self._contract = Clocks(network, config) if config else None
        self._fired = np.zeros((1, n), np.bool_)
        self._clocks = Envelope(n_steps, 2, 2 * MOST_POINTS)
        self._pairs: set[tuple[int, int]] = set()

    def add(self, trace: Trace) -> None:
        """Add the next time steps."""
        step, neuron = np.nonzero(trace.spikes)
        self.n_spikes += len(step)
        if self._spikes is not None:
            self._spikes.append((step + trace.first_step, neuron))
            if self.n_spikes > MOST_SPIKES:
                self._spikes = None
        bins, starts = bins_of(trace.first_step, len(trace), self._width)
        self._counts[bins] += np.add.reduceat(trace.spikes, starts, dtype=np.int64)
        self._v.add(trace.first_step, trace.v[:, self.neurons])
        self._i.add(trace.first_step, trace.i_syn[:, self.neurons])
        if self._contract is not None and len(trace.clocks):
            self._add_clocks(trace, self._contract)
        self.steps += len(trace)

    def _add_clocks(self, trace: Trace, contract_of: Clocks) -> None:
        fired = np.concatenate([self._fired, trace.spikes])
        self._fired = fired[-1:]
        first = trace.first_step
        events = self.network.events_at(first, first + len(trace)) - np.array([first, 0])
        contract = contract_of.of_steps(fired[:-1], events)
        self.unequal += int((trace.clocks != contract).sum())
        self._clocks.add(trace.first_step, np.stack([trace.clocks, contract], axis=1))
        pairs = np.stack([contract - STEP_OVERHEAD, trace.clocks], axis=1)
        self._pairs.update((slots, clocks) for slots, clocks in np.unique(pairs, axis=0).tolist())

    def sections(self, backend: str) -> list[Section]:
        """The run in charts; the backend is where the clocks are from."""
        if not self.steps:
            return []
        steps = whole(-0.5, self.steps - 0.5)
        return [
            Section("Spikes", [self._raster(steps)]),
            Section("Rates", [self._rates(steps)]),
            Section("Membranes and currents", self._lines(steps)),
            Section("Clocks of each time step", self._clock_charts(steps, backend)),
        ]

    def _raster(self, steps: Range1d) -> Chart:
        n = self.network.n_neurons
        chart = axes(
            STEP,
            "neuron",
            height=min(120 + 6 * n, 520),
            x_range=steps,
            y_range=Range1d(n - 0.5, -0.5, bounds=(-0.5, n - 0.5)),
        )
        caption = f"{self.n_spikes:,} spikes. " + (
            self._points(chart) if self._spikes is not None else self._map(chart)
        )
        return Chart(caption, chart, [Span(STEP, steps)])

    def _points(self, chart: Any) -> str:
        assert self._spikes is not None
        empty = np.zeros(0, np.int64)
        step = np.concatenate([empty, *(one for one, _ in self._spikes)])
        neuron = np.concatenate([empty, *(one for _, one in self._spikes)])
        items = []
        n = self.network.n_neurons
        for p in range(len(self.network.populations)):
            part = self.network.neuron_slice(p)
            own = (neuron >= part.start) & (neuron < part.stop)
            source = ColumnDataSource(
                {"step": step[own].astype(np.int32), "neuron": neuron[own].astype(np.int32)}
            )
            drawn = chart.scatter(
                "step",
                "neuron",
                source=source,
                size=float(np.clip(300 / n, 2, 6)),
                color=COLOURS[p % len(COLOURS)],
                line_color=None,
            )
            items.append((f"population {p}", [drawn]))
        legend(chart, items)
        return "Each is a point; the wheel and the box tool zoom, the numbers do as well."

    def _map(self, chart: Any) -> str:
        """Counts of spikes as an image, as all of them would be too many points."""
        n_bins, n = -(-self.steps // self._width), self.network.n_neurons
        counts = self._counts[:n_bins].T
        high = max(1, int(counts.max()))
        shades = LinearColorMapper(palette=SHADES, low=0, high=high)
        chart.image(
            image=[counts.astype(np.min_scalar_type(high))],
            x=-0.5,
            y=-0.5,
            dw=n_bins * self._width,
            dh=n,
            color_mapper=shades,
        )
        chart.add_layout(ColorBar(color_mapper=shades, title="spikes"), "right")
        return (
            f"More than the {MOST_SPIKES:,} that are drawn one by one: the shade counts those of "
            f"{self._width:,} time steps of each neuron."
        )

    def _rates(self, steps: Range1d) -> Chart:
        per_point = -(-self.steps // (N_RATES * self._width))
        starts = np.arange(0, -(-self.steps // self._width), per_point)
        counts = np.add.reduceat(self._counts, starts)[: len(starts)]
        width = per_point * self._width
        lengths = np.minimum(width, self.steps - starts * self._width)
        series = {}
        for p, n in enumerate(self.network.populations):
            spikes = counts[:, self.network.neuron_slice(p)].sum(axis=1)
            series[f"population {p}"] = 1000 * spikes / (n * lengths)
        chart = axes(STEP, "spikes per 1000 neuron steps", x_range=steps)
        # The last point is drawn twice, so that its step is as wide as it is.
        x = np.append(starts * self._width, self.steps)
        lines(chart, x, {name: np.append(y, y[-1]) for name, y in series.items()}, steps=True)
        window = "Every time step." if width == 1 else f"Mean of every {width:,} time steps."
        return Chart(f"Spikes per 1000 neurons and time step. {window}", chart)

    def _lines(self, steps: Range1d) -> list[Text | Chart]:
        network = self.network
        names, columns = {}, []
        for k, neuron in enumerate(self.neurons.tolist()):
            p = int(network.population_of(np.array(neuron)))
            within = neuron - network.neuron_slice(p).start
            names[f"n{k}"] = f"neuron {neuron} (population {p}, {within})"
            columns.append((f"n{k}", k))
        spikes = self._counts[:, self.neurons].sum(axis=0)
        active = sorted(range(len(columns)), key=lambda k: -spikes[k])[:N_CHOSEN]
        chosen = [f"n{k}" for k in sorted(active)]
        charts, pairs = [], []
        for envelope, kind, label, what in (
            (self._v, np.uint8, "membrane potential", "Membrane potential behind each time step."),
            (self._i, np.int16, "current", "Post-synaptic current that each time step used."),
        ):
            data = {"x": envelope.x(self.steps).astype(np.int32)}
            data |= {name: envelope.y(self.steps, k).astype(kind) for name, k in columns}
            store = ColumnDataSource(data)
            chart, source = chosen_lines(store, {name: names[name] for name in chosen}, steps)
            chart.xaxis.axis_label, chart.yaxis.axis_label = STEP, label
            pairs.append((store, source))
            charts.append((f"{what} {envelope.note}", chart))
        choice = Choice(
            "neurons (more than one with Ctrl or Shift)",
            names,
            chosen,
            pairs,
            MORE_COLOURS,
        )
        parts: list[Text | Chart] = []
        if len(self.neurons) < network.n_neurons:
            parts.append(
                Text(
                    f"{len(self.neurons)} of {network.n_neurons:,} neurons are on this page, "
                    "evenly spread over each population; a trace (--trace) has all."
                )
            )
        (v_caption, v_chart), (i_caption, i_chart) = charts
        return [*parts, Chart(v_caption, v_chart, [choice]), Chart(i_caption, i_chart)]

    def _clock_charts(self, steps: Range1d, backend: str) -> list[Text | Chart | Table]:
        if self._contract is None or not self._pairs:
            return []
        chart = axes(STEP, "clocks", x_range=steps)
        x = self._clocks.x(self.steps)
        contract, clocks = (self._clocks.y(self.steps, k) for k in (1, 0))
        below = chart.line(x, contract, color=COLOURS[1], line_width=6, alpha=0.35)
        above = chart.line(x, clocks, color=COLOURS[0])
        legend(chart, [("clocks", [above]), ("contract", [below])])
        slots = axes("slots of the slowest population", "clocks")
        at = np.array(sorted(self._pairs))
        ends = np.array([at[:, 0].min(), at[:, 0].max()])
        drawn = slots.scatter(at[:, 0], at[:, 1], size=7, color=COLOURS[0], alpha=0.7)
        line = slots.line(ends, ends + STEP_OVERHEAD, color=COLOURS[1], line_dash="dashed")
        legend(slots, [("clocks", [drawn]), ("contract", [line])])
        groups = ", ".join(map(str, self._contract.groups.tolist()))
        return [
            Text(
                f"The contract: a time step takes {STEP_OVERHEAD} clocks and one for each slot of "
                "the slowest population: its groups of lanes, and in each of them the rows with a "
                f"weight that is not 0. Groups, by population: {groups}. {SOURCES[backend]} "
                f"{self.unequal:,} of {self.steps:,} time steps are not the contract's."
            ),
            Chart(f"Clocks of each time step. {self._clocks.note}", chart),
            Chart("Clocks against the work of the slowest population, all time steps.", slots),
        ]


def _offered(network: Network) -> Ints:
    """Neurons whose lines are on the page: as many of each population as there is room for."""
    share = max(1, MOST_NEURONS // len(network.populations))
    parts = []
    for p, n in enumerate(network.populations):
        within = np.linspace(0, n - 1, min(n, share)).round().astype(np.int64)
        parts.append(network.neuron_slice(p).start + within)
    return np.concatenate(parts)


def summary(values: Mapping[str, object], network: Network) -> Section:
    """The figures of `kenyon run --json`, by population where they are."""
    alone = {
        "network": values["network"],
        "backend": values["backend"],
        "configuration": values["configuration"] or "none: it fits none",
        "time steps": values["steps"],
        "neurons": values["neurons"],
        "synaptic operations": values["synaptic_operations"],
        "of them on connections that exist": values["effective_synaptic_operations"],
        "clocks": values["clocks"],
        "seeds of noise": [str(seed) for seed in network.noise_seeds],
        "seconds": values["wall_seconds"],
    }
    return Section("Summary", [Facts("The run", alone)])
