"""Exits against softmax and entropy in floating point."""

import numpy as np
import pytest
from numpy.typing import NDArray

from model.mars.early_exit import (
    EXP_TABLE,
    LOG_TABLE,
    ONE,
    SHIFTS,
    ExitRegisters,
    exit_registers,
    is_sure,
    steps_taken,
)
from model.mars.neuron import Exit, Metric, Mode

Ints = NDArray[np.int64]


def certainty(stop: Exit, logits: Ints, step: int) -> float:
    """The measure of the papers for summed logits."""
    x = logits * stop.scale / (step if stop.mode == "mean" else 1)
    e = np.exp(x - x.max())
    p = e / e.sum()
    if stop.metric == "confidence":
        return float(p.max())
    entropy = -(p * np.log(np.maximum(p, 1e-300))).sum()
    return float(1 - entropy / np.log(len(p)))


def random_logits(rng: np.random.Generator, n: int, n_classes: int, scale: float) -> Ints:
    """Logits whose best is more or less ahead."""
    noise = rng.normal(0, 2, (n, n_classes))
    noise[:, 0] += rng.uniform(0, 9, n)
    return np.rint(noise / scale).astype(np.int64)


def test_tables() -> None:
    assert len(EXP_TABLE) == len(LOG_TABLE) == 256
    assert EXP_TABLE[0] == ONE == 65535
    assert EXP_TABLE.min() > ONE // 2
    assert 0 < LOG_TABLE.min() < LOG_TABLE.max() < 1 << 16
    assert (np.diff(EXP_TABLE) < 0).all()
    assert (np.diff(LOG_TABLE) > 0).all()


CERTAINTY_ERROR = {"confidence": 0.0006, "entropy": 0.0035}
"""By metric: how far a measure may be off. Of e an index is off by 1/512 of a power of two, 0.14 %,
of at most 0.4 of probability; log2 Z likewise by 1/512 of mantissa."""


@pytest.mark.parametrize("mode", ["sum", "mean"])
@pytest.mark.parametrize("metric", ["confidence", "entropy"])
@pytest.mark.parametrize("n_classes", [2, 10, 100])
def test_decisions(metric: Metric, mode: Mode, n_classes: int) -> None:
    """99.5 % are those of floating point at 0.9, and all that are not too near."""
    rng = np.random.default_rng(n_classes)
    different = total = 0
    for scale in (0.001, 0.037, 0.4):
        stop = Exit(metric=metric, mode=mode, threshold=0.9, scale=scale)
        registers = exit_registers(stop, 8, n_classes)
        for step in (1, 3, 4, 7):
            unit = scale / (step if mode == "mean" else 1)
            for logits in random_logits(rng, 400, n_classes, unit):
                measure = certainty(stop, logits, step)
                ours = is_sure(registers, logits, step)
                total += 1
                different += ours != (measure > 0.9)
                if abs(measure - 0.9) > CERTAINTY_ERROR[metric]:
                    assert ours == (measure > 0.9), (measure, scale, step)
    assert different / total <= 0.005


@pytest.mark.parametrize("threshold", [0.001, 0.2, 0.5, 0.99, 0.999])
@pytest.mark.parametrize("metric", ["confidence", "entropy"])
def test_other_thresholds(metric: Metric, threshold: float) -> None:
    rng = np.random.default_rng(3)
    stop = Exit(metric=metric, mode="sum", threshold=threshold, scale=0.02)
    registers = exit_registers(stop, 1, 10)
    different = 0
    for logits in random_logits(rng, 1000, 10, 0.02):
        measure = certainty(stop, logits, 1)
        different += is_sure(registers, logits, 1) != (measure > threshold)
    assert different <= 10


def test_ends() -> None:
    """Equal logits, one that is far ahead, scales out of all proportion."""
    metrics: tuple[Metric, ...] = ("confidence", "entropy")
    for metric in metrics:
        for scale in (1e-9, 1e-3, 1.0, 1e3, 1e9):
            stop = Exit(metric=metric, mode="sum", threshold=0.5, scale=scale)
            registers = exit_registers(stop, 1, 10)
            assert all(SHIFTS[0] <= s <= SHIFTS[1] for s in registers.shifts)
            assert all(0 <= m <= ONE for m in registers.mults)
            assert not is_sure(registers, np.full(10, -7), 1)
            far = np.zeros(10, np.int64)
            far[3] = 1 << 30
            assert is_sure(registers, far, 1) == (scale > 1e-8)
            near = np.zeros(10, np.int64)
            near[3] = 1
            assert is_sure(registers, near, 1) == (scale > 10)


def test_threshold_is_strict() -> None:
    """Two equal classes have a confidence of exactly 0.5."""
    logits = np.array([5, 5])
    for threshold, sure in ((0.5, False), (0.49999, True)):
        stop = Exit(metric="confidence", mode="sum", threshold=threshold, scale=1.0)
        assert is_sure(exit_registers(stop, 1, 2), logits, 1) == sure


def test_steps() -> None:
    """The first step that is sure, or the last one; the mean needs more than the sum."""
    one = np.array([3, 0, 0])
    logits = np.stack([one * k for k in range(1, 7)])[np.newaxis]
    modes: tuple[Mode, ...] = ("sum", "mean")
    stop = {mode: Exit(metric="confidence", mode=mode, threshold=0.9, scale=0.5) for mode in modes}
    assert steps_taken(stop["sum"], logits).tolist() == [2]
    assert steps_taken(stop["mean"], logits).tolist() == [6]
    assert steps_taken(None, logits).tolist() == [6]


def test_registers() -> None:
    stop = Exit(metric="confidence", mode="mean", threshold=0.75, scale=np.log(2) / 256)
    assert exit_registers(stop, 2, 10) == ExitRegisters(False, (1 << 15, 1 << 15), (15, 16), 87380)
    stop = Exit(metric="entropy", mode="sum", threshold=0.75, scale=np.log(2) / 256)
    assert exit_registers(stop, 2, 16).limit == 1 << 16
