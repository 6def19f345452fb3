"""The spike stream: what it carries, and receivers that stop."""

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles

from tb.npu.chip import (
    IRQ_ENABLE,
    RUNNING,
    START,
    TEST_TIMEOUT_US,
    Bus,
    check_run,
    load,
    set_neurons,
    some_network,
)


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
async def back_pressure(dut) -> None:
    """A receiver that stops for long: the step waits, says so, and nothing is lost."""
    bus = Bus(dut)
    await bus.start()
    network = some_network(np.random.default_rng(cocotb.RANDOM_SEED), with_events=False)
    run = await load(bus, network)
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
    await check_run(bus, run)


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
