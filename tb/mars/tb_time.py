"""Frames that take their time steps in chunks, on the whole chip: exits, aborts, errors.

`tb.mars.cosim` compares every value and clock of such frames; here the memory pauses, frames are
ended early, and nothing of them is left in the next one.
"""

import os
from dataclasses import dataclass

import cocotb
import numpy as np

from model.mars import frame as golden
from model.mars.config import LINE_BYTES
from model.mars.image import Image
from model.mars.layout import Ints
from model.mars.mapper import compile_network
from model.mars.network import Dense, FeatureType, QuantizedNetwork
from model.mars.neuron import Exit, Neuron
from model.mars.program import to_bytes
from model.mars.random_network import random_input
from model.mars.time_registers import time_registers
from tb.bench import check
from tb.benches import BENCH_CHIPS
from tb.mars.chip import (
    ABORT,
    ABORTED,
    BUS_ERROR,
    DONE,
    IRQ_ENABLE,
    Chip,
)
from tb.mars.chip import Frame as PlainFrame

CHIP = BENCH_CHIPS[os.environ["KENYON_CONFIG"]]
CONFIG = CHIP.mars
TIMEOUT_US = 12_000
INPUTS, PROGRAM = 0x1_0000, 0x100_0000
N_STEPS, N_CLASSES = 7, 10


def bench(test):
    """A test of MARS, not repeated on a chip that has more than MARS."""
    return cocotb.test(timeout_time=TIMEOUT_US, timeout_unit="us", skip=CHIP.npu is not None)(test)


def network(threshold: float | None) -> QuantizedNetwork:
    """Two layers of neurons whose membranes outlive a chunk, and logits."""
    rng = np.random.default_rng(3)

    def dense(name: str, source: str, n_in: int, n_out: int, neuron: Neuron | None) -> Dense:
        return Dense(
            name=name,
            input=source,
            weight=rng.integers(-8, 8, (n_out, n_in)),
            bias=rng.integers(-3, 4, n_out),
            weight_bits=4,
            out_bits=1 if neuron else 32,
            out_signed=neuron is None,
            neuron=neuron,
        )

    soft = Neuron(bits=8, threshold=np.full(24, 6), reset="soft", leak=1)
    hard = Neuron(bits=12, threshold=np.full(20, 4), reset="hard", groups=2)
    layers = (
        dense("soft", "input", 32, 24, soft),
        dense("hard", "soft", 24, 20, hard),
        dense("logits", "hard", 20, N_CLASSES, None),
    )
    stop = threshold and Exit(metric="entropy", mode="sum", threshold=threshold, scale=0.05)
    kind = FeatureType((2, 4, 4), 1, signed=False)
    return QuantizedNetwork(
        kind, layers, "chunks", time_steps=N_STEPS, coding="spikes", exit=stop or None
    )


@dataclass(frozen=True)
class Frame:
    """An image that is run for one input."""

    image: Image
    features: Ints

    @property
    def golden(self) -> golden.FrameRun:
        """What must come of it."""
        return golden.run_frame(self.image, self.features)


def frame_of(threshold: float | None, chunk: int, seed: int) -> Frame:
    """A frame; with a threshold it may stop early."""
    net = network(threshold)
    return Frame(compile_network(net, CONFIG, chunk), random_input(net, seed)[0])


async def prepare(chip: Chip, frame: Frame) -> None:
    """Packets and program into memory, registers and tables into the chip."""
    chip.in_chunks = True
    image = frame.image
    registers, tables = time_registers(image)
    stride = registers["INPUT_STRIDE"]
    packets = [to_bytes(image.packet(frame.features, k)) for k in range(image.n_chunks)]
    chip.memory.regions = [
        (INPUTS, b"".join(packet.ljust(stride, b"\0") for packet in packets)),
        (PROGRAM, to_bytes(image.lines)),
    ]
    registers |= {
        "INPUT_BASE": INPUTS,
        "INPUT_LINES": len(packets[0]) // LINE_BYTES,
        "PROGRAM_BASE": PROGRAM,
        "PROGRAM_LINES": len(image.lines),
    }
    for name, value in registers.items():
        await chip.set(name, value)
    for first, words in tables.items():
        data = np.array(words, "<u4").tobytes()
        await chip.master.write(chip.map["exit_tables"] + 4 * first, data)


