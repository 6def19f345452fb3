"""The index decoder: every split of a code into tap and block, several pitches and dilations."""

import itertools
import random

import cocotb

from hw.mars.layout import INDEX
from model.mars.layout import decode_index
from tb.bench import Block, Fields, check

INDEX_BITS = Fields(INDEX)
LATENCY = 2
PITCHES = ((0, 0), (1, 2), (2, 1), (18, 2), (255, 1023), (32768, 0), (0, 32768), (65535, 65535))
"""Row and column: also such that a tap leaves the 16 bits."""
FORMATS = ((5, 2), (9, 0), (8, 4), (0, 4), (16, 0), (12, 0), (12, 4), (3, 3))
"""`block_width` and `dx_width`; what is left of 16 bits is the row, of 4 bits at most."""
KEYS = (
    "code",
    "block_width",
    "dx_width",
    "two_planes",
    "row_pitch",
    "col_pitch",
    "row_dilation",
    "col_dilation",
)
Case = dict[str, int]


def decoded(case: Case) -> dict[str, int]:
    """Tap and offset of a code."""
    dy, dx, block = decode_index(
        case["code"], block_width=case["block_width"], dx_width=case["dx_width"]
    )
    offset = dy * case["row_pitch"] + dx * case["col_pitch"] + (block << case["two_planes"])
    return {
        "offset": offset % 65536,
        "dy": dy * case["row_dilation"],
        "dx": dx * case["col_dilation"],
    }


def limited(code: int, block_width: int, dx_width: int) -> int:
    """The code with a row of 4 bits."""
    return code & ((1 << min(16, block_width + dx_width + 4)) - 1)


async def stream(dut, cases: list[Case]) -> None:
    """A code per clock; its index comes 2 clocks later."""
    block = Block(dut, "index_decoder", ("index",))
    await block.start()
    # Everything but the code is that of the pass: it changes behind the last code of one.
    slots = []
    for before, case in zip([None, *cases], cases, strict=False):
        is_new = before is not None and any(before[key] != case[key] for key in KEYS[1:])
        slots += [None] * LATENCY if is_new else []
        slots.append(case)
    shown = cases[0]
    for t, case in enumerate([*slots, *[None] * LATENCY]):
        shown = case or shown
        block.set(**shown)
        index = (await block.tick())["index"]
        due = slots[t - LATENCY] if t >= LATENCY else None
        if due is not None:
            wanted = INDEX_BITS.pack(decoded(due))
            check(f"{due}: index", hex(wanted), hex(index))


@cocotb.test()
async def every_short_code(dut) -> None:
    """All codes of 3x3 kernels and of 1x1 ones, with one and two words per pixel."""
    cases = [
        dict(zip(KEYS, (code, *widths, two, *pitches, 1, 1), strict=True))
        for pitches in PITCHES
        for two in (0, 1)
        for widths in FORMATS[:2]
        for code in range(512)
    ]
    await stream(dut, cases)


@cocotb.test()
async def ends_of_long_codes(dut) -> None:
    """First and last tap and block of every format, with every dilation."""
    codes = (0, 1, 0xFF, 0x100, 0x8000, 0xFFFE, 0xFFFF)
    cases = [
        dict(zip(KEYS, (limited(code, *widths), *widths, two, *pitches, *dilation), strict=True))
        for widths in FORMATS
        for two in (0, 1)
        for pitches in PITCHES[::3]
        for dilation in itertools.product((1, 2, 3, 4), repeat=2)
        for code in codes
    ]
    await stream(dut, cases)


@cocotb.test()
async def random_codes(dut) -> None:
    """Any code with any pitches."""
    rng = random.Random(cocotb.RANDOM_SEED)
    cases = []
    for _ in range(300):
        widths = rng.choice(FORMATS)
        rest = (
            *widths,
            rng.randrange(2),
            rng.choice((rng.randrange(256), rng.randrange(65536))),
            rng.choice((rng.randrange(64), rng.randrange(65536))),
            rng.randint(1, 4),
            rng.randint(1, 4),
        )
        for _ in range(10):
            code = limited(rng.randrange(65536), *widths)
            cases.append(dict(zip(KEYS, (code, *rest), strict=True)))
    await stream(dut, cases)
