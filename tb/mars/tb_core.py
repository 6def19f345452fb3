"""Two lanes of a core in the walk, every clock, against sums over the map as they are defined.

The memories hold random words and change all the time: a step reads its index in its own clock,
the features 2 clocks later and the group-set in the clock after that, whatever is being written.
"""

import itertools
import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import cocotb

from hw.mars.layout import INDEX, MEMBRANE_WORDS
from hw.mars.walker import STEP
from model.mars.clocks import DRAIN_AFTER, WRITTEN_AFTER
from model.mars.config import (
    ACC_WIDTH,
    ADDRESSES,
    KERNELS,
    NIBBLE,
    WORD_BITS,
    WORD_LINES,
    WORDS_PER_WRITE,
)
from model.mars.layout import (
    MAX_MACROS,
    STEPS_PER_WORD,
    Descriptor,
    bits_of,
    pack_descriptor,
)
from tb.bench import Block, Fields, check, packed, signed
from tb.blocks import CORE_FIRST, CORE_MACROS, CORE_WORDS

LANES = tuple(range(CORE_MACROS))
FEATURES_AFTER, ACCESS_AFTER, SUMS_AFTER = 2, 3, 6
QUIET = DRAIN_AFTER + WRITTEN_AFTER
"""From the last step of a pass, a descriptor later than this one may come."""
TEAMS = ((0, 8), (0, 7), (0, 6), (0, 5), (1, 4), (1, 3), (1, 2), (2, 2), (2, 1), (3, 1))
"""`split_log2` and teams: each lane works in some and rests in others."""
TAPS = (*itertools.product(range(3), repeat=2), (15, 0), (0, 15), (7, 12))
WORD_MASK = (1 << WORD_BITS) - 1
INDEX_BITS, STEP_BITS = Fields(INDEX), Fields(STEP)
Index = tuple[int, int, int]
"""dy, dx, channel block."""


@dataclass(frozen=True)
class Map:
    """A descriptor, where each lane has (or had) row 0, column 0 of its input, and its pitches."""

    descriptor: Descriptor
    origin: tuple[int, ...]
    row_pitch: int = 0
    col_pitch: int = 0


@dataclass(frozen=True)
class Step:
    """What all lanes do in a step: a pixel of the band, its tap by the entry, both nibbles."""

    row: int
    col: int
    entry: int
    access: bool = False
    skip: bool = False
    membranes: bool = False
    upper: int = 0
    plane: int = 0
    high: int = 0
    first: bool = False
    last: bool = False


@dataclass(frozen=True)
class Clock:
    """What comes in a clock.

    Parameters
    ----------
    step : Step
    row : (entry, word line, word of each lane)
    index : (entry, index, lanes)
    feature : (address, bytes and two words of each lane)
    host : (address, lanes)
    """

    step: Step | None = None
    row: tuple[int, int, list[int]] | None = None
    index: tuple[int, Index, tuple[int, ...]] | None = None
    feature: tuple[list[int], list[int], list[int]] | None = None
    host: tuple[int, tuple[int, ...]] | None = None


@dataclass
class Flight:
    """A step under way, and what each lane has read for it."""

    clock: int
    map: Map
    step: Step
    indices: list[Index]
    words: list[int]


def u_macro(d: Descriptor, step: Step) -> int:
    """Which macro of a team has the membranes of a pixel; here anyone may."""
    return (step.row + step.col) % d.split


def nibbles(word: int, *, is_signed: bool) -> list[int]:
    """The 16 nibbles of a word."""
    values = [word >> NIBBLE * i & 0xF for i in range(WORD_LINES)]
    return [value - 16 if is_signed and value > 7 else value for value in values]


