"""Both halves on one chip: what the host does meanwhile, frames behind each other, runs, aborts."""

import os
import random
from dataclasses import dataclass

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles, RisingEdge

from model import bridge as bridging
from model.bridge import Bridge, Entry
from model.bridge_registers import bridge_registers, entry_words
from model.chip import Chip, Outcome
from model.config import CHIPS
from model.mars.image import Image
from model.mars.layout import Ints
from model.mars.mapper import compile_network
from model.mars.network import Dense, FeatureType, QuantizedNetwork
from model.mars.random_network import random_input
from model.npu import events, layout
from model.npu.engine import Engine
from model.npu.network import Network
from model.npu.random_network import random_network
from model.random_bridge import random_bridge
from tb.bench import check
from tb.joint.host import DONE, ENABLE, IRQ_ENABLE, JointHost
from tb.mars import cosim as mars

CONFIG = CHIPS[os.environ["KENYON_CONFIG"]]
TIMEOUT_US = 20_000
START, STOP, FREE_RUN = 1, 2, 4
ABORT = 2
MARS_DONE, MARS_ABORTED = 0b0010, 0b1000
MOST_CLOCKS = 200_000
N_OUTPUTS = 12
N_FRAMES = 3


def bench(test):
    """A test with a time limit."""
    return cocotb.test(timeout_time=TIMEOUT_US, timeout_unit="us")(test)


def perception() -> QuantizedNetwork:
    """Frames of few clocks."""
    rng = np.random.default_rng(4)
    dense = Dense(
        name="dense",
        input="input",
        weight=rng.integers(-8, 8, (N_OUTPUTS, 32)),
        bias=np.zeros(N_OUTPUTS, np.int64),
        weight_bits=4,
        out_bits=32,
        out_signed=True,
    )
    return QuantizedNetwork(FeatureType((2, 4, 4), 4, signed=False), (dense,), "perception")


@dataclass
class Scene:
    """A pair of networks on model and chip."""

    host: JointHost
    image: Image
    network: Network
    bridge: Bridge
    inputs: Ints
    golden: Chip

    async def begin(self, k: int, control: int = START) -> None:
        """Start a frame."""
        await self.host.write_job(mars.job(mars.Frame(self.image, self.inputs[k]), 0))
        await self.host.set("CONTROL", control)

    async def decided(self) -> None:
        """Wait for the decision."""
        await self.host.wait_for_irq(MOST_CLOCKS)
        await self.set("bridge.STATUS", DONE)

    async def get(self, name: str) -> int:
        """Read a register."""
        return await self.host.read(self.host.addresses[name])

    async def set(self, name: str, value: int) -> None:
        """Write a register."""
        await self.host.write(self.host.addresses[name], [value])

    async def check(self, outcome: Outcome) -> None:
        """Decision, biases and every neuron's state."""
        if outcome.decision is not None:
            decision = outcome.decision
            check("WINNER", decision.neuron | decision.count << 16, await self.get("bridge.WINNER"))
            first = self.host.addresses["bridge_counts"]
            counts = [await self.host.read(first + 4 * k) for k in range(len(decision.counts))]
            check("counts", decision.counts.tolist(), counts)
        check("STEP", self.golden.engine.step_index, await self.get("STEP"))
        check("neurons", self.right(self.golden.engine), await self.neurons())

    def right(self, engine: Engine) -> list[tuple[int, int]]:
        """Bias and state word of every neuron."""
        fields = {"v": engine.v, "spike": engine.spikes.astype(np.int64), "i_syn": engine.i_syn}
        words = layout.pack(layout.STATE_FIELDS, fields).tolist()
        biases = [layout.bias_word(bias) for bias in engine.bias.tolist()]
        return list(zip(biases, words, strict=True))

    async def neurons(self) -> list[tuple[int, int]]:
        """The same, off the chip."""
        result = []
        for p, n in enumerate(self.network.populations):
            for k in range(n):
                first = self.host.addresses[f"neurons[{p}]"] + 16 * k
                words = [
                    await self.host.read(first + 4 * w)
                    for w in (layout.BIAS_WORD, layout.STATE_WORD)
                ]
                result.append((words[0], words[1]))
        return result


