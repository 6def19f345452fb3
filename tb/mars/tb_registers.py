"""The registers and feature memories of MARS behind standard bus models.

What a frame computes is not looked at here: before the first line of a frame arrives it is aborted,
or the memory answers with an error.
"""

import os

import cocotb
from cocotb.triggers import ClockCycles, RisingEdge
from cocotb.utils import get_sim_time
from cocotbext.axi import AxiReadBus, AxiResp, AxiSlaveRead

from model.mars.config import LINE_BITS, WORD_BITS
from model.registers import register_map
from tb.benches import BENCH_CHIPS
from tb.bus.master import CLOCK_NS, Master, bridge_holes

CHIP = BENCH_CHIPS[os.environ["KENYON_CONFIG"]]
CONFIG = CHIP.mars
START, ABORT, IRQ_ENABLE = (1 << bit for bit in range(3))
NPU_START, NPU_STOP, NPU_FREE_RUN = (1 << bit for bit in range(3))
RUNNING, DONE, BUS_ERROR, ABORTED = (1 << bit for bit in range(4))
FEATURE_STRIDE = 0x20000
FEATURE_BYTES = CONFIG.feature_words * WORD_BITS // 8
N_LINES = 4
LONG = 200
"""Clocks in which everything that does not wait has happened."""
TEST_TIMEOUT_US = 1_000
KEPT = {
    "mars.INPUT_BASE": 0xFFFF_FE00,
    "mars.INPUT_LINES": 0x00FF_FFFF,
    "mars.PROGRAM_BASE": 0xFFFF_FE00,
    "mars.PROGRAM_LINES": 0x00FF_FFFF,
    "mars.SCRATCH_BASE": 0xFFFF_FE00,
}
"""Registers that hold what was written, and the bits that they have."""


class Memory:
    """Holds zeros, or answers with errors."""

    def __init__(self) -> None:
        self.fails = False
        self.addresses: list[int] = []

    async def read(self, address: int, length: int) -> bytes:
        """Called for every beat of a burst."""
        self.addresses.append(address)
        if self.fails:
            raise LookupError(f"no memory at {address:#x}")
        return bytes(length)


