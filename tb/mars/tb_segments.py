"""Networks whose maps do not fit, on the whole chip: results, memory, errors and aborts.

Clocks are those of a memory that answers whenever it likes; `tb.mars.cosim` has the exact ones.
"""

import os

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles

from model.mars import reference
from model.mars.image import Image
from model.mars.layout import Ints
from model.mars.mapper import FitError, compile_network
from model.mars.network import INPUT, FeatureType, MaxPool, QuantizedNetwork, Select
from model.mars.random_network import random_input, random_network
from model.mars.zoo.builder import Builder
from tb.bench import check
from tb.benches import BENCH_CHIPS
from tb.mars.chip import (
    ABORT,
    ABORTED,
    BUS_ERROR,
    DONE,
    IRQ_ENABLE,
    RUNNING,
    Chip,
    Frame,
    Record,
)

CHIP = BENCH_CHIPS[os.environ["KENYON_CONFIG"]]
CONFIG = CHIP.mars
SMALL_WORDS = 1024
"""Of a feature memory: a network need not be large to have maps that do not fit."""
IS_SMALL = CHIP.npu is None and CONFIG.feature_words <= SMALL_WORDS
TIMEOUT_US = 12_000
SCRATCH_BASE = 0x6000_0400
LONGEST = 4_000
"""Clocks of a frame."""
WORD_BYTES = 8


def bench(test):
    """A test of MARS with small memories alone."""
    return cocotb.test(timeout_time=TIMEOUT_US, timeout_unit="us", skip=not IS_SMALL)(test)


def spilled(seed: int) -> Frame | None:
    """A random network with several segments, unless it has one or takes long."""
    network = random_network(
        seed, max_channels=20, max_size=20, max_layers=4, wide=CONFIG.wide_multiplier
    )
    try:
        image = compile_network(network, CONFIG)
    except FitError:
        return None
    fits = len(image.segments) == 1 or work(image) > LONGEST
    return None if fits else Frame(network, image, noise(network))


def noise(network: QuantizedNetwork) -> Ints:
    """An input that has many values: equal ones hide words that are out of place."""
    return max(
        (random_input(network, seed)[0] for seed in range(8)), key=lambda x: len(np.unique(x))
    )


def directed() -> list[Frame]:
    """Two maps are read for one pass; several results lie in one map."""
    two = Builder((16, 18, 18), 0.0, 4, 4, 0)
    first = two.conv("a", INPUT, 32, size=1)
    second = two.conv("b", first, 32, size=1)
    third = two.conv("c", second, 32, size=1, skip=first)
    two.conv("d", third, 16, size=1, skip=None)
    two.conv("e", "d", 32, size=1, skip=second)
    parts = Builder((16, 20, 20), 0.0, 4, 4, 0)
    parts.conv("b", parts.conv("a", INPUT, 16, size=1), 20, size=1)
    layers = parts.network("parts").layers
    both = Select(name="both", inputs=("b", "a"), channels=tuple(range(30)))
    pool = MaxPool(name="pool", input="both", kernel=(3, 2), stride=(2, 2))
    kind = FeatureType((16, 20, 20), 4, signed=False)
    networks = [
        two.network("two maps"),
        QuantizedNetwork(kind, (*layers, both, pool), "parts of a map"),
    ]
    frames = [Frame(one, compile_network(one, CONFIG), noise(one)) for one in networks]
    stores = [[one.descriptor for one in frame.image.passes] for frame in frames]
    assert any(all(d.load_lines) for d in stores[0]), "no segment reads two maps"
    assert any(d.kept_end - d.kept_word < d.pixel_words for d in stores[1]), "no part of a map"
    return frames


def work(image: Image) -> int:
    """About the clocks of a frame."""
    lines = sum(region.n_lines for one in image.segments for region in one.regions)
    passes = (one.descriptor for one in image.passes)
    return 8 * lines + sum(one.n_words + one.n_rounds * 8 for one in passes)


def some(n: int, first: int = 0) -> list[Frame]:
    """Networks with several segments."""
    frames: list[Frame] = []
    seed = first
    while len(frames) < n:
        frame = spilled(seed)
        seed += 1
        if frame is not None:
            frames.append(frame)
    return frames


async def begun(dut) -> Chip:
    """The chip after reset; the trace counts clocks from the start of each segment."""
    chip = Chip(dut, CHIP)
    chip.in_chunks = True
    await chip.begin_bench()
    return chip


async def prepare(chip: Chip, frame: Frame) -> None:
    """Put a frame into memory, with room for its maps."""
    await chip.prepare(frame)
    chip.memory.scratch = SCRATCH_BASE, bytearray(frame.image.scratch_bytes)
    chip.memory.n_written = 0
    await chip.set("SCRATCH_BASE", SCRATCH_BASE)


