"""Co-simulation: runs networks on the RTL and hands back what retired, step by step."""

import atexit
import os
import pickle
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.config import ChipConfig
from model.npu.clocks import STREAM_LATENCY
from model.npu.config import NPUConfig
from model.npu.image import check_fit
from model.npu.network import Network
from model.npu.trace import Trace, count_rows
from tb import simulator, waves
from tb.simulator import BenchFailure, BuildError, Design, Waves
from tb.trace_records import (
    COMMIT,
    END,
    Steps,
    StepTimes,
    bindings,
    decode,
    mars_binding,
    record_words,
)

__all__ = ["BenchFailure", "BuildError", "build", "chip", "is_built", "simulate"]

CHUNK_STEPS, CHUNK_S = 256, 0.2
"""A chunk is handed over after so many steps or seconds, whichever comes first."""
TIME_RANGE = 1 << 32
"""Times of records in ns wrap."""


@dataclass(frozen=True)
class Job:
    """What the simulation is asked to run."""

    config: NPUConfig
    network: Network
    seed: int
    pause: float


def chip(config: ChipConfig) -> Design:
    """The whole chip with its trace ports and the monitors on them."""

    def sources() -> dict[str, str]:
        from hw.generate import TOP, traced

        text, states = traced(config)
        texts = {"kenyon.v": text, waves.SCENE: waves.scene(text, TOP, states)}
        if config.npu is not None:
            monitors = Path(__file__).parent / "trace_monitor.sv"
            texts |= {monitors.name: monitors.read_text(), "bindings.sv": bindings(config.npu)}
        if config.has_bridge:
            monitor = Path(__file__).parent / "mars" / "monitor.sv"
            texts |= {monitor.name: monitor.read_text()}
            texts["bindings.sv"] += mars_binding(config.mars)
        return texts

    fingerprints = (f"{part.fingerprint:08x}" for part in config.accelerators)
    return Design("-".join([config.name, *fingerprints]), "kenyon", sources)


def build(config: NPUConfig, kind: Waves = "") -> Path:
    """Build the simulator of a configuration unless it is there."""
    return simulator.build(chip(ChipConfig.alone(config)), kind)


def is_built(config: NPUConfig, kind: Waves = "") -> bool:
    """Whether `build` has nothing to do."""
    return simulator.is_built(chip(ChipConfig.alone(config)), kind)


@dataclass
class Recording:
    """Waves of a run, and when everything in it retired.

    Attributes
    ----------
    path : Path
        Where to put them; the suffix is their format.
    """

    path: Path
    _times: list[StepTimes] = field(default_factory=list)

    @property
    def kind(self) -> Waves:
        """Their format."""
        return waves.kind(self.path)

    def add(self, steps: Steps) -> None:
        """Time steps that have ended."""
        self._times.append(steps.times)

    def clock_of(self, step: int, population: int | None, group: int = 0) -> int | None:
        """As `StepTimes.clock_of`."""
        if not self._times:
            return None
        return StepTimes.join(self._times).clock_of(step, population, group)


class _Simulator:
    """A running simulation that takes one network after the other."""

    def __init__(self, config: NPUConfig, kind: Waves) -> None:
        build(config, kind)
        self.config = config
        self.folder = Path(tempfile.mkdtemp(prefix="kenyon-"))
        self.trace = self.folder / "trace"
        os.mkfifo(self.trace)
        config_file = self.folder / "config"
        config_file.write_bytes(pickle.dumps(config))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tb.worker", str(config_file), str(self.folder), kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=simulator.ROOT,
            env={**os.environ, "KENYON_TRACE": str(self.trace)},
            text=True,
            # Ctrl-C is for the command, which then ends this group of processes.
            start_new_session=True,
        )
        self.run_seconds = 0.0
        # Read and write: opening does not wait for the simulator, and END may come from another
        # writer without the stream ending in between.
        self.stream = os.open(self.trace, os.O_RDWR)

    def submit(self, job: Job) -> None:
        path = self.folder / "job"
        path.write_bytes(pickle.dumps(job))
        assert self.process.stdin is not None
        self.process.stdin.write(f"{path}\n")
        self.process.stdin.flush()

    def records(self) -> Iterator[NDArray[np.uint32]]:
        """Whole records as they come, until the one that ends the job."""
        size = 4 * record_words(self.config)
        rest = b""
        os.set_blocking(self.stream, False)
        while True:
            data = self._read()
            rest += data
            whole = len(rest) // size * size
            if whole:
                words = np.frombuffer(rest[:whole], "<u4").astype(np.uint32)
                rest = rest[whole:]
                yield words
                if words[-record_words(self.config)] & 0xFF == END:
                    return

    def _read(self) -> bytes:
        while True:
            ready, _, _ = select.select([self.stream], [], [], 0.5)
            if ready:
                return os.read(self.stream, 1 << 20)
            if self.process.poll() is not None:
                raise BenchFailure(f"the simulation ended early:\n{self.log_tail()}")

    def log_tail(self) -> str:
        log = self.folder / "bench.log"
        text = log.read_text(errors="replace") if log.exists() else "(no log)"
        return "\n".join(text.splitlines()[-25:])

    def close(self, recording: Recording | None = None) -> None:
        """End the simulation; keeps its waves if that is asked for."""
        if recording is None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()
        if recording is not None:
            shutil.move(self.folder / f"dump.{recording.kind}", recording.path)
        os.close(self.stream)
        shutil.rmtree(self.folder, ignore_errors=True)


