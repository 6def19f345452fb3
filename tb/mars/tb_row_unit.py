"""The row unit against `model.mars.rows`: widths, sums at their ends, masks, slots back to back."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

import cocotb
import numpy as np

from hw.mars.row_unit import LARGEST, LATENCY, RESULTS, SUMS, row_results, row_values
from model.mars.clocks import LANES_PER_DIVIDER, ROW_WAITS
from model.mars.config import KERNELS
from model.mars.layout import NORMALISATION, SOFTMAX
from model.mars.rows import EPSILON_MAX, NORM_MAX, OCTAVES_MAX, SOFTMAX_MAX, normalise, softmax
from tb.bench import Block, Fields, check, post_lanes, with_lanes

N_LANES = post_lanes()
N_DIVIDERS = N_LANES // LANES_PER_DIVIDER
VALUE_BITS, RESULT_BITS = Fields(row_values(N_LANES)), Fields(row_results(N_LANES))
PHASES = {SOFTMAX: (LARGEST, SUMS, RESULTS), NORMALISATION: (SUMS, RESULTS)}
LONGEST = {SOFTMAX: SOFTMAX_MAX, NORMALISATION: NORM_MAX}
Ints = np.ndarray


@dataclass(frozen=True)
class Pass:
    """Rows (rows, channels) that follow each other; `parameter` is `octaves` or `epsilon`."""

    function: int
    parameter: int
    rows: Ints

    @property
    def results(self) -> Ints:
        """Of the model."""
        compute = {SOFTMAX: softmax, NORMALISATION: normalise}[self.function]
        return compute(self.rows, self.parameter)


def in_blocks(rows: Ints, fill: int) -> Ints:
    """Rows as (rows, steps, lanes), in whole blocks of 16; behind the last channel is `fill`."""
    n_channels = rows.shape[1]
    padded = np.full((len(rows), -(-n_channels // KERNELS) * KERNELS), fill)
    padded[:, :n_channels] = rows
    return padded.reshape(len(rows), -1, N_LANES)


class Bench:
    """Passes one behind the other."""

    def __init__(self, dut, rng: random.Random) -> None:
        self.block = Block(dut, with_lanes("row_unit"), ("results",))
        self.rng = rng
        self.due: list[tuple[str, list[int]] | None] = [None] * LATENCY

    async def clock(self, expected: tuple[str, list[int]] | None = None, **inputs: int) -> None:
        """A clock, and the results of an earlier one."""
        rng = self.rng
        garbage = {
            "enable": 0,
            "phase": rng.randrange(3),
            "first": rng.randrange(2),
            "last": rng.randrange(2),
            "mask": rng.getrandbits(N_LANES),
            "values": rng.getrandbits(VALUE_BITS.size),
        }
        self.block.set(**(garbage | inputs))
        self.due.append(expected)
        seen = (await self.block.tick())["results"]
        due = self.due.pop(0)
        if due is not None:
            where, results = due
            check(where, results, list(RESULT_BITS.read(seen).values()))

    async def run(self, one: Pass, pause: float = 0.0) -> None:
        """A pass; some slots are longer than they must be."""
        rng, phases = self.rng, PHASES[one.function]
        apart = rng.randint(1, N_DIVIDERS)
        n_rows, n_channels = one.rows.shape
        values = in_blocks(one.rows, rng.choice((-128, 127, 0, 255)))
        results = in_blocks(one.results, 0)
        n_blocks = values.shape[1]
        mask = in_blocks(np.ones((1, n_channels), np.int64), 0)[0] @ (1 << np.arange(N_LANES))
        self.block.set(
            is_softmax=one.function == SOFTMAX,
            octaves=one.parameter & OCTAVES_MAX,
            epsilon=one.parameter,
            n_channels=n_channels,
            **({"apart": apart} if N_DIVIDERS > 1 else {}),
        )
        steps, least = len(phases) * n_blocks, -(-ROW_WAITS[one.function] // apart)
        behind = {LARGEST: 0, SUMS: len(phases) - 2, RESULTS: len(phases) - 2 + apart}
        for slot in range(n_rows + behind[RESULTS]):
            longer = rng.randint(1, 12) if rng.random() < pause else 0
            for _ in range(max(0, least - steps) + longer):
                await self.clock()
            for phase in phases:
                row = slot - behind[phase]
                is_there = 0 <= row < n_rows
                for block in range(n_blocks):
                    inputs = {
                        "enable": 1,
                        "phase": phase,
                        "first": block == 0,
                        "last": block == n_blocks - 1,
                    }
                    expected = None
                    if is_there:
                        inputs["values"] = VALUE_BITS.pack(
                            dict(enumerate(values[row, block].tolist()))
                        )
                        inputs["mask"] = int(mask[block])
                    if is_there and phase == RESULTS:
                        where = f"{one.function}, {one.parameter}, row {one.rows[row].tolist()}"
                        expected = f"{where}, block {block}", results[row, block].tolist()
                    await self.clock(expected, **inputs)
        for _ in range(LATENCY + rng.randrange(3)):
            await self.clock()


def near_equal(n_channels: int) -> Iterator[Pass]:
    """Sums of exponentials at a power of two, just below and above."""
    for octaves in (1, 16, 17, 4096, 1 << 16, 18 << 16 & OCTAVES_MAX, OCTAVES_MAX):
        rows = np.full((6, n_channels), 7)
        rows[1, -1] -= 1
        rows[2, 0] += 1
        rows[3, n_channels // 2 :] = -128
        rows[4, :] = -128
        rows[4, n_channels // 2] = 127
        rows[5, :] = np.arange(n_channels) % 256
        yield Pass(SOFTMAX, octaves, rows)


def leads_of_one(n_channels: int) -> Iterator[Pass]:
    """One channel is ahead by one, whatever the lowest bits of the others are."""
    for least in range(4):
        yield Pass(SOFTMAX, OCTAVES_MAX, least + np.eye(n_channels, dtype=np.int64))


def variances(difference: int, targets: list[int]) -> Iterator[Pass]:
    """Two values so far apart, and epsilons with which the variance is what is wanted."""
    for target in targets:
        if 0 <= target - difference**2 <= EPSILON_MAX:
            rows = np.array([[0, difference], [difference, 0], [5, 5]]) - (difference < 128)
            yield Pass(NORMALISATION, target - difference**2, rows)


def extremes(n_channels: int, rng: np.random.Generator) -> Iterator[Pass]:
    """Largest sums, squares and variances, of signed values and of unsigned ones."""
    for low, high in ((-128, 127), (0, 255)):
        rows = np.full((7, n_channels), low)
        rows[1, :] = high
        rows[2, ::2] = high
        rows[3, 0] = high
        rows[4, 1:] = high
        rows[5, : n_channels // 2] = high
        rows[6, :] = rng.integers(low, high + 1, n_channels)
        for epsilon in (0, 1, EPSILON_MAX):
            yield Pass(NORMALISATION, epsilon, rows)
        if n_channels <= SOFTMAX_MAX:
            for octaves in (1, 3000, OCTAVES_MAX):
                yield Pass(SOFTMAX, octaves, rows)


def random_pass(rng: np.random.Generator) -> Pass:
    """Any rows of any number of channels, mostly few."""
    function = int(rng.choice((SOFTMAX, NORMALISATION)))
    most = int(rng.choice((1, 16, 40, 160, LONGEST[function]), p=(0.05, 0.4, 0.4, 0.1, 0.05)))
    n_channels, n_rows = int(rng.integers(1, most + 1)), int(rng.integers(1, 8))
    low = int(rng.choice((-128, 0)))
    width = 1 << int(rng.integers(0, 9))
    first = low + int(rng.integers(0, 257 - width))
    rows = rng.integers(first, first + width, (n_rows, n_channels))
    bits = int(rng.integers(1, 33 if function == NORMALISATION else 21))
    return Pass(function, int(rng.integers(1, 1 << bits)), rows)


async def start(dut, seed: int) -> Bench:
    """The unit after its reset."""
    bench = Bench(dut, random.Random(seed))
    await bench.block.start(enable=0)
    return bench


@cocotb.test()
async def sums_of_exponentials(dut) -> None:
    """Sums that just need a place more, or not; octaves at their ends."""
    bench = await start(dut, 1)
    for n_channels in (1, 2, 3, 4, 15, 16, 17, 31, 32, 33, 64, 128, 256, 512):
        for one in near_equal(n_channels):
            await bench.run(one)


@cocotb.test()
async def largest(dut) -> None:
    """The largest value is found in every channel, however small its lead."""
    bench = await start(dut, 5)
    for one in leads_of_one(KERNELS):
        await bench.run(one)


@cocotb.test()
async def roots(dut) -> None:
    """Variances at squares, at powers of four, and their neighbours."""
    bench = await start(dut, 2)
    squares = [root * root for root in (255, 256, 257, 4095, 4096, 40000, 65535)]
    squares += [1 << places for places in range(36)]
    targets = sorted({square + by for square in squares for by in (-1, 0, 1)} - {0})
    for difference in (1, 2, 255):
        for one in variances(difference, targets):
            await bench.run(one)
    # A reciprocal's second digit is known late.
    for one in variances(255, [85_593]):
        await bench.run(one)


@cocotb.test()
async def widths(dut) -> None:
    """Everything as large as it can be; also rows of one channel, which are their own mean."""
    bench = await start(dut, 3)
    rng = np.random.default_rng(3)
    for n_channels in (1, 2, 15, 16, 17, 160, 512, 1023, 1024):
        for one in extremes(n_channels, rng):
            await bench.run(one)


@cocotb.test()
async def random_rows(dut) -> None:
    """Any rows, slots of any length."""
    bench = await start(dut, cocotb.RANDOM_SEED)
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    for number in range(150):
        await bench.run(random_pass(rng), pause=0.3 * (number % 2))
