"""Clocks against a simulation that goes clock by clock, as the docstrings of hw/mars say it."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.mars.clocks import Work, simulate, work_of
from model.mars.config import CONFIGS, Ahead, MarsConfig
from model.mars.layout import OPERAND, Descriptor
from model.mars.mapper import compile_network
from model.mars.memory import LineSource, RecordedLines, frame_regions
from model.mars.program import Pass
from model.mars.random_network import random_input, random_network

N_ADDRESSES, CODES = 64, 56
N_WAITING = 4
"""Kernel blocks in the macros that are not begun."""
COPY = 4
"""Clocks in which a group-set is copied."""
AHEADS = (CONFIGS["mars-tiny"].ahead, MarsConfig(name="sram", weight_sram=64).ahead)
AVERAGE_PAUSE = 8
"""Global average pooling: one value more, so long behind the last pixel (hw.mars.drain)."""
SETTLING, TRANSPOSING = 2, 16
"""From the last word of a map to the first access; more if its words are transposed."""
PIPELINE = 6
"""Index memory, feature memory, macro (2), accumulator, copy: from a step to its drain."""
LAST_WRITE = 8
"""Adder tree (2), requantiser (5), feature memory: from the drain to the write."""


@dataclass(frozen=True)
class Line:
    """A line of the stream: what must be free for it, and what comes of it."""

    kind: str
    hold: int = 0
    n_entries: int = 0
    is_map: bool = False
    done: str = ""


def stream(works: Sequence[Work]) -> Iterator[Line]:
    """The lines of a frame as the loader sees them."""
    for work in works:
        yield Line("descriptor")
        yield Line("second", done="described")
        for k in range(work.n_input_lines):
            is_last = k == work.n_input_lines - 1
            yield Line("features", hold=8 // work.input_words, done="input" if is_last else "")
        if work.has_table:
            for _ in range(4):
                yield Line("table", hold=8)
        codes = 0
        for n_entries in work.entries:
            yield Line("header", n_entries=n_entries, is_map=work.function == OPERAND)
            for k in range(1, work.n_header_lines):
                is_last = k == work.n_header_lines - 1
                done = "header block" if is_last and not n_entries else "header" * is_last
                yield Line("second", done=done)
            for entry in range(n_entries):
                if not codes:
                    yield Line("codes")
                    codes = work.codes_per_line
                codes -= work.split
                yield from entry_lines(work, "entry block" if entry == n_entries - 1 else "entry")


def entry_lines(work: Work, done: str) -> Iterator[Line]:
    """Those of an entry; of a map there is one that is none."""
    if work.function == OPERAND:
        yield Line("map", hold=16, done=done)
        return
    n_lines = 2 * work.split
    for k in range(n_lines):
        done_by = done if k == n_lines - 1 else ""
        yield Line("row" if k else "first row", hold=8 // work.split, done=done_by)


class Frame:
    """Registers of line buffer, loader, copier, walker and drain; `step` is a clock."""

    def __init__(self, works: Sequence[Work], arrivals: Sequence[int], ahead: Ahead) -> None:
        self.ahead = ahead
        self.works = list(works)
        self.arrivals = deque(arrivals)
        self.clock = 0
        # Line buffer: the line at its output.
        self.is_offered = False
        # Loader.
        self.lines = deque(stream(works))
        self.kept: Line | None = None
        self.hold = 0
        self.not_taken = self.described = 0
        self.entries_in_use = self.headers_in_use = 0
        # Loader or copier: a map is not in the macros yet.
        self.held = False
        # Copier: sizes of blocks whose headers are there, what is ready, what is under way.
        self.headers: deque[int] = deque()
        self.maps: deque[bool] = deque()
        self.is_map = False
        self.ready = self.in_macros = self.picked = self.part = 0
        self.left: int | None = None
        self.size = 0
        # Walker.
        self.state = "DESCRIPTOR"
        self.waiting: deque[int] = deque()
        self.loading: deque[int] = deque()
        self.work: Work | None = None
        self.blocks_left = 0
        self.n_entries = self.steps_left = self.rounds_left = 0
        self.drain_left = 0
        self.reading_left = self.filling_left = 0
        # Drain: clocks left for the round in it.
        self.draining = 0
        # What happens at the end of a later clock.
        self.later: dict[int, list[tuple[str, int]]] = {}
        self.counts = dict.fromkeys(("clocks", "steps", "weight_stalls", "drain_stalls"), 0)
        self.results: list[dict[str, int]] = []

    def at(self, clocks: int, what: str, value: int = 0) -> None:
        """Something is so many clocks later than now."""
        self.later.setdefault(self.clock + clocks, []).append((what, value))

    def step(self) -> None:
        """One clock: all decisions on the state before it, then all changes."""
        pass_done = self._events()
        takes_descriptor = self.state == "DESCRIPTOR" and self.described
        transfer, loaded = self._loader()
        if self.ahead.copied:
            self._copier()
        self._walker(pass_done)
        self._line_buffer(transfer)
        if takes_descriptor:
            self.described -= 1
            self.not_taken -= 1
        if self.draining:
            self.draining -= 1
        for what in loaded:
            if what == "described":
                self.not_taken += 1
                self.at(2 if self.ahead.copied else 1, "described", 1)
            elif what == "header" and self.ahead.copied:
                self.at(1, "copy block", self.loading.popleft())
            elif what == "entry" and self.ahead.copied:
                self.at(1, "ready", 1)
            elif what == "block" and not self.ahead.copied:
                self.at(1, "waiting", self.loading.popleft())
            elif what == "input":
                self.at(1, "pass")
        self.clock += 1

    def _events(self) -> bool:
        """What was put off until now; returns whether the pass is done."""
        pass_done = False
        for what, value in self.later.pop(self.clock, ()):
            if what == "entries" and self.ahead.copied:
                self.in_macros -= value
            elif what in {"entries", "copied"}:
                self.entries_in_use -= value
            elif what in {"described", "ready", "picked"}:
                setattr(self, what, getattr(self, what) + value)
            elif what == "copy block":
                self.headers.append(value)
            elif what == "header":
                self.headers_in_use -= 1
            elif what == "round":
                assert not self.draining, "a round comes before the last one is drained"
                self.draining = value
            elif what == "waiting":
                self.waiting.append(value)
            elif what == "filled":
                self.held = False
            else:
                pass_done = True
        return pass_done

    def _line_buffer(self, transfer: bool) -> None:
        has_room = not self.is_offered or transfer
        if has_room:
            self.is_offered = bool(self.arrivals) and self.arrivals[0] < self.clock
            if self.is_offered:
                self.arrivals.popleft()

    def _loader(self) -> tuple[bool, list[str]]:
        loaded = []
        last_word = self.kept is not None and self.hold == 1
        if last_word and self.kept:
            loaded += self.kept.done.split()
        is_free = self.kept is None or last_word
        if not self.ahead.copied:
            is_free = is_free and not self.held
        transfer = is_map = False
        if self.lines and (self.is_offered or self.lines[0].kind == "map"):
            is_map = self.lines[0].kind == "map"
            transfer = {
                "descriptor": is_free and self.not_taken != self.ahead.descriptors,
                "second": True,
                "features": is_free and not self.not_taken,
                "table": is_free and not self.not_taken,
                "header": is_free and self.headers_in_use != self.ahead.headers,
                "codes": is_free,
                "first row": is_free and self.entries_in_use != self.ahead.entries,
                "row": is_free,
                "map": is_free and self.entries_in_use != self.ahead.entries,
            }[self.lines[0].kind]
        if self.kept is not None:
            self.hold -= 1
            if not self.hold:
                self.kept = None
        if transfer:
            line = self.lines.popleft()
            if line.hold:
                self.kept, self.hold = line, line.hold
            else:
                loaded += line.done.split()
            if line.kind == "header":
                self.headers_in_use += 1
                self.loading.append(line.n_entries)
                self.maps.append(line.is_map)
            self.entries_in_use += line.kind in {"first row", "map"}
            if is_map and "block" in line.done and not self.ahead.copied:
                self.held = True
        return transfer and not is_map, loaded

    def _copier(self) -> None:
        """Turns to kernel blocks and copies their entries; one clock."""
        is_done = self.left is None
        if self.left == 0:
            self.at(1, "waiting", 0)
            is_done = True
        elif self.left is not None:
            has_room = self.ready and self.in_macros != N_ADDRESSES
            if not self.part and has_room:
                self.part = COPY
                self.ready -= 1
                self.in_macros += 1
            if self.part:
                self.part -= 1
                if not self.part:
                    self.at(1, "copied", 1)
                    self.left -= 1
                    if not self.left:
                        self.at(1, "waiting", self.size)
                        is_done = True
        if is_done:
            if self.left is not None:
                self.held = self.is_map
            self.left = None
            if self.headers and self.picked != N_WAITING and not self.held:
                self.left = self.size = self.headers.popleft()
                self.is_map = self.maps.popleft()
                self.picked += 1

    def _walker(self, pass_done: bool) -> None:
        self.counts["clocks"] += 1
        may_drain = not self.drain_left
        self.drain_left = max(0, self.drain_left - 1)
        if self.state == "DESCRIPTOR":
            if self.described:
                self.work = self.works.pop(0)
                self.blocks_left = len(self.work.entries)
                self.state = "FINISH" if self.work.n_input_lines else "BEGIN"
        elif self.state in {"BEGIN", "WAIT"}:
            self.counts["weight_stalls"] += self.state == "WAIT"
            self.state = "WAIT"
            self._begin()
        elif self.state == "FILL":
            self._fill()
        elif self.state == "STEP":
            self._step(may_drain)
        if pass_done:
            assert self.state == "FINISH"
            self.state = "DESCRIPTOR"
            self.results.append({"end": self.clock, **self.counts})
            self.counts = dict.fromkeys(self.counts, 0)

    def _begin(self) -> None:
        assert self.work
        if self.waiting:
            self.n_entries = self.waiting.popleft()
            self.at(1, "picked", -1)
            self.blocks_left -= 1
            self.rounds_left = self.work.n_rounds * self.work.n_sub_rounds
            if self.work.pixel_sum:
                self.rounds_left = 1
            self.steps_left = self._steps()
            self.state = "STEP"
            if self.work.function == OPERAND:
                self.reading_left = 16 * self.n_entries
                self.filling_left = SETTLING + TRANSPOSING * self.work.transposed
                self.state = "FILL"

    def _fill(self) -> None:
        """A clock in which a map is read, or is on its way into the macros."""
        if self.reading_left:
            self.reading_left -= 1
            self.counts["steps"] += 1
            return
        self.filling_left -= 1
        self.counts["weight_stalls"] += 1
        if not self.filling_left:
            self.at(1, "filled")
            self.state = "STEP"

    def _steps(self) -> int:
        """Steps of the round that begins, as docs/spiking.md has it for those in time."""
        work = self.work
        assert work
        if not work.timed:
            return max(1, self.n_entries * work.in_planes + work.skip_planes)
        is_first = self.rounds_left % work.n_sub_rounds == 0
        accesses = 1
        if work.direct:
            accesses = work.in_planes if is_first or work.n_sub_rounds == 1 else 0
        length = max(1, work.u_load + self.n_entries * accesses + work.skip_planes)
        return length * work.n_rounds if work.pixel_sum else length

    def _slots(self) -> tuple[int, int]:
        """Clocks in which a round is drained, and from the last one to the last write."""
        work = self.work
        assert work
        if work.turns > 1:
            return self._slots_in_turns(work)
        if work.fires:
            n_teams = work.n_teams if work.n_sub_rounds == 1 else max(4, work.n_teams)
            latency = 2 + 1 + 4 * work.groups + 1
            store = -(-work.u_store // 2)
            return n_teams * work.groups + store, latency - (work.groups - 1)
        words = work.out_planes * (4 if work.timed else 1)
        return work.n_teams * -(-words // 2), LAST_WRITE

    def _slots_in_turns(self, work: Work) -> tuple[int, int]:
        """The same with four lanes: four clocks for 16 channels, two or four a step of neurons."""
        if work.fires:
            of_team = 4 * max(2, work.groups)
            last_spikes = 2 + 1 + of_team + 3  # The lanes of the last four channels.
            slots = work.n_teams * of_team + -(-work.u_store // 2)
            return slots, last_spikes + 1 - (of_team - 1)
        # 32 bits are written in four clocks, from the last turn on: 7 clocks, of which 8 are made.
        of_result = 8 if work.out_planes == 8 else 4
        return work.n_teams * of_result * (4 if work.timed else 1), LAST_WRITE

    def _step(self, may_drain: bool) -> None:
        assert self.work
        if self.steps_left == 1 and not may_drain:
            self.counts["drain_stalls"] += 1
            return
        self.counts["steps"] += 1
        self.steps_left -= 1
        if self.steps_left:
            return
        self.rounds_left -= 1
        words, last_write = self._slots()
        if not self.rounds_left and self.work.has_average:
            words += AVERAGE_PAUSE
        self.at(PIPELINE, "round", words)
        self.drain_left = words - 1
        if self.rounds_left:
            self.steps_left = self._steps()
            return
        self.at(3, "entries", self.n_entries)
        self.at(PIPELINE + words - 1 + 2, "header")
        if self.blocks_left:
            self.state = "WAIT"
            self._begin()
        else:
            self.at(PIPELINE + words - 1 + last_write, "pass")
            self.state = "FINISH"


def clock_by_clock(
    works: Sequence[Work], arrivals: Sequence[int], ahead: Ahead
) -> list[dict[str, int]]:
    """The passes of a frame."""
    frame = Frame(works, arrivals, ahead)
    # The clock of the start is clock 0.
    while len(frame.results) < len(works):
        frame.step()
        assert frame.clock < 1_000_000
    frame.results[0]["clocks"] -= 1
    return frame.results


def assert_same(works: Sequence[Work], arrivals: Sequence[int], ahead: Ahead = AHEADS[0]) -> None:
    expected = clock_by_clock(works, arrivals, ahead)
    actual = simulate(works, RecordedLines(arrivals), ahead)
    names = ("end", "clocks", "steps", "weight_stalls", "drain_stalls")
    assert [{name: getattr(one, name) for name in names} for one in actual] == expected
    for one in actual:
        parts = one.steps + one.weight_stalls + one.drain_stalls + one.layer_stalls
        assert parts == one.clocks


INPUT = Work(n_input_lines=2, split=1, entries=())
WORKS = st.builds(
    Work,
    n_input_lines=st.just(0),
    split=st.sampled_from((1, 2, 4, 8)),
    entries=st.lists(st.one_of(st.integers(0, 4), st.integers(0, 64)), min_size=1, max_size=7).map(
        tuple
    ),
    n_rounds=st.integers(1, 5),
    in_planes=st.integers(1, 2),
    skip_planes=st.integers(0, 2),
    n_teams=st.integers(1, 8),
    out_planes=st.sampled_from((1, 2, 8)),
    has_average=st.booleans(),
    has_table=st.booleans(),
    n_header_lines=st.sampled_from((2, 4)),
    codes_per_line=st.sampled_from((56, 32)),
    turns=st.sampled_from((1, 4)),
)
FIRING = st.builds(
    replace,
    WORKS.map(lambda work: replace(work, has_average=False, has_table=False, timed=True)),
    fires=st.just(True),
    out_planes=st.just(1),
    skip_planes=st.integers(0, 1),
    n_sub_rounds=st.integers(1, 2),
    direct=st.booleans(),
    groups=st.sampled_from((1, 2, 4)),
)
MAPS = st.builds(
    replace,
    WORKS.filter(lambda work: all(work.entries)),
    function=st.just(OPERAND),
    transposed=st.booleans(),
)
CHUNKS = st.builds(
    replace,
    FIRING.map(lambda work: replace(work, n_sub_rounds=1)),
    u_load=st.sampled_from((0, 1, 2, 4)),
    u_store=st.sampled_from((0, 1, 2, 4)),
)
SUMMING = FIRING.map(lambda work: replace(work, pixel_sum=True, n_sub_rounds=1, n_teams=1))
LOGITS = st.one_of(FIRING, SUMMING).map(
    lambda work: replace(work, fires=False, out_planes=8, groups=1)
)


@settings(max_examples=150, deadline=None)
@given(
    st.builds(
        Work,
        n_input_lines=st.integers(1, 3),
        split=st.just(1),
        entries=st.just(()),
        input_words=st.integers(1, 2),
    ),
    st.lists(st.one_of(WORKS, MAPS, FIRING, CHUNKS, SUMMING, LOGITS), min_size=1, max_size=3),
    st.integers(0, 2),
    st.sampled_from(AHEADS),
    st.data(),
)
def test_clock_by_clock(
    first: Work, works: list[Work], slow: int, ahead: Ahead, data: st.DataObject
) -> None:
    works = [first, *works]
    n = len(list(stream(works)))
    rng = data.draw(st.randoms(use_true_random=False))
    arrivals, clock = [], 0
    for _ in range(n):
        clock += rng.choice(((1,), (1, 1, 1, 9), (1, 4, 8, 60))[slow])
        arrivals.append(clock)
    assert_same(works, arrivals, ahead)


def arrivals_of(
    config: MarsConfig, n_input: int, n_program: int, takes: Sequence[int]
) -> list[int]:
    """Last beats of the lines of an ideal memory, which depend on when lines are taken."""
    source = LineSource(config, frame_regions(n_input, n_program), 20)
    result = []
    for clock in takes:
        source.take(clock)
        result.append(source._last_beat)  # noqa: SLF001
    return result


class Recorder:
    """Remembers from when on lines were wanted."""

    def __init__(self, source: LineSource) -> None:
        self.source = source
        self.wanted: list[int] = []

    def take(self, clock_ready: int) -> int:
        self.wanted.append(clock_ready)
        return self.source.take(clock_ready)

    def store(self, clock_taken: int, n_words: int) -> int:
        return self.source.store(clock_taken, n_words)


@pytest.mark.parametrize("seed", range(12))
def test_programs_clock_by_clock(seed: int) -> None:
    """Whole random networks with the line buffer's own arrivals."""
    config = list(CONFIGS.values())[seed % 3]
    network = random_network(seed, max_size=6, wide=config.wide_multiplier)
    image = compile_network(network, config)
    packet = image.packet(random_input(network, seed)[0])
    passes = (Pass(image.input_descriptor, ()), *image.passes)
    works = [work_of(one, config) for one in passes]
    lengths = len(packet), len(image.lines)
    recorder = Recorder(LineSource(config, frame_regions(*lengths), 20))
    ends = [one.end for one in simulate(works, recorder, config.ahead)]
    arrivals = arrivals_of(config, *lengths, recorder.wanted)
    assert [one["end"] for one in clock_by_clock(works, arrivals, config.ahead)] == ends
    assert_same(works, arrivals, config.ahead)


