"""The map loader and what two macros make of a map, every word, row and clock.

What a row must be is written down nibble by nibble, as docs/attention.md says it: which pixel and
channel of the map stands for a weight, and where its nibble is.
"""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import cocotb

from model.mars.config import ADDRESSES, KERNELS, NIBBLE, WORD_BITS, WORD_LINES
from model.mars.layout import OPERAND, Descriptor, bits_of, pack_descriptor
from tb.bench import Block, check
from tb.blocks import FILLED_ROWS

MACROS = range(len(FILLED_ROWS))
FLAGS = ("reading", "filled", "read", "write_addr", "write_word_line")
OF_MACRO = ("addr", "write", "rows")
SETTLING = 2
"""Clocks from the last word of a map, or row of one that is transposed, to the first access."""
SEEN_AFTER = 2
"""Clocks from an access's step to its row's last write that it sees."""
N_PASSES = 60
ADDRESS_SPACE = 1 << 16


@dataclass(frozen=True)
class Fill:
    """A kernel block of a pass: its number, its entries and the address of the first one."""

    descriptor: Descriptor
    number: int
    n_entries: int
    head: int


def nibble(fill: Fill, macro: int, entry: int, i: int, k: int, words: Callable[[int], int]) -> int:
    """The nibble of word line i and kernel k of an entry of the macro with a number in its team."""
    d = fill.descriptor
    n_planes = 1 + d.stacked
    row = KERNELS * (entry // n_planes * d.split + macro) + i
    kernel = KERNELS * fill.number + k
    pixel, channel = (kernel, row) if d.op_transposed else (row, kernel)
    if pixel >= d.op_tokens or channel >= d.op_channels:
        return 0
    address = d.op_base + pixel * d.op_col_pitch
    address += channel // KERNELS * n_planes + entry % n_planes
    return words(address % ADDRESS_SPACE) >> NIBBLE * (channel % KERNELS) & 0xF


def rows(fill: Fill, macro: int, words: Callable[[int], int]) -> dict[tuple[int, int], int]:
    """All rows that are written, by address and word line."""
    return {
        ((fill.head + entry) % ADDRESSES, i): sum(
            nibble(fill, macro, entry, i, k, words) << NIBBLE * k for k in range(KERNELS)
        )
        for entry in range(fill.n_entries)
        for i in range(WORD_LINES)
    }


class Bench:
    """Loader and macros, whose memories hold any words; all inputs that do not count are random."""

    def __init__(self, dut, rng: random.Random) -> None:
        outputs = [f"{name}_{macro}" for name in OF_MACRO for macro in MACROS]
        self.block = Block(dut, "filling", (*FLAGS, *outputs))
        self.rng = rng
        self.memory: dict[tuple[int, int], int] = {}
        self.numbers = (0,) * len(MACROS)
        self.read: deque[list[int]] = deque([[], []])
        """Words that were read in the two clocks before."""
        self.written: list[dict[tuple[int, int], int]] = []

    def words(self, macro: int) -> Callable[[int], int]:
        """The memory of a macro."""
        return lambda address: self.memory.setdefault(
            (macro, address), self.rng.getrandbits(WORD_BITS)
        )

    async def clock(self, **inputs: int) -> dict[str, int | None]:
        """A clock; the words that were read two clocks before are there in it."""
        word = {f"word_{macro}": self.rng.getrandbits(WORD_BITS) for macro in MACROS}
        for macro, value in enumerate(self.read.popleft()):
            word[f"word_{macro}"] = value
        self.block.set(**{"fill": 0, "begins": 0, **word, **inputs})
        outputs = await self.block.tick()
        is_read = outputs["read"]
        self.read.append(
            [self.words(macro)(outputs[f"addr_{macro}"]) for macro in MACROS] if is_read else []
        )
        for macro in MACROS:
            if outputs[f"write_{macro}"]:
                self.write(macro, outputs)
        return outputs

    def write(self, macro: int, outputs: dict[str, int | None]) -> None:
        """Rows that a macro takes: so many with the last of them."""
        n, value = FILLED_ROWS[macro], outputs[f"rows_{macro}"]
        last, addr = outputs["write_word_line"], outputs["write_addr"]
        assert None not in (value, last, addr)
        for k in range(n):
            place = addr, last // n * n + k
            check(f"macro {macro}: row {place} is new", False, place in self.written[macro])
            self.written[macro][place] = value >> WORD_BITS * k & ((1 << WORD_BITS) - 1)

    async def pass_begins(self, d: Descriptor) -> None:
        """Another pass; the descriptor is that of the clock behind `begins`."""
        await self.clock(begins=1)
        self.numbers = tuple(self.rng.randrange(d.split) for _ in MACROS)
        self.block.set(descriptor=bits_of(pack_descriptor(d)))
        self.block.set(**{f"number_{macro}": self.numbers[macro] for macro in MACROS})
        await self.clock()
        await self.clock()

    async def fill(self, fill: Fill) -> None:
        """A kernel block, clock by clock; then all of its rows are there."""
        d = fill.descriptor
        where = f"{d.op_tokens} x {d.op_channels}, transposed {d.op_transposed}, planes "
        where += f"{1 + d.stacked}, split {d.split}, block {fill.number}"
        n_words = WORD_LINES * fill.n_entries
        n_clocks = n_words + SETTLING + WORD_LINES * d.op_transposed
        self.written = [{} for _ in MACROS]
        for clock in range(n_clocks):
            outputs = await self.clock(
                fill=1, n_entries=fill.n_entries, head=fill.head, kernel_block=fill.number
            )
            check(f"{where}: reading in clock {clock}", int(clock < n_words), outputs["reading"])
            check(
                f"{where}: filled in clock {clock}", int(clock == n_clocks - 1), outputs["filled"]
            )
        for _ in range(SEEN_AFTER):
            await self.clock()
        for macro in MACROS:
            expected = rows(fill, self.numbers[macro], self.words(macro))
            check(f"{where}: rows of macro {macro}", expected, self.written[macro])
        self.written = [{} for _ in MACROS]
        for _ in range(self.rng.choice((0, 0, 1, 7, 40))):
            await self.clock()
        check(f"{where}: rows behind it", [{} for _ in MACROS], self.written)


def random_pass(rng: random.Random) -> tuple[Descriptor, int, int]:
    """A descriptor, kernel blocks and entries of each, so that macros have a block too many."""
    transposed, stacked, split_log2 = rng.randrange(2), rng.randrange(2), rng.randrange(4)
    most = rng.choice((20, 20, 50, 50, 50, 300))
    n_tokens, n_channels = rng.randint(1, most), rng.randint(1, most)
    if rng.random() < 0.3:
        n_tokens, n_channels = 16 * -(-n_tokens // 16), 16 * -(-n_channels // 16)
    n_rows, n_kernels = (n_channels, n_tokens) if transposed else (n_tokens, n_channels)
    n_entries = -(-n_rows // (KERNELS << split_log2)) << stacked
    d = Descriptor(
        function=OPERAND,
        stacked=stacked,
        split_log2=split_log2,
        op_base=rng.randrange(ADDRESS_SPACE),
        op_col_pitch=rng.choice((rng.randrange(1, 40), rng.randrange(ADDRESS_SPACE))),
        op_tokens=n_tokens,
        op_channels=n_channels,
        op_transposed=transposed,
    )
    return d, -(-n_kernels // KERNELS), min(n_entries, ADDRESSES)


@cocotb.test()
async def maps(dut) -> None:
    """Maps of any size, transposed or not, of one plane or two; the last one fills a macro."""
    rng = random.Random(1)
    bench = Bench(dut, rng)
    await bench.block.start(fill=0, begins=0)
    passes = [random_pass(rng) for _ in range(N_PASSES)]
    for transposed in range(2):
        d = Descriptor(
            function=OPERAND,
            stacked=1,
            op_base=5,
            op_col_pitch=80,
            op_tokens=512,
            op_channels=512,
            op_transposed=transposed,
        )
        passes.append((d, 2, ADDRESSES))
    met = set()
    for d, n_blocks, n_entries in passes:
        await bench.pass_begins(d)
        head = rng.randrange(ADDRESSES)
        for number in range(min(n_blocks, 4)):
            await bench.fill(Fill(d, number, n_entries, head))
            head = (head + n_entries) % ADDRESSES
            met.add((d.op_transposed, d.stacked, d.split_log2))
    check("kinds of passes", 2 * 2 * 4, len(met))
