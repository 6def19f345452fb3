"""The cocotb side of `tb.mars.cosim`: runs one frame after the other in the same simulation."""

import os
import pickle
import time
from pathlib import Path

import cocotb

from model.mars.config import LINE_BITS
from tb.mars.cosim import JobResult
from tb.mars.host import SystemHost

LINE_BYTES = LINE_BITS // 8


@cocotb.test()
async def serve(dut) -> None:
    """Run every job of the folder."""
    folder = Path(os.environ["KENYON_JOBS"])
    host = SystemHost(dut, pickle.loads((folder / "config").read_bytes()))
    await host.reset()
    for k in range(len(list(folder.glob("job*")))):
        job = pickle.loads((folder / f"job{k}").read_bytes())
        (folder / "input").write_bytes(job.packet)
        (folder / "program").write_bytes(job.program)
        await host.reload()
        began = time.perf_counter()
        status = await host.frame(
            len(job.packet) // LINE_BYTES, len(job.program) // LINE_BYTES, job.most_clocks
        )
        seconds = time.perf_counter() - began
        counters = [
            await host.register(name)
            for name in ("FRAME_CLOCKS", "WEIGHT_STALLS", "DRAIN_STALLS", "LAYER_STALLS")
        ]
        words = await host.features(0, job.address, job.n_words)
        result = JobResult(status, *counters, tuple(words), seconds)
        (folder / f"result{k}").write_bytes(pickle.dumps(result))