async def check_frame(chip: Chip, frame: Frame, where: str) -> Record:
    """Compute a frame; its result and all maps in memory."""
    await prepare(chip, frame)
    record = await chip.begin()
    check(f"{where}: STATUS", DONE, await chip.end())
    image = frame.image
    check(f"{where}: passes", 1 + len(image.passes), len(record.ends))
    chip.golden_frame(frame)
    maps = chip.golden.maps
    _, memory = chip.memory.scratch
    np.testing.assert_array_equal(np.frombuffer(memory, "<u8"), maps, f"{where}: maps")
    n_written = sum(one.n_kept_words for one in image.passes) * WORD_BYTES
    check(f"{where}: bytes written", n_written, chip.memory.n_written)
    words = maps[image.contents.output_address :][: image.output_words]
    if not image.contents.stored:
        words = await chip.features(0, image.contents.output_address, image.output_words)
    result = image.output.from_words(words)
    expected = reference.run(frame.network, frame.features)[frame.network.output]
    np.testing.assert_array_equal(result, expected.reshape(result.shape), f"{where}: result")
    return record


def plain() -> Frame:
    """A network that fits."""
    network: QuantizedNetwork = random_network(
        3, max_channels=17, max_size=4, max_layers=2, wide=CONFIG.wide_multiplier
    )
    return Frame(network, compile_network(network, CONFIG), random_input(network, 1)[0])


@cocotb.test(timeout_time=TIMEOUT_US, timeout_unit="us", skip=CHIP.npu is not None)
async def nothing_is_written(dut) -> None:
    """Maps that fit stay where they are."""
    chip = await begun(dut)
    frame = plain()
    check("segments", 1, len(frame.image.segments))
    await check_frame(chip, frame, "plain")
    check("bytes written", 0, chip.memory.n_written)


@cocotb.test(timeout_time=TIMEOUT_US, timeout_unit="us", skip=CONFIG.feature_words > SMALL_WORDS)
async def directed_networks(dut) -> None:
    """Also beside the NPU: two maps for a pass, and results that are parts of one."""
    chip = await begun(dut)
    for frame in directed():
        await check_frame(chip, frame, frame.network.name)


@bench
async def any_memory(dut) -> None:
    """Pauses on all channels, from none to most clocks; the chip is never reset in between."""
    chip = await begun(dut)
    for k, frame in enumerate(some(4)):
        pause, late = ((0.0, 0.0), (0.2, 0.0), (0.6, 0.03))[k % 3]
        chip.pause(pause, late)
        await check_frame(chip, frame, f"{frame.network.name}, pause {pause}, late {late}")
    chip.pause(0.0)
    await check_frame(chip, plain(), "plain")


@bench
async def write_errors(dut) -> None:
    """The memory refuses a byte: the frame ends, with all of its bursts, and the next one works."""
    chip = await begun(dut)
    for frame, pause in zip(some(2, 100), (0.0, 0.4), strict=True):
        chip.pause(pause)
        stores = [one for one in frame.image.passes if one.n_kept_words]
        for one in (stores[0], stores[-1]):
            d = one.descriptor
            word = d.map_word + d.kept_word
            where = f"{frame.network.name}: error at word {word}, pause {pause}"
            await prepare(chip, frame)
            chip.memory.bad = SCRATCH_BASE + WORD_BYTES * word + chip.rng.randrange(8)
            await chip.begin()
            check(f"{where}: STATUS", DONE | BUS_ERROR, await chip.end())
            chip.memory.bad = None
            await check_frame(chip, frame, f"after {where}")


@bench
async def aborts(dut) -> None:
    """In any clock of a frame in segments, whatever the memory does; the next one works."""
    chip = await begun(dut)
    frames = some(2, 200)
    for frame in frames:
        chip.pause(0.0)
        record = await check_frame(chip, frame, "first")
        end = record.irq
        assert end is not None
        for k in range(10):
            pause = chip.rng.choice((0.0, 0.0, 0.5))
            chip.pause(pause)
            clock = chip.rng.randrange(20, end - 10)
            where = f"{frame.network.name}: abort in clock {clock} of {end}, pause {pause}"
            await prepare(chip, frame)
            await chip.begin()
            await chip.at(clock)
            await chip.set("CONTROL", ABORT | IRQ_ENABLE)
            check(f"{where}: STATUS", DONE | ABORTED, await chip.end())
            n_passes = len(chip.record.ends)
            await ClockCycles(dut.clk, 30)
            check(f"{where}: passes behind the end", n_passes, len(chip.record.ends))
            assert not dut.m_axi_weights_awvalid.value, f"{where}: a request between frames"
            if k % 3 == 0:
                chip.pause(0.0)
                await check_frame(chip, frame, f"after {where}")
    await check_frame(chip, plain(), "plain")


@bench
async def ends_slowly(dut) -> None:
    """A frame that was aborted while it stored runs until the memory has taken and answered all."""
    chip = await begun(dut)
    (frame,) = some(1, 300)
    for channel in (chip.writes.w_channel, chip.writes.b_channel, chip.writes.aw_channel):
        await prepare(chip, frame)
        channel.pause = True
        await chip.begin()
        while not dut.m_axi_weights_awvalid.value:
            await ClockCycles(dut.clk, 1)
        await ClockCycles(dut.clk, chip.rng.randrange(9))
        await chip.set("CONTROL", ABORT | IRQ_ENABLE)
        await ClockCycles(dut.clk, 100)
        check("STATUS while the memory waits", RUNNING, await chip.get("STATUS"))
        channel.pause = False
        check("STATUS", DONE | ABORTED, await chip.end())
        await check_frame(chip, frame, "after the abort")