def test_by_hand() -> None:
    """One kernel block of two group-sets and three pixels; all lines are there at once."""
    work = Work(n_input_lines=0, split=1, entries=(2,), n_rounds=3)
    first, second = simulate([INPUT, work], RecordedLines([1] * 13))
    # Lines can be taken from clock 3 on: descriptor 3 and 4, taken by the walker 5, features 6 and
    # 14, whose last word is handed on in 22 and written in 23.
    assert (first.end, first.clocks, first.layer_stalls) == (23, 23, 23)
    # Descriptor 22 and 23, taken 24; header 24 and 25, codes 26, rows 27, 35, 43, 51 to 59.
    (block,) = second.blocks
    assert (block.loaded, block.first_step, block.last_step) == (60, 61, 66)
    assert second.steps == 6
    # Drained 6 clocks after the last step, written 8 clocks after that.
    assert second.end == 66 + 6 + 8
    assert (second.weight_stalls, second.drain_stalls) == (61 - 26, 0)
    assert second.layer_stalls == second.clocks - 6 - 35


def test_table_by_hand() -> None:
    """Four lines of eight words, when the walker has taken the descriptor."""
    work = Work(n_input_lines=0, split=1, entries=(2,), n_rounds=3, has_table=True)
    _, one = simulate([INPUT, work], RecordedLines([1] * 20))
    # Descriptor 22 and 23, taken 24; table 25, 33, 41 and 49 to 57, whose last clock takes the
    # header: 57 and 58, codes 59, rows 60, 68, 76 and 84 to 92.
    (block,) = one.blocks
    assert (block.loaded, block.first_step, block.last_step) == (93, 94, 99)
    assert one.end == 99 + 6 + 8
    assert (one.steps, one.weight_stalls) == (6, 94 - 26)


