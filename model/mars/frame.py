"""A frame on the golden machine, and from what a machine did back to the network's layers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from model.mars.clocks import PassClocks, simulate, work_of
from model.mars.config import KERNELS, WORD_BITS
from model.mars.devices.bit_cells import Cells
from model.mars.devices.macros import DeviceMacros
from model.mars.early_exit import ExitUnit, exit_clocks
from model.mars.image import Features, Image, PassContents, split_steps
from model.mars.layout import STEPS_PER_WORD, Descriptor, Ints
from model.mars.machine import (
    ADDRESS_SPACE,
    HALF,
    Counters,
    Machine,
    MembraneWrites,
    Writes,
    walk,
)
from model.mars.memory import LineSource
from model.mars.program import Pass

LATENCY = 20
"""Clocks from a request to its first beat in an ideal memory."""
ONWARD_CLOCKS = 2
"""From the end of a segment or chunk, or from the exit unit's decision, to the next one's start."""
DECIDES_AFTER = 1
"""From the end of a chunk until the exit unit begins."""


class PassRecord(Protocol):
    """What a machine did in a pass.

    `values` (pixels, 16): requantised, in the order in which they were drained; `writes`: the
    feature words.
    """

    @property
    def values(self) -> Ints: ...

    @property
    def writes(self) -> Writes: ...


@dataclass(frozen=True)
class PassRun:
    """A pass on the golden machine.

    Parameters
    ----------
    program : Pass
    values, writes : as `PassRecord`
    membranes, stores : as `model.mars.machine.PassResult`
    clocks : PassClocks
    counters : Counters
    """

    program: Pass
    values: Ints
    writes: Writes
    clocks: PassClocks
    counters: Counters
    membranes: Ints | None = None
    stores: MembraneWrites | None = None


def run(image: Image, features: Ints, latency: int = LATENCY) -> Iterator[PassRun]:
    """A frame on the golden machine, pass by pass, the input first; of chunks the first one.

    Clocks are counted from the start of each segment.

    Parameters
    ----------
    image : Image
    features : (channels, rows, columns) int
        Spikes (time_steps, channels, rows, columns).
    latency : int
        Of the memory, in clocks.
    """
    return _chunk(Machine(image.config), image, features, 0, latency)


def run_chunks(
    image: Image, features: Ints, latency: int = LATENCY
) -> Iterator[tuple[PassRun, ...]]:
    """All time steps on the golden machine, a chunk at a time; parameters as of `run`.

    Every chunk finds the membranes that the one before left.
    """
    machine = Machine(image.config)
    for chunk in range(image.n_chunks):
        yield tuple(_chunk(machine, image, features, chunk, latency))


@dataclass(frozen=True)
class FrameRun:
    """A frame on the golden machine, with all time steps that it takes.

    Parameters
    ----------
    chunks : tuple of tuple of PassRun
        Once per run of the program. Clocks are counted from the start of each segment.
    clocks : int
        From the start to the end, those of the exit unit included. Without it each chunk is a
        frame that the host starts.
    steps : int
        Time steps taken; 0 without time.
    result : (channels, rows, columns) int64
        What feature memory, or the memory behind `SCRATCH_BASE`, holds in the end; in time
        (steps, channels, rows, columns), those of the last chunk.
    logits : (classes,) int64 or None
        Of the last step taken, if the exit unit has them.
    """

    chunks: tuple[tuple[PassRun, ...], ...]
    clocks: int
    steps: int
    result: Ints
    logits: Ints | None = None

    @property
    def passes(self) -> tuple[PassRun, ...]:
        """Those of all chunks."""
        return tuple(one for chunk in self.chunks for one in chunk)


def run_frame(
    image: Image,
    features: Ints,
    latency: int = LATENCY,
    macros: DeviceMacros | None = None,
    cells: Cells | None = None,
) -> FrameRun:
    """A frame on the golden machine, chunk by chunk until the network stops; as `run`.

    `macros` are arrays that are not exact, `cells` those of digital memories that are wrong.
    """
    registers = image.exit_registers
    unit = ExitUnit(registers) if registers else None
    machine = Machine(image.config, macros, cells)
    chunks: list[tuple[PassRun, ...]] = []
    clocks = 0
    for chunk in range(image.n_chunks):
        runs = tuple(_chunk(machine, image, features, chunk, latency))
        chunks.append(runs)
        clocks += starts(runs)[-1] + runs[-1].clocks.end
        if unit is None:
            continue
        clocks += ONWARD_CLOCKS * (len(chunks) > 1)
        taken = unit.taken
        logits = _result(image, machine)
        stops = unit.stops(logits.reshape(len(logits), -1))
        # The state that the unit begins in also leads to the next chunk.
        clocks += exit_clocks(image.output.shape[0], unit.taken - taken) + DECIDES_AFTER * stops
        if stops:
            return FrameRun(tuple(chunks), clocks, unit.taken, _result(image, machine), unit.logits)
    return FrameRun(tuple(chunks), clocks, image.time_steps, _result(image, machine))


def _result(image: Image, machine: Machine) -> Ints:
    words = machine.maps if image.contents.stored else machine.read(0, slice(None))
    return image.output.from_words(words[image.contents.output_address :][: image.output_words])


def starts(runs: Sequence[PassRun]) -> list[int]:
    """The clock of a run of the program in which each pass's segment starts."""
    result, start = [], 0
    for one in runs:
        result.append(start)
        if one.program.descriptor.is_last:
            start += one.clocks.end + ONWARD_CLOCKS
    return result


