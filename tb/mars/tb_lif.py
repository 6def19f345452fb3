"""The chain of neurons against `model.mars.lif.chain`, every clock."""

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

import cocotb
import numpy as np

from hw.mars.drain import PIXEL
from hw.mars.layout import MAX_PARTS, MEMBRANE_WORDS
from hw.mars.lif import SPIKES
from model.mars.config import ACC_WIDTH, KERNELS, WORD_BITS
from model.mars.layout import (
    STEPS_PER_WORD,
    Descriptor,
    Header,
    bits_of,
    pack_descriptor,
    pack_header,
)
from model.mars.lif import chain
from model.mars.machine import nibble_plane
from model.mars.neuron import CHARGE_MAX
from tb.bench import Block, Fields, check, post_lanes, with_lanes
from tb.blocks import LIF_TEAMS

LEAKS = (0, 0, 1, 2, 7, 15)
LIMITS = (1, 3, 7, 127, 32767)
MEMBRANE_WIDTH = 16
LANES = range(KERNELS)
TURNS = KERNELS // post_lanes()
OUTPUTS = ("fired", "spikes", "membranes")
PIXEL_BITS = Fields(PIXEL)
Ints = np.ndarray


@dataclass(frozen=True)
class Pixel:
    """Four steps of a pixel: when they come, what they add, and all that must come of them."""

    clock: int
    team: int
    sub: int
    part: int
    stored: int
    header: Header
    sums: Ints
    residual: Ints
    spikes: Ints
    membranes: Ints


def descriptor_of(rng: random.Random, **fields: int) -> Descriptor:
    """Any neurons."""
    values = {
        "timed": 1,
        "direct": rng.randrange(2),
        "soft": rng.randrange(2),
        "groups_log2": rng.choice((0, 0, 1, 2)),
        "leak": rng.choice(LEAKS),
        "n_steps": rng.randint(1, 8),
        "limit": rng.choice(LIMITS),
        "initial_shift": rng.randrange(8),
        "skip_mult": rng.choice((0, 1, 1000, (1 << 16) - 1)),
        "wide": rng.randrange(2),
        "u_planes_log2": rng.randrange(3),
        "u_load": rng.randrange(2),
        "u_again": rng.random() < 0.2,
        **fields,
    }
    if values["u_load"] or values["u_again"]:
        values["n_steps"] = min(values["n_steps"], STEPS_PER_WORD)
        values["limit"] = min(values["limit"], (1 << ((4 << values["u_planes_log2"]) - 1)) - 1)
    return Descriptor(**values)


def header_of(rng: random.Random, d: Descriptor) -> Header:
    """Biases, thresholds and initial membranes, many of them at their ends."""

    def lanes(*ends: int) -> Ints:
        return np.array([rng.choice((*ends, rng.randint(min(ends), max(ends)))) for _ in LANES])

    nothing = np.zeros(KERNELS, np.int64)
    most = min(511, d.limit >> d.initial_shift)
    threshold = lanes(*rng.choice(((-5, 0, 5), (-CHARGE_MAX - 1, 0, CHARGE_MAX), (1, 100))))
    bias = lanes(*rng.choice(((-3, 3), (-100_000, 100_000))))
    return Header(bias, nothing, nothing, nothing, threshold, lanes(-most, most))


def added(rng: random.Random, d: Descriptor, header: Header) -> tuple[Ints, Ints]:
    """Sums and residual spikes (16, steps) of a pixel such that every charge has 22 bit."""
    size = rng.choice((3, 200, CHARGE_MAX - 300_000))
    sums = np.array([[rng.randint(-size, size) for _ in range(d.n_steps)] for _ in LANES])
    if rng.random() < 0.2:  # As close to the threshold as can be.
        sums = np.clip(header.threshold, -size, size)[:, np.newaxis] - header.bias[:, np.newaxis]
        sums = sums + np.array([[rng.randint(-1, 1) for _ in range(d.n_steps)] for _ in LANES])
        sums = np.clip(sums, -size, size)
    if d.direct:
        sums[:] = sums[:, :1]
    residual = np.array([[rng.randrange(2) for _ in range(d.n_steps)] for _ in LANES])
    return sums, residual