def test_long_codes_by_hand() -> None:
    """A line has 32 of them: the 33rd group-set waits for another one."""
    short = Work(n_input_lines=0, split=1, entries=(33,))
    _, one = simulate([INPUT, short], RecordedLines([1] * 100))
    # Codes 26, rows from 27 on, 16 clocks for each group-set, the last word in 27 + 33 * 16.
    assert one.blocks[0].loaded == 27 + 33 * 16 + 1
    # The line is taken in the last clock of the row before it.
    _, one = simulate([INPUT, replace(short, codes_per_line=32)], RecordedLines([1] * 100))
    assert one.blocks[0].loaded == 27 + 33 * 16 + 1 + 1
    # Eight macros take eight codes at once: four entries a line.
    shared = Work(n_input_lines=0, split=8, entries=(9,), codes_per_line=32)
    _, one = simulate([INPUT, shared], RecordedLines([1] * 200))
    assert one.blocks[0].loaded == 27 + 9 * 16 + 2 + 1


def test_header_of_wide_multipliers_by_hand() -> None:
    """Two lines more for each kernel block, a clock each."""
    narrow = Work(n_input_lines=0, split=1, entries=(0, 1))
    _, one = simulate([INPUT, narrow], RecordedLines([1] * 40))
    # Headers 24 and 25; 26 and 27, codes 28, rows 29 and 37 to 45.
    assert [block.loaded for block in one.blocks] == [26, 46]
    _, one = simulate([INPUT, replace(narrow, n_header_lines=4)], RecordedLines([1] * 40))
    # Headers 24 to 27; 28 to 31, codes 32, rows 33 and 41 to 49.
    assert [block.loaded for block in one.blocks] == [28, 50]


