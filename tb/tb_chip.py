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

from model.config import CHIPS
from model.npu import events, layout
from model.npu.clocks import STEP_OVERHEAD, step_clocks
from model.npu.config import I_MAX
from model.npu.engine import Engine
from model.npu.image import records
from model.npu.network import Network
from model.npu.random_network import random_network
from model.npu.registers import register_map
from model.npu.trace import Trace
from tb.bench import pauses

CHIP = CHIPS[os.environ["KENYON_CONFIG"]]
CONFIG = CHIP.npu
CLOCK_NS = 10
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


class Bus:
    """The three bus models, the register names and a watch on the channels that the chip drives."""

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
        for channel, payload in (
            ("s_axil_b", ("resp",)),
            ("s_axil_r", ("data", "resp")),
            ("m_axis_spikes_t", ("data", "last")),
        ):
            cocotb.start_soon(keeps_its_word(self.dut, channel, payload))

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
        enough = network.n_steps >= 10 and network.n_neurons <= 64
        if enough and bool(len(network.events)) == with_events:
            run = begin(network)
            run.steps(10)
            if run.spikes():
                return network


def busy_network(rng: np.random.Generator) -> Network:
    """A random network without events whose weights are dense and whose neurons fire a lot."""
    while True:
        network = some_network(rng, with_events=False)
        run = begin(network)
        run.engine.set_bias(network.session[0].bias)
        run.steps(20, silent=True)
        rows = np.concatenate([part.rows for part in run.parts]).mean(axis=0)
        dense = len(network.recurrent) > 0.3 * network.n_neurons**2 / len(network.populations)
        if dense and rows.max() > 4:
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


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
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


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
async def identification(dut) -> None:
    """What a driver reads first."""
    bus = Bus(dut)
    await bus.start()
    assert await bus.get("ID") == int.from_bytes(b"KNYN", "big")
    assert await bus.get("FINGERPRINT") == CONFIG.fingerprint
    geometry = CONFIG.n_neurons | CONFIG.n_lanes << 16 | CONFIG.n_populations << 24
    assert await bus.get("GEOMETRY") == geometry


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
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
        before = await bus.get(register.name)
        if not any(f.writable for f in register.fields):
            response = await bus.write(register.address, b"\xff\xff\xff\xff")
            assert response == AxiResp.SLVERR, f"{register.name} is read-only"
            assert await bus.get(register.name) == before
            continue
        for value in (0xFFFF_FFFF, 0xA5A5_5A5A, 0x5A5A_A5A5, 1):
            await bus.set(register.name, value)
            assert await bus.get(register.name) == value & mask, register.name
        await bus.set(register.name, before & mask)
        for length in (1, 2, 3):
            response = await bus.write(register.address, bytes(length))
            assert response == AxiResp.SLVERR, f"{register.name}: {length} bytes"
            assert await bus.get(register.name) == before & mask


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
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


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
async def out_of_map(dut) -> None:
    """Reads and writes outside the map answer SLVERR and change nothing."""
    bus = Bus(dut)
    await bus.start()
    network = some_network(np.random.default_rng(cocotb.RANDOM_SEED), with_events=False)
    await bus.load(network)
    holes = [0x28, 0xFC, 0x100, 0xFFC, 0x1000 + 0x10 * CONFIG.n_populations, 0xF_FFFC]
    holes += [0x7FFC, 0x9000, 0x7FFF_FFFC, 0xFFFF_FFFC]
    if CHIP.mars is None:
        holes += [0x8000, 0x8000_0000]
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


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
async def every_address_bit(dut) -> None:
    """A legal address with any other upper bit is another place, or SLVERR."""
    bus = Bus(dut)
    await bus.start()
    legal = [range(0x1_0000)]
    if CHIP.mars is not None:
        legal.append(range(0x8000_0000, 0x1_0000_0000))
    starts = [bus.map["STATUS"], bus.map["population[0].N_GROUPS"]]
    for p in range(CONFIG.n_populations):
        sizes = {
            f"neurons[{p}]": 16 * CONFIG.n_neurons,
            f"weights[{p}]": CONFIG.weight_words(p) * CONFIG.n_lanes,
        }
        legal += [range(bus.map[name], bus.map[name] + size) for name, size in sizes.items()]
        starts += [bus.map[name] for name in sizes]
    for start, bit in itertools.product(starts, range(32)):
        address = start ^ (1 << bit)
        if any(address in own for own in legal):
            continue
        response, data = await bus.read(address)
        assert (response, data) == (AxiResp.SLVERR, b"\0\0\0\0"), f"{address:#x}"


