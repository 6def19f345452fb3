"""The macro against `model.mars.macro.access`, every clock: also those without an access."""

import itertools
import random
from dataclasses import dataclass

import cocotb
import numpy as np

from model.mars.config import (
    ADDRESSES,
    KERNELS,
    NIBBLE,
    ROWS_PER_COPY,
    WORD_BITS,
    WORD_LINES,
)
from model.mars.macro import access
from tb.bench import Block, check, signed

LATENCY = 2
SUM_WIDTH = 18
WORD_MASK = (1 << WORD_BITS) - 1
MODES = tuple(
    (signed_activations, wide, low)
    for signed_activations in (False, True)
    for wide, low in ((False, False), (True, False), (False, True))
)
NIBBLES = (0x0, 0x1, 0x7, 0x8, 0xF)
BYTES = (0x00, 0x0F, 0xF0, 0x08, 0x7F, 0x80, 0xFF)
"""Ends of weights and activations, and each half of an 8-bit weight at the ends of its own."""


@dataclass(frozen=True)
class Write:
    """The row of one word line."""

    addr: int
    word_line: int
    data: int


@dataclass(frozen=True)
class Access:
    """One access."""

    addr: int
    activations: int
    signed_activations: bool
    wide: bool
    low: bool


Clock = tuple[Write | None, Access | None]


def random_word(rng: random.Random) -> int:
    """A word, of the ends of nibbles in every third."""
    if rng.random() < 2 / 3:
        return rng.getrandbits(WORD_BITS)
    return sum(rng.choice(NIBBLES) << NIBBLE * i for i in range(WORD_LINES))


def random_access(rng: random.Random, addr: int) -> Access:
    """Any access of an address."""
    return Access(addr, random_word(rng), *rng.choice(MODES))


def repeated(value: int, width: int) -> int:
    """A word full of one value."""
    return sum(value << start for start in range(0, WORD_BITS, width))


def fill(rng: random.Random) -> list[Clock]:
    """Writes every row."""
    return [
        (Write(addr, word_line, random_word(rng)), None)
        for addr in range(ADDRESSES)
        for word_line in range(WORD_LINES)
    ]