def test_what_a_pass_says_of_its_clocks() -> None:
    """Table, long codes and wide headers, out of the descriptor and the configuration."""
    plain = Descriptor(n_kernel_blocks=0)
    tiny, mars, wide = CONFIGS.values()
    for descriptor, config, expected in (
        (plain, mars, (False, 2, 56, 1)),
        (plain, wide, (False, 4, 56, 1)),
        (replace(plain, lookup=1), tiny, (True, 2, 56, 4)),
        (replace(plain, long_codes=1), wide, (False, 4, 32, 1)),
    ):
        work = work_of(Pass(descriptor, ()), config)
        of_pass = work.has_table, work.n_header_lines, work.codes_per_line, work.turns
        assert of_pass == expected


def test_neurons_by_hand() -> None:
    """Two sub-rounds of 5 steps; four slots at least, so that a membrane is there for the next."""
    work = Work(
        n_input_lines=0, split=1, entries=(5,), n_rounds=10, n_teams=1, timed=True, fires=True
    )
    _, one = simulate([INPUT, work], RecordedLines([1] * 100))
    assert one.blocks[0].last_step - one.blocks[0].first_step + 1 == 50
    assert one.end == one.blocks[0].last_step + 6 + 8
    two = replace(work, entries=(2,), n_sub_rounds=2)
    assert two.slots == 4
    _, one = simulate([INPUT, two], RecordedLines([1] * 100))
    assert one.blocks[0].last_step - one.blocks[0].first_step + 1 == 2 + 19 * 4
    assert one.end == one.blocks[0].last_step + 6 + 3 + 8
    groups = replace(two, groups=4, n_teams=8)
    assert (groups.slots, groups.written_after) == (32, 17)
    direct = replace(work, direct=True, in_planes=2, n_sub_rounds=2, n_teams=8, skip_planes=1)
    assert direct.rounds(5) == [11, 1]
    assert replace(direct, skip_planes=0).rounds(5) == [10, 1]
    logits = replace(work, fires=False, out_planes=8, n_teams=2)
    assert logits.slots == 32