def stored_of(rng: random.Random, d: Descriptor, part: int) -> tuple[Ints, int]:
    """Membranes (1, 16/groups) of a kernel block as they are stored, and the words that have them.

    Those of other kernel blocks are anything.
    """
    everything = np.array([rng.choice((-d.limit, 0, d.limit)) for _ in LANES])
    everything += np.array([rng.randint(-2, 2) for _ in LANES])
    everything = np.clip(everything, -d.limit, d.limit)
    words = rng.getrandbits(WORD_BITS * MEMBRANE_WORDS)
    for plane in range(d.u_planes):
        word = int(nibble_plane(everything, plane))
        at = WORD_BITS * plane
        words = words & ~(((1 << WORD_BITS) - 1) << at) | word << at
    n = KERNELS >> d.u_parts_log2
    own = np.zeros((1, KERNELS >> d.groups_log2), np.int64)
    own[0, :n] = everything[part % (1 << d.u_parts_log2) * n :][:n]
    return own, words


def chain_of(dut) -> Block:
    """The block, and what is looked at."""
    return Block(dut, with_lanes("lif"), OUTPUTS if TURNS == 1 else (*OUTPUTS, "turn"))


def clocks_of(d: Descriptor) -> int:
    """Clocks from one pixel to the next."""
    return 1 << d.groups_log2 if TURNS == 1 else STEPS_PER_WORD * max(2, 1 << d.groups_log2)


