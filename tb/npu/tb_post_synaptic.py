"""The post-synaptic unit against `model.npu.post_synaptic`."""

import random
from dataclasses import dataclass

import cocotb
import numpy as np

from model.npu.config import I_MAX, I_MIN
from model.npu.post_synaptic import accumulate, clear, decay
from tb.bench import Block, check, signed
from tb.blocks import N_SUM_ROWS

SATURATED, I_SYN, I_NEXT = 1, 3, 4
"""Clocks from `close` to each result."""


@dataclass
class Neuron:
    """Weights of the rows, old current and tau; `gaps`: idle clocks anywhere before `close`."""

    weights: list[int]
    i_old: int
    tau: int
    gaps: int = 0


def golden(neuron: Neuron) -> dict[int, int]:
    """What must be seen how many clocks after `close`."""
    tau = np.array([neuron.tau])
    weights = np.array(neuron.weights, np.int64).reshape(-1, 1)
    total, saturated = accumulate(np.array([neuron.i_old]), weights)
    i_syn = decay(total, tau)
    return {SATURATED: int(saturated[0]), I_SYN: int(i_syn[0]), I_NEXT: int(clear(i_syn, tau)[0])}


def aimed(target: int, tau: int, rng: random.Random) -> Neuron:
    """A neuron whose sum is exactly `target`."""
    i_old = min(max(target, I_MIN), I_MAX)
    rest = target - i_old
    weights = []
    while rest:
        weights.append(min(max(rest, -128), 127))
        rest -= weights[-1]
    extra = rng.randint(-60, 60)
    return Neuron([extra, *weights, -extra], i_old, tau)


def directed(rng: random.Random) -> list[Neuron]:
    """Both ends of the range, and the decay around every power of two for every tau."""
    cases = []
    for k in range(16):
        near = {s * (1 << e) + d for e in range(16) for s in (1, -1) for d in (-1, 0, 1)}
        cases += [aimed(target, 1 << k, rng) for target in sorted(near) if I_MIN <= target <= I_MAX]
    ends = (I_MIN - 200, I_MIN - 1, I_MIN, I_MIN + 1, I_MAX - 1, I_MAX, I_MAX + 1, I_MAX + 200)
    for tau in (0, 1, 2, 1024, 32768):
        cases += [aimed(target, tau, rng) for target in (*ends, -1, 0, 1, 100, -100)]
        for weight, i_old in ((127, I_MAX), (-128, I_MIN), (127, I_MIN), (-128, I_MAX), (-128, 0)):
            cases.append(Neuron([weight] * N_SUM_ROWS, i_old, tau))
    return cases


def random_neuron(rng: random.Random) -> Neuron:
    """Few or many rows of any weight."""
    n_rows = rng.choice((0, 0, 1, 2, rng.randrange(40)))
    big = rng.random() < 0.3
    weights = [rng.choice((-128, 127)) if big else rng.randint(-128, 127) for _ in range(n_rows)]
    i_old = rng.choice((I_MIN, I_MAX, rng.randint(I_MIN, I_MAX), rng.randint(-200, 200)))
    return Neuron(weights, i_old, rng.choice((0, 1, 2, 3, 100, 32767, 32768)), rng.randrange(4))


async def stream(dut, neurons: list[Neuron]) -> None:
    """Walk the rows of one neuron after the other and compare each result at its clock."""
    block = Block(dut, "post_synaptic", ("saturated", "i_syn", "i_next"))
    await block.start(add=0, close=0)
    due: dict[int, list[tuple[str, int, int]]] = {}
    t = 0
    for number, neuron in enumerate(neurons):
        slots: list[int | None] = [*neuron.weights, *[None] * neuron.gaps]
        random.shuffle(slots)
        for slot in [*slots, "close"]:
            closing = slot == "close"
            adding = slot is not None and not closing
            block.set(close=closing, add=adding, weight=slot if adding else random.randrange(256))
            block.set(
                i_old=neuron.i_old if closing else random.randrange(1 << 16),
                tau_log2=max(neuron.tau.bit_length() - 1, 0),
                no_decay=neuron.tau == 0,
            )
            if closing:
                where = f"neuron {number} {neuron}"
                for delay, value in golden(neuron).items():
                    due.setdefault(t + delay, []).append((where, delay, value))
            compare(due.pop(t, []), await block.tick())
            t += 1
    block.set(close=0, add=0)
    for _ in range(I_NEXT + 1):
        compare(due.pop(t, []), await block.tick())
        t += 1
    assert not due


def compare(due: list[tuple[str, int, int]], outputs: dict[str, int]) -> None:
    """Results that this clock must show."""
    actual = {
        SATURATED: outputs["saturated"],
        I_SYN: signed(outputs["i_syn"], 16),
        I_NEXT: signed(outputs["i_next"], 16),
    }
    for where, delay, value in due:
        check(f"{where}, {delay} clocks after close", value, actual[delay])


@cocotb.test()
async def boundaries(dut) -> None:
    """Saturation and decay where they change."""
    await stream(dut, directed(random.Random(2)))


@cocotb.test()
async def random_neurons(dut) -> None:
    """Any weights and currents, with gaps between rows."""
    rng = random.Random(cocotb.RANDOM_SEED)
    await stream(dut, [random_neuron(rng) for _ in range(600)])
