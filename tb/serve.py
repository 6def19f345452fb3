"""The cocotb side of `tb.cosim`: runs one network after the other in the same simulation.

A line on standard input names a pickled `tb.cosim.Job`; the end of the input ends the simulation.
"""

import os
import pickle
import sys
import time
from pathlib import Path

import cocotb
import numpy as np

from tb.host import Host
from tb.trace_records import END, record_words


@cocotb.test()
async def serve(dut) -> None:
    """Run every job until there is no more."""
    host = None
    for line in sys.stdin:
        job = pickle.loads(Path(line.strip()).read_bytes())
        if host is None:
            host = Host(dut, job.config)
        await _run(host, job)


async def _run(host: Host, job) -> None:
    network = job.network
    await host.reset()
    await host.load(network)
    tasks = []
    if len(network.events):
        tasks.append(cocotb.start_soon(host.send_events(network)))
    if job.pause:
        tasks.append(cocotb.start_soon(host.pause_spikes(job.pause, job.seed)))
    began = time.perf_counter()
    for segment in network.session:
        await host.run(network, segment)
    elapsed = time.perf_counter() - began
    for task in tasks:
        task.cancel()
    sticky = 0
    for p in range(len(network.populations)):
        sticky |= await host.read(host.addresses[f"population[{p}].SATURATED"]) << p
    record = np.zeros(record_words(job.config), "<u4")
    status = await host.read(host.addresses["STATUS"])
    record[:4] = END, sticky, status, min(int(elapsed * 1e6), 0xFFFF_FFFF)
    # Without a reader, opening to write would wait forever; this way it fails and all ends.
    trace = os.open(os.environ["KENYON_TRACE"], os.O_WRONLY | os.O_NONBLOCK)
    os.set_blocking(trace, True)
    os.write(trace, record.tobytes())
    os.close(trace)
