"""External events: in time, late, unknown, in any clock."""

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles, RisingEdge
from cocotbext.axi import AxiResp

from model.npu import layout
from model.npu.clocks import STEP_OVERHEAD
from tb.bus.master import CLOCK_NS
from tb.npu.chip import (
    BAD_EVENT,
    CONFIG,
    EVENT_SYNC,
    FREE_RUN,
    IRQ_ENABLE,
    LATE_EVENT,
    RUNNING,
    START,
    STOP,
    TEST_TIMEOUT_US,
    Bus,
    begin,
    check_run,
    fill_blocks,
    load,
    set_neurons,
    some_network,
)


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
    await bus.run(5)
    run.steps(5, silent=True)
    await bus.send(7, CONFIG.n_populations, 0)
    await bus.send(5, 0, CONFIG.n_axons)
    await bus.send(4, 0, 0)
    await ClockCycles(dut.clk, 20)
    # The first of them is of step 7 and waits; behind it nothing can pass.
    assert await bus.get("STATUS") == 0
    await bus.run(2)
    run.steps(2, silent=True)
    await ClockCycles(dut.clk, 20)
    assert await bus.get("STATUS") == LATE_EVENT | BAD_EVENT
    await bus.set("STATUS", LATE_EVENT | BAD_EVENT)
    await bus.run(1)
    run.parts.append(run.engine.step(np.array([0])))
    await check_run(bus, run)


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
async def unknown_axons(dut) -> None:
    """An event just beyond the last axon or population, or far beyond, is reported and no row."""
    bus = Bus(dut)
    await bus.start()
    await fill_blocks(bus, 0, CONFIG.n_axons)
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
async def slow_events(dut) -> None:
    """The chip waits for events that come one by one, and uses each in its step."""
    bus = Bus(dut)
    await bus.start()
    network = some_network(np.random.default_rng(cocotb.RANDOM_SEED), with_events=True)
    n_steps = min(network.n_steps, network.session[0].steps, 20)
    run = await load(bus, network)
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
    await check_run(bus, run)


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
async def event_burst(dut) -> None:
    """The event input takes one event per clock, and each is one row of the next step."""
    bus = Bus(dut)
    await bus.start()
    await set_neurons(bus, 0)
    n_events = min(CONFIG.n_axons, 8)
    await fill_blocks(bus, 0, n_events)
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
