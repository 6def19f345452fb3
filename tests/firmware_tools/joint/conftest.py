"""A network, populations and a bridge between them, and the golden model in place of the RTL."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firmware_tools.mars.inference import DONE
from model.chip import Chip
from model.config import ChipConfig
from model.npu.layout import bias_word
from tb.joint.cosim import BridgeResult, JointTrace, Pair
from tb.mars.cosim import FrameTrace, JobResult
from tb.mars.records import PassTrace

BRIDGE: dict[str, Any] = {
    "steps": 9,
    "population": 1,
    "entries": [
        {"output": 0, "population": 0, "neuron": 1, "scale": 20},
        {"output": 3, "population": 1, "neuron": 0, "scale": 9.5},
        {"output": 2, "population": 1, "axon": 0, "scale": 0.25},
    ],
}
Spoil = Callable[[JointTrace], JointTrace]


@pytest.fixture
def bridge(in_empty_folder: Path) -> Callable[..., Path]:
    """Save a bridge, bridge.json; fields may be replaced."""

    def save(**fields: Any) -> Path:
        path = in_empty_folder / "bridge.json"
        path.write_text(json.dumps({**BRIDGE, **fields}))
        return path

    return save


def golden_traces(config: ChipConfig, pair: Pair) -> Iterator[JointTrace]:
    """What the RTL would do if it is right."""
    chip = Chip(config, pair.image, pair.network, pair.bridge)
    for features in pair.inputs:
        outcome = chip.frame(features)
        done = outcome.frame
        runs = done.passes
        passes = [PassTrace(r.values, r.writes, r.clocks.end, r.membranes, r.stores) for r in runs]
        stalls = [
            sum(getattr(one.clocks, name) for one in runs)
            for name in ("weight_stalls", "drain_stalls", "layer_stalls")
        ]
        logits = () if done.logits is None else tuple(done.logits.tolist())
        job = JobResult(DONE, done.clocks, *stalls, (), 0.0, done.steps, logits)
        counts = np.zeros(16, np.int64)
        winner = (0, 0)
        if outcome.decision is not None:
            counts[: len(outcome.decision.counts)] = outcome.decision.counts
            winner = outcome.decision.neuron, outcome.decision.count
        bias = tuple(bias_word(bias) for bias in chip.engine.bias.tolist())
        result = BridgeResult(
            2, outcome.clocks, outcome.total_clocks, winner, tuple(counts.tolist()), bias
        )
        yield JointTrace(FrameTrace(passes, done.result, job), outcome.trace, result)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> list[Spoil]:
    """The golden model instead of the RTL; what is in the list spoils the second frame.

    It writes no waves.
    """
    spoil: list[Spoil] = []

    def run(
        config: ChipConfig, pairs: Sequence[Pair], **_options: object
    ) -> Iterator[list[JointTrace]]:
        for pair in pairs:
            traces = list(golden_traces(config, pair))
            for change in spoil:
                traces[1] = change(traces[1])
            yield traces

    monkeypatch.setattr("tb.joint.cosim.run", run)
    monkeypatch.setattr("tb.simulator.is_built", lambda *_: True)
    return spoil