async def stream(dut, clocks: list[Clock], rng: random.Random, *, rows: int = 1) -> None:
    """Do what each clock says, random values on all other inputs, and compare every clock.

    `rows` word lines are written at once.
    """
    block = Block(dut, "macro" if rows == 1 else "macro_of_sram", ("sums",))
    await block.start(enable=0, w_enable=0)
    array = np.zeros((ADDRESSES, WORD_LINES), np.uint64)
    expected: list[list[int]] = []
    for t in range(len(clocks) + LATENCY):
        write, read = clocks[t] if t < len(clocks) else (None, None)
        shown = write or Write(rng.randrange(64), rng.randrange(16 // rows), rng.getrandbits(64))
        used = read or random_access(rng, rng.randrange(64))
        block.set(
            w_enable=write is not None,
            w_addr=shown.addr,
            w_word_line=shown.word_line,
            w_data=shown.data,
            enable=read is not None,
            addr=used.addr,
            activations=used.activations,
            signed_activations=used.signed_activations,
            wide=used.wide,
            low=used.low,
        )
        sums = np.zeros(KERNELS, np.int32)
        if read:
            sums = access(
                array[read.addr],
                np.uint64(read.activations),
                signed_activations=read.signed_activations,
                wide=read.wide,
                low=read.low,
            )
        expected.append(sums.tolist())
        if write:
            words = [write.data >> WORD_BITS * k & WORD_MASK for k in range(rows)]
            array[write.addr, write.word_line * rows : (write.word_line + 1) * rows] = words
        word = (await block.tick())["sums"]
        if t >= LATENCY:
            actual = [
                signed(word >> SUM_WIDTH * k & (1 << SUM_WIDTH) - 1, SUM_WIDTH)
                for k in range(KERNELS)
            ]
            check(f"clock {t}, {clocks[t - LATENCY]}: sums", expected[t - LATENCY], actual)


@cocotb.test()
async def extremes(dut) -> None:
    """The same weight and the same activation everywhere, in all modes."""
    clocks: list[Clock] = []
    pairs = [(value, NIBBLE) for value in NIBBLES] + [(value, 2 * NIBBLE) for value in BYTES]
    for number, (weight, width) in enumerate(pairs):
        addr = number * 5 % ADDRESSES
        word = repeated(weight, width)
        clocks += [(Write(addr, word_line, word), None) for word_line in range(WORD_LINES)]
        for activation in NIBBLES:
            word = repeated(activation, NIBBLE)
            clocks += [(None, Access(addr, word, *mode)) for mode in MODES]
    await stream(dut, clocks, random.Random(1))


@cocotb.test()
async def single_weights(dut) -> None:
    """Each weight alone, with different activations, so that none can stand for another."""
    rng = random.Random(2)
    clocks: list[Clock] = [(Write(0, word_line, 0), None) for word_line in range(WORD_LINES)]
    for word_line, column in itertools.product(range(WORD_LINES), range(KERNELS)):
        row = rng.randrange(1, 16) << NIBBLE * column
        clocks.append((Write(0, word_line, row), None))
        clocks += [(None, Access(0, rng.getrandbits(WORD_BITS), *mode)) for mode in MODES]
        alone = rng.randrange(1, 16) << NIBBLE * word_line
        clocks += [(None, Access(0, alone, *mode)) for mode in MODES]
        clocks.append((Write(0, word_line, 0), None))
    await stream(dut, clocks, rng)


@cocotb.test()
async def addresses(dut) -> None:
    """Each row of each address, one activation at a time, with and without gaps."""
    rng = random.Random(3)
    clocks = fill(rng)
    for addr, word_line in itertools.product(range(ADDRESSES), range(WORD_LINES)):
        alone = rng.randrange(1, 16) << NIBBLE * word_line
        clocks.append((None, Access(addr, alone, *rng.choice(MODES))))
        if rng.random() < 0.3:
            clocks += [(None, None)] * rng.randrange(1, 4)
    await stream(dut, clocks, rng)


@cocotb.test()
async def write_and_access(dut) -> None:
    """A write into the row that is accessed is seen from the next access on, no other one."""
    rng = random.Random(4)
    clocks = fill(rng)
    for word_line in range(WORD_LINES):
        for addr, distance in itertools.product((0, 1, 31, 32, 63), (0, 1, 2, 4, 8, 16, 32)):
            other = (addr + distance) % ADDRESSES
            write = Write(other, word_line, random_word(rng))
            clocks.append((write, random_access(rng, addr)))
            clocks.append((None, random_access(rng, other)))
            clocks.append((None, random_access(rng, addr)))
    await stream(dut, clocks, rng)


@cocotb.test()
async def random_accesses(dut) -> None:
    """Anything, with gaps, often at one address."""
    rng = random.Random(cocotb.RANDOM_SEED)
    clocks = fill(rng)
    for density in (1.0, 0.5, 0.1):
        for _ in range(1500):
            addr = rng.randrange(ADDRESSES)
            other = rng.choice((addr, rng.randrange(ADDRESSES)))
            write = Write(other, rng.randrange(WORD_LINES), random_word(rng))
            clocks.append(
                (
                    write if rng.random() < 0.5 else None,
                    random_access(rng, addr) if rng.random() < density else None,
                )
            )
    await stream(dut, clocks, rng)


@cocotb.test()
async def rows_at_once(dut) -> None:
    """The macro behind a weight SRAM: four neighbouring word lines are written together."""
    rng = random.Random(7)
    clocks: list[Clock] = [
        (Write(addr, part, rng.getrandbits(ROWS_PER_COPY * WORD_BITS)), None)
        for addr in range(ADDRESSES)
        for part in range(WORD_LINES // ROWS_PER_COPY)
    ]
    for _ in range(500):
        addr, part = rng.randrange(ADDRESSES), rng.randrange(WORD_LINES // ROWS_PER_COPY)
        write = Write(addr, part, rng.getrandbits(ROWS_PER_COPY * WORD_BITS))
        other = rng.choice((addr, rng.randrange(ADDRESSES)))
        clocks.append((write if rng.random() < 0.5 else None, random_access(rng, other)))
    await stream(dut, clocks, rng, rows=ROWS_PER_COPY)