def pixels_of(
    rng: random.Random, d: Descriptor, clock: int, n_rounds: int, n_teams: int, *, later: bool
) -> Iterator[Pixel]:
    """Rounds of some teams, the header changes now and then; all as early as they may, or later."""
    groups = 1 << d.groups_log2
    header = header_of(rng, d)
    for _ in range(n_rounds):
        if rng.random() < 0.3:
            header = header_of(rng, d)
        part = rng.randrange(MAX_PARTS)
        work = []
        for _ in range(n_teams):
            sums, residual = added(rng, d, header)
            charge = sums + header.bias[:, np.newaxis] + residual * d.skip_mult
            stored, words = stored_of(rng, d, part)
            before = stored if d.loads(first_chunk=not later) else None
            work.append((sums, residual, words, chain(d, header, charge[np.newaxis], before)))
        for sub in range(-(-d.n_steps // STEPS_PER_WORD)):
            begin = clock
            steps = slice(STEPS_PER_WORD * sub, STEPS_PER_WORD * (sub + 1))
            for team, (sums, residual, words, fired) in enumerate(work):
                in_time = (sums, residual, fired.spikes[0], fired.membranes[0])
                of_steps = (values[:, steps] for values in in_time)
                yield Pixel(clock, team, sub, part, words, header, *of_steps)
                clock += clocks_of(d)
            if d.n_steps > STEPS_PER_WORD:
                clock = max(clock, begin + STEPS_PER_WORD * groups)
            clock += rng.choice((0, 0, rng.randrange(9)))


def pixel_bits(one: Pixel, *, valid: int) -> int:
    """As the port has it."""
    fields = {name: getattr(one, name) for name in ("team", "sub", "part")}
    return PIXEL_BITS.pack({"valid": valid, **fields})


def inputs_of(rng: random.Random, d: Descriptor, one: Pixel | None) -> dict[str, int]:
    """Inputs of a clock; without a pixel anything."""
    if one is None:
        return {
            "pixel": rng.getrandbits(PIXEL.size - 1) << 1,
            "sums": rng.getrandbits(KERNELS * STEPS_PER_WORD * ACC_WIDTH),
            "residual": rng.getrandbits(SPIKES.size),
            "header": rng.getrandbits(1024),
            "stored": rng.getrandbits(WORD_BITS * MEMBRANE_WORDS),
        }
    n_steps = one.sums.shape[1]
    sums = residual = 0
    for k in LANES:
        for step in range(STEPS_PER_WORD):
            # What no step needs may be anything.
            value = int(one.sums[k, step]) if step < n_steps else rng.getrandbits(20)
            if d.direct and step:
                value = rng.getrandbits(20)
            sums |= (value & (1 << ACC_WIDTH) - 1) << ACC_WIDTH * (STEPS_PER_WORD * k + step)
            spike = int(one.residual[k, step]) if step < n_steps else rng.randrange(2)
            residual |= spike << STEPS_PER_WORD * k + step
    return {
        "pixel": pixel_bits(one, valid=1),
        "stored": one.stored,
        "sums": sums,
        "residual": residual,
        "header": bits_of(pack_header(one.header, 0, wide_multiplier=False)),
    }


def expected_of(d: Descriptor, one: Pixel) -> dict[str, tuple[int, int]]:
    """Outputs, and the bits of them that count."""
    spikes = sum(
        int(spike) << STEPS_PER_WORD * k + step for (k, step), spike in np.ndenumerate(one.spikes)
    )
    used = (1 << SPIKES.size // (2 if d.wide else 1)) - 1
    mask = (1 << MEMBRANE_WIDTH) - 1
    # Lanes that 8-bit weights do not have begin with anything.
    first = range(0, KERNELS // 2 if d.wide else KERNELS, 1 << d.groups_log2)
    left = one.membranes[:, -1]
    return {
        "spikes": (spikes & used, used),
        "membranes": (
            sum((int(left[k]) & mask) << MEMBRANE_WIDTH * k for k in first),
            sum(mask << MEMBRANE_WIDTH * k for k in first),
        ),
    }


async def follow(
    block: Block, rng: random.Random, d: Descriptor, n_rounds: int, n_teams: int | None = None
) -> None:
    """Pixels of a pass of some teams, or any, and every clock of what comes of them."""
    later = rng.random() < 0.7
    n_teams = n_teams or rng.randint(1, LIF_TEAMS)
    pixels = {one.clock: one for one in pixels_of(rng, d, 0, n_rounds, n_teams, later=later)}
    after = (STEPS_PER_WORD << d.groups_log2 if TURNS == 1 else clocks_of(d)) + 1
    coming = {
        clock + after + turn: (one, turn) for clock, one in pixels.items() for turn in range(TURNS)
    }
    block.set(descriptor=bits_of(pack_descriptor(d)), later=int(later))
    last = 0
    for clock in range(max(coming) + 2):
        inputs = inputs_of(rng, d, pixels.get(clock))
        if clock in pixels:
            last = clock
        elif TURNS > 1 and clock < last + clocks_of(d):
            # What a pixel brings stays.
            inputs = {"pixel": pixel_bits(pixels[last], valid=0)}
        block.set(**inputs)
        outputs = await block.tick()
        fired = PIXEL_BITS.read(outputs["fired"])
        one, turn = coming.get(clock, (None, 0))
        where = f"clock {clock}, {d.n_steps} steps, {1 << d.groups_log2} groups: "
        check(where + "valid", int(one is not None), fired["valid"])
        if one is not None:
            check(where + "pixel", (one.team, one.sub), (fired["team"], fired["sub"]))
            check(where + "turn", turn, outputs.get("turn", 0))
            expected = expected_of(d, one)
            for name in expected if turn == 0 else ("spikes",):
                value, bits = expected[name]
                check(where + name, hex(value), hex(outputs[name] & bits))


@cocotb.test()
async def all_kinds(dut) -> None:
    """Groups, steps and resets in every combination."""
    rng = random.Random(1)
    block = chain_of(dut)
    await block.start(pixel=0)
    for groups_log2 in range(3):
        for n_steps in range(1, 9):
            for soft in range(2):
                d = descriptor_of(rng, groups_log2=groups_log2, n_steps=n_steps, soft=soft)
                await follow(block, rng, d, 3)


@cocotb.test()
async def one_team(dut) -> None:
    """Its next four steps begin in the clock after the last ones, with what these left."""
    rng = random.Random(5)
    block = chain_of(dut)
    await block.start(pixel=0)
    for groups_log2 in range(3):
        for n_steps in range(5, 9):
            fields = {"groups_log2": groups_log2, "n_steps": n_steps, "leak": 0, "u_again": 0}
            d = descriptor_of(rng, **fields, u_load=0, limit=LIMITS[-1])
            await follow(block, rng, d, 4, n_teams=1)


@cocotb.test()
async def leaks_and_limits(dut) -> None:
    """Every leak with every limit: negative membranes round towards 0, all saturate."""
    rng = random.Random(2)
    block = chain_of(dut)
    await block.start(pixel=0)
    for leak in range(16):
        for limit in LIMITS:
            await follow(block, rng, descriptor_of(rng, leak=leak, limit=limit), 2)


@cocotb.test()
async def stored_membranes(dut) -> None:
    """Membranes of every width come back from every place in their words."""
    rng = random.Random(4)
    block = chain_of(dut)
    await block.start(pixel=0)
    for planes_log2, parts in itertools.product(range(3), ((0, 0), (0, 1), (1, 0), (2, 0), (2, 1))):
        groups_log2, wide = parts
        fields = {"groups_log2": groups_log2, "wide": wide, "u_planes_log2": planes_log2}
        d = descriptor_of(rng, **fields, u_load=1, u_again=1, n_steps=1, leak=0, limit=LIMITS[-1])
        await follow(block, rng, d, 8)


@cocotb.test()
async def random_passes(dut) -> None:
    """Anything."""
    rng = random.Random(3)
    block = chain_of(dut)
    await block.start(pixel=0)
    for _ in range(60):
        await follow(block, rng, descriptor_of(rng), rng.randint(1, 6))
