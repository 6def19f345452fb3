"""Registers of the NPU: what the host writes, reads, and clears."""

import cocotb
from cocotb.triggers import ClockCycles, RisingEdge, with_timeout
from cocotbext.axi import AxiResp

from model.npu import layout
from model.npu.config import I_MAX
from tb.bus.master import CLOCK_NS
from tb.npu.chip import (
    BAD_EVENT,
    CONFIG,
    DONE,
    IRQ_ENABLE,
    START,
    TEST_TIMEOUT_US,
    TIMEOUT_US,
    Bus,
    set_neurons,
)


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
        # An event acts in the clock after it was taken, a write in the second one.
        ahead = taken["write"] + 1 - taken["event"]
        together += ahead == 0
        expected = BAD_EVENT if ahead <= 0 else 0
        assert await bus.get("STATUS") == expected, f"event {ahead} clocks before the write"
        await bus.set("STATUS", BAD_EVENT)
    assert together, "no event has met the write"
