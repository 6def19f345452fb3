"""Runs a network on the netlist and dumps what toggles in the last segment of its session."""

import os
import pickle
from dataclasses import dataclass
from pathlib import Path

import cocotb
from cocotb.triggers import ClockCycles, RisingEdge

from model.npu import events
from model.npu.config import NPUConfig
from model.npu.network import Network
from tb.bench import check
from tb.host import Host

JOB = "KENYON_JOB"
"""Environment variable: a file with what a bench is to do, pickled."""

REST_CLOCKS = 20
"""Between the last access of the host and the chip's idleness."""


@dataclass(frozen=True)
class NetworkJob:
    """A network and its spikes by the golden model: (step, population, neuron, last of its step).

    The last segment of its session is what counts, or so many clocks behind it.
    """

    config: NPUConfig
    network: Network
    spikes: list[tuple[int, int, int, bool]]
    idle_clocks: int = 0


@cocotb.test()
async def run(dut) -> None:
    """Load, run, and dump while the last segment runs; compare every spike."""
    job: NetworkJob = pickle.loads(Path(os.environ[JOB]).read_bytes())
    network = job.network
    host = Host(dut, job.config)
    # In gates what is unknown goes further than in the RTL.
    for name in ("s_axil_awaddr", "s_axil_wdata", "s_axil_araddr", "s_axis_events_tdata"):
        getattr(dut, name).value = 0
    await host.reset()
    await host.load(network)
    spikes: list[tuple[int, int, int, bool]] = []
    cocotb.start_soon(_collect(dut, spikes))
    if len(network.events):
        cocotb.start_soon(host.send_events(network))
    *before, last = network.session
    for segment in before:
        await host.run(network, segment)
    dut.activity.dump.value = not job.idle_clocks
    await host.run(network, last)
    dut.activity.dump.value = 0
    await host.read(host.addresses["STATUS"])
    if job.idle_clocks:
        await dump_idle(dut, job.idle_clocks)
    check("spikes", job.spikes, spikes)


async def dump_idle(dut, clocks: int) -> None:
    """Dump so many clocks in which nobody wants anything."""
    await ClockCycles(dut.clk, REST_CLOCKS)
    dut.activity.dump.value = 1
    await ClockCycles(dut.clk, clocks)
    dut.activity.dump.value = 0
    await ClockCycles(dut.clk, 1)


async def _collect(dut, spikes: list[tuple[int, int, int, bool]]) -> None:
    """What leaves the chip, whose receiver is always ready."""
    edge = RisingEdge(dut.clk)
    while True:
        await edge
        if dut.m_axis_spikes_tvalid.value:
            beat = events.read_beat(int(dut.m_axis_spikes_tdata.value))
            spikes.append((*beat, bool(dut.m_axis_spikes_tlast.value)))