async def scene(dut, *, steps: int | None = None, seed: int = 0) -> Scene:
    """The chip, loaded; `steps` in place of a random number of them."""
    rng = np.random.default_rng([cocotb.RANDOM_SEED, seed])
    net = perception()
    image = compile_network(net, CONFIG.mars)
    inputs = random_input(net, int(rng.integers(1 << 20)), N_FRAMES)
    network = lively(rng)
    outputs = Chip(CONFIG, image, network, Bridge((Entry(0, 0, 0, 1, 0),), 0, 0)).frame(inputs[0])
    bridge = random_bridge(rng, outputs.outputs, network)
    bridge = Bridge(
        bridge.entries, bridge.steps or 5 if steps is None else steps, bridge.population
    )
    host = JointHost(dut, CONFIG)
    await host.reset()
    host.memory.start()
    registers = bridge_registers(bridge, image, CONFIG)
    await host.load(network, registers, entry_words(bridge, image))
    return Scene(host, image, network, bridge, inputs, Chip(CONFIG, image, network, bridge))


def lively(rng: np.random.Generator) -> Network:
    """Both populations of the chip are in use, and have axons."""
    while True:
        network = random_network(rng, CONFIG.npu)
        if len(network.populations) == CONFIG.npu.n_populations and min(network.axons) > 0:
            return network


@bench
async def frames(dut) -> None:
    """Frame after frame; the host reads and writes memories of both halves all the time."""
    one = await scene(dut)
    host, rng = one.host, random.Random(cocotb.RANDOM_SEED)
    weights = host.addresses["weights[0]"]
    busy = True

    async def visit() -> None:
        while busy:
            word = weights + 4 * rng.randrange(90)
            await host.write(word, [await host.read(word)])
            await host.read(host.addresses["neurons[1]"] + 4 * rng.randrange(64))
            await host.read(host.addresses["bridge_entries"] + 4 * rng.randrange(512))
            await host.read(host.addresses["bridge_counts"] + 4 * rng.randrange(16))

    for k in range(N_FRAMES):
        outcome = one.golden.frame(one.inputs[k])
        await one.begin(k)
        busy = True
        visitor = cocotb.start_soon(visit())
        await host.wait_for_irq(MOST_CLOCKS)
        busy = False
        await visitor
        await one.set("bridge.STATUS", DONE)
        await one.check(outcome)
        check("STATUS of MARS", MARS_DONE, await one.get("mars.STATUS"))
        check("STATUS of the NPU", 0, await one.get("STATUS"))
        check("STATUS of the bridge", 0, await one.get("bridge.STATUS"))


@bench
async def back_to_back(dut) -> None:
    """A frame is computed while the burst of the one before runs; its result waits for the end."""
    one = await scene(dut, steps=60)
    first = one.golden.frame(one.inputs[0]).decision
    await one.begin(0)
    while not await one.get("mars.STATUS") & MARS_DONE:
        pass
    await one.set("mars.STATUS", MARS_DONE)
    await one.begin(1)
    await one.decided()
    # MARS' frame has long been computed, and its result is being taken now.
    check("MARS is still running", 1, await one.get("mars.STATUS"))
    check("winner", first.neuron | first.count << 16, await one.get("bridge.WINNER"))
    second = one.golden.frame(one.inputs[1])
    await one.decided()
    await one.check(second)
    check("STATUS of MARS", MARS_DONE, await one.get("mars.STATUS"))


