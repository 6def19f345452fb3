"""What a frame costs on MARS, layer by layer: clocks, bounds, stalls, bits, events."""

from dataclasses import asdict, dataclass
from typing import Any

from firmware_tools.mars.inspect import share, stored_bits
from model.mars.config import WORD_BITS, WORD_LINES, MarsConfig
from model.mars.early_exit import exit_clocks
from model.mars.frame import DECIDES_AFTER, ONWARD_CLOCKS, PassRun, run_chunks, run_frame, starts
from model.mars.image import Image, PassContents
from model.mars.layout import OPERAND, ROW_PHASES, Ints, header_lines

NOTE = "measured on our reconstruction; not the paper's clock or sparsity"


@dataclass(frozen=True)
class PassFigures:
    """A pass, or the input, which has no layers.

    Parameters
    ----------
    layers : tuple of str
    move : str
        "load" or "store" if it brings rows of a map from memory or to it.
    split, teams : int
        Macros that share a kernel block, and how often there are so many.
    clocks, end : int
        Since the end of the pass before, and since the start of the frame.
    computing, loading : float
        Clocks that each takes at least: ``G*P*c/M`` and ``16*G/M`` (G group-sets kept, P pixels, c
        accesses, M macros). A pass that only copies is none of the network's layers: 0. Softmax and
        normalisation walk each pixel two or three times, a block of channels per clock.
    bound, bus_bound : float
        The larger one; the same with loading ``1024*G/B`` over the B bits of the weight bus.
    steps, weight_stalls, drain_stalls, layer_stalls : int
        What the clocks were spent on (`model.mars.clocks.PassClocks`).
    sets_kept, sets_total : int
        Group-sets.
    weight_bits, index_bits, table_bits : int
        Stored in the program, each read once per frame.
    loaded_bits : int
        Weight bits written into macros: teams hold the same.
    accesses, feature_reads, feature_writes, requantisations : int
        Events (`model.mars.machine.Counters`).
    blocks : tuple of (int, int, int)
        Kernel blocks: clocks of group-sets complete, first step, last step.
    """

    layers: tuple[str, ...]
    move: str
    split: int
    teams: int
    clocks: int
    end: int
    computing: float
    loading: float
    bound: float
    bus_bound: float
    steps: int
    weight_stalls: int
    drain_stalls: int
    layer_stalls: int
    sets_kept: int
    sets_total: int
    weight_bits: int
    index_bits: int
    table_bits: int
    loaded_bits: int
    accesses: int
    feature_reads: int
    feature_writes: int
    requantisations: int
    blocks: tuple[tuple[int, int, int], ...]


ADDED = (
    "clocks",
    "computing",
    "loading",
    "bound",
    "bus_bound",
    "steps",
    "weight_stalls",
    "drain_stalls",
    "layer_stalls",
    "sets_kept",
    "sets_total",
    "weight_bits",
    "index_bits",
    "table_bits",
    "loaded_bits",
    "accesses",
    "feature_reads",
    "feature_writes",
    "requantisations",
)
"""What of a pass adds up to that of the frame."""


@dataclass(frozen=True)
class FrameFigures:
    """A frame, pass by pass.

    Parameters
    ----------
    network : str
    config : MarsConfig
    passes : tuple of PassFigures
        The input first; of a network that takes its time steps in chunks those of the first one.
    chunks : int
        Times that the program was run.
    clocks : int
        Of the whole frame, the exit unit's included.
    """

    network: str
    config: MarsConfig
    passes: tuple[PassFigures, ...]
    chunks: int
    clocks: int

    def total(self, name: str) -> Any:
        """Sum of a figure over the passes."""
        return sum(getattr(one, name) for one in self.passes)

    @property
    def frame_bound(self) -> float:
        """Clocks if loading ran ahead without end: the larger of all computing and all loading."""
        return float(max(self.total("computing"), self.total("loading")))

    @property
    def program_clocks(self) -> int:
        """Clocks of one run of the program, between its segments included."""
        return self.passes[-1].end

    def frames_per_s(self, clock_mhz: float) -> float:
        """Frames per second at a clock, one after the other."""
        return clock_mhz * 1e6 / self.clocks

    def as_json(self, clock_mhz: float) -> dict[str, object]:
        """Everything, ready for JSON."""
        n_macros = self.config.n_macros
        totals = {name: self.total(name) for name in ADDED} | {"clocks": self.program_clocks}
        frame = {
            "frame_bound": self.frame_bound,
            "frame_ratio": totals["clocks"] / self.frame_bound if self.frame_bound else None,
        }
        return {
            "note": NOTE,
            "network": self.network,
            "configuration": self.config.name,
            "macros": n_macros,
            "weight_bus": self.config.weight_bus,
            "clock_mhz": clock_mhz,
            "frames_per_second": self.frames_per_s(clock_mhz),
            "chunks": self.chunks,
            "frame_clocks": self.clocks,
            "total": {**totals, **frame, **_derived(totals, n_macros)},
            "passes": [{**asdict(one), **_derived(asdict(one), n_macros)} for one in self.passes],
        }


