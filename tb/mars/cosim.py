"""Co-simulation of the accelerator: whole frames out of a memory, all that they did handed back."""

import pickle
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.config import ChipConfig
from model.mars.config import WORDS_PER_LINE, MarsConfig
from model.mars.image import Image
from model.mars.layout import Ints
from model.mars.program import to_bytes
from tb import simulator
from tb.mars import records
from tb.mars.records import PassTrace
from tb.simulator import BenchFailure, Design

FOLDER = Path(__file__).parent
LATENCY = 20
"""Clocks from a request to its first beat."""
MARGIN = 20
"""A frame that takes so many times the clocks that its lines take has no end."""


@dataclass(frozen=True)
class Frame:
    """What is run: an image and one input (channels, rows, columns)."""

    image: Image
    features: Ints


@dataclass(frozen=True)
class Job:
    """A frame as the simulation needs it, and what of the feature memory to read afterwards."""

    packet: bytes
    program: bytes
    most_clocks: int
    address: int
    n_words: int


@dataclass(frozen=True)
class JobResult:
    """Registers and words that were read after a frame, and how long it took."""

    status: int
    frame_clocks: int
    weight_stalls: int
    drain_stalls: int
    layer_stalls: int
    words: tuple[int, ...]
    seconds: float


@dataclass(frozen=True)
class FrameTrace:
    """A frame on the RTL: its passes, the input first, and its result as the host read it."""

    passes: list[PassTrace]
    output: Ints
    result: JobResult


def system(config: MarsConfig) -> Design:
    """The chip with its weight memory."""

    def sources() -> dict[str, str]:
        from hw.generate import verilog

        bench = FOLDER / "system.sv"
        memory = FOLDER.parent / "axi_memory.sv"
        width = f"parameter int WEIGHT_BUS = {config.weight_bus}"
        return {
            "kenyon.v": verilog(ChipConfig.alone(config), trace=True),
            memory.name: memory.read_text(),
            bench.name: bench.read_text().replace("parameter int WEIGHT_BUS = 512", width),
        }

    return Design(f"{config.name}-system-{config.fingerprint:08x}", "mars_system", sources)


def build(config: MarsConfig) -> Path:
    """Build the simulator of a configuration unless it is there."""
    return simulator.build(system(config))


def is_built(config: MarsConfig) -> bool:
    """Whether `build` has nothing to do."""
    return simulator.is_built(system(config))


def run(
    config: MarsConfig, frames: Sequence[Frame], *, latency: int = LATENCY
) -> Iterator[FrameTrace]:
    """Run frames on the RTL, one after the other without a reset in between.

    Raises
    ------
    BuildError
        No simulator could be built.
    BenchFailure
        The simulation ended early, or a frame did not end.
    """
    with tempfile.TemporaryDirectory(prefix="kenyon-") as name:
        folder = Path(name)
        (folder / "config").write_bytes(pickle.dumps(config))
        for k, frame in enumerate(frames):
            (folder / f"job{k}").write_bytes(pickle.dumps(_job(frame)))
        simulator.run(
            system(config),
            "tb.mars.serve",
            folder,
            plusargs=(
                f"+program={folder / 'program'}",
                "+program_base=1000000",
                f"+input={folder / 'input'}",
                "+input_base=0",
                f"+latency={latency}",
                f"+trace_file={folder / 'trace'}",
            ),
            environment={"KENYON_JOBS": str(folder)},
        )
        trace = np.fromfile(folder / "trace", "<u4").astype(np.uint32)
        passes = records.decode(trace)
        for k, frame in enumerate(frames):
            result = pickle.loads((folder / f"result{k}").read_bytes())
            n_passes = 1 + len(frame.image.contents.passes)
            if len(passes) < n_passes:
                raise BenchFailure(f"frame {k} must have {n_passes} passes, not {len(passes)}")
            yield FrameTrace(passes[:n_passes], _output(frame.image, result.words), result)
            passes = passes[n_passes:]


def _job(frame: Frame) -> Job:
    image = frame.image
    packet = image.packet(frame.features)
    work = sum(
        one.descriptor.n_rounds * (sum(b.n_entries for b in one.blocks) + 100 * len(one.blocks))
        for one in image.passes
    )
    n_lines = len(packet) + len(image.lines)
    return Job(
        to_bytes(packet),
        to_bytes(image.lines),
        MARGIN * (n_lines * WORDS_PER_LINE + work),
        image.contents.output_address,
        image.output_words,
    )


def _output(image: Image, words: tuple[int, ...]) -> Ints:
    stored: NDArray[np.uint64] = np.array(words, np.uint64)
    return image.output.from_words(stored)
