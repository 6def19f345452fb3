"""Time steps: the timer, runs that end, stop or wait, the step counter."""

import itertools

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles, RisingEdge
from cocotbext.axi import AxiResp

from model.npu.clocks import STEP_OVERHEAD, STREAM_LATENCY
from tb.bus.master import CLOCK_NS
from tb.npu.chip import (
    CLEAR,
    CONFIG,
    DONE,
    EVENT_SYNC,
    FREE_RUN,
    IRQ_ENABLE,
    OVERRUN,
    RUNNING,
    START,
    STOP,
    TEST_TIMEOUT_US,
    Bus,
    begin,
    check_run,
    fill_blocks,
    set_neurons,
    some_network,
)


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
async def stall_clocks(dut) -> None:
    """Clocks that a step waits for the spike stream count for that step only."""
    bus = Bus(dut)
    await bus.start()
    await set_neurons(bus, 300)
    await fill_blocks(bus, CONFIG.n_neurons, 0)
    clocks = (CONFIG.n_neurons + 1) * CONFIG.n_groups + STEP_OVERHEAD
    bus.sink.pause = True
    await bus.set("RUN_STEPS", 2)
    await bus.set("CONTROL", START | IRQ_ENABLE)
    await ClockCycles(dut.clk, 5 * clocks)
    bus.sink.pause = False
    await bus.irq()
    assert 3 * clocks < await bus.get("STALL_CLOCKS") < 5 * clocks
    assert await bus.get("STEP_CLOCKS") == clocks
    await bus.run(1)
    assert await bus.get("STALL_CLOCKS") == 0
    assert await bus.get("STEP_CLOCKS") == clocks


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
async def spikes_without_weights(dut) -> None:
    """Steps of neurons that fire into nothing are short, and wait for what the stream needs."""
    bus = Bus(dut)
    await bus.start()
    await set_neurons(bus, 300)
    for p in range(CONFIG.n_populations):
        await bus.set(f"population[{p}].N_GROUPS", 1)
        nothing = bytes(CONFIG.n_neurons * CONFIG.n_lanes)
        assert await bus.write(bus.map[f"weights[{p}]"], nothing) == AxiResp.OKAY
    clocks = 1 + STEP_OVERHEAD
    await bus.run(1)
    assert await bus.get("STEP_CLOCKS") == clocks
    assert await bus.get("STALL_CLOCKS") == 0
    for _ in range(2):
        await bus.run(3)
        waits = CONFIG.n_populations * CONFIG.n_lanes + STREAM_LATENCY - clocks
        assert await bus.get("STALL_CLOCKS") == max(waits, 0)
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
    clocks = [int(part.clocks[0]) for part in run.parts]
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
    await check_run(bus, run)


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
    await fill_blocks(bus, 0, 1)
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
        if step == 1000:
            # It was written behind the step, and the fence has said that nothing comes for it.
            await bus.set("CONTROL", START | EVENT_SYNC | IRQ_ENABLE)
            await bus.irq()
        await bus.send(1001, 0, 0)
        await bus.send(1002, 0, 0, fence=True)
        await bus.set("CONTROL", START | EVENT_SYNC | IRQ_ENABLE)
        await bus.irq()
        assert await bus.get("STATUS") == 0, f"fence {delay} clocks after the write: late"
        assert await bus.get("STEP_CLOCKS") == 2 * CONFIG.n_groups + STEP_OVERHEAD


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
async def step_written_in_a_stall(dut) -> None:
    """The step that waits takes the new number; events of the one behind it are in time.

    A write that comes when the wait is over lands before the end of the step or behind it.
    """
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
    # When its wait ends, counted from where the receiver goes on.
    left = 0
    found = set()
    await bus.set("RUN_STEPS", 2)
    for delay in (None, *range(14)):
        await bus.set("CONTROL", CLEAR)
        await bus.set("STEP", 0)
        bus.sink.pause = True
        await bus.set("CONTROL", START | IRQ_ENABLE)
        await ClockCycles(dut.clk, 4 * (CONFIG.n_neurons + 2) * CONFIG.n_groups)
        bus.sink.pause = False
        if delay is None:
            began = cocotb.utils.get_sim_time("ns")
            await RisingEdge(dut.trace_commit)
            left = int(cocotb.utils.get_sim_time("ns") - began) // CLOCK_NS
        else:
            await ClockCycles(dut.clk, left - delay)
            await bus.set("STEP", 100)
        await bus.irq()
        found.add((delay is None, await bus.get("STEP")))
    assert found == {(True, 2), (False, 100), (False, 101)}, f"not in or behind the step: {found}"


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