def _chunk(
    machine: Machine, image: Image, features: Ints, chunk: int, latency: int
) -> Iterator[PassRun]:
    clocks = [
        when
        for segment in image.segments
        for when in simulate(
            [work_of(one, image.config, first_chunk=chunk == 0) for one in segment.passes],
            LineSource(image.config, segment.regions, latency),
            image.config.ahead,
        )
    ]
    packet = image.packet(features, chunk)
    results = machine.frame(packet, image.passes, first_chunk=chunk == 0)
    for (one, result), when in zip(results, clocks, strict=True):
        yield PassRun(
            one,
            result.values,
            result.writes,
            when,
            result.counters,
            result.membranes,
            result.stores,
        )


def layer_outputs(
    descriptor: Descriptor, contents: PassContents, record: PassRecord
) -> dict[str, Ints]:
    """Results (channels, rows, columns) of the layers of a pass, as far as they can be seen.

    Those in time are (time_steps, channels, rows, columns).

    The convolution's values are seen before they are pooled, and what is written; what is between
    the two is not seen. An odd last row or column that a pool leaves out is not computed. There are
    the rows that `rows_of` says.
    """
    result: dict[str, Ints] = {}
    if contents.partial:
        return result
    if not contents.copies:
        result[contents.layers[0]] = _computed(descriptor, contents.outputs[0], record.values)
    if contents.copies or len(contents.layers) > 1:
        result[contents.layers[-1]] = _stored(descriptor, contents.outputs[-1], record.writes)
    rows = _all_rows(descriptor, contents)
    return {
        name: values[..., _inside(contents, name, rows[name]), :] for name, values in result.items()
    }


def rows_of(descriptor: Descriptor, contents: PassContents) -> dict[str, Ints]:
    """By layer: which rows of its result `layer_outputs` has, in order."""
    if contents.partial:
        return {}
    rows = _all_rows(descriptor, contents)
    return {name: rows[name][_inside(contents, name, rows[name])] for name in rows}


