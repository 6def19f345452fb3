"""The weight memory: what the host writes, and one bit for each block that is not all zero."""

import random

import cocotb
import numpy as np

from tb.bench import Block, check
from tb.blocks import N_BLOCK_GROUPS, N_BLOCK_LANES, N_BLOCK_ROWS

DEPTH = N_BLOCK_ROWS * N_BLOCK_GROUPS
BYTES_PER_WORD = 4
N_WORDS = DEPTH * N_BLOCK_LANES // BYTES_PER_WORD
OUTPUTS = ("weights", "filled", "updating", "bus_r_data", "bus_error")
DATA = (0, 0, 1, 0x80, 0x100, 0x8000_0000, 0xFFFF_FFFF)
"""Often nothing, and bytes at both ends."""


class Memory:
    """The block, and what it must hold."""

    def __init__(self, dut) -> None:
        self.block = Block(dut, "weight_memory", OUTPUTS)
        self.weights = np.zeros((N_WORDS, BYTES_PER_WORD), np.uint8)

    async def request(self, word: int, **request: int) -> None:
        """A request as the bus makes it; its answer, or the next one, is 2 clocks later."""
        self.block.set(bus_valid=1, bus_addr=4 * word, **request)
        await self.block.tick()
        # The bus promises nothing of the clock behind a request but that it is none.
        self.block.set(bus_valid=0, bus_addr=random.getrandbits(32), bus_write=random.randrange(2))
        out = await self.block.tick()
        check("updating", int(request["bus_write"] and word < N_WORDS), out["updating"])

    async def write(self, word: int, data: int, strobes: int) -> None:
        """Write some bytes of a word; behind the last one that is an error."""
        await self.request(word, bus_write=1, bus_w_data=data, bus_w_strb=strobes)
        if word < N_WORDS:
            for k in range(BYTES_PER_WORD):
                if strobes >> k & 1:
                    self.weights[word, k] = data >> 8 * k & 0xFF

    async def read(self, word: int) -> None:
        """Read a word back."""
        await self.request(word, bus_write=0)
        out = await self.block.tick()
        expected = int.from_bytes(self.weights[word].tobytes(), "little")
        check(f"word {word}", expected, out["bus_r_data"])

    async def updated(self) -> None:
        """Wait until the bits are right."""
        while (await self.block.tick())["updating"]:
            pass

    async def check_bits(self, group: int) -> None:
        """The bits of a group."""
        self.block.set(read_filled=1, filled_group=group)
        await self.block.tick()
        self.block.set(read_filled=0)
        blocks = self.weights.reshape(N_BLOCK_GROUPS, N_BLOCK_ROWS, -1)[group].any(axis=1)
        expected = sum(1 << row for row in np.flatnonzero(blocks).tolist())
        check(f"bits of group {group}", f"{expected:b}", f"{(await self.block.tick())['filled']:b}")

    async def check_block(self, addr: int) -> None:
        """A block as the lanes read it."""
        self.block.set(read=1, addr=addr)
        await self.block.tick()
        self.block.set(read=0)
        words = self.weights.reshape(DEPTH, -1)[addr]
        expected = int.from_bytes(words.tobytes(), "little")
        check(f"block {addr}", expected, (await self.block.tick())["weights"])


@cocotb.test()
async def bits_follow_writes(dut) -> None:
    """Bytes come and go in any order; the bits are right after each, and nothing else changes."""
    memory = Memory(dut)
    rng = random.Random(cocotb.RANDOM_SEED)
    await memory.block.start(bus_valid=0, read=0, read_filled=0)
    for word in range(N_WORDS):
        await memory.write(word, 0, 0xF)
    await memory.updated()
    for group in range(N_BLOCK_GROUPS):
        await memory.check_bits(group)
    for k in range(1500):
        # A few words, so that blocks become empty again; then all.
        word = rng.randrange(N_WORDS + 3) if k % 2 else rng.randrange(12) * N_WORDS // 12
        await memory.write(word, rng.choice(DATA), rng.randrange(16))
        if rng.random() < 0.5:
            out = await memory.block.tick()
            check(f"write of word {word}: error", int(word >= N_WORDS), out["bus_error"])
        if rng.random() < 0.5:
            await memory.read(rng.randrange(N_WORDS))
        if rng.random() < 0.5:
            await memory.updated()
            await memory.check_bits(rng.randrange(N_BLOCK_GROUPS))
            await memory.check_block(rng.randrange(DEPTH))
    await memory.updated()
    for group in range(N_BLOCK_GROUPS):
        await memory.check_bits(group)
