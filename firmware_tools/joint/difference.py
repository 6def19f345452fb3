"""The first place in which the golden model of a chip with both halves and its RTL differ."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from firmware_tools.mars.pass_difference import Compared as MarsCompared
from firmware_tools.mars.pass_difference import compare_frame, moment_of
from firmware_tools.npu.difference import NEURON_FIELDS, first_difference
from firmware_tools.npu.difference import Difference as StepDifference
from model.chip import Chip, Outcome
from model.config import ChipConfig
from model.mars.network import QuantizedNetwork
from model.npu.layout import bias_word
from tb.joint.cosim import JointTrace, Pair
from tb.waves import Moment

DONE = 0b10
"""STATUS of the bridge behind a decision."""


@dataclass(frozen=True)
class Difference:
    """What differs first, and what a view of the waves opens on."""

    text: str
    moment: Moment | None

    def __str__(self) -> str:
        return self.text


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
) -> Difference | None:
    """Golden model = RTL in all frames of a pair; the first difference, or nothing.

    `compared` grows by what is equal.
    """
    golden = Chip(config, pair.image, pair.network, pair.bridge)
    for k, (features, trace) in enumerate(zip(pair.inputs, traces, strict=True)):
        difference = compare_frame(network, pair.image, features, trace.frame, compared.mars)
        if difference:
            return Difference(f"frame {k}: MARS: {difference}", moment_of(difference))
        outcome = golden.frame(features)
        found = _in_burst(golden, outcome, trace, compared) or _in_bridge(golden, outcome, trace)
        if found:
            return replace(found, text=f"frame {k}: {found.text}")
        compared.decisions += 1
        compared.biases += pair.network.n_neurons
        compared.counts += len(trace.result.counts) if outcome.trace else 0
        compared.clocks += outcome.total_clocks
    return None


def _in_burst(
    golden: Chip, outcome: Outcome, trace: JointTrace, compared: Compared
) -> Difference | None:
    """Every value and clock of the time steps."""
    if outcome.trace is None or trace.trace is None:
        if outcome.trace is trace.trace:
            return None
        return Difference("time steps: only one of both has them", _decided(trace))
    difference = first_difference(golden.network, outcome.trace, trace.trace)
    if difference:
        moment = _in_step(golden, outcome.trace.first_step, difference, trace)
        return Difference(f"populations: {difference}", moment)
    compared.steps += len(outcome.trace)
    per_step = len(NEURON_FIELDS) * golden.network.n_neurons + len(golden.network.populations)
    compared.values += per_step * len(outcome.trace)
    return None


def _in_step(
    golden: Chip, first_step: int, difference: StepDifference, trace: JointTrace
) -> Moment | None:
    """When something retired, or a step of the burst ended."""
    if trace.times is None:
        return None
    group = (difference.neuron or 0) // golden.config.n_lanes
    at = trace.times.clock_of(difference.step - first_step, difference.population, group)
    return None if at is None else Moment(at, difference.ports)


def _decided(trace: JointTrace) -> Moment:
    """When the interrupt came."""
    return Moment(trace.result.decided_ns)


def _in_bridge(golden: Chip, outcome: Outcome, trace: JointTrace) -> Difference | None:
    """Biases, counts, the winner, and clocks; views open where the bridge begins, or has ended."""
    result, decision = trace.result, outcome.decision
    biases = [bias_word(bias) for bias in golden.engine.bias.tolist()]
    for k, (right, actual) in enumerate(zip(biases, result.bias, strict=True)):
        if right != actual:
            begin = Moment(trace.frame.passes[-1].times.end)
            return _wrong(f"bias of neuron {k}", right, actual, begin)
    pairs: list[tuple[str, object, object]] = []
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
    for name, wanted, found in pairs:
        if wanted != found:
            return _wrong(name, wanted, found, _decided(trace))
    return None


def _wrong(name: str, right: object, actual: object, moment: Moment) -> Difference:
    return Difference(f"bridge: {name} must be {right}, not {actual}", moment)
