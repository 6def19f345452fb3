"""The AXI4-Lite bridge: two directions, two write channels, answers that wait."""

import itertools

import cocotb
from cocotb.triggers import ClockCycles, RisingEdge

from tb.npu.chip import CONFIG, IRQ_ENABLE, START, TEST_TIMEOUT_US, Bus, set_neurons


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
