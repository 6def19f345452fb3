"""The whole chip behind standard bus models: AXI4-Lite master, AXI4-Stream source and sink.

Everything goes through the ports that a user has; the trace port is not used.
"""

import itertools
import os
import random
from dataclasses import dataclass

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge, with_timeout
from cocotbext.axi import (
    AxiLiteBus,
    AxiLiteMaster,
    AxiResp,
    AxiStreamBus,
    AxiStreamFrame,
    AxiStreamSink,
    AxiStreamSource,
)

from model.npu import events, layout
from model.npu.clocks import STEP_OVERHEAD, step_clocks
from model.npu.config import CONFIGS
from model.npu.engine import Engine
from model.npu.image import records
from model.npu.network import Network
from model.npu.random_network import random_network
from model.npu.registers import register_map
from model.npu.trace import Trace

CONFIG = CONFIGS[os.environ["KENYON_CONFIG"]]
CLOCK_NS = 10
START, STOP, FREE_RUN, EVENT_SYNC, IRQ_ENABLE, CLEAR = (1 << bit for bit in range(6))
RUNNING, DONE, OVERRUN, LATE_EVENT, BAD_EVENT = (1 << bit for bit in range(5))
TIMEOUT_US = 20_000


def pauses(rng: random.Random, probability: float):
    """Pause patterns for the bus models: long and short bursts."""
    while True:
        paused = rng.random() < probability
        yield from itertools.repeat(paused, rng.randint(1, 5))


class Bus:
    """The three bus models and the register names."""

    def __init__(self, dut, pause: float = 0.0) -> None:
        self.dut = dut
        self.map = register_map(CONFIG)
        self.master = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), dut.clk, dut.rst)
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
        """Clock and reset."""
        Clock(self.dut.clk, CLOCK_NS, "ns").start()
        self.dut.rst.value = 1
        await ClockCycles(self.dut.clk, 4)
        self.dut.rst.value = 0
        await ClockCycles(self.dut.clk, 2)

    async def write(self, address: int, data: bytes) -> AxiResp:
        """Write bytes; the worst answer of all beats."""
        return (await self.master.write(address, data)).resp

    async def read(self, address: int, length: int = 4) -> tuple[AxiResp, bytes]:
        """Read bytes and the worst answer of all beats."""
        answer = await self.master.read(address, length)
        return answer.resp, bytes(answer.data)

    async def set(self, name: str, value: int) -> None:
        """Write a register; it must accept."""
        response = await self.write(self.map[name], value.to_bytes(4, "little"))
        assert response == AxiResp.OKAY, f"{name} refused {value:#x}"

    async def get(self, name: str) -> int:
        """Read a register; it must answer."""
        response, data = await self.read(self.map[name])
        assert response == AxiResp.OKAY, f"{name} refused to be read"
        return int.from_bytes(data, "little")

    async def load(self, network: Network) -> None:
        """Write the network's image."""
        for record in records(network, CONFIG):
            response = await self.write(record.address, record.words.astype("<u4").tobytes())
            assert response == AxiResp.OKAY, f"record at {record.address:#x} refused"

    async def set_biases(self, network: Network, bias: dict[int, int]) -> None:
        """Change external stimuli."""
        for neuron, value in bias.items():
            p = int(network.population_of(np.array(neuron)))
            index = neuron - network.neuron_slice(p).start
            address = self.map[f"neurons[{p}]"] + 16 * index + 4 * layout.BIAS_WORD
            word = layout.bias_word(value).to_bytes(4, "little")
            assert await self.write(address, word) == AxiResp.OKAY

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
        return int(step_clocks(self.network, CONFIG, self.parts[-1].rows)[0])


def begin(network: Network) -> Run:
    """A fresh model."""
    return Run(network, Engine(network), [])


async def check_state(bus: Bus, run: Run) -> None:
    """Every neuron's state, the noise generators and the registers, read over the bus."""
    network, engine = run.network, run.engine
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
        enough = 10 <= network.n_steps and network.n_neurons <= 64
        if enough and bool(len(network.events)) == with_events:
            run = begin(network)
            run.steps(10)
            if run.spikes():
                return network


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
    await ClockCycles(bus.dut.clk, 5)
    assert bus.spikes() == run.spikes()
    await check_state(bus, run)
    return run


