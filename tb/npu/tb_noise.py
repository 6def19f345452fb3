"""The noise generator against `model.npu.noise`: draws of whole time steps, lane by lane."""

import random

import cocotb
import numpy as np

from model.npu import noise
from tb.bench import Block, check, signed
from tb.blocks import CONFIG

LANES = CONFIG.n_lanes
DRAW = 2
"""Clocks from `next` to the draws."""


async def run_steps(dut, seed: int, n_steps: int, rng: random.Random) -> None:
    """Load a seed and compare several steps; groups come with gaps."""
    block = Block(dut, "noise", ("draw", "state"))
    await block.start(start=0, next=0, commit=0, load=0)
    state = noise.seed_state(seed)
    block.set(load=1, load_state=state)
    await block.tick()
    block.set(load=0)
    for step in range(n_steps):
        n_groups = rng.randint(1, 6)
        strength = [rng.choice((0, 1, 2, 3, 255, rng.randrange(256))) for _ in range(4 * n_groups)]
        expected = noise.draws(state, np.array(strength)).reshape(n_groups, LANES)
        block.set(start=1)
        await block.tick()
        block.set(start=0)
        due: dict[int, list[int]] = {}
        t = group = 0
        while group < n_groups or due:
            go = group < n_groups and rng.random() < 0.7
            lanes = strength[group * LANES : (group + 1) * LANES] if go else [255] * LANES
            more = group + 1 < n_groups if go else rng.random() < 0.5
            block.set(next=go, more=more, strength=int.from_bytes(bytes(lanes), "little"))
            if go:
                due[t + DRAW] = expected[group].tolist()
                group += 1
            outputs = await block.tick()
            check("state within a step", state, outputs["state"])
            if t in due:
                raw = outputs["draw"].to_bytes(LANES, "little")
                draws = [signed(byte, 8) for byte in raw]
                check(f"seed {seed:#x}, step {step}, strength {strength}", due.pop(t), draws)
            t += 1
        block.set(next=0, commit=1)
        await block.tick()
        block.set(commit=0)
        state = noise.jump(state)


@cocotb.test()
async def draws(dut) -> None:
    """Steps of several seeds, the corner cases among them."""
    rng = random.Random(cocotb.RANDOM_SEED)
    for seed in (0, 1, 0xFFFF_FFFF, rng.randrange(1 << 32)):
        await run_steps(dut, seed, 25, rng)
