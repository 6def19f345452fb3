"""Co-simulation of both halves: frames that end in decisions, all that the chip did handed back."""

import pickle
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from model.bridge import Bridge
from model.bridge_registers import bridge_registers, entry_words
from model.config import ChipConfig
from model.mars.image import Image
from model.mars.layout import Ints
from model.npu.network import Network
from model.npu.trace import Trace
from tb.cosim import beats_of, check_stalls, chip, trace_of
from tb.mars import cosim as mars
from tb.mars import records
from tb.mars.cosim import FrameTrace, Job, JobResult
from tb.simulator import BenchFailure
from tb.trace_records import Steps, StepTimes, decode


@dataclass(frozen=True)
class Pair:
    """A network on either side of the bridge, and the inputs of its frames."""

    image: Image
    network: Network
    bridge: Bridge
    inputs: Ints


@dataclass(frozen=True)
class PairJob:
    """A pair as the simulation needs it: what the host writes before, and its frames."""

    network: Network
    registers: dict[str, int]
    entries: list[int]
    frames: list[Job]


@dataclass(frozen=True)
class BridgeResult:
    """What the host reads behind a decision.

    `bias`: of all neurons of the network; `counts`: of a whole population of the configuration;
    `elapsed`: clocks from the start of the frame to the interrupt, which came at `decided_ns`.
    """

    status: int
    clocks: int
    elapsed: int
    winner: tuple[int, int]
    counts: tuple[int, ...]
    bias: tuple[int, ...]
    decided_ns: int = 0


@dataclass(frozen=True)
class JointTrace:
    """A frame on the RTL, the burst behind it, and the decision.

    `trace` is None if there is no burst; `times`: of its time steps.
    """

    frame: FrameTrace
    trace: Trace | None
    result: BridgeResult
    times: StepTimes | None = None


def run(
    config: ChipConfig, pairs: Sequence[Pair], *, recorded: Path | None = None
) -> Iterator[list[JointTrace]]:
    """Run pairs on the RTL, one after the other; of each all frames.

    With `recorded` waves of all signals go there, also if it fails.

    Raises
    ------
    BuildError
        No simulator could be built.
    BenchFailure
        The simulation ended early, a frame did not end, or the spike stream disagrees with what
        retired.
    """
    with tempfile.TemporaryDirectory(prefix="kenyon-") as name:
        folder = Path(name)
        (folder / "config").write_bytes(pickle.dumps(config))
        for k, pair in enumerate(pairs):
            (folder / f"job{k}").write_bytes(pickle.dumps(_job(config, pair)))
        mars.run_recorded(
            chip(config),
            "tb.joint.serve",
            folder,
            recorded,
            plusargs=(
                f"+mars_trace={folder / 'mars_trace'}",
                f"+trace_file={folder / 'npu_trace'}",
            ),
            environment={"KENYON_JOBS": str(folder)},
        )
        yield from _collect(config, pairs, folder)


def _job(config: ChipConfig, pair: Pair) -> PairJob:
    frames = [mars.job(mars.Frame(pair.image, features), 0) for features in pair.inputs]
    registers = bridge_registers(pair.bridge, pair.image, config)
    return PairJob(pair.network, registers, entry_words(pair.bridge, pair.image), frames)


def _collect(config: ChipConfig, pairs: Sequence[Pair], folder: Path) -> Iterator[list[JointTrace]]:
    passes = records.decode(_words(folder / "mars_trace"))
    steps = decode(config.npu, _words(folder / "npu_trace"))
    first_step = first_beat = 0
    for k, pair in enumerate(pairs):
        results: list[tuple[JobResult, BridgeResult]]
        results = pickle.loads((folder / f"result{k}").read_bytes())
        n_steps = len(results) * pair.bridge.steps
        trace, times = None, None
        if n_steps:
            part = _part(steps, slice(first_step, first_step + n_steps))
            silent = np.zeros(pair.network.n_neurons, np.bool_)
            trace, times = trace_of(pair.network, part, 0, silent), part.times
            check_stalls(part, silent, 0)
            beats = beats_of(pair.network, trace)
            if steps.beats[first_beat:][: len(beats)] != beats:
                raise BenchFailure(f"spike stream of pair {k} must carry {beats}")
            first_step, first_beat = first_step + n_steps, first_beat + len(beats)
        yield list(_traces(pair, results, trace, times, passes))
    if first_step != len(steps.step_clocks) or first_beat != len(steps.beats):
        raise BenchFailure(f"{first_step} time steps must be all, not {len(steps.step_clocks)}")


def _traces(pair, results, trace, times, passes) -> Iterator[JointTrace]:
    """Frame by frame; takes its passes away."""
    n = pair.bridge.steps
    for k, (job_result, bridge_result) in enumerate(results):
        chunk = pair.image.chunk_steps or 1
        n_chunks = max(1, -(-job_result.steps // chunk)) if job_result.logits else 1
        n_passes = n_chunks * (1 + len(pair.image.contents.passes))
        own, passes[:] = passes[:n_passes], passes[n_passes:]
        frame = FrameTrace(own, mars.output(pair.image, job_result.words, own), job_result)
        burst = trace.part(k * n, (k + 1) * n) if trace else None
        of_burst = times[k * n : (k + 1) * n] if times else None
        yield JointTrace(frame, burst, bridge_result, of_burst)


def _part(steps: Steps, which: slice) -> Steps:
    names = ("v", "i_syn", "noise", "spikes", "saturated", "step_clocks", "stall_clocks", "times")
    return replace(steps, beats=[], **{name: getattr(steps, name)[which] for name in names})


def _words(path: Path):
    return np.fromfile(path, "<u4").astype(np.uint32)
