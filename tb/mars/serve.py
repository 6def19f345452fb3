"""The cocotb side of `tb.mars.cosim`: runs one frame after the other in the same simulation."""

import os
import pickle
import time
from dataclasses import replace
from pathlib import Path

import cocotb
import numpy as np

from model.mars.config import LINE_BITS
from tb.mars.cosim import Job, JobResult
from tb.mars.host import SystemHost

LINE_BYTES = LINE_BITS // 8


@cocotb.test()
async def serve(dut) -> None:
    """Run every job of the folder."""
    folder = Path(os.environ["KENYON_JOBS"])
    host = SystemHost(dut, pickle.loads((folder / "config").read_bytes()))
    await host.reset()
    for k in range(len(list(folder.glob("job*")))):
        jobs = pickle.loads((folder / f"job{k}").read_bytes())
        results, choice = [], {}
        for job in jobs:
            chosen = replace(job, registers=job.registers | choice)
            results.append(await run(host, folder, chosen))
            if job.choices:
                choice = job.choices[largest(job, results[-1])]
        (folder / f"result{k}").write_bytes(pickle.dumps(results))


def largest(job: Job, result: JobResult) -> int:
    """The number of the largest result that the host has read, the first one of equal ones."""
    return int(job.output.from_words(np.array(result.words, np.uint64)).argmax())


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
    n_program_lines = len(job.program) // LINE_BYTES
    status = await host.frame(job.n_packet_lines, n_program_lines, job.most_clocks)
    seconds = time.perf_counter() - began
    counters = [
        await host.register(name)
        for name in ("FRAME_CLOCKS", "WEIGHT_STALLS", "DRAIN_STALLS", "LAYER_STALLS")
    ]
    words = await host.features(0, job.address, job.n_words)
    steps = await host.register("STEPS_TAKEN")
    logits = await host.logits(job.n_logits)
    return JobResult(status, *counters, tuple(words), seconds, steps, tuple(logits))
