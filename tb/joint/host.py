"""Drives a chip with both halves over its registers."""

from cocotb.triggers import RisingEdge
from cocotb.utils import get_sim_time

from model.config import ChipConfig
from model.npu import layout
from model.npu.image import records
from model.npu.network import Network
from model.registers import register_map
from tb.host import CLOCK_NS
from tb.joint.cosim import BridgeResult
from tb.joint.memory import WeightMemory
from tb.mars.cosim import Job
from tb.mars.host import INPUT_BASE, PROGRAM_BASE, MarsHost

ENABLE, IRQ_ENABLE = 1 << 0, 1 << 1
DONE = 1 << 1
FIRST_REQUEST = 2
"""Clocks from the start of a frame."""


class JointHost(MarsHost):
    """Runs frames whose results go over the bridge.

    Parameters
    ----------
    dut : kenyon
    config : ChipConfig
    """

    def __init__(self, dut, config: ChipConfig) -> None:
        super().__init__(dut, config.mars)
        self.config = config
        self.addresses = register_map(config)
        self.memory = WeightMemory(dut, config.mars.weight_bus // 8)

    async def reset(self) -> None:
        """Nobody sends events, and spikes are always taken."""
        self.dut.s_axis_events_tvalid.value = 0
        self.dut.s_axis_events_tlast.value = 0
        self.dut.m_axis_spikes_tready.value = 1
        await super().reset()

    async def write_job(self, job: Job) -> None:
        """Put a frame into the memory, and what it needs into registers and tables."""
        self.memory.regions = {INPUT_BASE: job.packets, PROGRAM_BASE: job.program}
        await self.set_lines(job.n_packet_lines, job.n_program_lines)
        await self.set_job(job)

    async def elapsed(self) -> tuple[int, int]:
        """Clocks from the start of the next frame to the interrupt, and when that came, in ns.

        To be awaited before the frame's first request.
        """
        await RisingEdge(self.dut.m_axi_weights_arvalid)
        begin = int(get_sim_time("ns"))
        if not self.dut.irq.value:
            await RisingEdge(self.dut.irq)
        end = int(get_sim_time("ns"))
        return (end - begin) // CLOCK_NS + FIRST_REQUEST, end

    async def load(self, network: Network, registers: dict[str, int], entries: list[int]) -> None:
        """Write a network, the bridge's entries and registers, and switch it on."""
        for record in records(network, self.config.npu):
            await self.write(record.address, record.words.tolist())
        await self.write(self.addresses["bridge_entries"], entries)
        for name, value in registers.items():
            await self.write(self.addresses[name], [value])
        await self.write(self.addresses["bridge.CONTROL"], [ENABLE | IRQ_ENABLE])

    async def bridge_result(self, network: Network, elapsed: tuple[int, int]) -> BridgeResult:
        """What the bridge shows behind what `elapsed` returned; its flag is cleared."""
        names = ("STATUS", "CLOCKS", "WINNER")
        status, clocks, winner = [
            await self.read(self.addresses[f"bridge.{name}"]) for name in names
        ]
        await self.write(self.addresses["bridge.STATUS"], [DONE])
        counts = [
            await self.read(self.addresses["bridge_counts"] + 4 * k)
            for k in range(self.config.npu.n_neurons)
        ]
        bias = []
        for p, n in enumerate(network.populations):
            first = self.addresses[f"neurons[{p}]"] + 4 * layout.BIAS_WORD
            step = 4 * layout.WORDS_PER_NEURON
            bias += [await self.read(first + step * k) for k in range(n)]
        took, decided = elapsed
        who = winner & 0xFFF, winner >> 16
        return BridgeResult(status, clocks, took, who, tuple(counts), tuple(bias), decided)
