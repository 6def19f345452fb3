"""The requantiser against `model.mars.requantiser`: ties, clamps, widths, then random ones."""

import itertools
import random
from collections.abc import Iterator

import cocotb
import numpy as np

from model.mars.requantiser import raw, requantise
from tb.bench import Block, check, signed

LATENCY, LIMITS_AFTER = 5, 4
ACC_MIN, ACC_MAX = -(1 << 31), (1 << 31) - 1
MULT_MAX = 65535
SKIP_MIN, SKIP_MAX = -512, 511
WIDE_MULT_MAX = (1 << 31) - 1
POST_SHIFTS = (0, 1, 2, 8, 30, 31)
SHIFTS = range(1, 41)
TYPES = (
    *((0, (1 << bits) - 1) for bits in (1, 4, 8)),
    *((-(1 << bits - 1), (1 << bits - 1) - 1) for bits in (1, 4, 8, 16)),
    *((-9, -3), (3, 9)),
)
"""Ends of unsigned and signed results, and two ranges without 0: both limits have a sign."""
LIMITS = ("low", "high", "offset")
Case = dict[str, int]
KEYS = ("acc", "bias", "mult", "shift", "skip", "skip_mult", "low", "high", "post_shift", "offset")


def case_of(total: int, rng: random.Random, **parameters: int) -> Case:
    """A case with this total, however it comes about, and random values for the rest."""
    least, most = max(ACC_MIN, total - ACC_MAX), min(ACC_MAX, total - ACC_MIN)
    bias = rng.choice((least, most, 0, rng.randint(-5000, 5000), rng.randint(least, most)))
    bias = min(max(bias, least), most)
    low, high = rng.choice(TYPES)
    return {
        "acc": total - bias,
        "bias": bias,
        "mult": rng.choice((0, 1, MULT_MAX, rng.randint(0, MULT_MAX))),
        "shift": rng.choice(SHIFTS),
        "skip": rng.choice((0, SKIP_MIN, SKIP_MAX, rng.randint(SKIP_MIN, SKIP_MAX))),
        "skip_mult": rng.choice((0, 1, MULT_MAX, rng.randint(0, MULT_MAX))),
        "raw": 0,
        "low": low,
        "high": high,
        "post_shift": 0,
        "offset": rng.choice((0, 0, -255, 255, rng.randint(-255, 255))),
        **parameters,
    }


def aimed(target: int, rng: random.Random, **parameters: int) -> Case | None:
    """A case whose sum before rounding is exactly `target`, if there is one."""
    mult = rng.choice((1 << 15, MULT_MAX, rng.randint(1 << 14, MULT_MAX)))
    skip = rng.choice((1, -1))
    total, rest = divmod(target * skip, mult)
    total *= skip
    if not ACC_MIN <= total <= ACC_MAX:
        return None
    return case_of(total, rng, mult=mult, skip=skip, skip_mult=rest, **parameters)


def ties(rng: random.Random) -> Iterator[Case]:
    """Sums half way between two results, and one less and more, around 0 and both clamps."""
    for shift, (low, high) in itertools.product(SHIFTS, TYPES):
        for result in sorted({low - 1, low, high - 1, high, -2, -1, 0}):
            for offset in (-1, 0, 1):
                target = (result << shift) + (1 << shift - 1) + offset
                case = aimed(target, rng, shift=shift, low=low, high=high)
                if case:
                    yield case


def ends(rng: random.Random) -> Iterator[Case]:
    """Largest and smallest operands, alone and together, under every shift."""
    for shift, total, mult, skip, skip_mult in itertools.product(
        SHIFTS,
        (ACC_MIN, ACC_MIN + 1, -1, 0, 1, ACC_MAX),
        (0, 1, 1 << 15, MULT_MAX),
        (SKIP_MIN, -1, 0, 1, SKIP_MAX),
        (1, MULT_MAX),
    ):
        case = case_of(total, rng, shift=shift, mult=mult, skip=skip, skip_mult=skip_mult)
        yield {**case, "low": -(1 << 15), "high": (1 << 15) - 1} if rng.random() < 0.5 else case