@cocotb.test()
async def sessions(dut) -> None:
    """Networks with events, all channels of all buses pausing at random."""
    bus = Bus(dut, pause=0.3)
    await bus.start()
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    for _ in range(2):
        network = some_network(rng, with_events=True)
        await bus.load(network)
        await run_session(bus, network)
        assert await bus.get("STATUS") == 0


@cocotb.test()
async def identification(dut) -> None:
    """What a driver reads first."""
    bus = Bus(dut)
    await bus.start()
    assert await bus.get("ID") == int.from_bytes(b"KNYN", "big")
    assert await bus.get("FINGERPRINT") == CONFIG.fingerprint
    geometry = CONFIG.n_neurons | CONFIG.n_lanes << 16 | CONFIG.n_populations << 24
    assert await bus.get("GEOMETRY") == geometry


@cocotb.test()
async def registers(dut) -> None:
    """Writable bits keep what was written, others read as they should; nothing else changes."""
    bus = Bus(dut, pause=0.2)
    await bus.start()
    skip = ("CONTROL", "STATUS")
    for register in bus.map.registers.values():
        if register.name in skip:
            continue
        plain = [f for f in register.fields if f.writable and not f.write_one_clears]
        mask = sum(((1 << f.width) - 1) << f.low for f in plain)
        # A field in the RTL is as wide as the configuration needs.
        if register.name.endswith("N_GROUPS") or register.name.endswith("LINKS"):
            continue
        before = await bus.get(register.name)
        if not any(f.writable for f in register.fields):
            response = await bus.write(register.address, b"\xff\xff\xff\xff")
            assert response == AxiResp.SLVERR, f"{register.name} is read-only"
            assert await bus.get(register.name) == before
            continue
        for value in (0xFFFF_FFFF, 0xA5A5_5A5A, 1):
            await bus.set(register.name, value)
            assert await bus.get(register.name) == value & mask, register.name
        await bus.set(register.name, before & mask)
        for length in (1, 2, 3):
            response = await bus.write(register.address, bytes(length))
            assert response == AxiResp.SLVERR, f"{register.name}: {length} bytes"
            assert await bus.get(register.name) == before & mask


@cocotb.test()
async def memories(dut) -> None:
    """Both ends of every memory and random places, all bytes; one word beyond is refused."""
    bus = Bus(dut, pause=0.2)
    await bus.start()
    for p in range(CONFIG.n_populations):
        weights = bus.map[f"weights[{p}]"]
        size = CONFIG.weight_words(p) * CONFIG.n_lanes
        places = [0, size - 32, *(bus.rng.randrange(size - 32) for _ in range(6))]
        for place in places:
            data = bus.rng.randbytes(bus.rng.randint(1, 32))
            _, before = await bus.read(weights + place, 32)
            assert await bus.write(weights + place, data) == AxiResp.OKAY
            _, after = await bus.read(weights + place, 32)
            assert after == data + before[len(data) :], f"weights[{p}] at {place:#x}"
        neurons = bus.map[f"neurons[{p}]"]
        masks = [
            sum(((1 << width) - 1) << low for low, width in fields.values())
            for fields in layout.WORD_FIELDS
        ]
        expected = {}
        for index in (0, 1, CONFIG.n_lanes, CONFIG.n_neurons - 1):
            for word, mask in enumerate(masks):
                value = bus.rng.getrandbits(32)
                address = neurons + 16 * index + 4 * word
                expected[address] = value & mask
                assert await bus.write(address, value.to_bytes(4, "little")) == AxiResp.OKAY
        for address, value in expected.items():
            _, data = await bus.read(address)
            assert int.from_bytes(data, "little") == value, f"{address:#x}"
            assert await bus.write(address, b"\0\0") == AxiResp.SLVERR
            _, data = await bus.read(address)
            assert int.from_bytes(data, "little") == value, f"{address:#x} after a refused write"