def _derived(figures: dict[str, Any], n_macros: int) -> dict[str, object]:
    return {
        "ratio": figures["clocks"] / figures["bound"] if figures["bound"] else None,
        "bus_ratio": figures["clocks"] / figures["bus_bound"] if figures["bus_bound"] else None,
        "utilisation": share(figures["accesses"], n_macros * figures["clocks"]),
        "index_overhead": share(figures["index_bits"], figures["weight_bits"]),
        "sets_skipped": figures["sets_total"] - figures["sets_kept"],
    }


def measure(image: Image, features: Ints) -> FrameFigures:
    """The figures of a frame on the golden machine."""
    done = run_frame(image, features)
    contents = [None, *image.contents.passes]
    runs = done.chunks[0]
    passes = tuple(
        _pass_figures(one, start, what, image.config)
        for one, start, what in zip(runs, starts(runs), contents, strict=True)
    )
    name = image.contents.name
    return FrameFigures(name, image.config, passes, len(done.chunks), done.clocks)


@dataclass(frozen=True)
class Order:
    """A spiking network that takes its time steps in chunks, and stops early.

    Parameters
    ----------
    chunk : int
        Time steps of a chunk.
    first, later : int
        Clocks of the first chunk, and of each later one, decisions of the exit unit included.
    mean : float
        Clocks of a frame of the mean number of steps, at least one chunk.
    """

    chunk: int
    first: int
    later: int
    mean: float


def measure_order(image: Image, features: Ints, exit_mean: float) -> Order:
    """The clocks of chunks, on the golden machine.

    Parameters
    ----------
    image : Image
        For chunks, of at least two.
    features : as `model.mars.frame.run_chunks`
    exit_mean : float
        Time steps that are taken in the mean.
    """
    chunks = run_chunks(image, features)
    n = image.contents.chunk
    decisions = exit_clocks(image.output.shape[0], n)
    first = next(chunks)[-1].clocks.end + decisions + DECIDES_AFTER
    later = next(chunks)[-1].clocks.end + decisions + ONWARD_CLOCKS
    return Order(n, first, later, first + max(0.0, exit_mean / n - 1) * later)


def bounds_of(one: PassRun, contents: PassContents | None, config: MarsConfig) -> dict[str, float]:
    """The figures `computing` to `bus_bound` of a pass, or of the input."""
    if contents is None or contents.copies:
        return dict.fromkeys(("computing", "loading", "bound", "bus_bound"), 0.0)
    n_sets, d = contents.kept_sets, one.program.descriptor
    if d.is_row:
        rows = float(ROW_PHASES[d.function] * d.row_blocks * contents.pixels * config.turns)
        return {"computing": rows, "loading": 0.0, "bound": rows, "bus_bound": rows}
    computing = n_sets * contents.pixels * d.in_planes / config.n_macros
    loading = n_sets * WORD_LINES / config.n_macros
    bits = 0 if d.function == OPERAND else n_sets * WORD_LINES * WORD_BITS
    return {
        "computing": computing,
        "loading": loading,
        "bound": max(computing, loading),
        "bus_bound": max(computing, bits / config.weight_bus),
    }


def _pass_figures(
    one: PassRun, start: int, contents: PassContents | None, config: MarsConfig
) -> PassFigures:
    d, clocks, events = one.program.descriptor, one.clocks, one.counters
    bits = stored_bits(one.program, header_lines(config.wide_multiplier))
    return PassFigures(
        layers=contents.layers if contents else (),
        move=contents.move if contents else "",
        split=d.split,
        teams=d.n_teams,
        clocks=clocks.clocks,
        end=start + clocks.end,
        **bounds_of(one, contents, config),
        steps=clocks.steps,
        weight_stalls=clocks.weight_stalls,
        drain_stalls=clocks.drain_stalls,
        layer_stalls=clocks.layer_stalls,
        sets_kept=contents.kept_sets if contents else 0,
        sets_total=contents.total_sets if contents else 0,
        weight_bits=bits["weight_bits"],
        index_bits=bits["index_bits"],
        table_bits=bits["table_bits"],
        loaded_bits=one.program.n_sets * WORD_LINES * WORD_BITS * d.n_teams,
        accesses=events.accesses,
        feature_reads=events.feature_reads,
        feature_writes=events.feature_writes,
        requantisations=events.requantisations,
        blocks=tuple(
            (start + b.loaded, start + b.first_step, start + b.last_step) for b in clocks.blocks
        ),
    )
