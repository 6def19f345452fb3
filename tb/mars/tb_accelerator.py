"""MARS on the whole chip: every value, every feature write and every clock, and all ends of frames.

The clock in which each line arrives is recorded, whatever the memory does, and from those
`model.mars.clocks` says when every pass ends. Nothing is reset between the frames of a test, and
feature memories keep what other networks left there.
"""

import itertools
import os
from dataclasses import replace
from unittest.mock import patch

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles

from model.mars import clocks as mars_clocks
from model.mars import mapper
from model.mars.clocks import WITHOUT_SRAM
from model.mars.config import ADDRESSES, LINE_BYTES
from model.mars.image import Image
from model.mars.layout import CODE_WIDTHS
from model.mars.mapper import FitError, compile_network
from model.mars.network import (
    AvgPool,
    Conv,
    Dense,
    FeatureType,
    Layer,
    Lookup,
    MaxPool,
    QuantizedNetwork,
    Select,
)
from model.mars.program import Pass
from model.mars.random_network import random_input, random_network
from tb.bench import check
from tb.benches import BENCH_CHIPS
from tb.mars.chip import (
    ABORT,
    ABORTED,
    BUS_ERROR,
    DONE,
    IRQ_ENABLE,
    RUNNING,
    START,
    Chip,
    Frame,
    Record,
    check_prefix,
    clocks,
    flag_clock,
)

