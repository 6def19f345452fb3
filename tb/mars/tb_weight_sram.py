"""The weight SRAM and the copier, every clock.

What the copier must do is written down as what is free or ready when, apart from how it counts.
"""

import random
from collections import deque
from dataclasses import dataclass, field

import cocotb

from hw.mars.layout import INDEX
from model.mars.config import ADDRESSES, WORD_BITS, WORD_LINES
from tb.bench import Block, check
from tb.blocks import SRAM_HEADERS, SRAM_SETS

COPY_CLOCKS = 4
BLOCK_SLOTS = 4
ROWS = 4
SIZES = (0, 0, 1, 1, 2, 3, 17, 63, 64)
N_BLOCKS = 100
MAPS = 0.2
"""How many kernel blocks a map fills."""
QUIET = ("header_begun", "header_done", "entry_done", "begun", "filled")


def random_row(rng: random.Random) -> dict[str, int]:
    """A row somewhere."""
    return {
        "row_addr": rng.randrange(SRAM_SETS),
        "row_word_line": rng.randrange(WORD_LINES),
        "row_data": rng.getrandbits(WORD_BITS),
    }


@cocotb.test()
async def memory(dut) -> None:
    """Every row and index is read back, also while others are written."""
    rng = random.Random(1)
    block = Block(dut, "weight_sram", ("rows", "index"))
    await block.start(row_enable=0, index_write=0, copy=0)
    rows: dict[tuple[int, int], int] = {}
    indices: dict[int, int] = {}
    everything = [(addr, line) for addr in range(SRAM_SETS) for line in range(WORD_LINES)]
    rng.shuffle(everything)
    shown: dict[str, int] = {}
    for clock in range(3 * len(everything)):
        row = random_row(rng)
        if everything:
            row["row_addr"], row["row_word_line"] = everything.pop()
        index_addr = clock % SRAM_SETS if clock < SRAM_SETS else rng.randrange(SRAM_SETS)
        index = rng.getrandbits(INDEX.size)
        addr, part = rng.randrange(SRAM_SETS), rng.randrange(COPY_CLOCKS)
        writes_row = bool(everything) or rng.random() < 0.3
        writes_index = clock < SRAM_SETS or rng.random() < 0.3
        copy = rng.random() < 0.7
        block.set(
            row_enable=writes_row,
            index_write=writes_index,
            index_write_addr=index_addr,
            index_data=index,
            copy=copy,
            copy_addr=addr,
            copy_part=part,
            **row,
        )
        outputs = await block.tick()
        for name, value in shown.items():
            check(f"clock {clock}: {name}", hex(value), hex(outputs[name]))
        if copy:
            words = [rows.get((addr, part * ROWS + k)) for k in range(ROWS)]
            shown.pop("rows", None)
            if None not in words:
                shown["rows"] = sum(word << WORD_BITS * k for k, word in enumerate(words))
            if part == 0:
                shown.pop("index", None)
                if addr in indices:
                    shown["index"] = indices[addr]
        if writes_row:
            rows[row["row_addr"], row["row_word_line"]] = row["row_data"]
        if writes_index:
            indices[index_addr] = index


@dataclass
class Expected:
    """The copier as its docstring says it.

    Parameters
    ----------
    sizes : of the kernel blocks whose headers began to come, and whether a map fills them
    headers, sets : complete headers, and group-sets, that it has not turned to
    in_macros, not_begun : group-sets that the macros hold; kernel blocks that wait for the walker
    size, is_map, left, part : of the kernel block under way, None if there is none
    held : a map is not in the macros yet
    """

    sizes: deque[tuple[int, bool]] = field(default_factory=deque)
    headers: int = 0
    sets: int = 0
    in_macros: int = 0
    not_begun: int = 0
    size: int | None = None
    is_map: bool = False
    held: bool = False
    left: int = 0
    part: int = 0
    n_copied: int = 0
    n_loaded: int = 0

    def clock(self) -> dict[str, int]:
        """Outputs of a clock; then it turns to the next kernel block if it is through."""
        copy = self.part > 0
        if self.size is not None and not self.part and self.left:
            copy = self.sets > 0 and self.in_macros < ADDRESSES
            self.sets -= copy
            self.in_macros += copy
        shown = {
            "copy": int(copy),
            "copy_addr": self.n_copied % SRAM_SETS,
            "macro_addr": self.n_copied % ADDRESSES,
            "copy_part": self.part,
            "copied": int(copy and self.part == COPY_CLOCKS - 1),
        }
        self.part = (self.part + copy) % COPY_CLOCKS
        self.left -= shown["copied"]
        self.n_copied += shown["copied"]
        shown["loaded"] = int(self.size is not None and not self.left)
        if shown["loaded"]:
            shown |= {"slot": self.n_loaded % BLOCK_SLOTS, "size": self.size or 0}
            self.n_loaded += 1
            self.size = None
            self.held = self.is_map
        if self.size is None and self.headers and self.not_begun < BLOCK_SLOTS and not self.held:
            self.size, self.is_map = self.sizes.popleft()
            self.left = self.size
            self.headers -= 1
            self.not_begun += 1
        return shown


