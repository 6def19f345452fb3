"""The cocotb side of `tb.mars.cosim`: runs one frame after the other in the same simulation."""

import os
import pickle
import time
from dataclasses import replace
from pathlib import Path

import cocotb
import numpy as np

from tb.mars.cosim import LINE_BYTES, Job, JobResult
from tb.mars.host import SystemHost


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


def write_program(path: Path, job: Job) -> None:
    """The whole program, or lines of the one that memory has."""
    if job.program:
        path.write_bytes(job.program)
        return
    with path.open("r+b") as file:
        for number, line in job.patches:
            file.seek(number * LINE_BYTES)
            file.write(line)


async def run(host: SystemHost, folder: Path, job: Job) -> JobResult:
    """A frame."""
    (folder / "input").write_bytes(job.packets)
    write_program(folder / "program", job)
    await host.reload()
    await host.set_job(job)
    began = time.perf_counter()
    status = await host.frame(job.n_packet_lines, job.n_program_lines, job.most_clocks)
    return await host.result(job, status, time.perf_counter() - began)
