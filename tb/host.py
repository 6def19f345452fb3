"""A light driver of the chip's ports: few Python steps per clock, so that long runs are quick.

Protocol conformance is what the benches in `tb.bus` check, with standard bus models.
"""

import random
from collections.abc import Iterable

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, First, RisingEdge, Timer, ValueChange

from model.npu import events
from model.npu.config import NPUConfig
from model.npu.image import bias_records, records
from model.npu.network import Network, Segment
from model.npu.registers import register_map

CLOCK_NS = 10
START, EVENT_SYNC, IRQ_ENABLE = 1 << 0, 1 << 3, 1 << 4
DONE = 1 << 1


class AXILiteHost:
    """Reads and writes registers and memories; an error response fails the bench."""

    def __init__(self, dut) -> None:
        self.dut = dut
        Clock(dut.clk, CLOCK_NS, "ns").start()
        self._watch = None

    async def reset(self) -> None:
        """The bus idle, two clocks of reset."""
        dut = self.dut
        for name in ("awvalid", "wvalid", "arvalid", "awprot", "arprot"):
            getattr(dut, f"s_axil_{name}").value = 0
        dut.s_axil_bready.value = 1
        dut.s_axil_rready.value = 1
        dut.s_axil_wstrb.value = 0b1111
        dut.rst.value = 1
        await ClockCycles(dut.clk, 2)
        dut.rst.value = 0
        await RisingEdge(dut.clk)
        # Before its first reset a chip may answer anything.
        self._watch = self._watch or cocotb.start_soon(self._refuse_error_responses())

    async def _refuse_error_responses(self) -> None:
        while True:
            await First(ValueChange(self.dut.s_axil_bresp), ValueChange(self.dut.s_axil_rresp))
            assert not self.dut.s_axil_bresp.value, "a write was answered with SLVERR"
            assert not self.dut.s_axil_rresp.value, "a read was answered with SLVERR"

    async def write(self, address: int, words: Iterable[int]) -> None:
        """Write consecutive words."""
        dut = self.dut
        dut.s_axil_awvalid.value = 1
        dut.s_axil_wvalid.value = 1
        edge = RisingEdge(dut.clk)
        ready = dut.s_axil_awready
        for word in words:
            dut.s_axil_awaddr.value = address
            dut.s_axil_wdata.value = word
            address += 4
            await edge
            while not ready.value:
                await edge
        dut.s_axil_awvalid.value = 0
        dut.s_axil_wvalid.value = 0
        # The last answer arrives five clocks after its request, and may have had to wait; what
        # stands now is that of the word before.
        await edge
        while not dut.s_axil_bvalid.value:
            await edge

    async def read(self, address: int) -> int:
        """Read one word."""
        dut = self.dut
        dut.s_axil_arvalid.value = 1
        dut.s_axil_araddr.value = address
        edge = RisingEdge(dut.clk)
        await edge
        while not dut.s_axil_arready.value:
            await edge
        dut.s_axil_arvalid.value = 0
        while not dut.s_axil_rvalid.value:
            await edge
        return int(dut.s_axil_rdata.value)

    async def wait_for_irq(self, most_clocks: int) -> None:
        """Until the chip has finished; fails if it takes more than so many clocks."""
        if not self.dut.irq.value:
            done = RisingEdge(self.dut.irq)
            fired = await First(done, Timer(most_clocks * CLOCK_NS, "ns"))
            assert fired is done, f"no end of the run after {most_clocks} clocks: the chip hangs"


class Host(AXILiteHost):
    """Loads networks into the chip and runs them over its AXI ports."""

    def __init__(self, dut, config: NPUConfig) -> None:
        super().__init__(dut)
        self.config = config
        self.addresses = register_map(config)

    async def reset(self) -> None:
        """All inputs idle, two clocks of reset."""
        self.dut.s_axis_events_tvalid.value = 0
        self.dut.s_axis_events_tlast.value = 0
        self.dut.m_axis_spikes_tready.value = 1
        await super().reset()

    async def load(self, network: Network) -> None:
        """Write a network's image, record by record."""
        for record in records(network, self.config):
            await self.write(record.address, record.words.tolist())

    async def run(self, network: Network, segment: Segment) -> None:
        """Set the biases of a segment and run its steps; returns when all spikes have left."""
        for record in bias_records(network, self.config, segment.bias):
            await self.write(record.address, record.words.tolist())
        await self.write(self.addresses["RUN_STEPS"], [segment.steps])
        sync = EVENT_SYNC if len(network.events) else 0
        await self.write(self.addresses["CONTROL"], [START | IRQ_ENABLE | sync])
        # Even with every row of every population in every step, and pauses, it ends before this.
        worst = (self.config.max_rows + 20) * self.config.n_groups * 20 * segment.steps
        await self.wait_for_irq(worst)
        await self.write(self.addresses["STATUS"], [DONE])

    async def send_events(self, network: Network) -> None:
        """Send all events in time, and a fence behind the last step."""
        dut = self.dut
        clock = RisingEdge(dut.clk)
        beats = []
        for step, axon in network.events.tolist():
            p = int(network.population_of_axon(axon))
            beats.append(events.beat(step, p, axon - network.axon_slice(p).start))
        beats.append(events.beat(network.n_steps, 0, 0, fence=True))
        dut.s_axis_events_tvalid.value = 1
        for beat in beats:
            dut.s_axis_events_tdata.value = beat
            await clock
            while not dut.s_axis_events_tready.value:
                await RisingEdge(dut.s_axis_events_tready)
                await clock
        dut.s_axis_events_tvalid.value = 0

    async def pause_spikes(self, probability: float, seed: int) -> None:
        """Back pressure on the spike stream: not ready with this probability, in random bursts."""
        rng = random.Random(seed)
        while True:
            self.dut.m_axis_spikes_tready.value = rng.random() >= probability
            await ClockCycles(self.dut.clk, rng.randint(1, 6))