class Traffic:
    """A loader and a walker: headers and group-sets in the order of the lines, blocks begun."""

    def __init__(self, rng: random.Random, loader: float, walker: float) -> None:
        self.rng = rng
        self.loader, self.walker = loader, walker
        """How likely each does what it can in a clock."""
        self.blocks = deque((rng.choice(SIZES), rng.random() < MAPS) for _ in range(N_BLOCKS))
        self.state = "header"
        self.to_come = 0
        self.in_sram = self.in_headers = 0
        self.maps: deque[bool] = deque()
        """Of the kernel blocks that are not begun: whether a map fills them."""
        self.filling = False
        self.complete: deque[tuple[str, int]] = deque()
        self.in_use: deque[int] = deque()

    def clock(self, slot: int) -> dict[str, int]:
        """Inputs of a clock; `slot` is that of the next header."""
        inputs = dict.fromkeys(QUIET, 0)
        inputs |= {"header_slot": self.rng.randrange(SRAM_HEADERS), "entries_freed": 0}
        inputs |= {"n_entries": self.rng.randrange(128), "is_map": self.rng.randrange(2)}
        if self.rng.random() < self.loader:
            inputs |= self._load(slot)
        if self.filling:
            inputs["filled"] = int(self.rng.random() < self.walker)
            self.filling = not inputs["filled"]
        elif self.complete and self.rng.random() < self.walker:
            inputs["begun"] = 1
            self.in_use.append(self.complete[0][1])
            self.filling = self.maps.popleft()
        elif self.in_use and self.rng.random() < self.walker:
            inputs["entries_freed"] = self.in_use.popleft()
            self.in_headers -= 1
        return inputs

    def _load(self, slot: int) -> dict[str, int]:
        if self.state == "header" and self.blocks and self.in_headers < SRAM_HEADERS:
            self.to_come, is_map = self.blocks.popleft()
            self.maps.append(is_map)
            self.in_headers += 1
            self.state = "rest"
            of_block = {"n_entries": self.to_come, "is_map": int(is_map)}
            return {"header_begun": 1, "header_slot": slot, **of_block}
        if self.state == "rest":
            self.state = "sets" if self.to_come else "header"
            return {"header_done": 1}
        if self.state == "sets" and self.in_sram < SRAM_SETS:
            self.in_sram += 1
            self.to_come -= 1
            self.state = "sets" if self.to_come else "header"
            return {"entry_done": 1}
        return {}

    def full(self, expected: Expected) -> set[str]:
        """What there is no more room for."""
        found = {
            "macros": expected.in_macros == ADDRESSES,
            "weight SRAM": self.in_sram == SRAM_SETS,
            "headers": self.in_headers == SRAM_HEADERS,
            "blocks": expected.not_begun == BLOCK_SLOTS,
        }
        return {name for name, is_full in found.items() if is_full}


@cocotb.test()
async def copying(dut) -> None:
    """Loader and walker of every speed; nothing to copy, no room, and nothing that waits."""
    rng = random.Random(2)
    flags, places = ("copy", "copied", "loaded"), ("copy_addr", "copy_part", "macro_addr")
    entries = tuple(f"entries_{slot}" for slot in range(BLOCK_SLOTS))
    block = Block(dut, "copier", (*flags, *places, *entries))
    await block.start(entries_freed=0, **dict.fromkeys(QUIET, 0))
    expected = Expected()
    met: set[str] = set()
    slot = 0
    for loader, walker in ((1.0, 1.0), (1.0, 0.02), (0.1, 1.0), (0.3, 0.1)):
        traffic = Traffic(rng, loader, walker)
        while traffic.blocks or traffic.in_headers:
            met |= traffic.full(expected)
            inputs = traffic.clock(slot)
            if inputs["header_begun"]:
                slot = (slot + 1) % SRAM_HEADERS
                expected.sizes.append((inputs["n_entries"], bool(inputs["is_map"])))
            block.set(**inputs)
            shown = expected.clock()
            outputs = await block.tick()
            for name in flags + places * shown["copy"]:
                check(f"{name}, {loader}, {walker}", shown[name], outputs[name])
            if inputs["begun"]:
                port, size = traffic.complete.popleft()
                check(port, size, outputs[port])
            if shown["loaded"]:
                traffic.complete.append((entries[shown["slot"]], shown["size"]))
            traffic.in_sram -= shown["copied"]
            expected.headers += inputs["header_done"]
            expected.sets += inputs["entry_done"]
            expected.in_macros -= inputs["entries_freed"]
            expected.not_begun -= inputs["begun"]
            if inputs["filled"]:
                expected.held = False
    check("met", {"macros", "weight SRAM", "headers", "blocks"}, met)
