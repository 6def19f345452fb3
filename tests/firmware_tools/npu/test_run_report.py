"""The figures of a run."""

import json

import numpy as np
import pytest

from firmware_tools.npu.backends import simulate
from firmware_tools.npu.run_report import RunReport
from model.npu import network_file
from model.npu.config import CONFIGS


@pytest.mark.parametrize("chunk_steps", [1, 3, 50])
def test_figures_do_not_depend_on_chunks(pair, chunk_steps: int) -> None:
    network = network_file.load(pair)
    whole, parts = RunReport(network), RunReport(network)
    for trace in simulate(network, "model", CONFIGS["tiny"], 1000):
        whole.add(trace)
    for trace in simulate(network, "model", CONFIGS["tiny"], chunk_steps):
        parts.add(trace)
    assert parts.values() == whole.values()
    json.dumps(parts.values())


def test_unfinished_run_counts_what_was_delivered(pair) -> None:
    """Spikes of the last step have not been delivered yet, events of later ones have not come."""
    network = network_file.load(pair)
    report = RunReport(network)
    traces = simulate(network, "model", None, 5)
    first = next(traces)
    report.add(first)
    out_degree = np.array([2, 2, 0, 0])
    delivered = int((first.spikes[:-1] @ out_degree).sum())
    assert report.effective_synaptic_operations == delivered + 2
    assert report.clocks is None
