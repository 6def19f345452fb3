"""When everything happens in the accelerator, exactly.

Processes that wait for each other: the loader takes lines out of the line buffer and writes
group-sets into the macros or their weight SRAM, from which the copier brings them into the macros;
the walker goes through the kernel blocks that are complete. All clocks
count from the one in which the frame is started (clock 0); a frame takes as many clocks as the
number of the clock that writes its last feature.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from model.mars.config import (
    ADDRESSES,
    CONFIGS,
    KERNELS,
    ROWS_PER_COPY,
    WORD_LINES,
    WORDS_PER_LINE,
    WORDS_PER_WRITE,
    Ahead,
    MarsConfig,
)
from model.mars.layout import (
    CODES_PER_LINES,
    DESCRIPTOR_LINES,
    HEADER_LINES,
    NORMALISATION,
    OPERAND,
    PRODUCTS,
    ROW_PHASES,
    SOFTMAX,
    STEPS_PER_WORD,
    TABLE_LINES,
    header_lines,
    lines_per_entry,
)
from model.mars.program import Pass

FREED_AFTER = 3
"""From the last step of a kernel block until the loader sees its addresses free: the macros have
read them by then."""
DRAIN_AFTER = 6
"""From the last step of a round until its sums are drained."""
WRITTEN_AFTER = 8
"""From draining a pixel until its first word is written; with fewer lanes from its last slot."""
HEADER_FREED_AFTER = 2
"""From the last drained pixel of a kernel block until the loader sees its header free."""
AVERAGE_AFTER = 8
"""From draining the last pixel of a kernel block until its average is drained."""
CHAIN = STEPS_PER_WORD
"""Time steps that a pixel's neurons take one after the other, each a clock per group."""
CHAIN_AFTER = CHAIN - 1
"""Clocks by which each further group delays the first word, counted from the pixel's last slot, if
each step has a stage of its own."""
LANE_CHANNELS = 2
"""Of each lane of neurons that walk the steps; those that share a membrane come one by one."""
STORED_AFTER = 4
"""From a slot for membranes until they are written, if the neurons have fewer lanes."""

OPERAND_AFTER = 2
"""From the last word of a map that stands for weights until the first access."""
TRANSPOSED_AFTER = WORD_LINES
"""The same on top if channels become word lines."""
ROW_WAITS = {SOFTMAX: 11, NORMALISATION: 19}
"""From the last step of a pixel's sums until its results can begin, which want their divisor 7
clocks later: sum 8 and reciprocal 10; or variance 6, root 10 and reciprocal 10."""
LANES_PER_DIVIDER = 4
"""Lanes of the row unit that share a divider and a root: so many pixels can wait for theirs."""
ROW_DRAIN_AFTER = 9
"""From the last step of a pixel until its last block is drained."""
DESCRIBED_AFTER = 1
"""From the last line of a descriptor until the walker can take it."""
QUEUED_AFTER = 2
"""The same if there is a queue of them."""
COPY_CLOCKS = WORD_LINES // ROWS_PER_COPY
"""To copy a group-set from the weight SRAMs into the macros."""
BLOCK_SLOTS = 4
"""Kernel blocks in the macros that are not begun."""
WITHOUT_SRAM = CONFIGS["mars-tiny"].ahead


class Source(Protocol):
    """Where lines come from."""

    def take(self, clock_ready: int) -> int:
        """The clock in which the next line is taken by who is ready from `clock_ready` on."""

    def store(self, clock_taken: int, n_words: int) -> int:
        """The last clock of a store that is taken in a clock."""


