"""The exit unit against `model.mars.early_exit`: decisions, logits and every clock."""

import random
from bisect import bisect_left
from dataclasses import replace
from functools import partial

import cocotb
import numpy as np

from hw.mars.exit_unit import SETTINGS
from model.mars.early_exit import (
    MAX_CLASSES,
    ExitRegisters,
    ExitUnit,
    exit_clocks,
    exit_registers,
    is_sure,
    never,
    tables,
)
from model.mars.layout import MAX_STEPS
from model.mars.machine import nibble_plane
from model.mars.neuron import Exit
from tb.bench import Block, check, signed

Ints = np.ndarray
OUTPUTS = ("read", "read_addr", "done", "stops", "taken", "sum_data")
LARGEST = 2**31 - 1


class Bench:
    """The unit with a feature memory."""

    def __init__(self, dut, rng: random.Random) -> None:
        self.block = Block(dut, "exit_unit", OUTPUTS)
        self.rng = rng
        self.memory: dict[int, int] = {}

    async def tick(self, **inputs: int) -> dict[str, int]:
        """One clock; the memory answers in the next one."""
        self.block.set(**inputs)
        seen = await self.block.tick()
        word = self.memory.get(seen["read_addr"], 0) if seen["read"] else self.rng.getrandbits(64)
        self.block.set(read_data=word)
        return seen

    async def load(self, registers: ExitRegisters) -> None:
        """The host writes the tables."""
        for first, words in tables(registers).items():
            for k, word in enumerate(words.tolist()):
                await self.tick(table_write=1, table_addr=first + k, table_data=word)
        await self.tick(table_write=0)

    def put(self, base: int, block_log2: int, logits: Ints) -> None:
        """Logits (steps, classes) as post-processing stores them."""
        self.memory = {}
        n_steps, n_classes = logits.shape
        padded = np.zeros((n_steps, -(-n_classes // 16) * 16), np.int64)
        padded[:, :n_classes] = logits
        for step in range(n_steps):
            for block in range(padded.shape[1] // 16):
                values = padded[step, 16 * block : 16 * block + 16]
                for plane in range(8):
                    address = base + (block << block_log2) + 8 * step + plane
                    self.memory[address % (1 << 16)] = int(nibble_plane(values, plane))

    async def frame(self, registers: ExitRegisters, logits: Ints, chunk: int) -> None:
        """All steps (steps, classes), chunk by chunk, until the unit stops."""
        rng = self.rng
        n_steps, n_classes = logits.shape
        block_log2 = 3 + (chunk - 1).bit_length()
        base = rng.randrange(1 << 16)
        settings = {
            "is_entropy": registers.is_entropy,
            "n_classes": n_classes,
            "base": base,
            "block_log2": block_log2,
            "limit": registers.limit,
        }
        self.block.set(
            settings=SETTINGS.const(settings).as_value().value, n_steps=chunk, last_step=n_steps
        )
        golden = ExitUnit(registers)
        before = np.zeros(n_classes, np.int64)
        for first in range(0, n_steps, chunk):
            part = logits[first : first + chunk].cumsum(axis=0)
            self.put(base, block_log2, part)
            stops = golden.stops(part)
            await self.tick(go=1, first_step=first)
            clocks = exit_clocks(n_classes, golden.taken - first)
            for clock in range(1, clocks + 1):
                seen = await self.tick(go=0)
                check(f"done in clock {clock} of {clocks}", int(clock == clocks), seen["done"])
            check(f"stops behind step {golden.taken}", int(stops), seen["stops"])
            check("steps taken", golden.taken, seen["taken"])
            before = before + part[golden.taken - first - 1]
            for k in rng.sample(range(n_classes), min(n_classes, 4)):
                await self.tick(sum_read=1, sum_addr=k)
                seen = await self.tick(sum_read=0)
                check(f"logit {k}", int(before[k]), signed(seen["sum_data"], 32))
            if stops:
                return
        raise AssertionError("the last step must stop")


async def begin(dut, seed: int) -> Bench:
    """The unit, idle."""
    bench = Bench(dut, random.Random(seed))
    await bench.block.start(go=0, table_write=0, sum_read=0)
    return bench


def random_exit(rng: random.Random) -> Exit:
    """Any exit."""
    return Exit(
        metric=rng.choice(("confidence", "entropy")),
        mode=rng.choice(("sum", "mean")),
        threshold=rng.choice((0.1, 0.5, 0.9, 0.99, rng.uniform(0.01, 0.99))),
        scale=2.0 ** rng.uniform(-12, 2),
    )


@cocotb.test()
async def random_frames(dut) -> None:
    """Metrics, modes, classes, steps and chunks; distances about where decisions change."""
    bench = await begin(dut, 1)
    rng = bench.rng
    for _ in range(40):
        n_classes = rng.choice((2, 3, 10, 16, 17, 40))
        chunk = rng.randint(1, MAX_STEPS)
        n_steps = rng.randint(1, chunk if chunk > 4 else 3 * chunk)
        stop = random_exit(rng)
        registers = exit_registers(stop, n_steps, n_classes)
        size = max(1, min(2**26, round(rng.choice((0.5, 2, 8, 30)) / stop.scale)))
        logits = np.array(
            [[rng.randint(-size, size) for _ in range(n_classes)] for _ in range(n_steps)]
        )
        await bench.load(registers)
        await bench.frame(registers, logits, chunk)


@cocotb.test()
async def most_classes(dut) -> None:
    """All equal, and one ahead: the sums are as large and as small as they get."""
    bench = await begin(dut, 2)
    for metric in ("confidence", "entropy"):
        stop = Exit(metric=metric, mode="sum", threshold=0.5, scale=0.01)
        registers = exit_registers(stop, 2, MAX_CLASSES)
        await bench.load(registers)
        equal = np.zeros((2, MAX_CLASSES), np.int64)
        await bench.frame(registers, equal, 2)
        equal[0, -1] = 5000
        await bench.frame(registers, equal, 1)


@cocotb.test()
async def ends_of_logits(dut) -> None:
    """The largest distance that there is, and the largest factors."""
    bench = await begin(dut, 3)
    for mult, shift in ((0xFFFF, 1), (0xFFFF, 47), (1, 1), (0x8000, 16), (0x8000, 33)):
        registers = ExitRegisters(False, (mult,) * 2, (shift,) * 2, 100_000)
        await bench.load(registers)
        await bench.frame(registers, np.array([[-LARGEST - 1, LARGEST], [0, 0]]), 1)


@cocotb.test()
@cocotb.parametrize(metric=["confidence", "entropy"])
async def limits_to_one(dut, metric: str) -> None:
    """The lowest limit that stops does, one less does not; sums with all sorts of logarithms."""
    bench = await begin(dut, 4)
    stop = Exit(metric=metric, mode="sum", threshold=0.9, scale=1 / 64)
    registers = exit_registers(stop, 2, 3)
    for first in ([100, 70, 0], [100, 99, 90], [100, 60, 60]):
        logits = np.array([first, [0, 0, 0]])
        sure = partial(is_sure, logits=logits[0], step=1)
        limit = bisect_left(range(200_000), True, key=lambda k: sure(replace(registers, limit=k)))
        for changed in (replace(registers, limit=k) for k in (limit - 1, limit)):
            await bench.load(changed)
            await bench.frame(changed, logits, 1)


@cocotb.test()
async def any_last_step(dut) -> None:
    """The last step stops, whatever the bits of its number; no step before it does."""
    bench = await begin(dut, 5)
    for n_steps in (16, 33, 64):
        await bench.load(never(n_steps))
        await bench.frame(never(n_steps), np.zeros((n_steps, 2), np.int64), MAX_STEPS)
