"""Runs a network on the netlist and dumps what toggles in the last segment of its session."""

import os
import pickle
from pathlib import Path

import cocotb

from tb.host import Host

JOB = "KENYON_JOB"
"""Environment variable: a pickled pair of configuration and network."""


@cocotb.test()
async def run(dut) -> None:
    """Load, run, and dump while the last segment runs."""
    config, network = pickle.loads(Path(os.environ[JOB]).read_bytes())
    host = Host(dut, config)
    await host.reset()
    await host.load(network)
    if len(network.events):
        cocotb.start_soon(host.send_events(network))
    *before, last = network.session
    for segment in before:
        await host.run(network, segment)
    dut.activity.dump.value = 1
    await host.run(network, last)
    dut.activity.dump.value = 0
    await host.read(host.addresses["STATUS"])
