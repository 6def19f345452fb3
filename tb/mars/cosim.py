"""Co-simulation of the accelerator: whole frames out of a memory, all that they did handed back."""

import pickle
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.config import ChipConfig
from model.mars.config import WORDS_PER_LINE, MarsConfig
from model.mars.devices.bit_cells import Cells
from model.mars.image import Features, Image
from model.mars.layout import Ints
from model.mars.machine import maps_words
from model.mars.patch import Patch
from model.mars.program import to_bytes
from model.mars.time_registers import time_registers
from tb import simulator, waves
from tb.faulty import __file__ as masks
from tb.faulty import with_masks
from tb.faulty import write as write_cells
from tb.mars import records
from tb.mars.records import SCRATCH_BASE, PassTrace
from tb.simulator import BenchFailure, Design, Waves

FOLDER = Path(__file__).parent
LATENCY = 20
"""Clocks from a request to its first beat."""
MARGIN = 20
"""A frame that takes so many times the clocks that its lines take has no end."""


@dataclass(frozen=True)
class Frame:
    """What is run: an image and one input (channels, rows, columns).

    With a policy its image runs first, on the same input, and the largest of its results, read by
    the host, says how many time steps the other one takes. With a patch the image is that of the
    frame before, of whose program the host rewrites only those lines in memory.
    """

    image: Image
    features: Ints
    policy: Image | None = None
    patch: Patch | None = None


@dataclass(frozen=True)
class Job:
    """A frame as the simulation needs it.

    `registers` and `tables` are what the host writes before, `n_words` what of the feature memory
    and `n_logits` what of the exit unit it reads afterwards. A policy has the `choices` of what the
    host writes for the frame behind it, by the number of its largest result. `patches` are numbers
    of lines and what they become, where `program` is empty and memory has it already.
    """

    packets: bytes
    n_packet_lines: int
    program: bytes
    n_program_lines: int
    most_clocks: int
    registers: dict[str, int]
    tables: dict[int, list[int]]
    address: int
    n_words: int
    n_logits: int
    output: Features
    choices: tuple[dict[str, int], ...] = ()
    patches: tuple[tuple[int, bytes], ...] = ()


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
    steps: int = 0
    logits: tuple[int, ...] = ()


@dataclass(frozen=True)
class FrameTrace:
    """A frame on the RTL: passes, the input first, and what the host read.

    A network that takes its time steps in chunks has the passes of one behind the other; `output`
    is that of the last one. `policy` is the frame of the policy that came before.
    """

    passes: list[PassTrace]
    output: Ints
    result: JobResult
    policy: "FrameTrace | None" = None


def system(config: MarsConfig, *, faulty: bool = False) -> Design:
    """The chip with its weight memory; a faulty one has cells that may be wrong."""

    def sources() -> dict[str, str]:
        from hw.generate import TOP, traced

        verilog, states = traced(ChipConfig.alone(config))
        if faulty:
            verilog = with_masks(verilog, config)
        bench, monitor = FOLDER / "system.sv", FOLDER / "monitor.sv"
        memory = FOLDER.parent / "axi_memory.sv"
        sizes = {"WEIGHT_BUS = 512": config.weight_bus, "MACROS = 8": config.n_macros}
        text = bench.read_text()
        for given, size in sizes.items():
            name = given.split()[0]
            text = text.replace(f"parameter int {given}", f"parameter int {name} = {size}")
        return {
            "kenyon.v": verilog,
            waves.SCENE: waves.scene(verilog, TOP, states, "mars_system.chip"),
            memory.name: memory.read_text(),
            monitor.name: monitor.read_text(),
            bench.name: text,
        }

    # Unlike all else that decides what is simulated, the masks are only in this one.
    kind = f"faulty-{zlib.crc32(Path(masks).read_bytes()):08x}" if faulty else "system"
    return Design(f"{config.name}-{kind}-{config.fingerprint:08x}", "mars_system", sources)


def build(config: MarsConfig, kind: Waves = "", *, faulty: bool = False) -> Path:
    """Build the simulator of a configuration unless it is there."""
    return simulator.build(system(config, faulty=faulty), kind)


def is_built(config: MarsConfig, kind: Waves = "", *, faulty: bool = False) -> bool:
    """Whether `build` has nothing to do."""
    return simulator.is_built(system(config, faulty=faulty), kind)


