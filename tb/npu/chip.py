"""A chip with NPU behind standard bus models: AXI4-Lite master, AXI4-Stream source and sink.

Everything goes through the ports that a user has; of the trace only the end of a step is used.
"""

import os
import random
from dataclasses import dataclass

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles, RisingEdge, with_timeout
from cocotbext.axi import (
    AxiResp,
    AxiStreamBus,
    AxiStreamFrame,
    AxiStreamSink,
    AxiStreamSource,
)

from model.config import CHIPS
from model.npu import events, layout
from model.npu.engine import Engine
from model.npu.image import bias_records, records
from model.npu.network import Network
from model.npu.random_network import random_network
from model.npu.registers import register_map
from model.npu.trace import Trace
from tb.bench import pauses
from tb.bus.master import Master

CHIP = CHIPS[os.environ["KENYON_CONFIG"]]
CONFIG = CHIP.npu
START, STOP, FREE_RUN, EVENT_SYNC, IRQ_ENABLE, CLEAR = (1 << bit for bit in range(6))
RUNNING, DONE, OVERRUN, LATE_EVENT, BAD_EVENT = (1 << bit for bit in range(5))
TIMEOUT_US = 20_000
TEST_TIMEOUT_US = 5_000 + CONFIG.n_populations * CONFIG.max_rows * CONFIG.n_neurons // 5
"""Far beyond the longest test and its loading of weights: a hang is a failure."""


async def keeps_its_word(dut, channel: str, payload: tuple[str, ...]) -> None:
    """VALID and what it stands for stay until READY takes them."""
    names = [f"{channel}{name}" for name in ("valid", "ready", *payload)]
    handles = [getattr(dut, name) for name in names]
    edge = RisingEdge(dut.clk)
    offered = None
    while True:
        await edge
        valid, ready, *now = (int(handle.value) for handle in handles)
        if offered is not None:
            assert valid, f"{channel}valid was withdrawn"
            assert now == offered, f"{channel}: {payload} must stay {offered}, not {now}"
        offered = now if valid and not ready else None


class Bus(Master):
    """The three bus models, the register names and a watch on the channels that the chip drives."""

    def __init__(self, dut, pause: float = 0.0) -> None:
        super().__init__(dut, register_map(CONFIG))
        stream = AxiStreamBus.from_prefix(dut, "s_axis_events")
        self.source = AxiStreamSource(stream, dut.clk, dut.rst)
        stream = AxiStreamBus.from_prefix(dut, "m_axis_spikes")
        self.sink = AxiStreamSink(stream, dut.clk, dut.rst)
        self.rng = random.Random(cocotb.RANDOM_SEED)
        if pause:
            write, read = self.master.write_if, self.master.read_if
            for channel in (
                write.aw_channel,
                write.w_channel,
                write.b_channel,
                read.ar_channel,
                read.r_channel,
                self.source,
                self.sink,
            ):
                channel.set_pause_generator(pauses(self.rng, pause))

    async def start(self) -> None:
        """Clock and reset; from then on every channel of the chip is watched."""
        await super().start()
        for channel, payload in (
            ("s_axil_b", ("resp",)),
            ("s_axil_r", ("data", "resp")),
            ("m_axis_spikes_t", ("data", "last")),
        ):
            cocotb.start_soon(keeps_its_word(self.dut, channel, payload))

    async def run(self, n_steps: int) -> None:
        """So many time steps, up to their end."""
        await self.set("RUN_STEPS", n_steps)
        await self.set("CONTROL", START | IRQ_ENABLE)
        await self.irq()

    async def load(self, network: Network) -> None:
        """Write the network's image."""
        for record in records(network, CONFIG):
            response = await self.write(record.address, record.words.astype("<u4").tobytes())
            assert response == AxiResp.OKAY, f"record at {record.address:#x} refused"

    async def set_biases(self, network: Network, bias: dict[int, int]) -> None:
        """Change external stimuli."""
        for record in bias_records(network, CONFIG, bias):
            word = record.words.astype("<u4").tobytes()
            assert await self.write(record.address, word) == AxiResp.OKAY

    async def send(self, step: int, population: int, index: int, fence: bool = False) -> None:
        """Queue one beat on the event stream."""
        beat = events.beat(step, population, index, fence)
        await self.source.send(AxiStreamFrame(beat.to_bytes(8, "little")))

    async def irq(self) -> None:
        """Wait for the end of the run."""
        if not self.dut.irq.value:
            await with_timeout(RisingEdge(self.dut.irq), TIMEOUT_US, "us")
        await self.set("STATUS", DONE)

    def spikes(self) -> list[tuple[int, int, int]]:
        """(step, population, neuron) of everything received; frames are time steps."""
        result = []
        while not self.sink.empty():
            frame = self.sink.recv_nowait()
            data = bytes(frame.tdata)
            beats = [int.from_bytes(data[k : k + 8], "little") for k in range(0, len(data), 8)]
            read = [events.read_beat(beat) for beat in beats]
            assert len({step for step, _, _ in read}) == 1, f"TLAST is misplaced: {read}"
            result += read
        return result