@cocotb.test()
async def out_of_map(dut) -> None:
    """Reads and writes outside the map answer SLVERR and change nothing."""
    bus = Bus(dut)
    await bus.start()
    network = some_network(np.random.default_rng(cocotb.RANDOM_SEED), with_events=False)
    await bus.load(network)
    holes = [0x28, 0xFC, 0x100, 0xFFC, 0x1000 + 0x10 * CONFIG.n_populations, 0xF_FFFC]
    holes += [0xFFFF_FFFC, 0x8000_0000]
    for p in range(CONFIG.n_populations):
        holes.append(bus.map[f"neurons[{p}]"] + 16 * CONFIG.n_neurons)
        holes.append(bus.map[f"weights[{p}]"] + CONFIG.weight_words(p) * CONFIG.n_lanes)
    holes.append(bus.map["neurons[0]"] + 0x10000 * CONFIG.n_populations)
    holes.append(bus.map["weights[0]"] + 0x100_0000 * CONFIG.n_populations)
    for hole in holes:
        assert await bus.write(hole, b"\xff\xff\xff\xff") == AxiResp.SLVERR, f"{hole:#x}"
        response, data = await bus.read(hole)
        assert (response, data) == (AxiResp.SLVERR, b"\0\0\0\0"), f"{hole:#x}"
    for record in records(network, CONFIG)[1:]:
        response, data = await bus.read(record.address, 4 * len(record.words))
        expected = record.words.astype("<u4").tobytes()
        if record.address in saturated_addresses(bus):
            expected = bytes(4)
        assert (response, data) == (AxiResp.OKAY, expected), f"{record.address:#x} has changed"
    await run_session(bus, network)


def saturated_addresses(bus: Bus) -> set[int]:
    """Registers whose record clears them."""
    return {bus.map[f"population[{p}].SATURATED"] for p in range(CONFIG.n_populations)}


@cocotb.test()
async def back_pressure(dut) -> None:
    """A receiver that stops for long: the step waits, says so, and nothing is lost."""
    bus = Bus(dut)
    await bus.start()
    network = some_network(np.random.default_rng(cocotb.RANDOM_SEED), with_events=False)
    await bus.load(network)
    run = begin(network)
    bias = network.session[0].bias
    await bus.set_biases(network, bias)
    run.engine.set_bias(bias)
    bus.sink.pause = True
    await bus.set("RUN_STEPS", 10)
    await bus.set("CONTROL", START | IRQ_ENABLE)
    await ClockCycles(dut.clk, 3000)
    assert await bus.get("STATUS") == RUNNING
    stalled_at = await bus.get("STEP")
    await bus.get("population[0].NOISE_STATE")  # the host is served while the step waits
    await ClockCycles(dut.clk, 3000)
    assert await bus.get("STEP") == stalled_at < 10
    bus.sink.pause = False
    while await bus.get("STEP") == stalled_at:
        pass
    await bus.irq()
    run.steps(10)
    await ClockCycles(dut.clk, 5)
    assert bus.spikes() == run.spikes()
    await check_state(bus, run)


