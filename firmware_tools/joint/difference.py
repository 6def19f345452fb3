"""The first place in which the golden model of a chip with both halves and its RTL differ."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from firmware_tools.mars.pass_difference import Compared as MarsCompared
from firmware_tools.mars.pass_difference import compare_frame
from firmware_tools.npu.difference import NEURON_FIELDS, first_difference
from model.chip import Chip, Outcome
from model.config import ChipConfig
from model.mars.network import QuantizedNetwork
from model.npu.layout import bias_word
from tb.joint.cosim import JointTrace, Pair

DONE = 0b10
"""STATUS of the bridge behind a decision."""


@dataclass
class Compared:
    """How much was compared and found equal.

    Parameters
    ----------
    mars : firmware_tools.mars.pass_difference.Compared
        What MARS did.
    decisions, biases, steps, values, counts : int
        Decisions, biases that were read back, time steps, values of neurons in them, and counters.
    clocks : int
        From starts of frames to their decisions.
    """

    mars: MarsCompared = field(default_factory=MarsCompared)
    decisions: int = 0
    biases: int = 0
    steps: int = 0
    values: int = 0
    counts: int = 0
    clocks: int = 0


def compare_pair(
    config: ChipConfig,
    network: QuantizedNetwork,
    pair: Pair,
    traces: Sequence[JointTrace],
    compared: Compared,
) -> str:
    """Golden model = RTL in all frames of a pair; the first difference, or nothing.

    `compared` grows by what is equal.
    """
    golden = Chip(config, pair.image, pair.network, pair.bridge)
    for k, (features, trace) in enumerate(zip(pair.inputs, traces, strict=True)):
        difference = compare_frame(network, pair.image, features, trace.frame, compared.mars)
        if difference:
            return f"frame {k}: MARS: {difference}"
        outcome = golden.frame(features)
        text = _in_burst(golden, outcome, trace, compared) or _in_bridge(golden, outcome, trace)
        if text:
            return f"frame {k}: {text}"
        compared.decisions += 1
        compared.biases += pair.network.n_neurons
        compared.counts += len(trace.result.counts) if outcome.trace else 0
        compared.clocks += outcome.total_clocks
    return ""


def _in_burst(golden: Chip, outcome: Outcome, trace: JointTrace, compared: Compared) -> str:
    """Every value and clock of the time steps."""
    if outcome.trace is None or trace.trace is None:
        return "" if outcome.trace is trace.trace else "time steps: only one of both has them"
    difference = first_difference(golden.network, outcome.trace, trace.trace)
    if difference:
        return f"populations: {difference}"
    compared.steps += len(outcome.trace)
    per_step = len(NEURON_FIELDS) * golden.network.n_neurons + len(golden.network.populations)
    compared.values += per_step * len(outcome.trace)
    return ""


def _in_bridge(golden: Chip, outcome: Outcome, trace: JointTrace) -> str:
    """Biases, counts, the winner, and clocks."""
    result, decision = trace.result, outcome.decision
    pairs: list[tuple[str, object, object]] = [
        (f"bias of neuron {k}", bias_word(right), actual)
        for k, (right, actual) in enumerate(
            zip(golden.engine.bias.tolist(), result.bias, strict=True)
        )
    ]
    if decision is not None:
        counts = np.zeros(len(result.counts), np.int64)
        counts[: len(decision.counts)] = decision.counts
        pairs += [
            (f"count of neuron {k}", right, actual)
            for k, (right, actual) in enumerate(zip(counts.tolist(), result.counts, strict=True))
        ]
        pairs.append(("winner and count", (decision.neuron, decision.count), result.winner))
    pairs += [
        ("STATUS", DONE, result.status),
        ("CLOCKS", outcome.clocks, result.clocks),
        ("clocks from start to decision", outcome.total_clocks, result.elapsed),
    ]
    for name, right, actual in pairs:
        if right != actual:
            return f"bridge: {name} must be {right}, not {actual}"
    return ""
