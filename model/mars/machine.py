"""The golden machine: executes a program as the hardware does, on real feature memories.

Values come from walking the decoded group-sets over the banks, address by address; clocks come
from `model.mars.clocks`. Its only liberty: all pixels of a kernel block are computed at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from model.mars.config import (
    ADDRESSES,
    KERNELS,
    NIBBLE,
    WORD_BITS,
    WORD_LINES,
    WORDS_PER_LINE,
    MarsConfig,
)
from model.mars.devices.bit_cells import Cells
from model.mars.devices.macros import Access, DeviceMacros
from model.mars.layout import (
    DESCRIPTOR_LINES,
    MAX_LOADS,
    OPERAND,
    ROW_PHASES,
    SOFTMAX,
    STEPS_PER_WORD,
    Descriptor,
    Ints,
    Lines,
    decode_index,
    unpack_descriptor,
)
from model.mars.lif import chain
from model.mars.macro import decode_activations, decode_nibbles, decode_weights
from model.mars.program import KernelBlock, Pass
from model.mars.requantiser import raw, requantise
from model.mars.rows import normalise, softmax

Words = NDArray[np.uint64]
HALF = KERNELS // 2
BOTH_HALVES = 0b11
ADDRESS_SPACE = 1 << 16


@dataclass(frozen=True)
class Counters:
    """Events of a pass that cost energy.

    Parameters
    ----------
    accesses : int
        Accesses of macros: 16 word lines and 64 bit lines each.
    feature_reads, feature_writes : int
        Words of 64 bit, summed over the banks.
    requantisations : int
        Values that post-processing multiplies.
    membrane_updates : int
        Steps of neurons, those of channels that only fill up blocks included.
    """

    accesses: int = 0
    feature_reads: int = 0
    feature_writes: int = 0
    requantisations: int = 0
    membrane_updates: int = 0


@dataclass(frozen=True)
class Writes:
    """Feature writes in order, (n,) each.

    Parameters
    ----------
    row, offset : int64
        Row of the result, and address without the base of a bank.
    word : uint64
    halves : int64
        One bit for each half of the word that is written.
    """

    row: Ints
    offset: Ints
    word: Words
    halves: Ints


@dataclass(frozen=True)
class MembraneWrites:
    """Words of membranes in the order in which they are written, (n,) each.

    Parameters
    ----------
    macro, address : int64
    word : uint64
    mask : int64
        One bit for each byte of the word that is written.
    """

    macro: Ints
    address: Ints
    word: Words
    mask: Ints


@dataclass
class Memory:
    """What a machine finds outside.

    Parameters
    ----------
    packet : (n, 8) uint64
        The lines of the input packet.
    maps : (words,) uint64
        What lies behind `SCRATCH_BASE`.
    """

    packet: Lines
    maps: Words

    def read(self, d: Descriptor, number: int) -> Words:
        """The words of the lines that the segment behind a store reads as its map `number`."""
        words = self.packet.reshape(-1) if d.load_input[number] else self.maps
        first = d.load_line[number] * WORDS_PER_LINE
        return words[first : first + d.load_lines[number] * WORDS_PER_LINE]


@dataclass(frozen=True)
class PassResult:
    """What a pass did.

    Parameters
    ----------
    values : (pixels, 16) int64
        Results of the convolution in the order in which they are drained; 8-bit weights leave the
        upper 8 lanes 0. With neurons bit t of a value is the spike of the sub-round's step t; of
        logits there are those of each step.
    writes : Writes
        Of a store those into memory: `offset` counts from `SCRATCH_BASE` on.
    counters : Counters
    membranes : (pixels, 16) int64 or None
        With neurons: what a sub-round's last step left, at the first lane of each group.
    stores : MembraneWrites or None
        Membranes that wait for the next chunk of time steps.
    """

    values: Ints
    writes: Writes
    counters: Counters
    membranes: Ints | None = None
    stores: MembraneWrites | None = None


def walk(d: Descriptor) -> tuple[Ints, Ints]:
    """Row in the team's band and column of the pixel of every round.

    Row by row, or in quads of 2x2 if they are pooled.
    """
    rows, cols = np.mgrid[: d.rows_per_team, : d.n_cols]
    if d.pool:
        shape = (d.rows_per_team // 2, 2, d.n_cols // 2, 2)
        rows, cols = (x.reshape(shape).swapaxes(1, 2) for x in (rows, cols))
    return rows.reshape(-1), cols.reshape(-1)


def nibble_plane(values: Ints, plane: int) -> Words:
    """Words with one nibble of 16 values each: (..., 16) -> (...)."""
    nibbles = (values >> (NIBBLE * plane) & 0xF).astype(np.uint64)
    shifts = np.arange(0, WORD_BITS, NIBBLE, dtype=np.uint64)
    words: Words = np.bitwise_or.reduce(nibbles << shifts, axis=-1)
    return words


def from_planes(words: Words, *, signed: bool) -> Ints:
    """Values out of their nibble planes: (..., planes) -> (..., 16)."""
    planes = words.shape[-1]
    parts = [
        decode_activations(words[..., p], signed and p == planes - 1).astype(np.int64) << NIBBLE * p
        for p in range(planes)
    ]
    return np.asarray(sum(parts), np.int64)


def _weights(d: Descriptor, words: Words) -> NDArray[np.int32]:
    """Weights of entries (n, ...), nibble by nibble if they are stacked."""
    if not d.stacked:
        return decode_weights(words, bool(d.wide))
    weights = decode_nibbles(words, upper=False)
    weights[1::2] = decode_nibbles(words[1::2], upper=True)
    return weights


def _team_sums(
    d: Descriptor, activations: NDArray[np.float64], weights: NDArray[np.float64]
) -> Ints:
    """Sums of products (rounds, teams, 16).

    Every partial sum is below 2**53, so the products of doubles are exact.

    Parameters
    ----------
    d : Descriptor
    activations : (entries, macros, rounds, 16)
    weights : (entries, macros, 16, 16)
    """
    n_entries, n, n_rounds, _ = activations.shape
    by_macro = weights.transpose(1, 0, 2, 3).reshape(n, n_entries * WORD_LINES, KERNELS)
    sums = activations.transpose(1, 2, 0, 3).reshape(n, n_rounds, -1) @ by_macro
    return _by_team(d, sums)


def _by_team(d: Descriptor, sums: NDArray[Any]) -> Ints:
    """Sums of macros (macros, rounds, 16) as those of their teams, (rounds, teams, 16)."""
    n_rounds = sums.shape[1]
    by_team = sums.reshape(d.n_teams, d.split, n_rounds, KERNELS).sum(axis=1)
    return np.asarray(by_team.swapaxes(0, 1), np.int64)


def _largest(products: NDArray[Any]) -> Ints:
    """The largest of the entries' products (entries, macros, rounds, 16), (rounds, macros, 16)."""
    return np.asarray(products.max(axis=0).swapaxes(0, 1), np.int64)