@bench
async def starts_of_the_host(dut) -> None:
    """Runs that the host starts while the bridge works do not happen; later ones do."""
    one = await scene(dut, steps=8)
    await one.set("RUN_STEPS", 100)
    outcome = one.golden.frame(one.inputs[0])
    await one.begin(0)
    while not await one.get("bridge.STATUS") & 1:
        pass
    while not await one.get("bridge.STATUS") & DONE:
        await one.set("CONTROL", START | FREE_RUN)
        await one.set("CONTROL", START)
        await one.set("CONTROL", 1 << 5)
    await one.set("bridge.STATUS", DONE)
    # A start behind the burst counts, of 100 steps.
    while await one.get("STATUS") & 1:
        pass
    extra = (await one.get("STEP")) - one.bridge.steps
    assert extra in (0, 100), f"{extra} steps of the host"
    if not extra:
        await one.check(outcome)
    check("STATUS", 2 * bool(extra), await one.get("STATUS"))


@bench
async def run_of_the_host(dut) -> None:
    """A burst waits for the end of a run of the host, and the frame counts as running."""
    one = await scene(dut, steps=6)
    await one.set("RUN_STEPS", 40)
    await one.set("CONTROL", START)
    await one.begin(0)
    while not await one.get("bridge.STATUS") & 1:
        pass
    check("STATUS of MARS", 1, await one.get("mars.STATUS"))
    await one.decided()
    one.golden.run(40)
    await one.check(one.golden.frame(one.inputs[0]))
    check("STATUS", 2, await one.get("STATUS"))


@bench
async def between_steps_of_the_host(dut) -> None:
    """Without a burst all stimuli of a frame come between two steps of a run of the host."""
    for seed in range(4):
        one = await scene(dut, steps=0, seed=seed)
        await one.begin(0)
        await one.set("CONTROL", START | FREE_RUN)
        await one.decided()
        await one.set("CONTROL", STOP | FREE_RUN)
        while await one.get("STATUS") & 1:
            pass
        n = await one.get("STEP")
        seen = await one.neurons()
        assert seen in [when_stimulated(one, k, n) for k in range(n + 1)], f"{n} steps"
        await one.set("CONTROL", 0)


def when_stimulated(one: Scene, k: int, n: int) -> list[tuple[int, int]]:
    """Biases and states after n steps if the stimuli came before step k."""
    chip = Chip(CONFIG, one.image, one.network, one.bridge)
    if k:
        chip.run(k)
    chip.frame(one.inputs[0])
    if n > k:
        chip.run(n - k)
    return one.right(chip.engine)


@bench
async def stop(dut) -> None:
    """CONTROL.stop ends a burst behind the step under way; the decision is that of its steps."""
    one = await scene(dut, steps=5000)
    await one.begin(0)
    commit = RisingEdge(dut.trace_commit)
    for _ in range(7):
        await commit
    await one.set("CONTROL", STOP)
    await one.decided()
    n = await one.get("STEP")
    assert 7 <= n < 20
    short = Bridge(one.bridge.entries, n, one.bridge.population)
    one.golden = Chip(CONFIG, one.image, one.network, short)
    await one.check(one.golden.frame(one.inputs[0]))


@bench
async def aborts(dut) -> None:
    """A result that waits for a run of the host is given up with CONTROL.abort."""
    one = await scene(dut, steps=5)
    await one.set("CONTROL", START | FREE_RUN)
    await one.begin(0)
    while not await one.get("bridge.STATUS") & 1:
        pass
    await ClockCycles(dut.clk, 50)
    check("STATUS of MARS", 1, await one.get("mars.STATUS"))
    await one.set("mars.CONTROL", ABORT)
    check("STATUS of MARS", MARS_DONE | MARS_ABORTED, await one.get("mars.STATUS"))
    await one.set("mars.STATUS", MARS_DONE | MARS_ABORTED)
    check("STATUS of the bridge", 0, await one.get("bridge.STATUS"))
    await one.set("CONTROL", STOP)
    while await one.get("STATUS") & 1:
        pass
    n = await one.get("STEP")
    one.golden.run(n)
    check("neurons", one.right(one.golden.engine), await one.neurons())
    # A frame that is aborted while it is computed goes nowhere either.
    await one.begin(0)
    await one.set("mars.CONTROL", ABORT)
    while not await one.get("mars.STATUS") & MARS_DONE:
        pass
    check("STATUS of MARS", MARS_DONE | MARS_ABORTED, await one.get("mars.STATUS"))
    check("STATUS of the bridge", 0, await one.get("bridge.STATUS"))
    await one.set("mars.STATUS", MARS_DONE | MARS_ABORTED)
    # The next one is right.
    await one.begin(1)
    await one.decided()
    await one.check(one.golden.frame(one.inputs[1]))


