"""Computes a frame on the netlist and dumps what toggles in it."""

import os
import pickle
import random
from dataclasses import dataclass
from pathlib import Path

import cocotb
from cocotbext.axi import AxiReadBus, AxiSlaveRead

from model.mars.config import LINE_BYTES
from model.mars.image import Image
from model.mars.layout import Ints
from model.mars.program import to_bytes
from tb.bench import check
from tb.mars.chip import DONE, Memory
from tb.mars.host import INPUT_BASE, PROGRAM_BASE, MarsHost
from tb.tb_activity import JOB, dump_idle

LATENCY = 2
"""Clocks from a request to its first beat: that of the bus model."""
MARGIN = 4
"""A frame that takes so many times its clocks has no end."""


@dataclass(frozen=True)
class FrameJob:
    """A frame, its result (channels, rows, columns) and the clocks that it takes.

    The frame is what counts, or so many clocks behind it.
    """

    image: Image
    features: Ints
    result: Ints
    clocks: int
    idle_clocks: int = 0


@cocotb.test()
async def run(dut) -> None:
    """The frame, and its result by the host."""
    job = pickle.loads(Path(os.environ[JOB]).read_bytes())
    image = job.image
    memory = Memory(dut, random.Random(0))
    AxiSlaveRead(AxiReadBus.from_prefix(dut, "m_axi_weights"), dut.clk, dut.rst, memory)
    packet, program = to_bytes(image.packet(job.features)), to_bytes(image.lines)
    memory.regions = [(INPUT_BASE, packet), (PROGRAM_BASE, program)]
    host = MarsHost(dut, image.config)
    await host.reset()
    n_lines = (len(part) // LINE_BYTES for part in (packet, program))
    dut.activity.dump.value = not job.idle_clocks
    status = await host.frame(*n_lines, MARGIN * job.clocks)
    dut.activity.dump.value = 0
    check("STATUS", DONE, status)
    check("FRAME_CLOCKS", job.clocks, await host.register("FRAME_CLOCKS"))
    words = await host.features(0, image.contents.output_address, image.output_words)
    check("result", image.output.to_words(job.result).tolist(), words)
    if job.idle_clocks:
        await dump_idle(dut, job.idle_clocks)
