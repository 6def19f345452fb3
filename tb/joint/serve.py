"""The cocotb side of `tb.joint.cosim`: one pair of networks after the other in one simulation."""

import os
import pickle
from pathlib import Path

import cocotb

from tb.joint.cosim import BridgeResult, PairJob
from tb.joint.host import JointHost
from tb.mars.cosim import Job, JobResult
from tb.mars.host import START


@cocotb.test()
async def serve(dut) -> None:
    """Run every job of the folder."""
    folder = Path(os.environ["KENYON_JOBS"])
    host = JointHost(dut, pickle.loads((folder / "config").read_bytes()))
    await host.reset()
    host.memory.start()
    for k in range(len(list(folder.glob("job*")))):
        job = pickle.loads((folder / f"job{k}").read_bytes())
        await host.reset()
        await host.load(job.network, job.registers, job.entries)
        results = [await run(host, job, frame) for frame in job.frames]
        (folder / f"result{k}").write_bytes(pickle.dumps(results))


async def run(host: JointHost, pair: PairJob, job: Job) -> tuple[JobResult, BridgeResult]:
    """A frame and its decision."""
    await host.write_job(job)
    npu = host.config.npu
    steps = pair.registers["bridge.BURST"] & 0xFFFF
    worst = job.most_clocks + 10_000 + steps * (npu.max_rows + 20) * npu.n_groups * 20
    elapsed = cocotb.start_soon(host.elapsed())
    status = await host.ended(START, worst)
    bridge = await host.bridge_result(pair.network, await elapsed)
    return await host.result(job, status, 0.0), bridge
