"""Membranes on their way to the feature memories, against `model.mars.machine`, every clock."""

import random
from dataclasses import dataclass

import cocotb
import numpy as np

from hw.mars.layout import MAX_PARTS
from hw.mars.membranes import MEMBRANE_WIDTH, store_layout
from model.mars.clocks import CHAIN_AFTER, STORED_AFTER, WRITTEN_AFTER
from model.mars.config import KERNELS, WORD_BITS, WORD_BYTES
from model.mars.layout import Descriptor, bits_of, pack_descriptor
from model.mars.machine import nibble_plane
from tb.bench import Block, Fields, check, post_lanes, with_lanes
from tb.blocks import STORE_MACROS

STORE_BITS = Fields(store_layout(STORE_MACROS))
MACROS = range(STORE_MACROS)
MASK = (1 << MEMBRANE_WIDTH) - 1


@dataclass(frozen=True)
class Store:
    """Two words of a round, and the membranes (teams, 16) that its neurons left."""

    pair: int
    part: int
    offset: int
    macros: int
    membranes: np.ndarray

    def bits(self) -> int:
        """As the port has it."""
        fields = {name: getattr(self, name) for name in ("pair", "part", "offset", "macros")}
        return STORE_BITS.pack({"valid": 1, **fields})


def random_store(rng: random.Random, pair: int) -> Store:
    """Anything; membranes are often at their ends."""
    ends = (-32767, -128, -8, -1, 0, 1, 7, 127, 32767)
    membranes = [
        [rng.choice(ends) if rng.random() < 0.5 else rng.randint(-32768, 32767) for _ in range(16)]
        for _ in MACROS
    ]
    return Store(
        pair,
        rng.randrange(MAX_PARTS),
        rng.randrange(1 << 16) & ~1,
        rng.randrange(1, 1 << STORE_MACROS),
        np.array(membranes),
    )


def expected(d: Descriptor, one: Store, macro: int) -> tuple[int, int]:
    """Words that a macro is given, and the bits of them that are written."""
    n = KERNELS >> d.u_parts_log2
    first = one.part % (1 << d.u_parts_log2) * n
    placed = np.zeros(KERNELS, np.int64)
    placed[first : first + n] = one.membranes[macro >> d.split_log2][:: d.groups][:n]
    planes = [2 * one.pair, 2 * one.pair + 1][: 2 if d.u_planes_log2 else 1]
    words = sum(int(nibble_plane(placed, p)) << WORD_BITS * k for k, p in enumerate(planes))
    own = sum(0xF << 4 * k for k in range(first, first + n))
    return words & in_bits(d, own), in_bits(d, own)


def in_bits(d: Descriptor, own: int) -> int:
    """Bits of one word, or of both."""
    return own << WORD_BITS | own if d.u_planes_log2 else own


async def follow(block: Block, rng: random.Random, d: Descriptor, n_clocks: int) -> None:
    """Stores now and then, and every clock what is written."""
    after = STORED_AFTER
    if post_lanes() == KERNELS:
        after = WRITTEN_AFTER + CHAIN_AFTER * (d.groups - 1)
    block.set(descriptor=bits_of(pack_descriptor(d)))
    stores: dict[int, Store] = {}
    for clock in range(n_clocks + after + 1):
        one = None
        if clock < n_clocks and rng.random() < 0.5:
            one = stores[clock] = random_store(rng, rng.randrange(2 if d.u_planes_log2 == 2 else 1))
        block.set(store=one.bits() if one else rng.getrandbits(STORE_BITS.size - 1) << 1)
        left = stores.get(clock - after + 1)
        for team in MACROS:
            lanes = left.membranes[team] if left else [rng.getrandbits(16) for _ in range(KERNELS)]
            bits = sum((int(u) & MASK) << MEMBRANE_WIDTH * k for k, u in enumerate(lanes))
            block.set(**{f"waiting_{team}": bits})
        outputs = await block.tick()
        written = stores.get(clock - after)
        where = f"clock {clock}, {d.groups} groups, {d.u_planes} words"
        check(f"{where}: write", int(written is not None), outputs["write"])
        if written is None:
            continue
        check(f"{where}: macros", bin(written.macros), bin(outputs["macros"]))
        address = (d.u_base + written.offset + 2 * written.pair) % (1 << 16)
        check(f"{where}: address", hex(address), hex(outputs["addr"]))
        _, bits = expected(d, written, 0)
        mask = sum((bits >> 8 * k & 1) << k for k in range(2 * WORD_BYTES))
        check(f"{where}: bytes", hex(mask), hex(outputs["mask"]))
        for macro in MACROS:
            words, bits = expected(d, written, macro)
            check(f"{where}: macro {macro}", hex(words), hex(outputs[f"data_{macro}"] & bits))


@cocotb.test()
async def all_kinds(dut) -> None:
    """Groups, widths of weights and of membranes, and macros per team in every combination."""
    rng = random.Random(1)
    names = ("write", "macros", "addr", "mask", *(f"data_{macro}" for macro in MACROS))
    block = Block(dut, with_lanes("membrane_store"), names)
    await block.start(store=0)
    for groups_log2 in range(3):
        for wide in range(2):
            for planes_log2 in range(3):
                for split_log2 in range(4):
                    d = Descriptor(
                        timed=1,
                        wide=wide,
                        groups_log2=groups_log2,
                        u_store=1,
                        u_planes_log2=planes_log2,
                        u_base=rng.randrange(1 << 16) & ~1,
                        split_log2=split_log2,
                    )
                    await follow(block, rng, d, 12)
