"""The cocotb side of `tb.joint.cosim`: one pair of networks after the other in one simulation."""

import os
import pickle
from pathlib import Path

import cocotb

from tb.joint.cosim import BridgeResult, PairJob
from tb.joint.host import JointHost
from tb.mars.cosim import JobResult
from tb.mars.host import START
from tb.mars.serve import LINE_BYTES, result, write_job


@cocotb.test()
async def serve(dut) -> None:
    """Run every job of the folder."""
    folder = Path(os.environ["KENYON_JOBS"])
    host = JointHost(dut, pickle.loads((folder / "config").read_bytes()))
    for k in range(len(list(folder.glob("job*")))):
        job = pickle.loads((folder / f"job{k}").read_bytes())
        await host.reset()
        await host.load(job.network, job.registers, job.entries)
        results = [await run(host, folder, job, frame) for frame in job.frames]
        (folder / f"result{k}").write_bytes(pickle.dumps(results))


async def run(host: JointHost, folder: Path, pair: PairJob, job) -> tuple[JobResult, BridgeResult]:
    """A frame and its decision."""
    await write_job(host, folder, job)
    await host.set_lines(job.n_packet_lines, len(job.program) // LINE_BYTES)
    npu = host.config.npu
    steps = pair.registers["bridge.BURST"] & 0xFFFF
    worst = job.most_clocks + 10_000 + steps * (npu.max_rows + 20) * npu.n_groups * 20
    status = await host.ended(START, worst)
    bridge = await host.bridge_result(pair.network)
    return await result(host, job, status, 0.0), bridge