@bench
async def disabled(dut) -> None:
    """Without CONTROL.enable the populations hear nothing of frames."""
    one = await scene(dut)
    await one.set("bridge.CONTROL", IRQ_ENABLE)
    await one.begin(0, START | 4)
    await one.host.wait_for_irq(MOST_CLOCKS)
    check("STATUS of MARS", MARS_DONE, await one.get("mars.STATUS"))
    await ClockCycles(dut.clk, 500)
    check("STATUS of the bridge", 0, await one.get("bridge.STATUS"))
    check("neurons", one.right(Engine(one.network)), await one.neurons())
    check("STEP", 0, await one.get("STEP"))
    await one.set("mars.STATUS", MARS_DONE)
    await one.set("bridge.CONTROL", ENABLE | IRQ_ENABLE)
    await one.begin(0)
    await one.decided()
    await one.check(one.golden.frame(one.inputs[0]))


@bench
async def slow_receiver(dut) -> None:
    """A receiver that pauses makes bursts longer, and nothing else."""
    one = await scene(dut)
    pauses = cocotb.start_soon(pause(dut))
    for k in range(N_FRAMES):
        outcome = one.golden.frame(one.inputs[k])
        await one.begin(k)
        await one.decided()
        await one.check(outcome)
        assert await one.get("bridge.CLOCKS") >= outcome.clocks
    pauses.cancel()


async def pause(dut) -> None:
    """Spikes are not taken, most of the time."""
    rng = random.Random(cocotb.RANDOM_SEED)
    while True:
        dut.m_axis_spikes_tready.value = rng.random() < 0.3
        await ClockCycles(dut.clk, rng.randint(1, 6))


@bench
async def events_of_the_host(dut) -> None:
    """Events that come in every clock around those of the bridge are used with them."""
    one = await scene(dut, steps=3)
    axons = one.network.axons[0]
    outputs = one.golden.frame(one.inputs[0]).outputs
    output = int(np.flatnonzero(outputs)[0])
    sign = int(np.sign(outputs[output]))
    every = [Entry(output, 1, k, sign, 0, is_axon=True) for k in range(one.network.axons[1])]
    loud = [Entry(k, 0, k, 1, 0) for k in range(min(4, one.network.populations[0]))]
    bridge = Bridge((*every, *loud), 3, 0)
    registers = bridge_registers(bridge, one.image, CONFIG)
    await one.host.load(one.network, registers, entry_words(bridge, one.image))
    await one.begin(0)
    while not await one.get("bridge.STATUS") & 1:
        pass
    dut.s_axis_events_tvalid.value = 1
    for k in range(axons):
        dut.s_axis_events_tdata.value = events.beat(0, 0, k)
        await RisingEdge(dut.clk)
        while not dut.s_axis_events_tready.value:
            await RisingEdge(dut.clk)
    dut.s_axis_events_tvalid.value = 0
    await one.decided()
    stimuli = bridging.stimuli(bridge, outputs, one.network)
    engine = Engine(one.network)
    engine.set_bias(stimuli.bias)
    engine.step(np.union1d(stimuli.axons, np.arange(axons)))
    for _ in range(2):
        engine.step(np.zeros(0, np.int64))
    check("neurons", one.right(engine), await one.neurons())
    check("STATUS", 0, await one.get("STATUS"))