@lru_cache(maxsize=1 << 12)
def weights(row: int, *, wide: bool, low: bool) -> list[int]:
    """The weights of one input channel, or their lower nibbles."""
    if wide:
        return [signed(row >> 8 * k & 0xFF, 8) for k in range(KERNELS // 2)]
    return nibbles(row, is_signed=not low)


class Lane:
    """What the memories of a lane hold, and its round."""

    def __init__(self, lane: int) -> None:
        self.lane = lane
        self.number = CORE_FIRST + lane
        self.indices: list[Index] = [(0, 0, 0)] * ADDRESSES
        self.features = [0] * CORE_WORDS
        self.rows = [[0] * WORD_LINES for _ in range(ADDRESSES)]
        self.sums = [0] * KERNELS
        self.in_steps = [[0] * KERNELS for _ in range(STEPS_PER_WORD)]
        self.best: list[int] = []
        self.residual = [0, 0]
        self.membranes = [0] * MEMBRANE_WORDS

    def has_membranes(self, d: Descriptor, step: Step) -> bool:
        """Whether it is the lane of its team that has those of a step."""
        return self.in_use(d) and self.number % d.split == u_macro(d, step)

    def in_use(self, d: Descriptor) -> bool:
        """Whether the lane is of a team."""
        return self.number // d.split < d.n_teams

    def word(self, flight: Flight) -> int:
        """The features of a step; outside of the map the pad value; 0 in a lane of no team."""
        d, step = flight.map.descriptor, flight.step
        if step.membranes:
            offset = step.row * d.u_row_pitch + step.col * d.u_col_pitch + step.plane
            return self.features[(d.u_base + offset) % CORE_WORDS]
        if step.skip:
            offset = step.row * d.skip_row_pitch + step.col * d.skip_col_pitch + step.upper
            return self.features[(d.skip_base[self.number] + offset) % CORE_WORDS]
        dy, dx, block = flight.indices[self.lane]
        if not self.in_use(d):
            return 0
        team = self.number // d.split
        row = team * d.team_in_rows + step.row * d.row_stride - d.pad_top + dy * d.row_dilation
        col = step.col * d.col_stride - d.pad_left + dx * d.col_dilation
        if not (0 <= row < d.in_height and 0 <= col < d.in_width):
            return (d.pad_value >> NIBBLE * step.upper & 0xF) * (WORD_MASK // 15)
        one = flight.map
        address = one.origin[self.lane] + row * one.row_pitch + col * one.col_pitch
        return self.features[(address + block * d.in_planes + step.upper) % CORE_WORDS]

    def access(self, flight: Flight) -> None:
        """The residual, or the products."""
        d, step, word = flight.map.descriptor, flight.step, flight.words[self.lane]
        if step.first:
            self.best = []
            self.in_steps = [[0] * KERNELS for _ in range(STEPS_PER_WORD)]
        if step.first or (d.maximum and step.access and not step.upper):
            self.sums = [0] * KERNELS
        if step.skip:
            self.residual[step.upper] = word
        if step.membranes:
            self.membranes[step.plane] = word
        if step.access and word:
            self.multiply(d, step, word)
        if d.maximum and step.access and step.upper == d.in_two:
            values = [signed(value & 0x1FF, 9) for value in self.sums]
            pairs = zip(self.best or values, values, strict=True)
            self.best = [max(pair) for pair in pairs]
        if d.maximum and step.last:
            self.sums = self.best or self.sums

    def multiply(self, d: Descriptor, step: Step, word: int) -> None:
        """Adds the products of a word, or the weights of the spikes in each of four steps."""
        if d.in_steps:
            for spikes, row in zip(
                nibbles(word, is_signed=False), self.rows[step.entry], strict=True
            ):
                for time, sums in enumerate(self.in_steps):
                    if spikes >> time & 1:
                        for k, weight in enumerate(weights(row, wide=bool(d.wide), low=False)):
                            sums[k] += weight
            return
        is_signed = bool(d.in_signed) and step.upper == d.in_two
        factors = nibbles(word, is_signed=is_signed)
        low = bool(d.stacked and not step.high)
        for factor, row in zip(factors, self.rows[step.entry], strict=True):
            if factor:
                for k, weight in enumerate(weights(row, wide=bool(d.wide), low=low)):
                    self.sums[k] += (factor << NIBBLE * (step.upper + step.high)) * weight

    def write(self, now: Clock) -> None:
        """What comes from the loader and from post-processing."""
        if now.row:
            entry, word_line, words = now.row
            self.rows[entry][word_line] = words[self.lane]
        if now.index:
            entry, index, lanes = now.index
            if self.lane in lanes:
                self.indices[entry] = index
        if now.feature:
            address, mask, words = (of_lanes[self.lane] for of_lanes in now.feature)
            for k in range(WORDS_PER_WRITE):
                bits = sum(0xFF << 8 * b for b in range(8) if mask >> 8 * k + b & 1)
                at = (address + k) % CORE_WORDS
                self.features[at] = self.features[at] & ~bits | words >> WORD_BITS * k & bits

    def packed_sums(self, d: Descriptor) -> tuple[int, int]:
        """As two ports have them; the second one counts in steps alone."""
        if not d.in_steps:
            return packed(self.sums, ACC_WIDTH), 0
        first, second, third, fourth = self.in_steps
        if d.wide:
            half = KERNELS // 2
            pairs = (first[:half] + third[:half], second[:half] + fourth[:half])
            return packed(pairs[0], ACC_WIDTH), packed(pairs[1], ACC_WIDTH)
        early, late = zip(first, second, strict=True), zip(third, fourth, strict=True)
        low, high = (list(itertools.chain.from_iterable(pair)) for pair in (early, late))
        return packed(low, ACC_WIDTH // 2), packed(high, ACC_WIDTH // 2)


class Bench:
    """The core, driven and compared clock by clock."""

    def __init__(self, dut, rng: random.Random) -> None:
        names = itertools.product(("sums", "highs", "residuals", "membranes", "host_data"), LANES)
        self.block = Block(dut, "core", tuple(f"{name}_{lane}" for name, lane in names))
        self.rng = rng
        self.lanes = [Lane(lane) for lane in LANES]
        self.map = Map(Descriptor(), (0,) * CORE_MACROS)
        self.clock = 0
        self.flights: deque[Flight] = deque()
        self.shown: Step | None = None
        self.expected: dict[str, tuple[int, int]] = {}
        """Output: (value, bits of it that count), until there is a new one."""
        self.coming: dict[int, dict[str, tuple[int, int]]] = {}
        self.host: dict[str, int] = {}

    async def start(self) -> None:
        """Reset; then random words everywhere."""
        await self.block.start(walk_step=0, walk_index_read=0)
        for number in range(ADDRESSES * WORD_LINES):
            words = [self.random_words() for _ in LANES]
            feature = ([number] * CORE_MACROS, [0xFF] * CORE_MACROS, words)
            await self.tick(Clock(row=self.random_row(number), feature=feature))

    def random_word(self) -> int:
        """A word, of the ends of nibbles in every third."""
        if self.rng.random() < 2 / 3:
            return self.rng.getrandbits(WORD_BITS)
        return sum(self.rng.choice((0, 7, 8, 15)) << NIBBLE * i for i in range(WORD_LINES))

    def random_words(self) -> int:
        """Two words."""
        return self.random_word() << WORD_BITS | self.random_word()

    def random_row(self, number: int) -> tuple[int, int, list[int]]:
        """A row of each macro."""
        return (*divmod(number, WORD_LINES), [self.random_word() for _ in LANES])

    def random_clock(self, step: Step | None, *, busy: float) -> Clock:
        """A step, and writes of anything."""
        rng = self.rng
        row = index = feature = None
        if rng.random() < busy:
            row = self.random_row(rng.randrange(ADDRESSES * WORD_LINES))
        if rng.random() < busy:
            lanes = tuple(rng.sample(LANES, rng.randint(1, CORE_MACROS)))
            index = (rng.randrange(ADDRESSES), (*rng.choice(TAPS), rng.randrange(32)), lanes)
        if rng.random() < busy:
            addresses = [rng.randrange(1 << 16) for _ in LANES]
            # The second word is written only where the first one is at an even address.
            masks = [rng.randrange(1 << (8 if address % 2 else 16)) for address in addresses]
            feature = (addresses, masks, [self.random_words() for _ in LANES])
        return Clock(step, row, index, feature)

    def drive(self, now: Clock) -> None:
        """All inputs of a clock; those that do not count are random."""
        rng, inputs, d = self.rng, {}, self.map.descriptor
        step = now.step
        inputs["walk_index_read"] = int(step is not None and step.access)
        inputs["walk_index_read_addr"] = step.entry if step else rng.randrange(ADDRESSES)
        inputs["walk_step"] = self.step_word(d)

        entry, word_line, words = now.row or self.random_row(rng.randrange(1 << 10))
        inputs["walk_row_enable"] = int(now.row is not None)
        inputs |= {"walk_row_addr": entry, "walk_row_word_line": word_line}
        inputs |= {f"row_data_{lane}": words[lane] for lane in LANES}

        entry, (dy, dx, block), lanes = now.index or (rng.randrange(ADDRESSES), (1, 2, 3), ())
        offset = dy * d.tap_row_pitch + dx * d.tap_col_pitch + block * d.in_planes
        code = {"offset": offset, "dy": dy * d.row_dilation, "dx": dx * d.col_dilation}
        inputs |= {"walk_index_write_addr": entry, "walk_index_data": INDEX_BITS.pack(code)}
        inputs |= {f"index_write_{lane}": int(lane in lanes) for lane in LANES}

        addresses, masks, words = now.feature or ([rng.randrange(1 << 16)] * 2, [0] * 2, [0] * 2)
        inputs |= {f"feature_data_{lane}": words[lane] for lane in LANES}
        inputs |= {f"feature_addr_{lane}": addresses[lane] for lane in LANES}
        inputs |= {f"feature_mask_{lane}": masks[lane] for lane in LANES}

        address, lanes = now.host or (rng.randrange(1 << 16), ())
        inputs["walk_host_addr"] = address
        inputs |= {f"host_read_{lane}": int(lane in lanes) for lane in LANES}
        self.block.set(**inputs)

    def step_word(self, d: Descriptor) -> int:
        """The step of the clock before, as the walker tells it."""
        rng, step = self.rng, self.shown
        fields = {
            "upper": rng.randrange(2),
            "high": rng.randrange(2),
            "in_row": rng.randrange(-1, 600),
            "in_col": rng.randrange(-1, 600),
            "in_offset": rng.randrange(1 << 16),
            "skip_offset": rng.randrange(1 << 16),
            "u_offset": rng.randrange(1 << 16),
            "u_plane": rng.randrange(MEMBRANE_WORDS),
            "u_macro": rng.randrange(MAX_MACROS),
        }
        if step:
            fields |= {
                "access": step.access,
                "skip": step.skip,
                "membranes": step.membranes,
                "first": step.first,
                "last": step.last,
                "upper": step.upper,
            }
        if step and step.access:
            offset = step.row * d.in_row_step + step.col * d.in_col_step + step.upper
            fields |= {
                "high": step.high,
                "in_row": step.row * d.row_stride - d.pad_top,
                "in_col": step.col * d.col_stride - d.pad_left,
                "in_offset": offset % (1 << 16),
            }
        if step and step.skip:
            offset = step.row * d.skip_row_pitch + step.col * d.skip_col_pitch + step.upper
            fields["skip_offset"] = offset % (1 << 16)
        if step and step.membranes:
            offset = step.row * d.u_row_pitch + step.col * d.u_col_pitch
            fields |= {
                "u_offset": offset % (1 << 16),
                "u_plane": step.plane,
                "u_macro": u_macro(d, step),
            }
        return STEP_BITS.pack(fields)

    def follow(self, now: Clock) -> None:
        """What the steps under way read and add, then what is written."""
        if now.step:
            indices = [lane.indices[now.step.entry] for lane in self.lanes]
            self.flights.append(Flight(self.clock, self.map, now.step, indices, []))
        for flight in self.flights:
            if self.clock == flight.clock + FEATURES_AFTER:
                flight.words = [lane.word(flight) for lane in self.lanes]
        if self.flights and self.clock == self.flights[0].clock + ACCESS_AFTER:
            self.add(self.flights.popleft())
        address, lanes = now.host or (0, ())
        for k in lanes:
            word = self.lanes[k].features[address % CORE_WORDS]
            self.coming.setdefault(self.clock + 1, {})[f"host_data_{k}"] = (word, WORD_MASK)
        for lane in self.lanes:
            lane.write(now)

    def add(self, flight: Flight) -> None:
        """A step's products; its round's sums and residual if it is the last one."""
        d = flight.map.descriptor
        coming = self.coming.setdefault(flight.clock + SUMS_AFTER, {})
        for lane in self.lanes:
            lane.access(flight)
            if flight.step.last:
                sums, highs = lane.packed_sums(d)
                every = (1 << ACC_WIDTH * KERNELS) - 1
                coming[f"sums_{lane.lane}"] = (sums, every)
                coming[f"highs_{lane.lane}"] = (highs, every if d.in_steps else 0)
                bits = (0, WORD_MASK, WORD_MASK << WORD_BITS | WORD_MASK)[d.skip_planes]
                word = lane.residual[1] << WORD_BITS | lane.residual[0]
                coming[f"residuals_{lane.lane}"] = (word, bits if lane.in_use(d) else 0)
                word = sum(w << WORD_BITS * k for k, w in enumerate(lane.membranes))
                read = d.u_load and lane.has_membranes(d, flight.step)
                bits = (1 << WORD_BITS * d.u_planes) - 1 if read else 0
                coming[f"membranes_{lane.lane}"] = (word, bits)

    async def tick(self, now: Clock) -> None:
        """One clock; everything that was promised must be there."""
        self.drive(now)
        self.follow(now)
        self.expected = {
            **{k: v for k, v in self.expected.items() if not k.startswith("host")},
            **self.coming.pop(self.clock, {}),
        }
        outputs = await self.block.tick()
        for name, (value, bits) in self.expected.items():
            check(f"clock {self.clock}: {name}", hex(value & bits), hex(outputs[name] & bits))
        self.shown = now.step
        self.clock += 1

    async def run(
        self,
        one: Map,
        rounds: list[list[Step]],
        *,
        density: float = 1.0,
        busy: float = 0.3,
        taps: Sequence[tuple[int, int]] = (),
    ) -> None:
        """A pass: its descriptor, the indices of its entries, then its rounds.

        `taps` are those of the first entries, of channel block 0; without them any entry has one.
        """
        self.map = one
        self.block.set(walk_descriptor=bits_of(pack_descriptor(one.descriptor)))
        await self.tick(Clock())
        for entry, tap in enumerate(taps):
            await self.tick(Clock(index=(entry, (*tap, 0), LANES)))
        for entry, lane in itertools.product(range(0 if taps else ADDRESSES), LANES):
            index = (*TAPS[(entry + 2 * lane) % len(TAPS)], self.rng.randrange(32))
            await self.tick(Clock(index=(entry, index, (lane,))))
        for step in itertools.chain.from_iterable(rounds):
            while self.rng.random() >= density:
                await self.tick(self.random_clock(None, busy=busy))
            await self.tick(self.random_clock(step, busy=busy))
        for _ in range(QUIET):
            await self.tick(self.random_clock(None, busy=busy))
        for _ in range(20):
            host = None
            if self.rng.random() < 0.7:
                lanes = tuple(self.rng.sample(LANES, self.rng.randint(1, CORE_MACROS)))
                host = (self.rng.randrange(1 << 16), lanes)
            await self.tick(Clock(host=host))


def membranes(rng: random.Random) -> dict[str, int]:
    """Those of a pass in time."""
    return {
        **dict.fromkeys(("timed", "u_load"), 1),
        "u_planes_log2": rng.randrange(3),
        "u_col_pitch": rng.randrange(1 << 8),
        "u_row_pitch": rng.randrange(1 << 16),
        "u_base": rng.randrange(1 << 16),
    }


def random_map(rng: random.Random, **parameters: int) -> Map:
    """Any pass, of a map that is about as large as the teams need, so that its edges are met."""
    split_log2, n_teams = rng.choice(TEAMS)
    flags = ("wide", "in_signed", "in_two", "has_skip", "skip_two", "maximum")
    values = {
        "split_log2": split_log2,
        "n_teams": n_teams,
        "rows_per_team": rng.randint(1, 3),
        "n_cols": rng.randint(1, 4),
        "row_stride": rng.choice((1, 1, 2, 3, 15)),
        "col_stride": rng.choice((1, 1, 2, 3, 15)),
        "row_dilation": rng.choice((1, 1, 2, 4)),
        "col_dilation": rng.choice((1, 1, 3, 4)),
        "pad_top": rng.choice((0, 0, 1, 15, -3)),
        "pad_left": rng.choice((0, 0, 1, 15)),
        "pad_value": rng.choice((0, 0, 0x0F, 0x80, rng.randrange(256))),
        **{name: rng.randrange(2) for name in flags},
        **(membranes(rng) if rng.random() < 0.4 else {}),
        **parameters,
    }
    if values.get("timed") and "direct" not in values:
        # Steps have one nibble and no maximum; a source that is the same in all steps may.
        values["direct"] = int(values["in_two"] or values["maximum"] or rng.random() < 0.5)
    one_nibble = values["wide"] or values["maximum"] or values.get("direct") == 0
    values["stacked"] = int(not one_nibble and rng.random() < 0.5)
    n_rows = values["n_teams"] * values["rows_per_team"]
    values = {
        "in_height": min(255, max(1, n_rows * values["row_stride"] + rng.randint(-2, 2))),
        "in_width": max(1, values["n_cols"] * values["col_stride"] + rng.randint(-2, 2)),
        **values,
    }
    row_pitch, col_pitch, skip_row_pitch, skip_col_pitch = (
        rng.choice((rng.randrange(16), rng.randrange(1 << 16))) for _ in range(4)
    )
    values |= {
        "in_row_step": row_pitch * values["row_stride"] % (1 << 16),
        "in_col_step": col_pitch * values["col_stride"] % (1 << 16),
        "tap_row_pitch": row_pitch * values["row_dilation"] % (1 << 16),
        "tap_col_pitch": col_pitch * values["col_dilation"] % (1 << 16),
        "skip_row_pitch": skip_row_pitch,
        "skip_col_pitch": skip_col_pitch,
        "team_in_rows": values["rows_per_team"] * values["row_stride"],
    }
    d = Descriptor(**values)
    origin = tuple(rng.randrange(1 << 16) for _ in LANES)
    # Of the first pixel's first tap.
    in_base = [rng.randrange(1 << 16) for _ in range(MAX_MACROS)]
    for lane, start in zip(LANES, origin, strict=True):
        team = (CORE_FIRST + lane) // d.split
        row, col = team * d.team_in_rows - d.pad_top, -d.pad_left
        in_base[CORE_FIRST + lane] = (start + row * row_pitch + col * col_pitch) % (1 << 16)
    skip_base = tuple(rng.randrange(1 << 16) for _ in range(MAX_MACROS))
    d = Descriptor(**values, in_base=tuple(in_base), skip_base=skip_base)
    return Map(d, origin, row_pitch, col_pitch)


def round_of(d: Descriptor, row: int, col: int, head: int, n_entries: int) -> list[Step]:
    """The steps of a pixel as the walker issues them."""
    steps = [{"membranes": True, "plane": plane} for plane in range(d.u_load * d.u_planes)]
    steps += [{"skip": True, "upper": plane} for plane in range(d.skip_planes)]
    for entry, plane in itertools.product(range(n_entries), range(d.in_planes)):
        high = d.stacked * (entry % 2)
        at = (head + entry) % ADDRESSES
        steps.append({"access": True, "upper": plane, "high": high, "entry": at})
    # A kernel block of bias alone takes one.
    steps = steps or [{}]
    last = len(steps) - 1
    return [
        Step(row, col, **{"entry": 0, **step}, first=k == 0, last=k == last)
        for k, step in enumerate(steps)
    ]


def rounds_of(d: Descriptor, head: int, n_entries: int) -> list[list[Step]]:
    """A kernel block, pixel by pixel."""
    pixels = itertools.product(range(d.rows_per_team), range(d.n_cols))
    return [round_of(d, row, col, head, n_entries) for row, col in pixels]


def some_rounds(rng: random.Random, d: Descriptor) -> Iterator[list[Step]]:
    """Pixels of several short kernel blocks."""
    for n_entries in (*rng.sample(range(7), 4), 1):
        rounds = rounds_of(d, rng.randrange(ADDRESSES), n_entries)
        yield from rng.sample(rounds, min(3, len(rounds)))


async def begin(dut, seed: int) -> Bench:
    """A core with random contents."""
    bench = Bench(dut, random.Random(seed))
    await bench.start()
    return bench


@cocotb.test()
async def edges_of_the_map(dut) -> None:
    """Every tap of every pixel, padding and strides of rows and columns alone, at every edge."""
    bench = await begin(dut, 1)
    teams = ((0, 7), (1, 4), (3, 1))  # the last one has a lane; the first one in the third case
    geometries = ((1, 1, 0, 0), (2, 2, 1, 1), (1, 2, 1, 0), (3, 1, 0, 2))
    for (split_log2, n_teams), (rows, cols, top, left), more in itertools.product(
        teams, geometries, range(-2, 3)
    ):
        one = random_map(
            bench.rng,
            split_log2=split_log2,
            n_teams=n_teams,
            row_stride=rows,
            col_stride=cols,
            row_dilation=1,
            col_dilation=1,
            pad_top=top,
            pad_left=left,
            pad_value=bench.rng.choice((0, 0x5A)),
            rows_per_team=2,
            n_cols=2,
            in_width=max(1, 2 * cols + more),
            in_height=max(1, 2 * rows * n_teams + more),
            has_skip=0,
            in_two=0,
            maximum=0,
        )
        await bench.run(one, rounds_of(one.descriptor, 0, len(TAPS)), busy=0)


@cocotb.test()
async def wide_maps(dut) -> None:
    """The last rows and columns of maps of 255, and those behind them."""
    bench = await begin(dut, 2)
    for stride, (split_log2, n_teams), less in itertools.product((1, 2), TEAMS, (0, 1)):
        n_out = 255 // stride
        # Some bands are behind the map as a whole.
        rows_per_team = min(255, -(-n_out // n_teams) + 6 * less)
        one = random_map(
            bench.rng,
            row_stride=stride,
            col_stride=stride,
            split_log2=split_log2,
            n_teams=n_teams,
            rows_per_team=rows_per_team,
            n_cols=n_out,
            in_height=255 - less,
            in_width=255 - less,
            has_skip=0,
            in_two=0,
        )
        pixels = itertools.product(
            sorted({0, rows_per_team // 2, rows_per_team - 2, rows_per_team - 1}),
            (0, 127 // stride, n_out - 2, n_out - 1),
        )
        rounds = [round_of(one.descriptor, r, c, 0, 2) for r, c in pixels if r >= 0]
        await bench.run(one, rounds, busy=0.1)


@cocotb.test()
async def bands_behind_the_map(dut) -> None:
    """Teams whose bands begin 255 rows and more below the first one: nothing is there."""
    bench = await begin(dut, 9)
    for (stride, rows_per_team), (split_log2, n_teams) in itertools.product(
        ((4, 64), (4, 75), (15, 17), (15, 20), (15, 34)), ((2, 2), (3, 1))
    ):
        one = random_map(
            bench.rng,
            split_log2=split_log2,
            n_teams=n_teams,
            row_stride=stride,
            rows_per_team=rows_per_team,
            n_cols=2,
            in_height=255,
            pad_value=bench.rng.choice((0, 0x5A)),
            has_skip=0,
            maximum=0,
        )
        pixels = itertools.product((0, 1, rows_per_team - 1), (0, 1))
        await bench.run(one, [round_of(one.descriptor, *pixel, 0, 5) for pixel in pixels])


@cocotb.test()
async def largest_of_the_taps(dut) -> None:
    """Maxima of one and two nibbles with both signs, also outside of the map and with pauses."""
    bench = await begin(dut, 6)
    for two, is_signed, pad_value in itertools.product((0, 1), (0, 1), (0, 0x80, 0x7F)):
        for density in (1.0, 0.5):
            one = random_map(
                bench.rng,
                maximum=1,
                wide=0,
                in_two=two,
                in_signed=is_signed,
                pad_value=pad_value,
                has_skip=0,
            )
            rounds = list(some_rounds(bench.rng, one.descriptor))
            await bench.run(one, rounds, density=density)


@cocotb.test()
async def paddings(dut) -> None:
    """Every padding of 0 to 15, its taps on both sides of the edge, dilations up to 4."""
    bench = await begin(dut, 7)
    values = itertools.cycle((0x5A, 0x80, 0x0F, 0xF0, 0x08, 0))
    dilations = ((1, 1), (4, 1), (1, 4), (2, 3))
    for top, (row_dilation, col_dilation) in itertools.product(range(16), dilations):
        left = 15 - top
        rows = {0, top // row_dilation, -(-top // row_dilation), 15}
        cols = {0, left // col_dilation, -(-left // col_dilation), 15}
        one = random_map(
            bench.rng,
            split_log2=3,  # one team: the padding is that of its first row
            n_teams=1,
            rows_per_team=2,
            n_cols=2,
            in_height=2,
            in_width=2,
            row_stride=1,
            col_stride=1,
            row_dilation=row_dilation,
            col_dilation=col_dilation,
            pad_top=top,
            pad_left=left,
            pad_value=next(values),
            has_skip=0,
        )
        taps = tuple(itertools.product(sorted(rows), sorted(cols)))
        await bench.run(one, rounds_of(one.descriptor, 0, len(taps)), busy=0, taps=taps)


@cocotb.test()
async def place_of_the_largest(dut) -> None:
    """The largest of three taps and one outside at each place, also if all are negative."""
    bench = await begin(dut, 8)
    n_taps = 4
    # Kernel k has channel k alone.
    for entry, word_line in itertools.product(range(n_taps), range(WORD_LINES)):
        row = 1 << NIBBLE * word_line
        await bench.tick(Clock(row=(entry, word_line, [row] * CORE_MACROS)))
    for two, is_signed, outside_at in itertools.product((0, 1), (0, 1), range(n_taps)):
        bits = NIBBLE << two
        low = -(1 << bits - 1) if is_signed else 0
        high = low + (1 << bits) - 1
        for values, outside in itertools.product(
            (
                range(low, low + n_taps),
                range(high - n_taps + 1, high + 1),
                (low, low // 2, high // 2, high),
                (-2, -1, 0, 1) if is_signed else (0, 0, 1, high),
            ),
            range(n_taps),
        ):
            one = random_map(
                bench.rng,
                split_log2=0,
                n_teams=8,
                rows_per_team=1,
                n_cols=1,
                in_height=8,
                in_width=n_taps - 1,
                pad_top=0,
                pad_left=0,
                pad_value=values[outside] & (1 << bits) - 1,
                **dict.fromkeys(("row_stride", "col_stride", "row_dilation", "col_dilation"), 1),
                maximum=1,
                wide=0,
                in_two=two,
                in_signed=is_signed,
                has_skip=0,
            )
            inside = [value for k, value in enumerate(values) if k != outside]
            orders = list(itertools.permutations(inside))
            for col, plane in itertools.product(range(n_taps - 1), range(1 + two)):
                nibble = [orders[k % len(orders)][col] >> NIBBLE * plane & 0xF for k in range(16)]
                word = sum(value << NIBBLE * k for k, value in enumerate(nibble))
                addresses = [
                    one.origin[lane]
                    + (CORE_FIRST + lane) * one.row_pitch
                    + col * one.col_pitch
                    + plane
                    for lane in LANES
                ]
                places = [address % (1 << 16) for address in addresses]
                feature = (places, [0xFF] * CORE_MACROS, [word] * CORE_MACROS)
                await bench.tick(Clock(feature=feature))
            taps = [(0, col) for col in range(n_taps - 1)]
            taps.insert(outside_at, (15, 15))
            rounds = [round_of(one.descriptor, 0, 0, 0, n_taps)] * 2
            density = bench.rng.choice((1.0, 0.5))
            await bench.run(one, rounds, density=density, busy=0, taps=taps)


@cocotb.test()
async def every_type(dut) -> None:
    """Weights of 4 and 8 bit, activations of one and two nibbles with both signs, residuals."""
    bench = await begin(dut, 3)
    for wide, two, is_signed, skip in itertools.product((0, 1), (0, 1), (0, 1), range(3)):
        one = random_map(
            bench.rng,
            wide=wide,
            in_two=two,
            in_signed=is_signed,
            has_skip=int(skip > 0),
            skip_two=int(skip > 1),
        )
        rounds = list(some_rounds(bench.rng, one.descriptor))
        await bench.run(one, rounds, density=bench.rng.choice((1.0, 0.6)))


@cocotb.test()
async def steps_of_both_signs(dut) -> None:
    """Sums of four steps, two of them in an accumulator of 4-bit weights, keep apart."""
    bench = await begin(dut, 10)
    for wide, pad_value in itertools.product((0, 1), (0, 0x5A)):
        for density in (1.0, 0.6):
            one = random_map(
                bench.rng,
                **membranes(bench.rng),
                direct=0,
                wide=wide,
                in_two=0,
                maximum=0,
                pad_value=pad_value,
            )
            rounds = list(some_rounds(bench.rng, one.descriptor))
            await bench.run(one, rounds, density=density)


@cocotb.test()
async def every_team(dut) -> None:
    """Lanes in each team, alone or together, or in none."""
    bench = await begin(dut, 4)
    for (split_log2, n_teams), stride in itertools.product(TEAMS, (1, 2)):
        one = random_map(bench.rng, split_log2=split_log2, n_teams=n_teams, row_stride=stride)
        await bench.run(one, list(some_rounds(bench.rng, one.descriptor)))


@cocotb.test()
async def largest_sums(dut) -> None:
    """Accumulators at both ends of 32 bit, which no layer reaches."""
    bench = await begin(dut, 5)
    for address in range(CORE_WORDS):
        await bench.tick(
            Clock(
                feature=([address] * CORE_MACROS, [0xFF] * CORE_MACROS, [WORD_MASK] * CORE_MACROS)
            )
        )
    for weight in (0x80, 0x7F):
        row = sum(weight << 8 * k for k in range(KERNELS // 2))
        for word_line in range(WORD_LINES):
            await bench.tick(Clock(row=(0, word_line, [row] * CORE_MACROS)))
        # Upper nibbles alone add up fastest.
        n_steps = (1 << 31) // (WORD_LINES * (15 << NIBBLE) * (weight if weight < 128 else 128))
        one = random_map(
            bench.rng,
            wide=1,
            in_two=1,
            in_signed=0,
            has_skip=0,
            maximum=0,
            row_stride=1,
            col_stride=1,
            pad_top=0,
            pad_left=0,
            split_log2=0,
            n_teams=8,
            in_height=255,
            in_width=255,
        )
        steps = [
            Step(0, 0, 0, access=True, upper=1, first=k == 0, last=k == n_steps - 1)
            for k in range(n_steps)
        ]
        await bench.run(one, [steps], busy=0)


@cocotb.test()
async def random_walks(dut) -> None:
    """Anything, with and without pauses, with few and many writes."""
    bench = await begin(dut, cocotb.RANDOM_SEED)
    for density, busy in itertools.product((1.0, 0.9, 0.4), (0.1, 0.9)):
        for _ in range(6):
            one = random_map(bench.rng)
            rounds = list(some_rounds(bench.rng, one.descriptor))
            await bench.run(one, rounds, density=density, busy=busy)