def _words_of_steps(spikes: Ints) -> Ints:
    """Spikes (rounds, teams, 16, steps) as values of 4 bit (rounds, sub-rounds, teams, 16)."""
    *shape, n_steps = spikes.shape
    padded = np.zeros((*shape, -(-n_steps // STEPS_PER_WORD) * STEPS_PER_WORD), np.int64)
    padded[..., :n_steps] = spikes
    by_word = padded.reshape(*shape, -1, STEPS_PER_WORD)
    values = (by_word << np.arange(STEPS_PER_WORD)).sum(axis=-1)
    return np.asarray(np.moveaxis(values, -1, 1))


def _drained(valid: NDArray[np.bool_], d: Descriptor) -> NDArray[np.bool_]:
    """Which of (rounds, sub-rounds, teams) are pixels."""
    return np.repeat(valid[:, np.newaxis], d.n_sub_rounds, axis=1)


def _part(d: Descriptor, number: int) -> tuple[int, int]:
    """How many membranes a kernel block has, and which of a word's the first one is."""
    n = KERNELS >> d.u_parts_log2
    return n, number % (1 << d.u_parts_log2) * n


def maps_words(program: tuple[Pass, ...]) -> int:
    """Words of memory behind `SCRATCH_BASE` that a program needs, in whole lines."""
    ends = [d.map_word + d.n_words for d in (one.descriptor for one in program) if d.is_store]
    return -(-max(ends, default=0) // WORDS_PER_LINE) * WORDS_PER_LINE


T = TypeVar("T", Writes, MembraneWrites)


def _joined(writes: list[T]) -> T:
    """Writes one behind the other."""
    kind = type(writes[0])
    return kind(
        *(np.concatenate([getattr(w, field.name) for w in writes]) for field in fields(kind))
    )


class Machine:
    """The accelerator's feature memories, and what its passes do with them.

    Parameters
    ----------
    config : MarsConfig
    macros : DeviceMacros or None
        Arrays that are not exact, in place of the macros.
    cells : Cells or None
        Cells of its memories that are wrong.

    Attributes
    ----------
    banks : (macros, words) uint64
    maps : (words,) uint64
        The memory behind `SCRATCH_BASE` of the last frame.
    """

    def __init__(
        self,
        config: MarsConfig,
        macros: DeviceMacros | None = None,
        cells: Cells | None = None,
    ) -> None:
        self.config = config
        self.macros = macros
        self.cells = cells
        self.number = 0
        self.n_loaded = 0
        self.banks = np.zeros((config.n_macros, config.feature_words), np.uint64)
        self.first_chunk = True
        self.maps: Words = np.zeros(0, np.uint64)

    def frame(
        self, packet: Lines, program: tuple[Pass, ...], *, first_chunk: bool = True
    ) -> Iterator[tuple[Pass, PassResult]]:
        """Execute an input packet and a decoded program, pass by pass.

        Membranes begin anew in the first chunk of time steps, else where they were stored.
        """
        self.first_chunk = first_chunk
        memory = Memory(packet, np.zeros(maps_words(program), np.uint64))
        self.maps = memory.maps
        first = Pass(unpack_descriptor(packet[:DESCRIPTOR_LINES]), ())
        words = iter([packet[DESCRIPTOR_LINES:].reshape(-1)])
        for self.number, one in enumerate((first, *program)):
            d = one.descriptor
            if d.is_input:
                yield one, self._store_input(d, next(words) if one.words is None else one.words)
            elif d.is_store:
                yield one, self._store_map(d, memory.maps)
                if d.is_last:
                    words = iter([memory.read(d, k) for k in range(MAX_LOADS) if d.load_lines[k]])
            else:
                yield one, self._convolve(self._held(self._filled(one)))
            if d.is_last:
                self.n_loaded = 0

    def read(self, macro: Any, address: Any) -> Words:
        """Words of the feature memories."""
        words: Words = self.banks[macro, address]
        if self.cells is None:
            return words
        return self.cells.read("features", words, (macro, address))

    def _filled(self, one: Pass) -> Pass:
        """A pass with the rows that a map gives each macro, where one stands for weights."""
        d = one.descriptor
        if d.function != OPERAND:
            return one
        blocks = tuple(
            replace(block, words=self._operand(d, block.n_entries, number))
            for number, block in enumerate(one.blocks)
        )
        return replace(one, blocks=blocks)

    def _held(self, one: Pass) -> Pass:
        """A pass with its group-sets as each macro's cells give them back.

        Macros are filled in turn: a segment's group-sets begin at address 0.
        """
        if self.cells is None or self.cells.memory != "macros":
            return one
        macros = np.arange(self.config.n_macros)
        blocks = []
        for block in one.blocks:
            address = (self.n_loaded + np.arange(block.n_entries)) % ADDRESSES
            self.n_loaded += block.n_entries
            written = block.words[:, macros % block.words.shape[1]]
            place = (macros, address[:, np.newaxis])
            blocks.append(replace(block, words=self.cells.read("macros", written, place)))
        return replace(one, blocks=tuple(blocks))

    def _store_input(self, d: Descriptor, words: Words) -> PassResult:
        offset = np.arange(d.n_rows * d.out_row_pitch)
        writes = Writes(
            offset // d.out_row_pitch,
            offset % ADDRESS_SPACE,
            words[d.first_word : d.first_word + len(offset)].copy(),
            np.full(len(offset), BOTH_HALVES),
        )
        counters = Counters(feature_writes=self._write(d, writes))
        return PassResult(np.zeros((0, KERNELS), np.int64), writes, counters)

    def _store_map(self, d: Descriptor, maps: Words) -> PassResult:
        """Copies a result into memory, those of the teams one behind the other."""
        number = np.arange(d.n_words)
        team, word = np.divmod(number, d.team_words)
        macro = team << d.split_log2
        address = np.array(d.in_base)[macro] + word
        values = self.read(macro, address % self.config.feature_words)
        kept = (number % d.pixel_words >= d.kept_word) & (number % d.pixel_words < d.kept_end)
        where = (d.map_word + number)[kept]
        maps[where] = values[kept]
        writes = Writes(
            np.zeros(len(where), np.int64), where, values[kept], np.full(len(where), BOTH_HALVES)
        )
        return PassResult(
            np.zeros((0, KERNELS), np.int64), writes, Counters(feature_reads=d.n_words)
        )

    def _convolve(self, one: Pass) -> PassResult:
        d = one.descriptor
        if d.timed:
            return self._convolve_in_time(one)
        if d.is_row:
            return self._rows(one)
        rows, cols = walk(d)
        teams = np.arange(d.n_teams)
        valid = teams * d.rows_per_team + rows[:, np.newaxis] < d.n_rows
        values, writes, accesses, reads = [], [], 0, 0
        for number, block in enumerate(one.blocks):
            acc, words_read = self._accumulate(d, block, rows, cols, number)
            skip, skip_words = self._skip(d, number, rows, cols)
            y = self._requantise(d, block, acc, skip)
            values.append(y)
            writes.append(self._results(one, number, rows, cols, valid, y))
            accesses += block.codes.shape[0] * d.in_planes * len(rows) * d.n_teams * d.split
            reads += words_read + skip_words
            if d.function == OPERAND:
                reads += block.n_entries * KERNELS * d.n_teams * d.split
        stored = _joined(writes)
        lanes = HALF if d.wide else KERNELS
        counters = Counters(
            accesses, reads, self._write(d, stored), int(valid.sum()) * len(values) * lanes
        )
        drained = np.array(values)[:, valid].reshape(-1, KERNELS)
        return PassResult(drained, stored, counters)

    def _rows(self, one: Pass) -> PassResult:
        """Softmax or normalisation, pixel by pixel, in each block by block."""
        d = one.descriptor
        team, row = np.divmod(np.arange(d.n_rows), d.rows_per_team)
        cols, blocks = np.arange(d.n_cols), np.arange(d.row_blocks)
        shape = (d.n_rows, d.n_cols, d.row_blocks)
        macro = np.broadcast_to((team << d.split_log2)[:, np.newaxis, np.newaxis], shape)
        address = (
            np.array(d.in_base)[macro]
            + (row * d.in_row_step)[:, np.newaxis, np.newaxis]
            + (cols * d.in_col_step)[:, np.newaxis]
            + blocks * d.in_planes
        )
        planes = [
            self.read(macro, (address + p) % self.config.feature_words) for p in range(d.in_planes)
        ]
        values = from_planes(np.stack(planes, axis=-1), signed=bool(d.in_signed))
        channels = values.reshape(-1, d.row_blocks * KERNELS)[:, : d.row_channels]
        is_softmax = d.function == SOFTMAX
        found = softmax(channels, d.octaves) if is_softmax else normalise(channels, d.epsilon)
        acc = np.zeros((len(channels), d.row_blocks * KERNELS), np.int64)
        acc[:, : d.row_channels] = found
        y = np.concatenate(
            [
                self._requantise(d, one.blocks[k % len(one.blocks)], part, np.zeros_like(part))
                for k, part in enumerate(np.split(acc, d.row_blocks, axis=1))
            ],
            axis=1,
        ).reshape(-1, KERNELS)
        out_planes = np.arange(d.out_planes)
        out = (
            (team * d.team_out_pitch + row * d.out_row_pitch)[:, np.newaxis, np.newaxis]
            + (cols * d.out_col_pitch)[:, np.newaxis]
            + blocks * d.out_planes
        ).reshape(-1, 1) + out_planes
        stored = Writes(
            np.repeat(np.arange(d.n_rows), d.n_cols * d.row_blocks * d.out_planes),
            out.reshape(-1) % ADDRESS_SPACE,
            np.stack([nibble_plane(y, p) for p in range(d.out_planes)], axis=-1).reshape(-1),
            np.full(out.size, BOTH_HALVES),
        )
        phases = ROW_PHASES[d.function]
        counters = Counters(0, phases * y.shape[0] * d.in_planes, self._write(d, stored), y.size)
        return PassResult(y, stored, counters)

    def _convolve_in_time(self, one: Pass) -> PassResult:
        """A pass that works in time; what is (rounds, sub-rounds, teams, 16) is drained so."""
        d = one.descriptor
        rows, cols = walk(d)
        valid = np.arange(d.n_teams) * d.rows_per_team + rows[:, np.newaxis] < d.n_rows
        values, membranes, writes, stores, accesses, reads = [], [], [], [], 0, 0
        for number, block in enumerate(one.blocks):
            sums, words_read = self._sums_in_time(d, block, rows, cols, number)
            skip, skip_words = self._skip_in_time(d, number, rows, cols)
            charge = sums + skip * d.skip_mult
            if d.pixel_sum:
                charge, valid = charge.sum(axis=0, keepdims=True), valid[:1]
            charge = charge + block.header.bias[:, np.newaxis]
            if d.fires:
                before, n = self._load(d, number, rows, cols, valid)
                reads += n
                flat = charge.reshape(-1, KERNELS, charge.shape[-1])
                fired = chain(d, block.header, flat, before)
                words = _words_of_steps(fired.spikes.reshape(charge.shape))
                after = fired.membranes.reshape(charge.shape)
                ends = np.arange(d.n_sub_rounds) * STEPS_PER_WORD + STEPS_PER_WORD - 1
                after = after[..., np.minimum(ends, d.n_steps - 1)]
                membranes.append(np.moveaxis(after, -1, 1)[_drained(valid, d)])
                if d.u_store:
                    end = after[..., -1].reshape(-1, KERNELS)[:, :: d.groups]
                    stores.append(self._store(d, number, rows, cols, valid, end))
                values.append(words[_drained(valid, d)])
                writes.append(self._spikes(d, number, rows, cols, valid, words))
            else:
                logits = charge.cumsum(axis=-1)
                values.append(np.moveaxis(logits, -1, 2)[valid].reshape(-1, KERNELS))
                writes.append(self._logits(d, number, rows, cols, valid, logits))
            per_entry = d.in_planes if d.direct else d.n_sub_rounds
            accesses += block.n_entries * per_entry * len(rows) * d.n_teams * d.split
            reads += words_read + skip_words
        stored = _joined(writes)
        n_values = int(valid.sum()) * d.n_steps * len(values) * (HALF if d.wide else KERNELS)
        n_stored = sum(len(one.word) for one in stores)
        counters = Counters(
            accesses,
            reads,
            self._write(d, stored) + n_stored,
            0 if d.fires else n_values,
            n_values if d.fires else 0,
        )
        drained = np.concatenate(values).reshape(-1, KERNELS)
        left = np.concatenate(membranes).reshape(-1, KERNELS) if membranes else None
        return PassResult(drained, stored, counters, left, _joined(stores) if stores else None)

    def _u_places(self, d: Descriptor, number: int, rows: Ints, cols: Ints) -> tuple[Ints, Ints]:
        """Macro and address of the membranes of each team's pixels, (rounds, teams, words)."""
        if d.pixel_sum:
            rows, cols = rows[:1] * 0, cols[:1] * 0
        pixel = rows * d.u_row_pitch + cols * d.u_col_pitch
        word = number >> d.u_parts_log2
        inside = (word >> d.split_log2) * d.u_planes + np.arange(d.u_planes)
        address = d.u_base + pixel[:, np.newaxis, np.newaxis] + inside
        shape = (len(rows), d.n_teams, d.u_planes)
        macro = np.arange(d.n_teams)[:, np.newaxis] * d.split + word % d.split
        return np.broadcast_to(macro, shape), np.broadcast_to(
            address % self.config.feature_words, shape
        )

    def _load(
        self, d: Descriptor, number: int, rows: Ints, cols: Ints, valid: NDArray[np.bool_]
    ) -> tuple[Ints | None, int]:
        """Membranes (pixels, 16/groups) of an earlier chunk or layer, and words read."""
        if not d.loads(first_chunk=self.first_chunk):
            return None, 0
        macro, address = self._u_places(d, number, rows, cols)
        nibbles = from_planes(self.read(macro, address), signed=True).reshape(-1, KERNELS)
        n, first = _part(d, number)
        membranes = np.zeros((len(nibbles), KERNELS // d.groups), np.int64)
        membranes[:, :n] = nibbles[:, first : first + n]
        return membranes, valid.size * d.u_planes

    def _store(
        self,
        d: Descriptor,
        number: int,
        rows: Ints,
        cols: Ints,
        valid: NDArray[np.bool_],
        membranes: Ints,
    ) -> MembraneWrites:
        """Writes membranes (pixels, 16/groups), those of a pixel's teams at once."""
        n, first = _part(d, number)
        nibbles = np.zeros((len(membranes), KERNELS), np.int64)
        nibbles[:, first : first + n] = membranes[:, :n]
        macro, address = self._u_places(d, number, rows, cols)
        words = np.stack([nibble_plane(nibbles, p) for p in range(d.u_planes)], axis=-1)
        words = words.reshape(macro.shape)
        mine = slice(first // 2, (first + n) // 2)  # bytes
        banks = self.banks.view(np.uint8).reshape(*self.banks.shape, -1)
        parts = words.view(np.uint8).reshape(*words.shape, -1)
        banks[macro[valid], address[valid], mine] = parts[valid][..., mine]
        mask = ((1 << (n // 2)) - 1) << (first // 2)
        return MembraneWrites(
            macro[valid].reshape(-1),
            address[valid].reshape(-1),
            words[valid].reshape(-1),
            np.full(int(valid.sum()) * d.u_planes, mask),
        )

    def _sums_in_time(
        self, d: Descriptor, block: KernelBlock, rows: Ints, cols: Ints, number: int
    ) -> tuple[Ints, int]:
        """Sums of the teams' macros by step, (rounds, teams, 16, steps), and words read."""
        if d.direct:
            acc, n_read = self._accumulate(d, block, rows, cols, number)
            return np.repeat(acc[..., np.newaxis], d.n_steps, axis=-1), n_read
        by_step: list[Ints] = []
        n_read = 0
        for word in range(d.n_sub_rounds):
            words, weights, n = self._operands(d, block, rows, cols, word)
            n_read += n
            n_steps = min(STEPS_PER_WORD, d.n_steps - len(by_step))
            for step in range(n_steps):
                spikes = decode_activations(words[..., 0], signed=False) >> step & 1
                access = Access(self.number, number, len(by_step))
                by_step.append(self._sums(d, spikes, weights, 1, False, access))
        return np.stack(by_step, axis=-1), n_read

    def _skip_in_time(self, d: Descriptor, number: int, rows: Ints, cols: Ints) -> tuple[Ints, int]:
        """Spikes of the residual, (rounds, teams, 16, steps), and words read."""
        skip, n_read = self._skip(d, number, rows, cols)
        return skip[..., np.newaxis] >> np.arange(d.n_steps) & 1, n_read

    def _spikes(
        self,
        d: Descriptor,
        number: int,
        rows: Ints,
        cols: Ints,
        valid: NDArray[np.bool_],
        words: Ints,
    ) -> Writes:
        """The words that are written, in order, of values (rounds, sub-rounds, teams, 16)."""
        if d.pool:
            words = np.bitwise_or.reduce(words.reshape(-1, 4, *words.shape[1:]), axis=1)
            rows, cols, valid = rows[::4] // 2, cols[::4] // 2, valid[::4]
        row, offset = self._places(d, number, rows, cols, valid)
        sub_rounds = np.arange(d.n_sub_rounds)[np.newaxis, :, np.newaxis]
        y = words[_drained(valid, d)]
        where = (offset[:, np.newaxis] + sub_rounds)[_drained(valid, d)]
        row = np.broadcast_to(row[:, np.newaxis], words.shape[:3])[_drained(valid, d)]
        halves = BOTH_HALVES
        if d.wide:
            halves = 1 << (number & 1)
            y = np.roll(y, HALF, axis=1) if number & 1 else y
        return Writes(row, where % ADDRESS_SPACE, nibble_plane(y, 0), np.full(len(row), halves))

    def _logits(
        self,
        d: Descriptor,
        number: int,
        rows: Ints,
        cols: Ints,
        valid: NDArray[np.bool_],
        logits: Ints,
    ) -> Writes:
        """The words that are written, in order, of logits (rounds, teams, 16, steps)."""
        row, offset = self._places(d, number, rows, cols, valid)
        y = np.moveaxis(logits, -1, 2)[valid]  # (pixels, steps, 16)
        halves = BOTH_HALVES
        if d.wide:
            halves = 1 << (number & 1)
            y = y.copy()
            y[..., HALF:] = 0
            y = np.roll(y, HALF, axis=-1) if number & 1 else y
        planes = np.arange(d.out_planes)
        words = np.stack([nibble_plane(y, p) for p in range(d.out_planes)], axis=-1)
        inside = np.arange(d.n_steps)[:, np.newaxis] * d.out_planes + planes
        where = offset[valid][:, np.newaxis, np.newaxis] + inside
        return Writes(
            np.repeat(row[valid], d.n_steps * d.out_planes),
            where.reshape(-1) % ADDRESS_SPACE,
            words.reshape(-1),
            np.full(words.size, halves),
        )

    def _places(
        self, d: Descriptor, number: int, rows: Ints, cols: Ints, valid: NDArray[np.bool_]
    ) -> tuple[Ints, Ints]:
        """Row and address of the first word of results (rounds, teams)."""
        if d.pixel_sum:
            rows, cols = rows[:1], cols[:1]
        teams = np.arange(d.n_teams)
        row = rows[:, np.newaxis] + teams * (d.rows_per_team >> d.pool)
        offset = (rows * d.out_row_pitch + cols * d.out_col_pitch)[:, np.newaxis]
        offset = offset + teams * d.team_out_pitch
        assert row.shape == valid.shape
        return row, offset + (number >> d.wide << d.out_block_log2)

    def _gather(self, macros: Ints, address: Ints, valid: NDArray[np.bool_], around: int) -> Words:
        """Words of the banks, and 16 nibbles of `around` where they are not valid."""
        words = self.read(macros, address % self.config.feature_words)
        return np.where(valid, words, nibble_plane(np.full(KERNELS, around), 0))

    def _accumulate(
        self, d: Descriptor, block: KernelBlock, rows: Ints, cols: Ints, number: int
    ) -> tuple[Ints, int]:
        """Sums of the teams' macros, (rounds, teams, 16), and how many words were read."""
        planes, weights, n_read = self._operands(d, block, rows, cols)
        activations = from_planes(planes, signed=bool(d.in_signed))
        access = Access(self.number, number)
        bits, signed = NIBBLE * d.accesses, bool(d.in_signed)
        return self._sums(d, activations, weights, bits, signed, access), n_read

    def _sums(
        self,
        d: Descriptor,
        activations: NDArray[np.integer],
        weights: NDArray[np.float64],
        bits: int,
        signed: bool,
        access: Access,
    ) -> Ints:
        """Sums of products, or the largest of the entries', (rounds, teams, 16)."""
        takes_largest = d.maximum and len(weights)
        # What comes and goes with every pixel is not programmed into cells of a device.
        if self.macros is None or d.function == OPERAND:
            values = activations.astype(np.float64)
            if not takes_largest:
                return _team_sums(d, values, weights)
            return _largest(values @ weights)
        products = self.macros.products(
            d,
            weights.astype(np.int64),
            activations.astype(np.int64),
            bits,
            signed=signed,
            access=access,
        )
        return _largest(products) if takes_largest else _by_team(d, products.sum(axis=0))

    def _operands(
        self,
        d: Descriptor,
        block: KernelBlock,
        rows: Ints,
        cols: Ints,
        word: int = 0,
    ) -> tuple[Words, NDArray[np.float64], int]:
        """What the macros multiply, and how many words were read.

        Words of the source, (entries, macros, rounds, words of a value), in time of one sub-round,
        and weights, (entries, macros, 16, 16).
        """
        macros = np.arange(d.n_teams * d.split)
        base = np.array(d.in_base)[macros]
        tap_row, tap_col, channel_block = decode_index(
            block.codes[:, macros % d.split, np.newaxis],
            block_width=d.block_width,
            dx_width=d.dx_width,
        )
        first_row = (macros // d.split * d.team_in_rows)[:, np.newaxis]
        in_row = first_row + rows * d.row_stride - d.pad_top + tap_row * d.row_dilation
        in_col = cols * d.col_stride - d.pad_left + tap_col * d.col_dilation
        valid = (in_row >= 0) & (in_row < d.in_height) & (in_col >= 0) & (in_col < d.in_width)
        address = (
            base[:, np.newaxis]
            + rows * d.in_row_step
            + cols * d.in_col_step
            + tap_row * d.tap_row_pitch
            + tap_col * d.tap_col_pitch
            + channel_block * d.in_planes
            + word
        )
        planes = np.stack(
            [
                self._gather(macros[:, np.newaxis], address + p, valid, d.pad_value >> NIBBLE * p)
                for p in range(d.accesses)
            ],
            axis=-1,
        )
        words = block.words[:, macros % block.words.shape[1]]
        weights = _weights(d, words).astype(np.float64)
        return planes, weights, int(valid.sum()) * d.accesses

    def _operand(self, d: Descriptor, n_entries: int, number: int) -> Words:
        """Rows of entries out of a map, (entries, macros, 16), each macro's from its own memory.

        The macros of a team have the blocks of 16 word lines in turn. Where there are no pixels or
        channels they are 0.
        """
        n_planes = 1 + d.stacked
        macros = np.arange(self.config.n_macros)[:, np.newaxis]
        entry = np.arange(n_entries)[:, np.newaxis, np.newaxis]
        plane, block = entry % n_planes, entry // n_planes * d.split + macros % d.split
        within = np.arange(KERNELS)
        token, channel_block = (
            (number * KERNELS + within, block)
            if d.op_transposed
            else (block * KERNELS + within, np.int64(number))
        )
        address = d.op_base + token * d.op_col_pitch + channel_block * n_planes + plane
        words = self.read(macros, address % self.config.feature_words)
        nibbles = decode_activations(words, signed=False)  # (entries, macros, 16 words, 16 lanes)
        lanes = np.asarray(channel_block)[..., np.newaxis] * KERNELS + within
        inside = (token < d.op_tokens)[..., np.newaxis] & (lanes < d.op_channels)
        rows = np.where(inside, nibbles, 0).astype(np.int64)
        return nibble_plane(rows.swapaxes(-1, -2) if d.op_transposed else rows, 0)

    def _skip(self, d: Descriptor, number: int, rows: Ints, cols: Ints) -> tuple[Ints, int]:
        """Residual of each lane, (rounds, teams, 16), and how many words were read."""
        if not d.has_skip:
            return np.zeros((len(rows), d.n_teams, KERNELS), np.int64), 0
        macros = np.arange(d.n_teams) * d.split
        channel_block = number >> d.wide
        n_words = 1 + d.skip_two
        address = (
            np.array(d.skip_base)[macros]
            + (rows * d.skip_row_pitch + cols * d.skip_col_pitch)[:, np.newaxis]
            + channel_block * n_words
        )
        everything = np.ones_like(address, np.bool_)
        planes = np.stack(
            [self._gather(macros, address + p, everything, 0) for p in range(n_words)],
            axis=-1,
        )
        values = from_planes(planes, signed=bool(d.skip_signed)) - d.skip_zero
        if d.wide:
            half = (number & 1) * HALF
            values = np.concatenate(
                [values[..., half : half + HALF], np.zeros_like(values[..., :HALF])], axis=-1
            )
        return values, planes.size

    def _requantise(self, d: Descriptor, block: KernelBlock, acc: Ints, skip: Ints) -> Ints:
        h = block.header
        if d.raw:
            y = raw(acc, h.bias)
        else:
            y = requantise(
                acc,
                h.bias,
                h.mult,
                h.shift,
                skip,
                d.skip_mult,
                d.low,
                d.high,
                post_shift=h.post_shift,
                offset=d.offset,
            )
        if d.wide:
            y[..., HALF:] = 0
        return y

    def _results(
        self,
        one: Pass,
        number: int,
        rows: Ints,
        cols: Ints,
        valid: NDArray[np.bool_],
        y: Ints,
    ) -> Writes:
        """Pools, looks up, and the words that are written, in order."""
        d = one.descriptor
        if d.pool:
            y = y.reshape(-1, 4, *y.shape[1:]).max(axis=1)
            rows, cols, valid = rows[::4] // 2, cols[::4] // 2, valid[::4]
        team_row = np.arange(d.n_teams) * (d.rows_per_team >> d.pool)
        row = (rows[:, np.newaxis] + team_row)[valid]
        offset = (
            (rows * d.out_row_pitch + cols * d.out_col_pitch)[:, np.newaxis]
            + np.arange(d.n_teams) * d.team_out_pitch
        )[valid]
        y = y[valid]
        if one.table is not None:
            y = one.table[y & 0xFF]
        if d.gap:
            y = requantise(
                y.sum(axis=0),
                d.gap_bias,
                d.gap_mult,
                d.gap_shift,
                0,
                0,
                d.gap_low,
                d.gap_high,
                post_shift=d.gap_post_shift,
                offset=d.gap_offset,
            )[np.newaxis]
            row, offset = np.zeros(1, np.int64), np.zeros(1, np.int64)
        halves = BOTH_HALVES
        if d.wide:
            y = y.copy()
            y[:, HALF:] = 0
            if number & 1:
                y = np.roll(y, HALF, axis=1)
            halves = 1 << (number & 1)
        planes = np.arange(d.out_planes)
        words = np.stack([nibble_plane(y, p) for p in range(d.out_planes)], axis=-1)
        offset = (offset + (number >> d.wide) * d.out_planes)[:, np.newaxis] + planes
        return Writes(
            np.repeat(row, d.out_planes),
            offset.reshape(-1) % ADDRESS_SPACE,
            words.reshape(-1),
            np.full(words.size, halves),
        )

    def _write(self, d: Descriptor, writes: Writes) -> int:
        """Every bank takes the rows that it stores; returns the number of words written."""
        total = 0
        for m, bank in enumerate(self.banks):
            stored = (writes.row >= d.out_first_row[m]) & (writes.row < d.out_end_row[m])
            total += int(stored.sum())
            address = (d.out_base[m] + writes.offset) % self.config.feature_words
            halves = bank.view("<u4").reshape(-1, 2)
            words = writes.word.view("<u4").reshape(-1, 2)
            for half in range(2):
                mine = stored & (writes.halves >> half & 1).astype(np.bool_)
                halves[address[mine], half] = words[mine, half]
        return total
