"""The whole NPU: sessions, hosts that visit in between, what clear forgets."""

import random

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles
from cocotbext.axi import AxiResp

from model.npu.clocks import STEP_OVERHEAD
from model.npu.image import records
from model.npu.network import Network
from tb.npu.chip import (
    CLEAR,
    CONFIG,
    IRQ_ENABLE,
    RUNNING,
    START,
    TEST_TIMEOUT_US,
    Bus,
    begin,
    check_run,
    fill_blocks,
    load,
    run_session,
    set_neurons,
    some_network,
)


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
async def host_during_run(dut) -> None:
    """Reading and rewriting memories while steps are running disturbs neither."""
    bus = Bus(dut)
    await bus.start()
    network = busy_network(np.random.default_rng(cocotb.RANDOM_SEED))
    run = await load(bus, network)
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
    await check_run(bus, run)


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
async def clear(dut) -> None:
    """Clear forgets spikes and events; one that comes with it is forgotten or used."""
    bus = Bus(dut)
    await bus.start()
    await bus.set("RUN_STEPS", 1)
    await fill_blocks(bus, CONFIG.n_neurons, 1)
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
    await fill_blocks(bus, CONFIG.n_neurons, 0)
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