@cocotb.test()
async def timer(dut) -> None:
    """One step per period, to the clock; an overrun only if a step takes longer; stop."""
    bus = Bus(dut)
    await bus.start()
    network = some_network(np.random.default_rng(cocotb.RANDOM_SEED), with_events=False)
    await bus.load(network)
    run = begin(network)
    longest = (CONFIG.max_rows + 1) * CONFIG.n_groups + 12
    await bus.set("TIMER_PERIOD", longest)
    await bus.set("CONTROL", START | FREE_RUN | IRQ_ENABLE)
    ends = []
    for _ in range(8):
        await RisingEdge(dut.trace_commit)
        ends.append(cocotb.utils.get_sim_time("ns") // CLOCK_NS)
    await bus.set("CONTROL", STOP | FREE_RUN | IRQ_ENABLE)
    await bus.irq()
    n_steps = await bus.get("STEP")
    run.steps(n_steps, silent=True)
    clocks = [int(step_clocks(network, CONFIG, part.rows)[0]) for part in run.parts]
    starts = [end - c for end, c in zip(ends, clocks, strict=False)]
    assert {b - a for a, b in itertools.pairwise(starts)} == {longest}
    assert await bus.get("STATUS") == 0
    await bus.set("TIMER_PERIOD", min(clocks) - 1)
    await bus.set("CONTROL", START | FREE_RUN | IRQ_ENABLE)
    await ClockCycles(dut.clk, 4 * longest)
    assert await bus.get("STATUS") == RUNNING | OVERRUN
    await bus.set("CONTROL", STOP | IRQ_ENABLE)
    await bus.irq()
    await bus.set("STATUS", OVERRUN)
    assert await bus.get("STATUS") == 0
    run.steps(await bus.get("STEP") - n_steps, silent=True)
    assert bus.spikes() == run.spikes()
    await check_state(bus, run)


@cocotb.test()
async def timer_in_time(dut) -> None:
    """A period of exactly a step's clocks is met without an overrun; one clock less is not."""
    bus = Bus(dut)
    await bus.start()
    for p in range(CONFIG.n_populations):
        assert await bus.write(bus.map[f"neurons[{p}]"], bytes(16 * CONFIG.n_neurons)) == 0
        await bus.set(f"population[{p}].N_GROUPS", CONFIG.n_groups)
    clocks = CONFIG.n_groups + STEP_OVERHEAD
    for period, flags in ((clocks, 0), (clocks - 1, OVERRUN), (1, 0), (0, 0)):
        await bus.set("CONTROL", CLEAR)
        await bus.set("STEP", 0)
        await bus.set("TIMER_PERIOD", period)
        await bus.set("CONTROL", START | FREE_RUN | IRQ_ENABLE)
        await ClockCycles(dut.clk, 20 * clocks)
        await bus.set("CONTROL", STOP | FREE_RUN | IRQ_ENABLE)
        await bus.irq()
        assert await bus.get("STEP_CLOCKS") == clocks
        assert await bus.get("STEP") >= 19
        assert await bus.get("STATUS") == flags, f"period {period}"
        await bus.set("STATUS", OVERRUN)


@cocotb.test()
async def late_and_bad_events(dut) -> None:
    """An event after its time is used in the next step and reported; an unknown one is dropped."""
    bus = Bus(dut)
    await bus.start()
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    network = some_network(rng, with_events=True)
    while not network.axons[0]:
        network = some_network(rng, with_events=True)
    await bus.load(network)
    run = begin(network)
    await bus.set("RUN_STEPS", 5)
    await bus.set("CONTROL", START | IRQ_ENABLE)
    await bus.irq()
    run.steps(5, silent=True)
    await bus.send(7, CONFIG.n_populations, 0)
    await bus.send(5, 0, CONFIG.n_axons)
    await bus.send(4, 0, 0)
    await ClockCycles(dut.clk, 20)
    # The first of them is of step 7 and waits; behind it nothing can pass.
    assert await bus.get("STATUS") == 0
    await bus.set("RUN_STEPS", 2)
    await bus.set("CONTROL", START | IRQ_ENABLE)
    await bus.irq()
    run.steps(2, silent=True)
    await ClockCycles(dut.clk, 20)
    assert await bus.get("STATUS") == LATE_EVENT | BAD_EVENT
    await bus.set("STATUS", LATE_EVENT | BAD_EVENT)
    await bus.set("RUN_STEPS", 1)
    await bus.set("CONTROL", START | IRQ_ENABLE)
    await bus.irq()
    run.parts.append(run.engine.step(np.array([0])))
    await ClockCycles(dut.clk, 5)
    assert bus.spikes() == run.spikes()
    await check_state(bus, run)


@cocotb.test()
async def host_during_run(dut) -> None:
    """Reading and rewriting memories while steps are running disturbs neither."""
    bus = Bus(dut)
    await bus.start()
    network = some_network(np.random.default_rng(cocotb.RANDOM_SEED), with_events=False)
    await bus.load(network)
    run = begin(network)
    image = [r for r in records(network, CONFIG) if r.address >= bus.map["weights[0]"]]
    await bus.set("RUN_STEPS", 10)
    await bus.set("CONTROL", START | IRQ_ENABLE)
    while await bus.get("STATUS") & RUNNING:
        record = bus.rng.choice(image)
        words = record.words[:8].astype("<u4").tobytes()
        assert await bus.read(record.address, len(words)) == (AxiResp.OKAY, words)
        assert await bus.write(record.address, words) == AxiResp.OKAY
    await bus.irq()
    run.steps(10, silent=True)
    await ClockCycles(dut.clk, 5)
    assert bus.spikes() == run.spikes()
    await check_state(bus, run)
