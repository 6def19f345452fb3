"""Rows of maps in eight macros against the golden machine: reads, results, places, every clock."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

import cocotb
import numpy as np

from hw.mars.drain import PIXEL
from hw.mars.row_unit import row_results
from model.mars.clocks import ROW_DRAIN_AFTER, Work, work_of
from model.mars.config import CONFIGS, KERNELS
from model.mars.layout import ROW_PHASES, Descriptor, Ints, bits_of, pack_descriptor
from model.mars.machine import Machine, PassResult
from model.mars.mapper import compile_network
from model.mars.program import KernelBlock
from model.mars.random_attention import random_attention_network
from model.mars.random_network import random_input
from tb.bench import Block, Fields, check, post_lanes, with_lanes
from tb.blocks import ROW_MACROS

MARS = replace(CONFIGS["mars"], post_lanes=post_lanes())
OUTPUTS = ("last_step", "addr", "pixel", "header_slot", "results", "headers_freed", "last_word")
PIXEL_BITS, RESULT_BITS = Fields(PIXEL), Fields(row_results(post_lanes()))
SLOTS = 1 << 9
SEEDS = range(1, 17)
APART = (1,) if post_lanes() < KERNELS else (1, 2, 4)
"""Pixels between sums and results of these networks."""


class Recorder(Machine):
    """Keeps what rows give post-processing."""

    def __init__(self) -> None:
        super().__init__(MARS)
        self.accs: list[Ints] = []

    def _requantise(self, d: Descriptor, block: KernelBlock, acc: Ints, skip: Ints) -> Ints:
        self.accs.append(acc)
        return super()._requantise(d, block, acc, skip)


@dataclass(frozen=True)
class Pass:
    """A pass of rows, the memories that it finds, and what comes of it.

    Parameters
    ----------
    descriptor : Descriptor
    work : Work
    banks : (macros, words) uint64
    accs : (pixels, blocks, 16) int64
    result : PassResult
    """

    descriptor: Descriptor
    work: Work
    banks: np.ndarray
    accs: Ints
    result: PassResult


def passes() -> Iterator[Pass]:
    """Those of random networks."""
    for seed in SEEDS:
        network = random_attention_network(seed, max_tokens=60, max_channels=48)
        image = compile_network(network, MARS)
        machine = Recorder()
        banks = machine.banks.copy()
        packet = image.packet(random_input(network, seed)[0])
        for one, result in machine.frame(packet, image.passes):
            d = one.descriptor
            if d.is_row:
                accs = np.stack(machine.accs, axis=1)
                yield Pass(d, work_of(one, MARS), banks, accs, result)
            banks = machine.banks.copy()
            machine.accs = []


def moved(one: Pass, rng: random.Random) -> Pass:
    """The same pass with its map elsewhere in the memories, and gaps between bands of results."""
    d, n_words = one.descriptor, MARS.feature_words
    by, gap = rng.randrange(0, n_words, 2), rng.randrange(1, 1 << 10)
    bases = tuple((base + by) % n_words for base in d.in_base)
    writes = one.result.writes
    offset = writes.offset + writes.row // d.rows_per_team * gap
    return replace(
        one,
        descriptor=replace(d, in_base=bases, team_out_pitch=d.team_out_pitch + gap),
        banks=np.roll(one.banks, by, axis=1),
        result=replace(one.result, writes=replace(writes, offset=offset)),
    )


class Bench:
    """Memories beside the unit, which answer only what they are asked."""

    def __init__(self, dut, rng: random.Random) -> None:
        reads = tuple(f"read_{k}" for k in range(ROW_MACROS))
        self.block = Block(dut, with_lanes("rows"), (*OUTPUTS, *reads))
        self.rng = rng
        self.stays = [0] * ROW_MACROS

    async def run(self, one: Pass) -> None:
        """A pass, every clock."""
        d, work, rng = one.descriptor, one.work, self.rng
        slot, name = rng.randrange(SLOTS), str(d)
        self.block.set(descriptor=bits_of(pack_descriptor(d)), slot=slot, stepping=0)
        await self.clock(one)
        n_reads = 0
        for clock in range(work.row_steps + ROW_DRAIN_AFTER + 3):
            self.block.set(stepping=clock < work.row_steps)
            seen = await self.clock(one)
            n_reads += sum(seen[f"read_{k}"] for k in range(ROW_MACROS))
            check(f"clock {clock}: last_step", clock == work.row_steps - 1, seen["last_step"])
            self.look(one, slot, clock, seen, f"{name}, clock {clock}")
        check("reads", ROW_PHASES[d.function] * one.accs.shape[0] * d.row_blocks, n_reads)

    async def clock(self, one: Pass) -> dict[str, int]:
        """A clock; what is read comes in the next one, and stays if it has several turns."""
        seen = await self.block.tick()
        rng, n_words = self.rng, MARS.feature_words
        address = seen["addr"] % n_words
        for k in range(ROW_MACROS):
            data, upper = rng.getrandbits(64), rng.getrandbits(64)
            if seen[f"read_{k}"]:
                data, upper = int(one.banks[k, address]), int(one.banks[k, address | 1])
                self.stays[k] = MARS.turns - 1
            elif self.stays[k]:
                self.stays[k] -= 1
                continue
            self.block.set(**{f"data_{k}": data, f"upper_{k}": upper})
        return seen

    def look(
        self, one: Pass, slot: int, clock: int, seen: dict[str, int | None], where: str
    ) -> None:
        """What comes out in a clock of the pass."""
        d = one.descriptor
        n_pixels, n_blocks, _ = one.accs.shape
        n_steps = n_blocks * MARS.turns

        def drained(at: int) -> int | None:
            """The number of the turn of a pixel that is drained in a clock, if there is one."""
            slots, step = divmod(at - ROW_DRAIN_AFTER, one.work.row_clocks)
            pixel = slots - (ROW_PHASES[d.function] - 2 + one.work.rows_apart)
            turn = step - (one.work.row_clocks - n_steps)
            return pixel * n_steps + turn if 0 <= pixel < n_pixels and turn >= 0 else None

        last = n_pixels * n_steps - 1
        now, before, results = (drained(clock - after) for after in range(3))
        pixel = PIXEL_BITS.read(seen["pixel"])
        begins = now is not None and now % MARS.turns == 0
        check(f"{where}: valid", begins, pixel["valid"])
        check(f"{where}: last_word", now == last, seen["last_word"])
        if now is not None and begins:
            first = now // MARS.turns * d.out_planes
            place = one.result.writes.row[first], one.result.writes.offset[first]
            check(f"{where}: place", place, (pixel["row"], pixel["offset"]))
        freed = d.n_kernel_blocks if before == last else 0
        check(f"{where}: headers_freed", freed, seen["headers_freed"])
        if before is not None:
            number = before // MARS.turns % n_blocks % d.n_kernel_blocks
            header = (slot - d.n_kernel_blocks + 1 + number) % SLOTS
            check(f"{where}: header_slot", header, seen["header_slot"])
        if results is not None:
            expected = one.accs.reshape(-1, post_lanes())[results].tolist()
            found = list(RESULT_BITS.read(seen["results"]).values())
            check(f"{where}: results", expected, found)


@cocotb.test()
async def random_passes(dut) -> None:
    """Passes one behind the other; among them one, two and eight teams, bands that are not full."""
    bench = Bench(dut, random.Random(1))
    await bench.block.start(stepping=0)
    kinds = set()
    for one in passes():
        d = one.descriptor
        kinds.add(("function", d.function))
        kinds.add(("teams", d.n_teams))
        kinds.add(("nibbles", 1 + d.in_two))
        kinds.add(("cut", d.n_rows < d.n_teams * d.rows_per_team))
        kinds.add(("blocks", min(d.row_blocks, 3)))
        kinds.add(("apart", one.work.rows_apart))
        await bench.run(moved(one, bench.rng))
    wanted = {("function", k) for k in ROW_PHASES} | {("nibbles", k) for k in (1, 2)}
    wanted |= {("cut", k) for k in (False, True)} | {("blocks", k) for k in (1, 2, 3)}
    wanted |= {("teams", k) for k in (1, 8)} | {("apart", k) for k in APART}
    check("kinds", set(), wanted - kinds)
