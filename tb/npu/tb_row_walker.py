"""The row walker: every bit of a pass once and in order, without a gap."""

import random

import cocotb

from tb.bench import Block, check
from tb.blocks import N_WALKER_PASSES, N_WALKER_ROWS

FIRST_SLOT = 3
"""Clocks from `start` to the first slot."""
PATTERNS = (
    0,
    1,
    1 << 15,
    1 << 16,
    1 << (N_WALKER_ROWS - 1),
    1 | 1 << (N_WALKER_ROWS - 1),
    (1 << N_WALKER_ROWS) - 1,
    0xFFFF << 16,
    0x8001_8001,
    0xFF_0000_0000,
)


ALL = (1 << N_WALKER_ROWS) - 1


def slots(rows: int, masks: list[int]) -> list[tuple[int, int, int]]:
    """(close, row or pass, last) of every slot."""
    result = []
    for index, mask in enumerate(masks):
        bits = [k for k in range(N_WALKER_ROWS) if rows & mask & 1 << k]
        result += [(0, bit, int(bit == bits[-1])) for bit in bits]
        result.append((1, index, 0))
    return result


async def walk(block: Block, rows: int, masks: list[int], ready: float) -> None:
    """One walk, a pass for each mask; with ready = 1 each slot must come in its clock."""
    n_passes = len(masks)
    expected = slots(rows, masks)
    where = f"rows {rows:#x}, masks {', '.join(map(hex, masks))}"
    block.set(start=1, n_passes=n_passes, rows=rows)
    out = await block.tick()
    check(f"{where}: busy at start", 0, out["busy"])
    read = []
    block.set(start=0, n_passes=random.randrange(N_WALKER_PASSES + 1))
    clock, seen = 1, []
    while True:
        accept = random.random() < ready
        block.set(slot_ready=accept)
        if out["read"]:
            read.append(out["read_pass"])
            block.set(mask=masks[read[-1]])
        out = await block.tick()
        if not out["busy"]:
            break
        if out["slot_valid"]:
            close = out["slot_payload"] >> layout_bit("close") & 1
            slot = field(out["slot_payload"], "index" if close else "row")
            last = 0 if close else field(out["slot_payload"], "last")
            check(f"{where}: slot {len(seen)}", expected[len(seen)], (close, slot, last))
            if accept:
                seen.append(slot)
        if ready == 1:
            check(f"{where}: valid in clock {clock}", clock >= FIRST_SLOT, bool(out["slot_valid"]))
        clock += 1
        assert clock < 5000, f"{where}: no end"
    check(f"{where}: slots", len(expected), len(seen))
    check(f"{where}: masks read", list(range(n_passes)), read)
    if ready == 1 and n_passes:
        check(f"{where}: clocks", FIRST_SLOT + len(expected), clock)


def layout_bit(name: str) -> int:
    """Lowest bit of a field of the slot."""
    return LAYOUT[name][0]


def field(payload: int, name: str) -> int:
    """A field of the slot."""
    low, width = LAYOUT[name]
    return payload >> low & ((1 << width) - 1)


ROW_WIDTH = (N_WALKER_ROWS - 1).bit_length()
INDEX_WIDTH = (N_WALKER_PASSES - 1).bit_length()
LAYOUT = {
    "row": (0, ROW_WIDTH),
    "index": (ROW_WIDTH, INDEX_WIDTH),
    "last": (ROW_WIDTH + INDEX_WIDTH, 1),
    "close": (ROW_WIDTH + INDEX_WIDTH + 1, 1),
}


@cocotb.test()
async def patterns(dut) -> None:
    """Corner patterns with every number of passes, then random rows and masks; never a gap."""
    block = await started(dut)
    rng = random.Random(cocotb.RANDOM_SEED)
    for n_passes in range(N_WALKER_PASSES + 1):
        for rows in PATTERNS:
            await walk(block, rows, [ALL] * n_passes, ready=1)
            await walk(block, ALL, rng.choices(PATTERNS, k=n_passes), ready=1)
    for _ in range(120):
        await walk(block, sparse(rng), masks(rng), ready=1)


@cocotb.test()
async def back_pressure(dut) -> None:
    """The same with a consumer that is often not ready."""
    block = await started(dut)
    rng = random.Random(cocotb.RANDOM_SEED)
    for rows in (*PATTERNS, *(sparse(rng) for _ in range(40))):
        await walk(block, rows, masks(rng), ready=0.3)


def masks(rng: random.Random) -> list[int]:
    """A mask for each of some passes: empty, full, or in between."""
    kinds = rng.choices((0, ALL, None), (1, 1, 2), k=rng.randint(1, N_WALKER_PASSES))
    return [sparse(rng) if mask is None else mask for mask in kinds]


def sparse(rng: random.Random) -> int:
    """Rows of random density, with empty words among them."""
    density = rng.choice((0.02, 0.1, 0.5, 0.9))
    return sum(1 << k for k in range(N_WALKER_ROWS) if rng.random() < density)


async def started(dut) -> Block:
    """The walker after reset."""
    block = Block(dut, "row_walker", ("slot_valid", "slot_payload", "busy", "read", "read_pass"))
    await block.start(start=0, slot_ready=0)
    return block
