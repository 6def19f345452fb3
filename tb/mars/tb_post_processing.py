"""From finished rounds to feature words: drain, headers and post-processing, every clock.

Rounds come as the walker lets them, at the least distance or later. Whatever an output must show
is worked out pixel by pixel before; in all other clocks it must show nothing.
"""

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import cocotb
import numpy as np

from hw.mars.walker import ROUND
from model.mars import layout
from model.mars.clocks import AVERAGE_AFTER, DRAIN_AFTER, HEADER_FREED_AFTER, WRITTEN_AFTER
from model.mars.config import ACC_WIDTH, KERNELS, NIBBLE, WORD_BITS, WORDS_PER_WRITE
from model.mars.layout import Descriptor, bits_of, pack_descriptor, pack_header
from model.mars.requantiser import raw, requantise
from tb.bench import Block, Fields, check, packed, post_lanes, signed, with_lanes
from tb.blocks import N_HEADERS

FLAGS = ("header_freed", "last_word", "value_valid", "write")
OTHERS = ("values", "write_row", "write_offset", "write_halves", "write_data")
INPUT_SHAPES = ((1, 1), (3, 5), (255, 1), (32, 9), (7, 2), (5, 6), (2, 300), (1, 4099))
"""Rows and words in each."""
N_MACROS = 8
HALF = KERNELS // 2
LANES = range(KERNELS)
ROUND_AFTER = DRAIN_AFTER - 1
"""From the last step of a round until `round_done`; its first team is drained in the next clock."""
TURNS = KERNELS // post_lanes()
VALUES_AFTER = WRITTEN_AFTER - 1 + TURNS - 1
"""From a pixel that is chosen until the last of its values leave the lanes."""
DESCRIPTOR_AFTER = 2
"""From the last write of a pass until there is another descriptor."""
STEP_AFTER = 1
"""From a descriptor, or a complete kernel block, until the first step."""
ACC_MASK = (1 << ACC_WIDTH) - 1
HALF_MASK = (1 << WORD_BITS // 2) - 1
ROUND_BITS = Fields(ROUND)
BITS = range(1, 9)
TEAMS = tuple((split, n) for split in range(4) for n in range(1, (N_MACROS >> split) + 1))
"""`split_log2` and teams."""
Ints = list[int]


@dataclass(frozen=True)
class Header:
    """Of a kernel block, per lane."""

    bias: tuple[int, ...]
    mult: tuple[int, ...]
    shift: tuple[int, ...]
    post_shift: tuple[int, ...]

    def bits(self, *, wide: bool) -> int:
        """As the header memory has it."""
        parts = (self.bias, self.mult, self.shift, self.post_shift)
        header = layout.Header(*(np.array(values) for values in parts))
        return bits_of(pack_header(header, 1, wide_multiplier=wide))


@dataclass(frozen=True)
class Round:
    """A pixel in each team.

    Parameters
    ----------
    row, col : int
        Of the pixel in the team's band.
    sums, residuals : tuple of int
        Of every macro, as the ports have them.
    later : int
        Clocks after the first one in which it could come.
    """

    row: int
    col: int
    sums: tuple[int, ...]
    residuals: tuple[int, ...]
    later: int = 0


@dataclass(frozen=True)
class Pass:
    """A descriptor, a header and rounds for each kernel block, and perhaps a lookup table."""

    descriptor: Descriptor
    blocks: list[tuple[Header, list[Round]]]
    table: Ints = field(default_factory=list)


@dataclass
class Timeline:
    """Inputs to set and outputs to find, by clock.

    Parameters
    ----------
    inputs : {clock: {name: value}}
    expected : {clock: {name: (value, bits that count)}}
    """

    inputs: dict[int, dict[str, int]] = field(default_factory=dict)
    expected: dict[int, dict[str, tuple[int, int]]] = field(default_factory=dict)

    def set(self, clock: int, **inputs: int) -> None:
        """Inputs from a clock on."""
        self.inputs.setdefault(clock, {}).update(inputs)

    def expect(self, clock: int, **outputs: int | tuple[int, int]) -> None:
        """Outputs of one clock, with the bits that count if not all do."""
        for name, value in outputs.items():
            both = value if isinstance(value, tuple) else (value, -1)
            self.expected.setdefault(clock, {})[name] = both

    def pulse(self, clock: int, name: str, **others: int) -> None:
        """An input that is 1 for a clock."""
        self.set(clock, **{name: 1}, **others)
        self.inputs.setdefault(clock + 1, {}).setdefault(name, 0)


def unpacked(sums: int) -> Ints:
    """Sums of a macro out of a port that has them `packed`."""
    return [signed(sums >> ACC_WIDTH * k & ACC_MASK, ACC_WIDTH) for k in range(KERNELS)]


def ends(bits: int, is_signed: bool) -> tuple[int, int]:
    """Lowest and highest value of a type."""
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if is_signed else (0, (1 << bits) - 1)


def lanes_of(d: Descriptor) -> int:
    """Channels of a kernel block."""
    return HALF if d.wide else KERNELS


def residual_of(d: Descriptor, number: int, words: int) -> Ints:
    """The residual of each lane, from the words of the team's first macro."""
    if not d.has_skip:
        return [0] * KERNELS
    first = HALF if d.wide and number & 1 else 0
    values = []
    for lane in range(KERNELS):
        channel = (lane + first) % KERNELS
        low, high = (words >> WORD_BITS * k + NIBBLE * channel & 0xF for k in range(2))
        value, bits = (high << NIBBLE | low, 8) if d.skip_two else (low, NIBBLE)
        values.append((signed(value, bits) if d.skip_signed else value) - d.skip_zero)
    return values


@lru_cache(maxsize=16)
def values_of(
    d: Descriptor, number: int, header: Header, sums: tuple[int, ...], residual: int
) -> Ints:
    """Requantised values of a pixel, from the sums of its team's macros and its residual."""
    each = [unpacked(partial) for partial in sums]
    acc = [signed(sum(lane) & ACC_MASK, ACC_WIDTH) for lane in zip(*each, strict=True)]
    if d.raw:
        return raw(acc, header.bias).tolist()
    skip = residual_of(d, number, residual)
    results = requantise(
        acc,
        header.bias,
        header.mult,
        header.shift,
        skip,
        d.skip_mult,
        d.low,
        d.high,
        post_shift=header.post_shift,
        offset=d.offset,
    )
    return results.tolist()


def average_of(d: Descriptor, sums: Ints) -> Ints:
    """The average of each lane."""
    return requantise(
        sums,
        d.gap_bias,
        d.gap_mult,
        d.gap_shift,
        0,
        0,
        d.gap_low,
        d.gap_high,
        post_shift=d.gap_post_shift,
        offset=d.gap_offset,
    ).tolist()


def slots_of(d: Descriptor) -> int:
    """Clocks of a team."""
    if TURNS == 1:
        return -(-d.out_planes // WORDS_PER_WRITE)
    return 2 * TURNS if d.raw else TURNS


class Schedule:
    """Passes one after the other: when everything happens; results of pixels, if they count."""

    def __init__(
        self, rng: random.Random, n_macros: int, clock: int, *, wide: bool, all_values: bool
    ) -> None:
        self.rng = rng
        self.n_macros = n_macros
        self.wide = wide
        self.all_values = all_values
        self.table: Ints = []
        self.line = Timeline()
        self.clock = clock
        self.slot = 0
        # The loader writes one header after the other.
        self.freed = [clock + slot for slot in range(N_HEADERS)]
        self.loaded = 0
        self.given: dict[tuple[str, int], int] = {}

    def add(self, one: Pass) -> None:
        """A pass; its descriptor comes as soon as it can."""
        d = one.descriptor
        self.line.set(self.clock, descriptor=bits_of(pack_descriptor(d)))
        self.table = one.table
        if one.table:
            words = layout.pack_table(np.array(one.table)).reshape(-1)
            for k, word in enumerate(words):
                at = {"table_addr": k, "feature_words": int(word)}
                self.line.pulse(self.clock + k, "table_enable", **at)
            self.loaded = max(self.loaded, self.clock + len(words))
        earliest = self.clock + STEP_AFTER + ROUND_AFTER
        drained = 0
        slots = slots_of(d)
        for number, (header, rounds) in enumerate(one.blocks):
            self.loaded = loaded = max(self.freed[self.slot], self.loaded + 1)
            self.line.pulse(
                loaded,
                "header_write",
                header_slot=self.slot,
                header_data=header.bits(wide=self.wide),
            )
            earliest = max(earliest, loaded + STEP_AFTER + ROUND_AFTER)
            best: dict[int, Ints] = {}
            sums = [0] * KERNELS
            for k, a_round in enumerate(rounds):
                done = earliest + a_round.later
                last = k == len(rounds) - 1
                self._give(d, number, a_round, done, last, last and number + 1 == len(one.blocks))
                for team in range(d.n_teams):
                    chosen = done + 1 + team * slots
                    if team * d.rows_per_team + a_round.row < d.n_rows:
                        first = team * d.split
                        sums_of_team = a_round.sums[first : first + d.split]
                        residual = a_round.residuals[first]
                        values = values_of(d, number, header, sums_of_team, residual)
                        self._pixel(d, number, a_round, team, chosen, values, best, sums)
                earliest = done + d.n_teams * slots
                drained = done + d.n_teams * slots
                if last and d.gap:
                    self._write(d, number, chosen + AVERAGE_AFTER, 0, 0, average_of(d, sums))
                    earliest += AVERAGE_AFTER
                    drained += AVERAGE_AFTER
            self.line.expect(drained + HEADER_FREED_AFTER - 1, header_freed=1)
            # What comes into the slot now is not of this kernel block any more.
            self.freed[self.slot] = drained + HEADER_FREED_AFTER
            self.slot = (self.slot + 1) % N_HEADERS
        self.line.expect(drained, last_word=1)
        self.clock = drained + WRITTEN_AFTER + DESCRIPTOR_AFTER

    def _give(
        self, d: Descriptor, number: int, one: Round, done: int, last: bool, last_of_pass: bool
    ) -> None:
        row, col = one.row >> d.pool, one.col >> d.pool
        offset = row * d.out_row_pitch + col * d.out_col_pitch
        phase = (one.row & 1, one.col & 1)
        fields = {
            "row": one.row,
            "out_row": row,
            "out_offset": (offset + (number >> d.wide) * d.out_planes) % (1 << 16),
            "slot": self.slot,
            "part": number & 7,
            "pool_first": not d.pool or phase == (0, 0),
            "pool_last": not d.pool or phase == (1, 1),
            "first_of_block": row == 0 and col == 0,
            "last_of_block": last,
            "last_of_pass": last_of_pass,
        }
        self.line.pulse(done, "round_done", round=ROUND_BITS.pack(fields))
        self.line.set(done + 1, round=self.rng.getrandbits(ROUND_BITS.size))
        for name, words in (("sums", one.sums), ("residuals", one.residuals)):
            for macro, word in enumerate(words[: self.n_macros]):
                if self.given.get((name, macro)) != word:
                    self.given[name, macro] = word
                    self.line.set(done + 1, **{f"{name}_{macro}": word})

    def _pixel(
        self,
        d: Descriptor,
        number: int,
        one: Round,
        team: int,
        chosen: int,
        values: Ints,
        best: dict[int, Ints],
        sums: Ints,
    ) -> None:
        self.line.expect(chosen + VALUES_AFTER, value_valid=1)
        if self.all_values:
            bits = (1 << ACC_WIDTH * lanes_of(d)) - 1
            self.line.expect(chosen + VALUES_AFTER, values=(packed(values, ACC_WIDTH), bits))
        row, col = one.row, one.col
        if d.pool:
            if (row & 1, col & 1) == (0, 0):
                best[team] = values
            best[team] = values = [max(pair) for pair in zip(best[team], values, strict=True)]
            if (row & 1, col & 1) != (1, 1):
                return
            row, col = row // 2, col // 2
        if self.table:
            values = [self.table[value & 0xFF] for value in values]
        if d.gap:
            sums[:] = [a + b for a, b in zip(sums, values, strict=True)]
            return
        offset = row * d.out_row_pitch + col * d.out_col_pitch + team * d.team_out_pitch
        row += team * (d.rows_per_team >> d.pool)
        self._write(d, number, chosen, row, offset, values)

    def _write(
        self, d: Descriptor, number: int, chosen: int, row: int, offset: int, values: Ints
    ) -> None:
        half = number & 1
        if d.wide:
            values = [0] * half * HALF + values[:HALF] + [0] * (1 - half) * HALF
        halves = 1 << half if d.wide else 0b11
        words = []
        for plane in range(d.out_planes):
            nibbles = [value >> NIBBLE * plane & 0xF for value in values]
            words.append(sum(nibble << NIBBLE * k for k, nibble in enumerate(nibbles)))
        offset += (number >> d.wide) * d.out_planes
        for k, pair in enumerate(_pairs(words)):
            self.line.expect(
                chosen + VALUES_AFTER + 1 + k,
                write=1,
                write_row=row,
                write_offset=(offset + WORDS_PER_WRITE * k) % (1 << 16),
                **_written(pair, halves),
            )


def _pairs(words: Ints) -> list[Ints]:
    """Those that are written together."""
    return [words[k : k + WORDS_PER_WRITE] for k in range(0, len(words), WORDS_PER_WRITE)]


def _written(words: Sequence[int], halves: int) -> dict[str, tuple[int, int]]:
    """Ports of a write of a word or two, of which these halves count."""
    mask = sum(HALF_MASK << 32 * half for half in range(2) if halves >> half & 1)
    bits = sum(mask << WORD_BITS * k for k in range(len(words)))
    data = sum(word << WORD_BITS * k for k, word in enumerate(words))
    both = sum(halves << 2 * k for k in range(len(words)))
    return {"write_halves": (both, -1), "write_data": (data, bits)}


class Bench:
    """The block, driven and compared by a timeline."""

    def __init__(
        self, dut, rng: random.Random, n_macros: int = N_MACROS, *, wide: bool = False
    ) -> None:
        self.dut = dut
        self.rng = rng
        self.n_macros = n_macros
        self.wide = wide
        self.block = Block(dut, f"{with_lanes('processing')}_{'wide' if wide else n_macros}", FLAGS)
        self.others = {name: self.block.port(name) for name in OTHERS}
        self.clock = 0

    async def start(self) -> None:
        """Reset."""
        await self.block.start(round_done=0, header_write=0, feature_valid=0, table_enable=0)

    async def reset(self) -> None:
        """Reset again, as between frames."""
        self.dut.rst.value = 1
        await self.block.tick()
        self.dut.rst.value = 0

    async def follow(self, line: Timeline) -> None:
        """All clocks of a timeline, and some behind it."""
        for _ in range(self.clock, max(*line.expected, *line.inputs) + 20):
            self.block.set(**line.inputs.get(self.clock, {}))
            flags = await self.block.tick()
            expected = line.expected.get(self.clock, {})
            shown = {name for name, flag in flags.items() if flag}
            where = f"clock {self.clock}: "
            check(where + "outputs", {k for k in expected if k in FLAGS}, shown)
            for name, (value, bits) in expected.items():
                if name in self.others:
                    actual = int(self.others[name].value)
                    check(where + name, hex(value & bits), hex(actual & bits))
            self.clock += 1

    async def run(self, passes: list[Pass], *, all_values: bool = True) -> None:
        """Passes one after the other; the results of each pixel only if they shall be compared."""
        schedule = Schedule(
            self.rng, self.n_macros, self.clock, wide=self.wide, all_values=all_values
        )
        for one in passes:
            schedule.add(one)
        await self.follow(schedule.line)


def descriptor_of(rng: random.Random, n_macros: int = N_MACROS, **parameters: int) -> Descriptor:
    """Any pass with the given parameters, and a few pixels."""

    def value(name: str, otherwise: int) -> int:
        return parameters.get(name, otherwise)

    # Raw results are not pooled.
    pooled = value("pool", 0) or value("gap", 0)
    is_raw = int(value("raw", not pooled and rng.random() < 0.1))
    pool = int(value("pool", not is_raw and rng.random() < 0.3))
    gap = int(value("gap", not is_raw and rng.random() < 0.3))
    bits, gap_bits = parameters.pop("bits", rng.choice(BITS)), rng.choice(BITS)
    low, high = ends(bits, bool(parameters.pop("is_signed", rng.randrange(2))))
    gap_bits = parameters.pop("gap_bits", gap_bits)
    gap_low, gap_high = ends(gap_bits, bool(parameters.pop("gap_signed", low < 0)))
    teams = [(s, n) for s, n in TEAMS if n << s <= n_macros]
    split_log2, n_teams = rng.choice(teams)
    n_teams = value("n_teams", n_teams)
    rows_per_team = value("rows_per_team", rng.randint(1, 3) << pool)
    n_rows = rng.randint(1, n_teams * rows_per_team >> pool) << pool
    if rng.random() < 0.4:
        n_rows = n_teams * rows_per_team
    pitches = ("out_row_pitch", "out_col_pitch", "team_out_pitch")
    values = {
        "wide": rng.randrange(2),
        "raw": is_raw,
        "pool": pool,
        "gap": gap,
        "split_log2": split_log2,
        "n_teams": n_teams,
        "rows_per_team": rows_per_team,
        "n_rows": n_rows,
        "n_cols": rng.randint(1, 3) << pool,
        "out_planes_log2": 3 if is_raw else int((gap_bits if gap else bits) > NIBBLE),
        **{name: rng.choice((rng.randrange(64), rng.randrange(1 << 16))) for name in pitches},
        **{name: rng.randrange(2) for name in ("has_skip", "skip_two", "skip_signed")},
        "skip_mult": rng.choice((0, 1, rng.randrange(1 << 16), (1 << 16) - 1)),
        "low": low,
        "high": high,
        "gap_low": gap_low,
        "gap_high": gap_high,
        "gap_mult": rng.choice((1, 3, rng.randrange(1 << 16), (1 << 16) - 1)),
        "gap_shift": rng.choice((1, 2, 3, rng.randint(1, 20))),
        "gap_bias": rng.choice((0, rng.randint(-1000, 1000))),
        "offset": rng.choice((0, rng.randint(-5, 5))),
        "gap_offset": rng.choice((0, rng.randint(-5, 5))),
        "skip_zero": rng.choice((0, -128, 128, -256, 256, rng.randint(-255, 255))),
        "lookup": int(not is_raw and rng.random() < 0.3),
        "lookup_signed": rng.randrange(2),
    }
    for name in ("low", "high", "gap_low", "gap_high"):
        values[name] -= values["gap_offset" if name.startswith("gap") else "offset"]
    if values["lookup"] and not gap:
        values["out_planes_log2"] = rng.randrange(2)
    if gap:  # An average is the only pixel of its map.
        values |= {"out_row_pitch": 0, "out_col_pitch": 0}
    return Descriptor(**(values | parameters))


def header_of(rng: random.Random, *, wide: bool = False) -> Header:
    """Any requantisation; half of the lanes have a factor of 1, for exact ties."""

    def lanes(*choices: Callable[[], int]) -> tuple[int, ...]:
        return tuple(rng.choice(choices)() for _ in LANES)

    return Header(
        lanes(lambda: 0, lambda: rng.randint(-5000, 5000), lambda: signed(rng.getrandbits(31), 31)),
        lanes(lambda: 1, lambda: rng.randrange(1 << (31 if wide else 16))),
        lanes(*(lambda most=most: rng.randint(1, most) for most in (12, 22, 40))),
        lanes(lambda: 0, lambda: rng.randint(1, 12)) if wide else (0,) * KERNELS,
    )


def aimed(
    rng: random.Random, d: Descriptor, number: int, header: Header, residual: int
) -> Iterator[int]:
    """Accumulators for results at, behind and between the ends of their type, and at ties."""
    skips = residual_of(d, number, residual)
    for lane, skip in enumerate(skips):
        bias, mult, shift = header.bias[lane], header.mult[lane], header.shift[lane]
        if d.raw:
            total = rng.choice((-(1 << 31), -1, 0, (1 << 31) - 1, signed(rng.getrandbits(32), 32)))
        else:
            result = rng.choice((d.low - 1, d.low, d.high - 1, d.high, -2, -1, 0, 1))
            if rng.random() < 0.5:
                result = rng.randint(d.low - 2, d.high + 2)
            below = (1 << shift - 1) + rng.choice((-1, -1, 0, 1))
            # Half a step below a result is the tie that is rounded to it.
            shift += header.post_shift[lane]
            target = (result << shift) - below
            total = (target - skip * d.skip_mult) // max(mult, 1)
        # The accumulator has 32 bit as the total has.
        total = min(max(total, -(1 << 31), bias - (1 << 31)), (1 << 31) - 1, bias + (1 << 31) - 1)
        yield total - bias


def round_of(
    rng: random.Random, d: Descriptor, number: int, header: Header, row: int, col: int, later: int
) -> Round:
    """A pixel of every team; macros that do not count have anything."""
    sums = [rng.getrandbits(ACC_WIDTH * KERNELS) for _ in range(N_MACROS)]
    residuals = [rng.getrandbits(2 * WORD_BITS) for _ in range(N_MACROS)]
    for team in range(d.n_teams):
        first = team * d.split
        acc = list(aimed(rng, d, number, header, residuals[first]))
        others = [unpacked(sums[macro]) for macro in range(first + 1, first + d.split)]
        rest = [total - sum(part) for total, *part in zip(acc, *others, strict=True)]
        sums[first] = packed(rest, ACC_WIDTH)
    return Round(row, col, tuple(sums), tuple(residuals), later)


def pixels_of(d: Descriptor) -> Iterator[tuple[int, int]]:
    """The walk: row by row, in quads if 2x2 are pooled."""
    if not d.pool:
        yield from itertools.product(range(d.rows_per_team), range(d.n_cols))
        return
    quads = itertools.product(range(0, d.rows_per_team, 2), range(0, d.n_cols, 2))
    for (row, col), (dy, dx) in itertools.product(quads, itertools.product((0, 1), repeat=2)):
        yield row + dy, col + dx


def pass_of(
    rng: random.Random,
    d: Descriptor,
    n_blocks: int,
    share_later: float = 0.0,
    *,
    wide: bool = False,
) -> Pass:
    """Kernel blocks with aimed results; some rounds come later than they could."""
    blocks = []
    for number in range(n_blocks):
        header = header_of(rng, wide=wide)
        rounds = [
            round_of(
                rng,
                d,
                number,
                header,
                *pixel,
                rng.randint(1, 20) if rng.random() < share_later else 0,
            )
            for pixel in pixels_of(d)
        ]
        blocks.append((header, rounds))
    low = -128 if d.lookup_signed else 0
    table = [rng.randint(low, low + 255) for _ in range(256)] if d.lookup else []
    return Pass(d, blocks, table)


def random_pass(
    rng: random.Random,
    n_macros: int = N_MACROS,
    *,
    wide_multiplier: bool = False,
    **parameters: int,
) -> Pass:
    """Any pass with the given parameters."""
    d = descriptor_of(rng, n_macros, **parameters)
    later = rng.choice((0.0, 0.2, 1.0))
    return pass_of(rng, d, rng.randint(1, 3), later, wide=wide_multiplier)


async def begin(dut, seed: int, n_macros: int = N_MACROS, *, wide: bool = False) -> Bench:
    """The block behind a reset."""
    bench = Bench(dut, random.Random(seed), n_macros, wide=wide)
    await bench.start()
    return bench


@cocotb.test()
async def every_type(dut) -> None:
    """Ties and both ends of results of 1 to 8 bit with and without sign, and raw ones."""
    bench = await begin(dut, 1)
    passes = [
        random_pass(bench.rng, bits=bits, is_signed=is_signed, wide=wide, raw=0, gap=0, pool=0)
        for bits, is_signed, wide in itertools.product(BITS, (0, 1), (0, 1))
    ]
    passes += [random_pass(bench.rng, raw=1, wide=wide) for wide in (0, 1, 0, 1)]
    bench.rng.shuffle(passes)
    await bench.run(passes)


@cocotb.test()
async def tables(dut) -> None:
    """Lookup tables of both signs, pooled, averaged, of one and two words, one behind the other."""
    bench = await begin(dut, 13)
    kinds = itertools.product((0, 1), (0, 1), (0, 1), (0, 1))
    passes = [
        random_pass(bench.rng, lookup=1, lookup_signed=is_signed, pool=pool, gap=gap, wide=wide)
        for is_signed, pool, gap, wide in kinds
    ]
    bench.rng.shuffle(passes)
    await bench.run(passes)


@cocotb.test()
async def ends_of_tables(dut) -> None:
    """Results on both sides of the sign of a byte; another table, or none, right behind it."""
    bench = await begin(dut, 15)
    indices = (0x7F, 0x80, 0xFF, 0x00, 0x81, 0x7E, 0x01, 0xFE)
    zeros, ones = (0,) * KERNELS, (1,) * KERNELS
    header = Header(zeros, ones, ones, zeros)
    passes = []
    for is_signed, table_signed, lookup, wide in itertools.product((0, 1), (0, 1), (1, 0), (0, 1)):
        d = descriptor_of(
            bench.rng,
            bits=8,
            is_signed=is_signed,
            lookup=lookup,
            lookup_signed=table_signed,
            wide=wide,
            split_log2=0,
            rows_per_team=2,
            n_cols=len(indices) // 2,
            offset=0,
            out_planes_log2=1,
            **dict.fromkeys(("raw", "pool", "gap", "has_skip"), 0),
        )
        rounds = []
        for number, pixel in enumerate(pixels_of(d)):
            found = [indices[(number + k) % len(indices)] for k in LANES]
            acc = [2 * (signed(index, 8) if is_signed else index) for index in found]
            rounds.append(Round(*pixel, (packed(acc, ACC_WIDTH),) * N_MACROS, (0,) * N_MACROS))
        low, high = ends(8, bool(table_signed))
        table = bench.rng.sample(range(low, high + 1), 256)
        at = {0x7F: low, 0x80: high, 0xFF: -1 if table_signed else 0x80}
        table = [at.get(index, value) for index, value in enumerate(table)]
        passes.append(Pass(d, [(header, rounds)], table if lookup else []))
    await bench.run(passes)


@cocotb.test()
async def residuals(dut) -> None:
    """One and two nibbles with and without sign, for all and for half of the channels."""
    bench = await begin(dut, 2)
    await bench.run(residual_passes(bench.rng))


@cocotb.test()
async def residuals_of_one_macro(dut) -> None:
    """The same with a single macro."""
    bench = await begin(dut, 12, 1)
    await bench.run(residual_passes(bench.rng, 1))


def residual_passes(rng: random.Random, n_macros: int = N_MACROS) -> list[Pass]:
    """Passes with every kind of residual."""
    kinds = itertools.product((0, 1), (0, 1), (0, 1), (0, 1), (0, 1))
    return [
        pass_of(
            rng,
            descriptor_of(
                rng,
                n_macros,
                has_skip=has_skip,
                skip_two=two,
                skip_signed=is_signed,
                wide=wide,
                skip_mult=(1 << 16) - 1 if large else rng.randrange(1 << 16),
                raw=0,
            ),
            3,
        )
        for has_skip, two, is_signed, wide, large in kinds
    ]


@cocotb.test()
async def every_team(dut) -> None:
    """Teams 1 to 8 of 1 to 8 macros, all rows or not, with and without pooling."""
    bench = await begin(dut, 3)
    await bench.run(
        [
            random_pass(bench.rng, split_log2=split_log2, n_teams=n_teams, pool=pool)
            for (split_log2, n_teams), pool in itertools.product(TEAMS, (0, 1))
        ]
    )


@cocotb.test()
async def maxima(dut) -> None:
    """2x2 pooling of values of both signs, the largest one anywhere, in interleaved teams."""
    bench = await begin(dut, 4)
    await bench.run(
        [
            random_pass(bench.rng, pool=1, gap=gap, bits=bits, is_signed=is_signed, raw=0)
            for bits, is_signed, gap in itertools.product((1, 4, 7, 8), (0, 1), (0, 0, 1))
        ]
    )


@cocotb.test()
async def maxima_of_eight_teams(dut) -> None:
    """Every bit of every team's maximum so far."""
    bench = await begin(dut, 11)
    sizes = {"split_log2": 0, "n_teams": 8, "rows_per_team": 2, "n_cols": 12}
    await bench.run(
        [
            random_pass(bench.rng, pool=1, gap=0, bits=8, is_signed=is_signed, raw=0, **sizes)
            for is_signed in (0, 1, 0, 1, 0, 1)
        ]
    )


@cocotb.test()
async def maxima_of_one_macro(dut) -> None:
    """Every bit of the maximum so far of a single macro."""
    bench = await begin(dut, 13, 1)
    sizes = {"split_log2": 0, "n_teams": 1, "rows_per_team": 2, "n_cols": 12}
    await bench.run(
        [
            random_pass(bench.rng, 1, pool=1, gap=0, bits=8, is_signed=is_signed, raw=0, **sizes)
            for is_signed in (0, 1, 0, 1, 0, 1)
        ]
    )


@cocotb.test()
async def averages(dut) -> None:
    """Averages of every type, of few pixels, kernel block behind kernel block."""
    bench = await begin(dut, 5)
    passes = [
        pass_of(
            bench.rng,
            descriptor_of(bench.rng, gap=1, gap_bits=bits, gap_signed=is_signed, raw=0),
            bench.rng.randint(2, 5),
            bench.rng.choice((0.0, 0.2)),
        )
        for bits, is_signed in itertools.product(BITS, (0, 1))
    ]
    await bench.run(passes)


@cocotb.test()
async def largest_average(dut) -> None:
    """The sum of a map of 255 x 255."""
    bench = await begin(dut, 6)
    for is_signed in (0, 1):
        d = descriptor_of(
            bench.rng,
            bits=8,
            is_signed=is_signed,
            gap=1,
            gap_bits=4,
            gap_signed=is_signed,
            gap_mult=1,
            gap_shift=21,
            raw=0,
            pool=0,
            wide=0,
            has_skip=0,
            split_log2=0,
            n_teams=8,
            rows_per_team=32,
            n_rows=255,
            n_cols=255 if not is_signed else 20,
            offset=0,
            lookup=0,
            gap_bias=0,
        )
        zeros, ones = (0,) * KERNELS, (1,) * KERNELS
        header = Header(zeros, ones, ones, zeros)
        value = [2 * (d.low + k if is_signed else d.high - k) for k in LANES]
        one = (tuple([packed(value, ACC_WIDTH)] * N_MACROS), (0,) * N_MACROS)
        rounds = [Round(row, col, *one) for row, col in pixels_of(d)]
        await bench.run([Pass(d, [(header, rounds)])], all_values=False)


@cocotb.test()
async def short_kernel_blocks(dut) -> None:
    """Kernel blocks of one round, so that headers are freed and written all the time."""
    bench = await begin(dut, 7)
    sizes = {"rows_per_team": 1, "n_cols": 1, "pool": 0}
    await bench.run(
        [
            pass_of(bench.rng, descriptor_of(bench.rng, **sizes, gap=gap, raw=is_raw), 9)
            for gap, is_raw in ((0, 0), (1, 0), (0, 1)) * 6
        ]
    )


@cocotb.test()
async def input_words(dut) -> None:
    """Words of the input become features as they are; those behind the last row do not."""
    bench = await begin(dut, 8)
    for shape in INPUT_SHAPES:
        await feed(bench, *shape)
        await bench.run([random_pass(bench.rng) for _ in range(2)])


@cocotb.test()
async def input_words_of_one_macro(dut) -> None:
    """The same with a single macro."""
    bench = await begin(dut, 10, 1)
    for shape in INPUT_SHAPES:
        await feed(bench, *shape)


async def feed(bench: Bench, n_rows: int, pitch: int) -> None:
    """An input of so many rows of so many words, and what rounds it up to whole lines."""
    rng = bench.rng
    await bench.reset()
    line = Timeline()
    d = descriptor_of(rng, is_input=1, n_rows=n_rows, out_row_pitch=pitch)
    line.set(bench.clock, descriptor=bits_of(pack_descriptor(d)))
    at, n_words = bench.clock + 2, n_rows * pitch
    together = 1 if pitch % 2 else WORDS_PER_WRITE
    for number in range(0, n_words + -n_words % 8, together):
        words = [rng.getrandbits(WORD_BITS) for _ in range(WORDS_PER_WRITE)]
        both = words[1] << WORD_BITS | words[0]
        line.pulse(at, "feature_valid", feature_words=both)
        if number < n_words:
            line.expect(
                at + 1,
                write=1,
                write_row=number // pitch,
                write_offset=number,
                **_written(words[:together], 0b11),
            )
        at += 1 if rng.random() < 0.8 else rng.randint(1, 20)
    await bench.follow(line)


@cocotb.test()
async def one_macro(dut) -> None:
    """The same with a single macro."""
    bench = await begin(dut, 9, 1)
    sizes = {"split_log2": 0, "n_teams": 1}
    await bench.run([random_pass(bench.rng, 1, **sizes) for _ in range(25)])


@cocotb.test()
async def random_passes(dut) -> None:
    """Anything."""
    bench = await begin(dut, cocotb.RANDOM_SEED)
    await bench.run([random_pass(bench.rng) for _ in range(60)])