_idle: dict[tuple[NPUConfig, Path], list[_Simulator]] = {}
"""By configuration and simulator: another one may stand in for it."""


@atexit.register
def _close_all() -> None:
    for workers in _idle.values():
        while workers:
            workers.pop().close()


def simulate(
    network: Network,
    config: NPUConfig,
    *,
    seed: int = 0,
    pause: float = 0.0,
    recording: Recording | None = None,
) -> Iterator[Trace]:
    """Run a network on the RTL, driven over its AXI ports.

    The simulation is a child process; it stays for the next network of the same configuration
    unless this generator is closed early.

    Parameters
    ----------
    network : Network
    config : NPUConfig
    seed, pause : int, float
        Back pressure on the spike stream: probability, and the seed of its pattern.
    recording : Recording, optional
        Where to put waves of all signals; it learns when everything retired.

    Yields
    ------
    Trace
        Consecutive chunks; `clocks` are measured. `rows` follow from the spikes of the RTL.

    Raises
    ------
    BuildError
        No simulator could be built.
    BenchFailure
        The simulation ended early, or the spike stream, the sticky flags or the stalls disagree
        with what retired.
    """
    check_fit(network, config)
    idle = _idle.setdefault((config, _folder(config)), [])
    if recording is not None:
        worker = _Simulator(config, recording.kind)
    else:
        worker = idle.pop() if idle else _Simulator(config, "")
    reusable = False
    try:
        worker.submit(Job(config, network, seed, pause))
        yield from _collect(worker, network, pause, recording)
        reusable = recording is None
    finally:
        if reusable:
            idle.append(worker)
        else:
            worker.close(recording)


def timed_run(network: Network, config: NPUConfig) -> tuple[int, float]:
    """Clocks of a whole run on the RTL, and the wall time between its start and its end."""
    clocks = sum(int(trace.clocks.sum()) for trace in simulate(network, config))
    return clocks, _idle[config, _folder(config)][-1].run_seconds


def _folder(config: NPUConfig) -> Path:
    return simulator.build_dir(chip(ChipConfig.alone(config)))


def _collect(
    worker: _Simulator, network: Network, pause: float, recording: Recording | None
) -> Iterator[Trace]:
    config = worker.config
    width = record_words(config)
    kept = np.zeros(0, np.uint32)
    step = 0
    spikes_before = np.zeros(network.n_neurons, np.bool_)
    committed_before = 0
    expected_beats: list[tuple[int, int, int, bool]] = []
    beats: list[tuple[int, int, int, bool]] = []
    saturated = np.zeros(len(network.populations), np.bool_)
    handed_over = time.monotonic()
    for words in worker.records():
        kept = np.concatenate([kept, words])
        kinds = kept.reshape(-1, width)[:, 0] & 0xFF
        ended = kinds[-1] == END
        commits = np.flatnonzero(kinds == COMMIT)
        waited = time.monotonic() - handed_over
        if not ended and (not len(commits) or (len(commits) < CHUNK_STEPS and waited < CHUNK_S)):
            continue
        handed_over = time.monotonic()
        cut = (len(kinds) - 1 if ended else commits[-1] + 1) * width
        steps = decode(config, kept[:cut])
        kept = kept[cut:]
        if len(steps.step_clocks):
            if recording is not None:
                recording.add(steps)
            trace = trace_of(network, steps, step, spikes_before)
            if not pause:
                check_stalls(steps, spikes_before, committed_before)
            step += len(trace)
            spikes_before = trace.spikes[-1]
            committed_before = int(steps.times.committed[-1])
            saturated |= trace.saturated.any(axis=0)
            expected_beats += beats_of(network, trace)
        beats += steps.beats
        if beats != expected_beats[: len(beats)]:
            raise BenchFailure(_first_wrong_beat(expected_beats, beats))
        if len(steps.step_clocks):
            yield trace
        if ended:
            if len(beats) != len(expected_beats):
                raise BenchFailure(
                    f"spike stream must carry {len(expected_beats)} events, not {len(beats)}"
                )
            _check_end(network, kept, saturated)
            worker.run_seconds = int(kept[3]) / 1e6


