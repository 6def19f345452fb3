"""The memory for whole frames: what it holds, when it answers, and what it says it did."""

import os
import random
from pathlib import Path

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge
from cocotb.utils import get_sim_time

from hw.mars.regions import LINE_ADDR_WIDTH
from model.mars.config import CONFIGS, LINE_BYTES
from model.mars.memory import BURST_LINES, LineSource, RecordedLines, frame_regions
from tb.bench import CLOCK_NS, check

CONFIG = CONFIGS[os.environ["KENYON_MARS_CONFIG"]]
SETTING = {name: str(value) for name, value in cocotb.plusargs.items()}
INPUT_BASE, PROGRAM_BASE = (int(SETTING[f"{name}_base"], 16) for name in ("input", "program"))
LATENCY = int(SETTING["latency"])
PAUSES = "pause" in SETTING
LIMIT = 100_000


def write_files(rng: random.Random, n_input: int, n_program: int) -> list[int]:
    """Random contents; the lines in order."""
    lines = []
    for name, n_lines in (("input", n_input), ("program", n_program)):
        data = rng.randbytes(LINE_BYTES * n_lines)
        Path(SETTING[name]).write_bytes(data)
        lines += [
            int.from_bytes(data[k : k + LINE_BYTES], "little")
            for k in range(0, len(data), LINE_BYTES)
        ]
    return lines


class System:
    """Reader and memory after reset."""

    def __init__(self, dut) -> None:
        self.dut = dut
        self.edge = RisingEdge(dut.clk)
        self.input_base, self.program_base = INPUT_BASE, PROGRAM_BASE
        self.n_beats = 0
        """In the file of arrivals so far."""

    async def start(self) -> None:
        """Clock and reset."""
        dut = self.dut
        Clock(dut.clk, CLOCK_NS, "ns").start()
        for port in (dut.reload, dut.start, dut.stop, dut.clear, dut.lines_ready):
            port.value = 0
        dut.regions_valid.value = 0
        dut.rst.value = 1
        await ClockCycles(dut.clk, 3)
        dut.rst.value = 0
        self.n_beats = len(self.beats())

    async def reload(self) -> None:
        """Have the files read."""
        self.dut.reload.value = 1
        await self.edge
        self.dut.reload.value = 0
        await self.edge

    def beats(self) -> list[int]:
        """Clocks of all beats since the simulation began."""
        return np.fromfile(SETTING["arrivals"], "<u4").astype(int).tolist()

    async def run(
        self, lines: list[int], n_input: int, n_program: int, gaps: list[int]
    ) -> tuple[list[int], int]:
        """A frame up to its end; clocks in which lines came, and the number of errors."""
        dut = self.dut
        regions = [(self.input_base, n_input), (self.program_base, n_program)]
        dut.start.value = 1
        taken: list[int] = []
        n_errors, quiet, first = 0, 0, 0
        for clock in range(LIMIT):
            k = len(taken)
            ready = k < len(lines) and clock >= (taken[-1] if taken else 0) + gaps[k]
            dut.lines_ready.value = ready
            dut.regions_valid.value = bool(regions)
            if regions:
                base, n_lines = regions[0]
                dut.regions_payload.value = n_lines << LINE_ADDR_WIDTH | base // LINE_BYTES
            await self.edge
            if regions and dut.regions_ready.value:
                del regions[0]
            if clock == 0:
                first = round(get_sim_time("ns")) // CLOCK_NS
            dut.start.value = 0
            if dut.lines_valid.value and ready:
                check(f"line {k}", lines[k], int(dut.lines_payload.value))
                taken.append(clock)
            n_errors += int(dut.error.value)
            quiet = 0 if dut.busy.value or dut.lines_valid.value else quiet + 1
            if quiet > 10:
                break
        else:
            raise AssertionError("no end")
        beats = self.beats()
        arrivals = [beat - first for beat in beats[self.n_beats :]][CONFIG.beats_per_line - 1 :]
        self.n_beats = len(beats)
        sources = [RecordedLines(arrivals[:: CONFIG.beats_per_line])]
        if not PAUSES:
            sources.append(LineSource(CONFIG, frame_regions(n_input, n_program), LATENCY))
        for source in sources:
            last = 0
            for k, clock in enumerate(taken):
                last = source.take(last + gaps[k])
                check(f"{type(source).__name__}: clock of line {k}", last, clock)
        return taken, n_errors


@cocotb.test()
async def frames(dut) -> None:
    """Both files, new ones after `reload`, every line in the model's clock."""
    rng = random.Random(cocotb.RANDOM_SEED)
    system = System(dut)
    await system.start()
    for n_input, n_program in ((1, 0), (9, 75), (0, 8), (30, 400), (3, 20)):
        lines = write_files(rng, n_input, n_program)
        await system.reload()
        for gaps in (1, 8):
            taken, n_errors = await system.run(lines, n_input, n_program, [gaps] * len(lines))
            check("lines", len(lines), len(taken))
            check("errors", 0, n_errors)


@cocotb.test()
async def random_consumer(dut) -> None:
    """Pauses of all lengths."""
    rng = random.Random(cocotb.RANDOM_SEED)
    system = System(dut)
    await system.start()
    lines = write_files(rng, 11, 190)
    await system.reload()
    for _ in range(6):
        gaps = [rng.choice((1, 1, 1, 2, 9, 90)) for _ in lines]
        taken, _ = await system.run(lines, 11, 190, gaps)
        check("lines", len(lines), len(taken))


@cocotb.test()
async def errors(dut) -> None:
    """One after the end of a file, and the one that was asked for."""
    rng = random.Random(cocotb.RANDOM_SEED)
    system = System(dut)
    await system.start()
    lines = write_files(rng, 10, 10)
    await system.reload()
    for n_input, n_program, n_good in ((11, 0, 10), (10, 40, 20), (3, 12, 13), (4, 10, 14)):
        expected = lines[: min(n_input, 10)] + lines[10:]
        taken, n_errors = await system.run(expected, n_input, n_program, [1] * 20)
        check("lines", n_good, len(taken))
        check("errors", int(n_good < n_input + n_program), n_errors)
    if "error_addr" in SETTING:
        k = (int(SETTING["error_addr"], 16) - PROGRAM_BASE) // LINE_BYTES
        lines = write_files(rng, 4, k + 20)
        await system.reload()
        taken, n_errors = await system.run(lines, 4, k + 20, [1] * len(lines))
        check("lines and errors", (4 + k, 1), (len(taken), n_errors))
        # No other beat: the burst behind it is read.
        behind = -(-(k + 1) // BURST_LINES) * BURST_LINES
        system.program_base = PROGRAM_BASE + LINE_BYTES * behind
        lines = lines[4 + behind :][:BURST_LINES]
        taken, n_errors = await system.run(lines, 0, 8, [1] * 8)
        check("lines and errors behind it", (8, 0), (len(taken), n_errors))