@dataclass(frozen=True)
class Work:
    """What decides the clocks of a pass.

    Parameters
    ----------
    n_input_lines : int
        Lines of feature words; 0 for a pass with kernel blocks.
    first_word : int
        Where in the first one they begin.
    n_stored : int
        Words that are stored in memory; 0 for other passes.
    split : int
        Macros that share a kernel block.
    entries : tuple of int
        Group-sets per macro, of each kernel block.
    n_rounds, in_planes, skip_planes : int
        Pixels per team; steps per entry; steps for the residual.
    input_words : int
        Feature words that are written per clock.
    n_teams, out_planes : int
        Teams, and words of a stored result.
    has_average : bool
        One more value follows the last pixel.
    has_table : bool
        A lookup table comes before the kernel blocks.
    n_header_lines, codes_per_line : int
        Of each kernel block; index codes.
    n_sub_rounds : int
        Times that a pixel is walked, each for four time steps.
    timed, direct, fires, pixel_sum : bool
        The pass works in time; its source is the same in all steps; neurons follow the sums;
        the sums of all pixels are one result.
    groups : int
        Of channels that share a membrane.
    u_load, u_store : int
        Words of membranes that are read before and written behind a pixel's steps.
    function : int
        What the pass computes, as in `model.mars.layout`.
    row_blocks : int
        Of softmax and normalisation: blocks of channels of a pixel; `n_rounds` are all pixels.
    transposed : bool
        Channels of a map that stands for weights become word lines.
    turns : int
        Clocks in which 16 channels go through the lanes of post-processing, 1 or 4.
    """

    n_input_lines: int
    split: int
    entries: tuple[int, ...]
    input_words: int = 1
    first_word: int = 0
    n_stored: int = 0
    n_rounds: int = 1
    in_planes: int = 1
    skip_planes: int = 0
    n_teams: int = 1
    out_planes: int = 1
    has_average: bool = False
    has_table: bool = False
    n_header_lines: int = HEADER_LINES
    codes_per_line: int = CODES_PER_LINES[0]
    n_sub_rounds: int = 1
    timed: bool = False
    direct: bool = False
    fires: bool = False
    pixel_sum: bool = False
    groups: int = 1
    u_load: int = 0
    u_store: int = 0
    function: int = PRODUCTS
    row_blocks: int = 0
    transposed: bool = False
    turns: int = 1

    @property
    def rows_apart(self) -> int:
        """Pixels by which the results of softmax or normalisation are behind the sums."""
        most = KERNELS // (self.turns * LANES_PER_DIVIDER)
        return min(-(-ROW_WAITS[self.function] // self._row_phases), most)

    @property
    def row_clocks(self) -> int:
        """Clocks of a pixel of softmax or normalisation: a phase of as many pixels as there are."""
        return max(self._row_phases, -(-ROW_WAITS[self.function] // self.rows_apart))

    @property
    def _row_phases(self) -> int:
        """Clocks in which all phases of a pixel read it."""
        return ROW_PHASES[self.function] * self.row_blocks * self.turns

    @property
    def row_steps(self) -> int:
        """Clocks of all pixels, the last of which has its later phases behind the others."""
        behind = ROW_PHASES[self.function] - 2 + self.rows_apart
        return (self.n_rounds + behind) * self.row_clocks

    def filling(self, n_entries: int) -> tuple[int, int]:
        """Clocks in which a map is read into the macros as weights, and those until it is there."""
        if self.function != OPERAND or not n_entries:
            return 0, 0
        return n_entries * WORD_LINES, OPERAND_AFTER + TRANSPOSED_AFTER * self.transposed

    def steps(self, n_entries: int) -> int:
        """Steps of one round; a kernel block of bias alone takes one."""
        accesses = 1 if self.timed and not self.direct else self.in_planes
        return max(1, n_entries * accesses + self.skip_planes + self.u_load)

    def rounds(self, n_entries: int) -> list[int]:
        """Steps of the rounds of a pixel: the sums of a direct source are there after the first."""
        later = max(1, self.skip_planes) if self.direct else self.steps(n_entries)
        return [self.steps(n_entries)] + [later] * (self.n_sub_rounds - 1)

    @property
    def slots(self) -> int:
        """Clocks that a round needs to be drained.

        A result is written when its last lanes have had their turn, and only then the next one's
        can come; that is rounded up to a power of two. Membranes are written by all teams at once,
        each to its own feature memory.
        """
        if self.fires:
            return self._neuron_slots + -(-self.u_store // WORDS_PER_WRITE)
        busy = self.turns + -(-self.out_planes // WORDS_PER_WRITE) - 1
        result = 1 << (busy - 1).bit_length()
        return self.n_teams * result * (STEPS_PER_WORD if self.timed else 1)

    @property
    def _neuron_slots(self) -> int:
        """Of teams that go through a chain of stages, or through fewer lanes turn by turn."""
        if self.turns > 1:
            return self.n_teams * max(self.groups, LANE_CHANNELS) * CHAIN
        teams = self.n_teams if self.n_sub_rounds == 1 else max(self.n_teams, CHAIN)
        return teams * self.groups

    @property
    def written_after(self) -> int:
        """From a round's last slot until its last word is written."""
        if self.turns > 1:
            return WRITTEN_AFTER
        return WRITTEN_AFTER + CHAIN_AFTER * (self.groups - 1)


def work_of(one: Pass, config: MarsConfig, *, first_chunk: bool = True) -> Work:
    """The work of a pass of a program, which may be run for the first time steps or later ones."""
    d = one.descriptor
    n_words = d.n_rows * d.out_row_pitch if d.is_input else 0
    return Work(
        n_input_lines=-(-(d.first_word + n_words) // WORDS_PER_LINE),
        first_word=d.first_word,
        n_stored=d.n_words,
        split=d.split,
        entries=tuple(block.n_entries for block in one.blocks),
        input_words=d.input_words,
        n_rounds=d.n_rows * d.n_cols if d.is_row else d.n_rounds,
        in_planes=d.in_planes,
        skip_planes=d.skip_planes,
        n_teams=d.n_teams,
        out_planes=d.out_planes,
        has_average=bool(d.gap),
        has_table=bool(d.lookup),
        n_header_lines=header_lines(config.wide_multiplier),
        codes_per_line=d.codes_per_line,
        n_sub_rounds=d.n_sub_rounds,
        timed=bool(d.timed),
        direct=bool(d.direct),
        fires=d.fires,
        pixel_sum=bool(d.pixel_sum),
        groups=d.groups,
        u_load=d.u_planes if d.loads(first_chunk=first_chunk) else 0,
        u_store=d.u_planes if d.u_store else 0,
        function=d.function,
        row_blocks=d.row_blocks,
        transposed=bool(d.op_transposed),
        turns=config.turns,
    )


@dataclass(frozen=True)
class BlockClocks:
    """A kernel block: when its group-sets were complete, and its first and last step."""

    loaded: int
    first_step: int
    last_step: int


@dataclass(frozen=True)
class PassClocks:
    """A pass: its last clock, and what its clocks were spent on.

    Parameters
    ----------
    end : int
        Clock of its last feature write.
    clocks : int
        Since the end of the pass before it; the sum of the following four.
    steps, weight_stalls, drain_stalls, layer_stalls : int
        Macros work; wait for group-sets; wait for post-processing; wait for the features of the
        pass before, its own last ones, or the input.
    blocks : tuple of BlockClocks
    """

    end: int
    clocks: int
    steps: int
    weight_stalls: int
    drain_stalls: int
    layer_stalls: int
    blocks: tuple[BlockClocks, ...]


class _Copier:
    """Copies entries from the weight SRAMs into the macros, kernel block by kernel block."""

    def __init__(self) -> None:
        self.free = 0
        """It can turn to another kernel block."""
        self.first_steps = [0] * BLOCK_SLOTS

    def begin(self, header: int) -> int:
        """Turns to a kernel block whose header came in a clock; returns when it can copy."""
        self.free = max(self.free, header + 1, self.first_steps[-BLOCK_SLOTS]) + 1
        return self.free

    def copy(self, ready: int) -> int:
        """Copies an entry that is complete and has room; returns when its place is free again."""
        start = max(self.free, ready)
        self.free = start + COPY_CLOCKS
        return self.free

    def end(self, n_entries: int) -> int:
        """Kernel block complete; it turns to the next one in the clock before."""
        loaded = self.free if n_entries else self.free + 1
        self.free = loaded - 1
        return loaded


class _Loader:
    """Takes lines and says when what they hold can be used."""

    def __init__(self, source: Source, ahead: Ahead) -> None:
        self.source = source
        self.ahead = ahead
        self.copier = _Copier()
        self.free = 1
        self.codes = 0
        self.entries_freed: list[int] = [0] * ahead.entries
        """When the loader can write another entry, in order."""
        self.macros_freed: list[int] = [0] * ADDRESSES if ahead.copied else self.entries_freed
        """When its address in the macros is free again."""
        self.headers_freed: list[int] = [0] * ahead.headers
        self.n_entries = 0
        self.n_blocks = 0

    def take(self, after: int, hold: int = 1) -> int:
        clock = self.source.take(max(self.free, after))
        self.free = clock + hold
        return clock

    def take_words(self, n_lines: int, after: int, per_clock: int = 1, first: int = 0) -> int:
        """Lines that are handed on so many words per clock, from a word of the first one on.

        Returns the clock behind which the last one is written.
        """
        for number in range(n_lines):
            hold = (WORDS_PER_LINE - (0 if number else first)) // per_clock
            line = self.take(after, hold)
        return line + hold

    def input(self, work: Work, taken: int) -> int:
        """An input, taken by the walker in a clock; returns the last clock of the pass."""
        n_lines = work.n_input_lines
        return self.take_words(n_lines, taken + 1, work.input_words, work.first_word) + 1

    def block(self, work: Work, n_entries: int) -> int:
        """A kernel block; returns the clock in which it is complete."""
        for slot in range(work.n_header_lines):
            line = self.take(self.headers_freed[self.n_blocks] if slot == 0 else 0)
        self.n_blocks += 1
        loaded = line + 1
        if self.ahead.copied:
            self.copier.begin(line)
        for _ in range(n_entries):
            if not self.codes:
                self.take(0)
                self.codes = work.codes_per_line
            self.codes -= work.split
            loaded = self.entry(work, self.entries_freed[self.n_entries]) + 1
            if self.ahead.copied:
                ready = max(loaded, self.macros_freed[self.n_entries])
                self.entries_freed.append(self.copier.copy(ready))
            self.n_entries += 1
        return self.copier.end(n_entries) if self.ahead.copied else loaded

    def entry(self, work: Work, after: int) -> int:
        """An entry; returns the clock behind its last row. One of a map takes as long, without."""
        if work.function == OPERAND:
            self.free = max(self.free, after) + WORD_LINES
            return self.free
        hold = WORDS_PER_LINE // work.split
        line = self.take(after, hold)
        for _ in range(lines_per_entry(work.split) - 1):
            line = self.take(0, hold)
        return line + hold

    def filled(self, clock: int) -> None:
        """A map is in the macros from a clock on; until then nothing else is written there."""
        if self.ahead.copied:
            self.copier.free = max(self.copier.free, clock)
        else:
            self.free = max(self.free, clock)

    def used(self, n_entries: int, first_step: int, last_step: int, drained: int) -> None:
        """A kernel block of so many entries: its steps, and the clock of its last pixel."""
        self.copier.first_steps.append(first_step)
        self.macros_freed += [last_step + FREED_AFTER] * n_entries
        self.headers_freed.append(drained + HEADER_FREED_AFTER)


def _row_clocks(work: Work, loader: _Loader, start: int, taken: int) -> PassClocks:
    """Softmax or normalisation, which begins when all of its headers are there."""
    begun, loaded = taken, []
    for _ in work.entries:
        loaded.append(loader.block(work, 0))
        begun = max(begun, loaded[-1]) + 1
        loader.copier.first_steps.append(begun)
    steps = work.row_steps
    last = begun + steps - 1
    drained = last + ROW_DRAIN_AFTER
    loader.headers_freed += [drained + HEADER_FREED_AFTER] * len(loaded)
    end = drained + work.written_after
    clocks, weight_stalls = end - start, begun - taken - 1
    blocks = tuple(BlockClocks(clock, begun, last) for clock in loaded)
    layer_stalls = clocks - steps - weight_stalls
    return PassClocks(end, clocks, steps, weight_stalls, 0, layer_stalls, blocks)


def simulate(
    works: Sequence[Work], source: Source, ahead: Ahead = WITHOUT_SRAM
) -> list[PassClocks]:
    """The clocks of every pass."""
    loader = _Loader(source, ahead)
    result: list[PassClocks] = []
    all_taken = [0] * ahead.descriptors
    described_after = QUEUED_AFTER if ahead.copied else DESCRIBED_AFTER
    end = 0  # of the pass before
    drained = 0  # first clock in which the next round may end
    for work in works:
        start = end
        for _ in range(DESCRIPTOR_LINES):
            described = loader.take(all_taken[-ahead.descriptors] + 1)
        taken = max(end + 1, described + described_after)
        all_taken.append(taken)
        if not work.entries:
            end = (
                loader.input(work, taken)
                if work.n_input_lines
                else source.store(taken, work.n_stored)
            )
            result.append(PassClocks(end, end - start, 0, 0, 0, end - start, ()))
            continue
        last = taken + 1
        if work.has_table:
            loader.take_words(TABLE_LINES, taken + 1)
        loader.codes = 0
        if work.function in ROW_PHASES:
            result.append(_row_clocks(work, loader, start, last))
            end = result[-1].end
            continue
        blocks = []
        steps = weight_stalls = drain_stalls = 0
        for n in work.entries:
            loaded = loader.block(work, n)
            first = max(last, loaded) + 1
            filling, settling = work.filling(n)
            begin = first + filling + settling
            weight_stalls += first - last - 1 + settling
            if filling:
                loader.filled(begin)
            slots = work.slots
            lengths, n_pixels = work.rounds(n), work.n_rounds
            if work.pixel_sum:
                lengths, n_pixels = [n_pixels * lengths[0]], 1
            round_end = max(begin + lengths[0] - 1, drained)
            one = sum(max(length, slots) for length in lengths)
            last = round_end + n_pixels * one - max(lengths[0], slots)
            steps += n_pixels * sum(lengths) + filling
            drain_stalls += last - begin + 1 - n_pixels * sum(lengths)
            slots += AVERAGE_AFTER * work.has_average
            drained = last + slots
            loader.used(n, first, last, last + DRAIN_AFTER + slots - 1)
            blocks.append(BlockClocks(loaded, first, last))
        end = drained + DRAIN_AFTER - 1 + work.written_after
        clocks = end - start
        others = steps + weight_stalls + drain_stalls
        result.append(
            PassClocks(
                end, clocks, steps, weight_stalls, drain_stalls, clocks - others, tuple(blocks)
            )
        )
    return result
