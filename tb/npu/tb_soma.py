"""The soma against `model.npu.soma`: every result boundary, then random neurons with gaps."""

import random
from collections.abc import Iterator

import cocotb
import numpy as np

from model.npu.config import BIAS_MAX, BIAS_MIN, I_MAX, I_MIN
from model.npu.network import Neurons
from model.npu.soma import soma
from tb.bench import Block, check

LATENCY, NOISE_DELAY, I_SYN_DELAY = 4, 2, 3
TARGETS = (
    *(-40000, -32769, -32768, -257, -256, -255, -2, -1, 0, 1),
    *(127, 128, 254, 255, 256, 257, 511, 512, 32767, 32768, 40000),
)
"""Sums to reach, on both sides of every place where the result changes its kind."""
KEYS = ("v", "rest", "threshold", "reset", "v_branch", "a", "b", "bias")
Case = dict[str, int]


def force(case: Case) -> int:
    """The force of the two lines, as the vectors need it to aim at a sum."""
    if case["v"] < case["v_branch"]:
        return case["a"] * (case["rest"] - case["v"]) >> 3
    return case["b"] * (case["v"] - case["threshold"]) >> 3


def random_case(rng: random.Random) -> Case:
    """Any neuron in any state."""

    def byte() -> int:
        return rng.choice((0, 1, 127, 128, 254, 255, rng.randrange(256)))

    def slope() -> int:
        return rng.choice((0, 1, 15, rng.randrange(16)))

    return {
        "v": byte(),
        "rest": byte(),
        "threshold": byte(),
        "reset": byte(),
        "v_branch": byte(),
        "a": slope(),
        "b": slope(),
        "bias": rng.choice((BIAS_MIN, BIAS_MAX, 0, -1, rng.randint(BIAS_MIN, BIAS_MAX))),
        "noise": rng.choice((-127, 127, 0, rng.randint(-127, 127))),
        "i_syn": rng.choice((I_MIN, I_MAX, 0, rng.randint(I_MIN, I_MAX), rng.randint(-300, 300))),
    }


def directed_cases(rng: random.Random) -> Iterator[Case]:
    """Every target sum, with the membrane potential around the branch point."""
    for target in TARGETS:
        for offset in (-1, 0, 1):
            for _ in range(4):
                case = random_case(rng)
                case["v_branch"] = rng.randint(1, 254)
                case["v"] = case["v_branch"] + offset
                rest = target - case["v"] - force(case) - case["bias"] - case["noise"]
                case["i_syn"] = min(max(rest, I_MIN), I_MAX)
                yield case
    for v in range(256):  # the floor of the force, at every distance on either side
        case = random_case(rng)
        yield {**case, "v": v, "i_syn": 0, "bias": 0, "noise": 0, "a": 1, "b": 1}


def golden(case: Case) -> tuple[int, int]:
    """The model's result; `v_branch` is given, not computed."""
    column = {name: np.array([value]) for name, value in case.items()}
    neurons = _Neurons(column)
    v, spikes = soma(column["v"], column["i_syn"], column["bias"], column["noise"], neurons)
    return int(v[0]), int(spikes[0])


class _Neurons(Neurons):
    """Parameters with a branch point that needs not follow from them."""

    def __init__(self, column: dict[str, np.ndarray]) -> None:
        fields = {name: column.get(name, column["v"]) for name in Neurons.__dataclass_fields__}
        super().__init__(**fields)
        object.__setattr__(self, "_v_branch", column["v_branch"])

    @property
    def v_branch(self) -> np.ndarray:
        return self._v_branch


async def stream(dut, cases: list[Case | None]) -> None:
    """Send a case or a gap (None) per clock and compare what comes out."""
    block = Block(dut, "soma", ("v_next", "spike"))
    await block.start(enable=0)
    for t in range(len(cases) + LATENCY):
        now, noise, i_syn = (
            cases[t - delay] if 0 <= t - delay < len(cases) else None
            for delay in (0, NOISE_DELAY, I_SYN_DELAY)
        )
        block.set(enable=now is not None)
        if now is not None:
            block.set(**{key: now[key] for key in KEYS})
        block.set(
            noise=noise["noise"] if noise else random.randrange(256),
            i_syn=i_syn["i_syn"] if i_syn else random.randrange(1 << 16),
        )
        outputs = await block.tick()
        before = cases[t - LATENCY] if t >= LATENCY else None
        if before is not None:
            check(f"{before}: v_next, spike", golden(before), tuple(outputs.values()))


@cocotb.test()
async def boundaries(dut) -> None:
    """Sums around 0, 255 and the ends of the current, back to back."""
    await stream(dut, list(directed_cases(random.Random(1))))


@cocotb.test()
async def random_neurons(dut) -> None:
    """Any neuron in any state, with gaps."""
    rng = random.Random(cocotb.RANDOM_SEED)
    await stream(dut, [random_case(rng) if rng.random() < 0.7 else None for _ in range(3000)])