def unscaled(rng: random.Random) -> Iterator[Case]:
    """Raw results beyond every clamp, among requantised ones."""
    for total in (ACC_MIN, ACC_MIN + 1, -32769, -32768, -2, -1, 0, 1, 32767, 32768, ACC_MAX):
        for kind in (1, 1, 0, 1, 0, 0, 1):
            yield case_of(total, rng, raw=kind)


def random_case(rng: random.Random) -> Case:
    """Any parameters; half of the results are near the range of their type."""
    shift = rng.choice(SHIFTS)
    if rng.random() < 0.5:
        case = aimed(rng.randint(-300, 300) * (1 << shift) + rng.randrange(1 << shift), rng)
        if case:
            return {**case, "shift": shift}
    total = rng.choice((rng.randint(ACC_MIN, ACC_MAX), rng.randint(-10000, 10000)))
    return case_of(total, rng, shift=shift, raw=rng.random() < 0.2)


def golden(cases: list[Case]) -> list[int]:
    """Results of the model."""
    columns = {key: np.array([case[key] for case in cases]) for key in (*KEYS, "raw")}
    unclamped = columns.pop("raw").astype(bool)
    results = np.where(unclamped, raw(columns["acc"], columns["bias"]), requantise(**columns))
    return [int(result) for result in results]


async def stream(dut, cases: list[Case], name: str = "requantiser") -> None:
    """Send a case per clock, with garbage in between that nobody enables, and compare the results.

    Half of the gaps are one clock long, so that a stage that moves without its enable is seen.
    """
    block = Block(dut, name, ("y",))
    await block.start(enable=0)
    rng = random.Random(len(cases))
    slots: list[int | None] = []
    for number in range(len(cases)):
        gap = rng.choice((1, 1, 2, 7)) if rng.random() < 0.1 else 0
        slots += [*[None] * gap, number]
    slots += [None] * LATENCY
    expected = golden(cases)
    for t, slot in enumerate(slots):
        case = random_case(rng) if slot is None else cases[slot]
        if name == "requantiser":
            case = {key: value for key, value in case.items() if key != "post_shift"}
        # Limits come with what is clamped; when nothing is, they may be anything.
        clamped = slots[t - LIMITS_AFTER] if t >= LIMITS_AFTER else None
        limits = random_case(rng) if clamped is None else cases[clamped]
        case = {**case, **{key: limits[key] for key in LIMITS}}
        block.set(enable=slot is not None, **case)
        y = (await block.tick())["y"]
        due = slots[t - LATENCY] if t >= LATENCY else None
        if due is not None:
            check(f"{cases[due]}: y", expected[due], signed(y, 32))


@cocotb.test()
async def rounding(dut) -> None:
    """Every tie and its neighbours, under every shift and at every clamp."""
    rng = random.Random(1)
    cases = list(ties(rng))
    rng.shuffle(cases)  # so that each shift follows another one
    await stream(dut, cases)


@cocotb.test()
async def widths(dut) -> None:
    """Operands at their ends."""
    await stream(dut, list(ends(random.Random(2))))


@cocotb.test()
async def raw_results(dut) -> None:
    """Results without requantisation."""
    await stream(dut, list(unscaled(random.Random(3))))


@cocotb.test()
async def random_results(dut) -> None:
    """Anything, each clock with parameters of its own."""
    rng = random.Random(cocotb.RANDOM_SEED)
    await stream(dut, [random_case(rng) for _ in range(5000)])


def second_ties(rng: random.Random) -> Iterator[Case]:
    """Half steps of the second shift and their neighbours, on both sides of 0."""
    for post_shift, shift, (low, high) in itertools.product(range(9), (1, 2, 31), TYPES):
        for result, offset in itertools.product((-2, -1, 0, 1, low, high), (-1, 0, 1)):
            once = (result << post_shift) + ((1 << post_shift) >> 1) + offset
            case = aimed(once << shift, rng, shift=shift, low=low, high=high)
            if case:
                yield {**case, "post_shift": post_shift}