@dataclass
class Run:
    """The golden model, stepped as the chip runs."""

    network: Network
    engine: Engine
    parts: list[Trace]

    def steps(self, n_steps: int, silent: bool = False) -> None:
        """Run some steps; `silent` leaves the network's events out."""
        for _ in range(n_steps):
            t = self.engine.step_index
            axons = self.network.events_at(t, t + 1)[:, 1]
            self.parts.append(self.engine.step(axons[:0] if silent else axons))

    def spikes(self) -> list[tuple[int, int, int]]:
        """What the spike stream must carry."""
        network, result = self.network, []
        for part in self.parts:
            for neuron in np.flatnonzero(part.spikes[0]).tolist():
                p = int(network.population_of(np.array(neuron)))
                result.append((part.first_step, p, neuron - network.neuron_slice(p).start))
        return result

    def clocks(self) -> int:
        """Clocks of the last step."""
        return int(self.parts[-1].clocks[0])


def begin(network: Network) -> Run:
    """A fresh model."""
    return Run(network, Engine(network, CONFIG), [])


async def load(bus: Bus, network: Network) -> Run:
    """Load a network with the biases of its first segment; returns its model."""
    await bus.load(network)
    run = begin(network)
    bias = network.session[0].bias
    await bus.set_biases(network, bias)
    run.engine.set_bias(bias)
    return run


async def check_run(bus: Bus, run: Run) -> None:
    """All spikes; every neuron's state, the noise generators and the registers over the bus."""
    network, engine = run.network, run.engine
    await ClockCycles(bus.dut.clk, 5)
    assert bus.spikes() == run.spikes()
    for p, n in enumerate(network.populations):
        part = network.neuron_slice(p)
        response, data = await bus.read(bus.map[f"neurons[{p}]"], 16 * n)
        assert response == AxiResp.OKAY
        words = np.frombuffer(data, "<u4").reshape(n, layout.WORDS_PER_NEURON)
        state = layout.unpack(layout.STATE_FIELDS, words[:, layout.STATE_WORD])
        np.testing.assert_array_equal(state["v"], engine.v[part], "v")
        i_syn = layout.to_signed(state["i_syn"], 16)
        np.testing.assert_array_equal(i_syn, engine.i_syn[part], "i_syn")
        np.testing.assert_array_equal(state["spike"], engine.spikes[part], "spikes")
        assert await bus.get(f"population[{p}].NOISE_STATE") == engine.noise_states[p]
        saturated = any(part.saturated[0, p] for part in run.parts)
        assert await bus.get(f"population[{p}].SATURATED") == saturated
    assert await bus.get("STEP") == engine.step_index
    assert await bus.get("STEP_CLOCKS") == run.clocks()


def some_network(rng: np.random.Generator, *, with_events: bool) -> Network:
    """A random network that fires, with or without events."""
    while True:
        network = random_network(rng, CONFIG)
        enough = network.n_steps >= 10 and network.n_neurons <= 64
        if enough and bool(len(network.events)) == with_events:
            run = begin(network)
            run.steps(10)
            if run.spikes():
                return network


async def set_neurons(bus: Bus, bias: int) -> None:
    """Neurons without noise, force or synaptic input (tau is 1) in all groups.

    All of them fire in every step if `bias` is 256 or more, and none if it is 0.
    """
    neuron = (0, 1, bias, 0)
    words = np.array(neuron * CONFIG.n_neurons, "<u4").tobytes()
    for p in range(CONFIG.n_populations):
        assert await bus.write(bus.map[f"neurons[{p}]"], words) == AxiResp.OKAY
        await bus.set(f"population[{p}].N_GROUPS", CONFIG.n_groups)
        await bus.set(f"population[{p}].LINKS", 0)
    await bus.set("CONTROL", CLEAR)
    await bus.set("STEP", 0)


async def fill_blocks(bus: Bus, n_neurons: int, n_axons: int) -> None:
    """A weight of 1 in each block of some neurons and axons, the first ones of every population.

    To the neurons of `set_neurons` weights do not matter, but the rows are walked then.
    """
    for p in range(CONFIG.n_populations):
        n_rows = CONFIG.n_rows(p)
        first_axon = n_rows - CONFIG.n_axons
        rows = (*range(n_neurons), *range(first_axon, first_axon + n_axons))
        for group in range(CONFIG.n_groups):
            for row in rows:
                address = bus.map[f"weights[{p}]"] + (group * n_rows + row) * CONFIG.n_lanes
                assert await bus.write(address, b"\1") == AxiResp.OKAY


async def run_session(bus: Bus, network: Network) -> Run:
    """The whole session with all events, then compare everything."""
    run = begin(network)
    for step, axon in network.events.tolist():
        p = int(network.population_of_axon(np.array(axon)))
        await bus.send(step, p, axon - network.axon_slice(p).start)
    await bus.send(network.n_steps, 0, 0, fence=True)
    for _, segment in network.segments():
        await bus.set_biases(network, segment.bias)
        run.engine.set_bias(segment.bias)
        await bus.set("RUN_STEPS", segment.steps)
        await bus.set("CONTROL", START | EVENT_SYNC | IRQ_ENABLE)
        await bus.irq()
        run.steps(segment.steps)
    await check_run(bus, run)
    return run