def _all_rows(d: Descriptor, contents: PassContents) -> dict[str, Ints]:
    """Rows as the pass counts them, also those outside the map."""
    number = np.arange(d.n_rows)
    rows = np.array(contents.team_rows)[number // d.rows_per_team] + number % d.rows_per_team
    if d.pixel_sum:
        return dict.fromkeys(contents.layers, np.zeros(1, np.int64))
    stored = np.zeros(1, np.int64) if d.gap else rows[:: 1 + d.pool] >> d.pool
    result = dict.fromkeys(contents.layers, stored)
    if not contents.copies:
        result[contents.layers[0]] = rows
    return result


def _inside(contents: PassContents, name: str, rows: Ints) -> NDArray[np.bool_]:
    n_rows = contents.outputs[contents.layers.index(name)].shape[1]
    return (rows >= contents.overwritten) & (rows < n_rows)


def membranes_of(descriptor: Descriptor, contents: PassContents, record: PassRun) -> Ints | None:
    """What the neurons of a pass left behind each sub-round, (sub-rounds, C/groups, rows, columns).

    None without neurons, or if they are those of a copy.
    """
    d, kind = descriptor, contents.outputs[0]
    if record.membranes is None or contents.copies or contents.partial:
        return None
    n_own = kind.shape[0] // d.groups
    by_word = [_values(d, one) for one in _by_sub_round(d, record.membranes)]
    inside = _inside(contents, contents.layers[0], _all_rows(d, contents)[contents.layers[0]])
    return np.stack(by_word)[:, : n_own * d.groups : d.groups, inside]


def _values(d: Descriptor, values: Ints) -> Ints:
    """Drained values as a map (channels as they stand, rows, columns)."""
    if d.is_row:
        return values.reshape(d.n_rows, d.n_cols, -1).transpose(2, 0, 1)
    lanes = HALF if d.wide else KERNELS
    by_block = values[:, :lanes].reshape(d.n_kernel_blocks, -1, lanes)
    if d.pixel_sum:
        return by_block.reshape(-1, 1, 1)
    rows, cols = walk(d)
    team_row = np.arange(d.n_teams) * d.rows_per_team
    row = rows[:, np.newaxis] + team_row
    valid = row < d.n_rows
    col = np.broadcast_to(cols[:, np.newaxis], row.shape)[valid]
    result = np.zeros((d.n_kernel_blocks, lanes, d.n_rows, d.n_cols), np.int64)
    result[:, :, row[valid], col] = by_block.swapaxes(1, 2)
    return result.reshape(-1, d.n_rows, d.n_cols)


def _computed(d: Descriptor, kind: Features, values: Ints) -> Ints:
    """Results of the convolution out of what was drained."""
    if not d.timed:
        return _values(d, values)[: kind.shape[0]]
    if not d.fires:
        by_step = values.reshape(-1, d.n_steps, KERNELS).swapaxes(0, 1)
        return np.stack([_values(d, one)[: kind.shape[0]] for one in by_step])
    words = [_values(d, one)[kind.places] for one in _by_sub_round(d, values)]
    return np.concatenate([split_steps(one, STEPS_PER_WORD) for one in words])[: d.n_steps]


def _by_sub_round(d: Descriptor, values: Ints) -> Ints:
    """Drained values of each sub-round, (sub-rounds, pixels, 16)."""
    rows, _ = walk(d)
    teams = np.arange(d.n_teams) * d.rows_per_team
    n_valid = (rows[:, np.newaxis] + teams < d.n_rows).sum(axis=1)
    if d.pixel_sum:
        n_valid = n_valid[:1]
    # Each round's pixels, once for every sub-round, in every kernel block.
    sub_round = np.concatenate([np.repeat(np.arange(d.n_sub_rounds), n) for n in n_valid])
    sub_rounds = np.tile(sub_round, d.n_kernel_blocks)
    return np.stack([values[sub_rounds == number] for number in range(d.n_sub_rounds)])


def _stored(d: Descriptor, kind: Features, writes: Writes) -> Ints:
    cols = kind.shape[2]
    rows = 1 if d.gap or d.pixel_sum else d.n_rows >> d.pool
    size = (rows, cols, kind.blocks * kind.planes)
    row, col, word = np.indices(size)
    place = _row_offset(d, row) + col * d.out_col_pitch + word
    first = _row_offset(d, writes.row)
    offset = first + (writes.offset - first) % ADDRESS_SPACE
    words = np.zeros(int(place.max()) + 1, np.uint64)
    halves = words.view("<u4").reshape(-1, 2)
    written = writes.word.view("<u4").reshape(-1, 2)
    for half in range(WORD_BITS // 32):
        mine = (writes.halves >> half & 1).astype(np.bool_)
        halves[offset[mine], half] = written[mine, half]
    return replace(kind, shape=(kind.shape[0], rows, cols)).from_words(words[place])


def _row_offset(d: Descriptor, row: Ints) -> Ints:
    """Words from the first stored row of a pass to others."""
    team, row_of_team = np.divmod(row, d.rows_per_team >> d.pool)
    offset: Ints = team * d.team_out_pitch + row_of_team * d.out_row_pitch
    return offset