def run(
    config: MarsConfig,
    frames: Sequence[Frame],
    *,
    latency: int = LATENCY,
    recorded: Path | None = None,
    cells: Cells | None = None,
) -> Iterator[FrameTrace]:
    """Run frames on the RTL, one after the other without a reset in between.

    With `recorded` waves of all signals go there, also if it fails. With `cells` memories of the
    chip have wrong ones.

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
            (folder / f"job{k}").write_bytes(pickle.dumps(_jobs(frame)))
        plusargs = []
        if cells is not None:
            write_cells(cells, config, folder)
            plusargs = [f"+cells={folder}"]
        run_recorded(
            system(config, faulty=cells is not None),
            "tb.mars.serve",
            folder,
            recorded,
            plusargs=(
                f"+program={folder / 'program'}",
                "+program_base=1000000",
                f"+input={folder / 'input'}",
                "+input_base=0",
                f"+scratch_base={SCRATCH_BASE:x}",
                f"+latency={latency}",
                f"+mars_trace={folder / 'trace'}",
                *plusargs,
            ),
            environment={"KENYON_JOBS": str(folder)},
        )
        trace = np.fromfile(folder / "trace", "<u4").astype(np.uint32)
        passes = records.decode(trace)
        for k, frame in enumerate(frames):
            results = pickle.loads((folder / f"result{k}").read_bytes())
            policy = None
            if frame.policy is not None:
                first, *results = results
                policy, passes = _trace(k, frame.policy, [first], passes)
            trace, passes = _trace(k, frame.image, results, passes)
            yield replace(trace, policy=policy)


def run_recorded(
    design: Design, module: str, folder: Path, recorded: Path | None, **options: Any
) -> None:
    """Run as `tb.simulator.run` does, and keep waves of all signals if that is asked for."""
    kind = waves.kind(recorded) if recorded else ""
    try:
        simulator.run(design, module, folder, waves=kind, **options)
    finally:
        if recorded and (folder / f"dump.{kind}").exists():
            shutil.move(folder / f"dump.{kind}", recorded)


def _trace(
    number: int, image: Image, results: list[JobResult], passes: list[PassTrace]
) -> tuple[FrameTrace, list[PassTrace]]:
    """A frame, and the passes that come behind it."""
    result = _joined(results)
    n_chunks = max(len(results), -(-result.steps // (image.chunk_steps or 1)))
    n_passes = n_chunks * (1 + len(image.contents.passes))
    if len(passes) < n_passes:
        raise BenchFailure(f"frame {number} must have {n_passes} passes, not {len(passes)}")
    own = passes[:n_passes]
    return FrameTrace(own, output(image, result.words, own), result), passes[n_passes:]


def _jobs(frame: Frame) -> list[Job]:
    """Everything that the host starts for a frame."""
    if frame.policy is None:
        return [job(frame, first) for first in _firsts(frame)]
    taking = [frame.image.taking(n) for n in range(1, frame.policy.output.shape[0] + 1)]
    choices = tuple(time_registers(image)[0] for image in taking)
    policy = job(Frame(frame.policy, frame.features), 0)
    return [replace(policy, choices=choices), job(replace(frame, image=taking[-1]), 0)]


def _firsts(frame: Frame) -> range:
    """The first chunk of every frame that the host starts.

    The exit unit takes all chunks in one frame.
    """
    n_chunks = frame.image.n_chunks
    return range(0, n_chunks, n_chunks if frame.image.exit_registers else 1)


def job(frame: Frame, first: int) -> Job:
    """A frame that begins with some chunk, as the simulation needs it."""
    image = frame.image
    registers, tables = time_registers(image, first)
    n_chunks = image.n_chunks if image.exit_registers else 1
    packets = [to_bytes(image.packet(frame.features, first + k)) for k in range(n_chunks)]
    stride = registers["INPUT_STRIDE"]
    work = sum(
        one.descriptor.n_rounds * (sum(b.n_entries for b in one.blocks) + 100 * len(one.blocks))
        for one in image.passes
    )
    n_lines = sum(region.n_lines for one in image.segments for region in one.regions)
    n_lines += sum(one.descriptor.n_words for one in image.passes) // WORDS_PER_LINE
    patched = frame.patch
    return Job(
        b"".join(packet.ljust(stride, b"\0") for packet in packets) if stride else packets[0],
        image.n_input_lines,
        to_bytes(image.lines) if patched is None else b"",
        image.n_program_lines,
        MARGIN * n_chunks * (n_lines * WORDS_PER_LINE + work),
        registers,
        tables,
        image.contents.output_address,
        0 if image.contents.stored else image.output_words,
        image.output.shape[0] if image.exit_registers else 0,
        image.output,
        patches=() if patched is None else _patches(patched),
    )


def _patches(patch: Patch) -> tuple[tuple[int, bytes], ...]:
    pairs = zip(patch.numbers.tolist(), patch.lines, strict=True)
    return tuple((number, to_bytes(line[np.newaxis])) for number, line in pairs)


def _joined(results: list[JobResult]) -> JobResult:
    """The results of a host that started a frame for each chunk: counts add up."""
    counts = {
        name: sum(getattr(one, name) for one in results)
        for name in ("frame_clocks", "weight_stalls", "drain_stalls", "layer_stalls", "seconds")
    }
    bad = [one.status for one in results if one.status != results[-1].status]
    return replace(results[-1], status=bad[0] if bad else results[-1].status, **counts)


def output(image: Image, words: Sequence[int], passes: Sequence[PassTrace]) -> Ints:
    """The result: words that the host read, or what was written to memory."""
    stored: NDArray[np.uint64] = np.array(words, np.uint64)
    if image.contents.stored:
        maps = np.zeros(maps_words(image.passes), np.uint64)
        for one, trace in zip(image.passes, passes[1:], strict=True):
            if one.descriptor.is_store:
                maps[trace.writes.offset] = trace.writes.word
        stored = maps[image.contents.output_address :][: image.output_words]
    return image.output.from_words(stored)