async def check_end(chip: Chip, frame: Frame, where: str) -> None:
    """A frame that was begun ends as it must."""
    check(f"{where}: STATUS", DONE, await chip.end())
    right = frame.golden
    check(f"{where}: STEPS_TAKEN", right.steps, await chip.get("STEPS_TAKEN"))
    answer = await chip.master.read(chip.map["exit_tables"], 4 * N_CLASSES)
    logits = np.frombuffer(bytes(answer.data), "<i4")
    assert right.logits is not None
    np.testing.assert_array_equal(logits, right.logits, where)


async def begun(dut) -> Chip:
    """The chip behind its bus models."""
    chip = Chip(dut, CHIP)
    await chip.begin_bench()
    return chip


async def begin(chip: Chip, frame: Frame) -> None:
    """Put a frame into the chip and start it."""
    await prepare(chip, frame)
    await chip.begin()


@bench
async def exits(dut) -> None:
    """Chunks of every size and several thresholds, whatever the memory does."""
    chip = await begun(dut)
    steps = set()
    for chunk, pause in ((1, 0.4), (2, 0.0), (3, 0.4), (4, 0.0)):
        chip.pause(pause, late=pause / 10)
        for seed, threshold in enumerate((None, 0.02, 0.05, 0.1, 0.05, 0.02)):
            frame = frame_of(threshold, chunk, seed)
            await begin(chip, frame)
            await check_end(chip, frame, f"chunks of {chunk}, above {threshold}, pause {pause}")
            steps.add(frame.golden.steps)
    assert len(steps) > 3, steps


@bench
async def aborts(dut) -> None:
    """In any clock: in a chunk, between two, while the unit decides; the next frame is right."""
    chip = await begun(dut)
    frame = frame_of(0.2, 2, 1)
    clocks = frame.golden.clocks
    flags = []
    for clock in (*range(clocks - 8, clocks + 4, 2), *chip.rng.sample(range(20, clocks), 10)):
        await begin(chip, frame)
        await chip.at(clock)
        await chip.set("CONTROL", ABORT | IRQ_ENABLE)
        flags.append(await chip.end())
        check(f"abort in clock {clock}: DONE", DONE, flags[-1] & ~ABORTED)
        await begin(chip, frame)
        await check_end(chip, frame, f"after an abort in clock {clock}")
    assert {DONE, DONE | ABORTED} == set(flags)


@bench
async def errors(dut) -> None:
    """The packet of a later chunk cannot be read: the frame ends, the next one is right."""
    chip = await begun(dut)
    frame = frame_of(None, 2, 4)
    stride = time_registers(frame.image)[0]["INPUT_STRIDE"]
    for chunk in range(frame.image.n_chunks):
        await prepare(chip, frame)
        chip.memory.bad = INPUTS + chunk * stride + LINE_BYTES
        await chip.begin()
        check(f"chunk {chunk}: STATUS", DONE | BUS_ERROR, await chip.end())
        chip.memory.bad = None
        await begin(chip, frame)
        await check_end(chip, frame, f"after an error in chunk {chunk}")


@cocotb.test(timeout_time=TIMEOUT_US, timeout_unit="us")
async def registers_of_other_frames(dut) -> None:
    """Without steps, or without a chunk, a frame is one; a plain frame follows as ever."""
    chip = await begun(dut)
    rng = np.random.default_rng(1)
    dense = Dense(
        name="dense",
        input="input",
        weight=rng.integers(-8, 8, (4, 32)),
        bias=np.zeros(4, np.int64),
        weight_bits=4,
        out_bits=32,
        out_signed=True,
    )
    net = QuantizedNetwork(FeatureType((2, 4, 4), 4, signed=False), (dense,), "plain")
    plain = PlainFrame(net, compile_network(net, CONFIG), random_input(net, 1)[0])
    frame = frame_of(0.2, 2, 1)
    for steps, chunk in ((0, 2), (4, 0), (0, 0)):
        await begin(chip, frame)
        await check_end(chip, frame, "before")
        await chip.set("TIME", steps | chunk << 8)
        chip.in_chunks = False
        await chip.check_frame(plain, f"plain frame, {steps} steps, chunk {chunk}")