def wide_ends(rng: random.Random) -> Iterator[Case]:
    """Largest and smallest operands of wide multipliers."""
    for shift, post_shift, total, mult, skip in itertools.product(
        (1, 2, 30, 31, 39, 40),
        POST_SHIFTS,
        (ACC_MIN, -1, 0, 1, ACC_MAX),
        (1, 1 << 30, WIDE_MULT_MAX),
        (SKIP_MIN, 0, SKIP_MAX),
    ):
        fields = {"shift": shift, "post_shift": post_shift, "mult": mult, "skip": skip}
        case = case_of(total, rng, skip_mult=rng.choice((0, WIDE_MULT_MAX)), **fields)
        yield {**case, "low": -(1 << 15), "high": (1 << 15) - 1} if rng.random() < 0.5 else case


def behind_the_clamp(rng: random.Random) -> Iterator[Case]:
    """Results at and behind both clamps, and what is added to them, up to its own ends."""
    offsets = (-(1 << 15), -255, -1, 0, 1, 255, (1 << 15) - 1)
    for (low, high), offset in itertools.product(TYPES, offsets):
        for result in (low - 1, low, low + 1, high - 1, high, high + 1, ACC_MIN >> 1, ACC_MAX >> 1):
            fields = {"mult": 1, "shift": 1, "skip": 0, "offset": offset}
            yield case_of(2 * result, rng, low=low, high=high, **fields)


def half_steps(rng: random.Random) -> tuple[list[Case], list[int]]:
    """One and a half steps and half a step of every second shift, and what they are by hand."""
    cases, results = [], []
    for post_shift, (halves, result) in itertools.product(
        range(1, 31), ((-3, -2), (-1, -1), (1, 1), (3, 2))
    ):
        total = halves << post_shift - 1
        fields = {"mult": 2, "shift": 1, "skip": 0, "offset": 0, "post_shift": post_shift}
        if ACC_MIN <= total <= ACC_MAX:
            cases.append(case_of(total, rng, low=-2, high=2, **fields))
            results.append(result)
    return cases, results


@cocotb.test()
async def offsets(dut) -> None:
    """What is added behind the clamp, at both ends, in both requantisers."""
    for name in ("requantiser", "requantiser_wide"):
        await stream(dut, list(behind_the_clamp(random.Random(7))), name)


@cocotb.test()
async def half_steps_away_from_zero(dut) -> None:
    """The wide requantiser: -1.5, -0.5, 0.5 and 1.5 steps become -2, -1, 1 and 2."""
    cases, results = half_steps(random.Random(8))
    check("results of the model", results, golden(cases))
    await stream(dut, cases, "requantiser_wide")


@cocotb.test()
async def rounding_twice(dut) -> None:
    """The wide requantiser: every tie of the second shift."""
    rng = random.Random(5)
    cases = list(second_ties(rng))
    rng.shuffle(cases)
    await stream(dut, cases, "requantiser_wide")


@cocotb.test()
async def wide_widths(dut) -> None:
    """The wide requantiser: operands at their ends, and results without requantisation."""
    rng = random.Random(6)
    await stream(dut, [*wide_ends(rng), *unscaled(rng)], "requantiser_wide")


@cocotb.test()
async def random_wide_results(dut) -> None:
    """The wide requantiser: anything."""
    rng = random.Random(cocotb.RANDOM_SEED)
    cases = [
        {
            **random_case(rng),
            "mult": rng.choice((1, rng.randint(0, WIDE_MULT_MAX))),
            "post_shift": rng.choice((*POST_SHIFTS, rng.randrange(32))),
        }
        for _ in range(4000)
    ]
    await stream(dut, cases, "requantiser_wide")