CHIP = BENCH_CHIPS[os.environ["KENYON_CONFIG"]]
CONFIG = CHIP.mars
SPLITS = [split for split in (1, 2, 4, 8) if split <= CONFIG.n_macros]
TIMEOUT_US = 12_000
LOOKED_AT = min(CONFIG.feature_words, 2048 // CONFIG.n_macros)
"""First words of each feature memory, where small networks live, that are compared as a whole."""
LONGEST = 2_500
"""Clocks of a random network, so that many of them can be run."""
LONG = 2_000
NARROW_BUS = 64
"""Bits of the weight bus for which delays were chosen such that loading and computing meet."""
SEEDS = 4000
"""Among so many networks is one for everything in `kinds_of_frame`."""


def bench(test):
    """A test of MARS, not repeated on a chip that has more than MARS."""
    return cocotb.test(timeout_time=TIMEOUT_US, timeout_unit="us", skip=CHIP.npu is not None)(test)


def kinds(one: Pass) -> dict[str, bool]:
    """What a pass has that could go wrong."""
    d = one.descriptor
    sizes = [block.n_entries for block in one.blocks]
    several = len(sizes) > 1
    stride = d.row_stride, d.col_stride
    codes = np.concatenate([block.codes.reshape(-1) for block in one.blocks])
    taps = codes >> d.block_width
    tap_rows, tap_cols = taps >> d.dx_width, taps & (1 << d.dx_width) - 1
    last_row, last_col = tap_rows.max(initial=0), tap_cols.max(initial=0)
    end_row = (d.n_rows - 1) * d.row_stride - d.pad_top + last_row * d.row_dilation
    end_col = (d.n_cols - 1) * d.col_stride - d.pad_left + last_col * d.col_dilation
    return {
        "padding": d.pad_top > 0 and d.pad_left and stride == (1, 1),
        "padding above alone": d.pad_top > 0 and not d.pad_left,
        "padding at the left alone": d.pad_left and d.pad_top == 0,
        "padding below alone": d.pad_top == 0 and end_row >= d.in_height,
        "padding at the right alone": d.pad_left == 0 and end_col >= d.in_width,
        "padding of eight above": d.pad_top > 7,
        "padding of eight at the left": d.pad_left > 7,
        "padding and stride": d.pad_top > 0 and stride == (2, 2),
        "pad value": d.pad_top > 0 and d.pad_value and not d.in_two,
        "pad value of two nibbles": d.pad_left and d.pad_value and d.in_two,
        "stride without padding": d.pad_top == 0 and stride == (2, 2),
        "stride of rows and columns": 1 < stride[0] != stride[1] > 1,
        "dilation of rows": d.row_dilation > 1 and d.tap_row_pitch,
        "dilation of columns": d.col_dilation > 1 and d.dx_width,
        "kernel that is not square": 0 < last_row != last_col > 0,
        "rows of taps alone": d.dx_width == 0 and taps.any(),
        "columns of taps alone": d.dx_width and not tap_rows.any(),
        "seven rows of taps": last_row >= 6,
        "largest of 4 bit": d.maximum and not d.in_two,
        "largest of 8 bit": d.maximum and d.in_two,
        "largest of signed": d.maximum and d.in_signed,
        "largest, padding": d.maximum and d.pad_top > 0,
        "table": d.lookup and not d.gap,
        "signed table": d.lookup and d.lookup_signed,
        "table and average": d.lookup and d.gap,
        "table and pool": d.lookup and d.pool,
        "8-bit weights, table": d.lookup and d.wide,
        "offset": d.offset,
        "residual less its zero": d.has_skip and d.skip_zero,
        "average with bias": d.gap and d.gap_bias,
        "average with offset": d.gap and d.gap_offset,
        "part of a map": d.out_col_pitch > d.out_planes * -(-len(sizes) // (1 + d.wide)),
        "dense": not d.in_col_step and one.n_sets > 1,
        "8-bit weights": d.wide,
        "8-bit weights, residual": d.wide and d.has_skip,
        "8-bit weights, average": d.wide and d.gap,
        "8-bit weights, pool": d.wide and d.pool,
        "8-bit weights in pairs of entries": d.stacked,
        "8-bit weights in pairs of entries, two nibbles": d.stacked and d.in_two,
        "8-bit weights in pairs of entries, residual": d.stacked and d.has_skip,
        "two nibbles": d.in_two,
        "signed": d.in_signed and not d.in_two,
        "signed, two nibbles": d.in_signed and d.in_two,
        "residual": d.has_skip and not d.skip_two and not d.in_two,
        "residual of two nibbles": d.has_skip and d.skip_two and not d.in_two,
        "two nibbles, residual of one": d.has_skip and not d.skip_two and d.in_two,
        "two nibbles, residual of two": d.has_skip and d.skip_two and d.in_two,
        "blocks with a residual of more": d.has_skip and several and d.skip_two > d.in_two,
        "blocks with a residual of less": d.has_skip and several and d.skip_two < d.in_two,
        "signed residual": d.has_skip and d.skip_signed,
        "residual and pool": d.has_skip and d.pool,
        "residual alone": d.has_skip and 0 in sizes,
        "bias alone": not d.has_skip and 0 in sizes and several,
        "bias alone, two nibbles": d.in_two and 0 in sizes,
        "bias alone at first": sizes[0] == 0 and any(sizes),
        "bias alone at last": sizes[-1] == 0 and any(sizes),
        "pool": d.pool and not d.gap,
        "pool and average": d.pool and d.gap,
        "pool, padding": d.pool and d.pad_top > 0,
        "pool, stride": d.pool and stride[0] > 1,
        "pool, stride of rows and columns": d.pool and stride[0] != stride[1],
        "average": d.gap and not d.pool,
        "several averages": d.gap and several,
        "results of 8 bit": d.out_planes == 2,
        "raw": d.raw and several,
        "more kernel blocks than headers": len(sizes) > WITHOUT_SRAM.headers,
        "more codes than a line": one.n_sets > d.codes_per_line,
        "more entries than addresses": CONFIG.n_macros > 1 or sum(sizes) > ADDRESSES,
        "bands": CONFIG.n_macros == 1 or (d.n_teams > 1 and d.rows_per_team > 1),
        "a band that ends early": CONFIG.n_macros == 1 or d.n_teams * d.rows_per_team > d.n_rows,
        **{f"split {s}": d.split == s for s in SPLITS},
    }


def kinds_of_frame(frame: Frame) -> dict[str, bool]:
    """What a frame has: kinds of its passes, and what only its layers or their order show."""
    passes = frame.image.passes
    tables = [bool(one.descriptor.lookup) for one in passes]
    convs = [layer for layer in frame.network.layers if isinstance(layer, Conv)]
    found = [kinds(one) for one in passes]
    return {
        **{name: any(one[name] for one in found) for name in found[0]},
        "groups": any(conv.groups > 1 and conv.weight.shape[1] > 1 for conv in convs),
        "depthwise": any(conv.groups > 1 and conv.weight.shape[1] == 1 for conv in convs),
        "lower clamp": any(conv.low is not None for conv in convs),
        "upper clamp": any(conv.high is not None for conv in convs),
        "selected channels": any(isinstance(layer, Select) for layer in frame.network.layers),
        "table right behind a table": (True, True) in itertools.pairwise(tables),
        "no table right behind a table": (True, False) in itertools.pairwise(tables),
    }


def compiled(network: QuantizedNetwork, split: int | None = None) -> Image:
    """The image of a network, with the quickest splits or, where it can be, with one."""
    options = mapper._options  # noqa: SLF001

    def chosen(*args) -> list[mapper.Shape]:
        shapes = options(*args)
        return [shape for shape in shapes if shape.split == split] or shapes

    with patch.object(mapper, "_options", options if split is None else chosen):
        return compile_network(network, CONFIG)


def frame_of(network: QuantizedNetwork, seed: int = 0, split: int | None = None) -> Frame:
    """A frame with a random input."""
    return Frame(network, compiled(network, split), random_input(network, seed)[0])


def small_network(seed: int) -> Frame | None:
    """A random network, unless it is too large."""
    network = random_network(
        seed, max_channels=33, max_size=7, max_layers=5, wide=CONFIG.wide_multiplier
    )
    try:
        frame = frame_of(network, seed)
    except FitError:
        return None
    # Several segments: tb.mars.tb_segments.
    return frame if len(frame.image.segments) == 1 and estimate(frame) <= LONGEST else None


def estimate(frame: Frame) -> int:
    """Clocks of a frame whose lines arrive as fast as they can."""
    beats = CONFIG.beats_per_line
    arrivals = [beats * k + 10 for k in range(sum(frame.n_lines))]
    return clocks(frame, Record(arrivals=arrivals))[-1].end


def some_networks() -> list[Frame]:
    """Random networks that have everything in `kinds_of_frame`."""
    frames: list[Frame] = []
    missing: set[str] = {"anything"}
    found: set[str] = {"anything"}
    for seed in range(SEEDS):
        frame = small_network(seed)
        if frame is None:
            continue
        has = kinds_of_frame(frame)
        new = {name for name, is_here in has.items() if is_here} - found
        missing = {*missing, *has} - found - new
        if new:
            frames.append(frame)
            found |= new
        if not missing:
            return frames
    raise AssertionError(f"no network has {missing}")


def conv(rng: np.random.Generator, name: str, source: str, shape: tuple[int, ...], **more) -> Conv:
    """A convolution of 4-bit features and weights with results all over the range."""
    weight = rng.integers(-8, 8, shape)
    n = shape[0]
    shift = 12 + round(np.log2(8 * np.sqrt(weight[0].size)))
    fields = {
        "name": name,
        "input": source,
        "weight": weight,
        "bias": rng.integers(-100, 100, n),
        "mult": rng.integers(2000, 8000, n),
        "shift": np.full(n, shift),
        "weight_bits": 4,
        "out_bits": 4,
        "out_signed": False,
    }
    return Conv(**{**fields, **more})


def network(name: str, channels: int, side: int, *layers: Layer) -> QuantizedNetwork:
    """A network of 4-bit features."""
    return QuantizedNetwork(FeatureType((channels, side, side), 4, signed=False), layers, name)


def dense(rng: np.random.Generator, source: str, shape: tuple[int, int]) -> Dense:
    """A last layer with raw results."""
    return Dense(
        name="last",
        input=source,
        weight=rng.integers(-8, 8, shape),
        bias=rng.integers(-1000, 1000, shape[0]),
        weight_bits=4,
        out_bits=32,
        out_signed=True,
    )


def table(rng: np.random.Generator, name: str, source: str) -> Lookup:
    """Other values for those of 4 bit."""
    return Lookup(name=name, input=source, table=rng.permutation(16), out_bits=4, out_signed=False)


def far_ahead() -> list[tuple[str, QuantizedNetwork]]:
    """Passes that compute for so long that the loader fills headers or addresses."""
    rng = np.random.default_rng(5)
    side, wide_side = (9, 8) if CONFIG.feature_words < 4096 else (24, 24)
    shape = (160, 16, 1, 1)
    raw = {"mult": None, "shift": None, "out_bits": 32, "out_signed": True}
    bias_alone = replace(conv(rng, "a", "input", shape, **raw), weight=np.zeros(shape, np.int64))
    average = AvgPool(name="b", input="a", out_bits=8, out_signed=False, mult=9000, shift=18)
    return [
        ("headers", network("short", 16, side, conv(rng, "a", "input", shape))),
        (
            "headers",
            network("averages", 16, side, conv(rng, "a", "input", shape, weight_bits=8), average),
        ),
        ("headers", network("raw", 16, 3, bias_alone)),
        (
            "entries",
            network("long", 32, wide_side, conv(rng, "a", "input", (96, 32, 3, 3), padding=1)),
        ),
    ]


def full_lines() -> list[QuantizedNetwork]:
    """A long input; index lines that end with a block or a pass; blocks of all addresses."""
    rng = np.random.default_rng(6)
    kind = FeatureType((64, 8, 8), 8, signed=True)
    return [
        QuantizedNetwork(kind, (conv(rng, "a", "input", (8, 64, 1, 1)),), "input"),
        network(
            "codes",
            128,
            2,
            conv(rng, "a", "input", (128, 128, 1, 1)),
            conv(rng, "b", "a", (112, 128, 1, 1)),
            dense(rng, "b", (5, 4 * 112)),
        ),
        network("entries", 16, 8, dense(rng, "input", (20, 16 * 64))),
        network("long", 48, 5, long_codes(rng)),
    ]


def long_codes(rng: np.random.Generator) -> Conv:
    """A kernel whose taps and blocks need more than 9 bits; few of its group-sets are stored."""
    layer = conv(rng, "a", "input", (40, 48, 11, 11), padding=5)
    weight = np.zeros_like(layer.weight)
    for dy, dx in ((0, 0), (10, 10), (0, 10), (10, 0), (5, 5), (4, 6), (7, 3)):
        weight[:, :, dy, dx] = layer.weight[:, :, dy, dx]
    return replace(layer, weight=weight)


def quads() -> list[QuantizedNetwork]:
    """Convolutions behind 2x2 pools, whose quads meet every edge, with strides that differ."""
    rng = np.random.default_rng(9)
    networks = []
    for stride, padding in itertools.product(
        ((1, 2), (2, 1), (3, 1), (1, 4)), ((1, 1, 1, 1), (2, 0, 2, 0), (0, 2, 0, 2), (0, 0, 3, 3))
    ):
        # Such that the result has eight rows and columns.
        size = [7 * by + 3 - sum(padding[side::2]) for side, by in enumerate(stride)]
        networks.append(
            QuantizedNetwork(
                FeatureType((16, *size), 4, signed=False),
                (
                    conv(rng, "a", "input", (16, 16, 3, 3), stride=stride, padding=padding),
                    MaxPool(name="b", input="a", kernel=(2, 2), stride=(2, 2)),
                ),
                f"stride {stride}, padding {padding}",
            )
        )
    return networks


def tables() -> list[QuantizedNetwork]:
    """Pass behind pass with a table; the first one's map is larger than the input."""
    rng = np.random.default_rng(8)
    return [
        network(
            f"{side} x {side} pixels, padding {padding}",
            16,
            side,
            conv(rng, "a", "input", (24, 16, 3, 3), padding=padding),
            table(rng, "ta", "a"),
            conv(rng, "b", "ta", (16, 24, 1, 1)),
            table(rng, "tb", "b"),
            conv(rng, "c", "tb", (16, 16, 1, 1)),
            conv(rng, "d", "c", (40, 16, 1, 1)),
            table(rng, "td", "d"),
        )
        for side, padding in ((1, 1), (2, 3), (5, 1))
    ]


async def begun(dut) -> Chip:
    """The chip after reset, and the golden machine with the same feature memory."""
    chip = Chip(dut, CHIP)
    await chip.begin_bench()
    chip.golden.banks[:, :LOOKED_AT] = await chip.features_of_all(LOOKED_AT)
    return chip


async def check_features(chip: Chip) -> None:
    """Nothing was written anywhere but where it should."""
    seen = await chip.features_of_all(LOOKED_AT)
    np.testing.assert_array_equal(seen, chip.golden.banks[:, :LOOKED_AT], "feature memories")


@bench
async def kinds_of_layers(dut) -> None:
    """Networks that have everything, one after the other, out of a memory without pauses."""
    chip = await begun(dut)
    for frame in some_networks():
        await chip.check_frame(frame, frame.network.name)
    await check_features(chip)


@bench
async def random_memory(dut) -> None:
    """Random networks, two inputs each; lines arrive at random, from almost at once to rarely."""
    chip = await begun(dut)
    rng = chip.rng
    for pause, late in ((0.0, 0.02), (0.2, 0.0), (0.5, 0.03), (0.8, 0.1)):
        chip.pause(pause, late)
        n_left = 3
        while n_left:
            frame = small_network(rng.randrange(1 << 30))
            if frame is None:
                continue
            n_left -= 1
            for features in random_input(frame.network, rng.randrange(1 << 30), 2):
                where = f"{frame.network.name}, pause {pause}, late {late}"
                await chip.check_frame(replace(frame, features=features), where)
    await check_features(chip)


@bench
async def runs_far_ahead(dut) -> None:
    """The loader waits for headers and for addresses, at any clock, also after it was late."""
    chip = await begun(dut)
    for limit, layers in far_ahead():
        frame = frame_of(layers, split=1)
        for pause in (0.0, 0.15, None):
            where = f"{layers.name}, pause {pause}"
            chip.pause(pause or 0.0)
            await chip.prepare(frame)
            record = await chip.begin()
            if pause is None:
                # Between two kernel blocks: none is in the loader.
                await late_lines(chip, frame.n_lines[0] + 7, LONG)
            check(f"{where}: STATUS", DONE, await chip.end())
            await chip.check(frame, record, where)
            if not CONFIG.weight_sram:
                more = replace(CONFIG.ahead, **{limit: 1000})
                alike = clocks(frame, record, more) == clocks(frame, record)
                assert not alike, f"{where}: {limit} limited nothing"
    await check_features(chip)


async def late_lines(chip: Chip, n_lines: int, n_clocks: int) -> None:
    """No line for some clocks behind the first ones."""
    while len(chip.record.arrivals) < n_lines:
        await ClockCycles(chip.dut.clk, 1)
    chip.slave.r_channel.pause = True
    await ClockCycles(chip.dut.clk, n_clocks)
    chip.slave.r_channel.pause = False


def coincidences(when: mars_clocks.PassClocks) -> set[str]:
    """What happens in the same clock as something else in a pass."""
    found = set()
    for k, block in enumerate(when.blocks):
        if any(block.loaded == other.first_step for other in when.blocks[:k]):
            found.add("a block is complete when one before it begins")
        if k and block.loaded == when.blocks[k - 1].last_step + 1:
            found.add("a block is complete when the one before it ends")
        if k and block.loaded == when.blocks[k - 1].last_step:
            found.add("a block is complete one clock earlier")
    return found


@bench
async def in_the_same_clock(dut) -> None:
    """Lines that come later and later: loading and computing meet in every way."""
    chip = await begun(dut)
    rng = np.random.default_rng(7)
    found: set[str] = set()
    # Neither is waited for; headers are; addresses are.
    cases = (
        ((96, 16, 1, 1), 7, 12, (130, 325)),
        ((160, 16, 1, 1), 9, 12, (258, 581)),
        ((80, 32, 3, 3), 6, 50, (41, 344)),
    )
    for shape, side, n_lines, meets in cases:
        first = conv(rng, "a", "input", shape, padding=shape[-1] // 2)
        frame = frame_of(network(f"{shape}", shape[1], side, first), split=1)
        for delay in (*range(12), *(near + k for near in meets for k in range(-2, 3))):
            await chip.prepare(frame)
            record = await chip.begin()
            await late_lines(chip, frame.n_lines[0] + n_lines, delay)
            where = f"{frame.network.name}, lines {delay} clocks late"
            check(f"{where}: STATUS", DONE, await chip.end())
            await chip.check(frame, record, where)
            found |= coincidences(clocks(frame, record)[-1])
    if CONFIG.weight_bus == NARROW_BUS and not CONFIG.weight_sram:
        check("coincidences", 3, len(found))


@bench
async def every_split(dut) -> None:
    """Full index lines and full macros, with any number of macros that share a kernel block."""
    chip = await begun(dut)
    code_widths = set()
    for layers in full_lines():
        for split in SPLITS:
            frame = frame_of(layers, split=split)
            code_widths |= {one.descriptor.code_width for one in frame.image.passes}
            await chip.check_frame(frame, f"{layers.name}, split {split}")
    check("widths of index codes", set(CODE_WIDTHS), code_widths)
    await check_features(chip)


@bench
async def quads_at_the_edges(dut) -> None:
    """Pixels of a quad lie inside and outside of the map, in both directions by themselves."""
    chip = await begun(dut)
    for layers in quads():
        frame = frame_of(layers)
        check(f"{layers.name}: pooled", [1], [one.descriptor.pool for one in frame.image.passes])
        await chip.check_frame(frame, layers.name)
    await check_features(chip)


@bench
async def tables_behind_tables(dut) -> None:
    """A table right behind a pass that uses another one, however lines arrive."""
    chip = await begun(dut)
    for layers in tables():
        frame = frame_of(layers)
        found = [one.descriptor.lookup for one in frame.image.passes]
        check(f"{layers.name}: passes with a table", [1, 1, 0, 1], found)
        for pause, late in ((0.0, 0.0), (0.3, 0.0), (0.0, 0.1)):
            chip.pause(pause, late)
            await chip.check_frame(frame, f"{layers.name}, pause {pause}, late {late}")
    await check_features(chip)


def a_frame(name: str = "some", n_kernels: int = 40) -> Frame:
    """A frame of three passes with some of everything that takes time."""
    rng = np.random.default_rng(n_kernels)
    layers = (
        conv(rng, "a", "input", (n_kernels, 20, 3, 3), padding=1),
        table(rng, "t", "a"),
        conv(rng, "b", "t", (n_kernels, n_kernels, 1, 1), skip="t", skip_mult=3000),
        dense(rng, "b", (10, 9 * n_kernels)),
    )
    return frame_of(network(name, 20, 3, *layers))


async def check_ended_early(chip: Chip, frame: Frame, n_good: int, last: int, where: str) -> None:
    """What a frame did before it ended in some clock, with so many good lines, and its end."""
    record = chip.record
    check_prefix(chip.golden_frame(frame), record, where)
    never = [10_000_000 + k for k in range(sum(frame.n_lines))]
    when = clocks(frame, Record(arrivals=[*record.arrivals[:n_good], *never]))
    # What ends in the clock behind the last one is still seen.
    ends = [one.end for one in when if one.end <= last + 1]
    check(f"{where}: ends of passes", ends, [end for end, _, _ in record.ends])
    check(f"{where}: FRAME_CLOCKS", last, await chip.get("FRAME_CLOCKS"))
    # An error stops the line reader in its own clock, the accelerator only in the one behind it.
    late = [clock for clock in record.offers if clock > last + (record.first_bad != last - 1)]
    check(f"{where}: requests behind the end", [], late)
    check(f"{where}: clock of irq", flag_clock(frame, record, last), record.irq)


@bench
async def bus_errors(dut) -> None:
    """A beat of any kind of line answers with an error: the frame ends and the next one works."""
    chip = await begun(dut)
    frame, next_frame = a_frame(), a_frame("next", 24)
    n_input, n_program = frame.n_lines
    n_last = n_program - 1
    lines = [("input", k) for k in (0, 1, 2, n_input - 1)]
    lines += [("program", k) for k in (0, 1, 2, 3, 4, 5, n_last // 3, n_last // 2, n_last)]
    for pause in (0.0, 0.4):
        chip.pause(pause, late=pause / 10)
        for part, line in lines:
            where = f"error in line {line} of the {part}, pause {pause}"
            await chip.prepare(frame)
            base, _ = chip.memory.regions[part == "program"]
            beat = chip.rng.randrange(CONFIG.beats_per_line)
            chip.memory.bad = base + LINE_BYTES * line + CONFIG.weight_bus // 8 * beat
            record = await chip.begin()
            check(f"{where}: STATUS", DONE | BUS_ERROR, await chip.end())
            chip.memory.bad = None
            assert record.first_bad is not None
            n_good = line + n_input * (part == "program")
            await check_ended_early(chip, frame, n_good, record.first_bad + 1, where)
            await chip.check_frame(next_frame, f"after {where}")


async def aborted(chip: Chip, frame: Frame, clock: int, where: str) -> bool:
    """Abort a frame about in some clock, and check how it ended; returns whether it was in time."""
    await chip.prepare(frame)
    beginning = cocotb.start_soon(chip.begin())
    if clock:
        await beginning
        await chip.at(clock)
    await cocotb.start_soon(chip.set("CONTROL", ABORT | IRQ_ENABLE))
    record = await beginning
    flags = await chip.end()
    begin, abort, *_ = record.commands
    check(f"{where}: DONE", DONE, flags & ~ABORTED)
    if flags & ABORTED:
        await check_ended_early(chip, frame, len(record.arrivals), abort - begin, where)
    else:
        await chip.check(frame, record, where)
        check(f"{where}: too late", True, abort - begin > record.ends[-1][0])
    return bool(flags & ABORTED)


@bench
async def aborts(dut) -> None:
    """In any clock of a frame, whatever the memory does; the next frame works."""
    chip = await begun(dut)
    frame, next_frame = a_frame(), a_frame("next", 24)
    end = estimate(frame)
    for k in range(40):
        pause, late = chip.rng.choice(((0.0, 0.0), (0.0, 0.1), (0.5, 0.0), (0.9, 0.1)))
        chip.pause(pause, late)
        clock = 8 * k if k < 6 else chip.rng.randrange(end)
        where = f"abort in clock {clock}, pause {pause}, late {late}"
        await aborted(chip, frame, clock, where)
        if k % 2:
            chip.pause(0.0)
            await chip.check_frame(next_frame, f"after {where}")
    await chip.check_frame(next_frame, "after all")


@bench
async def aborts_at_the_end(dut) -> None:
    """Up to the last clock of a frame it is aborted; in the one behind it is not."""
    chip = await begun(dut)
    frame = a_frame()
    await chip.check_frame(frame, "first")
    end = chip.record.ends[-1][0]
    results = [
        await aborted(chip, frame, clock, f"abort about in clock {clock} of {end}")
        for clock in range(end - 14, end + 1)
    ]
    check("from aborted to ended", sorted(results, reverse=True), results)
    check("both were seen", {True, False}, set(results))
    await chip.check_frame(frame, "last")


@bench
async def ends_slowly(dut) -> None:
    """A frame that was ended runs until all that was requested has come, and ignores a start."""
    chip = await begun(dut)
    frame, next_frame = a_frame(), a_frame("next", 24)
    answers = chip.slave.r_channel
    for how, flag in (("abort", ABORTED), ("error", BUS_ERROR)):
        await chip.prepare(frame)
        if flag == BUS_ERROR:
            chip.memory.bad, _ = chip.memory.regions[0]
            record = await chip.begin()
            while record.first_bad is None:
                await ClockCycles(dut.clk, 1)
            answers.pause = True
            last = record.first_bad + 1
        else:
            record = await chip.begin()
            await chip.at(40)
            answers.pause = True
            await chip.set("CONTROL", ABORT | IRQ_ENABLE)
            last = record.commands[1] - record.commands[0]
        for _ in range(3):
            await ClockCycles(dut.clk, 50)
            assert record.n_outstanding, f"{how}: nothing outstanding"
            check(f"{how}: STATUS", RUNNING, await chip.get("STATUS"))
            check(f"{how}: FRAME_CLOCKS", last, await chip.get("FRAME_CLOCKS"))
            await chip.set("CONTROL", START | IRQ_ENABLE)
        reading = cocotb.start_soon(chip.features(0, 0, 1))
        await ClockCycles(dut.clk, 50)
        assert not reading.done(), f"{how}: a feature memory did not wait"
        answers.pause = False
        check(f"{how}: STATUS", DONE | flag, await chip.end())
        await reading
        chip.memory.bad = None
        n_good = 0 if flag == BUS_ERROR else len(record.arrivals)
        await check_ended_early(chip, frame, n_good, last, how)
        await chip.check_frame(next_frame, f"after {how}")


@bench
async def starts_at_once(dut) -> None:
    """A start right behind the end of an aborted frame, with lines left in the buffer."""
    chip = await begun(dut)
    _, layers = far_ahead()[-1]
    frame, next_frame = frame_of(layers, split=1), a_frame("next", 24)
    end = estimate(frame)
    for clock in range(end // 3, end - 300, end // 12):
        await chip.prepare(frame)
        record = await chip.begin()
        await chip.prepare(next_frame, keep=True)
        await chip.at(clock)
        chip.may_restart = True
        n_commands = len(record.commands)
        await chip.set("CONTROL", ABORT | IRQ_ENABLE)
        while chip.record is record:
            await chip.set("CONTROL", START | IRQ_ENABLE)
        check("STATUS", RUNNING | DONE | ABORTED, await chip.get("STATUS"))
        last = record.commands[n_commands] - record.commands[0]
        check("clock of irq", flag_clock(frame, record, last), record.irq)
        await chip.set("STATUS", DONE | ABORTED)
        check("STATUS at the end", DONE, await chip.end())
        await chip.check(next_frame, chip.record, f"after an abort in clock {clock}")


@bench
async def start_while_running(dut) -> None:
    """It is ignored, but what was written with it counts for the next frame; features wait."""
    chip = await begun(dut)
    frame, next_frame = a_frame(), a_frame("next", 24)
    for pause in (0.0, 0.6):
        chip.pause(pause)
        await chip.prepare(frame)
        record = await chip.begin()
        await chip.prepare(next_frame, keep=True)
        await chip.set("CONTROL", START | IRQ_ENABLE)
        image = frame.image
        words = await chip.features(0, image.contents.output_address, image.output_words)
        assert record.irq is not None, "a feature memory did not wait for the end of the frame"
        result = image.output.from_words(words)
        check("STATUS", DONE, await chip.end())
        await chip.check(frame, record, "frame with another start in it")
        _, last = chip.golden_frame(frame)[-1]
        np.testing.assert_array_equal(result.reshape(-1), last.values[0, : result.size])
        await ClockCycles(dut.clk, 100)
        record = await chip.begin()
        check("STATUS", DONE, await chip.end())
        await chip.check(next_frame, record, "next frame")


@bench
async def short_programs(dut) -> None:
    """The chip waits for lines that do not come, until the frame is aborted."""
    chip = await begun(dut)
    frame, next_frame = a_frame(), a_frame("next", 24)
    n_program = frame.n_lines[1]
    for n_lines in (0, 1, 2, 3, 10, n_program // 2, n_program - 1):
        where = f"{n_lines} of {n_program} lines"
        await chip.prepare(frame)
        await chip.set("PROGRAM_LINES", n_lines)
        record = await chip.begin()
        await chip.at(estimate(frame) + 300)
        check(f"{where}: STATUS", RUNNING, await chip.get("STATUS"))
        check(f"{where}: lines", frame.n_lines[0] + n_lines, len(record.arrivals))
        assert not record.n_outstanding, f"{where}: outstanding lines"
        await chip.set("CONTROL", ABORT | IRQ_ENABLE)
        check(f"{where}: STATUS", DONE | ABORTED, await chip.end())
        begin, abort, *_ = record.commands
        record.n_requested = sum(frame.n_lines)
        await check_ended_early(chip, frame, len(record.arrivals), abort - begin, where)
        await chip.check_frame(next_frame, f"after {where}")


@bench
async def lines_behind_the_end(dut) -> None:
    """They are ignored, noise or another program, few or more than there is room for."""
    chip = await begun(dut)
    frame, next_frame = a_frame(), a_frame("next", 24)
    noise = chip.rng.randbytes(LINE_BYTES * 300)
    behinds = [noise[: LINE_BYTES * n] for n in (1, 2, 5, 8, CONFIG.line_buffer, 300)]
    behinds += [next_frame.packet + next_frame.program, bytes(len(noise)), b"\xff" * len(noise)]
    for pause in (0.0, 0.5):
        chip.pause(pause)
        for k, behind in enumerate(behinds):
            where = f"{len(behind) // LINE_BYTES} lines behind the end ({k}), pause {pause}"
            await chip.check_frame(replace(frame, behind=behind), where)
            await chip.check_frame(next_frame, f"after {where}")


@cocotb.test(timeout_time=TIMEOUT_US, timeout_unit="us", skip=CHIP.npu is None)
async def beside_the_npu(dut) -> None:
    """Frames are computed while a network of spiking neurons runs; both are right."""
    from tb.npu import chip as npu_chip

    bus = npu_chip.Bus(dut)
    await bus.start()
    chip = Chip(dut, CHIP, bus.master)
    await chip.begin_bench()
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    n_frames = 0

    async def frames() -> None:
        nonlocal n_frames
        while True:
            frame = a_frame(f"frame {n_frames}", 17 + n_frames % 20)
            await chip.prepare(frame)
            record = await chip.begin(START)
            while await chip.get("STATUS") != DONE:
                pass
            await chip.set("STATUS", DONE)
            await chip.check(frame, record, frame.network.name)
            n_frames += 1

    cocotb.start_soon(frames())
    while n_frames < 5:
        network = npu_chip.some_network(rng, with_events=True)
        await bus.load(network)
        await npu_chip.run_session(bus, network)