def test_four_lanes_by_hand() -> None:
    """16 channels take four turns, 32-bit results four more clocks; neurons two or four a step."""
    work = Work(n_input_lines=0, split=1, entries=(2,), n_rounds=3, turns=4)
    assert [replace(work, out_planes=n).slots for n in (1, 2, 8)] == [4, 4, 8]
    _, one = simulate([INPUT, work], RecordedLines([1] * 13))
    (block,) = one.blocks
    assert block.last_step - block.first_step + 1 == 2 + 2 * 4
    assert (one.steps, one.drain_stalls) == (6, 4)
    # Drained 6 clocks after the last step, in 4 clocks; 8 after the last of them it is written.
    assert one.end == block.last_step + 6 + 3 + 8
    long = replace(work, entries=(9,))
    _, one = simulate([INPUT, long], RecordedLines([1] * 40))
    assert one.drain_stalls == 0
    logits = replace(work, timed=True, out_planes=8)
    assert logits.slots == 4 * 8
    neurons = replace(work, timed=True, fires=True, n_teams=2)
    assert [replace(neurons, groups=g).slots for g in (1, 2, 4)] == [16, 16, 32]
    assert replace(neurons, n_sub_rounds=2).slots == 16
    assert replace(neurons, u_store=4).slots == 16 + 2
    assert replace(neurons, groups=4).written_after == 8


