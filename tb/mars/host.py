"""Drives the accelerator over its registers."""

from cocotb.triggers import ClockCycles

from model.mars.config import MarsConfig
from model.mars.registers import register_map
from tb.host import AXILiteHost
from tb.mars.cosim import Job, JobResult

START, IRQ_ENABLE = 1 << 0, 1 << 2
ALL_FLAGS = 0b1110
INPUT_BASE, PROGRAM_BASE = 0, 1 << 24


class MarsHost(AXILiteHost):
    """Runs frames whose packet and program lie in memory.

    Parameters
    ----------
    dut : kenyon or mars_system
    config : MarsConfig
    """

    def __init__(self, dut, config: MarsConfig) -> None:
        super().__init__(dut)
        self.addresses = register_map(config)

    async def register(self, name: str) -> int:
        """Read a register of the accelerator."""
        return await self.read(self.addresses[f"mars.{name}"])

    async def set(self, name: str, value: int) -> None:
        """Write a register of the accelerator."""
        await self.write(self.addresses[f"mars.{name}"], [value])

    async def frame(self, n_input_lines: int, n_program_lines: int, most_clocks: int) -> int:
        """Compute a frame; returns STATUS, its flags cleared."""
        await self.set_lines(n_input_lines, n_program_lines)
        return await self.ended(START | IRQ_ENABLE, most_clocks)

    async def set_lines(self, n_input_lines: int, n_program_lines: int) -> None:
        """Say where packet and program lie."""
        await self.set("INPUT_BASE", INPUT_BASE)
        await self.set("INPUT_LINES", n_input_lines)
        await self.set("PROGRAM_BASE", PROGRAM_BASE)
        await self.set("PROGRAM_LINES", n_program_lines)

    async def ended(self, control: int, most_clocks: int) -> int:
        """Start a frame and wait for the interrupt; returns STATUS, its flags cleared."""
        await self.set("CONTROL", control)
        await self.wait_for_irq(most_clocks)
        status = await self.register("STATUS")
        await self.set("STATUS", ALL_FLAGS)
        return status

    async def set_job(self, job: Job) -> None:
        """Write the registers and tables that a frame needs."""
        for name, value in job.registers.items():
            await self.set(name, value)
        for first, words in job.tables.items():
            await self.set_exit_words(first, words)

    async def result(self, job: Job, status: int, seconds: float) -> JobResult:
        """Read what there is behind a frame."""
        names = ("FRAME_CLOCKS", "WEIGHT_STALLS", "DRAIN_STALLS", "LAYER_STALLS")
        counters = [await self.register(name) for name in names]
        words = await self.features(0, job.address, job.n_words)
        steps = await self.register("STEPS_TAKEN")
        logits = await self.logits(job.n_logits)
        return JobResult(status, *counters, tuple(words), seconds, steps, tuple(logits))

    async def set_exit_words(self, first: int, words: list[int]) -> None:
        """Write words of the exit unit's tables."""
        await self.write(self.addresses["exit_tables"] + 4 * first, words)

    async def logits(self, n: int) -> list[int]:
        """Logits of the last step that the exit unit decided, signed."""
        read = [await self.read(self.addresses["exit_tables"] + 4 * k) for k in range(n)]
        return [word - (word >> 31 << 32) for word in read]

    async def features(self, macro: int, address: int, n_words: int) -> list[int]:
        """Words of 64 bit out of a feature memory."""
        first = self.addresses[f"features[{macro}]"] + 8 * address
        halves = [await self.read(first + 4 * k) for k in range(2 * n_words)]
        return [low | high << 32 for low, high in zip(halves[::2], halves[1::2], strict=True)]


class SystemHost(MarsHost):
    """Also has the memory of `mars_system` read its files."""

    async def reset(self) -> None:
        """Also of the memory."""
        self.dut.reload.value = 0
        await super().reset()

    async def reload(self) -> None:
        """The memory reads its files again."""
        self.dut.reload.value = 1
        await ClockCycles(self.dut.clk, 1)
        self.dut.reload.value = 0
        await ClockCycles(self.dut.clk, 1)