class Bus(Master):
    """The host's bus model, the register names and the memory behind the weight bus."""

    def __init__(self, dut) -> None:
        super().__init__(dut, register_map(CHIP))
        self.memory = Memory()
        weights = AxiReadBus.from_prefix(dut, "m_axi_weights")
        self.slave = AxiSlaveRead(weights, dut.clk, dut.rst, self.memory)

    async def prepare(self, input_base: int = 0x200, program_base: int = 0x1000) -> None:
        """Registers of a frame; its memory does not answer before `let_go`."""
        self.slave.r_channel.pause = True
        self.memory.addresses.clear()
        for part, base in (("INPUT", input_base), ("PROGRAM", program_base)):
            await self.set(f"mars.{part}_BASE", base)
            await self.set(f"mars.{part}_LINES", N_LINES)

    async def begin(self) -> None:
        """Start the frame."""
        await self.set("mars.CONTROL", START | IRQ_ENABLE)

    def let_go(self, *, fails: bool) -> None:
        """The memory answers."""
        self.memory.fails = fails
        self.slave.r_channel.pause = False

    async def irq(self) -> int:
        """Wait for the end of the frame; returns the status and clears it."""
        if not self.dut.irq.value:
            await RisingEdge(self.dut.irq)
        status = await self.get("mars.STATUS")
        await self.set("mars.STATUS", status)
        assert await self.get("mars.STATUS") == 0
        assert not self.dut.irq.value
        return status


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
async def identification(dut) -> None:
    """What a driver reads first, and the state after reset."""
    bus = Bus(dut)
    await bus.start()
    assert await bus.get("mars.ID") == int.from_bytes(b"MARS", "big")
    assert await bus.get("mars.FINGERPRINT") == CONFIG.fingerprint
    geometry = CONFIG.n_cores | CONFIG.macros_per_core << 4
    geometry |= CONFIG.weight_bus // 8 << 8 | CONFIG.feature_words << 16
    assert await bus.get("mars.GEOMETRY") == geometry
    for name in bus.map.registers:
        if name.startswith("mars.") and name[5:] not in ("ID", "FINGERPRINT", "GEOMETRY"):
            assert await bus.get(name) == 0, name
    assert not dut.irq.value
    assert not dut.m_axi_weights_arvalid.value


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
async def registers(dut) -> None:
    """Registers keep the bits that they have; the others refuse writes; nothing else changes."""
    bus = Bus(dut)
    await bus.start()
    for name, mask in KEPT.items():
        for value in (0xFFFF_FFFF, 0xA5A5_5A5A, 0x0000_01FF, 0x0000_0200, 1):
            await bus.set(name, value)
            assert await bus.get(name) == value & mask, f"{name} after {value:#x}"
        await bus.set(name, 0xA5A5_5A5A)
        for length in (1, 2, 3):
            response = await bus.write(bus.map[name], bytes(length))
            assert response == AxiResp.SLVERR, f"{name}: {length} bytes"
        assert await bus.get(name) == 0xA5A5_5A5A & mask, f"{name} after refused writes"
    for name, register in bus.map.registers.items():
        if name.startswith("mars.") and not any(f.writable for f in register.fields):
            before = await bus.get(name)
            response = await bus.write(register.address, b"\xff\xff\xff\xff")
            assert response == AxiResp.SLVERR, f"{name} is read-only"
            assert await bus.get(name) == before, name
    await bus.set("mars.CONTROL", IRQ_ENABLE)
    assert await bus.get("mars.CONTROL") == IRQ_ENABLE
    await bus.set("mars.CONTROL", 0xFFFF_FFFF & ~START)
    assert await bus.get("mars.CONTROL") == IRQ_ENABLE
    await bus.set("mars.STATUS", 0xFFFF_FFFF)
    assert await bus.get("mars.STATUS") == 0
    for name, mask in KEPT.items():
        assert await bus.get(name) == 0xA5A5_5A5A & mask, f"{name} at the end"


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
async def feature_memories(dut) -> None:
    """They can be read, whole and in part, and refuse writes."""
    bus = Bus(dut)
    await bus.start()
    for macro in range(CONFIG.n_macros):
        base = bus.map[f"features[{macro}]"]
        for place in (0, 4, 8, FEATURE_BYTES // 2, FEATURE_BYTES - 8, FEATURE_BYTES - 4):
            response, before = await bus.read(base + place)
            assert response == AxiResp.OKAY, f"features[{macro}] at {place:#x}"
            inverted = bytes(byte ^ 0xFF for byte in before)
            assert await bus.write(base + place, inverted) == AxiResp.SLVERR
            assert await bus.write(base + place, inverted[:1]) == AxiResp.SLVERR
            assert await bus.read(base + place) == (AxiResp.OKAY, before)


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
async def out_of_map(dut) -> None:
    """Reads and writes outside the map answer SLVERR."""
    bus = Bus(dut)
    await bus.start()
    holes = [0x8050, 0x8054, 0x8FFC, 0x7FFC, 0x7FFF_FFFC, 0xFFFF_FFFC, *bridge_holes(CHIP)]
    if FEATURE_BYTES < FEATURE_STRIDE:
        for macro in range(CONFIG.n_macros):
            end = bus.map[f"features[{macro}]"] + FEATURE_BYTES
            holes += [end, end - FEATURE_BYTES + FEATURE_STRIDE - 4]
    holes.append(bus.map["features[0]"] + FEATURE_STRIDE * CONFIG.n_macros)
    if CHIP.npu is None:
        holes += [0, 0x0C, 0x1000, 0x10_0000, 0x100_0000]
    for hole in holes:
        assert await bus.write(hole, b"\xff\xff\xff\xff") == AxiResp.SLVERR, f"{hole:#x}"
        assert await bus.read(hole) == (AxiResp.SLVERR, bytes(4)), f"{hole:#x}"
    assert await bus.get("mars.STATUS") == 0
    assert not dut.irq.value


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
async def feature_memories_wait_for_the_frame(dut) -> None:
    """Reads and writes wait for its end, from the clock of its start on."""
    bus = Bus(dut)
    await bus.start()
    features = bus.map["features[0]"]
    for delay in (1, 2, 3, 4, 5, LONG):
        await bus.prepare()
        starting = cocotb.start_soon(bus.begin())
        await ClockCycles(dut.clk, delay)
        access = bus.write(features, bytes(4)) if delay % 2 else bus.read(features)
        access = cocotb.start_soon(access)
        await starting
        await ClockCycles(dut.clk, LONG)
        assert not access.done(), f"served in a running frame, {delay} clocks after its start"
        bus.let_go(fails=True)
        answer = await access
        expected = AxiResp.SLVERR if delay % 2 else AxiResp.OKAY
        assert (answer if delay % 2 else answer[0]) == expected
        assert await bus.irq() == DONE | BUS_ERROR


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
async def registers_never_wait(dut) -> None:
    """In a running frame registers answer; a second start is ignored; abort ends it."""
    bus = Bus(dut)
    await bus.start()
    await bus.prepare()
    # Nothing is running: there is nothing to abort.
    await bus.set("mars.CONTROL", ABORT)
    await ClockCycles(dut.clk, LONG)
    assert await bus.get("mars.STATUS") == 0
    await bus.begin()
    assert await bus.get("mars.STATUS") == RUNNING
    for name, mask in KEPT.items():
        before = await bus.get(name)
        await bus.set(name, 0x5A5A_A5A5)
        assert await bus.get(name) == 0x5A5A_A5A5 & mask
        await bus.set(name, before)
    for name in bus.map.registers:
        await bus.get(name)
    await bus.begin()
    assert await bus.get("mars.STATUS") == RUNNING
    assert not dut.irq.value
    await bus.set("mars.CONTROL", ABORT | IRQ_ENABLE)
    bus.let_go(fails=False)
    assert await bus.irq() == DONE | ABORTED
    assert await bus.get("mars.FRAME_CLOCKS") > LONG // 10
    await ClockCycles(dut.clk, LONG)
    assert await bus.get("mars.STATUS") == 0, "the second start was kept"


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
async def start_and_abort_together(dut) -> None:
    """Written together while nothing runs, they start; while a frame runs, they abort it."""
    bus = Bus(dut)
    await bus.start()
    await bus.prepare()
    for _ in range(2):
        await bus.set("mars.CONTROL", START | ABORT | IRQ_ENABLE)
        await ClockCycles(dut.clk, LONG)
        assert await bus.get("mars.STATUS") == RUNNING
    bus.let_go(fails=False)
    assert await bus.irq() == DONE | ABORTED


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
async def addresses_of_the_frame(dut) -> None:
    """Input packet and program are read where the registers say."""
    bus = Bus(dut)
    await bus.start()
    for bases in ((0x200, 0x1000), (0xFFFF_FE00, 0x8000_0000), (0, 0x7FFF_FC00)):
        await bus.prepare(*bases)
        await bus.begin()
        await ClockCycles(dut.clk, LONG)
        await bus.set("mars.CONTROL", ABORT | IRQ_ENABLE)
        bus.let_go(fails=False)
        assert await bus.irq() == DONE | ABORTED
        lines = [base + k * LINE_BITS // 8 for base in bases for k in range(N_LINES)]
        beat = CONFIG.weight_bus // 8
        expected = [line + beat * k for line in lines for k in range(CONFIG.beats_per_line)]
        assert bus.memory.addresses == expected


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
async def irq_only_if_enabled(dut) -> None:
    """The interrupt follows the flag and the enable bit."""
    bus = Bus(dut)
    await bus.start()
    await bus.prepare()
    await bus.set("mars.CONTROL", START)
    bus.let_go(fails=True)
    while await bus.get("mars.STATUS") & RUNNING:
        pass
    assert await bus.get("mars.STATUS") == DONE | BUS_ERROR
    assert not dut.irq.value
    await bus.set("mars.CONTROL", IRQ_ENABLE)
    assert dut.irq.value
    # Flags are cleared one by one.
    await bus.set("mars.STATUS", BUS_ERROR)
    assert await bus.get("mars.STATUS") == DONE
    assert dut.irq.value
    await bus.set("mars.STATUS", DONE)
    assert await bus.get("mars.STATUS") == 0
    assert not dut.irq.value


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us", skip=CHIP.npu is None)
async def accelerators_do_not_wait_for_each_other(dut) -> None:
    """A frame lets the neurons be read, time steps let registers and features of MARS be read."""
    bus = Bus(dut)
    await bus.start()

    async def clocks(*addresses: int) -> set[int]:
        """Clocks that reads take, at many moments of a time step."""
        taken = set()
        for k in range(60):
            begin = get_sim_time("ns")
            response, _ = await bus.read(addresses[k % len(addresses)])
            assert response == AxiResp.OKAY
            taken.add(round(get_sim_time("ns") - begin) // CLOCK_NS)
            await ClockCycles(dut.clk, k % 7)
        return taken

    neurons = bus.map["neurons[0]"]
    of_mars = [bus.map["mars.STATUS"], bus.map["features[0]"]]
    without_waiting = await clocks(*of_mars)
    assert len(without_waiting) == 1
    for p in range(CHIP.npu.n_populations):
        await bus.set(f"population[{p}].N_GROUPS", CHIP.npu.n_groups)
    await bus.set("CONTROL", NPU_START | NPU_FREE_RUN)
    assert await clocks(*of_mars) == without_waiting
    assert await clocks(neurons) != without_waiting, "no time step was running"
    await bus.set("CONTROL", NPU_STOP | NPU_FREE_RUN)
    await ClockCycles(dut.clk, LONG)
    await bus.prepare()
    await bus.begin()
    assert await clocks(neurons) == without_waiting
    assert await bus.get("mars.STATUS") == RUNNING
    bus.let_go(fails=True)
    assert await bus.irq() == DONE | BUS_ERROR