def trace_of(
    network: Network,
    steps: Steps,
    first_step: int,
    spikes_before: NDArray[np.bool_],
) -> Trace:
    """The neurons that the network uses, in its numbering."""
    used = [(slice(None), p, slice(0, n)) for p, n in enumerate(network.populations)]
    spikes = np.concatenate([steps.spikes[part] for part in used], axis=1)
    if steps.spikes.sum() != spikes.sum():
        raise BenchFailure("a neuron that the network does not use has fired")
    return Trace(
        first_step=first_step,
        v=np.concatenate([steps.v[part] for part in used], axis=1),
        spikes=spikes,
        i_syn=np.concatenate([steps.i_syn[part] for part in used], axis=1),
        noise=np.concatenate([steps.noise[part] for part in used], axis=1),
        rows=count_rows(network, first_step, np.vstack([spikes_before, spikes[:-1]])),
        saturated=steps.saturated[:, : len(network.populations)],
        clocks=steps.step_clocks,
    )


def check_stalls(steps: Steps, spikes_before: NDArray[np.bool_], committed_before: int) -> None:
    """A step waits for the spikes of the one before, which leave one per clock, and no longer.

    Only for a receiver that is always ready.
    """
    fired = steps.spikes.reshape(len(steps.spikes), -1).sum(axis=1)
    fired = np.concatenate([[spikes_before.sum()], fired[:-1]])
    between = (
        np.diff(steps.times.committed, prepend=committed_before) % TIME_RANGE // waves.CLOCK_NS
    )
    right = np.maximum(fired + STREAM_LATENCY - (between - steps.stall_clocks), 0)
    for t in np.flatnonzero(right != steps.stall_clocks)[:1]:
        raise BenchFailure(
            f"STALL_CLOCKS must be {right[t]} after {fired[t]} spikes, not {steps.stall_clocks[t]}"
        )


def beats_of(network: Network, trace: Trace) -> list[tuple[int, int, int, bool]]:
    """What the spike stream must carry: (step, population, neuron, last of its step)."""
    result = []
    populations = network.population_of(np.arange(network.n_neurons))
    first = [network.neuron_slice(p).start for p in range(len(network.populations))]
    for t, fired in enumerate(trace.spikes):
        neurons = np.flatnonzero(fired).tolist()
        for neuron in neurons:
            p = int(populations[neuron])
            last = neuron == neurons[-1]
            result.append((trace.first_step + t, p, neuron - first[p], last))
    return result


def _first_wrong_beat(
    expected: list[tuple[int, int, int, bool]], actual: list[tuple[int, int, int, bool]]
) -> str:
    for k, beat in enumerate(actual):
        right = expected[k] if k < len(expected) else None
        if beat != right:
            return (
                f"spike stream: event {k} must be (step, population, neuron, last) {right}, "
                f"not {beat}"
            )
    return "spike stream: no difference"


def _check_end(network: Network, record: NDArray[np.uint32], saturated: NDArray[np.bool_]) -> None:
    """The sticky flags at the end of a run agree with what retired."""
    sticky, status = int(record[1]), int(record[2])
    expected = sum(1 << p for p, flag in enumerate(saturated) if flag)
    if sticky != expected:
        raise BenchFailure(f"SATURATED flags must be {expected:b}, not {sticky:b}")
    if status:
        raise BenchFailure(f"STATUS must be 0 after a run of {network.name}, not {status:#x}")
