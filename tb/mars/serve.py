"""The cocotb side of `tb.mars.cosim`: runs one frame after the other in the same simulation."""

import os
import pickle
import time
from pathlib import Path

import cocotb

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
        results = [await run(host, folder, job) for job in jobs]
        (folder / f"result{k}").write_bytes(pickle.dumps(results))


async def run(host: SystemHost, folder: Path, job: Job) -> JobResult:
    """A frame."""
    (folder / "input").write_bytes(job.packets)
    (folder / "program").write_bytes(job.program)
    await host.reload()
    await host.set_job(job)
    began = time.perf_counter()
    n_program_lines = len(job.program) // LINE_BYTES
    status = await host.frame(job.n_packet_lines, n_program_lines, job.most_clocks)
    return await host.result(job, status, time.perf_counter() - began)
