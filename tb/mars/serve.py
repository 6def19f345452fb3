"""The cocotb side of `tb.mars.cosim`: runs one frame after the other in the same simulation."""

import os
import pickle
import time
from pathlib import Path

import cocotb

from tb.mars.cosim import Job, JobResult
from tb.mars.host import SystemHost


@cocotb.test()
async def serve(dut) -> None:
    """Run every job of the folder."""
    folder = Path(os.environ["KENYON_JOBS"])
    host = SystemHost(dut, pickle.loads((folder / "config").read_bytes()))
    await host.reset()
    for k in range(len(list(folder.glob("job*")))):
        jobs = pickle.loads((folder / f"job{k}").read_bytes())
        results = [await run(host, folder, job) for job in jobs]
        (folder / f"result{k}").write_bytes(pickle.dumps(results))


async def run(host: SystemHost, folder: Path, job: Job) -> JobResult:
    """A frame."""
    (folder / "input").write_bytes(job.packets)
    (folder / "program").write_bytes(job.program)
    await host.reload()
    for name, value in job.registers.items():
        await host.set(name, value)
    for first, words in job.tables.items():
        await host.set_exit_words(first, words)
    began = time.perf_counter()
    status = await host.frame(job.n_packet_lines, job.n_program_lines, job.most_clocks)
    seconds = time.perf_counter() - began
    counters = [
        await host.register(name)
        for name in ("FRAME_CLOCKS", "WEIGHT_STALLS", "DRAIN_STALLS", "LAYER_STALLS")
    ]
    words = await host.features(0, job.address, job.n_words)
    steps = await host.register("STEPS_TAKEN")
    logits = await host.logits(job.n_logits)
    return JobResult(status, *counters, tuple(words), seconds, steps, tuple(logits))