def test_drain_is_the_limit() -> None:
    """Eight teams of eight words need 32 clocks for a round, whatever its steps."""
    work = Work(n_input_lines=0, split=1, entries=(5,), n_rounds=10, n_teams=8, out_planes=8)
    _, one = simulate([INPUT, work], RecordedLines([1] * 100))
    (block,) = one.blocks
    assert block.last_step - block.first_step + 1 == 5 + 9 * 32
    assert (one.steps, one.drain_stalls) == (50, 9 * 27)


def test_steps_are_the_limit() -> None:
    """Kernel blocks that are loaded follow each other without a gap."""
    work = Work(n_input_lines=0, split=8, entries=(8, 8, 8), n_rounds=200, in_planes=2)
    _, one = simulate([INPUT, work], RecordedLines([1] * 1000))
    assert one.steps == 3 * 8 * 2 * 200
    assert one.drain_stalls == 0
    assert [b.first_step for b in one.blocks[1:]] == [b.last_step + 1 for b in one.blocks[:-1]]


def test_bias_alone_takes_a_step() -> None:
    assert Work(n_input_lines=0, split=1, entries=(0,)).steps(0) == 1
    assert Work(n_input_lines=0, split=1, entries=(0,), skip_planes=2).steps(0) == 2
    assert Work(n_input_lines=0, split=1, entries=(0,), in_planes=2).steps(3) == 6
