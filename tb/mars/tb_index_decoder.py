"""The index decoder: every code in both formats, with several pitches."""

import itertools
import random

import cocotb

from tb.bench import Block, check

CODES = range(512)
PITCHES = ((0, 0), (1, 2), (2, 1), (18, 2), (255, 1023), (32768, 0), (0, 32768), (65535, 65535))
"""Row and column: also such that a tap beyond the second one leaves the 16 bits."""


def decoded(
    code: int, *, kernel3: bool, two_planes: bool, row_pitch: int, col_pitch: int
) -> dict[str, int]:
    """Tap and offset of a code."""
    dy, dx, block = (code >> 7, code >> 5 & 3, code & 31) if kernel3 else (0, 0, code)
    offset = dy * row_pitch + dx * col_pitch + block * (2 if two_planes else 1)
    return {"dy": dy, "dx": dx, "offset": offset % 65536}


def fields(index: int) -> dict[str, int]:
    """Of an index as the index memory holds it."""
    return {"dy": index >> 16 & 3, "dx": index >> 18, "offset": index & 0xFFFF}


async def stream(dut, cases: list[dict[str, int]]) -> None:
    """A code per clock; its index comes 1 clock later."""
    block = Block(dut, "index_decoder", ("index",))
    await block.start()
    for t, case in enumerate([*cases, cases[0]]):
        block.set(**case)
        index = (await block.tick())["index"]
        if t:
            before = cases[t - 1]
            check(f"{before}: index", decoded(**before), fields(index))


@cocotb.test()
async def every_code(dut) -> None:
    """All codes, each format after the other, with one and two words per pixel."""
    keys = ("code", "kernel3", "two_planes", "row_pitch", "col_pitch")
    cases = [
        dict(zip(keys, (*case, *pitches), strict=True))
        for pitches in PITCHES
        for case in itertools.product(CODES, (0, 1), (0, 1))
    ]
    await stream(dut, cases)


@cocotb.test()
async def random_codes(dut) -> None:
    """Any code with any pitches."""
    rng = random.Random(cocotb.RANDOM_SEED)
    await stream(
        dut,
        [
            {
                "code": rng.randrange(512),
                "kernel3": rng.randrange(2),
                "two_planes": rng.randrange(2),
                "row_pitch": rng.choice((rng.randrange(256), rng.randrange(65536))),
                "col_pitch": rng.choice((rng.randrange(64), rng.randrange(65536))),
            }
            for _ in range(3000)
        ],
    )