def saturated_addresses(bus: Bus) -> set[int]:
    """Registers whose record clears them."""
    return {bus.map[f"population[{p}].SATURATED"] for p in range(CONFIG.n_populations)}


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
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


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
async def stall_clocks(dut) -> None:
    """Clocks that a step waits for the spike stream count for that step only."""
    bus = Bus(dut)
    await bus.start()
    await set_neurons(bus, 300)
    clocks = (CONFIG.n_neurons + 1) * CONFIG.n_groups + STEP_OVERHEAD
    bus.sink.pause = True
    await bus.set("RUN_STEPS", 2)
    await bus.set("CONTROL", START | IRQ_ENABLE)
    await ClockCycles(dut.clk, 5 * clocks)
    bus.sink.pause = False
    await bus.irq()
    assert 3 * clocks < await bus.get("STALL_CLOCKS") < 5 * clocks
    assert await bus.get("STEP_CLOCKS") == clocks
    await bus.set("RUN_STEPS", 1)
    await bus.set("CONTROL", START | IRQ_ENABLE)
    await bus.irq()
    assert await bus.get("STALL_CLOCKS") == 0
    assert await bus.get("STEP_CLOCKS") == clocks


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
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


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
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


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
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


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
async def unknown_axons(dut) -> None:
    """An event just beyond the last axon or population, or far beyond, is reported and no row."""
    bus = Bus(dut)
    await bus.start()
    await set_neurons(bus, 0)
    await bus.set("RUN_STEPS", 1)
    for step, (population, axon) in enumerate(
        ((0, CONFIG.n_axons), (CONFIG.n_populations, 0), (0, 0xFFFF), (0xFF, 0))
    ):
        await bus.send(step, population, axon)
        await bus.set("CONTROL", START | IRQ_ENABLE)
        await bus.irq()
        assert await bus.get("STATUS") == BAD_EVENT, f"population {population}, axon {axon}"
        assert await bus.get("STEP_CLOCKS") == CONFIG.n_groups + STEP_OVERHEAD
        await bus.set("STATUS", BAD_EVENT)


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
async def host_during_run(dut) -> None:
    """Reading and rewriting memories while steps are running disturbs neither."""
    bus = Bus(dut)
    await bus.start()
    network = busy_network(np.random.default_rng(cocotb.RANDOM_SEED))
    await bus.load(network)
    run = begin(network)
    bias = network.session[0].bias
    await bus.set_biases(network, bias)
    run.engine.set_bias(bias)
    weights = bus.map["weights[0]"]
    image = [r for r in records(network, CONFIG) if r.address >= weights]
    n_steps = 40

    async def visit(rewrite: bool) -> None:
        rng = random.Random(bus.rng.random())
        while await bus.get("STATUS") & RUNNING:
            record = rng.choice(image)
            first = rng.randrange(max(len(record.words) - 8, 1))
            words = record.words[first : first + 8].astype("<u4").tobytes()
            address = record.address + 4 * first
            if rewrite:
                assert await bus.write(address, words) == AxiResp.OKAY
            assert await bus.read(address, len(words)) == (AxiResp.OKAY, words), f"{address:#x}"

    await bus.set("RUN_STEPS", n_steps)
    await bus.set("CONTROL", START | IRQ_ENABLE)
    visitors = [cocotb.start_soon(visit(rewrite)) for rewrite in (False, True)]
    for visitor in visitors:
        await visitor
    await bus.irq()
    run.steps(n_steps, silent=True)
    await ClockCycles(dut.clk, 5)
    assert bus.spikes() == run.spikes()
    await check_state(bus, run)


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
async def slow_events(dut) -> None:
    """The chip waits for events that come one by one, and uses each in its step."""
    bus = Bus(dut)
    await bus.start()
    network = some_network(np.random.default_rng(cocotb.RANDOM_SEED), with_events=True)
    n_steps = min(network.n_steps, network.session[0].steps, 20)
    await bus.load(network)
    run = begin(network)
    bias = network.session[0].bias
    await bus.set_biases(network, bias)
    run.engine.set_bias(bias)
    await bus.set("RUN_STEPS", n_steps)
    await bus.set("CONTROL", START | EVENT_SYNC | IRQ_ENABLE)
    longest = (CONFIG.max_rows + 1) * CONFIG.n_groups + STEP_OVERHEAD
    for step in range(n_steps):
        for axon in network.events_at(step, step + 1)[:, 1].tolist():
            p = int(network.population_of_axon(np.array(axon)))
            await bus.send(step, p, axon - network.axon_slice(p).start)
            gap = 2 * longest if bus.rng.random() < 0.2 else bus.rng.randrange(9)
            await ClockCycles(dut.clk, gap)
        assert await bus.get("STEP") == step, "a step has begun before its events were complete"
        await bus.send(step + 1, 0, 0, fence=True)
        await ClockCycles(dut.clk, longest)
    await bus.irq()
    run.steps(n_steps)
    assert await bus.get("STATUS") == 0
    assert bus.spikes() == run.spikes()
    await check_state(bus, run)


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
async def event_burst(dut) -> None:
    """The event input takes one event per clock, and each is one row of the next step."""
    bus = Bus(dut)
    await bus.start()
    await set_neurons(bus, 0)
    n_events = min(CONFIG.n_axons, 8)
    await bus.set("RUN_STEPS", 1)
    for axon in range(n_events):
        await bus.send(0, 0, axon)
    taken = []
    while len(taken) < n_events:
        await RisingEdge(dut.clk)
        if dut.s_axis_events_tvalid.value and dut.s_axis_events_tready.value:
            taken.append(cocotb.utils.get_sim_time("ns") // CLOCK_NS)
    assert taken[-1] - taken[0] == n_events - 1, f"events were taken at clocks {taken}"
    for rows in (n_events, 0):
        await bus.set("CONTROL", START | IRQ_ENABLE)
        await bus.irq()
        assert await bus.get("STEP_CLOCKS") == (rows + 1) * CONFIG.n_groups + STEP_OVERHEAD


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
async def events_in_any_clock(dut) -> None:
    """Steps run back to back while events come in every phase: each counts exactly once."""
    bus = Bus(dut)
    await bus.start()
    await set_neurons(bus, 0)
    # Every axon adds 1 to the potential of neuron 0, which holds it: it counts events.
    slopes = bus.map["neurons[0]"] + 4 * layout.SLOPES_WORD
    assert await bus.write(slopes, (1 | 1 << 12).to_bytes(4, "little")) == AxiResp.OKAY
    first_axon = CONFIG.n_rows(0) - CONFIG.n_axons
    for axon in range(CONFIG.n_axons):
        address = bus.map["weights[0]"] + (first_axon + axon) * CONFIG.n_lanes
        assert await bus.write(address, bytes([1] + [0] * (CONFIG.n_lanes - 1))) == AxiResp.OKAY
    await bus.set("CONTROL", START | FREE_RUN)
    longest = 9 * CONFIG.n_groups + STEP_OVERHEAD
    for k in range(250):
        await bus.send(0, 0, k % CONFIG.n_axons)
        await ClockCycles(dut.clk, bus.rng.randrange(3, longest))
    await ClockCycles(dut.clk, 2 * longest)
    await bus.set("CONTROL", STOP | FREE_RUN)
    while await bus.get("STATUS") & RUNNING:
        pass
    _, state = await bus.read(bus.map["neurons[0]"] + 4 * layout.STATE_WORD)
    assert state[0] == 250, f"{state[0]} of 250 events were used"


async def about_to_saturate(bus: Bus) -> int:
    """One neuron that external axon 0 excites; returns the address of its state."""
    await set_neurons(bus, 0)
    # A neuron of the last group: its lane keeps what it found until the next step.
    neuron = CONFIG.n_neurons - CONFIG.n_lanes
    row = CONFIG.n_groups * CONFIG.n_rows(0) - CONFIG.n_axons
    address = bus.map["weights[0]"] + row * CONFIG.n_lanes
    assert await bus.write(address, bytes([1] + [0] * (CONFIG.n_lanes - 1))) == AxiResp.OKAY
    await bus.set("RUN_STEPS", 1)
    return bus.map["neurons[0]"] + 16 * neuron + 4 * layout.STATE_WORD


async def run_from(bus: Bus, state: int, i_syn: int) -> None:
    """Start a step with that current and an event of axon 0."""
    word = i_syn << layout.STATE_FIELDS["i_syn"][0]
    assert await bus.write(state, word.to_bytes(4, "little")) == AxiResp.OKAY
    await bus.send(await bus.get("STEP"), 0, 0)
    await bus.set("CONTROL", START | IRQ_ENABLE)


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
async def saturation_flag(dut) -> None:
    """The flag is set by a step in which a current saturates, and stays cleared afterwards."""
    bus = Bus(dut)
    await bus.start()
    state = await about_to_saturate(bus)
    for i_syn, saturates in ((I_MAX, 1), (I_MAX - 1, 0)):
        await run_from(bus, state, i_syn)
        await bus.irq()
        assert await bus.get("population[0].SATURATED") == saturates
        await bus.set("population[0].SATURATED", 1)
        assert await bus.get("population[0].SATURATED") == 0


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
async def reads_write_nothing(dut) -> None:
    """Data on the write channel that is not valid clears no flag in a read."""
    bus = Bus(dut)
    await bus.start()
    await run_from(bus, await about_to_saturate(bus), I_MAX)
    if not dut.irq.value:
        await with_timeout(RisingEdge(dut.irq), TIMEOUT_US, "us")
    dut.s_axil_wdata.value = 0xFFFF_FFFF
    dut.s_axil_wstrb.value = 0b1111
    for _ in range(2):
        assert await bus.get("STATUS") == DONE
        assert await bus.get("population[0].SATURATED") == 1


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
async def clear(dut) -> None:
    """Clear forgets spikes and events; one that comes with it is forgotten or used."""
    bus = Bus(dut)
    await bus.start()
    await bus.set("RUN_STEPS", 1)
    empty, one_row = (n * CONFIG.n_groups + STEP_OVERHEAD for n in (1, 2))
    await set_neurons(bus, 300)
    for _ in range(2):
        await bus.set("CONTROL", START | IRQ_ENABLE)
        await bus.irq()
        assert await bus.get("STEP_CLOCKS") == empty, "spikes are left"
        await bus.set("CONTROL", CLEAR)
    bus.spikes()
    for moment in range(-1, 12):
        await set_neurons(bus, 300)
        await bus.set("CONTROL", START | IRQ_ENABLE)
        await bus.irq()
        assert len(bus.spikes()) == CONFIG.n_neurons * CONFIG.n_populations
        await set_neurons(bus, 0)
        await bus.set("STEP", 5)
        if moment < 0:
            await bus.send(5, 0, 0)  # collected
            await bus.send(9, 0, 0)  # held
            await ClockCycles(dut.clk, 10)
            await bus.set("CONTROL", CLEAR)
            expected = (empty,)
        else:
            clearing = cocotb.start_soon(bus.set("CONTROL", CLEAR))
            await ClockCycles(dut.clk, moment)
            await bus.send(5, 0, 0)
            await clearing
            await ClockCycles(dut.clk, 20)
            expected = (empty, one_row)
        await bus.set("CONTROL", START | IRQ_ENABLE)
        await bus.irq()
        assert await bus.get("STEP_CLOCKS") in expected
        assert await bus.get("STATUS") == 0


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
async def clear_while_running(dut) -> None:
    """Clear is ignored while steps are running."""
    bus = Bus(dut)
    await bus.start()
    await set_neurons(bus, 300)
    await bus.set("RUN_STEPS", 8)
    await bus.set("CONTROL", START | IRQ_ENABLE)
    while await bus.get("STATUS") & RUNNING:
        await bus.set("CONTROL", CLEAR | IRQ_ENABLE)
    await bus.irq()
    await ClockCycles(dut.clk, 5)
    assert len(bus.spikes()) == 8 * CONFIG.n_neurons * CONFIG.n_populations
    clocks = (CONFIG.n_neurons + 1) * CONFIG.n_groups + STEP_OVERHEAD
    assert await bus.get("STEP_CLOCKS") == clocks


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
async def timer_after_a_wait(dut) -> None:
    """A step that waits for events beyond its tick: one tick is owed, a second is an overrun."""
    bus = Bus(dut)
    await bus.start()
    await set_neurons(bus, 0)
    clocks = CONFIG.n_groups + STEP_OVERHEAD
    period = 8 * clocks
    await bus.set("TIMER_PERIOD", period)
    # Sending takes a few clocks: somewhere in this range the step starts with the tick.
    for delay in range(period - 24, period + 2):
        await bus.set("CONTROL", CLEAR)
        await bus.set("STEP", 0)
        await bus.send(1, 0, 0, fence=True)
        starts = []
        await bus.set("CONTROL", START | FREE_RUN | EVENT_SYNC)
        while len(starts) < 3:
            await RisingEdge(dut.trace_commit)
            # The monitor's clock is one after the last one of the step.
            starts.append(cocotb.utils.get_sim_time("ns") // CLOCK_NS - clocks)
            if len(starts) == 1:
                # The second step is due one period after the first and begins about two after it.
                await ClockCycles(dut.clk, period - clocks + delay)
                await bus.send(9, 0, 0, fence=True)
        late = starts[1] - starts[0]
        assert late > period
        following = (late // period + 1) * period
        assert starts[2] - starts[0] == max(following, late + clocks), f"{starts}"
        overrun = late + clocks > 2 * period and late != 2 * period - 1
        assert bool(await bus.get("STATUS") & OVERRUN) == overrun, f"{starts}"
        await bus.set("CONTROL", STOP | FREE_RUN)
        while await bus.get("STATUS") & RUNNING:
            pass
        await bus.set("STATUS", DONE | OVERRUN)
    await bus.set("CONTROL", CLEAR)
    await bus.set("CONTROL", START | FREE_RUN | EVENT_SYNC)
    await ClockCycles(dut.clk, 3 * period)
    assert await bus.get("STATUS") == RUNNING | OVERRUN
    await bus.set("CONTROL", STOP | FREE_RUN)


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
async def step_written_as_it_begins(dut) -> None:
    """A write to STEP in any clock around the start of a step lands before or after it."""
    bus = Bus(dut)
    await bus.start()
    await set_neurons(bus, 0)
    await bus.set("RUN_STEPS", 1)
    for delay in range(14):
        await bus.set("CONTROL", CLEAR)
        await bus.set("STEP", 0)
        await bus.set("CONTROL", START | EVENT_SYNC | IRQ_ENABLE)
        writing = cocotb.start_soon(bus.set("STEP", 1000))
        await ClockCycles(dut.clk, delay)
        await bus.send(1001, 0, 0, fence=True)
        await writing
        await bus.irq()
        step = await bus.get("STEP")
        assert step in (1000, 1001), f"fence {delay} clocks after the write: STEP is {step}"
        await bus.send(step, 0, 0)
        await bus.send(step + 1, 0, 0, fence=True)
        await bus.set("CONTROL", START | EVENT_SYNC | IRQ_ENABLE)
        await bus.irq()
        assert await bus.get("STATUS") == 0, f"fence {delay} clocks after the write: late"
        assert await bus.get("STEP_CLOCKS") == 2 * CONFIG.n_groups + STEP_OVERHEAD


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
async def flag_set_as_it_is_cleared(dut) -> None:
    """A flag that is set in the very clock in which the host clears it stays set."""
    bus = Bus(dut)
    await bus.start()
    await set_neurons(bus, 0)
    await bus.set("RUN_STEPS", 1)
    taken: dict[str, int] = {}

    async def watch(name: str, channel: str) -> None:
        valid, ready = (getattr(dut, f"{channel}{kind}") for kind in ("valid", "ready"))
        while True:
            await RisingEdge(dut.clk)
            if valid.value and ready.value:
                taken[name] = cocotb.utils.get_sim_time("ns") // CLOCK_NS

    cocotb.start_soon(watch("write", "s_axil_aw"))
    cocotb.start_soon(watch("event", "s_axis_events_t"))
    together = 0
    for delay in range(14):
        clearing = cocotb.start_soon(bus.set("STATUS", BAD_EVENT))
        await ClockCycles(dut.clk, delay)
        await bus.send(0, CONFIG.n_populations, 0)
        await clearing
        await ClockCycles(dut.clk, 20)
        # Both act in the clock after they were taken.
        ahead = taken["write"] - taken["event"]
        together += ahead == 0
        expected = BAD_EVENT if ahead <= 0 else 0
        assert await bus.get("STATUS") == expected, f"event {ahead} clocks before the write"
        await bus.set("STATUS", BAD_EVENT)
    assert together, "no event has met the write"


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
async def directions_take_turns(dut) -> None:
    """Reads and writes that are always waiting are served in turn."""
    bus = Bus(dut)
    await bus.start()
    weights = bus.map["weights[0]"]
    served = []

    async def watch(name: str) -> None:
        valid, ready = (getattr(dut, f"s_axil_{name}{kind}") for kind in ("valid", "ready"))
        while True:
            await RisingEdge(dut.clk)
            if valid.value and ready.value:
                served.append(name)

    for name in ("aw", "ar"):
        cocotb.start_soon(watch(name))
    transfers = [bus.master.write(weights, bytes(128)), bus.master.read(weights, 128)]
    for task in [cocotb.start_soon(transfer) for transfer in transfers]:
        await task
    both = served[: 2 * min(served.count("aw"), served.count("ar")) - 4]
    longest = max(len(list(group)) for _, group in itertools.groupby(both))
    assert longest <= 2, f"one direction was served {longest} times running: {both}"


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
async def offers_wait_for_nobody(dut) -> None:
    """VALID of answers and spikes comes without READY, and stays."""
    bus = Bus(dut)
    await bus.start()
    await set_neurons(bus, 300)
    await bus.set("RUN_STEPS", 1)
    bus.sink.pause = True
    await bus.set("CONTROL", START | IRQ_ENABLE)
    await ClockCycles(dut.clk, 30 + (CONFIG.n_neurons + 1) * CONFIG.n_groups)
    assert dut.m_axis_spikes_tvalid.value
    assert not dut.m_axis_spikes_tready.value
    bus.sink.pause = False
    await bus.irq()
    write, read = bus.master.write_if, bus.master.read_if
    write.b_channel.pause = read.r_channel.pause = True
    tasks = [cocotb.start_soon(bus.set("RUN_STEPS", 7)), cocotb.start_soon(bus.get("ID"))]
    await ClockCycles(dut.clk, 20)
    assert dut.s_axil_bvalid.value
    assert dut.s_axil_rvalid.value
    # A second transfer must not disturb the answer that stands.
    tasks += [cocotb.start_soon(bus.set("RUN_STEPS", 8)), cocotb.start_soon(bus.get("GEOMETRY"))]
    await ClockCycles(dut.clk, 20)
    write.b_channel.pause = read.r_channel.pause = False
    answers = [await task for task in tasks]
    assert answers[1] == int.from_bytes(b"KNYN", "big")
    assert answers[3] == CONFIG.n_neurons | CONFIG.n_lanes << 16 | CONFIG.n_populations << 24
    assert await bus.get("RUN_STEPS") == 8


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
async def address_without_data(dut) -> None:
    """A write waits until both its address and its data are there, whichever comes first."""
    bus = Bus(dut)
    await bus.start()
    write = bus.master.write_if
    for second in (write.w_channel, write.aw_channel):
        for value in (5, 0xDEAD_BEEF):
            second.pause = True
            task = cocotb.start_soon(bus.set("RUN_STEPS", value))
            await ClockCycles(dut.clk, 20)
            assert not task.done()
            assert await bus.get("RUN_STEPS") != value
            second.pause = False
            await task
            assert await bus.get("RUN_STEPS") == value


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
async def step_counter_wraps(dut) -> None:
    """Events around step 2**32 are neither late nor waited for without end."""
    bus = Bus(dut)
    await bus.start()
    await set_neurons(bus, 0)
    await bus.set("STEP", 0xFFFF_FFFE)
    for step in (0xFFFF_FFFF, 0, 1):
        await bus.send(step, 0, 0)
    await bus.send(2, 0, 0, fence=True)
    await bus.set("RUN_STEPS", 4)
    await bus.set("CONTROL", START | EVENT_SYNC | IRQ_ENABLE)
    await bus.irq()
    assert await bus.get("STEP") == 2
    assert await bus.get("STATUS") == 0


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
async def stop_between_steps(dut) -> None:
    """Stop together with the end of free_run, between two ticks, begins no further step."""
    bus = Bus(dut)
    await bus.start()
    await set_neurons(bus, 0)
    period = CONFIG.n_groups + STEP_OVERHEAD + 200
    await bus.set("RUN_STEPS", 5)
    await bus.set("TIMER_PERIOD", period)
    await bus.set("CONTROL", START | FREE_RUN | IRQ_ENABLE)
    await RisingEdge(dut.trace_commit)
    await bus.set("CONTROL", STOP | IRQ_ENABLE)
    await bus.irq()
    assert await bus.get("STEP") == 1


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
async def stop_in_a_stall(dut) -> None:
    """Steps that are over do not overrun, however long their spikes take to leave."""
    bus = Bus(dut)
    await bus.start()
    await set_neurons(bus, 300)
    bus.sink.pause = True
    await bus.set("TIMER_PERIOD", 4 * (CONFIG.n_neurons + 2) * CONFIG.n_groups)
    await bus.set("CONTROL", START | FREE_RUN | IRQ_ENABLE)
    await RisingEdge(dut.trace_commit)
    await bus.set("CONTROL", STOP | FREE_RUN | IRQ_ENABLE)
    await ClockCycles(dut.clk, 10 * (CONFIG.n_neurons + 2) * CONFIG.n_groups)
    assert await bus.get("STATUS") == RUNNING
    bus.sink.pause = False
    await bus.irq()
    assert await bus.get("STATUS") == 0


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
async def end_of_free_run(dut) -> None:
    """Free run that is switched off goes on for RUN_STEPS steps, as if it had just begun."""
    bus = Bus(dut)
    await bus.start()
    await set_neurons(bus, 0)
    await bus.set("RUN_STEPS", 2)
    await bus.set("CONTROL", START | FREE_RUN | IRQ_ENABLE)
    for _ in range(5):
        await RisingEdge(dut.trace_commit)
    await bus.set("CONTROL", IRQ_ENABLE)
    await bus.irq()
    assert 7 <= await bus.get("STEP") <= 12


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
async def step_written_in_a_stall(dut) -> None:
    """The step that waits takes the new number; events of the one behind it are in time."""
    bus = Bus(dut)
    await bus.start()
    await set_neurons(bus, 300)
    bus.sink.pause = True
    await bus.set("RUN_STEPS", 3)
    await bus.set("CONTROL", START | IRQ_ENABLE)
    await ClockCycles(dut.clk, 4 * (CONFIG.n_neurons + 2) * CONFIG.n_groups)
    assert await bus.get("STEP") == 1
    await bus.set("STEP", 100)
    await bus.send(101, 0, 0)
    await ClockCycles(dut.clk, 20)
    bus.sink.pause = False
    await bus.irq()
    assert await bus.get("STEP") == 102
    assert await bus.get("STATUS") == 0


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
async def long_runs(dut) -> None:
    """A run of 2**k steps goes on until it is stopped."""
    bus = Bus(dut)
    await bus.start()
    await set_neurons(bus, 0)
    for k in range(5, 32):
        await bus.set("RUN_STEPS", 1 << k)
        await bus.set("CONTROL", START | IRQ_ENABLE)
        for _ in range(3):
            await RisingEdge(dut.trace_commit)
        assert await bus.get("STATUS") == RUNNING, f"a run of {1 << k} steps has ended"
        await bus.set("CONTROL", STOP | IRQ_ENABLE)
        await bus.irq()


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
async def spikes_of_any_step(dut) -> None:
    """Spikes carry the number of their step, whatever it is."""
    bus = Bus(dut)
    await bus.start()
    await set_neurons(bus, 300)
    await bus.set("RUN_STEPS", 1)
    for step in (
        0xFFFF_FFFF,
        *(1 << k for k in range(32)),
        *(bus.rng.getrandbits(32) for _ in range(8)),
    ):
        await bus.set("STEP", step)
        await bus.set("CONTROL", START | IRQ_ENABLE)
        await bus.irq()
        await ClockCycles(dut.clk, 5)
        assert {found for found, _, _ in bus.spikes()} == {step}
